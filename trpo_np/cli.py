"""The command `trpo-np`: train, evaluate, show, plot, report, describe, export and convert models.

    trpo-np train --env HalfCheetah-v5 --log-dir runs/cheetah_seed0
    trpo-np eval trpo_HalfCheetah-v5_seed0.npz
"""

import argparse
import os
import re
import sys
from contextlib import closing
from typing import Any

from . import run_atari, run_mujoco
from .app import jobs, options, sweep

PROG = "trpo-np"


def parser() -> argparse.ArgumentParser:
    """Make the parser; each command sets `work`, a function from the parsed options to the exit status."""
    from . import __version__

    top = argparse.ArgumentParser(prog=PROG, description="Trust Region Policy Optimization in NumPy.",
                                  epilog=jobs.EPILOG, formatter_class=jobs.layout)
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, work, help: str, description: str) -> argparse.ArgumentParser:
        p = commands.add_parser(name, help=help, description=description, formatter_class=jobs.layout)
        p.set_defaults(work=work)
        return p

    add_training(command)
    add_acting(command)
    add_reading(command)
    add_export(command)
    return top


def add_training(command) -> None:
    """Add the commands that train; `command` adds one."""
    p = command("train", run_mujoco.train, "train a policy, save it, evaluate it", run_mujoco.DESCRIPTION)
    jobs.add_options(p, **run_mujoco.OPTIONS)

    p = command("atari", run_atari.train, "the same for an Atari game, from pixels", run_atari.DESCRIPTION)
    p.epilog = run_atari.EPILOG
    run_atari.add_options(p)

    p = command("sweep", train_many, "train over seeds and lists of settings",
                "Train a policy for each seed and each combination of settings, in processes side by side; "
                "print a table of the returns at the end (mean, standard error, worst seed) and draw the "
                "curves. Takes the options of train. The same command goes on with a sweep that was stopped.")
    sweep.add_options(p)
    jobs.add_options(p, **run_mujoco.OPTIONS)


def add_acting(command) -> None:
    """Add the commands that run a saved policy."""
    p = command("eval", evaluate, "print the mean return of saved policies",
                "Run whole episodes with saved policies, all from the same seeds; print the mean, the "
                "spread and percentiles of their returns and, of several policies, how each differs from the "
                "first one, with its 95 % bootstrap interval.")
    acting_options(p, several=True)
    p.add_argument("--episodes", type=options.positive, default=20, metavar="N",
                   help="episodes to run (default: %(default)s)")

    p = command("play", play, "show a saved policy in a window, or record a video",
                "Show a saved policy in the environment's window until Ctrl-C, or record each episode.")
    acting_options(p)
    p.add_argument("--episodes", type=options.positive, metavar="N",
                   help="episodes to show (default: until Ctrl-C; 1 for a video)")
    p.add_argument("--video", metavar="FOLDER",
                   help="write an .mp4 file of each episode there, which needs moviepy (default: a window)")


def add_reading(command) -> None:
    """Add the commands that read what training wrote."""
    p = command("plot", plot, "draw learning curves of one or several runs",
                "Draw the learning curves of runs from what train --log-dir wrote there: monitor.csv (each "
                "episode) or, without it, progress.csv; those of stable-baselines3 do as well. "
                "Folders whose names differ only in the seed (a_seed0 a_seed1, or a/0 a/1) are one curve: "
                "their mean, in its 95 % bootstrap interval.")
    p.add_argument("folders", nargs="+", metavar="FOLDER", help="of a run, or holding the folders of runs")
    p.add_argument("--out", default="curves.png", metavar="FILE",
                   help="picture to write: .png, .svg or .pdf (default: %(default)s)")
    p.add_argument("--x", choices=["steps", "episodes", "time"], default="steps",
                   help="the horizontal axis (default: %(default)s)")
    p.add_argument("--smooth", type=options.positive, metavar="N",
                   help="plot the mean of the last N episodes, or of N rows of progress.csv, each of which "
                        "is a mean of 100 episodes (default: 20 episodes, or half of the shortest run's, or "
                        "1 row)")
    p.add_argument("--group", choices=["seed", "none", "all"], default="seed",
                   help="average the runs that differ in the seed only, none, or all (default: %(default)s)")
    p.add_argument("--evaluations", action="store_true",
                   help="draw what EvalCallback wrote, evaluations.npz (default: training's episodes)")

    p = command("report", report, "one page on one or several runs",
                "Write what runs did as one HTML file, which needs no network: curves in their bootstrap "
                "intervals over seeds, KL divergence, step fractions, explained variance, the evaluation at "
                "the end, times, settings, commands, and the newest video in their folders.")
    p.add_argument("folders", nargs="+", metavar="RUN", help="folder of a run, or holding those of runs")
    p.add_argument("-o", "--out", default="report.html", metavar="FILE",
                   help="page to write (default: %(default)s)")

    add_convert(command)

    p = command("info", info, "describe a model's file",
                "Print what a file holds: spaces, network, parameters, settings, and how far its training "
                "has come. Needs NumPy only.")
    p.add_argument("file", metavar="FILE", help="a saved model, .npz")


