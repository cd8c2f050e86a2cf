"""A policy as steps: they compute what `predict` does; what cannot be said in steps is refused by name."""

import gymnasium
import numpy as np
import pytest
from exports import (
    CASES,
    FIELDS,
    IMAGE,
    KINDS,
    MIXED,
    SAME,
    difference,
    many,
    model_of,
    observations,
    predicted,
    starts_of,
)
from toys import OBS, Samples

from trpo_np import TRPO, nn, ops
from trpo_np.deploy import reference, samples, steps
from trpo_np.policies import CnnPolicy, MlpPolicy


def computed(program, rows, starts):
    """The outputs and actions of the reference."""
    if not program.memory:
        outputs = steps.run(program, rows)[0]
        return outputs, reference.act(program.action, outputs)
    outputs, memory = [], np.zeros((1, program.memory), np.float32)
    for row, start in zip(rows, starts):
        y, memory = steps.run(program, row[None], memory * (not start))
        outputs.append(y[0])
    return np.stack(outputs), reference.act(program.action, np.stack(outputs))


def check(model, n):
    policy = model.policy
    program = steps.describe(policy)
    rows, starts = observations(program, policy, n), starts_of(n)
    ours = predicted(program, policy, rows, starts)
    assert np.ptp(ours[0]) > 0  # else the actions say nothing
    worst = difference(policy, ours, computed(program, rows, starts))
    assert worst < 1e-5
    return worst


@pytest.mark.parametrize("name, kind", [*CASES, ("MlpPolicy", "integers")])
def test_the_steps_compute_what_predict_does(name, kind):
    check(model_of(name, kind), 10_000 if name == "MlpPolicy" else 300)


@pytest.mark.parametrize("name", ["MlpLstmPolicy", "MlpLnLstmPolicy"])
def test_memory_does_not_drift_in_2000_steps(name):
    check(model_of(name), 2000)


@pytest.mark.parametrize("kwargs", [
    dict(act_fun="relu"), dict(act_fun="elu"), dict(act_fun="sigmoid"),
    dict(net_arch=[8, dict(pi=[4], vf=[4])]),
    dict(extractor=nn.serial(nn.dense("embed", 5), nn.elementwise(ops.relu))), dict(layers=[]),
    dict(extractor=nn.mlp("embed", [5, 4], ops.elu), share_features=True)])
def test_other_networks(kwargs):
    check(model_of("MlpPolicy", "Discrete", **kwargs), 500)


@pytest.mark.parametrize("kwargs", [
    dict(net_arch=[8, "lstm", 6, dict(pi=[5], vf=[])]), dict(share_features=True, net_arch=["lstm", 4])])
@pytest.mark.parametrize("name", ["MlpLstmPolicy", "MlpLnLstmPolicy"])
def test_layers_around_an_lstm(name, kwargs):
    check(model_of(name, **kwargs), 200)


@pytest.mark.parametrize("kwargs", [dict(cnn_extractor=SAME), dict(share_features=True, layers=[7]),
                                    dict(cnn_extractor=nn.serial(nn.flatten(), nn.dense("all", 6)))])
def test_other_networks_for_images(kwargs):
    check(model_of("CnnPolicy", "MultiBinary", **kwargs), 200)


@pytest.mark.parametrize("name, obs", [("MlpPolicy", FIELDS), ("MlpLstmPolicy", FIELDS), ("CnnPolicy", MIXED),
                                       ("CnnLnLstmPolicy", MIXED)])
def test_fields_keep_the_order_of_the_file(name, obs):
    model = model_of(name, obs=obs)
    check(model, 100)
    fields = steps.describe(model.policy).fields
    assert [field.path[0] for field in fields] == sorted(field.path[0] for field in fields)
    assert [field.start for field in fields] == [0, *(field.stop for field in fields[:-1])]


