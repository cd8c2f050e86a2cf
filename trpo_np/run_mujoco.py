"""Train TRPO on a MuJoCo task, or any other gymnasium environment with vector observations.

    python -m trpo_np.run_mujoco --env HalfCheetah-v4 --seed 0
"""

from . import jobs


def work(argv: list[str] | None = None) -> int:
    """Parse the options and run the job; return the exit status."""
    parser = jobs.parser("python -m trpo_np.run_mujoco", "Train TRPO on a MuJoCo task (or any gymnasium environment with vector "
                         "observations), save the model, evaluate it.", "Reacher-v5", "1e6", ["tuned", "baselines"])
    args = parser.parse_args(argv)
    jobs.one_thread()
    from .envs import make_env
    from .presets import PRESETS

    return jobs.run(args, lambda **kwargs: make_env(args.env, **kwargs), "MlpPolicy", PRESETS[args.preset](args.env))


if __name__ == "__main__":
    jobs.main(work)
