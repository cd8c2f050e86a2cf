"""The ops of steps.py in NumPy: rows are samples, x (n, ...) comes first, then what belongs to a step.

script.py copies this file's functions into what it writes, so it imports NumPy only.
"""

import numpy as np


def onehot(x, sizes, starts):
    x = x.reshape(len(x), -1)
    if (np.rint(x) != x).any():
        raise ValueError(f"the observation holds a number that is no integer: {x.tolist()}")
    index = x.astype(int) - starts
    if not ((index >= 0) & (index < sizes)).all():
        raise ValueError(f"the observation holds an integer outside its space: {x.tolist()}")
    return np.concatenate([np.eye(n, dtype=np.float32)[i] for n, i in zip(sizes, index.T)], 1)


def image(x, axes):
    return x.transpose(0, *(axis + 1 for axis in axes))


def scale(x, shift=None, factor=None, clip=None, precise=False):
    x = x.astype(np.float64) if precise else x if x.dtype.kind == "f" else x.astype(np.float32)
    if shift is not None:
        x = x.reshape(len(x), *shift.shape) - shift.astype(x.dtype)
    x = x.astype(np.float32) if factor is None else x.astype(np.float32) * factor
    return x if clip is None else np.clip(x, np.float32(-clip), np.float32(clip))


def concat(*rows):
    return np.concatenate(rows, 1)


def flatten(x):
    return x.reshape(len(x), -1)


def dense(x, w, b):
    return x @ w + b


def conv(x, w, b, stride, before, padded):
    (top, left), (h, width), (down, across) = before, padded, stride
    full = np.zeros((len(x), h, width, x.shape[3]), np.float32)
    full[:, top:top + x.shape[1], left:left + x.shape[2]] = x
    cut = np.lib.stride_tricks.sliding_window_view(full, w.shape[:2], (1, 2))[:, ::down, ::across]
    return np.tensordot(cut, w, ((4, 5, 3), (0, 1, 2))) + b


def tanh(x):
    return np.tanh(x)


def relu(x):
    return np.maximum(x, 0)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def sigmoid(x):
    return 0.5 * np.tanh(0.5 * x) + 0.5


def standardize(x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-5))


def lstm(x, memory, wx, wh, b, gx=None, gh=None, gc=None, bc=None):
    """Return the output and the memory [c, h] (n, 2 cells) after x; the gates are i, f, o, g."""
    c, h = np.split(memory, 2, 1)
    if gx is None:
        z = x @ wx + h @ wh + b
    else:
        z = standardize(x @ wx) * gx + standardize(h @ wh) * gh + b
    i, f, o, g = np.split(z, 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c if gc is None else standardize(c) * gc + bc)
    return h, np.concatenate([c, h], 1)


def noise(action, outputs, rng):
    """Draw what makes a draw of the likeliest action, if added to the outputs."""
    if action["kind"] == "Box":
        return action["std"] * rng.standard_normal(outputs.shape)
    if action["kind"] == "MultiBinary":
        return rng.logistic(size=outputs.shape)
    return -np.log(rng.standard_exponential(outputs.shape))


def act(action, outputs):
    """Return the likeliest actions (n, m), flat, of outputs (n, k)."""
    if action["kind"] == "Box":
        x = np.minimum(np.maximum(outputs, action["low"]), action["high"])
        return np.rint(x) if action["integer"] else x
    if action["kind"] == "MultiBinary":
        return (outputs > 0).astype(np.int64)
    ends = np.cumsum(action["nvec"])
    parts = [outputs[:, end - n:end].argmax(-1) for n, end in zip(action["nvec"], ends)]
    return np.stack(parts, 1) + np.array(action["start"])