def add_export(command) -> None:
    """Add the command that writes a policy for another language."""
    p = command("export", export, "write a policy for another language",
                "Write a model's policy, normalisation included, as a C header, one file of Python, ONNX, "
                "JSON or an HTML page, which need nothing of trpo_np. Needs NumPy only; ONNX also onnx.")
    p.add_argument("file", metavar="FILE", help="a saved model, .npz")
    p.add_argument("--to", metavar="KIND",
                   help="c, py, onnx, json or html (default: what the ending of OUT says; .h is c)")
    p.add_argument("-o", "--out", metavar="OUT",
                   help="file to write; in C its stem is the prefix of all names: OUT_init, OUT_step, "
                        "OUT_selftest (default: the stem of FILE and the ending of KIND, here)")
    p.add_argument("--weights", default="float32", metavar="TYPE",
                   help="in C how weights are stored: float32, float16 (half the size) or int8 (a quarter); "
                        "what that costs is printed (default: %(default)s)")


def acting_options(p: argparse.ArgumentParser, several: bool = False) -> None:
    """Add the options that `eval` and `play` share."""
    if several:
        p.add_argument("files", metavar="FILE", nargs="+", help="saved models, .npz")
    else:
        p.add_argument("file", metavar="FILE", help="a saved model, .npz")
    p.add_argument("--env-kwargs", metavar="NAME=VALUE", nargs="+", action="extend", type=options.pair,
                   default=[],
                   help="arguments of the environment, as in training (default: none)")
    p.add_argument("--env", metavar="ID",
                   help="gymnasium id of the environment, or module:ID if that module of yours registers it "
                        "(default: the one that the file names; never a module)")
    p.add_argument("--seed", type=options.count, default=0, metavar="N",
                   help="same seed, same episodes (default: %(default)s)")
    p.add_argument("--stochastic", action="store_true",
                   help="draw actions, as in training (default: the most likely ones)")


def add_convert(command) -> None:
    """Add the command `convert`."""
    p = command("convert", convert, "read a model of stable-baselines3, sb3-contrib or stable-baselines 2",
                "Make a file of this package of a model's .zip: PPO, A2C or TRPO, with MlpPolicy, CnnPolicy "
                "or (without images) MultiInputPolicy. Weights stay as they are, to the bit. Needs NumPy "
                "only and runs no code of the files: what it does not know it refuses, and says what it is.")
    p.epilog = ("example: trpo-np convert ppo.zip vecnormalize.pkl -o ppo.npz; then: trpo-np eval ppo.npz "
                "--env Hopper-v5; in Python: TRPO.load('ppo.npz', env='Hopper-v5').learn(100_000)")
    p.add_argument("model", metavar="MODEL.zip", help="what model.save wrote")
    p.add_argument("statistics", nargs="?", metavar="vecnormalize.pkl",
                   help="what VecNormalize.save wrote; needed if the model was trained with VecNormalize")
    p.add_argument("-o", "--out", metavar="FILE",
                   help="model to write, .npz (default: MODEL.npz, in the working folder)")
    p.add_argument("--channels", choices=["last", "first"], default="last",
                   help="where the environment's images have their channels: stable-baselines3 turns "
                        "(h, w, c) into (c, h, w), and its file does not tell whether it did (default: "
                        "%(default)s)")


def load(args: argparse.Namespace, path: str) -> tuple:
    """Return a file's policy and a function that makes its environment."""
    jobs.one_thread()
    env_id = jobs.find_env(args.env, path, command=args.command)
    from . import atari
    from .envs import make_env
    from .files.model import load_policy
    from .policies.images import Visual

    policy, given = load_policy(path), dict(args.env_kwargs)
    space: Any = policy.observation_space
    if isinstance(policy, Visual) and atari.is_atari(env_id):
        return policy, atari.maker(env_id, **atari.seen(space.shape) | given)
    return policy, lambda **kwargs: make_env(env_id, **given, **kwargs)


