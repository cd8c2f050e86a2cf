"""The policies by name, each file loaded when one of its classes is first asked for: predicting with one loads no other.

`Policy` and `RecurrentPolicy` are the bases of a policy of your own.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .policy import MlpPolicy, Policy
    from .recurrent import MlpLnLstmPolicy, MlpLstmPolicy, RecurrentPolicy
    from .visual import CnnLnLstmPolicy, CnnLstmPolicy, CnnPolicy

__all__ = ["CnnLnLstmPolicy", "CnnLstmPolicy", "CnnPolicy", "MlpLnLstmPolicy", "MlpLstmPolicy", "MlpPolicy", "Policy",
           "RecurrentPolicy"]

_HOME = {"Policy": "policy", "MlpPolicy": "policy", "RecurrentPolicy": "recurrent", "MlpLstmPolicy": "recurrent",
         "MlpLnLstmPolicy": "recurrent", "CnnPolicy": "visual", "CnnLstmPolicy": "visual", "CnnLnLstmPolicy": "visual"}
NAMES = [name for name in _HOME if name not in ("Policy", "RecurrentPolicy")]  # those that a model can be given by name


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its names are {', '.join(__all__)}")
    return getattr(import_module(f"{__package__}.{_HOME[name]}"), name)


def __dir__():
    return sorted([*globals(), *__all__])
