"""Callbacks: what surrounds training, in stable-baselines' convention."""

from collections.abc import Callable
from typing import Any


class BaseCallback:
    """Hook into training: override `_on_step` (return False to stop) and the other methods that start with `_on`.

    `self.model`, `self.num_timesteps`, `self.n_calls`, `self.locals`, `self.globals`, `self.training_env` are set while training.
    """

    def __init__(self, verbose: int = 0):
        self.verbose, self.n_calls, self.num_timesteps = verbose, 0, 0
        self.locals: dict = {}
        self.globals: dict = {}

    def init_callback(self, model) -> None:
        """Get to know the model, before training."""
        self.model, self.training_env = model, model.get_env()
        self._init_callback()

    @property
    def wants_steps(self) -> bool:
        """Whether the per-step hook is used; if not, it costs nothing."""
        return type(self)._on_step is not BaseCallback._on_step

    def on_training_start(self, locals_: dict, globals_: dict) -> None:
        """Called before the first rollout."""
        self.locals, self.globals = locals_, globals_
        self.num_timesteps = self.model.num_timesteps
        self._on_training_start()

    def on_rollout_start(self) -> None:
        """Called before each rollout."""
        self._on_rollout_start()

    def update_locals(self, locals_: dict) -> None:
        """Add to what `self.locals` shows."""
        self.locals.update(locals_)

    def on_step(self) -> bool:
        """Called after each step of the environments; False stops training."""
        self.n_calls += 1
        self.num_timesteps = self.model.num_timesteps
        return self._on_step()

    def on_rollout_end(self) -> bool:
        """Called after each rollout, before the update; False stops training after it."""
        self.num_timesteps = self.model.num_timesteps
        return self._on_rollout_end()

    def on_update_end(self) -> bool:
        """Called after each update; False stops training."""
        return self._on_update_end()

    def on_training_end(self) -> None:
        """Called once, after the last update."""
        self._on_training_end()

    def _init_callback(self) -> None: ...

    def _on_training_start(self) -> None: ...

    def _on_rollout_start(self) -> None: ...

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> Any: ...

    def _on_update_end(self) -> Any: ...

    def _on_training_end(self) -> None: ...


class FunctionCallback(BaseCallback):
    """Call a function of (locals, globals) after each step, as stable-baselines did; False stops training."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def _on_step(self) -> bool:
        return self.function(self.locals, self.globals) is not False


def as_callback(callback: Any) -> BaseCallback:
    """Make a BaseCallback of None, a function or a callback."""
    if callback is None:
        return BaseCallback()
    if isinstance(callback, BaseCallback):
        return callback
    if callable(callback):
        return FunctionCallback(callback)
    raise ValueError(f"callback is {callback!r}; a BaseCallback or a function of (locals, globals) is needed")
