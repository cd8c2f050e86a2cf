"""Trust Region Policy Optimization in NumPy: a page of autodiff, exact Fisher products, kernels, MPI ranks.

The public names load on first use (PEP 562); `import trpo_np` itself loads nothing, not even NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .envs import make_vec_env
    from .evaluation import evaluate_policy
    from .files.model import load_policy
    from .trpo import TRPO

__version__ = "0.1.0"

_HOME = {"TRPO": "trpo", "load_policy": "files.model", "evaluate_policy": "evaluation",
         "make_vec_env": "envs"}
__all__ = ["TRPO", "evaluate_policy", "load_policy", "make_vec_env"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'trpo_np' has no attribute {name!r}; its names are "
                             f"{', '.join(__all__)}")
    try:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "gymnasium":
            raise
        command = import_module(f"{__name__}.settings").install("train")
        raise ImportError(f"{name} needs gymnasium, which is not installed: {command}. To predict, "
                          "trpo_np.load_policy(path) needs NumPy alone") from None


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
