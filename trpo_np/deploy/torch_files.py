"""What torch.save wrote, without torch: a zip of numbers, and a pickle that says which are whose."""

import math
from typing import NamedTuple

import numpy as np

from ..files.archive import FileError
from . import pickles, stored

_MAX_USES = 4  # stable-baselines3 saves shared features under three names
NAMES = {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.FloatStorage"}


class Tensor(NamedTuple):
    """Where a tensor's numbers are: in which storage, from which number on, and how far apart."""

    storage: str
    start: int
    shape: tuple
    strides: tuple
    numbers: np.ndarray  # the whole storage, float32, a view of the file

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def array(self) -> np.ndarray:
        """Return a copy of the tensor."""
        strides = [4 * step if n > 1 else 4 for n, step in zip(self.shape, self.strides)]
        view = np.lib.stride_tricks.as_strided(self.numbers[self.start:], self.shape, strides)
        return np.array(view, order="C")


def tensors(data: memoryview | bytes, where: str) -> dict[str, Tensor]:
    """Return the tensors of a state dict that torch.save wrote, by name.

    Raise FileError where the file is another one, or has tensors of another type than float32.
    """
    members = stored.members(data, where)
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise FileError(f"{where} has no member data.pkl; is it a zip of torch.save?")
    order = bytes(members.get(f"{roots[0]}byteorder", b"little"))
    if order != b"little":
        raise FileError(f"{where}: byteorder is {order[:20]!r}; little is needed")
    state = pickles.read(members[f"{roots[0]}data.pkl"], NAMES, f"{where}/data.pkl")
    if not isinstance(state, dict):
        raise FileError(f"{where} holds a {type(state).__name__}; tensors by name are needed")
    found = {name: _tensor(value, members, roots[0], f"{where}: {name!r:.100}")
             for name, value in state.items()}
    if 4 * sum(tensor.size for tensor in found.values()) > _MAX_USES * len(data):
        raise FileError(f"{where} uses its numbers over and over again")
    return found


def _tensor(value: object, members: dict, root: str, where: str) -> Tensor:
    match value:
        case pickles.Made(name="torch._utils._rebuild_tensor_v2", args=(
                pickles.Made(name="persistent id", args=(
                    ("storage", pickles.Name("torch.FloatStorage"), str(key), str(), int(numel)),)),
                int(start), tuple(shape), tuple(strides), *_)):
            if len(shape) != len(strides) or len(shape) > 8 or start < 0 or not all(
                    type(n) is int and n >= least for least, ns in ((1, shape), (0, strides)) for n in ns):
                raise FileError(f"{where} has a shape or strides that are none")
            if (data := members.get(f"{root}data/{key}")) is None:
                raise FileError(f"{where}: the file lacks its numbers, data/{key!r:.20}")
            last = start + sum((n - 1) * step for n, step in zip(shape, strides))
            if len(data) != 4 * numel or math.prod(shape) > numel or last >= numel:
                raise FileError(f"{where} does not lie within its storage of {len(data)} bytes")
            return Tensor(key, start, shape, strides, np.frombuffer(data, "<f4"))
    raise FileError(f"{where} is no float32 tensor")
