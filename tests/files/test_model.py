"""Model files: what was saved comes back, training goes on with the same bits, misfits are refused."""

import inspect
import io
import json
import os
import pathlib
import subprocess
import sys
import tracemalloc
import warnings
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from test_trpo import HERE, SMALL
from toys import ACTIONS, Toy, Vector

from trpo_np import TRPO, load_policy, ops, policies
from trpo_np.files import archive
from trpo_np.files.archive import FileError, read_archive, write_archive
from trpo_np.files.plain import pack, unpack
from trpo_np.policies import MlpPolicy
from trpo_np.settings import LinearSchedule

PATHS = {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), HERE, os.path.dirname(HERE)])}
OBS = np.random.default_rng(5).standard_normal((7, 3)).round(3)


def trained(kind="Box", steps=64, envs=2, **settings):
    env = Vector([partial(Toy, ACTIONS[kind])] * envs)
    usual = dict(policy_kwargs=SMALL, seed=4, timesteps_per_batch=32, normalize_observations=True,
                 normalize_rewards=True)
    settings = usual | settings
    return TRPO("MlpPolicy", env, **settings).learn(steps)


def draws(model):
    """Deterministic actions, then drawn ones, then one of a single observation, bit for bit."""
    actions = [model.predict(OBS, deterministic=True)[0], *[model.predict(OBS)[0] for _ in range(3)],
               model.predict(OBS[0])[0]]
    return [np.asarray(a).tobytes().hex() for a in actions]


def seeded(thing):
    """The draws of a model or a policy whose generator is seeded."""
    getattr(thing, "policy", thing).seed(8)
    return draws(thing)


def state(model):
    """All that training changes, by name."""
    numbers = {name: getattr(model, name)
               for name in ("num_timesteps", "updates", "skipped_updates", "episodes", "seed")}
    moments = {"observations": model.policy.normalizer.moments, "returns": model.reward_normalizer.moments}
    return {**numbers, "recent": list(model.recent),
            "adam steps": model.adam.t, "adam m": model.adam.m.tobytes(), "adam v": model.adam.v.tobytes(),
            **{name: array.tobytes() for name, array in model.get_parameters().items()},
            **{f"{kind} {name}": array.tobytes()
               for kind, m in moments.items() for name, array in m.arrays().items()},
            "drawing": model.policy.rng.bit_generator.state, "settings": model.settings}


def run(code, *arguments, **environment):
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)],
                          env={**os.environ, **PATHS, **environment},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ---- there and back

@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_comes_back_as_it_was_saved(kind, dtype, tmp_path):
    model = trained(kind, dtype=dtype, gamma=0.9, max_kl=LinearSchedule(0.02, 0.01), vf_batch_size=7)
    path = model.save(tmp_path / "model")
    copy, policy = TRPO.load(path), load_policy(path)
    assert state(copy) == state(model)
    assert copy.policy.params.flat.dtype == copy.adam.m.dtype == dtype
    assert list(copy.get_parameters()) == list(model.get_parameters()) == list(policy.params)
    assert copy.get_env() is None and copy.max_kl == LinearSchedule(0.02, 0.01)
    for _ in range(2):
        assert draws(copy) == draws(model), "drawing goes on alike"
    assert seeded(policy) == seeded(model) == draws(load_policy(path, seed=8))
    assert seeded(model) == draws(TRPO.load(path, seed=8))


BLOCKED = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "scipy", "gymnasium", "mpi4py"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Absent())
import json
import numpy as np
from trpo_np import load_policy
policy, obs = load_policy(sys.argv[1], seed=8), np.array(json.loads(sys.argv[2]))
actions = [policy.predict(obs, deterministic=True)[0], *[policy.predict(obs)[0] for _ in range(3)],
           policy.predict(obs[0])[0]]
probability = policy.action_probability(obs)
for name in ("gymnasium", "numba"):
    try:
        __import__(name)
        sys.exit(f"{name} is not blocked")
    except ImportError:
        pass
