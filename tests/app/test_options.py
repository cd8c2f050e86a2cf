"""Options of the command line: every setting of TRPO, from words or from a file."""

import argparse
import inspect
import sys
from pathlib import Path

import gymnasium
import pytest
from outputs import options_table

from trpo_np import TRPO, load_policy, run_atari, run_mujoco
from trpo_np.app import jobs, options
from trpo_np.files import archive
from trpo_np.presets import tuned
from trpo_np.settings import FIELDS, LinearSchedule

SHORT = ["--env", "CartPole-v1", "--num-timesteps", "512", "--timesteps-per-batch", "256",
         "--eval-episodes", "0"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def parse(*words):
    p = argparse.ArgumentParser()
    options.add_settings(p, ["MlpPolicy", "MlpLstmPolicy"])
    return p.parse_args([str(word) for word in words])


def refusal(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        parse(*words)
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def settings(path):
    return archive.read_archive(path)[0]["algorithm"]


# --- one option for each argument ---------------------------------------------------------------------------

def test_every_argument_of_trpo_is_an_option():
    elsewhere = {"self", "policy", "env", "verbose", "tensorboard_log", "policy_kwargs", "seed", "comm",
                 "others"}
    assert set(inspect.signature(TRPO.__init__).parameters) - elsewhere == FIELDS.keys()
    chosen = {"dtype": "float64", "batch_of": "job"}
    values = dict.fromkeys(FIELDS, "0.5") | chosen
    values |= {name: "7" for name, item in FIELDS.items() if item.type is int}
    words = []
    for name, item in FIELDS.items():
        flag = "--" + name.replace("_", "-")
        words += [flag] if item.type is bool else [flag, values[name]]
    given = options.given_settings(parse(*words))
    assert given == {name: True if item.type is bool else 7 if item.type is int else 0.5
                     for name, item in FIELDS.items()} | chosen
    assert TRPO("MlpPolicy", None, **given).cg_iters == 7


def test_the_guide_shows_every_option():
    page = Path(options.__file__).parents[1] / "docs" / "options.md"
    table = options_table(jobs.parser(run_mujoco.PROG, "", **run_mujoco.OPTIONS))
    assert page.read_text().endswith(table), "write it anew by tests/outputs.py"
    for name in FIELDS:
        assert f"`--{name.replace('_', '-')}" in table


def test_what_is_not_given_stays_as_the_preset_says():
    assert options.given_settings(parse()) == {}
    assert options.replace(tuned("Hopper-v5"), parse()) == tuned("Hopper-v5")


def test_given_settings_replace_those_of_the_preset():
    args = parse("--max-kl", "0.03:0.001", "--no-normalize-rewards", "--net-arch", "32,16", "--policy-kwargs",
                 "act_fun=relu", "log_std_init=-1")
    preset = tuned("Hopper-v5")
    assert options.replace(preset, args) == preset | {
        "max_kl": LinearSchedule(0.03, 0.001), "normalize_rewards": False,
        "policy_kwargs": {"net_arch": [{"pi": [32, 16], "vf": [32, 16]}], "act_fun": "relu",
                          "log_std_init": -1}}


def test_arguments_of_the_policy_are_those_of_the_preset_and_the_given_ones():
    preset = {"gamma": 0.9, "policy_kwargs": {"log_std_init": -0.5, "act_fun": "tanh"}}
    assert options.replace(preset, parse("--policy-kwargs", "act_fun=relu")) == {
        "gamma": 0.9, "policy_kwargs": {"log_std_init": -0.5, "act_fun": "relu"}}


@pytest.mark.parametrize("words, policy_kwargs", [
    (["--policy-kwargs", "layers=[8, 4]"], {"layers": [8, 4], "act_fun": "relu"}),
    (["--net-arch", "8"], {"net_arch": [{"pi": [8], "vf": [8]}], "act_fun": "relu"})])
@pytest.mark.parametrize("preset", [{"net_arch": [5]}, {"layers": [5]}])
def test_given_layers_replace_those_of_the_preset_by_either_name(preset, words, policy_kwargs):
    preset = {"policy_kwargs": preset | {"act_fun": "relu"}}
    assert options.replace(preset, parse(*words)) == {"policy_kwargs": policy_kwargs}


def test_normalize_sets_both_and_the_single_ones_count_more():
    args = parse("--normalize", "--no-normalize-rewards")
    assert options.given_settings(args) == {"normalize_observations": True, "normalize_rewards": False}


def test_no_widths_are_a_linear_policy():
    args = parse("--net-arch", "")
    model = TRPO("MlpPolicy", "CartPole-v1", **options.replace({}, args))
    assert model.policy.params["pi/out/w"].shape == (4, 2)


@pytest.mark.parametrize("words, said", [
    (("--max-kl", "a"), "argument --max-kl: 'a' is not a number"),
    (("--max-kl", "0.1:0.2:0.3"), "'0.1:0.2:0.3' is not a number, nor a schedule such as 0.03:0.001"),
    (("--max-kl", "inf"), "'inf' is not a number"),
    (("--cg-iters", "2.5"), "'2.5' is not a whole number"),
    (("--net-arch", "64,,8"), "'64,,8' is not a list of layers' widths such as 64,64"),
    (("--net-arch", "64,0"), "is not a list of layers' widths"),
    (("--net-arch", "lstm,lstm"), "is not a list of layers' widths"),
    (("--policy-kwargs", "relu"), "'relu' is not NAME=VALUE"),
    (("--policy", "CnnPolicy"), "invalid choice: 'CnnPolicy'"),
    (("--conf", "x.json"), "write --config x.json, not a shorter word")])
def test_a_value_that_cannot_be_read_is_refused(capsys, words, said):
    assert said in refusal(capsys, *words)


def test_a_value_out_of_range_is_refused_as_by_trpo():
    with pytest.raises(ValueError, match="gamma is 1.5; a number from 0 to 1 is needed"):
        run_mujoco.work([*SHORT, "--gamma", "1.5"])


# --- whole jobs ---------------------------------------------------------------------------------------------

def test_a_job_from_options_and_one_from_its_own_config_are_equal(capsys):
    run_mujoco.work([*SHORT, "--max-kl", "0.03:0.001", "--net-arch", "8,lstm", "--lam", "0.9", "--seed", "3",
                     "--policy", "MlpLstmPolicy", "--policy-kwargs", "n_lstm=4", "--num-envs", "2",
                     "--save", "a", "--log-dir", "logs"])
    assert "max_kl LinearSchedule(start=0.03, end=0.001)" in " ".join(capsys.readouterr().out.split())
    run_mujoco.work(["--config", "logs/config.json", "--save", "b", "--eval-episodes", "0"])
    assert open("a.npz", "rb").read() == open("b.npz", "rb").read()
    stored = settings("b")
    assert (stored["lam"], stored["max_kl"]) == (0.9, {"linear": [0.03, 0.001]})


def test_a_job_from_the_config_of_a_job_with_another_preset_is_equal():
    """The preset of the default would give the policy a spread that the other leaves alone."""
    words = ["--num-timesteps", "64", "--timesteps-per-batch", "64", "--eval-episodes", "0"]
    run_mujoco.work([*words, "--env", "Pendulum-v1", "--preset", "baselines", "--save", "a",
                     "--log-dir", "logs"])
    run_mujoco.work(["--config", "logs/config.json", "--save", "b", "--eval-episodes", "0"])
    assert open("a.npz", "rb").read() == open("b.npz", "rb").read()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
def test_a_config_may_be_toml_and_the_command_line_counts_more():
    with open("job.toml", "w") as file:
        file.write('env = "CartPole-v1"\nnum-timesteps = 512\nlam = 0.9\ngamma = 0.9\nmax_kl = "0.02:0.01"\n'
                   'timesteps_per_batch = 256\neval_episodes = 0\nnormalize = false\nresume = true\n'
                   'net-arch = [8, 4]\n')
    run_mujoco.work(["--gamma", "0.5", "--config=job.toml", "--save", "m"])
    found = settings("m")
    assert (found["lam"], found["gamma"], found["max_kl"]) == (0.9, 0.5, {"linear": [0.02, 0.01]})
    assert load_policy("m").params["pi/fc1/w"].shape == (8, 4)


@pytest.mark.parametrize("text, said", [
    ("[1]", r"holds \[1\]; options by name are needed"),
    ("{lam: 1}", "job.json is not a file of options"),
    ('{"lamb": 1}', None)])
def test_a_config_that_is_none_is_refused(capsys, text, said):
    with open("job.json", "w") as file:
        file.write(text)
    if said:
        with pytest.raises(ValueError, match=said):
            run_mujoco.work(["--config", "job.json"])
        return
    with pytest.raises(SystemExit):
        run_mujoco.work(["--config", "job.json"])
    assert "unrecognized arguments: --lamb=1" in capsys.readouterr().err


def test_a_loaded_model_takes_the_given_settings_and_no_other_policy(capsys):
    run_mujoco.work([*SHORT, "--save", "m", "--net-arch", "8"])
    run_mujoco.work([*SHORT, "--load", "m", "--num-timesteps", "1000", "--lam", "0.7", "--net-arch", "8",
                     "--save", "n"])
    said = " ".join(capsys.readouterr().out.split())
    assert "its own settings, but timesteps_per_batch 256, lam 0.7" in said
    assert settings("n")["lam"] == 0.7
    with pytest.raises(ValueError, match="--policy MlpLstmPolicy does not fit m, which holds a MlpPolicy"):
        run_mujoco.work([*SHORT, "--load", "m", "--policy", "MlpLstmPolicy"])
    with pytest.raises(ValueError, match="act_fun 'relu' does not fit m, whose network was made with the d"):
        run_mujoco.work([*SHORT, "--load", "m", "--policy-kwargs", "act_fun=relu"])
    with pytest.raises(ValueError, match="normalize_observations cannot be True"):
        run_mujoco.work([*SHORT, "--load", "m", "--normalize"])


def test_arguments_of_the_environment_reach_it_and_an_unknown_one_is_refused():
    seen = []

    class Env(gymnasium.envs.classic_control.CartPoleEnv):
        def __init__(self, gain=1.0, **kwargs):
            seen.append(gain)
            super().__init__(**kwargs)
    gymnasium.register("trpo_np_test/Options-v0", Env)
    words = ["--env", "trpo_np_test/Options-v0", "--num-timesteps", "0", "--eval-episodes", "0",
             "--env-kwargs"]
    run_mujoco.work([*words, "gain=2.5"])
    assert seen == [2.5]
    with pytest.raises(ValueError, match="trpo_np_test/Options-v0 takes no argument 'speed'"):
        run_mujoco.work([*words, "speed=1"])


def test_the_settings_of_a_game_are_arguments_of_its_environment(monkeypatch):
    seen = []
    monkeypatch.setattr(jobs, "run", lambda args, *rest, **kw: seen.append((args, *rest)) or 0)
    run_atari.work(["--env", "Pong", "--env-kwargs", "sticky=0.25", "--network", "nature_cnn", "--lam", "1"])
    args, _, policy, preset, _, about = seen[0]
    assert dict(args.env_kwargs)["sticky"] == 0.25 and "sticky 0.25" in about
    assert (policy, preset["lam"]) == ("CnnPolicy", 1.0)
    assert preset["policy_kwargs"]["cnn_extractor"] == "nature_cnn"
    with pytest.raises(ValueError, match="speed is not a setting of an Atari environment"):
        run_atari.work(["--env", "Pong", "--env-kwargs", "speed=2"])
