"""What the readers of other libraries' models have in common, and what they hand on: a model in our terms."""

import base64
import json
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import spaces
from ..files.archive import FileError
from . import pickles

_MAX_RECORD, _MAX_VALUES = 2**26, 2**17
SPACES = {f"{gym}.spaces.{name}" for gym in ("gym", "gymnasium") for name in (
    "box.Box", "discrete.Discrete", "multi_discrete.MultiDiscrete", "multi_binary.MultiBinary", "dict.Dict")}
SPACE_NAMES = SPACES | pickles.NUMPY | {  # what a space may hold; the random generators are not looked at
    "gym.utils.seeding.RandomNumberGenerator", "gym.utils.seeding.RandomNumberGenerator._generator_ctor"}


@dataclass
class Foreign:
    """A model of another library, in this package's terms.

    `parameters` are by our names, `origin` tells what each was called there. `arguments` are those of our
    `policy`, `settings` those of TRPO that it had. `notes` are sentences for the user.
    """

    library: str
    policy: str
    observation_space: Any
    action_space: Any
    arguments: dict
    settings: dict
    steps: int
    normalized: bool = False  # whether it learned from observations or rewards of a VecNormalize
    parameters: dict[str, np.ndarray] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


# --- the record ---------------------------------------------------------------------------------------------

def record(data: memoryview | bytes, where: str) -> dict:
    """Return the JSON object of a model's record."""
    text = bytes(data) if len(data) <= _MAX_RECORD else b"[" * _MAX_VALUES
    if text.count(b",") + text.count(b"[") + text.count(b"{") >= _MAX_VALUES:
        raise FileError(f"{where} has {len(data)} bytes, or more than {_MAX_VALUES} values; that is no "
                        "model's record")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{where} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise FileError(f"{where} is a {type(value).__name__}; a record is needed")
    return value


def unpickled(data: dict, key: str, names: Container[str], where: str) -> Any:
    """Return what a field of the record holds as a pickle in base64."""
    value = data.get(key)
    text = value.get(":serialized:") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise FileError(f"{where}: {key} is missing, or is not pickled")
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise FileError(f"{where}: {key}: {error}") from None
    return pickles.read(content, names, f"{where}: {key}")


def numbers(data: dict, named: Mapping[str, str]) -> dict:
    """Return those fields of the record that are finite numbers or switches, by other names: {theirs: ours}.

    The others are schedules, which files hold as code.
    """
    found = {ours: data.get(theirs) for theirs, ours in named.items()}
    return {name: value for name, value in found.items()
            if isinstance(value, (bool, int)) or isinstance(value, float) and math.isfinite(value)}


def steps(data: dict) -> int:
    """Return how many steps a model was trained for, if the record says it."""
    value = data.get("num_timesteps")
    return value if type(value) is int and 0 <= value < 2**63 else 0


# --- spaces -------------------------------------------------------------------------------------------------

def space(value: Any, where: str, inside: bool = False) -> spaces.Space:
    """Describe a pickled space of gym or gymnasium; FileErrors begin with `where`."""
    if not isinstance(value, pickles.Made) or value.name not in SPACES or type(value.state) is not dict:
        raise FileError(f"{where} is no space that is known here")
    kind, state = value.name.rpartition(".")[2], value.state
    if kind == "Dict" and not inside:
        parts = state.get("spaces")
        if type(parts) is not dict:
            raise FileError(f"{where}: the spaces of a Dict are missing")
        fields = tuple(space(part, f"{where}[{key!r:.50}]", inside=True) for key, part in parts.items())
        return _checked(spaces.Fields("Dict", tuple(parts), fields), where)
    if kind == "Dict":
        raise FileError(f"{where} is a Dict in a Dict")
    if kind == "Box":
        return _checked(_box(state, where), where)
    key = "nvec" if kind == "MultiDiscrete" else "n"
    counts = state.get(key)
    rows = list(counts) if type(counts) in (tuple, list) else [counts]
    arrays = [pickles.array(row, f"{where}.{key}") for row in rows]
    sizes = [int(n) for row in arrays for n in row.ravel().tolist() if row.dtype.kind in "iu" and n > 0]
    is_row = kind == "MultiBinary" or [row.ndim for row in arrays] == [kind == "MultiDiscrete"]
    if len(sizes) != sum(row.size for row in arrays) or not is_row:
        raise FileError(f"{where}.{key} is not " + ("one positive integer" if kind == "Discrete" else
                                                    "a row of positive integers"))
    if kind == "MultiBinary":
        return _checked(spaces.MultiBinary(tuple(sizes)), where)
    if pickles.array(state.get("start", 0), f"{where}.start").any():
        raise FileError(f"{where}.start is not 0; stable-baselines3 ignores it and counts from 0, so the "
                        "model has not learned with this space")
    if kind == "MultiDiscrete":
        return _checked(spaces.MultiDiscrete(tuple(sizes), (len(sizes),), (0,) * len(sizes)), where)
    return _checked(spaces.Discrete(*sizes), where)


def _box(state: dict, where: str) -> spaces.Box:
    low, high = (pickles.array(state.get(key), f"{where}.{key}") for key in ("low", "high"))
    shape = state.get("_shape", state.get("shape"))  # gym before 0.21 said `shape`
    if low.shape != high.shape or shape != low.shape:
        raise FileError(f"{where}: its bounds have shapes {low.shape} and {high.shape}, not its own")
    if (low != low).any() or (high != high).any():
        raise FileError(f"{where}: its bounds hold NaN")
    return spaces.Box(low.shape, pickles.dtype_name(state.get("dtype"), f"{where}.dtype"), low, high)


def _checked(found: Any, where: str) -> spaces.Space:
    if not found.width:
        raise FileError(f"{where} is empty")
    return found


def parts(space: spaces.Space) -> tuple:
    """Return the spaces of a Dict's fields, or the space alone."""
    return space.spaces if isinstance(space, spaces.Fields) else (space,)


def is_image(space: spaces.Space) -> bool:
    """Say whether stable-baselines3 takes a space for an image, which it divides by 255."""
    return (isinstance(space, spaces.Box) and len(space.shape) == 3 and space.dtype == "uint8"
            and not space.low.any() and bool((space.high == 255).all()))


# --- weights ------------------------------------------------------------------------------------------------

class Weights:
    """The tensors of a file, each to be taken once; what is left belongs to a network that is not known."""

    def __init__(self, tensors: Mapping[str, Any], where: str):
        self.left, self.where = dict(tensors), where

    def take(self, name: str, axes: int) -> np.ndarray:
        """Return the tensor of a name, as an array of `axes` axes, and strike it off."""
        if (tensor := self.left.pop(name, None)) is None:
            raise FileError(f"{self.where} lacks {name}")
        if len(tensor.shape) != axes:
            raise FileError(f"{self.where}: {name} has shape {tensor.shape}; {axes} axes are needed")
        return tensor.array()

    def drop(self, prefix: str) -> None:
        """Strike off what is not needed."""
        self.left = {name: tensor for name, tensor in self.left.items() if not name.startswith(prefix)}

    def check_none_left(self) -> None:
        """Require that all has been taken."""
        if self.left:
            raise FileError(f"{self.where} has {next(iter(self.left))[:100]!r}, which is no part of the "
                            "policies that are known here: a policy or features extractor of its own?")
