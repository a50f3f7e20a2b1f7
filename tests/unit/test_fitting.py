"""Contracts that are too large: which layer, and remedies that were tried."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import ml2sc
from ml2sc.backends import Artifact
from ml2sc.backends.base import costs_of
from ml2sc.fitting import fitted, largest_code, too_large
from ml2sc.forecast import forecast
from ml2sc.ir.forks import FORKS
from ml2sc.ir.gas import code_bytes, part_bytes
from ml2sc.ir.graph import Graph
from ml2sc.passes.lower import PlanOptions, lower

PRAGUE = FORKS["prague"]


def network(*sizes: int) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    nodes, constants, last = [], [], "x"
    for number, shape in enumerate(itertools.pairwise(sizes)):
        constants.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), f"w{number}"))
        nodes.append(helper.make_node("Gemm", [last, f"w{number}"], [f"h{number}"], name=f"layer{number}"))
        last = f"h{number}"
    x, y = (helper.make_tensor_value_info(n, 1, [1, s]) for n, s in (("x", sizes[0]), (last, sizes[-1])))
    return helper.make_model(helper.make_graph(nodes, "net", [x], [y], constants), ir_version=9)


def scattered(size: int) -> onnx.ModelProto:
    """Return a model that reads its inputs in no order, which takes code for each of them."""
    rng = np.random.default_rng(0)
    order = onnx.numpy_helper.from_array(rng.permutation(size), "order")
    weights = onnx.numpy_helper.from_array(rng.normal(size=(size, 2)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Gather", ["x", "order"], ["g"], axis=1),
        helper.make_node("Relu", ["g"], ["r"]),
        helper.make_node("Gemm", ["r", "w"], ["y"], name="layer0"),
    ]
    x, y = (helper.make_tensor_value_info(n, 1, [1, s]) for n, s in (("x", size), ("y", 2)))
    return helper.make_model(helper.make_graph(nodes, "net", [x], [y], [order, weights]), ir_version=9)


def made(model: onnx.ModelProto, **options: Any) -> Artifact:
    return ml2sc.compile(model, **{"precision": "int8", "input_ranges": ((-1.0, 1.0),), **options})


def quantized(model: onnx.ModelProto) -> Graph:
    """Return the integers of a model that is not planned: that takes the most of its compilation."""
    return ml2sc.quantize(ml2sc.lift(model, precision="int8", input_ranges=((-1.0, 1.0),))).graph


def figures(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"about ([\d,]+) bytes", text)]


@pytest.mark.parametrize("target", ["solidity", pytest.param("vyper", marks=pytest.mark.heavy)])
def test_the_remedy_fits_and_does_what_is_said(target: str) -> None:
    model = network(200, 150, 10)
    artifact = made(model, weights="code", target=target)
    size = forecast(artifact, PRAGUE).code_bytes
    assert size > PRAGUE.code_limit
    error = too_large(artifact, f"the contract would have about {size:,}", PRAGUE)
    first, layer, *rest = error.message.splitlines()
    assert "24,576" in first
    assert layer.startswith("  layer0 (Gemm")
    frame = size - sum(figures("\n".join([layer, *rest])))
    assert 0 < frame < 2_000, "the layers are what is not the frame"
    assert error.hint is not None
    assert error.hint.startswith("--weights data would make it about")
    remedied = made(model, weights="data", target=target)
    assert figures(error.hint) == [forecast(remedied, PRAGUE).code_bytes]


def test_what_is_in_effect_is_not_proposed() -> None:
    """All options that help are set, and much code is left: what was tried is told with its figures."""
    artifact = made(scattered(700), weights="data", optimize="deploy", precision="w2a2")
    error = too_large(artifact, "the contract has 99,999", PRAGUE)
    size = forecast(artifact, PRAGUE).code_bytes
    assert size > PRAGUE.code_limit, "it does not fit"
    assert error.hint == "compile a smaller model"


def test_none_of_those_tried_fits() -> None:
    artifact = made(scattered(700), weights="data")
    error = too_large(artifact, "the contract has 99,999", PRAGUE)
    assert error.hint is not None
    assert error.hint.startswith("none of what was tried makes it fit: --optimize deploy (about ")
    assert "--weights" not in error.hint
    assert "--precision w2a2 --optimize deploy" in error.hint
    assert all(figure > PRAGUE.code_limit for figure in figures(error.hint))


def test_a_procedure_is_a_code_contract_where_that_pays() -> None:
    """Four equal layers, two of which are in one code contract: there it is once more, or all call it elsewhere."""
    graph = quantized(network(*[48] * 4, 9, *[48] * 5, 4))
    program, small = lower(graph, PlanOptions(weights="data")), dataclasses.replace(PRAGUE, code_limit=5_000)

    def elsewhere(byte_price: float) -> tuple[list[int], int]:
        cut = fitted(program, "solidity", small, byte_price)
        costs = costs_of("solidity", cut, {}, "contract")
        assert largest_code(costs) <= small.code_limit
        parts = sum(part_bytes(part.program, part.sizes) for part in costs.parts)
        return [p.contract for p in cut.procedures.values()], code_bytes(costs.program, costs.sizes) + parts

    within, apart = elsewhere(0.02), elsewhere(2.0)
    assert (within[0], apart[0]) == ([0], [1])
    assert apart[1] < within[1]


def test_what_cannot_be_cut_with_its_procedures_is_cut_without() -> None:
    """Layers that share a procedure here have it in their contract: all of them are more than that has room for."""
    graph = quantized(network(*[24] * 9, 4))
    small = dataclasses.replace(PRAGUE, code_limit=4_000)
    cut = fitted(lower(graph, PlanOptions(weights="code")), "solidity", small, 0.02)
    assert not cut.procedures
    assert largest_code(costs_of("solidity", cut, {}, "contract")) <= small.code_limit
