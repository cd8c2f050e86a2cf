"""Settings that work: `tuned` for learning fast, `baselines` for comparing with openai/baselines.

A preset holds keyword arguments of TRPO. Its batch is the job's, shared by all ranks; with `baselines` each
rank has its own, as there. The sources are rl-baselines3-zoo's trpo.yml, tianshou's examples and "What
Matters In On-Policy Reinforcement Learning" (arXiv:2006.05990); bench/learn.py shows the returns that they
reach.
"""

import copy
import json
import re
from pathlib import Path
from typing import Any

from .settings import LinearSchedule

# What an environment gets that is not listed below: normalised observations and rewards, a small initial
# spread, many passes of the critic, short steps where a batch has little to teach, and many starts in it.
_CONTROL: dict[str, Any] = dict(
    timesteps_per_batch=2048, gamma=0.995, lam=0.9, max_kl=LinearSchedule(0.04, 0.01), scale_steps=True,
    restarts=0.005, cg_iters=10, cg_damping=0.1, fvp_subsample=1, linesearch_shrink=0.8, vf_stepsize=1e-3,
    vf_iters=10, normalize_observations=True, normalize_rewards=True, policy_kwargs=dict(log_std_init=-0.5))

# A few discrete actions, short episodes, rewards of order one: no normalisation, smaller batches. Steps get
# shorter, so that the policy at the end is as good as the best one on the way.
_CLASSIC: dict[str, Any] = dict(
    timesteps_per_batch=1024, gamma=0.99, lam=0.95, max_kl=LinearSchedule(0.03, 0.001), restarts=0.005,
    cg_iters=10, cg_damping=1e-3, fvp_subsample=1, linesearch_shrink=0.8,
    vf_stepsize=LinearSchedule(1e-3, 1e-4), vf_iters=20)

# 100,000 steps are few: twice as many updates, each with as many steps of the critic and with the samples of
# the batch before; short steps at the end.
_SHORT: dict[str, Any] = _CONTROL | dict(timesteps_per_batch=1024, vf_iters=20, sample_reuse=2,
                                         max_kl=LinearSchedule(0.04, 0.001))

# The settings of single environments, by their names without a version. An arm that reaches for a point looks
# a second ahead; Hopper and Humanoid, in whole episodes, learn from each batch alike, Humanoid, which falls
# within seconds, by long steps and a slow critic; Swimmer needs a long horizon, and a first policy that tries
# more, as does a flag on a mountain that only few episodes see. Where steps are few, where a fall costs much
# and where two gaits must be told apart, samples count twice.
_TUNED: dict[str, dict[str, Any]] = {
    "Acrobot": _SHORT,
    "CartPole": _CLASSIC,
    "Hopper": _CONTROL | dict(lam=0.95, max_kl=LinearSchedule(0.02, 0.01), scale_steps=False, restarts=0.0),
    "Humanoid": _CONTROL | dict(gamma=0.99, lam=0.85, max_kl=LinearSchedule(0.1, 0.05), scale_steps=False,
                                restarts=0.0, vf_stepsize=1e-4),
    "LunarLander": _CONTROL | dict(timesteps_per_batch=1024, max_kl=LinearSchedule(0.03, 0.007),
                                   sample_reuse=2),
    "LunarLanderContinuous": _CONTROL | dict(
        gamma=0.99, lam=0.95, max_kl=LinearSchedule(0.02, 0.001), vf_iters=20, sample_reuse=2, restarts=0.0,
        policy_kwargs=dict(log_std_init=0.0)),
    "MountainCar": _SHORT | dict(restarts=0.0),
    "MountainCarContinuous": _CONTROL | dict(restarts=0.0, policy_kwargs=dict(log_std_init=0.5)),
    "Pendulum": _SHORT,
    "Reacher": _CONTROL | dict(gamma=0.95, lam=0.95, max_kl=LinearSchedule(0.03, 0.001), restarts=0.0),
    "Swimmer": _CONTROL | dict(
        timesteps_per_batch=4096, gamma=0.9999, lam=0.99, max_kl=0.01, cg_iters=25, vf_iters=20,
        sample_reuse=2, restarts=0.0, policy_kwargs=dict(log_std_init=0.0)),
    "Walker2d": _CONTROL | dict(sample_reuse=2),
}

