from __future__ import annotations

import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from ml2sc.errors import Ml2scError, ShapeError, UnsupportedOperatorError, VerifyError
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.types import DType, FixedPoint
from ml2sc.ir.verify import verify

QUANTIZED = 'graph "q"\ninput %x: u8*1/255[1,2]\nconst %s: int64[1] = [2]\n'
HEAD = 'graph "m"\ninput %x: float[1,2]\nconst %W: float[2,2] = [1.0, 2.0, 3.0, 4.0]\n'


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "%y: float[1,2] = Gemm(%x, %W) @g\noutput %y",
        HEAD + "output %x",
        HEAD + "%y: float[1,2] = Relu(%x) @r\n%z: float[1,2] = Add(%y, %y) @a\noutput %z, %z",
        QUANTIZED + "%y: u8*1/255[2] in [0, 9] = Reshape(%x, %s) @r\noutput %y",
        f'graph "big"\nconst %c: s256*1[1] = [{-(2**255)}]\noutput %c',
    ],
)
def test_good_graphs(text: str) -> None:
    verify(parse_graph(text))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (HEAD + "tensor %t: float[1]\noutput %t", "output %t is made by nobody"),
        (HEAD + "tensor %t: float[1]\ndecision %t", "decision %t is made by nobody"),
        (
            HEAD + "tensor %t: float[1]\n%y: float[1] = Relu(%t) @r\noutput %y",
            r"'r' \(Relu\) uses tensor %t, which nobody makes",
        ),
        (HEAD + "%y: float[1,3] = Gemm(%x, %W) @g\noutput %y", r"%y is float\[1,3\], but Gemm gives float\[1,2\]"),
        (HEAD + "%y: int64[1,2] = Gemm(%x, %W) @g\noutput %y", r"%y is int64\[1,2\], but Gemm gives float\[1,2\]"),
        (HEAD + "%y: float[1,2], %z: float[1,2] = Relu(%x) @g\noutput %y", "has 2 outputs, but Relu makes 1"),
        (HEAD + "_ = Relu(%x) @r", "has no outputs"),
        (HEAD + "const %n: float[2] = [1.0, nan]\noutput %n", "%n has elements that are NaN or infinite"),
        (HEAD + "const %n: float[1] = [-inf]\noutput %n", "%n has elements that are NaN or infinite"),
        (HEAD + "const %q: s8*1[2] = [1, 128]\noutput %q", r"%q: elements \[1, 128\] leave the format s8\*1"),
        (HEAD + "const %q: u8*1[1] = [-1]\noutput %q", "leave the format"),
        (HEAD + "const %q: s8*1[1] in [0, 5] = [6]\noutput %q", r"leave the interval \[0, 5\]"),
        (HEAD + "tensor %q: s8*1[1] in [0, 200]", r"%q: its interval \[0, 200\] leaves its format"),
        (HEAD + "tensor %q: float[1] in [0, 2]", "%q has an interval, but is not fixed-point"),
        (
            QUANTIZED + "%y: u8*1/255[1,2] = Reshape(%x, %s) @r\noutput %y",
            "Reshape gives",
        ),
    ],
)
def test_broken_graphs(text: str, what: str) -> None:
    with pytest.raises(VerifyError, match=what):
        verify(parse_graph(text))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (HEAD + "%y: float[1,2] = Gru(%x) @g\noutput %y", UnsupportedOperatorError),
        (HEAD + "%y: float[1,2] = Gemm(%W, %x) @g\noutput %y", ShapeError),
        (HEAD + "%y: float[1,2] = Relu(%x, %x) @g\noutput %y", Ml2scError),
    ],
)
def test_operators_state_their_own_rules(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        verify(parse_graph(text))


def _graph() -> Graph:
    return parse_graph(HEAD + "%h: float[1,2] = Relu(%x) @r\n%y: float[1,2] = Gemm(%h, %W) @g\noutput %y")


def test_cycle() -> None:
    graph = _graph()
    graph.replace_node(graph.node("r"), inputs=("y",))
    with pytest.raises(VerifyError, match=r"cycle: 'r' \(Relu\), 'g' \(Gemm\)|cycle: 'g' \(Gemm\), 'r' \(Relu\)"):
        verify(graph)


def test_interface() -> None:
    graph = _graph()
    graph.inputs = ["x", "x"]
    with pytest.raises(VerifyError, match="input %x is listed 2 times"):
        verify(graph)
    graph.inputs = ["x", "W"]
    with pytest.raises(VerifyError, match="input %W is a constant"):
        verify(graph)
    graph.inputs = ["x", "h"]
    with pytest.raises(VerifyError, match=r"input %h is made by node 'r' \(Relu\)"):
        verify(graph)
    graph.inputs, graph.outputs = ["x"], ["nowhere"]
    with pytest.raises(VerifyError, match="output %nowhere does not exist"):
        verify(graph)


def test_node_that_makes_a_tensor_twice() -> None:
    graph = Graph()
    for name in ("x", "y"):
        graph.add_tensor(Tensor(name, (2,), DType.FLOAT))
    graph.inputs, graph.outputs = ["x"], ["y"]
    graph.add("Split", ["x"], ["y", "y"], name="s")
    with pytest.raises(VerifyError, match="%y is made twice"):
        verify(graph)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"data": np.zeros((2, 3))}, r"%W has shape \[2, 2\], its data \[2, 3\]"),
        ({"data": np.zeros((2, 2), dtype=np.float32)}, "its data are float32"),
        ({"real": np.zeros(4)}, r"%W has shape \[2, 2\], its real values \[4\]"),
        ({"type": FixedPoint(8, True, Fraction(1))}, "its data are float64"),
    ],
)
def test_constants(changes: dict[str, Any], what: str) -> None:
    graph = _graph()
    for field, value in changes.items():
        setattr(graph.tensor("W"), field, value)
    with pytest.raises(VerifyError, match=what):
        verify(graph)


def test_is_fast_enough_to_run_always() -> None:
    graph = Graph()
    graph.add_tensor(Tensor("t0", (1, 4), DType.FLOAT))
    graph.inputs = ["t0"]
    for i in range(2001):
        graph.add_tensor(Tensor(f"t{i + 1}", (1, 4), DType.FLOAT))
        graph.add("Add", [f"t{i}", "t0"], [f"t{i + 1}"], name=f"n{i}")
    graph.outputs = ["t2001"]
    times = []
    for _ in range(3):
        start = time.process_time()
        verify(graph)
        times.append(time.process_time() - start)
    assert min(times) < 0.5  # measured: 0.02 s; the margin is for slow machines
