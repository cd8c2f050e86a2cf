"""A policy as one file of Python that needs NumPy alone: the functions of reference.py, a line for each step,
and the arrays."""

import base64
import inspect
import json
import re
import textwrap

import numpy as np

from . import reference
from .samples import Pairs
from .steps import Program, Step, describe_action, describe_field, plain

HEAD = '''\
"""A policy, written by trpo_np for Python with NumPy, which is all that it needs.

{about}

Observations as the environment gives them, in its units, neither normalised nor clipped:
{fields}
Actions: {action}

    action, state = predict(obs)             one observation or a batch, the likeliest action
    action, state = predict(obs, state)      the next step, of a policy with memory
    action, state = predict(obs, rng=np.random.default_rng())    a draw
    selftest()                               the largest error on built-in steps
"""

import base64

import numpy as np

ACTION = {rules}
FIELDS = {paths}


# --- the ops ------------------------------------------------------------------------------------------------

{ops}

# --- the policy ---------------------------------------------------------------------------------------------

def outputs(values, memory):
    """Return the outputs (n, k) of fields (n, ...) by name, and the memory after them: logits, or means."""
{steps}
    return {last}, memory


def predict(obs, state=None, start=None, rng=None):
    """Return actions and the state after them, for one observation or a batch.

    `start` (n,) is True where an episode begins: nothing is remembered from before. With `rng`, a
    np.random.Generator, actions are drawn.
    """
    values = {{}}
    for name, (path, shape) in FIELDS.items():
        values[name] = obs
        for key in path:
            values[name] = values[name][key]
        values[name] = np.asarray(values[name])
        single = values[name].ndim == len(shape)
        if values[name].shape[not single:] != shape:
            raise ValueError(f"{{name}} has the shape {{values[name].shape}}; {{shape}} is needed, "
                             "or a batch of these")
        values[name] = values[name].reshape(-1, *shape)
        if not np.isfinite(values[name]).all():
            raise ValueError(f"{{name}} holds numbers that are not finite")
    n = len(values[name])
    memory = np.zeros((n, {memory}), np.float32) if state is None else state
    if start is not None:
        memory = np.where(np.reshape(start, (n, 1)), np.float32(0), memory)
    out, memory = outputs(values, memory)
    if rng is not None:
        out = out + noise(ACTION, out, rng).astype(np.float32)
    actions = act(ACTION, out).reshape(n, *ACTION["shape"]).astype(ACTION["dtype"])
    return (actions[0] if single else actions), memory


def selftest():
    """Return the largest error on built-in steps, of numbers above 1 relative."""
    worst, memory = 0.0, np.zeros((1, {memory}), np.float32)
    for row, start, meant in zip(TEST_OBS, TEST_STARTS, TEST_OUT):
        values = {{name: row[a:b].reshape(1, *FIELDS[name][1]) for name, (a, b) in TEST_PLACES.items()}}
        out, memory = outputs(values, memory * (not start))
        worst = max(worst, float(np.max(np.abs(out[0] - meant) / (1 + np.abs(meant)))))
    return worst


# --- its numbers --------------------------------------------------------------------------------------------

def array(dtype, *shape, text):
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


{arrays}

if __name__ == "__main__":
    print("largest error of the self-test:", selftest())
'''


def write(program: Program, tested: Pairs) -> str:
    """Return the text of the file."""
    arrays: list[str] = []

    def array(name: str, x: np.ndarray) -> str:
        x = np.asarray(x, np.asarray(x).dtype.newbyteorder("<"), order="C")
        text = textwrap.fill(base64.b64encode(x.tobytes()).decode(), 100)
        shape = ", ".join(map(repr, [x.dtype.str, *x.shape]))
        arrays.append(f'{name} = array({shape}, text="""\n{text}""")')
        return name

    def line(step: Step) -> str:
        names = {field.name: f"values[{field.name!r}]" for field in program.fields}
        parts = [names.get(value.name, value.name) for value in step.inputs]
        parts += ["memory"] if step.op == "lstm" else []
        for key, value in step.given.items():
            if isinstance(value, np.ndarray):
                parts.append(f"{key}={array(f'{step.out.name}_{key}'.upper(), value)}")
            elif value is not None:
                parts.append(f"{key}={float(value) if isinstance(value, np.floating) else value!r}")
        sizes = ", ".join(map(str, step.out.shape))
        shape = f".reshape(-1, {sizes})" if step.op in ("image", "scale") else ""
        out = f"{step.out.name}, memory" if step.op == "lstm" else step.out.name
        return f"    {out} = {step.op}({', '.join(parts)}){shape}"

    steps = "\n".join(map(line, program.steps))
    array("TEST_OBS", tested.obs)
    array("TEST_OUT", tested.outputs)
    arrays.append(f"TEST_STARTS = {tested.starts.tolist()}")
    arrays.append(f"TEST_PLACES = { {field.name: (field.start, field.stop) for field in program.fields} }")
    ops = re.split(r"^import numpy as np\n+", inspect.getsource(reference), maxsplit=1, flags=re.MULTILINE)[1]
    return HEAD.format(
        about="\n".join(f"{key:13}{plain(value)}" for key, value in program.about.items()),
        fields="\n".join(f"    {plain(describe_field(field))}" for field in program.fields),
        action=plain(describe_action(program.action)), rules=_literal(program.action),
        paths={field.name: (field.path, field.shape) for field in program.fields}, ops=ops, steps=steps,
        last=program.outputs.name, memory=program.memory, arrays="\n".join(arrays))


def _literal(action: dict) -> str:
    """Return the action's rules as Python; the numbers of a bound are float64."""
    words = {key: f"np.array({json.dumps(value.tolist())})".replace("Infinity", "np.inf")
             if isinstance(value, np.ndarray) else repr(value) for key, value in action.items()}
    return "{" + ",\n          ".join(f"{key!r}: {word}" for key, word in words.items()) + "}"
