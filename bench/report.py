"""Write bench/README.md, and its pictures, from the raw lines in bench/results/.

Of each result the latest line counts, that of the newest machine before others. With matplotlib, ratios.png
shows how many times as fast as PyTorch each thing is on that machine, and curves_*.png how jobs learned.
"""

import ast
import importlib.util
import json
import math
import statistics
import textwrap
from pathlib import Path
from typing import NamedTuple

import _learned
import _timing
import numpy as np
import time_to_score

HERE = Path(__file__).parent
HEAD = """# Measured

`python bench/report.py` writes this page from the raw lines in `bench/results/`: of each result the latest
one, of the newest machine if it has one. The two figures of a row come from one run on one machine, with one
BLAS thread a process.

"""
HOW = """
## How to run

Each script answers the question that stands above its table, and explains itself with `--help`. `--quick`
shows in seconds that it works, and writes nothing. Without it, a line with the machine, the versions and the
command is added to `bench/results/`.

```bash
pip install '.[bench]'              # the peers: PyTorch, sb3-contrib
python bench/vs_sb3.py --quick      # does it work here?
python bench/vs_sb3.py --rounds 5   # the first rows of the table above, in minutes
python bench/report.py              # this page and its pictures again
```
"""
CHOOSE, REPORTED, _ = _learned.KINDS
LEARNED = {"learn", "starts", "drift", "first_table"}  # scripts that measure no times, or on a busy machine
SB3, ENVIRONMENT = "sb3-contrib", "environment"
GROUPS = {"learn": "learn, steps a second", "predict": "predict", "single": "single steps of training"}


# --- reading the raw lines --------------------------------------------------------------------------------

def read() -> list[dict]:
    """Return all raw lines, oldest first, each with the name of its script as "stem".

    Lines of returns come first: where policies were trained says nothing of the machine to tell of.
    """
    lines = []
    for path in sorted(_timing.RESULTS.glob("*.jsonl")):
        lines += [{"stem": path.stem, **json.loads(text)} for text in path.read_text().splitlines()]
    return sorted(lines, key=lambda line: (line["stem"] not in LEARNED, line["machine"]["date"]))


def kind(line: dict) -> tuple:
    """Say what a line is the result of; a later line of the same kind takes its place."""
    if line["stem"] == "memory":
        return "memory", line["task"], line["policy"]
    if line["stem"] == "learn":
        return "learn", line["env"], line["setting"], line["seed"], line["budget"]
    if line["stem"] == "time_to_score":
        return "time_to_score", time_to_score.key(line)
    return line["stem"], line["command"], line.get("env"), line.get("cells")


def latest(lines: list[dict]) -> list[dict]:
    """Return the line that counts of each kind: that of the newest machine, or else the latest."""
    chosen: dict[tuple, dict] = {}
    for line in lines:
        before = chosen.get(kind(line))
        if before is None or cpu(line) == cpu(lines[-1]) or cpu(before) != cpu(lines[-1]):
            chosen[kind(line)] = line
    return list(chosen.values())


def cpu(line: dict) -> str:
    return line["machine"]["cpu"]


def named(machine: dict) -> str:
    """Say which machine, and which versions, in a few words."""
    packages = ("numpy", "numba", "gymnasium", "mujoco", "torch", SB3)
    versions = ", ".join(f"{name} {machine[name]}" for name in packages if name in machine)
    return (f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}, {versions}"
            + f", BLAS: {machine['blas']}" * ("blas" in machine))


# --- numbers as text --------------------------------------------------------------------------------------

