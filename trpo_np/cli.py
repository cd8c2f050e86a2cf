"""The command `trpo-np`: train, evaluate, show, plot and describe models.

    trpo-np train --env HalfCheetah-v5 --log-dir runs/cheetah_seed0
    trpo-np eval trpo_HalfCheetah-v5_seed0.npz
"""

import argparse
import json
import os
import textwrap
from typing import Any

from . import jobs, run_atari, run_mujoco

PROG = "trpo-np"


def parser() -> argparse.ArgumentParser:
    """Make the parser; each command sets `work`, a function of the parsed options that returns the exit status."""
    from . import __version__

    top = argparse.ArgumentParser(prog=PROG, description="Trust Region Policy Optimization in NumPy.", epilog=jobs.EPILOG,
                                  formatter_class=jobs.layout)
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, work, help: str, description: str) -> argparse.ArgumentParser:
        p = commands.add_parser(name, help=help, description=description, formatter_class=jobs.layout)
        p.set_defaults(work=work)
        return p

    p = command("train", run_mujoco.train, "train a policy, save it, evaluate it", run_mujoco.DESCRIPTION)
    jobs.add_options(p, **run_mujoco.OPTIONS)

    p = command("atari", run_atari.train, "the same for an Atari game, from pixels", run_atari.DESCRIPTION)
    p.epilog = run_atari.EPILOG
    run_atari.add_options(p)

    p = command("eval", evaluate, "print the mean return of a saved policy",
                "Run whole episodes with a saved policy; print the mean and the spread of their returns.")
    acting_options(p)
    p.add_argument("--episodes", type=jobs.positive, default=20, metavar="N",
                   help="episodes to run (default: %(default)s)")

    p = command("play", play, "show a saved policy in a window, or record a video",
                "Show a saved policy in the environment's window until Ctrl-C, or record a video of each episode.")
    acting_options(p)
    p.add_argument("--episodes", type=jobs.positive, metavar="N",
                   help="episodes to show (default: until Ctrl-C; 1 for a video)")
    p.add_argument("--video", metavar="FOLDER",
                   help="write an .mp4 file for each episode there, which needs the moviepy package (default: a window)")

    p = command("plot", plot, "draw learning curves of one or several runs",
                "Draw the learning curves of runs from what train --log-dir wrote there: monitor.csv (each episode; that of "
                "stable-baselines3's Monitor does as well) or, without it, progress.csv. Folders whose names differ only in "
                "the seed (a_seed0 a_seed1, or a/0 a/1) are one curve, their mean, in a band of one standard deviation.")
    p.add_argument("folders", nargs="+", metavar="FOLDER", help="of a run, or holding the folders of runs")
    p.add_argument("--out", default="curves.png", metavar="FILE",
                   help="picture to write: .png, .svg or .pdf (default: %(default)s)")
    p.add_argument("--x", choices=["steps", "episodes", "time"], default="steps",
                   help="the horizontal axis (default: %(default)s)")
    p.add_argument("--smooth", type=jobs.positive, metavar="N",
                   help="plot the mean of the last N episodes, or of N rows of progress.csv, each of which is a mean of "
                   "100 episodes (default: 20 episodes, 1 row)")
    p.add_argument("--group", choices=["seed", "none", "all"], default="seed",
                   help="average the runs that differ in the seed only, none, or all (default: %(default)s)")

    p = command("info", info, "describe a model's file",
                "Print what a file holds: spaces, network, parameters, settings and the record of its training. Needs "
                "NumPy only.")
    p.add_argument("file", metavar="FILE", help="a saved model, .npz")
    return top


def acting_options(p: argparse.ArgumentParser) -> None:
    """Add what `eval` and `play` share."""
    p.add_argument("file", metavar="FILE", help="a saved model, .npz")
    p.add_argument("--env", metavar="ID", help="gymnasium id of the environment (default: the one that the file names)")
    p.add_argument("--seed", type=jobs.count, default=0, metavar="N",
                   help="same seed, same episodes (default: %(default)s)")
    p.add_argument("--stochastic", action="store_true",
                   help="draw actions, as in training (default: the most likely ones)")


def load(args: argparse.Namespace) -> tuple:
    """Return the policy of a file and what makes its environment."""
    jobs.one_thread()
    env_id = jobs.find_env(args.env, args.file)
    from . import atari
    from .checkpoint import load_policy
    from .envs import make_env
    from .visual import Visual

    policy = load_policy(args.file)
    space: Any = policy.observation_space
    if isinstance(policy, Visual) and atari.is_atari(env_id):
        return policy, atari.maker(env_id, **atari.seen(space.shape))
    return policy, lambda **kwargs: make_env(env_id, **kwargs)


def evaluate(args: argparse.Namespace) -> int:
    """Print the mean return of a saved policy."""
    policy, make_env = load(args)
    print(jobs.score(policy, make_env(), args.episodes, args.seed, not args.stochastic))
    return 0


def play(args: argparse.Namespace) -> int:
    """Show a saved policy in a window, or record it."""
    if not args.video:
        jobs.check_display()
    policy, make_env = load(args)
    episodes = args.episodes or (1 if args.video else None)
    jobs.play(policy, make_env, args.seed, episodes, args.video, not args.stochastic)
    if args.video:
        print(f"recorded in {args.video}: {', '.join(sorted(os.listdir(args.video)))}")
    return 0


