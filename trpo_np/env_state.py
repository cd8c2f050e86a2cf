"""The state of an environment, with which its episode can go on in another process.

An environment is a chain of layers: wrappers, and the environment within. Its state is what their attributes
hold: plain values (files/plain.py), the generators of spaces, and MuJoCo's data where the class is one of
gymnasium's. Any layer may have two methods of its own,

    env_state()             return plain values: numbers, texts, arrays; lists, tuples and dicts of these
    set_env_state(state)    take these over, after a reset; raise a ValueError if they do not fit

which then stand for that layer and those within it, but for their generators and spaces.

Attributes that are as they were when the model got the environment count as its settings. They are compared,
not copied: the environment that is to go on must have the same.
"""

import functools
import gc
import hashlib
import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Space

from .files.plain import MOST, NotPlain, have_in_common, pack, unpack

# what gymnasium's classes note of how they were made and drawn
NO_STATE = {"spec", "metadata", "render_mode", "fullpath", "mujoco_renderer", "_cached_spec",
            "_saved_kwargs", "_ezpickle_args", "_ezpickle_kwargs", "_abc_impl"}
HOOKS = "env_state", "set_env_state"
# how the keys begin of attributes for which a layer's own methods stand, of spaces, of attributes of a class
COVERED, SPACE, CLASS = "~", "*", "^"
DERIVED = "xpos", "xipos", "cfrc_ext"  # Ant and Humanoid read those of the last step; mj_forward gives others


FOUND: dict[type, list] = {}  # the names of the attributes that the latest object of a class had


class NoState(Exception):
    """Says why the state of an environment cannot be had, or does not fit."""


class Part(NamedTuple):
    """An attribute of a layer."""

    key: str
    layer: Any
    name: str
    value: Any


def portrait(env: Any, most: int = MOST, without: tuple = ()) -> dict[str, bytes | str]:
    """Return what can be read of an environment of any kind: packed attributes, the digest of long ones.

    most: leave out attributes that take more bytes. without: leave out those of these types.
    """
    readable = {}
    for part in parts(env):
        try:
            if not isinstance(part.value, without):
                readable[part.key] = brief(pack(read(part), most))
        except NotPlain:
            pass
    return readable


def glance(env: Any) -> str:
    """Return a digest that shows, where it can be seen, whether somebody has stepped an environment."""
    return digest(sorted(portrait(env, 2**16, (dict,)).items()))


def state(env: gymnasium.Env, before: dict[str, bytes | str]) -> dict:
    """Return an environment's state as plain values; a NoState says why there is none.

    before: its portrait from when the model got it.
    """
    same: dict = {}
    changed: dict = {}
    settings = []
    for key, layer in hooks(env):
        try:
            changed[key] = layer.env_state()
        except Exception as error:  # of any kind: it is no reason not to save the model
            raise NoState(f"its env_state raised {type(error).__name__}: {error}") from error
    for part in parts(env):
        if part.key[0] == COVERED:
            continue
        value = read(part)
        try:
            packed = brief(pack(value))
        except NotPlain as error:
            raise NoState(f"its attribute {part.name} is {error}") from None
        if packed == before.get(part.key) and not isinstance(part.value, np.random.Generator):
            same[part.key] = packed
            settings.append(value)
        elif is_mujoco(part, "MjModel"):
            raise NoState("its MuJoCo model has been changed")
        elif part.key[0] == CLASS:
            raise NoState(f"its class has changed the attribute {part.name}, which all of its kind share")
        else:
            changed[part.key] = value
    try:
        pack([settings, changed])
    except NotPlain as error:
        raise NoState(f"among its attributes is {error}") from None
    if have_in_common(settings, changed):
        raise NoState("two of its attributes share a part, and only one of them has changed")
    return {"changed": changed, "same": list(digests(same).values())}


