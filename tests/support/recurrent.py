"""Models of one recurrent layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, INPUTS, SIZE = 3, 3, 2


def layer(op_type: str, *, states: bool = False, bias: bool = True, lens: int = 0, **attrs: Any) -> onnx.ModelProto:
    """Return a model of one layer; with `states` it begins with given ones, and all its outputs are the model's."""
    rng = np.random.default_rng(2)
    directions = 2 if attrs.get("direction") == "bidirectional" else 1
    gates = GATES[op_type] * SIZE
    shapes = {"w": (directions, gates, INPUTS), "r": (directions, gates, SIZE), "b": (directions, 2 * gates)}
    given = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    state = (1, directions, SIZE) if attrs.get("layout") else (directions, 1, SIZE)
    names = ["x", "w", "r", "b" if bias else "", "lens" if lens else ""]
    if lens:
        given["lens"] = np.array([lens], np.int32)
    outputs = ["y", "last", "cell"] if op_type == "LSTM" else ["y", "last"]
    if states:
        for name in outputs[1:]:
            names.append(f"{name}0")
            given[names[-1]] = rng.normal(size=state).astype(np.float32)
    nodes = [helper.make_node(op_type, names, outputs, name="n", hidden_size=SIZE, **attrs)]
    shape = (1, STEPS, INPUTS) if attrs.get("layout") else (STEPS, 1, INPUTS)
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(a, n) for n, a in given.items() if n in names],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=9)