def number(x: float) -> str:
    """Write a number with three digits, or whole."""
    if not math.isfinite(x):
        return "-"
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def seconds(x: float) -> str:
    """Write a time in the unit that fits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if x >= size:
            return f"{x / size:.3g} {unit}"
    return f"{x:.2g} s"


def megabytes(x: float) -> str:
    return f"{x / 1e6:,.0f} MB"


def percent(x: float) -> str:
    return f"{100 * x:.0f} %"


def times(x: float) -> str:
    return f"{x:.0f} x" if x >= 9.95 else f"{x:.1f} x" if x >= 1.995 else f"{x:.2f} x"


def spread(values: list) -> str:
    """Write the median of some numbers and, of three or more, their range."""
    middle = number(statistics.median(values))
    return f"{middle} ({number(min(values))} to {number(max(values))})" if len(values) > 2 else middle


def table(heads: list[str], rows: list) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


# --- beside the peer: the first table and the picture -----------------------------------------------------

class Pair(NamedTuple):
    """One thing measured here and with the peer, in one run."""

    group: str  # of GROUPS
    label: str
    ours: str
    peer: str
    ratio: float  # how many times as fast as the peer
    limit: str
    command: str


def pairs(lines: list[dict]) -> list[Pair]:
    """Return everything that has a peer, from lines of one machine, in the order of GROUPS."""
    shares = shares_of_sgemm(lines)
    found = [pair for stem, fun in BESIDE.items() for line in lines if line["stem"] == stem
             for pair in fun(line)]
    found = [pair._replace(limit=pair.limit or shares.get(pair.label, "")) for pair in found]
    return sorted(found, key=lambda pair: list(GROUPS).index(pair.group))


def shares_of_sgemm(lines: list[dict]) -> dict[str, str]:
    """Return how near limits.py found steps of training to the speed of large matrix products, by label."""
    shares = {}
    for line in (line for line in lines if line["stem"] == "limits"):
        for network, phases in networks(line).items():
            for phase, row in phases.items():
                if isinstance(row, dict):
                    name = phase.removeprefix("the ")
                    shares[f"{name}, {network}"] = f"{percent(row['share'])} of sgemm"
    return shares


def timed(group: str, label: str, ours: float, peer: float, line: dict, limit: str = "") -> Pair:
    """Make a Pair of two times in seconds."""
    return Pair(group, label, seconds(ours), seconds(peer), peer / ours, limit, line["command"])


def rated(label: str, ours: float, peer: float, line: dict, limit: str = "") -> Pair:
    """Make a Pair of two rates in steps a second."""
    return Pair("learn", label, f"{number(ours)} steps/s", f"{number(peer)} steps/s", ours / peer, limit,
                line["command"])


def medians(line: dict) -> dict[str, float]:
    return {name: statistics.median(rates) for name, rates in line["steps_per_second"].items()}


def beside_sb3(line):
    rate = medians(line)
    limit = f"{percent(rate['trpo_np'] / rate[ENVIRONMENT])} of the bare environment"
    yield rated(line["env"], rate["trpo_np"], rate[SB3], line, limit)


def beside_sb3_on_pong(line):
    rate = {name: statistics.median(rate for rate, _ in found)
            for name, found in line["steps_per_second_and_bytes"].items()}
    yield rated("Pong, NatureCNN, equal settings", rate["trpo_np"], rate[SB3], line)


def beside_recurrent_ppo(line):
    rate = medians(line)
    label = f"CartPole-v1, LSTM of {line['cells']} (RecurrentPPO)"
    yield rated(label, rate["trpo_np"], rate["RecurrentPPO"], line)


def beside_load(line):
    cost = {name: pair[0] for name, pair in line["seconds_and_megabytes"].items()}
    limit = f"`import numpy` alone: {seconds(cost['import numpy'])}"
    yield timed("predict", "load a policy and predict, whole process", cost["load_policy, predict"],
                cost["sb3-contrib: load, predict"], line, limit)


def beside_calls(line):
    for name, ours in line["trpo_np_seconds"].items():
        group = "predict" if name.startswith("predict") else "single"
        yield timed(group, name, ours, line["peer_seconds"][name], line)


def beside_update(line):
    ours, peer = (statistics.median(line["seconds"][name]) for name in ("trpo_np", SB3))
    yield timed("single", "whole update, 17-64-64-6, 2,048 samples", ours, peer, line)


def beside_conv(line):
    for row in (row for row in line["rows"] if row["batch"] == 512):
        yield timed("single", f"NatureCNN, 512 images: {row['what']}", *row["seconds"], line,
                    f"{percent(row['sgemm_share'])} of sgemm")


def beside_lstm(line):
    for name, peer in line["seconds"]["PyTorch"].items():
        label = f"LSTM of 256, 128 steps x 8: {name}"
        yield timed("single", label, line["seconds"]["trpo_np"][name], peer, line)


BESIDE = {"vs_sb3": beside_sb3, "atari": beside_sb3_on_pong, "vs_recurrent": beside_recurrent_ppo,
          "imports": beside_load, "predict": beside_calls, "update": beside_update, "conv": beside_conv,
          "lstm": beside_lstm}


def for_a_person(found: list[Pair]) -> str:
    """Return the first table."""
    rows = [["learn: " * (pair.group == "learn") + pair.label, pair.ours, pair.peer,
             f"**{times(pair.ratio)}**", pair.limit or "-", f"`{pair.command}`"] for pair in found]
    return table(["what", "trpo_np", "peer (PyTorch)", "times as fast", "of the limit", "command"], rows)


def on_each_machine(lines: list[dict]) -> str:
    """Return a table of the ratios on every machine that was measured: they depend on it."""
    machines = list(dict.fromkeys(cpu(line) for line in reversed(lines)))
    found = [{pair.label: pair.ratio for pair in pairs(latest([line for line in lines if cpu(line) == name]))}
             for name in machines]
    machines = [name for name, ratios in zip(machines, found) if ratios]
    found = [ratios for ratios in found if ratios]
    if len(found) < 2:
        return ""
    dates = [max(line["machine"]["date"] for line in lines if cpu(line) == name) for name in machines]
    rows = [[label, *(times(ratios[label]) if label in ratios else "-" for ratios in found)]
            for label in found[0]]
    return ("\n## How many times as fast, on each machine\n\n"
            + table(["", *(f"{name} ({date})" for name, date in zip(machines, dates))], rows))


# --- one table a question ---------------------------------------------------------------------------------

def tell_vs_sb3(lines):
    heads = ["environment", "trpo_np, steps/s", "memory", "sb3-contrib", "memory", "bare environment"]
    rows = []
    for line in lines:
        rate = line["steps_per_second"]
        size = {name: statistics.median(found) for name, found in line["bytes"].items()}
        rows.append([line["env"], spread(rate["trpo_np"]), megabytes(size["trpo_np"]), spread(rate[SB3]),
                     megabytes(size[SB3]), spread(rate[ENVIRONMENT])])
    return table(heads, rows)


def tell_atari(lines):
    rows = [[name, spread([rate for rate, _ in found]), megabytes(max(size for _, size in found))]
            for name, found in lines[-1]["steps_per_second_and_bytes"].items()]
    return table(["program", "steps/s", "memory"], rows)


def tell_vs_recurrent(lines):
    programs = ("trpo_np", "RecurrentPPO")
    rows = [[line["cells"], *(spread(line["steps_per_second"][name]) for name in programs)] for line in lines]
    return table(["cells", "trpo_np, steps/s", "RecurrentPPO"], rows)


def tell_predict(lines):
    line = lines[-1]
    rows = [[name, seconds(ours), seconds(line["peer_seconds"][name])]
            for name, ours in line["trpo_np_seconds"].items()]
    return table(["one call", "trpo_np", SB3], rows)


def tell_update(lines):
    found = {name: [1e3 * x for x in row] for name, row in lines[-1]["seconds"].items()}
    return table(["program", "ms an update"], [[name, spread(row)] for name, row in found.items()])


def networks(line: dict) -> dict[str, dict]:
    """Return the phases that limits.py timed, by network."""
    return {name: found for name, found in line.items()
            if isinstance(found, dict) and "the whole update" in found}


def tell_limits(lines):
    line = lines[-1]
    columns = networks(line)
    phases = list(dict.fromkeys(phase for rows in columns.values() for phase in rows))

    def cell(row):
        if row is None:
            return "-"
        if not isinstance(row, dict):
            return seconds(row)
        many = f"{row['times']} in " * (row["times"] > 1)
        return f"{many}{seconds(row['seconds'])}, {percent(row['share'])}"
    rows = [[phase, *(cell(rows.get(phase)) for rows in columns.values())] for phase in phases]
    about = (f"sgemm: {line['sgemm_flops'] / 1e9:.0f} GFLOP/s, copies: {line['copy_bytes'] / 1e9:.0f} GB/s. "
             "Each cell: the time, and\nthe share of sgemm's speed at which the phase multiplies.\n\n")
    return about + table(["phase", *columns], rows)


def tell_bodies(lines):
    rows = [[case, body, f"{found['gain']:.1f} %", "{:.1f} to {:.1f}".format(*found["middle_half"])]
            for case, bodies in lines[-1]["gains"].items() for body, found in bodies.items()]
    return table(["update of", "without its", "takes longer by", "middle half of the pairs"], rows)


def tell_conv(lines):
    line = lines[-1]
    rows = [[f"{row['what']}, batch {row['batch']}", *map(seconds, row["seconds"]),
             percent(row["sgemm_share"])] for row in line["rows"]]
    sizes = [f"{line[f'memory_{n}'] / 1e6:,.0f} MB for {n:,} images" for n in (512, 8192)
             if f"memory_{n}" in line]
    memory = f"\nOne linearization with a Fisher product takes {' and '.join(sizes)}.\n" * bool(sizes)
    return table(["NatureCNN", "trpo_np", "PyTorch", "of sgemm"], rows) + memory


def tell_lstm(lines):
    programs = lines[-1]["seconds"]
    rows = [[what, *(seconds(programs[name][what]) for name in programs)] for what in programs["trpo_np"]]
    return table(["LSTM of 256 cells, 128 steps of 8", *(f"{name} (trpo_np)" if name == "layer norm" else name
                                                         for name in programs)], rows)


def tell_growth(lines):
    rows = []
    for what in ("batch", "parameters", "environments"):
        found = lines[-1][what]
        sizes = list(found["seconds"])
        cells = ", ".join(f"{int(size):,}: {seconds(found['seconds'][size])}" for size in sizes)
        rows.append([what, cells, *(f"{found['exponents'][of]:.2f}" for of in ("seconds", "bytes"))])
    return table(["size", "time", "exponent of time", "of memory"], rows)


def tell_shares(lines):
    parts = (ENVIRONMENT, "policy", "update")
    rows = [[name, number(row["fps"]), *(percent(row[f"share_{part}"]) for part in parts)]
            for name, row in lines[-1].items() if isinstance(row, dict) and "fps" in row]
    return table(["", "steps/s", *parts], rows)


def tell_compile(lines):
    return table(["policy", "first", "later"], [[name, seconds(row["first"]), seconds(row["later"])]
                                                for name, row in lines[-1]["seconds"].items()])


def tell_imports(lines):
    rows = [[name, seconds(time), f"{size:.0f} MB"]
            for name, (time, size) in lines[-1]["seconds_and_megabytes"].items()]
    return table(["process", "time", "memory"], rows)


def tell_overhead(lines):
    found = lines[-1]["milliseconds"]
    return table(["an iteration with", "ms", "beside the bare one"],
                 [[name, number(x), times(x / found["bare"])] for name, x in found.items()])


def tell_scaling(lines):
    measured, predicted = [], {}
    for line in lines:
        for case, found in line.get("cases", {}).items():
            one, two = (found["measured"].get(ranks) for ranks in ("1", "2"))
            if two:
                rate = [each["ranks"] * each["steps"] / each["seconds"] for each in (one, two)]
                measured.append([case, *map(number, rate), times(rate[1] / rate[0]),
                                 *(line["machine"][name] for name in ("date", "cpu"))])
            for name, (_, efficiency) in found["predicted"].items():
                network, ranks = name.split(", ")
                predicted.setdefault((case, network), {})[ranks] = percent(efficiency)
    ranks = ["2", "16", "32", "64", "256", "1024"]
    rows = [[case, network, *(row.get(n, "-") for n in ranks)] for (case, network), row in predicted.items()]
    heads = ["network and environment", "1 rank, steps/s", "2 ranks", "ratio", "date", "machine"]
    return (table(heads, measured)
            + "\nPredicted share of perfect scaling, 16 ranks a machine:\n\n"
            + table(["network and environment", "between machines", *(f"{n} ranks" for n in ranks)], rows))


def tell_time_to_score(lines):
    parts = []
    for to_the_end, rows in ((False, time_to_score.table), (True, time_to_score.curves)):
        if runs := [line for line in lines if line["to_the_end"] == to_the_end]:
            heads, *rest = rows(runs)
            parts.append(table(heads, rest))
    return "\n".join(parts)


def tell_two_hosts(lines):
    rows = [[f"{delay} ms, {found['link']}", f"{number(found['crossed'] / 1e6)} MB",
             seconds(found["measured"]["seconds"]), seconds(found["predicted"])]
            for delay, found in lines[-1]["delays"].items()]
    return table(["delay", "crossed the link", "an update", "predicted"], rows)


def tell_learn(lines):
    parts = ["What a setting is stands in `arguments` of its lines in `results/learn.jsonl`.\n"]
    for about in _learned.KINDS:
        settings: dict[str, list] = {}
        for line in lines:
            if _learned.kind([line["seed"]]) == about:
                settings.setdefault(line["setting"], []).append(line)
        if about == CHOOSE:
            runs = [line for its in settings.values() for line in its]
            for budget in sorted({run["budget"] for run in runs}):
                heads, *rows = _learned.comparison([run for run in runs if run["budget"] == budget])
                known = table(heads, rows).replace(" +- nan", "")  # of one pair
                parts.append(f"{about}, {budget:,} steps; mean (worst):\n\n{known}")
            continue
        for setting, runs in settings.items():
            heads, *rows = _learned.table(runs)
            parts.append(f"`{setting}`; {about}:\n\n{table(heads, rows)}\n{_learned.interquartile(runs)}.\n")
    return "\n".join(parts)


def tell_starts(lines):
    rows = []
    for line in lines:
        for what, row in line["found"].items():
            rows.append([line["env"], line["changes"], what, row["updates"], number(row["starts"]),
                         percent(row["squares"]), percent(row["gradient"]), number(row["kl"]),
                         number(row["kl_at_starts"]), f"{row['change']:+.2%} +- {row['error']:.2%}"])
    return table(["task", "changes", "in the batch", "updates", "starts", "of the squared advantages",
                  "of the gradient", "KL on the batch", "KL at starts", "change of starts that fall"], rows)


def tell_drift(lines):
    rows = [[f"{line['env']}, seed {line['seed']}", what, f"{row[0]:,.0f}", *map(number, row[1:])]
            for line in lines for what, its in line["found"].items() for row in its]
    return table(["task", "compensation", "steps", "training return", "spread", "the policy's answer",
                  "the network's answer", "std of actions"], rows)


def tell_curves(lines):
    runs = [run for line in lines for run in line["runs"]]
    return table(["run", "steps", "last 100 training games", "best", "passes the goal after", "time"],
                 [[run["run"], f"{run['steps']:,}", run["final"], run["best"],
                   f"{run['passes']:,}" if run["passes"] else "-", f"{run['seconds'] / 60:.0f} min"]
                  for run in runs])


def tell_memory(lines):
    rows = []
    for line in sorted(lines, key=lambda line: (line["task"], line["policy"])):
        scores = [row["score"] for row in line["seeds"]]
        seeds = ranges([row["seed"] for row in line["seeds"]])
        rows.append([line["task"], line["policy"], f"{line['steps']:,}", seeds, *summary(scores)])
    return table(["task", "policy", "steps", "seeds", *SUMMARY], rows)


def tell_identity(lines):
    found = lines[-1]["reward_per_step"]
    columns = list(next(iter(found.values())))
    rows = [[name, *(f"{row[key]:.3f}" for key in columns)] for name, row in found.items()]
    return (f"After {lines[-1]['steps']:,} steps; observations down, actions across.\n\n"
            + table(["", *columns], rows))


SUMMARY = ["mean", "standard error", "worst", "best"]


def summary(values: list) -> list[str]:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return [number(x) for x in (statistics.fmean(values), error, min(values), max(values))]


def tell_first_table(lines):
    rows = []
    for line in lines:
        for name in ("trpo_np", SB3):
            found, chosen = line[name], line["command"].partition("--torch ")[2]
            rows.append([f"{name}, {chosen}" if chosen and name == SB3 else name,
                         *(f"{found[part]:.0f} s" for part in ("install", "first_table", "next_time")),
                         f"{found['megabytes']:,.0f} MB", f"{line['load']:.1f}"])
    return table(["side", "install", "first table", "next time", "disk", "load of the machine"], rows)


def ranges(numbers: list[int]) -> str:
    """Write numbers as ranges: 0 to 4, 40 to 49."""
    parts: list[list[int]] = []
    for n in sorted(numbers):
        if parts and parts[-1][-1] == n - 1:
            parts[-1].append(n)
        else:
            parts.append([n])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


TOLD = {fun.__name__.removeprefix("tell_"): fun for fun in (
    tell_vs_sb3, tell_atari, tell_vs_recurrent, tell_predict, tell_update, tell_limits, tell_bodies,
    tell_conv, tell_lstm, tell_growth, tell_shares, tell_compile, tell_imports, tell_overhead, tell_scaling,
    tell_time_to_score, tell_two_hosts, tell_learn, tell_starts, tell_drift, tell_curves, tell_memory,
    tell_identity, tell_first_table)}


def question(stem: str) -> str:
    """Return the question that a script answers, the first sentence of its docstring."""
    text = ast.get_docstring(ast.parse((HERE / f"{stem}.py").read_text())) or stem
    return " ".join(text.split("\n\n")[0].split()).partition("?")[0] + "?"


def section(stem: str, lines: list[dict], newest: dict) -> str:
    """Return the question, where its answer was measured, and the answer."""
    commands = list(dict.fromkeys(line["command"] for line in lines))
    more = f" and {len(commands) - 1} more, all in `results/{stem}.jsonl`" * (len(commands) > 1)
    where = [line["machine"]["date"] + f" on {cpu(line)}" * (cpu(line) != newest["cpu"]) for line in lines]
    said = wrapped(f"`{commands[0]}`{more}; {' and '.join(dict.fromkeys(where))}.")
    return f"\n### {stem}.py\n\n{wrapped(question(stem))}\n\n{said}\n\n{TOLD[stem](lines)}"


def wrapped(text: str) -> str:
    return textwrap.fill(text, 110, break_long_words=False, break_on_hyphens=False)


# --- pictures ---------------------------------------------------------------------------------------------

def picture_of_ratios(found: list[Pair], machine: dict, path: Path) -> None:
    """Draw the ratios as bars in groups, on a logarithmic axis."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(9, 0.3 * (len(found) + len(GROUPS)) + 1.1), layout="constrained")
    axes, y, ticks, names = figure.subplots(), 0.0, [], []
    for colour, (group, title) in zip(("#0072B2", "#009E73", "#D55E00"), GROUPS.items()):
        members = sorted((pair for pair in found if pair.group == group), key=lambda pair: -pair.ratio)
        axes.text(-0.01, y, title, fontweight="bold", ha="right", va="center",
                  transform=axes.get_yaxis_transform())
        y += 1
        for pair in members:
            axes.barh(y, pair.ratio - 1, left=1, height=0.75, color=colour)
            axes.annotate(times(pair.ratio), (max(pair.ratio, 1), y), va="center",
                          xytext=(4, 0), textcoords="offset points")
            ticks.append(y)
            names.append(pair.label)
            y += 1
        y += 0.3
    marks = [1, 2, 5, 10, 30]
    ratios = [pair.ratio for pair in found]
    axes.set(xscale="log", xlim=(min(1, *ratios), 1.5 * max(ratios)),
             xlabel="times as fast as PyTorch (sb3-contrib), one thread each")
    axes.set_yticks(ticks, names)
    axes.set_xticks(marks, map(str, marks))
    axes.set_xticks([], minor=True)
    axes.set_ylim(y, -0.7)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    versions = f"NumPy {machine['numpy']}, PyTorch {machine['torch'].partition('+')[0]}"
    axes.set_title(f"{machine['cpu']}; {versions}; {machine['date']}", fontsize=9, loc="right")
    figure.savefig(path, dpi=110)


