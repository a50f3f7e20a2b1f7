from __future__ import annotations

import numpy as np
import pytest

from ml2sc.errors import UnsupportedModelError
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.printer import print_graph
from ml2sc.ir.verify import verify
from ml2sc.passes.derive_decision import DeriveDecision, keep_scores

VECTOR = 'graph "m"\ninput %x: float[1,3]\n'


@pytest.mark.parametrize(
    ("body", "scores"),
    [
        ("%y: float[1,3] = Relu(%x) @r\noutput %y", "y"),
        ("%y: float[1,3] = Softmax(%x) {axis=1} @s\noutput %y", "x"),
        ("%y: float[1,3] = LogSoftmax(%x) {axis=-1} @s\noutput %y", "x"),
        ("%y: float[1,3] = Sigmoid(%x) @s\noutput %y", "x"),
        ('%p: float[1,3] = Sigmoid(%x) @s\n%y: float[1,3] = Normalizer(%p) {norm="L1"} @n\noutput %y', "x"),
        ('%p: float[1,3] = Relu(%x) @s\n%y: float[1,3] = Normalizer(%p) {norm="L1"} @n\noutput %y', "y"),
        ("%y: float[1,3] = Softmax(%x) {axis=0} @s\noutput %y", "y"),  # every element is 1: no order
        ("%p: float[1,3] = Softmax(%x) @s\n%y: float[1,3] = Flatten(%p) @f\noutput %y", "x"),
    ],
)
def test_argmax_of_the_scores(body: str, scores: str) -> None:
    graph = parse_graph(VECTOR + body)
    assert DeriveDecision().run(graph)
    verify(graph)
    argmax = graph.producer("decision")
    assert (graph.decision, graph.outputs, argmax.op_type, argmax.inputs) == ("decision", ["y"], "ArgMax", (scores,))
    for x in ([[0.5, 2.0, 1.0]], [[-3.0, -2.0, -2.0]]):
        values = evaluate_float(graph, {"x": np.array(x)})
        assert values["decision"].tolist() == [int(np.argmax(values["y"]))]


def test_a_vector_along_another_axis_is_flattened() -> None:
    graph = parse_graph('graph "m"\ninput %x: float[1,3,1,1]\n%y: float[1,3,1,1] = Softmax(%x) {axis=1} @s\noutput %y')
    assert DeriveDecision().run(graph)
    verify(graph)
    assert [n.op_type for n in graph if n.op_type != "Softmax"] == ["Reshape", "ArgMax"]
    values = evaluate_float(graph, {"x": np.array([1.0, 2.0, 5.0]).reshape(1, 3, 1, 1)})
    assert values["decision"].item() == 2


def test_one_sigmoid() -> None:
    graph = parse_graph(
        'graph "m"\ninput %x: float[1,1]\nconst %shape: int64[1] = [1]\n'
        "%p: float[1,1] = Sigmoid(%x) @s\n%y: float[1] = Reshape(%p, %shape) @r\noutput %y"
    )
    assert DeriveDecision().run(graph)
    verify(graph)
    assert graph.outputs == ["y"]
    assert graph.decision == "decision"
    for x, decision in ((-1e-9, 0), (0.0, 1), (2.0, 1)):
        assert evaluate_float(graph, {"x": np.array([[x]])})["decision"].item() == decision


@pytest.mark.parametrize(
    "text",
    [
        'graph "m"\ninput %x: float[1,1]\n%y: float[1,1] = Relu(%x) @r\noutput %y',  # a regression
        'graph "m"\ninput %x: float[2,3]\n%y: float[2,3] = Softmax(%x) @s\noutput %y',  # two vectors
        'graph "m"\ninput %x: float[1,3]\n%y: float[1,3] = Relu(%x) @r\n%z: float[1,3] = Neg(%x) @n\noutput %y, %z',
    ],
)
def test_no_decision(text: str) -> None:
    graph = parse_graph(text)
    before = print_graph(graph)
    assert not DeriveDecision().run(graph)
    assert print_graph(graph) == before


def test_a_label_is_the_decision_and_no_output() -> None:
    graph = parse_graph(
        VECTOR
        + "%p: float[1,3] = Softmax(%x) @s\n%label: int64[1] = ArgMax(%p) {axis=1, keepdims=0} @a\noutput %label, %p"
    )
    assert DeriveDecision().run(graph)
    verify(graph)
    assert (graph.decision, graph.outputs) == ("label", ["p"])
    assert graph.producer("label").inputs == ("x",)
    assert not DeriveDecision().run(graph)


TWO = """
graph "m"
input %z: float[1,1]
const %one: float[] = [1.0]
%p: float[1,1] = Sigmoid(%z) @s from ("Sigmoid")
%q: float[1,1] = Sub(%one, %p) @sub from ("Sub")
%both: float[1,2] = Concat(%q, %p) {axis=1} @c from ("Concat")
"""


