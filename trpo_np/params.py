"""Named arrays that are views of one flat vector.

The gradient, conjugate gradient, Adam, an all-reduce over ranks and the saved file all see the same vector;
the network sees names.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from .types import Floats

Layout = dict[str, tuple[slice, tuple[int, ...]]]


class Params(Mapping[str, "Floats"]):
    """Name the pieces of a flat vector.

    ``params.flat`` is the vector, ``params["pi/fc0/w"]`` a view of its piece: writing to one writes to the
    other. ``layout`` maps each name to its slice of the vector and its shape, in the order of the vector.
    """

    __slots__ = ("flat", "layout", "_arrays")

    def __init__(self, flat: "Floats", layout: Layout):
        self.flat, self.layout = flat, layout
        self._arrays = {name: flat[where].reshape(shape) for name, (where, shape) in layout.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return Params, (self.flat, self.layout)  # a copy's arrays are views of its own vector

    @classmethod
    def pack(cls, arrays: Mapping[str, Any], dtype: "DTypeLike" = "float32") -> "Params":
        """Copy named arrays, in their order, into one new vector of `dtype`."""
        layout: Layout = {}
        size = 0
        for name, array in arrays.items():
            layout[name] = (slice(size, size + np.size(array)), np.shape(array))
            size += np.size(array)
        params = cls(np.empty(size, dtype), layout)
        for name, array in arrays.items():
            params[name][...] = array
        return params

    def like(self, flat: "Floats") -> "Params":
        """Give the same names to another vector (shared, not copied)."""
        if flat.shape != self.flat.shape:
            raise ValueError(f"a vector of {self.flat.size} parameters is needed, "
                             f"not one of shape {flat.shape}")
        return Params(flat, self.layout)

    def select(self, names: Iterable[str]) -> "Params":
        """View the block of the vector that holds `names`, next to each other and in the vector's order."""
        names = list(names)
        start = self.layout[names[0]][0].start if names else 0
        layout: Layout = {}
        at = start
        for name in names:
            where, shape = self.layout[name]
            if where.start != at:
                raise ValueError(f"the parameters {names} do not stand next to each other in the vector, in "
                                 f"its order ({name!r} does not fit)")
            layout[name] = (slice(at - start, where.stop - start), shape)
            at = where.stop
        return Params(self.flat[start:at], layout)

    def assign(self, arrays: Mapping[str, Any], exact: bool = True) -> None:
        """Copy arrays in by name; with `exact`, all must be given.

        If something does not fit, a ValueError says what, and nothing is changed.
        """
        if unknown := arrays.keys() - self.keys():
            raise ValueError(f"there is no parameter {sorted(unknown)[0]!r}; "
                             f"the parameters are {', '.join(self)}")
        if exact and (missing := self.keys() - arrays.keys()):
            raise ValueError(f"the parameter {sorted(missing)[0]!r} is missing "
                             "(load_parameters with exact_match=False allows that)")
        new: dict[str, Any] = {}
        for name, array in ((name, np.asarray(given)) for name, given in arrays.items()):
            if array.shape != self[name].shape:
                raise ValueError(f"{name} has shape {array.shape}; {self[name].shape} is needed")
            with np.errstate(over="ignore"):
                new[name] = array.astype(self.flat.dtype if array.dtype.kind in "fiu" else object)
            if new[name].dtype == object or not np.isfinite(new[name]).all():
                raise ValueError(f"{name} holds something else than finite numbers of {self.flat.dtype}")
        for name, array in new.items():
            self[name][...] = array

    def __getitem__(self, name: str) -> "Floats":
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout)

    def __len__(self) -> int:
        return len(self.layout)
