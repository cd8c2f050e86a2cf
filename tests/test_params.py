"""A flat vector and its names are one memory."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trpo_np.params import Params

SHAPES = {"pi/w": (2, 3), "pi/b": (3,), "pi/log_std": (), "vf/w": (3, 1)}


def arrays(shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def test_pack_lays_arrays_side_by_side_in_their_order():
    given_arrays = arrays()
    params = Params.pack(given_arrays, "float64")
    np.testing.assert_array_equal(params.flat, np.concatenate([np.ravel(a) for a in given_arrays.values()]))
    assert list(params) == list(SHAPES) and len(params) == 4
    assert {name: a.shape for name, a in params.items()} == SHAPES
    assert params.layout["pi/b"] == (slice(6, 9), (3,))


def test_pack_copies_and_casts():
    given_arrays = arrays()
    params = Params.pack(given_arrays)
    assert params.flat.dtype == np.float32 and all(a.dtype == np.float32 for a in params.values())
    params.flat[:] = 0
    assert all(np.all(a != 0) for a in given_arrays.values())


def test_names_are_views_in_both_directions():
    params = Params.pack(arrays(), "float64")
    params["pi/b"][...] = [1, 2, 3]
    assert params.flat[6:9].tolist() == [1, 2, 3]
    params.flat[9] = 7
    assert params["pi/log_std"] == 7 and params["pi/log_std"].shape == ()
    assert all(np.shares_memory(a, params.flat) for a in params.values())


def test_like_shares_the_given_vector():
    params = Params.pack(arrays(), "float64")
    before, other = params.flat.copy(), np.arange(13.0)
    twin = params.like(other)
    twin["vf/w"][...] = -1
    assert other[-3:].tolist() == [-1, -1, -1] and twin.flat is other
    np.testing.assert_array_equal(params.flat, before)


@pytest.mark.parametrize("flat", [np.zeros(12), np.zeros(14), np.zeros((13, 1)), np.zeros(())])
def test_like_refuses_a_vector_of_another_size(flat):
    with pytest.raises(ValueError, match="a vector of 13 parameters is needed"):
        Params.pack(arrays()).like(flat)


def test_select_views_a_block():
    params = Params.pack(arrays(), "float64")
    block = params.select(["pi/b", "pi/log_std", "vf/w"])
    assert list(block) == ["pi/b", "pi/log_std", "vf/w"] and block.flat.shape == (7,)
    block.flat[:] = np.arange(7)
    np.testing.assert_array_equal(params.flat[6:], np.arange(7))
    np.testing.assert_array_equal(params["vf/w"].ravel(), [4, 5, 6])
    assert block.select(["vf/w"]).flat.tolist() == [4, 5, 6]


def test_select_of_nothing_is_empty():
    assert Params.pack(arrays()).select([]).flat.shape == (0,) and Params.pack({}).flat.shape == (0,)


@pytest.mark.parametrize("names", [["pi/w", "pi/log_std"], ["pi/b", "pi/w"], ["pi/w", "pi/w"]])
def test_select_refuses_what_does_not_stand_together_in_order(names):
    with pytest.raises(ValueError, match="do not stand next to each other"):
        Params.pack(arrays()).select(names)


def test_unknown_name():
    with pytest.raises(KeyError, match="pi/nothing"):
        Params.pack(arrays())["pi/nothing"]


@given(st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=5), st.data())
def test_any_shapes_round_trip(shapes, data):
    named = arrays({f"p{i}": tuple(shape) for i, shape in enumerate(shapes)})
    params = Params.pack(named, "float64")
    assert params.flat.size == sum(a.size for a in params.values())
    for name, array in named.items():
        np.testing.assert_array_equal(params[name], array)
    start = data.draw(st.integers(0, len(shapes)))
    stop = data.draw(st.integers(start, len(shapes)))
    block = params.select(list(named)[start:stop])
    for name in block:
        np.testing.assert_array_equal(block[name], named[name])


def test_copies_are_views_of_their_own_vector():
    params = Params.pack({"a": np.ones((2, 3)), "b": np.zeros(4)})
    for other in (copy.deepcopy(params), pickle.loads(pickle.dumps(params)), copy.copy(params)):
        np.testing.assert_array_equal(other["a"], 1)
        other["a"][0, 1] = 7
        assert other.flat[1] == 7 and list(other) == ["a", "b"]
    assert copy.deepcopy(params).flat is not params.flat


# --- assigning ----------------------------------------------------------------------------------------------

def test_assign_copies_by_name():
    params, given_arrays = Params.pack(arrays()), arrays(seed=1)
    flat = params.flat
    params.assign(dict(reversed(given_arrays.items())))
    np.testing.assert_array_equal(params.flat, np.concatenate(
        [np.ravel(a) for a in given_arrays.values()]).astype(np.float32))
    assert params.flat is flat and params["pi/w"].base is flat


def test_assign_of_a_part_leaves_the_rest():
    params = Params.pack(arrays())
    before = params["pi/w"].copy()
    params.assign({"pi/b": [1, 2, 3]}, exact=False)
    assert params["pi/b"].tolist() == [1, 2, 3] and (params["pi/w"] == before).all()


@pytest.mark.parametrize("name, array, sentence", [
    ("pi/none", 1.0, "there is no parameter 'pi/none'; the parameters are pi/w, pi/b"),
    ("pi/b", None, r"'pi/b' is missing \(load_parameters with exact_match=False"),
    ("pi/b", np.ones((3, 1)), r"pi/b has shape \(3, 1\); \(3,\) is needed"),
    ("vf/w", np.ones((1, 3)), r"vf/w has shape \(1, 3\); \(3, 1\) is needed"),
    ("pi/b", [1, np.nan, 3], "pi/b holds something else than finite numbers of float32"),
    ("pi/b", [1, 1e39, 3], "finite numbers of float32"), ("vf/w", np.ones((3, 1), bool), "finite numbers"),
    ("pi/b", ["1", "2", "3"], "finite numbers"), ("pi/b", [1j, 2, 3], "finite numbers")])
def test_what_does_not_fit_is_named_and_changes_nothing(name, array, sentence):
    params = Params.pack(arrays())
    before = params.flat.copy()
    given_arrays = arrays(seed=1) | {name: array}
    with pytest.raises(ValueError, match=sentence):
        params.assign({key: value for key, value in given_arrays.items() if value is not None})
    np.testing.assert_array_equal(params.flat, before)
