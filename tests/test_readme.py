"""The documentation runs: every block of code, every link, and the figures that README.md states.

A page's Python blocks run one after the other, in one namespace and an empty folder. Two things are changed
to make them quick: `learn` gets SHORT steps, and what follows a window (render_mode="human") is left out. The
commands of shell blocks are checked, not run: options by their own parsers, files and extras by looking.
"""

import argparse
import configparser
import importlib.util
import io
import itertools
import re
import runpy
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from toys import Counting

from trpo_np import TRPO, atari, cli, run_atari, run_mujoco
from trpo_np.app import jobs
from trpo_np.comm import OneProcess

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "trpo_np/README.md", ROOT / "bench/README.md", ROOT / "tests/README.md",
         *sorted((ROOT / "trpo_np/docs").glob("*.md"))]
SHORT = 256
# packages that a page's Python blocks need beside those of training
NEEDS = {"atari": "ale_py", "converting": "stable_baselines3"}
OF_A_BLOCK = ("wandb", "mlflow", "optuna")  # a block that imports one of these runs where it is installed


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page):
    """Return (line, language, text) of each block between fences."""
    found, start, language, text = [], 0, "", []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("```"):
            text.append(line)
        elif start:
            found.append((start, language, "\n".join(text)))
            start = 0
        else:
            start, language, text = number, line[3:].strip(), []
    assert not start, f"{name_of(page)}:{start}: the block has no end"
    return found


def of(page, language):
    return [(line, text) for line, kind, text in blocks(page) if kind == language]


def pages_with(language):
    return [pytest.param(page, id=name_of(page)) for page in PAGES if of(page, language)]


# --- Python -----------------------------------------------------------------------------------------------

def shortened(code):
    """Replace the steps of `learn` by SHORT ones; leave out what needs a window."""
    code = re.sub(r"(learn\((?:total_timesteps=)?)[\d_]+", rf"\g<1>{SHORT}", code)
    kept = code.splitlines()
    windows = [i for i, line in enumerate(kept) if 'render_mode="human"' in line]
    return "\n".join(kept[:windows[0]] if windows else kept)


@pytest.mark.parametrize("page", pages_with("python"))
def test_python_blocks_run(page, tmp_path, monkeypatch):
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    names = {"__name__": "page"}
    for line, code in of(page, "python"):
        needed = [name for name in OF_A_BLOCK if f"import {name}\n" in code]
        if not all(map(importlib.util.find_spec, needed)):
            continue
        where = "\n" * line + shortened(code)  # an error then names the page's own line
        exec(compile(where, str(page), "exec"), names)


