"""A policy as one page: page.html, whose JavaScript walks the steps, with the policy's JSON in it.

It draws CartPole and Pendulum; of other policies it shows fields for an observation, and the action.
"""

import re
from pathlib import Path

import numpy as np

from .. import spaces
from . import document
from .samples import Pairs
from .steps import Program

# what the tasks of the page give: the bounds of an observation, those of an action or None for 0 and 1
TASKS: dict[str, tuple] = {"CartPole": ([4.8, np.inf, np.radians(24), np.inf], None),
                           "Pendulum": ([1, 1, 8], [2])}


def write(program: Program, tested: Pairs) -> str:
    """Return the text of the page."""
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    template = template.replace("TASK", task(program), 1)
    text = document.write(program, tested).replace("<", "\\u003c")  # a name in the file cannot end the script
    return template.replace("POLICY", text, 1)


def task(program: Program) -> str:
    """Return the task that the page draws: the policy's own, with its observations and actions; "" if none.

    Behind a wrapper that changes either, the page's task would be another one.
    """
    name = re.sub(r"-v\d+$", "", str(program.about.get("environment", "")))
    if name not in TASKS or len(program.fields) > 1:
        return ""
    (seen, done), action = TASKS[name], program.action
    if done is None:
        fits = action["kind"] == "Discrete" and (*action["nvec"], *action["start"]) == (2, 0)
    else:
        fits = action["kind"] == "Box" and _within(action["low"], action["high"], done)
    space = program.fields[0].space
    return name if fits and isinstance(space, spaces.Box) and _within(space.low, space.high, seen) else ""


def _within(low: np.ndarray, high: np.ndarray, bounds: list) -> bool:
    """Say whether a Box reaches from the negative of these bounds to them; older bounds are huge, not inf."""
    ends = np.array([-low, high], np.float64)
    ends[ends > 1e30] = np.inf
    return ends.shape == (2, len(bounds)) and np.allclose(ends, bounds)
