"""A policy: two networks, their parameters and the normalisation, from an observation to an action.

A policy has three parts, each a method that a subclass may replace: `encoder` makes the layer from observations to features,
`decode` turns features into the parameters of the action distribution (and, for the critic, into a value).
Policy and critic are functions of parameter arrays, so an old and a new policy are two vectors, not two networks.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy import maximum, minimum

from .. import nn, ops, spaces
from ..autodiff import value_and_grad
from ..distributions import Bernoulli, Categorical, DiagGaussian, MultiCategorical
from ..kernels import act as acting
from ..kernels import blas, mlp
from ..normalize import ObservationNormalizer
from ..params import Params
from .fast import Plain

LOG_STD_BOUNDS = (-20.0, 2.0)


def make_distribution(space: Any):
    """Return the distribution over the actions of a space."""
    if isinstance(space, spaces.Discrete):
        return Categorical(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategorical(space.nvec)
    if isinstance(space, spaces.MultiBinary):
        return Bernoulli(space.shape)
    return DiagGaussian(space.shape)


class Policy:
    """An actor and a critic for given spaces.

    `net_arch` lists the hidden layers: leading ints are shared, then `dict(pi=[...], vf=[...])` splits. Shared layers belong
    to the policy: the critic reads their output and never moves them. Without shared layers the critic is a network of its
    own. `act_fun` is "tanh", "relu", "elu", "sigmoid" or an op; `layers=[64, 64]` is short for separate networks of those
    widths. `extractor` is an nn.Layer, or a function of ops, that turns encoded observations (n, width) into features; policy
    and critic have one each, unless layers are shared or `share_features` is set. `log_std_init` starts the logarithm of the
    standard deviation of Box actions (0 is wide for most robots: -0.5 to -1 explores less and learns sooner); `normalize`
    keeps running statistics of the observations in the model.
    """

    loops: tuple[str, ...] = ("scalar", "act", "mlp")  # the files whose compiled kernels a class uses
    reads_pixels = False  # else each number of an observation has weights of its own

    def __init__(self, observation_space, action_space, *, net_arch=None, act_fun="tanh", layers=None, extractor=None,
                 share_features: bool = False, log_std_init: float = 0.0, normalize: bool = False, dtype="float32"):
        self.observation_space: Any = spaces.describe(observation_space, "observation")
        self.action_space: Any = spaces.describe(action_space, "action")
        self.dist = make_distribution(self.action_space)
        box = self.action_space  # bounds as one row of actions: NumPy broadcasts (k,) in twice the time
        self._bounds = (box.low[None], box.high[None], np.dtype(box.dtype)) if isinstance(box, spaces.Box) else None
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype is {dtype!r}; 'float32' or 'float64' is needed")
        low, high = LOG_STD_BOUNDS
        number = isinstance(log_std_init, (int, float, np.number)) and not isinstance(log_std_init, bool)
        if not (number and low <= log_std_init <= high):
            raise ValueError(f"log_std_init is {log_std_init!r}; a number from {low:g} to {high:g} is needed")
        if not (extractor is None or isinstance(extractor, nn.Layer) or callable(extractor)):
            raise ValueError(f"extractor is {extractor!r}; an nn.Layer or a function of trpo_np.ops is needed")
        self.dtype = np.dtype(dtype)
        self.row_dtype = np.dtype(np.uint8) if self.observation_space.is_bytes else self.dtype
        self.normalizer: Any = self.make_normalizer(normalize)
        self.extractor = extractor
        self.outputs = self.dist.dim if isinstance(self.dist, DiagGaussian) else self.dist.size
        self._arguments = (net_arch, layers, nn.parse_activation(act_fun), share_features), float(log_std_init)
        self.params = Params.pack({})  # until `draw` or `install`
        self._line = self.observation_space.line
        self.rng = np.random.default_rng(0)
        self._build()

    def _build(self) -> None:
        arguments, log_std_init = self._arguments
        self._mlp = self._mlp_critic = None  # the networks that compiled kernels compute
        self.compose(*arguments)
        if isinstance(self.dist, DiagGaussian):
            self.policy_weights["pi/log_std"] = nn.Weight((self.dist.dim,), lambda rng, s: np.full(s, log_std_init))
        self._plain: Any = None  # views of the parameters `_plain_of`
        self._plain_of: Params | None = None

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._build()  # layers and views of a copy are its own

    def make_normalizer(self, enabled: bool) -> Any:
        """Make what brings encoded observations to about the same size and keeps the statistics for it."""
        return ObservationNormalizer(self.observation_space.width, enabled, self.dtype)

    def compose(self, net_arch, layers, fun: Callable, share_features: bool) -> None:
        """Build the networks from the arguments of the same names; say which parameters policy and critic need."""
        shared, pi, vf = nn.parse_net_arch(net_arch, layers)
        self.widths = [self.observation_space.width, *shared, *pi, self.outputs]
        sharing = share_features or bool(shared)
        self.trunk = nn.serial(self.encoder("shared"), nn.mlp("shared/fc", shared, fun)) if sharing else nn.serial()
        self.pi_head = nn.serial(*[self.encoder("pi")] * (not sharing), nn.mlp("pi/fc", pi, fun, ("pi/out", self.outputs, 0.01)))
        self.vf_head = nn.serial(*[self.encoder("vf")] * (not sharing), nn.mlp("vf/fc", vf, fun, ("vf/out", 1, 1.0)))
        own = self.extractor is None and all(getattr(type(self), name) is getattr(Policy, name)
                                             for name in ("pi", "decode", "encoder", "observe", "distribution"))
        own = own and type(self.normalizer) is ObservationNormalizer
        plain = own and fun is ops.tanh and self.dtype == np.float32  # what kernels compute, if a subclass leaves it so
        self._mlp = [self.trunk, self.pi_head] if plain else None
        self._mlp_critic = self.vf_head if plain and type(self).vf is Policy.vf else None
        self.critic_widths = np.array([self.widths[len(shared)], *vf, 1])
        shape, self.policy_weights = self.trunk.init(self.observation_space.rows)
        self.policy_weights |= self.pi_head.init(shape)[1]
        self._mlp_shape = np.array(self.widths), sum(math.prod(weight.shape) for weight in self.policy_weights.values())
        self.critic_weights = self.vf_head.init(shape)[1]

    @property
    def kernel_files(self) -> set[str]:
        """The files whose kernels the policy uses, for `kernels.compile_all`: a policy's first training waits for no others."""
        return {name for cls in type(self).__mro__ for name in vars(cls).get("loops", ())}

    def draw(self, rng: np.random.Generator) -> "Policy":
        """Draw new parameters and seed the sampling of actions in `predict`; return the policy."""
        weights = self.policy_weights | self.critic_weights
        self.params = Params.pack({name: w.draw(rng, w.shape) for name, w in weights.items()}, self.dtype)
        self.rng = np.random.default_rng(rng.integers(2**63))
        return self

    def install(self, arrays: Mapping) -> "Policy":
        """Take over parameters by name; return the policy."""
        weights = self.policy_weights | self.critic_weights
        self.params = Params.pack({name: np.reshape(arrays[name], w.shape) for name, w in weights.items()}, self.dtype)
        return self

    # --- the networks, as functions of parameters ---------------------------------------------------------------------

    def encoder(self, name: str) -> nn.Layer:
        """Return the layer that turns encoded observations (n, width) into features; its parameters' names start with `name`."""
        if self.extractor is None:
            return nn.serial()
        return nn.named(name, self.extractor if isinstance(self.extractor, nn.Layer) else nn.function(self.extractor))

    def pi(self, params, x):
        """Distribution parameters (n, k) of normalised observations x (n, width); differentiable in the parameters."""
        return self.decode(params, self.trunk.apply(params, x))

    def decode(self, params, features):
        """Distribution parameters (n, k) of features (n, width)."""
        out = self.pi_head.apply(params, features)
        if isinstance(self.dist, DiagGaussian):
            out = ops.concatenate([out, ops.broadcast_to(params["pi/log_std"], out.shape)], -1)
        return out

    def critic_input(self, params, x):
        """What the critic reads: the observations, or the shared layers' output, which it cannot change."""
        return self.trunk.apply(params, x)

    def vf(self, params, features):
        """Values (n,) of `critic_input`; differentiable in the critic's parameters."""
        return self.vf_head.apply(params, features)[..., 0]

    def value(self, x) -> np.ndarray:
        """Values (n,) of normalised observations under the current parameters."""
        return self.vf(self.params, self.critic_input(self.params, x))

    def bound(self, params: Params) -> Params:
        """Move a log standard deviation that left its bounds back to them, in place; return the parameters."""
        if "pi/log_std" in params:
            np.clip(params["pi/log_std"], *LOG_STD_BOUNDS, out=params["pi/log_std"])
        return params

    # --- a segment of experience, which a recurrent policy sees in another way -----------------------------------------

    def new_memory(self, n: int) -> Any:
        """Return what the policy remembers of n environments at their beginning: nothing."""
        return None

    def storage(self, steps: int, n: int) -> Any:
        """Return memory for the encoded observations of n environments, to be filled step after step."""
        return np.empty((steps, n, *self.observation_space.rows), self.row_dtype)

    def actor(self, noise: np.ndarray, memory: Any = None) -> tuple[Callable, np.ndarray]:
        """Return what a rollout calls at each step, and the array (T, n, ...) in which that notes the raw actions.

        It takes (t, observations (n, width), starts (n,)) and returns what the environment takes of the raw actions, which are
        drawn with `noise[t]`. A tanh network in float32 runs in one compiled kernel; any other, or one that a subclass changed,
        as it is composed.
        """
        if (net := self.compiled_network()) is not None:
            draws, take, actions = self.draws(noise)
            mlp_act, draws = acting.mlp_act.now, (*net, *draws)

            def act(t, obs, starts):
                if not mlp_act(t, obs, *draws):
                    spaces.check_finite(obs)
                return take(t)
            return act, actions
        actions = self.raw_actions(noise)

        def composed(t, obs, starts):
            spaces.check_finite(obs)
            actions[t] = drawn = self.dist.sample(self.pi(self.params, self.normalizer(obs)), noise[t])
            return self.to_env(drawn)
        return composed, actions

    def compiled_network(self) -> tuple | None:
        """Return what `acting.mlp_act` takes after the observations, if that is what the policy computes (not the log_std)."""
        if [self.trunk, self.pi_head] != self._mlp:
            return None
        normalize, (widths, size) = self.normalizer, self._mlp_shape
        return self.params.flat[:size], widths, np.concatenate([normalize.shift, normalize.factor]), normalize.clip

    def raw_actions(self, noise: np.ndarray) -> np.ndarray:
        """Return an array for the actions that are drawn with noise (T, n, k)."""
        dtype = self.dtype if isinstance(self.dist, DiagGaussian) else np.result_type(self.dist.action_dtype, np.int8)
        return np.empty((*noise.shape[:2], *self.dist.action_shape), dtype)

    def draws(self, noise: np.ndarray) -> tuple[tuple, Callable, np.ndarray]:
        """Return the last arguments of `acting.mlp_act` for noise (T, n, k), a function of t that gives what the environment
        takes of the actions then drawn, and the array of the raw actions (T, n, ...)."""
        dist, space, (steps, n, k), gaussian = self.dist, self.action_space, noise.shape, isinstance(self.dist, DiagGaussian)
        plain = type(self).to_env is Policy.to_env
        clipped = gaussian and space.low.dtype == np.float32 and plain
        bounds = np.stack([space.low.ravel(), space.high.ravel()]) if clipped else acting.unbounded(k)
        noise = np.exp(self.params["pi/log_std"]) * noise if gaussian else noise
        drawn, choice = np.empty((2, steps, n, k), np.float32), np.empty((steps, n), np.int64)
        if gaussian:
            actions, taken = drawn.reshape(2, steps, n, *dist.action_shape)
            take = taken.__getitem__ if clipped else lambda t: self.to_env(actions[t])
        elif isinstance(dist, Categorical):
            actions, as_drawn = choice, plain and not space.start
            take = choice.__getitem__ if as_drawn else lambda t: self.to_env(choice[t])
        else:
            actions = self.raw_actions(noise)

            def take(t):
                actions[t] = raw = dist.mode(drawn[0, t])
                return self.to_env(raw)
        return (noise, bounds, drawn, choice), take, actions

    def plain_outputs(self, obs: Any) -> tuple[np.ndarray, bool] | None:
        """Return a tanh network's outputs for observations (not the log_std), and whether it is a single one; None of others.

        For `predict`: what composes the layers takes longer than the layers do.
        """
        if self._plain_of is not self.params:
            (widths, size), plain = self._mlp_shape, [self.trunk, self.pi_head] == self._mlp
            self._normalize = self.normalizer if self.normalizer.enabled else None
            self._plain = Plain(self.params.flat[:size], widths) if plain else None
            self._plain_of = self.params  # last: another thread may ask
        if self._plain is None:
            return None
        if type(obs) is np.ndarray and obs.shape == self._line:  # what most callers give
            if (out := self._plain.of_one(obs, self._normalize)) is not None:
                return out, True
        x, single = self.observe(obs)
        return self._plain.of_rows(x), single

    def inputs(self, x, seg: Any) -> tuple[Any, Callable]:
        """Return what `pi` takes of a segment's normalised observations x (T, n, width), and a function that lines up with it
        other arrays (T, n, ...) of the segment."""
        if seg.valid.all():  # no copies then
            return x.reshape(-1, *x.shape[2:]), lambda array: array.reshape(-1, *array.shape[2:])
        return x[seg.valid], lambda array: array[seg.valid]

    def thin(self, inputs, weights, k: int) -> tuple[Any, np.ndarray]:
        """Take every k-th sample, for the curvature."""
        return inputs[::k], weights[::k]

    def segment_values(self, x, seg: Any, last, final) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return V of a segment (T, n), of what comes after it (n,), and of truncated episodes' last observations `final`."""
        values = self.value(np.concatenate([x.reshape(-1, *x.shape[2:]), last, final]))
        rows, n = len(values) - len(final), len(last)
        return values[:rows - n].reshape(x.shape[:2]), values[rows - n:rows], values[rows:]

    def critic_loss(self, critic: Params, features, goal: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the gradient of sum(weights * (V - goal)^2) in the critic's parameters, then that sum, then sum(weights).

        One vector, since one reduction over ranks is to do. A tanh network in float32 runs in one compiled kernel.
        """
        if self.vf_head == self._mlp_critic:
            return mlp.mlp_loss(critic.flat, self.critic_widths, features, goal, weights, blas.small())
        error, grad = value_and_grad(lambda p: ops.sum(weights * ops.square(self.vf(p, features) - goal)), critic)
        return np.append(grad, [error, weights.sum()]).astype(grad.dtype)

    def critic_batches(self, x, seg: Any, size: int, ranks: int, rng: np.random.Generator) -> Callable:
        """Return a function that yields, for one pass, minibatches of the critic's inputs and the rows that belong to them.

        The inputs are computed once. `size` is the number of rows in a batch, `ranks` the most rows that any rank has.
        """
        features, pieces = self.critic_input(self.params, self.inputs(x, seg)[0]), -(-ranks // size)
        each, more = divmod(len(features), pieces)  # cut as by np.array_split, which takes longer than Adam's steps

        def batches():
            order = rng.permutation(len(features))
            for i in range(pieces):
                rows = order[i * each + min(i, more):(i + 1) * each + min(i + 1, more)]
                yield features[rows], rows
        return batches

    def demonstrations(self, x, starts) -> tuple[int, Callable]:
        """Return how many pieces an expert's normalised observations x (n, width) have, and a function that gives of chosen ones
        what `pi` takes, and their rows."""
        return len(x), lambda chosen: (x[chosen], chosen)

    # --- acting -------------------------------------------------------------------------------------------------------

    def distribution(self, obs: Any, state=None, mask=None) -> tuple[np.ndarray, bool, Any]:
        """Return the distribution parameters (n, k) of observations, whether it is a single one, and the state after them."""
        x, single = self.observe(obs)
        return self.pi(self.params, x), single, None

    def sample_inputs(self, obs: Any, state=None, mask=None) -> tuple[Any, int]:
        """Return what `pi` takes of observations that are not from a rollout, and their number."""
        x, _ = self.observe(obs)
        if not len(x):
            raise ValueError("the batch holds no observation; at least one is needed")
        return x, len(x)

    def observe(self, obs: Any) -> tuple[np.ndarray, bool]:
        """Encode and normalise one observation or a batch; return rows (n, width) and whether it was a single one."""
        count = self.observation_space.count(obs)
        x = self.observation_space.encode(obs, 1 if count is None else count).astype(self.row_dtype, copy=False)
        if self.row_dtype != np.uint8 and not spaces.all_finite(x):
            raise ValueError(f"the observation holds {spaces.first_bad(x)}; only finite numbers can be predicted from")
        return self.normalizer(x), count is None

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """Make of raw actions what the action space takes: clipped to the bounds, counted from its start, in its type."""
        if self._bounds:
            low, high, dtype = self._bounds
            actions = minimum(maximum(actions, low), high)
            return actions if actions.dtype is dtype else actions.astype(dtype, copy=False)
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return actions + space.start if space.start else actions
        if isinstance(space, spaces.MultiDiscrete):
            return (actions + np.array(space.start)).reshape(*actions.shape[:-1], *space.shape)
        return actions

    def from_env(self, actions: Any, n: int) -> np.ndarray:
        """Make raw actions (n, ...) of actions of the action space: the inverse of `to_env`, but for clipping."""
        space, actions = self.action_space, np.asarray(actions)
        if actions.size != n * math.prod(space.shape):
            raise ValueError(f"actions have shape {actions.shape}; {n} of shape {space.shape}, one an observation, are needed")
        if isinstance(space, spaces.Discrete):
            return spaces.count_from_zero(actions.reshape(n, 1), [space.n], [space.start], "action")[:, 0]
        if isinstance(space, spaces.MultiDiscrete):
            return spaces.count_from_zero(actions.reshape(n, -1), space.nvec, space.start, "action")
        if isinstance(space, spaces.MultiBinary) and not np.isin(actions, (0, 1)).all():
            raise ValueError(f"an action of a MultiBinary space holds 0 and 1 only, not {actions[~np.isin(actions, (0, 1))][0]}")
        return actions.reshape(n, *space.shape)

    def predict(self, obs, state=None, mask=None, deterministic=False):
        """Return (actions, state) for one observation or a batch: the most likely actions if `deterministic`, else drawn.

        One Discrete action is an integer scalar (hashable), a batch an array. `state` and `mask` are for recurrent policies
        and come back as None from others.
        """
        after = None
        if (known := self.plain_outputs(obs)) is None:
            params, single, after = self.distribution(obs, state, mask)
        else:
            params, single = known
            if not deterministic and "pi/log_std" in self.params:
                log_std = np.broadcast_to(self.params["pi/log_std"], params.shape)
                params = np.concatenate([params, log_std], 1)
        if deterministic:
            actions = self.dist.mode(params)
        else:
            actions = self.dist.sample(params, self.dist.noise(self.rng, len(params)).astype(self.dtype))
        actions = self.to_env(actions)
        return (actions[0] if single else actions), after

    def action_probability(self, obs, state=None, mask=None, actions=None, logp=False):
        """Return the distribution of the action, or the probability (density) of given `actions`, (n, 1).

        Without actions: probabilities for Discrete (a list of them for MultiDiscrete, of ones for MultiBinary), [mean, std] for
        Box. With `logp` the logarithm of the probability of the given actions.
        """
        params, single, _ = self.distribution(obs, state, mask)
        if actions is not None:
            log_p = self.dist.logp(params.astype(np.float64), self.from_env(actions, len(params)))[:, None]
            return log_p if logp else np.exp(log_p)
        if logp:
            raise ValueError("action_probability: logp=True needs the actions whose log-probability is wanted")
        if isinstance(self.dist, DiagGaussian):
            parts = [self.dist.mode(params), self.dist.std(params)]
        else:
            parts = self.dist.probabilities(params)
        if isinstance(parts, list):
            return [part[0] if single else part for part in parts]
        return parts[0] if single else parts


class MlpPolicy(Policy):
    """Fully connected networks, 64-64 tanh by default."""
