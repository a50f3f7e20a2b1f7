"""Small networks with random weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def dense(*widths: int, activation: str | Sequence[str] = "Relu") -> onnx.ModelProto:
    """Return a stack of dense layers with an activation between, or one of several after the other."""
    kinds = itertools.cycle([activation] if isinstance(activation, str) else activation)
    rng = np.random.default_rng(sum(widths))
    nodes, constants, last = [], [], "x"
    for index, (k, n) in enumerate(itertools.pairwise(widths)):
        weights = {f"w{index}": rng.normal(size=(k, n)) / k**0.5, f"c{index}": rng.normal(size=n) / 4}
        constants += [numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()]
        nodes.append(helper.make_node("Gemm", [last, f"w{index}", f"c{index}"], [last := f"g{index}"]))
        if index < len(widths) - 2:
            nodes.append(helper.make_node(next(kinds), [last], [last := f"h{index}"]))
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, widths[0]])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, widths[-1]])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
