"""The interface: stable-baselines' names and defaults, what types come back, and a sentence for bad input."""

import configparser
import importlib
import inspect
import io
import sys
import warnings
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from scipy import special, stats
from test_trpo import SMALL
from toys import ACTIONS, OBS, Samples, Toy

import trpo_np
from trpo_np import TRPO, make_vec_env, policies, presets
from trpo_np.policies import MlpPolicy

# ---- names

SIGNATURES = {
    "__init__": "(self, policy, env, gamma=0.99, timesteps_per_batch=1024, max_kl=0.01, cg_iters=10, "
                "lam=0.98, entcoeff=0.0, cg_damping=0.01, vf_stepsize=0.0003, vf_iters=3, verbose=0, "
                "tensorboard_log=None, policy_kwargs=None, seed=None, *, vf_batch_size=128, fvp_subsample=5, "
                "linesearch_steps=10, linesearch_shrink=0.5, kl_tolerance=1.5, normalize_advantage=True, "
                "normalize_observations=False, normalize_rewards=False, bootstrap_truncated=True, "
                "clip_rewards=False, restarts=0.0, scale_steps=False, sample_reuse=1, batch_of='rank', "
                "dtype='float32', comm=None, **others)",
    "get_env": "(self)",
    "set_env": "(self, env)",
    "learn": "(self, total_timesteps, callback=None, seed=None, log_interval=1, tb_log_name='TRPO', "
             "reset_num_timesteps=True, progress_bar=False, **others)",
    "predict": "(self, obs, state=None, mask=None, deterministic=False, **others)",
    "action_probability": "(self, obs, state=None, mask=None, actions=None, logp=False)",
    "save": "(self, path, training=True, **others)",
    "load": "(path, env=None, policy=None, **changes)",
    "get_parameters": "(self)",
    "load_parameters": "(self, path_or_dict, exact_match=True)",
    "fisher_vector_product": "(self, v, obs, state=None, mask=None, damping=0.0)",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    signature = inspect.signature(getattr(TRPO, name))
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    plain = signature.replace(parameters=bare, return_annotation=signature.empty)
    assert str(plain) == SIGNATURES[name]
    assert inspect.getdoc(getattr(TRPO, name)) or name == "__init__"


def test_a_model_prints_what_it_is():
    model = TRPO(MlpPolicy, None)
    assert repr(model) == "<TRPO <MlpPolicy>, no environment, 0 steps>"
    model = TRPO("MlpPolicy", "CartPole-v1", max_kl=0.02, timesteps_per_batch=1000, policy_kwargs=SMALL,
                 entcoeff=presets.LinearSchedule(0.01), vf_stepsize=lambda remaining: 1e-3 * remaining)
    start = f"<TRPO {model.policy!r}, CartPole-v1, 0 steps, timesteps_per_batch=1000, max_kl=0.02"
    end = ", entcoeff=LinearSchedule(start=0.01, end=0.0), vf_stepsize=<lambda>>"
    assert repr(model) == start + end
    model.num_timesteps, model.max_kl = 25000, 0.01
    model.set_env(make_vec_env("CartPole-v1", 4))
    assert ", CartPole-v1 x 4, 25,000 steps, timesteps_per_batch=1000, entcoeff" in repr(model)


def test_the_class_documents_every_argument():
    text = inspect.getdoc(TRPO) + (inspect.getdoc(TRPO.__init__) or "")
    for name in list(inspect.signature(TRPO.__init__).parameters)[1:]:
        assert name in text, f"{name} is not explained"


def test_the_public_names():
    names = {"TRPO", "load_policy", "evaluate_policy", "make_vec_env"}
    assert names <= set(trpo_np.__all__) <= set(dir(trpo_np))
    for name in trpo_np.__all__:
        assert callable(getattr(trpo_np, name))
    with pytest.raises(AttributeError, match="TRPPO.*TRPO"):
        trpo_np.TRPPO  # noqa: B018


@pytest.mark.parametrize("path, module, names", [
    ("policies", "policies", policies.NAMES), ("vec_env", "vec_env", ["DummyVecEnv", "SubprocVecEnv"]),
    ("callbacks", "callbacks", ["BaseCallback", "EvalCallback"]),
    ("evaluation", "evaluation", ["evaluate_policy"])])
def test_stable_baselines_import_paths(path, module, names):
    there = importlib.import_module(f"trpo_np.common.{path}")
    here = importlib.import_module(f"trpo_np.{module}")
    for name in names:
        assert getattr(there, name) is getattr(here, name)


@pytest.mark.parametrize("name", ["TRPO", "make_vec_env", "evaluate_policy"])
def test_where_gymnasium_is_missing_a_sentence_says_what_to_install(name, monkeypatch):
    for module in [m for m in sys.modules if m.split(".")[0] == "trpo_np"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    fresh = importlib.import_module("trpo_np")
    with pytest.raises(ImportError, match=rf"^{name} needs gymnasium.*pip install 'trpo_np\[train\]'.*NumPy"):
        getattr(fresh, name)
    assert callable(fresh.load_policy)


def test_the_base_needs_numpy_alone_and_every_extra_that_trains_brings_the_rest():
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[1] / "setup.cfg")
    assert config["options"]["install_requires"].split() == ["numpy>=1.26"]
    extras = {name: needs.split() for name, needs in config["options.extras_require"].items()}
    assert [need.split(">")[0] for need in extras["train"]] == ["gymnasium", "numba", "scipy"]
    for name in ("mujoco", "atari", "mpi", "test", "bench"):
        assert extras[name][0].startswith("trpo_np[train"), name


def test_a_policy_goes_by_its_name_too():
    for name in policies.NAMES:
        cls = getattr(policies, name)
        env = Toy()
        if name.startswith("Cnn"):
            env.observation_space = gymnasium.spaces.Box(0, 255, (36, 36, 1), np.uint8)
        assert type(TRPO(name, env).policy) is type(TRPO(cls, env).policy) is cls


# ---- the example of the page

EXAMPLE = """
import gymnasium as gym

from trpo_np.common.policies import MlpPolicy
from trpo_np.common.vec_env import DummyVecEnv
from trpo_np import TRPO

env = gym.make('CartPole-v1')
env = {wrapped}

model = TRPO(MlpPolicy, env, verbose=1)
model.learn(total_timesteps=2048)
model.save({path!r})

del model # remove to demonstrate saving and loading

model = TRPO.load({path!r})

obs = env.reset(){index}
steps = 0
while steps < 200:
    action, _states = model.predict(obs)
    obs, rewards, {dones}, info = env.step(action)
    env.render()
    steps += 1
    if bare and (terminated or truncated):
        obs, info = env.reset()
"""


@pytest.mark.parametrize("bare", [False, True])
def test_the_example_of_the_page_runs(bare, tmp_path):
    code = EXAMPLE.format(wrapped="env" if bare else "DummyVecEnv([lambda: env])",
                          path=str(tmp_path / "trpo_cartpole"),
                          index="[0]" if bare else "", dones="terminated, truncated" if bare else "dones")
    names, printed = {"bare": bare}, io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(printed):
        warnings.simplefilter("ignore")  # gymnasium's: the environment was made without a render_mode
        exec(compile(code, "example", "exec"), names)
    assert names["model"].num_timesteps == 2048
    assert names["steps"] == 200
    dimensions = tuple(np.ndim(names[name]) for name in ("obs", "rewards", "action"))
    assert dimensions == ((1, 0, 0) if bare else (2, 1, 1))
    assert "ep_rew_mean" in printed.getvalue() and "2048" in printed.getvalue()
    assert (tmp_path / "trpo_cartpole.npz").is_file()


def test_verbose_0_prints_nothing(capfd):
    TRPO("MlpPolicy", Toy(), timesteps_per_batch=32, verbose=0).learn(64)
    assert capfd.readouterr().out == ""


# ---- environments

def test_environments_come_and_go():
    model = TRPO("MlpPolicy", None, timesteps_per_batch=32, seed=0)
    assert model.get_env() is None
    with pytest.raises(ValueError, match="set_env"):
        model.learn(32)
    with pytest.raises(AttributeError, match="set_env"):
        model.predict(np.zeros(4))
    env = gymnasium.make("CartPole-v1")
    model.set_env(env)
    assert model.get_env() is model.env is env
    assert model.learn(32) is model and model.num_timesteps == 32
    many = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 2)
    model.set_env(many)
    assert model.get_env() is many and model.learn(32, reset_num_timesteps=False).num_timesteps == 64
    with pytest.raises(ValueError, match="observation_space"):
        model.set_env("Acrobot-v1")
    with pytest.raises(ValueError, match="action_space.* n "):
        env = gymnasium.make("CartPole-v1")
        model.set_env(gymnasium.wrappers.TransformAction(env, int, spaces.Discrete(3)))
    assert model.get_env() is many, "a refused environment must change nothing"
    assert model.learn(32).num_timesteps == 32


