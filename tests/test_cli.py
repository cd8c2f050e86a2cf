"""The command `trpo-np`: each subcommand from its arguments to what it prints and writes."""

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from outputs import check_help, png_size, write_monitor
from toys import Blocks

from trpo_np import TRPO, cli, envs, evaluation, load_policy
from trpo_np.app import info, jobs
from trpo_np.files import archive

ROOT = Path(__file__).parents[1]


gymnasium.register("trpo_np_test/Blocks-v0", Blocks)


@pytest.fixture(autouse=True)
def place(tmp_path):
    """Work in a folder of one's own, without a display."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.delenv("DISPLAY", raising=False)
        patch.delenv("WAYLAND_DISPLAY", raising=False)
        patch.setenv("MUJOCO_GL", "egl")  # set by recording otherwise
        yield


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    """A policy that has learned a little."""
    kwargs = dict(net_arch=[dict(pi=[16, 8], vf=[12])])
    model = TRPO("MlpPolicy", "CartPole-v1", seed=0, timesteps_per_batch=512, policy_kwargs=kwargs)
    return model.learn(2000).save(tmp_path_factory.mktemp("model") / "cartpole")


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    return TRPO("MlpPolicy", "trpo_np_test/Blocks-v0",
                seed=0).save(tmp_path_factory.mktemp("model") / "blocks")


def call(*arguments):
    """Run the command in this process; return its exit status, or its sentence."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(a) for a in arguments])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return caught.value.code


# --- environments of one's own ------------------------------------------------------------------------------

OWN = """
import gymnasium, numpy
class Own(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), numpy.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        self.t = 0
        return numpy.zeros(2, numpy.float32), {}
    def step(self, action):
        self.t += 1
        return numpy.zeros(2, numpy.float32), 1.0, False, self.t == 10, {}
gymnasium.register("Own-v0", Own)
"""


def test_a_module_of_ones_own_from_training_to_evaluation(tmp_path):
    Path("own_module.py").write_text(OWN)
    os.mkdir("bin")
    Path("bin/trpo-np").write_text("from trpo_np.cli import main\nmain()")  # as pip installs it
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    elsewhere = str(tmp_path / "other")  # where nobody has trained with the module

    def run(*options, **more):
        command = [sys.executable, "bin/trpo-np", *options]
        return subprocess.run(command, capture_output=True, text=True, env=environ | more, timeout=100)

    train = "train", "--env", "own_module:Own-v0", "--num-timesteps", "2000", "--eval-episodes", "0"
    done = run(*train)
    assert done.returncode == 0, done.stderr
    file = "trpo_Own-v0_seed0.npz"
    assert archive.read_archive(file)[0]["env_id"] == "own_module:Own-v0"
    for options in (["eval", file], ["train", "--load", file, "--num-timesteps", "3000"]):
        done = run(*options, "--seed", "0", XDG_CACHE_HOME=elsewhere)
        assert done.returncode == 1 and "a module is not imported because a file says so" in done.stderr
        name, *words = shlex.split(done.stderr.strip().rpartition("if you trust it: ")[2])
        assert (name, words) == ("trpo-np", [*options, "--seed", "0", "--env", "own_module:Own-v0"])
        for named in (words, [*options, "--seed", "0"]):  # the very command; and where the user has trained
            done = run(*named)
            assert done.returncode == 0 and "return of 20 episodes: 10.00" in done.stdout, done.stderr
    if sys.version_info >= (3, 11):  # as with python -m
        assert "No module named 'own_module'" in run(*train, PYTHONSAFEPATH="1").stderr


# --- train --------------------------------------------------------------------------------------------------

def test_train_is_the_job_of_run_mujoco(monkeypatch):
    seen = []
    def run(args, make_env, policy, preset, beside=""):
        seen.append((args, make_env().spec.id, policy, preset))
        return 130
    monkeypatch.setattr(jobs, "run", run)
    options = ["--env", "CartPole-v1", "--seed", 3, "--num-timesteps", "2e4", "--preset", "baselines"]
    assert call("train", *options) == 130
    (args, env, policy, preset), = seen
    assert (args.seed, args.num_timesteps, env, policy) == (3, 20_000, "CartPole-v1", "MlpPolicy")
    assert preset["vf_batch_size"] == 64
    call("train")
    assert seen[1][0].env == seen[1][1] == "Reacher-v5" and seen[1][0].num_timesteps == 1_000_000


