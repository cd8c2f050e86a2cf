"""A policy as one header in C99, which is C++11 too: no heap, no globals that are written, no other file.

Weights are written with 9 significant digits, which give back each float32 exactly. The caller owns the
state: the memory of an LSTM, and the room for the numbers between the layers, which `Places` shares out.
"""

import re
from typing import NamedTuple

import numpy as np

from .. import spaces
from .c99_text import BITS, BOX, CHOICE, FORWARD, HELPERS, HOOKS, NUMBER, STATE, STEP, TEST, USE
from .samples import Pairs
from .steps import Program, Step, describe_action, describe_field, plain

WEIGHTS = {"float32": ("float", 4), "float16": ("uint16_t", 2), "int8": ("int8_t", 1)}  # the type, its bytes
MATRICES = ("w", "wx", "wh")
IN_PLACE = ("tanh", "relu", "elu", "sigmoid", "flatten", "scale")


# --- how weights are stored ---------------------------------------------------------------------------------

class Stored(NamedTuple):
    """A matrix (..., m) as it is stored: numbers and, for int8, a factor for each of its rows."""

    numbers: np.ndarray
    factors: np.ndarray | None
    meant: np.ndarray  # what these stand for, float32


def store(w: np.ndarray, weights: str) -> Stored:
    """Store a matrix as `weights`, a name of WEIGHTS."""
    if weights == "float32":
        return Stored(w, None, w)
    if weights == "float16":
        if np.abs(w).max() > np.finfo(np.float16).max:
            raise ValueError(f"a weight is {np.abs(w).max():g}; float16 holds numbers up to 65504")
        half = w.astype(np.float16)
        return Stored(half.view(np.uint16), None, half.astype(np.float32))
    factors = (np.abs(w).max(-1, keepdims=True) / 127).astype(np.float32)
    numbers = np.rint(w / np.where(factors > 0, factors, 1)).astype(np.int8)
    return Stored(numbers, factors, numbers * factors)


def stored(program: Program, weights: str) -> tuple[Program, dict]:
    """Return the program with what its matrices are after storing them, and {(output, key): Stored}."""
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {weights!r}; it can be {', '.join(map(repr, WEIGHTS))}")
    kept: dict[tuple, Stored] = {}
    steps = []
    for step in program.steps:
        mine = {key: store(step.given[key], weights) for key in MATRICES if key in step.given}
        kept |= {(step.out.name, key): one for key, one in mine.items()}
        steps.append(step._replace(given=step.given | {key: one.meant for key, one in mine.items()}))
    return program._replace(steps=tuple(steps)), kept


# --- where values are ---------------------------------------------------------------------------------------

class Places:
    """Where each value begins in the room for work; values that are not needed at once share it."""

    def __init__(self, program: Program):
        self.at: dict[str, int] = {}  # of what a step makes; of an LSTM, whose output is memory, its gates
        self.size = 1  # C knows no arrays of length 0
        last = {value.name: i for i, step in enumerate(program.steps) for value in step.inputs}
        last[program.outputs.name] = len(program.steps)
        taken: dict[str, tuple[int, int]] = {}
        for i, step in enumerate(program.steps):
            source, out = step.inputs[0].name, step.out
            if step.op in IN_PLACE and source in taken and last[source] == i:
                taken[out.name] = taken.pop(source)
            else:
                size = int(np.prod(out.shape))
                if step.op == "lstm":
                    size *= 8 if "gx" in step.given else 4
                begin = 0
                for a, b in sorted(taken.values()):
                    if begin + size <= a:
                        break
                    begin = max(begin, b)
                taken[out.name] = begin, begin + size
            self.at[out.name], end = taken[out.name]
            self.size = max(self.size, end)
            if step.op == "lstm":
                del taken[out.name]
            taken = {name: place for name, place in taken.items() if last[name] > i}


# --- the header ---------------------------------------------------------------------------------------------

