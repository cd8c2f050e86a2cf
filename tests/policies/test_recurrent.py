"""Policies with memory: a sequence equals its single steps, and no memory crosses an episode's start."""

import warnings

import numpy as np
import pytest
import reference
from gymnasium import spaces as gym
from gymnasium.vector import AutoresetMode
from toys import Parity
from toys import Vector as Together  # stepped as one, in a given autoreset mode

from trpo_np import TRPO, evaluate_policy, load_policy, nn, ops
from trpo_np.autodiff import value_and_grad
from trpo_np.comm import OneProcess
from trpo_np.envs import EnvList, Vector
from trpo_np.policies import MlpLnLstmPolicy, MlpLstmPolicy
from trpo_np.policies.recurrent import Sequence, parse_recurrent_arch
from trpo_np.pretrain import generate_expert_data
from trpo_np.rollout import Runner
from trpo_np.settings import LinearSchedule
from trpo_np.trust_region import Batch, fisher_operator, trust_region_step
from trpo_np.vec_env import DummyVecEnv

OBS = gym.Box(-np.inf, np.inf, (3,))
ACTIONS = {
    "Discrete": gym.Discrete(3, start=1),
    "Box": gym.Box(-1, 1, (2,)),
    "MultiDiscrete": gym.MultiDiscrete([2, 3]),
    "MultiBinary": gym.MultiBinary(2),
}
POLICIES = {"lstm": MlpLstmPolicy, "lnlstm": MlpLnLstmPolicy}
H, ONE = 5, OneProcess()
each = pytest.mark.parametrize("name", POLICIES)
each_sharing = pytest.mark.parametrize("share", [False, True])


def make(name="lstm", actions="Discrete", seed=0, observations=OBS, n_lstm=H, dtype="float32", **options):
    """Return a policy with perturbed weights: its outputs depend on present and past observations."""
    options = {"net_arch": [4, "lstm", dict(pi=[3], vf=[6])]} | options
    policy = POLICIES[name](observations, ACTIONS[actions], n_lstm=n_lstm, dtype=dtype, **options)
    policy.draw(np.random.default_rng(seed))
    policy.params.flat[:] += 0.3 * np.random.default_rng(seed).standard_normal(policy.params.flat.shape)
    policy.params["pi/out/w"][...] *= 20
    return policy


