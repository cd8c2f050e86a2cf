"""Descriptions against gymnasium's own spaces: counted, encoded, written and read back."""

import json
import re

import numpy as np
import pytest
import reference
from gymnasium import spaces as gym
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from hypothesis import given
from hypothesis import strategies as st

from trpo_np import spaces
from trpo_np.spaces import Box, Discrete, Fields, describe, difference, from_json

SPACES = {
    "Box": lambda: gym.Box(-1, 1, (3,)),
    "Box float64": lambda: gym.Box(np.array([-np.inf, 0]), np.array([1, np.inf]), dtype=np.float64),
    "Box infinite": lambda: gym.Box(-np.inf, np.inf, (2, 2)),
    "Box number": lambda: gym.Box(0, 1, ()),
    "Box image": lambda: gym.Box(0, 255, (4, 5, 3), np.uint8),
    "Box int64": lambda: gym.Box(-(2**63), 2**63 - 1, (2,), np.int64),
    "Box int32": lambda: gym.Box(np.array([-3, 0]), np.array([5, 2**31 - 1]), dtype=np.int32),
    "Box uneven": lambda: gym.Box(np.array([[-1, -2], [-3, 0.1]], np.float32),
                                  np.array([[1, 2], [3, 4]], np.float32)),
    "Discrete": lambda: gym.Discrete(4),
    "Discrete start": lambda: gym.Discrete(3, start=-1),
    "MultiDiscrete": lambda: gym.MultiDiscrete([2, 5, 3]),
    "MultiDiscrete 2-D start": lambda: gym.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [-2, 10]]),
    "MultiBinary": lambda: gym.MultiBinary(3),
    "MultiBinary 2-D": lambda: gym.MultiBinary((2, 3)),
    "Dict": lambda: gym.Dict({"b": gym.Box(-1, 1, (2,)), "a": gym.Discrete(3, start=5)}),
    "Tuple": lambda: gym.Tuple((gym.Discrete(2), gym.MultiBinary(2), gym.Box(0, 9, ()))),
    "nested": lambda: gym.Dict({"x": gym.Tuple((gym.Discrete(2), gym.Dict({"y": gym.MultiDiscrete([2, 2])}))),
                                "z": gym.Box(-1, 1, (1,))}),
}
each = pytest.mark.parametrize("name", SPACES)


def seeded(name):
    space = SPACES[name]()
    space.seed(0)
    return space


def code(space, x):
    """The encoding of one observation, by loops."""
    if isinstance(space, gym.Discrete):
        return reference.one_hot(x - space.start, space.n)
    if isinstance(space, gym.MultiDiscrete):
        return reference.one_hot(x - space.start, space.nvec)
    if isinstance(space, gym.Dict):
        return np.concatenate([code(s, x[key]) for key, s in space.spaces.items()])
    if isinstance(space, gym.Tuple):
        return np.concatenate([code(s, v) for s, v in zip(space.spaces, x)])
    return np.ravel(x)


PRECISE = {"Box float64", "Box int64", "Box int32"}  # of which float32 does not have all numbers


# --- encoding -----------------------------------------------------------------------------------------------

@each
def test_one_observation(name):
    space = seeded(name)
    described = describe(space)
    for _ in range(5):
        x = space.sample()
        assert described.count(x) is None
        row = described.encode(x, 1)
        assert row.shape == (1, described.width) and row.dtype == described.precision
        assert described.precision == (np.float64 if name in PRECISE else np.float32)
        np.testing.assert_array_equal(row[0], code(space, x))


@each
@pytest.mark.parametrize("n", [1, 4])
def test_a_batch_as_gymnasium_stacks_it(name, n):
    space = seeded(name)
    described, single = describe(space), [space.sample() for _ in range(n)]
    batch = concatenate(space, single, create_empty_array(space, n))
    assert batch in batch_space(space, n) and described.count(batch) == n
    rows = described.encode(batch, n)
    assert rows.shape == (n, described.width) and rows.dtype == described.precision
    np.testing.assert_array_equal(rows, [code(space, x) for x in single])


@pytest.mark.parametrize("dtype, low, high, precision", [
    ("float16", -1, 1, "float32"), ("float32", -np.inf, np.inf, "float32"), ("float64", -1, 1, "float64"),
    ("int8", -128, 127, "float32"), ("uint16", 0, 2**16 - 1, "float32"), ("int64", -2**24, 2**24, "float32"),
    ("int32", -2**24 - 1, 0, "float64"), ("uint64", 0, 2**64 - 1, "float64"), ("bool", 0, 1, "float32")])
