from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml2sc.errors import RangeError
from ml2sc.ir.program import CONTRACT_WORDS, Storage
from ml2sc.passes.lower import plan as planning
from ml2sc.passes.lower.formulas import deployment_gas, inference_gas, shortlist
from ml2sc.passes.lower.options import ASSUMED, DENSE, Activity, PlanOptions
from ml2sc.passes.lower.plan import LanePlan, Layer, candidates

ACTIVITIES = st.one_of(
    st.just(DENSE),
    st.just(ASSUMED),
    st.builds(
        lambda shares: Activity(shares[0], {4: shares[1], 8: shares[2]}, shares[3]),
        st.lists(st.floats(0, 1), min_size=4, max_size=4).map(sorted),
    ),
)
LAYERS = st.builds(
    Layer,
    name=st.just("n"),
    rows=st.integers(1, 2000),
    outputs=st.integers(1, 400),
    proved_bits=st.integers(2, 256),
    weight_bits=st.integers(2, 33),
    unit=st.sampled_from([1, 2, 10, 32, 128]),
    activity=ACTIVITIES,
)
OPTIONS = st.builds(
    PlanOptions,
    weights=st.sampled_from(["auto", "code", "data"]),
    optimize=st.sampled_from(["inference", "balanced", "deploy"]),
    literals=st.booleans(),
)


def plan_linear(layer: Layer, options: PlanOptions) -> planning.Plan:
    return shortlist(layer, options, 1)[0][1]


def made(rows: int, outputs: int, bits: int, weight_bits: int, **more: object) -> Layer:
    return dataclasses.replace(Layer("n", rows, outputs, bits, weight_bits), **more)


@given(LAYERS, OPTIONS)
def test_every_plan_holds_the_layer(layer: Layer, options: PlanOptions) -> None:
    for p in candidates(layer, options):
        assert p.lanes * p.accumulators * p.blocks >= layer.outputs
        assert p.lanes * p.accumulators * (p.blocks - 1) < layer.outputs
        assert p.row_words * p.fields >= p.accumulators
        alone = p.skip_elements and not p.masked and layer.across == 1
        assert p.accumulators <= (planning.ALONE_ACCUMULATORS if alone else planning.MAX_ACCUMULATORS)
        assert p.stride >= layer.proved_bits
        assert p.stride * p.lanes <= 256
        assert p.round_rows % layer.unit == 0 or layer.unit == 1
        assert p.words(p.round_rows) <= CONTRACT_WORDS, "a round's weights lie in one data contract"
        if p.masked:
            assert p.stride >= p.fields * p.word_rows * layer.weight_bits, (
                "weights of neighbouring lanes do not overlap"
            )
        for together in (p.round_rows, layer.unit, p.part or p.round_rows):
            assert together % p.word_rows == 0 or layer.unit == 1, "no word has weights of two rounds, words or parts"
        if p.immediate:
            assert options.literals
            assert (p.masked, p.blocks) == (False, 1)
            assert p.table_words(layer.rows) <= planning.LITERAL_WORDS
        elif options.weights != "auto":
            assert p.storage is Storage(options.weights)


@given(LAYERS, OPTIONS)
def test_the_choice_is_among_them_and_the_cheapest(layer: Layer, options: PlanOptions) -> None:
    chosen = plan_linear(layer, options)
    plans = list(candidates(layer, options))
    assert chosen in plans

    def total(p: LanePlan) -> float:
        return inference_gas(p, layer) + deployment_gas(p, layer) / options.calls

    assert total(chosen) == min(map(total, plans))


@given(LAYERS, st.integers(1, 6))
def test_fields_stay_in_the_word(layer: Layer, fields: int) -> None:
    """Whichever plan: a field's lanes lie where its weight is, and the top lane ends below 2^256."""
    bits, weight_bits = layer.proved_bits, layer.weight_bits
    for p in candidates(layer, PlanOptions()):
        if p.fields != fields:
            continue
        assert fields == 1 or p.stride >= fields * weight_bits, "fields of neighbouring lanes do not overlap"
        assert p.stride * (p.lanes - 1) + fields * weight_bits <= 256 or fields == 1
        shifts = []
        for field in range(fields):
            shift, offset = p.field_place(field)
            assert shift + offset == field * weight_bits
            assert p.stride * (p.lanes - 1) + bits + offset <= 256
            shifts.append(shift)
        assert shifts == sorted(shifts), "the weight word is only ever shifted down"


