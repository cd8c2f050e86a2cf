"""Policies for images: how an image is read, exact Fisher products, frames stored once, files."""

from types import SimpleNamespace

import numpy as np
import pytest
from checks import hessian
from gymnasium import spaces as gym
from toys import Moving

from trpo_np import TRPO, load_policy, nn, ops, spaces
from trpo_np.comm import OneProcess
from trpo_np.files.model import write_model
from trpo_np.normalize import MeanImage
from trpo_np.policies import CnnPolicy, Policy
from trpo_np.policies import images as cnn
from trpo_np.policies.frames import Frames, Recorder
from trpo_np.rollout import Runner
from trpo_np.trust_region import fisher_operator
from trpo_np.update import fit

FOUR = gym.Discrete(4)


def box(*shape, dtype=np.uint8, high=255):
    return gym.Box(0, high, shape, dtype)


def image(*shape, channels=None, **kwargs):
    return spaces.as_image(spaces.describe(box(*shape, **kwargs)), channels)


# --- how an image is read -----------------------------------------------------------------------------------

@pytest.mark.parametrize("shape, channels, rows, to_rows", [
    ((4, 9, 8), None, (9, 8, 4), lambda x: x.transpose(0, 2, 3, 1)),
    ((9, 8, 3), None, (9, 8, 3), lambda x: x),
    ((4, 9, 8, 1), None, (9, 8, 4), lambda x: x[..., 0].transpose(0, 2, 3, 1)),
    ((9, 8), None, (9, 8, 1), lambda x: x[..., None]),
    ((2, 9, 8, 3), None, (9, 8, 6), lambda x: x.transpose(0, 2, 3, 1, 4).reshape(-1, 9, 8, 6)),
    ((2, 3, 9, 8), None, (9, 8, 6), lambda x: x.reshape(-1, 6, 9, 8).transpose(0, 2, 3, 1)),
    ((8, 8, 8), "first", (8, 8, 8), lambda x: x.transpose(0, 2, 3, 1)),
    ((8, 8, 8), "last", (8, 8, 8), lambda x: x),
])
def test_the_layout_is_recognised(shape, channels, rows, to_rows, rng):
    space = image(*shape, channels=channels)
    x = rng.integers(0, 256, (5, *shape), dtype=np.uint8)
    got = space.encode(x, 5)
    assert space.rows == rows and space.width == np.prod(rows) and got.dtype == np.uint8 and space.is_bytes
    np.testing.assert_array_equal(got, to_rows(x))
    np.testing.assert_array_equal(space.encode(x[0], 1), to_rows(x[:1]))
    assert not np.shares_memory(got, x)
    assert space.to_json() == spaces.describe(box(*shape)).to_json()  # files keep the environment's space


@pytest.mark.parametrize("shape", [(8, 8, 8), (3, 8, 3), (84, 84, 84), (4, 8, 8, 8)])
def test_an_ambiguous_shape_asks(shape):
    with pytest.raises(ValueError, match="can have its channels first or last; say which") as error:
        image(*shape)
    assert 'policy_kwargs=dict(channels="first")' in str(error.value)


@pytest.mark.parametrize("space, message", [
    (box(7), r"has shape \(7,\); an image"),
    (gym.Box(-1, 1, (8, 8, 3)), "bounds are -1 and 1; an image holds numbers from 0"),
    (box(8, 8, 3, dtype=np.float32, high=256), "bounds are 0 and 256"),
    (FOUR, "a network for images needs some"),
    (gym.Dict(a=box(3), b=FOUR), "a network for images needs some"),
])
def test_what_is_no_image(space, message):
    with pytest.raises(ValueError, match=message):
        CnnPolicy(space, FOUR)


