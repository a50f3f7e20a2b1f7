"""Random models on both targets: graph interpreter == Program interpreter == Solidity == Vyper, answers and reverts.

Every run tries forty models by the interpreters, of these ten on both targets; `--all` all of them.
`ML2SC_FUZZ=2000 python -m pytest -n 2 tests/differential/test_random_models.py` tries that many instead,
`ML2SC_FUZZ=100:2000` those from number 100 on. A model's number is its seed. A failure shrinks, and its report ends
with the small model.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

import pytest
from support import heavy
from support.checking import check_bounds, check_interpreters, compiled
from support.contracts import check_contract, deployed, packed_and_wads
from support.operators import RECURRENT, VISION
from support.random_models import Case, RandomModel, Seeded, seeded_case, shrunk

import ml2sc
from ml2sc.backends import Artifact
from ml2sc.backends.vyper.backend import PIPELINES
from ml2sc.errors import ContractLimitError, Ml2scError, RangeError, ToolchainError, UnsupportedModelError
from ml2sc.frontend.onnx_import import supported_operators
from ml2sc.ir.ops.elementwise import Relu
from ml2sc.ir.ops.folding import folds_only
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.printer import print_graph

FUZZ = os.environ.get("ML2SC_FUZZ")
SEEDS = range(*map(int, (FUZZ or "40").split(":")))
ON_THE_EVM = len(SEEDS) if FUZZ else 4
"""So many models go to both targets in every run: the compilers take three quarters of the time."""
REFUSED = (RangeError, UnsupportedModelError, ContractLimitError)
FAILURES = (AssertionError, Ml2scError, ArithmeticError, LookupError, TypeError, ValueError)
GENERATORS = tuple(PIPELINES)
"""Vyper's code generators, by turns: of both only one's code would be run. Users use both."""

ELSEWHERE = {
    *VISION,
    *RECURRENT,
    "GatherElements",
    "IsInf",
    "IsNaN",
    "Scan",
    "Constant",
    "ConstantOfShape",
    "DequantizeLinear",
    "QuantizeLinear",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "Swish",
}
"""Operators that these models do not draw: parts of others' patterns, quantised models (test_quantized_models.py), and
Swish, which only opset 24 has; what computes images (test_vision_operators.py)."""


@pytest.mark.parametrize(
    "seed", [*SEEDS[:ON_THE_EVM], *(pytest.param(seed, marks=pytest.mark.heavy) for seed in SEEDS[ON_THE_EVM:])]
)
def test_random_models(seed: int, toolchain: ml2sc.Toolchain) -> None:
    def check(case: Case) -> None:
        solidity, vyper = check_off_chain(case)
        packed, wads = packed_and_wads(solidity, case.samples)
        vyper = built_by(GENERATORS[seed % len(GENERATORS)], vyper, toolchain)
        for artifact in (ml2sc.build(solidity, toolchain), vyper):
            check_contract(deployed(artifact, toolchain), artifact, packed, [*wads, *case.wads])

    check_seed(seed, check)


@pytest.mark.parametrize("seed", SEEDS[ON_THE_EVM:] if FUZZ else heavy.but_each(8, SEEDS[ON_THE_EVM:]))
def test_random_models_without_a_chain(seed: int) -> None:
    check_seed(seed, check_off_chain)


@pytest.mark.parametrize("seed", [1151, 1201])
def test_formats_chosen_from_data_are_those_of_any_target(seed: int) -> None:
    """What a target's gas is has no say, or a model would answer one way here and another there."""
    case = RandomModel(Seeded(seed)).case()
    assert case.options["precision"] == "auto"
    assert case.calibration is not None
    check_off_chain(case)


def check_seed(seed: int, check: Callable[[Case], object]) -> None:
    """Check a random model; a failure names the smallest one found that fails likewise."""
    chooser = Seeded(seed)
    case = RandomModel(chooser).case()
    try:
        check(case)
    except REFUSED as error:
        pytest.skip(f"{type(error).__name__}: {error}")
    except FAILURES as error:
        kind = type(error)
        small = shrunk(chooser.choices, lambda case: isinstance(failure(check, case), kind))
        pytest.fail(f"seed {seed}: {error!r}\nshrunk: {failure(check, small)!r}\n{description(small)}")