print(json.dumps([np.asarray(a).tobytes().hex() for a in actions]))
"""


@pytest.mark.parametrize("kind", ["Box", "Discrete"])
def test_prediction_elsewhere_needs_numpy_alone(kind, tmp_path):
    model = trained(kind)
    path = model.save(tmp_path / "model")
    assert run(BLOCKED, path, json.dumps(OBS.tolist())) == seeded(model)


GO_ON = """
import json, sys
from functools import partial
from test_model import ACTIONS, TRPO, Toy, Vector, draws
model = TRPO.load(sys.argv[1], Vector([partial(Toy, ACTIONS["Box"])] * 2))
first = draws(model)
model.learn(96, reset_num_timesteps=False)
model.save(sys.argv[2])
print(json.dumps([first, draws(model)]))
"""


def test_training_goes_on_in_another_process_with_the_same_bits(tmp_path):
    model = trained(vf_stepsize=1e-2)
    path = model.save(tmp_path / "half")
    elsewhere = run(GO_ON, path, tmp_path / "elsewhere.npz")
    assert elsewhere[0] == draws(model)
    model.set_env(model.get_env())  # which does not give its state: episodes start anew, there and here
    model.learn(96, reset_num_timesteps=False)
    model.save(tmp_path / "here")
    assert elsewhere[1] == draws(model)
    here, there = (read_archive(tmp_path / f"{name}.npz") for name in ("here", "elsewhere"))
    assert here[0] == there[0] and list(here[1]) == list(there[1])
    for name, array in here[1].items():
        assert array.tobytes() == there[1][name].tobytes(), name
    assert (tmp_path / "here.npz").read_bytes() == (tmp_path / "elsewhere.npz").read_bytes()


@pytest.mark.parametrize("settings", [
    {}, dict(max_kl=LinearSchedule(0.02), entcoeff=0.01), dict(normalize_rewards=False),
    dict(scale_steps=True), dict(restarts=0.05)])
def test_training_goes_on_with_the_same_bits(settings, tmp_path):
    env = SyncVectorEnv([partial(gymnasium.make, "CartPole-v1")] * 3)
    settings = {"seed": 1, "timesteps_per_batch": 99, "normalize_observations": True,
                "normalize_rewards": True, **settings}
    model = TRPO("MlpPolicy", env, **settings).learn(300)
    half = state(model)
    copy = TRPO.load(model.save(tmp_path / "half"),
                     SyncVectorEnv([partial(gymnasium.make, "CartPole-v1")] * 3))
    assert state(copy) == half
    for each in (model, copy):
        each.learn(300, reset_num_timesteps=False)
    assert state(model) == state(copy) != half
    assert model.num_timesteps == 2 * half["num_timesteps"]


def test_an_optimiser_that_started_anew_would_be_noticed(tmp_path):
    """The test of the tests above: what is saved beside the parameters matters."""
    model = trained(vf_stepsize=1e-2, scale_steps=True)
    model.usual_spread.square *= 100
    path = model.save(tmp_path / "half")
    after = state(model.learn(32, reset_num_timesteps=False))
    for forget in (lambda m: m.adam.m.fill(0), lambda m: setattr(m.adam, "t", 0),
                   lambda m: setattr(m, "updates", 0),
                   lambda m: m.reward_normalizer.moments.m2.fill(0)):
        copy = TRPO.load(path, trained(steps=0).env)
        forget(copy)
        after_copy = state(copy.learn(32, reset_num_timesteps=False))
        assert any(after_copy[name] != after[name] for name in copy.policy.critic_weights)
    copy = TRPO.load(path, trained(steps=0).env)
    copy.usual_spread.count = copy.usual_spread.square = 0
    after_copy = state(copy.learn(32, reset_num_timesteps=False))
    assert any(after_copy[name] != after[name] for name in copy.policy.policy_weights)


def test_saving_twice_gives_the_same_bytes_and_changes_nothing(tmp_path):
    model = trained()
    before = state(model)
    first, second = (pathlib.Path(model.save(tmp_path / name)).read_bytes() for name in ("one", "two"))
    assert first == second and state(model) == before
    again = pathlib.Path(TRPO.load(tmp_path / "one").save(tmp_path / "three")).read_bytes()
    assert again == first


def test_paths_with_and_without_the_ending(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = trained()
    for path, saved in (("plain", "plain.npz"), ("given.npz", "given.npz"), ("v1.2", "v1.2.npz")):
        assert model.save(path) == saved
    assert model.save(pathlib.Path("folder/deep")) == os.path.join("folder", "deep.npz")
    assert sorted(os.listdir()) == ["folder", "given.npz", "plain.npz", "v1.2.npz"]
    for name in ("plain", "plain.npz", "given", "v1.2", pathlib.Path("folder/deep")):
        assert state(TRPO.load(name)) == state(model)
    with pytest.raises(FileNotFoundError, match="absent"):
        TRPO.load("absent")


def test_a_path_that_cannot_be_written_is_named_and_nothing_is_lost(tmp_path):
    model = trained()
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder.npz").mkdir()
    for path in (tmp_path / "file" / "model", tmp_path / "folder", "/proc/nowhere/model"):
        with pytest.raises(OSError, match=path.name if isinstance(path, pathlib.Path) else "nowhere"):
            model.save(path)
    assert state(TRPO.load(model.save(tmp_path / "model"))) == state(model)


def test_changes_replace_arguments(tmp_path):
    path = trained().save(tmp_path / "model")
    model = TRPO.load(path, gamma=0.5, max_kl=0.03, timesteps_per_batch=48, verbose=0, seed=99)
    assert (model.gamma, model.max_kl, model.timesteps_per_batch, model.seed) == (0.5, 0.03, 48, 99)
    assert model.settings.gamma == 0.5
    with pytest.raises(TypeError, match="gama"):
        TRPO.load(path, gama=0.5)
    with pytest.raises(ValueError, match="gamma is 7"):
        TRPO.load(path, gamma=7)
    with pytest.raises(ValueError, match="fewer than the 2 environments"):
        TRPO.load(path, Vector([partial(Toy, ACTIONS["Box"])] * 2), timesteps_per_batch=1)


@pytest.mark.parametrize("change", [dict(dtype="float64"), dict(normalize_observations=False)])
def test_changes_of_what_the_file_fixes_are_made_or_refused(change, tmp_path):
    path = trained().save(tmp_path / "model")
    [(name, value)] = change.items()
    try:
        model = TRPO.load(path, **change)
    except ValueError as error:
        assert name in str(error)
    else:
        assert getattr(model, name) == value
        assert model.policy.dtype.name == model.dtype
        assert model.policy.normalizer.enabled == model.normalize_observations


def test_an_environment_that_does_not_fit_is_refused(tmp_path):
    path = trained("Box").save(tmp_path / "model")
    with pytest.raises(ValueError, match="action_space.*kind is Discrete, Box"):
        TRPO.load(path, Toy(ACTIONS["Discrete"]))
    with pytest.raises(ValueError, match="observation_space"):
        TRPO.load(path, "Pendulum-v1")


# ---- what a file cannot hold

class Wide(MlpPolicy):
    """A user's own policy."""

    def __init__(self, *spaces, width=9, **kwargs):
        super().__init__(*spaces, layers=[width], **kwargs)


def double_tanh(x):
    return ops.tanh(x) * 2


def test_a_policy_of_the_user_needs_its_class(tmp_path):
    model = TRPO(Wide, Toy(), timesteps_per_batch=32, seed=0, policy_kwargs=dict(width=5)).learn(32)
    path = model.save(tmp_path / "model")
    for load in (TRPO.load, load_policy):
        with pytest.raises(FileError, match="model.npz.*Wide'.*policy="):
            load(path)
    assert type(TRPO.load(path, policy=Wide).policy) is Wide
    copies = [TRPO.load(path, policy=Wide), load_policy(path, policy=Wide)]
    assert copies[0].policy.params["pi/fc0/w"].shape == (3, 5)
    assert draws(model) == draws(copies[0])
    assert seeded(model) == seeded(copies[1])


