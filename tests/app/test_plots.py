"""Learning curves against slow references, and pictures by what they show."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outputs import png_size, write_monitor

from trpo_np import TRPO
from trpo_np.app import plots
from trpo_np.callbacks import EvalCallback
from trpo_np.logger import EpisodeLog


def write_progress(path, rows):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    head = "step,train/kl,rollout/ep_rew_mean,rollout/episodes,time/time_elapsed\n"
    lines = [f"{step},0.01,{mean},{episodes},{t}\n" for step, mean, episodes, t in rows]
    Path(path).write_text(head + "".join(lines))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --- curves -----------------------------------------------------------------------------------------------

@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=40), st.integers(1, 40))
def test_smooth_is_the_mean_of_each_full_window(y, window):
    slow = [np.mean(y[i:i + window]) for i in range(len(y) - window + 1)]
    if slow:
        assert np.allclose(plots.smooth(np.array(y), window), slow, rtol=1e-9, atol=1e-7)


def test_a_return_that_is_huge_or_not_finite_spoils_only_its_own_windows():
    for bad in (np.nan, np.inf, -1e18):
        assert plots.smooth(np.array([bad] + [100.0] * 60), 20)[1:].tolist() == [100.0] * 41


def interpolated(x, y, at):
    """Slow linear interpolation."""
    for i in range(len(x) - 1):
        if x[i] <= at <= x[i + 1]:
            return y[i] + (y[i + 1] - y[i]) * (at - x[i]) / (x[i + 1] - x[i])
    raise AssertionError(f"{at} is outside")


def test_average_is_the_mean_and_its_interval_where_all_lines_have_values(rng):
    lines = []
    for n in (3, 7, 12):
        x = np.cumsum(rng.uniform(1, 10, n)) * 20 / n
        lines.append((x, rng.normal(size=n)))
    grid, mean, low, high = plots.average(lines, points=50)
    assert len(grid) == 50
    assert grid[0] == max(x[0] for x, _ in lines) and grid[-1] == min(x[-1] for x, _ in lines)
    for at, m, a, b in list(zip(grid, mean, low, high))[::7]:
        values = [interpolated(*lines[i], at) for i in range(3)]
        assert np.isclose(m, sum(values) / 3)
        assert np.isclose(a, min(values)) and np.isclose(b, max(values))  # 1 draw in 27 is thrice the worst


def test_the_interval_holds_the_mean_of_the_draws_as_often_as_it_says():
    """Of ten runs with standard normal returns, 400 times over, it covers 0 about as often as it says."""
    rows = np.random.default_rng(1).normal(size=(10, 400))
    low, high = plots.interval(rows)
    assert 0.85 < np.mean((low < 0) & (high > 0)) < 0.97  # of few runs percentiles are a bit narrow
    assert np.allclose((high - low).mean(), 2 * 1.96 / np.sqrt(10), rtol=0.12)
    again = plots.interval(rows)
    assert (again[0] == low).all() and (again[1] == high).all()  # the same picture each time


def test_the_interval_needs_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(ImportError, match="averaging several runs needs the scipy package: pip install"):
        plots.average([(np.array([0.0, 1]), np.zeros(2))] * 2)
    assert len(plots.average([(np.array([0.0, 1]), np.zeros(2))])) == 4


def test_average_of_one_line_is_that_line():
    x, y = np.array([1.0, 5.0, 6.0]), np.array([3.0, 1.0, 2.0])
    grid, mean, low, high = plots.average([(x, y)])
    assert (grid == x).all() and (mean == y).all() and (low == y).all() and (high == y).all()


def test_average_needs_a_stretch_in_common():
    with pytest.raises(ValueError, match="no stretch in common"):
        plots.average([(np.array([0.0, 1]), np.zeros(2)), (np.array([2.0, 3]), np.zeros(2))])


def test_thin_keeps_places_apart_from_the_last_one_backwards(rng):
    x = np.sort(rng.uniform(5, 25, 1000))
    kept, y = plots.thin(x, np.arange(1000), 10)
    expected, gap = [999], (x[-1] - x[0]) / 10
    for i in range(998, -1, -1):
        if x[i] <= x[expected[0]] - gap:
            expected.insert(0, i)
    assert y.tolist() == expected and (kept == x[y]).all() and 9 <= len(y) <= 11
    few = np.array([1.0, 2, 3]), np.array([4.0, 5, 6])
    assert all((a == b).all() for a, b in zip(plots.thin(*few), few))
    at_once = plots.thin(np.array([1.0, 1.0 + 1e-9, 2, 2]), np.arange(4))
    assert at_once[1].tolist() == [1, 3]  # logged together


@pytest.mark.parametrize("folder, name", [
    ("runs/cheetah_seed3", "runs/cheetah"), ("runs/cheetah-seed-12", "runs/cheetah"), ("a/seed0_b", "a/b"),
    ("a/b_s3", "a/b"), ("a/b/3", "a/b"), ("a/Seed=7", "a"), ("HalfCheetah-v5", "HalfCheetah-v5"),
    ("HalfCheetah-v5_seed1", "HalfCheetah-v5"), ("x/batch_1024", "x/batch_1024"),
    ("kl_0.01_s1", "kl_0.01"), ("x_seed1_kl2", "x_kl2"), ("runs1", "runs1"), ("seed1", "."), ("3", ".")])
def test_without_seed(folder, name):
    assert plots.without_seed(folder) == name


def test_labels_are_what_differs():
    assert plots.labels(["runs/a/x", "runs/b/x"]) == ["a/x", "b/x"] and plots.labels(["runs/a"]) == ["a"]
    assert plots.labels(["/d/a", "/d/a/b"]) == ["a", "a/b"] and plots.labels([""]) == ["all runs"]


# --- reading ----------------------------------------------------------------------------------------------

def test_a_monitor_file_of_our_own_logger_reads_back(place):
    log = EpisodeLog("run/", "Reacher-v5")
    for reward, length in [(1.5, 10), (2.5, 20), (-3, 30)]:
        log.write(reward, length)
    log.close()
    run = plots.read_run("run")
    assert run.env_id == "Reacher-v5" and run.returns.tolist() == [1.5, 2.5, -3]
    assert run.x["steps"].tolist() == [10, 30, 60] and run.x["episodes"].tolist() == [1, 2, 3]
    assert (np.diff(run.x["time"]) >= 0).all() and 0 <= run.x["time"][0] < 10


def test_monitor_files_of_several_environments_are_one_run_in_order_of_time(place):
    write_monitor("run/0.monitor.csv", [(1, 10, 5.0), (3, 30, 25.0)], t_start=100.0)
    write_monitor("run/1.monitor.csv", [(2, 20, 4.0)], t_start=110.0)
    run = plots.read_run("run")
    assert run.returns.tolist() == [1, 2, 3]
    assert run.x["steps"].tolist() == [10, 30, 60] and run.x["time"].tolist() == [5, 14, 25]


def test_a_line_that_is_still_being_written_is_left_out(place):
    write_monitor("run/monitor.csv", [(1, 10, 5.0), (2, 10, 6.0)])
    with open("run/monitor.csv", "a") as file:
        file.write("30,1")
    assert plots.read_run("run").returns.tolist() == [1, 2]


def test_progress_goes_on_over_a_kill(place):
    killed = [(100, "", 0, 1), (200, 1.0, 2, 2), (300, 2.0, 4, 3), (400, 9.0, 5, 4)]
    again = [(400, 3.0, 6, 1.5), (500, "nan", 7, 2.5), (600, 4.0, 8, 3.5)]
    write_progress("run/progress.csv", [*killed, *again])
    run = plots.read_run("run")
    assert run.returns.tolist() == [1, 2, 3, 4] and run.x["steps"].tolist() == [200, 300, 400, 600]
    assert run.x["episodes"].tolist() == [2, 4, 6, 8] and run.x["time"].tolist() == [2, 3, 4.5, 6.5]


def test_time_goes_on_over_two_restarts(place):
    rows = [(100 * step, float(step), step, seconds) for step, seconds in enumerate([1, 2, 1, 3, 0.5, 1], 1)]
    write_progress("run/progress.csv", rows)
    assert plots.read_run("run").x["time"].tolist() == [1, 2, 3, 5, 5.5, 6]


def test_episodes_are_read_rather_than_means(place):
    write_progress("run/progress.csv", [(100, 50, 1, 1)])
    assert plots.read_run("run").returns.tolist() == [50]
    write_monitor("run/monitor.csv", [(7, 10, 5.0)])
    assert plots.read_run("run").returns.tolist() == [7]


def test_episodes_stand_at_the_steps_that_the_table_states(place):
    """New starts cut episodes, of whose steps no Monitor file knows."""
    def steps():
        return plots.read_run("run").x["steps"].tolist()
    write_monitor("run/monitor.csv", [(r, 10, r) for r in range(1, 7)])
    assert steps() == [10, 20, 30, 40, 50, 60]
    write_progress("run/progress.csv", [(50, "", 0, 0.5), (100, 1.5, 2, 2), (200, 3.0, 4, 4)])
    assert steps() == [50, 100, 150, 200, 210, 220]  # the last two are in no table yet
    write_progress("run/progress.csv", [(100, 1.5, 2, 2), (200, 3.0, 7, 4)])  # of more episodes: not theirs
    assert steps() == [10, 20, 30, 40, 50, 60]
    monitor = Path("run/monitor.csv").read_text().replace("{", '{"episodes_before": 10, ', 1)
    Path("run/monitor.csv").write_text(monitor)  # of a model that had learned before
    write_progress("run/progress.csv", [(1000, 1.5, 12, 2), (1200, 3.0, 16, 4)])
    assert steps() == [pytest.approx(1000 * 11 / 12), 1000, 1050, 1100, 1150, 1200]
    assert plots.read_run("run").x["episodes"].tolist() == [11, 12, 13, 14, 15, 16]
    write_monitor("run/monitor.csv", [(r, 10, r) for r in range(1, 7)])
    Path("run/progress.csv").write_text("step\n100\n")
    assert steps() == [10, 20, 30, 40, 50, 60]


def test_the_last_episode_of_a_job_stands_where_the_job_ended(place):
    command = ["--env", "CartPole-v1", "--num-timesteps", "8192", "--save-every", "1024", "--num-envs", "8",
               "--eval-episodes", "0", "--log-dir", "run"]
    subprocess.run([sys.executable, "-m", "trpo_np.run_mujoco", *command], check=True, capture_output=True)
    assert plots.read_run("run").x["steps"][-1] == 8192


def test_runs_are_found_in_folders_of_folders(place):
    for folder in ("runs/a_seed1", "runs/a_seed0", "runs/deep/b", "other"):
        write_monitor(f"{folder}/monitor.csv", [(1, 1, 1)])
    os.makedirs("runs/empty")
    assert plots.find_runs(["runs/"]) == ["runs/a_seed0", "runs/a_seed1", "runs/deep/b"]
    assert plots.find_runs(["other", "runs/deep", "other/"]) == ["other", "runs/deep/b"]


@pytest.mark.parametrize("name, text, sentence", [
    ("notes.txt", "x", "run holds no monitor.csv and no progress.csv"),
    ("monitor.csv", "hello\n", "run/monitor.csv is no Monitor file"),
    ("monitor.csv", '#{"t_start": 1}\nr,l,t\n1,2\n', "run/monitor.csv is no Monitor file"),
    ("monitor.csv", '#{"t_start": 1}\nr,l,t\n', "run: no episode has finished yet"),
    ("progress.csv", "step,rollout/ep_rew_mean\n1,x\n", "run/progress.csv: could not convert"),
    ("progress.csv", "step,a\n1,2\n", "run/progress.csv: no row has a return")])
def test_what_cannot_be_read_is_named(place, name, text, sentence):
    os.mkdir("run")
    Path("run", name).write_text(text)
    with pytest.raises(ValueError) as caught:
        plots.learning_curves(["run"])
    assert sentence in str(caught.value)


def test_a_run_that_has_just_begun_is_left_out_and_named(place):
    write_monitor("runs/a_seed0/monitor.csv", [(1, 10, t) for t in range(1, 6)])
    write_monitor("runs/a_seed1/monitor.csv", [])
    write_progress("runs/b/progress.csv", [])
    said = "runs/a_seed1: no episode has finished yet; runs/b/progress.csv: no row has a return"
    with pytest.warns(UserWarning, match=f"left out: {said}"):
        (curve,), _, _ = plots.learning_curves(["runs"])
    assert (curve.label, curve.runs) == ("a", 1)
    with pytest.raises(plots.NoEpisode, match=said):
        plots.learning_curves(["runs/a_seed1", "runs/b"])


def test_curves_are_grouped_by_seed_by_none_or_all(place):
    for name, level in [("a_seed0", 1.0), ("a_seed1", 3.0), ("b_seed0", 10.0)]:
        write_monitor(f"runs/{name}/monitor.csv", [(level, 10, t) for t in range(1, 6)])
    curves, title, what = plots.learning_curves(["runs"])
    shown = [(c.label, c.runs, c.mean[0], c.low[0], c.high[0]) for c in curves]
    assert shown == [("a", 2, 2.0, 1.0, 3.0), ("b", 1, 10.0, 10.0, 10.0)]
    assert title == "CartPole-v1" and what == "return, mean of 2 episodes"
    apart, _, _ = plots.learning_curves(["runs"], group="none")
    assert [c.label for c in apart] == ["a_seed0", "a_seed1", "b_seed0"]
    (everything,), _, what = plots.learning_curves(["runs"], "time", 1, "all")
    assert (everything.label, everything.runs, what) == ("all runs", 3, "return")
    assert np.isclose(everything.mean[0], 14 / 3)


def test_episodes_that_were_logged_together_are_one_place_in_time(place):
    write_monitor("run/monitor.csv", [(i, 10, 5.0 * (i // 4) + 1e-6 * i) for i in range(12)])
    (curve,), _, _ = plots.learning_curves(["run"], "time", 1)
    assert np.allclose(curve.x, [0, 5, 10], atol=1e-4) and curve.mean.tolist() == [3, 7, 11]
    assert plots.learning_curves(["run"], "steps", 1)[0][0].mean.tolist() == list(range(12))


def test_the_axis_says_how_many_episodes_a_point_averages(place):
    write_progress("early/progress.csv", [(1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)])
    write_progress("p/progress.csv", [(100 * i, 1, 60 * i, i) for i in range(1, 6)])
    write_monitor("m/monitor.csv", [(1, 1, i) for i in range(80)])
    def said(*args):
        return plots.learning_curves(*args)[2]
    assert said(["p"]) == "return, mean of 100 episodes" and said(["m"]) == "return, mean of 20 episodes"
    assert said(["early"]) == "return, mean of up to 100 episodes"
    assert said(["m"], "steps", 50) == "return, mean of 50 episodes" and said(["m"], "steps", 1) == "return"
    assert said(["p"], "steps", 3) == said(["p", "m"]) == said(["p", "early"]) == "return"


def test_a_curve_begins_where_its_first_window_is_full(place):
    write_monitor("m/monitor.csv", [(1000, 10, 0), *[(1, 10, i) for i in range(1, 50)]])
    (curve,), _, _ = plots.learning_curves(["m"])
    assert curve.x[0] == 200 and np.isclose(curve.mean[0], (1000 + 19) / 20) and curve.mean[1] == 1
    early = [(100, 1000, 1, 1), (200, 500, 99, 2)]
    write_progress("p/progress.csv", [*early, (300, 5, 100, 3), (400, 6, 150, 4)])
    (curve,), _, _ = plots.learning_curves(["p"])
    assert curve.x.tolist() == [300, 400] and curve.mean.tolist() == [5, 6]


def test_the_window_fits_a_short_run_unless_it_is_given(place):
    write_monitor("a/monitor.csv", [(i, 10, i) for i in range(9)])
    write_monitor("b/monitor.csv", [(i, 10, i) for i in range(90)])
    curves, _, what = plots.learning_curves(["a", "b"])
    assert what == "return, mean of 4 episodes" and [len(c.x) for c in curves] == [6, 87]
    with pytest.raises(ValueError, match="a has 9 episodes; a mean of 10 needs as many"):
        plots.learning_curves(["a", "b"], "steps", 10)
    write_monitor("c/monitor.csv", [(5, 10, 0)])
    assert plots.learning_curves(["c"])[0][0].mean.tolist() == [5]


# --- evaluations, and files of others ---------------------------------------------------------------------

def write_evaluations(folder, steps, results):
    os.makedirs(folder, exist_ok=True)
    np.savez(f"{folder}/evaluations.npz", timesteps=np.array(steps), results=np.array(results),
             ep_lengths=np.ones_like(results))


def test_evaluations_are_drawn_in_place_of_the_episodes_of_training(place):
    for seed, level in enumerate([0.0, 10.0]):
        write_monitor(f"runs/a_seed{seed}/monitor.csv", [(-1, 10, t) for t in range(1, 6)])
        write_evaluations(f"runs/a_seed{seed}", [100, 200], [[level, level + 2], [level + 4, level + 8]])
    (curve,), _, what = plots.learning_curves(["runs"], evaluations=True)
    assert (curve.label, curve.runs, what) == ("a", 2, "return, mean of an evaluation")
    assert (curve.x[0], curve.x[-1]) == (100, 200)
    assert np.allclose([curve.mean[0], curve.mean[-1]], [6, 11]) and (curve.low[0], curve.high[0]) == (1, 11)
    assert plots.learning_curves(["runs"])[0][0].mean[0] == -1
    with pytest.raises(ValueError, match="does not tell the time of its returns; draw them over steps"):
        plots.learning_curves(["runs"], "time", evaluations=True)
    with pytest.raises(ValueError, match="a_seed0 has 2 evaluations; a mean of 3 needs as many"):
        plots.learning_curves(["runs"], window=3, evaluations=True)


def test_evaluations_of_our_own_callback_are_read(place):
    model = TRPO("MlpPolicy", "CartPole-v1", timesteps_per_batch=64, seed=0)
    callback = EvalCallback("CartPole-v1", n_eval_episodes=3, eval_freq=64, log_path="run", verbose=0)
    model.learn(128, callback)
    run = plots.read_evaluations("run")
    assert run.x["steps"].tolist() == [64, 128]
    assert run.returns.tolist() == np.mean(callback.evaluations_results, axis=1).tolist()


@pytest.mark.parametrize("write, said", [
    (lambda: Path("run/evaluations.npz").write_bytes(b"x"), "run/evaluations.npz holds no evaluations"),
    (lambda: write_evaluations("run", [1, 2], [[1.0]]), "timesteps (2,) and results (1, 1)"),
    (lambda: np.savez("run/evaluations.npz", a=1), "KeyError"),
    (lambda: None, "run holds no evaluations.npz; EvalCallback(..., log_path=) writes it")])
def test_evaluations_that_cannot_be_read_are_named(write, said, place):
    os.mkdir("run")
    write()
    with pytest.raises(ValueError) as caught:
        plots.learning_curves(["run"], evaluations=True)
    assert said in str(caught.value)


def test_the_logs_that_stable_baselines3_writes_are_drawn(place):
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import A2C
    from stable_baselines3.common import callbacks, logger
    from stable_baselines3.common.env_util import make_vec_env

    model = A2C("MlpPolicy", make_vec_env("CartPole-v1", 2, seed=0, monitor_dir="run"), n_steps=20, seed=0)
    model.set_logger(logger.configure("run", ["csv"]))
    theirs = callbacks.EvalCallback(make_vec_env("CartPole-v1", 1), eval_freq=100, log_path="run", verbose=0)
    model.learn(400, theirs, log_interval=2)
    assert {"0.monitor.csv", "1.monitor.csv", "progress.csv", "evaluations.npz"} <= {*os.listdir("run")}
    episodes, table = plots.read_run("run"), plots.read_progress("run", Path("run/progress.csv"))
    assert episodes.env_id == "CartPole-v1" and 300 < episodes.x["steps"][-1] <= 400
    assert table.x["steps"].tolist() == [80 * i for i in range(1, 6)]
    assert np.isclose(table.returns[-1], episodes.returns.mean(), rtol=0.2)
    assert plots.read_evaluations("run").x["steps"].tolist() == [200, 400]
    with pytest.raises(ValueError, match="does not tell the episodes of its returns"):
        plots.curve("run", [table], "episodes", {plots.PER_ROW: 1})


def test_the_table_that_baselines_writes_is_read(place):
    os.mkdir("run")
    Path("run/progress.csv").write_text("EpRewMean,EpisodesSoFar,TimeElapsed,TimestepsSoFar\n5,3,1.5,60\n")
    run = plots.read_run("run")
    assert run.returns.tolist() == [5]
    assert {name: x.tolist() for name, x in run.x.items()} == {"steps": [60], "episodes": [3], "time": [1.5]}


# --- pictures ---------------------------------------------------------------------------------------------

def test_the_picture_holds_each_curve_and_its_band(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    x = np.linspace(0, 50_000, 200)
    rising, level = 400 * x / 50_000, np.full(200, 100.0)
    curves = [plots.Curve("one", x, rising, rising - 30, rising + 40, 3),
              plots.Curve("two", x, level, level, level, 1)]
    figure = plots.draw(curves, "steps", "CartPole-v1", "return, mean of 20 episodes")
    ax, = figure.axes
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [line.get_label() for line in ax.lines] == ["one (3 runs)", "two"] == legend
    for line, curve in zip(ax.lines, curves):
        assert (line.get_xdata() == curve.x).all() and (line.get_ydata() == curve.mean).all()
    band, = ax.collections
    edges = band.get_paths()[0].vertices
    assert edges[:, 1].min() == -30 and edges[:, 1].max() == 440
    assert ax.get_xlabel() == "environment steps"
    said = "return, mean of 20 episodes\nband: 95% bootstrap interval of the mean over 3 runs"
    assert ax.get_ylabel() == said
    assert ax.get_title() == "CartPole-v1"
    assert ax.xaxis.get_major_formatter()(20_000) == "20k"

    path = str(tmp_path / "c.png")
    plots.save(figure, path)
    assert png_size(path) == (1200, 750)
    pixels = imread(path)[..., :3]
    for line in ax.lines:  # where the curve should be, there its colour is
        for i in (20, 100, 180):
            column, row = ax.transData.transform((line.get_xdata()[i], line.get_ydata()[i]))
            assert np.allclose(pixels[750 - round(row), round(column)], to_rgb(line.get_color()), atol=0.03)
    inside, outside = (ax.transData.transform((x[100], y)) for y in (200 - 20, 200 - 60))
    # the band is pale, beside it is white
    assert 0.5 < pixels[750 - round(inside[1]), round(inside[0])].min() < 0.95
    assert pixels[750 - round(outside[1]), round(outside[0])].min() == 1.0


@pytest.mark.parametrize("seconds, label, end", [
    (100, "time (s)", 100), (600, "time (min)", 10), (36_000, "time (h)", 10)])
def test_time_is_shown_in_a_fitting_unit(seconds, label, end):
    pytest.importorskip("matplotlib")
    ax, = plots.draw([plots.Curve("a", np.array([0.0, seconds]), *[np.zeros(2)] * 3, 1)], "time").axes
    assert ax.get_xlabel() == label and ax.lines[0].get_xdata()[-1] == end


def test_more_curves_than_colours_can_be_told_apart():
    pytest.importorskip("matplotlib")
    ax, = plots.draw([plots.Curve(str(i), np.arange(2.0), *[np.ones(2)] * 3, 1) for i in range(15)]).axes
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 15


def test_one_curve_under_a_title_has_no_legend():
    pytest.importorskip("matplotlib")
    one = plots.Curve("Pong", np.arange(2.0), *[np.ones(2)] * 3, 2)
    ax, = plots.draw([one], title="PongNoFrameskip-v4").axes
    assert ax.get_legend() is None and ax.get_ylabel().endswith("of the mean over 2 runs")
    ax, = plots.draw([one]).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["Pong (2 runs)"]
    ax, = plots.draw([one, one._replace(runs=3)], title="t").axes
    assert ax.get_legend() is not None and ax.get_ylabel().endswith("of the mean over the runs")
    ax, = plots.draw([one._replace(runs=1)], title="t").axes
    assert ax.get_ylabel() == "return"  # no band


def test_a_curve_of_one_point_can_be_seen():
    pytest.importorskip("matplotlib")
    ax, = plots.draw([plots.Curve("a", np.ones(1), *[np.ones(1)] * 3, 1)]).axes
    assert ax.lines[0].get_marker() == "."


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path):
    pytest.importorskip("matplotlib")
    figure = plots.draw([plots.Curve("a", np.arange(2.0), *[np.ones(2)] * 3, 1)])
    with pytest.raises(ValueError, match="bmp"):
        plots.save(figure, str(tmp_path / "c.bmp"))
    with pytest.raises(OSError):
        plots.save(figure, str(tmp_path / "none" / "c.png"))
    assert os.listdir(tmp_path) == []
    plots.save(figure, str(tmp_path / "c.svg"))
    assert "<svg" in (tmp_path / "c.svg").read_text()[:1000]


def test_without_matplotlib_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'trpo_np\[plot\]'"):
        plots.draw([])


def test_reading_does_not_load_matplotlib():
    heavy = "{'matplotlib', 'scipy', 'gymnasium', 'numba'}"
    code = f"import sys, trpo_np.app.plots; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          cwd=Path(__file__).parents[2])
    assert done.stdout == "set()\n"
