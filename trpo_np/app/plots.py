"""Learning curves from the logs of runs: read, smooth, average over seeds, draw.

A point is a mean over a full window of episodes, so a curve starts where the first window is full. The band
around the mean of several runs is a bootstrap interval. Only drawing loads matplotlib, only averaging scipy.
"""

import csv
import io
import json
import os
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from ..settings import install

EVALUATIONS = "evaluations.npz"
AXES = {"steps": "environment steps", "episodes": "episodes", "time": "time"}
WINDOW = 20  # episodes that a point averages, unless told otherwise; more would lag behind a short run
PER_ROW = 100  # episodes that a row of a table averages, as soon as there are as many
EVALUATION = 0  # in their place: a row is the mean of one evaluation
# the columns of a table: ours, stable-baselines3's, and those of stable-baselines and baselines
COLUMNS = {"steps": ("step", "time/total_timesteps", "TimestepsSoFar"),
           "episodes": ("rollout/episodes", "EpisodesSoFar"),
           "time": ("time/time_elapsed", "TimeElapsed"),
           "return": ("rollout/ep_rew_mean", "EpRewMean")}
LEVEL = 0.95  # of the interval that is drawn
# Okabe and Ito's colours: the colour-blind tell them apart
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
LINES = ["-", "--", ":"]


class Run(NamedTuple):
    """The log of one run: rows in time, with `x` by the name of the axis."""

    folder: str
    env_id: str  # "" if unknown
    x: dict[str, np.ndarray]
    returns: np.ndarray
    episodes_per_row: int  # 1: each row is an episode; PER_ROW: a mean of the latest ones; or EVALUATION


class Curve(NamedTuple):
    """A line to draw: the mean of some runs and its bootstrap interval, from `low` to `high`."""

    label: str
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: int