def test_a_user_s_class_with_the_name_of_ours_is_not_taken_for_ours(tmp_path):
    """Else the file would load and predict by the wrong network."""
    class Negated(MlpPolicy):
        def pi(self, params, x):
            return super().pi(params, -x)
    Negated.__name__ = "MlpPolicy"
    model = TRPO(Negated, Toy(ACTIONS["Box"]), seed=0)
    path = model.save(tmp_path / "model")
    try:
        actions = load_policy(path).predict(OBS, deterministic=True)[0]
    except FileError:
        return
    np.testing.assert_array_equal(actions, model.predict(OBS, deterministic=True)[0])


def test_a_function_of_the_user_must_be_passed_again(tmp_path):
    model = TRPO("MlpPolicy", Toy(), timesteps_per_batch=32, seed=0,
                 policy_kwargs=dict(act_fun=double_tanh, **SMALL)).learn(32)
    path = model.save(tmp_path / "model")
    for load in (TRPO.load, load_policy):
        with pytest.raises(FileError, match="model.npz.*act_fun.*'double_tanh'.*policy_kwargs"):
            load(path)
    given = dict(policy_kwargs=dict(act_fun=double_tanh))
    copy = TRPO.load(path, **given)
    assert draws(copy) == draws(model)
    again, now = (pathlib.Path(m.save(tmp_path / name)) for m, name in ((copy, "again"), (model, "now")))
    assert again.read_bytes() == now.read_bytes()
    assert seeded(load_policy(path, **given)) == seeded(model)
    named = TRPO("MlpPolicy", Toy(), seed=0, policy_kwargs=dict(act_fun=ops.relu))  # an op of ours has a name
    assert seeded(load_policy(named.save(tmp_path / "relu"))) == seeded(named)
    other = TRPO("MlpPolicy", Toy(), seed=0, policy_kwargs=dict(act_fun=ops.sin))  # no act_fun
    with pytest.raises(FileError, match="sin.npz.*act_fun.*'sin'.*policy_kwargs"):
        load_policy(other.save(tmp_path / "sin"))


class Sized(MlpPolicy):
    def __init__(self, *spaces, sizes=None, **kwargs):
        self.sizes = sizes
        super().__init__(*spaces, **kwargs)


@pytest.mark.parametrize("sizes", [{0: 32}, {"a": [{(1, 2): 3}]}, {True: 1, "b": 2}])
def test_a_dict_whose_keys_are_no_texts_must_be_passed_again(sizes, tmp_path):
    path = TRPO(Sized, Toy(), seed=0, policy_kwargs=dict(sizes=sizes)).save(tmp_path / "model")
    with pytest.raises(FileError, match="policy.kwargs.sizes is, or has in it, .*, which a file cannot hold"):
        load_policy(path, Sized)
    assert load_policy(path, Sized, dict(sizes=sizes)).sizes == sizes
    plain = TRPO(Sized, Toy(), seed=0, policy_kwargs=dict(sizes={"0": 32})).save(tmp_path / "plain")
    assert load_policy(plain, Sized).sizes == {"0": 32}


@pytest.mark.parametrize("wrong", [[1], "layers", 3, []])
def test_arguments_of_the_policy_that_are_no_dict_are_refused(wrong, tmp_path):
    path = trained().save(tmp_path / "model")
    with pytest.raises(ValueError, match="policy_kwargs is .*; a dict of the policy's a"):
        load_policy(path, policy_kwargs=wrong)


def test_a_schedule_of_the_user_loses_no_model(tmp_path):
    """A file cannot hold the function: training is saved all the same, or refused before it begins."""
    try:
        model = trained(max_kl=lambda remaining: 0.01 * remaining)
    except ValueError as error:
        assert "max_kl" in str(error)
        return
    path = model.save(tmp_path / "model")
    assert seeded(load_policy(path)) == seeded(model)
    with pytest.raises(ValueError, match="max_kl"):
        TRPO.load(path)
    assert TRPO.load(path, max_kl=0.02).max_kl == 0.02


@pytest.mark.parametrize("settings", [
    dict(timesteps_per_batch=np.int64(32)), dict(gamma=np.float32(0.5)), dict(dtype=np.float64),
    dict(dtype=np.dtype("float64")), dict(seed=np.int64(3)), dict(max_kl=np.float64(0.02)),
    dict(policy_kwargs=dict(layers=[np.int64(4)])), dict(policy_kwargs=dict(layers=(4,))),
    dict(normalize_advantage=np.True_)])
def test_numbers_of_numpy_are_saved_as_numbers(settings, tmp_path):
    model = trained(**settings)
    copy = TRPO.load(model.save(tmp_path / "model"))
    assert draws(copy) == draws(model)
    for name in settings.keys() - {"policy_kwargs", "seed"}:
        assert getattr(copy, name) == getattr(model, name)


# ---- what is no model

def meta(path, value):
    """Change a field of the record: `meta("policy.class", 5)`; `...` removes it."""
    def change(record, arrays):
        *where, last = path.split(".")
        for key in where:
            record = record[key]
        if value is ...:
            del record[last]
        else:
            record[last] = value
    return change


def array(name, value):
    def change(record, arrays):
        if value is ...:
            del arrays[name]
        else:
            arrays[name] = value(arrays[name]) if callable(value) else value
    return change


def seen(**space):
    return meta("policy.observation_space", space)


def box(**changes):
    return seen(**dict(kind="Box", shape=[3], dtype="float32", low=0, high=1) | changes)


