"""Every bench script runs with --quick, so that none can rot."""

import argparse
import json
import math
import pathlib
import subprocess
import sys

import pytest

BENCH = pathlib.Path(__file__).parent.parent / "bench"
SCRIPTS = sorted(path.name for path in BENCH.glob("*.py") if not path.name.startswith("_"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_quick(script, tmp_path):
    done = subprocess.run([sys.executable, str(BENCH / script), "--quick", "--json",
                           str(tmp_path / "out.jsonl")],
                          capture_output=True,
                          text=True, cwd=BENCH.parent, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.jsonl").read_text().startswith('{"machine": {"date"'), done.stdout


def test_what_the_package_says_it_reaches_is_what_the_raw_lines_say(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCH))
    report = __import__("report")
    (tmp_path / "trpo_np").mkdir()
    monkeypatch.setattr(report, "HERE", tmp_path / "bench")
    report.write_reported(report.latest(report.read()))
    written = (tmp_path / "trpo_np" / "reported.json").read_text()
    assert written == (BENCH.parent / "trpo_np" / "reported.json").read_text()

    about = {"stem": "learn", "env": "Hopper-v4", "budget": 1000}
    lines = [about | {"setting": name, "seed": seed, "score": seed / 2}
             for name in ("tuned", "general") for seed in (100, 1001, 1000, 1002)]
    report.write_reported(lines)
    assert json.loads((tmp_path / "trpo_np" / "reported.json").read_text()) == {
        "Hopper-v4": {"steps": 1000, "seeds": "1000 to 1002", "returns": [500, 500.5, 501]}}

    game = {"env": "Pong", "steps": 2000, "score": 3.5}
    runs = [game | {"seed": 1000}, game | {"seed": 0}, game | {"seed": 1001, "score": None},
            game | {"seed": 1000, "steps": 1000}]  # the longer run counts
    report.write_reported([{"stem": "curves", "runs": runs}])
    assert json.loads((tmp_path / "trpo_np" / "reported.json").read_text()) == {
        "Pong": {"steps": 2000, "seeds": "1000", "returns": [3.5]}}


@pytest.mark.parametrize("k, decks, first_asked", [(4, 1, 4), (32, 2, 32), (None, 1, 1)])
def test_who_remembers_all_cards_scores_one(monkeypatch, k, decks, first_asked):
    monkeypatch.syspath_prepend(str(BENCH))
    env = __import__("memory").Suits(k, decks)
    seen, total, over = [env.reset(seed=3)[0]], 0.0, False
    while not over:
        suit, reward, _, over, _ = env.step(seen[0] if k is None else seen[max(len(seen) - k, 0)])
        assert (reward > 0) == (len(seen) >= first_asked)
        seen, total = [*seen, suit], total + reward
    assert len(seen) == 52 * decks and total == pytest.approx(1)
    assert sorted(seen) == sorted(list(range(4)) * 13 * decks)


# --- time to a score ----------------------------------------------------------------------------------------

@pytest.fixture
def time_to_score(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return __import__("time_to_score")


def timed(program, seed, seconds, **more):
    points = [[500, 1.0, 10.0], [1000, 2.0, 30.0 + seed]]
    return {"stem": "time_to_score", "env": "CartPole-v1", "program": program, "seed": seed, "goal": 475,
            "budget": 1000, "cores": 2, "to_the_end": False, "settings": {}, "steps": 1000, "seconds": 2.0,
            "reached": seconds and [900, seconds], "points": points, **more}


def test_a_run_that_misses_its_goal_is_infinitely_slow(time_to_score):
    lines = [timed("1", 0, 2.0), timed("1", 1, 4.0), timed("1", 2, None), timed("2", 0, 1.0),
             timed("sb3-contrib", 0, 40.0), timed("sb3-contrib-subproc", 0, None)]
    _, *rows = time_to_score.table(lines)
    assert [row[2:6] + row[-1:] for row in rows] == [
        ["1 rank", "3", "2", "4.0", "1.00 x 1 rank"], ["2 ranks", "1", "1", "1.0", "0.25 x 1 rank"],
        ["sb3-contrib", "1", "1", "40.0", "10.00 x 1 rank"],
        ["sb3-contrib-subproc", "1", "0", "more than 2.0", "more than 2.00 x 2 ranks"]]
    *_, row = time_to_score.table([*lines[:-2], timed("2", 1, 4.0), lines[-1]])
    assert row[-1] == "-"  # stopped before ours was there: that says nothing


def test_a_program_that_is_not_known_is_refused(time_to_score):
    for text in ("2", "sb3-contrib", "sb3-contrib-subproc"):
        assert time_to_score.known_program(text) == text
    for text in ("sb3", "0", "-2", ""):
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is neither a number of ranks nor"):
            time_to_score.known_program(text)


def test_curves_over_ranks_are_means_over_seeds_with_their_errors(time_to_score):
    heads, row = time_to_score.curves([timed("16", 0, None), timed("16", 2, None)])
    shown = dict(zip(heads, row))
    assert (shown["40 %"], shown["50 %"], shown["100 %"]) == ("-", "10 +- 0", "31 +- 1")


def test_the_page_tells_times_and_curves(time_to_score):
    report = __import__("report")
    lines = [timed("1", 0, 2.0), timed("2", 0, None), timed("4", 0, None, to_the_end=True)]
    assert len(report.latest([line | {"machine": {"cpu": "a"}} for line in [*lines, *lines]])) == 3
    text = report.tell_time_to_score(lines)
    assert "| CartPole-v1 | 475 | 1 rank | 1 | 1 | 2.0 |" in text
    assert "| CartPole-v1 | 4 ranks | 1 | - |" in text


def test_the_clock_stops_at_the_goal_and_the_run_unless_it_goes_to_the_end(time_to_score):
    for to_the_end in (False, True):
        watch = time_to_score.Watch(20.0, 1e9, to_the_end)
        assert watch.note(100, [25.0] * 19) and watch.note(200, [1.0] * 80 + [19.0] * 20)
        assert watch.note(300, [0.0] + [20.0] * 20) == to_the_end and watch.reached[0] == 300
        watch.note(400, [50.0] * 20)
        seen = [steps for steps, _, _ in watch.result()["points"]]
        assert watch.reached[0] == 300 and seen == [100, 200, 300, 400]
    assert not time_to_score.Watch(20.0, 0.0, True).note(100, [1.0])


# --- the laboratory for learning ----------------------------------------------------------------------------

@pytest.fixture
def learned(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return __import__("_learned")


def made(setting, env_id, seed, score):
    return {"setting": setting, "env": env_id, "seed": seed, "score": score, "sampled": score, "budget": 1000,
            "steps_per_second": 1, "curve": [[500, score / 2], [1000, score]]}


def test_seeds_that_choose_and_reported_seeds_never_share_a_table(learned):
    assert learned.kind([100, 199]) == "seeds that choose"
    assert learned.kind([1000, 1009]).startswith("reported seeds")
    assert learned.kind([0, 1]) == learned.kind([99, 100]) == learned.kind([1009, 1010]) == learned.KINDS[2]
    with pytest.raises(ValueError, match="do not go into one table"):
        learned.kind([100, 1000])


def test_a_share_of_the_best_public_return_is_1_there_also_where_returns_are_costs(learned):
    assert learned.share("Hopper-v4", 3372) == learned.share("Reacher-v5", -4.5) == 1
    assert learned.share("Reacher-v5", -9) == 0.5 and learned.share("Hopper-v4", 1686) == 0.5
    assert math.isnan(learned.share("Own-v0", 1))


def test_settings_are_ranked_on_the_runs_that_all_of_them_have(learned):
    runs = [made("a", "Hopper-v4", 100, 3372), made("a", "Hopper-v4", 101, 0),
            made("b", "Hopper-v4", 100, 1686)]
    assert learned.ranking(runs) == ["a", "b"]  # by all of its runs, a would be level with b
    heads, first, second = learned.comparison(runs)
    assert first[:4] == ["a", "2", "0.500", "-"] and second[:4] == ["b", "1", "0.500", "-0.500 +- nan"]
    assert first[4] == "1686.0 (0.0)" and heads[4] == "Hopper-v4"


def test_the_interquartile_mean_leaves_out_a_quarter_on_each_side(learned):
    shares = {"Hopper-v4": [0, 1, 2, 50], "Swimmer-v4": [-9, 1, 3, 2]}
    runs = [made("a", env_id, seed, x * learned.published(env_id)[0])
            for env_id, values in shares.items() for seed, x in enumerate(values)]
    said = learned.interquartile(runs)
    assert said.startswith("interquartile mean of score / best public: 1.500, 95 % interval")
    alone = [made("a", "Hopper-v4", 0, 3372)]
    assert learned.interquartile(alone).endswith(": 1.000")  # one run has no interval
    row = learned.table(runs)[1]
    assert dict(zip(learned.COLUMNS, row))["passed it"] == "3, 500"


def test_a_run_that_is_recorded_is_not_run_again_and_the_worse_half_goes(tmp_path):
    learn = str(BENCH / "learn.py")
    settings = {"short": {"max_kl": "0.001:0", "num_envs": 2}, "tuned": {}, "other": {"preset": "baselines"}}

    def run(*more):
        done = subprocess.run([sys.executable, learn, "--steps", "2048", "--json", str(tmp_path / "l.jsonl"),
                               "--settings", json.dumps(settings), *more],
                              capture_output=True, text=True, cwd=BENCH.parent, timeout=300)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in (tmp_path / "l.jsonl").read_text().splitlines()]
        return done.stdout, lines
    out, lines = run("--seeds", "100-101", "--halve", "1")
    assert [(line["seed"]) for line in lines] == [100] * 3 + [101] * 2
    kept = out.partition("there remain: ")[2].splitlines()[0].split(", ")
    best = sorted(lines[:3], key=lambda line: -line["score"])[:2]
    assert kept == [line["setting"] for line in best]
    assert "seeds that choose" in out
    again, same = run("--seeds", "100-101", "--halve", "1")
    assert same == lines and " steps/s\n" not in again.partition("setting ")[0]
    settings["renamed"] = settings.pop(kept[0])  # its name is no part of a run
    assert run("--seeds", "100")[1] == lines
    settings |= {"one": {"max_kl": 0.001}, "its twin": {"max_kl": 0.001}}
    assert len(run("--seeds", "100")[1]) == len(lines) + 1