@given(LAYERS, st.sampled_from(["auto", "code", "data"]))
def test_the_objective_decides(layer: Layer, weights: str) -> None:
    """The more inferences a deployment serves, the more it may cost and the less an inference does."""
    plans = [
        plan_linear(layer, PlanOptions(weights=weights, optimize=optimize))
        for optimize in ("deploy", "balanced", "inference")
    ]
    deployment = [deployment_gas(p, layer) for p in plans]
    inference = [inference_gas(p, layer) for p in plans]
    slack = 1e-6 * max(*deployment, *inference)
    assert deployment[0] <= deployment[1] + slack
    assert deployment[1] <= deployment[2] + slack
    assert inference[0] >= inference[1] - slack
    assert inference[1] >= inference[2] - slack


def test_the_number_of_calls_decides_itself() -> None:
    layer = made(784, 32, 23, 8, unit=32)
    few, many = (plan_linear(layer, PlanOptions(expected_calls=calls)) for calls in (1, 1_000_000))
    assert few == plan_linear(layer, PlanOptions(optimize="deploy"))
    assert deployment_gas(few, layer) < deployment_gas(many, layer)
    assert inference_gas(few, layer) > inference_gas(many, layer)


@given(LAYERS, OPTIONS, st.data())
def test_a_forced_plan(layer: Layer, options: PlanOptions, data: st.DataObject) -> None:
    wanted = data.draw(st.sampled_from(list(candidates(layer, options))))
    force = {"fields": wanted.fields, "immediate": wanted.immediate, "skip_elements": wanted.skip_elements}
    chosen = plan_linear(dataclasses.replace(layer, force=force), options)
    assert {name: getattr(chosen, name) for name in force} == force


def test_a_plan_that_cannot_be_forced() -> None:
    with pytest.raises(RangeError, match=r"no plan has \{'lanes': 99}"):
        plan_linear(made(10, 10, 20, 8, force={"lanes": 99}), PlanOptions())


def test_mnist() -> None:
    """784 int8 inputs, a fifth of them not zero, 32 outputs of 23 bits."""
    activity = Activity(0.2, {4: 0.29, 8: 0.4}, 0.7)
    layer = made(784, 32, 23, 8, unit=32, activity=activity)
    called = plan_linear(layer, PlanOptions())
    assert (called.lanes, called.fields, called.row_words, called.blocks) == (11, 1, 3, 1)
    assert called.skip_words
    assert called.storage is Storage.DATA
    deployed = plan_linear(layer, PlanOptions(optimize="deploy"))
    assert (deployed.lanes, deployed.fields, deployed.row_words) == (8, 4, 1)


def test_small_layers_are_literals() -> None:
    assert plan_linear(made(30, 4, 20, 8, unit=32), PlanOptions()).immediate
    assert not plan_linear(made(30, 4, 20, 8, unit=32), PlanOptions(literals=False)).immediate
    assert not plan_linear(made(2000, 400, 24, 8, unit=32), PlanOptions()).immediate


def test_zeros_are_skipped_where_there_are_many() -> None:
    sparse, dense = (
        plan_linear(made(784, 32, 23, 8, unit=32, activity=activity), PlanOptions())
        for activity in (Activity(0.05, {4: 0.08, 8: 0.1}, 0.2), Activity(0.99, {4: 1.0, 8: 1.0}, 1.0))
    )
    assert sparse.skip_words
    assert sparse.skip_elements or sparse.skip_parts
    assert (dense.skip_words, dense.skip_parts, dense.skip_elements) == (False, False, False)


def test_one_lane_for_wide_formats() -> None:
    p = plan_linear(made(30, 4, 150, 40), PlanOptions())
    assert (p.lanes, p.blocks, p.accumulators) == (1, 1, 4)
    assert plan_linear(made(3, 1, 256, 120), PlanOptions()).lanes == 1


def test_all_inputs_in_one_round() -> None:
    """Where an input has a word: then each is at a place that is known, and there is one word of sums at a time."""

    def plans(rows: int, unit: int = 1) -> list[planning.Plan]:
        every = planning.candidates(made(rows, 64, 56, 24, unit=unit), PlanOptions())
        return [p for p in every if p.method == "lanes" and p.round_rows == rows]

    assert {(p.accumulators, p.blocks, p.row_words, p.masked) for p in plans(64)} == {(1, 16, 1, False)}
    assert not plans(planning.MAX_ROUND_WORDS + 1)
    assert not plans(64, unit=8)


def test_a_sum_that_fits_no_word() -> None:
    with pytest.raises(RangeError, match="its sums need 257 bits, and a word has 256") as caught:
        plan_linear(made(3, 1, 257, 8), PlanOptions())
    assert caught.value.node == "n"
