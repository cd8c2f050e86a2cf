"""Tables and pictures of what was learned, from records of bench/learn.py."""

import statistics

import numpy as np

CHOOSE, REPORT = range(100, 200), range(1000, 1010)  # seeds
KINDS = "seeds that choose", "reported seeds: none of them chose a setting", "a trial: seeds of no kind"

# The best public return of TRPO over several seeds where there are any (NPG's for InvertedDoublePendulum, a
# single run's for the small tasks), and the steps after which it was measured. Sources: sb3-contrib's and
# rl-baselines3-zoo's benchmarks, tianshou's examples, "Implementation Matters" (arXiv:2005.12729).
PUBLISHED: dict[str, tuple[float, int]] = {
    "HalfCheetah": (4471, 1_000_000), "Hopper": (3372, 1_000_000), "Walker2d": (4502, 1_000_000),
    "Swimmer": (359, 1_000_000), "Ant": (3554, 1_000_000), "Humanoid": (1030, 1_000_000),
    "Reacher": (-4.5, 1_000_000), "InvertedPendulum": (1000, 1_000_000),
    "InvertedDoublePendulum": (9243, 1_000_000), "CartPole": (500, 100_000), "Acrobot": (-83.1, 100_000),
    "Pendulum": (-174.6, 100_000), "MountainCar": (-107.3, 100_000),
    "MountainCarContinuous": (92.5, 50_000), "LunarLander": (133.2, 200_000),
    "LunarLanderContinuous": (262.4, 200_000), "BipedalWalker": (182, 1_000_000)}


def kind(seeds) -> str:
    """Say what seeds are for; a ValueError if they are of both kinds."""
    seeds = set(seeds)
    if seeds & set(CHOOSE) and seeds & set(REPORT):
        raise ValueError("seeds that choose (100 to 199) and seeds that are reported (1000 to 1009) "
                         "do not go into one table")
    return KINDS[0 if seeds <= set(CHOOSE) else 1 if seeds <= set(REPORT) else 2]


def published(env_id: str) -> tuple[float | None, int]:
    """Return the best public return on a task, None if there is none, and after how many steps."""
    return PUBLISHED.get(env_id.split("/")[-1].split("-v")[0], (None, 1_000_000))


def steps(env_id: str) -> int:
    """Return how long a task is trained unless told otherwise."""
    return published(env_id)[1]


def share(env_id: str, score: float) -> float:
    """Return score / best public, or best public / score where returns are costs; nan if none is public."""
    best = published(env_id)[0]
    if best is None:
        return float("nan")
    return score / best if best > 0 else best / min(score, -1e-9)


def shares(runs: list[dict]) -> dict[str, dict]:
    """Return score / best public by setting and by (environment, seed)."""
    found: dict[str, dict] = {}
    for run in runs:
        found.setdefault(run["setting"], {})[run["env"], run["seed"]] = share(run["env"], run["score"])
    return found


def ranking(runs: list[dict]) -> list[str]:
    """Return settings, the best first, by their mean share on what all of them have run.

    If there is nothing of that kind, what each has run counts.
    """
    found = shares(runs)
    common = set.intersection(*(set(cells) for cells in found.values()))
    return sorted(found, key=lambda name: -np.nanmean([found[name][cell] for cell in common or found[name]]))


def comparison(runs: list[dict]) -> list[list[str]]:
    """Return a row for each setting, the best first: its mean share, what it lies behind the best on the same
    runs, and on each task its mean and its worst return."""
    found, envs, order = shares(runs), list(by_task(runs)), ranking(runs)
    rows = [["setting", "runs", "share", "against the best", *envs]]
    for name in order:
        cells, best = found[name], found[order[0]]
        paired = [cells[cell] - best[cell] for cell in cells if cell in best]
        behind = f"{np.mean(paired):+.3f} +- {error(paired):.3f}" if paired and name != order[0] else "-"
        rows.append([name, str(len(cells)), f"{np.nanmean(list(cells.values())):.3f}", behind])
        for env_id in envs:
            scores = [run["score"] for run in runs if (run["env"], run["setting"]) == (env_id, name)]
            rows[-1].append(f"{np.mean(scores):.1f} ({min(scores):.1f})" if scores else "-")
    return rows


