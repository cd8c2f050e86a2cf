"""The ONNX model, run by onnxruntime."""

import sys

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

from trpo_np import deploy
from trpo_np.deploy import steps

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def session(model, folder):
    path = folder / "policy.onnx"
    deploy.export(model.save(folder / "model"), path, "onnx", policy_kwargs=model.policy_kwargs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def ran(run, program, rows, state=None):
    """Return the model's outputs by name."""
    types = {one.name: np.float64 if one.type == "tensor(double)" else np.float32 for one in run.get_inputs()}
    feeds = {field.name: rows[:, field.start:field.stop].reshape(len(rows), *field.shape).astype(
        types[field.name]) for field in program.fields}
    feeds |= {"state": state} if program.memory else {}
    return dict(zip([output.name for output in run.get_outputs()], run.run(None, feeds)))


def check(model, folder, n):
    run, policy = session(model, folder), model.policy
    program = steps.describe(policy)
    rows, starts = observations(program, policy, n), starts_of(n)
    ours = predicted(program, policy, rows, starts)
    if program.memory:
        found, state = [], np.zeros((1, program.memory), np.float32)
        for row, start in zip(rows, starts):
            found.append(ran(run, program, row[None], state * np.float32(not start)))
            state = found[-1]["next_state"]
        theirs = [np.concatenate([one[key].reshape(1, -1) for one in found]) for key in ("outputs", "action")]
    else:
        out = ran(run, program, rows)
        theirs = [out["outputs"], out["action"].reshape(n, -1)]
    worst = difference(policy, ours, theirs)
    assert worst < 1e-5
    return worst


@pytest.mark.parametrize("name, kind", [*CASES, ("MlpPolicy", "integers")])
def test_the_model_acts_as_predict(name, kind, tmp_path):
    check(model_of(name, kind), tmp_path, 10_000 if name == "MlpPolicy" else 50)


@pytest.mark.parametrize("name", ["MlpLstmPolicy", "MlpLnLstmPolicy"])
def test_memory_does_not_drift_in_2000_steps(name, tmp_path):
    check(model_of(name), tmp_path, 2000)


@pytest.mark.parametrize("name, obs", [("MlpLnLstmPolicy", FIELDS), ("CnnPolicy", MIXED)])
def test_each_field_is_an_input(name, obs, tmp_path):
    model = model_of(name, "MultiDiscrete", obs=obs)
    check(model, tmp_path, 30)
    names = [one.name for one in session(model, tmp_path).get_inputs()]
    fields = steps.describe(model.policy).fields
    assert names == [field.name for field in fields] + ["state"] * ("Lstm" in name)


def test_what_float32_cannot_hold_of_an_observation_counts(tmp_path):
    check(far_model(), tmp_path, 50)


def test_other_activations(tmp_path):
    for act_fun in ("relu", "elu", "sigmoid"):
        check(model_of("MlpPolicy", "Discrete", act_fun=act_fun), tmp_path, 200)


def test_windows_that_reach_over_the_border(tmp_path):
    check(model_of("CnnPolicy", "MultiBinary", cnn_extractor=SAME), tmp_path, 20)


def test_it_is_of_an_opset_that_others_read(tmp_path):
    session(model_of("CnnLnLstmPolicy", env_id="Pong"), tmp_path)
    model = onnx.load(tmp_path / "policy.onnx")
    assert model.opset_import[0].version <= 15 and model.ir_version <= 8
    assert {one.key: one.value for one in model.metadata_props}["environment"] == "Pong"
    assert {node.op_type for node in model.graph.node} <= {
        "Abs", "Add", "ArgMax", "Cast", "Clip", "Concat", "Conv", "Div", "Gather", "Greater", "Identity",
        "MatMul", "Max", "Min", "Mul", "ReduceMean", "Relu", "Reshape", "Round", "Sigmoid", "Slice", "Sqrt",
        "Sub", "Tanh", "Transpose"}


def test_without_onnx_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"needs the package onnx: pip install"):
        deploy.export(model_of("MlpPolicy").save(tmp_path / "model"), tmp_path / "policy.onnx", "onnx")
    assert not (tmp_path / "policy.onnx").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name, kind", CASES)
def test_many_observations_of_each(name, kind, tmp_path):
    print(f"{name}, {kind}: largest difference {check(model_of(name, kind), tmp_path, many(name)):.1e}")