def test_a_trained_model_is_evaluated_and_described_and_its_curve_drawn(capsys):
    pytest.importorskip("matplotlib")
    options = ["--num-timesteps", "2000", "--log-dir", "run_seed0", "--eval-episodes", 0, "--save", "m"]
    assert call("train", "--env", "CartPole-v1", *options) == 0
    assert call("eval", "m.npz", "--env", "CartPole-v1", "--episodes", 2) == 0
    assert call("info", "m") == call("plot", "run_seed0") == 0
    out = capsys.readouterr().out
    assert "deterministic return of 2 episodes" in out and "steps     2,048\n" in out
    assert "drawn in curves.png" in out
    assert png_size("curves.png") == (1200, 750)


# --- eval ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, word, deterministic",
                         [([], "deterministic", True), (["--stochastic"], "stochastic", False)])
def test_eval_prints_what_evaluate_policy_finds(cartpole, capsys, options, word, deterministic):
    assert call("eval", cartpole, "--env", "CartPole-v1", "--episodes", 6, "--seed", 5, *options) == 0
    policy, env = load_policy(cartpole), gymnasium.make("CartPole-v1")
    evaluate = evaluation.evaluate_policy
    returns, lengths = evaluate(policy, env, 6, deterministic, return_episode_rewards=True, seed=5)
    assert capsys.readouterr().out == (
        f"{word} return of 6 episodes: {np.mean(returns):.2f} +- {np.std(returns):.2f} "
        f"(lowest {min(returns):.2f}, highest {max(returns):.2f}; mean length {np.mean(lengths):.1f})\n"
        f"    percentiles 5 %: {np.percentile(returns, 5):.2f}, 25 %: {np.percentile(returns, 25):.2f}, "
        f"50 %: {np.median(returns):.2f}, 75 %: {np.percentile(returns, 75):.2f}, "
        f"95 %: {np.percentile(returns, 95):.2f}\n")


def test_eval_compares_files_with_the_first_one(cartpole, capsys):
    TRPO("MlpPolicy", "CartPole-v1", seed=1).save("new")
    assert call("eval", cartpole, "new.npz", cartpole, "--env", "CartPole-v1", "--episodes", 6) == 0
    lines = capsys.readouterr().out.splitlines()
    means = [float(re.search(r"episodes: ([\d.]+)", lines[i])[1]) for i in (0, 2)]
    difference, low, high = map(float, re.findall(r"[-+][\d.]+", lines[4])[:3])
    assert lines[2].startswith("new.npz: ") and lines[4].endswith(f"against {cartpole}")
    assert difference == pytest.approx(means[1] - means[0], abs=0.011) and low < difference < high
    assert lines[7].startswith("    +0.00 (") and lines[7].endswith(f"against {cartpole}")