_BASELINES: dict[str, Any] = dict(
    timesteps_per_batch=1024, gamma=0.99, lam=0.98, max_kl=0.01, cg_iters=10, cg_damping=0.1, fvp_subsample=5,
    linesearch_shrink=0.5, vf_stepsize=1e-3, vf_iters=5, vf_batch_size=64, normalize_observations=True,
    bootstrap_truncated=False, policy_kwargs=dict(net_arch=[dict(pi=[32, 32], vf=[32, 32])]))


def tuned(env_id: str) -> dict[str, Any]:
    """Return the settings tuned for an environment, or, if it has none, those for continuous control."""
    name = re.split("[:/]", env_id)[-1]  # without its module and namespace
    return copy.deepcopy(_TUNED.get(name.split("-v")[0], _CONTROL)) | {"batch_of": "job"}


def reported(env_id: str) -> str:
    """Return a line about what the preset `tuned` reaches on an environment, "" if that is not recorded.

    reported.json holds the returns of final policies on seeds that chose no setting; bench/report.py writes
    it from the results of bench/learn.py, and of bench/curves.py for Atari games.
    """
    record = json.loads((Path(__file__).parent / "reported.json").read_text(encoding="utf-8"))
    if (found := record.get(re.split("[:/]", env_id)[-1])) is None:
        return ""
    returns = found["returns"]
    mean, many = f"{sum(returns) / len(returns):.2f}", len(returns) > 1
    return (f"recorded of these settings, {found['steps']:,} steps, seed{'s' * many} {found['seeds']}, which "
            f"did not choose them: "
            + (f"mean {mean} (lowest {min(returns):.2f}, highest {max(returns):.2f})" if many else mean))


def baselines(env_id: str) -> dict[str, Any]:
    """Return openai/baselines' settings for MuJoCo (trpo_mpi/run_mujoco), the same for all environments."""
    return copy.deepcopy(_BASELINES)


# Atari: each preset is TRPO's arguments and changes of atari.options. "tuned" does not scale advantages:
# where all actions are equally bad, they are noise; scaled up, that would lead the policy astray, but so
# small, it gives way to the bonus on entropy. Its steps get shorter, so that what is learned stays.
_ATARI: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "tuned": (dict(timesteps_per_batch=2048, gamma=0.99, lam=0.95, max_kl=LinearSchedule(0.01, 0.002),
                   cg_iters=10, cg_damping=1e-3, entcoeff=LinearSchedule(0.01), fvp_subsample=10,
                   linesearch_shrink=0.8, vf_stepsize=3e-4, vf_iters=1, vf_batch_size=256, clip_rewards=True,
                   normalize_observations=True, normalize_advantage=False,
                   policy_kwargs=dict(cnn_extractor="cnn_small")), {}),
    "baselines": (dict(timesteps_per_batch=512, gamma=0.98, lam=1.0, max_kl=0.001, cg_iters=10,
                       cg_damping=1e-3, fvp_subsample=5, linesearch_shrink=0.5, vf_stepsize=1e-4, vf_iters=3,
                       vf_batch_size=64, clip_rewards=True, bootstrap_truncated=False,
                       policy_kwargs=dict(cnn_extractor="cnn_small")), {}),
    "paper": (dict(timesteps_per_batch=8192, gamma=0.99, lam=1.0, max_kl=0.01, cg_iters=10, cg_damping=0.1,
                   fvp_subsample=10, linesearch_shrink=0.5, vf_stepsize=1e-3, vf_iters=5, vf_batch_size=256,
                   policy_kwargs=dict(cnn_extractor="trpo_cnn")), dict(height=52, width=40, life_loss=False)),
}


def atari(preset: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return TRPO's arguments for Atari games, and changes of the environment's settings (atari.options)."""
    arguments, changes = copy.deepcopy(_ATARI[preset])
    return arguments | {"batch_of": "rank" if preset == "baselines" else "job"}, changes


PRESETS = {"tuned": tuned, "baselines": baselines}
__all__ = ["PRESETS", "LinearSchedule", "atari", "baselines", "reported", "tuned"]