def episodes(steps=12, n=3, seed=1, dtype=np.float32):
    """Draw observations (T, n, 3) and flags (T, n) of random episode starts."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((steps, n, 3)).astype(np.float32).astype(dtype), rng.random((steps, n)) < 0.25


# --- arguments ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("net_arch, layers, parsed", [
    (None, None, ([7, 7], [], [], [])),
    (None, [32], ([32], [], [], [])),
    (None, [], ([], [], [], [])),
    (["lstm"], None, ([], [], [], [])),
    ([8, "lstm"], None, ([8], [], [], [])),
    (("lstm", 8), None, ([], [8], [], [])),
    ([8, 9, "lstm", 6, dict(pi=[5], vf=[4, 3])], None, ([8, 9], [6], [5], [4, 3])),
    (["lstm", dict(vf=[4])], None, ([], [], [], [4])),
])
def test_net_arch(net_arch, layers, parsed):
    assert parse_recurrent_arch(net_arch, layers, [7, 7]) == parsed


@pytest.mark.parametrize("options, message", [
    (dict(net_arch=["lstm", 8, "lstm"]),
     r"net_arch is \['lstm', 8, 'lstm'\]; a recurrent policy needs \"lstm\" in it once"),
    (dict(net_arch=[64, dict(pi=[64])]), 'needs "lstm" in it once'),
    (dict(net_arch=[]), 'needs "lstm" in it once'),
    (dict(net_arch="lstm"), "net_arch is 'lstm'; a list is needed"),
    (dict(net_arch=[dict(pi=[8]), "lstm"]), "after the shared widths comes one dict"),
    (dict(net_arch=["lstm", dict(pi=["lstm"])]), "net_arch holds 'lstm'"),
    (dict(net_arch=["gru", "lstm"]), "net_arch holds 'gru'"),
    (dict(net_arch=[0, "lstm"]), "net_arch holds 0"),
    (dict(net_arch=["lstm"], layers=[8]), "give net_arch or layers, not both"),
    (dict(n_lstm=0), "n_lstm is 0; .* an integer of at least 1, is needed"),
    (dict(n_lstm=-3), "n_lstm is -3"),
    (dict(n_lstm=2.5), "n_lstm is 2.5"),
    (dict(n_lstm=True), "n_lstm is True"),
    (dict(n_lstm="256"), "n_lstm is '256'"),
])
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        MlpLstmPolicy(OBS, ACTIONS["Discrete"], **options)


def test_names_and_order_of_parameters():
    lstm, norm = ["wx", "wh", "b"], ["wx", "gx", "bx", "wh", "gh", "bh", "b", "gc", "bc"]
    front, behind = ["fc0/w", "fc0/b"], ["post0/w", "post0/b", "out/w", "out/b"]
    network = [*front, *(f"lstm/{key}" for key in lstm), *behind]
    policy = make(actions="Box")
    assert list(policy.params) == [*(f"pi/{key}" for key in network), "pi/log_std",
                                   *(f"vf/{key}" for key in network)]
    shapes = {key: policy.params[f"vf/lstm/{key}"].shape for key in lstm}
    assert shapes == {"wx": (4, 20), "wh": (5, 20), "b": (20,)}
    shared = make("lnlstm", share_features=True)
    assert list(shared.policy_weights) == [*(f"shared/{key}" for key in front),
                                           *(f"shared/lstm/{key}" for key in norm),
                                           *(f"pi/{key}" for key in behind)]
    assert list(shared.critic_weights) == [f"vf/{key}" for key in behind]
    shared = make(net_arch=["lstm", 7, dict(pi=[3], vf=[6])], share_features=True)  # layers behind it, too
    assert [key for key in shared.policy_weights if "post" in key] == [
        "shared/post0/w", "shared/post0/b", "pi/post0/w", "pi/post0/b"]
    default = MlpLstmPolicy(OBS, ACTIONS["Discrete"]).policy_weights
    assert default["pi/lstm/wh"].shape == (256, 1024) and default["pi/fc1/w"].shape == (64, 64)


@each
def test_a_new_network_is_orthogonal_gate_by_gate_and_remembers(name):
    policy = POLICIES[name](OBS, ACTIONS["Discrete"], n_lstm=H).draw(np.random.default_rng(0))
    for k in range(4):
        gate = policy.params["pi/lstm/wh"][:, k * H:(k + 1) * H]
        np.testing.assert_allclose(gate @ gate.T, np.eye(H), atol=1e-5)
    np.testing.assert_array_equal(policy.params["pi/lstm/b"], np.repeat([0, 1, 0, 0], H))


# --- a sequence is its steps --------------------------------------------------------------------------------

@each
@each_sharing
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("actions, options", [
    ("Discrete", {}),
    ("Box", {}),
    ("MultiDiscrete", dict(net_arch=["lstm"])),
    ("MultiBinary", dict(act_fun="relu")),
    ("Box", dict(net_arch=["lstm", 4], normalize=True)),
    ("Discrete", dict(extractor=nn.dense("front", 6))),
])
def test_rollout_predict_and_sequence_agree(name, share, dtype, actions, options):
    policy = make(name, actions, dtype=dtype, share_features=share, **options)
    obs, starts = episodes(dtype=dtype)
    policy.normalizer.merge(3 * obs.reshape(-1, 3) + 1, ONE)
    state = 0.5 * np.random.default_rng(2).standard_normal((3, 2 * H)).astype(dtype)
    out, states = policy.unroll(policy.params, Sequence(policy.normalizer(obs), starts, state))
    memory, tolerance = policy.new_memory(3), 1e-12 if dtype == "float64" else 2e-5
    memory["pi"], carried = state, state
    width = policy.dist.noise(np.random.default_rng(0), 1).size
    noise = np.random.default_rng(3).standard_normal((12, 3, width)).astype(dtype)
    act, raw, after_all = policy.actor(noise, memory)
    drawn = policy.dist.sample(out, noise.reshape(len(out), -1)).reshape(12, 3, *policy.dist.action_shape)
    for t in range(12):
        sent, actions = act(t, obs[t], starts[t]), raw[t]
        np.testing.assert_array_equal(sent, policy.to_env(actions))
        np.testing.assert_allclose(actions, drawn[t], rtol=10 * tolerance, atol=10 * tolerance)
        np.testing.assert_allclose(after_all["pi"], states[t], rtol=tolerance, atol=tolerance)
        now, _, after = policy.distribution(obs[t], carried, starts[t])
        np.testing.assert_allclose(now, out.reshape(12, 3, -1)[t], rtol=10 * tolerance, atol=10 * tolerance)
        action, carried = policy.predict(obs[t], carried, starts[t], deterministic=True)
        np.testing.assert_array_equal(action, policy.to_env(policy.dist.mode(now)))
        np.testing.assert_array_equal(carried, after)
    assert memory["pi"] is state  # the memory before the first step is left as it was


def test_a_subclass_may_bring_its_own_head():
    class Doubled(MlpLstmPolicy):
        def decode(self, params, features):
            return 2 * super().decode(params, features)

    policy = Doubled(OBS, ACTIONS["Discrete"], n_lstm=H).draw(np.random.default_rng(0))
    plain = make(net_arch=None, layers=None).install(policy.params)
    (obs, starts), noise = episodes(1), np.zeros((1, 3, 3), np.float32)
    for one in (policy, plain):
        one.params["pi/out/w"][...] *= 100
    np.testing.assert_allclose(policy.distribution(obs[0])[0], 2 * plain.distribution(obs[0])[0], rtol=1e-5)
    act, actions, _ = policy.actor(noise, policy.new_memory(3))
    act(0, obs[0], starts[0])
    np.testing.assert_array_equal(actions[0], policy.dist.mode(plain.distribution(obs[0])[0]))


# --- predict ------------------------------------------------------------------------------------------------

@each
@pytest.mark.filterwarnings("ignore:.*without a state")
def test_predict_takes_any_batch_size_and_single_observations(name):
    policy, (obs, _) = make(name), episodes(1, 6)
    actions, state = policy.predict(obs[0], deterministic=True)
    assert actions.shape == (6,) and state.shape == (6, 2 * H) and state.dtype == np.float32
    for n in (1, 2, 4):
        some, its = policy.predict(obs[0, :n], deterministic=True)
        np.testing.assert_array_equal(some, actions[:n])
        np.testing.assert_allclose(its, state[:n], atol=1e-6)
    action, its = policy.predict(obs[0, 0])
    assert np.ndim(action) == 0 and hash(action) is not None and its.shape == (1, 2 * H)
    action, its = policy.predict(obs[0, 1], its, False)
    assert its.shape == (1, 2 * H)
    np.testing.assert_array_equal(policy.predict(obs[0, 1], its, True)[1], policy.predict(obs[0, 1])[1])


def test_a_mask_forgets_for_those_who_start():
    policy, (obs, _) = make(), episodes(2, 4)
    _, state = policy.predict(obs[0])
    mask = np.array([True, False, True, False])
    _, mixed = policy.predict(obs[1], state, mask)
    np.testing.assert_allclose(mixed[mask], policy.predict(obs[1])[1][mask], atol=1e-6)
    np.testing.assert_allclose(mixed[~mask], policy.predict(obs[1], state)[1][~mask], atol=1e-6)
    floats = mask.astype(float)  # as stable-baselines gives its dones
    np.testing.assert_array_equal(mixed, policy.predict(obs[1], state, floats)[1])
    np.testing.assert_array_equal(mixed, policy.predict(obs[1], state.tolist(), list(mask))[1])


@pytest.mark.parametrize("state, mask, message", [
    (np.zeros((4, 2 * H)), None,
     r"the state has shape \(4, 10\); 3 observations and n_lstm=5 need \(3, 10\)"),
    (np.zeros((3, H)), None, r"the state has shape \(3, 5\)"),
    (np.zeros(2 * H), None, r"the state has shape \(10,\)"),
    (np.full((3, 2 * H), np.nan), None, "the state holds numbers that are not finite"),
    (np.zeros((3, 2 * H), complex), None, "the state has type complex128; real numbers are needed"),
    (np.full((3, 2 * H), None), None, "the state has type object; real numbers are needed"),
    (None, ["a", "b", ""], "the mask has type <U1; real numbers are needed"),
    (None, [np.nan, 0, 1], "the mask holds nan; True where an episode starts, else False, is needed"),
    (None, [True, False], r"the mask has shape \(2,\); one for each observation, \(3,\), is needed"),
    (np.zeros((3, 2 * H)), True, r"the mask has shape \(1,\); one for each observation, \(3,\), is needed"),
])
def test_states_and_masks_that_do_not_fit(state, mask, message):
    policy, (obs, _) = make(), episodes(1)
    for call in (policy.predict, policy.action_probability, policy.sample_inputs):
        with pytest.raises(ValueError, match=message):
            call(obs[0], state, mask)


@pytest.mark.parametrize("lead", [(0,), (0, 2), (2, 0)])
def test_a_batch_of_nothing_is_no_sample(lead):
    with pytest.raises(ValueError, match="the batch holds no observation; at least one is needed"):
        make().sample_inputs(np.zeros((*lead, *OBS.shape), np.float32))


def test_probabilities_follow_the_state():
    policy, (obs, _) = make(), episodes(2)
    _, state = policy.predict(obs[0])
    p = policy.action_probability(obs[1], state)
    without = policy.action_probability(obs[1])
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    assert np.abs(p - without).max() > 1e-3
    np.testing.assert_allclose(policy.action_probability(obs[1], state, [True] * 3), without, rtol=1e-5)
    actions = np.array([1, 3, 2])
    chosen = policy.action_probability(obs[1], state, actions=actions)
    np.testing.assert_allclose(chosen[:, 0], p[np.arange(3), actions - 1], rtol=1e-4)


def test_a_forgotten_state_is_noticed_once():
    policy, (obs, _) = make(), episodes(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):  # a first step without a state, and then with it
            state = policy.predict(obs[0])[1]
            policy.predict(obs[0], state)
        policy.predict(obs[0]), policy.predict(obs[0])
    with pytest.warns(UserWarning, match="MlpLstmPolicy predicts step after step without a state"):
        policy.predict(obs[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(9):
            policy.predict(obs[0])


def test_dict_observations_in_sequences():
    space = gym.Dict({"a": gym.Discrete(4), "b": gym.Box(-1, 1, (2,))})
    policy, rng = make(observations=space), np.random.default_rng(0)
    obs = {"a": rng.integers(0, 4, (5, 3)), "b": rng.uniform(-1, 1, (5, 3, 2)).astype(np.float32)}
    seq, count = policy.sample_inputs(obs, None, np.zeros((5, 3), bool))
    assert count == 15 and seq.x.shape == (5, 3, 6)
    step, count = policy.sample_inputs({key: value[2] for key, value in obs.items()})
    assert count == 3
    np.testing.assert_array_equal(step.x[0], seq.x[2])
    discrete = make(observations=gym.Discrete(4))
    np.testing.assert_array_equal(discrete.sample_inputs(obs["a"])[0].x, seq.x[..., :4])


# --- segments -----------------------------------------------------------------------------------------------

MODES = {"list": None} | {mode.name: mode for mode in AutoresetMode}


def segment_of(policy, mode="list", n=3, steps=25, segments=2):
    """Collect `segments` segments, each with the memory that the one before left; return the last."""
    makers = [lambda: Parity(policy_space(policy))] * n
    if MODES[mode]:
        stepper = Vector(Together(makers, autoreset_mode=MODES[mode]))
    else:
        stepper = EnvList([make_env() for make_env in makers])
    runner = Runner(policy, stepper)
    runner.restart(list(range(n)))
    for k in range(segments):
        seg = runner.collect(steps, np.random.default_rng(k))
        x, last = policy.normalizer(seg.obs), policy.normalizer(seg.last_obs)
        runner.remember(policy.segment_values(x, seg, last, seg.last_obs[:0]).memory)
    return seg


def policy_space(policy):
    kind = type(policy.action_space).__name__
    return next(space for space in ACTIONS.values() if type(space).__name__ == kind)


def slow_values(policy, seg, state):
    """Compute the arrays of `segment_values` one step of one environment at a time.

    These are the values of the segment (T, n), of the observations after it (n,) and of the last observations
    of truncated episodes.
    """
    name = "pi" if policy.shared else "vf"
    ends = {(t, i): row for t, i, row in seg.final}
    values, at_end, after = np.zeros(seg.starts.shape), {}, []

    def value(row, start, state):
        seq = Sequence(policy.normalizer(row[None, None]), np.array([[start]]), state)
        features, states = policy.nets[name].apply(policy.params, seq)
        return float(policy.vf_head.apply(policy.params, features)[0, 0]), states[0]

    episode_over = seg.terminated[-1] | seg.truncated[-1] | ~seg.valid[-1]
    for i in range(seg.starts.shape[1]):
        known = state[i:i + 1]
        for t in range(len(seg.starts)):
            values[t, i], known = value(seg.obs[t, i], seg.starts[t, i], known)
            if (t, i) in ends:
                at_end[t, i] = value(ends[t, i], False, known)[0]
        after.append(value(seg.last_obs[i], episode_over[i], known)[0])
    return values, np.array(after), np.array([at_end[t, i] for t, i, _ in seg.final])


@each
@each_sharing
@pytest.mark.parametrize("mode", MODES)
def test_values_of_a_segment_and_of_truncated_episodes(name, share, mode):
    """The last observation of a truncated episode is valued with the memory of that episode."""
    policy = make(name, dtype="float64", share_features=share)
    seg = segment_of(policy, mode)
    assert seg.final and seg.starts.any() and (not seg.valid.all()) == (mode == "NEXT_STEP")
    before = seg.memory["pi" if share else "vf"]
    assert before.any()
    final = np.stack([row for *_, row in seg.final])
    got = policy.segment_values(seg.obs, seg, seg.last_obs, final)
    assert got.memory.keys() == (set() if share else {"vf"})
    for a, b in zip(got[:3], slow_values(policy, seg, before), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@each
@pytest.mark.parametrize("mode", MODES)
def test_the_policy_of_the_update_is_the_policy_that_acted(name, mode):
    """Given the rollout's noise, the distributions of the whole sequence draw the same actions."""
    policy = make(name, "Box", dtype="float64")
    seg = segment_of(policy, mode)
    inputs, line_up = policy.inputs(policy.normalizer(seg.obs), seg)
    noise = policy.dist.noise(np.random.default_rng(1), 25, 3)  # the noise of segment_of's second segment
    drawn = policy.dist.sample(policy.pi(policy.params, inputs), line_up(noise))
    np.testing.assert_allclose(drawn, line_up(seg.actions), rtol=1e-6, atol=1e-6)


