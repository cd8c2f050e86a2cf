"""The phases of an update, each alone: what it reads, what it changes, and what it leaves as it is."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import reference
from gymnasium import spaces

from trpo_np import update
from trpo_np.comm import OneProcess
from trpo_np.normalize import RewardNormalizer, UsualSpread
from trpo_np.optim import Adam
from trpo_np.policies import MlpPolicy
from trpo_np.policies.base import Values
from trpo_np.rollout import Segment
from trpo_np.settings import Settings
from trpo_np.trust_region import Batch

ONE, STEPS, ENVS = OneProcess(), 12, 3
SETTINGS = Settings(dtype="float64", vf_batch_size=8, vf_stepsize=0.01)


def make_policy(**options):
    options = dict(net_arch=[dict(pi=[4], vf=[4])], normalize=True, dtype="float64") | options
    policy = MlpPolicy(spaces.Box(-9, 9, (3,)), spaces.Box(-1, 1, (2,)), **options)
    policy.draw(np.random.default_rng(0))
    policy.normalizer.merge(2 + 3 * np.random.default_rng(1).standard_normal((50, 3)), ONE)
    return policy


def make_segment(policy, seed=0, ends=0.2):
    """Random numbers in the shape of a rollout; some rows do not count, some episodes are truncated."""
    rng = np.random.default_rng(seed)
    obs, last = rng.standard_normal((STEPS, ENVS, 3)), rng.standard_normal((ENVS, 3))
    terminated, truncated = rng.random((2, STEPS, ENVS)) < ends
    invalid = rng.random((STEPS, ENVS)) < 0.1
    truncated &= ~terminated
    final = [(t, i, rng.standard_normal(3)) for t, i in np.argwhere(truncated)]
    return Segment(obs=obs, actions=rng.standard_normal((STEPS, ENVS, 2)), final=final, last_obs=last,
                   rewards=rng.standard_normal((STEPS, ENVS)), terminated=terminated, truncated=truncated,
                   valid=~invalid, over=terminated | truncated, starts=np.zeros((STEPS, ENVS), bool))


def make_values(seg, seed=3):
    rng = np.random.default_rng(seed)
    return Values(rng.standard_normal((STEPS, ENVS)), rng.standard_normal(ENVS),
                  rng.standard_normal(len(seg.final)), {})


PARTS = [0], [1, 2]  # the environments of each of two ranks


def part(seg, columns):
    """The segment of some of the environments."""
    names = "obs", "actions", "rewards", "terminated", "truncated", "valid", "over", "starts"
    return replace(seg, **{name: getattr(seg, name)[:, columns] for name in names},
                   last_obs=seg.last_obs[columns],
                   final=[(t, columns.index(i), row) for t, i, row in seg.final if i in columns])


def no_scaling():
    return RewardNormalizer(False)


def blocks(policy):
    """The policy's part of the flat vector, and the critic's."""
    return [policy.params.select(names).flat for names in (policy.policy_weights, policy.critic_weights)]


@pytest.fixture
def policy():
    return make_policy()


@pytest.fixture
def seg(policy):
    return make_segment(policy)


# --- observe ------------------------------------------------------------------------------------------------

def test_observe_normalises_everything_that_was_seen(policy, seg):
    seen, moments = update.observe(policy, seg), policy.normalizer.moments
    assert len(seg.final) > 2
    final = [row for *_, row in seg.final]
    for found, obs in ((seen.x, seg.obs), (seen.last, seg.last_obs), (seen.final, final)):
        np.testing.assert_allclose(found, np.clip((obs - moments.mean) / moments.std, -10, 10), rtol=1e-12)


def test_without_truncation_there_is_no_final_observation(policy):
    assert update.observe(policy, make_segment(policy, ends=0.0)).final.shape == (0, 3)


# --- advantage ----------------------------------------------------------------------------------------------

def textbook(seg, values, settings, rewards=None, bootstrap=True):
    final = np.zeros((STEPS, ENVS))
    for (t, i, _), v in zip(seg.final, values.final):
        final[t, i] = v * bootstrap
    return reference.gae(seg.rewards if rewards is None else rewards, values.steps, values.last, final,
                         seg.terminated, seg.truncated, settings.gamma, settings.lam)


@pytest.mark.parametrize("bootstrap", [True, False])
def test_advantage_is_the_textbooks(seg, bootstrap):
    settings = Settings(normalize_advantage=False, bootstrap_truncated=bootstrap, gamma=0.9, lam=0.7)
    values = make_values(seg)
    goals = update.advantage(seg, values, settings, no_scaling(), ONE)
    wanted = textbook(seg, values, settings, bootstrap=bootstrap)
    np.testing.assert_allclose(goals.advantages, wanted, rtol=1e-9)
    np.testing.assert_allclose(goals.targets, wanted + values.steps, rtol=1e-9)
    assert goals.samples == seg.valid.sum() < STEPS * ENVS


def test_advantages_that_count_have_mean_0_and_spread_1(seg):
    adv = update.advantage(seg, make_values(seg), SETTINGS, no_scaling(), ONE).advantages
    np.testing.assert_allclose([adv[seg.valid].mean(), adv[seg.valid].std()], [0, 1], atol=1e-12)
    assert not adv[~seg.valid].any()


def test_equal_advantages_are_no_reason_to_move(seg):
    values = make_values(seg)._replace(steps=np.ones((STEPS, ENVS)))
    seg.rewards[:] = 1.0
    goals = update.advantage(seg, values, Settings(gamma=0.0), no_scaling(), ONE)
    assert not goals.advantages.any() and np.isnan(goals.explained_variance)


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_the_scale_of_rewards_and_values_does_not_matter(seg, scale):
    values = make_values(seg)
    scaled = Values(*(scale * array for array in values[:3]), {})
    adv = update.advantage(seg, values, SETTINGS, no_scaling(), ONE).advantages
    seg.rewards *= scale
    np.testing.assert_allclose(update.advantage(seg, scaled, SETTINGS, no_scaling(), ONE).advantages, adv,
                               rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_advantages_that_differ_by_the_rounding_of_values_are_equal(seg, dtype):
    rounded = 100 * (1 + np.random.default_rng(0).choice([-1, 1], (STEPS, ENVS)) * np.finfo("float32").eps)
    values = make_values(seg)._replace(steps=rounded.astype(dtype))
    seg.rewards[:] = 1.0
    adv = update.advantage(seg, values, Settings(gamma=0.0), no_scaling(), ONE).advantages
    assert adv.any() == (dtype == "float64")


def test_rewards_are_clipped_and_scaled(seg):
    seg.rewards *= 3
    values, clipped = make_values(seg), np.clip(seg.rewards, -1, 1)
    settings = Settings(normalize_advantage=False, clip_rewards=True)
    goals = update.advantage(seg, values, settings, no_scaling(), ONE)
    np.testing.assert_allclose(goals.advantages, textbook(seg, values, settings, clipped), rtol=1e-9)

    returns = RewardNormalizer(True)
    returns.restart(ENVS)
    goals = update.advantage(seg, values, settings, returns, ONE)
    scaled = np.clip(clipped / returns.moments.std, -10, 10)
    np.testing.assert_allclose(goals.advantages, textbook(seg, values, settings, scaled), rtol=1e-9)
    assert returns.moments.count == seg.valid.sum()


def test_the_explained_variance_tells_a_good_critic(seg):
    rewards = seg.rewards
    perfect = Values(rewards.copy(), np.zeros(ENVS), np.zeros(len(seg.final)), {})
    useless, half = perfect._replace(steps=np.zeros_like(rewards)), perfect._replace(steps=rewards / 2)
    settings = Settings(gamma=0.0)  # the target is the reward
    explained = [update.advantage(seg, values, settings, no_scaling(), ONE).explained_variance
                 for values in (perfect, useless, half)]
    assert explained == [1.0, 0.0, pytest.approx(0.75)]  # of the variance, half the error leaves a quarter


def test_where_nothing_counts_there_are_no_samples(seg):
    seg.valid[:] = False
    goals = update.advantage(seg, make_values(seg), SETTINGS, no_scaling(), ONE)
    assert goals.samples == 0 and np.isfinite(goals.advantages).all()


def test_ranks_share_mean_and_spread(seg):
    """Two ranks with some of the environments each have the advantages of one rank with all of them."""
    values = make_values(seg)

    def run(comm):
        columns = PARTS[comm.rank]
        mine = [k for k, (_, i, _) in enumerate(seg.final) if i in columns]
        V = Values(values.steps[:, columns], values.last[columns], values.final[mine], {})
        return update.advantage(part(seg, columns), V, SETTINGS, no_scaling(), comm)
    whole, split = update.advantage(seg, values, SETTINGS, no_scaling(), ONE), reference.on_ranks(2, run)
    np.testing.assert_allclose(np.hstack([goals.advantages for goals in split]), whole.advantages, rtol=1e-9)
    assert [goals.samples for goals in split] == [whole.samples] * 2


# --- step ---------------------------------------------------------------------------------------------------

def make_batch(policy, n=30):
    rng = np.random.default_rng(4)
    return Batch(rng.standard_normal((n, 3)), rng.standard_normal((n, 2)), rng.standard_normal(n),
                 np.full(n, 1 / n))


def test_a_step_moves_the_policy_and_nothing_else(policy):
    head, critic = (block.copy() for block in blocks(policy))
    info = update.step(policy, make_batch(policy), SETTINGS, 0.01, 0.0, ONE)
    assert 0 < info["kl"] <= 0.015 and info["step_fraction"] > 0
    assert (blocks(policy)[0] != head).all() and (blocks(policy)[1] == critic).all()


def test_a_step_follows_the_settings(policy):
    other = deepcopy(policy)
    settings = Settings(kl_tolerance=1e-9, linesearch_steps=2)
    assert update.step(policy, make_batch(policy), settings, 0.01, 0.0, ONE)["step_fraction"] == 0
    assert (policy.params.flat == other.params.flat).all()
    assert update.step(policy, make_batch(policy), Settings(cg_iters=3), 0.01, 0.0, ONE)["cg_products"] == 3


def test_a_gradient_that_is_not_finite_is_told(policy):
    batch, before = make_batch(policy), policy.params.flat.copy()
    with pytest.warns(UserWarning, match=r"was skipped: the gradient is not finite \(its norm is nan"):
        update.step(policy, batch._replace(advantages=batch.advantages * np.nan), SETTINGS, 0.01, 0.0, ONE)
    assert (policy.params.flat == before).all()


@pytest.mark.parametrize("factor, told", [
    (np.nan, r"the curvature is not finite \(nan\): products with the Fisher matrix overflowed; a larger"),
    (0.0, r"the curvature is not positive \(0\)"),
    (-1.0, r"the curvature is not positive \(-\d.*cg_damping")])
def test_a_curvature_of_no_use_is_told(policy, monkeypatch, factor, told):
    fisher_at, before = policy.dist.fisher_at, policy.params.flat.copy()
    monkeypatch.setattr(policy.dist, "fisher_at", lambda params: lambda t: factor * fisher_at(params)(t))
    with pytest.warns(UserWarning, match=f"an update was skipped: {told}"):
        info = update.step(policy, make_batch(policy), Settings(cg_damping=0.0), 0.01, 0.0, ONE)
    assert (policy.params.flat == before).all() and "curvature" not in info


def test_a_batch_without_a_sample_for_the_curvature_is_told(policy):
    batch = make_batch(policy)
    batch.weights[::5] = 0
    with pytest.warns(UserWarning, match="an update was skipped: no sample is left for the curvature"):
        update.step(policy, batch, Settings(fvp_subsample=5), 0.01, 0.0, ONE)


# --- fit ----------------------------------------------------------------------------------------------------

def fit(policy, seg, adam, targets, stepsize=0.01, settings=SETTINGS, seed=0, comm=ONE):
    x, line_up = policy.normalizer(seg.obs), policy.inputs(seg.obs, seg)[1]
    return update.fit(policy, adam, x, seg, line_up(targets), line_up(seg.valid), settings, stepsize,
                      np.random.default_rng(seed), comm)


def adam_for(policy):
    return Adam(blocks(policy)[1].size, policy.dtype)


def test_fit_moves_the_critic_and_nothing_else(policy, seg):
    head, critic = (block.copy() for block in blocks(policy))
    adam, targets = adam_for(policy), seg.obs.sum(-1)
    first = fit(policy, seg, adam, targets, settings=Settings(vf_iters=1))
    last = fit(policy, seg, adam, targets, settings=Settings(vf_iters=200))
    assert last < 0.5 * first
    assert (blocks(policy)[0] == head).all() and (blocks(policy)[1] != critic).all()


def test_fit_reports_the_last_pass(policy, seg):
    """With one minibatch a pass and a stepsize of 0, the loss is the mean squared error of what counts."""
    targets = seg.obs.sum(-1)
    loss = fit(policy, seg, adam_for(policy), targets, 0.0, Settings(vf_batch_size=1000))
    values = policy.value(policy.normalizer(seg.obs[seg.valid]))
    expected = reference.value_loss(values, targets[seg.valid], np.full(len(values), 1 / len(values)))
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    assert np.isnan(fit(policy, seg, adam_for(policy), targets, settings=Settings(vf_iters=0)))


def test_the_loss_of_two_passes_is_that_of_the_second(policy, seg):
    other, adam, targets = deepcopy(policy), adam_for(policy), seg.obs.sum(-1)
    one, two = (Settings(dtype="float64", vf_batch_size=1000, vf_iters=passes) for passes in (1, 2))
    losses = [fit(policy, seg, adam, targets, settings=one) for _ in range(2)]
    assert losses[1] < losses[0]
    np.testing.assert_allclose(fit(other, seg, adam_for(other), targets, settings=two), losses[1], rtol=1e-12)


@pytest.mark.parametrize("size, steps", [(1000, 3), (8, 9)])
def test_ranks_fit_one_critic_to_the_rows_of_all(policy, seg, size, steps):
    """They take as many steps as the rank with the most rows needs; with one in a pass, as one rank does."""
    targets, settings = seg.obs.sum(-1), replace(SETTINGS, vf_batch_size=size)

    def run(comm):
        own, columns = deepcopy(policy), PARTS[comm.rank]
        adam = adam_for(own)
        loss = fit(own, part(seg, columns), adam, targets[:, columns], settings=settings, comm=comm)
        return blocks(own)[1], adam.m, adam.t, loss
    one, other = reference.on_ranks(2, run)
    np.testing.assert_equal(one, other)
    assert one[2] == steps
    if steps == settings.vf_iters:
        adam = adam_for(policy)
        loss = fit(policy, seg, adam, targets, settings=settings)
        np.testing.assert_allclose(one[0], blocks(policy)[1], rtol=1e-9)
        np.testing.assert_allclose([*one[1], one[3]], [*adam.m, loss], rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_fit_that_is_not_finite_is_undone(policy, seg):
    adam = adam_for(policy)
    fit(policy, seg, adam, seg.obs.sum(-1))
    before, kept = policy.params.flat.copy(), (adam.m.copy(), adam.v.copy(), adam.t)
    with pytest.warns(UserWarning, match="a fit of the critic was undone: not finite"):
        fit(policy, seg, adam, np.full((STEPS, ENVS), np.inf))
    assert (policy.params.flat == before).all()
    assert (adam.m == kept[0]).all() and (adam.v == kept[1]).all() and adam.t == kept[2]


# --- merge --------------------------------------------------------------------------------------------------

def test_merge_takes_the_rows_that_count(policy, seg):
    moments = deepcopy(policy.normalizer.moments)
    update.merge(policy, seg, ONE)
    moments.merge(seg.obs[seg.valid], ONE)
    for name, array in moments.arrays().items():
        assert (policy.normalizer.moments.arrays()[name] == array).all(), name


def test_after_merging_the_ranks_are_equal(seg):
    def run(comm):
        policy = make_policy()
        policy.params.flat[:] += 1e-12 * comm.rank
        update.merge(policy, seg, comm)
        return policy.params.flat, policy.normalizer.shift
    (one, shift), (other, other_shift) = reference.on_ranks(2, run)
    assert one.tobytes() == other.tobytes() and shift.tobytes() == other_shift.tobytes()


# --- improve ------------------------------------------------------------------------------------------------

def test_an_update_is_its_phases(policy, seg):
    """By hand, one after the other: the same bits."""
    other, settings, rng = deepcopy(policy), SETTINGS, np.random.default_rng
    adam, returns = adam_for(policy), RewardNormalizer(True)
    returns.restart(ENVS)
    stats, memory = update.improve(policy, adam, returns, UsualSpread(), seg, settings, 0.5, rng(7), ONE)

    again, returns = adam_for(other), RewardNormalizer(True)
    returns.restart(ENVS)
    seen = update.observe(other, seg)
    values = other.segment_values(seen.x, seg, seen.last, seen.final)
    goals = update.advantage(seg, values, settings, returns, ONE)
    inputs, line_up = other.inputs(seen.x, seg)
    rows = [line_up(array) for array in (seg.actions, goals.advantages, seg.valid / goals.samples)]
    info = update.step(other, Batch(inputs, *rows), settings, 0.01, 0.0, ONE)
    targets, valid = line_up(goals.targets), line_up(seg.valid)
    loss = update.fit(other, again, seen.x, seg, targets, valid, settings, 0.01, rng(7), ONE)
    update.merge(other, seg, ONE)

    assert stats == {**info, "value_loss": loss, "explained_variance": goals.explained_variance}
    assert memory == {} and policy.params.flat.tobytes() == other.params.flat.tobytes()
    assert adam.m.tobytes() == again.m.tobytes()
    assert policy.normalizer.shift.tobytes() == other.normalizer.shift.tobytes()


def test_values_and_step_see_the_statistics_that_acted(policy, seg, monkeypatch):
    """The statistics change last: were they merged first, another policy would be updated than acted."""
    order = []

    def watch(name, phase):
        def watched(*args):
            order.append((name, policy.normalizer.count))
            return phase(*args)
        monkeypatch.setattr(update, name, watched)
    for name in ("observe", "advantage", "step", "fit", "merge"):
        watch(name, getattr(update, name))
    update.improve(policy, adam_for(policy), no_scaling(), UsualSpread(), seg, SETTINGS, 1.0,
                              np.random.default_rng(0), ONE)
    assert order == [(name, 50) for name in ("observe", "advantage", "step", "fit", "merge")]
    assert policy.normalizer.count == 50 + seg.valid.sum()


def test_a_segment_in_which_nothing_counts_changes_nothing(policy, seg):
    seg.valid[:] = False
    adam, before = adam_for(policy), policy.params.flat.copy()
    stats, _ = update.improve(policy, adam, no_scaling(), UsualSpread(), seg, SETTINGS, 1.0,
                              np.random.default_rng(0), ONE)
    assert stats == {"no_update": "no step of this batch counts"}
    assert adam.t == 0 and (policy.params.flat == before).all()
    assert policy.normalizer.count == 50


def test_a_first_batch_may_only_bring_statistics(policy, seg):
    policy.normalizer = policy.make_normalizer(True)
    policy.normalizer.ready = False
    before = policy.params.flat.copy()
    stats, _ = update.improve(policy, adam_for(policy), no_scaling(), UsualSpread(), seg, SETTINGS, 1.0,
                              np.random.default_rng(0), ONE)
    assert stats == {"no_update": "the first batch brings the mean image"}
    assert (policy.params.flat == before).all()
    assert policy.normalizer.count == seg.valid.sum()


def test_a_batch_whose_advantages_spread_less_than_usual_moves_the_policy_less(policy, seg):
    """By the ratio: max_kl by its square; never more than max_kl."""
    def improved(max_kl, scale_steps, usual):
        own = deepcopy(policy)
        settings = replace(SETTINGS, max_kl=max_kl, scale_steps=scale_steps)
        update.improve(own, adam_for(own), no_scaling(), usual, deepcopy(seg), settings, 1.0,
                       np.random.default_rng(0), ONE)
        return own.policy_params.flat.tobytes()

    def before(square):
        usual = UsualSpread()
        usual.square, usual.count = square, 19
        return usual
    usual = UsualSpread()
    full = improved(0.01, False, usual)
    assert usual.count == 0 and full == improved(0.01, True, usual) and usual.count == 1
    spread = usual.square ** 0.5
    low = before((16 * 20 - 1) / 19 * spread ** 2)  # with this batch, four times its spread
    assert improved(0.01, True, low) == improved(0.01 * (spread ** 2 / low.square), False, UsualSpread())
    assert abs(low.square / spread ** 2 - 16) < 1e-9
    assert improved(0.01, True, before(spread ** 2 / 100)) == full