@pytest.mark.parametrize(
    "body", ["output %both", "%label: int64[1] = ArgMax(%both) {axis=1, keepdims=0} @a\noutput %label, %both"]
)
def test_two_classes_from_one_sigmoid(body: str) -> None:
    graph = parse_graph(TWO + body)
    assert DeriveDecision().run(graph)
    verify(graph)
    assert graph.decision is not None
    assert graph.outputs == ["both"]
    for z, decision in ((-1e-30, 0), (0.0, 0), (1e-30, 1)):  # the first of equal ones
        assert evaluate_float(graph, {"z": np.array([[z]])})[graph.decision].tolist() == [decision]


def test_two_scores_that_only_look_like_two_classes() -> None:
    graph = parse_graph(TWO.replace("[1.0]", "[2.0]") + "output %both")
    assert DeriveDecision().run(graph)
    assert graph.producer("decision").inputs == ("both",)


def test_nothing_is_left_of_a_softmax_that_only_a_label_used() -> None:
    graph = parse_graph(
        VECTOR + "%p: float[1,3] = Softmax(%x) @s\n%label: int64[1,1] = ArgMax(%p) {axis=1} @a\noutput %label"
    )
    assert DeriveDecision().run(graph)
    verify(graph)
    assert [n.op_type for n in graph] == ["ArgMax"]


def test_a_label_of_something_that_is_not_ordered_like_its_input() -> None:
    graph = parse_graph(
        'graph "m"\ninput %x: float[3,3]\n%p: float[3,3] = Softmax(%x) {axis=1} @s\nconst %i: int64[] = [0]\n'
        "%v: float[3] = Gather(%p, %i) {axis=1} @g\n%label: int64[] = ArgMax(%v) {axis=0, keepdims=0} @a\noutput %label"
    )
    assert DeriveDecision().run(graph)
    assert graph.producer("label").inputs == ("v",)


@pytest.mark.parametrize(
    "body",
    [
        "%a: int64[1] = ArgMax(%x) {axis=1, keepdims=0} @a\n%b: int64[1,1] = ArgMax(%x) {axis=1} @b\noutput %a, %b",
        "%a: int64[3] = ArgMax(%x) {axis=0, keepdims=0} @a\noutput %a",
    ],
)
def test_several_labels(body: str) -> None:
    with pytest.raises(UnsupportedModelError, match="one integer output"):
        DeriveDecision().run(parse_graph(VECTOR + body))


STEP = (
    'graph "m"\ninput %x: float[1,1]\nconst %zero: float[] = [0.0]\n%s: float[1,1] = Neg(%x) @n\n'
    "%g: bool[1,1] = GreaterOrEqual(%s, %zero) @g\n"
)


@pytest.mark.parametrize(
    ("body", "decision"),
    [
        ("output %g", "g"),
        ("%l: int64[1,1] = Cast(%g) {to=7} @c\noutput %l", "l"),
        ("%l: int64[1,1] = Cast(%g) {to=7} @c\n%f: float[1,1] = Cast(%l) {to=1} @d\noutput %f", "g"),
    ],
)
def test_a_step_is_the_decision_and_what_it_compares_is_the_output(body: str, decision: str) -> None:
    graph = parse_graph(STEP + body)
    keep_scores(graph)
    assert DeriveDecision().run(graph)
    verify(graph)
    assert (graph.decision, graph.outputs) == (decision, ["s"])
    for x, want in ((-1e-30, 1), (0.0, 1), (1e-30, 0)):
        assert int(evaluate_float(graph, {"x": np.array([[x]])})[decision].item()) == want


def test_a_bool_beside_a_score() -> None:
    graph = parse_graph(STEP + "output %s, %g")
    keep_scores(graph)
    assert DeriveDecision().run(graph)
    assert (graph.decision, graph.outputs) == ("g", ["s"])


def test_a_label_cast_to_float_is_a_label() -> None:
    graph = parse_graph(
        VECTOR
        + "%p: float[1,3] = Softmax(%x) @s\n%l: int64[1] = ArgMax(%p) {axis=1, keepdims=0} @a\n"
        + "%y: float[1] = Cast(%l) {to=1} @c\noutput %y"
    )
    keep_scores(graph)
    assert graph.outputs == ["y", "x"]
    assert DeriveDecision().run(graph)
    verify(graph)
    assert (graph.decision, graph.outputs) == ("l", ["x"])


def test_several_steps_as_floats_are_scores() -> None:
    graph = parse_graph(
        VECTOR
        + "const %zero: float[] = [0.0]\n%g: bool[1,3] = GreaterOrEqual(%x, %zero) @g\n"
        + "%y: float[1,3] = Cast(%g) {to=1} @c\noutput %y"
    )
    keep_scores(graph)
    assert DeriveDecision().run(graph)
    assert graph.outputs == ["y"]
    assert graph.producer("decision").inputs == ("y",)


def test_several_bools() -> None:
    graph = parse_graph(
        VECTOR + "const %zero: float[] = [0.0]\n%g: bool[1,3] = GreaterOrEqual(%x, %zero) @g\noutput %g"
    )
    with pytest.raises(UnsupportedModelError, match="one bool, of one element"):
        DeriveDecision().run(graph)
