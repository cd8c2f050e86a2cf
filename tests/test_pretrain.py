"""Experts are recorded in whole episodes; a policy imitates them, and is judged by data that it never saw."""

import gymnasium
import numpy as np
import pytest
import reference
from toys import Counting, Parts, Planned, Shifted, Vector

from trpo_np import TRPO, ops
from trpo_np.autodiff import value_and_grad
from trpo_np.comm import OneProcess
from trpo_np.policies import MlpLstmPolicy, MlpPolicy
from trpo_np.pretrain import expert_arrays, generate_expert_data, imitate

OBS = gymnasium.spaces.Box(-9, 9, (3,), np.float32)
ARMS = gymnasium.spaces.Discrete(3, start=2)


# --- recording an expert ------------------------------------------------------------------------------------

class Expert:
    """Remembers how it was asked."""

    def __init__(self):
        self.asked = []

    def predict(self, obs, state=None, mask=None, deterministic=False):
        self.asked.append((obs.copy(), state, mask, deterministic))
        return 1, (state or 0) + 1


def test_whole_episodes_are_recorded_row_by_row():
    expert, env = Expert(), Planned((2, 3))
    data = generate_expert_data(expert, env=env, n_episodes=3, seed=5)
    np.testing.assert_array_equal(data["obs"], [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1]])
    np.testing.assert_array_equal(data["rewards"], [1, 2, 101, 102, 103, 201, 202])
    np.testing.assert_array_equal(data["episode_starts"], [1, 0, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(data["episode_returns"], [3, 306, 403])
    assert data["actions"].tolist() == [1] * 7 and data["episode_starts"].dtype == bool
    assert env.seeds == [5, 6, 7]
    assert [state for _, state, *_ in expert.asked] == [None, 1, None, 1, 2, None, 1]
    assert all(mask is None and deterministic for *_, mask, deterministic in expert.asked)


def test_an_episode_that_a_limit_cuts_is_whole_too():
    data = generate_expert_data(lambda obs: 0, env=Planned((2, 3), truncate=True), n_episodes=2)
    assert data["episode_starts"].tolist() == [True, False, True, False, False]


def test_without_a_seed_the_environment_gets_none():
    env = Planned((1,))
    generate_expert_data(lambda obs: 0, env=env, n_episodes=2)
    assert env.seeds == [None, None]


def test_an_environment_may_reuse_its_buffer():
    data = generate_expert_data(lambda obs: np.zeros(2, np.float32), env=Counting(reuse=True), n_episodes=1)
    np.testing.assert_array_equal(data["obs"], [[0, 0], [0, 1], [0, 2]])


def test_a_model_is_recorded_in_its_own_environment_after_some_training(tmp_path):
    model = TRPO("MlpPolicy", Shifted(), timesteps_per_batch=32, seed=0)
    data = generate_expert_data(model, tmp_path / "expert", n_timesteps=32, n_episodes=2)
    assert model.num_timesteps == 32 and len(data["obs"]) == len(data["actions"])
    with np.load(tmp_path / "expert.npz", allow_pickle=False) as file:
        for name, array in data.items():
            np.testing.assert_array_equal(file[name], array)


@pytest.mark.parametrize("env, sentence", [
    (Vector([Shifted] * 2), "recorded from a gymnasium Env or its id, not from Vector"),
    (Parts(), "hold observations that are arrays; wrap the environment in .*FlattenObservation")])
def test_what_cannot_be_recorded_is_refused(env, sentence):
    with pytest.raises(ValueError, match=sentence):
        generate_expert_data(lambda obs: 0, env=env, n_episodes=1)


# --- reading a dataset --------------------------------------------------------------------------------------

def policy_on(actions=ARMS, dtype="float64", **options):
    return MlpPolicy(OBS, actions, dtype=dtype, layers=[4], **options).draw(np.random.default_rng(0))


def demonstrations(n, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 3)).astype(np.float32), rng.integers(2, 5, n)


def test_a_pair_a_dict_and_a_file_hold_the_same(tmp_path):
    obs, actions = demonstrations(5)
    starts = np.array([1, 0, 0, 1, 0], bool)
    np.savez(tmp_path / "data.npz", obs=obs, actions=actions, episode_starts=starts)
    for dataset, has_starts in [((obs, actions), False), (dict(obs=obs, actions=actions), False),
                                (dict(obs=obs, actions=actions, episode_starts=starts), True),
                                (tmp_path / "data.npz", True), (str(tmp_path / "data"), True)]:
        found = expert_arrays(dataset, policy_on())
        np.testing.assert_array_equal(found[0], obs)
        np.testing.assert_array_equal(found[1], actions - 2)  # raw actions count from 0
        assert (found[2] is not None) == has_starts and found[0].dtype == np.float64
        if has_starts:
            np.testing.assert_array_equal(found[2], starts)


def spoiled(**changes):
    obs, actions = demonstrations(4)
    return {key: value for key, value in {**dict(obs=obs, actions=actions), **changes}.items()
            if value is not None}


@pytest.mark.parametrize("dataset, sentence", [
    (spoiled(actions=None), "lack the array 'actions'; obs and actions are needed"),
    (spoiled(obs=None), "lack the array 'obs'"),
    (spoiled(actions=np.full(3, 2)), "hold 4 observations and 3 actions; as many of both"),
    (spoiled(obs=np.zeros((1, 3)), actions=[2]), "1 observations and 1 actions; .* at least 2"),
    (spoiled(obs=np.zeros(3), actions=[2]), "hold 1 observations and 1 actions"),
    (spoiled(actions=np.full(4, 5)), r"actions int64 \(4,\) do not fit the action space .*Discrete"),
    (spoiled(actions=np.zeros((4, 2), int)), "do not fit the action space"),
    (spoiled(obs=np.full((4, 3), np.nan)), "holds nan in row 0, field 0; observations must be finite"),
    (spoiled(episode_starts=np.ones(3, bool)), r"4 observations, but episode_starts of shape \(3,\)"),
    (3, "the expert data are 3; a path, a dict with obs and actions, or a pair")])
def test_a_dataset_that_does_not_fit_is_named(dataset, sentence):
    with pytest.raises(ValueError, match=sentence):
        expert_arrays(dataset, policy_on())


def test_actions_that_are_not_finite_are_named():
    box = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    with pytest.raises(ValueError, match="numbers that are not finite"):
        expert_arrays((np.zeros((4, 3)), np.full((4, 2), np.inf)), policy_on(box))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "text.npz").write_text("no zip")
    np.savez(tmp_path / "pickled.npz", obs=np.array([{}, {}], object), actions=np.zeros(2))
    for name, sentence in [("missing", "'missing' cannot be read"), ("text.npz", "pickled objects are not"),
                           ("pickled.npz", "pickled objects are not read")]:
        with pytest.raises(ValueError, match=sentence):
            expert_arrays(name if name == "missing" else str(tmp_path / name), policy_on())


