"""Policies to export, and how far what was exported differs from `predict`."""

import numpy as np
from gymnasium import spaces
from toys import ACTIONS, OBS, Samples

from trpo_np import TRPO, nn, ops
from trpo_np.deploy import samples
from trpo_np.policies import NAMES

IMAGE = spaces.Box(0, 255, (2, 20, 24), np.uint8)
FIELDS = spaces.Dict({
    "speed": spaces.Box(-1, 1, (2, 3), np.float32), "gear": spaces.Discrete(4, start=1),
    "inner": spaces.Dict({"bits": spaces.MultiBinary(2),
                          "codes": spaces.MultiDiscrete([2, 3], start=[1, 0])})})
MIXED = spaces.Dict({"camera": IMAGE, "gear": spaces.Discrete(4, start=1),
                     "colour": spaces.Box(0, 1, (24, 20, 3), np.float32)})
SAME = nn.serial(nn.conv("a", 4, (3, 2), (2, 1), padding="same"), nn.elementwise(ops.elu),
                   nn.conv("b", 3, 3, 2, padding="same", relu=True))
KINDS = ACTIONS | {"integers": spaces.Box(-3, 5, (2, 2), np.int32)}
CASES = [(name, kind) for name in NAMES for kind in ACTIONS]


def model_of(name, kind="Box", obs=None, env_id=None, **kwargs):
    """Make a model with outputs as large as trained ones, and with statistics other than those of a start."""
    pixels = name.startswith("Cnn")
    obs = obs or (IMAGE if pixels else OBS)
    if pixels:
        kwargs = {"cnn_extractor": "cnn_small"} | kwargs
    if "Lstm" in name:
        kwargs = {"n_lstm": 16} | kwargs
    normalize = not (pixels and isinstance(obs, spaces.Dict))
    env = Samples(obs, KINDS[kind])
    model = TRPO(name, env, seed=1, normalize_observations=normalize, policy_kwargs=kwargs)
    model.env_id = env_id
    policy, rng = model.policy, np.random.default_rng(3)
    for weight in policy.params:
        if weight.endswith(("/gh", "/wh")):  # else an untrained network is chaotic: rounding errors grow
            policy.params[weight][...] *= 0.5
        elif weight.endswith("/w"):
            policy.params[weight][...] *= 100 if weight == "pi/out/w" else 1.3
        elif weight != "pi/out/b" and not weight.endswith("log_std"):
            policy.params[weight][...] += rng.normal(0, 0.1, policy.params[weight].shape)
    if normalize:
        arrays = policy.normalizer.arrays()
        moments = {key: rng.uniform(1, 3, np.shape(array)) for key, array in arrays.items()}
        moments["count"] = np.array(2.0)
        if pixels:
            moments["mean"] *= 40
        policy.normalizer.restore(moments)
    return model


FAR = spaces.Dict({"price": spaces.Box(-np.inf, np.inf, (2,)), "gear": spaces.Discrete(3),
                   "second": spaces.Box(0, 2**62, (1,), np.int64),
                   "level": spaces.Box(-np.inf, np.inf, (2,), np.float64)})


def far_model():
    """Make a model whose observations lie far from 0 beside their spread, and so need float64."""
    model = model_of("MlpPolicy", obs=FAR)
    normalizer = model.policy.normalizer
    mean, std = normalizer.moments.mean.copy(), normalizer.moments.std.copy()
    mean += [0, 0, 0, 1e6, 1e6, 0, 0, 1.7e9]  # of gear, level, price, second
    count = np.array(100.0)
    normalizer.restore({"count": count, "mean": mean, "m2": count * std ** 2})
    return model


def observations(program, policy, n):
    """Return flattened observations (n, size); of images more quickly than samples.draw."""
    if policy.reads_pixels and len(program.fields) == 1:
        return np.random.default_rng(5).integers(0, 256, (n, program.size)).astype(np.float32)
    rows = samples.draw(program, policy, n, seed=5)
    if len(program.fields) == 1:
        rows[::5] *= 100  # so large that their normalised numbers are clipped
    return rows


def many(name):
    """Return how many observations the slow tests take: of a policy with memory a sequence."""
    return 2000 if "Lstm" in name else 10_000


def starts_of(n):
    """Return where the episodes of a sequence of n steps start."""
    starts = np.random.default_rng(6).random(n) < 0.02
    starts[0] = True
    return starts


def predicted(program, policy, rows, starts):
    """Return the outputs and the flat actions of a policy, in one batch, or in turn if it remembers."""
    n = len(rows)
    if not program.memory:
        obs = samples.nested(policy, program, rows)
        actions = policy.predict(obs, deterministic=True)[0]
        return policy.dist.location(policy.distribution(obs)[0]), np.reshape(actions, (n, -1))
    outputs, actions, state = [], [], None
    for row, start in zip(rows, starts):
        obs, mask = samples.nested(policy, program, row[None]), np.array([start])
        outputs.append(policy.dist.location(policy.distribution(obs, state, mask)[0])[0])
        action, state = policy.predict(obs, state, mask, deterministic=True)
        actions.append(np.ravel(action))
    return np.stack(outputs), np.stack(actions)


def difference(policy, ours, theirs):
    """Return the largest difference of outputs and actions, each a pair; discrete ones must agree, except
    where outputs of ours are within 1e-6 of a tie."""
    (outputs, actions), (their_outputs, their_actions) = ours, theirs
    scale = 1 + np.abs(outputs)
    worst = np.max(np.abs(their_outputs - outputs) / scale)
    if type(policy.dist).__name__ == "DiagGaussian" and policy.action_space.dtype == "float32":
        return max(worst, np.max(np.abs(their_actions - actions)))
    for row in np.flatnonzero((actions != their_actions).any(1)):
        x = np.sort(outputs[row])
        gaps = [np.diff(np.sort(part)).min() for part in _parts(policy, outputs[row])]
        assert min(gaps) < 1e-6 * (1 + np.abs(x).max()), f"row {row}: {actions[row]}, {their_actions[row]}"
    return worst


def _parts(policy, x):
    if hasattr(policy.dist, "slices"):
        return [x[some] for some in policy.dist.slices]
    if type(policy.dist).__name__ == "Bernoulli":
        return [np.array([0, value]) for value in x]
    if type(policy.dist).__name__ == "DiagGaussian":  # integers: how near to a half
        return [np.array([0, value - np.floor(value) - 0.5]) for value in x]
    return [x]
