from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml2sc.errors import RangeError
from ml2sc.ir.program import Storage
from ml2sc.passes.lower import plan as planning
from ml2sc.passes.lower.plan import CONTRACT_WORDS, LanePlan, PlanOptions, chunk_words, plan_linear

LAYERS = st.tuples(st.integers(1, 2000), st.integers(1, 400), st.integers(2, 256), st.integers(2, 33))
OPTIONS = st.builds(
    PlanOptions,
    weights=st.sampled_from(["auto", "code", "data"]),
    optimize=st.sampled_from(["inference", "balanced", "deploy"]),
)


def words(plan: LanePlan, rows: int) -> int:
    return rows * plan.blocks * plan.row_words


def plan(layer: tuple[int, int, int, int], options: PlanOptions | None = None, *, skips: bool = True) -> LanePlan:
    rows, outputs, bits, weight_bits = layer
    return plan_linear(rows, outputs, bits, weight_bits, options or PlanOptions(), skips=skips, node="n")


@given(LAYERS, OPTIONS, st.booleans())
def test_a_plan_holds_the_layer(layer: tuple[int, int, int, int], options: PlanOptions, skips: bool) -> None:
    rows, outputs, bits, _weight_bits = layer
    p = plan(layer, options, skips=skips)
    assert p.lanes * p.accumulators * p.blocks >= outputs
    assert p.lanes * p.accumulators * (p.blocks - 1) < outputs
    assert p.row_words * p.fields >= p.accumulators
    assert p.accumulators <= planning.MAX_ACCUMULATORS
    assert p.stride >= bits
    assert p.stride * p.lanes <= 256
    if p.immediate:
        assert (p.fields, p.blocks) == (1, 1)
        assert words(p, rows) <= planning.IMMEDIATE_WORDS
    if options.weights != "auto":
        assert p.storage is Storage(options.weights)


@given(LAYERS, st.integers(1, 6))
def test_fields_stay_in_the_word(layer: tuple[int, int, int, int], fields: int) -> None:
    """Whichever plan: a field's lanes lie where its weight is, and the top lane ends below 2^256."""
    rows, outputs, bits, weight_bits = layer
    if fields * weight_bits > 256:
        return
    for p in planning._candidates(rows, outputs, bits, weight_bits, fields, PlanOptions()):
        assert fields == 1 or p.stride >= fields * weight_bits, "fields of neighbouring lanes do not overlap"
        assert p.stride * (p.lanes - 1) + fields * weight_bits <= 256 or fields == 1
        shifts = []
        for field in range(fields):
            shift, offset = p.field_place(field)
            assert shift + offset == field * weight_bits
            assert p.stride * (p.lanes - 1) + bits + offset <= 256
            shifts.append(shift)
        assert shifts == sorted(shifts), "the weight word is only ever shifted down"


@given(LAYERS, st.integers(1, 6), st.integers(1, 200))
def test_more_outputs_need_no_fewer_words(layer: tuple[int, int, int, int], fields: int, more: int) -> None:
    rows, outputs, bits, weight_bits = layer
    if fields * weight_bits <= 256:
        smaller, larger = (
            planning._candidates(rows, n, bits, weight_bits, fields, PlanOptions())[0]
            for n in (outputs, outputs + more)
        )
        assert words(larger, rows) >= words(smaller, rows)


@given(LAYERS, st.sampled_from(["auto", "code", "data"]), st.booleans())
def test_the_objective_decides(layer: tuple[int, int, int, int], weights: str, skips: bool) -> None:
    """The more inferences a deployment serves, the more it may cost and the less an inference does."""
    density = PlanOptions().density if skips else 1.0
    plans = [
        plan(layer, PlanOptions(weights=weights, optimize=optimize), skips=skips)
        for optimize in ("deploy", "balanced", "inference")
    ]
    deployment = [planning._deployment(p, layer[0]) for p in plans]
    inference = [planning._cost(p, layer[0], density) for p in plans]
    slack = 1e-6 * max(*deployment, *inference)
    assert deployment[0] <= deployment[1] + slack
    assert deployment[1] <= deployment[2] + slack
    assert inference[0] >= inference[1] - slack
    assert inference[1] >= inference[2] - slack


@given(LAYERS)
def test_deploying_cheaply_stores_no_more(layer: tuple[int, int, int, int]) -> None:
    data = [
        plan(layer, PlanOptions(weights="data", optimize=optimize), skips=True) for optimize in ("deploy", "inference")
    ]
    if not any(p.immediate for p in data):
        assert words(data[0], layer[0]) <= words(data[1], layer[0])


def test_mnist() -> None:
    """784 int8 inputs, 32 outputs of 23 bits: fields make the weights four times denser."""
    p = plan((784, 32, 23, 8))
    assert (p.lanes, p.fields, p.row_words, p.blocks) == (8, 4, 1, 1)
    assert not p.immediate


def test_one_lane_for_wide_formats() -> None:
    p = plan((30, 4, 150, 40))
    assert (p.lanes, p.blocks, p.accumulators) == (1, 1, 4)
    assert plan((3, 1, 256, 120)).lanes == 1


def test_a_sum_that_fits_no_word() -> None:
    with pytest.raises(RangeError, match="its sums need 257 bits, and a word has 256") as caught:
        plan((3, 1, 257, 8))
    assert caught.value.node == "n"


@given(st.integers(1, 60), st.integers(1, 5000), st.integers(1, 12))
def test_chunks_lie_in_one_data_contract(unit: int, units: int, blocks: int) -> None:
    per_block = unit * units
    chunk = chunk_words(unit, per_block, blocks)
    assert chunk % unit == 0
    assert unit <= chunk <= max(min(CONTRACT_WORDS, per_block), unit)
