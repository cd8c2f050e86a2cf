"""The policies by name, each file loaded when one of its classes is first asked for: predicting with one
loads no other.

Policy and RecurrentPolicy are the bases of a policy of your own. In reading order: `frames` (stacked frames,
stored once), `fast` (acting with standard networks), `base` (Policy and MlpPolicy), `recurrent` (with an
LSTM), `images`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..peers import ELSEWHERE
from ..settings import nearest

if TYPE_CHECKING:
    from .base import MlpPolicy, Policy
    from .images import CnnLnLstmPolicy, CnnLstmPolicy, CnnPolicy
    from .recurrent import MlpLnLstmPolicy, MlpLstmPolicy, RecurrentPolicy

__all__ = ["CnnLnLstmPolicy", "CnnLstmPolicy", "CnnPolicy", "MlpLnLstmPolicy", "MlpLstmPolicy", "MlpPolicy",
           "Policy", "RecurrentPolicy"]

_HOME = {"Policy": "base", "MlpPolicy": "base", "RecurrentPolicy": "recurrent", "MlpLstmPolicy": "recurrent",
         "MlpLnLstmPolicy": "recurrent", "CnnPolicy": "images", "CnnLstmPolicy": "images",
         "CnnLnLstmPolicy": "images"}
# further policies by the names that their owners gave them, see common/policies.py
NAMED: dict[str, Any] = {}
NAMES = [name for name in _HOME if name not in ("Policy", "RecurrentPolicy")]  # that a model can be given


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its names are "
                             f"{', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def construct(cls: "type[Policy]", observation_space: Any, action_space: Any, policy_kwargs: dict[str, Any],
              **own: Any) -> "Policy":
    """Make a policy of a user's arguments and of the model's own, `dtype` and `normalize`; say which one it
    does not take."""
    kwargs = policy_kwargs | own
    if taken := policy_kwargs.keys() & {"observation_space", "action_space", *own}:
        raise ValueError(f"policy_kwargs holds {sorted(taken)[0]!r}; the spaces are the environment's, "
                         "dtype and normalize_observations are arguments of TRPO")
    try:
        return cls(observation_space, action_space, **kwargs)
    except TypeError as error:
        import inspect  # slow to load, and seldom needed
        import re

        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if not unknown or unknown[1] not in kwargs:
            raise
        if unknown[1] in own:
            raise ValueError(f"{cls.__name__} does not take {unknown[1]!r}, as a policy must: let its "
                             "__init__ take **kwargs and hand them on") from error
        if (name := unknown[1]) in ELSEWHERE["policy_kwargs"]:
            here = ELSEWHERE["policy_kwargs"][name]
            raise ValueError(f"policy_kwargs holds {name!r}; write {here}") from error
        known = {name for c in cls.__mro__[:-1] for name in inspect.signature(c).parameters}
        raise ValueError(f"policy_kwargs holds {unknown[1]!r}, which {cls.__name__} does not take"
                         + nearest(unknown[1], known)) from error
