"""The training job: processes are killed and interrupted; in this one signals come at chosen moments."""

import argparse
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from outputs import check_help

from trpo_np import TRPO, envs, evaluation, load_policy, presets, run_mujoco, update
from trpo_np.app import jobs, options
from trpo_np.app.signals import boundaries
from trpo_np.callbacks import CallbackList
from trpo_np.files import archive
from trpo_np.logger import EpisodeLog, Progress
from trpo_np.policies import fast

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "trpo_np.run_mujoco"]
SMALL = ["--env", "CartPole-v1", "--preset", "baselines", "--eval-episodes", "0"]  # 1024 steps a batch
BATCH = 1024


@pytest.fixture(autouse=True)
def place(tmp_path):
    """Give each test a folder of its own and no display; check that it leaves the handlers of signals."""
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.MonkeyPatch.context() as patch:  # not the test's own: some undo that
        patch.chdir(tmp_path)
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            patch.delenv(name, raising=False)
        yield
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def start(*options, code=None):
    command = [sys.executable, "-c", code] if code else PROGRAM
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=environ)


def contents(path):
    meta, arrays = archive.read_archive(path)
    return meta, {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}


def without_episodes(contents):
    """Contents without the episodes under way: an interrupt in a rollout leaves none."""
    meta, arrays = contents
    return meta, {name: array for name, array in arrays.items() if name != "training/running"}


def steps(path):
    return archive.read_archive(path)[0]["progress"]["num_timesteps"]


def files():
    return sorted(os.listdir())


def wait_for(path, process, seconds=60):
    end = time.monotonic() + seconds
    while not os.path.exists(path):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.005)


# --- a whole job --------------------------------------------------------------------------------------------

def test_the_default_job(monkeypatch):
    seen = []
    def run(args, make_env, policy, preset, beside):
        seen.append((args, policy, preset))
        return 0
    monkeypatch.setattr(jobs, "run", run)
    assert run_mujoco.work([]) == 0
    (args, policy, preset), = seen
    assert (args.env, args.num_timesteps, args.seed) == ("Reacher-v5", 1_000_000, 0)
    assert (args.num_envs, policy) == (1, "MlpPolicy")
    assert preset["max_kl"] == presets.LinearSchedule(0.03, 0.001) and preset["normalize_observations"]
    run_mujoco.work(["--preset", "baselines", "--num-timesteps", "2e5", "--env", "Hopper-v5"])
    assert seen[1][0].num_timesteps == 200_000 and seen[1][0].env == "Hopper-v5"
    assert seen[1][2]["vf_batch_size"] == 64


