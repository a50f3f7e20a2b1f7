"""The builders fold constants and change no value."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ml2sc.ir import program as p
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.program import MASK, Apply, Const, For, OpCode, Segment, Storage, Var, const, to_signed

X = Var("x")
WORDS = st.one_of(st.integers(0, MASK), st.sampled_from([0, 1, MASK, 1 << 255, (1 << 255) - 1]))


def value_of(expr: p.Expr, x: int = 0) -> int:
    """Return what a program computes for an expression of the variable x."""
    body = (p.Let("x", Const(x)), p.Store("wad", const(0), expr))
    empty = p.Section("none", "", ())
    program = p.Program(
        p.InputFormat(0, 1, False, ()), 1, {"wad": 1}, {}, empty, (p.Section("s", "", body),), empty, False
    )
    return Interpreter(program).run(b"").outputs[0] & MASK


@given(WORDS, WORDS, st.integers(0, 12), st.integers(0, 255), st.integers(0, 255))
def test_bits_that_are_moved_up(x: int, mask: int, bits: int, further: int, down: int) -> None:
    taken = p.and_(p.shr(further, X), const(mask))
    for expr in (X, p.and_(X, const(mask)), taken, p.shr(down, taken), p.shr(down, X)):
        assert value_of(p.moved_up(bits, expr), x) == value_of(expr, x) << bits & MASK


FIELDS = [(8, 6), (8, 8), (16, 4), (16, 7), (32, 5), (128, 1)]


@given(st.integers(0, MASK), st.sampled_from(FIELDS), st.integers(0, 200))
def test_fields(x: int, kind: tuple[int, int], low: int) -> None:
    """A field is the number that bytes in memory say, and is known again for one."""
    (bits, count), words = kind, 9
    first = words - ((bits << count) >> 8)
    field = p.field_of("table", first, X, low, count, bits)
    table = Segment(tuple((MASK // 7 * number + x) & MASK for number in range(words)), Storage.CODE, words)
    memory = b"".join(word.to_bytes(32, "big") for word in table.words)
    at = 32 * first + bits // 8 * (x >> low & (1 << count) - 1)
    body = (
        p.CopySegment("table", const(0), words, "table"),
        p.Let("x", Const(x)),
        p.Store("wad", const(0), field),
    )
    empty = p.Section("none", "", ())
    program = p.Program(
        p.InputFormat(0, 1, False, ()),
        1,
        {"wad": 1, "table": words},
        {"table": table},
        empty,
        (p.Section("s", "", body),),
        empty,
        False,
    )
    assert Interpreter(program).run(b"").outputs[0] & MASK == int.from_bytes(memory[at : at + bits // 8], "big")
    found = p.as_field_of(field)
    assert found is not None
    assert (found[0], found[2]) == ("table", bits)
    assert value_of(found[1], x) == 256 // bits * first + (x >> low & (1 << count) - 1)
    assert p.as_field_of(p.byte_of("table", X)) is None


def test_constants_are_words() -> None:
    assert const(-1) == Const(MASK)
    assert to_signed(MASK) == -1
    assert to_signed((1 << 255) - 1) == (1 << 255) - 1
    assert to_signed(1 << 255) == -(1 << 255)


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (p.add(X, const(0)), X),
        (p.add(const(0), X), X),
        (p.add(const(3), X), Apply(OpCode.ADD, (X, const(3)))),
        (p.add(p.add(X, const(3)), const(4)), Apply(OpCode.ADD, (X, const(7)))),
        (p.add(p.add(X, const(3)), const(-3)), X),
        (p.add(const(-1), const(1)), const(0)),
        (p.sub(X, const(0)), X),
        (p.sub(const(3), const(5)), const(-2)),
        (p.mul(const(1), X), X),
        (p.mul(const(-2), const(3)), const(-6)),
        (p.mul(const(5), X), Apply(OpCode.MUL, (X, const(5)))),
        (p.shl(0, X), X),
        (p.shl(255, const(3)), const(1 << 255)),
        (p.shr(0, X), X),
        (p.sar(0, X), X),
        (p.sar(2, X), Apply(OpCode.SAR, (const(2), X))),
    ],
)
def test_folding(built: p.Expr, expected: p.Expr) -> None:
    assert built == expected


@given(WORDS, WORDS, WORDS, st.integers(0, 255))
def test_builders_compute_what_they_say(x: int, a: int, b: int, bits: int) -> None:
    for operand, known in ((X, x), (const(a), a)):
        assert value_of(p.add(operand, const(b)), x) == (known + b) & MASK
        assert value_of(p.add(const(b), operand), x) == (known + b) & MASK
        assert value_of(p.sub(operand, const(b)), x) == (known - b) & MASK
        assert value_of(p.mul(operand, const(b)), x) == (known * b) & MASK
        assert value_of(p.shl(bits, operand), x) == (known << bits) & MASK
        assert value_of(p.shr(bits, operand), x) == known >> bits
        assert value_of(p.sar(bits, operand), x) == (to_signed(known) >> bits) & MASK
    assert value_of(p.add(p.add(X, const(a)), const(b)), x) == (x + a + b) & MASK
    assert value_of(p.iszero(X), x) == (x == 0)


@given(st.fractions(min_value=Fraction(1, 1 << 90), max_value=Fraction(1 << 90)).filter(bool), st.integers(8, 130))
@example(Fraction(1), 8)
@example(Fraction(2), 8)
@example(Fraction(257, 256), 8)
@example(Fraction(8, 15), 8)
@example(Fraction((1 << 20) - 1, (1 << 19) + 1), 8)
@example((1 << 8) - Fraction(1, 1000), 8)
def test_rational_multiplier(ratio: Fraction, bits: int) -> None:
    multiplier, shift = p.rational_multiplier(ratio, bits)
    assert shift >= 0
    assert multiplier <= 1 << bits or shift == 0
    assert abs(Fraction(multiplier, 1 << shift) / ratio - 1) <= Fraction(1, 1 << bits)
    if ratio.denominator & (ratio.denominator - 1) == 0 and ratio.numerator < 1 << bits:
        assert Fraction(multiplier, 1 << shift) == ratio
        assert multiplier % 2 or shift == 0, "as small as possible"


def test_loops() -> None:
    body = p.loop("i", 3, [p.Store("wad", Var("i"), Var("j"))], start=1, step=2, also=[p.Induction("j", const(9), -1)])
    assert isinstance(body, For)
    assert [(i.name, i.start, i.step) for i in body.inductions] == [("i", const(1), 2), ("j", const(9), -1)]


def test_walks() -> None:
    inner = p.Store("b", p.Load("a", X), p.byte(const(0), p.LoadInput(const(4))))
    nested = p.If(X, (p.Block((p.loop("i", 2, [inner]),)),))
    assert [type(s).__name__ for s in p.walk([nested])] == ["If", "Block", "For", "Store"]
    assert list(p.expressions(inner)) == [inner.index, inner.value]
    parts = list(p.subexpressions(inner.value))
    assert parts[0] == inner.value
    assert p.LoadInput(const(4)) in parts
    assert const(4) in parts


def test_data_contracts() -> None:
    segment = Segment((1, 2, 3), Storage.DATA, per_contract=2)
    assert segment.contracts == 2
    assert Segment((1, 2, 3)).contracts == 0
    empty = p.Section("none", "", ())
    program = p.Program(
        p.InputFormat(0, 1, False, ()),
        0,
        {},
        {
            "code": Segment((9,)),
            "v": Segment((4,), Storage.DATA, 5),
            "w": segment,
            "u": Segment((5, 6), Storage.DATA, 2),
        },
        empty,
        (),
        empty,
        False,
    )
    words = [[int.from_bytes(d[i : i + 32], "big") for i in range(0, len(d), 32)] for d in program.data_contracts()]
    assert words == [[1, 2, 4, 5, 6], [3]]
    assert {name: (place.first, place.word) for name, place in program.places.items()} == {
        "w": (0, 0),
        "v": (0, 2),
        "u": (0, 3),
    }
    full = dataclasses.replace(program, segments={"v": Segment((1,) * 767, Storage.DATA, 767), "w": segment})
    assert full.places["v"].first == 2
    assert [len(d) // 32 for d in full.data_contracts()] == [2, 1, 767]


def test_words_are_made_once_and_only_if_one_is_asked_for() -> None:
    made: list[int] = []
    words = p.LaterWords(3, lambda: made.append(1) or [4, 5, 6])
    segment = Segment(words, Storage.DATA, per_contract=2)
    assert (segment.contracts, made) == (2, [])
    assert (list(words), words[1], words[1:]) == ([4, 5, 6], 5, [5, 6])
    assert made == [1]


def test_words_made_later_are_compared_by_value() -> None:
    first, second = (Segment(p.LaterWords(2, lambda: (1, 2)), Storage.DATA) for _ in range(2))
    assert first == second == Segment((1, 2), Storage.DATA)
    assert first != Segment(p.LaterWords(2, lambda: (1, 3)), Storage.DATA)
