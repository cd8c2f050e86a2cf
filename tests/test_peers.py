"""Words of stable-baselines: what is taken, and the sentence where something has another name here."""

import re
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from toys import Toy

from trpo_np import TRPO, peers
from trpo_np.policies import MlpPolicy


def small(**kwargs):
    return TRPO(MlpPolicy, Toy(), timesteps_per_batch=64, seed=0, **kwargs)


@pytest.mark.parametrize("name", [*peers.WITHOUT_EFFECT["TRPO"]])
def test_an_argument_without_effect_is_taken_with_a_warning(name):
    with pytest.warns(UserWarning, match=f"TRPO: {name} has no effect here"):
        model = small(**{name: None})
    np.testing.assert_array_equal(model.policy.params.flat, small().policy.params.flat)


@pytest.mark.parametrize("name, here", peers.ELSEWHERE["TRPO"].items())
def test_an_argument_of_another_name_is_answered_with_the_name_here(name, here):
    with pytest.raises(ValueError) as caught:
        small(**{name: 1})
    assert str(caught.value) == f"TRPO takes no {name}; write {here}"


def test_an_unknown_argument_is_answered_with_the_nearest_one():
    with pytest.raises(TypeError, match=r"TRPO\(\) got an unexpected .* 'gama' \(did you mean 'gamma'\?\)"):
        small(gama=0.9)


@pytest.mark.parametrize("name, here", peers.ATTRIBUTES.items())
def test_an_attribute_of_another_name_is_answered(name, here):
    model = small()
    with pytest.raises(AttributeError, match=re.escape(f"no attribute '{name}'; write {here}")):
        getattr(model, name)
    with pytest.warns(UserWarning, match=re.escape(f"{name} is no setting of TRPO, and has no effect; ")):
        setattr(model, name, 1)


def test_a_subclass_hears_which_methods_nothing_calls():
    with pytest.warns(UserWarning, match="Mine: nothing calls train, _setup_model here; `update`"):
        type("Mine", (TRPO,), {"train": None, "_setup_model": None})


def test_a_learning_rate_in_the_place_of_gamma_is_seen():
    with pytest.warns(UserWarning, match="gamma is 0.001: rewards a step ahead hardly count. The third"):
        TRPO(MlpPolicy, Toy(), 1e-3, 64)


def test_layers_that_are_all_shared_are_pointed_out(tmp_path):
    with pytest.warns(UserWarning, match=re.escape("net_arch=dict(pi=[8, 4], vf=[8, 4])")):
        path = small(policy_kwargs=dict(net_arch=[8, 4])).save(tmp_path / "m")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TRPO.load(path)
        small(policy_kwargs=dict(net_arch=[8, dict(pi=[4], vf=[4])]))


@pytest.mark.parametrize("call, said", [
    (lambda m: m.learn(64, eval_env=Toy()), "learn takes no eval_env; write callback=EvalCallback"),
    (lambda m: m.predict(np.zeros(3), episode_start=True), "predict takes no episode_start; write mask"),
    (lambda m: small(policy_kwargs=dict(activation_fn="tanh")), "holds 'activation_fn'; write act_fun: "),
    (lambda m: small(policy_kwargs=dict(features_extractor_class=object)), "write extractor")])
def test_other_functions_answer_too(call, said):
    with pytest.raises(ValueError, match=said):
        call(small())


def test_a_warning_shows_the_line_of_the_user(tmp_path):
    model = small()
    for call in (lambda: small(device="cpu"), lambda: model.save(tmp_path / "m", cloudpickle=True),
                 lambda: TRPO.load(tmp_path / "m", device="cpu")):
        with pytest.warns(UserWarning, match="has no effect here") as caught:
            call()
        assert {warning.filename for warning in caught} == {__file__}


def test_files_and_experts(tmp_path):
    model = small()
    with pytest.warns(UserWarning, match="save: cloudpickle has no effect here: .*no pickles"):
        path = model.save(tmp_path / "m", cloudpickle=False)
    with pytest.warns(UserWarning, match="custom_objects has no effect"):
        assert TRPO.load(path, custom_objects={}).seed == 0
    obs = np.random.default_rng(0).standard_normal((20, 3))
    actions = model.predict(obs, deterministic=True)[0]
    with pytest.warns(UserWarning, match="pretrain: adam_epsilon has no effect"):
        model.pretrain((obs, actions), n_epochs=1, adam_epsilon=1e-8)


def test_the_third_argument_of_learn_is_the_seed_and_said_to_be():
    with pytest.warns(UserWarning, match="third argument by position, 7, is the seed here"):
        assert small().learn(64, None, 7).seed == 7


def test_methods_of_stable_baselines_models():
    model = small()
    assert model.n_envs == 1 and model.setup_model() is None and model.get_vec_normalize_env() is None
    model.set_random_seed(5)
    again = small()
    again.set_random_seed(5)
    assert model.seed == 5
    obs = np.zeros((20, *model.observation_space.shape))
    drawn = model.predict(obs)[0]
    np.testing.assert_array_equal(drawn, again.predict(obs)[0])
    assert (drawn != small().predict(obs)[0]).any()
    arrays = model.get_parameter_list()
    for array, named in zip(arrays, model.get_parameters().values(), strict=True):
        np.testing.assert_array_equal(array, named)
    arrays[0][:] = 7
    assert not (model.get_parameter_list()[0] == 7).any()
    other = small().learn(128)
    model.set_parameters(other.get_parameters(), exact_match=True, device="cpu")
    np.testing.assert_array_equal(model.policy.params.flat, other.policy.params.flat)
    assert other.ep_info_buffer == [{"r": total, "l": length} for total, length in other.recent] != []


def test_a_net_arch_may_be_the_dict_alone():
    one, other = (small(policy_kwargs=dict(net_arch=net_arch)) for net_arch in (dict(pi=[8], vf=[4]),
                                                                                [dict(pi=[8], vf=[4])]))
    np.testing.assert_array_equal(one.policy.params.flat, other.policy.params.flat)


def test_multi_input_policy_is_the_mlp_policy():
    class Two(Toy):
        observation_space = gymnasium.spaces.Dict(a=gymnasium.spaces.Discrete(3))
    assert type(TRPO("MultiInputPolicy", Two()).policy) is MlpPolicy


@pytest.mark.parametrize("path, here", peers.NOT_HERE.items())
def test_a_name_that_has_no_place_here_is_answered(path, here):
    module, _, name = path.rpartition(".")
    with pytest.raises(ImportError, match=re.escape(f"; {here}")):
        exec(f"from trpo_np.{module} import {name}")
    if not name[0].isupper():
        with pytest.raises(ImportError):
            exec(f"import trpo_np.{path}")


def test_a_name_that_nobody_knows_is_an_attribute_that_is_missing():
    from trpo_np.common import logger
    with pytest.raises(AttributeError, match="module 'trpo_np.common.logger' has no attribute 'colour'"):
        logger.colour  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match="No module named 'trpo_np.common.colour'"):
        import trpo_np.common.colour  # noqa: F401


def test_the_guide_shows_the_table():
    page = Path(peers.__file__).parent / "docs" / "migrating.md"
    assert peers.guide() in page.read_text()
