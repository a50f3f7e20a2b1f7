"""Functions in tables: a laned operand stays in its lanes, whatever has been moved on the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import heavy

from ml2sc.ir.graph import Graph
from ml2sc.passes.precision import Integer, Precision

from .conftest import Agree

HIDDEN = 30


def network(body: str) -> str:
    """Return a layer, what makes %s: float[1,30] of its output %h, and another layer."""
    matrices = {"W": (4, HIDDEN), "V": (HIDDEN, 3)}
    constants = "\n".join(
        f"const %{name}: float[{k},{n}] = [{', '.join(str((7 * i % 23 - 11) / 8) for i in range(k * n))}]"
        for name, (k, n) in matrices.items()
    )
    layer = f"%h: float[1,{HIDDEN}] = Gemm(%x, %W) @first"
    last = "%y: float[1,3] = Gemm(%s, %V) @last\noutput %y"
    return f'graph "m"\ninput %x: float[1,4]\nrange %x [-2.0, 3.0]\n{constants}\n{layer}\n{body}\n{last}'


CASES = {
    "one": "%s: float[1,30] = Tanh(%h) @f",
    "one after the other": "%a: float[1,30] = Gelu(%h) @f\n%s: float[1,30] = Sigmoid(%a) @g",
    "clipped before": "%a: float[1,30] = Relu(%h) @r\n%s: float[1,30] = Tanh(%a) @f",
    "reversed between": (
        f"const %i: int64[30] = {list(range(HIDDEN))[::-1]}\n"
        "%a: float[1,30] = Gelu(%h) @e\n%b: float[1,30] = Gather(%a, %i) {axis=1} @t\n%s: float[1,30] = Tanh(%b) @f"
    ),
}
PRECISIONS: list[Precision] = [Integer(8, 8), Integer(4, 4), Integer(2, 2), Integer(8, 10)]


@pytest.mark.parametrize(("name", "precision"), heavy.in_turns(2, CASES, PRECISIONS), ids=str)
def test_lanes_stay(
    quantised: Callable[[str, Precision], Graph], agree: Agree, name: str, precision: Precision
) -> None:
    program = agree(quantised(network(CASES[name]), precision))
    assert not [s.name for s in program.layers if s.name.startswith("unpack") and "last" not in s.name]


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
def test_parts_of_words(quantised: Callable[[str, Precision], Graph], agree: Agree, precision: Precision) -> None:
    text = network(
        "const %parts: int64[2] = [7, 23]\n%a: float[1,30] = Gelu(%h) @e\n"
        "%b: float[1,7], %c: float[1,23] = Split(%a, %parts) {axis=1} @split\n"
        "%d: float[1,7] = Tanh(%b) @f\n%e: float[1,23] = Sigmoid(%c) @g\n"
        "%s: float[1,30] = Concat(%e, %d) {axis=1} @join"
    )
    program = agree(quantised(text, precision))
    assert not [s.name for s in program.layers if s.name in {"unpack_first_out", "unpack_e_out"}]


def test_entries_wider_than_a_lane_go_one_by_one(quantised: Callable[[str, Precision], Graph], agree: Agree) -> None:
    """A sum reads 16 bits of a result; lanes of so few inputs of 2 bits have less room."""
    text = network("%a: float[1,30] = Tanh(%h) @f\n%s: float[1,30] = Add(%a, %h) @sum")
    program = agree(quantised(text, Integer(2, 2)))
    assert any(section.name.startswith("unpack_first") for section in program.layers)


def test_an_input_is_looked_up_directly(quantised: Callable[[str, Precision], Graph], agree: Agree) -> None:
    text = network("%a: float[1,30] = Relu(%h) @r\n%s: float[1,30] = Tanh(%a) @f").replace("Gemm(%x, ", "Gemm(%t, ")
    agree(quantised(text.replace("%h: float", "%t: float[1,4] = Sigmoid(%x) @in\n%h: float"), Integer(8, 8)))
