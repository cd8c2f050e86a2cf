"""Pickles: policies, models and layers go to another process and act and learn there with the same bits."""

import copy
import io
import multiprocessing
import os
import pickle
import warnings
from functools import partial

import gymnasium
import numpy as np
import pytest
from toys import ACTIONS, Moving, Toy, Vector

from trpo_np import TRPO, load_policy, make_vec_env, nn, ops
from trpo_np.autodiff import Linear, primitive, scale
from trpo_np.distributions import Categorical
from trpo_np.files.archive import read_archive
from trpo_np.logger import configure
from trpo_np.policies import MlpPolicy
from trpo_np.presets import LinearSchedule

pytestmark = pytest.mark.both_modes
SMALL = dict(layers=[8])
OBS = np.random.default_rng(5).standard_normal((7, 3)).round(3)


def again(thing):
    return pickle.loads(pickle.dumps(thing))


def squares(x):
    return ops.concatenate([x, ops.square(x)], -1)


cube = primitive(lambda x: x**3, lambda y, x: scale(3 * x * x, y, x))
twice = primitive(np.multiply, lambda y, x, c: Linear(lambda dx: dx * c, lambda g: g * c))


def multiply_by_two(x):
    return x * 2


multiply = primitive(np.multiply, lambda y, x, c: Linear(lambda dx: dx * c, lambda g: g * c))


# --- ops and layers -----------------------------------------------------------------------------------------

def test_ops_pickle_by_name():
    for name in ops.__all__:
        assert again(getattr(ops, name)) is getattr(ops, name), name
    assert again(multiply) is multiply and multiply.__module__ == __name__ and multiply is not ops.multiply


@pytest.mark.parametrize("op", [cube, twice])
def test_an_op_bound_under_another_name_is_refused_by_pickle(op):
    with pytest.raises(pickle.PicklingError, match="trpo|test_pickle|lambda"):
        pickle.dumps(op)


LAYERS = {
    "dense": (nn.dense("a", 4, gain=0.5), (3,)), "elementwise": (nn.elementwise(ops.sin), (3,)),
    "function": (nn.function(squares), (3,)), "flatten": (nn.flatten(), (3, 2)),
    "mlp": (nn.mlp("a", [4, 3], ops.tanh), (3,)), "out": (nn.mlp("a", [4], ops.tanh, ("o", 2, 0.1)), (3,)),
    "relu": (nn.mlp("a", (4,), ops.relu, ("o", 2, 0.1)), (3,)), "none": (nn.serial(), (3,)),
    "named": (nn.named("b", nn.serial(nn.dense("a", 4), nn.elementwise(ops.tanh), nn.dense("c", 2))), (3,)),
    "conv": (nn.serial(nn.conv("a", 4, [3, 2], stride=2, relu=True), nn.flatten()), (7, 6, 2))}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("way", [again, copy.deepcopy, lambda layer: again(again(layer))])
def test_a_layer_comes_back_as_it_was(kind, way, rng):
    layer, shape = LAYERS[kind]
    other = way(layer)
    (out, weights), (same, others) = layer.init(shape), other.init(shape)
    assert out == same and list(weights) == list(others) and layer.dense == other.dense
    assert layer.takes_bytes == other.takes_bytes
    params = {name: w.draw(np.random.default_rng(1), w.shape) for name, w in weights.items()}
    for name, w in others.items():
        np.testing.assert_array_equal(w.draw(np.random.default_rng(1), w.shape), params[name])
    x = rng.standard_normal((5, *shape))
    np.testing.assert_array_equal(layer.apply(params, x), other.apply(params, x))