def nested(depth):
    space = {"kind": "Discrete", "n": 2, "start": 0}
    for _ in range(depth):
        space = {"kind": "Tuple", "keys": [0], "spaces": [space]}
    return space


POLICY = {  # refused by load_policy and TRPO.load
    "parameter missing": (array("parameters/pi/fc0/w", ...), "parameters/pi/fc0/w is missing"),
    "parameter of another shape": (array("parameters/pi/fc0/w", lambda a: a.T.copy()), "parameters/pi/fc0/w"),
    "parameter flattened": (array("parameters/pi/out/w", lambda a: a.ravel()), "parameters/pi/out/w"),
    "parameter of another dtype": (array("parameters/vf/out/b", lambda a: a.astype(float)),
                                   "parameters/vf/out/b is float64"),
    "parameter of integers": (array("parameters/vf/out/b", lambda a: a.astype(np.int32)),
                              "parameters/vf/out/b is int32"),
    "extra array": (array("parameters/pi/fc9/w", np.zeros(3, np.float32)), "parameters/pi/fc9/w"),
    "extra array elsewhere": (array("more", np.zeros(3)), "more"),
    "statistics missing": (array("observations/mean", ...), "observations/mean is missing"),
    "statistics of another shape": (array("observations/m2", np.zeros(4)), "observations/m2"),
    "negative count": (array("observations/count", np.array(-1.0)), "observations/count"),
    "negative squares": (array("observations/m2", lambda a: -a), "observations/m2"),
    "policy missing": (meta("policy", ...), "policy"),
    "policy no dict": (meta("policy", [1, 2]), "policy is"),
    "class missing": (meta("policy.class", ...), "policy.class"),
    "class unknown": (meta("policy.class", "os.system"), "policy.class is 'os.system'"),
    "class of another kind": (meta("policy.class", {"a": 1}), "policy.class"),
    "kwargs missing": (meta("policy.kwargs", ...), "policy.kwargs"),
    "kwargs no dict": (meta("policy.kwargs", "x"), "policy.kwargs"),
    "kwargs with a function": (meta("policy.kwargs", {"act_fun": {"function": "system"}}), "act_fun.*system"),
    "kwargs unknown": (meta("policy.kwargs", {"shell": "ls"}), "policy.kwargs.*shell"),
    "kwargs with a dunder": (meta("policy.kwargs", {"__class__": "os.system"}), "policy.kwargs.*__class__"),
    "kwargs with self": (meta("policy.kwargs", {"self": 1}), "policy.kwargs"),
    "kwargs with a space": (meta("policy.kwargs", {"observation_space": {}}), "policy.kwargs"),
    "kwargs with dtype": (meta("policy.kwargs", {"dtype": "float32"}), "policy.kwargs.*dtype"),
    "activation unknown": (meta("policy.kwargs", {"act_fun": "__import__"}),
                           "policy.kwargs.*act_fun is '__import__'"),
    "activation of another kind": (meta("policy.kwargs", {"act_fun": ["tanh"]}), "policy.kwargs"),
    "another width": (meta("policy.kwargs", {"layers": [5]}), "parameters/"),
    "negative width": (meta("policy.kwargs", {"layers": [-4]}), "policy.kwargs.*-4"),
    "width zero": (meta("policy.kwargs", {"layers": [0]}), "policy.kwargs.*0"),
    "width of a float": (meta("policy.kwargs", {"layers": [4.0]}), "policy.kwargs.*4.0"),
    "width beyond memory": (meta("policy.kwargs", {"layers": [10**12]}), "parameters/"),
    "width beyond numbers": (meta("policy.kwargs", {"layers": [10**30]}), "parameters/"),
    "layers no list": (meta("policy.kwargs", {"layers": 4}), "policy.kwargs"),
    "net_arch of dicts": (meta("policy.kwargs", {"net_arch": [{"pi": [4]}, {"vf": [4]}]}), "policy.kwargs"),
    "log_std_init of another kind": (meta("policy.kwargs", {"layers": [4], "log_std_init": "x"}),
                                     "log_std_init"),
    "dtype unknown": (meta("policy.dtype", "float33"), "dtype|float33"),
    "dtype of text": (meta("policy.dtype", "U100000000"), "dtype|U100000000"),
    "dtype of objects": (meta("policy.dtype", "O"), "dtype|object"),
    "dtype missing": (meta("policy.dtype", ...), "policy.dtype"),
    "dtype no word": (meta("policy.dtype", 32), "policy.dtype"),
    "normalize no bool": (meta("policy.normalize", 1), "policy.normalize"),
    "normalize turned off": (meta("policy.normalize", False), "observations/count is not a part"),
    "space missing": (meta("policy.observation_space", ...), "policy.observation_space"),
    "space no dict": (meta("policy.action_space", [4]), "policy.action_space"),
    "space unknown": (meta("policy.action_space", {"kind": "Graph"}), "policy.action_space.*Graph"),
    "space without a kind": (meta("policy.action_space", {}), "policy.action_space"),
    "action space of parts": (meta("policy.action_space", nested(1)), "policy|action"),
    "space beyond memory": (box(shape=[10**12]), "policy.observation_space"),
    "space beyond memory by two": (box(shape=[10**6, 10**6]), "policy.observation_space"),
    "space that overflows": (box(shape=[2**32, 2**32]), "policy.observation_space"),
    "space that overflows to little": (box(shape=[2**62, 4, 3]), "policy.observation_space"),
    "space beyond numbers": (box(shape=[10**40]), "policy.observation_space"),
    "space of negative size": (box(shape=[-3]), "policy.observation_space"),
    "space of half a size": (box(shape=[3.5]), "policy.observation_space"),
    "space of text": (box(dtype="U900000000"), "policy.observation_space"),
    "space of objects": (box(dtype="O"), "policy.observation_space"),
    "space of void": (box(dtype="V900000000"), "policy.observation_space"),
    "space of records": (box(dtype="f4,f8"), "policy.observation_space"),
    "space of no dtype": (box(dtype="float33"), "policy.observation_space"),
    "bounds of words": (box(low="os"), "policy.observation_space"),
    "bounds of another shape": (box(low=[0, 1]), "policy.observation_space"),
    "bounds of lists": (box(low=[[0], [1], [2]]), "policy.observation_space"),
    "bounds nowhere": (box(low=None), "policy.observation_space"),
    "Discrete beyond memory": (seen(kind="Discrete", n=10**12, start=0), "policy.observation_space"),
    "Discrete of no value": (seen(kind="Discrete", n=0, start=0), "policy.observation_space"),
    "actions beyond memory": (meta("policy.action_space", {"kind": "Discrete", "n": 10**12, "start": 0}),
                              "policy.action_space"),
    "MultiDiscrete that overflows": (
        meta("policy.action_space",
             {"kind": "MultiDiscrete", "nvec": [2**62] * 4, "shape": [4], "start": [0] * 4}),
        "policy.action_space|parameters/pi/out/w"),
    "MultiDiscrete that overflows to what fits": (
        seen(kind="MultiDiscrete", nvec=[2**62] * 4 + [3], shape=[5], start=[0] * 5),
        "policy.observation_space"),
    "MultiBinary that overflows to what fits": (
        seen(kind="MultiBinary", shape=[5, 7378697629483820647]), "policy.observation_space"),
    "MultiBinary beyond memory": (seen(kind="MultiBinary", shape=[10**9, 10**9]), "policy.observation_space"),
    "MultiDiscrete of nothing": (seen(kind="MultiDiscrete", nvec=[], shape=[0], start=[]), "policy"),
    "layers without end": (meta("policy.kwargs.layers", [1] * 10**5),
                           "policy.kwargs.layers names 100000 layers"),
    "branches without end": (meta("policy.kwargs.net_arch", [{"pi": [1] * 10**5}]),
                             "policy.kwargs.net_arch names 100000 layers"),
    "deep space": (meta("policy.observation_space", nested(30)), "nested deeper than 20 levels"),
    "rng missing": (meta("policy.rng", ...), "policy.rng"),
    "rng of another kind": (meta("policy.rng", "x"), "policy.rng"),
    "rng of another generator": (meta("policy.rng.bit_generator", "MT19937"), "policy.rng"),
    "rng out of range": (meta("policy.rng.state.state", -1), "policy.rng"),
    "rng beyond range": (meta("policy.rng.state.state", 2**200), "policy.rng"),
    "rng of words": (meta("policy.rng.state", {"state": "a", "inc": "b"}), "policy.rng"),
}
RUNNING = {"obs": np.zeros((1, 3), np.float32), "returns": np.zeros(1), "lengths": np.zeros(1, int),
           "starts": np.zeros(1, bool), "whole": np.ones(1, bool), "memory": {}, "envs": [None],
           "sums": np.zeros(1)}


