"""Acting with standard networks, fast: compiled for a rollout, and in few calls of NumPy for one observation.

A policy that computes a standard network says so (see promises.py) and describes it here by arrays, widths
and a distribution; no Policy comes into this file. What is not standard, or not compiled, is composed in the
policies.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy import tanh

from .. import ops, spaces
from ..kernels import act, blas, mlp
from ..kernels.compile import compile_all
from ..kernels.lstm import H, gate_weights, norm_weights, run, run_ln, standardize
from ..kernels.malloc import keep_freed
from ..params import Params
from ..promises import declared


def warm_up(files: set[str]) -> None:
    """Compile the kernels of these files of kernels/, or load them; keep freed memory for the next array."""
    compile_all(files)
    keep_freed()


# --- networks as arrays -------------------------------------------------------------------------------------

class TanhNetwork(NamedTuple):
    """Dense layers in float32 with tanh between them, on clip((x - scale[0]) * scale[1])."""

    flat: np.ndarray  # each layer's matrix (n, m) and bias (m,), one after the other
    widths: np.ndarray  # of the inputs, the hidden layers and the outputs
    scale: np.ndarray  # (2, inputs), in the type of x
    clip: np.floating  # of the same type


def widths_of(dense: Sequence | None, params: Params) -> np.ndarray | None:
    """Return the widths of layers that `nn.Layer.dense` lists, if they are dense tanh layers, the last
    without; or None.

    The parameters must be float32 and begin with the layers', in their order.
    """
    if params.flat.dtype != np.float32 or not dense or not _is_tanh_network(dense):
        return None
    names = [name for w, b, _ in dense for name in (w, b)]
    if names != list(params)[:len(names)]:
        return None
    return np.array([len(params[names[0]]), *(params[b].size for b in names[1::2])])


def _is_tanh_network(dense: Sequence) -> bool:
    *hidden, (*_, last) = dense
    return last is None and all(fun is ops.tanh for *_, fun in hidden)


def tanh_network(dense: Sequence | None, params: Params, normalizer: Any) -> TanhNetwork | None:
    """Describe layers behind a normaliser, or return None if they are no tanh network; `flat` is a view of
    the parameters."""
    if (widths := widths_of(dense, params)) is None or not declared(normalizer, "affine"):
        return None
    size = int(np.sum((widths[:-1] + 1) * widths[1:]))
    scale = np.concatenate([normalizer.shift, normalizer.factor])
    return TanhNetwork(params.flat[:size], widths, scale, normalizer.clip)


def value_loss(flat: np.ndarray, widths: np.ndarray, x, goal, weights) -> np.ndarray | None:
    """Return the gradient of sum(weights * (V(x) - goal)^2), that sum and sum(weights), as
    Policy.critic_loss; or None."""
    return mlp.loss(flat, widths, x, goal, weights, blas.small()) if mlp.loss.is_compiled else None


# --- one observation ----------------------------------------------------------------------------------------

class Row:
    """A tanh network on one observation, in as few calls of NumPy as possible: a third of the time of
    composing it.

    A row ends with a 1, so that a layer's matrix and bias, side by side in `flat`, are one matrix. These are
    views: what is written into `flat` counts at once. Each call takes rows of its own to work in, since
    threads may call at the same time.
    """

    def __init__(self, network: TanhNetwork, normalize: Callable | None):
        self.widths, self.normalize, self.layers, at = [int(n) for n in network.widths], normalize, [], 0
        self.idle: list = []
        self.precision = network.scale.dtype
        for n, m in zip(self.widths, self.widths[1:]):
            self.layers.append(network.flat[at:at + (n + 1) * m].reshape(n + 1, m))
            at += (n + 1) * m

    def _rows(self):
        rows = [np.ones((1, n + 1), np.float32) for n in self.widths[:-1]]
        first, hidden = rows[0][0], [(x, w, y[:, :-1]) for x, w, y in zip(rows, self.layers, rows[1:])]
        raw = np.empty(self.widths[0], self.precision)
        return raw, first, first[:-1], hidden, rows[-1], self.layers[-1]

    def outputs(self, x: np.ndarray, normalize: bool) -> np.ndarray | None:
        """Return the outputs (1, k) for x (n,), to be normalised or not; None if x is not finite, or its
        square is not."""
        try:
            rows = self.idle.pop()
        except IndexError:
            rows = self._rows()
        raw, first, given, hidden, last, weights = rows
        if normalize and self.normalize is not None:
            raw[...] = x
            if not isfinite(raw.dot(raw)):
                return None
            given[...] = self.normalize(raw[None])[0]
        else:
            given[...] = x
            if not isfinite(first.dot(first)):
                return None
        for x, w, y in hidden:
            x.dot(w, y)
            tanh(y, y)
        out = last.dot(weights)
        self.idle.append(rows)
        return out


# --- a rollout ----------------------------------------------------------------------------------------------

class Drawing(NamedTuple):
    """Actions of a rollout of T steps and n environments, drawn by `act.draw`."""

    arguments: tuple  # its last ones: noise, bounds, drawn, largest; of T steps, or of one, which serves all
    take: Callable  # t -> the environment's actions at step t
    actions: np.ndarray  # (T, n, ...), all raw actions

    @property
    def many(self) -> bool:
        """Whether `arguments` are of all steps."""
        return len(self.arguments[0]) > 1


def drawing(dist, own: Mapping, noise: np.ndarray, bounds: np.ndarray | None,
            to_env: Callable | None) -> Drawing:
    """Prepare draws with noise (T, n, k) of a distribution with its own weights.

    `bounds` (2, k), if given, are those of the environment's actions, and clip the draws; else `to_env`, if
    given, turns raw actions into the environment's.
    """
    steps, n, _ = noise.shape
    k, additive = dist.outputs, declared(dist, "additive")
    shift = dist.spread(own) * noise if additive else np.zeros((1, n, k), np.float32)
    drawn, largest = np.empty((2, *shift.shape), np.float32), np.empty(shift.shape[:2], np.int64)
    arguments = shift, act.unbounded(k) if bounds is None else bounds, drawn, largest
    if additive == "reshape":
        actions, clipped = drawn.reshape(2, steps, n, *dist.action_shape)
        if bounds is not None:
            return Drawing(arguments, clipped.__getitem__, actions)
    elif additive == "largest":
        actions = largest
    else:
        actions = np.empty((steps, n, *dist.action_shape), dist.action_dtype or np.float32)

        def settle(t):
            if additive:
                return dist.settle(drawn[0, t])
            return dist.sample(dist.parameters(drawn[0, 0], own), noise[t])

        def take(t):
            actions[t] = raw = settle(t)
            return raw if to_env is None else to_env(raw)
        return Drawing(arguments, take, actions)
    if to_env is None:
        return Drawing(arguments, actions.__getitem__, actions)
    return Drawing(arguments, lambda t: to_env(actions[t]), actions)


def actor(network: TanhNetwork, draws: Drawing, dtype: np.dtype) -> Callable | None:
    """Return (t, observations, starts) -> the environment's actions at step t; None where nothing is
    compiled. Observations must be finite in `dtype`."""
    if not act.draw.is_compiled:
        return None
    draw, arguments, take, many = act.draw.now, (*network, *draws.arguments), draws.take, draws.many

    def step(t, obs, starts):
        if not draw(t if many else 0, obs, *arguments):
            spaces.check_finite(obs, dtype)
        return take(t)
    return step


# --- a rollout with an LSTM ---------------------------------------------------------------------------------

PLAIN_LSTM = {"wx", "wh", "b"}  # the names of the weights of nn.lstm
LN_LSTM = PLAIN_LSTM | {"gx", "bx", "gh", "bh", "gc", "bc"}


class RecurrentNetwork(NamedTuple):
    """Dense tanh layers around an LSTM; float32."""

    before: TanhNetwork  # from the observations into the LSTM: the product with its inputs is the last layer
    lstm: Mapping  # the LSTM's weights by their names
    after: TanhNetwork  # from its outputs on


def recurrent_network(front: Sequence | None, lstm: Mapping, back: Sequence | None, params: Params,
                      normalizer: Any) -> RecurrentNetwork | None:
    """Describe dense tanh layers (see `nn.Layer.dense`) around an LSTM, or return None if they are none."""
    if front is None or not back or params.flat.dtype != np.float32 or not declared(normalizer, "affine"):
        return None
    if not _is_tanh_network([*front, *back]) or lstm.keys() not in (PLAIN_LSTM, LN_LSTM):
        return None
    cells, into = lstm["wh"].shape
    layers = [(params[w], params[b]) for w, b, _ in front]
    bias = lstm["b"] if "gx" not in lstm else np.zeros(into, np.float32)  # layer norm comes before the biases
    scale = np.concatenate([normalizer.shift, normalizer.factor])
    unscaled = np.repeat(np.array([[0], [1]], np.float32), cells, axis=1)
    return RecurrentNetwork(_of_arrays([*layers, (lstm["wx"], bias)], scale, normalizer.clip), lstm,
                            _of_arrays([(params[w], params[b]) for w, b, _ in back], unscaled,
                                        np.float32("inf")))


def _of_arrays(layers: list, scale: np.ndarray, clip: np.float32) -> TanhNetwork:
    flat = np.concatenate([array.ravel() for layer in layers for array in layer])
    return TanhNetwork(flat, np.array([len(layers[0][0]), *(b.size for _, b in layers)]), scale, clip)


def recurrent_actor(network: RecurrentNetwork, draws: Drawing, n: int, dtype: np.dtype) -> Callable | None:
    """Return (t, observations, starts, state) -> (what n environments take at step t, state); None if nothing
    is compiled. Observations must be finite in `dtype`."""
    if not act.draw.is_compiled:
        return None
    draw, lstm = act.draw.now, network.lstm
    cells, into = lstm["wh"].shape
    # the inputs' part is drawn as that of the only step, without noise or bounds
    inner = np.zeros((2, 1, n, into), np.float32)
    plain = np.zeros((1, n, into), np.float32), act.unbounded(into), inner, np.zeros((1, n), np.int64)
    before, after = (*network.before, *plain), (*network.after, *draws.arguments)
    weights, xw, z = gate_weights(lstm["wh"]), inner[0, 0], inner[0].reshape(1, n, 4, cells)
    if layer_norm := "gx" in lstm:
        norm = norm_weights(lstm["gh"], lstm["gc"], lstm["bc"])
        gain, shift = lstm["gx"], lstm["bx"] + lstm["bh"] + lstm["b"]
    run_now, run_ln_now = run.now, run_ln.now

    def step(t, obs, starts, state):
        if not draw(0, obs, *before):
            spaces.check_finite(obs, dtype)
        if layer_norm:
            normed = (standardize(xw)[0] * gain + shift).reshape(1, n, 4, cells)
            state = run_ln_now(normed, starts[None], state, *weights, norm, False)[0]
        else:
            state = run_now(z, starts[None], state, *weights, False)[0]
        draw(t if draws.many else 0, np.ascontiguousarray(state[:, H]), *after)
        return draws.take(t), state.reshape(n, 2 * cells)
    return step
