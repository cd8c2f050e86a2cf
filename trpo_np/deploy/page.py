"""A policy as one page: page.html, whose JavaScript walks the steps, with the policy's JSON in it.

It draws CartPole and Pendulum; of other policies it shows fields for an observation, and the action.
"""

from pathlib import Path

from . import document
from .samples import Pairs
from .steps import Program


def write(program: Program, tested: Pairs) -> str:
    """Return the text of the page."""
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    text = document.write(program, tested).replace("<", "\\u003c")  # a name in the file cannot end the script
    return template.replace("POLICY", text, 1)
