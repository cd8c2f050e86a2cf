"""From the file of a policy to a file for another language."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..files.archive import find, replace_file
from ..files.model import read_model
from ..policies.base import Policy
from ..types import File
from . import c99, document, onnx_graph, page, script
from .samples import Pairs, compared, pairs
from .steps import Program, describe, run

STEPS = 4, 8  # of the built-in test: of a policy without memory, of one with it


def export(source: File, path: str | os.PathLike[str], to: str, weights: str = "float32",
           policy: type[Policy] | str | None = None, policy_kwargs: dict[str, Any] | None = None
           ) -> dict[str, str]:
    """Write the policy of the file `source` to `path`, whole or not at all, as a name of TARGETS says.

    `weights` is "float32" or, in C, "float16" or "int8"; `policy` and `policy_kwargs` are those of
    load_policy. Return what there is to say of the result, by name. A ValueError names what cannot be
    exported.
    """
    if to not in TARGETS:
        raise ValueError(f"the target is {to!r}; it can be {', '.join(map(repr, TARGETS))}")
    if isinstance(source, (str, bytes, os.PathLike)):  # no file object
        source = find(source)
        if os.path.exists(path) and os.path.samefile(source, path):
            raise ValueError(f"{os.fspath(path)} is the model itself; name another file to write")
    if weights != "float32" and to != "c":
        raise ValueError(f"weights is {weights!r}, which only C knows; {to!r} has float32")
    model, _, record, _ = read_model(source, policy, policy_kwargs)
    program = describe(model, _about(source, record))
    compared(program, model)
    meant, kept = c99.stored(program, weights)
    tested = pairs(meant, model, STEPS[bool(program.memory)])
    report = {"observation": f"{program.size} numbers", "steps": " ".join(step.op for step in program.steps)}
    if weights != "float32":
        many = pairs(program, model, 100, seed=2)
        lost = np.abs(_outputs(meant, many) - many.outputs).max()
        report["error"] = (f"{lost:.2g} at most in 100 steps, in outputs of spread {many.outputs.std():.2g}, "
                           f"for storing weights as {weights}")
    text = TARGETS[to](program, tested, Path(path).stem, weights, kept, report)
    data = text.encode() if isinstance(text, str) else text
    replace_file(os.fspath(path), [data])
    return report | {"file": f"{os.fspath(path)}, {len(data):,} bytes"}


def _about(source, record: dict) -> dict:
    about = {}
    if isinstance(source, str):  # no file object
        path = Path(source)
        about = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    if record.get("env_id"):
        about["environment"] = record["env_id"]
    if "progress" in record:
        about["trained"] = f"{record['progress']['num_timesteps']} steps"
    return about


def _outputs(program: Program, tested: Pairs) -> np.ndarray:
    """Return the outputs of a program on these steps."""
    memory, outputs = np.zeros((1, program.memory), np.float32), []
    for row, start in zip(tested.obs, tested.starts):
        y, memory = run(program, row[None], memory * (not start))
        outputs.append(y[0])
    return np.stack(outputs)


def _c(program, tested, name, weights, kept, report):
    notes = {key: report[key] for key in ("error",) if key in report}
    return c99.write(program, tested, name, weights, kept, notes)


def _of_steps(write: Callable) -> Callable:
    return lambda program, tested, name, weights, kept, report: write(program, tested)


def _onnx(program, tested, name, weights, kept, report):
    return onnx_graph.write(program)


TARGETS: dict[str, Callable] = {"c": _c, "py": _of_steps(script.write), "onnx": _onnx,
                                "json": _of_steps(document.write), "html": _of_steps(page.write)}
