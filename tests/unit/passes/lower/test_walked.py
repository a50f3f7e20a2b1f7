"""Plans are priced by what is emitted, with the costs of a target's code generators."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from support.networks import dense
from support.small_cnns import digits_like

import ml2sc
from ml2sc.backends.base import costs_of, generators_of
from ml2sc.ir.gas import Costs
from ml2sc.ir.graph import Graph
from ml2sc.ir.program import OpCode, Program, Section, Storage
from ml2sc.passes.lower import CODE_MARGIN, SIZES, PlanOptions, code_bytes, lower
from ml2sc.passes.lower.options import SPANS, Activity
from ml2sc.passes.lower.walked import PlannedShares, line, price

ZERO_TAIL = Activity(0.5, {4: 0.6, 8: 0.7}, 0.8, (1.0,) * (SPANS // 2) + (0.25,) * (SPANS // 2))


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Return a layer with data contracts of its own, and a small one, in int8."""
    x = np.random.default_rng(0).normal(size=(40, 400)) * (np.arange(400) < 200)
    return ml2sc.quantize(ml2sc.lift(dense(400, 24, 3), precision="int8", calibration={"x": x})).graph


class _NoJumps(Costs):
    """A target where a branch is dear."""

    def condition(self, condition: object) -> float:
        return 5_000


class _DearProducts(Costs):
    def apply(self, op: OpCode, args: tuple[object, ...]) -> float:
        return super().apply(op, args) + (1_000 if op is OpCode.MUL else 0)  # type: ignore[arg-type]


class _Gives(Costs):
    """A generator that gives everything up."""

    def compiles(self) -> bool:
        return False


def branches(program: Program) -> int:
    return sum(section.facts.get("live") is not None and str(section.body).count("If(") for section in program.layers)


def test_the_generator_decides(graph: Graph) -> None:
    options = PlanOptions(weights="data", activity={"gemm_0": ZERO_TAIL})
    plain = lower(graph, options)
    assert branches(plain), "zeros are skipped where half of the inputs are"
    other = lower(graph, dataclasses.replace(options, generators=(_NoJumps,)))
    assert branches(other) < branches(plain)


@pytest.mark.parametrize("target", ["solidity", "vyper"])
def test_what_is_chosen_is_never_dearer_than_the_formulas_choice(graph: Graph, target: str) -> None:
    options = PlanOptions(generators=generators_of(target))
    plain, chosen = lower(graph, PlanOptions()), lower(graph, options)

    def cheapest(program: Program) -> float:
        return min(price(generator(program), options) for generator in options.generators)

    assert cheapest(chosen) <= cheapest(plain)


def test_what_a_generator_makes_too_large_is_made_smaller() -> None:
    """Not what the formulas find is taken, but the best of those that fit where code is dearer."""
    x = np.random.default_rng(0).uniform(size=(20, 8, 8, 8))
    model = digits_like(8, (8, 8), 3, pool=False)
    graph = ml2sc.quantize(ml2sc.lift(model, precision="int8", calibration={"x": x})).graph
    options = PlanOptions(generators=generators_of("solidity"))
    plain, free = lower(graph, dataclasses.replace(options, generators=())), lower(graph, options)
    sizes = [code_bytes(program, SIZES) for program in (plain, free)]
    assert sizes[0] < sizes[1]
    tight = dataclasses.replace(options, code_limit=round((sizes[1] - 1) / CODE_MARGIN))
    found = lower(graph, tight)
    assert code_bytes(found, SIZES) < sizes[1]
    (generator,) = options.generators
    assert price(generator(free), tight) <= price(generator(found), tight) < price(generator(plain), tight)


def test_of_several_generators_the_cheaper_one_is_planned_for(graph: Graph) -> None:
    alone = lower(graph, PlanOptions(generators=(Costs,)))
    assert lower(graph, PlanOptions(generators=(_DearProducts, Costs))) == alone


def test_what_no_generator_compiles_is_planned_by_the_formulas(graph: Graph) -> None:
    assert lower(graph, PlanOptions(generators=(_Gives,))) == lower(graph, PlanOptions())


def test_a_way_is_walked_once_for_all_prices_of_a_byte_of_code(graph: Graph) -> None:
    walked = Counter[str]()

    def generator(program: Program) -> Costs:
        if not program.quantize.body:  # a way alone
            walked[str(program.layers)] += 1
        return Costs(program)

    # it fits no contract: it is planned at higher prices, and again to be cut, six times by this generator
    lower(graph, PlanOptions(code_limit=2_000, divides=True, generators=(generator,)))
    assert max(walked.values()) <= 2, "the second layer reads the first one's results from one of two places"


def test_a_line_says_what_a_program_costs_at_any_price(graph: Graph) -> None:
    costs = Costs(lower(graph, PlanOptions()))
    for code_price in (0.0, 0.5, 128.0):
        assert price(costs, PlanOptions(code_price=code_price)) == line(costs, PlanOptions()).at(code_price)


def test_data_contracts_of_zeros_are_not_opened(graph: Graph) -> None:
    force = {"gemm_0": {"skip_words": True, "fields": 1, "word_rows": 1}}
    program = lower(graph, PlanOptions(weights="data", activity={"gemm_0": ZERO_TAIL}, force=force))
    (segment,) = (s for name, s in program.segments.items() if name.startswith("gemm_0_weights"))
    assert segment.storage is Storage.DATA
    assert len(segment.opened) == segment.contracts > 1
    assert segment.opened[0] == 1.0
    assert segment.opened[-1] == 0.25
    shares = PlannedShares(program)
    first = next(p.first for name, p in program.places.items() if program.segments[name] is segment)
    assert [shares.opened(first + number) for number in range(segment.contracts)] == list(segment.opened)


def test_the_same_plan_from_what_the_manifest_says(graph: Graph) -> None:
    assert Activity.read(str(ZERO_TAIL)) == ZERO_TAIL
    for text in ("0.5 0.6 0.7", "0.5 0.6 0.7 0.8 1.0", "0.5 0.6 0.7 1.5"):
        with pytest.raises(ValueError, match="share"):
            Activity.read(text)
    activity = {"gemm_0": ZERO_TAIL}
    read = {"gemm_0": Activity.read(str(ZERO_TAIL))}
    generators = generators_of("solidity")
    assert lower(graph, PlanOptions(activity=activity, generators=generators)) == lower(
        graph, PlanOptions(activity=read, generators=generators)
    )


def test_a_backend_without_generators_has_the_one_it_is() -> None:
    program = lower_nothing()
    (generator,) = generators_of("solidity")
    assert type(generator(program)) is type(costs_of("solidity", program, {}))
    assert [g(program).venom for g in generators_of("vyper")] == [True, False]  # type: ignore[attr-defined]


def lower_nothing() -> Program:
    artifact = ml2sc.compile(dense(2, 2, 2), precision="int8", input_ranges=((-1.0, 1.0),))
    assert artifact.program is not None
    assert isinstance(artifact.program.layers[0], Section)
    return artifact.program
