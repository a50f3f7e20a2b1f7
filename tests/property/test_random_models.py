"""Random small models: what the compiler promises of every model holds of them.

`ML2SC_FUZZ=3000 python -m pytest tests/property/test_random_models.py` tries that many instead of the few of every run.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, assume, given, note, settings
from support.checking import check_bounds, check_interpreters, compiled, float_graph, margin
from support.random_models import Case, Limits, cases

import ml2sc
from ml2sc.errors import RangeError, UnsupportedModelError
from ml2sc.ir.printer import print_graph
from ml2sc.ir.wad import quantize_inputs, run_graph

FUZZ = int(os.environ.get("ML2SC_FUZZ", "0"))
few = settings(
    max_examples=FUZZ or 60,
    derandomize=not FUZZ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def describe(case: Case) -> None:
    note(str(case))


@pytest.mark.heavy
@few
@given(cases())
def test_integers_and_bounds(case: Case) -> None:
    describe(case)
    try:
        artifact = compiled(case.model, case.calibration, **case.options)
    except (RangeError, UnsupportedModelError) as error:
        note(str(error))
        assume(False)
        return
    assert artifact.graph is not None
    note(print_graph(artifact.graph))
    if case.options["precision"] == "auto" and case.calibration is None:
        assert artifact.manifest["error_bound"] <= 1e-6
    check_interpreters(artifact, case.samples, case.wads)
    check_bounds(artifact, case.options["level"], case.samples)


@pytest.mark.heavy
@settings(few, max_examples=(FUZZ or 60) // 3)
@given(cases(Limits(wild=False, steps=False)))
def test_levels_decide_alike(case: Case) -> None:
    describe(case)
    options = {**case.options, "precision": "auto"}
    decisions = []
    for level in range(3):
        try:
            artifact = ml2sc.compile(case.model, **{**options, "level": level})
        except (RangeError, UnsupportedModelError) as error:
            note(f"O{level}: {error}")
            decisions.append(None)
            continue
        assert artifact.graph is not None
        source = float_graph(artifact, level)
        q = [quantize_inputs(artifact.graph, sample) for sample in case.samples]
        clear = [margin(source, sample) > 3e-6 for sample in case.samples]
        found = [run_graph(artifact.graph, x).decision if c else None for x, c in zip(q, clear, strict=True)]
        decisions.append(found)
    assume(any(d is not None for d in decisions))
    assert all(d is not None for d in decisions)
    note(str(decisions))
    for group in zip(*decisions, strict=True):
        assert len({d for d in group if d is not None}) <= 1
