"""Models that stable-baselines3 and sb3-contrib make here are converted unchanged; the others are named."""

import numpy as np
import pytest

from trpo_np import TRPO, load_policy, ops, spaces
from trpo_np.deploy.convert import convert
from trpo_np.files.archive import FileError

for package in ("stable_baselines3", "sb3_contrib"):
    pytest.importorskip(package, reason=f"{package} makes the models that are converted here")
from foreign_models import KINDS, OLD, REFUSED, make  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("foreign")


def outputs_of(policy, x):
    """Return what the library calls its distribution's parameters: means, or logits that are normalised."""
    outputs, space = policy.pi(policy.params, x), policy.action_space
    if isinstance(space, spaces.Box):
        return outputs[:, :space.width]
    if isinstance(space, spaces.MultiBinary):
        return outputs
    ends = np.cumsum([space.n] if isinstance(space, spaces.Discrete) else space.nvec)[:-1]
    return np.concatenate([ops.log_softmax(part) for part in np.split(outputs, ends, axis=1)], axis=1)


def torch_layout(name, array, conv):
    """Turn one of our parameters back; `conv` is (h, w) of the images behind the convolutions."""
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if name.endswith("/fc/w") and conv:
        return array.reshape(*conv, 64, 512).transpose(3, 2, 0, 1).reshape(512, -1)
    return array.T


def their_name(name):
    """Translate a parameter's name, by the table of the guide."""
    part, layer, kind = (*name.split("/"), "")[:3]
    kind = {"w": "weight", "b": "bias"}.get(kind, kind)
    if name == "pi/log_std":
        return "log_std"
    if layer == "out":
        return f"{ {'pi': 'action', 'vf': 'value'}[part]}_net.{kind}"
    prefix = "" if part == "shared" else f"{part}_"
    if layer.startswith("conv"):
        return f"{prefix}features_extractor.cnn.{2 * int(layer[4:])}.{kind}"
    if layer == "fc":
        return f"{prefix}features_extractor.linear.0.{kind}"
    net = {"shared": "shared", "pi": "policy", "vf": "value"}[part]
    return f"mlp_extractor.{net}_net.{2 * int(layer[2:])}.{kind}"


@pytest.mark.parametrize("name", KINDS)
def test_weights_are_equal_to_the_bit_and_actions_to_1e_5(name, folder):
    kind = KINDS[name]
    want = make(kind, folder, name)
    statistics = folder / f"{name}.pkl" if kind.normalize is not None else None
    convert(folder / f"{name}.zip", folder / name, statistics, kind.channels)
    policy = load_policy(folder / f"{name}.npz")

    conv = None
    if "conv0" in str(list(policy.params)):
        conv = [((n - 8) // 4 + 1 - 4) // 2 + 1 - 2 for n in policy.observation_space.rows[:2]]
    for ours, array in policy.params.items():
        np.testing.assert_array_equal(torch_layout(ours, array, conv), want.state[their_name(ours)], ours)
    left = want.state.keys() - {their_name(ours) for ours in policy.params}
    assert all("features_extractor." in theirs for theirs in left)  # the same ones once more

    actions = policy.predict(want.obs, deterministic=True)[0]
    x = policy.observe(want.obs)[0]
    if isinstance(policy.action_space, spaces.Box):
        assert actions.dtype == kind.action.dtype
        np.testing.assert_allclose(actions, want.actions, rtol=0, atol=1e-5)
    else:
        gap = np.abs(outputs_of(policy, x) - want.outputs).max(1)
        differ = (actions != want.actions).reshape(len(actions), -1).any(1)
        assert not (differ & (gap < 1e-6)).any() and differ.mean() < 0.002  # but at ties
    np.testing.assert_allclose(outputs_of(policy, x), want.outputs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(policy.value(x), want.values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_is_refused_by_name(name, folder):
    kind, said = REFUSED[name]
    make(kind, folder, name, steps=0, n_obs=0)
    with pytest.raises(FileError, match=said) as caught:
        convert(folder / f"{name}.zip", folder / name)
    assert str(folder / f"{name}.zip") in str(caught.value) and not (folder / f"{name}.npz").exists()


def test_weights_that_are_not_finite_are_named(folder):
    make(KINDS["a2c"], folder, "nan", n_obs=0, fill=lambda p: p * float("nan"))
    with pytest.raises(FileError, match=r"nan\.zip: mlp_extractor\.policy_net\.0, for pi/fc0/w, holds"):
        convert(folder / "nan.zip", folder / "nan")


def test_another_clip_of_observations_is_refused_by_name(folder):
    kind = KINDS["normalized"]._replace(normalize=dict(clip_obs=5.0))
    make(kind, folder, "clip", n_obs=0)
    with pytest.raises(FileError, match=r"clip\.pkl: .*clip_obs is 5; 10 is known here"):
        convert(folder / "clip.zip", folder / "clip", folder / "clip.pkl")


def test_a_model_that_lacks_its_statistics_is_told_of(folder):
    make(KINDS["normalized"], folder, "bare", n_obs=0)
    assert any("trained with VecNormalize" in note for note in convert(folder / "bare.zip", folder / "bare"))
    assert len(convert(folder / "bare.zip", folder / "bare", folder / "bare.pkl")) == 1
    make(KINDS["a2c"], folder, "plain", n_obs=0)
    assert len(convert(folder / "plain.zip", folder / "plain")) == 1


def test_settings_of_trpo_come_along(folder):
    options = dict(gamma=0.9, gae_lambda=0.8, target_kl=0.02, cg_max_steps=7, cg_damping=0.3,
                   learning_rate=2e-3, n_critic_updates=4, line_search_max_iter=6,
                   line_search_shrinking_factor=0.7, sub_sampling_factor=3)
    make(KINDS["trpo_discrete"]._replace(options=options), folder, "settings", n_obs=0)
    convert(folder / "settings.zip", folder / "settings")
    model = TRPO.load(folder / "settings.npz")
    assert (model.gamma, model.lam, model.max_kl) == (0.9, 0.8, 0.02)
    assert (model.cg_iters, model.cg_damping, model.fvp_subsample) == (7, 0.3, 3)
    assert (model.vf_stepsize, model.vf_iters, model.vf_batch_size) == (2e-3, 4, 32)
    assert (model.linesearch_steps, model.linesearch_shrink, model.kl_tolerance) == (6, 0.7, 1)
    assert (model.timesteps_per_batch, model.num_timesteps) == (64, 64)


@pytest.mark.skipif(OLD, reason="the environment is gymnasium's")
def test_a_converted_model_goes_on_learning(folder):
    import gymnasium
    from stable_baselines3 import PPO

    PPO("MlpPolicy", "CartPole-v1", n_steps=64, seed=0, device="cpu").learn(64).save(folder / "cartpole")
    convert(folder / "cartpole.zip", folder / "cartpole")
    model = TRPO.load(folder / "cartpole.npz", env=gymnasium.make("CartPole-v1"), seed=0)
    before = model.policy.params.flat.copy()
    model.learn(2048, reset_num_timesteps=False)
    assert model.num_timesteps >= 64 + 2048 and not np.array_equal(before, model.policy.params.flat)
