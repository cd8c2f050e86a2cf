"""Slow and obvious versions of what the package does fast, and ranks without MPI."""

import threading

import numpy as np

from trpo_np import ops
from trpo_np.comm import OneProcess

# --- sums over time -----------------------------------------------------------------------------------------

def discounted_sum(delta, cut, decay):
    """out[t] = sum over k >= t of decay^(k - t) delta[k], up to the first cut at or after t. O(T^2)."""
    out = np.zeros(np.shape(delta))
    steps, n = out.shape
    for i in range(n):
        for t in range(steps):
            weight = 1.0
            for k in range(t, steps):
                out[t, i] += weight * delta[k, i]
                weight *= decay * (1 - cut[k, i])
    return out


def gae(rewards, values, last_value, final_values, terminated, truncated, gamma, lam):
    """Generalised advantages as they are defined, A = sum (gamma lam)^l delta. O(T^2)."""
    steps, n = np.shape(rewards)
    out = np.zeros((steps, n))
    for i in range(n):
        for t in range(steps):
            for k in range(t, steps):
                if terminated[k, i]:
                    after = 0.0
                elif truncated[k, i]:
                    after = final_values[k, i]
                else:
                    after = values[k + 1, i] if k + 1 < steps else last_value[i]
                out[t, i] += (gamma * lam) ** (k - t) * (rewards[k, i] + gamma * after - values[k, i])
                if terminated[k, i] or truncated[k, i]:
                    break
    return out


def scaled_rewards(segments, gamma, clip):
    """Divide the rewards of each segment by the spread of all discounted sums so far, one number at a time.

    A segment is (rewards, done, valid), (T, n) each. The sum starts anew after an episode's end and after an
    invalid row.
    """
    running, seen, results = {}, [], []
    for rewards, done, valid in segments:
        for i in range(rewards.shape[1]):
            for t in range(len(rewards)):
                running[i] = rewards[t, i] + gamma * running.get(i, 0.0)
                if valid[t, i]:
                    seen.append(running[i])
                if done[t, i] or not valid[t, i]:
                    running[i] = 0.0
        spread = np.std(seen) or 1.0
        results.append(np.array([[min(max(r / spread, -clip), clip) for r in row] for row in rewards]))
    return results


# --- solvers ------------------------------------------------------------------------------------------------

def adam(x, gradients, stepsize, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Kingma & Ba, Algorithm 1, in float64; epsilon as at the end of section 2, and in stable-baselines."""
    x = [float(v) for v in x]
    m, v = [0.0] * len(x), [0.0] * len(x)
    for t, g in enumerate(gradients, 1):
        rate = stepsize * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
        for i in range(len(x)):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            x[i] -= rate * m[i] / (v[i] ** 0.5 + epsilon)
    return np.array(x)


def value_loss(values, goal, weights):
    """The loss of which Policy.critic_loss returns the gradient; differentiable in the values."""
    return ops.sum(weights * ops.square(values - goal))


# --- memory -------------------------------------------------------------------------------------------------

def lstm(x, starts, state, wx, wh, b):
    """The LSTM of the textbook, step by step, composed of ops; gates in the order i, f, o, g."""
    return _lstm(starts, state, [x[t] @ wx for t in range(len(starts))], lambda h: h @ wh + b, lambda c: c)


def lnlstm(x, starts, state, wx, gx, bx, wh, gh, bh, b, gc, bc):
    """The layer-norm LSTM, as stable-baselines composes it."""
    return _lstm(starts, state, [_norm(x[t] @ wx, gx, bx) for t in range(len(starts))],
                 lambda h: _norm(h @ wh, gh, bh) + b, lambda c: _norm(c, gc, bc))


def _lstm(starts, state, inputs, remembered, normed):
    size = state.shape[1] // 2
    c, h, outputs = state[:, :size], state[:, size:], []
    for start, x in zip(starts, inputs):
        c, h = ops.where(start[:, None], 0.0, c), ops.where(start[:, None], 0.0, h)
        z = x + remembered(h)
        i, f, o = (ops.sigmoid(z[:, k * size:(k + 1) * size]) for k in range(3))
        c = f * c + i * ops.tanh(z[:, 3 * size:])
        h = o * ops.tanh(normed(c))
        outputs.append(h)
    return ops.stack(outputs)


def _norm(x, gain, bias):
    centred = x - ops.mean(x, -1, keepdims=True)
    return centred / ops.sqrt(ops.var(x, -1, keepdims=True) + 1e-5) * gain + bias


# --- codes --------------------------------------------------------------------------------------------------

def one_hot(x, nvec):
    """Code of one array of integers, a position at a time."""
    code = []
    for value, n in zip(np.ravel(x), np.ravel(nvec)):
        code += [1.0 if k == value else 0.0 for k in range(n)]
    return np.array(code)


# --- convolution --------------------------------------------------------------------------------------------

def conv2d(x, w, b, stride=(1, 1), padding="valid"):
    """Convolution of channels-last images, one product of numbers at a time; bytes count as x / 255."""
    (n, height, width, c_in), (kh, kw, _, c_out) = x.shape, w.shape
    x = x / 255 if x.dtype == np.uint8 else x
    before, out = [0, 0], [(height - kh) // stride[0] + 1, (width - kw) // stride[1] + 1]
    if padding == "same":
        out = [-(-size // s) for size, s in zip((height, width), stride)]
        before = [max((o - 1) * s + k - size, 0) // 2
                  for o, s, k, size in zip(out, stride, (kh, kw), (height, width))]
    y = np.zeros((n, *out, c_out))
    for i in range(n):
        for row in range(out[0]):
            for column in range(out[1]):
                for o in range(c_out):
                    total = b[o]
                    for k in range(kh):
                        for l in range(kw):
                            at = row * stride[0] + k - before[0], column * stride[1] + l - before[1]
                            if 0 <= at[0] < height and 0 <= at[1] < width:
                                for c in range(c_in):
                                    total += x[i, at[0], at[1], c] * w[k, l, c, o]
                    y[i, row, column, o] = total
    return y


# --- ranks --------------------------------------------------------------------------------------------------

class ThreadRank(OneProcess):
    """One of several ranks that are threads of this process; collectives wait for all, as MPI's do."""

    def __init__(self, rank, size, barrier, slots):
        self.rank, self.size, self._barrier, self._slots = rank, size, barrier, slots

    def gather(self, x):
        self._barrier.wait()
        self._slots[self.rank] = x
        self._barrier.wait()
        return list(self._slots)

    def sum(self, x):
        return sum(np.array(y) for y in self.gather(x))

    def bcast(self, x):
        return self.gather(x)[0]

    def align(self, x):
        x[:] = self.bcast(x.copy())


def on_ranks(size, fun):
    """Run `fun(comm)` on `size` ranks at once; return the list of results, or raise what a rank raised."""
    barrier, slots = threading.Barrier(size, timeout=20), [None] * size
    results, errors = [None] * size, []

    def run(rank):
        try:
            results[rank] = fun(ThreadRank(rank, size, barrier, slots))
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((e for e in errors if not isinstance(e, threading.BrokenBarrierError)), errors[0])
    return results
