"""What solc's settings are chosen by."""

from __future__ import annotations

import pytest

from ml2sc.backends.solidity.memory import memory_map
from ml2sc.backends.solidity.printer import Printer
from ml2sc.backends.solidity.stack import decided, settled
from ml2sc.ir.program import (
    Assign,
    If,
    InputFormat,
    Let,
    Load,
    Procedure,
    Program,
    Section,
    Statement,
    Store,
    Var,
    add,
    const,
    loop,
    mul,
)


@pytest.mark.parametrize("shared", [False, True])
def test_held_taps_are_found_in_procedures_too(shared: bool) -> None:
    total = mul(Load("window", const(0)), Var("k"))
    for place in range(1, 5):
        total = add(mul(Load("window", const(place)), Var("k")), total)
    body = (loop("c", 8, [Let("k", Var("c")), Store("sums", const(0), total)]),)
    program = Program(
        input=InputFormat(1, 1, signed=False, wad_range=((0, 0),)),
        outputs=1,
        buffers={"window": 5, "sums": 1, "wad": 1},
        segments={},
        quantize=Section("quantize", "", ()),
        layers=(Section("layer", "", () if shared else body),),
        dequantize=Section("dequantize", "", ()),
        has_decision=False,
        procedures={"like_layer": Procedure("like_layer", "", (), (), (), body)} if shared else {},
    )
    assert settled(program)


def branching(*body: Statement) -> Program:
    nothing = Section("none", "", ())
    layer = Section("layer", "", (Let("x", const(1)), *body, Store("wad", const(0), Var("x"))))
    return Program(
        InputFormat(1, 1, signed=False, wad_range=((0, 0),)), 1, {"wad": 1}, {}, nothing, (layer,), nothing, False
    )


def set_to(value: int) -> tuple[Statement, ...]:
    return (Assign("x", const(value)),)


def printed(program: Program) -> str:
    lines = Printer(program, memory_map(program), {}).section(program.layers[0], 0)
    return " ".join(line.strip() for line in lines)


def test_ways_in_ways_leave_all_at_once() -> None:
    inner = If(Var("x"), set_to(2), set_to(3))
    for alone in (If(Var("x"), set_to(4), set_to(5)), If(Var("x"), (If(Var("x"), set_to(4)),))):
        assert not decided(branching(alone))
        assert "break" not in printed(branching(alone))
    first, only = branching(If(Var("x"), (inner,), set_to(6))), branching(If(Var("x"), (If(Var("x"), (inner,)),)))
    assert decided(first)
    assert decided(only)
    ways = "if x { x := 2 break } x := 3 break"
    assert f"for {{ }} 1 {{ }} {{ if x {{ {ways} }} x := 6 break }}" in printed(first)
    assert f"for {{ }} 1 {{ }} {{ if x {{ if x {{ {ways} }} break }} break }}" in printed(only)
