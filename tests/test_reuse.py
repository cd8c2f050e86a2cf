"""Earlier batches beside the new one: what they count, what they teach, and that files remember them."""

from copy import deepcopy
from dataclasses import replace
from functools import partial

import gymnasium
import numpy as np
import pytest
import reference
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from test_update import ENVS, ONE, SETTINGS, STEPS, adam_for, make_policy, make_segment, no_scaling
from toys import ACTIONS, Toy

from trpo_np import TRPO, reuse, update
from trpo_np.files.archive import FileError
from trpo_np.normalize import RewardNormalizer, UsualSpread
from trpo_np.policies.frames import Recorder, side_by_side
from trpo_np.rollout import Runner, advantages
from trpo_np.snapshot import end_what_no_file_holds

SETTINGS = replace(SETTINGS, fvp_subsample=1, cg_iters=3)  # more would multiply the rounding
TWICE = replace(SETTINGS, sample_reuse=2)


@pytest.fixture
def policy():
    return make_policy()


def improve(policy, seg, settings=SETTINGS, earlier=(), usual=None):
    usual = usual or UsualSpread()
    stats, _ = update.improve(policy, adam_for(policy), no_scaling(), usual, seg, settings, 1.0,
                              np.random.default_rng(0), ONE, earlier)
    return stats


def moved(policy, seed=5, size=0.3):
    """A policy some way off."""
    other = deepcopy(policy)
    flat = other.policy_params.flat
    flat[:] += size * np.random.default_rng(seed).standard_normal(flat.size)
    return other


# --- beside -------------------------------------------------------------------------------------------------

def test_earlier_segments_stand_to_the_right(policy):
    new, old, oldest = (make_segment(policy, seed) for seed in range(3))
    whole = reuse.beside(new, [old, oldest])
    for name in ("obs", *new.ROWS):
        np.testing.assert_array_equal(getattr(whole, name), np.concatenate(
            [getattr(seg, name) for seg in (new, old, oldest)], axis=1))
    np.testing.assert_array_equal(whole.last_obs[ENVS:2 * ENVS], old.last_obs)
    assert whole.final == [(t, i + k * ENVS, row) for k, seg in enumerate((new, old, oldest))
                           for t, i, row in seg.final]
    assert reuse.beside(new, []) is new


def test_frames_beside_each_other_are_the_images_beside_each_other():
    rng = np.random.default_rng(0)
    parts, images = [], []
    for n in (2, 3):
        stack, recorder = np.zeros((n, 5, 4, 3), np.uint8), Recorder(6, n, (5, 4, 3))
        images.append(np.zeros((6, n, 5, 4, 3), np.uint8))
        for t in range(6):
            stack = np.concatenate([stack[..., 1:], rng.integers(0, 255, (n, 5, 4, 1), np.uint8)], axis=-1)
            recorder[t] = images[-1][t] = stack
        parts.append(recorder)
    np.testing.assert_array_equal(np.asarray(side_by_side(parts)), np.concatenate(images, axis=1))


# --- importance ---------------------------------------------------------------------------------------------

def test_importance_is_the_ratio_of_probabilities_one_at_most(policy):
    new, old = make_segment(policy, 0), make_segment(policy, 1)
    assert (reuse.importance(policy, old, []) == 1).all()
    later = moved(policy)
    found = reuse.importance(later, new, [old])
    assert (found[:, :ENVS] == 1).all()

    def logp(policy, seg):
        out = np.zeros((STEPS, ENVS))
        for t, i in np.argwhere(seg.valid):
            phi = policy.pi(policy.params, policy.normalizer(seg.obs[t, i][None]))
            out[t, i] = policy.dist.logp(phi, seg.actions[t, i][None])[0]
        return out
    ratio = np.exp(logp(later, old) - logp(policy, old))
    assert (ratio > 1.1).any() and (ratio < 0.9).any()
    np.testing.assert_allclose(found[:, ENVS:], np.minimum(ratio, 1), rtol=1e-12)


# --- advantages ---------------------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None)
@given(steps=st.integers(1, 7), gamma=st.floats(0, 1), lam=st.floats(0, 1), ends=st.floats(0, 1),
       seed=st.integers(0, 2**32 - 1))
