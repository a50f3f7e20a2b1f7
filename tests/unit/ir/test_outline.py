"""Sections that are alike become calls of one procedure, and the program does what it did."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from support.networks import dense
from support.random_models import Limits, seeded_case

import ml2sc
from ml2sc.errors import IrSyntaxError, Ml2scError, VerifyError
from ml2sc.ir.interpret import Interpreter, ProgramError
from ml2sc.ir.outline import MOST_WORDS, Alike, alike, outlined, worthwhile
from ml2sc.ir.procedures import expanded
from ml2sc.ir.program import (
    CONTRACT_WORDS,
    CopySegment,
    Load,
    Program,
    Section,
    Segment,
    Storage,
    Store,
    add,
    calls_of,
    const,
    walk,
)
from ml2sc.ir.program_parser import parse_program
from ml2sc.ir.program_printer import print_program
from ml2sc.ir.program_verify import unproved, verify_program

TEXT = """\
program
input 2 elements of 1 bytes unsigned
wad [0, 10] times 2
outputs 1
buffer a words 2
buffer b words 2
buffer c words 2
buffer wad words 1

quantize q "to integers" predict classify {
  for i = 0 step 1 times 2 {
    pack i width 1 = wad(i)
  }
}

layer first "reads" predict {
  store a[0] = byte(0, input(0))
  store a[1] = byte(0, input(1))
}

layer second "twice and 3 more" predict {
  note "its own"
  for i = 0 step 1 times 2 {
    let x = a[i]
    set x = add(mul(x, 2), 3)
    store b[i] = add(x, 3)
  }
}

layer third "thrice and 5 more" predict {
  for i = 0 step 1 times 2 {
    let y = b[i]
    set y = add(mul(y, 3), 5)
    store c[i] = add(y, 5)
  }
}

