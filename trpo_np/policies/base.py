"""A policy: two networks, their parameters and the normalisation, from an observation to an action.

A policy is made of three methods that a subclass may replace: `encoder` makes the layer from observations to
features, `decode` turns features into the parameters of the action distribution, and `vf`, the critic's, into
a value. Policy and critic are functions of parameter arrays, so an old and a new policy are two vectors, not
two networks.

The class stands in four blocks: construction; the networks, as pure functions of parameters; a segment of
experience, as training sees it; and what users call.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy import maximum, minimum

from .. import nn, ops, spaces
from ..autodiff import value_and_grad
from ..distributions import (
    Bernoulli,
    Categorical,
    DiagGaussian,
    Distribution,
    MultiCategorical,
    WideCategorical,
    WideMultiCategorical,
)
from ..normalize import BesidesIndices, ObservationNormalizer
from ..params import Params
from ..promises import declared
from ..types import Actions, Floats, Value, Weights
from . import fast

if TYPE_CHECKING:
    from numpy.typing import DTypeLike
    from typing_extensions import Self

LARGEST_BLOCK = 8_000_000  # 64 MB in float64
NO_OBSERVATION = "the batch holds no observation; at least one is needed"


class Values(NamedTuple):
    """The critic's values around a segment of T steps of n environments."""

    steps: np.ndarray  # (T, n), of the observations that were acted on
    last: np.ndarray  # (n,), of those after the last step
    final: np.ndarray  # one of each truncated episode, of its last observation
    memory: dict[str, Any]  # a recurrent critic's state after the segment


