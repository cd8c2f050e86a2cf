"""What the command line puts out: help texts, pictures and Monitor files, for several tests.

    PYTHONPATH=. python tests/outputs.py     after an option has changed: writes the table of docs/options.md
"""

import json
import os
import struct
from pathlib import Path


def check_help(parser):
    """Check that each option says what it does and, once, its default."""
    for action in parser._actions:
        if action.option_strings and action.dest not in ("help", "version"):
            text = parser._get_formatter()._expand_help(action)
            assert text.count("(default: ") == 1 and text.endswith(")"), (action.option_strings, text)
            assert len(text) > 25, (action.option_strings, text)
    text = parser.format_help()
    assert "default: None" not in text and "default: False" not in text and "SUPPRESS" not in text


def options_table(parser):
    """Return a parser's options as the guide shows them (docs/options.md)."""
    lines = ["| option | meaning |", "| --- | --- |"]
    for action in parser._actions:
        flags = "`, `".join(action.option_strings)
        value = action.metavar or "{" + ",".join(action.choices) + "}" if action.nargs != 0 and (
            action.metavar or action.choices) else ""
        text = parser._get_formatter()._expand_help(action)
        lines.append(f"| `{flags}{' ' * bool(value)}{value}` | {text} |")
    return "\n".join(lines) + "\n"


def png_size(path):
    """Return the width and height that a .png file states."""
    head = Path(path).read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def write_monitor(path, rows, t_start=1000.0, env_id="CartPole-v1"):
    """Write a Monitor file of (return, length, time) rows."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    header = json.dumps({"t_start": t_start, "env_id": env_id})
    Path(path).write_text(f"#{header}\nr,l,t\n" + "".join(f"{r},{l},{t}\n" for r, l, t in rows))


if __name__ == "__main__":
    from trpo_np import run_mujoco
    from trpo_np.app import jobs

    table = options_table(jobs.parser(run_mujoco.PROG, "", **run_mujoco.OPTIONS))
    page = Path(__file__).parents[1] / "trpo_np" / "docs" / "options.md"
    page.write_text(page.read_text().partition("| option |")[0] + table)