@pytest.mark.parametrize("high", [1, 255])
def test_images_of_floats(high, rng):
    space = image(9, 8, 3, dtype=np.float32, high=high)
    x = rng.uniform(0, high, (2, 9, 8, 3)).astype(np.float32)
    got = space.encode(x, 2)
    assert got.dtype == np.float32 and not space.is_bytes
    np.testing.assert_allclose(got, x / high, rtol=1e-6)
    message = f"the image holds numbers from .* to .*; its space declares 0 to {high}"
    for wrong in (-0.1, high + 1, np.nan):
        x[1, 2, 3, 0] = wrong
        with pytest.raises(ValueError, match=message):
            space.encode(x, 2)


# --- networks -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, shape, width, matrices, total", [
    ("nature_cnn", (84, 84, 4), 512, [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (3136, 512)], 1684128),
    ("cnn_small", (84, 84, 4), 128, [(8, 8, 4, 8), (4, 4, 8, 16), (1296, 128)], 170136),
    ("trpo_cnn", (52, 40, 4), 20, [(4, 4, 4, 16), (4, 4, 16, 16), (1408, 20)], 33332),
])
def test_networks_by_name(name, shape, width, matrices, total):
    out, weights = cnn.network(name).init(shape)
    assert out == (width,)
    assert [weight.shape for key, weight in weights.items() if key.endswith("/w")] == matrices
    assert sum(np.prod(weight.shape) for weight in weights.values()) == total


def test_the_papers_number_of_parameters():
    """The paper counts 33,500 (Schulman et al. 2015, appendix D).

    Its frames are a quarter of the screen in height and width; a factored action has 8 logits.
    """
    policy = CnnPolicy(box(4, 52, 40), gym.MultiDiscrete([3, 3, 2]), cnn_extractor="trpo_cnn")
    assert sum(np.prod(w.shape) for w in policy.policy_weights.values()) == 33500


@pytest.mark.parametrize("name, least", [("nature_cnn", 36), ("cnn_small", 20), ("trpo_cnn", 10)])
def test_an_image_too_small_is_told_what_the_network_needs(name, least):
    assert CnnPolicy(box(least, least, 3), FOUR, cnn_extractor=name)
    for image in (box(least - 1, least, 3), gym.Dict(a=box(3, 90, least - 1), b=FOUR)):
        with pytest.raises(ValueError, match=f"too small for cnn_extractor='{name}', which needs {least} x"):
            CnnPolicy(image, FOUR, cnn_extractor=name)
        with pytest.raises(ValueError, match=f"which needs {least} x {least}: enlarge it, as by gymnasium.w"):
            cnn.CnnLstmPolicy(image, FOUR, cnn_extractor=name)


@pytest.mark.parametrize("size, layer", [(8, "conv1"), (7, "conv0"), (34, "conv2")])
def test_a_network_of_ones_own_names_the_layer_that_an_image_is_too_small_for(size, layer):
    with pytest.raises(ValueError, match=f"layer {layer}: windows of . x . do not fit an image of"):
        CnnPolicy(box(size, size, 3), FOUR, cnn_extractor=cnn.network("nature_cnn"))


def test_a_misspelt_network_gets_the_nearest_name():
    message = "cnn_extractor is 'nature'; it can be 'nature_cnn', .*did you mean 'nature_cnn'?"
    with pytest.raises(ValueError, match=message):
        CnnPolicy(box(84, 84, 3), FOUR, cnn_extractor="nature")
    with pytest.raises(ValueError, match="cnn_extractor is 3; a name, an nn.Layer or a function"):
        CnnPolicy(box(84, 84, 3), FOUR, cnn_extractor=3)


def test_images_in_a_dict_are_not_normalised():
    space = gym.Dict(image=box(36, 36, 3), speed=gym.Box(-1, 1, (2,)))
    with pytest.raises(ValueError, match="not normalised; normalize_observations=False is needed"):
        CnnPolicy(space, FOUR, normalize=True)


# --- the mean image -----------------------------------------------------------------------------------------