def test_the_settings_can_be_read():
    model = TRPO("MlpPolicy", None, gamma=0.9, max_kl=0.02, vf_batch_size=7)
    assert (model.gamma, model.max_kl, model.vf_batch_size, model.lam) == (0.9, 0.02, 7, 0.98)
    with pytest.raises(AttributeError, match="gama"):
        model.gama  # noqa: B018


# ---- bad input

TUPLE = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)])
BAD = {
    **{f"{name}={value!r}": (lambda name=name, value=value: TRPO("MlpPolicy", Toy(), **{name: value}),
                             rf"(?s){name}.*{value}")
       for name, values in {
           "gamma": [2, -0.1, np.nan, "high", True, None], "lam": [1.5],
           "timesteps_per_batch": [0, 2.5, -5, True], "max_kl": [0, -1, np.inf, "small"], "cg_iters": [0],
           "cg_damping": [-1], "entcoeff": [np.nan], "vf_stepsize": [-1e-3], "vf_iters": [-1, 0.5],
           "vf_batch_size": [0], "fvp_subsample": [0], "linesearch_steps": [0], "linesearch_shrink": [1.5, 0],
           "kl_tolerance": [0], "dtype": ["int32", "float16", "double trouble"],
           "seed": [-1, 1.5, "abc"]}.items()
       for value in values},
    "policy typo": (lambda: TRPO("MlpPolcy", Toy()), "'MlpPolcy'.*did you mean 'MlpPolicy'"),
    "policy of another kind": (lambda: TRPO(7, Toy()), "policy is 7.*'MlpPolicy'.*subclass"),
    "policy class of another kind": (lambda: TRPO(dict, Toy()), "policy is <class 'dict'>"),
    "environment typo": (lambda: TRPO("MlpPolicy", "CartPoel-v1"), "'CartPoel-v1'.*CartPole-v1"),
    "environment of another kind": (lambda: TRPO("MlpPolicy", 7), "environment is 7"),
    "a function instead of an environment": (lambda: TRPO("MlpPolicy", Toy), "environment is <class"),
    "Tuple of actions": (lambda: TRPO("MlpPolicy", Toy(TUPLE)), "action space is a Tuple.*MultiDiscrete"),
    "Text of actions": (lambda: TRPO("MlpPolicy", Toy(spaces.Text(3))), "action space is a Text"),
    "net_arch": (lambda: TRPO("MlpPolicy", Toy(), policy_kwargs=dict(net_arch=[0])), "net_arch holds 0"),
    "net_arch and layers": (lambda: TRPO("MlpPolicy", Toy(), policy_kwargs=dict(net_arch=[4], layers=[4])),
                            "net_arch or layers"),
    "net_arch goes on": (lambda: TRPO("MlpPolicy", Toy(), policy_kwargs=dict(net_arch=[dict(pi=[3]), 4])),
                         "net_arch is .*last"),
    "act_fun": (lambda: TRPO("MlpPolicy", Toy(), policy_kwargs=dict(act_fun="gelu")),
                "act_fun is 'gelu'.*'tanh'"),
    "policy_kwargs of another kind": (lambda: TRPO("MlpPolicy", Toy(), policy_kwargs=5), "policy_kwargs"),
    "callback": (lambda: TRPO("MlpPolicy", Toy()).learn(10, callback=5), "callback is 5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_sentence(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_an_unknown_argument_is_named():
    with pytest.raises(TypeError, match="gama"):
        TRPO("MlpPolicy", Toy(), gama=0.9)
    with pytest.raises((TypeError, ValueError), match="n_lstm"):
        TRPO("MlpPolicy", Toy(), policy_kwargs=dict(n_lstm=3))


def test_an_unknown_argument_of_the_policy_is_named():
    said = r"policy_kwargs holds 'net_arhc', which MlpPolicy does not take.*'net_arch'"
    with pytest.raises(ValueError, match=said):
        TRPO("MlpPolicy", "CartPole-v1", policy_kwargs=dict(net_arhc=[8]))

    class Wrong(MlpPolicy):
        def __init__(self, *spaces, **kwargs):
            super().__init__(*spaces, layer=[8], **kwargs)
    with pytest.raises(TypeError, match="unexpected keyword argument 'layer'"):  # not the caller's mistake
        TRPO(Wrong, "CartPole-v1")


@pytest.mark.parametrize("obs, message", [
    (np.zeros(3), r"shape \(3,\)"), (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\)"),
    (np.array([0, np.nan, 0, 0]), "nan"),
    (np.array([[0.0] * 4, [0, 0, np.inf, 0]]), "inf in row 1, field 2"), ("abcd", "shape|observation"),
    (None, "shape|observation")])
def test_observations_that_do_not_fit_are_refused(obs, message):
    with pytest.raises(ValueError, match=message):
        TRPO("MlpPolicy", "CartPole-v1").predict(obs)


@pytest.mark.parametrize("index, value", [(0, np.nan), (1, np.nan), (1, np.inf)])
def test_numbers_of_the_environment_that_are_not_finite_are_named(index, value):
    class Broken(Toy):
        def step(self, action):
            result = list(super().step(action))
            result[index] = result[index] * value
            return tuple(result)
    model = TRPO("MlpPolicy", SyncVectorEnv([Toy, Broken]), timesteps_per_batch=8, seed=0)
    before = model.get_parameters()
    with pytest.raises(ValueError, match=f"environment 1 gave .*{['observation', 'reward'][index]}"):
        model.learn(8)
    assert all((before[name] == array).all() for name, array in model.get_parameters().items())


# ---- predict

def spread_out(kind, **kwargs):
    """A model whose distributions are far from uniform."""
    model = TRPO("MlpPolicy", Toy(ACTIONS[kind] if isinstance(kind, str) else kind), seed=1,
                 policy_kwargs=SMALL, **kwargs)
    rng = np.random.default_rng(2)
    model.policy.params.flat[:] += 0.7 * rng.standard_normal(model.policy.params.flat.size).astype(np.float32)
    return model


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("kind", ACTIONS)
def test_predict_gives_actions_of_the_space(kind, deterministic):
    model, space = spread_out(kind), ACTIONS[kind]
    one, state = model.predict(np.ones(3), deterministic=deterministic)
    assert state is None and space.contains(one)
    many, state = model.predict(np.ones((5, 3)), deterministic=deterministic)
    assert state is None and len(many) == 5 and all(map(space.contains, many))
    assert model.predict(np.ones((1, 3)), deterministic=deterministic)[0].shape == (1, *space.shape)
    assert model.predict([1, 1, 1], deterministic=deterministic)[0].shape == space.shape
    if kind == "Discrete":
        assert isinstance(one, np.integer) and {one: "hashable"}[one]
        assert isinstance(many, np.ndarray) and many.dtype.kind == "i"
    elif kind == "Box":
        assert one.dtype == many.dtype == np.float32
    if deterministic:
        np.testing.assert_allclose(many, np.broadcast_to(one, many.shape), rtol=1e-5)


def test_drawn_actions_follow_the_probabilities():
    for kind in ("Discrete", "MultiDiscrete", "MultiBinary"):
        model, obs = spread_out(kind), np.ones(3)
        draws, wanted = model.predict(np.tile(obs, (20000, 1)))[0], model.action_probability(obs)
        if kind == "Discrete":
            found, wanted = [np.mean(draws == 2 + i) for i in range(3)], list(wanted)
        elif kind == "MultiBinary":
            found = draws.mean(0)
        else:
            found = [np.mean(draws[:, i] == k) for i, n in enumerate([3, 2]) for k in range(n)]
            wanted = np.concatenate(wanted)
        np.testing.assert_allclose(found, wanted, atol=0.02)
    model = spread_out(spaces.Box(-100, 100, (2,)))  # so wide that nothing is clipped
    draws, (mean, std) = model.predict(np.ones((20000, 3)))[0], model.action_probability(np.ones(3))
    np.testing.assert_allclose([draws.mean(0), draws.std(0)], [mean, std], atol=0.05 * std.max())


def test_drawn_actions_differ_and_depend_on_the_observation():
    model = spread_out("Discrete")
    assert len({model.predict(np.ones((500, 3)))[0].tobytes() for _ in range(10)}) == 10
    assert len(set(model.predict(np.ones((100, 3)))[0].tolist())) > 1
    rows = np.random.default_rng(0).standard_normal((50, 3)) * 3
    assert len(set(model.predict(rows, deterministic=True)[0].tolist())) > 1


# ---- action_probability

def network(model, obs):
    """Mean or logits by the documented names and layout of the weights, in float64."""
    p = {name: array.astype(float) for name, array in model.get_parameters().items()}
    return np.tanh(obs @ p["pi/fc0/w"] + p["pi/fc0/b"]) @ p["pi/out/w"] + p["pi/out/b"], p.get("pi/log_std")


ROWS = np.random.default_rng(3).standard_normal((6, 3)).astype(np.float32)


def distribution_and_actions(kind, model):
    """(the parts of the wanted distribution, actions, their log-probability by scipy)."""
    out, log_std = network(model, ROWS)
    actions = np.array([ACTIONS[kind].sample() for _ in ROWS])
    if kind == "Discrete":
        p = special.softmax(out, axis=1)
        return p, actions, np.log(p[range(6), actions - 2])
    if kind == "MultiDiscrete":
        parts = [special.softmax(out[:, :3], axis=1), special.softmax(out[:, 3:], axis=1)]
        return parts, actions, sum(np.log(part[range(6), actions[:, i]]) for i, part in enumerate(parts))
    if kind == "MultiBinary":
        p = special.expit(out)
        return p, actions, stats.bernoulli.logpmf(actions, p).sum(1)
    std = np.tile(np.exp(log_std), (6, 1))
    logp = [stats.multivariate_normal.logpdf(a, m, np.diag(s**2)) for a, m, s in zip(actions, out, std)]
    return [out, std], actions, np.array(logp)


@pytest.mark.parametrize("kind", ACTIONS)
def test_action_probability_agrees_with_scipy(kind):
    ACTIONS[kind].seed(4)
    model = spread_out(kind)
    wanted, actions, logp = distribution_and_actions(kind, model)
    found = model.action_probability(ROWS)
    assert isinstance(found, list) == isinstance(wanted, list)
    for part, want in zip(found, wanted) if isinstance(wanted, list) else [(found, wanted)]:
        assert part.shape == want.shape
        np.testing.assert_allclose(part, want, rtol=1e-4, atol=1e-6)
    single = model.action_probability(ROWS[2])
    for part, want in zip(single, wanted) if isinstance(wanted, list) else [(single, wanted)]:
        assert part.shape == want[2].shape
        np.testing.assert_allclose(part, want[2], rtol=1e-4, atol=1e-6)
    error = np.abs(model.action_probability(ROWS, actions=actions, logp=True)[:, 0] - logp).max()
    # shown by `pytest -s`
    print(f"\n{kind}: log-probability of actions beside scipy.stats, largest error {error:.1e}")
    p, log_p = (model.action_probability(ROWS, actions=actions, logp=log) for log in (False, True))
    np.testing.assert_allclose(p, np.exp(logp)[:, None], rtol=1e-4)
    np.testing.assert_allclose(log_p, logp[:, None], rtol=1e-4, atol=1e-5)
    one = model.action_probability(ROWS[2], actions=actions[2])
    np.testing.assert_allclose(one, np.exp(logp[[2]])[:, None], rtol=1e-4)
    with pytest.raises(ValueError, match="logp"):
        model.action_probability(ROWS, logp=True)


@pytest.mark.parametrize("kind, actions", [
    ("Discrete", [5] * 6), ("Discrete", [0] * 6), ("Discrete", [2.5] * 6), ("Discrete", [2, 3]),
    ("MultiDiscrete", [[0, 2]] * 6),
    ("MultiDiscrete", [[0, 1, 0]] * 6), ("Box", [[0, 0]] * 5), ("MultiBinary", [[0, 1, 2]] * 6)])
def test_the_probability_of_what_is_no_action_is_refused(kind, actions):
    with pytest.raises(ValueError, match="action|shape"):
        spread_out(kind).action_probability(ROWS, actions=actions)


def test_probabilities_are_those_of_normalised_observations():
    model = TRPO("MlpPolicy", Toy(), seed=0, timesteps_per_batch=64, normalize_observations=True,
                 policy_kwargs=SMALL).learn(128)
    moments = model.policy.normalizer.moments
    assert moments.count == 128
    out, _ = network(model, np.clip((ROWS - moments.mean) / moments.std, -10, 10))
    np.testing.assert_allclose(model.action_probability(ROWS), special.softmax(out, axis=1), rtol=1e-3,
                               atol=1e-5)
    before = moments.mean.copy()
    model.predict(ROWS), model.action_probability(ROWS)
    assert (moments.mean == before).all(), "prediction must not change the statistics"


# ---- parameters

def test_parameters_are_copies_in_the_order_of_the_flat_vector():
    model = TRPO("MlpPolicy", Toy(ACTIONS["Box"]))
    parameters = model.get_parameters()
    assert list(parameters) == ["pi/fc0/w", "pi/fc0/b", "pi/fc1/w", "pi/fc1/b", "pi/out/w", "pi/out/b",
                                "pi/log_std",
                                "vf/fc0/w", "vf/fc0/b", "vf/fc1/w", "vf/fc1/b", "vf/out/w", "vf/out/b"]
    shapes = [parameters[name].shape for name in ("pi/fc0/w", "pi/out/w", "vf/out/w")]
    assert shapes == [(3, 64), (64, 2), (64, 1)]
    flat = np.concatenate([array.ravel() for array in parameters.values()])
    np.testing.assert_array_equal(flat, model.policy.params.flat)
    parameters["pi/fc0/w"][:] = 7
    assert not (model.policy.params["pi/fc0/w"] == 7).any()


def test_parameters_are_loaded_from_dicts_and_files(tmp_path):
    one, other = (TRPO("MlpPolicy", Toy(), seed=seed, policy_kwargs=SMALL) for seed in (1, 2))
    assert (one.policy.params.flat != other.policy.params.flat).any()
    other.load_parameters(one.get_parameters())
    assert (one.policy.params.flat == other.policy.params.flat).all()
    third = TRPO("MlpPolicy", Toy(), seed=3, policy_kwargs=SMALL)
    third.load_parameters(one.save(tmp_path / "model"))
    assert (one.policy.params.flat == third.policy.params.flat).all()
    third.load_parameters({"pi/out/b": [1, 2, 3]}, exact_match=False)
    assert (third.policy.params["pi/out/b"] == [1, 2, 3]).all()
    assert (third.policy.params["pi/fc0/w"] == one.policy.params["pi/fc0/w"]).all()
    assert third.policy.params.flat.dtype == np.float32


@pytest.mark.parametrize("change, message", [
    (lambda p: {**p, "pi/extra": np.zeros(2)}, "pi/extra"),
    (lambda p: {k: p[k] for k in list(p)[1:]}, "pi/fc0/w"),
    (lambda p: {**p, "pi/out/b": np.zeros(2)}, r"pi/out/b has shape \(2,\)"),
    (lambda p: {**p, "pi/out/b": np.full(3, np.nan)}, "pi/out/b"),
    (lambda p: {**p, "vf/out/b": ["x"]}, "vf/out/b")])
def test_parameters_that_do_not_fit_change_nothing(change, message):
    model = TRPO("MlpPolicy", Toy(), policy_kwargs=SMALL)
    kept = model.policy.params.flat.copy()
    parameters = {name: array + 1 for name, array in model.get_parameters().items()}
    with pytest.raises(ValueError, match=message):
        model.load_parameters(change(parameters))
    assert (model.policy.params.flat == kept).all()


# ---- every space, seen and done

OBSERVATIONS = {"Box": OBS, "Discrete": spaces.Discrete(4, start=-1),
                "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
                "MultiBinary": spaces.MultiBinary(5), "image": spaces.Box(0, 255, (2, 2), np.uint8)}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("seen", OBSERVATIONS)
def test_every_pair_of_spaces_of_the_page_trains(seen, action):
    make = partial(Samples, OBSERVATIONS[seen], ACTIONS[action])
    for env in (make(), SyncVectorEnv([make] * 2)):
        model = TRPO(MlpPolicy, env, timesteps_per_batch=16, seed=0, policy_kwargs=SMALL).learn(32)
        assert model.num_timesteps == 32 and np.isfinite(model.policy.params.flat).all()
        obs = OBSERVATIONS[seen].sample()
        assert ACTIONS[action].contains(model.predict(obs)[0])


def test_a_model_knows_its_spaces():
    model = TRPO("MlpPolicy", "CartPole-v1")
    assert model.action_space.n == 2 and model.observation_space.shape == (4,)
    with pytest.raises(AttributeError, match="set_env"):
        TRPO("MlpPolicy", None).action_space  # noqa: B018


def test_a_description_of_a_space_says_who_draws_from_it():
    model = TRPO("MlpPolicy", "CartPole-v1")
    for name in ("sample", "contains", "seed"):
        with pytest.raises(AttributeError, match=f"Discrete describes a space and has no {name}; the envi.*"
                           r" model.get_env\(\).observation_space and action_space"):
            getattr(model.action_space, name)
    with pytest.raises(AttributeError, match="a model's Box describes a space and has no colour$"):
        model.observation_space.colour  # noqa: B018
    assert model.get_env().action_space.sample() in (0, 1)