def test_eval_compares_only_what_plays_the_same(cartpole, capsys):
    TRPO("MlpPolicy", "Acrobot-v1", seed=1).save("other")
    assert call("eval", cartpole, "other.npz", cartpole, "--episodes", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[4] == f"    in Acrobot-v1, not CartPole-v1 as {cartpole}" and "against" in lines[7]


def test_eval_hands_arguments_to_the_environment(cartpole):
    said = call("eval", cartpole, "--env", "CartPole-v1", "--env-kwargs", "speed=1")
    assert "CartPole-v1 takes no argument 'speed'" in said


def test_eval_takes_the_environment_that_the_file_names(cartpole, capsys):
    meta, arrays = archive.read_archive(cartpole)
    for name, env_id in [("named", "CartPole-v1"), ("nameless", None), ("other", "Pendulum-v1")]:
        archive.write_archive(f"{name}.npz", arrays, meta | {"env_id": env_id})
    assert call("eval", "named.npz", "--episodes", 1) == 0
    assert "return of 1 episode:" in capsys.readouterr().out
    sentence = call("eval", "nameless.npz")
    assert sentence == "trpo-np: error: nameless.npz does not name its environment; --env ID is needed"
    sentence = call("eval", "other.npz")
    assert "the evaluation environment's observation space does not fit the model: " in sentence


@pytest.mark.parametrize("arguments, sentence", [
    (["eval", "none.npz", "--env", "CartPole-v1"], "none.npz: no archive"),
    (["eval", "broken.npz", "--env", "CartPole-v1"], "broken.npz: has 7 bytes"),
    (["info", "broken.npz"], "broken.npz: has 7 bytes"),
    (["play", "broken.npz", "--env", "CartPole-v1"], "there is no display to open a window on"),
    (["plot", "none"], "none is not a folder"),
    (["plot", "."], ". holds no monitor.csv and no progress.csv")])
def test_errors_are_one_sentence(arguments, sentence):
    Path("broken.npz").write_text("nothing")
    message = call(*arguments)
    assert message.startswith("trpo-np: error: ") and sentence in message and "\n" not in message


@pytest.mark.parametrize("arguments",
                         [[], ["walk"], ["eval"], ["eval", "x", "--episodes", "0"], ["plot", "x", "--x", "y"],
                                       ["train", "--preset", "x"]])
def test_wrong_usage_ends_with_status_2(arguments, capsys):
    assert call(*arguments) == 2
    assert capsys.readouterr().err.startswith("usage: trpo-np")


# --- play ---------------------------------------------------------------------------------------------------

@pytest.mark.skipif(importlib.util.find_spec("moviepy") is None, reason="needs moviepy")
def test_play_records_a_video_of_each_episode(blocks, capsys):
    os.mkdir("videos")
    for name in ("old.mp4", "Blocks-v0-episode-0.mp4"):  # the second is replaced
        Path("videos", name).write_text("old")
        os.utime(f"videos/{name}", (5, 5))
    assert call("play", blocks, "--env", "trpo_np_test/Blocks-v0", "--video", "videos", "--episodes", 2) == 0
    names = ["Blocks-v0-episode-0.mp4", "Blocks-v0-episode-1.mp4"]
    assert sorted(os.listdir("videos")) == [*names, "old.mp4"]
    said = "return 5.00 in 5 steps\n" * 2 + f"recorded in videos: {', '.join(names)}\n"
    assert capsys.readouterr().out == said
    from moviepy import VideoFileClip
    for name in names:
        with VideoFileClip(f"videos/{name}") as clip:
            grey = [frame.mean() for frame in clip.iter_frames()]
            assert clip.size == [96, 64] and clip.fps == 10
            assert np.allclose(grey, [0, 40, 80, 120, 160, 200], atol=12)


def test_play_records_one_episode_unless_told_and_shows_one_after_the_other(blocks, monkeypatch):
    asked = []
    monkeypatch.setattr(jobs, "play", lambda policy, make_env, seed, episodes, *rest: asked.append(episodes))
    monkeypatch.setenv("DISPLAY", ":0")
    os.mkdir("v")
    for options in (["--video", "v"], ["--video", "v", "--episodes", 3], [], ["--episodes", 3]):
        assert call("play", blocks, "--env", "trpo_np_test/Blocks-v0", *options) == 0
    assert asked == [1, 3, None, 3]


def test_play_shows_episodes_in_a_window(blocks, capsys, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    Blocks.made.clear()
    assert call("play", blocks, "--env", "trpo_np_test/Blocks-v0", "--episodes", 3) == 0
    assert capsys.readouterr().out == "return 5.00 in 5 steps\n" * 3
    env, = Blocks.made
    assert env.render_mode == "human"


def test_play_goes_on_until_ctrl_c_which_is_no_error(blocks, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    real, closed = Blocks.reset, []

    def reset(self, **kwargs):
        if self.resets == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, **kwargs)
    monkeypatch.setattr(Blocks, "reset", reset)
    monkeypatch.setattr(Blocks, "close", lambda self: closed.append(self.resets))
    assert call("play", blocks, "--env", "trpo_np_test/Blocks-v0") == 0 and closed[0] == 7
    with pytest.raises(SystemExit) as caught:  # of a fixed number some are missing then
        monkeypatch.setattr(Blocks, "resets", 0, raising=False)
        cli.main(["play", blocks, "--env", "trpo_np_test/Blocks-v0", "--episodes", "20"])
    assert caught.value.code == 130
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_an_environment_that_cannot_be_drawn_is_named(blocks, monkeypatch):
    monkeypatch.setattr(Blocks, "render", lambda self: 1 / 0)
    message = call("play", blocks, "--env", "trpo_np_test/Blocks-v0", "--video", "v")
    assert "trpo_np_test/Blocks-v0 cannot be drawn here (division by zero)" in message
    assert not os.path.exists("v")


@pytest.mark.skipif(importlib.util.find_spec("moviepy") is None, reason="needs moviepy")
def test_recording_without_a_display_asks_mujoco_for_egl(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL")
    jobs.recorded(lambda **kwargs: envs.make_env("trpo_np_test/Blocks-v0", **kwargs), "v", 1).close()
    assert not sys.platform.startswith("linux") or os.environ["MUJOCO_GL"] == "egl"


# --- plot ---------------------------------------------------------------------------------------------------

def test_plot_draws_the_mean_over_seeds_and_says_where_it_ends(capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    from trpo_np.app import plots
    figures = []
    monkeypatch.setattr(plots, "draw", lambda *args, real=plots.draw: figures.append(real(*args))
                        or figures[-1])
    for name, rise in [("a_seed0", 1.0), ("a_seed1", 3.0), ("b_seed0", 0.0)]:
        write_monitor(f"runs/{name}/monitor.csv", [(rise * i, 10, i) for i in range(1, 101)])
    assert call("plot", "runs", "--out", "p.png", "--smooth", 1) == 0
    said = ("a: 200.00 (100.00 to 300.00) over 2 runs, at 1,000 steps\n"
            "b: 0.00, at 1,000 steps\ndrawn in p.png\n")
    assert capsys.readouterr().out == said
    assert png_size("p.png") == (1200, 750)
    line = figures[0].axes[0].lines[0]
    assert np.allclose(line.get_ydata(), line.get_xdata() / 5)  # the mean of i and 3 i at 10 i steps
    assert call("plot", "runs", "--x", "episodes", "--group", "all", "--smooth", 2) == 0
    assert "all runs: 132.67 (" in capsys.readouterr().out  # (0 + 99.5 + 298.5) / 3
    assert figures[1].axes[0].get_xlabel() == "episodes" and figures[1].axes[0].get_title() == "CartPole-v1"
    assert call("plot", "runs", "--x", "time", "--group", "none") == 0
    assert capsys.readouterr().out.count(", at 100 s\n") == 3
    assert call("plot", "runs", "--out",
                "none/p.png") == "trpo-np: error: none/p.png: No such file or directory"


# --- info ---------------------------------------------------------------------------------------------------

def test_info_describes_the_model(cartpole, capsys):
    assert call("info", cartpole) == 0
    out = capsys.readouterr().out
    text = re.sub(r"\s+", " ", out)
    model = TRPO.load(cartpole)
    mean = np.mean([total for total, _ in model.recent])
    for part in ("policy MlpPolicy, float32", 'arguments net_arch [{"pi": [16, 8], "vf": [12]}]',
                 "observation Box, 4 float32, from -inf to inf action Discrete, 2 values from 0",
                 "network pi 4 -> 16 -> 8 -> 2", "network vf 4 -> 12 -> 1", "steps 2,048",
                 f"updates 4, of which {model.skipped_updates} found no better policy",
                 f"episodes {model.episodes:,}, the last {len(model.recent)} with a mean return of "
                 f"{mean:.2f}", "seed 0", "timesteps_per_batch 512", "normalize_advantage true"):
        assert part in text, (part, out)
    for name, array in model.get_parameters().items():
        assert re.search(rf"^{name} +{' x '.join(map(str, array.shape))} +{array.size:,}$", out, re.M), name
    policy, critic = (sum(a.size for n, a in model.get_parameters().items() if n.startswith(part))
                      for part in ("pi", "vf"))
    assert re.search(rf"^policy +{policy}\ncritic +{critic}\nall +{policy + critic}$", out, re.M)
    assert max(map(len, out.splitlines()[1:])) <= 100


def test_info_needs_numpy_alone(cartpole):
    code = ("import sys\nfor name in ('gymnasium', 'numba', 'scipy', 'mpi4py', 'matplotlib'): "
            "sys.modules[name] = None\n"
            "from trpo_np import cli; cli.main(['info', sys.argv[1]])")
    done = subprocess.run([sys.executable, "-c", code, cartpole], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "network pi   4 -> 16 -> 8 -> 2" in done.stdout, done.stderr


@pytest.mark.parametrize("space, text", [
    (gymnasium.spaces.Box(-2.5, 3, (2, 3), np.float32), "Box, 2 x 3 float32, from -2.5 to 3"),
    (gymnasium.spaces.Discrete(5, start=-2), "Discrete, 5 values from -2"),
    (gymnasium.spaces.MultiDiscrete([2, 3]), "MultiDiscrete, 2 of 2, 3 values"),
    (gymnasium.spaces.MultiBinary((2, 4)), "MultiBinary, 2 x 4"),
    (gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2), "b": gymnasium.spaces.MultiBinary(3)}),
     "Dict of a: Discrete, 2 values from 0; b: MultiBinary, 3")])
def test_outline(space, text):
    from trpo_np import spaces
    assert info.outline(spaces.from_json(spaces.describe(space).to_json())) == text


def test_networks_of_images_and_sequences():
    shapes = {"pi/conv0/w": (8, 8, 4, 32), "pi/conv0/b": (32,), "pi/fc/w": (3136, 512), "pi/out/w": (512, 6)}
    weights = {name: np.zeros(shape) for name, shape in shapes.items()}
    assert info.networks(weights) == {"pi": "4 -> 32 (8 x 8) -> 512 -> 6"}
    model = TRPO("MlpLstmPolicy", "CartPole-v1", policy_kwargs=dict(n_lstm=8, layers=[16]))
    assert info.networks(model.policy.params)["pi"] == "4 -> 16 -> 8 (LSTM) -> 2"


def test_info_says_what_is_normalised(capsys):
    TRPO("MlpPolicy", "CartPole-v1", normalize_observations=True).save("normalised")
    assert call("info", "normalised") == 0
    assert "from -inf to inf, normalised" in " ".join(capsys.readouterr().out.split())


def test_info_refuses_what_is_no_model_and_shows_no_control_characters(cartpole, capsys):
    archive.write_archive("data.npz", {"x": np.zeros(3)}, {"a": 1})
    assert call("info",
                "data.npz").startswith("trpo-np: error: data.npz is an archive, but not of a model (KeyError")
    meta, arrays = archive.read_archive(cartpole)
    evil = "\x1b]0;title\x07\r"
    meta["policy"]["class"] = meta["env_id"] = evil
    meta["policy"]["kwargs"] = meta["algorithm"] = {evil: evil}
    archive.write_archive("evil.npz", arrays, meta)
    assert call("info", "evil.npz") == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())
    for key in ("policy", "progress", "algorithm"):
        archive.write_archive("odd.npz", arrays, meta | {key: 7})
        assert "not of a model" in call("info", "odd.npz")


# --- the command --------------------------------------------------------------------------------------------

def test_help_of_each_command_teaches_each_option_and_its_default():
    parser = cli.parser()
    check_help(parser)
    commands = next(action for action in parser._actions if hasattr(action, "choices") and action.choices)
    assert list(commands.choices) == ["train", "atari", "sweep", "eval", "play", "plot", "report", "convert",
                                      "info", "export"]
    for name, sub in commands.choices.items():
        check_help(sub)
        assert len(sub.description) > 60 and name in parser.format_help()
        for action in sub._actions:
            assert action.help, (name, action)


def test_help_does_not_wait_for_numpy():
    code = ("import sys; from trpo_np import cli\ntry: cli.main(sys.argv[1:])\n"
            "finally: print({'numpy', 'gymnasium', 'numba', 'matplotlib', 'argparse'} & set(sys.modules))")
    for arguments in (["--help"], ["plot", "--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True,
                              cwd=ROOT)
        assert done.returncode == 0 and done.stdout.endswith("{'argparse'}\n"), done.stderr


def test_the_module_is_the_command(cartpole):
    done = subprocess.run([sys.executable, "-m", "trpo_np.cli", "info", cartpole], capture_output=True,
                          text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.startswith(cartpole)
    done = subprocess.run([sys.executable, "-m", "trpo_np.cli", "eval", "none"], capture_output=True,
                          text=True, cwd=ROOT)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("trpo-np: error: none: no archive")


def test_a_reader_that_has_had_enough_gets_no_traceback(cartpole):
    command = f"{sys.executable} -m trpo_np.cli info {cartpole} | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ""


# --- python -m trpo_np --------------------------------------------------------------------------------------

def test_the_package_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "trpo_np", "--version"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and done.stdout.startswith("trpo-np ")


def test_train_reads_a_config():
    Path("job.json").write_text('{"env": "CartPole-v1", "num-timesteps": 0, "lam": 0.5, "save": "m",'
                                ' "eval_episodes": 0}')
    assert call("train", "--config", "job.json", "--gamma", "0.9") == 0
    settings = archive.read_archive("m.npz")[0]["algorithm"]
    assert (settings["lam"], settings["gamma"]) == (0.5, 0.9)


# --- export -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("to, begins", [("c", "/*\n * out"), ("py", '"""A policy'), ("json", '{"format"'),
                                        ("html", "<!doctype html>")])
def test_export_writes_a_policy_for_another_language(cartpole, to, begins, capsys):
    assert call("export", cartpole, "--to", to, "-o", "out.x") == 0
    assert Path("out.x").read_text().startswith(begins)
    said = capsys.readouterr().out
    assert "observation  4 numbers" in said and re.search(r"file +out.x, [\d,]+ bytes", said)


def test_export_says_what_smaller_weights_cost(cartpole, capsys):
    assert call("export", cartpole, "--to", "c", "-o", "small.h", "--weights", "int8") == 0
    assert re.search(r"error +[\d.e-]+ at most in 100 steps.*int8", capsys.readouterr().out)
    assert "small_init" in Path("small.h").read_text()


def test_export_writes_over_no_model_and_names_c_by_letters(cartpole, capsys):
    shutil.copy(cartpole, "2 big-steps.npz")
    assert "is the model itself; name another file" in call("export", "2 big-steps.npz", "--to", "json", "-o",
                                                           "2 big-steps.npz")
    assert call("export", "2 big-steps.npz", "--to", "c") == 0
    assert "_2_big_steps_step" in open("_2_big_steps.h").read()


def test_export_refuses_with_a_sentence(cartpole):
    assert "the target is 'tf'; it can be 'c'" in call("export", cartpole, "--to", "tf", "-o", "out")
    assert "no identifier of C" in call("export", cartpole, "--to", "c", "-o", "1.h")
    assert "cannot save" in call("export", cartpole, "--to", "c", "-o", f"{cartpole}/out.h")


def test_info_and_export_read_a_file_without_training(cartpole, capsys):
    TRPO.load(cartpole).save("small", training=False)
    assert call("info", "small") == 0
    assert "not in the file, nor what training needs" in capsys.readouterr().out
    assert call("export", "small.npz", "-o", "small.py") == call("export", "small", "--to", "c") == 0
    assert Path("small.py").exists() and Path("small.h").exists()
    assert "the target is ''" in call("export", "small")
