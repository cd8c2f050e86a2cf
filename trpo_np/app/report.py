"""A report on runs as one page that needs no network: curves, the final evaluation, settings, a video.

Runs that differ in the seed only are one curve, in its bootstrap interval. What a run has not written is
left out. All text of files is escaped, and the page forbids itself to load anything.
"""

import base64
import json
import math
import os
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from . import plots, svg
from .jobs import SCORE

VIDEOS = {".mp4": "video/mp4", ".webm": "video/webm"}
LARGEST = 30_000_000  # bytes of a video that a page can hold
# heading, explanation, columns (ours, then stable-baselines3's), and what is drawn of it
METRICS: list[tuple[str, str, tuple[str, ...], dict[str, Any]]] = [
    ("KL divergence of the step", "", ("train/kl", "train/kl_divergence_loss", "train/approx_kl"),
     {"lowest": 0.0}),
    ("Step fraction", "1: the whole step to the limit, 0: refused", ("train/step_fraction",),
     {"lowest": 0.0, "highest": 1.0}),
    ("Explained variance", "of the returns by the critic; 1 is all, below -1 is drawn at -1",
     ("train/explained_variance",), {"lowest": -1.0, "highest": 1.0})]
SHARES = ("environment", "policy", "update")


def write(folders: list[str]) -> str:
    """Return the page on the runs in these folders."""
    from .. import __version__

    runs = plots.find_runs(folders)
    groups = plots.grouped(runs)
    configs = {folder: read_json(folder, "config.json") for folder in runs}
    scores = {folder: read_score(folder) for folder in runs}
    names = {str(config["env"]) for config in configs.values() if "env" in config}
    said = f"{count(len(runs), 'run')}, {count(len(groups), 'setting')}; made by trpo_np {__version__}"
    parts = [f'<p class="soft">{said}</p>', legend(groups), figures(groups, configs),
             evaluations(groups, scores), videos(groups), shares(groups), settings(groups, configs),
             commands(configs)]
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    title = escape(", ".join(sorted(names)) or "Training")
    return Template(template).substitute(title=title, body="\n".join(filter(None, parts)))


def read_json(folder: str, name: str) -> dict[str, Any]:
    """Return what a file of a run holds, or nothing if it is not there."""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {found!r:.60}, not values by name")
    return found


def read_score(folder: str) -> dict[str, Any]:
    """Return the evaluation at the end of a run, or nothing if it is not there."""
    found = read_json(folder, SCORE)
    try:
        numbers = [found.get("num_timesteps", 0), *found.get("returns", ()), *found.get("lengths", ())]
        if not np.isfinite(np.array(numbers)).all():
            raise ValueError("numbers are needed")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{os.path.join(folder, SCORE)} holds no evaluation ({error})") from None
    return found


# --- pieces of a page ---------------------------------------------------------------------------------------

def count(n: int, what: str) -> str:
    """Return a number of things."""
    return f"{n} {what}{'s' * (n != 1)}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table of texts."""
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table>\n{body}\n</table></div>'


def figure(heading: str, explanation: str, picture: str) -> str:
    """Return a picture under its heading."""
    caption = f"{escape(heading)} <span>{escape(explanation)}</span>"
    return f"<figure><figcaption>{caption}</figcaption>\n{picture}</figure>"


# --- curves -------------------------------------------------------------------------------------------------