def test_a_job_tells_trains_logs_saves_and_evaluates(capsys):
    options = ["--num-timesteps", "4e3", "--num-envs", "2", "--log-interval", "2", "--log-dir", "logs"]
    assert run_mujoco.work([*SMALL, *options, "--eval-episodes", "3", "--seed", "7"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("TRPO on CartPole-v1: 4,000 steps, seed 7, 2 environments, 1 rank")
    assert "baselines: timesteps_per_batch 1024, " in out and "saved every 100,000 steps" in out
    tables = re.findall(r"total_timesteps *\| (\d+)", out)
    assert tables == ["2048", "4096"]
    for row in ("ep_rew_mean", "ep_len_mean", "kl", "entropy", "expected_gain", "gain", "step_fraction",
                "explained_variance", "fps", "share_environment", "share_policy", "share_update"):
        assert len(re.findall(rf"\|    {row} +\| \S+ *\|", out)) == 2, row
    assert re.search(r"\n4,096 steps in [\d.]+ s, [\d,]+ steps/s; saved to trpo_CartPole-v1_seed7.npz\n", out)
    line = re.search(r"deterministic return of 3 episodes: ([\d.]+) \+- ([\d.]+) \(lowest ([\d.]+), highest "
                     r"([\d.]+); mean length ([\d.]+)\)\n$", out)
    policy, env = load_policy("trpo_CartPole-v1_seed7.npz"), gymnasium.make("CartPole-v1")
    returns = evaluation.evaluate_policy(policy, env, 3, seed=1_000_007, return_episode_rewards=True)[0]
    expected = [np.mean(returns), np.std(returns), min(returns), max(returns), np.mean(returns)]
    assert line and np.allclose([float(x) for x in line.groups()], expected, atol=0.051)
    assert files() == ["logs", "trpo_CartPole-v1_seed7.npz"]

    record = archive.read_archive("trpo_CartPole-v1_seed7.npz")[0]["progress"]
    monitor = Path("logs/monitor.csv").read_text().splitlines()
    assert len(monitor) == 2 + record["episodes"] and '"env_id": "CartPole-v1"' in monitor[0]
    assert record["num_timesteps"] == 4096
    assert [row["step"] for row in csv.DictReader(open("logs/progress.csv"))] == ["2048", "4096"]
    assert len(Path("logs/progress.json").read_text().splitlines()) == 2


def test_progress_shows_speed_and_the_time_left(monkeypatch, capsys):
    class Fast(Progress):
        def __init__(self, total, enabled=True):
            super().__init__(total, enabled)
            self.pause = self.due = 0.0
    monkeypatch.setattr("trpo_np.trpo.Progress", Fast)
    run_mujoco.work([*SMALL, "--num-timesteps", "3000", "--save-every", "0"])
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"1024/3000  34%  [\d.]+ steps/s  0:\d\d left  0:\d\d elapsed", lines[0])
    assert len(lines) == 3


def test_same_seed_same_file():
    for name, seed in [("a", "3"), ("b", "3"), ("c", "4")]:
        run_mujoco.work([*SMALL, "--num-timesteps", "2000", "--seed", seed, "--save", name])
    assert contents("a.npz") == contents("b.npz") != contents("c.npz")


def test_zero_steps_with_load_only_evaluate(capsys):
    run_mujoco.work([*SMALL, "--num-timesteps", "1000"])
    before = Path("trpo_CartPole-v1_seed0.npz").read_bytes()
    capsys.readouterr()
    options = ["--load", "trpo_CartPole-v1_seed0.npz", "--num-timesteps", "0", "--eval-episodes", "2",
               "--log-dir", "new"]
    assert run_mujoco.work(SMALL + options) == 0
    out = capsys.readouterr().out
    assert "deterministic return of 2 episodes" in out and "nothing to train" in out and "steps/s" not in out
    assert Path("trpo_CartPole-v1_seed0.npz").read_bytes() == before
    assert files() == ["trpo_CartPole-v1_seed0.npz"]
    assert run_mujoco.work([*SMALL, *options[:4], "--save", "copy"]) == 0
    assert contents("copy.npz") == contents("trpo_CartPole-v1_seed0.npz")


def test_load_goes_on_with_the_models_own_settings_in_its_file(capsys):
    run_mujoco.work([*SMALL, "--num-timesteps", "1000", "--save", "m"])
    run_mujoco.work([*SMALL, "--preset", "tuned", "--num-timesteps", "2000", "--load", "m.npz"])
    out = capsys.readouterr().out
    assert "m.npz: 1,024 steps so far, its own settings" in out and "\n1,024 steps in" in out
    meta, _ = archive.read_archive("m.npz")
    assert meta["progress"]["num_timesteps"] == 2048 and meta["algorithm"]["vf_batch_size"] == 64
    assert files() == ["m.npz"]


# --- a killed job -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("env_id, package", [
    ("CartPole-v1", "numpy"), ("HalfCheetah-v5", "mujoco"), ("LunarLander-v3", "Box2D")])
@pytest.mark.filterwarnings("ignore:each checkpoint")
def test_a_killed_job_goes_on_to_the_same_bits(env_id, package):
    """Episodes are shorter or longer than the pieces, and go on or end there."""
    pytest.importorskip(package)
    options = [*SMALL, "--env", env_id, "--num-timesteps", "9000", "--save-every", "2000", "--log-interval",
               "1"]
    killed = start(*options, "--save", "killed.npz", "--log-dir", "killed")
    wait_for("killed.npz", killed)
    time.sleep(0.05)  # into what will be lost
    killed.kill()
    killed.communicate()
    assert run_mujoco.work([*options, "--save", "whole.npz", "--log-dir", "whole"]) == 0
    found = steps("killed.npz")
    assert found % BATCH == 0 and 2000 < found < 9000 and steps("whole.npz") == 9 * BATCH
    assert contents("killed.npz")[1] != contents("whole.npz")[1]
    process = start(*options, "--load", "killed.npz", "--log-dir", "killed")
    assert process.communicate() and process.returncode == 0
    # parameters, Adam, statistics, counters, generators
    assert contents("killed.npz") == contents("whole.npz")
    assert [name for name in files() if not name.startswith("MUJOCO")] == [
        "killed", "killed.npz", "whole", "whole.npz"]
    for name, columns in [("monitor.csv", 2), ("progress.csv", 12)]:  # all but the times
        texts = [Path(run, name).read_text() for run in ("whole", "killed")]
        rows = [[line.split(",")[:columns] for line in text.splitlines()[1:]] for text in texts]
        assert rows[0] == rows[1] and len(rows[0]) >= 9 - (env_id != "CartPole-v1" and name == "monitor.csv")
    assert contents("whole.npz")[0]["progress"].get("cut_every", []) == [2000] * (package == "Box2D")
    assert ("training/running" in contents("whole.npz")[1]) == (package != "Box2D")


