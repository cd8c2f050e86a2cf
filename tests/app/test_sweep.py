"""A sweep: its runs, their processes, the table; jobs are small programs here, but in one test."""

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from trpo_np import cli
from trpo_np.app import jobs, sweep

ROOT = Path(__file__).parents[2]
WRITE = """
import json, os, sys
options = dict(word[2:].split("=", 1) for word in sys.argv[1:] if "=" in word)
score = float(options["lam"]) * 100 + int(options["seed"])
with open(os.path.join(options["log-dir"], "evaluation.json"), "w") as file:
    json.dump({"num_timesteps": 10, "returns": [score, score + 2]}, file)
"""
FAIL = "import sys; print('starting', flush=True); sys.exit('no such thing')"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def two_by_two():
    return list(sweep.runs("out", [("lam", ["0.5", "0.9"])], [3, 4], ["--env", "E"]))


def job(code):
    return sweep.Jobs([sys.executable, "-c", code], 2)


def test_each_seed_has_all_combinations_in_folders_that_differ_in_the_seed_alone():
    vary = [("lam", ["0.5", "1"]), ("max-kl", ["0.03:0.001"])]
    runs = list(sweep.runs("out", vary, [0, 1], ["--env", "E"]))
    assert [run.setting for run in runs[:2]] == ["lam=0.5 max-kl=0.03:0.001", "lam=1 max-kl=0.03:0.001"]
    assert runs[3].folder == os.path.join("out", "lam=1_max-kl=0.03..0.001_seed1")
    assert runs[3].words == ["--env", "E", "--lam=1", "--max-kl=0.03:0.001", "--seed=1",
                             f"--log-dir={runs[3].folder}", f"--save={runs[3].folder}/model.npz", "--resume"]


def test_without_settings_only_seeds_differ():
    assert [run.setting for run in sweep.runs("out", [], [0, 1], [])] == ["as given"] * 2


@pytest.mark.parametrize("text, found", [("0-2", [0, 1, 2]), ("7", [7]), ("0,5-6", [0, 5, 6])])
def test_seeds(text, found):
    assert sweep.seeds(text) == found


@pytest.mark.parametrize("read, text", [
    (sweep.seeds, "a"), (sweep.seeds, "2-1"), (sweep.seeds, "1,1"), (sweep.seeds, "1-2-3"), (sweep.seeds, ""),
    (sweep.choices, "lam"), (sweep.choices, "lam=0.9,,1"), (sweep.choices, "=1"), (sweep.choices, "lam=")])
def test_what_is_no_list_is_refused(read, text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not "):
        read(text)


def test_jobs_run_and_the_table_has_the_best_mean_first(capsys):
    runs = two_by_two()
    job(WRITE).train(runs)
    assert sorted(capsys.readouterr().out.splitlines())[0] == "1/4  lam=0.5, seed 3: 54.00"
    rows = [line.split() for line in sweep.table(runs).splitlines()]
    assert rows[0] == ["setting", "mean", "error", "worst", "seeds"]
    assert rows[1:] == [["lam=0.9", "94.50", "0.50", "94.00", "2"],
                        ["lam=0.5", "54.50", "0.50", "54.00", "2"]]


def test_a_run_is_done_once_it_has_the_steps_that_are_its_own(monkeypatch):
    vary = [("num-timesteps", ["1e1", "20"])]
    runs = list(sweep.runs("out", vary, [0], ["--num-timesteps", "99"]))
    assert [run.steps(1_000_000) for run in runs] == [10, 20]
    assert [run.steps(1_000_000) for run in two_by_two()[:1]] == [1_000_000]
    given = argparse.Namespace(out="out", vary=vary, seeds=[0], processes=1, ranks=None, eval_episodes=1)
    for run in runs:
        os.makedirs(run.folder)
        Path(run.folder, "evaluation.json").write_text('{"num_timesteps": 10, "returns": [1]}')
    trained: list = []
    monkeypatch.setattr(sweep.Jobs, "train", lambda self, todo: trained.extend(todo))
    monkeypatch.setattr(sweep.importlib.util, "find_spec", lambda name: None)
    sweep.sweep(given, ["--num-timesteps", "99"], 99)
    assert [run.setting for run in trained] == ["num-timesteps=20"]


@pytest.mark.parametrize("text", ["{", "{}", '{"num_timesteps": 9, "returns": []}', "[1]"])
def test_an_evaluation_that_cannot_be_read_is_named(text):
    run = two_by_two()[0]
    os.makedirs(run.folder)
    with open(f"{run.folder}/evaluation.json", "w") as file:
        file.write(text)
    with pytest.raises(ValueError, match=r"out/lam=0.5_seed3/evaluation.json holds no evaluation \("):
        sweep.reached(run)


def test_options_of_lists_add_up():
    args = cli.parser().parse_args([
        "sweep", "--vary", "lam=0.9,0.8", "--vary", "gamma=0.5,0.6", "--policy-kwargs", "act_fun=relu",
        "--policy-kwargs", "log_std_init=-1", "--env-kwargs", "a=1", "--env-kwargs", "b=2"])
    assert [name for name, _ in args.vary] == ["lam", "gamma"]
    assert dict(args.policy_kwargs) == {"act_fun": "relu", "log_std_init": -1}
    assert dict(args.env_kwargs) == {"a": 1, "b": 2}
    assert cli.parser().parse_args(["sweep"]).vary == []  # the default is not what was added to


def test_what_has_trained_long_enough_is_done():
    run = two_by_two()[0]
    assert sweep.reached(run) is None
    job(WRITE).train([run])
    assert sweep.reached(run, 10) == 54.0 and sweep.reached(run, 11) is None


def test_a_job_that_fails_is_named_with_its_last_words():
    with pytest.raises(OSError, match=r"lam=0.5, seed 3 failed: no such thing \(see out.*output.txt\)"):
        job(FAIL).train(two_by_two())


def test_an_interrupt_ends_the_jobs_that_run_and_starts_no_other():
    runs, jobs_ = two_by_two(), job("import time; time.sleep(60)")

    def interrupt():
        while len(jobs_.running) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), 2)
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        jobs_.train(runs)
    assert not jobs_.running and not os.path.exists(runs[2].folder)


