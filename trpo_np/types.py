"""The types that signatures of this package share, for annotations of your own too."""

import os
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, TypeVar

import numpy as np

from .autodiff import Var

# numpy.typing.NDArray, whose module need not be loaded to predict
Array = np.ndarray[tuple[Any, ...], np.dtype[Any]]
Floats = np.ndarray[tuple[Any, ...], np.dtype[np.floating[Any]]]
Value = Var | Floats  # what ops take and return: under trace or not
Weights = Mapping[str, Value]  # parameters by name, as layers and policies take them
Actions = Array | np.integer[Any]  # a batch or one action; one Discrete action is an integer
Observations = Array | dict[str, Any] | tuple[Any, ...]  # as the space says: an array, a Dict's or a Tuple's
Path = str | os.PathLike[str]
File = Path | BinaryIO
Method = TypeVar("Method", bound=Callable[..., Any])  # decorated, with its signature kept