@each
def test_reset_rows_disturb_nothing(name):
    policy = make(name, dtype="float64")
    seg = segment_of(policy, "NEXT_STEP")
    other = seg.obs.copy()
    other[~seg.valid] += 100
    outputs = []
    for obs in (seg.obs, other):
        inputs, line_up = policy.inputs(policy.normalizer(obs), seg)
        real = line_up(seg.valid)
        weights = real / real.sum()
        params = policy.params.select(policy.policy_weights)
        v = np.random.default_rng(0).standard_normal(params.flat.size)
        actions = line_up(seg.actions)

        def mean_logp(p):
            return ops.sum(policy.dist.logp(policy.pi(p, inputs), actions) * weights)

        _, g = value_and_grad(mean_logp, params)
        values = policy.segment_values(policy.normalizer(obs), seg, seg.last_obs, seg.last_obs[:0])[0]
        outputs.append((policy.pi(policy.params, inputs)[real], values[seg.valid], g,
                        fisher_operator(policy, params, inputs, weights, ONE, 0.0)(v)))
    for a, b in zip(*outputs):
        np.testing.assert_array_equal(a, b)


def test_curvature_is_of_whole_environments():
    policy = make()
    x, starts = episodes(6, 7)
    seq, weights = Sequence(x, starts, np.arange(70.0).reshape(7, 10)), np.arange(42.0)
    some, its = policy.thin(seq, weights, 3)
    np.testing.assert_array_equal(some.x, x[:, [0, 3, 6]])
    np.testing.assert_array_equal(some.starts, starts[:, [0, 3, 6]])
    np.testing.assert_array_equal(some.state[:, 0], [0, 30, 60])
    np.testing.assert_array_equal(its.reshape(6, 3), weights.reshape(6, 7)[:, [0, 3, 6]])
    for k, n, left in [(1, 7, range(7)), (8, 7, [0, 6]), (5, 5, [0, 4]), (4, 6, [0, 4]), (2, 3, [0, 2]),
                       (9, 3, [0, 2]), (9, 2, [0, 1]), (9, 1, [0])]:  # two at least
        few = Sequence(x[:, :n], starts[:, :n], seq.state[:n])
        some, its = policy.thin(few, weights.reshape(6, 7)[:, :n].ravel(), k)
        np.testing.assert_array_equal(some.x, x[:, left])
        np.testing.assert_array_equal(its.reshape(6, -1), weights.reshape(6, 7)[:, left])