def centred_policy(rng, dtype="float32", kind="bytes", **options):
    """Return a policy that has seen 300 images, and their mean on a scale from 0 to 1."""
    shape = (36, 36, 3)
    space = box(*shape) if kind == "bytes" else gym.Box(0, 1, shape)
    policy = CnnPolicy(space, FOUR, normalize=True, dtype=dtype, **options).draw(rng)
    many = (300, *shape)
    seen = rng.integers(0, 256, many, dtype=np.uint8) if kind == "bytes" else rng.random(many)
    policy.normalizer.merge(policy.observe(seen)[0], OneProcess())
    policy.normalizer.merge(policy.observe(seen[:9])[0], OneProcess())  # only the first batch counts
    return policy, seen.mean(0) / (255 if kind == "bytes" else 1)


@pytest.mark.parametrize("kind", ["bytes", "floats"])
@pytest.mark.parametrize("network", ["nature_cnn", "a function"])
def test_the_mean_image_is_subtracted(rng, kind, network):
    """A policy without normalisation gives the same numbers for images minus the mean."""
    own = {}
    if network == "a function":
        own["cnn_extractor"] = lambda x: ops.tanh(x[:, ::6, ::6].reshape(len(x), -1))
    policy, mean = centred_policy(rng, "float64", kind, **own)
    shift = policy.normalizer.shift
    assert policy.normalizer.count == 300
    np.testing.assert_allclose(shift[0], mean, rtol=0, atol=1e-7 if kind == "floats" else 1e-12)
    x, _ = policy.observe(rng.integers(0, 2, (5, 36, 36, 3)).astype(policy.observation_space.dtype))
    plain = CnnPolicy(gym.Box(0, 1, (36, 36, 3)), FOUR, dtype="float64", **own).install(policy.params)
    difference = np.asarray(x) / (255 if kind == "bytes" else 1) - shift
    rounding = 1e-12 if not own or kind == "floats" else 1e-7  # a function is given bytes / 255 in float32
    expected = plain.pi(plain.params, difference)
    np.testing.assert_allclose(policy.pi(policy.params, x), expected, rtol=0, atol=rounding)
    np.testing.assert_allclose(policy.value(x), plain.value(difference), rtol=rounding, atol=rounding)


def test_the_mean_image_is_the_same_of_stacked_frames_and_over_ranks(rng):
    class TwoRanks(OneProcess):
        """Both ranks have the same images."""

        def sum(self, x):
            return 2 * x
    images = rng.integers(0, 256, (300, 6, 6, 4), dtype=np.uint8)
    one, two = (MeanImage((6, 6, 4), True, True) for _ in range(2))
    one.merge(images, OneProcess())
    index = np.arange(1200).reshape(300, 4)
    two.merge(Frames(np.moveaxis(images, 3, 1).reshape(1200, 6, 6), index), TwoRanks())
    assert one.count == 300 and two.count == 600
    np.testing.assert_array_equal(one.shift, two.shift)


def test_the_mean_image_is_in_the_file(rng, tmp_path):
    policy, _ = centred_policy(rng)
    path = write_model(tmp_path / "model", policy, {}, policy.params.flat, policy.normalizer.arrays(), {}, {})
    images = rng.integers(0, 256, (3, 36, 36, 3), dtype=np.uint8)
    again = load_policy(path)
    np.testing.assert_array_equal(again.normalizer.shift, policy.normalizer.shift)
    np.testing.assert_array_equal(again.action_probability(images), policy.action_probability(images))


# --- exact curvature ----------------------------------------------------------------------------------------

