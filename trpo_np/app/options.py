"""Every setting of TRPO as an option of the command line, by hand or from a file.

The options are made from settings.py: a new setting there is an option here. What is not given stays as the
preset says or, with --load, as the model's file says.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any

GROUP = """each replaces what the preset says (with --load: what the model's file says). X:Y is a schedule,
from X at the beginning of training to Y at its end"""
LAYERS = {"net_arch", "layers"}  # two names of one argument of the policy


# --- reading values -----------------------------------------------------------------------------------------

def count(text: str) -> int:
    """Read a whole number, also written like 1e6."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if value < 0 or not value.is_integer():  # which infinity is not
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number such as 1000000 or 1e6")
    return int(text) if text.isdecimal() else int(value)


def name(text: str) -> str:
    """Read a text that is not empty, as an unset variable of a shell would be."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not (value := count(text)):
        raise argparse.ArgumentTypeError("at least 1 is needed")
    return value


def number(text: str) -> float:
    """Read a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def schedule(text: str) -> Any:
    """Read a number, or "0.03:0.001", a line from the first number to the second."""
    from ..settings import LinearSchedule

    first, *more = text.split(":")
    if len(more) > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, nor a schedule such as 0.03:0.001")
    return LinearSchedule(number(first), number(*more)) if more else number(first)


def widths(text: str) -> list:
    """Read hidden layers, for `net_arch`: "64,64" for each of policy and critic; "" is none, a linear policy.

    What stands before the word lstm is shared: "64,lstm,32".
    """
    layers: list = []
    for part in text.split(",") if text else []:
        if not (part == "lstm" and part not in layers or part.isdecimal() and int(part)):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of layers' widths such as 64,64 or, "
                                             "for a recurrent policy, 64,lstm")
        layers.append(part if part == "lstm" else int(part))
    start = layers.index("lstm") + 1 if "lstm" in layers else 0
    return layers[:start] + [{"pi": layers[start:], "vf": layers[start:]}]


