"""Settings: one default for each, checked when made, scheduled, and the same again from a file."""

import dataclasses
import inspect
import json

import numpy as np
import pytest

from trpo_np import TRPO, presets
from trpo_np.settings import FIELDS, FIXED, LinearSchedule, Settings, check_count, checked_seed, nearest
from trpo_np.trust_region import trust_region_step

NOT_SETTINGS = {"self", "policy", "env", "verbose", "tensorboard_log", "policy_kwargs", "seed", "comm",
                "others"}


def defaults(function):
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


# --- one default for each -----------------------------------------------------------------------------------

def test_the_arguments_of_trpo_are_the_settings_with_their_defaults():
    arguments = {name: value for name, value in defaults(TRPO.__init__).items() if name not in NOT_SETTINGS}
    assert list(arguments.items()) == list(vars(Settings()).items())  # also in this order, that of the file


def test_the_steps_defaults_are_those_of_the_settings():
    given = {name: value for name, value in defaults(trust_region_step).items()
             if value is not inspect.Parameter.empty}
    assert len(given) == 8 and given.items() <= vars(Settings()).items()


def test_every_argument_reaches_its_setting():
    other = {bool: lambda value: not value, int: lambda value: value + 1,
             float: lambda value: value / 2 or 0.5, str: {"float32": "float64", "rank": "job"}.get}
    changed = {name: other[type(value)](value) for name, value in vars(Settings()).items()}
    assert vars(TRPO("MlpPolicy", None, **changed).settings) == changed
    assert all(changed[name] != value for name, value in vars(Settings()).items())


@pytest.mark.parametrize("preset", [
    presets.tuned("CartPole-v1"), presets.baselines("Hopper-v5"), presets.atari("paper")[0]])
def test_presets_are_settings(preset):
    assert preset.keys() - {"policy_kwargs"} <= FIELDS.keys()


# --- of one rank --------------------------------------------------------------------------------------------

def test_ranks_have_batches_of_their_own_unless_they_share_the_jobs():
    own, shared = Settings(lam=0.5), Settings(lam=0.5, batch_of="job", vf_batch_size=64)
    assert own.for_rank(16) is own and shared.for_rank(1) is shared
    assert (own.timesteps_per_batch, own.vf_batch_size) == (1024, 128)
    for ranks, steps, rows in ((2, 512, 32), (3, 342, 22), (16, 64, 4), (100, 11, 1)):
        share = shared.for_rank(ranks)
        assert (share.timesteps_per_batch, share.vf_batch_size, share.lam) == (steps, rows, 0.5)
        assert share.for_rank(ranks) is share  # what was shared out is shared out


# --- checked when made --------------------------------------------------------------------------------------

def test_settings_never_change():
    settings = Settings(gamma=0.9)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.gamma = 0.5
    changed = dataclasses.replace(settings, lam=0.5)
    assert (settings.lam, changed.lam, changed.gamma) == (0.98, 0.5, 0.9)
    with pytest.raises(ValueError, match=r"lam is 2; a number from 0 to 1 is needed"):
        dataclasses.replace(settings, lam=2)


@pytest.mark.parametrize("name, value, needed", [
    ("gamma", 1.5, "a number from 0 to 1"), ("gamma", lambda remaining: 0.5, "a number"),
    ("cg_iters", 0, "an integer of at least 1"), ("vf_iters", -1, "an integer of at least 0"),
    ("vf_iters", True, "an integer"), ("max_kl", 0, "a number from 1e-12"), ("dtype", 7, "'float32'"),
    ("clip_rewards", 1, "True or False"), ("dtype", "int32", "'float32' or 'float64'"),
    ("entcoeff", np.inf, "a number"), ("entcoeff", "0.1", "a number"),
    ("linesearch_shrink", 1.5, "a number from 1e-12 to 1")])
def test_what_makes_no_sense_is_named(name, value, needed):
    with pytest.raises(ValueError, match=f"{name} is .*{needed}.* needed"):
        Settings(**{name: value})


@pytest.mark.parametrize("name, value", [
    ("gamma", 0), ("gamma", 1), ("lam", 1.0), ("vf_iters", 0), ("linesearch_shrink", 1), ("max_kl", 1e-12)])
def test_the_ends_of_a_range_belong_to_it(name, value):
    assert getattr(Settings(**{name: value}), name) == value


