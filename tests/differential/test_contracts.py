"""Models made to be hard on the targets' languages and compilers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.checking import compiled
from support.contracts import check_contract, deployed, packed_and_wads

import ml2sc

TARGETS = ("solidity", "vyper")

NAMES = ("a_b", "a__b", "load_a_b", "predict", "weights", "m", "wad", "1", "é", "", "x" * 300, "*/ evil", "// \n x")


@pytest.mark.parametrize("target", TARGETS)
def test_names_that_clash_or_are_no_identifiers(target: str, toolchain: ml2sc.Toolchain) -> None:
    rng, k, nodes, constants, last = np.random.default_rng(0), 2, [], [], "*/ x @title"
    for index, name in enumerate(NAMES):
        weights = {f"w{index}": rng.normal(size=(k, k)) / 3, f"c{index}": rng.normal(size=k)}
        constants += [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()]
        nodes.append(helper.make_node("MatMul", [last, f"w{index}"], [f"g{index}"], name=name))
        nodes.append(helper.make_node("Add", [f"g{index}", f"c{index}"], [last := f"h{index}"], name=f"{name}_add"))
    graph = helper.make_graph(
        nodes,
        "a graph */ contract",
        [helper.make_tensor_value_info("*/ x @title", TensorProto.FLOAT, [1, k])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, k])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    artifact = compiled(model, target=target, precision="w8a16", input_ranges=((-1.0, 1.0),), weights="code", level=0)
    packed, wads = packed_and_wads(artifact, [{"*/ x @title": rng.uniform(-1, 1, (1, k))} for _ in range(2)])
    check_contract(deployed(artifact, toolchain), artifact, packed, wads)


@pytest.mark.parametrize("target", TARGETS)
def test_many_values_that_are_used_twice(target: str, toolchain: ml2sc.Toolchain) -> None:
    """Solc's optimiser keeps them all on the stack, which is too deep for that."""
    weights = "float[4,3] w = {0, -2, 0.5, 0.25, 1.5, -1, 2, 0, -0.75, 0.1, 0.2, 0.3}"
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 18]> deep (float[3,4] x) => (float[3,3] y) <{weights}>
        {{ g = Gemm(x, w) r = Relu(g) a = Add(r, g) y = LogSoftmax(a) }}"""
    )
    options = {"precision": "q40.80", "weights": "code", "optimize": "deploy", "input_ranges": ((0.0, 255.0),)}
    artifact = compiled(model, target=target, **options)
    rng = np.random.default_rng(0)
    packed, wads = packed_and_wads(artifact, [{"x": rng.uniform(0, 255, (3, 4))} for _ in range(3)])
    check_contract(deployed(artifact, toolchain), artifact, packed, wads)