@each
@pytest.mark.parametrize("n, steps, size, batches, length", [
    (3, 24, 24, 3, 24), (3, 24, 1000, 1, 24), (3, 24, 48, 2, 24), (1, 24, 8, 3, 8), (2, 25, 10, 5, 9),
    (1, 7, 1, 7, 1), (1, 25, 7, 4, 7),
])
def test_the_critic_sees_every_row_once_in_whole_sequences(name, n, steps, size, batches, length):
    policy = make(name, dtype="float64")
    seg = segment_of(policy, n=n, steps=steps)
    x = policy.normalizer(seg.obs)
    values = policy.segment_values(x, seg, seg.last_obs, seg.last_obs[:0])[0].ravel()
    one_pass = policy.critic_batches(x, seg, size, n * steps, np.random.default_rng(0))
    orders = []
    for _ in range(2):
        seen = list(one_pass())
        assert len(seen) == batches and all(len(seq.x) == length for seq, _ in seen)
        rows = np.concatenate([rows for _, rows in seen])
        np.testing.assert_array_equal(np.sort(rows), np.arange(n * steps))
        for seq, its in seen:  # a piece begins with the state that the whole sequence has there
            np.testing.assert_allclose(policy.vf(policy.params, seq), values[its], rtol=1e-10, atol=1e-10)
        orders.append(rows)
    assert n * steps == length or (orders[0] != orders[1]).any(), "pieces must be shuffled"