# --- imitating ----------------------------------------------------------------------------------------------

def run(policy, obs, actions, n_epochs=1, learning_rate=1e-2, seed=0, comm=None, starts=None):
    """Imitate; return the losses of each epoch."""
    actions = policy.from_env(actions, len(obs))
    return list(imitate(policy, obs.astype(policy.dtype), actions, starts, n_epochs, learning_rate,
                        np.random.default_rng(seed), comm or OneProcess()))


def nll(policy, obs, actions, p=None):
    """The negative log-likelihood of each row."""
    params = policy.pi(p or policy.params, policy.normalizer(obs.astype(policy.dtype)))
    return -policy.dist.logp(params, actions - 2)


def held_out_rows(n, seed):
    """The rows whose action counts in nothing that is fitted."""
    obs, actions = demonstrations(n)
    plain = policy_on()
    run(plain, obs, actions, seed=seed)
    rows = []
    for row in range(n):
        other = actions.copy()
        other[row] = 2 + (other[row] - 1) % 3
        policy = policy_on()
        run(policy, obs, other, seed=seed)
        if (policy.params.flat == plain.params.flat).all():
            rows.append(row)
    return rows


def test_three_rows_in_ten_are_held_out_the_same_whatever_the_seed():
    first = held_out_rows(10, seed=0)
    assert len(first) == 3 and held_out_rows(10, seed=1) == first


