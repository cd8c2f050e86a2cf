"""Describe a model's file in lines of text."""

import json
import textwrap

from .. import spaces


def description(path: str, record: dict, arrays: dict) -> str:
    """Return the description of a model whose file has this path, record and arrays."""
    about = record["policy"]
    prefix = "parameters/"
    weights = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    normalised = ", normalised" if about["normalize"] else ""
    lines = [path, *columns({
        "policy": f"{shown(about['class'])}, {shown(about['dtype'])}",
        "arguments": settings(about["kwargs"]) or "none",
        "environment": shown(record["env_id"]) if record.get("env_id") else "not named",
        "observation": outline(spaces.from_json(about["observation_space"])) + normalised,
        "action": outline(spaces.from_json(about["action_space"])),
        **{f"network {part}": chain for part, chain in networks(weights).items()},
    }), "", "training", *columns(training(record)), "", *table(weights)]
    return "\n".join(lines)


def training(record: dict) -> dict:
    """Return what a record says of the training."""
    progress = record["progress"]
    steps = {"steps": f"{progress['num_timesteps']:,}"}
    if record["policy"].get("critic") is False:
        return steps | {"critic": "not in the file, nor what training needs (saved with training=False)"}
    mean, returns = "", [episode[0] for episode in progress["recent"]]
    if returns:
        mean = f", the last {len(returns)} with a mean return of {sum(returns) / len(returns):.2f}"
    every = " and ".join(f"{steps:,}" for steps in progress.get("cut_every", []))
    cut = f"; cut by checkpoints, every {every} steps" * bool(every)
    return steps | {
        "updates": f"{progress['updates']:,}, of which {progress['skipped_updates']:,} "
                   "found no better policy",
        "episodes": f"{progress['episodes']:,}{mean}{cut}",
        "seed": shown(progress["seed"]),
        "settings": settings(record["algorithm"])}


def shown(value) -> str:
    """Return a file's value as JSON, so that it cannot control the terminal."""
    return json.dumps(value).strip('"')


def settings(values: dict) -> str:
    """Return names and values in a line."""
    return ", ".join(f"{shown(key)} {shown(value)}" for key, value in values.items())


def columns(rows: dict) -> list:
    """Return lines with the names and texts of a table in two columns; wrap long texts."""
    width = max(map(len, rows)) + 4
    wrap = textwrap.TextWrapper(100, subsequent_indent=" " * width, break_on_hyphens=False)
    return [wrap.fill(f"  {key:{width - 2}}{text}") for key, text in rows.items()]


def outline(space) -> str:
    """Describe a space in a few words."""
    kind = type(space).__name__
    if kind == "Fields":
        parts = (f"{shown(key)}: {outline(part)}" for key, part in zip(space.keys, space.spaces))
        return f"{space.kind} of {'; '.join(parts)}"
    if kind == "Discrete":
        return f"Discrete, {space.n} values from {space.start}"
    size = " x ".join(map(str, space.shape))
    if kind == "Box":
        low, high = float(space.low.min()), float(space.high.max())
        return f"Box, {size or 1} {space.dtype}, from {low:.4g} to {high:.4g}"
    if kind == "MultiDiscrete":
        return f"MultiDiscrete, {size} of {', '.join(map(str, space.nvec))} values"
    return f"{kind}, {size}"


def networks(weights: dict) -> dict:
    """Return the widths of each network's layers as text, by the first part of its parameters' names."""
    chains: dict = {}
    for name, array in weights.items():
        if name.endswith("/lstm/wh"):
            chains[name.split("/")[0]][-1] = f"{array.shape[0]} (LSTM)"
        elif array.ndim > 1:
            kernel = " x ".join(map(str, array.shape[:-2]))
            chain = chains.setdefault(name.split("/")[0], [str(array.shape[-2])])
            chain.append(f"{array.shape[-1]}" + f" ({kernel})" * bool(kernel))
    return {part: " -> ".join(chain) for part, chain in chains.items()}


def table(weights: dict) -> list:
    """Return the lines of the table of parameters, with sums for policy and critic."""
    rows = [("parameter", "shape", "number")]
    rows += [(name, " x ".join(map(str, array.shape)), f"{array.size:,}") for name, array in weights.items()]
    critic = sum(array.size for name, array in weights.items() if name.startswith("vf/"))
    total = sum(array.size for array in weights.values())
    rows += [("policy", "", f"{total - critic:,}"), ("critic", "", f"{critic:,}"), ("all", "", f"{total:,}")]
    a, b, c = (max(map(len, column)) for column in zip(*rows))
    lines = [f"{name:{a}}  {shape:{b}}  {number:>{c}}" for name, shape, number in rows]
    rule = "-" * len(lines[0])
    return [lines[0], rule, *lines[1:-3], rule, *lines[-3:]]
