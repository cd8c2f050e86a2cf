"""Learning curves from the logs of runs: read, smooth, average over seeds, draw. Only drawing loads matplotlib."""

import csv
import io
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

AXES = {"steps": "environment steps", "episodes": "episodes", "time": "time"}
DEFAULT_WINDOW = {1: 20, 100: 1}  # rows to average, by the episodes that a row stands for; more lag behind a short run
# told apart by the colour-blind too (Okabe and Ito)
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
LINES = ["-", "--", ":"]


class Run(NamedTuple):
    """What one run logged: rows in time, with `x` by the name of the axis."""

    folder: str
    env_id: str  # "" if unknown
    x: dict[str, np.ndarray]
    returns: np.ndarray
    episodes_per_row: int  # a table's row is a mean itself


class Curve(NamedTuple):
    """A line to draw, and how far the runs behind it spread."""

    label: str
    x: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    runs: int


def learning_curves(folders, axis: str = "steps", window: int | None = None,
                    group: str = "seed") -> tuple[list[Curve], str, str]:
    """Return the curves of all runs in these folders, a title and what the vertical axis shows.

    axis: "steps", "episodes" or "time". window: rows to average, see `smooth`; None for 20 episodes.
    group: average runs whose names differ in the "seed", "none" of them, or "all".
    """
    runs = [read_run(folder) for folder in find_runs(folders)]
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault({"seed": without_seed(run.folder), "none": run.folder, "all": ""}[group], []).append(run)
    spans = {span(run, window) for run in runs}
    curves = []
    for label, members in zip(labels(list(groups)), groups.values()):
        lines = [(run.x[axis], smooth(run.returns, rows_of(run, window))) for run in members]
        try:
            curves.append(Curve(label, *average(lines), len(lines)))
        except ValueError as error:
            raise ValueError(f"{label}: {error} ({', '.join(run.folder for run in members)})") from None
    names = {run.env_id for run in runs}
    what = f"return, mean of {max(spans)} episodes" if len(spans) == 1 and max(spans) > 1 else "return"
    return curves, names.pop() if len(names) == 1 else "", what


def rows_of(run: Run, window: int | None) -> int:
    return window or DEFAULT_WINDOW[run.episodes_per_row]


def span(run: Run, window: int | None) -> int:
    """Return the number of episodes that a point of the curve averages, 0 if that cannot be said."""
    rows = rows_of(run, window)
    return max(rows, run.episodes_per_row) if 1 in (rows, run.episodes_per_row) else 0


# --- reading ----------------------------------------------------------------------------------------------------------

def find_runs(folders) -> list[str]:
    """Return the folders that hold logs: those given, and those within one that holds none itself."""
    found: list[str] = []
    for folder in map(os.path.normpath, folders):
        if not os.path.isdir(folder):
            raise ValueError(f"{folder} is not a folder")
        inside = [place for place, _, _ in sorted(os.walk(folder)) if logs(place)]
        if not inside:
            raise ValueError(f"{folder} holds no monitor.csv and no progress.csv; train --log-dir writes them")
        found += [folder] if folder in inside else inside
    return list(dict.fromkeys(found))


def logs(folder: str) -> list[Path]:
    """Return the Monitor files of a folder, or else its progress.csv, or nothing."""
    place = Path(folder)
    return sorted(place.glob("*monitor.csv")) or [path for path in [place / "progress.csv"] if path.exists()]


def read_run(folder: str) -> Run:
    """Read the episodes, or else the table, of one run; of both, the episodes at the steps that the table states."""
    paths, table = logs(folder), Path(folder) / "progress.csv"
    if paths[0] == table:
        return read_progress(folder, table)
    run = read_monitors(folder, paths)
    if table.exists():
        with suppress(ValueError):  # no row of it has a return yet
            run.x["steps"] = placed(run.x["steps"], run.x["episodes"], read_progress(folder, table).x)
    return run


def placed(steps: np.ndarray, episodes: np.ndarray, table: dict[str, np.ndarray]) -> np.ndarray:
    """Return the steps after which `episodes` ended, given the sums of lengths, which lack episodes that a new start cut.

    A table counts all steps; between two of its rows the episodes are spread evenly, and after the last by their lengths.
    """
    told = int(np.searchsorted(episodes, table["episodes"][-1], side="right"))
    if np.isnan(table["episodes"]).any() or not told or table["episodes"][-1] > episodes[-1]:  # not the table of these episodes
        return steps
    early = np.interp(episodes[:told], [0, *table["episodes"]], [0, *table["steps"]])
    return np.concatenate([early, early[-1] + steps[told:] - steps[told - 1]])


def read_monitors(folder: str, paths: list[Path]) -> Run:
    """Read Monitor files, one for each environment of a run, as one run: episodes in the order in which they ended."""
    parts, starts, env_id, before = [], [], "", 0
    for path in paths:
        head, _, text = whole_lines(path).partition("\n")
        try:
            header = json.loads(head.removeprefix("#"))
            starts.append(float(header["t_start"]))
            rows = [[float(row[key]) for key in "rlt"] for row in csv.DictReader(io.StringIO(text))]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no Monitor file ({type(error).__name__}: {error})") from None
        parts.append(np.array(rows).reshape(-1, 3) + [0, 0, starts[-1]])
        env_id, before = str(header.get("env_id") or ""), int(header.get("episodes_before", 0))
    returns, lengths, times = np.concatenate(parts).T
    if not len(returns):
        raise ValueError(f"{folder}: no episode has finished yet")
    order = np.argsort(times, kind="stable")
    x = {"steps": np.cumsum(lengths[order]), "episodes": before + np.arange(1.0, len(order) + 1),
         "time": times[order] - min(starts)}
    return Run(folder, env_id, x, returns[order], 1)


