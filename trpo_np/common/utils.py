"""`set_random_seed` and `get_linear_fn` at stable-baselines3's path."""

from collections.abc import Callable

from ..peers import absent
from ..settings import LinearSchedule
from .misc_util import set_random_seed

__all__ = ["get_linear_fn", "set_random_seed"]
__getattr__ = absent(__name__)


def get_linear_fn(start: float, end: float, end_fraction: float) -> LinearSchedule | Callable[[float], float]:
    """Return a schedule from `start` to `end`, which it reaches after this fraction of training."""
    if end_fraction == 1:
        return LinearSchedule(start, end)  # which a file keeps

    def schedule(remaining: float) -> float:
        done = 1 - remaining
        return end if done >= end_fraction else start + done / end_fraction * (end - start)

    return schedule