dequantize d "to WAD" predict {
  store wad[0] = add(c[0], c[1])
}
"""


def program() -> Program:
    return parse_program(TEXT)


def test_alike() -> None:
    assert alike(program()) == [Alike(("second", "third"))]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("let y = b[i]", "let y = sub(b[i], 1)"),
        ("set y = add(mul(y, 3), 5)", "set y = mul(add(y, 3), 5)"),
        ("store c[i] = add(y, 5)", "store c[sub(1, i)] = add(y, 5)"),
        ("mul(y, 3)", "mod(y, 3)"),
    ],
)
def test_not_alike(old: str, new: str) -> None:
    assert old in TEXT
    assert alike(parse_program(TEXT.replace(old, new))) == []


def test_equal_constants_are_one_argument() -> None:
    shared = outlined(program(), alike(program()))
    (procedure,) = shared.procedures.values()
    assert len(procedure.words) == 2  # 2 or 3, and 3 or 5, which comes twice
    (call,) = calls_of(shared.layers[1].body)
    assert (call.takes, call.gives) == (("a",), ("b",))
    assert shared.layers[1].facts["procedure"] == procedure.name
    assert "its own" in print_program(shared)
    verify_program(shared)
    assert Interpreter(shared).predict(bytes([4, 5])) == Interpreter(program()).predict(bytes([4, 5])) == (110,)


def test_tables_too_long_for_a_data_contract_stay_in_the_code() -> None:
    one = program()
    tables = {f"{s.name}_table": Segment((*range(CONTRACT_WORDS), n)) for n, s in enumerate(one.layers[1:])}
    copying = (
        replace(s, body=(CopySegment(name, const(0), CONTRACT_WORDS + 1, name), *s.body, last(s, name)))
        for s, name in zip(one.layers[1:], tables, strict=True)
    )
    first = replace(one.layers[0], body=(*one.layers[0].body, CopySegment("other", const(0), 1, "spare")))
    long = replace(
        one,
        buffers={**one.buffers, **dict.fromkeys(tables, CONTRACT_WORDS + 1), "spare": 1},
        segments={"other": Segment((1,), Storage.DATA, 1), **tables},
        layers=(first, *copying),
    )
    shared = outlined(long, alike(long))
    verify_program(shared)
    assert shared.procedures
    assert {segment.storage for name, segment in shared.segments.items() if name != "other"} == {Storage.CODE}
    assert Interpreter(shared).predict(bytes([4, 5])) == Interpreter(long).predict(bytes([4, 5])) == (111,)


def last(section: Section, table: str) -> Store:
    """Return what adds a table's last word to the section's last result."""
    (result,) = (s.buffer for s in walk(section.body) if isinstance(s, Store))
    return Store(result, const(1), add(Load(result, const(1)), Load(table, const(CONTRACT_WORDS))))


def test_text_form() -> None:
    shared = outlined(program(), alike(program()))
    text = print_program(shared)
    assert "call like_second(2, 3) takes a gives b" in text
    assert parse_program(text) == shared
    with pytest.raises(IrSyntaxError):
        parse_program(text.replace("takes a gives b", "gives b takes a"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("call like_second(2, 3)", "call like_second(2)", "like_second has 2 arguments, not 1"),
        ("call like_second(2, 3)", "call like_third(2, 3)", "there is no procedure like_third"),
        ("takes a gives b", "gives b", "like_second has 1 buffers to take, not 0"),
        ("takes a gives b", "takes a gives wad", "wad has another length than like_second_1"),
        ("takes a gives b", "takes a gives e", "there is no buffer e"),
        ("call like_second(2, 3) takes a gives b", "block { call like_second(2, 3) takes a gives b }", "in a branch"),
        ("call like_second(2, 3)", "store b[0] = 1\n  call like_second(2, 3)", "beside other statements"),
        ("byte(0, input(1))", "like_second_0[0]", "buffer like_second_0 is of"),
        ("takes a gives b", "takes b gives a", "word 0 of buffer b .* is read"),
        ('like_second "', 'first "', "two sections are called first|there is no procedure"),
    ],
)
def test_verifier_refuses(old: str, new: str, message: str) -> None:
    text = print_program(outlined(program(), alike(program())))
    assert old in text
    with pytest.raises(VerifyError, match=message):
        verify_program(parse_program(text.replace(old, new, 1)))


@cache
def compiled(**options: object) -> Program:
    model = dense(*[16] * 6, 3)
    lifted = ml2sc.lift(model, "solidity", "int8", input_ranges=((-1.0, 1.0),), **options)
    return ml2sc.lower(ml2sc.quantize(lifted)).program


def test_many_constants_are_a_table() -> None:
    for where in ("code", "data"):
        before = compiled(weights=where)
        after = outlined(before, alike(before))
        unproved(after)
        assert all(len(procedure.words) <= MOST_WORDS + 2 for procedure in after.procedures.values())
        tables = [segment for name, segment in after.segments.items() if "_constants" in name]
        assert {segment.storage.value for segment in tables} == {where}
        x = bytes(range(16))
        assert Interpreter(after).predict(x) == Interpreter(before).predict(x)


def test_weights_are_one_segment() -> None:
    before = compiled(weights="data")
    after = outlined(before, alike(before))
    unproved(after)
    (procedure, *_) = after.procedures.values()
    copied = {s.segment for s in walk(procedure.body) if isinstance(s, CopySegment)}
    assert len(after.segments) < len(before.segments)
    assert len(after.data_contracts()) <= len(before.data_contracts())
    assert copied & after.segments.keys() == copied
    x = bytes(range(16))
    assert Interpreter(after).predict(x) == Interpreter(before).predict(x)


def test_chosen_by_price() -> None:
    one, size = program(), {0: 100, 1: 60}

    def measure(gas: float):  # noqa: ANN202
        return lambda p: (gas * len(p.procedures), size[len(p.procedures)])

    assert not worthwhile(one, measure(50), 100, 1)  # 50 gas for 40 bytes at 1 gas
    assert worthwhile(one, measure(30), 100, 1) == alike(one)
    assert worthwhile(one, measure(50), 99, 1) == alike(one)  # or else it would not fit


def test_random_models() -> None:
    """Of the random models that compile, those with sections that are alike."""
    seen = 0
    for seed in (*range(100, 112), 120, 146):
        case = seeded_case(seed, Limits(depth=6, width=8, widest=40))
        try:
            lifted = ml2sc.lift(case.model, calibration=case.calibration, **case.options)
            found = ml2sc.lower(ml2sc.quantize(lifted)).program
        except Ml2scError:
            continue
        before = expanded(found)
        after = outlined(before, alike(before))
        unproved(after)
        assert parse_program(print_program(after)) == after
        rng = np.random.default_rng(seed)
        for x in (rng.bytes(before.input.length) for _ in range(3)):
            assert answer(after, x) == answer(before, x)
        seen += bool(after.procedures)
    assert seen >= 4


def answer(program: Program, x: bytes) -> object:
    try:
        return Interpreter(program).run(x)
    except ProgramError as error:
        return str(error)


def test_no_group() -> None:
    one = parse_program(TEXT.replace("mul(y, 3)", "mod(y, 3)"))
    assert worthwhile(one, lambda _: (0.0, 0), 0, 1.0) == []