def test_one_row_of_two_is_held_out():
    assert len(held_out_rows(2, seed=0)) == 1


def test_the_losses_are_those_of_the_rows_fitted_and_of_those_held_out():
    obs, actions = demonstrations(10)
    held = np.isin(np.arange(10), held_out_rows(10, seed=0))
    policy = policy_on()
    before = nll(policy, obs, actions)
    [(fitted, held_out)] = run(policy, obs, actions)  # one batch: its loss is that before its step
    assert fitted == pytest.approx(before[~held].mean(), rel=1e-9)
    assert held_out == pytest.approx(nll(policy, obs, actions)[held].mean(), rel=1e-9)


def test_each_epochs_losses_are_its_own():
    obs, actions = demonstrations(10)
    held = np.isin(np.arange(10), held_out_rows(10, seed=0))
    policy = policy_on()
    run(policy, obs, actions)
    middle = nll(policy, obs, actions)[~held].mean()
    _, (fitted, _) = run(policy_on(), obs, actions, n_epochs=2)
    assert fitted == pytest.approx(middle, rel=1e-9)


def test_a_step_is_adams_on_the_mean_over_a_batch():
    obs, actions = demonstrations(10)
    held = np.isin(np.arange(10), held_out_rows(10, seed=0))
    policy = policy_on()
    start = policy.policy_params.flat.copy()
    grad = value_and_grad(lambda p: ops.mean(nll(policy, obs[~held], actions[~held], p)),
                          policy.policy_params)[1]
    run(policy, obs, actions)
    np.testing.assert_allclose(policy.policy_params.flat, reference.adam(start, [grad], 1e-2), rtol=1e-10)


def test_every_row_is_fitted_once_an_epoch_in_batches_of_at_most_128(monkeypatch):
    obs, actions = demonstrations(300)
    policy, picked = policy_on(), []
    number, pick = policy.demonstrations(obs, None)
    policy.demonstrations = lambda x, starts: (number, lambda rows: picked.append(rows) or pick(rows))
    run(policy, obs, actions)
    _, *batches, held = picked  # the first asks for the number of batches
    assert [len(rows) for rows in batches] == [105, 105] and len(held) == 90
    assert sorted(np.concatenate([*batches, held])) == list(range(300))
    assert (np.diff(batches[0]) < 0).any()  # in random order


def test_imitation_moves_the_policy_and_nothing_of_the_critic():
    obs, actions = demonstrations(40)
    actions[:] = 4
    policy = policy_on()
    critic = policy.critic_params.flat.copy()
    losses = run(policy, obs, actions, n_epochs=90)
    np.testing.assert_array_equal(policy.critic_params.flat, critic)
    assert losses[-1][0] < 0.1 and losses[-1][1] < 0.1 < losses[0][1]
    assert (policy.predict(obs, deterministic=True)[0] == 4).all()


def test_the_spread_of_actions_stays_within_its_bounds():
    box = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    policy = policy_on(box, log_std_init=-20.0)
    obs = np.zeros((8, 3), np.float32)
    mean = policy.dist.mode(policy.pi(policy.params, obs.astype(float)))
    run(policy, obs, mean, learning_rate=1.0)  # the likelihood of the mean is the higher, the less the spread
    np.testing.assert_array_equal(policy.params["pi/log_std"], -20)


def test_the_first_demonstrations_bring_the_statistics_later_ones_do_not():
    obs, actions = demonstrations(10)
    policy = policy_on(normalize=True)
    run(policy, obs + 5, actions)
    assert policy.normalizer.count == 10
    np.testing.assert_allclose(policy.normalizer.moments.mean, (obs + 5).mean(0), rtol=1e-6)
    run(policy, obs, actions)
    assert policy.normalizer.count == 10


class Twice(OneProcess):
    """Two ranks with the same data."""

    size = 2

    def sum(self, x):
        return 2 * np.asarray(x)


