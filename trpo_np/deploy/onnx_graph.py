"""A policy as an ONNX model, of ops that have been in ONNX for long: opset 13.

Each field of the observation is an input, float32, (n, *shape), as the environment gives it; an image's bytes
are numbers from 0 to 255. Normalised numbers are float64 where the space is of float64 or of large integers,
and the mean is subtracted in that type. A policy with memory has the input `state` (n, 2 cells), zeros where
an episode begins, and the output `next_state`. Other outputs are `action` and `outputs`: logits, or the means
of a Box.
"""

import numpy as np

from .steps import Program, Step, describe_action, plain

OPSET = 13


def write(program: Program) -> bytes:
    """Return the bytes of the model; an ImportError says what to install."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError("writing ONNX needs the package onnx: pip install 'trpo_np[onnx]'") from error
    graph = _Graph(onnx.helper, onnx.numpy_helper)
    precise = {step.inputs[0].name for step in program.steps if step.given.get("precise")}
    for field in program.fields:
        dtype = np.float64 if field.name in precise else np.float32
        graph.inputs.append(graph.tensor(field.name, ["n", *field.shape], dtype))
    if program.memory:
        graph.inputs.append(graph.tensor("state", ["n", program.memory]))
    for step in program.steps:
        getattr(graph, step.op, graph.elementwise)(step)
    graph.settle(program)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "policy", graph.inputs, graph.results, graph.constants),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=7, producer_name="trpo_np",
        doc_string=f"Actions: {plain(describe_action(program.action))}")
    for key, value in program.about.items():
        model.metadata_props.add(key=key, value=plain(value))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


class _Graph:
    """The nodes of a model. The methods named after ops add those of a step."""

    def __init__(self, helper, numpy_helper):
        self.helper, self.from_array = helper, numpy_helper.from_array
        self.nodes: list = []
        self.inputs: list = []
        self.results: list = []
        self.constants: list = []

    def tensor(self, name: str, shape: list, dtype=np.float32):
        return self.helper.make_tensor_value_info(name, self.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
                                                  shape)

    def constant(self, x, dtype=np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(self.from_array(np.ascontiguousarray(np.asarray(x, dtype)).reshape(np.shape(x)),
                                              name))
        return name

    def add(self, kind: str, *inputs: str, out: str | None = None, **attributes) -> str:
        """Add a node; return the name of its output."""
        out = out or f"n{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def part(self, x: str, start: int, stop: int) -> str:
        """Add what takes columns."""
        return self.add("Slice", x, *(self.constant([i], np.int64) for i in (start, stop, 1)))

    # --- steps

    def elementwise(self, step: Step) -> None:
        kind = {"tanh": "Tanh", "relu": "Relu", "elu": "Elu", "sigmoid": "Sigmoid"}[step.op]
        self.add(kind, step.inputs[0].name, out=step.out.name)

    def shaped(self, x: str, step: Step) -> str:
        return self.add("Reshape", x, self.constant([-1, *step.out.shape], np.int64), out=step.out.name)

    def flatten(self, step: Step) -> None:
        self.shaped(step.inputs[0].name, step)

    def onehot(self, step: Step) -> None:
        sizes, starts, x = step.given["sizes"], step.given["starts"], step.inputs[0].name
        x = self.add("Reshape", x, self.constant([-1, len(sizes), 1], np.int64))
        parts = []
        for i, (size, start) in enumerate(zip(sizes, starts)):
            one = self.add("Gather", x, self.constant(i, np.int64), axis=1)
            away = self.add("Abs", self.add("Sub", one, self.constant(np.arange(start, start + size))))
            parts.append(self.add("Relu", self.add("Sub", self.constant(1.0), away)))  # integers, so 1 or 0
        self.add("Concat", *parts, axis=1, out=step.out.name)

    def image(self, step: Step) -> None:
        order = [0, *(axis + 1 for axis in step.given["axes"])]
        self.shaped(self.add("Transpose", step.inputs[0].name, perm=order), step)

    def scale(self, step: Step) -> None:
        shift, factor, clip = (step.given[key] for key in ("shift", "factor", "clip"))
        x = self.add("Reshape", step.inputs[0].name, self.constant([-1, *step.out.shape], np.int64))
        if precise := step.given.get("precise"):
            x = self.add("Cast", x, to=self.helper.np_dtype_to_tensor_dtype(np.dtype(np.float64)))
        if shift is not None:
            x = self.add("Sub", x, self.constant(shift, np.float64 if precise else np.float32))
        if precise:
            x = self.add("Cast", x, to=self.helper.np_dtype_to_tensor_dtype(np.dtype(np.float32)))
        if factor is not None:
            x = self.add("Mul", x, self.constant(factor))
        if clip is not None:
            x = self.add("Clip", x, self.constant(-clip), self.constant(clip))
        self.add("Identity", x, out=step.out.name)

    def concat(self, step: Step) -> None:
        self.add("Concat", *(value.name for value in step.inputs), axis=1, out=step.out.name)

    def product(self, x: str, w, b) -> str:
        return self.add("Add", self.add("MatMul", x, self.constant(w)), self.constant(b))

    def dense(self, step: Step) -> None:
        self.add("Identity", self.product(step.inputs[0].name, step.given["w"], step.given["b"]),
                 out=step.out.name)

    def conv(self, step: Step) -> None:
        w, (top, left), (h, width, _) = step.given["w"], step.given["before"], step.inputs[0].shape
        bottom, right = step.given["padded"][0] - h - top, step.given["padded"][1] - width - left
        x = self.add("Transpose", step.inputs[0].name, perm=[0, 3, 1, 2])
        y = self.add("Conv", x, self.constant(w.transpose(3, 2, 0, 1)), self.constant(step.given["b"]),
                     strides=list(step.given["stride"]), pads=[top, left, bottom, right])
        self.add("Transpose", y, perm=[0, 2, 3, 1], out=step.out.name)

    def standardize(self, x: str, gain, bias) -> str:
        x = self.add("Sub", x, self.add("ReduceMean", x, axes=[-1]))
        variance = self.add("ReduceMean", self.add("Mul", x, x), axes=[-1])
        x = self.add("Div", x, self.add("Sqrt", self.add("Add", variance, self.constant(1e-5))))
        return self.add("Add", self.add("Mul", x, self.constant(gain)), self.constant(bias))

    def lstm(self, step: Step) -> None:
        g, cells = step.given, step.out.shape[0]
        c, h = self.part("state", 0, cells), self.part("state", cells, 2 * cells)
        x, norm = step.inputs[0].name, "gx" in step.given
        if norm:
            zx = self.standardize(self.add("MatMul", x, self.constant(g["wx"])), g["gx"], g["b"])
            zh = self.standardize(self.add("MatMul", h, self.constant(g["wh"])), g["gh"], 0.0)
        else:
            zx, zh = self.product(x, g["wx"], g["b"]), self.add("MatMul", h, self.constant(g["wh"]))
        z = self.add("Add", zx, zh)
        i, f, o = (self.add("Sigmoid", self.part(z, k * cells, (k + 1) * cells)) for k in range(3))
        new = self.add("Tanh", self.part(z, 3 * cells, 4 * cells))
        c = self.add("Add", self.add("Mul", f, c), self.add("Mul", i, new))
        u = self.standardize(c, g["gc"], g["bc"]) if norm else c
        self.add("Mul", o, self.add("Tanh", u), out=step.out.name)
        self.add("Concat", c, step.out.name, axis=1, out="next_state")
        self.results.append(self.tensor("next_state", ["n", 2 * cells]))

    # --- actions

    def settle(self, program: Program) -> None:
        """Add the nodes from outputs to actions."""
        action, x = program.action, self.add("Identity", program.outputs.name, out="outputs")
        self.results.append(self.tensor("outputs", ["n", program.outputs.shape[0]]))
        shape = ["n", *action["shape"]]
        if action["kind"] == "Box":
            most = np.finfo(np.float32).max
            low, high = (self.constant(np.clip(action[key], -most, most)) for key in ("low", "high"))
            x = self.add("Min", self.add("Max", x, low), high)
            x = self.add("Round", x) if action["integer"] else x
        elif action["kind"] == "MultiBinary":
            x = self.add("Cast", self.add("Greater", x, self.constant(0.0)),
                         to=self.helper.np_dtype_to_tensor_dtype(np.dtype(np.int64)))
        else:
            ends = np.cumsum(action["nvec"])
            parts = [self.add("ArgMax", self.part(x, end - n, end), axis=1, keepdims=1)
                     for n, end in zip(action["nvec"], ends)]
            x = self.add("Add", self.add("Concat", *parts, axis=1), self.constant(action["start"], np.int64))
        self.add("Reshape", x, self.constant([-1, *action["shape"]], np.int64), out="action")
        dtype = np.float32 if action["kind"] == "Box" else np.int64
        self.results.insert(0, self.tensor("action", shape, dtype))
