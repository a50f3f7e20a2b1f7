"""Layers of thousands of inputs or outputs: every plan is lowered, run, printed for both targets and priced.

Seven layers, of each some plans that differ in kind; `ML2SC_SWEEP=1` tries all of them.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from support import heavy

from ml2sc.backends import BACKENDS, EmitOptions
from ml2sc.backends.base import costs_of
from ml2sc.ir.gas import Execution, Shares
from ml2sc.ir.graph import Graph
from ml2sc.ir.program import Expr, Program, expressions, operands, walk
from ml2sc.passes.lower import PlanOptions
from ml2sc.passes.lower import plan as planning
from ml2sc.passes.lower.formulas import shortlist
from ml2sc.passes.lower.kernels import dense
from ml2sc.passes.lower.plan import Layer, Plan
from ml2sc.passes.precision import Integer

from .conftest import Agree, Quantised, random_inputs

SWEEP = bool(os.environ.get("ML2SC_SWEEP"))
SHAPES = ((1_000, 1), (1_800, 4), (2_000, 1), (2_500, 2), (5_000, 3), (3, 2_000), (4, 5_000))
FRAMES = 500
"""Frames that reading a program may take, whatever its width: Python stops at 1,000, and a caller has his own."""


def network(inputs: int, outputs: int) -> str:
    rng = np.random.default_rng(inputs + outputs)
    weights, bias = (rng.integers(-100, 101, size).tolist() for size in (inputs * outputs, outputs))
    return f"""
    graph "m"
    input %x: float[1,{inputs}]
    range %x [-1.0, 2.0]
    const %W: float[{inputs},{outputs}] = {weights}
    const %b: float[1,{outputs}] = {bias}
    %y: float[1,{outputs}] = Gemm(%x, %W, %b) @one
    output %y
    """


def kind(plan: Plan) -> tuple[object, ...]:
    """Return what makes a plan's code another one than that of other sizes."""
    names = (
        "method",
        "immediate",
        "storage",
        "dense",
        "masked",
        "skip_words",
        "skip_parts",
        "skip_elements",
        "loop_parts",
    )
    blocks = plan.ends.blocks if isinstance(plan, planning.DotPlan) else plan.blocks
    return (*(getattr(plan, name, None) for name in names), blocks > 1)


def plans(graph: Graph, monkeypatch: pytest.MonkeyPatch, agree: Agree) -> Iterator[Plan]:
    """Yield the first of each kind of plan."""
    layers: list[Layer] = []
    with monkeypatch.context() as patched:
        patched.setattr(dense, "shortlist", lambda layer, *rest: layers.append(layer) or shortlist(layer, *rest))
        agree(graph, samples=random_inputs(graph, 1, 0))
    seen = set()
    for plan in planning.candidates(layers[0], PlanOptions()):
        if kind(plan) not in seen:
            seen.add(kind(plan))
            yield plan


def levels(expr: Expr) -> int:
    level, count = [expr], 0
    while level:
        level, count = [part for e in level for part in operands(e)], count + 1
    return count


def read_by_all(program: Program) -> None:
    """Print a program and price it, for both targets."""
    for name in ("solidity", "vyper"):
        artifact = BACKENDS.get(name).emit(program, EmitOptions(name="Wide", fork="prague", model_hash=bytes(32)))
        assert artifact.source
        assert Execution.of(costs_of(name, program, {}), Shares()).gas > 0


@pytest.mark.parametrize("shape", heavy.but_each(4, ((shape,) for shape in SHAPES), 2), ids=str)
def test_every_plan(
    quantised: Quantised, agree: Agree, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    graph = quantised(network(*shape), Integer(8, 8))
    found = list(plans(graph, monkeypatch, agree))
    for plan in found if SWEEP else found[:: len(found) // 3 + 1]:
        force = {"one": {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan)}}
        program = agree(graph, PlanOptions(force=force), samples=random_inputs(graph, 2, 1))
        assert max(levels(e) for s in program.sections() for t in walk(s.body) for e in expressions(t)) <= 165
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(_frames() + FRAMES)
        try:
            read_by_all(program)
        finally:
            sys.setrecursionlimit(limit)


def _frames() -> int:
    frame, count = sys._getframe(), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1
    return count
