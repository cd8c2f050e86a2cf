"""gymnasium's `check_env` at stable-baselines' path."""

from typing import Any

from gymnasium.utils.env_checker import check_env as _check_env

__all__ = ["check_env"]


def check_env(env: Any, warn: bool = True, skip_render_check: bool = True) -> None:
    """Check that an environment keeps gymnasium's interface; see gymnasium.utils.env_checker.

    `warn` is taken and changes nothing.
    """
    _check_env(env, skip_render_check=skip_render_check)
