"""Models of stable-baselines 2, made by hand after its source (version 2.10): TensorFlow 1 is not to be had.

`save` there writes `data` (JSON with cloudpickle in base64), `parameter_list` and `parameters` (np.savez).
"""

import io
import json
import pickle
from base64 import b64encode

import gymnasium
import numpy as np
import pytest
import zips

from trpo_np import TRPO, load_policy
from trpo_np.deploy.convert import convert
from trpo_np.files.archive import FileError

RNG = np.random.default_rng(0)


def draw(*shape):
    return (0.5 * RNG.standard_normal(shape)).astype(np.float32)


def dense(name, n_in, n_out):
    return {f"model/{name}/w:0": draw(n_in, n_out), f"model/{name}/b:0": draw(n_out)}


def mlp(n_in, n_out, vf=(5,), shared=()):
    """Return the parameters that TRPO has for an MlpPolicy: the policy, and as oldpi its copy."""
    weights, width = {}, n_in
    for i, n in enumerate(shared):
        weights, width = weights | dense(f"shared_fc{i}", width, n), n
    weights |= dense("pi_fc0", width, 6) | dense("vf_fc0", width, vf[0]) | dense("vf", vf[0], 1)
    weights |= dense("pi", 6, n_out) | dense("q", 5, n_out)
    return weights | {f"oldpi/{name}": array for name, array in weights.items()}


def saved(path, weights, observation_space, action_space, policy="MlpPolicy", **fields):
    def pickled(value):
        return {":type:": str(type(value)), ":serialized:": b64encode(value).decode()}

    def space(value):  # the library knew gym alone
        return pickled(pickle.dumps(value, 3).replace(b"cgymnasium.spaces.", b"cgym.spaces."))
    arrays = io.BytesIO()
    np.savez(arrays, **weights)
    name = policy.encode()
    record = {"gamma": 0.9, "num_timesteps": 5000, "policy_kwargs": {}, "n_envs": 1,
              "policy": pickled(b"\x80\x03cstable_baselines.common.policies\n%b\nq\0." % name),
              "observation_space": space(observation_space), "action_space": space(action_space)} | fields
    path.write_bytes(zips.zipped({"data": json.dumps(record).encode(), "parameters": arrays.getvalue(),
                                  "parameter_list": json.dumps(list(weights)).encode()}))
    return path


BOX = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
THREE = gymnasium.spaces.Discrete(3)
SETTINGS = dict(timesteps_per_batch=512, max_kl=0.03, cg_iters=5, lam=0.9, entcoeff=0.01, cg_damping=0.2,
                vf_stepsize=1e-3, vf_iters=4)


