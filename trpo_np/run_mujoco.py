"""Train TRPO on a MuJoCo task, or any other gymnasium environment with vector observations.

    python -m trpo_np.run_mujoco --env HalfCheetah-v4 --seed 0
"""

import argparse
from typing import Any

from .app import jobs, launch, options

PROG = "python -m trpo_np.run_mujoco"
OPTIONS: dict[str, Any] = {"env": "Reacher-v5", "timesteps": "1e6", "presets": ["tuned", "baselines"],
                           "policies": ["MlpPolicy", "MlpLstmPolicy", "MlpLnLstmPolicy"]}
DESCRIPTION = """Train TRPO on a MuJoCo task (or any gymnasium environment with vector observations), save the
model and evaluate it. Progress is shown with steps per second and the time left; Ctrl-C saves before it
stops."""


def work(argv: list[str] | None = None) -> int:
    """Parse the options and run the job; return the exit status."""
    return train(jobs.parse(jobs.parser(PROG, DESCRIPTION, **OPTIONS), argv))


def train(args: argparse.Namespace) -> int:
    """Run the job of these options; return the exit status."""
    jobs.one_thread()
    launch.start(args)
    jobs.find_start(args, OPTIONS["env"])
    from . import atari
    from .envs import make_env
    from .presets import PRESETS, reported, tuned

    if atari.is_atari(args.env):
        raise ValueError(f"{args.env} is an Atari game; "
                         f"python -m trpo_np.run_atari --env {args.env} trains on its pixels")
    preset = options.replace(PRESETS[args.preset](args.env), args)
    policy, env_kwargs = args.policy or OPTIONS["policies"][0], dict(args.env_kwargs)
    as_recorded = (policy, env_kwargs, preset) == ("MlpPolicy", {}, tuned(args.env)) and not args.load
    return jobs.run(args, lambda **kwargs: make_env(args.env, **env_kwargs, **kwargs), policy, preset,
                    beside=reported(args.env) if as_recorded else "")


if __name__ == "__main__":
    jobs.main(work, PROG)