def test_a_schedule_goes_on_too():
    from trpo_np.settings import LinearSchedule
    preset = dict(timesteps_per_batch=256, max_kl=LinearSchedule(0.02, 0.001),
                  vf_stepsize=LinearSchedule(1e-3))

    def job(*words):
        parser = jobs.parser("job", "", env="CartPole-v1", timesteps="2048", presets=["none"],
                             policies=["none"])
        args = parser.parse_args(["--env", "CartPole-v1", "--eval-episodes", "0", *words])
        return jobs.run(args, lambda **kw: envs.make_env("CartPole-v1", **kw), "MlpPolicy", preset)

    assert job("--save", "whole", "--save-every", "1024") == 0
    real = TRPO.save
    with pytest.MonkeyPatch.context() as patch:
        def save_then_fail(self, path):
            real(self, path)
            patch.setattr(TRPO, "save", lambda *_: pytest.fail("saved after the kill"))
            raise SystemExit(9)  # as a kill: nothing of ours runs after it
        patch.setattr(TRPO, "save", save_then_fail)
        with pytest.raises(SystemExit):
            job("--save", "part", "--save-every", "1024")
    assert steps("part.npz") == 1024
    assert job("--load", "part.npz", "--save-every", "1024") == 0
    assert contents("part.npz") == contents("whole.npz")


# --- one command, whenever the job was killed ---------------------------------------------------------------

RESUMED = [*SMALL, "--num-timesteps", "9000", "--save-every", "4000", "--log-interval", "1", "--resume"]


def rows(folder, name, columns):
    """A log without its first line and its times."""
    return [line.split(",")[:columns] for line in Path(folder, name).read_text().splitlines()[1:]]


def test_one_command_goes_on_or_begins_whenever_the_job_was_killed():
    assert run_mujoco.work([*RESUMED, "--save", "whole", "--log-dir", "whole"]) == 0
    assert sorted(os.listdir("whole")) == sorted({*jobs.LOGS, *os.listdir("whole")} - {jobs.UNSAVED})
    command = [*RESUMED, "--save", "killed.npz", "--log-dir", "killed"]
    for until in ("killed/progress.csv", "killed.npz"):
        killed = start(*command)
        wait_for(until, killed)
        if until != "killed.npz":
            while len(Path(until).read_text().splitlines()) < 2:  # a row that the run will write again
                time.sleep(0.005)
        killed.kill()
        killed.communicate()
        assert os.path.exists("killed.npz") == (until == "killed.npz")
    process = start(*command)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert re.search(r"killed.npz: [48],\d+ steps so far, its own settings", out)
    assert contents("killed.npz") == contents("whole.npz")
    for name, columns in [("monitor.csv", 2), ("progress.csv", 12)]:
        assert rows("killed", name, columns) == rows("whole", name, columns)
    assert len(rows("killed", "progress.csv", 1)) == 9 and jobs.UNSAVED not in os.listdir("killed")
    assert run_mujoco.work(command) == 0  # nothing left to do
    assert contents("killed.npz") == contents("whole.npz")


def half_written(folder, save, seed="0"):
    """Begin a job that is killed after two rows of its logs, before it saves."""
    command = [*SMALL, "--num-timesteps", "9000", "--save", save, "--log-dir", folder, "--seed", seed]
    with pytest.MonkeyPatch.context() as patch:
        def killed(self, *args):
            if self.num_timesteps == 2 * BATCH:
                raise SystemExit(9)
            return real(self, *args)
        real = TRPO.update
        patch.setattr(TRPO, "update", killed)
        with pytest.raises(SystemExit):
            run_mujoco.work([*command, "--log-interval", "1"])
    assert not os.path.exists(f"{save}.npz") and len(rows(folder, "progress.csv", 1)) == 1
    return command


def test_only_the_jobs_own_unsaved_logs_are_cleared():
    os.mkdir("logs")
    Path("logs/notes.txt").write_text("mine")
    command = half_written("logs", "a")
    assert "go on with that run by --load or --resume" in refusal(*command)
    for other in (["--save", "b"], ["--seed", "1"], ["--env", "Acrobot-v1"]):
        assert "is the log of a run" in refusal(*command, "--resume", *other)
    events = len([name for name in os.listdir("logs") if "tfevents" in name])
    assert run_mujoco.work([*command, "--num-timesteps", "2000", "--resume"]) == 0
    assert len(rows("logs", "progress.csv", 1)) == 1 and Path("logs/notes.txt").read_text() == "mine"
    assert len([name for name in os.listdir("logs") if "tfevents" in name]) == events
    os.remove("a.npz")  # the logs of a run that was saved are never cleared
    assert "is the log of a run" in refusal(*command, "--resume")