@pytest.mark.parametrize("shared", [(), (7,)])
@pytest.mark.parametrize("act_fun", ["tanh", "relu"])
def test_an_mlp_policy_acts_as_its_formula(act_fun, shared, tmp_path):
    weights = mlp(4, 3, shared=shared)
    kwargs = {"act_fun": f"<function {act_fun} at 0x7f>"} if act_fun != "tanh" else {}
    path = saved(tmp_path / "m.zip", weights, BOX, THREE, policy_kwargs=kwargs, **SETTINGS)
    [said] = convert(path, tmp_path / "m")
    assert "5,000 steps, from stable-baselines 2, TRPO" in said
    policy, obs = load_policy(tmp_path / "m.npz"), RNG.uniform(-1, 1, (1000, 4)).astype(np.float32)

    def layer(name, x):
        return x @ weights[f"model/{name}/w:0"] + weights[f"model/{name}/b:0"]
    fun = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}[act_fun]
    x = fun(layer("shared_fc0", obs)) if shared else obs
    logits, values = layer("pi", fun(layer("pi_fc0", x))), layer("vf", fun(layer("vf_fc0", x)))[:, 0]
    np.testing.assert_array_equal(policy.predict(obs, deterministic=True)[0], logits.argmax(1))
    np.testing.assert_allclose(policy.value(policy.observe(obs)[0]), values, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(policy.params["pi/fc0/w"], weights["model/pi_fc0/w:0"])
    model = TRPO.load(tmp_path / "m.npz")
    assert {name: getattr(model, name) for name in SETTINGS} == SETTINGS and model.gamma == 0.9


def test_actions_of_a_box(tmp_path):
    weights = mlp(4, 2) | {"model/pi/logstd:0": draw(1, 2)}
    box = gymnasium.spaces.Box(-0.5, 0.5, (2,), np.float32)
    convert(saved(tmp_path / "m.zip", weights, BOX, box), tmp_path / "m")
    policy = load_policy(tmp_path / "m.npz")
    np.testing.assert_array_equal(policy.params["pi/log_std"], weights["model/pi/logstd:0"][0])
    assert np.abs(policy.predict(RNG.uniform(-1, 1, (50, 4)), deterministic=True)[0]).max() == 0.5


def test_nature_cnn_acts_as_its_formula(tmp_path):
    weights = {f"model/c{i}/w:0": draw(n, n, a, b) / (n * a ** 0.5)
               for i, (n, a, b) in enumerate([(8, 2, 32), (4, 32, 64), (3, 64, 64)], 1)}
    weights |= {f"model/c{i}/b:0": draw(1, n, 1, 1) for i, n in enumerate([32, 64, 64], 1)}
    weights |= dense("fc1", 64, 512) | dense("pi", 512, 3) | dense("vf", 512, 1) | dense("q", 512, 3)
    space = gymnasium.spaces.Box(0, 255, (36, 36, 2), np.uint8)
    convert(saved(tmp_path / "m.zip", weights, space, THREE, "CnnPolicy"), tmp_path / "m")
    policy = load_policy(tmp_path / "m.npz")
    obs = RNG.integers(0, 256, (20, 36, 36, 2), np.uint8)
    x = obs / np.float32(255)
    for i, stride in enumerate([4, 2, 1], 1):
        w, b = weights[f"model/c{i}/w:0"], weights[f"model/c{i}/b:0"].ravel()
        windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[:2], (1, 2))[:, ::stride, ::stride]
        x = np.maximum(np.einsum("nhwcij,ijco->nhwo", windows, w, optimize=True) + b, 0)
    x = np.maximum(x.reshape(20, -1) @ weights["model/fc1/w:0"] + weights["model/fc1/b:0"], 0)
    values = (x @ weights["model/vf/w:0"] + weights["model/vf/b:0"])[:, 0]
    logits = x @ weights["model/pi/w:0"] + weights["model/pi/b:0"]
    np.testing.assert_allclose(policy.value(policy.observe(obs)[0]), values, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(policy.predict(obs, deterministic=True)[0], logits.argmax(1))


@pytest.mark.parametrize("fields, said", [
    (dict(policy="MlpLstmPolicy"), r"names 'stable_baselines\.common\.policies\.MlpLstmPolicy'"),
    (dict(policy_kwargs={"act_fun": "<function selu at 0x7f>"}), "act_fun is '<function selu"),
    (dict(policy_kwargs={"reuse": 1}), "policy_kwargs has 'reuse'"),
    (dict(policy="CnnPolicy"), "observation_space is not one image"), (dict(max_kl=-1.0), "max_kl is -1.0")])
def test_what_is_not_known_is_refused_by_name(fields, said, tmp_path):
    path = saved(tmp_path / "m.zip", mlp(4, 3), BOX, THREE, **fields)
    with pytest.raises(FileError, match=rf"m\.zip: .*{said}"):
        convert(path, tmp_path / "m")


@pytest.mark.parametrize("change, said", [
    ({"model/pi_fc0/w:0": draw(5, 6)}, r"model/pi_fc0/w, for pi/fc0/w, has shape \(5, 6\) here"),
    ({"model/lstm1/wx:0": draw(2, 2)}, "has 'model/lstm1/wx'"),
    ({"model/vf/w:0": draw(5, 1).astype(np.float64)}, r"vf/w:0\.npy' is no \.npy of float32"),
    ({"model/vf/w:0": draw(5, 1).astype(object)}, r"vf/w:0\.npy' is no \.npy of float32")])
def test_arrays_that_do_not_fit_are_named(change, said, tmp_path):
    path = saved(tmp_path / "m.zip", mlp(4, 3) | change, BOX, THREE)
    with pytest.raises(FileError, match=rf"m\.zip: .*{said}"):
        convert(path, tmp_path / "m")


def test_arrays_in_fortrans_order_come_back_to_the_bit(tmp_path):
    weights = {name: np.asfortranarray(array) for name, array in mlp(4, 3).items()}
    convert(saved(tmp_path / "m.zip", weights, BOX, THREE), tmp_path / "m")
    found = load_policy(tmp_path / "m.npz").params["pi/fc0/w"]
    np.testing.assert_array_equal(found, weights["model/pi_fc0/w:0"])


def test_a_model_that_is_changed_anywhere_is_the_same_or_a_sentence(tmp_path):
    data = saved(tmp_path / "m.zip", mlp(4, 3), BOX, THREE).read_bytes()
    parameters = zips.members(data)["parameters"]
    for _ in range(300):
        changed = bytearray(zips.members(parameters)["model/pi/w:0.npy"])
        changed[RNG.integers(128)] ^= RNG.integers(1, 256)
        array = zips.with_members(parameters, {"model/pi/w:0.npy": bytes(changed)})
        (tmp_path / "m.zip").write_bytes(zips.with_members(data, {"parameters": array}))
        try:
            convert(tmp_path / "m.zip", tmp_path / "out")
        except FileError:
            pass
