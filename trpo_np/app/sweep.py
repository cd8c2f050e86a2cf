"""Train over seeds and lists of settings, in processes side by side; a table and a plot of the final returns.

Each run is a job of its own, with its own folder. What is done is not done again, and runs that were cut
short go on from where they were saved, by the same command.
"""

import argparse
import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ..kernels.threads import cores
from . import options
from .jobs import SCORE

SET_HERE = ("seed", "log_dir", "save", "load", "resume", "play")  # options of a job that are not of a sweep


class Run(NamedTuple):
    """One job of a sweep."""

    setting: str  # such as "lam=0.9 max-kl=0.01"
    seed: int
    folder: str
    words: list[str]  # of its command line

    def steps(self, usual: int) -> int:
        """Return how many steps the run takes: those of its own options, or else the usual number."""
        p = argparse.ArgumentParser(add_help=False)
        p.add_argument("--num-timesteps", type=options.count, default=usual)
        return p.parse_known_args(self.words)[0].num_timesteps


# --- options ------------------------------------------------------------------------------------------------

def seeds(text: str) -> list[int]:
    """Read seeds: "0-4", "0,3,7", or both."""
    try:
        ranges = [part.split("-") for part in text.split(",")]
        found = [seed for first, *last in ranges for seed in range(int(first), int(*last or [first]) + 1)]
    except (TypeError, ValueError):
        found = []
    if not found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of seeds such as 0-4 or 0,1,2")
    return found


def choices(text: str) -> tuple[str, list[str]]:
    """Read OPTION=VALUE,VALUE: an option of a job and its values."""
    name, equals, values = text.partition("=")
    if not (equals and name and all(values.split(","))):
        raise argparse.ArgumentTypeError(f"{text!r} is not OPTION=VALUE,VALUE such as max-kl=0.01,0.02")
    if len({*values.split(",")}) < len(values.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} names a value twice")
    return name.lstrip("-").replace("_", "-"), values.split(",")


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options that a sweep has beside those of its jobs."""
    p.add_argument("--out", default="sweep", metavar="FOLDER",
                   help="where the runs, the table and the plot go (default: %(default)s)")
    p.add_argument("--seeds", type=seeds, default="0-4", metavar="N-N",
                   help="seeds of each setting: 0-4 or 0,1,2 (default: %(default)s)")
    p.add_argument("--vary", type=choices, nargs="+", action="extend", default=[], metavar="OPTION=X,X",
                   help="options and the values to try, in all combinations: max-kl=0.01,0.02 lam=0.9,0.95 "
                        "(default: none, only the seeds differ)")
    p.add_argument("--processes", type=options.positive, metavar="N",
                   help="jobs side by side (default: as many as there are cores for, each of --ranks)")


def words_of_jobs(argv: list[str]) -> list[str]:
    """Return a sweep's command line without its own options: what all of its jobs are given."""
    p = argparse.ArgumentParser(add_help=False)
    add_options(p)
    return p.parse_known_args(argv)[1]


# --- the runs -----------------------------------------------------------------------------------------------

def runs(out: str, vary: list[tuple[str, list[str]]], over: list[int], words: list[str]) -> Iterator[Run]:
    """Yield the jobs of a sweep: for each seed all combinations of values; `words` are options of all."""
    names = [name for name, _ in vary]
    for seed in over:
        for values in itertools.product(*(values for _, values in vary)):
            setting = " ".join(f"{name}={value}" for name, value in zip(names, values)) or "as given"
            folder = os.path.join(out, f"{setting.replace(' ', '_').replace(':', '..')}_seed{seed}")
            chosen = [f"--{name}={value}" for name, value in zip(names, values)]
            own = [f"--seed={seed}", f"--log-dir={folder}", f"--save={folder}/model.npz", "--resume"]
            yield Run(setting, seed, folder, [*words, *chosen, *own])


def reached(run: Run, steps: int = 0) -> float | None:
    """Return the mean return of a run's evaluation at its end; None if it has not trained for these steps."""
    path = os.path.join(run.folder, SCORE)
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        returns = record["returns"]
        return sum(returns) / len(returns) if record["num_timesteps"] >= steps else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{path} holds no evaluation ({type(error).__name__}: {error}); remove it, and the "
                         "run is evaluated again") from None


def begin(out: str, words: list[str]) -> None:
    """Note what the jobs of a folder have in common; a ValueError refuses a folder of another sweep.

    Only the number of steps may change: jobs go on from where they ended.
    """
    os.makedirs(out, exist_ok=True)
    p = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    p.add_argument("--num-timesteps")
    path, now = os.path.join(out, "sweep.json"), json.dumps(p.parse_known_args(words)[1])
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            if (before := file.read()) != now:
                raise ValueError(f"{out} holds another sweep, with the options {before}, not {now}; give "
                                 "another --out")
    with open(path, "w", encoding="utf-8") as file:
        file.write(now)


