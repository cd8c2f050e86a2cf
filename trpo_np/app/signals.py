"""Signals that wait while an update runs, so that Ctrl-C and its like do not cost a complete rollout."""

import os
import signal
from contextlib import suppress

# Ctrl-C, a scheduler's end, a closed terminal, and a scheduler's warning: the only one of these that mpirun
# of Open MPI hands on to its ranks and waits for
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")


class Signals:
    """Turn the signals of NAMES into a KeyboardInterrupt; if `held`, in `release`."""

    def __init__(self):
        self.held = self.came = self.shared = False  # shared: all ranks stop together

    def __enter__(self) -> "Signals":
        numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
        self.before = {n: signal.getsignal(n) for n in numbers}
        for n, handler in self.before.items():
            if handler is not signal.SIG_IGN:  # under nohup, or in a shell's background job, it stays ignored
                signal.signal(n, self.handle)
        return self

    def __exit__(self, *exception) -> None:
        for n, handler in self.before.items():
            signal.signal(n, handler)

    def handle(self, *_) -> None:
        """Note that a signal came; act on it now or later."""
        self.came = True  # remembered: the exception can get lost in foreign code, such as a compiler
        if not self.held:
            raise KeyboardInterrupt
        with suppress(OSError):  # the terminal may be gone
            # not print, which the signal may have interrupted
            os.write(2, b"\nstopping in a moment, when the model is whole\n")

    def release(self) -> None:
        """Let signals act at once from now on; act on one that came before."""
        self.held = False
        if self.came:
            raise KeyboardInterrupt


def boundaries(signals: Signals, model):
    """Make a callback that holds signals during updates.

    Put it first in the list: then signals do not cut short what other callbacks write after a rollout or an
    update, either.
    """
    from ..callbacks import BaseCallback

    class Boundaries(BaseCallback):
        def _on_training_start(self):
            signals.held = model.comm.size > 1  # ranks stop together, after an update

        def _on_rollout_start(self):
            if model.comm.size == 1:
                signals.release()

        def _on_rollout_end(self):
            signals.held = True

        def _on_update_end(self):
            return not signals.came  # if it came to one rank, `learn` stops all

    return Boundaries()