def test_two_ranks_with_the_same_data_fit_what_one_does():
    obs, actions = demonstrations(10)
    alone, together = policy_on(), policy_on()
    one, two = run(alone, obs, actions, 3), run(together, obs, actions, 3, comm=Twice())
    np.testing.assert_allclose(together.params.flat, alone.params.flat, rtol=1e-12)
    np.testing.assert_allclose(one, two, rtol=1e-12)


def test_a_rank_with_more_data_makes_the_others_go_along():
    obs, actions = demonstrations(10)

    class Other(OneProcess):
        sums = 0

        def gather(self, x):
            return [x, 3]  # batches of another rank

        def sum(self, x):
            self.sums += 1
            return x
    comm = Other()
    run(policy_on(), obs, actions, comm=comm)
    assert comm.sums == 3 + 1  # the batches, the held-out rows


@pytest.mark.parametrize("n_epochs", [-1, 1.5, "5", True, None])
def test_a_number_of_passes_is_needed(n_epochs):
    with pytest.raises(ValueError, match="n_epochs is .*; an integer of at least 0 is needed"):
        imitate(policy_on(), *demonstrations(4), None, n_epochs, 1e-3, None, OneProcess())


@pytest.mark.parametrize("learning_rate", [0.0, -1, np.inf, np.nan, "1", True, None])
def test_a_learning_rate_is_a_positive_number(learning_rate):
    with pytest.raises(ValueError, match="learning_rate is .*; a positive number is needed"):
        imitate(policy_on(), *demonstrations(4), None, 1, learning_rate, None, OneProcess())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("options", [dict(learning_rate=1e30), dict(scale=1e30)])
def test_a_fit_that_is_not_finite_is_undone(options):
    obs, actions = demonstrations(10)
    box = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    policy = policy_on(box, "float32", normalize=True)
    before = policy.params.flat.copy()
    actions = actions[:, None].astype("f") * np.float32(options.pop("scale", 1))
    with pytest.raises(ValueError, match="pretrain was undone: epoch . left numbers that are not finite"):
        run(policy, obs, actions, n_epochs=3, **options)
    np.testing.assert_array_equal(policy.params.flat, before)
    assert policy.normalizer.count == 0 and (policy.normalizer.factor == 1).all()


def test_one_episode_for_a_policy_with_memory_changes_nothing():
    obs, actions = demonstrations(10)
    policy = MlpLstmPolicy(OBS, ARMS, layers=[4], n_lstm=2, normalize=True).draw(np.random.default_rng(0))
    for starts, sentence in ((None, "lack the array"), (np.arange(10) == 0, "hold one episode")):
        with pytest.raises(ValueError, match=sentence):
            run(policy, obs, actions, starts=starts)
    assert policy.normalizer.count == 0


# --- TRPO.pretrain ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("interval, epochs", [(None, [1, 2, 3, 4]), (3, [3, 4]), (4, [4])])
def test_losses_are_printed_every_so_many_epochs_and_at_the_end(capsys, interval, epochs):
    model = TRPO("MlpPolicy", Shifted(), verbose=1, seed=0)
    obs = np.random.default_rng(0).standard_normal((6, 3))
    assert model.pretrain((obs, np.zeros((6, 2))), n_epochs=4, val_interval=interval) is model
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines() if " epoch " in line]
    assert [int(line[3]) for line in lines] == epochs
    assert said.count("negative_log_likelihood") == said.count("held_out") == len(epochs)


@pytest.mark.parametrize("wrong", [dict(n_epochs="5"), dict(learning_rate="1"), dict(val_interval="2")])
def test_what_is_no_number_is_named(wrong):
    with pytest.raises(ValueError, match=f"{min(wrong)} is '.'; .* is needed"):
        TRPO("MlpPolicy", Shifted(), seed=0).pretrain((np.zeros((6, 3)), np.zeros((6, 2))), **wrong)


def test_same_seed_same_bits():
    data = np.random.default_rng(0).standard_normal((400, 3)), np.zeros((400, 2))
    flats = [TRPO("MlpPolicy", Shifted(), seed=seed).pretrain(data, 2).policy.params.flat
             for seed in (0, 0)]
    np.testing.assert_array_equal(*flats)
