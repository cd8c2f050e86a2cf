"""One training job from the command line: its options, signals, saving, final evaluation.

Nothing heavy is imported at the top: `one_thread` must come before NumPy loads.
"""

import argparse
import importlib.util
import os
import signal
import sys
import time

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def count(text: str) -> int:
    """Read a whole number, also written like 1e6."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if value < 0 or value != int(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number such as 1000000 or 1e6")
    return int(value)


def parser(prog: str, description: str, env: str, timesteps: str, presets: list[str]) -> argparse.ArgumentParser:
    """Make the parser of the options that all training jobs share."""
    p = argparse.ArgumentParser(prog=prog, description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--env", default=env, metavar="ID", help="gymnasium id of the environment")
    p.add_argument("--num-timesteps", type=count, default=timesteps, metavar="N", help="environment steps to train for; 1e6 is understood")
    p.add_argument("--seed", type=int, default=0, help="same seed, same result, on the same machine and versions")
    p.add_argument("--num-envs", type=count, default=1, metavar="N", help="environments stepped in turn, sharing one batch")
    p.add_argument("--preset", choices=presets, default=presets[0], help="tuned: the best known settings for this environment; "
                   "baselines: those of openai/baselines, for comparison")
    p.add_argument("--save", metavar="FILE", help="where the model goes (default: trpo_ENV_seedN.npz)")
    p.add_argument("--save-every", type=count, default="100000", metavar="N", help="environment steps between checkpoints (0: only at the "
                   "end); a killed job loses no more than this, and --load goes on exactly as if it had not been killed")
    p.add_argument("--load", metavar="FILE", help="go on training this model, for --num-timesteps in all, with its own settings")
    p.add_argument("--log-dir", metavar="FOLDER", help="also write progress.csv, progress.json, monitor.csv and, if tensorboard is "
                   "installed, its event files")
    p.add_argument("--log-interval", type=count, default=10, metavar="N", help="updates per table")
    p.add_argument("--eval-episodes", type=count, default=20, metavar="N", help="episodes of the deterministic evaluation at the end")
    p.add_argument("--play", action="store_true", help="show the trained policy in a window at the end")
    return p


def one_thread() -> None:
    """Set one BLAS thread, unless the user set a number; call it before NumPy loads.

    Small networks are slower with several, and many ranks on one machine are much slower.
    """
    for name in THREADS:
        os.environ.setdefault(name, "1")


def run(args: argparse.Namespace, make_env, policy: str, preset: dict) -> int:
    """Train, save, evaluate; return the exit status. `make_env(**kwargs)` makes one environment."""
    from .callbacks import CallbackList, FileCallback, MonitorCallback
    from .evaluation import evaluate_policy
    from .logger import configure
    from .trpo import TRPO
    from .vec_env import DummyVecEnv

    path = args.save or args.load or f"trpo_{args.env.split('/')[-1]}_seed{args.seed}.npz"
    env = DummyVecEnv([make_env for _ in range(max(1, args.num_envs))])
    if args.load:
        model = TRPO.load(args.load, env=env, verbose=1)
        print(f"{args.load}: {model.num_timesteps:,} steps so far", flush=True)
    else:
        model = TRPO(policy, env, seed=args.seed, verbose=1, **preset)
    root = model.comm.rank == 0
    if root:
        with open(path if path.endswith(".npz") else path + ".npz", "ab"):  # an unwritable path is better known before than after
            pass
        settings = ", ".join(f"{name} {value}" for name, value in preset.items())
        print(f"TRPO on {args.env}, {args.num_timesteps:,} steps, seed {args.seed}, {env.num_envs} environment(s), "
              f"{model.comm.size} rank(s)\n{args.preset}: {settings}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    hooks = [FileCallback(path, args.save_every)] if args.save_every else []
    if args.log_dir and root:
        formats = ["csv", "json"] + ["tensorboard"] * bool(importlib.util.find_spec("tensorboard"))
        model.loggers += configure(args.log_dir, formats).outputs
        hooks.append(MonitorCallback(args.log_dir, args.env))
    started, before, interrupted = time.perf_counter(), model.num_timesteps, False
    try:
        model.learn(max(0, args.num_timesteps - before), CallbackList(hooks), log_interval=max(1, args.log_interval), reset_num_timesteps=False,
                    progress_bar=True)
    except KeyboardInterrupt:
        interrupted = True
    seconds, done = time.perf_counter() - started, model.num_timesteps - before
    if root:
        print(f"{done:,} steps in {seconds:.1f} s, {done / max(seconds, 1e-9):,.0f} steps/s; saved to {model.save(path)}", flush=True)
    if interrupted:
        return 130
    if args.eval_episodes and root:
        mean, std = evaluate_policy(model, make_env(), args.eval_episodes, seed=args.seed + 1_000_000)
        print(f"deterministic return of {args.eval_episodes} episodes: {mean:.2f} +- {std:.2f}", flush=True)
    if args.play and root:
        play(model, make_env(render_mode="human"))
    return 0


def play(model, env, episodes: int | None = None) -> None:
    """Show a policy in the environment's window until Ctrl-C (or for some episodes)."""
    try:
        while episodes is None or episodes > 0:
            obs, state, start, total, over = env.reset()[0], None, True, 0.0, False
            while not over:
                action, state = model.predict(obs, state, [start], deterministic=True)
                obs, reward, terminated, truncated, _ = env.step(action)
                start, total, over = False, total + float(reward), terminated or truncated
            print(f"return {total:.2f}", flush=True)
            episodes = None if episodes is None else episodes - 1
    except KeyboardInterrupt:
        pass
    env.close()


def main(work) -> None:
    """Call `work()` and exit with its status; an error that the user can mend is one sentence on the terminal."""
    try:
        sys.exit(work())
    except (ValueError, ImportError, OSError) as error:
        if os.environ.get("TRPO_NP_TRACEBACK"):
            raise
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}\n(TRPO_NP_TRACEBACK=1 shows where)")