def test_an_lstm_layer_comes_back(rng):
    layer = nn.lstm("a", 4, layer_norm=True)
    weights = layer.init((3,))[1]
    params = {name: w.draw(rng, w.shape) for name, w in weights.items()}
    given = params, rng.standard_normal((2, 5, 3)), np.zeros((2, 5), bool), np.zeros((5, 8))
    for a, b in zip(layer.apply(*given), again(layer).apply(*given)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", [list, np.array])
def test_widths_that_change_later_change_no_layer(kind):
    widths = kind([4])
    layers = nn.mlp("a", widths, ops.tanh), nn.mlp("a", widths=widths, activation=ops.tanh)
    widths[0] = 5
    for layer in layers:
        assert again(layer).init((3,))[0] == layer.init((3,))[0] == (4,)


@pytest.mark.parametrize("kind", [iter, partial(map, int), lambda widths: dict(enumerate(widths)).values()])
def test_widths_that_can_be_read_once_or_do_not_pickle_are_kept(kind):
    for layer in (nn.mlp("a", kind([5, 4]), ops.tanh), nn.mlp("a", widths=kind([5, 4]), activation=ops.tanh)):
        assert list(again(again(layer)).init((3,))[1]) == list(layer.init((3,))[1]) == [
            "a0/w", "a0/b", "a1/w", "a1/b"]


def test_a_layer_that_was_changed_is_not_taken_for_the_one_that_was_made():
    made = nn.dense("a", 4)
    changed = made._replace(init=multiply, apply=multiply)
    assert again(changed) == changed
    for wrong in (made._replace(init=multiply), made._replace(takes_bytes=True)):
        with pytest.raises((AttributeError, pickle.PicklingError), match="local"):
            pickle.dumps(wrong)
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(nn.function(lambda x: x))


# --- policies -----------------------------------------------------------------------------------------------

class Own(MlpPolicy):
    """A class of a user, which sets things before and after the networks are made."""

    def __init__(self, *given, **kwargs):
        self.width = 5
        super().__init__(*given, **kwargs)
        self.note = "mine"

    def encoder(self, name):
        width = self.width
        return nn.serial(nn.named(name, nn.dense("e", width)),
                         nn.Layer(lambda s: (s, {}), lambda p, x: x * 2))

    def make_distribution(self, log_std_init):
        return Categorical(3)


POLICIES = {
    "plain": ("MlpPolicy", SMALL), "shared": ("MlpPolicy", dict(net_arch=[8, dict(pi=[4], vf=[])])),
    "relu": ("MlpPolicy", SMALL | dict(act_fun=ops.relu)), "function": ("MlpPolicy", dict(extractor=squares)),
    "layer": ("MlpPolicy", SMALL | dict(extractor=nn.dense("e", 6), share_features=True)),
    "lstm": ("MlpLstmPolicy", dict(n_lstm=4, layers=[8])), "own": (Own, SMALL),
    "layer norm": ("MlpLnLstmPolicy", dict(n_lstm=4, share_features=True))}
IMAGES = {
    "cnn": ("CnnPolicy", dict(cnn_extractor=nn.serial(nn.conv("a", 4, 4, 4), nn.flatten()))),
    "cnn shared": ("CnnPolicy", dict(cnn_extractor=nn.serial(nn.conv("a", 4, 4, 4)), share_features=True)),
    "cnn function": ("CnnPolicy", dict(cnn_extractor=multiply_by_two)),
    "cnn lstm": ("CnnLstmPolicy", dict(n_lstm=4, cnn_extractor=nn.serial(nn.conv("a", 4, 4, 4)))),
    "by name": ("CnnPolicy", dict(cnn_extractor="cnn_small"))}


def environment(kind):
    if kind == "by name":
        return gymnasium.wrappers.ResizeObservation(Moving(layout="last"), (44, 40))
    return Moving(layout="last") if kind in IMAGES else Vector([Toy] * 2)


def trained(kind, steps=64, **settings):
    (name, kwargs), env = (POLICIES | IMAGES)[kind], environment(kind)
    usual = dict(timesteps_per_batch=32, seed=4, normalize_observations=True, policy_kwargs=kwargs)
    return TRPO(name, env, **usual | settings).learn(steps)


def seen(model):
    """A batch of observations for a model."""
    shape = model.observation_space.shape
    return OBS if shape == (3,) else np.random.default_rng(0).integers(0, 255, (7, *shape), np.uint8)


def draws(model):
    """Deterministic actions, then drawn ones, then one of a single observation, bit for bit."""
    obs = seen(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a state, step after step
        taken = [model.predict(obs, deterministic=True)[0], *[model.predict(obs)[0] for _ in range(3)]]
    return [np.asarray(a).tobytes() for a in taken]


@pytest.mark.filterwarnings("ignore:the model is pickled without")
@pytest.mark.parametrize("kind", [*POLICIES, *IMAGES])
def test_policies_and_models_come_back(kind, tmp_path):
    model = trained(kind)
    policy, other = again(model.policy), again(model)
    assert type(policy) is type(other.policy) is type(model.policy)
    assert vars(policy).keys() | {"_row_network", "_critic_widths"} >= vars(model.policy).keys()
    assert other.policy.params.flat.base is None and other.adam.m.flags.writeable
    files = [read_archive(one.save(tmp_path / "m")) for one in (model, other)]
    for record, _ in files:
        record["policy"].pop("kwargs")  # of a function there is its address
    assert files[0][0] == files[1][0] and list(files[0][1]) == list(files[1][1])
    assert all((files[0][1][name] == files[1][1][name]).all() for name in files[0][1])
    assert draws(policy) == draws(other) == draws(model)
    # the environments go along, in the state in which they were; these start anew
    for one in (model, other):
        # the environment by name, which holds a lambda, did not go along; its copy would go on in this one
        if kind == "by name":
            one.set_env(environment(kind))
        one.set_env(one.get_env())
        one.learn(64, reset_num_timesteps=False)
    assert other.num_timesteps == model.num_timesteps >= 128
    np.testing.assert_array_equal(model.policy.params.flat, other.policy.params.flat)
    assert list(model.recent) == list(other.recent)


def test_a_policy_pickles_small_and_as_often_as_one_likes():
    policy = trained("plain").policy
    state = policy.__getstate__()
    assert not state.keys() & {"trunk", "pi_head", "vf_head", "policy_weights", "_row_network"}
    assert pickle.dumps(again(again(policy))) == pickle.dumps(again(policy))
    assert len(pickle.dumps(policy)) < policy.params.flat.nbytes + 4096


def test_a_copy_has_parameters_of_its_own():
    policy = trained("plain").policy
    other = again(policy)
    other.params["pi/out/w"][...] += 1
    assert (other.action_probability(OBS) != policy.action_probability(OBS)).any()
    kept = draws(policy.seed(1))
    assert draws(policy.seed(1)) == kept


# --- models: what goes along --------------------------------------------------------------------------------

def test_all_settings_go_along():
    model = trained("plain", max_kl=LinearSchedule(0.02, 0.01), gamma=0.9, verbose=0, normalize_rewards=True)
    other = again(model)
    assert other.settings == model.settings and other.seed == model.seed and other.adam.t == model.adam.t
    assert other.policy_kwargs == model.policy_kwargs and other.policy_class is model.policy_class
    assert other.recent.maxlen == 100


def test_loggers_and_open_files_stay_behind(tmp_path):
    model = TRPO("MlpPolicy", Toy(), timesteps_per_batch=32, policy_kwargs=SMALL, seed=0)
    model.loggers += configure(tmp_path, ["csv"]).outputs
    model.learn(32)
    other = again(model)
    assert other.loggers == [] and other.logger.outputs == []
    other.learn(32, reset_num_timesteps=False)
    model.loggers[0].close()


class Unpicklable(Toy):
    """An environment that holds what does not pickle."""

    def __init__(self):
        super().__init__()
        self.file = io.TextIOWrapper(io.BytesIO())


def test_an_environment_that_does_not_pickle_stays_behind_with_a_word():
    model = TRPO("MlpPolicy", Unpicklable(), timesteps_per_batch=32, policy_kwargs=SMALL, seed=0).learn(32)
    with pytest.warns(UserWarning, match="without its environment.*TextIOWrapper.*set_env"):
        other = again(model)
    assert other.get_env() is None and draws(other) == draws(model)
    with pytest.raises(ValueError, match="set_env"):
        other.learn(32)
    other.set_env(Toy())
    other.learn(32, reset_num_timesteps=False)
    model.set_env(Toy())
    model.learn(32, reset_num_timesteps=False)
    np.testing.assert_array_equal(model.policy.params.flat, other.policy.params.flat)


def test_a_copy_within_the_process_keeps_any_environment_that_can_be_copied():
    class Local(Toy):  # pickle does not find it
        pass
    model = TRPO("MlpPolicy", Local(), timesteps_per_batch=32, policy_kwargs=SMALL, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        deep, shallow = copy.deepcopy(model), copy.copy(model)
    assert type(deep.env) is Local and deep.env is not model.env and shallow.env is model.env
    deep.learn(32)


def test_vector_environments_go_along_where_their_parts_do():
    model = TRPO("MlpPolicy", make_vec_env("CartPole-v1", 2), timesteps_per_batch=32, seed=0)
    other = again(model)
    assert other.get_env().num_envs == 2
    other.learn(32)
    model.learn(32)
    np.testing.assert_array_equal(model.policy.params.flat, other.policy.params.flat)


def test_a_model_without_environment_or_network_pickles():
    assert again(TRPO("MlpPolicy", None, gamma=0.5)).gamma == 0.5


# --- workers ------------------------------------------------------------------------------------------------

def work(thing):
    return draws(thing)


def learn_and_save(given):
    model, path = given
    return model.learn(64, reset_num_timesteps=False).save(path)


def test_spawned_workers_get_policies_and_models(tmp_path):
    model = trained("plain")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        of_policy, of_model = pool.map(work, [model.policy, model])
        path = pool.apply(learn_and_save, [(model, tmp_path / "there")])
    assert of_policy == of_model == draws(model)
    model = trained("plain")
    model.set_env(model.get_env())  # as in the worker, its episodes start anew
    here = model.learn(64, reset_num_timesteps=False).save(tmp_path / "here")
    (record, arrays), (there, its) = read_archive(here), read_archive(path)
    assert record == there and all((arrays[name] == its[name]).all() for name in arrays)


def test_policies_of_one_file_draw_alike_only_if_seeded_alike(tmp_path):
    model = TRPO("MlpPolicy", Toy(ACTIONS["Box"]), timesteps_per_batch=32, policy_kwargs=SMALL, seed=0)
    path = model.save(os.path.join(tmp_path, "model"))
    one, other = load_policy(path), load_policy(path)
    assert draws(one)[0] == draws(other)[0] and draws(one)[1:] != draws(other)[1:]
    assert draws(load_policy(path, seed=3)) == draws(load_policy(path).seed(3)) == draws(model.policy.seed(3))
    assert draws(load_policy(path, seed=3))[1:] != draws(load_policy(path, seed=4))[1:]
    # a model goes on where the saved one was, unless it is given a seed
    fresh = [TRPO.load(path, **given) for given in ({}, {}, dict(seed=1), dict(seed=1), dict(seed=2))]
    drawn = [draws(each) for each in fresh]
    assert drawn[0] == drawn[1] and drawn[2] == drawn[3] and len({d[1] for d in drawn}) == 3
