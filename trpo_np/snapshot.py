"""A model is always whole: what interrupts `learn` leaves the model as it was between two updates.

Of the environments' episodes, a state between updates knows what they need to go on, where that can be had.
"""

import functools
import threading
import warnings
from typing import Any, cast

import numpy as np

from .env_state import NoState
from .files.plain import NotPlain, pack, unpack
from .files.training import COUNTERS
from .types import Method


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
        self.held = model.held if model.restart_pending else None
        self.running: bytes | None = self.held  # what a file says of the episodes under way; see `state_of`
        self.usual = dict(vars(model.usual_spread))

    def put_back(self, model: Any) -> None:
        """Give the model the state of this snapshot; its next rollout starts new episodes, if one has begun.

        It can be called again after an interrupt.
        """
        model.restart_pending = model.restart_pending or not self.between
        model.held = self.held
        vars(model).update(self.counters)
        for kept, now in ((self.recent, model.recent), (self.successes, model.successes)):
            now.clear()
            now.extend(kept)
        model.policy.params.flat[:] = self.parameters
        model.policy.normalizer.restore(self.observations)
        model.reward_normalizer.moments.restore(self.returns)
        model.adam.m, model.adam.v, model.adam.t = self.adam
        vars(model.usual_spread).update(self.usual)

    def __reduce__(self):
        return type(None), ()  # the copy of a model that learns is a model that does not


def state_of(model: Any) -> Snapshot:
    """Return the state to save: the model's now or, while it acts or is updated, its last one that is whole.

    Another thread than the one that trains always gets the last whole one. It knows of the episodes under way
    if it is the model's state now.
    """
    last = model.snapshot
    if last is not None and not (last.between and last.thread == threading.get_ident()):
        return last
    now = Snapshot(model)
    try:
        now.running = episodes_of(model)
    except NoState:
        pass  # whoever goes on from there starts new episodes
    began = model.snapshot  # in another thread, while the copies were made
    return began if last is None and began is not None else now


def episodes_of(model: Any) -> bytes | None:
    """Return what the episodes under way need to go on in another process; None if there are none.

    A NoState says why it cannot be had.
    """
    if model.restart_pending:
        return model.held
    if model.comm.size > 1:
        raise NoState("there are several ranks, and only one of them saves")
    state = {**model.runner.state(), "sums": np.array(model.reward_normalizer.sums)}
    try:
        return pack(state)
    except NotPlain as error:
        if "earlier" in state and _is_plain({name: state[name] for name in state if name != "earlier"}):
            raise NoState(f"the samples that count again (sample_reuse) hold {error}") from None
        raise NoState(f"there is {error} in what it says of its state") from None


def _is_plain(value: Any) -> bool:
    try:
        pack(value)
    except NotPlain:
        return False
    return True


def take_up(model: Any, held: bytes) -> None:
    """Go on with the episodes that a file or a copied model held; a NoState says what does not fit.

    New episodes have been started, which these replace.
    """
    if model.comm.size > 1:
        raise NoState("there are several ranks now")
    state = unpack(held)
    try:
        model.runner.put_back(state)
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # whatever a strange state leads to
        raise NoState(f"{type(error).__name__}: {error}") from error
    model.reward_normalizer.sums = state["sums"]


def end_what_no_file_holds(model: Any, every: int) -> None:
    """End the episodes under way as truncated, if their state cannot be saved, with a word about it.

    So a run that goes on from a file of this moment does what this one does, unless an environment keeps
    something from one episode to the next. every: how many steps apart that happens. The segment before has
    already valued the observations in which they end.
    """
    try:
        episodes_of(model)
    except NoState as reason:
        model.restart_pending = True
        if every not in model.cut_every:
            model.cut_every = [*model.cut_every, every]
            who = model.env_id or type(model.env).__name__
            if model.comm.rank == 0:
                warnings.warn(
                    f"each checkpoint, every {every:,} steps, ends the episodes under way as if truncated, "
                    f"since the file cannot hold the state of {who}: {reason}. Longer episodes never end "
                    "then; save less often, or see trpo_np/docs/environments.md for environments that go on",
                    stacklevel=2)


def put_back_whole(last: Snapshot, model: Any) -> KeyboardInterrupt | None:
    """Put all of a snapshot back, though Ctrl-C may come meanwhile; return the last such interrupt."""
    again = None
    while True:
        try:
            last.put_back(model)
            return again
        except KeyboardInterrupt as interrupt:
            again = interrupt


def all_or_nothing(learn: Method) -> Method:
    """Decorate `learn`: where it raises, the model keeps all of its last update and nothing of the next one.

    An error in a rollout or an update is counted: the next rollout draws other random numbers, since the same
    ones would lead into the same error.
    """
    @functools.wraps(learn)
    def inner(model: Any, *args: Any, **kwargs: Any) -> Any:
        if model.env is None:
            raise ValueError("this model has no environment to learn in yet; call set_env(env) first")
        try:
            model.snapshot = Snapshot(model)
            return learn(model, *args, **kwargs)
        except BaseException as error:
            if (last := model.snapshot) is not None:
                try:
                    again = put_back_whole(last, model)
                except KeyboardInterrupt as interrupt:  # before it could look out for one
                    again = put_back_whole(last, model) or interrupt
                vars(model)["failures"] += isinstance(error, Exception) and not last.between
                model.glimpse = "" if model.restart_pending else model.stepper.glance()
                if again is not None:
                    raise again from error
            raise
        finally:
            vars(model)["snapshot"] = None  # not by a method, which an interrupt could cut short
    return cast(Method, inner)
