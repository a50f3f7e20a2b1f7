"""The Program's text form: what is refused, with the line; and expressions deeper than calls can be."""

from __future__ import annotations

import pytest

from ml2sc.errors import IrSyntaxError
from ml2sc.ir.program import Const, Expr, Var, add
from ml2sc.ir.program_parser import parse_program
from ml2sc.ir.program_printer import expression_text

TEXT = """\
program
input 2 elements of 1 bytes unsigned
wad [0, 10] times 2
outputs 1
buffer wad words 1
segment w code words 2 per 0

quantize q "to integers" predict classify {
  for i = 0 step 1 times 2 {
    pack i width 1 = wad(i)
  }
}

dequantize d "to WAD" predict {
  # read back and stored
  store wad[0] = byte(0, input(0))
}

words w = [1, 0x2]
"""


def test_reads() -> None:
    program = parse_program(TEXT)
    assert program.segments["w"].words == (1, 2)
    assert program.input.wad_range == ((0, 10), (0, 10))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("wad(i)", "wad(i, i)", "line 10: wad takes 1, not 2"),
        ("byte(0, input(0))", "bite(0)", "line 16: there is no operation 'bite'"),
        ("store wad", "put wad", "line 16: expected one of note, let, .*, found 'put'"),
        ("[1, 0x2]", "[1]", "line 6: 2 words are declared, and 1 are given"),
        ("[1, 0x2]", f"[1, {1 << 256:#x}]", "line 19: .* is no word"),
        ("words w =", "words v =", "line 19: segment 'v' is not declared"),
        ("words w = [1, 0x2]", "", "line 6: segment 'w' has no words"),
        ("dequantize", "layer", "expected one section dequantize, found 0"),
        ("buffer wad words 1", "buffer wad words 1\nbuffer wad words 2", "line 6: buffer 'wad' is declared twice"),
        ("[0, 10]", "[0]", r"line 3: expected \[lo, hi\], found 1 numbers"),
        ("unsigned", "unknown", "line 2: expected signed or unsigned, found 'unknown'"),
        ("store wad[0] =", "store wad[=] =", "line 16: expected an expression, found '='"),
        ("outputs 1", "outputs ?", "line 4: cannot read"),
        (
            "words w = [1, 0x2]",
            "words w = [1, 0x2] more",
            "line 19: expected a section or the words of a segment, found 'more'",
        ),
    ],
)
def test_refused(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(IrSyntaxError, match=message):
        parse_program(TEXT.replace(old, new, 1))


def test_deep_expressions() -> None:
    expr: Expr = Var("x")
    for _ in range(20_000):
        expr = add(Const(1), add(expr, Var("x")))
    text = expression_text(expr)
    again = parse_program(TEXT.replace("byte(0, input(0))", text)).dequantize.body[0]
    assert expression_text(again.value) == text  # type: ignore[union-attr]