def test_resume_begins_from_the_file_of_load_until_its_own_is_there(capsys):
    run_mujoco.work([*SMALL, "--num-timesteps", "1000", "--seed", "3", "--save", "old"])
    command = [*SMALL, "--load", "old.npz", "--save", "new", "--resume", "--num-timesteps"]
    for steps_in_all, source in (("2000", "old.npz: 1,024"), ("3000", "new.npz: 2,048")):
        capsys.readouterr()
        assert run_mujoco.work([*command, steps_in_all]) == 0
        assert f"{source} steps so far" in capsys.readouterr().out
    assert steps("old.npz") == BATCH and steps("new.npz") == 3 * BATCH


def test_resume_finds_the_file_without_save_and_the_environment_in_it(capsys):
    for steps_in_all, says in (("1000", "CartPole-v1_seed0.npz is not there: the job begins"),
                               ("2000", "1,024 steps so far")):
        assert run_mujoco.work([*SMALL, "--resume", "--num-timesteps", steps_in_all]) == 0
        assert says in capsys.readouterr().out
    os.rename("trpo_CartPole-v1_seed0.npz", "m.npz")
    options = ["--save", "m.npz", "--resume", "--num-timesteps", "2000", "--eval-episodes", "0"]
    assert run_mujoco.work(options) == 0
    assert "TRPO on CartPole-v1" in capsys.readouterr().out


@pytest.mark.parametrize("options, says", [
    (["--seed", "1"], "its seed is 0, not 1"),
    (["--env", "Acrobot-v1"], "its environment is CartPole-v1, not Acrobot-v1")])
def test_resume_does_not_touch_the_file_of_another_job(options, says):
    run_mujoco.work([*SMALL, "--num-timesteps", "1000", "--save", "m"])
    before = Path("m.npz").read_bytes()
    sentence = refusal(*SMALL, "--save", "m", "--resume", *options)
    assert says in sentence and "name another by --save" in sentence
    Path("bad.npz").write_bytes(before[:500])
    assert "bad.npz: " in refusal(*SMALL, "--save", "bad", "--resume")
    assert Path("m.npz").read_bytes() == before and Path("bad.npz").read_bytes() == before[:500]