# each network's kinds of layer, with few channels and on the smallest images that fit: the dense Hessian has
# a row for each parameter
SMALL = {
    "nature_cnn": ([(2, 8, 4), (3, 4, 2), (2, 3, 1)], 3, 36),
    "cnn_small": ([(2, 8, 4), (2, 4, 2)], 3, 20),
    "trpo_cnn": ([(2, 4, 2), (2, 4, 2)], 3, 12),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("kwargs", [
    {}, dict(share_features=True), dict(net_arch=[dict(pi=[3], vf=[])]), dict(normalize=True)], ids=str)
def test_fisher_is_the_hessian_of_the_mean_kl(name, kwargs, monkeypatch):
    convolutions, width, size = SMALL[name]
    assert [layer[1:] for layer in convolutions] == [layer[1:] for layer in cnn.NETWORKS[name][0]]
    monkeypatch.setitem(cnn.NETWORKS, name, (convolutions, width))
    rng = np.random.default_rng(0)
    observations, actions = box(size, size + 1, 1), gym.MultiDiscrete([2, 2])
    policy = CnnPolicy(observations, actions, cnn_extractor=name, dtype="float64", **kwargs)
    policy.draw(rng)
    policy.params.flat[:] += 0.1 * rng.standard_normal(policy.params.flat.shape)
    policy.params["pi/out/w"][...] *= 50
    x = rng.integers(0, 256, (3, size, size + 1, 1), dtype=np.uint8)
    policy.normalizer.merge(x, OneProcess())
    params, weights = policy.policy_params, np.array([0.2, 0.5, 0.3])
    old = policy.pi(params, x)
    v = rng.standard_normal((params.flat.size, 3))
    H = hessian(lambda p: ops.sum(policy.dist.kl(old, policy.pi(p, x)) * weights), params) @ v
    F = np.stack([fisher_operator(policy, params, x, weights, OneProcess(), 0.0)(column)
                  for column in v.T], axis=1)
    error = np.abs(F - H).max() / np.abs(H).max()
    print(f"\n{name}, {params.flat.size} parameters, {kwargs}: largest relative error {error:.1e}")
    assert error < 1e-9


# --- a segment's frames -------------------------------------------------------------------------------------

def stacks(rng, steps, n, stack, new=1, ends=0.2, shape=(3, 2)):
    """Draw observations (steps, n, h, w, c) as frame stacks give them.

    An episode begins with its first frame repeated, with random frames, or with zeros before the first.
    """
    out = np.zeros((steps, n, *shape, stack * new), np.uint8)
    for i in range(n):
        for t in range(steps):
            fresh = rng.integers(0, 256, (*shape, new), dtype=np.uint8)
            if t and rng.random() > ends:
                out[t, i] = np.concatenate([out[t - 1, i, ..., new:], fresh], axis=-1)
            else:
                zeros_before = np.pad(fresh, [(0, 0), (0, 0), (stack * new - new, 0)])
                beginnings = [np.tile(fresh, stack), rng.integers(0, 256, out[t, i].shape), zeros_before]
                out[t, i] = beginnings[rng.integers(3)]
    return out


@pytest.mark.parametrize("n, stack, new, ends", [
    (1, 4, 1, 0.2), (3, 4, 1, 0.1), (2, 2, 3, 0.2), (2, 4, 1, 1.0), (4, 3, 1, 0.0)])
def test_what_is_recorded_comes_back_bit_for_bit(n, stack, new, ends, rng):
    x = stacks(rng, 40, n, stack, new, ends)
    recorder = Recorder(40, n, x.shape[2:], new)
    for t, images in enumerate(x):
        by_planes = np.moveaxis(np.moveaxis(images, 3, 1).copy(), 1, 3)  # equal, in another memory order
        recorder[t] = images if t % 2 else by_planes
    np.testing.assert_array_equal(np.asarray(recorder), x)
    if ends < 0.5:
        assert recorder.used < x.size / 6 / (2.5 if stack == 4 else 1.2)
    mask = rng.random((40, n)) < 0.5
    rows = recorder.reshape(-1, *x.shape[2:])
    flat = x.reshape(-1, *x.shape[2:])
    for part, expected in [(recorder[mask], x[mask]), (recorder[3:9], x[3:9]), (recorder[7], x[7]),
                           (rows[::3], flat[::3]), (rows[[5, 1]], flat[[5, 1]])]:
        assert isinstance(part, Frames) and part.shape == expected.shape and len(part) == len(expected)
        np.testing.assert_array_equal(np.asarray(part), expected)


KWARGS = dict(cnn_extractor="trpo_cnn")


@pytest.mark.parametrize("layout, dtype", [("first", np.uint8), ("last", np.uint8), ("first", np.float32)])
def test_it_learns_to_see(layout, dtype, tmp_path):
    model = TRPO("CnnPolicy", Moving(layout, dtype), seed=0, timesteps_per_batch=256, gamma=0.5, max_kl=0.05,
                 policy_kwargs=KWARGS)
    model.learn(4096)
    assert np.mean([total for total, _ in list(model.recent)[-12:]]) > 18
    path = model.save(tmp_path / "m")
    obs = np.stack([Moving(layout, dtype).reset(seed=i)[0] for i in range(5)])
    actions = model.predict(obs, deterministic=True)[0]
    np.testing.assert_array_equal(load_policy(path).predict(obs, deterministic=True)[0], actions)
    assert model.predict(obs[0], deterministic=True)[0] == actions[0]
    again = TRPO.load(path, env=Moving(layout, dtype))
    again.learn(256, reset_num_timesteps=False)
    assert again.num_timesteps == 4352


def test_stored_once_or_four_times_is_the_same_training(monkeypatch):
    vectors = []
    for once in (True, False):
        if not once:
            monkeypatch.setattr(CnnPolicy, "storage", Policy.storage)
        model = TRPO("CnnPolicy", Moving(), seed=0, timesteps_per_batch=128, policy_kwargs=KWARGS).learn(512)
        vectors.append(model.policy.params.flat)
    np.testing.assert_array_equal(*vectors)


@pytest.mark.parametrize("kwargs", [{}, dict(share_features=True), dict(net_arch=[8, dict(vf=[4])])], ids=str)
def test_fitting_values_moves_no_bit_of_the_policy(kwargs):
    model = TRPO("CnnPolicy", Moving(), seed=0, policy_kwargs=KWARGS | kwargs, vf_iters=5)
    policy, x = model.policy, np.random.default_rng(0).integers(0, 256, (60, 1, 12, 11, 4), dtype=np.uint8)
    head, critic = policy.policy_params, policy.critic_params
    head_before, critic_before = head.flat.tobytes(), critic.flat.copy()
    phi_before = policy.pi(policy.params, x[:, 0]).tobytes()
    error = np.mean((policy.value(x[:, 0]) - 3) ** 2)
    seg, goals = SimpleNamespace(valid=np.ones((60, 1), bool)), np.full(60, 3.0)
    rng = np.random.default_rng(1)
    loss = fit(policy, model.adam, x, seg, goals, np.ones(60), model.settings, 0.01, rng, model.comm)
    assert head.flat.tobytes() == head_before
    assert policy.pi(policy.params, x[:, 0]).tobytes() == phi_before
    assert (critic.flat != critic_before).any() and loss < error


@pytest.mark.parametrize("n, parts", [(4, [4]), (5, [4, 1]), (8, [4, 4]), (9, [4, 4, 1])])
def test_some_images_at_a_time_give_what_all_give(n, parts):
    seen = []
    found = cnn.in_parts(lambda rows: seen.append(len(rows)) or -rows, np.arange(n), {}, most=4)
    assert seen == parts and found.tolist() == (-np.arange(n)).tolist()


def test_an_own_network_sees_numbers_from_0_to_1(rng):
    seen = []

    def extractor(x):
        seen.append((x.dtype, x.min(), x.max()))
        return ops.reshape(x, (len(x), -1))
    x = rng.integers(0, 256, (3, 4, 6, 5), dtype=np.uint8)
    by_function = CnnPolicy(box(4, 6, 5), FOUR, cnn_extractor=extractor).draw(np.random.default_rng(0))
    by_layer = CnnPolicy(box(4, 6, 5), FOUR, cnn_extractor=nn.flatten()).draw(np.random.default_rng(0))
    np.testing.assert_array_equal(by_function.action_probability(x), by_layer.action_probability(x))
    dtype, low, high = seen[-1]
    assert dtype == np.float32 and 0 <= low < 0.1 and 0.9 < high <= 1
    with pytest.raises(ValueError, match="takes its network as cnn_extractor"):
        CnnPolicy(box(4, 6, 5), FOUR, extractor=extractor)


@pytest.mark.parametrize("kind", [gym.Dict, gym.Tuple])
def test_images_beside_other_things(kind, tmp_path):
    class Both(Moving):
        def __init__(self):
            super().__init__()
            parts = [self.observation_space, gym.Box(-1, 1, (2,)), gym.Discrete(3)]
            self.observation_space = kind(dict(zip("abc", parts)) if kind is gym.Dict else parts)

        def _draw(self):
            parts = [super()._draw(), np.zeros(2, np.float32), 1]
            return dict(zip("abc", parts)) if kind is gym.Dict else tuple(parts)
    model = TRPO("CnnPolicy", Both(), seed=0, timesteps_per_batch=64, policy_kwargs=KWARGS).learn(128)
    first, params = "pi/a" if kind is gym.Dict else "pi/0", model.get_parameters()
    assert params["pi/out/w"].shape == (25, 2) and f"{first}/conv0/w" in params
    obs = Both().reset(seed=0)[0]
    path = model.save(tmp_path / "m")
    np.testing.assert_array_equal(load_policy(path).action_probability(obs), model.action_probability(obs))


def test_an_expert_is_imitated_from_bytes():
    env, obs, actions = Moving(), [], []
    for seed in range(4):
        x, _ = env.reset(seed=seed)
        for _ in range(20):
            obs.append(x)
            actions.append(env.side)
            x, *_ = env.step(env.side)
    data = dict(obs=np.array(obs), actions=np.array(actions))
    model = TRPO("CnnPolicy", Moving(), seed=0, policy_kwargs=KWARGS)
    model.pretrain(data, n_epochs=30, learning_rate=3e-3)
    assert (model.predict(data["obs"], deterministic=True)[0] == actions).mean() > 0.95


@pytest.mark.parametrize("finals", [0, 3])
def test_values_of_a_segment_of_the_observations_after_it_and_of_cut_episodes(finals, rng):
    policy = CnnPolicy(box(12, 11, 3), FOUR, cnn_extractor=nn.conv("c", 2, 4, 4)).draw(rng)
    x, last, final = (rng.integers(0, 256, (*lead, 12, 11, 3), dtype=np.uint8)
                      for lead in [(4, 2), (2,), (finals,)])
    values = policy.segment_values(x, None, last, final)
    np.testing.assert_allclose(values.steps, [policy.value(rows) for rows in x], rtol=1e-5)
    np.testing.assert_allclose(values.last, policy.value(last), rtol=1e-5)
    assert values.final.shape == (finals,) and values.memory == {}
    if finals:
        np.testing.assert_allclose(values.final, policy.value(final), rtol=1e-5)


@pytest.mark.parametrize("shape, new", [
    ((2, 9, 8, 3), 3), ((4, 9, 8), 1), ((3, 9, 8, 1), 1), ((2, 3, 9, 8), 3)])
def test_stacked_frames_are_stored_frame_by_frame_with_all_their_colours(shape, new, rng):
    policy = CnnPolicy(box(*shape), FOUR, cnn_extractor=nn.conv("c", 2, 4, 4)).draw(rng)
    frames = rng.integers(0, 256, (12, *shape[1:]), dtype=np.uint8)
    recorder = policy.storage(12 - shape[0], 1)
    for t in range(12 - shape[0]):
        recorder[t] = policy.observation_space.encode(frames[t:t + shape[0]], 1)
    assert isinstance(recorder, Recorder) and recorder.used == 11 * new  # each frame once


def test_frames_keep_the_axes_of_an_image(rng):
    frames = Frames(rng.integers(0, 256, (6, 4, 4), dtype=np.uint8), rng.integers(0, 6, (2, 3, 2)))
    np.testing.assert_array_equal(frames.reshape(6, 4, 4, 2), np.asarray(frames).reshape(6, 4, 4, 2))
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4, 4, 2\) cannot become \(3, 2, 2, 8, 2\); the"):
        frames.reshape(3, 2, 2, 8, 2)