def test_a_folder_holds_one_sweep_which_may_go_on_for_more_steps():
    sweep.begin("out", ["--env", "E", "--num-timesteps", "10"])
    sweep.begin("out", ["--env", "E", "--num-timesteps", "20"])
    with pytest.raises(ValueError, match="out holds another sweep"):
        sweep.begin("out", ["--env", "F", "--num-timesteps", "20"])


@pytest.mark.parametrize("words, said", [
    (["--seed", "1"], "--seed is set by the sweep"), (["--save=x"], "--save is set by the sweep"),
    (["--eval-episodes", "0"], "the table needs an evaluation"),
    (["--vary", "seed=1,2"], "--vary seed is set by the sweep"),
    (["--vary", "log_dir=a,b"], "--vary log-dir is set by the sweep"),
    (["--vary", "lam=0.9", "--vary", "lam=0.8"], "--vary names lam twice; give all of its values at once")])
def test_what_the_sweep_sets_is_refused(words, said):
    args = cli.parser().parse_args(["sweep", "--out", "o", "--env", "CartPole-v1", *words])
    with pytest.raises(ValueError, match=said):
        sweep.sweep(args, ["--out", "o", *words], 10)


@pytest.mark.parametrize("words, at_once", [([], 5), (["--ranks", "2"], 2), (["--ranks", "9"], 1),
                                            (["--ranks", "2", "--processes", "4"], 4)])
def test_jobs_and_their_ranks_share_the_cores(monkeypatch, words, at_once):
    def jobs_of(command, processes):
        raise KeyError(processes)
    monkeypatch.setattr(sweep, "cores", lambda: set(range(5)))
    monkeypatch.setattr(sweep, "Jobs", jobs_of)
    args = cli.parser().parse_args(["sweep", "--out", "o", *words])
    with pytest.raises(KeyError, match=str(at_once)):
        sweep.sweep(args, ["--out", "o", *words], 10)


@pytest.mark.both_modes
def test_a_whole_sweep_trains_then_has_nothing_to_do(monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = ["sweep", "--env", "CartPole-v1", "--num-timesteps", "256", "--timesteps-per-batch=256",
             "--out", "s", "--seeds", "0", "--vary", "lam=0.9,0.5", "--eval-episodes", "2",
             "--processes", "2"]
    for done in (0, 2):
        with pytest.raises(SystemExit) as caught:
            cli.main(words)
        out = capsys.readouterr().out
        assert caught.value.code == 0 and f"2 runs, {done} of them done; 2 at a time" in out
        assert open("s/table.txt").read() in out
    for lam in ("0.9", "0.5"):
        with open(f"s/lam={lam}_seed0/config.json") as file:
            assert json.load(file)["lam"] == float(lam)
    assert Path("s/curves.png").stat().st_size > 1000
    assert jobs.SCORE in os.listdir("s/lam=0.9_seed0")