def test_targets_are_those_of_v_trace(steps, gamma, lam, ends, seed):
    """v[t] = V[t] + sum over k of gamma^k (product of lam ratio) ratio[t + k] delta[t + k]."""
    rng, n = np.random.default_rng(seed), 2
    rewards, values, final = rng.standard_normal((3, steps, n))
    terminated, truncated = rng.random((2, steps, n)) < ends
    ratio, last = rng.random((steps, n)), rng.standard_normal(n)
    adv, targets = advantages(rewards, values, last, final, terminated, truncated, gamma, lam, ratio)
    for i in range(n):
        for t in range(steps):
            trace, v = 1.0, values[t, i]
            for k in range(t, steps):
                after = last[i] if k == steps - 1 else values[k + 1, i]
                after = 0.0 if terminated[k, i] else final[k, i] if truncated[k, i] else after
                v += trace * ratio[k, i] * (rewards[k, i] + gamma * after - values[k, i])
                trace *= gamma * lam * ratio[k, i]
                if terminated[k, i] or truncated[k, i]:
                    break
            np.testing.assert_allclose(targets[t, i], v, rtol=1e-9, atol=1e-11)
            np.testing.assert_allclose(values[t, i] + ratio[t, i] * adv[t, i], v, rtol=1e-9, atol=1e-11)


def test_ratios_of_one_are_generalised_advantage_estimation():
    rng = np.random.default_rng(0)
    rewards, values, final = rng.standard_normal((3, 9, 2))
    terminated, truncated = rng.random((2, 9, 2)) < 0.2
    given_ = rewards, values, rng.standard_normal(2), final, terminated, truncated, 0.9, 0.8
    for found, wanted in zip(advantages(*given_, np.ones((9, 2))), advantages(*given_)):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_weighted_advantages_have_mean_zero_and_spread_one(policy):
    whole = reuse.beside(make_segment(policy), [make_segment(policy, 1)])
    rng = np.random.default_rng(0)
    values = update.Values(rng.standard_normal((STEPS, 2 * ENVS)), rng.standard_normal(2 * ENVS),
                           rng.standard_normal(len(whole.final)), {})
    ratio = rng.random((STEPS, 2 * ENVS))
    goals = update.advantage(whole, values, SETTINGS, no_scaling(), ONE, ratio)
    np.testing.assert_array_equal(goals.weights, ratio * whole.valid)
    w = goals.weights / goals.samples
    assert w.sum() == pytest.approx(1) and (w * goals.advantages).sum() == pytest.approx(0, abs=1e-12)
    assert (w * goals.advantages ** 2).sum() == pytest.approx(1)


@pytest.mark.parametrize("normalize", [True, False])
def test_steps_scale_with_the_spread_of_new_advantages(policy, normalize):
    """The critic has been fitted to earlier ones."""
    new, old = make_segment(policy), make_segment(policy, 1)
    old.rewards *= 9
    values = policy.segment_values(*update.observe(policy, new)[:1], new, *update.observe(policy, new)[1:])
    settings = replace(TWICE, scale_steps=True, normalize_advantage=normalize)
    alone = update.advantage(new, values, settings, no_scaling(), ONE)
    reuse.importance(policy, old, [])
    usual = UsualSpread()
    improve(policy, new, settings, [old], usual)
    assert usual.square == pytest.approx(alone.spread ** 2)


def test_only_new_rewards_count_in_the_statistics(policy):
    new, old = make_segment(policy), make_segment(policy, 1)
    old.rewards *= 100
    alone, both, seen = RewardNormalizer(True), RewardNormalizer(True), []
    spy = pytest.MonkeyPatch()
    spy.setattr(update, "advantages", lambda *args: seen.append(args[0]) or advantages(*args))
    for normalizer, seg in ((alone, new), (both, reuse.beside(new, [old]))):
        normalizer.restart(ENVS)
        values = policy.segment_values(update.observe(policy, seg).x, seg, *update.observe(policy, seg)[1:])
        for _ in range(2):
            update.advantage(seg, values, SETTINGS, normalizer, ONE)
    spy.undo()
    assert alone.moments.m2.tobytes() == both.moments.m2.tobytes()
    assert alone.sums.tobytes() == both.sums.tobytes()
    np.testing.assert_array_equal(seen[3][:, :ENVS], seen[1])
    np.testing.assert_allclose(seen[3][:, ENVS:], np.clip(old.rewards / both.moments.unit[0], -10, 10))


def test_the_explained_variance_is_that_of_new_targets(policy):
    new, old = make_segment(policy), make_segment(policy, 1)
    reuse.importance(policy, old, [])
    later = moved(policy, size=0.1)
    seen = update.observe(later, new)
    values = later.segment_values(seen.x, new, seen.last, seen.final)
    alone = update.advantage(new, values, TWICE, no_scaling(), ONE, np.ones((STEPS, ENVS)))
    stats = improve(later, new, TWICE, [old])
    assert stats["explained_variance"] == pytest.approx(alone.explained_variance)