def test_an_experts_episodes_are_pieces_to_their_last_step():
    policy, x, starts = make(), np.arange(33, dtype=np.float32).reshape(11, 3), np.zeros(11, bool)
    starts[[4, 9]] = True
    count, pick = policy.demonstrations(x, starts)
    assert count == 3
    for chosen, wanted in (([0], range(4)), ([2], [9, 10]), ([1, 2, 0], range(11))):
        seq, rows = pick(np.array(chosen))
        np.testing.assert_array_equal(np.sort(rows), wanted)
        np.testing.assert_array_equal(seq.x.reshape(-1, 3)[seq.real], x[rows])
        np.testing.assert_array_equal(rows[np.isin(rows, [0, 4, 9])], [[0, 4, 9][k] for k in chosen])


def test_the_same_number_of_minibatches_on_all_ranks():
    policy = make()
    seg = segment_of(policy, n=2, steps=5)
    for ranks in (3, 10, 11):
        seen = list(policy.critic_batches(seg.obs, seg, 1, ranks, np.random.default_rng(0))())
        assert len(seen) == ranks and sum(len(rows) for _, rows in seen) == 10
        critic = policy.params.select(policy.critic_weights)
        sums = [policy.critic_loss(critic, seq, *np.ones((2, len(rows)), np.float32)) for seq, rows in seen]
        assert all(np.isfinite(s).all() for s in sums) and sum(s[-1] for s in sums) == 10


