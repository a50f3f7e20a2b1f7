"""fuse_activation: what exporters write out becomes one operator, with the same values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.passes.fuse_activation import FuseActivation

ROOT_HALF = float(np.float32(math.sqrt(0.5)))
ROOT_TWO = float(np.float32(math.sqrt(2)))
TANH_SCALE = float(np.float32(math.sqrt(2 / math.pi)))

FUSED = {
    "Swish": ("%s: float[1,3] = Sigmoid(%x) @a\n%y: float[1,3] = Mul(%s, %x) @b", ["Swish"]),
    "HardSwish": (
        "%s: float[1,3] = HardSigmoid(%x) {alpha=0.1666666716337204} @a\n%y: float[1,3] = Mul(%x, %s) @b",
        ["HardSwish"],
    ),
    "Mish": (
        "%p: float[1,3] = Softplus(%x) @a\n%t: float[1,3] = Tanh(%p) @b\n%y: float[1,3] = Mul(%x, %t) @c",
        ["Mish"],
    ),
    "Softsign": (
        (
            "%p: float[1,3] = Abs(%x) @a\n%t: float[1,3] = Add(%p, %one) @b\n"
            "%r: float[1,3] = Reciprocal(%t) @c\n%y: float[1,3] = Mul(%x, %r) @d"
        ),
        ["Softsign"],
    ),
    "Gelu, half last": (
        (
            "%d: float[1,3] = Div(%x, %roottwo) @a\n%e: float[1,3] = Erf(%d) @b\n%p: float[1,3] = Add(%e, %one) @c\n"
            "%m: float[1,3] = Mul(%x, %p) @d\n%y: float[1,3] = Mul(%m, %half) @e"
        ),
        ["Gelu"],
    ),
    "Gelu, half first": (
        (
            "%d: float[1,3] = Mul(%roothalf, %x) @a\n%e: float[1,3] = Erf(%d) @b\n%p: float[1,3] = Add(%one, %e) @c\n"
            "%h: float[1,3] = Mul(%x, %half) @d\n%y: float[1,3] = Mul(%p, %h) @e"
        ),
        ["Gelu"],
    ),
    "Gelu without its half": (
        (
            "%d: float[1,3] = Mul(%roothalf, %x) @a\n%e: float[1,3] = Erf(%d) @b\n%p: float[1,3] = Add(%one, %e) @c\n"
            "%y: float[1,3] = Mul(%p, %x) @e"
        ),
        ["Gelu", "Mul"],
    ),
    "Gelu, tanh": (
        (
            "%s: float[1,3] = Mul(%x, %x) @a\n%c: float[1,3] = Mul(%s, %x) @b\n%k: float[1,3] = Mul(%c, %cubic) @c\n"
            "%a: float[1,3] = Add(%x, %k) @d\n%i: float[1,3] = Mul(%a, %tanhscale) @e\n%t: float[1,3] = Tanh(%i) @f\n"
            "%p: float[1,3] = Add(%t, %one) @g\n%h: float[1,3] = Mul(%x, %half) @h\n%y: float[1,3] = Mul(%h, %p) @i"
        ),
        ["Gelu"],
    ),
    "Gelu, tanh, with Pow": (
        (
            "%c: float[1,3] = Pow(%x, %three) @b\n%k: float[1,3] = Mul(%cubic, %c) @c\n"
            "%a: float[1,3] = Add(%x, %k) @d\n%i: float[1,3] = Mul(%tanhscale, %a) @e\n%t: float[1,3] = Tanh(%i) @f\n"
            "%p: float[1,3] = Add(%t, %one) @g\n%h: float[1,3] = Mul(%p, %half) @h\n%y: float[1,3] = Mul(%x, %h) @i"
        ),
        ["Gelu"],
    ),
}
KEPT = {
    "a gate of something else": "%z: float[1,3] = Neg(%x) @n\n%s: float[1,3] = Sigmoid(%z) @a\n"
    "%y: float[1,3] = Mul(%s, %x) @b",
    "another scale": "%d: float[1,3] = Mul(%half, %x) @a\n%e: float[1,3] = Erf(%d) @b\n"
    "%p: float[1,3] = Add(%one, %e) @c\n%y: float[1,3] = Mul(%p, %x) @e",
    "another cubic term": "%c: float[1,3] = Pow(%x, %three) @b\n%a: float[1,3] = Add(%x, %c) @d\n"
    "%i: float[1,3] = Mul(%tanhscale, %a) @e\n%t: float[1,3] = Tanh(%i) @f\n%p: float[1,3] = Add(%t, %one) @g\n"
    "%y: float[1,3] = Mul(%x, %p) @i",
    "a polynomial of too high a degree": "%c: float[1,3] = Pow(%x, %three) @b\n%k: float[1,3] = Mul(%c, %x) @d\n"
    "%t: float[1,3] = Tanh(%k) @f\n%p: float[1,3] = Add(%t, %one) @g\n%y: float[1,3] = Mul(%x, %p) @i",
    "another slope": "%s: float[1,3] = HardSigmoid(%x) {alpha=0.2} @a\n%y: float[1,3] = Mul(%x, %s) @b",
}


def graph_of(body: str) -> Graph:
    values = {
        "one": 1.0,
        "half": 0.5,
        "three": 3.0,
        "roottwo": ROOT_TWO,
        "roothalf": ROOT_HALF,
        "tanhscale": TANH_SCALE,
        "cubic": 0.044714998453855515,
    }
    constants = "".join(f"const %{k}: float[] = [{v!r}]\n" for k, v in values.items() if f"%{k}" in body)
    return parse_graph(f'graph "g"\ninput %x: float[1,3]\nrange %x [-9.0, 9.0]\n{constants}{body}\noutput %y\n')


def values_of(graph: Graph) -> np.ndarray:
    points = (-9.0, -0.7, 0.0, 1e-3, 0.5, 8.0)
    samples = [np.array([[v, v / 2, -v]]) for v in points]
    return np.concatenate([evaluate_float(graph, {"x": s})["y"] for s in samples])


@pytest.mark.parametrize("name", FUSED)
def test_fused(name: str) -> None:
    body, wanted = FUSED[name]
    graph = graph_of(body)
    before = values_of(graph)
    assert FuseActivation().run(graph)
    assert [node.op_type for node in graph] == wanted
    np.testing.assert_allclose(values_of(graph), before, rtol=0, atol=2e-14)
    assert not FuseActivation().run(graph)


@pytest.mark.parametrize("name", KEPT)
def test_kept(name: str) -> None:
    graph = graph_of(KEPT[name])
    kinds = [node.op_type for node in graph]
    assert not FuseActivation().run(graph)
    assert [node.op_type for node in graph] == kinds


def test_what_others_use_stays() -> None:
    body = FUSED["Swish"][0] + "\n%z: float[1,3] = Neg(%s) @z"
    graph = graph_of(body)
    graph.outputs.append("z")
    assert FuseActivation().run(graph)
    assert sorted(node.op_type for node in graph) == ["Neg", "Sigmoid", "Swish"]
