"""The file of Python: it predicts as the policy does, where there is nothing but NumPy."""

import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
from exports import (
    CASES,
    FIELDS,
    MIXED,
    difference,
    far_model,
    many,
    model_of,
    observations,
    predicted,
    starts_of,
)
from gymnasium import spaces

from trpo_np import deploy
from trpo_np.deploy import samples, steps


def exported(model, folder):
    deploy.export(model.save(folder / "model"), folder / "policy.py", "py")
    return runpy.run_path(str(folder / "policy.py"))


def check(model, folder, n):
    names, policy = exported(model, folder), model.policy
    program = steps.describe(policy)
    rows, starts = observations(program, policy, n), starts_of(n)
    ours = predicted(program, policy, rows, starts)
    if program.memory:
        actions, state = [], None
        for row, start in zip(rows, starts):
            action, state = names["predict"](samples.nested(policy, program, row[None]), state, [start])
            actions.append(np.ravel(action))
    else:
        actions = names["predict"](samples.nested(policy, program, rows))[0].reshape(n, -1)
    worst = difference(policy, ours, (ours[0], np.stack(actions)))
    assert worst < 1e-5 and names["selftest"]() < 1e-6
    return worst


@pytest.mark.parametrize("name, kind", [*CASES, ("MlpPolicy", "integers")])
def test_the_file_predicts_as_the_policy(name, kind, tmp_path):
    check(model_of(name, kind), tmp_path, 10_000 if name == "MlpPolicy" else 50)


@pytest.mark.parametrize("name, obs", [("MlpLnLstmPolicy", FIELDS), ("CnnPolicy", MIXED)])
def test_fields(name, obs, tmp_path):
    check(model_of(name, "MultiDiscrete", obs=obs), tmp_path, 30)


def test_what_float32_cannot_hold_of_an_observation_counts(tmp_path):
    check(far_model(), tmp_path, 50)


@pytest.mark.parametrize("kind", ["Box", "Discrete", "MultiDiscrete", "MultiBinary", "integers"])
def test_actions_have_the_type_and_shape_that_predict_gives(kind, tmp_path):
    model, row = model_of("MlpPolicy", kind), np.ones(3, np.float32)
    predict = exported(model, tmp_path)["predict"]
    for obs in (row, row[None]):
        ours, theirs = model.policy.predict(obs, deterministic=True)[0], predict(obs)[0]
        assert (type(ours), np.shape(ours), ours.dtype) == (type(theirs), np.shape(theirs), theirs.dtype)


@pytest.mark.parametrize("kind", ["Box", "Discrete", "MultiBinary"])
def test_draws_are_those_of_the_policy(kind, tmp_path):
    model = model_of("MlpPolicy", kind)
    predict, obs = exported(model, tmp_path)["predict"], np.zeros((500, 3), np.float32)
    model.policy.seed(3)
    theirs = predict(obs, rng=np.random.default_rng(3))[0]
    np.testing.assert_allclose(theirs, model.policy.predict(obs)[0], atol=1e-5)


def test_what_is_not_finite_or_outside_is_refused(tmp_path):
    predict = exported(model_of("MlpPolicy"), tmp_path)["predict"]
    with pytest.raises(ValueError, match="obs holds numbers that are not finite"):
        predict(np.array([0, np.nan, 0]))
    predict = exported(model_of("MlpPolicy", obs=FIELDS), tmp_path)["predict"]
    inner = {"bits": [0, 1], "codes": [1, 0]}
    with pytest.raises(ValueError, match="an integer outside its space"):
        predict({"speed": np.zeros((2, 3)), "gear": 0, "inner": inner})


@pytest.mark.parametrize("name, obs, shape", [
    ("MlpPolicy", None, (6,)), ("MlpPolicy", None, (2, 6)), ("MlpPolicy", None, (1, 1, 3)),
    ("MlpPolicy", None, ()), ("CnnPolicy", None, (20, 24, 2)), ("MlpPolicy", spaces.Discrete(3), (2, 2))])
def test_observations_of_another_shape_are_refused(name, obs, shape, tmp_path):
    predict = exported(model_of(name, obs=obs), tmp_path)["predict"]
    with pytest.raises(ValueError, match=re.escape(f"obs has the shape {shape}; ")):
        predict(np.zeros(shape, np.float32))


@pytest.mark.parametrize("obs", [1.9, [0.0, 0.5]])
def test_a_fraction_is_no_integer_of_a_space(obs, tmp_path):
    predict = exported(model_of("MlpPolicy", obs=spaces.Discrete(3)), tmp_path)["predict"]
    with pytest.raises(ValueError, match="holds a number that is no integer"):
        predict(obs)
    np.testing.assert_array_equal(predict(2.0)[0], predict(2)[0])


def test_it_needs_numpy_alone(tmp_path):
    exported(model_of("MlpLstmPolicy", env_id='"""\nimport os\n'), tmp_path)
    code = ("import runpy, sys\nnames = runpy.run_path('policy.py')\nassert names['selftest']() < 1e-6\n"
            "print(*sys.modules)")
    command = [sys.executable, "-I", "-S", "-c", f"import sys\nsys.path += {sys.path!r}\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "numpy" in loaded and not loaded & {"trpo_np", "numba", "gymnasium", "scipy"}


@pytest.mark.slow
@pytest.mark.parametrize("name, kind", CASES)
def test_many_observations_of_each(name, kind, tmp_path):
    print(f"{name}, {kind}: largest difference {check(model_of(name, kind), tmp_path, many(name)):.1e}")
