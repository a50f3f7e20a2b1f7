"""Activations behind movements of a layer's results."""

from __future__ import annotations

import numpy as np
import pytest

from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.verify import verify
from ml2sc.passes.sink_movements import SinkMovements

ENLARGED = """
graph "m"
input %x: float[1,1,2,2]
const %w: float[2,1,1,1] = [1.0, -2.0]
const %flat: int64[2] = [1, 8]
const %order: int64[8] = [0, 4, 1, 5, 2, 6, 3, 7]
const %shape: int64[4] = [1, 1, 2, 4]
%c: float[1,2,2,2] = Conv(%x, %w) @c
%row: float[1,8] = Reshape(%c, %flat) @row
%dealt: float[1,8] = Gather(%row, %order) {axis=1} @dealt
%map: float[1,1,2,4] = Reshape(%dealt, %shape) @map
%y: float[1,1,2,4] = FUNCTION(%map) @y
output %y
"""
X = np.array([[[[1.0, -2.0], [3.0, -4.0]]]])


def moved(text: str) -> Graph:
    """Return a graph after the pass, whose results are the same."""
    graph = parse_graph(text)
    before = evaluate_float(graph, {"x": X})["y"]
    assert SinkMovements().run(graph)
    verify(graph)
    assert graph.outputs == ["y"]
    assert np.array_equal(evaluate_float(graph, {"x": X})["y"], before)
    assert not SinkMovements().run(graph)
    return graph


@pytest.mark.parametrize("function", ["Relu", "Sigmoid"])
def test_an_activation_comes_next_to_its_layer(function: str) -> None:
    graph = moved(ENLARGED.replace("FUNCTION", function))
    assert [node.op_type for node in graph] == ["Conv", function, "Reshape", "Gather", "Reshape"]


def test_several_activations_come_in_their_order() -> None:
    text = ENLARGED.replace("FUNCTION(%map) @y", "Tanh(%z) @y").replace(
        "%y: float", "%z: float[1,1,2,4] = Relu(%map) @z\n%y: float"
    )
    assert [node.op_type for node in moved(text)] == ["Conv", "Relu", "Tanh", "Reshape", "Gather", "Reshape"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Conv(%x, %w) @c", "Concat(%x, %x) {axis=1} @c"),  # no layer
        ("output %y", "output %map\noutput %y"),  # what is moved is read as it is
        ("[0, 4, 1, 5, 2, 6, 3, 7]", "[0, 4, 1]"),  # most is left out
    ],
)
def test_a_movement_stays_before(old: str, new: str) -> None:
    text = ENLARGED.replace("FUNCTION", "Relu").replace(old, new)
    if "[0, 4, 1]" in new:
        text = text.replace("%order: int64[8]", "%order: int64[3]").replace("dealt: float[1,8]", "dealt: float[1,3]")
        text = text.replace("%shape: int64[4] = [1, 1, 2, 4]", "%shape: int64[4] = [1, 1, 1, 3]")
        text = text.replace("float[1,1,2,4]", "float[1,1,1,3]")
    assert not SinkMovements().run(parse_graph(text))


def test_a_function_is_not_computed_for_what_is_left_out() -> None:
    """A Relu is: it costs a few steps of a whole word."""
    text = ENLARGED.replace("int64[8] = [0, 4, 1, 5, 2, 6, 3, 7]", "int64[6] = [0, 4, 1, 5, 2, 6]")
    text = text.replace("%dealt: float[1,8]", "%dealt: float[1,6]").replace("[1, 1, 2, 4]", "[1, 1, 2, 3]")
    text = text.replace("float[1,1,2,4]", "float[1,1,2,3]")
    assert [n.op_type for n in moved(text.replace("FUNCTION", "Relu"))] == [
        "Conv",
        "Relu",
        "Reshape",
        "Gather",
        "Reshape",
    ]
    assert not SinkMovements().run(parse_graph(text.replace("FUNCTION", "Sigmoid")))