def learning_curves(folders, axis: str = "steps", window: int | None = None,
                    group: str = "seed", evaluations: bool = False) -> tuple[list[Curve], str, str]:
    """Return the curves of all runs in these folders, a title, and the label of the vertical axis.

    axis: "steps", "episodes" or "time".
    window: rows to average; None for 20 episodes (half of the shortest run's, if those are fewer), or for 1
    row of a table, which is a mean itself.
    group: average runs whose names differ in the "seed", "none" of them, or "all".
    evaluations: draw what EvalCallback wrote, evaluations.npz, in place of training's episodes.

    Runs that have not finished an episode are left out, with a warning; a NoEpisode says that all are such.
    """
    runs, begun = read_runs(folders, evaluations)
    if begun:
        warnings.warn(f"left out: {'; '.join(begun)}", stacklevel=2)
    shortest = min((len(run.returns) for run in runs if run.episodes_per_row == 1), default=0)
    rows = {1: window or max(1, min(WINDOW, shortest // 2)), PER_ROW: window or 1, EVALUATION: window or 1}
    by_folder = {run.folder: run for run in runs}
    curves = [curve(label, [by_folder[folder] for folder in members], axis, rows)
              for label, members in grouped(by_folder, group).items()]
    names = {run.env_id for run in runs}
    said = {averages(run, rows[run.episodes_per_row]) for run in runs}
    what = f"return, {said.pop()}" if len(said) == 1 else "return"
    return curves, names.pop() if len(names) == 1 else "", what.removesuffix(", ")


def grouped(folders, group: str = "seed") -> dict[str, list[str]]:
    """Return the folders of runs by the label of the curve that each belongs to; see `learning_curves`."""
    groups: dict[str, list[str]] = {}
    for folder in folders:
        name = {"seed": without_seed(folder), "none": folder, "all": ""}[group]
        groups.setdefault(name, []).append(folder)
    return dict(zip(labels(list(groups)), groups.values()))


def averages(run: Run, rows: int) -> str:
    """Say what a point of the curve averages, or nothing if that cannot be said in short."""
    if run.episodes_per_row == EVALUATION:
        return "mean of an evaluation" if rows == 1 else ""
    if run.episodes_per_row == 1:
        return f"mean of {rows} episodes" if rows > 1 else ""
    if rows > 1:
        return ""
    return f"mean of {PER_ROW} episodes" if full_rows(run).any() else f"mean of up to {PER_ROW} episodes"


def full_rows(run: Run) -> np.ndarray:
    """Return which rows are known to average as many episodes as they should; a table may lack the count."""
    return run.x["episodes"] >= run.episodes_per_row


def line(run: Run, axis: str, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (x, y) of one run: means of `window` rows, from the first place where there are so many.

    A mean of one episode, then of two, then of three would begin with a spike. Rows of a table before the
    PER_ROW-th episode are left out for the same reason, if any come after it.
    """
    x, returns = run.x[axis], run.returns
    if (full := full_rows(run)).any():
        x, returns = x[full], returns[full]
    if np.isnan(x).any():
        raise ValueError(f"{run.folder} does not tell the {axis} of its returns; draw them over steps")
    if len(returns) < window:
        what = {1: "episodes", EVALUATION: "evaluations"}.get(run.episodes_per_row, "rows")
        raise ValueError(f"{run.folder} has {len(returns)} {what}; a mean of {window} needs as many: draw "
                         "a mean of fewer (--smooth), or leave this run out")
    return x[window - 1:], smooth(returns, window)


def curve(label: str, runs: list[Run], axis: str, rows: dict[int, int]) -> Curve:
    """Make the curve of some runs, smoothed over `rows[episodes_per_row]` rows."""
    lines = [line(run, axis, rows[run.episodes_per_row]) for run in runs]
    try:
        return Curve(label, *average(lines), len(lines))
    except ValueError as error:
        raise ValueError(f"{label}: {error} ({', '.join(run.folder for run in runs)})") from None


# --- reading -----------------------------------------------------------------------------------------------

def find_runs(folders, evaluations: bool = False) -> list[str]:
    """Return the folders that hold logs: those given, and those within one that holds none itself.

    evaluations: look for evaluations.npz.
    """
    found: list[str] = []
    for folder in map(os.path.normpath, folders):
        if not os.path.isdir(folder):
            raise ValueError(f"{folder} is not a folder")
        inside = [place for place, _, files in sorted(os.walk(folder))
                  if (EVALUATIONS in files if evaluations else logs(place))]
        if not inside:
            raise ValueError(f"{folder} holds no {EVALUATIONS}; EvalCallback(..., log_path=) writes it"
                             if evaluations else
                             f"{folder} holds no monitor.csv and no progress.csv; "
                             "train --log-dir writes them")
        found += [folder] if folder in inside else inside
    return list(dict.fromkeys(found))


def read_runs(folders, evaluations: bool = False) -> tuple[list[Run], list[str]]:
    """Return the runs in these folders and, of those that have not finished an episode, a sentence each.

    A NoEpisode says so if there are no others.
    """
    runs, begun = [], []
    for folder in find_runs(folders, evaluations):
        try:
            runs.append(read_evaluations(folder) if evaluations else read_run(folder))
        except NoEpisode as error:
            begun.append(str(error))
    if not runs:
        raise NoEpisode("; ".join(begun))
    return runs, begun


def logs(folder: str) -> list[Path]:
    """Return the Monitor files of a folder, or else its progress.csv, or nothing."""
    place = Path(folder)
    return sorted(place.glob("*monitor.csv")) or [path for path in [place / "progress.csv"] if path.exists()]


def read_run(folder: str) -> Run:
    """Read the episodes of a run, or its table; with both, episodes at the steps that the table states."""
    paths, table = logs(folder), Path(folder) / "progress.csv"
    if paths[0] == table:
        return read_progress(folder, table)
    run = read_monitors(folder, paths)
    if table.exists():
        with suppress(ValueError):  # no row of it has a return yet
            run.x["steps"] = placed(run.x["steps"], run.x["episodes"], read_progress(folder, table).x)
    return run


def placed(steps: np.ndarray, episodes: np.ndarray, table: dict[str, np.ndarray]) -> np.ndarray:
    """Return the steps after which `episodes` ended; `steps`, sums of lengths, lack what a restart cut.

    A table counts all steps. Episodes are spread evenly between its rows, after the last by their lengths.
    """
    told = int(np.searchsorted(episodes, table["episodes"][-1], side="right"))
    if np.isnan(table["episodes"]).any() or not told or table["episodes"][-1] > episodes[-1]:
        return steps  # the table is not that of these episodes
    early = np.interp(episodes[:told], [0, *table["episodes"]], [0, *table["steps"]])
    return np.concatenate([early, early[-1] + steps[told:] - steps[told - 1]])


class NoEpisode(ValueError):
    """Says that the logs of a run hold no return as yet."""


def read_monitors(folder: str, paths: list[Path]) -> Run:
    """Read the Monitor files of one run, one an environment; sort the episodes by when they ended."""
    parts, starts, env_id, before = [], [], "", 0
    for path in paths:
        head, _, text = whole_lines(path).partition("\n")
        try:
            header = json.loads(head.removeprefix("#"))
            starts.append(float(header["t_start"]))
            rows = [[float(row[key]) for key in "rlt"] for row in csv.DictReader(io.StringIO(text))]
            before = int(header.get("episodes_before", 0))
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise ValueError(f"{path} is no Monitor file ({type(error).__name__}: {error})") from None
        parts.append(np.array(rows).reshape(-1, 3) + [0, 0, starts[-1]])
        env_id = str(header.get("env_id") or "")
    returns, lengths, times = np.concatenate(parts).T
    if not len(returns):
        raise NoEpisode(f"{folder}: no episode has finished yet")
    order = np.argsort(times, kind="stable")
    x = {"steps": np.cumsum(lengths[order]), "episodes": before + np.arange(1.0, len(order) + 1),
         "time": times[order] - min(starts)}
    return Run(folder, env_id, x, returns[order], 1)


def read_progress(folder: str, path: Path) -> Run:
    """Read the returns of a run's table."""
    rows = read_table(path, ["return"])
    if not rows:
        raise NoEpisode(f"{path}: no row has a return (rollout/ep_rew_mean)")
    steps, episodes, times, means = np.array(rows).T
    return Run(folder, "", {"steps": steps, "episodes": episodes, "time": times}, means, PER_ROW)


def read_table(path: Path, wanted: list[str]) -> list[list[float]]:
    """Return [steps, episodes, seconds, *wanted] of each row of a table that has all that is wanted.

    wanted: names of columns, or keys of COLUMNS. Episodes and seconds may be NaN. Of rows logged again after
    a kill, the later ones count.
    """
    rows: list[list[float]] = []
    offset = previous = 0.0
    names = [COLUMNS.get(name, (name,)) for name in ("steps", "episodes", "time", *wanted)]
    for row in csv.DictReader(io.StringIO(whole_lines(path))):
        cells = [next((row[name] for name in each if row.get(name)), "nan") for each in names]
        try:
            step, episodes, seconds, *values = map(float, cells)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if not np.isfinite([step, *values]).all():
            continue  # no episode had finished yet, or a row of something else
        while rows and rows[-1][0] >= step:
            rows.pop()
        if seconds < previous:  # each start counts from 0
            offset = rows[-1][2] if rows else 0.0
        previous = seconds
        rows.append([step, episodes, offset + seconds, *values])
    return rows


def read_evaluations(folder: str) -> Run:
    """Read the evaluations that EvalCallback wrote, ours or stable-baselines3's."""
    path = os.path.join(folder, EVALUATIONS)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            steps, results = arrays["timesteps"].astype(float), arrays["results"].astype(float)
        if not (results.ndim == 2 and results.shape[:1] == steps.shape and results.size):
            raise ValueError(f"timesteps {steps.shape} and results {results.shape}")
    except (ValueError, KeyError, EOFError, AttributeError, BadZipFile) as error:
        raise ValueError(f"{path} holds no evaluations ({type(error).__name__}: {error})") from None
    x = {"steps": steps} | dict.fromkeys(("episodes", "time"), np.full(len(steps), np.nan))
    return Run(folder, "", x, results.mean(axis=1), EVALUATION)


def whole_lines(path: Path) -> str:
    """Return a file's text without a last line that is still being written."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error})") from None
    return text[:text.rfind("\n") + 1]


# --- curves ------------------------------------------------------------------------------------------------

def smooth(y: np.ndarray, window: int) -> np.ndarray:
    """Return the means of `window` values in a row, (len(y) - window + 1,)."""
    return np.lib.stride_tricks.sliding_window_view(np.asarray(y, float), window).mean(axis=-1)


def thin(x: np.ndarray, y: np.ndarray, points: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Keep places at least (x[-1] - x[0]) / points apart, the last one among them: no more than can be seen.

    On the axis of time, all episodes of a batch become one place: they are logged together.
    """
    gap, kept = (x[-1] - x[0]) / points, [len(x) - 1]
    while (before := min(int(np.searchsorted(x, x[kept[-1]] - gap, side="right")), kept[-1]) - 1) >= 0:
        kept.append(before)
    return x[kept[::-1]], y[kept[::-1]]


def average(lines: list, points: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (x, mean, low, high) of lines (x, y), interpolated on a grid where all have values.

    One line stays on its own x, with its own values as low and high.
    """
    lines = [thin(x, y, points) for x, y in lines]
    if len(lines) == 1:
        x, y = lines[0]
        return x, y, y, y
    start, end = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    if not start < end:
        raise ValueError("the runs to average have no stretch in common")
    grid = np.linspace(start, end, points)
    rows = np.stack([np.interp(grid, x, y) for x, y in lines])
    return grid, rows.mean(axis=0), *interval(rows)


def interval(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bootstrap interval (low, high) of the mean over runs, at each point of rows (runs, points).

    Runs are drawn with replacement, 2,000 times; a share LEVEL of the means so drawn lies within (Efron 1979,
    percentile method). Of two or three runs it reaches from about the worst to the best: so few say no more.
    """
    try:
        from scipy.stats import bootstrap
    except ImportError as error:
        raise ImportError(f"averaging several runs needs the scipy package: {install('plot')}") from error
    found = bootstrap((rows,), np.mean, axis=0, n_resamples=2000, batch=200, confidence_level=LEVEL,
                      method="percentile", random_state=np.random.default_rng(0)).confidence_interval
    return found.low, found.high


def without_seed(folder: str) -> str:
    """Take the seed out of a folder's path: a/b_seed3, a/seed3_b, a/b-s3 and a/b/3 become a/b."""
    *above, name = Path(folder).parts
    rest = re.sub(r"(?i)(?<![a-z0-9])(seed|s)[-_=]?\d+(?![a-z0-9.])", "", name)
    rest = "" if name.isdecimal() else re.sub(r"[-_ ]{2,}", "_", rest).strip("-_ ")
    return str(Path(*above, rest))


def labels(paths: list[str]) -> list[str]:
    """Shorten paths to what tells them apart: without the folders that all of them are in."""
    parts = [Path(path).parts for path in paths]
    common = 0
    while all(len(p) > common + 1 and p[:common + 1] == parts[0][:common + 1] for p in parts):
        common += 1
    return [str(Path(*p[common:])) if p else "all runs" for p in parts]


# --- drawing -----------------------------------------------------------------------------------------------

def amount(x: float, axis: str) -> str:
    """Say how far a curve goes."""
    return f"{x:,.0f} s" if axis == "time" else f"{x:,.0f} {axis}"


def draw(curves: list[Curve], axis: str = "steps", title: str = "", what: str = "return") -> Any:
    """Return a matplotlib figure of the curves, each with its band."""
    try:
        from matplotlib.figure import Figure  # not pyplot: it looks for a window system
    except ImportError as error:
        raise ImportError(f"drawing needs the matplotlib package: {install('plot')}") from error
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    draw_in(figure.add_subplot(), curves, axis, title, what + f"\n{band(curves)}" * bool(band(curves)))
    return figure


def draw_in_pyplot(curves: list[Curve], axis: str, title: str, what: str, figsize: tuple,
                   last: float | None) -> Any:
    """Draw the curves into a new figure of pyplot, up to `last` on the horizontal axis; return the figure."""
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=figsize, layout="constrained")
    ax = figure.add_subplot()
    draw_in(ax, curves, axis, title, what)
    if last is not None and axis == "steps":
        ax.set_xlim(right=last)
    return figure


def draw_in(ax: Any, curves: list[Curve], axis: str = "steps", title: str = "", what: str = "return") -> None:
    """Draw the curves into matplotlib's axes; without a legend if a title says what the only curve is."""
    from matplotlib.ticker import EngFormatter

    seconds, unit = 1.0, "s"
    if axis == "time":
        longest = max((each.x[-1] for each in curves), default=0.0)
        seconds, unit = (3600.0, "h") if longest > 7200 else (60.0, "min") if longest > 180 else (1.0, "s")
    for i, each in enumerate(curves):
        colour, x = COLOURS[i % len(COLOURS)], each.x / seconds
        name = f"{each.label} ({each.runs} runs)" if each.runs > 1 else each.label
        ax.plot(x, each.mean, color=colour, linestyle=LINES[i // len(COLOURS) % len(LINES)], linewidth=1.8,
                label=name, marker="." if len(x) == 1 else None)
        if each.runs > 1:
            ax.fill_between(x, each.low, each.high, color=colour, alpha=0.2, linewidth=0)
    ax.set_xlabel(f"{AXES[axis]} ({unit})" if axis == "time" else AXES[axis])
    ax.set_ylabel(what)
    ax.set_title(title)
    ax.margins(x=0.01)
    if axis != "time":
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1 or not title:
        ax.legend(frameon=False, loc="best")


def band(curves: list[Curve]) -> str:
    """Say what the bands show, or nothing if there is none."""
    numbers = {each.runs for each in curves if each.runs > 1}
    if not numbers:
        return ""
    runs = f"{numbers.pop()} runs" if len(numbers) == 1 else "the runs"
    return f"band: {LEVEL:.0%} bootstrap interval of the mean over {runs}"


def save(figure: Any, path: str) -> None:
    """Write a figure to a file, in the format of its ending."""
    picture = io.BytesIO()  # drawn first: an error leaves no half a file
    ending = os.path.splitext(path)[1].lstrip(".") or "png"
    figure.savefig(picture, format=ending)
    with open(path, "wb") as file:
        file.write(picture.getbuffer())