class Policy:
    """An actor and a critic for given spaces.

    `net_arch` lists the hidden layers: leading ints are shared, then `dict(pi=[...], vf=[...])` splits.
    Shared layers belong to the policy: the critic reads their output and never moves them. Without shared
    layers the critic is a network of its own. `act_fun` is "tanh", "relu", "elu", "sigmoid" or an op;
    `layers=[64, 64]` is short for separate networks of those widths. `extractor` is an nn.Layer, or a
    function of ops, that turns encoded observations (n, width) into features; policy and critic have one
    each, unless layers are shared or `share_features` is set. `log_std_init` starts the logarithm of the
    standard deviation of Box actions (0 is wide for most robots: -0.5 to -1 explores less and learns sooner);
    `normalize` keeps running statistics of the observations in the model.

    Discrete observations are one-hot rows. Those of thousands of values (spaces.as_indices) stay indices, by
    which the first layer looks its weights up, so that memory and time go with what is stored; `normalize`
    leaves indices alone. An `extractor`, and a subclass that overrides methods, see all zeros, and so do all
    with `indices=False`, as in files of versions that normalised one-hot rows.
    """

    # The methods below compute dense tanh layers on normalised rows, if the arguments ask for these, so that
    # fast.py may act in their place. A subclass that defines a method runs op by op, unless it says
    # `standard = True` itself.
    standard = True
    # `pi_layers` say all that the policy computes between normalised observations and the distribution, so
    # that deploy/ may write it down. A subclass that defines a method must say so again, if that holds.
    layered = True
    loops: tuple[str, ...] = ("scalar", "mlp", "act")  # the files of kernels/ that a class uses
    reads_pixels = False  # else each number of an observation has weights of its own

    # --- construction ---------------------------------------------------------------------------------------

    def __init__(self, observation_space: Any, action_space: Any, *,
                 net_arch: "list[Any] | tuple[Any, ...] | dict[str, Any] | None" = None,
                 act_fun: str | Callable[..., Value] = "tanh", layers: Sequence[int] | None = None,
                 extractor: nn.Layer | Callable[[Any], Value] | None = None, share_features: bool = False,
                 log_std_init: float = 0.0, normalize: bool = False, indices: bool = True,
                 dtype: "DTypeLike" = "float32") -> None:
        self.observation_space: spaces.Space = spaces.describe(observation_space, "observation")
        if indices and extractor is None and declared(self, "standard"):
            self.observation_space = spaces.as_indices(self.observation_space)
        self.action_space = cast(spaces.Leaf, spaces.describe(action_space, "action"))
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype is {dtype!r}; 'float32' or 'float64' is needed")
        low, high = DiagGaussian.LOG_STD_BOUNDS
        number = isinstance(log_std_init, (int, float, np.number)) and not isinstance(log_std_init, bool)
        if not (number and low <= log_std_init <= high):
            raise ValueError(f"log_std_init is {log_std_init!r}; a number from {low:g} to {high:g} is needed")
        if not (extractor is None or isinstance(extractor, nn.Layer) or callable(extractor)):
            raise ValueError(f"extractor is {extractor!r}; an nn.Layer or a function of trpo_np.ops is "
                             "needed")
        self.dist: Distribution = self.make_distribution(float(log_std_init))
        self._bounds = None
        if isinstance(box := self.action_space, spaces.Box):  # one row: NumPy takes twice as long for (k,)
            self._bounds = box.low[None], box.high[None], np.dtype(box.dtype)
        self.dtype = np.dtype(dtype)
        precision = self.observation_space.precision
        # in which rollouts keep observations: the networks' own type, if these see them as they are
        self.row_dtype = self.dtype if not normalize else np.result_type(precision, self.dtype)
        if self.observation_space.is_bytes:
            self.row_dtype = precision
        self.normalizer: Any = self.make_normalizer(normalize)
        self.extractor = extractor
        self._arguments = net_arch, layers, nn.parse_activation(act_fun), share_features
        self.params = Params.pack({})  # until `draw` or `install`
        self._line = self.observation_space.line
        self.rng = np.random.default_rng(0)
        self._build()

    def _build(self) -> None:
        before = dict(vars(self))
        self.compose(*self._arguments)
        self.policy_weights |= {f"pi/{name}": weight for name, weight in self.dist.weights().items()}
        self._built = [name for name, value in vars(self).items() if before.get(name, self) is not value]

    def __setattr__(self, name: str, value: Any) -> None:
        for known in ("_row_network", "_critic_widths"):  # cached descriptions that depend on attributes
            vars(self).pop(known, None)
        vars(self)[name] = value

    def __getstate__(self) -> dict[str, Any]:
        made = {"_row_network", "_critic_widths", "_built", *self._built}
        return {name: value for name, value in vars(self).items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.params = Params.pack(self.params, self.dtype)  # joblib's arrays may be read-only
        self._build()  # layers of a copy are its own

    def make_distribution(self, log_std_init: float) -> Any:
        """Make the distribution over the actions of the action space."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return (Categorical if space.n <= spaces.WIDE else WideCategorical)(space.n)
        if isinstance(space, spaces.MultiDiscrete):
            return (MultiCategorical if space.width <= spaces.WIDE else WideMultiCategorical)(space.nvec)
        if isinstance(space, spaces.MultiBinary):
            return Bernoulli(space.shape)
        return DiagGaussian(space.shape, log_std_init)

    def make_normalizer(self, enabled: bool) -> Any:
        """Make the normaliser, which brings encoded observations to about the same size and keeps the
        statistics for it."""
        space = self.observation_space
        if space.codes is not None:
            return BesidesIndices(space.codes[0], enabled, self.dtype, space.precision)
        return ObservationNormalizer(space.width, enabled, self.dtype, space.precision)

    def compose(self, net_arch: Any, layers: Any, fun: Callable[..., Value], share_features: bool) -> None:
        """Build the networks from the arguments of the same names; list the parameters that they need."""
        shared, pi, vf = nn.parse_net_arch(net_arch, layers)
        self.trunk = nn.serial()
        self.pi_head = nn.mlp("pi/fc", pi, fun, ("pi/out", self.dist.outputs, 0.01))
        self.vf_head = nn.mlp("vf/fc", vf, fun, ("vf/out", 1, 1.0))
        if shared or share_features and self.observation_space.codes is None:  # codes alone are no features
            self.trunk = nn.serial(self.encoder("shared"), nn.mlp("shared/fc", shared, fun))
        else:
            self.pi_head = nn.serial(self.encoder("pi"), self.pi_head)
            self.vf_head = nn.serial(self.encoder("vf"), self.vf_head)
        shape, self.policy_weights = self.trunk.init(self.observation_space.rows)
        self.policy_weights |= self.pi_head.init(shape)[1]
        self.critic_weights = self.vf_head.init(shape)[1]

    @property
    def policy_params(self) -> Params:
        """The policy's block of `params`, a view."""
        return self.params.select(self.policy_weights)

    @property
    def critic_params(self) -> Params:
        """The critic's block of `params`, a view."""
        return self.params.select(self.critic_weights)

    @property
    def widths(self) -> tuple[int, ...]:
        """How many numbers an encoded observation has, and each layer of the policy's network gives."""
        layers = [weight.shape[0] if name.endswith("/wh") else weight.shape[-1]  # wh: of an LSTM, (n, 4n)
                  for name, weight in self.policy_weights.items()
                  if len(weight.shape) > 1 and not name.endswith("/wx")]
        return (self.observation_space.width, *layers)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' -> '.join(map(str, self.widths))}, {self.dtype}>"

    @property
    def is_fast(self) -> bool:
        """Whether actions come from compiled kernels: a tanh network in float32, no method of it overridden.

        Parameters must have been drawn. Where nothing is compiled the policy runs on NumPy all the same.
        """
        return self._network() is not None

    @property
    def kernel_files(self) -> set[str]:
        """The files of kernels/ that the policy uses: its first training waits for no others to be
        compiled."""
        return {name for cls in type(self).__mro__ for name in vars(cls).get("loops", ())}

    def draw(self, rng: np.random.Generator) -> "Self":
        """Draw new parameters and seed the sampling of actions in `predict`; return the policy."""
        weights = self.policy_weights | self.critic_weights
        arrays = {name: weight.draw(rng, weight.shape) for name, weight in weights.items()}
        self.params = Params.pack(arrays, self.dtype)
        return self.seed(rng.integers(2**63))

    def seed(self, seed: Any = None) -> "Self":
        """Seed the sampling of actions in `predict`; None takes a seed that no other process has. Return the
        policy."""
        self.rng = np.random.default_rng(seed)
        return self

    def install(self, arrays: Mapping[str, Any]) -> "Self":
        """Take over parameters by name; return the policy."""
        weights = self.policy_weights | self.critic_weights
        shaped = {name: np.reshape(arrays[name], weight.shape) for name, weight in weights.items()}
        self.params = Params.pack(shaped, self.dtype)
        return self

    # --- the networks, as functions of parameters -----------------------------------------------------------

    def encoder(self, name: str) -> nn.Layer:
        """Return the layer from encoded observations (n, width) to features; its parameters' names start with
        `name`."""
        if self.extractor is None:
            if (codes := self.observation_space.codes) is None:
                return nn.serial()
            is_index, places = codes
            return nn.coded(is_index, places, self.observation_space.width)
        layer = self.extractor if isinstance(self.extractor, nn.Layer) else nn.function(self.extractor)
        return nn.named(name, layer)

    def pi(self, params: Weights, x: Any) -> Value:
        """Distribution parameters (n, k) of normalised observations x (n, width); differentiable in the
        parameters."""
        return self.decode(params, self.trunk.apply(params, x))

    def decode(self, params: Weights, features: Any) -> Value:
        """Distribution parameters (n, k) of features (n, width)."""
        return self.dist.parameters(self.pi_head.apply(params, features), self.own_weights(params))

    def pi_layers(self) -> list[nn.Layer]:
        """Return the layers from normalised observations to the distribution, in their order."""
        return [self.trunk, self.pi_head]

    def own_weights(self, params: Weights) -> dict[str, Value]:
        """Return the arrays that the distribution needs beside the network, by its names for them."""
        return {name: params[f"pi/{name}"] for name in self.dist.weights()}

    def critic_input(self, params: Weights, x: Any) -> Any:
        """The critic's input: the observations, or the shared layers' output, which it cannot change."""
        return self.trunk.apply(params, x)

    def vf(self, params: Weights, features: Any) -> Value:
        """Values (n,) of `critic_input`; differentiable in the critic's parameters."""
        return self.vf_head.apply(params, features)[..., 0]

    def value(self, x: Any) -> Floats:
        """Values (n,) of normalised observations under the current parameters."""
        return cast(Floats, self.vf(self.params, self.critic_input(self.params, x)))

    def bound(self, params: Params) -> Params:
        """Move the distribution's own weights back into their bounds, in place; return the parameters."""
        self.dist.bound(self.own_weights(params))
        return params

    # --- a segment of experience, which a recurrent policy sees in another way ------------------------------

    def new_memory(self, n: int) -> dict[str, Any]:
        """Return the memory of n environments at their beginning: states (n, width) by the names of networks;
        none here."""
        return {}

    def storage(self, steps: int, n: int) -> Any:
        """Return memory for the encoded observations of n environments, to be filled step after step."""
        return np.empty((steps, n, *self.observation_space.rows), self.row_dtype)

    def actor(self, noise: np.ndarray, memory: dict) -> tuple[Callable, np.ndarray, dict]:
        """Return what acts in a rollout: a function for each step, the array for raw actions (T, n, ...), and
        the memory.

        The function takes (t, observations (n, width), starts (n,)), draws raw actions with `noise[t]`, notes
        them in the array and returns them as the environment takes them. `memory` is that before the first
        step, and is not changed; the one returned follows the steps.
        """
        if (network := self._network()) is not None:
            draws = self.drawing(noise)
            if (step := fast.actor(network, draws, self.row_dtype)) is not None:
                return step, draws.actions, memory
        actions = self.raw_actions(noise)

        def composed(t, obs, starts):
            spaces.check_finite(obs, self.row_dtype)
            actions[t] = drawn = self.dist.sample(self.pi(self.params, self.normalizer(obs)), noise[t])
            return self.to_env(drawn)
        return composed, actions, memory

    def raw_actions(self, noise: np.ndarray) -> np.ndarray:
        """Return an array for the actions that are drawn with noise (T, n, k)."""
        return np.empty((*noise.shape[:2], *self.dist.action_shape), self.dist.action_dtype or self.dtype)

    def drawing(self, noise: np.ndarray) -> fast.Drawing:
        """Prepare fast draws of the distribution with noise (T, n, k)."""
        space, bounds = self.action_space, None
        if isinstance(space, spaces.Box) and space.low.dtype == np.float32:
            bounds = np.stack([space.low.ravel(), space.high.ravel()])
        as_drawn = isinstance(space, (spaces.Discrete, spaces.MultiBinary)) and not getattr(space, "start", 0)
        to_env = None if as_drawn else self.to_env
        return fast.drawing(self.dist, self.own_weights(self.params), noise, bounds, to_env)

    def _network(self) -> fast.TanhNetwork | None:
        """Describe the policy's network for fast.py, if it is standard."""
        if not declared(self, "standard"):
            return None
        return fast.tanh_network(nn.serial(self.trunk, self.pi_head).dense, self.params, self.normalizer)

    def merge(self, obs: np.ndarray, comm) -> None:
        """Take encoded observations (n, width) of all ranks into the normaliser's statistics.

        The policy stays the function of observations that it is (but for the clip): if its first layer is
        dense, that makes up for the new mean and spread. Else the policy would change outside of its trust
        region: the wider its observations spread, the weaker its answer to each. Only the first observations
        set the scale, on which a new network is drawn. The critic is fitted to whatever it reads.
        """
        now, first = self.normalizer, self.first_layers().dense or ()
        known, count = first and declared(self, "layered") and declared(now, "affine"), now.count
        if known:
            shift, factor = np.float64(now.shift), np.float64(now.factor)
        now.merge(obs, comm)
        if known and 0 < count < now.count:
            w, b = (self.params[name] for name in first[0][:2])
            raw = factor.T * w
            b += ((now.shift - shift) @ raw)[0]
            w[:] = raw / now.factor.T

    def first_layers(self) -> nn.Layer:
        """Return the layers with which the policy reads normalised observations."""
        return nn.serial(self.trunk, self.pi_head)

    def inputs(self, x, seg: Any) -> tuple[Any, Callable]:
        """Return the input of `pi` for a segment's normalised observations x (T, n, width), and a function
        that lines up with it other arrays (T, n, ...) of the segment."""
        if seg.valid.all():  # no copies then
            return x.reshape(-1, *x.shape[2:]), lambda array: array.reshape(-1, *array.shape[2:])
        return x[seg.valid], lambda array: array[seg.valid]

    def blocks(self, inputs, n: int) -> list[tuple[Any, Any]]:
        """Cut n samples into blocks with at most LARGEST_BLOCK numbers of distribution parameters; return the
        input of `pi` for each, and the rows of it."""
        rows = max(1, LARGEST_BLOCK // self.dist.size)
        if n <= rows:
            return [(inputs, slice(None))]
        cuts = [slice(i, i + rows) for i in range(0, n, rows)]
        return [(inputs[cut], cut) for cut in cuts]

    def thin(self, inputs, weights, k: int) -> tuple[Any, np.ndarray]:
        """Take every k-th sample, for the curvature."""
        return inputs[::k], weights[::k]

    def segment_values(self, x, seg: Any, last, final) -> Values:
        """Return V of a segment's normalised observations x (T, n, width), of those after it, `last` (n,
        width), and of the last observations of truncated episodes, `final`."""
        values = self.value(np.concatenate([x.reshape(-1, *x.shape[2:]), last, final]))
        steps, n = x.shape[0] * x.shape[1], len(last)
        return Values(values[:steps].reshape(x.shape[:2]), values[steps:steps + n], values[steps + n:], {})

    def critic_loss(self, critic: Params, features, goal: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the gradient of sum(weights * (V - goal)^2) in the critic's parameters, then that sum, then
        sum(weights).

        One vector, since there is to be one reduction over ranks.
        """
        if self._critic_widths is not None:
            found = fast.value_loss(critic.flat, self._critic_widths, features, goal, weights)
            if found is not None:
                return found

        def loss(p):
            return ops.sum(weights * ops.square(self.vf(p, features) - goal))
        error, grad = value_and_grad(loss, critic)
        return np.append(grad, [error, weights.sum()]).astype(grad.dtype)

    @cached_property
    def _critic_widths(self) -> np.ndarray | None:
        """The widths of the critic's network for fast.py, if it is standard."""
        if not declared(self, "standard"):
            return None
        return fast.widths_of(self.vf_head.dense, self.critic_params)

    def critic_batches(self, x, seg: Any, size: int, most_rows: int, rng: np.random.Generator) -> Callable:
        """Return a function that yields, for one pass, minibatches of the critic's inputs and the rows that
        belong to them.

        The inputs are computed once. `size` is the number of rows in a batch, `most_rows` the largest number
        of rows of any rank.
        """
        features, pieces = self.critic_input(self.params, self.inputs(x, seg)[0]), -(-most_rows // size)
        # cut as by np.array_split, which takes longer than Adam's steps
        each, more = divmod(len(features), pieces)

        def batches():
            order = rng.permutation(len(features))
            for i in range(pieces):
                rows = order[i * each + min(i, more):(i + 1) * each + min(i + 1, more)]
                yield features[rows], rows
        return batches

    def demonstrations(self, x, starts) -> tuple[int, Callable]:
        """Return the number of pieces of an expert's normalised observations x (n, width), and a function of
        chosen pieces that gives the input of `pi` for them and their rows."""
        return len(x), lambda chosen: (x[chosen], chosen)

    # --- acting, as users call it ---------------------------------------------------------------------------

    def distribution(self, obs: Any, state: Any = None, mask: Any = None) -> tuple[Any, bool, Any]:
        """Return the distribution parameters (n, k) of observations, whether it is a single one, and the
        state after them."""
        x, single = self.observe(obs)
        return self.pi(self.params, x), single, None

    def sample_inputs(self, obs: Any, state: Any = None, mask: Any = None) -> tuple[Any, int]:
        """Return the input of `pi` for observations that are not from a rollout, and their number."""
        x, _ = self.observe(obs)
        if not len(x):
            raise ValueError(NO_OBSERVATION)
        return x, len(x)

    def observe(self, obs: Any) -> tuple[np.ndarray, bool]:
        """Encode and normalise one observation or a batch; return rows (n, width) and whether it was a single
        one."""
        count = self.observation_space.count(obs)
        x = self.observation_space.encode(obs, 1 if count is None else count)
        spaces.check_given(x, self.row_dtype)
        return self.normalizer(x), count is None

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """Turn raw actions into the action space's: clipped to the bounds, rounded where it holds integers,
        counted from its start, in its type."""
        if self._bounds:
            low, high, dtype = self._bounds
            actions = minimum(maximum(actions, low), high)
            if dtype.kind in "iub":
                actions = np.rint(actions)
            return actions if actions.dtype is dtype else actions.astype(dtype, copy=False)
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return actions + space.start if space.start else actions
        if isinstance(space, spaces.MultiDiscrete):
            return (actions + np.array(space.start)).reshape(*actions.shape[:-1], *space.shape)
        return actions

    def from_env(self, actions: Any, n: int) -> np.ndarray:
        """Make raw actions (n, ...) of actions of the action space: the inverse of `to_env`, but for
        clipping."""
        space, actions = self.action_space, np.asarray(actions)
        if actions.size != n * math.prod(space.shape):
            raise ValueError(f"actions have shape {actions.shape}; {n} of shape {space.shape}, one an "
                             "observation, are needed")
        if isinstance(space, spaces.Discrete):
            return spaces.count_from_zero(actions.reshape(n, 1), [space.n], [space.start], "action")[:, 0]
        if isinstance(space, spaces.MultiDiscrete):
            return spaces.count_from_zero(actions.reshape(n, -1), space.nvec, space.start, "action")
        if isinstance(space, spaces.MultiBinary) and not np.isin(actions, (0, 1)).all():
            wrong = actions[~np.isin(actions, (0, 1))][0]
            raise ValueError(f"an action of a MultiBinary space holds 0 and 1 only, not {wrong}")
        return actions.reshape(n, *space.shape)

    def predict(self, obs: Any, state: Any = None, mask: Any = None,
                deterministic: bool = False) -> tuple[Actions, Floats | None]:
        """Return (actions, state) for one observation or a batch: the most likely actions if `deterministic`,
        else drawn.

        One Discrete action is an integer scalar (hashable), a batch an array. `state` and `mask` are for
        recurrent policies and come back as None from others.
        """
        if (network := self._row_network) is not None:  # a standard network, whose outputs are nearly actions
            dist: Any = self.dist
            outputs, single, after = None, True, None
            if type(obs) is np.ndarray and obs.shape == self._line:  # the most frequent call
                outputs = network.outputs(obs, True)
            if outputs is None:
                outputs, single = self._outputs(obs, network)
            if not deterministic:
                noise = dist.noise(self.rng, len(outputs)).astype(self.dtype)
                outputs = outputs + dist.spread(self.own_weights(self.params)) * noise
            actions = dist.settle(outputs)
        else:
            params, single, after = self.distribution(obs, state, mask)
            if deterministic:
                actions = self.dist.mode(params)
            else:
                actions = self.dist.sample(params, self.dist.noise(self.rng, len(params)).astype(self.dtype))
        actions = self.to_env(actions)
        return (actions[0] if single else actions), after

    @cached_property
    def _row_network(self) -> fast.Row | None:
        """The policy's network on one observation, if it is standard and draws are sums."""
        if (network := self._network()) is None or not declared(self.dist, "additive"):
            return None
        return fast.Row(network, self.normalizer.scaled if self.normalizer.enabled else None)

    def _outputs(self, obs: Any, network: fast.Row) -> tuple[Any, bool]:
        """Return the network's outputs (n, k) for observations, and whether it was a single one."""
        x, single = self.observe(obs)
        if len(x) == 1 and (outputs := network.outputs(x[0], False)) is not None:
            return outputs, single
        return self.pi_head.apply(self.params, self.trunk.apply(self.params, x)), single

    def action_probability(self, obs: Any, state: Any = None, mask: Any = None, actions: Any = None,
                           logp: bool = False) -> Floats | list[Floats]:
        """Return the distribution of the action, or the probability (density) of given `actions`, (n, 1).

        Without actions: probabilities for Discrete (a list of them for MultiDiscrete, of ones for
        MultiBinary), [mean, std] for Box. With `logp` the logarithm of the probability of the given actions.
        """
        params, single, _ = self.distribution(obs, state, mask)
        if actions is not None:
            given = self.from_env(actions, len(params))
            log_p: Any = self.dist.logp(params.astype(np.float64), given)[:, None]
            return log_p if logp else np.exp(log_p)
        if logp:
            raise ValueError("action_probability: logp=True needs the actions whose log-probability is "
                             "wanted")
        parts = self.dist.summary(params)
        if isinstance(parts, list):
            return [part[0] if single else part for part in parts]
        return parts[0] if single else parts


class MlpPolicy(Policy):
    """Fully connected networks, 64-64 tanh by default."""
