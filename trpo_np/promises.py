"""Promises: class attributes that say something about the class's methods, so that a fast path may stand in.

A policy promises to be `standard` and `layered`, a normaliser to be `affine`, a distribution to be
`additive`, a vector environment to step as gymnasium's does. A class that promises nothing runs as it is
written.
"""

from typing import Any


def declared(thing: Any, name: str) -> Any:
    """Return a class attribute that promises something about the class's methods; False if it may be broken.

    The classes are asked in the order of inheritance. The first that has the attribute is believed; one that
    defines a method (other than __init__) before it ends the search, since nobody knows what that method
    changes. So a subclass that overrides anything promises nothing, until it states the attribute itself. The
    same holds for a method assigned to the thing itself.
    """
    if any(callable(getattr(type(thing), key, None)) for key in vars(thing)):
        return False
    for cls in type(thing).__mro__:
        if name in vars(cls):
            return vars(cls)[name]
        if any(_is_method(key, value) for key, value in vars(cls).items()):
            return False
    return False


def _is_method(key: str, value: Any) -> bool:
    if key in ("__init__", "__annotate__", "__annotate_func__"):  # the last two hold types, in Python 3.14
        return False
    return callable(value) or isinstance(value, (property, classmethod, staticmethod))