@pytest.mark.parametrize("shape", [(9, 8, 3), (9, 8), (3, 9, 8)])
def test_single_frames_are_stored_as_they_are(shape, rng):
    policy = CnnPolicy(box(*shape), FOUR, cnn_extractor=nn.conv("c", 2, 4, 4)).draw(rng)
    assert type(policy.storage(5, 2)) is np.ndarray


@pytest.mark.parametrize("name", ["CnnLstmPolicy", "CnnLnLstmPolicy"])
def test_with_a_memory_behind(name, tmp_path):
    kwargs = KWARGS | dict(n_lstm=8)
    model = TRPO(name, Moving(), seed=0, timesteps_per_batch=64, policy_kwargs=kwargs).learn(128)
    assert model.get_parameters()["pi/out/w"].shape == (8, 2)
    obs = Moving().reset(seed=0)[0]
    policy = load_policy(model.save(tmp_path / "m"))
    assert policy.predict(obs, deterministic=True)[0] == model.predict(obs, deterministic=True)[0]


def test_the_first_batch_only_brings_the_mean_image():
    model = TRPO("CnnPolicy", Moving(), seed=0, timesteps_per_batch=40, normalize_observations=True,
                 policy_kwargs=KWARGS)
    before = model.policy.params.flat.copy()
    model.learn(40)
    assert model.policy.normalizer.count == 40
    np.testing.assert_array_equal(model.policy.params.flat, before)
    model.learn(40, reset_num_timesteps=False)
    assert model.policy.normalizer.count == 40 and np.any(model.policy.params.flat != before)


