"""A policy as JSON: the steps as they are, for a program in any language to walk.

    about      where the policy comes from
    fields     parts of the observation: name, path (keys in a Dict or Tuple), shape
    steps      op, inputs and out (names), shape of the output, and what belongs to the op; see steps.py
    memory     how many numbers are carried from step to step, 0 at first
    action     kind, shape, and low, high (null: none), integer and std, or nvec and start
    test       steps one after the other: obs (by field), start of an episode, outputs, action

Numbers are float32 in the fewest digits that give them back; the shift of `scale` is float64, and so is what
it reads where it is `precise`.
"""

import json
from typing import Any

import numpy as np

from .samples import Pairs
from .steps import Program, plain

FORMAT = "trpo_np steps 1"


def write(program: Program, tested: Pairs) -> str:
    """Return the JSON text of a program."""
    steps = [{"op": step.op, "inputs": [value.name for value in step.inputs], "out": step.out.name,
              "shape": step.out.shape, **step.given} for step in program.steps]
    fields = [{"name": field.name, "path": field.path, "shape": field.shape} for field in program.fields]
    test = [{"obs": {field.name: row[field.start:field.stop] for field in program.fields},
             "start": start, "outputs": outputs, "action": action}
            for row, start, outputs, action in zip(*tested)]
    about = {key: plain(value) for key, value in program.about.items()}
    record = {"format": FORMAT, "about": about, "fields": fields, "memory": program.memory,
              "action": program.action, "steps": steps, "test": test}
    return json.dumps(_listed(record), allow_nan=False, separators=(",", ":"))


def _listed(value: Any) -> Any:
    """Return a value of lists, numbers and texts alone."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_listed(item) for item in value]
    if isinstance(value, np.ndarray) and value.ndim:
        return [_listed(item) for item in value]
    if isinstance(value, np.float32 | np.ndarray):
        return float(str(value))
    value = value.item() if isinstance(value, np.generic) else value
    return None if value in (np.inf, -np.inf) else value
