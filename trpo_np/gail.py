"""`ExpertDataset` and `generate_expert_traj` at stable-baselines' path, over `trpo_np.pretrain`."""

from typing import Any

import numpy as np

from .peers import absent, answer
from .pretrain import generate_expert_data, read_expert_data
from .settings import check_count
from .types import Array, Path

__all__ = ["ExpertDataset", "generate_expert_traj"]


class ExpertDataset(dict[str, Array]):
    """An expert's episodes as a dict of arrays, which `pretrain` takes.

    expert_path: a file of `generate_expert_traj`, here or in stable-baselines, where no images were recorded.
    traj_data: its arrays instead. traj_limitation: keep so many episodes, the first ones; -1 keeps all.
    """

    def __init__(self, expert_path: Path | None = None, traj_data: dict[str, Array] | None = None, *,
                 traj_limitation: int = -1, **others: Any) -> None:
        answer("ExpertDataset", others)
        if traj_limitation != -1:
            check_count("traj_limitation", traj_limitation)
        if (expert_path is None) == (traj_data is None):
            raise ValueError("ExpertDataset needs either expert_path or traj_data")
        data = read_expert_data(traj_data if expert_path is None else expert_path)
        if missing := {"obs", "actions", "episode_starts"} - data.keys():
            raise ValueError(f"the expert data lack the array {min(missing)!r}")
        lengths = {name: len(np.atleast_1d(data[name])) for name in ("obs", "actions", "episode_starts")}
        if len(set(lengths.values())) > 1:
            given = ", ".join(f"{n} {name}" for name, n in lengths.items())
            raise ValueError(f"the expert data hold {given}; as many of each are needed")
        begins, rows = np.flatnonzero(data["episode_starts"]), len(data["episode_starts"])
        if traj_limitation != -1 and not len(begins):
            raise ValueError("in the expert data no episode starts; to keep the first ones, episode_starts "
                             "must be True at each one's first step")
        if 0 <= traj_limitation < len(begins):
            begins, rows = begins[:traj_limitation], begins[traj_limitation]
        super().__init__({name: data[name][:rows] for name in ("obs", "actions", "episode_starts")})
        self.num_traj = len(begins)


def generate_expert_traj(model: Any, save_path: Path | None = None, env: Any = None, n_timesteps: int = 0,
                         n_episodes: int = 100, **others: Any) -> dict[str, Array]:
    """Record an expert's episodes; see `trpo_np.pretrain.generate_expert_data`."""
    answer("generate_expert_traj", others)
    check_count("n_episodes", n_episodes)
    return generate_expert_data(model, save_path, env, n_timesteps, n_episodes)


__getattr__ = absent(__name__)