COLUMNS = ["task", "steps", "seeds", "mean", "standard error", "worst", "drawn", "best public", "share",
           "passed it", "steps/s"]


def table(runs: list[dict]) -> list[list[str]]:
    """Return a row for each task of one setting.

    "drawn" is the mean return with drawn actions; "share" is score / best public; "passed it" says on how
    many seeds training did, and after how many steps on half of these.
    """
    rows = [COLUMNS]
    for env_id, its in by_task(runs).items():
        scores, (best, _) = [run["score"] for run in its], published(env_id)
        passed = [next((t for t, mean in run["curve"] if best is not None and mean >= best), None)
                  for run in its]
        known = [t for t in passed if t is not None]
        rows.append([
            env_id, f"{its[0]['budget']:,}", str(len(its)), f"{np.mean(scores):.1f}", f"{error(scores):.1f}",
            f"{min(scores):.1f}", f"{np.mean([run['sampled'] for run in its]):.1f}",
            "-" if best is None else f"{best:g}", f"{np.mean([share(env_id, s) for s in scores]):.2f}",
            f"{len(known)}" + (f", {statistics.median(known):,.0f}" if known else ""),
            f"{np.mean([run['steps_per_second'] for run in its]):,.0f}"])
    return rows


def by_task(runs: list[dict]) -> dict[str, list[dict]]:
    """Return runs by environment."""
    tasks: dict[str, list[dict]] = {}
    for run in runs:
        tasks.setdefault(run["env"], []).append(run)
    return tasks


def error(values: list[float]) -> float:
    """Return the standard error of a mean; nan for one value."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")


def interquartile(runs: list[dict]) -> str:
    """Tell the interquartile mean of one setting's shares, with a bootstrap interval that draws within tasks.

    As in Agarwal et al., arXiv:2108.13264: the runs of each task are drawn anew among themselves.
    """
    from scipy.stats import bootstrap, trim_mean

    columns = [np.array([share(env_id, run["score"]) for run in its]) for env_id, its in by_task(runs).items()
               if published(env_id)[0] is not None]
    if not columns:
        return "no public result to compare with"

    def middle(*tasks, axis=-1):
        return trim_mean(np.concatenate(tasks, axis), 0.25, axis)

    said = f"interquartile mean of score / best public: {middle(*columns):.3f}"
    if min(map(len, columns)) < 2:
        return said
    found = bootstrap(columns, middle, n_resamples=4999, method="percentile", vectorized=True,
                      rng=np.random.default_rng(0)).confidence_interval
    return f"{said}, 95 % interval {found.low:.3f} to {found.high:.3f}"


def lay_out(rows: list[list[str]]) -> str:
    """Return rows as lines with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(row, widths))) for row in rows)


def picture(runs: list[dict], path: str) -> None:
    """Draw each task's curves, one line a setting, beside the best public return."""
    from matplotlib.figure import Figure

    from trpo_np.app import plots
    tasks: dict[str, dict[str, list]] = {}
    for run in runs:
        if len(line := np.array(run["curve"], float).T) and line.shape[1] > 1:
            tasks.setdefault(run["env"], {}).setdefault(run["setting"], []).append(tuple(line))
    across = min(3, len(tasks))
    down = -(-len(tasks) // across)
    figure = Figure(figsize=(4.5 * across + 0.5, 3.2 * down + 0.4), dpi=72, layout="constrained")
    drawn: list = []
    for ax, (env_id, settings) in zip(figure.subplots(down, across, squeeze=False).flat, tasks.items()):
        curves = [plots.Curve(name, *plots.average(lines), len(lines)) for name, lines in settings.items()]
        plots.draw_in(ax, curves, title=env_id)
        best = published(env_id)[0]
        if best is not None:
            ax.axhline(best, color="black", linewidth=1, linestyle="--")
        drawn += curves
    for ax in figure.axes[len(tasks):]:
        ax.remove()
    figure.suptitle("return in training, mean of 100 episodes; dashed: best published TRPO; "
                    + plots.band(drawn), fontsize=10)
    plots.save(figure, path)