@pytest.mark.parametrize("fun", [
    lambda x: ops.reshape(x, (x.shape[0], -1)), lambda x: ops.mean(x, axis=(1, 2))])
def test_functions_that_cannot_take_an_empty_batch(fun):
    env = Moving()
    model = TRPO("CnnPolicy", env, timesteps_per_batch=8, policy_kwargs=dict(cnn_extractor=fun), seed=0)
    assert model.learn(16).num_timesteps == 16


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_bytes_are_bytes_however_the_environment_gives_them(dtype):
    """A rollout's actions are those that its stored observations give."""
    class Other(Moving):
        def reset(self, **kwargs):
            obs, info = super().reset(**kwargs)
            return obs.astype(dtype), info

        def step(self, action):
            obs, *rest = super().step(action)
            return obs.astype(dtype), *rest
    model = TRPO("CnnPolicy", Other(), timesteps_per_batch=16, policy_kwargs=KWARGS, seed=0)
    policy = model.policy
    policy.params["pi/out/w"][...] *= 1000
    noise = policy.dist.noise(np.random.default_rng(0), 16, 1).astype(policy.dtype)
    runner = Runner(policy, model.stepper)
    runner.restart([0])
    seg = runner.collect(16, np.random.default_rng(0))
    params = policy.pi(policy.params, np.asarray(seg.obs)[:, 0])
    np.testing.assert_array_equal(seg.actions[:, 0], policy.dist.sample(params, noise[:, 0]))


def test_images_that_are_no_bytes_are_refused():
    policy = TRPO("CnnPolicy", Moving(), policy_kwargs=KWARGS).policy
    for value in (0.5, 256, -1, np.nan):
        with pytest.raises(ValueError, match="other numbers than the integers from 0 to 255"):
            policy.predict(np.full(policy.observation_space.shape, value))