def pair(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE; a value that is no JSON is a text."""
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


# --- the options --------------------------------------------------------------------------------------------

def add_settings(p: argparse.ArgumentParser, policies: list[str]) -> None:
    """Add an option for each setting of TRPO and for the policy, and --config."""
    from ..settings import FIELDS

    p.add_argument("--config", metavar="FILE", type=_abbreviated,
                   help="read options from a .json or .toml file, by their names; those of the command line "
                        "count more; --log-dir writes such a file, config.json (default: none)")
    p.add_argument("--env-kwargs", metavar="NAME=VALUE", nargs="+", action="extend", type=pair, default=[],
                   help="arguments of the environment, such as healthy_reward=0.5 (default: none)")
    group = p.add_argument_group("the policy and TRPO", GROUP)
    group.add_argument("--policy", choices=policies, help=f"class of the policy (default: {policies[0]})")
    group.add_argument("--net-arch", metavar="N,N", type=widths,
                       help="widths of the hidden layers, of policy and critic alike; --net-arch= is a "
                            "linear policy; with memory, 64,lstm (default: the preset's, else 64,64)")
    group.add_argument("--policy-kwargs", metavar="NAME=VALUE", nargs="+", action="extend", type=pair,
                       default=[],
                       help="arguments of the policy, such as act_fun=relu or log_std_init=-1 (default: the "
                            "preset's)")
    group.add_argument("--normalize", action=argparse.BooleanOptionalAction,
                       help="--normalize-observations and --normalize-rewards (default: the preset's)")
    readers: dict[Any, Any] = {int: ("N", count), float: ("X", number)}
    for name, item in FIELDS.items():
        flag = f"--{name.replace('_', '-')}"
        own = str(item.default) if item.type is not bool else "yes" if item.default else "no"
        help = f"{item.metadata['help']} (default: the preset's, else {own})"
        if item.type is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=help)
        elif item.type is str:
            group.add_argument(flag, choices=item.metadata["choices"], help=help)
        else:
            shown, reader = readers.get(item.type, ("X[:Y]", schedule))
            group.add_argument(flag, metavar=shown, type=reader, help=help)


def _abbreviated(text: str) -> None:
    """Refuse what `with_config` has not taken from the command line: it looks for the whole word."""
    raise argparse.ArgumentTypeError(f"write --config {text}, not a shorter word")


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of TRPO that options gave."""
    from ..settings import FIELDS

    given = {}
    if args.normalize is not None:
        given = dict.fromkeys(("normalize_observations", "normalize_rewards"), args.normalize)
    return given | {name: value for name in FIELDS if (value := getattr(args, name)) is not None}


def given_policy_kwargs(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of the policy that options gave."""
    layers = {} if args.net_arch is None else {"net_arch": args.net_arch}
    return layers | dict(args.policy_kwargs)


def replace(preset: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Return a preset, TRPO's keyword arguments, with what options gave in place of its own."""
    own, given = preset.get("policy_kwargs", {}), given_policy_kwargs(args)
    if not LAYERS.isdisjoint(given):
        own = {name: value for name, value in own.items() if name not in LAYERS}
    policy_kwargs = own | given
    return preset | given_settings(args) | ({"policy_kwargs": policy_kwargs} if policy_kwargs else {})


def check_policy(args: argparse.Namespace, model: Any) -> None:
    """Raise a ValueError if options ask for another policy than that of the loaded model."""
    given, made = given_policy_kwargs(args), model.policy_kwargs
    if args.policy not in (None, model.policy_class.__name__):
        raise ValueError(f"--policy {args.policy} does not fit {args.load}, which holds a "
                         f"{model.policy_class.__name__}")
    for name in given:
        if given[name] != made.get(name):
            own = repr(made[name]) if name in made else "the default"
            raise ValueError(f"{name} {given[name]!r} does not fit {args.load}, whose network was made with "
                             f"{own}")


# --- files of options ---------------------------------------------------------------------------------------

def with_config(argv: list[str] | None, commands: tuple[str, ...] = ()) -> list[str]:
    """Return a command line with the options of its --config before those of its own, which count more.

    argv: the words after the program's name; those of this process if None. commands: those that may come
    first. Raise a ValueError if the file is none of options.
    """
    argv = sys.argv[1:] if argv is None else argv
    p = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    p.add_argument("--config")
    found, rest = p.parse_known_args(argv)
    if found.config is None:
        return argv
    start = int(rest[:1] != [] and rest[0] in commands)
    options = [word for name, value in read_config(found.config).items() for word in words(name, value)]
    return [*rest[:start], *options, *rest[start:]]


def read_config(path: str) -> dict[str, Any]:
    """Read a .json or .toml file of options; a ValueError says what is wrong with it."""
    with open(path, "rb") as file:
        content = file.read()
    try:
        text = content.decode()
    except ValueError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error})") from None
    if os.path.splitext(path)[1] == ".toml":
        try:
            import tomllib
        except ImportError:  # Python 3.10
            raise ValueError(f"{path}: TOML needs Python 3.11; write the options as JSON") from None
        load: Callable[[str], Any] = tomllib.loads
    else:
        load = json.loads
    try:
        options = load(text)
    except ValueError as error:
        raise ValueError(f"{path} is not a file of options: {error}") from None
    if not isinstance(options, dict):
        raise ValueError(f'{path} holds {options!r:.100}; options by name are needed, {{"env": "Hopper-v5"}}')
    return options


def words(name: str, value: Any) -> list[str]:
    """Return an option of a file as words of a command line."""
    flag = f"--{name.replace('_', '-')}"
    if value is None or name == "command" or value is False and name in ("resume", "play"):
        return []
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, dict) and set(value) == {"linear"}:
        value = ":".join(map(repr, value["linear"]))
    elif isinstance(value, dict):
        return [flag, *(f"{key}={json.dumps(part)}" for key, part in value.items())] if value else []
    elif isinstance(value, list):
        value = ",".join(map(str, value))
    return [f"{flag}={value}"]


def write_config(path: str, args: argparse.Namespace, model: Any) -> None:
    """Write the job's command, and all options with which a new job trains as this one does."""
    chosen = {"command": args.command, "env": args.env, "env_kwargs": dict(args.env_kwargs),
              "preset": args.preset, "num_timesteps": args.num_timesteps, "seed": model.seed,
              "num_envs": args.num_envs, "policy": model.policy_class.__name__,
              "policy_kwargs": model.policy_kwargs, **model.settings.to_json()}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in chosen.items())
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        file.write(f"{{\n{lines}\n}}\n")
    os.replace(f"{path}.tmp", path)
