"""From a file to a file: what cannot be exported gets a sentence, and leaves nothing behind."""

import os

import numpy as np
import pytest
from exports import FIELDS, KINDS, model_of
from toys import OBS, Samples

from trpo_np import TRPO, deploy, ops
from trpo_np.deploy import targets
from trpo_np.policies import MlpPolicy


@pytest.fixture
def saved(tmp_path):
    return model_of("MlpPolicy", env_id="Toy-v0").save(tmp_path / "model")


def test_an_unknown_target_is_refused(saved, tmp_path):
    with pytest.raises(ValueError, match="the target is 'tflite'; it can be 'c', 'py', 'onnx', 'json', 'h"):
        deploy.export(saved, tmp_path / "out", "tflite")


def test_unknown_weights_are_refused(saved, tmp_path):
    with pytest.raises(ValueError, match="weights is 'int4'; it can be 'float32', 'float16', 'int8'"):
        deploy.export(saved, tmp_path / "out.h", "c", weights="int4")
    with pytest.raises(ValueError, match="weights is 'int8', which only C knows; 'py' has float32"):
        deploy.export(saved, tmp_path / "out.py", "py", weights="int8")


@pytest.mark.parametrize("to", targets.TARGETS)
def test_a_path_that_cannot_be_written_is_refused(to, saved, tmp_path):
    if to == "onnx":
        pytest.importorskip("onnx")
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match="cannot save"):
        deploy.export(saved, tmp_path / "file" / "out", to)
    with pytest.raises(OSError, match="a folder, pipe or device has this name"):
        (tmp_path / "folder").mkdir()
        deploy.export(saved, tmp_path / "folder", to)
    assert (tmp_path / "file").read_text() == "kept" and not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("given", ["model", "model.zip", "model.npz"])
def test_the_file_that_is_read_is_found_as_load_policy_does_and_never_replaced(given, saved, tmp_path):
    before = (tmp_path / "model.npz").read_bytes()
    with pytest.raises(ValueError, match="model.npz is the model itself; name another file to write"):
        deploy.export(tmp_path / given, saved, "json")
    assert (tmp_path / "model.npz").read_bytes() == before
    deploy.export(tmp_path / given, tmp_path / "out.json", "json")
    assert '"file":"model.npz"' in (tmp_path / "out.json").read_text()


def test_the_same_file_gives_the_same_bytes(saved, tmp_path):
    for to in ("c", "py", "json", "html"):
        deploy.export(saved, tmp_path / "a", to)
        deploy.export(saved.removesuffix(".npz"), tmp_path / "b" / "a", to)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b" / "a").read_bytes()


def test_a_policy_of_ones_own_is_named_as_in_load_policy(tmp_path):
    class Small(MlpPolicy):
        def __init__(self, *spaces, **kwargs):
            super().__init__(*spaces, **kwargs, layers=[8])

    path = TRPO(Small, Samples(OBS, FIELDS["gear"]), seed=0).save(tmp_path / "small")
    with pytest.raises(ValueError, match="pass the class with policy="):
        deploy.export(path, tmp_path / "out.h", "c")
    assert deploy.export(path, tmp_path / "out.h", "c", policy=Small)["observation"] == "3 numbers"


def test_a_policy_that_does_more_than_its_layers_say_is_found_out(tmp_path):
    class Wrong(MlpPolicy):
        layered = True

        def to_env(self, actions):
            return -super().to_env(actions)

    path = TRPO(Wrong, Samples(OBS, KINDS["Box"]), seed=0).save(tmp_path / "wrong")
    with pytest.raises(ValueError, match="the layers of Wrong do not say all that it computes"):
        deploy.export(path, tmp_path / "out.py", "py", policy=Wrong)
    assert os.listdir(tmp_path) == ["wrong.npz"]


def test_a_function_of_ops_is_refused_by_name(tmp_path):
    env, kwargs = Samples(OBS, FIELDS["gear"]), dict(extractor=ops.square)
    path = TRPO("MlpPolicy", env, seed=0, policy_kwargs=kwargs).save(tmp_path / "squared")
    with pytest.raises(ValueError, match="square is a function of ops, which cannot be exported; train with"):
        deploy.export(path, tmp_path / "out.h", "c", policy_kwargs=kwargs)
    assert os.listdir(tmp_path) == ["squared.npz"]


def test_float64_policies_are_written_in_float32(tmp_path):
    path = TRPO("MlpPolicy", Samples(OBS, FIELDS["gear"]), dtype="float64", seed=0).save(tmp_path / "double")
    assert deploy.export(path, tmp_path / "out.py", "py")


def test_weights_beyond_float16_are_refused(tmp_path):
    model = model_of("MlpPolicy")
    model.policy.params["pi/fc0/w"][0, 0] = np.float32(1e6)
    with pytest.raises(ValueError, match="a weight is 1e[+]06; float16 holds numbers up to 65504"):
        deploy.export(model.save(tmp_path / "model"), tmp_path / "out.h", "c", weights="float16")