def train_many(args: argparse.Namespace) -> int:
    """Run a sweep."""
    sweep.sweep(args, args.argv[1:], args.num_timesteps)
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Print the mean return of saved policies, and how they differ."""
    from .envs import id_of

    first: list = []
    of_first: str | None = None
    for path in args.files:
        policy, make_env = load(args, path)
        with closing(make_env()) as env:
            returns, lengths = jobs.episodes(policy, env, args.episodes, args.seed, not args.stochastic)
            env_id = id_of(env)
        print(f"{path}: " * (len(args.files) > 1) + jobs.score(returns, lengths, not args.stochastic))
        print(f"    percentiles {percentiles(returns)}", flush=True)
        if first and env_id == of_first:
            print(f"    {difference(first, returns)} against {args.files[0]}")
        elif first:
            print(f"    in {env_id}, not {of_first} as {args.files[0]}")
        else:
            first, of_first = returns, env_id
    return 0


def percentiles(returns: list) -> str:
    """Return some percentiles of returns as text."""
    import numpy as np

    levels = (5, 25, 50, 75, 95)
    values = np.percentile(returns, levels)
    return ", ".join(f"{level} %: {value:.2f}" for level, value in zip(levels, values))


def difference(first: list, second: list) -> str:
    """Return how much higher the second mean is than the first, with its bootstrap interval, as text."""
    import numpy as np
    from scipy.stats import bootstrap

    if min(len(first), len(second)) < 2:
        return f"{np.mean(second) - np.mean(first):+.2f}"
    interval = bootstrap((second, first), lambda a, b, axis: a.mean(axis) - b.mean(axis), method="percentile",
                         random_state=np.random.default_rng(0)).confidence_interval
    return f"{np.mean(second) - np.mean(first):+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"


def play(args: argparse.Namespace) -> int:
    """Show a saved policy in a window, or record it."""
    if not args.video:
        jobs.check_display()
    policy, make_env = load(args, args.file)
    episodes = args.episodes or (1 if args.video else None)
    before = written(args.video)
    jobs.play(policy, make_env, args.seed, episodes, args.video, not args.stochastic)
    if args.video:
        names = [name for name, when in written(args.video).items() if before.get(name) != when]
        print(f"recorded in {args.video}: {', '.join(names)}")
    return 0


def written(folder: str | None) -> dict[str, int]:
    """Return when each file of a folder was written, by name in order; of no folder nothing."""
    if not folder or not os.path.isdir(folder):
        return {}
    return {name: os.stat(os.path.join(folder, name)).st_mtime_ns for name in sorted(os.listdir(folder))}


def plot(args: argparse.Namespace) -> int:
    """Draw learning curves; print the last point of each."""
    from .app import plots

    curves, title, what = plots.learning_curves(args.folders, args.x, args.smooth, args.group,
                                                 args.evaluations)
    for curve in curves:
        over = f" ({curve.low[-1]:.2f} to {curve.high[-1]:.2f}) over {curve.runs} runs"
        last = f"{curve.mean[-1]:.2f}" + over * (curve.runs > 1)
        print(f"{curve.label}: {last}, at {plots.amount(curve.x[-1], args.x)}")
    plots.save(plots.draw(curves, args.x, title, what), args.out)
    print(f"drawn in {args.out}")
    return 0


def report(args: argparse.Namespace) -> int:
    """Write a page on runs."""
    from .app import report

    page = report.write(args.folders)  # before the file is opened: an error leaves no half a page
    with open(args.out, "w", encoding="utf-8") as file:
        file.write(page)
    print(f"written to {args.out}, {len(page.encode()) / 1000:,.0f} kB")
    return 0


def convert(args: argparse.Namespace) -> int:
    """Make a file of ours of another library's model; print what to look out for."""
    from .deploy import convert as deploy

    out = args.out or os.path.basename(os.path.splitext(args.model)[0])
    print("\n".join(deploy.convert(args.model, out, args.statistics, args.channels)))
    return 0


def info(args: argparse.Namespace) -> int:
    """Print the description of a model's file."""
    from .app.info import description
    from .files.archive import read_archive

    record, arrays = read_archive(args.file)
    try:
        print(description(args.file, record, arrays))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        kind = type(error).__name__
        raise ValueError(f"{args.file} is an archive, but not of a model ({kind}: {error})") from error
    return 0


def export(args: argparse.Namespace) -> int:
    """Write a policy for another language; print what there is to say of it."""
    from .deploy import export as write

    ending = os.path.splitext(args.out or "")[1].removeprefix(".")
    to = args.to or ("c" if ending == "h" else ending)
    stem = os.path.splitext(os.path.basename(args.file))[0]
    if to == "c":  # where it is the prefix of all names
        stem = re.sub(r"\W", "_", stem if stem[:1].isalpha() else f"_{stem}", flags=re.ASCII)
    said = write(args.file, args.out or f"{stem}.{'h' if to == 'c' else to}", to, args.weights)
    print("\n".join(f"{key:13}{text}" for key, text in said.items()))
    return 0


def main(argv: list[str] | None = None) -> None:
    """Run the command and exit with its status.

    `trpo-np` finds modules in the working folder as `python -m` does, but those that are installed first.
    """
    if argv is None and not getattr(sys.flags, "safe_path", False) and not {"", os.getcwd()} & {*sys.path}:
        sys.path.append(os.getcwd())

    def work() -> int:
        args = jobs.parse(parser(), argv, ("train", "atari", "sweep"))
        return args.work(args)

    jobs.main(work, PROG)


if __name__ == "__main__":
    main()