def write(program: Program, tested: Pairs, name: str, weights: str, kept: dict, notes: dict) -> str:
    """Return the text of the header NAME.h.

    `kept` are the stored matrices of the program, `tested` what the self-test computes, `notes` more lines
    for the comment at its top.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ValueError(f"the file's name gives the prefix {name!r}, which is no identifier of C; letters, "
                         "digits and _ are needed, such as my_policy.h")
    return Header(program, tested, weights, kept).text(name, notes)


def literal(x) -> str:
    """Return a float32 as a constant of C, exactly."""
    text = f"{np.float32(x):.9g}"
    return text + ("f" if re.search(r"[.e]", text) else ".0f")


class Header:
    """The parts of a header. The methods named after ops return the statement that computes a step, given its
    input x of n numbers and its output y."""

    def __init__(self, program: Program, tested: Pairs, weights: str, kept: dict):
        self.program, self.tested, self.weights, self.kept = program, tested, weights, kept
        self.kind = WEIGHTS[weights][0]
        self.arrays: list[str] = []
        self.bytes = 0  # of all arrays but the self-test's
        spot = program.fields[0].space
        self.picture = spot if isinstance(spot, spaces.Image) and len(program.fields) == 1 else None
        self.bytes_come = self.picture is not None and self.picture.is_bytes
        self.places, self.pointers, memory = Places(program), {}, 0
        for field in program.fields:
            self.pointers[field.name] = f"(obs + {field.start})"
        for step in program.steps:
            self.pointers[step.out.name] = f"(state->work + {self.places.at[step.out.name]})"
            if step.op == "lstm":
                cells = step.out.shape[0]
                self.pointers[step.out.name] = f"(state->memory + {memory + cells})"
                memory += 2 * cells

    def text(self, name: str, notes: dict) -> str:
        """Return the header with `name` as the prefix of all names."""
        forward = FORWARD.replace("VALID", "\n".join(self.checks()) or "    (void)obs;")
        forward = forward.replace("STEPS", "\n".join(map(self.statement, self.program.steps)))
        forward = forward.replace("OUTPUTS", self.pointers[self.program.outputs.name])
        body = "\n\n".join([forward, self.acting(), STEP, self.testing()])
        for helper, text in reversed(HELPERS.items()):
            if f"@_{helper}(" in body:
                body = f"{self.spelled(text)}\n\n{body}"
        body = "\n\n".join([self.state(), *self.arrays, body])
        includes = ["math.h"] + ["stdint.h"] * (self.weights != "float32") + ["string.h"] * ("memcpy" in body)
        parts = [self.comment(name, notes), "#ifndef @_H\n#define @_H",
                 "\n".join(f"#include <{header}>" for header in includes),
                 self.sizes(), self.hooks(body), body, "#endif\n"]
        return "\n\n".join(parts).replace("@", name)

    def array(self, name: str, numbers, kind: str = "float", tests: bool = False) -> str:
        """Note a constant array; return its name."""
        flat = np.ravel(numbers)
        if kind == "@_OBS":
            words = [f"(@_OBS){x!r}" for x in flat.tolist()]
        else:
            words = [literal(x) if kind == "float" else str(x) for x in flat]
        lines = [""]
        for word in words:
            if len(lines[-1]) + len(word) > 100:
                lines.append("")
            lines[-1] += f"{word}, "
        rows = "\n".join(f"    {line.rstrip()}" for line in lines)
        self.arrays.append(f"static const {kind} @_{name}[{flat.size}] @_CONST = {{\n{rows}\n}};")
        sizes = dict(WEIGHTS.values()) | {"@_OBS": 8 if self.program.is_precise else 4}
        self.bytes += 0 if tests else flat.size * sizes.get(kind, 4)
        return f"@_{name}"

    def given(self, step: Step, key: str, kind: str = "float") -> str:
        return self.array(f"{step.out.name}_{key}", step.given[key], kind)

    def matrix(self, step: Step, key: str) -> str:
        """Note a stored matrix; return the arguments that pass it."""
        one, name = self.kept[step.out.name, key], f"{step.out.name}_{key}"
        arguments = [self.array(name, one.numbers, self.kind)]
        return ", ".join(arguments + ([] if one.factors is None else [self.array(f"{name}_by", one.factors)]))

    def spelled(self, text: str) -> str:
        """Spell out how a helper takes stored matrices, see c99_text.py."""
        by = self.weights == "int8"
        text = text.replace("NUMBER", NUMBER[self.weights])
        if "@_product(const" in text:
            text = text.replace("MATRIX(w)", "MATRIX(@_RESTRICT w)")
        text = re.sub(r"MATRIX\((@_RESTRICT )?(\w+)\)", rf"const {self.kind} *\1\2"
                      + r", const float *\1\2_by" * by, text)
        text = re.sub(r"AT\((\w+)\)", r"\1" + r", \1_by" * by, text)
        return re.sub(r"AT\((\w+), (.*?c)\)", r"\1 + \2 * m" + r", \1_by + \2" * by, text)

    # --- steps

    def statement(self, step: Step) -> str:
        source = step.inputs[0]
        x, y, n = self.pointers[source.name], self.pointers[step.out.name], int(np.prod(source.shape))
        code = getattr(self, step.op, self.elementwise)(step, x, n, y)
        return f"    {code}".rstrip() + f"  /* {step.op}: {' x '.join(map(str, step.out.shape))} */"

    def elementwise(self, step, x, n, y):
        return self.flatten(step, x, n, y) + f"@_{step.op}({y}, {n});"

    def flatten(self, step, x, n, y):
        return "" if x == y else f"@_copy({x}, {n}, {y}); "

    def dense(self, step, x, n, y):
        m = step.out.shape[0]
        return (f"@_begin({self.given(step, 'b')}, {m}, {y}); "
                f"@_product({x}, {n}, {self.matrix(step, 'w')}, {m}, {y});")

    def conv(self, step, x, n, y):
        g, (oh, ow, m) = step.given, step.out.shape
        numbers = [*g["w"].shape[:2], m, *g["stride"], *g["before"], oh, ow]
        return (f"@_conv({x}, {commas(step.inputs[0].shape)}, {self.matrix(step, 'w')}, "
                f"{self.given(step, 'b')}, {commas(numbers)}, {y});")

    def lstm(self, step, x, n, y):
        keys = [key for key in ("b", "gx", "gh", "gc", "bc") if key in step.given]
        arrays = [self.matrix(step, "wx"), self.matrix(step, "wh"), *(self.given(step, key) for key in keys)]
        cells, name = step.out.shape[0], "lnlstm" if "gx" in keys else "lstm"
        return (f"@_{name}({x}, {n}, {commas(arrays)}, {cells}, {y} - {cells}, "
                f"state->work + {self.places.at[step.out.name]});")

    def concat(self, step, x, n, y):
        ends = np.cumsum([value.shape[0] for value in step.inputs])
        parts = [(self.pointers[value.name], value.shape[0]) for value in step.inputs]
        return " ".join(f"@_copy({part}, {size}, {y} + {end - size});"
                        for (part, size), end in zip(parts, ends))

    def onehot(self, step, x, n, y):
        sizes, starts = step.given["sizes"], step.given["starts"]
        return " ".join(f"@_onehot((int){x}[{i}] - ({start}), {size}, {y} + {end - size});"
                        for i, (size, start, end) in enumerate(zip(sizes, starts, np.cumsum(sizes))))

    def image(self, step, x, n, y):
        shape, axes = step.inputs[0].shape, step.given["axes"]
        pairs = [(shape[axis], int(np.prod(shape[axis + 1:]))) for axis in axes] + [(1, 0)] * (4 - len(axes))
        return f"@_image({x}, {commas(number for pair in pairs for number in pair)}, {y});"

    def scale(self, step, x, n, y):
        shift, factor, clip = (step.given[key] for key in ("shift", "factor", "clip"))
        raw, value = x.startswith("(obs"), f"{x}[i]"
        if shift is not None:
            value += f" - @_READ({self.given(step, 'shift', '@_OBS' if raw else 'float')} + i)"
        if raw:
            value = f"(float)({value})"
        if factor is not None:
            by = f"@_READ({self.given(step, 'factor')} + i)" if np.ndim(factor) else literal(factor)
            value = f"({value}) * {by}"
        if clip is not None:
            value = f"@_clip({value}, {literal(-clip)}, {literal(clip)})"
        return f"for (int i = 0; i < {n}; i++) {y}[i] = {value};"

    # --- the rest

    def checks(self) -> list[str]:
        """Return the lines that refuse an observation."""
        lines = []
        for field in () if self.bytes_come else self.program.fields:
            for i, (size, start) in enumerate(field.choices, field.start):
                lines.append(f"    if (!(obs[{i}] >= {start} && obs[{i}] < {start + size}) || "
                             f"obs[{i}] != (@_OBS)(int)obs[{i}]) return 0;")
            if not field.choices:
                lines.append(f"    for (int i = {field.start}; i < {field.stop}; i++) "
                             "if (!(obs[i] - obs[i] == 0)) return 0;")
        return lines

    def sizes(self) -> str:
        """Return the macros that tell sizes, and where the fields of a Dict begin."""
        outputs = self.program.outputs.shape[0]
        parts = len(self.program.action.get("nvec", ())) or outputs
        sizes = dict(OBS=self.program.size, ACT=parts, OUT=outputs, NOISE=parts, MEMORY=self.program.memory,
                     WORK=self.places.size)
        lines = [f"#define @_{name}_SIZE {size}" for name, size in sizes.items()]
        for field in self.program.fields if self.program.fields[0].path else ():
            key = re.sub(r"\W", "_", "_".join(map(str, field.path)), flags=re.ASCII).upper()
            while any(f"@_AT_{key} " in line for line in lines):
                key += "_"
            lines.append(f"#define @_AT_{key} {field.start}  /* {field.stop - field.start} numbers of obs */")
        return "\n".join(lines)

    def hooks(self, body: str) -> str:
        number = ("double", "") if self.program.is_precise else ("float", "or double")
        types = {"OBS": ("unsigned char", "") if self.bytes_come else number,
                 "ACT": ("float" if self.program.action["kind"] == "Box" else "int", "")}
        return "\n".join(f"#ifndef @_{macro.split('(')[0]}\n#define @_{macro} {text}".rstrip()
                         + f"  /* {why} */" * bool(why) + "\n#endif"
                         for macro, (text, why) in (types | HOOKS).items()
                         if re.search(rf"@_{macro.split('(')[0]}\b", body))

    def state(self) -> str:
        memory, forget = "", "(void)state;"
        if self.program.memory:
            memory = "\n    float memory[@_MEMORY_SIZE];  /* c and h */"
            forget = "for (int i = 0; i < @_MEMORY_SIZE; i++) state->memory[i] = 0;"
        return STATE.replace("MEMORY\n", f"{memory}\n", 1).replace("FORGET", forget)

    def acting(self) -> str:
        """Return the functions from outputs to actions."""
        action = self.program.action
        if action["kind"] == "MultiBinary":
            return BITS
        if action["kind"] == "Box":
            self.array("std", action["std"])
            wrap = "({})"
            if np.isfinite([action["low"], action["high"]]).any():
                low, high = (self.array(key, inward(action[key], key == "low")) for key in ("low", "high"))
                wrap = f"@_clip({{}}, @_READ({low} + i), @_READ({high} + i))"
            wrap = f"rintf({wrap})" if action["integer"] else wrap
            return re.sub(r"SETTLED\((.*)\);", lambda found: wrap.format(found[1]) + ";", BOX)
        likeliest, drawn = [], []
        ends = np.cumsum(action["nvec"])
        for i, (size, start, end) in enumerate(zip(action["nvec"], action["start"], ends)):
            part, shift = f"out + {end - size}, {size}", f" + ({start})" if start else ""
            likeliest.append(f"    act[{i}] = @_largest({part}){shift};")
            drawn.append(f"    act[{i}] = @_drawn({part}, noise[{i}]){shift};")
        return CHOICE.replace("LIKELIEST", "\n".join(likeliest)).replace("DRAWN", "\n".join(drawn))

    def testing(self) -> str:
        """Return the self-test. Images are made by the generator of samples.noise_bytes, to need no room."""
        tested, generator = self.tested, ""
        if self.picture is not None:
            generator = "\n    unsigned long s = 0;"
            byte = "s >> 24" if self.bytes_come else (
                f"(float)(s >> 24) * {literal(np.float32(np.max(self.picture.high) / 255))}")
            fill = f"s = (s * 1664525u + 1013904223u) & 0xFFFFFFFFu; obs[i] = (@_OBS)({byte});"
        else:
            self.array("test_obs", tested.obs, "@_OBS" if self.program.is_precise else "float", tests=True)
            fill = "obs[i] = (@_OBS)@_READ(@_test_obs + t * @_OBS_SIZE + i);"
        self.array("test_out", tested.outputs, tests=True)
        self.array("test_act", tested.actions, tests=True)
        reset = " || ".join(f"t == {t}" for t in np.flatnonzero(tested.starts) if t) or "0"
        return (TEST.replace("GENERATOR", generator).replace("FILL", fill).replace("RESET", reset)
                .replace("COUNT", str(len(tested.obs))))

    def comment(self, name: str, notes: dict) -> str:
        program, state = self.program, 4 * (self.places.size + self.program.memory)
        table = program.about | notes | {"constants": f"{self.bytes:,} bytes, weights as {self.weights}",
                                         "state": f"{state:,} bytes"}
        lines = ["@.h: a policy as C99 and C++11, written by trpo_np.", "",
                 *(f"{key:13}{plain(value)}" for key, value in table.items()), "",
                 "Observations as the environment gives them, in its units, neither normalised nor clipped:"]
        lines += [f"    obs[{field.start}] to obs[{field.stop - 1}]: {plain(describe_field(field))}"
                  for field in program.fields]
        lines += [f"Actions: {plain(describe_action(program.action))}", *USE.split("\n")]
        return "/*\n" + "\n".join(f" * {line}".rstrip() for line in lines) + "\n */"


def commas(parts) -> str:
    return ", ".join(map(str, parts))


def inward(bounds: np.ndarray, is_low: bool) -> np.ndarray:
    """Round bounds to float32 that lie inside of them; infinite ones become the largest float32."""
    most = np.finfo(np.float32).max
    near = np.clip(bounds, -most, most).astype(np.float32)
    outside = (near < bounds if is_low else near > bounds) & np.isfinite(bounds)
    return np.where(outside, np.nextafter(near, np.float32(most if is_low else -most)), near)