# --- signals ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signalled_process_saves_and_ends_with_status_130(number):
    process = start(*SMALL, "--num-timesteps", "1e7", "--save", "m.npz", "--save-every", "1000")
    wait_for("m.npz", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    done = int(re.search(r"([\d,]+) steps in .*; saved to m.npz, from where --load goes on\nstopped\n$",
                         out)[1].replace(",", ""))
    assert steps("m.npz") == done >= BATCH and done % BATCH == 0
    assert "Traceback" not in err and files() == ["m.npz"]


def send_at(monkeypatch, owner, name, call, number=signal.SIGTERM, after=False):
    """Send this process a signal in the given call of a function, before or after its work."""
    real, calls = getattr(owner, name), [0]

    def tapped(*args, **kwargs):
        calls[0] += 1
        if calls[0] == call and not after:
            os.kill(os.getpid(), number)
        result = real(*args, **kwargs)
        if calls[0] == call and after:
            os.kill(os.getpid(), number)
        return result
    monkeypatch.setattr(owner, name, tapped)


def plain_run(updates, path="plain"):
    assert run_mujoco.work([*SMALL, "--num-timesteps", str(updates * BATCH), "--save", path]) == 0
    return contents(f"{path}.npz")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("after", [False, True])
def test_a_signal_during_an_update_waits_for_its_end(monkeypatch, number, after):
    send_at(monkeypatch, update, "fit", 2, number, after)
    assert run_mujoco.work([*SMALL, "--num-timesteps", "20000", "--save", "m"]) == 130
    monkeypatch.undo()
    assert contents("m.npz") == plain_run(2)


def test_a_signal_during_a_rollout_acts_at_once(monkeypatch, capsys):
    monkeypatch.setattr(envs, "make_env", lambda *args, **kwargs: Counting(gymnasium.make(*args, **kwargs)))
    Counting.total, Counting.act_at = 0, 2 * BATCH + 300
    Counting.act = lambda: os.kill(os.getpid(), signal.SIGINT)
    assert run_mujoco.work([*SMALL, "--num-timesteps", "20000", "--save", "m"]) == 130
    assert Counting.total <= 2 * BATCH + 302 and "2,048 steps in" in capsys.readouterr().out
    monkeypatch.undo()
    assert contents("m.npz") == without_episodes(plain_run(2))


class Counting(gymnasium.Wrapper):
    """Do something in one step of all."""

    def step(self, action):
        cls = type(self)
        cls.total += 1
        if cls.total == cls.act_at:
            cls.act()
        return super().step(action)


def test_a_signal_between_rollout_and_update_leaves_the_counters_of_the_last_update(monkeypatch):
    send_at(monkeypatch, CallbackList, "on_rollout_end", 2)
    assert run_mujoco.work([*SMALL, "--num-timesteps", "20000", "--save", "m"]) == 130
    monkeypatch.undo()
    assert contents("m.npz") == without_episodes(plain_run(1))


@pytest.mark.parametrize("call", [1, 2])
def test_a_signal_during_a_save_leaves_a_whole_file(monkeypatch, call):
    send_at(monkeypatch, os, "fsync", 2 * call - 1)  # of the file; then of its folder
    options = ["--num-timesteps", str(2 * BATCH), "--save-every", str(2 * BATCH), "--eval-episodes", "1"]
    status = run_mujoco.work([*SMALL, *options, "--save", "m"])
    monkeypatch.undo()
    assert status == 130 and contents("m.npz") == plain_run(2) and files() == ["m.npz", "plain.npz"]


def test_a_signal_while_kernels_compile_keeps_an_older_file(monkeypatch, capsys):
    Path("m.npz").write_bytes(b"a trained model")
    send_at(monkeypatch, fast, "compile_all", 1)
    assert run_mujoco.work([*SMALL, "--save", "m"]) == 130
    assert Path("m.npz").read_bytes() == b"a trained model" and files() == ["m.npz"]
    assert "0 steps in 0.0 s, 0 steps/s; nothing to save" in capsys.readouterr().out


def test_a_signal_that_got_lost_in_foreign_code_acts_at_the_next_rollout(monkeypatch):
    def compile_all(files):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            pass
    monkeypatch.setattr(fast, "compile_all", compile_all)
    monkeypatch.setattr("trpo_np.rollout.Runner.collect", lambda *_: pytest.fail("the job went on"))
    assert run_mujoco.work(SMALL) == 130


def test_a_signal_during_the_final_evaluation_leaves_the_saved_model(monkeypatch, capsys):
    send_at(monkeypatch, evaluation, "evaluate_policy", 1, signal.SIGINT)
    assert run_mujoco.work([*SMALL, "--num-timesteps", str(BATCH), "--save", "m", "--eval-episodes",
                            "5"]) == 130
    monkeypatch.undo()
    assert capsys.readouterr().out.endswith("saved to m.npz\nstopped\n") and contents("m.npz") == plain_run(1)


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with jobs.Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN and not signals.came
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def without_failures(path):
    """The contents of a file whose run ended in an error, but for their number, which changes what comes."""
    meta, arrays = contents(path)
    assert meta["progress"]["failures"] == 1
    meta["progress"]["failures"] = 0
    return meta, arrays


def test_an_environment_that_fails_costs_one_batch(monkeypatch):
    def fail():
        raise ZeroDivisionError("in the environment")
    monkeypatch.setattr(envs, "make_env", lambda *args, **kwargs: Counting(gymnasium.make(*args, **kwargs)))
    Counting.total, Counting.act_at, Counting.act = 0, 2 * BATCH + 300, fail
    with pytest.raises(ZeroDivisionError):
        run_mujoco.work([*SMALL, "--num-timesteps", "20000", "--save", "m"])
    monkeypatch.undo()
    assert without_failures("m.npz") == without_episodes(plain_run(2))


def test_an_update_that_fails_halfway_costs_one_batch(monkeypatch):
    calls, real = [], update.fit

    def fit(*args):
        calls.append(1)
        return real(*args) if len(calls) < 3 else 1 / 0
    monkeypatch.setattr(update, "fit", fit)
    with pytest.raises(ZeroDivisionError):
        run_mujoco.work([*SMALL, "--num-timesteps", "20000", "--save", "m"])
    monkeypatch.undo()
    assert without_failures("m.npz") == without_episodes(plain_run(2))


# --- what is refused, and how -------------------------------------------------------------------------------

def refusal(*options):
    """Run the job as the command does; return its one sentence."""
    with pytest.raises(SystemExit) as caught:
        jobs.main(lambda: run_mujoco.work(list(options)), "job")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert isinstance(caught.value.code, str) and "\n" not in caught.value.code
    return caught.value.code


@pytest.mark.parametrize("path, reason", [
    ("file/m", "file/m.npz: cannot save there: Not a directory; name another file by --save"),
    ("folder.npz", "folder.npz: cannot save there: a folder, pipe or device has this name"),
    ("/proc/none/m", "/proc/none/m.npz: cannot save there: "),
    ("x" * 300, "cannot save there: File name too long")])
def test_a_path_that_cannot_be_written_is_refused_before_training(path, reason, monkeypatch):
    Path("file").write_text("mine")
    Path("folder.npz").mkdir()
    monkeypatch.setattr(TRPO, "learn", lambda *args, **kwargs: pytest.fail("trained"))
    assert reason in refusal(*SMALL, "--save", path)
    assert files() == ["file", "folder.npz"] and Path("file").read_text() == "mine"


def test_the_check_of_the_path_leaves_nothing_and_changes_nothing():
    Path("old.npz").write_text("old")
    os.utime("old.npz", (1, 1))
    jobs.check_writable("old.npz")
    jobs.check_writable("new/deep/m.npz")
    assert Path("old.npz").read_text() == "old" and os.stat("old.npz").st_mtime == 1
    assert files() == ["new", "old.npz"] and os.listdir("new/deep") == []


def test_an_environment_with_other_spaces_than_the_models_is_named_by_the_field():
    run_mujoco.work([*SMALL, "--num-timesteps", "1000", "--save", "m"])
    sentence = refusal("--load", "m.npz", "--env", "Pendulum-v1")
    assert re.search(r"the environment's observation_space does not fit the model: (shape|low|high) is .* is "
                     r"needed$", sentence)


def test_logs_of_another_run_are_not_mixed():
    run_mujoco.work([*SMALL, "--num-timesteps", "1000", "--log-dir", "logs"])
    before = Path("logs/monitor.csv").read_bytes()
    sentence = refusal(*SMALL, "--log-dir", "logs", "--seed", "1")
    assert "is the log of a run; give another --log-dir, or go on with that run by --load" in sentence
    assert Path("logs/monitor.csv").read_bytes() == before


@pytest.mark.parametrize("words, said", [
    (["--env", "Acrobot-v1"], "its env is CartPole-v1, not Acrobot-v1; give another --log-dir"),
    (["--env", "CartPole-v1"], "its seed is 0, not 5; give another --log-dir")])
def test_a_model_that_goes_on_leaves_the_logs_of_others_alone(words, said):
    run_mujoco.work([*SMALL, "--env", "CartPole-v1", "--num-timesteps", "500", "--log-dir", "logs",
                     "--save", "a"])
    run_mujoco.work([*SMALL, *words, "--num-timesteps", "500", "--save", "b", "--seed", "5"])
    before = Path("logs/monitor.csv").read_bytes()
    assert said in refusal("--load", "b.npz", "--num-timesteps", "900", "--log-dir", "logs", *words)
    assert Path("logs/monitor.csv").read_bytes() == before


@pytest.mark.parametrize("name", ["env", "load", "save", "log-dir"])
def test_an_empty_name_as_of_an_unset_variable_is_refused(name, capsys):
    with pytest.raises(SystemExit):
        run_mujoco.work([f"--{name}", ""])
    assert f"argument --{name}: it is empty" in capsys.readouterr().err


def test_a_log_that_is_none_is_named():
    os.mkdir("logs")
    Path("logs/progress.json").write_text('{"a": 1}\n')
    with pytest.raises(ValueError, match=r"logs/progress.json is no log of a run \(KeyError: 'step'\)"):
        jobs.prepare_logs("logs")


@pytest.mark.parametrize("name, content, says", [
    ("monitor.csv", b"#hello\nr,l,t\n1,2,3\n", "JSONDecodeError"),
    ("monitor.csv", b"#[1]\nr,l,t\n1,2,3\n", "AttributeError"),
    ("monitor.csv", b'#{"episodes_before": "x"}\nr,l,t\n', "TypeError"),
    ("monitor.csv", b"\xff\xfe\n", "UnicodeDecodeError"), ("progress.csv", b"\xff\n", "UnicodeDecodeError"),
    ("progress.csv", b"step\nx\n", "ValueError"), ("progress.json", b"[1]\n", "TypeError"),
    ("progress.json", b'{"step": 1}\n{"st\n', "JSONDecodeError")])
def test_a_damaged_log_of_a_run_that_goes_on_is_named(name, content, says):
    os.mkdir("logs")
    Path("logs", name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"logs/{name} is no log of a run \({says}: .*move it away"):
        jobs.prepare_logs("logs", argparse.Namespace(num_timesteps=2048, episodes=2))
    assert Path("logs", name).read_bytes() == content


def test_logs_without_rows_are_no_obstacle():
    os.mkdir("logs")
    Path("logs/progress.csv").write_text("")
    Path("logs/monitor.csv").write_text('#{"t_start": 5.0, "env_id": "E"}\nr,l,t\n')
    jobs.prepare_logs("logs")
    assert {path.read_text() for path in Path("logs").iterdir()} == {""}
    assert len(list(Path("logs").iterdir())) == 2


def test_logs_are_set_back_to_the_state_that_a_run_goes_on_from():
    os.mkdir("logs")
    Path("logs/progress.csv").write_text("step,a\n1024,1\n2048,2\n3072,3\n40")
    Path("logs/progress.json").write_text('{"step": 1024}\n{"step": 2048}\n{"step": 3072}\n{"st')
    Path("logs/monitor.csv").write_text('#{"t_start": 5.0, "env_id": "E"}\nr,l,t\n1,1,1\n2,2,2\n3,3,3\n4,')
    jobs.prepare_logs("logs", argparse.Namespace(num_timesteps=2048, episodes=2))
    assert Path("logs/progress.csv").read_text() == "step,a\n1024,1\n2048,2\n"
    assert Path("logs/progress.json").read_text() == '{"step": 1024}\n{"step": 2048}\n'
    assert Path("logs/monitor.csv").read_text().splitlines()[1:] == ["r,l,t", "1,1,1", "2,2,2"]
    assert len(os.listdir("logs")) == 3


@pytest.mark.parametrize("options, sentence", [
    (["--env", "CartPol-v1"], "there is no environment 'CartPol-v1' (did you mean 'CartPole-v1'?)"),
    (["--env", "Cart Pole"], "Cart Pole"),
    (["--load", "nothing.npz", "--env", "CartPole-v1"], "nothing.npz: no archive"),
    (["--env", "CartPole-v1", "--num-envs", "1100"],
     "timesteps_per_batch is 1024, fewer than the 1100 environments"),
    (["--env", "CartPole-v1", "--play"], "there is no display to open a window on; record a video instead")])
def test_errors_are_one_sentence(options, sentence):
    message = refusal(*options)
    assert message.startswith("job: error: ") and sentence in message


def test_a_missing_mujoco_package_is_named():
    code = ("import sys; sys.modules['mujoco'] = None\nfrom trpo_np import run_mujoco\nfrom trpo_np.app "
            "import jobs\n"
            "jobs.main(lambda: run_mujoco.work(['--env', 'HalfCheetah-v5']), 'job')")
    process = start(code=code)
    out, err = process.communicate()
    assert process.returncode == 1 and out == "" and "pip install 'trpo_np[mujoco]'" in err
    assert "Traceback" not in err
    assert files() == []


@pytest.mark.parametrize("error, is_sentence",
                         [(ValueError("a"), True), (gymnasium.error.Error("b"), True), (OSError("c"), True),
                                                (ImportError("d"), True), (TypeError("e"), False),
                          (AssertionError("f"), False)])
def test_only_errors_that_the_user_can_mend_hide_the_traceback(error, is_sentence, monkeypatch):
    def work():
        raise error
    with pytest.raises(SystemExit if is_sentence else type(error)) as caught:
        jobs.main(work, "job")
    if is_sentence:
        assert caught.value.code == f"job: error: {error}"
        monkeypatch.setenv("TRPO_NP_TRACEBACK", "1")
        with pytest.raises(type(error)):
            jobs.main(work, "job")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_the_status_of_the_work_is_that_of_the_process():
    for result, status in [(0, 0), (130, 130)]:
        with pytest.raises(SystemExit) as caught:
            jobs.main(lambda: result, "job")  # noqa: B023
        assert caught.value.code == status
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


# --- options ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, value", [("0", 0), ("1000", 1000), ("1e6", 1_000_000), ("2.5e3", 2500),
                                         ("12345678901234567891", 12345678901234567891)])
