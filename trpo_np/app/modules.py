"""Which modules of the user's own may be imported because a model's file names them.

A file must not choose the code that runs: the environment "mine:My-v0" of a file is made only if the user
has trained with --env mine:My-v0 before, in this account, and `mine` is still the same file. What was trained
with stands, by name and path, in modules.json in the user's cache folder; to forget it, delete that.
"""

import importlib.util
import json
import os
import sys
from contextlib import suppress


def remember(env_id: str) -> None:
    """Note the module of an id such as "mine:My-v0", which has been imported because the user named it."""
    name = env_id.partition(":")[0]
    path = getattr(sys.modules.get(name), "__file__", None)
    if ":" not in env_id or not path or "." in name:  # asking for a.b would import a
        return
    with suppress(OSError):  # no place to remember in
        known = _known()
        if known.get(name) != (path := os.path.realpath(path)):
            os.makedirs(os.path.dirname(_place()), exist_ok=True)
            draft = f"{_place()}.{os.getpid()}.tmp"
            with open(draft, "w", encoding="utf-8") as file:
                json.dump(known | {name: path}, file)
            os.replace(draft, _place())


def is_remembered(env_id: str) -> bool:
    """Say whether the user has trained with the module that an id names, as it is found now."""
    name = env_id.partition(":")[0]
    if (path := _known().get(name)) is None or "." in name:
        return False
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)  # of a name without dots: this imports nothing
        return spec is not None and spec.origin is not None and os.path.realpath(spec.origin) == path
    return False


def _place() -> str:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "trpo_np", "modules.json")


def _known() -> dict:
    with suppress(OSError, ValueError):
        with open(_place(), encoding="utf-8") as file:
            known = json.load(file)
        if isinstance(known, dict):
            return known
    return {}
