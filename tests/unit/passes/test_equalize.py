"""IR text before and after; the function stays exactly the same."""

from __future__ import annotations

import numpy as np

from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.printer import print_graph
from ml2sc.passes.equalize import Equalize

BEFORE = """
graph "two"
input %x: float[1,2]
range %x [-1.0, 1.0]
const %W: float[2,2] = [64.0, 1.0, -32.0, 0.5]
const %b: float[2] = [8.0, 0.25]
const %V: float[2,1] = [0.25, 4.0]

%h: float[1,2] = FusedGemm(%x, %W, %b) {activation="Relu"} @fc1
%y: float[1,1] = Gemm(%h, %V) @fc2

output %y
"""
AFTER = """
graph "two"
input %x: float[1,2]
range %x [-1.0, 1.0]
const %W.equalized: float[2,2] = [4.0, 2.0, -2.0, 1.0]
const %V.equalized: float[2,1] = [4.0, 2.0]
const %b.equalized: float[2] = [0.5, 0.5]

%h.equalized: float[1,2] = FusedGemm(%x, %W.equalized, %b.equalized) {activation="Relu"} @fc1
%y: float[1,1] = Gemm(%h.equalized, %V.equalized) @fc2

output %y
"""


def same_answers(before: Graph, after: Graph) -> None:
    for x in np.random.default_rng(0).normal(size=(20, *before.tensor("x").shape)):
        assert np.array_equal(evaluate_float(before, {"x": x})["y"], evaluate_float(after, {"x": x})["y"])


def test_columns_and_rows_become_alike() -> None:
    graph = parse_graph(BEFORE)
    assert Equalize().run(graph)
    assert print_graph(graph).strip() == AFTER.strip()
    same_answers(parse_graph(BEFORE), graph)
    assert not Equalize().run(graph)


def test_transposed_weights_and_activations_between() -> None:
    text = """
graph "three"
input %x: float[1,2]
range %x [-1.0, 1.0]
const %W: float[3,2] = [64.0, 1.0, -32.0, 0.5, 0.0, 0.0]
const %c: float[1] = [0.5]
const %V: float[2,3] = [0.25, 4.0, 1.0, 0.5, 0.125, 1.0]
%h: float[1,3] = Gemm(%x, %W, %c) {transB=1, slack=0.5} @fc1
%l: float[1,3] = LeakyRelu(%h) {alpha=0.25} @leaky
%y: float[1,2] = Gemm(%l, %V) {transB=1} @fc2
output %y
"""
    graph = parse_graph(text)
    assert Equalize().run(graph)
    same_answers(parse_graph(text), graph)
    first = graph.node("fc1")
    assert graph.tensor(first.inputs[2]).shape == (3,)
    assert float(str(first.attrs["slack"])) >= 0.5
    largest = np.abs(graph.tensor(first.inputs[1]).data).max(axis=1)
    assert largest[2] == 0, "a channel without weights stays"


def test_what_cannot_be_scaled_stays() -> None:
    for between in ("Sigmoid", "Tanh"):
        text = BEFORE.replace('FusedGemm(%x, %W, %b) {activation="Relu"} @fc1', "Gemm(%x, %W, %b) @fc1").replace(
            "%y: float[1,1] = Gemm(%h, %V)", f"%s: float[1,2] = {between}(%h) @s\n%y: float[1,1] = Gemm(%s, %V)"
        )
        assert not Equalize().run(parse_graph(text))
    assert not Equalize().run(parse_graph(BEFORE.replace("output %y", "output %y, %h"))), "the model shows %h"


def test_constants_that_others_use_keep_their_values() -> None:
    text = BEFORE.replace("output %y", "%z: float[1,2] = Gemm(%x, %W) @other\noutput %y, %z")
    graph = parse_graph(text)
    assert Equalize().run(graph)
    assert graph.tensor("W").data is not None
    same_answers(parse_graph(text), graph)