def pictures_of_learning(lines: list[dict]) -> None:
    """Draw the recorded learning curves: one picture a game, one of all tasks of learn.py (of reported seeds,
    if there are any)."""
    from trpo_np.app import plots
    names = {"Pong": "CnnPolicy, four stacked frames", "PongLstm": "CnnLstmPolicy, single frames",
             "PongSchedule": "CnnPolicy, max_kl from 0.01 to 0.002"}
    games: dict[str, dict] = {}
    for run in (run for line in lines if line["stem"] == "curves" for run in line["runs"]):
        groups = games.setdefault(run["env"], {})
        groups.setdefault(plots.without_seed(run["run"]), []).append(points(run["curve"]))
    for env, groups in games.items():
        curves = [plots.Curve(names.get(name, name), *plots.average(runs), len(runs))
                  for name, runs in groups.items()]
        figure = plots.draw(curves, title=env, what="return, mean of up to 100 episodes")
        plots.save(figure, str(_timing.RESULTS / f"curves_{env.partition('NoFrameskip')[0]}.png"))
    learned: dict[str, list] = {about: [] for about in _learned.KINDS}
    for line in (line for line in lines if line["stem"] == "learn"):
        learned[_learned.kind([line["seed"]])].append(line)
    if shown := learned[REPORTED] or learned[_learned.KINDS[2]]:
        shown.sort(key=lambda line: line["setting"] != "tuned")  # the same colours in each task
        _learned.picture(shown, str(_timing.RESULTS / "curves_MuJoCo.png"))


