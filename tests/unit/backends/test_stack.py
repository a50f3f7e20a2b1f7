"""What solc's settings are chosen by."""

from __future__ import annotations

import pytest

from ml2sc.backends.solidity.stack import settled
from ml2sc.ir.program import (
    InputFormat,
    Let,
    Load,
    Procedure,
    Program,
    Section,
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
