"""Policies out of their files, for where trpo_np is not: `export` writes them for other languages.

In reading order: `reference` (the ops in NumPy), `steps` (a policy as a list of steps), `samples`
(observations to try it on); the writers `c99_text` and `c99` (one header in C), `document` (JSON), `script`
(one file of Python), `onnx_graph`, `page` (HTML with JavaScript); `targets` (from a file to a file).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .targets import export

__all__ = ["export"]


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .targets import export

    return export
