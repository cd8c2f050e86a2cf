"""Atari games with every setting given: ALE's own vector environment, or gymnasium's wrappers.

The tools' defaults disagree about sticky actions, skipped frames, clipped rewards and lost lives, so we rely
on none of them: `options` lists the settings in force, and `make_atari` passes every one on.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode

from .settings import install, nearest

INSTALL = f"Atari games need the package ale-py: {install('atari')}"


def find_game(name: str) -> gymnasium.envs.registration.EnvSpec:
    """Return gymnasium's spec of a game by its id or its short name: Pong, ms_pacman, ALE/Pong-v5.

    A short name means NoFrameskip-v4: no sticky actions. A ValueError hints at the nearest known name.
    """
    try:
        import ale_py  # noqa: F401  (registers the games)
    except ImportError as error:
        raise ImportError(f"{INSTALL} ({error})") from None
    specs = gymnasium.registry.items()
    known = {id: spec for id, spec in specs if str(spec.entry_point).startswith("ale_py")}
    if name in known:
        return known[name]
    names = [id.removesuffix("NoFrameskip-v4") for id in known if id.endswith("NoFrameskip-v4")]
    short = {_key(title): f"{title}NoFrameskip-v4" for title in names}
    if _key(name) in short:
        return known[short[_key(name)]]
    title = name.split("/")[-1].split("NoFrameskip")[0].split("-v")[0]
    raise ValueError(f"there is no Atari game {name!r}{nearest(title, names)}")


def _key(name: str) -> str:
    return name.replace("_", "").lower()


def is_atari(env_id: str) -> bool:
    """Say whether an id or a short name is an Atari game's."""
    if importlib.util.find_spec("ale_py") is None:
        return False
    try:
        find_game(env_id)
    except ValueError:
        return False
    return True


def seen(shape: tuple) -> dict[str, int]:
    """Return the settings under which observations have this shape, as a saved policy's have."""
    return dict(zip(("stack", "height", "width"), shape))


def maker(env_id: str, **changes) -> Callable:
    """Return a function that makes eight games at once, or one that can be drawn if given a `render_mode`."""
    def make(**kwargs):
        return make_one(env_id, **changes, **kwargs) if kwargs else make_atari(env_id, 8, **changes)
    return make


def options(env_id: str, **changes) -> dict[str, Any]:
    """Return every setting of a game's environment, with `changes`; a ValueError names an unknown one.

    `sticky` is the probability that the emulator repeats the last action in place of the given one: as the
    game's id says, 0 for NoFrameskip-v4 and 0.25 for v5. `life_loss` ends an episode for the learner at each
    lost life, while the game and its score go on. Rewards are never clipped here.
    """
    spec = find_game(env_id)
    known = {"sticky": spec.kwargs["repeat_action_probability"], "frame_skip": 4, "max_pool": True,
             "noop_max": 30, "fire_reset": True, "life_loss": True, "height": 84, "width": 84, "stack": 4,
             "full_action_space": False, "max_frames": spec.kwargs["max_num_frames_per_episode"]}
    if strange := sorted(changes.keys() - known.keys()):
        raise ValueError(f"{strange[0]} is not a setting of an Atari environment; these are: "
                         f"{', '.join(known)}")
    return known | changes


def make_atari(env_id: str, num_envs: int = 1, **changes) -> gymnasium.vector.VectorEnv:
    """Make ALE's vector environment: `num_envs` games, stepped in C++ by one thread; see `options`."""
    spec, given = find_game(env_id), options(env_id, **changes)
    from ale_py.vector_env import AtariVectorEnv

    _check_rom(spec.kwargs["game"])
    env = AtariVectorEnv(
        spec.kwargs["game"], num_envs, num_threads=1, batch_size=0, autoreset_mode=AutoresetMode.SAME_STEP,
        # report a lost life and go on with the game: episodic_life would start it anew
        episodic_life=False, life_loss_info=given["life_loss"], reward_clipping=False,
        use_fire_reset=given["fire_reset"], noop_max=given["noop_max"],
        repeat_action_probability=given["sticky"], frameskip=given["frame_skip"], maxpool=given["max_pool"],
        grayscale=True, stack_num=given["stack"], img_height=given["height"], img_width=given["width"],
        full_action_space=given["full_action_space"], max_num_frames_per_episode=given["max_frames"])
    env.spec = spec
    return env


def make_one(env_id: str, render_mode: str | None = None, **changes) -> gymnasium.Env:
    """Make one game that can be drawn, of gymnasium's emulator and wrappers, with `make_atari`'s settings."""
    spec, given = find_game(env_id), options(env_id, **changes)
    _check_rom(spec.kwargs["game"])
    if not given["max_pool"]:
        raise ValueError("gymnasium's AtariPreprocessing always takes the maximum of two frames; "
                         "max_pool=True is needed")
    env: gymnasium.Env = gymnasium.make(
        spec.id, render_mode=render_mode, frameskip=1, repeat_action_probability=given["sticky"],
        full_action_space=given["full_action_space"], max_num_frames_per_episode=given["max_frames"])
    env = gymnasium.wrappers.AtariPreprocessing(
        env, noop_max=given["noop_max"], frame_skip=given["frame_skip"], terminal_on_life_loss=False,
        screen_size=(given["width"], given["height"]), grayscale_obs=True, scale_obs=False)
    env = FireReset(env) if given["fire_reset"] else env
    env = gymnasium.wrappers.FrameStackObservation(env, given["stack"], padding_type="zero")
    return EpisodicLife(env) if given["life_loss"] else env


def _check_rom(game: str) -> None:
    from ale_py import roms

    try:
        found = roms.get_rom_path(game)
    except (OSError, NotADirectoryError) as error:
        raise ImportError(f"the ROM of {game} is missing or damaged ({error}); pip install --force-reinstall "
                          "ale-py, or set ALE_ROMS_DIR to a folder that has it") from None
    if found is None:
        raise ImportError(f"this version of ale-py has no ROM of {game}; pip install --upgrade ale-py")


class FireReset(gymnasium.Wrapper, RecordConstructorArgs):
    """Press FIRE after a reset in games that begin with it."""

    def __init__(self, env: gymnasium.Env):
        RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)

    def reset(self, **kwargs):
        """Start a game; start another if that ends at once."""
        obs, info = self.env.reset(**kwargs)
        if self.env.unwrapped.get_action_meanings()[1:2] == ["FIRE"]:
            obs, _, terminated, truncated, info = self.env.step(1)
            if terminated or truncated:
                obs, info = self.env.reset()
        return obs, info


class EpisodicLife(gymnasium.Wrapper, RecordConstructorArgs):
    """End an episode at each lost life; the next reset goes on with the game where it stands."""

    def __init__(self, env: gymnasium.Env):
        RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)
        self.lives, self.going_on = 0, None

    def reset(self, **kwargs):
        """Go on after a lost life, or start a game; with a seed, always start one."""
        if self.going_on is not None and kwargs.get("seed") is None:
            obs, info = self.going_on
        else:
            obs, info = self.env.reset(**kwargs)
        self.lives, self.going_on = info["lives"], None
        return obs, info

    def step(self, action):
        """Take a step; a lost life terminates the episode."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        before, self.lives = self.lives, info["lives"]  # a bonus can raise it
        if 0 < self.lives < before and not (terminated or truncated):
            self.going_on, terminated = (obs, info), True
        return obs, reward, terminated, truncated, info