def test_float64_serves_where_float32_lacks_numbers(dtype, low, high, precision):
    box = Box((2,), dtype, np.full(2, low, dtype), np.full(2, high, dtype))
    for space in box, from_json(box.to_json()), Fields("Dict", ("a", "b"), (Discrete(2), box)):
        assert space.precision == precision and space.encode({"a": 1, "b": high} if space.width > 2 else
                                                             np.full(2, high, dtype), 1).dtype == precision


def test_a_dict_of_many_fields_is_as_precise_as_its_most_precise_one():
    fields = {f"f{i:03}": gym.Box(-1, 1, (1,)) for i in range(100)}
    assert describe(gym.Dict(fields)).precision == np.float32
    space = describe(gym.Dict(fields | {"t": gym.Tuple([gym.Box(0, 1, (1,), np.float64)])}))
    x = space.encode({key: np.float32([0.1]) for key in fields} | {"t": [np.array([1 / 3])]}, 1)
    assert x.dtype == np.float64 and x[0, 0] == np.float32(0.1) and x[0, -1] == 1 / 3


def test_a_column_has_a_name():
    space = describe(gym.Dict(a=gym.Discrete(3), b=gym.Tuple([gym.Box(0, 1, (2,)), gym.MultiBinary(2)])))
    names = [spaces.find(space, column)[1] for column in range(7)]
    assert names[2:5] == ["number 2 of the observation's field ['a']",
                          "number 0 of the observation's field ['b'][0]",
                          "number 1 of the observation's field ['b'][0]"]
    assert spaces.find(space, 6)[0] is space.spaces[1].spaces[1]
    assert spaces.find(describe(gym.Box(0, 1, (2,))), 1)[1] == "number 1 of the observation"


def test_what_is_finite_in_float64_need_not_be_in_float32():
    rows = np.array([[1.0, -1e39]])
    assert spaces.all_finite(rows) and not spaces.all_finite(rows, np.dtype(np.float32))
    assert spaces.all_finite(rows * 1e-2, np.dtype(np.float32)) and spaces.all_finite(rows * 1e100)
    for bad in (np.nan, np.inf, -np.inf):
        for dtype in map(np.dtype, ("float32", "float64")):
            assert not spaces.all_finite(rows * bad, dtype)
    with pytest.raises(ValueError, match=r"environment 0 gave .* -1e\+39 in field 1 .* float32 network"):
        spaces.check_finite(rows, np.dtype(np.float32))
    spaces.check_finite(rows, np.dtype(np.float64))