class Jobs:
    """Jobs in processes of their own, so many at a time."""

    def __init__(self, command: list[str], processes: int):
        self.command, self.processes = command, processes
        self.running: set[subprocess.Popen] = set()
        self.ended = threading.Event()  # start no more

    def train(self, todo: list[Run]) -> None:
        """Run the jobs; print a line as each ends. An interrupt makes those that run save and end.

        Raise an OSError for a job that fails, after those that run beside it have ended.
        """
        with ThreadPoolExecutor(self.processes) as pool:
            done = itertools.count(1)
            results = [pool.submit(self.run, run) for run in todo]
            try:
                for run, result in zip(todo, results):
                    if result.result() is not None:
                        print(f"{next(done)}/{len(todo)}  {run.setting}, seed {run.seed}: "
                              f"{result.result():,.2f}", flush=True)
            except BaseException:
                self.ended.set()
                for process in list(self.running):
                    process.terminate()
                raise

    def run(self, run: Run) -> float | None:
        """Run one job to its end; return its final mean return, or None if it did not start."""
        if self.ended.is_set():
            return None
        os.makedirs(run.folder, exist_ok=True)
        path = os.path.join(run.folder, "output.txt")
        with open(path, "a", encoding="utf-8") as output:
            process = subprocess.Popen([*self.command, *run.words], stdout=output, stderr=subprocess.STDOUT,
                                       stdin=subprocess.DEVNULL)
            self.running.add(process)
            status = process.wait()
            self.running.discard(process)
        if self.ended.is_set():
            return None
        if status or (score := reached(run)) is None:
            with open(path, encoding="utf-8") as file:
                last = " ".join(file.read().strip().splitlines()[-1:])
            raise OSError(f"{run.setting}, seed {run.seed} failed: {last} (see {path})")
        return score


# --- what they reach ----------------------------------------------------------------------------------------

def table(all_runs: list[Run]) -> str:
    """Return a table of settings, the best mean first: mean, standard error and worst over the seeds."""
    scores: dict[str, list[float]] = {}
    for run in all_runs:
        if (score := reached(run)) is not None:
            scores.setdefault(run.setting, []).append(score)
    width = max(7, *map(len, scores)) if scores else 7
    lines = [f"{'setting':{width}}  {'mean':>10}  {'error':>8}  {'worst':>10}  seeds"]
    for setting, found in sorted(scores.items(), key=lambda item: -sum(item[1]) / len(item[1])):
        n, mean = len(found), sum(found) / len(found)
        error = math.sqrt(sum((x - mean) ** 2 for x in found) / (n - 1) / n) if n > 1 else math.nan
        lines.append(f"{setting:{width}}  {mean:10,.2f}  {error:8,.2f}  {min(found):10,.2f}  {n:5}")
    return "\n".join(lines)


def sweep(args: argparse.Namespace, argv: list[str], steps: int) -> None:
    """Train what is not trained yet; print and write the table, draw the curves.

    argv: the command line, without the command's name. steps: how many environment steps a run takes.
    """
    names = [name for name, _ in args.vary]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--vary names {twice[0]} twice; give all of its values at once: {twice[0]}=X,Y")
    for name in SET_HERE:
        if name.replace("_", "-") in names:
            raise ValueError(f"--vary {name.replace('_', '-')} is set by the sweep, for each run; seeds are "
                             "those of --seeds")
        if any(word.split("=")[0] == f"--{name.replace('_', '-')}" for word in argv):
            raise ValueError(f"--{name.replace('_', '-')} is set by the sweep, for each run; leave it out")
    if not args.eval_episodes:
        raise ValueError("--eval-episodes is 0; the table needs an evaluation of each run")
    words = words_of_jobs(argv)
    begin(args.out, words)
    every = list(runs(args.out, args.vary, args.seeds, words))
    todo = [run for run in every if reached(run, run.steps(steps)) is None]
    at_once = args.processes or max(1, len(cores()) // (args.ranks or 1))
    print(f"{len(every)} runs, {len(every) - len(todo)} of them done; {at_once} at a time", flush=True)
    Jobs([sys.executable, "-m", "trpo_np", "train"], at_once).train(todo)
    text = table(every)
    with open(os.path.join(args.out, "table.txt"), "w", encoding="utf-8") as file:
        file.write(f"{text}\n")
    print(text)
    if importlib.util.find_spec("matplotlib"):
        from . import plots

        picture = os.path.join(args.out, "curves.png")
        curves, title, what = plots.learning_curves([run.folder for run in every])
        plots.save(plots.draw(curves, "steps", title, what), picture)
        print(f"drawn in {picture}")