def write_reported(lines: list[dict]) -> None:
    """Write the returns of reported seeds into the package, for jobs to print (presets.reported).

    Of an environment those after the most steps count.
    """
    learned = [line for line in lines if line["stem"] == "learn" and line["setting"] == "tuned"]
    learned += [{**run, "budget": run["steps"]} for line in lines if line["stem"] == "curves"
                for run in line["runs"] if run.get("score") is not None]  # of whole jobs: Atari games
    found: dict[str, list] = {}
    for line in sorted(learned, key=lambda line: line["seed"]):
        if _learned.kind([line["seed"]]) == REPORTED:
            found.setdefault(line["env"], []).append(line)
    rows = []
    for env_id, runs in sorted(found.items()):
        steps = max(run["budget"] for run in runs)
        scores = {run["seed"]: round(run["score"], 2) for run in runs if run["budget"] == steps}
        record = {"steps": steps, "seeds": ranges(list(scores)), "returns": list(scores.values())}
        rows.append(f"{json.dumps(env_id)}: {json.dumps(record)}")
    text = "{\n" + ",\n".join(rows) + "\n}\n" if rows else "{}\n"
    (HERE.parent / "trpo_np" / "reported.json").write_text(text)


def points(curve: list) -> tuple:
    """Return (x, y) of a recorded curve; places marked None, before the first 100 episodes, are left out."""
    x, y = np.array([(t, r) for t, r in curve if r is not None], float).T
    return x, y