# --- updates ------------------------------------------------------------------------------------------------

def test_the_same_samples_again_teach_what_they_taught(policy):
    """Drawn by the same policy, the earlier segment is as good as the new one: two of it are one."""
    seg, once, twice = make_segment(policy), deepcopy(policy), deepcopy(policy)
    old = deepcopy(seg)
    old.logp = reuse.log_probability(policy, old)
    one, two = improve(once, seg), improve(twice, deepcopy(seg), TWICE, [old])
    np.testing.assert_allclose(twice.policy_params.flat, once.policy_params.flat, rtol=1e-8, atol=1e-10)
    assert two["gain"] == pytest.approx(one["gain"]) and two["kl"] == pytest.approx(one["kl"])


def test_the_gradient_is_that_of_the_weighted_surrogate(policy):
    """Samples of an older policy: against sums over samples, by finite differences."""
    old, new = make_segment(policy, 1), make_segment(policy, 0)
    reuse.importance(policy, old, [])
    later, seen = moved(policy, size=0.1), {}
    spy = pytest.MonkeyPatch()
    spy.setattr(update, "step", lambda policy, batch, *rest: seen.update(batch=batch) or dict(kl=0.0))
    improve(deepcopy(later), new, TWICE, [old])
    spy.undo()
    batch = seen["batch"]
    assert len(batch.weights) == new.valid.sum() + old.valid.sum()
    whole = reuse.beside(new, [old])
    ratio = reuse.importance(later, new, [old])
    np.testing.assert_allclose(batch.weights, (ratio / ratio[whole.valid].sum())[whole.valid], rtol=1e-12)


def test_statistics_take_each_observation_once(policy):
    old, new = make_segment(policy, 1), make_segment(policy, 0)
    reuse.importance(policy, old, [])
    improve(policy, new, TWICE, [old])
    assert policy.normalizer.count == 50 + new.valid.sum()


def test_reuse_of_one_is_no_reuse(policy):
    seg, other = make_segment(policy), deepcopy(policy)
    improve(policy, deepcopy(seg))
    improve(other, deepcopy(seg), replace(SETTINGS, sample_reuse=3))  # there is no earlier segment yet
    np.testing.assert_allclose(other.params.flat, policy.params.flat, rtol=1e-9, atol=1e-11)