def test_an_encoder_of_layers_is_described_if_the_class_says_so():
    class Own(MlpPolicy):
        def encoder(self, name):
            return nn.named(name, nn.dense("own", 5))

    with pytest.raises(ValueError, match="Own has methods of its own.*layered = True"):
        steps.describe(Own(OBS, KINDS["Box"]).draw(np.random.default_rng(0)))
    Own.layered = True
    policy = Own(OBS, KINDS["Box"]).draw(np.random.default_rng(0))
    assert samples.compared(steps.describe(policy), policy) < 1e-6


def test_a_class_that_says_so_wrongly_is_found_out():
    class Wrong(MlpPolicy):
        layered = True

        def to_env(self, actions):
            return -super().to_env(actions)

    policy = Wrong(OBS, KINDS["Box"]).draw(np.random.default_rng(0))
    with pytest.raises(ValueError, match="the layers of Wrong do not say all that it computes"):
        samples.compared(steps.describe(policy), policy)


def with_squares(x):
    return ops.concatenate([x, ops.square(x)], -1)


OWN = nn.Layer(lambda shape: (shape, {}), with_squares)


@pytest.mark.parametrize("kwargs, said", [
    (dict(extractor=with_squares), "with_squares is a function of ops"),
    (dict(act_fun=ops.softplus), "softplus"),
    (dict(extractor=OWN), "a layer of functions of your own.*with_squares")])
def test_functions_are_refused_by_name(kwargs, said):
    with pytest.raises(ValueError, match=said):
        steps.describe(MlpPolicy(OBS, KINDS["Box"], **kwargs).draw(np.random.default_rng(0)))


def test_an_encoder_of_ones_own_for_images_is_refused():
    class Own(CnnPolicy):
        layered = True

        def encoder(self, name):
            return nn.named(name, nn.serial(nn.flatten(), nn.dense("own", 5)))

    with pytest.raises(ValueError, match="give the layer as cnn_extractor"):
        policy = Own(IMAGE, KINDS["Box"], cnn_extractor=nn.serial(nn.flatten(), nn.dense("own", 4)))
        steps.describe(policy.draw(np.random.default_rng(0)))


def test_fields_whose_keys_are_the_same_once_joined_by_dots_are_named():
    box = gymnasium.spaces.Box(-1, 1, (2,))
    obs = gymnasium.spaces.Dict({"a.b": box, "a": gymnasium.spaces.Dict(b=box), "c": box})
    with pytest.raises(ValueError, match="two fields of the observation have the same name, obs.a.b; rename"):
        steps.describe(model_of("MlpPolicy", obs=obs).policy)


def test_the_mean_is_subtracted_in_the_type_of_the_observation():
    precise = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    model = TRPO("MlpPolicy", Samples(precise, KINDS["Box"]), normalize_observations=True, seed=0)
    big = 1e6 + np.array([[0.01, 0.02, 0.03]])
    model.policy.normalizer.restore({"count": np.array(9.0), "mean": big[0] - 0.005, "m2": np.full(3, 9e-4)})
    scale = steps.describe(model.policy).steps[0].given
    exact = reference.scale(big, **scale)
    np.testing.assert_allclose(exact, 0.5, rtol=1e-4)
    assert np.abs(reference.scale(big.astype(np.float32), **scale) - exact).max() > 0.1


def test_images_of_floats_are_normalised_as_they_are_given():
    model, rng = model_of("CnnPolicy", obs=gymnasium.spaces.Box(0, 4, IMAGE.shape)), np.random.default_rng(1)
    policy = model.policy
    policy.normalizer.restore(policy.normalizer.arrays() | {"mean": rng.random(policy.normalizer.mean.shape)})
    program, rows = steps.describe(policy), 4 * rng.random((9, np.prod(IMAGE.shape))).astype(np.float32)
    ours = predicted(program, policy, rows, starts_of(9))
    assert difference(policy, ours, computed(program, rows, starts_of(9))) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name, kind", CASES)
def test_many_observations_of_each(name, kind):
    print(f"{name}, {kind}: largest difference {check(model_of(name, kind), many(name)):.1e}")