def test_count(text, value):
    assert options.count(text) == value


@pytest.mark.parametrize("option, text", [
    ("--num-timesteps", "abc"), ("--num-timesteps", "1.5"), ("--num-timesteps", "inf"),
    ("--num-timesteps", "nan"), ("--seed", "-1"), ("--num-envs", "0"), ("--log-interval", "0")])
def test_a_number_that_is_none_ends_with_status_2(option, text, capsys):
    with pytest.raises(SystemExit) as caught:
        run_mujoco.work([f"{option}={text}"])
    assert caught.value.code == 2
    expected = f"{text!r} is not a whole number such as 1000000 or 1e6"
    if text == "0":
        expected = "at least 1 is needed"
    assert f"argument {option}: {expected}" in capsys.readouterr().err


def test_help_teaches_each_option_and_its_default():
    parser = jobs.parser(run_mujoco.PROG, run_mujoco.DESCRIPTION, **run_mujoco.OPTIONS)
    check_help(parser)
    text = " ".join(parser.format_help().split())
    for default in ("Reacher-v5", "1e6", "0", "1", "tuned", "100000", "10", "20"):
        assert f"(default: {default}" in text
    parser.add_argument("--bad", help="no word of what is used otherwise")
    with pytest.raises(AssertionError):
        check_help(parser)