def test_two_ranks_learn_what_one_learns_from_both():
    whole = [make_segment(make_policy(), seed) for seed in (0, 1)]

    def run(comm):
        from test_update import PARTS, part
        policy = make_policy()
        new, old = (part(seg, PARTS[comm.rank]) if comm.size == 2 else deepcopy(seg) for seg in whole)
        reuse.importance(policy, old, [])
        later = moved(policy, size=0.05)
        update.improve(later, adam_for(later), no_scaling(), UsualSpread(), new,
                       replace(TWICE, vf_iters=0), 1.0, np.random.default_rng(0), comm, [old])
        return later.policy_params.flat
    one, two = run(ONE), reference.on_ranks(2, run)
    np.testing.assert_allclose(two[0], one, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(*two)


# --- training -----------------------------------------------------------------------------------------------

def cartpoles(n=3, mode=AutoresetMode.NEXT_STEP):
    return SyncVectorEnv([partial(gymnasium.make, "CartPole-v1")] * n, autoreset_mode=mode)


def test_a_model_keeps_as_many_batches_as_it_needs():
    model = TRPO("MlpPolicy", Toy(), timesteps_per_batch=16, sample_reuse=3, seed=0)
    sizes = []
    model.learn(80, callback=lambda *_: sizes.append(len(model.runner.earlier)) or True)
    assert sizes[::16] == [0, 1, 2, 2, 2] and model.runner.earlier[0].logp.shape == (16, 1)
    model.timesteps_per_batch = 8  # batches of another length cannot stand beside the new one
    model.learn(8, reset_num_timesteps=False)
    assert [len(seg.obs) for seg in model.runner.earlier] == [8]
    model.sample_reuse = 1
    assert np.isfinite(model.learn(8, reset_num_timesteps=False).policy.params.flat).all()
    assert not model.runner.earlier
    model.sample_reuse = 2
    model.learn(8)  # new episodes: what came before is forgotten
    assert [len(seg.obs) for seg in model.runner.earlier] == [8]


@pytest.mark.parametrize("policy", ["MlpPolicy", "MlpLstmPolicy"])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_file_remembers_samples_that_count_again(policy, mode, tmp_path):
    model = TRPO(policy, cartpoles(mode=mode), seed=1, timesteps_per_batch=96, sample_reuse=3,
                 normalize_observations=True, normalize_rewards=True).learn(300)
    path = model.save(tmp_path / "half")
    copies = [TRPO.load(path, cartpoles(mode=mode)), deepcopy(model)]
    forgetful = TRPO.load(path, cartpoles(mode=mode))
    model.learn(200, reset_num_timesteps=False)
    for copy in copies:
        copy.learn(200, reset_num_timesteps=False)
        assert copy.policy.params.flat.tobytes() == model.policy.params.flat.tobytes()
    forgetful._start_episodes()
    forgetful.runner.earlier = []
    forgetful.learn(200, reset_num_timesteps=False)
    assert forgetful.policy.params.flat.tobytes() != model.policy.params.flat.tobytes()


class Screen(Toy):
    observation_space = gymnasium.spaces.Box(0, 255, (24, 24, 4), np.uint8)

    def step(self, action):
        return np.full((24, 24, 4), self.steps, np.uint8), *super().step(action)[1:]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros((24, 24, 4), np.uint8), {}


@pytest.mark.parametrize("action", ACTIONS)
def test_all_kinds_of_actions(action, tmp_path):
    model = TRPO("MlpPolicy", Toy(ACTIONS[action]), timesteps_per_batch=16, sample_reuse=2, seed=0).learn(64)
    assert np.isfinite(model.policy.params.flat).all() and model.updates == 4 and not model.skipped_updates
    copy = TRPO.load(model.save(tmp_path / "model"), Toy(ACTIONS[action]))
    for each in (model, copy):
        each.learn(16, reset_num_timesteps=False)
    assert len(copy.runner.earlier) == 1
    assert copy.policy.params.flat.tobytes() == model.policy.params.flat.tobytes()


@pytest.mark.parametrize("policy", ["CnnPolicy", "CnnLstmPolicy"])
def test_images(policy):
    options = dict(policy_kwargs=dict(cnn_extractor="cnn_small"), normalize_observations=True)
    model = TRPO(policy, Screen(), timesteps_per_batch=16, sample_reuse=2, seed=0, **options).learn(64)
    assert np.isfinite(model.policy.params.flat).all() and model.updates == 4


def test_a_file_with_strange_samples_says_so(tmp_path):
    model = TRPO("MlpPolicy", cartpoles(), seed=1, timesteps_per_batch=30, sample_reuse=2).learn(60)
    good = model.runner.state()["earlier"][0]
    changes = dict(obs=good["obs"][:, :2].copy(), rewards=good["rewards"][:-1].copy(),
                   logp=good["logp"] * np.nan, valid=good["valid"] * 1, memory={"pi": 1},
                   final=[(99, 0, np.zeros(4))])
    cases = [good | {name: value} for name, value in changes.items()]
    row = np.zeros(4, np.float32)
    cases += [good | {"final": final} for final in (5, [3], [(1.0, 0, row)], [(0, 0, row * np.nan)])]
    cases += [good | {"actions": good["actions"] + by} for by in (99, -1)]
    cases += [good | {"rewards": rewards} for rewards in ([[1.0], [1.0, 2.0]], np.float64(1.0))]
    cases += [[1], dict(list(good.items())[1:])]
    for bad in [*([case] for case in cases), 5, None]:
        model.runner.state = lambda bad=bad: Runner.state(model.runner) | {"earlier": bad}
        path = model.save(tmp_path / "bad")
        with pytest.raises(FileError, match="training/running"):
            TRPO.load(path, cartpoles())
    model.runner.state = lambda: Runner.state(model.runner) | {"earlier": [good]}
    TRPO.load(model.save(tmp_path / "good"), cartpoles()).learn(30, reset_num_timesteps=False)


@pytest.mark.parametrize("value", [0, 1.5, True, "2"])
def test_how_often_a_sample_counts_is_an_integer_of_at_least_one(value):
    with pytest.raises(ValueError, match="sample_reuse is .*; an integer of at least 1 is needed"):
        TRPO("MlpPolicy", Toy(), sample_reuse=value)


def test_samples_too_large_for_a_file_are_named(tmp_path):
    """The episodes then end at checkpoints; the environment is not to blame."""
    model = TRPO("MlpPolicy", Toy(), timesteps_per_batch=16, sample_reuse=2, seed=0).learn(32)
    model.runner.earlier[0].obs = np.zeros((1, 3, 2**22), np.float32)
    with pytest.warns(UserWarning, match="samples that count again .* hold something that takes more"):
        end_what_no_file_holds(model, 16)