def plot(args: argparse.Namespace) -> int:
    """Draw learning curves; print the last point of each."""
    from . import plots

    curves, title, what = plots.learning_curves(args.folders, args.x, args.smooth, args.group)
    for curve in curves:
        last = f"{curve.mean[-1]:.2f}" + f" +- {curve.std[-1]:.2f} over {curve.runs} runs" * (curve.runs > 1)
        print(f"{curve.label}: {last}, at {plots.amount(curve.x[-1], args.x)}")
    plots.save(plots.draw(curves, args.x, title, what), args.out)
    print(f"drawn in {args.out}")
    return 0


# --- info -------------------------------------------------------------------------------------------------------------

def info(args: argparse.Namespace) -> int:
    """Print what a model's file holds."""
    from .archive import read_archive

    record, arrays = read_archive(args.file)
    try:
        print(description(args.file, record, arrays))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{args.file} is an archive, but not of a model ({type(error).__name__}: {error})") from error
    return 0


def description(path: str, record: dict, arrays: dict) -> str:
    """Describe a model in lines of text."""
    from . import spaces

    about, progress = record["policy"], record["progress"]
    returns = [episode[0] for episode in progress["recent"]]
    prefix = "parameters/"
    weights = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    mean = f", the last {len(returns)} with a mean return of {sum(returns) / len(returns):.2f}" if returns else ""
    lines = [path, *columns({
        "policy": f"{shown(about['class'])}, {shown(about['dtype'])}",
        "arguments": settings(about["kwargs"]) or "none",
        "environment": shown(record["env_id"]) if record.get("env_id") else "not named",
        "observation": outline(spaces.from_json(about["observation_space"])) + ", normalised" * about["normalize"],
        "action": outline(spaces.from_json(about["action_space"])),
        **{f"network {part}": chain for part, chain in networks(weights).items()},
    }), "", "training", *columns({
        "steps": f"{progress['num_timesteps']:,}",
        "updates": f"{progress['updates']:,}, of which {progress['skipped_updates']:,} found no better policy",
        "episodes": f"{progress['episodes']:,}{mean}",
        "seed": shown(progress["seed"]),
        "settings": settings(record["algorithm"]),
    }), "", *table(weights)]
    return "\n".join(lines)


def shown(value) -> str:
    """Show a value of a file; as JSON, so that it cannot control the terminal."""
    return json.dumps(value).strip('"')


def settings(values: dict) -> str:
    return ", ".join(f"{shown(key)} {shown(value)}" for key, value in values.items())


def columns(rows: dict) -> list:
    """Align names and texts; wrap what is long."""
    width = max(map(len, rows)) + 4
    return [textwrap.fill(f"  {key:{width - 2}}{text}", 100, subsequent_indent=" " * width, break_on_hyphens=False)
            for key, text in rows.items()]


def outline(space) -> str:
    """Describe a space in a few words."""
    kind = type(space).__name__
    if kind == "Fields":
        parts = (f"{shown(key)}: {outline(part)}" for key, part in zip(space.keys, space.spaces))
        return f"{space.kind} of {'; '.join(parts)}"
    if kind == "Discrete":
        return f"Discrete, {space.n} values from {space.start}"
    size = " x ".join(map(str, space.shape))
    if kind == "Box":
        return f"Box, {size or 1} {space.dtype}, from {float(space.low.min()):.4g} to {float(space.high.max()):.4g}"
    if kind == "MultiDiscrete":
        return f"MultiDiscrete, {size} of {', '.join(map(str, space.nvec))} values"
    return f"{kind}, {size}"


def networks(weights: dict) -> dict:
    """Return the widths of the layers of each network, by the first part of their parameters' names."""
    chains: dict = {}
    for name, array in weights.items():
        if name.endswith("/lstm/wh"):
            chains[name.split("/")[0]][-1] = f"{array.shape[0]} (LSTM)"
        elif array.ndim > 1:
            kernel = " x ".join(map(str, array.shape[:-2]))
            chain = chains.setdefault(name.split("/")[0], [str(array.shape[-2])])
            chain.append(f"{array.shape[-1]}" + f" ({kernel})" * bool(kernel))
    return {part: " -> ".join(chain) for part, chain in chains.items()}


def table(weights: dict) -> list:
    """Return the lines of the table of parameters, with sums for policy and critic."""
    rows = [("parameter", "shape", "number")]
    rows += [(name, " x ".join(map(str, array.shape)), f"{array.size:,}") for name, array in weights.items()]
    critic = sum(array.size for name, array in weights.items() if name.startswith("vf/"))
    total = sum(array.size for array in weights.values())
    rows += [("policy", "", f"{total - critic:,}"), ("critic", "", f"{critic:,}"), ("all", "", f"{total:,}")]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [f"{name:{widths[0]}}  {shape:{widths[1]}}  {number:>{widths[2]}}" for name, shape, number in rows]
    rule = "-" * len(lines[0])
    return [lines[0], rule, *lines[1:-3], rule, *lines[-3:]]


def main(argv: list[str] | None = None) -> None:
    """Run the command and exit with its status."""
    def work() -> int:
        args = parser().parse_args(argv)
        return args.work(args)

    jobs.main(work, PROG)


if __name__ == "__main__":
    main()
