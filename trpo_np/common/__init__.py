"""stable-baselines' paths, re-exported: `policies`, `vec_env`, `callbacks`, `evaluation`, `monitor`,
`results_plotter`, `cmd_util`, `env_util`, `env_checker`, `misc_util`, `utils`, `logger`.

`peers.NOT_HERE` says what to use in place of what is not here.
"""

import sys
from typing import TYPE_CHECKING

from ..peers import Absent

if TYPE_CHECKING:
    from .cmd_util import make_vec_env
    from .misc_util import set_global_seeds

__all__ = ["make_vec_env", "set_global_seeds"]
sys.meta_path.append(Absent)


def __getattr__(name: str) -> object:
    if name in __all__:  # on first use: policies must load without gymnasium
        from . import cmd_util, misc_util
        return cmd_util.make_vec_env if name == "make_vec_env" else misc_util.set_global_seeds
    raise AttributeError(f"module 'trpo_np.common' has no attribute {name!r}")