def test_the_ten_lines_run_up_to_the_window(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [code] = [code for _, code in of(ROOT / "README.md", "python") if "# remove to demonstrate" in code]
    names = {}
    exec(shortened(code), names)
    assert names["model"].num_timesteps == 1024  # one whole batch
    assert (tmp_path / "trpo_cartpole.npz").exists()
    assert "env.render" in code and "env.render" not in shortened(code)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("normalize", [False, True])
def test_the_predictor_of_the_guide_predicts_as_the_model_does(env_id, normalize, tmp_path):
    model = TRPO("MlpPolicy", env_id, normalize_observations=normalize, timesteps_per_batch=64, seed=0)
    model.learn(64)
    model.policy.params["pi/out/w"][...] *= 100
    names = {}
    [(_, code)] = of(ROOT / "trpo_np/docs/file_format.md", "python")
    exec(code, names)
    act, env = names["load"](model.save(tmp_path / "model")), gymnasium.make(env_id)
    obs, _ = env.reset(seed=0)
    for _ in range(20):
        action = model.predict(obs, deterministic=True)[0]
        np.testing.assert_allclose(act(obs), action, rtol=1e-4, atol=1e-5)
        obs = env.step(action)[0]


def test_the_predictor_of_the_guide_sees_as_much_of_float64_as_the_model(tmp_path):
    model = TRPO("MlpPolicy", Counting(), normalize_observations=True, seed=0)
    model.policy.params["pi/out/w"][...] *= 100
    rows = np.array([1.7e9, 0.3]) + np.random.default_rng(0).standard_normal((20, 2)) * [1, 1e-7]
    model.policy.normalizer.merge(rows * [1, 0] + [0, 0.3], OneProcess())  # the second number: a constant
    names = {}
    [(_, code)] = of(ROOT / "trpo_np/docs/file_format.md", "python")
    exec(code, names)
    act = names["load"](model.save(tmp_path / "model"))
    for row in rows:
        np.testing.assert_allclose(act(row), model.predict(row, deterministic=True)[0], rtol=1e-4, atol=1e-5)
    assert abs(act(rows[0]) - act(rows[1])).max() > 0.01


# --- shell ------------------------------------------------------------------------------------------------

def commands(text):
    """Return the words of each command of a shell block, without comments, launchers and variables."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        for is_end, group in itertools.groupby(lexer, lambda word: word in ("&&", ";", "|")):
            words = list(itertools.dropwhile(re.compile(r"\w+=\S*$").match, group))
            if words and words[0] in ("mpiexec", "mpirun", "srun"):
                words = words[words.index("python"):]
            if words and not is_end:
                found.append(words)
    return found


def complaint(words):
    """Return why a command would not work, or None; a KeyError if no check knows it."""
    if words[0] == "python" and words[1] == "-m":
        return PROGRAMS[f"python -m {words[2]}"](words[3:])
    if words[0] == "python" and words[1] == "-c":
        compile(words[2], "-c", "exec")
        return None
    if words[0] == "python":
        return script(words[1:])
    return PROGRAMS[words[0]](words[1:])


def parsed(parser, words):
    """Parse options as the program does; return what the parser says of wrong ones."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            args = parser.parse_args(words)
    except SystemExit:
        return said.getvalue()
    env_id = getattr(args, "env", None)
    if env_id and env_id not in gymnasium.registry and not known_game(env_id):
        return f"there is no environment {env_id}"
    return None


def known_game(name):
    return importlib.util.find_spec("ale_py") is None or atari.is_atari(name)


def training(program):
    def check(words):
        parser = jobs.parser(program.PROG, program.DESCRIPTION, **program.OPTIONS)
        return parsed(parser, words)
    return check


def games(words):
    parser = argparse.ArgumentParser()
    run_atari.add_options(parser)
    return parsed(parser, words)


def pip(words):
    """Check that each extra of this package that is to be installed is one."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    asked = re.findall(r"(?:\.|trpo_np)\[(.*?)\]", " ".join(words))
    unknown = {extra for extras in asked for extra in extras.split(",")} - {*config["options.extras_require"]}
    return f"setup.cfg has no extra {sorted(unknown)}" if unknown or words[0] != "install" else None


def pytest_options(words):
    """Parse the options by pytest itself, and look for the files."""
    lost = [word for word in words if word.endswith(".py") and not (ROOT / word).exists()]
    command = [sys.executable, "-m", "pytest", *words, "--markers"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return f"there is no {lost[0]}" if lost else done.stderr if done.returncode else None


class Parsed(Exception):
    """A bench script has parsed its options."""


def script(words):
    """Run a script of bench/ up to where its options are parsed."""
    def stop():
        raise Parsed
    path, said = ROOT / words[0], io.StringIO()
    if not path.exists():
        return f"there is no {words[0]}"
    before = sys.argv, sys.path[:]
    sys.argv, sys.path[:0] = [str(path), *words[1:]], [str(path.parent)]
    import _timing

    real, _timing.machine = _timing.machine, stop
    try:
        with redirect_stderr(said), redirect_stdout(said):
            runpy.run_path(str(path), run_name="__main__")
    except Parsed:
        return None
    except SystemExit:
        pass
    finally:
        _timing.machine, (sys.argv, sys.path[:]) = real, before
    return said.getvalue() or f"{words[0]} does not parse its options"


PROGRAMS = {
    "python -m trpo_np.run_mujoco": training(run_mujoco), "python -m trpo_np.run_atari": games,
    "python -m pytest": pytest_options, "trpo-np": lambda words: parsed(cli.parser(), words), "pip": pip,
    "export": lambda words: None, "cd": lambda words: None}


@pytest.mark.parametrize("page", pages_with("bash"))
def test_shell_commands_are_understood(page):
    found = 0
    for line, text in of(page, "bash"):
        read = subprocess.run(["bash", "-n"], input=text, text=True)
        assert read.returncode == 0, f"{name_of(page)}:{line}"
        for words in commands(text):
            wrong = complaint(words)
            assert wrong is None, f"{name_of(page)}:{line}: {shlex.join(words)}: {wrong}"
            found += 1
    assert found


@pytest.mark.parametrize("command, said", [
    ("python -m trpo_np.run_mujoco --env HalfCheetah-v4 --sead 0", "unrecognized arguments: --sead"),
    ("python -m trpo_np.run_mujoco --env HalfCheater-v4", "there is no environment HalfCheater-v4"),
    ("python -m trpo_np.run_atari --preset best", "invalid choice: 'best'"),
    ("mpiexec -n 2 python -m trpo_np.run_mujoco --steps", "unrecognized arguments: --steps"),
    ("trpo-np walk", "invalid choice: 'walk'"), ("trpo-np plot", "the following arguments are required"),
    ("pip install '.[mujoko]'", "setup.cfg has no extra ['mujoko']"),
    ("python bench/nothing.py", "there is no bench/nothing.py"),
    ("python bench/learn.py --goals x", "unrecognized arguments: --goals x"),
    ("A=1 python -m pytest --no-such-option", "unrecognized arguments: --no-such-option"),
    ("python -m pytest tests/test_nothing.py", "there is no tests/test_nothing.py")])
def test_a_wrong_command_is_seen(command, said):
    [words] = commands(command)
    assert said in complaint(words)


@pytest.mark.parametrize("command", ["rm -rf /", "python -m http.server"])
def test_a_command_that_no_check_knows_is_an_error(command):
    [words] = commands(command)
    with pytest.raises(KeyError):
        complaint(words)


# --- everything else --------------------------------------------------------------------------------------

@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_has_a_language_that_a_test_runs(page):
    for line, language, _ in blocks(page):
        assert language in ("python", "bash"), f"{name_of(page)}:{line}: no test runs a block in {language!r}"


def anchors(page):
    """Return the places that a link to a page can name, as GitHub makes them from its headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        aim = page.parent / path if path else page
        assert aim.exists(), f"{name_of(page)} links to {target}"
        assert not anchor or anchor in anchors(aim), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"(?:tests|bench|trpo_np)/[\w/]+(?:\.py|\.md|/)", text):
        assert (ROOT / path).exists(), f"{name_of(page)} names {path}"


