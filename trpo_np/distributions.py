"""Action distributions as formulas on arrays of parameters, one row per sample: no state, no network.

Each class owns all that is particular to it. A policy, the trust region step and the fast path call, of each,

    outputs                  how many numbers the network gives for one sample
    weights()                {name: nn.Weight} of the parameters that it needs beside the network (log_std)
    parameters(out, own)     rows (n, size) of distribution parameters, of the network's outputs (n, outputs)
                             and the arrays `own` of those weights; differentiable in both
    bound(own)               move these arrays back into their bounds, in place
    size                     how many numbers a row of parameters has
    logp(params, actions)    (n,) log-probability, differentiable in params
    kl(old, new)             (n,) KL(old || new), differentiable in new
    entropy(params)          (n,) differentiable
    fisher_at(params)        t -> M t, (n, size), where M is the Hessian of KL(params || .) at params,
                             which is the Fisher information; what does not depend on t is done once
    noise(rng, *lead)        random numbers (*lead, k) that make `sample` a draw; of a whole segment at once
    sample(params, noise)    actions (n, *action_shape)
    mode(params)             the most likely actions
    action_shape             the shape of one action
    action_dtype             the type of actions; None: that of the parameters
    summary(params)          the answer of `action_probability`

To write one: any row of real numbers is a valid row of parameters, with any leading axes or none; the type
of the numbers stays, float32 or float64; formulas in `params` use trpo_np.ops and hold for complex numbers,
by which the tests differentiate. `noise` knows no parameters, has a fixed width k, and arrives in the
policy's type.

An `Additive` draw is made from the network's outputs directly, so a fast rollout needs no row of parameters;
it draws from all others by `parameters` and `sample`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from . import ops
from .nn import Weight
from .types import Array, Floats, Value

LOG_2PI = float(np.log(2 * np.pi))


class Distribution:
    """A distribution without weights of its own, whose parameters are the network's outputs."""

    size: int
    action_shape: tuple[int, ...]
    action_dtype: type | None = None
    additive: str | None = None
    logp: Callable[..., Value]
    kl: Callable[..., Value]
    entropy: Callable[..., Value]
    fisher_at: Callable[[Any], Callable[[Any], Floats]]
    noise: Callable[..., Array]
    sample: Callable[..., Array]
    mode: Callable[..., Array]
    summary: Callable[[Any], Any]

    @property
    def outputs(self) -> int:
        return self.size

    def weights(self) -> dict[str, Weight]:
        return {}

    def parameters(self, outputs: Any, own: Any) -> Any:
        return outputs

    def bound(self, own: Any) -> None:
        pass

    def fisher(self, params: Any, t: Any) -> Floats:
        """M t, see `fisher_at`."""
        return self.fisher_at(params)(t)


class Additive(Distribution):
    """A distribution whose draw is settle(outputs + spread(own) * noise).

    The class attribute `additive` names the way in which it settles: "reshape" only reshapes, "largest" takes
    the index of a row's largest number, "settle" calls the method. A subclass that overrides a method must
    set it again, else it is ignored (promises.py).
    """

    def spread(self, own):
        """The factor of the noise."""
        return 1

    def location(self, params):
        """The network's outputs in a row of parameters."""
        return params

    def settle(self, x):
        """The action (n, *action_shape) of outputs with their noise (n, outputs)."""
        raise NotImplementedError

    def mode(self, params):
        return self.settle(self.location(params))


class Categorical(Additive):
    """One of n actions 0..n-1; parameters are the logits (n)."""

    action_dtype = np.int64
    additive = "largest"

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
        # of Gumbel: argmax(logits + noise) is a draw
        return -np.log(rng.standard_exponential((*lead, self.size)))

    def sample(self, params, noise):
        return self.settle(params + noise)

    def settle(self, x):
        return x.argmax(-1)

    def summary(self, params):
        """Probability of each action, (n, size)."""
        return ops.softmax(params)


class MultiCategorical(Additive):
    """Several independent categoricals of sizes `nvec`; parameters are their logits side by side."""

    action_dtype = np.int64
    additive = "settle"

    def __init__(self, nvec):
        self.sizes = np.array([int(n) for n in nvec])
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.slices = [slice(int(i), int(i + n)) for i, n in zip(self.starts, self.sizes)]
        self.size, self.action_shape = int(self.sizes.sum()), (len(self.sizes),)

    def _log_p(self, params):
        # as ops.log_softmax, of each part
        top = ops.reduce_parts(np.maximum, np.real(ops.stop_gradient(params)), self.sizes)
        total = ops.sum_parts(ops.exp(params - ops.repeat_parts(top, self.sizes)), self.sizes)
        return params - ops.repeat_parts(ops.log(total) + top, self.sizes)

    def logp(self, params, actions):
        places = np.asarray(actions, int) + self.starts
        return ops.sum(ops.take_along_axis(self._log_p(params), places, -1), axis=-1)

    def kl(self, old, new):
        log_p = self._log_p(old)
        return self._total(np.exp(log_p) * (log_p - self._log_p(new)))

    def entropy(self, params):
        log_p = self._log_p(params)
        return -self._total(ops.exp(log_p) * log_p)

    def _total(self, terms):
        return ops.sum(ops.sum_parts(terms, self.sizes), axis=-1)

    def fisher_at(self, params):
        p = np.exp(self._log_p(params))

        def fisher(t):
            pt = p * t
            return pt - p * ops.repeat_parts(ops.sum_parts(pt, self.sizes), self.sizes)
        return fisher

    def noise(self, rng, *lead):
        return -np.log(rng.standard_exponential((*lead, self.size)))

    def sample(self, params, noise):
        return self.settle(params + noise)

    def settle(self, x):
        if len(self.slices) <= 30:  # with more parts this takes longer
            return np.stack([x[..., part].argmax(-1) for part in self.slices], axis=-1)
        # the first of a part's largest numbers, as argmax
        largest = x == ops.repeat_parts(ops.reduce_parts(np.maximum, x, self.sizes), self.sizes)
        where = np.where(largest, np.arange(self.size), self.size)
        return ops.reduce_parts(np.minimum, where, self.sizes) - self.starts

    def summary(self, params):
        """List of the probabilities of each part, (n, nvec[i])."""
        return np.split(np.exp(self._log_p(params)), self.starts[1:], axis=-1)