def legend(groups: dict[str, list[str]]) -> str:
    """Return the names of the curves in their colours."""
    names = []
    for i, (label, members) in enumerate(groups.items()):
        dashes = svg.DASHES[plots.LINES[i // len(plots.COLOURS) % len(plots.LINES)]]
        key = (f'<svg class="key" viewBox="0 0 32 14"><polyline class="line c{i % len(plots.COLOURS)}" '
               f'stroke-dasharray="{dashes}" points="0,7 32,7"/></svg>')
        names.append(f"{key}{escape(label)} <span class='soft'>({count(len(members), 'run')})</span>")
    return f"<p>{' &emsp; '.join(names)}</p>"


def figures(groups: dict[str, list[str]], configs: dict) -> str:
    """Return the charts; under them, what could not be drawn and why."""
    drawn, notes = [], []
    for heading, evaluated in [("Return", False), ("Evaluations", True)]:
        try:
            chart, begun = returns(groups, heading, evaluated)
            drawn.append(chart)
            notes += [f"{heading}: left out: {said}" for said in begun]
        except ValueError as error:
            notes.append(f"{heading} not drawn: {error}")
    limits = [config.get("max_kl") for config in configs.values()]
    limit = limits[0] if limits.count(limits[0]) == len(limits) else None  # a number, or a schedule
    for heading, explanation, columns, options in METRICS:
        curves, reasons = metric(groups, columns)
        notes += [f"{heading} not drawn: {reason}" for reason in reasons]
        if columns[0] == "train/kl" and isinstance(limit, float):
            options, explanation = options | {"limit": limit}, f"the level line is max_kl, {limit:g}"
        if curves:
            drawn.append(figure(heading, explanation, svg.chart(curves, heading, **options)))
    missing = "".join(f'<p class="soft">{escape(note)}</p>' for note in notes)
    return f'<div class="grid2">\n{"".join(drawn)}</div>\n{missing}'


def returns(groups: dict[str, list[str]], heading: str, evaluated: bool) -> tuple[str, list[str]]:
    """Return the chart of the returns in training, or of evaluations if there are any, and what it lacks."""
    used = {i: found for i, members in enumerate(groups.values())
            if (found := [folder for folder in members
                          if not evaluated or os.path.exists(os.path.join(folder, plots.EVALUATIONS))])}
    if not used:
        return "", []
    runs, begun = plots.read_runs(sum(used.values(), []), evaluated)
    folders = [run.folder for run in runs]
    used = {i: found for i, found in used.items() if not {*folders}.isdisjoint(found)}
    curves, _, what = plots.learning_curves(folders, evaluations=evaluated)
    explanation = [what.removeprefix("return").lstrip(", "), plots.band(curves)]
    chart = svg.chart(list(zip(used, curves)), heading)
    return figure(heading, "; ".join(filter(None, explanation)), chart), begun


def metric(groups: dict[str, list[str]], columns: tuple[str, ...]) -> tuple[list, list[str]]:
    """Return (numbered curves of a column of the runs' tables, why some are missing)."""
    curves, missing = [], []
    for i, (label, members) in enumerate(groups.items()):
        lines = [(steps, values) for folder in members
                 for steps, values in column(folder, columns) if len(steps)]
        try:
            if lines:
                curves.append((i, plots.Curve(label, *plots.average(lines, 200), len(lines))))
        except ValueError as error:
            missing.append(f"{label}: {error}")
    return curves, missing


def column(folder: str, names: tuple[str, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (steps, values) of the first of these columns that a run's table has, in a list; or nothing."""
    path = Path(folder) / "progress.csv"
    for name in names if path.exists() else ():
        if rows := plots.read_table(path, [name]):
            steps, _, _, values = np.array(rows).T
            return [(steps, values)]
    return []


# --- the rest -----------------------------------------------------------------------------------------------

def evaluations(groups: dict[str, list[str]], scores: dict) -> str:
    """Return a table of the evaluations at the end, for each setting and for each run."""
    over, each = [], []
    for label, members in groups.items():
        means = []
        for folder in members:
            if not (returns := scores[folder].get("returns")):
                continue
            means.append(float(np.mean(returns)))
            lengths = scores[folder].get("lengths") or [math.nan]
            each.append([folder, f"{scores[folder].get('num_timesteps', 0):,}", str(len(returns)),
                         f"{means[-1]:,.2f}", f"{np.std(returns):,.2f}", f"{min(returns):,.2f}",
                         f"{max(returns):,.2f}", f"{np.mean(lengths):,.1f}"])
        if means:
            n = len(means)
            error = f"{np.std(means, ddof=1) / n ** 0.5:,.2f}" if n > 1 else "-"
            over.append([label, f"{np.mean(means):,.2f}", error, f"{min(means):,.2f}", str(n)])
    if not over:
        return ""
    head = ["run", "steps", "episodes", "mean return", "deviation", "lowest", "highest", "mean length"]
    return ("<h2>Evaluation at the end</h2>\n"
            + table(["setting", "mean return", "standard error", "worst run", "runs"], over)
            + f"\n<details><summary>each run</summary>\n{table(head, each)}</details>")


def videos(groups: dict[str, list[str]]) -> str:
    """Return the newest video in the folders of each setting."""
    parts = []
    for label, members in groups.items():
        found = [path for folder in members for path in Path(folder).rglob("*")
                 if path.suffix in VIDEOS and path.is_file()]
        if not found:
            continue
        path = max(found, key=lambda path: path.stat().st_mtime)
        if path.stat().st_size > LARGEST:
            shown = f"<p>{escape(str(path))} is too large for this page.</p>"
        else:
            content = base64.b64encode(path.read_bytes()).decode()
            shown = (f'<video controls loop muted playsinline src="data:{VIDEOS[path.suffix]};base64,'
                     f'{content}"></video>')
        parts.append(figure(label, path.name, shown))
    return f'<h2>Video</h2>\n<div class="grid2">{"".join(parts)}</div>' if parts else ""


def shares(groups: dict[str, list[str]]) -> str:
    """Return bars of where the time went."""
    parts = []
    for label, members in groups.items():
        found = [[column(folder, (f"time/share_{name}",)) for name in SHARES] for folder in members]
        means = [[float(np.mean(each[0][1])) for each in run] for run in found if all(run)]
        if not means:
            continue
        spent = dict(zip(SHARES, np.mean(means, axis=0)))
        spent["rest"] = max(0.0, 1 - sum(spent.values()))
        names = " ".join(f'<i class="{name}"></i>{name} {share:.0%}' for name, share in spent.items())
        bar = "".join(f'<span class="{name}" style="width:{share:.2%}"></span>'
                      for name, share in spent.items())
        parts.append(f'{escape(label)} &emsp; <span class="soft">{names}</span><div class="bar">{bar}</div>')
    return "<h2>Where the time went</h2>\n" + "\n".join(parts) if parts else ""


def settings(groups: dict[str, list[str]], configs: dict) -> str:
    """Return the settings: first those that differ, then those that all runs share."""
    labels = [label for label, members in groups.items() if any(configs[folder] for folder in members)]
    names = dict.fromkeys(name for config in configs.values() for name in config if name != "command")
    rows = []
    for name in names:
        values = [dict.fromkeys(said(configs[folder][name]) for folder in groups[label]
                                if name in configs[folder]) for label in labels]
        rows.append([name, *(", ".join(each) for each in values)])
    differ = [row for row in rows if len({*row[1:]}) > 1]
    same = [row[:2] for row in rows if len({*row[1:]}) == 1]
    if not rows:
        return ""
    first = table(["setting", *labels], differ) if differ else ""
    return (f"<h2>Settings</h2>\n{first}\n<details{' open' * (not differ)}><summary>the same in all runs"
            f"</summary>\n{table(['setting', 'value'], same)}</details>")


def said(value: Any) -> str:
    """Return a setting as text."""
    return value if isinstance(value, str) else json.dumps(value)


def commands(configs: dict) -> str:
    """Return the commands of the runs."""
    lines = dict.fromkeys(str(config["command"]) for config in configs.values() if "command" in config)
    return f"<h2>Commands</h2>\n<pre>{escape(chr(10).join(lines))}</pre>" if lines else ""
