"""Write bench/README.md: a table of every result in bench/results/, with its command, date, machine and versions.

Of each command the latest line of each kind of CPU counts. Three numbers or more are shown as their median and, in brackets,
their range. With matplotlib a plot shows how many times as fast as the peer each thing was when last measured, and others the
learning curves.
"""

import importlib.util
import json
import statistics

import _timing
import numpy as np

HEAD = """# Results

Written by `python bench/report.py` from the lines in `bench/results/`. Each script answers one question, which `--help`
states; `--quick` shows in seconds that it works. Ratios come from one run on one machine, one BLAS thread a process unless
the command says otherwise.

![how many times as fast as PyTorch](results/ratios.png)
"""
LONG = ("curve", "curves", "calls")  # what a table cannot show
TITLES = ("seed", "run", "what", "batch")  # what tells the parts of a list apart


def shown(value) -> str:
    """Show a number with four digits, a list of numbers as its median and range."""
    if isinstance(value, list) and value and all(isinstance(x, list) for x in value):
        return "; ".join(shown(list(column)) for column in zip(*value))
    if isinstance(value, list) and value and all(isinstance(x, (int, float)) for x in value):
        if len(value) < 3:
            return ", ".join(map(shown, value))
        return f"{shown(statistics.median(value))} [{shown(min(value))}, {shown(max(value))}]"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return str(value)


def rows(value, name=()):
    """Yield (name, value) of each figure in a nested result."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key not in LONG:
                yield from rows(part, (*name, str(key)))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for i, part in enumerate(value):
            title = [str(part[key]) for key in TITLES if key in part] or [str(i)]
            yield from rows({key: x for key, x in part.items() if key not in TITLES}, (*name, ", ".join(title)))
    else:
        yield " / ".join(name), shown(value)


def ratios(lines):
    """Yield (label, how many times as fast as the peer) of every pair among the results."""
    for (stem, *_), line in lines.items():
        rates, median = line.get("steps_per_second", {}), statistics.median
        other = rates.get("sb3-contrib") or rates.get("RecurrentPPO")
        if other:
            what = f"an LSTM of {line['cells']}, beside RecurrentPPO" if "cells" in line else line["env"]
            yield f"learn: {what}", median(rates["trpo_np"]) / median(other)
        for name, seconds in line.get("peer_seconds", {}).items():
            yield name, seconds / line["trpo_np_seconds"][name]
        if stem == "update":
            yield "update: 17-64-64-6, 2,048 samples", median(line["seconds"]["sb3-contrib"]) / median(line["seconds"]["trpo_np"])
        if stem == "atari":
            found = {name: median(rate for rate, _ in pairs) for name, pairs in line["steps_per_second_and_bytes"].items()}
            yield "learn: Pong, NatureCNN, 512 a batch", found["trpo_np"] / found["sb3-contrib"]
        if stem == "conv":
            yield from ((f"NatureCNN, 512 images: {row['what']}", row["seconds"][1] / row["seconds"][0]) for row in line["rows"]
                        if row["batch"] == 512)
        if stem == "lstm":
            yield from ((f"LSTM of 256, 128 x 8: {name}", seconds / line["seconds"]["trpo_np"][name])
                        for name, seconds in line["seconds"]["PyTorch"].items())
        if stem == "imports":
            seconds = {name: pair[0] for name, pair in line["seconds_and_megabytes"].items()}
            ratio = seconds["sb3-contrib: load, predict"] / seconds["load_policy, predict"]
            yield "load a policy and predict, whole process", ratio


def plot(ratio_of: dict, path):
    """Draw the ratios as bars on a logarithmic axis."""
    from matplotlib.figure import Figure
    labels, values = zip(*sorted(ratio_of.items(), key=lambda pair: pair[1]))
    figure = Figure(figsize=(9, 0.32 * len(values) + 1), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(values)), [value - 1 for value in values], left=1, color=["C0" if v >= 1 else "C3" for v in values])
    for i, value in enumerate(values):
        axes.annotate(f"{value:.1f}" if value >= 2 else f"{value:.2f}", (max(value, 1), i), xytext=(3, 0),
                      textcoords="offset points", va="center")
    axes.set(xscale="log", yticks=range(len(values)), yticklabels=labels, xlabel="times as fast as PyTorch")
    axes.margins(x=0.1)
    figure.savefig(path, dpi=110)


def pictures(lines):
    """Draw the learning curves that curves.py summed up, a picture a game, mean and spread over seeds."""
    from trpo_np.app import plots
    games: dict = {}
    for run in (run for (stem, *_), line in lines.items() if stem == "curves" for run in line["runs"]):
        games.setdefault(run["env"], {}).setdefault(plots.without_seed(run["run"]), []).append(np.array(run["curve"], float).T)
    for env, groups in games.items():
        curves = [plots.Curve(name, *plots.average(runs), len(runs)) for name, runs in groups.items()]
        figure = plots.draw(curves, title=env, what="return, mean of 100 episodes")
        plots.save(figure, str(_timing.RESULTS / f"curves_{env.partition('NoFrameskip')[0]}.png"))


def section(line: dict) -> str:
    """Return the Markdown of one result."""
    machine, command = line.pop("machine"), line.pop("command")
    versions = ", ".join(f"{name} {value}" for name, value in machine.items() if name != "date")
    table = "\n".join(f"| {name} | {value} |" for name, value in rows(line))
    return f"`{command}`, {machine['date']}; {versions}\n\n| | |\n| --- | --- |\n{table}\n"


def main():
    args = _timing.arguments(__doc__)
    latest: dict = {}
    for path in sorted(_timing.RESULTS.glob("*.jsonl")):
        for text in path.read_text().splitlines():
            line = json.loads(text)
            what = (line.get(name) for name in ("env", "task", "policy", "cells"))
            latest[(path.stem, line["command"], *what, line["machine"]["cpu"])] = line
    parts, before = [HEAD], ""
    for (stem, *_), line in latest.items():
        parts.append(("\n" if stem == before else f"\n## {stem}\n\n") + section(line))
        before = stem
    if args.quick:
        _timing.save(args, {"results": len(latest)})
    else:
        if importlib.util.find_spec("matplotlib"):
            plot(dict(ratios(latest)), _timing.RESULTS / "ratios.png")
            pictures(latest)
        else:
            print("matplotlib is not installed: no plots")
        (_timing.RESULTS.parent / "README.md").write_text("".join(parts))


if __name__ == "__main__":
    main()