class ByUniform(Distribution):
    """Categorical actions of so many values that a random number for each costs more than all else: one
    uniform number for each decision, and the inverse of the cumulated probabilities there.

    To be mixed with a categorical that has `size` logits, in parts of `sizes`.
    """

    additive: Any = None
    sizes: Any

    def noise(self, rng, *lead):
        # 48 bits each, in two numbers of 24: float32 has no more, and many actions are less likely than 2^-24
        return rng.integers(2**24, size=(*lead, 2 * len(self.sizes))) * 2.0**-24

    def sample(self, params, noise):
        ends, lead = np.cumsum(self.sizes), params.shape[:-1]
        coarse, fine = np.split(noise.reshape(-1, 2 * len(ends)).astype(np.float64), 2, axis=-1)
        actions = np.empty(coarse.shape, np.int64)
        for i, row in enumerate(params.reshape(-1, self.size)):  # one at a time, to need little memory
            top = ops.reduce_parts(np.maximum, row, self.sizes)
            total = np.cumsum(np.exp(row - ops.repeat_parts(top, self.sizes)), dtype=np.float64)
            high = total[ends - 1]
            low = np.append(0.0, high[:-1])
            u = low + (coarse[i] + 2.0**-24 * fine[i]) * (high - low)
            # nextafter: no rounding leads beyond the part's end
            actions[i] = np.searchsorted(total, np.minimum(u, np.nextafter(high, low)), "right")
        return (actions - (ends - self.sizes)).reshape((*lead, *self.action_shape))


class WideCategorical(ByUniform, Categorical):
    """A Categorical of many actions."""

    def __init__(self, n: int):
        super().__init__(n)
        self.sizes = np.array([n])


class WideMultiCategorical(ByUniform, MultiCategorical):
    """A MultiCategorical of many actions."""


class Bernoulli(Additive):
    """Independent bits of any shape; parameters are the logits of being 1."""

    action_dtype = np.int8
    additive = "settle"

    def __init__(self, shape: tuple):
        self.size, self.action_shape = int(np.prod(shape)), tuple(shape)

    def _flat(self, params, actions):
        # signed, since 1 - 2 * uint8 would wrap
        return np.reshape(actions, (*params.shape[:-1], self.size)).astype(np.int8)

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
        return self.settle(params + noise)

    def settle(self, x):
        return (x > 0).astype(self.action_dtype).reshape((*x.shape[:-1], *self.action_shape))

    def summary(self, params):
        """Probability of a 1 for each bit, (n, *shape)."""
        return ops.sigmoid(params).reshape((*params.shape[:-1], *self.action_shape))


class DiagGaussian(Additive):
    """Independent normals of any shape; parameters are the means and then the logarithms of the standard
    deviations.

    The network gives the means (dim,); the weights log_std (dim,), which begin at `log_std_init`, do not
    depend on the observation.
    """

    LOG_STD_BOUNDS = (-20.0, 2.0)
    additive = "reshape"

    def __init__(self, shape: tuple, log_std_init: float = 0.0):
        self.dim, self.action_shape = int(np.prod(shape)), tuple(shape)
        self.size, self.log_std_init = 2 * self.dim, log_std_init

    @property
    def outputs(self) -> int:
        return self.dim

    def weights(self) -> dict:
        return {"log_std": Weight((self.dim,), lambda rng, shape: np.full(shape, self.log_std_init))}

    def parameters(self, outputs, own):
        return ops.concatenate([outputs, ops.broadcast_to(own["log_std"], outputs.shape)], -1)

    def bound(self, own) -> None:
        np.clip(own["log_std"], *self.LOG_STD_BOUNDS, out=own["log_std"])

    def _split(self, params):
        return params[..., :self.dim], params[..., self.dim:]

    def logp(self, params, actions):
        mean, log_std = self._split(params)
        z = (np.reshape(actions, mean.shape) - mean) * ops.exp(-log_std)
        return -0.5 * ops.sum(z * z, axis=-1) - ops.sum(log_std, axis=-1) - 0.5 * LOG_2PI * self.dim

    def kl(self, old, new):
        (m0, s0), (m1, s1) = self._split(old), self._split(new)
        z_squared = (np.exp(2 * s0) + ops.square(m0 - m1)) * ops.exp(-2 * s1)  # under `new`, its mean
        return ops.sum(s1 - s0 + 0.5 * (z_squared - 1), axis=-1)

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
        return self.settle(mean + np.exp(log_std) * noise)

    def spread(self, own):
        return np.exp(own["log_std"])

    def location(self, params):
        return params[..., :self.dim]

    def settle(self, x):
        return x if len(self.action_shape) == 1 else x.reshape((*x.shape[:-1], *self.action_shape))

    def std(self, params):
        """Standard deviations, shaped like the actions."""
        return self.settle(np.exp(params[..., self.dim:]))

    def summary(self, params):
        """List of mean and standard deviation, (n, *shape) each."""
        return [self.mode(params), self.std(params)]