def newest_machine(lines: list[dict]) -> dict:
    """Return the machine on which programs were last compared with their peers."""
    return next(line["machine"] for line in reversed(lines) if line["stem"] in BESIDE)


def main():
    args = _timing.arguments(__doc__)
    everything = read()
    lines = latest(everything)
    newest = newest_machine(everything)
    here = pairs([line for line in lines if cpu(line) == newest["cpu"]])
    parts = [HEAD, wrapped(f"The machine: {named(newest)}."), "\n\n", for_a_person(here),
             "\n![how many times as fast as PyTorch](results/ratios.png)\n", HOW,
             on_each_machine(everything), "\n## One table a question\n"]
    by = {stem: [line for line in lines if line["stem"] == stem] for stem in TOLD}
    parts += [section(stem, found, newest) for stem, found in by.items() if found]
    if args.quick:
        _timing.save(args, {"results": len(lines), "characters": len("".join(parts))})
        return
    (HERE / "README.md").write_text("".join(parts))
    write_reported(lines)
    if importlib.util.find_spec("matplotlib"):
        picture_of_ratios(here, newest, _timing.RESULTS / "ratios.png")
        pictures_of_learning(lines)
    else:
        print("matplotlib is not installed: no pictures")


if __name__ == "__main__":
    main()
