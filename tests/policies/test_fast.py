"""The fast paths serve only networks that are declared standard, and act as the composed policy does."""

import copy

import numpy as np
import pytest
import reference
from gymnasium import spaces as gym

from trpo_np import nn, ops
from trpo_np.comm import OneProcess
from trpo_np.distributions import Categorical, DiagGaussian, Distribution
from trpo_np.kernels import act
from trpo_np.normalize import ObservationNormalizer
from trpo_np.params import Params
from trpo_np.policies import MlpLnLstmPolicy, MlpLstmPolicy, MlpPolicy, RecurrentPolicy, fast

OBS = gym.Box(-np.inf, np.inf, (3,))
BOX, CHOICE = gym.Box(-1, 1, (2,)), gym.Discrete(4)
X = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)


def draw(cls, actions=BOX, **options):
    policy = cls(OBS, actions, **options).draw(np.random.default_rng(0))
    policy.params["pi/out/w"][...] *= 100
    return policy


def check_acts_as_composed(policy, X=X):
    """Compare the actions of a rollout and of `predict` with the policy's own `distribution`."""
    memory = {"pi": np.zeros((6, 16), np.float32)} if isinstance(policy, RecurrentPolicy) else {}
    noise = policy.dist.noise(np.random.default_rng(2), 2, 6).astype(np.float32)
    step, raw, after = policy.actor(noise, memory)
    state = memory.get("pi")
    for t in range(2):
        obs = X + t
        params, _, state = policy.distribution(obs, state)
        sent, expected = step(t, obs, np.zeros(6, bool)), policy.dist.sample(params, noise[t])
        np.testing.assert_allclose(raw[t], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(sent, policy.to_env(raw[t]), rtol=1e-6)
    params, _, _ = policy.distribution(X)
    modes = policy.to_env(policy.dist.mode(params))
    np.testing.assert_allclose(policy.predict(X, deterministic=True)[0], modes, rtol=1e-4, atol=1e-5)
    one = policy.predict(X[2], deterministic=True)[0]
    np.testing.assert_allclose(one, modes[2], rtol=1e-4, atol=1e-5)


# --- custom policies ----------------------------------------------------------------------------------------

class Settled(MlpPolicy):
    """Changes defaults only, so it is still standard."""

    def __init__(self, *spaces, **options):
        super().__init__(*spaces, **{"layers": [8]} | options)


class OwnPi(MlpPolicy):
    def pi(self, params, x):
        return -3 * super().pi(params, x)


class OwnDecode(MlpPolicy):
    def decode(self, params, features):
        return 2 * super().decode(params, features)


class OwnToEnv(MlpPolicy):
    def to_env(self, actions):
        return super().to_env(actions) * np.float32(0.5)


class OwnValues(MlpPolicy):
    def vf(self, params, features):
        return 10 * super().vf(params, features)


class OwnEncoder(MlpPolicy):
    def encoder(self, name):
        return nn.elementwise(ops.sin)


class DoublePi:
    def pi(self, params, x):
        return 2 * super().pi(params, x)


class WithMixin(DoublePi, MlpPolicy):
    pass


class OwnUnroll(MlpLstmPolicy):
    def unroll(self, params, seq):
        out, states = super().unroll(params, seq)
        return 3 * out, states


OWN = [OwnPi, OwnDecode, OwnToEnv, OwnValues, OwnEncoder, WithMixin]


@pytest.mark.parametrize("cls", [MlpPolicy, Settled])
@pytest.mark.parametrize("actions", [BOX, CHOICE])
def test_standard_policies_are_fast_and_act_as_composed(cls, actions):
    policy = draw(cls, actions)
    assert policy.is_fast and policy._critic_widths is not None
    check_acts_as_composed(policy)


@pytest.mark.parametrize("cls", OWN)
@pytest.mark.parametrize("actions", [BOX, CHOICE])
def test_a_subclass_that_overrides_any_method_acts_as_it_says(cls, actions):
    policy = draw(cls, actions, layers=[8])
    assert not policy.is_fast
    check_acts_as_composed(policy)


@pytest.mark.parametrize("cls", [MlpLstmPolicy, MlpLnLstmPolicy, OwnUnroll])
def test_recurrent_policies_act_as_composed(cls):
    policy = draw(cls, n_lstm=8)
    policy.params.flat[:] += 0.1 * np.random.default_rng(1).standard_normal(policy.params.flat.size)  # biases
    assert policy.is_fast == (cls is not OwnUnroll)
    check_acts_as_composed(policy)


@pytest.mark.parametrize("cls", [MlpPolicy, MlpLstmPolicy, MlpLnLstmPolicy, OwnPi, OwnUnroll])
@pytest.mark.parametrize("normalize", [False, True])
def test_observations_in_float64_act_as_composed(cls, normalize):
    offset = np.array([1.7e9, 0, -1e12]) * normalize
    options = dict(n_lstm=8) if issubclass(cls, RecurrentPolicy) else {}
    policy = cls(gym.Box(-np.inf, np.inf, (3,), np.float64), BOX, normalize=normalize, **options)
    policy.draw(np.random.default_rng(0)).params["pi/out/w"][...] *= 100
    policy.normalizer.merge(X + offset, OneProcess())
    assert policy.is_fast == (cls not in OWN + [OwnUnroll])
    if normalize:
        x = (X - X.mean(0)) / X.std(0)
        np.testing.assert_allclose(policy.observe(X + offset)[0], x, atol=1e-3)  # -1e12 has steps of 1e-4
    check_acts_as_composed(policy, X + offset)


def test_the_critics_loss_is_that_of_an_own_critic():
    goal, weights = np.ones(6, np.float32), np.float32([1, 0, 2, 0.5, 1, 3])
    losses = {}
    for cls in (MlpPolicy, OwnValues):
        policy = draw(cls)
        critic = policy.critic_params
        losses[cls] = policy.critic_loss(critic, X, goal, weights)[-2]
        expected = reference.value_loss(policy.value(X), goal, weights)
        np.testing.assert_allclose(losses[cls], expected, rtol=1e-5)
    assert abs(losses[OwnValues] - losses[MlpPolicy]) > 1


def test_a_method_given_to_one_policy_alone_is_what_acts():
    policy = draw(MlpPolicy)
    own = policy.pi
    policy.pi = lambda params, x: -own(params, x)
    assert not policy.is_fast
    check_acts_as_composed(policy)


@pytest.mark.parametrize("name", ["trunk", "pi_head"])
def test_layers_that_take_the_place_of_others_are_what_acts(name):
    policy = draw(MlpPolicy, net_arch=[8, dict(pi=[8], vf=[8])])
    policy.predict(X[0])  # which may cache the old network
    layer = getattr(policy, name)
    setattr(policy, name, layer._replace(apply=lambda params, x: ops.sin(layer.apply(params, x))))
    assert not policy.is_fast
    check_acts_as_composed(policy)


def test_a_normaliser_that_takes_the_place_of_another_is_what_acts():
    class Halved(ObservationNormalizer):
        def __call__(self, obs):
            return super().__call__(obs) * np.float32(0.5)

    policy = draw(MlpPolicy, normalize=True)
    before = policy.predict(X[0], deterministic=True)[0]
    policy.normalizer = ObservationNormalizer(3, True)
    policy.normalizer.merge(5 * X + 3, OneProcess())
    assert policy.is_fast and (policy.predict(X[0], deterministic=True)[0] != before).any()
    check_acts_as_composed(policy)
    policy.normalizer = Halved(3, True)
    policy.normalizer.merge(5 * X + 3, OneProcess())
    assert not policy.is_fast
    check_acts_as_composed(policy)


def test_statistics_that_move_are_seen():
    policy = draw(MlpPolicy, normalize=True)
    before = policy.predict(X[0], deterministic=True)[0]
    policy.normalizer.merge(5 * X + 3, OneProcess())
    assert (policy.predict(X[0], deterministic=True)[0] != before).any()
    check_acts_as_composed(policy)


def test_a_copy_has_networks_of_its_own():
    policy = draw(MlpPolicy)
    policy.predict(X[0])
    other = copy.deepcopy(policy)
    other.params["pi/out/b"][...] += 0.5
    assert (other.predict(X[0], deterministic=True)[0] != policy.predict(X[0], deterministic=True)[0]).any()
    check_acts_as_composed(other)


@pytest.mark.parametrize("options", [
    dict(act_fun="relu"), dict(dtype="float64"), dict(extractor=lambda x: ops.sin(x)),
    dict(extractor=nn.serial(nn.dense("front", 5), nn.elementwise(ops.tanh)))])
def test_other_networks_are_composed(options):
    policy = draw(MlpPolicy, **options)
    assert not policy.is_fast and policy._row_network is None
    check_acts_as_composed(policy)


def test_an_extractor_of_dense_tanh_layers_is_a_part_of_the_network():
    policy = draw(MlpPolicy, extractor=nn.mlp("front", [5, 4], ops.tanh))
    assert policy.is_fast and policy._network().widths.tolist() == [3, 5, 4, 64, 64, 2]
    check_acts_as_composed(policy)


def test_only_dense_tanh_layers_with_which_the_parameters_begin_have_widths():
    front, back = ("a/w", "a/b", ops.tanh), ("b/w", "b/b", None)
    arrays = {"a/w": np.ones((3, 5)), "a/b": np.ones(5), "b/w": np.ones((5, 2)), "b/b": np.ones(2)}
    params = Params.pack(arrays, np.float32)
    assert fast.widths_of([front, back], params).tolist() == [3, 5, 2]
    for others in ([front], [back], [front, (*back[:2], ops.tanh)], [(*front[:2], ops.relu), back], [], None):
        assert fast.widths_of(others, params) is None, others
    assert fast.widths_of([front, back], Params.pack(arrays, np.float64)) is None


# --- custom distributions -----------------------------------------------------------------------------------

class Triangle(Distribution):
    """A density on (0, 1), tilted by 2 sigmoid(output) - 1; its draws are not outputs plus noise."""

    def __init__(self, shape):
        self.size, self.action_shape = int(np.prod(shape)), tuple(shape)

    def noise(self, rng, *lead):
        return rng.random((*lead, self.size))

    def sample(self, params, noise):
        slope = 2 * ops.sigmoid(params) - 1
        # the density is 1 + slope (2 x - 1); a draw inverts its cumulative distribution function
        with np.errstate(divide="ignore", invalid="ignore"):
            root = (slope - 1 + np.sqrt((1 - slope) ** 2 + 4 * slope * noise)) / (2 * slope)
        return np.where(np.abs(slope) < 1e-6, noise, root).astype(params.dtype)

    def mode(self, params):
        return (params > 0).astype(params.dtype)


class TrianglePolicy(MlpPolicy):
    standard = True

    def make_distribution(self, log_std_init):
        return Triangle(self.action_space.shape)


class Reversed(Categorical):
    """Overrides how logits become a draw, without declaring it."""

    def sample(self, params, noise):
        return self.size - 1 - super().sample(params, noise)

    def mode(self, params):
        return self.size - 1 - super().mode(params)


class ReversedPolicy(MlpPolicy):
    standard = True

    def make_distribution(self, log_std_init):
        return Reversed(self.action_space.n)


class Wide(DiagGaussian):
    """Three times the standard deviation: `parameters` adds log 3 to log_std."""

    def parameters(self, outputs, own):
        return super().parameters(outputs, {"log_std": own["log_std"] + np.log(3)})


class WidePolicy(MlpPolicy):
    standard = True

    def make_distribution(self, log_std_init):
        return Wide(self.action_space.shape, log_std_init)


@pytest.mark.parametrize("cls, actions", [(TrianglePolicy, gym.Box(0, 1, (2,))), (ReversedPolicy, CHOICE),
                                          (WidePolicy, BOX)])
def test_a_distribution_of_ones_own_is_drawn_as_it_says(cls, actions):
    policy = draw(cls, actions)
    assert policy.is_fast and policy._row_network is None
    check_acts_as_composed(policy)
    if act.draw.is_compiled:
        noise = np.zeros((1, 6, policy.dist.noise(np.random.default_rng(0), 1).size), np.float32)
        assert fast.actor(policy._network(), policy.drawing(noise), policy.row_dtype) is not None
