"""Layers of thousands of inputs, compiled: expressions that long are none that solc or Vyper would read.

One in every run; `ML2SC_SWEEP=1` compiles all widths for both targets, which takes half an hour.
"""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from onnx import helper
from support.checking import check_interpreters
from support.contracts import check_contract, deployed, packed_and_wads

import ml2sc

SHAPES = [(2_000, 1)]
TARGETS = ["solidity"]
if os.environ.get("ML2SC_SWEEP"):
    SHAPES += [(1_000, 1), (1_800, 4), (2_500, 2), (5_000, 3)]
    TARGETS += ["vyper"]


def layer(inputs: int, outputs: int) -> onnx.ModelProto:
    rng = np.random.default_rng(inputs)
    w = onnx.numpy_helper.from_array(rng.normal(size=(inputs, outputs)).astype(np.float32), "w")
    x, y = (helper.make_tensor_value_info(n, 1, [1, s]) for n, s in (("x", inputs), ("y", outputs)))
    graph = helper.make_graph([helper.make_node("Gemm", ["x", "w"], ["y"])], "wide", [x], [y], [w])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_wide_layers(shape: tuple[int, int], target: str, toolchain: ml2sc.Toolchain) -> None:
    artifact = ml2sc.compile(layer(*shape), target, "int8", input_ranges=((-1.0, 1.0),))
    rng = np.random.default_rng(1)
    samples = [{"x": rng.uniform(-1, 1, (1, shape[0]))}, {"x": np.ones((1, shape[0]))}]
    check_interpreters(artifact, samples, [])
    built = ml2sc.build(artifact, toolchain)
    check_contract(deployed(built, toolchain), built, *packed_and_wads(built, samples))