def put_back(env: gymnasium.Env, before: dict[str, bytes | str], saved: Any) -> None:
    """Give an environment, after a reset, the state that another of its kind had.

    before: its portrait from when the model got it. A NoState says what does not fit.
    """
    same = {key: packed for key, packed in before.items() if key not in saved["changed"]}
    found, needed = digests(same), saved["same"]
    if len(found) != len(needed):
        raise NoState("it is of another kind")
    for (key, one), other in zip(found.items(), needed):
        if one != other:
            raise NoState(f"{key.partition('.')[2]} is not what it was there")
    wanted = saved["changed"] | {key: unpack(packed) for key, packed in same.items()
                                 if key in found and key[0] != CLASS and isinstance(packed, bytes)}
    layers = dict(named_layers(env))
    for key, layer in hooks(env):
        try:
            layer.set_env_state(wanted.pop(key))
        except (KeyError, ValueError) as error:
            raise NoState(f"its set_env_state raised {type(error).__name__}: {error}") from error
    now = {part.key: part for part in parts(env)}
    for key, value in wanted.items():
        where, _, name = key.removeprefix(SPACE).partition(".")
        if key not in now and not is_new(layers.get(where), name):
            raise NoState(f"it cannot have {key!r:.100}")
        part = now.get(key) or Part(key, layers[where], name, None)
        if key not in same or pack(value) != pack(read(part)):
            write(part, value)
    wanted = {key: brief(pack(value)) for key, value in wanted.items()}
    whole = same | wanted
    for key, packed in portrait(env).items():
        if whole.get(key) != packed and (key in wanted or key[0] not in (COVERED, SPACE)):
            raise NoState(f"{key.partition('.')[2]} cannot be put back")


def digest(value: Any) -> str:
    """Return a digest of a value by its text."""
    return hashlib.blake2b(repr(value).encode(), digest_size=6).hexdigest()


def digests(same: dict[str, bytes | str]) -> dict[str, str]:
    """Return the digests of attributes that count as settings, those of spaces and covered ones left out."""
    return {key: digest((key, same[key])) for key in sorted(same) if key[0] not in (COVERED, SPACE)}


def brief(packed: bytes) -> bytes | str:
    """Return what is packed or, if it is long, only a digest."""
    return packed if len(packed) <= 4096 else hashlib.blake2b(packed, digest_size=16).hexdigest()


# --- layers and their attributes ----------------------------------------------------------------------------

def named_layers(env: Any) -> Iterator[tuple[str, Any]]:
    """Yield the layers of an environment with their names, from the outermost to the innermost."""
    depth = 0
    while True:
        yield f"{depth}:{type(env).__name__}", env
        if not is_wrapper(env):
            return
        depth, env = depth + 1, env.env


def is_wrapper(layer: Any) -> bool:
    """Say whether the attribute `env` of a layer is the next one."""
    return isinstance(layer, (gymnasium.Wrapper, gymnasium.vector.VectorWrapper))


def hooks(env: Any) -> Iterator[tuple[str, Any]]:
    """Yield the key and the layer of the outermost one that has methods of its own, if there is any."""
    for where, layer in named_layers(env):
        if all(callable(getattr(type(layer), name, None)) for name in HOOKS):
            yield f"{where}.{HOOKS[0]}()", layer
            return


def parts(env: Any) -> Iterator[Part]:
    """Yield the attributes of all layers that can be state, those of the classes too."""
    covered, hooked = "", [layer for _, layer in hooks(env)]
    for where, layer in named_layers(env):
        covered = COVERED if any(layer is other for other in hooked) else covered
        for cls in type(layer).__mro__:
            if vars(cls).get("__slots__"):
                yield Part(f"{covered}{where}.__slots__", layer, "__slots__", cls)
        for name, value in sorted(class_attributes(type(layer)).items()):
            if is_state(layer, name, value) and not isinstance(value, Space):
                yield Part(f"{covered or CLASS}{where}.{name}", layer, name, value)
        for name, value in sorted(attributes(layer).items()):
            if is_state(layer, name, value):
                is_space, is_generator = isinstance(value, Space), isinstance(value, np.random.Generator)
                mark = SPACE if is_space else "" if is_generator else covered
                yield Part(f"{mark}{where}.{name}", layer, name, value)


def attributes(thing: Any) -> dict[str, Any]:
    """Return an object's attributes and those of its class, but for methods and properties.

    Python 3.11 and 3.12 read attributes more slowly, for ever, once they have made the dict that `vars`
    returns; a step of CartPole then takes an eighth longer. So names are sought in the code of the class; the
    garbage collector, which knows all that an object holds, tells whether one is missing.
    """
    cls: Any = type(thing)
    shared = class_attributes(cls)
    names = names_in_code(cls) if (3, 11) <= sys.version_info < (3, 13) else []
    for some in (FOUND.get(cls, []), names):
        known = {}
        for name in some:
            with suppress(AttributeError):
                known[name] = object.__getattribute__(thing, name)
        if some and not Counter(map(id, gc.get_referents(thing))) - Counter(map(id, [*known.values(), cls])):
            FOUND[cls] = list(known)
            return shared | known
    return shared | getattr(thing, "__dict__", {})


