"""Action distributions as formulas on arrays of parameters, one row per sample: no network, no state.

Each class knows the `size` of its parameter row and gives
    logp(params, actions)  (n,)      log-probability, differentiable in params
    kl(old, new)           (n,)      KL(old || new), differentiable in new
    entropy(params)        (n,)      differentiable
    fisher(params, t)      (n, size) M t, where M is the Hessian of KL(params || .) at params, which is the Fisher information
    noise(rng, *lead)                random numbers that make `sample(params, noise)` a draw; a whole segment at once
    mode(params)                     the most likely action
"""

import numpy as np

from . import ops

LOG_2PI = float(np.log(2 * np.pi))


class Distribution:
    """What all have in common: `fisher_at(params)`, which returns t -> M t, does once for all t what does not depend on t."""

    def fisher(self, params, t):
        return self.fisher_at(params)(t)


class Categorical(Distribution):
    """One of n actions 0..n-1; parameters are the logits (n)."""

    action_dtype = np.int64

    def __init__(self, n: int):
        self.size, self.action_shape = n, ()

    def logp(self, params, actions):
        return ops.take_along_axis(ops.log_softmax(params), np.asarray(actions, int)[..., None], -1)[..., 0]

    def kl(self, old, new):
        log_p = ops.log_softmax(old)
        return ops.sum(np.exp(log_p) * (log_p - ops.log_softmax(new)), axis=-1)

    def entropy(self, params):
        log_p = ops.log_softmax(params)
        return -ops.sum(ops.exp(log_p) * log_p, axis=-1)

    def fisher_at(self, params):
        p = ops.softmax(params)

        def fisher(t):
            pt = p * t
            return pt - p * ops.sum(pt, axis=-1, keepdims=True)
        return fisher

    def noise(self, rng, *lead):
        return -np.log(rng.standard_exponential((*lead, self.size)))  # Gumbel: argmax(logits + noise) is a draw

    def sample(self, params, noise):
        return (params + noise).argmax(-1)

    def mode(self, params):
        return params.argmax(-1)

    def probabilities(self, params):
        """Probability of each action, (n, size)."""
        return ops.softmax(params)


class MultiCategorical(Distribution):
    """Several independent categoricals of sizes `nvec`; parameters are their logits side by side."""

    action_dtype = np.int64

    def __init__(self, nvec):
        self.parts = [Categorical(int(n)) for n in nvec]
        ends = np.cumsum([part.size for part in self.parts])
        self.slices = [slice(int(end) - part.size, int(end)) for part, end in zip(self.parts, ends)]
        self.size, self.action_shape = int(ends[-1]), (len(self.parts),)

    def _each(self, params):
        return zip(self.parts, (params[..., s] for s in self.slices))

    def logp(self, params, actions):
        return _total(part.logp(x, actions[..., i]) for i, (part, x) in enumerate(self._each(params)))

    def kl(self, old, new):
        return _total(part.kl(old[..., s], new[..., s]) for part, s in zip(self.parts, self.slices))

    def entropy(self, params):
        return _total(part.entropy(x) for part, x in self._each(params))

    def fisher_at(self, params):
        each = [part.fisher_at(x) for part, x in self._each(params)]
        return lambda t: np.concatenate([fisher(t[..., s]) for fisher, s in zip(each, self.slices)], -1)

    def noise(self, rng, *lead):
        return -np.log(rng.standard_exponential((*lead, self.size)))

    def sample(self, params, noise):
        return self.mode(params + noise)

    def mode(self, params):
        return np.stack([part.mode(x) for part, x in self._each(params)], axis=-1)

    def probabilities(self, params):
        """List of the probabilities of each part, (n, nvec[i])."""
        return [part.probabilities(x) for part, x in self._each(params)]


class Bernoulli(Distribution):
    """Independent bits of any shape; parameters are the logits of being 1."""

    action_dtype = np.int8

    def __init__(self, shape: tuple):
        self.size, self.action_shape = int(np.prod(shape)), tuple(shape)

    def _flat(self, params, actions):
        return np.reshape(actions, (*params.shape[:-1], self.size)).astype(np.int8)  # 1 - 2 * uint8 would wrap

    def logp(self, params, actions):
        return -ops.sum(ops.softplus((1 - 2 * self._flat(params, actions)) * params), axis=-1)

    def kl(self, old, new):
        p = ops.sigmoid(old)
        return ops.sum(p * (old - new) - ops.softplus(old) + ops.softplus(new), axis=-1)

    def entropy(self, params):
        return ops.sum(ops.softplus(params) - params * ops.sigmoid(params), axis=-1)

    def fisher_at(self, params):
        p = ops.sigmoid(params)
        m = p * (1 - p)
        return lambda t: m * t

    def noise(self, rng, *lead):
        return rng.logistic(size=(*lead, self.size))

    def sample(self, params, noise):
        return self.mode(params + noise)

    def mode(self, params):
        return (params > 0).astype(self.action_dtype).reshape(*params.shape[:-1], *self.action_shape)

    def probabilities(self, params):
        """Probability of a 1 for each bit, (n, *shape)."""
        return ops.sigmoid(params).reshape(*params.shape[:-1], *self.action_shape)


class DiagGaussian(Distribution):
    """Independent normals of any shape; parameters are the means and then the logarithms of the standard deviations."""

    action_dtype = np.float32

    def __init__(self, shape: tuple):
        self.dim, self.action_shape = int(np.prod(shape)), tuple(shape)
        self.size = 2 * self.dim

    def _split(self, params):
        return params[..., :self.dim], params[..., self.dim:]

    def logp(self, params, actions):
        mean, log_std = self._split(params)
        z = (np.reshape(actions, mean.shape) - mean) * ops.exp(-log_std)
        return -0.5 * ops.sum(z * z, axis=-1) - ops.sum(log_std, axis=-1) - 0.5 * LOG_2PI * self.dim

    def kl(self, old, new):
        (m0, s0), (m1, s1) = self._split(old), self._split(new)
        spread = (np.exp(2 * s0) + ops.square(m0 - m1)) * ops.exp(-2 * s1)
        return ops.sum(s1 - s0 + 0.5 * (spread - 1), axis=-1)

    def entropy(self, params):
        return ops.sum(self._split(params)[1], axis=-1) + 0.5 * (LOG_2PI + 1) * self.dim

    def fisher_at(self, params):
        m = np.full_like(params, 2)
        m[..., :self.dim] = np.exp(-2 * params[..., self.dim:])
        return lambda t: m * t

    def noise(self, rng, *lead):
        return rng.standard_normal((*lead, self.dim))

    def sample(self, params, noise):
        mean, log_std = self._split(params)
        return (mean + np.exp(log_std) * noise).reshape(*params.shape[:-1], *self.action_shape)

    def mode(self, params):
        if params.shape[1:] == self.action_shape:  # means alone
            return params
        return params[..., :self.dim].reshape(*params.shape[:-1], *self.action_shape)

    def std(self, params):
        """Standard deviations, shaped like the actions."""
        return np.exp(params[..., self.dim:]).reshape(*params.shape[:-1], *self.action_shape)


def _total(terms):
    total = next(terms)
    for term in terms:
        total = total + term
    return total