@pytest.mark.parametrize("name, value", [
    ("gamma", np.float32(0.5)), ("timesteps_per_batch", np.int64(7)), ("clip_rewards", np.True_),
    ("dtype", np.float64), ("dtype", np.dtype("float32"))])
def test_numpys_types_become_pythons(name, value):
    kept = getattr(Settings(**{name: value}), name)
    assert type(kept) in (float, int, bool, str)
    assert kept == (np.dtype(value).name if name == "dtype" else value)


@pytest.mark.parametrize("name", FIXED)
def test_what_belongs_to_the_network_cannot_be_set(name):
    model = TRPO("MlpPolicy", None)
    with pytest.raises(AttributeError,
                       match=f"{name} is a part of the model and its file; make another model"):
        setattr(model, name, getattr(model, name))


def test_a_setting_that_is_refused_changes_nothing():
    model = TRPO("MlpPolicy", None)
    before = model.settings
    with pytest.raises(ValueError, match="cg_iters is 0"):
        model.cg_iters = 0
    assert model.settings is before
    model.cg_iters = 7
    assert model.cg_iters == model.settings.cg_iters == 7


def test_counts_seeds_and_hints():
    check_count("n", np.int32(3), 3)
    with pytest.raises(ValueError, match="n is 2; an integer of at least 3 is needed"):
        check_count("n", 2, 3)
    assert checked_seed(np.int64(5)) == 5 and checked_seed(None) != checked_seed(None)
    for seed in (-1, True, 1.0):
        with pytest.raises(ValueError, match=f"seed is {seed}; an integer of at least 0, or None, is needed"):
            checked_seed(seed)
    assert nearest("gama", FIELDS) == " (did you mean 'gamma'?)"
    assert nearest("zzz", FIELDS) == "" == nearest(3, FIELDS)


# --- scheduled ----------------------------------------------------------------------------------------------

def test_a_schedule_has_a_current_value():
    settings = Settings(max_kl=LinearSchedule(0.02, 0.01), entcoeff=lambda remaining: -remaining,
                        vf_stepsize=1e-3)
    assert settings.at("max_kl", 1.0) == 0.02 and settings.at("max_kl", 0.0) == 0.01
    assert settings.at("entcoeff", 0.25) == -0.25 and settings.at("vf_stepsize", 0.25) == 1e-3
    # 0 is the end of a schedule, but no constant that makes sense
    assert Settings(max_kl=LinearSchedule(0.02)).at("max_kl", 0.0) == 0.0


@pytest.mark.parametrize("name, value, least", [
    ("max_kl", -0.1, "0"), ("vf_stepsize", np.nan, "0"), ("entcoeff", np.inf, "-inf")])
def test_a_schedule_that_leaves_its_range_is_named(name, value, least):
    said = f"{name} gave {value} where 0.5 of training remains; a number of at least {least} is needed"
    with pytest.raises(ValueError, match=said):
        Settings(**{name: lambda remaining: value}).at(name, 0.5)


# --- in a file ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("settings", [
    Settings(), Settings(max_kl=LinearSchedule(0.02, 0.01), entcoeff=0.01, dtype="float64",
                         normalize_rewards=True)])
def test_json_there_and_back(settings):
    record = json.loads(json.dumps(settings.to_json()))
    assert Settings.from_json(record) == settings
    assert list(record) == list(FIELDS)


def test_an_older_file_lacks_a_setting():
    record = Settings(gamma=0.5).to_json()
    del record["clip_rewards"]
    assert Settings.from_json(record) == Settings(gamma=0.5)


def test_a_function_must_be_given_again():
    def halved(remaining):
        return 0.01 * remaining
    record = Settings(max_kl=halved).to_json()
    assert record["max_kl"] == {"function": "halved"}
    said = "max_kl was the function 'halved', which a file cannot hold; give max_kl=... again"
    with pytest.raises(ValueError, match=said):
        Settings.from_json(record)
    assert Settings.from_json(record | {"max_kl": halved}).max_kl is halved


@pytest.mark.parametrize("value", [{"linear": [1]}, {"linear": "ab"}, {"cubic": [1, 2]}, {}])
def test_a_schedule_that_cannot_be_read_is_named(value):
    with pytest.raises(ValueError, match="max_kl is .*; a number or a linear schedule is needed"):
        Settings.from_json({"max_kl": value})
