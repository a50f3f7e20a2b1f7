"""Rows of a matrix that lie alike: the same code and the same weights for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.checking import check_interpreters
from support.contracts import packed_and_wads

import ml2sc

ROWS = 5


def model(inputs: int, middle: int, outputs: int, *, bias_by_row: bool = False) -> onnx.ModelProto:
    """Return two layers over the rows of a matrix, with Relu between them."""
    rng = np.random.default_rng(inputs)
    shape = (ROWS, middle) if bias_by_row else (middle,)
    arrays = {
        "w": rng.normal(size=(inputs, middle)),
        "b": rng.normal(size=shape),
        "v": rng.normal(size=(middle, outputs)),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Add", ["a", "b"], ["c"], name="shift"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "v"], ["y"], name="second"),
    ]
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [ROWS, k]) for n, k in (("x", inputs), ("y", outputs))
    ]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "rows", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((7, 5, 3), {"precision": "int8"}),
        ((40, 33, 2), {"precision": "int8", "weights": "data"}),
        ((37, 30, 2), {"precision": "int8", "optimize": "deploy"}),
        ((32, 8, 4), {"precision": "w4a4", "weights": "code"}),
        ((8, 4, 3), {"precision": "q15.16"}),
        ((9, 20, 2), {"precision": "int8", "updatable": True}),
    ],
)
def test_rows_share_a_section(sizes: tuple[int, int, int], options: dict[str, Any]) -> None:
    inputs = np.random.default_rng(2).uniform(-1, 1, size=(6, ROWS, sizes[0]))
    artifact = ml2sc.compile(model(*sizes), "solidity", calibration={"x": inputs}, **options)
    assert artifact.program is not None
    layers = [s for s in artifact.program.layers if "macs" in s.facts]
    assert [s.facts["macs"] for s in layers] == [ROWS * sizes[0] * sizes[1], ROWS * sizes[1] * sizes[2]]
    samples = [{"x": x} for x in inputs[:3]]
    check_interpreters(artifact, samples, packed_and_wads(artifact, samples)[1])


def test_rows_with_a_bias_each_do_not() -> None:
    inputs = np.random.default_rng(2).uniform(-1, 1, size=(6, ROWS, 4))
    artifact = ml2sc.compile(model(4, 3, 2, bias_by_row=True), "solidity", "int8", {"x": inputs})
    assert artifact.program is not None
    assert len([s for s in artifact.program.layers if "macs" in s.facts]) > ROWS
    samples = [{"x": x} for x in inputs[:3]]
    check_interpreters(artifact, samples, packed_and_wads(artifact, samples)[1])