def test_ranks_with_some_of_the_environments_each_make_one_step():
    policy = make(dtype="float64")
    seg = segment_of(policy, "NEXT_STEP", n=5)
    advantages = np.random.default_rng(0).standard_normal(seg.valid.shape)
    head, parts = policy.params.select(policy.policy_weights), [slice(0, 2), slice(2, 3), slice(3, 5)]
    whole, _ = policy.inputs(policy.normalizer(seg.obs), seg)

    def step(comm, mine):
        seq = Sequence(whole.x[:, mine], whole.starts[:, mine], whole.state[mine])
        arrays = seg.actions, advantages, seg.valid / seg.valid.sum()
        rows = [array[:, mine].reshape(-1, *array.shape[2:]) for array in arrays]
        return trust_region_step(policy, head, Batch(seq, *rows), comm, fvp_subsample=1)
    flat, info = step(ONE, slice(None))
    assert info["step_fraction"] > 0
    for part, its in reference.on_ranks(3, lambda comm: step(comm, parts[comm.rank])):
        np.testing.assert_allclose(part, flat, rtol=1e-8, atol=1e-9)
        assert its["step_fraction"] == info["step_fraction"]


# --- training -----------------------------------------------------------------------------------------------

def model_on(env, name="lstm", **settings):
    defaults = dict(timesteps_per_batch=64, seed=0, vf_iters=2, policy_kwargs=dict(n_lstm=8, layers=[6]))
    return TRPO(POLICIES[name], env, **(defaults | settings))


