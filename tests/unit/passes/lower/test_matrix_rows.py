"""Rows of a matrix that lie alike: the same code and the same weights for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import heavy
from support.checking import check_interpreters
from support.contracts import packed_and_wads

import ml2sc
from ml2sc.ir import wad
from ml2sc.ir.graph import Graph
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.program import Program
from ml2sc.ir.program_verify import verify_program
from ml2sc.passes.lower import PlanOptions, lower

from .conftest import random_inputs

ROWS = 5


def model(
    inputs: int, middle: int, outputs: int, *, rows: int = ROWS, bias_by_row: bool = False, transposed: bool = False
) -> onnx.ModelProto:
    """Return two layers over the rows of a matrix, perhaps transposed before, with Relu between them."""
    rng = np.random.default_rng(inputs)
    arrays = {
        "w": rng.normal(size=(inputs, middle)),
        "b": rng.normal(size=(rows, middle) if bias_by_row else (middle,)),
        "v": rng.normal(size=(middle, outputs)),
    }
    nodes = [
        *([helper.make_node("Transpose", ["x"], ["t"], name="turn", perm=[1, 0])] if transposed else []),
        helper.make_node("MatMul", ["t" if transposed else "x", "w"], ["a"], name="first"),
        helper.make_node("Add", ["a", "b"], ["c"], name="shift"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "v"], ["y"], name="second"),
    ]
    shapes = {"x": [inputs, rows] if transposed else [rows, inputs], "y": [rows, outputs]}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
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
    artifact = check_rows(model(*sizes), inputs, **options)
    assert macs(artifact) == [ROWS * sizes[0] * sizes[1], ROWS * sizes[1] * sizes[2]]


def check_rows(model: onnx.ModelProto, inputs: np.ndarray, **options: Any) -> ml2sc.Artifact:
    """Compile a model, in int8 by default, and check that its interpreters agree; each layer is one section."""
    artifact = ml2sc.compile(model, "solidity", calibration={"x": inputs}, **{"precision": "int8"} | options)
    samples = [{"x": x} for x in inputs[:3]]
    check_interpreters(artifact, samples, packed_and_wads(artifact, samples)[1])
    assert len(macs(artifact)) == 2
    return artifact


def macs(artifact: ml2sc.Artifact) -> list[Any]:
    assert artifact.program is not None
    return [s.facts["macs"] for s in artifact.program.layers if "macs" in s.facts]


@pytest.mark.parametrize(
    ("rows", "options"),
    heavy.in_turns(2, [2, ROWS], [{}, {"updatable": True}, {"weights": "code", "optimize": "deploy"}]),
    ids=str,
)
def test_rows_with_a_bias_each(rows: int, options: dict[str, Any]) -> None:
    inputs = np.random.default_rng(2).uniform(-1, 1, size=(6, rows, 4))
    check_rows(model(4, 33, 2, rows=rows, bias_by_row=True), inputs, **options)


@pytest.fixture(scope="module")
def two_rows() -> Graph:
    inputs = np.random.default_rng(2).uniform(-1, 1, size=(6, 2, 40))
    graph = check_rows(model(40, 9, 2, rows=2), inputs).graph
    assert graph is not None
    return graph


@pytest.mark.parametrize(
    ("weights", "method", "written"),
    heavy.in_turns(2, ["auto", "code", "data"], ["lanes", "dots"], [True, False]),
)
def test_few_rows(two_rows: Graph, method: str, weights: str, written: bool) -> None:
    """Two rows are a loop or written out, by either method."""
    names = [node.name for node in two_rows if node.op_type in {"Gemm", "FusedGemm"}]
    force = {name: {"method": method, "written": written} for name in names}
    agree(two_rows, PlanOptions(weights=weights, force=force))


def agree(graph: Graph, options: PlanOptions) -> Program:
    program = lower(graph, options)
    verify_program(program, graph)
    for q in random_inputs(graph, 6, 1):
        assert Interpreter(program).run(wad.pack(graph, q)) == wad.run_graph(graph, q)
    return program


@pytest.mark.parametrize("rows", [3, ROWS])
def test_rows_that_do_not_lie_alike_are_brought_together(rows: int) -> None:
    """A transposed input: no row's inputs lie side by side, and all rows share the weights."""
    inputs = np.random.default_rng(2).uniform(-1, 1, size=(6, 6, rows))
    artifact = check_rows(model(6, 9, 4, rows=rows, transposed=True), inputs)
    assert artifact.program is not None
    assert "first_rows" in artifact.program.buffers
    assert artifact.graph is not None
    agree(artifact.graph, PlanOptions(weights="data", optimize="deploy"))