def failure(check: Callable[[Case], object], case: Case) -> Exception | None:
    """Return what a check raises."""
    try:
        check(case)
    except FAILURES as error:
        return error
    return None


def description(case: Case) -> str:
    """Return a case as ONNX text and, if it can be compiled, as IR text."""
    try:
        graph = ml2sc.compile(case.model, calibration=case.calibration, **case.options).graph
    except Ml2scError as error:
        return f"{case}\n{error}"
    assert graph is not None
    return f"{case}\n{print_graph(graph)}"


def check_off_chain(case: Case) -> tuple[Artifact, Artifact]:
    """Compile for both targets, to the same integers; all interpreters agree, and keep the stated bounds."""
    solidity = compiled(case.model, case.calibration, target="solidity", **case.options)
    vyper = compiled(case.model, case.calibration, target="vyper", **case.options)
    assert solidity.graph is not None
    assert vyper.graph is not None
    assert print_graph(vyper.graph) == print_graph(solidity.graph)
    assert functions(vyper) == functions(solidity)
    for artifact in [solidity] if vyper.program == solidity.program else [solidity, vyper]:
        check_interpreters(artifact, case.samples, case.wads)
    check_bounds(solidity, case.options["level"], case.samples)
    return solidity, vyper


def functions(artifact: Artifact) -> list[Mapping[str, Any]]:
    """Return what callers see: errors are also of data contracts, which only one of the targets may have."""
    return [entry for entry in artifact.abi if entry["type"] == "function"]


def check_interpreters_alone(case: Case) -> None:
    """What is cheap enough to be tried some hundred times."""
    with contextlib.suppress(*REFUSED):
        artifact = ml2sc.compile(case.model, calibration=case.calibration, **case.options)
        check_interpreters(artifact, case.samples, case.wads)


def built_by(generator: str, artifact: Artifact, toolchain: ml2sc.Toolchain) -> Artifact:
    """Compile by one of Vyper's code generators; by all of them where it does not manage."""
    with (
        patch.dict(PIPELINES, {generator: PIPELINES[generator]}, clear=True),
        contextlib.suppress(ToolchainError, ContractLimitError),
    ):
        return ml2sc.build(artifact, toolchain)
    return ml2sc.build(artifact, toolchain)


@pytest.mark.heavy
def test_a_failure_shrinks_to_a_small_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph interpreter that takes Relu's input for its output is found; the report holds little but a Relu."""
    monkeypatch.setattr(Relu, "evaluate_exact", lambda self, node, inputs, values, outputs: [values[0]])
    models = ((seed, seeded_case(seed).model.graph.node) for seed in range(30))
    seeds = [seed for seed, nodes in models if "Relu" in {node.op_type for node in nodes}]
    with pytest.raises(pytest.fail.Exception, match="seed ") as caught:
        [check_seed(seed, check_interpreters_alone) for seed in seeds]
    _, header, text = str(caught.value).rpartition("graph ")
    graph = parse_graph(header + text)
    assert "Relu" in {node.op_type for node in graph}
    assert len(list(graph)) <= 5
    assert sum(tensor.size for tensor in graph.tensors.values()) <= 50


def test_what_random_models_cover() -> None:
    cases = [seeded_case(seed) for seed in range(1000)]
    computing = {name for name in supported_operators() if "." not in name and not folds_only(name)}
    used = Counter(node.op_type for case in cases for node in case.model.graph.node)
    assert computing - ELSEWHERE <= set(used), "add the operator to tests/support/random_models.py"
    assert {len(case.model.graph.node) for case in cases} >= set(range(1, 7))
    widths = [max((max(t.dims, default=1) for t in case.model.graph.initializer), default=1) for case in cases]
    assert max(widths) > 150 > 20 > sorted(widths)[len(widths) // 2]
    assert {"w2a2", "int8", "q31.32", "auto"} <= {case.options["precision"] for case in cases}