def class_attributes(cls: Any) -> dict[str, Any]:
    """Return the attributes that the objects of a class share, without methods and properties."""
    whole = {name: value for base in reversed(cls.__mro__[:-1]) for name, value in vars(base).items()}
    return {name: value for name, value in whole.items()
            if not name.startswith("__") and not hasattr(value, "__get__")}


@functools.cache
def names_in_code(cls: Any) -> list[str]:
    """Return the names that occur in a class, in annotations and code, but for methods and properties."""
    found: dict = {}
    for base in cls.__mro__[:-1]:
        found |= dict.fromkeys([*vars(base), *vars(base).get("__annotations__", ())])
        for value in vars(base).values():
            for function in (value, getattr(value, "fget", None), getattr(value, "__func__", None)):
                code = [getattr(function, "__code__", None)]
                while code:
                    if isinstance(one := code.pop(), CodeType):
                        found |= dict.fromkeys(one.co_names)
                        code += one.co_consts
    return [name for name in found if not name.startswith("__")
            and not hasattr(inspect.getattr_static(cls, name, None), "__get__")]


def has_no_state(layer: Any, name: str) -> bool:
    """Say whether a layer's attribute of this name is no state, whatever it holds."""
    return name in NO_STATE or name == "env" and is_wrapper(layer)


def is_state(layer: Any, name: str, value: Any) -> bool:
    """Say whether an attribute can be state: no type, no function that gymnasium's wrappers made, no log."""
    is_function = isinstance(value, FunctionType) and value.__module__.startswith("gymnasium.")
    is_no_state = is_function or getattr(type(value), "is_no_state", False)
    return not (has_no_state(layer, name) or isinstance(value, (type, np.dtype)) or is_no_state)


def is_mujoco(part: Part, kind: str) -> bool:
    """Say whether an attribute is MuJoCo's model or data, in an environment that is known to need no more."""
    is_known = type(part.layer).__module__.startswith("gymnasium.envs.mujoco.")
    return is_known and type(part.value).__name__ == kind


def is_new(layer: Any, name: Any) -> bool:
    """Say whether a layer may get an attribute of this name, which hides nothing of its class."""
    return layer is not None and name.isidentifier() and not name.startswith("__") and (
        not has_no_state(layer, name) and not hasattr(type(layer), name))


# --- values -------------------------------------------------------------------------------------------------

def read(part: Part) -> Any:
    """Return an attribute's value, of objects that are known their content, as plain values."""
    value = part.value
    if isinstance(value, Space) and type(value).__module__.startswith("gymnasium."):
        generators = [attributes(space).get("_np_random") for space in within(value)]
        return [generator and generator.bit_generator.state for generator in generators]
    if is_mujoco(part, "MjModel"):
        import mujoco

        content = np.empty(mujoco.mj_sizeModel(value), np.uint8)
        mujoco.mj_saveModel(value, None, content)
        return hashlib.blake2b(content.data, digest_size=16).hexdigest()
    if is_mujoco(part, "MjData"):
        import mujoco

        model, kind = part.layer.model, mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(mujoco.mj_stateSize(model, kind))
        mujoco.mj_getState(model, value, physics, kind)
        return {"state": physics, **{name: np.array(getattr(value, name)) for name in DERIVED}}
    return value


def write(part: Part, value: Any) -> None:
    """Give an attribute the value that `read` returned of another."""
    if isinstance(part.value, Space):
        for space, state in zip(within(part.value), value, strict=True):
            object.__setattr__(space, "_np_random", state and generator_of(state))
    elif is_mujoco(part, "MjData"):
        import mujoco

        model, kind = part.layer.model, mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(model, part.value, value["state"], kind)
        for name in DERIVED:
            getattr(part.value, name)[:] = value[name]
    else:
        object.__setattr__(part.layer, part.name, value)


def generator_of(state: dict) -> np.random.Generator:
    """Return a generator with this state."""
    generator = np.random.Generator(np.random.PCG64(0))
    generator.bit_generator.state = state
    return generator


def within(space: Space) -> Iterator[Space]:
    """Yield a space and those that it is made of."""
    yield space
    for value in attributes(space).values():
        several = value.values() if isinstance(value, dict) else value
        for inner in several if isinstance(several, (list, tuple, type({}.values()))) else [value]:
            if isinstance(inner, Space):
                yield from within(inner)
