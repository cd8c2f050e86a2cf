"""The JSON: what it says can be walked by the ops as they are described."""

import json

import numpy as np
import pytest
from exports import CASES, FIELDS, MIXED, far_model, model_of
from gymnasium import spaces
from toys import OBS, Samples

from trpo_np import TRPO, deploy
from trpo_np.deploy import reference


def exported(model, folder):
    deploy.export(model.save(folder / "model"), folder / "policy.json", "json")
    return json.loads((folder / "policy.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def walked(record):
    """Return the outputs of a walk through the built-in test, by code that knows the JSON only."""
    arrays = {"w", "b", "wx", "wh", "gx", "gh", "gc", "bc", "factor"}
    memory, found = np.zeros((1, record["memory"]), np.float32), []
    precision = np.float64 if any("precise" in step for step in record["steps"]) else np.float32
    for case in record["test"]:
        values = {field["name"]: np.array(case["obs"][field["name"]], precision).reshape(1, *field["shape"])
                  for field in record["fields"]}
        memory = memory * (not case["start"])
        for step in record["steps"]:
            given = {key: np.float32(value) if key in arrays else np.array(value) if key == "shift" else value
                     for key, value in step.items() if key not in ("op", "inputs", "out", "shape")}
            x = [values[name] for name in step["inputs"]]
            if step["op"] == "lstm":
                y, memory = reference.lstm(*x, memory, **given)
            else:
                y = getattr(reference, step["op"])(*x, **given)
            values[step["out"]] = y.reshape(1, *step["shape"])
        found.append(y[0])
    return np.stack(found)


@pytest.mark.parametrize("name, kind, obs", [
    *((*case, None) for case in CASES[::3]), ("MlpPolicy", "integers", FIELDS), ("CnnPolicy", "Box", MIXED)])
def test_the_document_can_be_walked(name, kind, obs, tmp_path):
    record = exported(model_of(name, kind, obs=obs), tmp_path)
    np.testing.assert_array_equal(walked(record), np.float32([case["outputs"] for case in record["test"]]))


def test_what_float32_cannot_hold_of_an_observation_counts(tmp_path):
    record = exported(far_model(), tmp_path)
    np.testing.assert_array_equal(walked(record), np.float32([case["outputs"] for case in record["test"]]))


def test_a_bound_that_is_infinite_is_null(tmp_path):
    half = spaces.Box(np.array([-1, -np.inf], np.float32), np.array([np.inf, 2], np.float32))
    action = exported(TRPO("MlpPolicy", Samples(OBS, half), seed=0), tmp_path)["action"]
    assert (action["low"], action["high"]) == ([-1, None], [None, 2])


def test_weights_come_back_bit_by_bit(tmp_path):
    model = model_of("MlpPolicy")
    [first, *_] = [step for step in exported(model, tmp_path)["steps"] if step["op"] == "dense"]
    np.testing.assert_array_equal(np.float32(first["w"]), model.policy.params["pi/fc0/w"])
    assert max(len(f"{abs(x)}") for x in np.ravel(first["w"]).tolist()) <= 14, "in few digits"