def read_progress(folder: str, path: Path) -> Run:
    """Read the table of a run; of rows logged again after a kill, the later ones count."""
    rows: list[list[float]] = []
    offset = previous = 0.0
    for row in csv.DictReader(io.StringIO(whole_lines(path))):
        cells = [row.get("step") or row.get("time/total_timesteps"), row.get("rollout/episodes") or "nan",
                 row.get("time/time_elapsed") or "nan", row.get("rollout/ep_rew_mean")]
        if not all(cells):
            continue  # no episode had finished yet
        try:
            step, episodes, seconds, mean = map(float, cells)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if not np.isfinite(mean):
            continue
        while rows and rows[-1][0] >= step:
            rows.pop()
        if seconds < previous:  # each start counts from 0
            offset = rows[-1][2] if rows else 0.0
        previous = seconds
        rows.append([step, episodes, offset + seconds, mean])
    if not rows:
        raise ValueError(f"{path}: no row has a return (rollout/ep_rew_mean)")
    steps, episodes, times, means = np.array(rows).T
    return Run(folder, "", {"steps": steps, "episodes": episodes, "time": times}, means, 100)


def whole_lines(path: Path) -> str:
    """Return a file's text without a last line that is still being written."""
    text = path.read_text(encoding="utf-8")
    return text[:text.rfind("\n") + 1]


# --- curves -----------------------------------------------------------------------------------------------------------

def smooth(y: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values at each place; of all so far, where they are fewer."""
    sums = np.cumsum(np.concatenate([[0.0], y]))
    end = np.arange(1, len(y) + 1)
    start = np.maximum(end - window, 0)
    return (sums[end] - sums[start]) / (end - start)


def thin(x: np.ndarray, y: np.ndarray, points: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Keep places at least a `points`-th of the whole stretch of x apart, the last one among them: no more than can be seen.

    On the axis of time all episodes of a batch, which are logged together, become one place.
    """
    gap, kept = (x[-1] - x[0]) / points, [len(x) - 1]
    while (before := min(int(np.searchsorted(x, x[kept[-1]] - gap, side="right")), kept[-1]) - 1) >= 0:
        kept.append(before)
    return x[kept[::-1]], y[kept[::-1]]


def average(lines: list, points: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (x, mean, standard deviation) of lines (x, y), interpolated on a grid where all of them have values.

    One line stays on its own x, with zeros. The deviation is that of a sample, with n - 1.
    """
    lines = [thin(x, y, points) for x, y in lines]
    if len(lines) == 1:
        x, y = lines[0]
        return x, y, np.zeros_like(y)
    start, end = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    if not start < end:
        raise ValueError("the runs to average have no stretch in common")
    grid = np.linspace(start, end, points)
    rows = np.stack([np.interp(grid, x, y) for x, y in lines])
    return grid, rows.mean(axis=0), rows.std(axis=0, ddof=1)


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


# --- drawing ----------------------------------------------------------------------------------------------------------

def amount(x: float, axis: str) -> str:
    """Say how far a curve goes."""
    return f"{x:,.0f} s" if axis == "time" else f"{x:,.0f} {axis}"


def draw(curves: list[Curve], axis: str = "steps", title: str = "", what: str = "return") -> Any:
    """Return a matplotlib figure of the curves, each with its band."""
    try:
        from matplotlib.figure import Figure  # not pyplot: it looks for a window system
        from matplotlib.ticker import EngFormatter
    except ImportError as error:
        raise ImportError("drawing needs the matplotlib package: pip install 'trpo_np[plot]'") from error
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    ax = figure.add_subplot()
    seconds, unit = 1.0, "s"
    if axis == "time":
        longest = max(curve.x[-1] for curve in curves)
        seconds, unit = (3600.0, "h") if longest > 7200 else (60.0, "min") if longest > 180 else (1.0, "s")
    for i, curve in enumerate(curves):
        colour, x = COLOURS[i % len(COLOURS)], curve.x / seconds
        name = f"{curve.label} ({curve.runs} runs)" if curve.runs > 1 else curve.label
        ax.plot(x, curve.mean, color=colour, linestyle=LINES[i // len(COLOURS) % len(LINES)], linewidth=1.8, label=name)
        if curve.runs > 1:
            ax.fill_between(x, curve.mean - curve.std, curve.mean + curve.std, color=colour, alpha=0.2, linewidth=0)
    ax.set_xlabel(f"{AXES[axis]} ({unit})" if axis == "time" else AXES[axis])
    ax.set_ylabel(what)
    ax.set_title(title)
    ax.margins(x=0.01)
    if axis != "time":
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="best")
    return figure


def save(figure: Any, path: str) -> None:
    """Write a figure to a file, in the format of its ending."""
    picture = io.BytesIO()  # drawn first: an error leaves no half a file
    ending = os.path.splitext(path)[1].lstrip(".") or "png"
    figure.savefig(picture, format=ending)
    with open(path, "wb") as file:
        file.write(picture.getbuffer())