def test_a_newcomer_finds_the_two_commands():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 125  # what is behind stands in trpo_np/docs/
    [train] = [line for line in lines if "pip install" in line and "-m trpo_np.run_mujoco" in line]
    assert train.startswith("pip install '.[mujoco]' && python -m trpo_np.run_mujoco --env HalfCheetah-v4")
    assert any(re.match(r" *pip install .*pytest", line) for line in lines)  # .ci/run looks for this line


@pytest.fixture
def measured(monkeypatch):
    """bench/report.py, and what it finds beside the peer on the newest machine."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import report

    lines = report.read()
    newest = report.newest_machine(lines)["cpu"]
    return report, report.pairs([line for line in report.latest(lines) if report.cpu(line) == newest])


def test_the_figures_of_the_readme_are_the_latest_measured(measured):
    report, pairs = measured
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    stated = re.findall(r"^\| (.*?) \| (?:[\d.]+ s, )?([\d.]+) times as (fast|soon)(, at least)? \|", text,
                        re.MULTILINE)
    times = report.time_to_score.table([line for line in report.latest(report.read())
                                        if line["stem"] == "time_to_score" and not line["to_the_end"]])
    found = {f"until a {env.split('-')[0]} policy earns {float(goal):,.0f}, on two cores": beside
             for env, goal, program, *_, beside in times[1:] if program == report.time_to_score.SUBPROC}
    [predict] = [pair.ratio for pair in pairs if pair.label == "predict, 17-64-64-6"]
    found["`predict` on one observation"] = f"{predict} x"
    assert len(stated) == 3
    for what, figure, _, least in stated:
        assert found[what].startswith("more than ") == bool(least), what
        assert float(figure) == pytest.approx(float(re.search(r"[\d.]+", found[what])[0]), rel=0.1), what


def test_the_table_for_a_person_is_made_of_the_latest_raw_lines(measured):
    """If this fails, run `python bench/report.py`."""
    report, found = measured
    assert report.for_a_person(found) in (ROOT / "bench/README.md").read_text(encoding="utf-8")


def test_the_guide_travels_with_the_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = config["options.package_data"]["trpo_np"].split()
    shipped = {path for pattern in patterns for path in (ROOT / "trpo_np").glob(pattern)}
    assert {page for page in PAGES if ROOT / "trpo_np" in page.parents} <= shipped