def test_help_does_not_wait_for_numpy():
    code = ("import sys; from trpo_np import run_mujoco\ntry: run_mujoco.work(['--help'])\n"
            "finally: print({'numpy', 'gymnasium', 'numba', 'argparse'} & set(sys.modules))")
    process = start(code=code)
    out, err = process.communicate()
    assert process.returncode == 0 and "--num-timesteps N" in out and out.endswith("{'argparse'}\n"), err


# --- the environment's name ---------------------------------------------------------------------------------

def test_the_environment_is_the_one_given_or_that_of_the_file_or_the_default():
    archive.write_archive("named.npz", {}, {"env_id": "ALE/Pong-v5"})
    archive.write_archive("nameless.npz", {}, {})
    archive.write_archive("evil.npz", {}, {"env_id": "antigravity:Env-v0"})
    archive.write_archive("odd.npz", {}, {"env_id": "a b:\n"})
    assert jobs.find_env("A-v0", "named.npz", "B-v0") == jobs.find_env("A-v0", None) == "A-v0"
    assert jobs.find_env(None, "named.npz", "B-v0") == "ALE/Pong-v5"
    assert jobs.find_env(None, None, "B-v0") == "B-v0"
    for path, sentence in [("nameless.npz", "not name its environment; --env ID is needed"),
                           ("evil.npz", r"says so; if you trust it: \.\.\. --env antigravity:Env-v0$"),
                           ("odd.npz", r"the environment 'a b:\\n'; to use that, give it by --env")]:
        with pytest.raises(ValueError, match=sentence):
            jobs.find_env(None, path, "B-v0")
    assert "antigravity" not in sys.modules


