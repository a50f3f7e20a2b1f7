"""Random models as Solidity contracts on an EVM: every answer and every revert is the interpreter's.

`ML2SC_FUZZ=150 python -m pytest tests/differential/test_solidity.py` tries that many models instead of a few.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.checking import check_bounds, check_interpreters, compiled
from support.contracts import check_contract, deployed, packed_and_wads
from support.random_models import Limits, seeded_case

import ml2sc
from ml2sc.errors import ContractLimitError, RangeError, UnsupportedModelError

FUZZ = int(os.environ.get("ML2SC_FUZZ", "0"))
FIRST = 1_000_000 if FUZZ else 0
SMALL = Limits(depth=5, width=8, widest=40)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + (FUZZ or 12)))
def test_random_models(seed: int, toolchain: ml2sc.Toolchain) -> None:
    case = seeded_case(seed, SMALL)
    try:
        artifact = compiled(case.model, case.calibration, **case.options)
    except (RangeError, UnsupportedModelError):
        pytest.skip("it cannot be compiled, and the error says why")
    check_interpreters(artifact, case.samples, case.wads)
    check_bounds(artifact, case.options["level"], case.samples)
    try:
        contract = deployed(artifact, toolchain)
    except ContractLimitError:
        pytest.skip("it is larger than a contract may be")
    packed, wads = packed_and_wads(artifact, case.samples)
    check_contract(contract, artifact, packed, [*wads, *case.wads])


NAMES = ("a_b", "a__b", "load_a_b", "predict", "weights", "m", "wad", "1", "é", "", "x" * 300, "*/ evil", "// \n x")


def test_names_that_clash_or_are_no_identifiers(toolchain: ml2sc.Toolchain) -> None:
    rng, k, nodes, constants, last = np.random.default_rng(0), 6, [], [], "*/ x @title"
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
    artifact = compiled(model, precision="w8a16", input_ranges=((-1.0, 1.0),), weights="code", level=0)
    packed, wads = packed_and_wads(artifact, [{"*/ x @title": rng.uniform(-1, 1, (1, k))} for _ in range(2)])
    check_contract(deployed(artifact, toolchain), artifact, packed, wads)
