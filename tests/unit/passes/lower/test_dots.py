"""Layers as dot products: what is proved of their lanes, and when they are chosen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import heavy

from ml2sc.passes.lower import PlanOptions, lower
from ml2sc.passes.lower.kernels.dots import DotSections, dot_forms
from ml2sc.passes.lower.plan import DotForm
from ml2sc.passes.lower.product import Rows
from ml2sc.passes.lower.values import Laned, Packed, Scalars, Source
from ml2sc.passes.precision import Integer

from .conftest import Agree
from .test_linear import Quantised, matrix

BYTES = Packed(0, 1, False, 200)


def rows(source: Source, weights: object) -> list[Rows]:
    w = np.array(weights, dtype=np.int64)
    return [Rows(source, 0, w, np.zeros(w.shape[1], dtype=object), common=True)]


@st.composite
def weighted(draw: st.DrawFn) -> tuple[Source, np.ndarray]:
    k, n = draw(st.integers(2, 90)), draw(st.integers(1, 5))
    top = draw(st.sampled_from([1, 7, 127]))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    w = rng.choice([-top - 1, 0, top], size=(k, n)) if draw(st.booleans()) else rng.integers(-top - 1, top + 1, (k, n))
    lanes = draw(st.integers(2, 14))
    laned = Laned("b", lanes, draw(st.integers(8, 256 // lanes)), 8, 0, k)
    source = draw(st.sampled_from([Packed(0, 1, False, k), Packed(0, 2, False, k), laned]))
    if isinstance(source, Laned):
        w = np.pad(w, ((0, -len(w) % lanes), (0, 0)))
    return source, w


def deepest(form: DotForm, chunk: int, weights: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Return the least and the greatest of any lane of each chunk's sums: of products that meet there or do not."""
    size = chunk * form.unit
    chunks = (weights[s : s + size] for s in range(0, len(weights), size))
    return [
        (most * int(np.minimum(c, 0).sum(axis=0).min()), most * int(np.maximum(c, 0).sum(axis=0).max())) for c in chunks
    ]


@settings(max_examples=200)
@given(weighted())
def test_lanes_have_room(given: tuple[Source, np.ndarray]) -> None:
    source, weights = given
    bits = source.bits if isinstance(source, Laned) else 8 * source.width
    for form in dot_forms(rows(source, weights), 8):
        assert form.lanes > 1
        assert form.units * form.unit >= len(weights)
        for chunk, filled in ((form.chunk, weights), (form.dense_chunk, weights + 128)):
            if chunk == 0:
                continue
            ends = deepest(form, chunk, filled, (1 << bits) - 1)
            assert all(high - low < 1 << form.stride for low, high in ends), "no lane reaches the next"
            width = form.raw_bits if chunk >= form.units else form.stride
            assert form.place + width <= 256
            assert form.place + form.stride <= 256 or chunk >= form.units
        if form.dense_chunk:
            stride = source.stride if isinstance(source, Laned) else bits
            assert stride * (form.ways * form.lanes - 1) + 8 <= 256, "every weight is in its word"
            assert form.raw_bits <= form.stride, "nothing of the next lane is taken for the sum's"


def test_the_widest_sum_that_fits() -> None:
    """255 · 257 = 65,535: with one more, lanes of 16 bits are too narrow for two words at once."""
    weights = np.zeros((64, 1), dtype=np.int64)
    weights[0], weights[40] = 127, -130
    fits = dot_forms(rows(BYTES, weights), 9)[0]
    assert (fits.ways, fits.stride, fits.units, fits.chunk) == (2, 16, 2, 2)
    weights[40] = -131
    wider = dot_forms(rows(BYTES, weights), 9)[0]
    assert (wider.stride, wider.chunk) == (16, 1)


@pytest.mark.parametrize("source", [Scalars("b", 200), Packed(0, 1, True, 200), Packed(0, 3, False, 200)])
def test_inputs_that_share_no_word(source: Source) -> None:
    assert dot_forms(rows(source, [[1], [2]]), 8) == ()


def test_several_sources() -> None:
    assert dot_forms(rows(BYTES, [[1], [2]]) + rows(BYTES, [[1], [2]]), 8) == ()


def test_wide_weights() -> None:
    """Sums that int64 has no room for are left to the other method."""
    assert dot_forms(rows(BYTES, [[1 << 55], [2]]), 57) == ()


def network(inputs: int, outputs: int) -> str:
    return f"""
    graph "m"
    input %x: float[1,{inputs}]
    range %x [-1.0, 2.0]
    const %W: {matrix(inputs, outputs, 1)}
    const %b: {matrix(1, outputs, 2)}
    %y: float[1,{outputs}] = Gemm(%x, %W, %b) @one
    output %y
    """


def test_one_output_is_a_dot_product(quantised: Quantised, agree: Agree) -> None:
    program = agree(quantised(network(60, 1), Integer(8, 8)))
    facts = program.layers[0].facts
    assert facts["lanes"] == 10
    assert facts["bytes"] == 32 * 6, "two words of 30 bytes in three ways"


@pytest.mark.parametrize(
    ("outputs", "weights", "dense"), heavy.in_turns(2, [1, 5, 23, 40], ["code", "data"], [False, True])
)
def test_loops_over_outputs(quantised: Quantised, agree: Agree, outputs: int, weights: str, dense: bool) -> None:
    """Words of sums that are full and such that are not; weights with lanes of their own, and masked apart."""
    force = {"one": {"method": "dots", "immediate": False, "dense": dense}}
    program = agree(quantised(network(70, outputs), Integer(8, 8)), PlanOptions(weights=weights, force=force))
    assert program.layers[0].facts["fields"] == (program.layers[0].facts["stride"] // 8 if dense else 1)


@pytest.mark.parametrize(("inputs", "dense", "words"), [(3_000, False, 300), (1_000, True, 34)])
def test_parts_of_a_sum(
    quantised: Quantised, agree: Agree, monkeypatch: pytest.MonkeyPatch, inputs: int, dense: bool, words: int
) -> None:
    """Lanes of 24 bits have no room for the sums of so many inputs: they are read in parts."""
    force = {"one": {"method": "dots", "dense": dense, "row_words": words}}
    elements = np.arange(inputs).reshape(1, -1)
    samples = [{"x": x.astype(object)} for x in (0 * elements, 255 + 0 * elements, elements % 2 * 255)]
    parts, emit = list[int](), DotSections.emit
    monkeypatch.setattr(DotSections, "emit", lambda self: parts.append(len(self.chunks)) or emit(self))
    agree(quantised(network(inputs, 3), Integer(8, 8)), PlanOptions(force=force), samples=samples)
    assert parts[0] > 1


def test_lower_is_deterministic(quantised: Quantised) -> None:
    graph = quantised(network(40, 3), Integer(8, 8))
    assert lower(graph) == lower(graph)