def test_plain_python_observations():
    assert describe(gym.Discrete(3)).encode(2, 1).tolist() == [[0, 0, 1]]
    assert describe(gym.Box(-1, 1, (2,))).count([0.5, -1]) is None
    assert describe(gym.Box(-1, 1, (2,))).encode([[0.5, -1]], 1).tolist() == [[0.5, -1]]
    assert describe(gym.Tuple((gym.Discrete(2), gym.Discrete(2)))).count([1, 0]) is None


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "uint64", "float32", "bool"])
def test_integers_of_any_type(dtype):
    x = np.array([1, 0], dtype)
    np.testing.assert_array_equal(describe(gym.Discrete(3)).encode(x, 2), [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(describe(gym.Discrete(3, start=-1)).encode(x, 2), [[0, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(describe(gym.MultiDiscrete([2, 2])).encode(x, 1), [[0, 1, 1, 0]])


def test_encoding_copies():
    x = np.ones(3, np.float32)
    row = describe(gym.Box(-1, 1, (3,))).encode(x, 1)
    x[:] = 0
    assert row.tolist() == [[1, 1, 1]]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.data())
def test_one_hot_codes(nvec, data):
    start = [data.draw(st.integers(-5, 5)) for _ in nvec]
    space = describe(gym.MultiDiscrete(nvec, start=start))
    rows = [[s + data.draw(st.integers(0, n - 1)) for n, s in zip(nvec, start)] for _ in range(3)]
    expected = [reference.one_hot(np.subtract(row, start), nvec) for row in rows]
    np.testing.assert_array_equal(space.encode(np.array(rows), 3), expected)
    assert (space.encode(np.array(rows), 3).sum(1) == len(nvec)).all()


# --- bad observations ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("space, x, message", [
    (gym.Box(-1, 1, (3,)), np.zeros(4),
     r"an observation of shape \(4,\) does not fit: one has shape \(3,\), a batch \(n, 3\)"),
    (gym.Box(-1, 1, (3,)), np.zeros((2, 2, 3)), r"shape \(2, 2, 3\) does not fit"),
    (gym.Box(-1, 1, (2, 3)), np.zeros((4, 3, 2)), r"shape \(4, 3, 2\) does not fit"),
    (gym.Box(-1, 1, (3,)), 1.0, r"shape \(\) does not fit"),
    (gym.Discrete(3), np.zeros((2, 2)), r"shape \(2, 2\) does not fit: one has shape \(\), a batch \(n,\)"),
    (gym.Discrete(3), 3, "the observation 3 is outside the space: 3 values, counted from 0"),
    (gym.Discrete(3, start=5), np.array([5, 4]),
     "the observation 4 is outside the space: 3 values, counted from 5"),
    (gym.Discrete(3, start=5), np.array([5, 8], np.uint8),
     "the observation 8 is outside the space: 3 values, counted from 5"),
    (gym.Discrete(3), 0.5, "the observation 0.5 is outside"),
    (gym.Discrete(3), np.nan, "the observation nan is outside"),
    (gym.Discrete(3), "left", "the observation is .*left.*; integers are needed"),
    (gym.Discrete(3), None, "the observation is None; integers are needed"),
    (gym.MultiDiscrete([2, 5]), [1, -1], "the observation -1 is outside the space: 5 values, counted from 0"),
    (gym.MultiDiscrete([2, 5], start=[0, 2]), [[1, 2], [2, 2]],
     "the observation 2 is outside the space: 2 values, counted"),
    (gym.Dict({"a": gym.Discrete(2), "b": gym.Discrete(2)}), {"a": 1, "c": 1},
     r"the fields \['a', 'b'\], given: \['a', 'c'\]"),
    (gym.Dict({"a": gym.Discrete(2)}), np.zeros(3), r"needs the fields \['a'\], given: ndarray"),
    (gym.Dict({"a": gym.Discrete(2)}), None, r"needs the fields \['a'\], given: NoneType None"),
    (gym.Tuple((gym.Discrete(2), gym.Discrete(2))), (1,), r"needs the fields \[0, 1\], given: tuple \(1,\)"),
    (gym.Dict({"a": gym.Discrete(2), "b": gym.Discrete(2)}), {"a": [1], "b": [0, 1]},
     "hold different numbers of observations"),
    (gym.Dict({"a": gym.Discrete(2), "b": gym.Discrete(2)}), {"a": 1, "b": [0, 1]},
     "hold different numbers of observations"),
    (gym.Dict({"a": gym.Box(-1, 1, (2,))}), {"a": np.zeros(3)}, r"shape \(3,\) does not fit"),
])
def test_bad_observations_give_a_sentence(space, x, message):
    described = describe(space)
    with pytest.raises(ValueError, match=message):
        count = described.count(x)
        described.encode(x, 1 if count is None else count)


# --- describing ---------------------------------------------------------------------------------------------

def test_described_values():
    box = describe(SPACES["Box uneven"]())
    assert (box.shape, box.dtype, box.width) == ((2, 2), "float32", 4)
    assert box.low.tolist() == [[-1, -2], [-3, np.float32(0.1)]]
    assert (describe(gym.Discrete(3, start=-1)).n, describe(gym.Discrete(3, start=-1)).start) == (3, -1)
    multi = describe(SPACES["MultiDiscrete 2-D start"]())
    assert (multi.nvec, multi.shape, multi.start, multi.width) == ((2, 3, 4, 5), (2, 2), (0, 1, -2, 10), 14)
    assert describe(gym.MultiBinary((2, 3))).width == 6
    fields = describe(SPACES["Dict"]())
    assert fields.kind == "Dict" and set(fields.keys) == {"a", "b"} and fields.width == 5
    assert describe(SPACES["nested"]()).width == 2 + 4 + 1


def test_a_description_passes_through():
    described = describe(gym.Box(-1, 1, (3,)))
    assert describe(described) is described and describe(described, "action") is described


@pytest.mark.parametrize("space, name", [
    (gym.Dict({"a": gym.Discrete(2)}), "Dict"), (gym.Tuple((gym.Discrete(2),)), "Tuple")])
def test_composite_action_spaces_are_refused(space, name):
    message = f"the action space is a {name} .*MultiDiscrete, MultiBinary; join its parts into one"
    for given_space in (space, describe(space, "observation")):
        with pytest.raises(ValueError, match=message):
            describe(given_space, "action")


@pytest.mark.parametrize("space, message", [
    (gym.Text(5),
     "the observation space is a Text .*one of Box, Discrete, MultiDiscrete, MultiBinary, Dict, Tuple"),
    (gym.Sequence(gym.Discrete(2)), "the observation space is a Sequence"),
    (gym.Dict({"a": gym.Text(5)}), r"the observation space in the field \['a'\] is a Text"),
    (gym.Dict(image=gym.Box(0, 1, (2,)), mission=gym.Text(5)),
     r"the observation space in the field \['mission'\] is a Text .*leave the field out"),
    (gym.Dict(a=gym.Dict(b=gym.Tuple([gym.Discrete(2), gym.Sequence(gym.Discrete(2))]))),
     r"in the field \['a'\]\['b'\]\[1\] is a Sequence"),
    (gym.Dict(a=gym.Box(0, 1, (2,)), graph=gym.Graph(gym.Box(0, 1, (2,)), None)), r"\['graph'\] is a Graph"),
    (gym.Box(0, 1, (0,)), r"observation space Box\(.*\) is empty; at least one number is needed"),
    (gym.Dict({}), r"observation space Dict\(\) is empty"), (gym.Tuple([gym.Dict({})]), "is empty"),
    (None, "the observation space is a NoneType"),
    (7, "the observation space is a int"),
])
def test_other_spaces_are_refused(space, message):
    with pytest.raises(ValueError, match=message):
        describe(space)


# --- files --------------------------------------------------------------------------------------------------

@each
def test_json_round_trip(name):
    space = seeded(name)
    described = describe(space)
    text = json.dumps(described.to_json(), allow_nan=False)
    back = from_json(json.loads(text))
    assert type(back) is type(described) and back.width == described.width
    assert difference(back, described) is None and json.dumps(back.to_json()) == text
    x = space.sample()
    np.testing.assert_array_equal(back.encode(x, 1), described.encode(x, 1))
    if name.startswith("Box"):
        for bound in ("low", "high"):
            a, b = getattr(back, bound), getattr(described, bound)
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype and a.shape == b.shape


def test_bounds_of_an_image_are_one_number_in_the_file():
    assert len(json.dumps(describe(gym.Box(0, 255, (84, 84, 4), np.uint8)).to_json())) < 150


@pytest.mark.parametrize("data", [
    {"kind": "Sphere"}, {"kind": "Discrete", "n": 0, "start": 0}, {"kind": "Discrete", "n": 2.5, "start": 0},
    {"kind": "Discrete", "n": True, "start": 0}, {"kind": "Discrete", "n": 3, "start": "0"},
    {"kind": "MultiDiscrete", "nvec": [2, -1], "shape": [2], "start": [0, 0]},
    {"kind": "MultiDiscrete", "nvec": [2, 2], "shape": [3], "start": [0, 0]},
    {"kind": "MultiDiscrete", "nvec": [2, 2], "shape": [2], "start": [0]},
    {"kind": "MultiDiscrete", "nvec": ["a"], "shape": [1], "start": [0]},
    {"kind": "MultiBinary", "shape": [-1]}, {"kind": "MultiBinary", "shape": ["3"]},
    {"kind": "Box", "shape": [-1], "dtype": "float32", "low": 0, "high": 1},
    {"kind": "Box", "shape": [2], "dtype": "float32", "low": [0, 0, 0], "high": 1},
    {"kind": "Box", "shape": [1], "dtype": "nonsense", "low": 0, "high": 1},
    {"kind": "Box", "shape": [1], "dtype": "V2000000000", "low": 0, "high": 1},
    {"kind": "Box", "shape": [1], "dtype": "object", "low": 0, "high": 1},
    {"kind": "Box", "shape": [1], "dtype": "float32", "low": "zero", "high": 1},
    {"kind": "Box", "shape": [1], "dtype": "float32", "low": None, "high": 1},
    {"kind": "Box", "shape": [1], "dtype": "uint8", "low": 0, "high": 300},
    {"kind": "Tuple", "keys": [0, 1], "spaces": [{"kind": "Discrete", "n": 2, "start": 0}]},
    {"kind": "Box"}, {},
])
def test_nonsense_in_a_file_is_refused(data):
    with pytest.raises((ValueError, KeyError, TypeError, OverflowError)):
        from_json(data)


# --- differences --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("given_space, needed, message", [
    (gym.Box(-1, 1, (3,)), gym.Box(-1, 1, (3,)), None),
    (gym.Box(-1, 1, (3,)), gym.Box(-1, 1, (4,)), r"shape is \[3\], \[4\] is needed"),
    (gym.Box(-1, 1, (3,)), gym.Box(-2, 1, (3,)), "low is -1.0, -2.0 is needed"),
    (gym.Box(-1, np.inf, (3,)), gym.Box(-1, 1, (3,)), "high is inf, 1.0 is needed"),
    (gym.Box(-1, 1, (3,)), gym.Box(-1, 1, (3,), np.float64), "dtype is float32, float64 is needed"),
    (gym.Discrete(3), gym.Discrete(4), "n is 3, 4 is needed"),
    (gym.Discrete(3, start=1), gym.Discrete(3), "start is 1, 0 is needed"),
    (gym.Discrete(3), gym.Box(-1, 1, (3,)), "kind is Discrete, Box is needed"),
    (gym.MultiBinary(3), gym.MultiBinary((3, 1)), r"shape is \[3\], \[3, 1\] is needed"),
    (gym.MultiDiscrete([2, 3]), gym.MultiDiscrete([3, 2]), r"nvec is \[2, 3\], \[3, 2\] is needed"),
    (gym.Dict({"a": gym.Discrete(2)}), gym.Dict({"b": gym.Discrete(2)}),
     r"keys is \['a'\], \['b'\] is needed"),
    (gym.Dict({"a": gym.Discrete(2), "b": gym.Discrete(3)}),
     gym.Dict({"a": gym.Discrete(2), "b": gym.Discrete(4)}),
     r"\['b'\] n is 3, 4 is needed"),
    (gym.Tuple((gym.Dict({"a": gym.Discrete(2)}),)), gym.Tuple((gym.Dict({"a": gym.MultiBinary(2)}),)),
     r"\[0\] \['a'\] kind is Discrete, MultiBinary is needed"),
])
def test_difference_names_the_field(given_space, needed, message):
    found = difference(describe(given_space), describe(needed))
    if message is None:
        assert found is None
    else:
        assert re.fullmatch(message, found), found