def test_episodes_of_a_file_without_whole_go_on_and_are_whole(tmp_path):
    """Such are files from before episodes could be broken off."""
    model = TRPO("MlpPolicy", "CartPole-v1", seed=0, timesteps_per_batch=50).learn(50)
    path = model.save(tmp_path / "m")
    progress, arrays = read_archive(path)
    state = unpack(arrays["training/running"].tobytes())
    assert state.pop("whole").all()
    arrays["training/running"] = np.frombuffer(pack(state), np.uint8)
    write_archive(tmp_path / "old.npz", arrays, progress)
    old = TRPO.load(tmp_path / "old", "CartPole-v1")
    for each in (model, old):
        each.learn(50, reset_num_timesteps=False)
    assert old.runner.whole.all() and old.policy.params.flat.tobytes() == model.policy.params.flat.tobytes()


def running(value=None, **changes):
    """Add episodes under way, of one environment."""
    packed = pack(RUNNING | changes) if value is None else value
    return array("training/running", np.frombuffer(packed, np.uint8))


TRAINING = {  # refused by TRPO.load
    "episodes cut off": (running(pack(RUNNING)[:-9]), "training/running: packed values cannot be read"),
    "episodes of nothing": (running(b""), "training/running"),
    "episodes as numbers": (array("training/running", np.zeros(9)), "training/running is float64"),
    "episodes in rows": (array("training/running", np.zeros((2, 2), np.uint8)), "training/running is uint8"),
    "too many episodes": (array("training/running", np.zeros(2**24 + 1, np.uint8)), "training/running"),
    "episodes no dict": (running(pack([1])), "training/running does not hold obs, returns"),
    "episodes with more": (running(more=1), "training/running does not hold"),
    "episodes of no list": (running(envs=3), "training/running does not hold"),
    "episodes of another width": (running(obs=np.zeros((1, 4))), r"training/running: obs is not .*\(1, 3\)"),
    "episodes of another number": (running(envs=[1, 2]), "training/running: obs"),
    "episodes with words": (running(obs=np.array([["a", "b", "c"]])), "training/running: obs"),
    "episodes with nan": (running(returns=np.array([np.nan])), "training/running: returns"),
    "episodes with broken lengths": (running(lengths=np.ones(1)), "training/running: lengths"),
    "episodes with starts of numbers": (running(starts=np.ones(1)), "training/running: starts"),
    "episodes with a memory": (running(memory={"pi": np.zeros((1, 2))}), "training/running: its memory"),
    "episodes with no sums": (running(sums=None), "training/running: sums"),
    "cuts of words": (meta("progress.cut_every", ["a"]), "progress.cut_every is \\['a'\\]"),
    "cuts at once": (meta("progress.cut_every", [0]), "progress.cut_every"),
    "Adam's m missing": (array("training/adam_m", ...), "training/adam_m"),
    "Adam's v missing": (array("training/adam_v", ...), "training/adam_v"),
    "Adam's m of another shape": (array("training/adam_m", lambda a: a[:-1]), "training/adam_m"),
    "Adam's m of one number": (array("training/adam_m", lambda a: a[0]), "training/adam_m"),
    "Adam's v of another dtype": (array("training/adam_v", lambda a: a.astype(float)), "training/adam_v"),
    "Adam's v negative": (array("training/adam_v", lambda a: -a - 1), "training/adam_v"),
    "returns missing": (array("training/returns_mean", ...), "training/returns_mean"),
    "returns of another shape": (array("training/returns_m2", np.zeros(2)), "training/returns_m2"),
    "returns of another dtype": (array("training/returns_m2", np.zeros(1, np.int8)), "training/returns_m2"),
    "returns negative": (array("training/returns_m2", -np.ones(1)), "training/returns_m2"),
    "extra array of training": (array("training/bonus", np.zeros(3)), "training/bonus"),
    "algorithm missing": (meta("algorithm", ...), "algorithm"),
    "algorithm no dict": (meta("algorithm", 5), "algorithm"),
    "gamma out of range": (meta("algorithm.gamma", 7), "gamma is 7"),
    "gamma of another kind": (meta("algorithm.gamma", [1]), "gamma"),
    "gamma a strange dict": (meta("algorithm.gamma", {"a": 1}), "gamma"),
    "schedule of three": (meta("algorithm.max_kl", {"linear": [1, 2, 3]}), "max_kl"),
    "schedule of words": (meta("algorithm.max_kl", {"linear": ["a", "b"]}), "max_kl"),
    "setting unknown": (meta("algorithm.shell", "ls"), "algorithm.*shell"),
    "setting that is no setting": (meta("algorithm.tensorboard_log", "/tmp"), "algorithm.*tensorboard_log"),
    "setting env": (meta("algorithm.env", "CartPole-v1"), "algorithm.*env"),
    "setting comm": (meta("algorithm.comm", 5), "algorithm.*comm"),
    "setting self": (meta("algorithm.self", 5), "algorithm.*self"),
    "setting policy_kwargs": (meta("algorithm.policy_kwargs", 5), "algorithm.*policy_kwargs"),
    "dtype that is not the policy's": (meta("algorithm.dtype", "float64"), "dtype"),
    "normalisation that is not the policy's": (meta("algorithm.normalize_observations", False),
                                               "normalize_observations"),
    "environment no id": (meta("env_id", 5), "env_id is 5; the id of an environment"),
    "successes no list": (meta("progress.successes", 5), "progress.successes is 5"),
    "successes no answers": (meta("progress.successes", [True, "yes"]), "progress.successes"),
    "progress missing": (meta("progress", ...), "progress"),
    "progress no dict": (meta("progress", [1]), "progress"),
    **{f"{name} {word}": (meta(f"progress.{name}", value), f"progress.*{name}|{name}")
       for name in ("num_timesteps", "updates", "adam_steps", "skipped_updates", "episodes", "seed")
       for word, value in [("missing", ...), ("negative", -1), ("of words", "x"), ("a fraction", 1.5),
                           ("nowhere", None)]},
    "recent missing": (meta("progress.recent", ...), "recent"),
    **{f"usual spread {value}": (meta("progress.usual_spread", value), "usual_spread")
       for value in (5, {"square": 1.0}, {"square": -1.0, "count": 1}, {"square": "1", "count": 1})},
    "recent of words": (meta("progress.recent", [["a", "b"]]), "recent"),
    "recent of numbers": (meta("progress.recent", [1, 2]), "recent"),
    "recent no list": (meta("progress.recent", 5), "recent"),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model and the parts of its file."""
    model = trained()
    return model, *read_archive(model.save(tmp_path_factory.mktemp("model") / "model"))


def spoiled(small, change, path):
    _, record, arrays = small
    record, arrays = json.loads(json.dumps(record)), dict(arrays)
    change(record, arrays)
    write_archive(path, arrays, record)
    return path


def test_the_files_spoiled_here_are_good_but_for_what_is_wrong(small, tmp_path):
    model = small[0]
    path = spoiled(small, lambda record, arrays: None, tmp_path / "model.npz")
    assert state(TRPO.load(path)) == state(model)


@pytest.mark.parametrize("case", POLICY)
def test_a_file_of_another_policy_is_refused_in_little_memory(case, small, tmp_path):
    change, message = POLICY[case]
    path = spoiled(small, change, tmp_path / "spoiled.npz")
    for load in (load_policy, TRPO.load):
        tracemalloc.start()
        try:
            with pytest.raises(FileError, match=f"(?s)spoiled.npz: .*({message})"):
                load(path)
            assert tracemalloc.get_traced_memory()[1] < 3e6
        finally:
            tracemalloc.stop()


def test_a_space_of_any_depth_is_refused(small, tmp_path):
    for depth in range(350, 2000, 40):
        try:
            path = spoiled(small, meta("policy.observation_space", nested(depth)), tmp_path / "spoiled.npz")
        except FileError:
            break  # too deep to be written
        with pytest.raises(FileError, match="spoiled.npz: .*observation_space.*nested deeper than 20"):
            load_policy(path)


@pytest.mark.parametrize("case", TRAINING)
def test_a_file_of_another_training_is_refused(case, small, tmp_path):
    change, message = TRAINING[case]
    path = spoiled(small, change, tmp_path / "spoiled.npz")
    with pytest.raises(FileError, match=f"(?s)spoiled.npz: .*({message})"):
        TRPO.load(path)


def test_a_policy_can_be_loaded_whatever_its_training_was(small, tmp_path):
    """A file that only serves to predict needs no more than the policy."""
    def change(record, arrays):
        del record["algorithm"], record["progress"]
        for name in [name for name in arrays if name.startswith("training/")]:
            del arrays[name]
    path = spoiled(small, change, tmp_path / "policy.npz")
    policy, model = load_policy(path), small[0]
    np.testing.assert_array_equal(policy.predict(OBS, deterministic=True)[0],
                                  model.predict(OBS, deterministic=True)[0])


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("load", [load_policy, TRPO.load])
def test_files_of_other_makers_are_refused(load, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = pathlib.Path(small[0].save("whole")).read_bytes()
    np.savez("pickled", meta=np.array([Bomb()], dtype=object))
    np.savez("plain", w=np.zeros(3))
    pathlib.Path("cut.npz").write_bytes(whole[:-100])
    pathlib.Path("half.npz").write_bytes(whole[:len(whole) // 2])
    pathlib.Path("longer.npz").write_bytes(whole + b"\0")
    pathlib.Path("empty.npz").write_bytes(b"")
    pathlib.Path("text.npz").write_text("hello")
    pathlib.Path("flipped.npz").write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    for name in ("pickled", "plain", "cut", "half", "longer", "empty", "text", "flipped"):
        with pytest.raises(FileError, match=rf"{name}\.npz: "):
            load(f"{name}.npz")
    with pytest.raises(FileError, match="folder"):
        load(tmp_path)
    assert not os.path.exists("exploded")


def test_a_refused_file_leaves_the_model_alone(small, tmp_path):
    model = small[0]
    before = state(model)
    path = spoiled(small, array("parameters/pi/fc0/w", lambda a: a.T.copy()), tmp_path / "spoiled.npz")
    with pytest.raises(FileError, match="spoiled.npz"):
        model.load_parameters(path)
    assert state(model) == before


# ---- files of released formats

GOLDEN = os.path.join(HERE, "golden")


@pytest.mark.parametrize("name", ["cartpole", "pendulum"])
def test_golden_file_of_format_1(name, tmp_path):
    with open(os.path.join(GOLDEN, "format1.json")) as file:
        want = json.load(file)[name]
    path = os.path.join(GOLDEN, f"format1_{name}.npz")
    obs = np.array(want["obs"])
    model = TRPO.load(path)
    for each in (model, load_policy(path)):
        actions = each.predict(obs, deterministic=True)[0]
        np.testing.assert_allclose(actions, want["actions"], rtol=0 if name == "cartpole" else 1e-4)
        np.testing.assert_allclose(each.action_probability(obs), want["probability"], rtol=1e-4, atol=1e-6)
    assert (model.num_timesteps, model.updates) == (want["num_timesteps"], want["updates"])
    assert model.adam.t == want["adam_steps"] > 0 and (model.adam.v > 0).any()
    if name == "pendulum":
        assert model.policy.normalizer.moments.count == model.reward_normalizer.moments.count == 512
    else:
        assert model.max_kl == LinearSchedule(0.02, 0.01)
    model.set_env({"cartpole": "CartPole-v1", "pendulum": "Pendulum-v1"}[name])
    model.learn(256, reset_num_timesteps=False)
    assert model.num_timesteps == want["num_timesteps"] + 256
    if archive.FORMAT == 1:  # what is read can be written
        assert state(TRPO.load(model.save(tmp_path / "again"))) == state(model)


def test_a_policy_of_the_first_versions_sees_no_spread_below_1e_4(tmp_path):
    """As while it learned."""
    model = trained(normalize_observations=True)
    mean, std = np.zeros(3), np.array([2.0, 1e-6, 0.0])
    model.policy.normalizer.restore({"count": np.array(9.0), "mean": mean, "m2": 9 * std**2})
    path, x = model.save(tmp_path / "model"), np.full(3, 1e-4, np.float32)
    small = path, *read_archive(path)
    old = spoiled(small, meta("policy.least_std", ...), tmp_path / "old.npz")
    for file, seen in (path, [5e-5, 10, 1e-4]), (old, [5e-5, 1, 1]):
        for policy in load_policy(file), TRPO.load(TRPO.load(file).save(tmp_path / "again")).policy:
            np.testing.assert_allclose(policy.observe(x)[0][0], seen, rtol=1e-6)


@pytest.mark.parametrize("path", [5, None, b"", "", "folder/", ".", "..", b".", pathlib.Path("."),
                                  pathlib.Path("..")])
def test_what_is_no_path_is_refused(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model = trained()
    for act in (model.save, TRPO.load, load_policy):
        with pytest.raises(ValueError, match="its path is needed"):
            act(path)
    assert not list(tmp_path.iterdir())


def test_models_go_through_file_objects_as_through_paths(tmp_path):
    model = trained()
    file, path = io.BytesIO(), pathlib.Path(model.save(tmp_path / "m"))
    assert model.save(file) is file and file.getvalue() == path.read_bytes()
    file.seek(0)
    assert state(TRPO.load(file)) == state(model)
    file.seek(0)
    assert np.array_equal(load_policy(file).params.flat, model.policy.params.flat)
    other = trained(seed=1)
    with open(tmp_path / "m.npz", "rb") as opened:
        other.load_parameters(opened)
    assert np.array_equal(other.policy.params.flat, model.policy.params.flat)
    name = os.fsencode(tmp_path / "bytes")
    assert model.save(name) == f"{os.fsdecode(name)}.npz" and state(TRPO.load(name)) == state(model)


def test_load_on_an_instance_says_that_it_changes_nothing(tmp_path):
    class Own(TRPO):
        pass

    model = Own("MlpPolicy", "CartPole-v1", seed=0)
    path, before = model.save(tmp_path / "m"), model.policy
    with pytest.warns(UserWarning, match=r"leaves this one as it is; write model = Own\.load\(\.\.\.\), or "
                                         "change this one by load_parameters") as caught:
        other = model.load(path, seed=3)
    assert caught[0].filename == __file__
    assert model.policy is before and type(other) is Own and other.seed == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert type(Own.load(path)) is Own and "seed" not in inspect.signature(model.load).parameters


def test_a_model_that_does_not_fit_names_the_file_object(tmp_path):
    file = io.BytesIO()
    trained().save(file)
    file.seek(0)
    with pytest.raises(FileError, match=r"^<_io\.BytesIO object at \w+>: dtype cannot be 'float64'"):
        TRPO.load(file, dtype="float64")


def test_a_folder_beside_the_file_does_not_hide_it(tmp_path):
    (tmp_path / "pong").mkdir()
    trained().save(tmp_path / "pong")
    assert load_policy(tmp_path / "pong")


def test_arguments_that_a_file_cannot_hold_are_asked_for_again(tmp_path):
    class Weighted(policies.MlpPolicy):
        def __init__(self, *spaces, weights, **kwargs):
            super().__init__(*spaces, **kwargs)

    kwargs = dict(weights={"a": np.arange(3), "b": float("inf"), "c": {1, 2}})
    path = TRPO(Weighted, "CartPole-v1", policy_kwargs=kwargs).save(tmp_path / "model")
    with pytest.raises(FileError, match="weights"):
        TRPO.load(path, policy=Weighted)
    assert TRPO.load(path, policy=Weighted, policy_kwargs=kwargs)


def test_a_small_file_of_large_images_takes_no_memory(tmp_path):
    space = {"kind": "Box", "shape": [30000, 30000, 3], "low": 0, "high": 255, "dtype": "uint8"}
    env = gymnasium.make("CartPole-v1")
    env = gymnasium.wrappers.TransformObservation(env, lambda _: np.zeros((36, 36, 1), np.uint8),
                                                  gymnasium.spaces.Box(0, 255, (36, 36, 1), np.uint8))
    for normalize in (False, True):
        model = TRPO("CnnPolicy", env, normalize_observations=normalize, timesteps_per_batch=8,
                     policy_kwargs=dict(cnn_extractor="trpo_cnn")).learn(8)
        record, arrays = read_archive(model.save(tmp_path / "model"))
        record["policy"]["observation_space"] = space
        write_archive(tmp_path / "large.npz", arrays, record)
        tracemalloc.start()
        with pytest.raises(FileError):
            load_policy(tmp_path / "large.npz")
        assert tracemalloc.get_traced_memory()[1] < 2**24
        tracemalloc.stop()


def test_parameters_of_a_file_bring_its_statistics(tmp_path):
    settings = dict(timesteps_per_batch=64, normalize_observations=True)
    model, other = (TRPO("MlpPolicy", "CartPole-v1", seed=seed, **settings) for seed in (0, 1))
    other.load_parameters(model.learn(128).save(tmp_path / "model"))
    obs = np.array([0.1, 2.0, 0.3, 4.0])
    np.testing.assert_array_equal(other.action_probability(obs), model.action_probability(obs))
    plain = TRPO("MlpPolicy", "CartPole-v1", seed=2)
    before = plain.policy.params.flat.copy()
    with pytest.raises(ValueError, match="normalize_observations is False here"):
        plain.load_parameters(tmp_path / "model")
    with pytest.raises(ValueError, match="vf/out/b holds something else than finite numbers of float32"):
        plain.load_parameters({"vf/out/b": [1e300]}, exact_match=False)
    assert (plain.policy.params.flat == before).all()


# --- files of the policy alone ------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ACTIONS)
def test_a_file_without_training_acts_as_the_whole_one(kind, tmp_path):
    model = trained(kind)
    whole, small = model.save(tmp_path / "whole"), model.save(tmp_path / "small", training=False)
    assert seeded(load_policy(small)) == seeded(load_policy(whole))
    assert os.path.getsize(small) < 0.5 * os.path.getsize(whole)
    names = read_archive(small)[1]
    assert not [name for name in names if "/vf/" in name or name.startswith("training/")]


def test_a_file_without_training_is_a_quarter(tmp_path):
    model = TRPO("MlpPolicy", Toy(ACTIONS["Box"]), policy_kwargs=dict(layers=[256, 256]))
    whole, small = model.save(tmp_path / "whole"), model.save(tmp_path / "small", training=False)
    assert 0.23 < os.path.getsize(small) / os.path.getsize(whole) < 0.27


def test_a_file_without_training_is_not_trained_on(tmp_path):
    path = trained().save(tmp_path / "small", training=False)
    with pytest.raises(FileError, match="was saved with training=False.*load_policy reads it"):
        TRPO.load(path)


def test_its_policy_can_be_taken_over_and_trained_on(tmp_path):
    old, new = trained(), trained(seed=9, steps=0)
    path, critic = old.save(tmp_path / "small", training=False), new.policy.critic_params.flat.copy()
    with pytest.raises(ValueError, match="vf/"):
        new.load_parameters(path)
    new.load_parameters(path, exact_match=False)
    assert seeded(new) == seeded(old)
    np.testing.assert_array_equal(new.policy.critic_params.flat, critic)
    new.learn(64)


@pytest.mark.parametrize("name", ["MlpLstmPolicy", "MlpPolicy"])
def test_a_shared_network_is_kept_without_training(name, tmp_path):
    model = TRPO(name, Toy(ACTIONS["Box"]), policy_kwargs=dict(share_features=True), seed=0)
    policy = load_policy(model.save(tmp_path / "small", training=False))
    np.testing.assert_array_equal(policy.predict(OBS[:1], deterministic=True)[0],
                                  model.predict(OBS[:1], deterministic=True)[0])


def test_a_whole_file_that_lacks_the_critic_is_refused(tmp_path):
    path = trained().save(tmp_path / "small", training=False)
    record, arrays = read_archive(path)
    del record["policy"]["critic"]
    write_archive(path, arrays, {key: value for key, value in record.items() if key != "format"})
    with pytest.raises(FileError, match="parameters/vf/.* is missing"):
        load_policy(path)
