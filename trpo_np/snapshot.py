"""A model is always whole: what interrupts `learn` leaves the model as it was between two updates."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from .files.training import COUNTERS


class Snapshot:
    """The part of a model that `learn` changes, as it was between two updates.

    between: no rollout has begun since; the model itself may be read by the thread that trains it.
    """

    def __init__(self, model: Any, between: bool = True):
        policy, adam, returns = model.policy, model.adam, model.reward_normalizer.moments.arrays()
        self.between, self.thread = between, threading.get_ident()
        self.counters = {name: getattr(model, name) for name in COUNTERS}
        self.recent, self.successes = list(model.recent), list(model.successes)
        self.parameters = policy.params.flat.copy()  # updates write to it
        self.observations = {name: np.array(array) for name, array in policy.normalizer.arrays().items()}
        self.returns = {name: np.array(array) for name, array in returns.items()}
        self.adam = adam.m, adam.v, adam.t  # a step makes new arrays

    def put_back(self, model: Any) -> None:
        """Give the model the state of this snapshot; its next rollout starts new episodes."""
        model.restart_pending = True
        vars(model).update(self.counters)
        for kept, now in ((self.recent, model.recent), (self.successes, model.successes)):
            now.clear()
            now.extend(kept)
        model.policy.params.flat[:] = self.parameters
        model.policy.normalizer.restore(self.observations)
        model.reward_normalizer.moments.restore(self.returns)
        model.adam.m, model.adam.v, model.adam.t = self.adam

    def __reduce__(self):
        return type(None), ()  # the copy of a model that learns is a model that does not


def state_of(model: Any) -> Snapshot:
    """Return the state to save: the model's now or, while it acts or is updated, its last one that is whole.

    Another thread than the one that trains always gets the last whole one.
    """
    last = model.snapshot
    if last is not None and not (last.between and last.thread == threading.get_ident()):
        return last
    now = Snapshot(model)
    began = model.snapshot  # in another thread, while the copies were made
    return began if last is None and began is not None else now


def all_or_nothing(learn: Callable) -> Callable:
    """Decorate `learn`: where it raises, the model keeps all of its last update and nothing of the next one.

    An error in a rollout or an update is counted: the next rollout draws other random numbers, since the same
    ones would lead into the same error.
    """
    @functools.wraps(learn)
    def inner(model, *args, **kwargs):
        try:
            model.snapshot = Snapshot(model)
            return learn(model, *args, **kwargs)
        except BaseException as error:
            if (last := model.snapshot) is not None:
                last.put_back(model)
                model.failures += isinstance(error, Exception) and not last.between
            raise
        finally:
            model.snapshot = None
    return inner
