"""Policies that remember: encoder, LSTM, decoder, trained on whole sequences.

What such a policy takes is a `Sequence`: the steps of n environments side by side, where episodes start, and
the state before the first step. Policy and critic have an LSTM each, or the critic reads what the policy's
remembers.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import nn, ops, spaces
from ..nn import listed, parse_net_arch
from ..promises import declared
from ..types import Actions, Floats, Value, Weights
from . import fast
from .base import LARGEST_BLOCK, NO_OBSERVATION, Policy, Values


class Sequence(NamedTuple):
    """T steps of n environments; rows made of it are the steps one after the other, (T * n,
    ...)."""

    x: np.ndarray  # (T, n, ...), encoded and normalised
    starts: np.ndarray  # (T, n), True where an episode starts: the state before it is forgotten
    state: np.ndarray  # (n, 2h), [c, h] before the first step
    real: np.ndarray | None = None  # the rows that do not only fill a sequence up; None: all


class Recurrent(NamedTuple):
    """A network that remembers: layers before the LSTM, the LSTM on inputs of `width`, layers after it."""

    front: nn.Layer
    cell: nn.Layer
    back: nn.Layer
    width: int

    def apply(self, params: Weights, seq: Sequence) -> tuple[Value, Any]:
        """Return features (T * n, ...) and, a plain array, the states after each step (T, n, 2h)."""
        steps, n = seq.starts.shape
        rows = self.front.apply(params, seq.x.reshape(steps * n, *seq.x.shape[2:]))
        inputs = ops.reshape(rows, (steps, n, self.width))
        remembered: Any = self.cell.apply(params, inputs, seq.starts, seq.state)
        h, states = remembered
        return self.back.apply(params, ops.reshape(h, (steps * n, h.shape[-1]))), states


class RecurrentPolicy(Policy):
    """A policy with an LSTM of `n_lstm` cells, and a critic with another.

    `net_arch` is stable-baselines': widths before "lstm" come before it, widths after it follow, last
    dict(pi=[...], vf=[...]) of those that differ. `layers=[64, 64]` is short for [64, 64, "lstm"]. Both
    networks are built so; with `share_features` there is one up to the dict, which belongs to the policy: the
    critic reads its output and never moves it. Other arguments are those of Policy. States are arrays (n, 2 *
    n_lstm), [c, h] of the policy's LSTM.
    """

    standard = True  # dense tanh layers around the LSTM, as fast.py knows them
    layered = True
    loops = ("lstm",)
    layer_norm = False
    layers: tuple[int, ...] = (64, 64)

    def __init__(self, observation_space: Any, action_space: Any, *, n_lstm: int = 256,
                 **options: Any) -> None:
        if isinstance(n_lstm, bool) or not isinstance(n_lstm, (int, np.integer)) or n_lstm < 1:
            raise ValueError(f"n_lstm is {n_lstm!r}; the LSTM's number of cells, an integer of at least 1, "
                             "is needed")
        self.n_lstm, self.steps_without_state, self.reminded = int(n_lstm), 0, False
        super().__init__(observation_space, action_space, **options)

    @property
    def state_width(self) -> int:
        """The size of one sample's state: of an LSTM c and h."""
        return 2 * self.n_lstm

    def make_cell(self, name: str) -> nn.Layer:
        """Make the layer that remembers, see nn.lstm; its parameters' names start with `name`."""
        return nn.lstm(f"{name}/lstm", self.n_lstm, self.layer_norm)

    def compose(self, net_arch: Any, layers: Any, fun: Callable[..., Value], share_features: bool) -> None:
        """Build the networks from the arguments of the same names; list the parameters that they need."""
        before, after, pi, vf = parse_recurrent_arch(net_arch, layers, self.layers)
        self.shared = share_features
        own = [] if self.shared else after
        self.pi_head = nn.mlp("pi/post", own + pi, fun, ("pi/out", self.dist.outputs, 0.01))
        self.vf_head = nn.mlp("vf/post", own + vf, fun, ("vf/out", 1, 1.0))
        self.nets, weights = {}, {}
        for name in ("shared",) if self.shared else ("pi", "vf"):
            front = nn.serial(self.encoder(name), nn.mlp(f"{name}/fc", before, fun))
            if not before and self.observation_space.codes is not None:
                front = nn.serial(front, nn.expanded())  # for the LSTM is no dense layer
            cell = self.make_cell(name)
            back = nn.mlp(f"{name}/post", after if self.shared else [], fun)
            encoded, weights[name] = front.init(self.observation_space.rows)
            if len(encoded) != 1:
                raise ValueError(f"the features have shape {encoded}; an LSTM takes rows (add nn.flatten())")
            remembered, more = cell.init(encoded)
            features, last = back.init(remembered)
            weights[name] |= more | last
            self.nets[name] = Recurrent(front, cell, back, encoded[0])
        if self.shared:
            self.nets = dict.fromkeys(("pi", "vf"), self.nets["shared"])
        self.policy_weights = weights["shared" if self.shared else "pi"] | self.pi_head.init(features)[1]
        self.critic_weights = ({} if self.shared else weights["vf"]) | self.vf_head.init(features)[1]

    # --- the networks, as functions of parameters -----------------------------------------------------------

    def pi_layers(self) -> list[nn.Layer]:
        """Return the layers from normalised observations to the distribution; one of them is the cell."""
        net = self.nets["pi"]
        return [net.front, net.cell, net.back, self.pi_head]

    def unroll(self, params: Weights, seq: Sequence) -> tuple[Value, Any]:
        """Distribution parameters (T * n, k) of a sequence, differentiable in the parameters, and the states
        after each step."""
        features, states = self.nets["pi"].apply(params, seq)
        return self.decode(params, features), states

    def pi(self, params: Weights, x: Any) -> Value:
        """Distribution parameters of a Sequence, (T * n, k) without what only fills it up; differentiable in
        the parameters."""
        out = self.unroll(params, x)[0]
        return out if x.real is None else out[x.real]

    def critic_input(self, params: Weights, x: Any) -> Any:
        """The critic's input: the Sequence, or the policy's features of it, which it cannot change."""
        return self.nets["pi"].apply(params, x)[0] if self.shared else x

    def vf(self, params: Weights, features: Any) -> Value:
        """Values of `critic_input`, (T * n,) without what only fills a sequence up; differentiable in the
        critic's parameters."""
        if self.shared:
            return super().vf(params, features)
        values = super().vf(params, self.nets["vf"].apply(params, features)[0])
        return values if features.real is None else values[features.real]

    # --- a segment of experience ----------------------------------------------------------------------------

    def new_memory(self, n: int) -> dict[str, Any]:
        """Return the memory of n environments at their beginning: zeros, of the networks "pi" and "vf"."""
        return {name: np.zeros((n, self.state_width), self.dtype) for name in ("pi", "vf")}

    def actor(self, noise, memory):
        """Return what acts in a rollout, the array for raw actions and the memory after it; see
        Policy.actor."""
        after, step = dict(memory), None
        if (network := self._network()) is not None:
            draws = self.drawing(noise)
            step = fast.recurrent_actor(network, draws, noise.shape[1], self.row_dtype)
            actions = draws.actions
        if step is None:
            actions = self.raw_actions(noise)

            def step(t, obs, starts, state):
                spaces.check_finite(obs, self.row_dtype)
                seq = Sequence(self.normalizer(obs)[None], starts[None], state)
                out, states = self.unroll(self.params, seq)
                actions[t] = drawn = self.dist.sample(out, noise[t])
                return self.to_env(drawn), states[0]

        def act(t, obs, starts):
            taken, after["pi"] = step(t, obs, starts, after["pi"])
            return taken
        return act, actions, after

    def _network(self):
        """Describe the network for fast.py, if it is standard."""
        if not declared(self, "standard"):
            return None
        net, name = self.nets["pi"], "shared" if self.shared else "pi"
        lstm = {key.rpartition("/")[2]: array for key, array in self.params.items()
                if key.startswith(f"{name}/lstm/")}
        back = nn.serial(net.back, self.pi_head)
        return fast.recurrent_network(net.front.dense, lstm, back.dense, self.params, self.normalizer)

    def first_layers(self):
        """Return the layers with which the policy reads normalised observations: those before the LSTM."""
        return self.nets["pi"].front

    _row_network = None  # the network takes more than an observation
    _critic_widths = None  # the critic reads sequences, not rows

    def inputs(self, x, seg):
        """Return the whole segment as a Sequence, and a function that makes rows (T * n, ...) of its
        arrays."""
        return Sequence(x, seg.starts, seg.memory["pi"]), lambda array: array.reshape(-1, *array.shape[2:])

    def blocks(self, inputs, n):
        """Cut a Sequence into blocks of whole environments; see Policy.blocks."""
        x, starts, state, real = inputs
        steps, envs = starts.shape
        some = max(1, LARGEST_BLOCK // (self.dist.size * steps))
        if envs <= some or real is not None:
            return [(inputs, slice(None))]
        rows, cuts = np.arange(steps * envs).reshape(steps, envs), range(0, envs, some)
        return [(Sequence(x[:, i:i + some], starts[:, i:i + some], state[i:i + some]),
                 rows[:, i:i + some].ravel()) for i in cuts]

    def thin(self, inputs, weights, k):
        """Take every k-th environment, for the curvature, but two at least, if there are as many."""
        x, starts, state, _ = inputs
        n = starts.shape[1]
        k = min(k, max(n - 1, 1))
        return Sequence(x[:, ::k], starts[:, ::k], state[::k]), weights.reshape(-1, n)[:, ::k].ravel()

    def segment_values(self, x, seg, last, final):
        """Return V of a segment, of the observations after it and of truncated episodes' last ones; see
        Policy.

        The last observation of an episode is seen with the state before the reset.
        """
        net, name = self.nets["vf"], "pi" if self.shared else "vf"
        starts = (seg.terminated | seg.truncated | ~seg.valid)[-1]

        def values(x, starts, state):
            features, states = net.apply(self.params, Sequence(x, starts, state))
            return self.vf_head.apply(self.params, features)[..., 0], states
        rows, states = values(x, seg.starts, seg.memory[name])
        t, i = ([at[k] for at in seg.final] for k in (0, 1))
        after = values(last[None], starts[None], states[-1])[0]
        at_end = np.zeros(0, x.dtype)
        if len(final):
            at_end = values(final[None], np.zeros((1, len(final)), bool), states[t, i])[0]
        remembered = {} if self.shared else {"vf": states[-1].copy()}
        return Values(rows.reshape(x.shape[:2]), after, at_end, remembered)

    def critic_batches(self, x, seg, size, most_rows, rng):
        """Return a function that yields, for one pass, minibatches of the critic's inputs and the rows that
        belong to them.

        A critic with an LSTM reads whole sequences: each environment's part of the segment, cut into pieces
        only where there are fewer environments than batches of `size` rows. A piece begins with the state
        that the critic had there before the fit.
        """
        inputs = self.inputs(x, seg)[0]
        if self.shared:
            return super().critic_batches(x, seg, size, most_rows, rng)
        inputs = inputs._replace(state=seg.memory["vf"])
        steps, n = seg.starts.shape
        batches_needed = -(-most_rows // size)
        length = -(-steps // min(steps, -(-batches_needed // n)))
        states = self.nets["vf"].apply(self.params, inputs)[1] if length < steps else None
        pieces = [(t, i) for t in range(0, steps, length) for i in range(n)]

        def batch(chosen):
            t0, i = np.array([pieces[k] for k in chosen], int).reshape(-1, 2).T
            t = t0 + np.arange(length)[:, None]
            real, t = (t < steps).ravel(), np.minimum(t, steps - 1)
            state = inputs.state[i]
            if states is not None:
                state = np.where(t0[:, None] > 0, states[t0 - 1, i], state)
            return (Sequence(x[t, i], seg.starts[t, i], state, None if real.all() else np.flatnonzero(real)),
                    (t * n + i).ravel()[real])

        def batches():
            for chosen in np.array_split(rng.permutation(len(pieces)), batches_needed):
                yield batch(chosen)
        return batches

    def demonstrations(self, x, starts):
        """Return the number of an expert's episodes, and a function of some of them: they as a Sequence, and
        their rows."""
        if starts is None:
            raise ValueError("the expert data lack the array 'episode_starts'; a policy with memory learns "
                             "from whole episodes")
        first = np.union1d([0], np.flatnonzero(starts))
        lengths = np.diff(np.append(first, len(x)))

        def pick(chosen):
            t = np.arange(lengths[chosen].max(initial=0))[:, None]
            real = (t < lengths[chosen]).ravel()
            rows = np.minimum(first[chosen] + t, len(x) - 1)
            state = np.zeros((len(chosen), self.state_width), self.dtype)
            seq = Sequence(x[rows], np.zeros(rows.shape, bool), state, np.flatnonzero(real))
            return seq, rows.ravel()[real]
        return len(first), pick

    # --- acting ---------------------------------------------------------------------------------------------

    def distribution(self, obs: Any, state: Any = None, mask: Any = None) -> tuple[Any, bool, Any]:
        """Return the distribution parameters (n, k) of one step, whether it is a single observation, and the
        state after it."""
        x, single = self.observe(obs)
        seq = self._sequence(x[None], state, None if mask is None else np.reshape(mask, (1, -1)))
        out, states = self.unroll(self.params, seq)
        return out, single, states[-1].copy()

    def predict(self, obs: Any, state: Any = None, mask: Any = None,
                deterministic: bool = False) -> tuple[Actions, Floats | None]:
        """Return (actions, state) for one observation or a batch of any size, which comes with its state (n,
        2 * n_lstm).

        Without a state all begin with nothing remembered, and so do those where `mask` (n,) is True: an
        episode starts there.
        """
        self.remind_of_state(state)
        return super().predict(obs, state, mask, deterministic)

    def remind_of_state(self, state: Any) -> None:
        """Count the steps predicted without a state; at the third in a row warn, once."""
        self.steps_without_state = self.steps_without_state + 1 if state is None else 0
        if self.steps_without_state == 3 and not self.reminded:
            self.reminded = True
            warnings.warn(f"{type(self).__name__} predicts step after step without a state and remembers "
                          "nothing: pass the state that predict returned, predict(obs, state, mask), and "
                          "mask=True where an episode starts", stacklevel=4)

    def sample_inputs(self, obs: Any, state: Any = None, mask: Any = None) -> tuple[Any, int]:
        """Return a Sequence of observations (n, ...), one step, or (T, n, ...), and the number of its rows.

        `state` (n, 2 * n_lstm) is that before the first step, `mask` (n,) or (T, n) is True where episodes
        start.
        """
        lead = leading_axes(self.observation_space, obs)
        if 0 in lead:
            raise ValueError(NO_OBSERVATION)
        if len(lead) < 2:
            x, _ = self.observe(obs)
            seq = self._sequence(x[None], state, None if mask is None else np.reshape(mask, (1, -1)))
        else:
            x, _ = self.observe(merge_axes(obs))
            seq = self._sequence(x.reshape(*lead, *x.shape[1:]), state, mask)
        return seq, seq.starts.size

    def _sequence(self, x, state, mask) -> Sequence:
        """Check what came with observations x (T, n, ...); nothing given means nothing remembered and no
        start."""
        steps, n = x.shape[:2]
        if state is None:
            state = np.zeros((n, self.state_width), self.dtype)
        elif np.shape(state) != (n, self.state_width):
            raise ValueError(f"the state has shape {np.shape(state)}; {n} observation{'s' * (n != 1)} and "
                             f"n_lstm={self.n_lstm} need ({n}, {self.state_width})")
        starts = np.zeros((steps, n), bool) if mask is None else np.asarray(mask)
        if starts.shape != (steps, n):
            needed, given = f"({steps}, {n})", str(starts.shape)
            if steps == 1:
                needed, given = f"({n},)", f"({starts.size},)"
            raise ValueError(f"the mask has shape {given}; one for each observation, {needed}, is needed")
        state = _numbers(state, "state").astype(self.dtype)
        if not np.isfinite(state).all():
            raise ValueError("the state holds numbers that are not finite")
        if starts.dtype != bool and np.isnan(_numbers(starts, "mask")).any():
            raise ValueError("the mask holds nan; True where an episode starts, else False, is needed")
        return Sequence(x, starts.astype(bool), state)


def _numbers(given: Any, name: str) -> np.ndarray:
    """Return what is given as an array; raise ValueError unless it holds real numbers."""
    array = np.asarray(given)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"the {name} has type {array.dtype}; real numbers are needed")
    return array


class MlpLstmPolicy(RecurrentPolicy):
    """Fully connected layers and an LSTM behind them, 64-64 tanh and 256 cells by default."""


class MlpLnLstmPolicy(RecurrentPolicy):
    """Fully connected layers and a layer-norm LSTM behind them, 64-64 tanh and 256 cells by default."""

    layer_norm = True


def parse_recurrent_arch(net_arch, layers, default) -> tuple[list, list, list, list]:
    """Return the widths before the LSTM and after it, and those that policy and critic alone have."""
    if net_arch is not None and layers is not None:
        raise ValueError("give net_arch or layers, not both")
    if net_arch is None:
        net_arch = [*listed(default if layers is None else layers, "layers"), "lstm"]
    items = listed(net_arch, "net_arch")
    at = [i for i, item in enumerate(items) if isinstance(item, str) and item == "lstm"]
    if len(at) != 1:
        raise ValueError(f"net_arch is {net_arch!r}; a recurrent policy needs \"lstm\" in it once, such as "
                         '[64, "lstm", dict(pi=[32], vf=[32])]')
    before = parse_net_arch([*net_arch[:at[0]], {}], None)[0]
    return before, *parse_net_arch(list(net_arch[at[0] + 1:]), None)


def leading_axes(space: spaces.Space, obs: Any) -> tuple:
    """Return the axes that observations have before those of their space."""
    while isinstance(space, spaces.Fields):
        obs, space = obs[space.keys[0]], space.spaces[0]
    return np.shape(obs)[:np.ndim(obs) - len(space.shape)]


def merge_axes(obs: Any) -> Any:
    """Make one of the first two axes of observations."""
    if isinstance(obs, dict):
        return {key: merge_axes(value) for key, value in obs.items()}
    if isinstance(obs, tuple):
        return tuple(map(merge_axes, obs))
    return np.reshape(obs, (-1, *np.shape(obs)[2:]))
