"""Layers: the Program against formulas written out here, and against the graph interpreter."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import heavy

from ml2sc.ir import translate, wad
from ml2sc.ir.analysis import prove_intervals
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.program import For, Program, Storage, walk
from ml2sc.ir.types import FixedPoint, Interval
from ml2sc.passes import lower as lowering
from ml2sc.passes.lower import PlanOptions, lower
from ml2sc.passes.lower import plan as planning
from ml2sc.passes.lower.epilogue import find_epilogue
from ml2sc.passes.lower.kernels import dense
from ml2sc.passes.lower.kernels.lanes import LaneSections
from ml2sc.passes.lower.options import ASSUMED
from ml2sc.passes.precision import Binary, Integer, Precision

from .conftest import Agree, random_inputs

ONE = Fraction(1, wad.WAD)
"""A scale at which `predict` answers q − zero_point as it is."""


@dataclass(frozen=True)
class Layer:
    """y = clamp(floor((relu(Σ (x − zx)·w + b) + half) / 2^shift) + zy, qmin, qmax), written out in `expected`."""

    x: FixedPoint
    weights: tuple[tuple[int, ...], ...]
    bias: tuple[int, ...]
    shift: int
    y: FixedPoint
    relu: bool = False
    clip: tuple[int, int] | None = None

    def graph(self) -> Graph:
        graph = Graph()
        w, b = np.array(self.weights, dtype=object), np.array(self.bias, dtype=object)
        k, n = w.shape
        raw = FixedPoint(256, True, ONE / (1 << self.shift))
        graph.add_tensor(Tensor("x", (1, k), self.x, interval=Interval(self.x.qmin, self.x.qmax)))
        graph.inputs = ["x"]
        for name, data in (("w", w), ("b", b)):
            interval = Interval(int(data.min()), int(data.max()))
            type_ = FixedPoint(interval.signed_bits, True, Fraction(1))
            graph.add_tensor(Tensor(name, data.shape, type_, data, interval, data.astype(np.float64)))
        graph.add_tensor(Tensor("h", (1, n), raw))
        graph.add(
            "FusedGemm" if self.relu else "Gemm", ["x", "w", "b"], ["h"], {"activation": "Relu"} if self.relu else {}
        )
        last = "h"
        if self.clip is not None:
            graph.add_tensor(Tensor("c", (1, n), raw))
            lo, hi = self.clip
            graph.add("Clip", ["h"], ["c"], {"lo": lo, "hi": hi, "real_lo": 0.0, "real_hi": 0.0})
            last = "c"
        graph.add_tensor(Tensor("y", (1, n), self.y))
        graph.add("Requantize", [last], ["y"], {"multiplier": 1, "shift": self.shift})
        graph.outputs = ["y"]
        graph.errors = {"y": 0.0}
        prove_intervals(graph)
        return graph

    def expected(self, x: list[int]) -> list[int]:
        out = []
        for column, bias in enumerate(self.bias):
            acc = bias + sum((v - self.x.zero_point) * row[column] for v, row in zip(x, self.weights, strict=True))
            acc = max(acc, 0) if self.relu else acc
            if self.clip is not None:
                acc = min(max(acc, self.clip[0]), self.clip[1])
            half = 2 ** (self.shift - 1) if self.shift else 0
            q = (acc + half) // 2**self.shift + self.y.zero_point
            out.append(min(max(q, self.y.qmin), self.y.qmax) - self.y.zero_point)
        return out

    def check(self, options: PlanOptions | None = None, samples: int = 10) -> Program:
        graph = self.graph()
        program = lower(graph, options)
        interpreter = Interpreter(program)
        for sample in random_inputs(graph, samples, seed=1):
            answer = interpreter.run(wad.pack(graph, sample))
            assert list(answer.outputs) == self.expected([int(v) for v in sample["x"].ravel()])
            assert answer == wad.run_graph(graph, sample)
        return program


BYTE = FixedPoint(8, False, Fraction(1))
WEIGHTS = ((3, -7, 5, 0), (-2, -9, 4, 0), (1, -1, 8, 0))


def out(bits: int, *, signed: bool = False, zero: int = 0) -> FixedPoint:
    return FixedPoint(bits, signed, ONE, zero)


@pytest.mark.parametrize(
    ("layer", "below", "above"),
    [
        (Layer(BYTE, WEIGHTS, (1, 2, 3, 4), 4, out(8)), True, True),
        (Layer(BYTE, WEIGHTS, (1, 2, 3, 4), 0, out(8)), True, True),
        (Layer(BYTE, WEIGHTS, (1, 2, 3, 4), 0, out(16, signed=True)), False, False),
        (Layer(BYTE, WEIGHTS, (1, 2, 3, 4), 4, out(16, signed=True)), False, False),
        (Layer(BYTE, WEIGHTS, (1, 2, 3, 4), 4, out(16)), True, False),
        (Layer(BYTE, WEIGHTS, (1, 2, 3, 4), 4, out(16), relu=True), True, False),
        (Layer(BYTE, ((3, 7), (2, 9)), (1, 2), 3, out(8)), False, True),
        (Layer(BYTE, ((3, 7), (2, 9)), (1, 2), 0, out(8)), False, True),
        (Layer(BYTE, WEIGHTS, (1, 2, 3, 4), 4, out(8, zero=77)), True, True),
        (Layer(BYTE, WEIGHTS, (1, 2, 3, 4), 4, out(8, zero=77), relu=True), True, True),
        (Layer(BYTE, WEIGHTS, (1, 2, 3, 4), 5, out(5, signed=True)), True, True),
        (Layer(BYTE, WEIGHTS, (1, 2, 3, 4), 2, out(12), clip=(-100, 1230)), True, True),  # top 308
        (Layer(BYTE, WEIGHTS, (1, 2, 3, 4), 2, out(12, signed=True), clip=(-100, 1230)), True, True),
        (Layer(BYTE, WEIGHTS, (1, 2, 3, 4), 0, out(12), clip=(0, 1000), relu=True), True, True),
        (Layer(FixedPoint(8, False, Fraction(1), 128), WEIGHTS, (1, 2, 3, 4), 2, out(8)), True, True),
        (Layer(FixedPoint(8, False, Fraction(1), 255), WEIGHTS, (0, 0, 0, 0), 1, out(8, zero=255)), True, True),
        (Layer(FixedPoint(9, True, Fraction(1)), WEIGHTS, (1, 2, 3, 4), 4, out(8)), True, True),
        (Layer(FixedPoint(100, True, Fraction(1)), WEIGHTS, (1, 2, 3, 4), 90, out(8)), True, True),
        (Layer(FixedPoint(100, True, Fraction(1)), WEIGHTS, (1, 2, 3, 4), 0, out(128, signed=True)), False, False),
        (Layer(BYTE, ((0,), (0,)), (-5,), 1, out(8)), True, False),
        (Layer(BYTE, ((1,),), (0,), 0, out(8)), False, False),
        (Layer(BYTE, ((1,),), (300,), 0, out(8)), False, True),
    ],
)
@pytest.mark.parametrize("storage", ["auto", "code", "data"])
def test_epilogues(layer: Layer, below: bool, above: bool, storage: str) -> None:
    graph = layer.graph()
    epilogue = find_epilogue(graph, next(iter(graph)))
    assert epilogue.output.name == "y"
    assert (epilogue.clamps_below, epilogue.clamps_above) == (below, above)
    layer.check(PlanOptions(weights=storage))


def test_one_lane_of_a_whole_word() -> None:
    """255 bits with a sign: nothing is left of the word, and nothing is clamped."""
    weight = (1 << 126) - 1
    layer = Layer(FixedPoint(128, True, Fraction(1)), ((weight,),), (1 << 100,), 0, out(256, signed=True))
    graph = layer.graph()
    epilogue = find_epilogue(graph, next(iter(graph)))
    assert epilogue.proved_bits == 254
    # `predict` multiplies by one, so all of it comes back
    layer.check(samples=20)


FORMATS = st.one_of(
    st.builds(
        lambda bits, zero: FixedPoint(bits, False, Fraction(1), zero % (1 << bits)),
        st.integers(1, 20),
        st.integers(0, 255),
    ),
    st.builds(lambda bits: FixedPoint(bits, True, Fraction(1)), st.integers(1, 70)),
)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    k, n = draw(st.integers(1, 40)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    top = 1 << draw(st.integers(0, 40))
    weights = rng.integers(-top, top + 1, size=(k, n)) * (rng.random((k, n)) < draw(st.sampled_from([1.0, 0.3, 0.02])))
    spread = 1 << draw(st.integers(0, 60))
    x, shift = draw(FORMATS), draw(st.one_of(st.just(0), st.integers(0, 60)))
    y = draw(FORMATS)
    clip = draw(st.one_of(st.none(), st.tuples(st.integers(-spread, 0), st.integers(0, spread))))
    return Layer(
        x=x,
        weights=tuple(tuple(int(v) for v in row) for row in weights),
        bias=tuple(int(v) for v in rng.integers(-spread, spread + 1, size=n)),
        shift=shift,
        y=FixedPoint(y.bits, y.signed, ONE, y.zero_point),
        relu=draw(st.booleans()),
        clip=clip,
    )


OPTIONS = st.builds(
    PlanOptions,
    weights=st.sampled_from(["auto", "code", "data"]),
    optimize=st.sampled_from(["inference", "balanced", "deploy"]),
    unroll=st.sampled_from([1, 3, 16]),
)


def any_plan(seed: int) -> Callable[[planning.Layer, PlanOptions], planning.Plan]:
    """Return a planner that takes not the cheapest plan but any: of lanes as often as of dot products."""
    chooser = random.Random(seed)

    def chosen(layer: planning.Layer, options: PlanOptions) -> planning.Plan:
        plans = list(planning.candidates(dataclasses.replace(layer, activity=ASSUMED), options))
        method = chooser.choice(sorted({p.method for p in plans}))
        return chooser.choice([p for p in plans if p.method == method])

    return chosen


def planned_by(chosen: Callable[[planning.Layer, PlanOptions], planning.Plan]) -> AbstractContextManager[object]:
    """Have no other plan considered than the one that a function names."""
    return patch.object(dense, "shortlist", lambda layer, options, count: [(0.0, chosen(layer, options))])


@given(layers(), OPTIONS)
def test_random_layers(layer: Layer, options: PlanOptions) -> None:
    layer.check(options, samples=5)


@st.composite
def layers_of_bytes(draw: st.DrawFn) -> Layer:
    k, n = draw(st.integers(1, 110)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    top = draw(st.sampled_from([1, 7, 127]))
    weights = rng.choice([-top - 1, top], size=(k, n)) if draw(st.booleans()) else rng.integers(-top, top + 1, (k, n))
    return Layer(
        x=draw(st.sampled_from([BYTE, FixedPoint(8, False, Fraction(1), 128), FixedPoint(8, True, Fraction(1))])),
        weights=tuple(tuple(int(v) for v in row) for row in weights),
        bias=tuple(int(v) for v in rng.integers(-1000, 1000, size=n)),
        shift=draw(st.integers(0, 12)),
        y=out(8),
        relu=draw(st.booleans()),
    )


@given(st.one_of(layers_of_bytes(), layers()), st.integers(0, 1 << 32), st.sampled_from(["code", "data"]))
def test_every_plan_computes_the_same(layer: Layer, seed: int, weights: str) -> None:
    """Not the cheapest plan but any; weights and inputs at the ends of their ranges are among those tried."""
    with planned_by(any_plan(seed)):
        layer.check(PlanOptions(weights=weights), samples=4)


def test_dots_in_chunks_whose_least_sums_are_of_different_outputs() -> None:
    """What is added to each chunk's sum is the least of any output there: together more than any output's own least."""
    weights = np.zeros((17, 30), dtype=np.int64)
    weights[1, 0], weights[16, 1], weights[0, 2] = -4088, -3885, 3193
    layer = Layer(
        x=FixedPoint(15, False, Fraction(1), 1),
        weights=tuple(tuple(int(v) for v in row) for row in weights),
        bias=(1,) * 30,  # an output beside one whose bits are cut off is one too small
        shift=0,
        y=out(17),
    )
    found: list[planning.Plan] = []

    def numbered(number: int, planned: planning.Layer, options: PlanOptions) -> planning.Plan:
        plans = (p for p in planning.candidates(planned, options) if isinstance(p, planning.DotPlan) and p.dense)
        found[:] = [p for p in plans if p.chunk < p.form.units]
        return found[number]

    for number in range(4):
        with planned_by(functools.partial(numbered, number)):
            layer.check(PlanOptions(), samples=8)
    assert len(found) > 3


# -- several layers, sources and blocks ----------------------------------------------------------------------------


def matrix(rows: int, columns: int, seed: int) -> str:
    values = np.random.default_rng(seed).normal(size=(rows, columns)).round(4)
    return f"float[{rows},{columns}] = {values.ravel().tolist()}"


PRECISIONS: list[Precision] = [Integer(8, 8), Integer(4, 12), Integer(8, 3), Binary(8, 30)]
Quantised = Callable[[str, Precision], Graph]


def both(text: str, quantised: Quantised, agree: Agree) -> list[Program]:
    """Lower a graph in each precision, with weights in code and in data, for either goal: each two of these meet."""
    ways = heavy.crossed(2, PRECISIONS, ("code", "data"), ("inference", "deploy"))
    return [agree(quantised(text, precision), PlanOptions(weights=w, optimize=o)) for precision, w, o in ways]


@pytest.mark.parametrize("outputs", [100, pytest.param(230, marks=pytest.mark.heavy)])
def test_blocks_of_outputs(quantised: Quantised, agree: Agree, outputs: int) -> None:
    text = f"""
    graph "m"
    input %x: float[1,37]
    range %x [-1.0, 2.0]
    const %W: {matrix(37, outputs, 1)}
    const %b: {matrix(1, outputs, 2)}
    %h: float[1,{outputs}] = FusedGemm(%x, %W, %b) {{activation="Relu"}} @one
    const %V: {matrix(outputs, 7, 3)}
    %y: float[1,7] = Gemm(%h, %V) @two
    output %y
    """
    for program in both(text, quantised, agree):
        section = program.layers[0] if program.layers[0].facts else program.layers[1]
        assert section.facts["macs"] == 37 * outputs


@pytest.mark.parametrize("seed", heavy.but_each(6, range(12)))
def test_every_plan_of_laned_inputs(quantised: Quantised, agree: Agree, seed: int) -> None:
    text = f"""
    graph "m"
    input %x: float[1,9]
    range %x [-1.0, 2.0]
    const %W: {matrix(9, 34, 1)}
    %h: float[1,34] = FusedGemm(%x, %W) {{activation="Relu"}} @one
    const %V: {matrix(34, 26, 3)}
    %g: float[1,26] = FusedGemm(%h, %V) {{activation="Relu"}} @two
    const %U: {matrix(26, 3, 4)}
    %y: float[1,3] = Gemm(%g, %U) @three
    output %y
    """
    with planned_by(any_plan(seed)):
        for precision in PRECISIONS:
            agree(quantised(text, precision), PlanOptions(updatable=seed % 3 == 0))


def test_several_sources(quantised: Quantised, agree: Agree) -> None:
    """A layer that reads two inputs, a laned activation, and a constant."""
    text = f"""
    graph "m"
    input %a: float[1,5]
    input %b: float[1,40]
    range %a [-1.0, 2.0]
    range %b [0.0, 3.0]
    const %W: {matrix(5, 20, 1)}
    %h: float[1,20] = FusedGemm(%a, %W) {{activation="Relu"}} @one
    const %c: float[1,3] = [0.5, -2.0, 1.0]
    %all: float[1,68] = Concat(%b, %h, %c, %a) {{axis=1}} @concat
    const %V: {matrix(68, 9, 2)}
    %y: float[1,9] = Gemm(%all, %V) @two
    output %y
    """
    both(text, quantised, agree)


def test_repeated_and_reversed_elements(quantised: Quantised, agree: Agree) -> None:
    text = f"""
    graph "m"
    input %x: float[1,9]
    range %x [-1.0, 2.0]
    const %i: int64[12] = [8, 8, 0, 1, 2, 2, 2, 7, 6, 5, 4, 0]
    %g: float[1,12] = Gather(%x, %i) {{axis=1}} @gather
    const %W: {matrix(12, 20, 1)}
    %h: float[1,20] = FusedGemm(%g, %W) {{activation="Relu"}} @one
    const %j: int64[7] = [19, 19, 3, 3, 3, 0, 11]
    %k: float[1,7] = Gather(%h, %j) {{axis=1}} @again
    const %V: {matrix(7, 4, 2)}
    %y: float[1,4] = Gemm(%k, %V) @two
    output %y
    """
    both(text, quantised, agree)


@pytest.mark.parametrize(
    ("start", "end", "step"), heavy.but_each(2, [(3, 17, 1), (0, 20, 3), (10, 11, 1), (19, -21, -2)], start=1)
)
def test_parts_of_a_laned_activation(quantised: Quantised, agree: Agree, start: int, end: int, step: int) -> None:
    size = len(range(20)[slice(start, None if end < -20 else end, step)])
    text = f"""
    graph "m"
    input %x: float[1,4]
    range %x [-1.0, 2.0]
    const %W: {matrix(4, 20, 1)}
    %h: float[1,20] = FusedGemm(%x, %W) {{activation="Relu"}} @one
    const %s: int64[1] = [{start}]
    const %e: int64[1] = [{end}]
    const %a: int64[1] = [1]
    const %d: int64[1] = [{step}]
    %k: float[1,{size}] = Slice(%h, %s, %e, %a, %d) @slice
    const %V: {matrix(size, 4, 2)}
    %y: float[1,4] = Gemm(%k, %V) @two
    output %y, %k
    """
    both(text, quantised, agree)


def test_rows_of_a_matrix(quantised: Quantised, agree: Agree) -> None:
    """A layer of three vectors, with a bias of its own for each."""
    text = f"""
    graph "m"
    input %x: float[3,4]
    range %x [-1.0, 2.0]
    const %W: {matrix(4, 6, 1)}
    const %b: {matrix(3, 6, 2)}
    %h: float[3,6] = Gemm(%x, %W, %b) @one
    %r: float[3,6] = Relu(%h) @relu
    %t: float[6,3] = Transpose(%r) @t
    const %V: {matrix(3, 2, 3)}
    %y: float[6,2] = Gemm(%t, %V) @two
    output %y
    """
    both(text, quantised, agree)


def test_a_layer_with_two_readers_keeps_its_accumulators(quantised: Quantised, agree: Agree) -> None:
    text = f"""
    graph "m"
    input %x: float[1,4]
    range %x [-1.0, 2.0]
    const %W: {matrix(4, 6, 1)}
    %h: float[1,6] = Gemm(%x, %W) @one
    %r: float[1,6] = Relu(%h) @relu
    %s: float[1,6] = Add(%h, %r) @skip
    const %V: {matrix(6, 2, 3)}
    %y: float[1,2] = Gemm(%s, %V) @two
    output %y
    """
    both(text, quantised, agree)
    graph = quantised(text, Integer(8, 8))
    assert [n.op_type for n in find_epilogue(graph, graph.node("one")).nodes] == ["Gemm"]


def test_an_epilogue_goes_through_what_keeps_the_order(quantised: Quantised) -> None:
    text = f"""
    graph "m"
    input %x: float[1,4]
    range %x [-1.0, 2.0]
    const %W: {matrix(4, 6, 1)}
    %h: float[1,6] = Gemm(%x, %W) @one
    const %shape: int64[2] = [2, 3]
    %f: float[2,3] = Reshape(%h, %shape) @reshape
    %r: float[2,3] = Relu(%f) @relu
    %t: float[3,2] = Transpose(%r) @transpose
    const %V: {matrix(2, 2, 3)}
    %y: float[3,2] = Gemm(%t, %V) @two
    output %y
    """
    graph = quantised(text, Integer(8, 8))
    nodes = find_epilogue(graph, graph.node("one")).nodes
    assert [n.op_type for n in nodes] == ["Gemm", "Reshape", "Relu", "Requantize"]


@pytest.mark.parametrize(
    ("precision", "optimize"), heavy.in_turns(2, [Integer(8, 8), Binary(8, 30)], ["inference", "deploy"])
)
def test_no_chunk_lies_in_two_data_contracts(
    quantised: Quantised, agree: Agree, monkeypatch: pytest.MonkeyPatch, precision: Precision, optimize: str
) -> None:
    text = f"""
    graph "m"
    input %x: float[1,300]
    range %x [0.0, 2.0]
    const %W: {matrix(300, 90, 1)}
    %h: float[1,90] = FusedGemm(%x, %W) {{activation="Relu"}} @one
    const %V: {matrix(90, 40, 2)}
    %y: float[1,40] = Gemm(%h, %V) @two
    output %y
    """
    copied: list[tuple[int, int, int]] = []
    original = translate.chunk

    def recording(words: tuple[int, ...], start: int, count: int, size: int) -> Sequence[int]:
        copied.append((id(words), start, count))
        return original(words, start, count, size)

    monkeypatch.setattr(translate, "chunk", recording)
    program = agree(quantised(text, precision), PlanOptions(weights="data", optimize=optimize))
    tables = {id(s.words): s for s in program.segments.values() if s.storage is Storage.DATA}
    assert len(program.data_contracts()) >= 2
    assert all(len(data) <= 24_575 for data in program.data_contracts())
    for table, offset, count in copied:
        if table in tables:
            per_contract = tables[table].per_contract
            assert offset // per_contract == (offset + count - 1) // per_contract
    assert {table for table, _, _ in copied} >= set(tables)


@pytest.mark.parametrize("weights", ["code", "data"])
def test_all_inputs_in_one_round(quantised: Quantised, agree: Agree, weights: str) -> None:
    """No place of an input is computed; what is unpacked for it is written out where code is cheap."""
    text = f"""
    graph "m"
    input %x: float[1,5]
    range %x [0.0, 2.0]
    const %W: {matrix(5, 20, 1)}
    %h: float[1,20] = FusedGemm(%x, %W) {{activation="Relu"}} @one
    %e: float[1,20] = Tanh(%h) @tanh
    const %V: {matrix(20, 11, 2)}
    %y: float[1,11] = Gemm(%e, %V) @two
    output %y
    """
    options = PlanOptions(weights=weights, force={"two": {"method": "lanes", "round_rows": 20}})
    program = agree(quantised(text, Binary(8, 30)), options)
    (two,) = (section for section in program.layers if section.name == "two")
    loops = [s for s in walk(two.body) if isinstance(s, For)]
    assert [[i.name for i in s.inductions][:1] for s in loops] == [["group"]]
    unpacking = [s for s in program.layers if s.name.startswith("unpack_one")]
    assert unpacking
    assert not any(isinstance(s, For) for section in unpacking for s in walk(section.body))
    looped = agree(quantised(text, Binary(8, 30)), dataclasses.replace(options, optimize="deploy"))
    unpacking = [s for s in looped.layers if s.name.startswith("unpack_one")]
    assert any(isinstance(s, For) for section in unpacking for s in walk(section.body))


def test_words_of_programs_that_come_out_too_large_are_not_put_together(
    quantised: Quantised, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"""
    graph "m"
    input %x: float[1,300]
    range %x [0.0, 2.0]
    const %W: {matrix(300, 90, 1)}
    %y: float[1,90] = Gemm(%x, %W) @one
    output %y
    """
    graph, made, lowered = quantised(text, Integer(8, 8)), list[int](), list[float]()
    original, words = lowering._lower, LaneSections._weight_words
    monkeypatch.setattr(
        lowering,
        "_lower",
        lambda g, options, epilogues: lowered.append(options.code_price) or original(g, options, epilogues),
    )
    monkeypatch.setattr(
        LaneSections, "_weight_words", lambda self, *rest: made.append(self.plan.blocks) or words(self, *rest)
    )
    program = lower(graph, PlanOptions(weights="data", code_limit=1_500))
    assert len(lowered) > 1, "this model is to come out too large"
    assert made == []
    assert sum(map(len, program.data_contracts())) >= 300 * 90
    assert len(made) == made[0], "each block of the program that was chosen, once"


def test_weights_in_the_code(quantised: Quantised, agree: Agree) -> None:
    text = f"""
    graph "m"
    input %x: float[1,300]
    range %x [0.0, 2.0]
    const %W: {matrix(300, 30, 1)}
    %y: float[1,30] = Gemm(%x, %W) @one
    output %y
    """
    program = agree(quantised(text, Integer(8, 8)), PlanOptions(weights="code"))
    assert program.data_contracts() == []
    assert program.layers[0].facts["storage"] == "code"