def test_logs_that_began_later_are_set_back_by_what_they_hold():
    os.mkdir("logs")
    log = EpisodeLog("logs/", "E", before=10)
    for reward in range(5):
        log.write(reward, 1)
    log.close()
    jobs.prepare_logs("logs", argparse.Namespace(num_timesteps=0, episodes=12))
    assert [line[:3] for line in Path("logs/monitor.csv").read_text().splitlines()[2:]] == ["0.0", "1.0"]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal of POSIX")
def test_a_signal_on_a_terminal_that_is_gone_waits_like_any_other():
    code = """
import os, pty
from trpo_np.app.signals import Signals

parent, child = pty.openpty()
os.dup2(child, 2)
os.close(child)
os.close(parent)
signals = Signals()
signals.held = True
signals.handle()
print(signals.came)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout == "True\n"


def test_a_signal_to_a_rank_ends_training_after_the_update():
    signals, model = jobs.Signals(), argparse.Namespace(comm=argparse.Namespace(size=2))
    hooks = boundaries(signals, model)
    hooks._on_training_start()
    assert hooks._on_update_end() is True
    signals.handle()  # does not raise
    assert hooks._on_update_end() is False and signals.came


def test_one_thread_is_set_unless_a_number_was():
    code = ("import os; from trpo_np.app import jobs; jobs.one_thread(); "
            "print([os.environ[name] for name in jobs.THREADS])")
    env = {name: value for name, value in os.environ.items()
           if name not in jobs.THREADS} | {"PYTHONPATH": str(ROOT)}
    for given, expected in [({}, ["1"] * 4), ({"OMP_NUM_THREADS": "3"}, ["1", "1", "3", "1"])]:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env | given,
                              check=True)
        assert done.stdout.strip() == str(expected)


@pytest.mark.parametrize("prefix", ["module:", "my.own.module:", "space/", "module:space/"])
@pytest.mark.parametrize("env_id", ["Swimmer-v5", "CartPole-v1", "Hopper-v5"])
def test_a_preset_is_found_by_the_name_behind_module_and_namespace(prefix, env_id):
    assert presets.tuned(prefix + env_id) == presets.tuned(env_id)


@pytest.mark.parametrize("env_id, cg_iters", [("HalfCheetah-v5", 10), ("Hopper-v5", 10), ("Walker2d-v4", 10),
                                              ("Swimmer-v4", 25)])
def test_control_is_tuned_with_a_damped_and_whole_solution(env_id, cg_iters):
    settings = presets.tuned(env_id)
    assert (settings["cg_iters"], settings["cg_damping"], settings["fvp_subsample"]) == (cg_iters, 0.1, 1)


def test_a_job_ends_with_what_is_recorded_of_its_settings(monkeypatch, capsys, tmp_path):
    recorded = {"CartPole-v1": {"steps": 100_000, "seeds": "1000 to 1001", "returns": [490.0, 500.0]}}
    (tmp_path / "reported.json").write_text(json.dumps(recorded))
    monkeypatch.setattr(presets, "__file__", str(tmp_path / "presets.py"))
    short = ["--env", "CartPole-v1", "--num-timesteps", "1024", "--eval-episodes", "2"]
    said = ("recorded of these settings, 100,000 steps, seeds 1000 to 1001, which did not choose them: mean "
            "495.00 (lowest 490.00, highest 500.00)\n")
    assert run_mujoco.work(short) == 0
    *_, score, line = capsys.readouterr().out.splitlines(keepends=True)
    assert score.startswith("deterministic return of 2 episodes") and line == said
    for others in (["--preset", "baselines"], ["--load", "trpo_CartPole-v1_seed0.npz"]):  # other settings
        assert run_mujoco.work([*short, *others]) == 0
        assert "recorded of" not in capsys.readouterr().out
    assert presets.reported("Acrobot-v1") == "" and presets.reported("ns/CartPole-v1") == said.strip()
