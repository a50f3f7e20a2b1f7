"""A procedure's words in memory: it does the same, and has none beside what it computes."""

from __future__ import annotations

from dataclasses import replace

from ml2sc.ir import program as p
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.program import Call, Let, Load, Procedure, Store, Var, add, const, mul
from ml2sc.ir.spilled import kept, spilled


def test_it_does_the_same() -> None:
    loop = p.loop("i", 4, [Store("out", Var("i"), add(mul(Var("k0"), Load("in", Var("i"))), Var("k1")))])
    procedure = Procedure("f", "", ("k0", "k1", "unused"), ("in",), ("out",), (Let("one", const(1)), loop))
    sections = [
        p.Section(
            name,
            "",
            (
                *(Store(f"{name}_in", const(n), const(n + first)) for n in range(4)),
                Call("f", tuple(map(const, words)), (f"{name}_in",), (f"{name}_out",)),
            ),
        )
        for name, first, words in (("a", 3, (5, 7, 1)), ("b", 9, (11, 13, 2)))
    ]
    total = add(mul(const(100), Load("a_out", const(3))), Load("b_out", const(3)))
    buffers = {"wad": 1, "in": 4, "out": 4} | {f"{name}_{way}": 4 for name in "ab" for way in ("in", "out")}
    empty = p.Section("none", "", ())
    program = p.Program(
        input=p.InputFormat(8, 1, False, ()),
        outputs=1,
        buffers=buffers,
        segments={},
        quantize=empty,
        layers=tuple(sections),
        dequantize=p.Section("last", "", (Store("wad", const(0), total),)),
        has_decision=False,
        procedures={"f": procedure},
    )
    made = replace(program, procedures={"f": spilled(procedure, "f_words")}, buffers={**buffers, "f_words": 3})
    assert Interpreter(made).run(bytes(8)) == Interpreter(program).run(bytes(8))
    assert Interpreter(made).run(bytes(8)).outputs == (100 * (5 * 6 + 7) + 11 * 12 + 13,)
    assert kept(procedure.body, procedure.words) == 2
    assert kept(made.procedures["f"].body, procedure.words) == 0
