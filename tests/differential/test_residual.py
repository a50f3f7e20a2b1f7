"""Residual connections: contract == interpreter, the gas is what was stated, and the sum costs next to nothing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.checking import check_interpreters
from support.contracts import check_contract, deployed, packed_and_wads
from support.prediction import check_stated
from support.small_cnns import residual

import ml2sc

WIDTH = 32
MOST = WIDTH * 2_500 // 64
"""Gas that the sum may cost in Solidity: 2,500 for 64 values."""


def block(*, add: bool = True, deep: bool = False) -> onnx.ModelProto:
    """Return Gemm, Relu, Gemm, Add and Relu, the model's input or (deep) a layer's result being added, and a layer.

    A deep one takes one activation from another besides.
    """
    rng = np.random.default_rng(WIDTH)
    nodes, constants = [], []

    def layer(x: str, y: str, outputs: int) -> str:
        arrays = {f"{y}w": rng.normal(size=(WIDTH, outputs)) / WIDTH**0.5, f"{y}c": rng.normal(size=outputs) / 4}
        constants.extend(numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items())
        nodes.append(helper.make_node("Gemm", [x, *arrays], [y], name=y))
        return y

    def step(op_type: str, *inputs: str) -> str:
        nodes.append(helper.make_node(op_type, inputs, [f"t{len(nodes)}"], name=f"t{len(nodes)}"))
        return str(nodes[-1].output[0])

    skip = step("Relu", layer("x", "h", WIDTH)) if deep else "x"
    last = layer(step("Relu", layer(skip, "a", WIDTH)), "b", WIDTH)
    last = step("Relu", step("Add", skip, last) if add else last)
    last = step("Sub", last, skip) if deep else last
    layer(last, "y", 4)
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, k]) for n, k in (("x", WIDTH), ("y", 4))]
    graph = helper.make_graph(nodes, "block", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def checked(model: onnx.ModelProto, target: str, toolchain: ml2sc.Toolchain) -> int:
    """Compare a contract with the interpreters, and return what an inference costs."""
    x = np.random.default_rng(3).random(size=(40, 1, WIDTH))
    artifact = ml2sc.compile(model, target, "int8", {"x": x})
    samples = [{"x": row} for row in x[:2]]
    packed, wads = packed_and_wads(artifact, samples)
    check_interpreters(artifact, samples, wads)
    assert artifact.program is not None
    assert not [s.name for s in artifact.program.layers if s.name.startswith("unpack") and s.name != "unpack_y_out"]
    built = ml2sc.build(artifact, toolchain)
    contract = deployed(built, toolchain)
    check_contract(contract, built, packed, wads[:1])
    return max(check_stated(contract, built, one) for one in packed)


def test_the_sum_costs_next_to_nothing(toolchain: ml2sc.Toolchain) -> None:
    plain, summed = (checked(block(add=add), "solidity", toolchain) for add in (False, True))
    assert summed - plain <= MOST


@pytest.mark.parametrize("target", ["solidity", pytest.param("vyper", marks=pytest.mark.heavy)])
def test_two_sums(target: str, toolchain: ml2sc.Toolchain) -> None:
    checked(block(deep=True), target, toolchain)


@pytest.mark.parametrize("target", ["solidity", pytest.param("vyper", marks=pytest.mark.heavy)])
def test_feature_maps(target: str, toolchain: ml2sc.Toolchain) -> None:
    """Both blocks are one network of rows of pixels: what is added never leaves its lanes."""
    images = np.random.default_rng(3).random(size=(6, 1, 2, 8, 8))
    artifact = ml2sc.compile(residual(8, 2, halved=True), target, "w5a8", {"x": images}, min_agreement=0.01)
    samples = [{"x": image} for image in images[:2]]
    packed, wads = packed_and_wads(artifact, samples)
    check_interpreters(artifact, samples, wads[:1])
    assert artifact.program is not None
    rows = [s.facts["operator"] for s in artifact.program.layers if s.facts.get("kernel") == "rows"]
    assert len(rows) == 6
    assert sum("Add" in str(operator) for operator in rows) == 2
    built = ml2sc.build(artifact, toolchain)
    contract = deployed(built, toolchain)
    check_contract(contract, built, packed[:1], wads[:1])
    check_stated(contract, built, packed[0])
