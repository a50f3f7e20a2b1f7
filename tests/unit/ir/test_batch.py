"""Many samples at once, and one graph after the other: what is kept changes no integer, and is not computed again."""

from __future__ import annotations

import numpy as np
import pytest

from ml2sc.ir import batch as module
from ml2sc.ir import wad
from ml2sc.ir.analysis import evaluate_exact, prove_intervals
from ml2sc.ir.batch import Batch
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.passes.precision import parse_precision
from ml2sc.passes.quantize import quantize

TEXT = """
graph "three"
input %x: float[1,1,4,4]
range %x [-1.0, 1.0]
const %W: float[2,1,2,2] = [0.5, -1.0, 0.25, 1.0, 2.0, 0.0, -0.5, 1.0]
const %b: float[2] = [0.125, -0.5]
const %s: int64[2] = [1, 8]
const %V: float[8,2] = [1.0, -1.0, 2.0, 0.5, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0, -2.0, 0.0, 0.0, 1.0, 0.5, 1.0]
const %U: float[2,2] = [1.0, -1.0, 0.5, 2.0]

%c: float[1,2,3,3] = Conv(%x, %W, %b) @conv
%r: float[1,2,3,3] = Relu(%c) @relu
%p: float[1,2,2,2] = MaxPool(%r) {kernel_shape=[2,2]} @pool
%f: float[1,8] = Reshape(%p, %s) @flat
%h: float[1,2] = MatMul(%f, %V) @fc1
%t: float[1,2] = Tanh(%h) @tanh
%a: float[1,2] = Add(%t, %h) @add
%y: float[1,2] = MatMul(%a, %U) @fc2

output %y
"""
SAMPLES = [{"x": np.random.default_rng(i).uniform(-1, 1, (1, 1, 4, 4))} for i in range(5)]


def quantized(precision: str, observed: dict[str, tuple[float, float]] | None = None) -> Graph:
    graph = parse_graph(TEXT)
    graph.observed = observed or {}
    chosen = parse_precision(precision)
    assert chosen is not None
    result = quantize(graph, chosen)
    prove_intervals(result)
    return result


def check(batch: Batch, graph: Graph) -> None:
    names = [name for node in graph for name in node.outputs]
    found = batch.values(graph, names)
    for index, sample in enumerate(SAMPLES):
        alone = evaluate_exact(graph, wad.quantize_inputs(graph, sample))
        for name in names:
            assert found[name][index].tolist() == alone[name].tolist(), name


@pytest.mark.parametrize("precision", ["int8", "w16a16", "q40.60"])
def test_each_sample_gives_what_it_gives_alone(precision: str) -> None:
    check(Batch(SAMPLES), quantized(precision))


def test_what_another_range_does_not_touch_is_kept() -> None:
    batch, wide, narrow = Batch(SAMPLES), quantized("int8"), quantized("int8", {"a": (-1.0, 1.0)})
    check(batch, wide)
    before = batch.evaluated
    assert before == len(list(wide))
    batch.values(wide, wide.outputs)
    assert batch.evaluated == before
    check(batch, narrow)
    later = {node.name for node in narrow} - {"conv", "relu", "pool", "flat", "fc1", "tanh", "add"}
    assert "fc2" in later
    assert batch.evaluated - before <= len(later)
    check(batch, wide)


@pytest.mark.parametrize("room", [0, 200])
def test_without_room_nothing_is_wrong(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_BYTES", room)
    batch = Batch(SAMPLES)
    for graph in (quantized("int8"), quantized("int8", {"a": (-1.0, 1.0)}), quantized("w4a4")):
        check(batch, graph)
    graph = quantized("int8")
    evaluated = batch.evaluated
    batch.values(graph, graph.outputs)
    assert batch.evaluated > evaluated
