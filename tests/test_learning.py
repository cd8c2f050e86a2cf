"""It learns: a bandit and a corridor in seconds, control in slow runs; seeds fixed, thresholds generous."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from toys import Bandit, Corridor, Target

from trpo_np import TRPO, evaluate_policy
from trpo_np.presets import tuned


def test_a_bandit_is_solved():
    model = TRPO("MlpPolicy", Bandit(), timesteps_per_batch=256, max_kl=0.05, seed=0)
    assert model.learn(0).action_probability(0).max() < 0.5, "it must not know at the start"
    model.learn(256 * 25)
    assert [model.predict(i, deterministic=True)[0] for i in range(3)] == [1, 2, 3]
    assert min(model.action_probability(i)[i] for i in range(3)) > 0.6
    assert np.mean([reward for reward, _ in model.recent]) > 0.8


def test_a_corridor_is_walked():
    model = TRPO("MlpPolicy", SyncVectorEnv([Corridor] * 4), timesteps_per_batch=512, max_kl=0.03,
                 vf_stepsize=1e-3, seed=0)
    model.learn(512 * 12)
    assert min(model.action_probability(cell)[1] for cell in range(6)) > 0.6
    assert evaluate_policy(model, Corridor(), 2)[0] == pytest.approx(0.95)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_continuous_target_is_hit(seed):
    model = TRPO("MlpPolicy", Target(), timesteps_per_batch=512, max_kl=0.03, seed=seed, vf_stepsize=1e-3,
                 normalize_observations=True)
    before = evaluate_policy(model, Target(), 200, seed=1)[0]
    model.learn(512 * 30)
    after = evaluate_policy(model, Target(), 200, seed=1)[0]
    assert before < -0.5 and after > -0.05


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_cartpole_is_balanced(seed):
    # the preset's schedules settle, which 40,000 steps are too few for
    constant = dict(max_kl=0.01, vf_stepsize=1e-3)
    model = TRPO("MlpPolicy", "CartPole-v1", seed=seed, **tuned("CartPole-v1") | constant).learn(40_000)
    mean, _ = evaluate_policy(model, "CartPole-v1", 10, seed=100 + seed)
    assert mean > 450


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_preset_of_cartpole_ends_with_the_best_score(seed):
    model = TRPO("MlpPolicy", "CartPole-v1", seed=seed, **tuned("CartPole-v1")).learn(100_000)
    assert evaluate_policy(model, "CartPole-v1", 20, seed=10_000 + seed) == (500, 0)


@pytest.mark.slow
def test_a_pendulum_is_swung_up():
    settings = tuned("Pendulum-v1") | dict(gamma=0.9)
    model = TRPO("MlpPolicy", SyncVectorEnv([lambda: gymnasium.make("Pendulum-v1")] * 2), seed=0,
                 **settings).learn(60_000)
    assert evaluate_policy(model, "Pendulum-v1", 10, seed=1)[0] > -300