def test_every_kind_is_tested():
    kinds = {type(describe(make())) for make in SPACES.values()}
    assert kinds == {spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Fields}


@pytest.mark.parametrize("space", [gym.Box(0, 1, (0,)), gym.MultiDiscrete([]), gym.Box(0, 1, (3, 0))])
def test_an_empty_action_space_is_refused(space):
    with pytest.raises(ValueError, match="the action space .* is empty; at least one number"):
        describe(space, "action")


def test_an_empty_field_beside_others_is_no_matter():
    assert describe(gym.Dict(a=gym.Box(0, 1, (0,)), b=gym.Box(0, 1, (2,)))).width == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_of_float32_that_are_not_finite_are_told_apart_for_float64_too(dtype):
    """Without NumPy's warning of an overflow: the largest float64 is no float32."""
    for value in (np.nan, np.inf, -np.inf):
        x = np.array([[1.0, value]], np.float32)
        assert not spaces.all_finite(x, np.dtype(dtype))


# --- classes of one's own, and depth ------------------------------------------------------------------------

@each
def test_a_class_derived_from_a_space_is_that_space(name):
    plain = SPACES[name]()

    class Own(type(plain)):
        pass
    own = SPACES[name]()
    own.__class__ = Own
    assert describe(own).to_json() == describe(plain).to_json()


def test_a_derived_class_of_another_kind_is_refused_by_its_own_name():
    class Words(gym.Text):
        pass
    with pytest.raises(ValueError, match="the observation space is a Words"):
        describe(Words(3))


def in_tuples(depth):
    space = gym.Discrete(2)
    for _ in range(depth):
        space = gym.Tuple((space,))
    return space


def test_a_space_that_is_nested_too_deeply_is_refused_before_python_gives_up():
    described = describe(in_tuples(spaces.DEEP))
    assert describe(from_json(described.to_json())).width == 2
    data = described.to_json()
    for _ in range(2):
        data = {"kind": "Tuple", "keys": [0], "spaces": [data]}
    for refused in (lambda: describe(in_tuples(spaces.DEEP + 2)), lambda: from_json(data)):
        with pytest.raises(ValueError, match="spaces are nested deeper than 20 levels"):
            refused()
