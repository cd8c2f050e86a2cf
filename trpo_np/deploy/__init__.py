"""Policies out of this package, and into it. `export` writes the policy of a file for another language.

Out: `reference` (the ops in NumPy), `steps` (a policy as a list of steps), `samples` (observations to try it
on); the writers `c99_text` and `c99` (one header in C), `document` (JSON), `script` (one file of Python),
`onnx_graph`, `page` (HTML with JavaScript); `targets` (from a file to a file).

In: `stored` (a zip of plain members), `pickles` (a pickle as data, never as code), `torch_files` (torch's zip
of numbers), `foreign` (what the readers hand on), `sb3` and `sb2` (the models of stable-baselines3 with
sb3-contrib, and of stable-baselines 2), `vec_normalize` (statistics), `convert` (of all that a file of ours).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .targets import export

__all__ = ["export"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .targets import export

    return export