@each
@each_sharing
@pytest.mark.parametrize("actions", ACTIONS)
def test_the_step_moves_the_policy_and_the_fit_the_critic(name, share, actions):
    kwargs = dict(n_lstm=4, net_arch=[3, "lstm", 4, dict(pi=[3], vf=[3])], share_features=share)

    def new_model(vf_iters):
        env = DummyVecEnv([lambda: Parity(ACTIONS[actions])] * 2)
        return model_on(env, name, vf_iters=vf_iters, policy_kwargs=kwargs)

    model = new_model(vf_iters=0)
    before = model.get_parameters()
    model.learn(64)
    assert model.skipped_updates == 0
    after = model.get_parameters()
    for key in before:
        assert (after[key] != before[key]).any() == (key in model.policy.policy_weights), key
    fitted = new_model(vf_iters=2).learn(64)
    for key, array in fitted.get_parameters().items():
        assert np.array_equal(array, after[key]) == (key in model.policy.policy_weights), key


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("error")  # an update that is skipped only warns
def test_a_model_learns_what_only_memory_can(mode):
    """Learn the parity of bits: a guess scores 0.5, and the last bit alone at most 0.75."""
    envs = [lambda: Parity(gym.Discrete(2))] * 8
    env = Together(envs, autoreset_mode=MODES[mode]) if MODES[mode] else DummyVecEnv(envs)
    model = TRPO("MlpLstmPolicy", env, timesteps_per_batch=1024, gamma=0.0, lam=0.0,
                 max_kl=LinearSchedule(0.03), vf_iters=5, vf_stepsize=3e-3, seed=0, fvp_subsample=1,
                 policy_kwargs=dict(n_lstm=16, layers=[]))
    model.learn(30_000)
    total, length = evaluate_policy(model, Parity(gym.Discrete(2)), 50, return_episode_rewards=True, seed=1)
    assert sum(total) / sum(length) > 0.95


@each
def test_same_seed_same_bits_and_a_file_goes_on_as_if_nothing_had_been(name, tmp_path):
    def env():
        return DummyVecEnv([Parity] * 3)

    settings = dict(normalize_observations=True, normalize_rewards=True)
    whole = model_on(env(), name, **settings).learn(256)
    again = model_on(env(), name, **settings).learn(256)
    part = model_on(env(), name, **settings).learn(128)
    path = part.save(tmp_path / "part")
    resumed = TRPO.load(path, env=env())
    resumed.learn(256 - resumed.num_timesteps, reset_num_timesteps=False)
    others = again.get_parameters(), resumed.get_parameters()
    for key, array in whole.get_parameters().items():
        assert all(array.tobytes() == other[key].tobytes() for other in others), key
    assert whole.adam.m.tobytes() == resumed.adam.m.tobytes() and whole.num_timesteps == resumed.num_timesteps


@each
@each_sharing
def test_files(name, share, tmp_path):
    kwargs = dict(n_lstm=7, net_arch=[5, "lstm", dict(pi=[4], vf=[3])], share_features=share)
    model = model_on(Parity(), name, policy_kwargs=kwargs).learn(64)
    policy = load_policy(model.save(tmp_path / "model"))
    assert type(policy) is POLICIES[name] and policy.n_lstm == 7
    obs, starts = episodes(4)
    states = [None, None]
    for t in range(4):
        a, states[0] = model.predict(obs[t], states[0], starts[t], True)
        b, states[1] = policy.predict(obs[t], states[1], starts[t], True)
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(*states)


