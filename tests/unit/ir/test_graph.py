from __future__ import annotations

import pytest

from ml2sc.errors import VerifyError
from ml2sc.ir.dot import to_dot
from ml2sc.ir.graph import Graph, Tensor, Use
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.printer import print_graph
from ml2sc.ir.types import DType
from ml2sc.ir.verify import verify

TEXT = """\
graph "m"
input %x: float[1,2]
const %c: float[2] = [1.0, 2.0]

%h: float[1,2] = Relu(%x) @r from ("a")
%s: float[1,2] = Add(%h, %h) @add
%y: float[1,2] = Mul(%s, %c) @mul

output %y
"""


@pytest.fixture
def graph() -> Graph:
    return parse_graph(TEXT)


def test_reading(graph: Graph) -> None:
    assert [n.name for n in graph] == ["r", "add", "mul"]
    assert len(graph) == 3
    assert graph.producer("h") == graph.node("r")
    assert graph.producer("x") is None
    assert graph.uses("h") == [Use(graph.node("add"), 0), Use(graph.node("add"), 1)]
    assert graph.only_use("h") is None  # used twice, though by one node
    assert graph.only_use("s") is graph.node("mul")
    assert graph.only_use("y") is None
    assert graph.is_ancestor("r", "mul")
    assert not graph.is_ancestor("mul", "r")


def test_the_decision_counts_as_a_use(graph: Graph) -> None:
    graph.decision = "s"
    assert graph.only_use("s") is None


def test_both_edges_of_a_tensor_used_twice_are_kept(graph: Graph) -> None:
    edges = list(graph.to_networkx().edges(keys=True))
    assert edges == [("r", "add", 0), ("r", "add", 1), ("add", "mul", 0)]


def test_replace_node_keeps_its_place() -> None:
    graph = parse_graph(
        'graph "m"\ninput %x: float[1]\n%a: float[1] = Relu(%x) @a\n%b: float[1] = Relu(%x) @b\noutput %a, %b'
    )
    graph.replace_node(graph.node("a"), op_type="Neg")
    assert [(n.name, n.op_type) for n in graph] == [("a", "Neg"), ("b", "Relu")]


def test_nodes_may_come_in_any_order() -> None:
    graph = Graph()
    for name in "xyz":
        graph.add_tensor(Tensor(name, (1,), DType.FLOAT))
    graph.inputs, graph.outputs = ["x"], ["z"]
    graph.add("Neg", ["y"], ["z"], name="second")
    graph.add("Relu", ["x"], ["y"], name="first")
    assert [n.name for n in graph] == ["first", "second"]
    verify(graph)


def test_replace_uses_reaches_nodes_outputs_and_decision(graph: Graph) -> None:
    graph.decision = "s"
    graph.outputs = ["s", "y"]
    graph.replace_uses("s", "h")
    assert (graph.node("mul").inputs, graph.outputs, graph.decision) == (("h", "c"), ["h", "y"], "h")


def test_rename_tensor(graph: Graph) -> None:
    graph.input_ranges["x"] = (0.0, 1.0)
    graph.decision = "y"
    for old, new in (("x", "in"), ("h", "hidden"), ("y", "out")):
        graph.rename_tensor(old, new)
    verify(graph)
    assert (graph.inputs, graph.outputs, graph.decision) == (["in"], ["out"], "out")
    assert graph.input_ranges == {"in": (0.0, 1.0)}
    assert graph.node("add").inputs == ("hidden", "hidden")
    assert graph.producer("hidden") == graph.node("r")
    assert graph.tensor("hidden").name == "hidden"
    with pytest.raises(VerifyError, match="exists twice"):
        graph.rename_tensor("in", "out")


def test_remove_and_prune(graph: Graph) -> None:
    assert not graph.prune()
    graph.outputs = ["h"]
    assert graph.prune()
    assert [n.name for n in graph] == ["r"]
    assert list(graph.tensors) == ["x", "h"]


def test_prune_keeps_inputs_and_what_the_decision_needs(graph: Graph) -> None:
    graph.outputs, graph.decision = [], "h"
    graph.prune()
    assert list(graph.tensors) == ["x", "h"]
    graph.decision = None
    graph.prune()
    assert list(graph.tensors) == ["x"]


def test_names(graph: Graph) -> None:
    assert graph.fresh("new") == "new"
    assert graph.fresh("h") == "h.1"
    assert graph.fresh("add") == "add.1"  # a node has it
    assert graph.add("Neg", ["y"], [], name="mul").name == "mul.1"


def test_bad_additions(graph: Graph) -> None:
    with pytest.raises(VerifyError, match="%h exists twice"):
        graph.add_tensor(Tensor("h", (1,), DType.FLOAT))
    with pytest.raises(VerifyError, match="names tensor %nowhere, which does not exist"):
        graph.add("Neg", ["nowhere"], ["y"])
    with pytest.raises(VerifyError, match=r"%h is made by 'r' \(Relu\) from 'a' and by 'neg' \(Neg\)"):
        graph.add("Neg", ["x"], ["h"])


def test_copy_is_independent(graph: Graph) -> None:
    graph.observed["h"] = (0.0, 1.0)
    copy = graph.copy()
    assert print_graph(copy) == print_graph(graph)
    copy.rename_tensor("h", "other")
    copy.set_type("y", DType.INT64)
    copy.observed["y"] = (0.0, 1.0)
    copy.outputs.append("x")
    assert print_graph(graph) == TEXT.replace("output %y\n", "output %y\nobserved %h [0.0, 1.0]\n")
    assert copy.tensor("c").data is graph.tensor("c").data


def test_dot(graph: Graph) -> None:
    graph.decision = "s"
    dot = to_dot(graph)
    assert dot.startswith('digraph "m" {\n')
    assert '"node mul" [label="Mul @mul\\n%c: float[2]"];' in dot
    assert dot.count('"node r" -> "node add" [label="%h\\nfloat[1,2]"];') == 2
    assert '"input x" -> "node r" [label="%x\\nfloat[1,2]"];' in dot
    assert '"node mul" -> "output y"' in dot
    assert '"node add" -> "decision s"' in dot
