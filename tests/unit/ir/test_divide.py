"""Programs in several contracts: where they are cut, what is passed, and what the verifier refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ml2sc.errors import VerifyError
from ml2sc.ir.divide import ADDRESSES, INPUT, Room, apart, divided, passed, spread
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.program import Program
from ml2sc.ir.program_parser import parse_program
from ml2sc.ir.program_printer import print_program
from ml2sc.ir.program_verify import verify_program

TEXT = """\
program
input 2 elements of 1 bytes unsigned
wad [0, 10] times 2
outputs 1
buffer wide words 8
buffer narrow words 1
buffer own words 1
buffer wad words 1
buffer weights words 1
segment w data words 1 per 1

quantize q "to integers" predict classify {
  for i = 0 step 1 times 2 {
    pack i width 1 = wad(i)
  }
}

layer first "reads" predict {
  for i = 0 step 1 times 8 {
    store wide[i] = add(byte(0, input(0)), i)
  }
}

layer second "adds up" predict {
  let total = 0
  for i = 0 step 1 times 8 {
    set total = add(total, wide[i])
  }
  store narrow[0] = total
}

layer third "weighs" predict {
  copy w[0] words 1 to weights
  store own[0] = mul(narrow[0], weights[0])
  store narrow[0] = own[0]
}

dequantize d "to WAD" predict {
  store wad[0] = narrow[0]
}

words w = [3]
"""

SIZES = {"q": 50, "first": 100, "second": 100, "third": 100, "d": 50}


def program(*contracts: int) -> Program:
    whole = parse_program(TEXT)
    numbers = contracts or (0, 0, 0)
    return replace(
        whole,
        layers=tuple(replace(s, contract=n) for s, n in zip(whole.layers, numbers, strict=True)),
    )


def contracts(found: Program | None) -> list[int]:
    assert found is not None
    return [section.contract for section in found.layers]


def test_cut_at_the_fewest_words() -> None:
    """Eight words pass from the first layer to the second, one from there on."""
    assert contracts(spread(program(), SIZES, Room(100 + 256, 200, 10))) == [1, 1, 0]


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (Room(500, 500, 10), [0, 0, 0]),  # what fits is not cut
        (Room(100 + 128, 300, 10), [1, 1, 1]),  # a call more than one is dearer than words
        (Room(100 + 384, 100, 10), [0, 0, 0]),
    ],
)
def test_as_few_as_can_be(room: Room, expected: list[int]) -> None:
    assert contracts(spread(program(), SIZES, room)) == expected


@pytest.mark.parametrize("room", [Room(60, 500, 10), Room(150, 99, 10)])
def test_what_cannot_be_cut(room: Room) -> None:
    """The frame alone is too large; or a layer is larger than a code contract, and does not fit beside the frame."""
    assert spread(program(), SIZES, room) is None


def test_what_is_passed() -> None:
    whole = divided(program(1, 2, 2))
    first, second = (part.procedure for part in whole.parts)
    assert (first.takes, first.gives, first.packed, first.weights) == ((), ("wide",), True, False)
    assert (second.takes, second.gives, second.packed, second.weights) == (("wide",), ("narrow",), False, True)
    assert passed(program(), first) == [(INPUT, 2)]
    assert passed(program(), second) == [(ADDRESSES, 1), ("wide", 8)]
    assert [section.name for section in whole.main.layers] == ["code1", "code2"]
    assert "own" not in whole.main.buffers
    assert "own" in whole.parts[1].program.buffers
    assert [len(part.program.layers) for part in whole.parts] == [1, 2]


def test_undivided() -> None:
    assert divided(program()).main == program()
    assert divided(program()).parts == ()


def test_text_form_and_answers() -> None:
    cut = program(1, 0, 2)
    text = print_program(cut)
    assert 'layer third "weighs" predict contract 2 {' in text
    assert parse_program(text) == cut
    verify_program(cut)
    assert Interpreter(cut).predict(b"\x01\x00") == Interpreter(program()).predict(b"\x01\x00") == (108,)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [((1, 0, 1), "runs of layers"), ((2, 2, 0), "runs of layers"), ((0, 2, 1), "runs of layers")],
)
def test_verifier_refuses(numbers: tuple[int, ...], message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        verify_program(program(*numbers))


CALLING = """\
program
input 1 elements of 1 bytes unsigned
outputs 1
buffer a words 1
buffer b words 1
buffer wad words 1
buffer x words 1
buffer y words 1
segment w data words 2 per 2

quantize q "nothing" {
}

layer first "reads" predict {
  store a[0] = byte(0, input(0))
}

layer second "once" predict {
  call p(0) takes a gives b
}

layer third "and again" predict {
  call p(1) takes b gives a
}

dequantize d "to WAD" predict {
  store wad[0] = a[0]
}

procedure p "what they have in common" (k) contract 1 takes x gives y {
  copy w[k] words 1 to y
  store y[0] = mul(x[0], add(y[0], k))
}

words w = [
  3, 5
]
"""


def test_a_procedure_elsewhere() -> None:
    """It is there once, called twice with other words; sections around it may be elsewhere, too."""
    whole = parse_program(CALLING)
    assert print_program(whole) == CALLING
    first, *rest = whole.layers
    cut = replace(whole, layers=(replace(first, contract=2), *rest))
    verify_program(cut)
    assert Interpreter(cut).predict(b"\x02") == (2 * 3 * (5 + 1),)
    found = divided(cut)
    assert [part.procedure.name for part in found.parts] == ["p", "code2"]
    shared = found.parts[0]
    assert (shared.procedure.words, shared.procedure.takes, shared.procedure.weights) == (("k",), ("x",), True)
    assert [section.body for section in shared.program.layers] == [whole.procedures["p"].body]
    assert found.main.procedures["p"].body == ()
    assert [section.name for section in found.main.layers] == ["code2", "second", "third"]
    assert apart(apart(whole, ()), {"p"}) == whole


def test_what_calls_a_code_contract_is_in_none() -> None:
    whole = parse_program(CALLING)
    sizes = {"q": 50, "first": 100, "second": 10, "third": 10, "d": 50}
    assert contracts(spread(whole, sizes, Room(100 + 384, 300, 10))) == [0, 0, 0]
    assert contracts(spread(whole, sizes | {"first": 290}, Room(100 + 384, 300, 10))) == [2, 0, 0]
    assert spread(whole, sizes | {"first": 290, "third": 299}, Room(100 + 384, 300, 10)) is None
    *before, last = whole.layers
    with pytest.raises(VerifyError, match="third cannot call p"):
        verify_program(replace(whole, layers=(*before, replace(last, contract=2))))
    with pytest.raises(VerifyError, match="procedures, then runs of layers"):
        verify_program(replace(whole, procedures={"p": replace(whole.procedures["p"], contract=2)}))


def test_needed_as_a_whole() -> None:
    first, *rest = program(1, 1, 0).layers
    with pytest.raises(VerifyError, match="not all needed by the same functions"):
        verify_program(replace(program(), layers=(replace(first, classify=True), *rest)))
    mixed = replace(program(), layers=(replace(first, classify=True, contract=0), *program().layers[1:]))
    assert contracts(spread(mixed, SIZES, Room(100 + 256, 300, 10))) == [0, 1, 1]