def test_evaluation_carries_the_state():
    model = model_on(DummyVecEnv([Parity] * 2)).learn(64)
    seen = []

    class Watched:
        policy = model.policy

        def predict(self, obs, state, mask, deterministic):
            seen.append((state, np.copy(mask)))
            return model.predict(obs, state, mask, deterministic)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate_policy(Watched(), Together([Parity] * 2, autoreset_mode=AutoresetMode.NEXT_STEP), 4, seed=0)
    assert seen[0][0] is None and all(state.shape == (2, 16) for state, _ in seen[1:]) and seen[0][1].all()
    assert any(mask.any() for _, mask in seen[1:]) and not all(mask.any() for _, mask in seen)


@each
def test_imitation_of_whole_episodes(name):
    """Imitate an expert with memory better than the present observation alone would allow."""
    env, rng = Parity(gym.Discrete(2)), np.random.default_rng(0)
    rows = {"obs": [], "actions": [], "episode_starts": []}
    for episode in range(120):
        obs, _ = env.reset(seed=episode)
        for t in range(int(rng.integers(1, 9))):
            rows["obs"].append(obs)
            rows["actions"].append(env.sum % 2)
            rows["episode_starts"].append(t == 0)
            obs = env.step(0)[0]
    data = {key: np.array(value) for key, value in rows.items()}
    model = model_on(env, name, policy_kwargs=dict(n_lstm=16, layers=[]))
    model.pretrain(data, n_epochs=60, learning_rate=1e-2)
    inputs, order = model.policy.demonstrations(data["obs"], data["episode_starts"])[1](np.arange(120))
    likely = model.policy.dist.mode(model.policy.pi(model.policy.params, inputs))
    assert np.mean(likely == data["actions"][order]) > 0.9
    with pytest.raises(ValueError, match="the expert data lack the array 'episode_starts'"):
        model.pretrain((data["obs"], data["actions"]))
    with pytest.raises(ValueError, match=r"hold \d+ observations, but episode_starts of shape \(3,\)"):
        model.pretrain(data | {"episode_starts": np.ones(3, bool)})


def test_an_expert_that_remembers_is_recorded_with_its_state():
    model, states = model_on(Parity()), []

    class Watched:
        def predict(self, obs, state, mask, deterministic):
            states.append(state)
            return model.predict(obs, state, mask, deterministic)
    data = generate_expert_data(Watched(), env=Parity(), n_episodes=3, seed=0)
    assert [state is None for state in states] == data["episode_starts"].tolist()


def test_long_episodes_are_imitated_in_batches_that_may_be_empty():
    """There are more batches of rows than episodes."""
    starts = np.arange(1000) % 500 == 0
    obs = np.random.default_rng(0).uniform(-1, 1, (1000, 3)).astype(np.float32)
    data = dict(obs=obs, actions=np.ones(1000, int), episode_starts=starts)
    model = model_on(Parity())
    before = model.policy.params.flat.copy()
    model.pretrain(data, n_epochs=2)
    assert np.isfinite(model.policy.params.flat).all() and (model.policy.params.flat != before).any()
    with pytest.raises(ValueError, match="hold one episode; a policy with memory needs at least two"):
        model.pretrain({key: value[:500] for key, value in data.items()})


@pytest.mark.parametrize("settings", [
    dict(vf_batch_size=16), dict(vf_batch_size=2, policy_kwargs=dict(n_lstm=4, share_features=True))])
def test_minibatches_without_rows_that_count_do_not_stop_the_critic(settings):
    """Many rows of autoresets leave more minibatches than pieces, or some without a row that counts."""
    class Short(Parity):
        def __init__(self):
            super().__init__(limit=1)
    env = Together([Short], autoreset_mode=AutoresetMode.NEXT_STEP)
    model = model_on(env, timesteps_per_batch=1024, **settings)
    before = model.get_parameters()["vf/out/w"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(1024)
    assert np.isfinite(model.policy.params.flat).all()
    assert (model.get_parameters()["vf/out/w"] != before).any()
