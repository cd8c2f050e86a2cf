"""The page: its JavaScript acts as `predict` does, and a browser shows it."""

import json
import re
import shutil
import subprocess

import gymnasium
import numpy as np
import pytest
from exports import (
    CASES,
    FIELDS,
    MIXED,
    SAME,
    difference,
    far_model,
    many,
    model_of,
    observations,
    predicted,
    starts_of,
)
from gymnasium import spaces, wrappers
from toys import OBS

from trpo_np import TRPO, deploy
from trpo_np.deploy import steps

NODE, CHROMIUM = shutil.which("node"), shutil.which("chromium") or shutil.which("google-chrome")
needs_node = pytest.mark.skipif(not NODE, reason="node is not installed")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="neither chromium nor google-chrome is installed")

HARNESS = """
const record = JSON.parse(require("fs").readFileSync(process.argv[2], "utf8"));
const memory = new Float32Array(policy.memory);
if (!(selftest() < 1e-5)) process.exit(3);
console.log(JSON.stringify(record.map(({start, ...obs}) => {
  if (start) memory.fill(0);
  const out = outputs(obs, memory);
  return [...out, ...act(out)];
})));
"""


def page(model, folder):
    path = model.save(folder / "model")
    deploy.export(path, folder / "policy.html", "html", policy_kwargs=model.policy_kwargs)
    return (folder / "policy.html").read_text()


def ran(text, folder, program, rows, starts):
    """Run the part of the page that needs no browser; return outputs and actions."""
    record, script = re.findall(r"<script.*?>\n?(.*?)</script>", text, re.DOTALL)
    head = f"const document = {{getElementById: () => ({{textContent: {json.dumps(record)}}})}};\n"
    (folder / "page.js").write_text(head + script[:script.index("// --- two tasks")] + HARNESS)
    cases = [{"start": bool(start), **{field.name: row[field.start:field.stop].tolist()
                                       for field in program.fields}} for row, start in zip(rows, starts)]
    (folder / "cases.json").write_text(json.dumps(cases))
    done = subprocess.run([NODE, folder / "page.js", folder / "cases.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    k = program.outputs.shape[0]
    found = np.array(json.loads(done.stdout))
    return found[:, :k], found[:, k:]


def check(model, folder, n):
    policy, program = model.policy, steps.describe(model.policy)
    rows, starts = observations(program, policy, n), starts_of(n)
    ours = predicted(program, policy, rows, starts)
    worst = difference(policy, ours, ran(page(model, folder), folder, program, rows, starts))
    assert worst < 1e-5
    return worst


@needs_node
@pytest.mark.parametrize("name, kind, obs", [
    *((*case, None) for case in CASES), ("MlpPolicy", "integers", FIELDS), ("CnnPolicy", "Box", MIXED)])
def test_the_script_acts_as_predict(name, kind, obs, tmp_path):
    n = 10_000 if name == "MlpPolicy" and not obs else 20 if name.startswith("Cnn") else 100
    check(model_of(name, kind, obs=obs), tmp_path, n)


@needs_node
def test_what_float32_cannot_hold_of_an_observation_counts(tmp_path):
    check(far_model(), tmp_path, 50)


@needs_node
def test_windows_that_reach_over_the_border(tmp_path):
    check(model_of("CnnPolicy", "MultiBinary", cnn_extractor=SAME), tmp_path, 20)


@needs_node
@pytest.mark.slow
@pytest.mark.parametrize("name, kind", CASES)
def test_many_observations_of_each(name, kind, tmp_path):
    print(f"{name}, {kind}: largest difference {check(model_of(name, kind), tmp_path, many(name)):.1e}")


def test_a_name_in_the_file_cannot_leave_the_record(tmp_path):
    name = "</script><script>alert(1)</script>"
    for model in (model_of("MlpPolicy", env_id=name), model_of("MlpPolicy", obs=spaces.Dict({name: OBS}))):
        text = page(model, tmp_path)
        assert text.count("</script>") == 2 and "alert(1)</" not in text


def flipped(env):
    return wrappers.TransformAction(env, lambda action: 2 - action, spaces.Discrete(2, start=1))


@pytest.mark.parametrize("env_id, wrap, task", [
    ("CartPole-v1", None, "CartPole"), ("Pendulum-v1", None, "Pendulum"), ("Acrobot-v1", None, ""),
    ("CartPole-v1", lambda env: wrappers.FrameStackObservation(env, 2), ""),
    ("CartPole-v1", lambda env: wrappers.DtypeObservation(env, np.float64), "CartPole"),
    ("CartPole-v1", wrappers.NormalizeObservation, ""), ("CartPole-v1", flipped, ""),
    ("Pendulum-v1", lambda env: wrappers.RescaleAction(env, -1.0, 1.0), ""),
    ("Pendulum-v1", lambda env: wrappers.RescaleObservation(env, np.float32(-1), np.float32(1)), ""),
    ("Pendulum-v1", wrappers.TimeAwareObservation, "")])
def test_the_task_is_drawn_only_where_observations_and_actions_are_its_own(env_id, wrap, task, tmp_path):
    env = gymnasium.make(env_id)
    text = page(TRPO("MlpPolicy", wrap(env) if wrap else env, seed=0), tmp_path)
    assert f'const task = tasks["{task}"];' in text


def test_a_policy_of_another_task_of_a_name_that_begins_alike_is_not_drawn(tmp_path):
    model = TRPO("MlpPolicy", "CartPole-v1", seed=0)
    for env_id, task in [("CartPole-v1", "CartPole"), ("CartPoleSwingUp-v0", ""), ("mine:CartPole-v1", "")]:
        model.env_id = env_id
        assert f'const task = tasks["{task}"];' in page(model, tmp_path)


@needs_browser
@pytest.mark.parametrize("env_id, low, high", [
    ("CartPole-v1", 8, 500), ("Pendulum-v1", -2500, -1), (None, 0, 0)])
def test_a_browser_shows_it(env_id, low, high, tmp_path):
    page(TRPO("MlpPolicy", env_id, seed=0) if env_id else model_of("MlpLstmPolicy"), tmp_path)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000",
               f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tmp_path / 'policy.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = re.search(r'id="test">Self-test: largest error (\S+)\.(?: Mean return of 10 episodes: (\S+)\.)?<',
                     done.stdout)
    assert said and float(said[1]) < 1e-5
    assert re.search(r'id="now">(step \d+, return \S+, )?action [-\d.]+', done.stdout)
    assert (said[2] is None) == (env_id is None) and low <= float(said[2] or 0) <= high
