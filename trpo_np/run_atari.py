"""Train TRPO on an Atari game, from pixels.

    python -m trpo_np.run_atari --env Pong --seed 0
"""

import argparse
from typing import Any

from .app import jobs, launch, options

PROG = "python -m trpo_np.run_atari"
OPTIONS: dict[str, Any] = {"env": "BreakoutNoFrameskip-v4", "timesteps": "1e7",
                           "presets": ["tuned", "baselines", "paper"], "num_envs": 8,
                           "policies": ["CnnPolicy", "CnnLstmPolicy", "CnnLnLstmPolicy"]}
DESCRIPTION = """Train TRPO on an Atari game, save the model and evaluate it. A short name such as Pong means
PongNoFrameskip-v4. Progress is shown with steps per second and the time left; Ctrl-C saves before it
stops."""

EPILOG = f"""The environment's settings, none left to a default of ALE or gymnasium: sticky 0.0 (the
probability that the emulator repeats the last action, 0.25 for an id such as ALE/Pong-v5), frame_skip 4
(max_pool True: the policy sees the maximum of the last two), noop_max 30 and fire_reset True (at the start of
a game), life_loss True (a lost life ends an episode for the learner; the game and its score go on), height
84, width 84, stack 4 frames (1 for a policy with an LSTM), full_action_space False, max_frames 108000. The
preset paper has life_loss False, height 52 and width 40. Rewards are clipped to -1 .. 1 for the learner
alone, not with the preset paper. {jobs.EPILOG}"""


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of all jobs, and the network."""
    jobs.add_options(p, **OPTIONS)
    p.add_argument("--network", choices=["nature_cnn", "cnn_small", "trpo_cnn"],
                   help="nature_cnn: stable-baselines' default; cnn_small: openai/baselines'; trpo_cnn: that "
                        "of the TRPO paper (default: as the preset says)")


def work(argv: list[str] | None = None) -> int:
    """Parse the options and run the job; return the exit status."""
    p = argparse.ArgumentParser(prog=PROG, description=DESCRIPTION, epilog=EPILOG,
                                formatter_class=jobs.layout)
    add_options(p)
    return train(jobs.parse(p, argv))


def train(args: argparse.Namespace) -> int:
    """Run the job of these options; return the exit status."""
    jobs.one_thread()
    launch.start(args)
    from . import atari, presets
    from .files.model import load_policy
    from .policies.images import Visual

    jobs.find_start(args, OPTIONS["env"], lambda name: atari.find_game(name).id)
    preset, changes = presets.atari(args.preset)
    policy = args.policy or OPTIONS["policies"][0]
    if args.load and isinstance(loaded := load_policy(args.load), Visual):
        changes |= atari.seen(loaded.observation_space.shape)  # type: ignore[union-attr]
    elif policy != "CnnPolicy":
        changes["stack"] = 1
    changes |= dict(args.env_kwargs)
    if args.network:
        args.policy_kwargs = [*args.policy_kwargs, ("cnn_extractor", args.network)]
    every = atari.options(args.env, **changes)
    args.env_kwargs = list(every.items())
    table = "environment: " + ", ".join(f"{name} {value}" for name, value in every.items())
    preset = options.replace(preset, args)
    tuned, usual = presets.atari("tuned")
    as_recorded = not args.load and (
        (policy, every, preset) == ("CnnPolicy", atari.options(args.env, **usual), tuned))
    return jobs.run(args, atari.maker(args.env, **changes), policy, preset,
                    lambda n: atari.make_atari(args.env, n, **changes), table, deterministic=False,
                    beside=presets.reported(atari.find_game(args.env).id) if as_recorded else "")


if __name__ == "__main__":
    jobs.main(work, PROG)
