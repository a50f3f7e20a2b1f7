"""The Program verifier: what is refused, and that the message says where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ml2sc.errors import PluginError, VerifyError
from ml2sc.ir.program import Program
from ml2sc.ir.program_parser import parse_program
from ml2sc.ir.program_printer import print_program
from ml2sc.ir.program_verify import check_places, verify_program

TEXT = """\
program
input 40 elements of 1 bytes unsigned
wad [0, 10] times 40
outputs 2
decision
buffer sums words 2 lanes 2 stride 20 in [0, 5000]
buffer weights_round words 32
buffer temporary words 2
buffer wad words 2
buffer label words 1
segment weights data words 64 per 736

quantize q "to integers" predict classify {
  for i = 0 step 1 times 40 {
    let x = wad(i)
    pack i width 1 = sar(3, x)
  }
}

layer fc "products" predict classify {
  for group = 0 step 1 times 2 {
    let acc0 = 0x8000080000
    for i = 0 step 32, r = 0 step 32 times 2 {
      copy weights[r] words 32 to weights_round
      block {
        let word = input(i)
        if word {
          set acc0 = add(mul(byte(0, word), weights_round[0]), acc0)
          set acc0 = add(mul(byte(31, word), weights_round[31]), acc0)
        }
      }
    }
    let keep0 = and(shr(19, acc0), 0x100001)
    set acc0 = and(acc0, sub(shl(19, keep0), keep0))
    store sums[group] = acc0
  }
}

layer decide "decision" classify {
  store label[0] = sums[1]
}

dequantize d "to WAD" predict {
  for o = 0 step 1 times 2 {
    store wad[o] = sums[o]
  }
}

words weights = [
  WORDS
]
"""
WEIGHTS = ((3 << 20) + 2) % 2**256, ((-1 << 20) + 4) % 2**256
PROGRAM = TEXT.replace("WORDS", ", ".join(str(WEIGHTS[k % 2]) for k in range(64)))


def changed(old: str, new: str) -> Program:
    assert old in PROGRAM
    return parse_program(PROGRAM.replace(old, new, 1))


def test_accepts() -> None:
    assert verify_program(parse_program(PROGRAM)) == []


def test_accepts_what_takes_no_wad() -> None:
    start, end = PROGRAM.index("  for i = 0 step 1 times 40"), PROGRAM.index("}\n\nlayer fc")
    text = f"{PROGRAM[:start]}{PROGRAM[end:]}".replace("wad [0, 10] times 40\n", "")
    verify_program(program := parse_program(text))
    assert not program.input.takes_wad
    assert parse_program(print_program(program)) == program


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "times 2 {\n    let acc0",
            "times 3 {\n    let acc0",
            r"fc: store sums\[group\].*: index 0 to 2 of buffer sums of 2 w",
        ),
        ("weights_round[31]", "weights_round[32]", "section fc: .*index 32 to 32 of buffer weights_round of 32 words"),
        ("copy weights[r]", "copy weights[add(r, 1)]", "index 1 to 33 of segment weights of 64 words"),
        ("words 32 to", "words 33 to", "33 words are copied to buffer weights_round of 32 words"),
        ("per 736", "per 40", "may lie in two data contracts of 40 words"),
        ("per 736", "per 768", "segment weights has 768 words in a data contract"),
        ("wad(i)", "wad(add(i, 1))", "elements 1 to 40 are read of an argument of 40"),
        ("pack i", "pack add(i, 1)", "index 1 to 40 of the packed input of 40 bytes"),
        ("times 40 {", "times 39 {", "byte 39 of the packed input is not written"),
        ("wad [0, 10] times 40", "wad [0, 10] times 39", "ranges of 39 WAD values, and 40 elements"),
        ("wad [0, 10] times 40\n", "", "section q packs WAD values, which are not taken"),
        ("input(i)", "input(add(i, 40))", "bytes from 40 to 72 on are read of an input of 40 bytes"),
        ("let word = input(i)", "let words = input(i)", "variable word is not declared"),
        ("let word = input(i)", "let acc0 = input(i)", "variable acc0 is declared twice"),
        ("let word = input(i)", "let word = input(i) set i = 0", "i is a loop's variable"),
        ("store sums[group]", "store sum[group]", "there is no buffer sum"),
        ("copy weights[r]", "copy weight[r]", "there is no segment weight"),
        (
            "store sums[group]",
            "store sums[0]",
            "d: word 1 of buffer sums .* is read, and predict runs nothing",
        ),
        ('"products" predict classify', '"products" predict', "decide: word 1 of buffer sums .* classify runs nothing"),
        ("store label[0]", "store wad[0]", "classify does not write word 0 of buffer label"),
        ("store wad[o]", "if sums[o] { set o = 1 } store wad[0]", "o is a loop's variable"),
        (
            "let acc0 = 0x8000080000",
            "if 1 { copy weights[0] words 32 to weights_round } let acc0 = weights_round[1]",
            "fc: word 1",
        ),
        ("for i = 0 step 32, r", "for i = 0 step 32, i", "loop variables are declared twice: i, i"),
        ("layer decide", "layer fc", "two sections are called fc"),
        ("stride 20 in [0, 5000]", "stride 250 in [0, 5000]", "cannot hold 2 lanes of 250 bits"),
    ],
)
def test_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        verify_program(changed(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"decision" classify {',
            '"decision" classify reads sums[0 to 1] {',
            "section decide: word 0 of sums is not read, and that is what it is there for",
        ),
        (
            '"products" predict classify {',
            '"products" predict classify reads input(7, 63 to 64) {',
            "section fc: byte 64 of the packed input is not read",
        ),
        ("sar(3, x)", "mod(x, 7)", "section q: element 0 becomes 0 at 0 and 3 at 10, and"),
        ("sar(3, x)", "sar(3, x) if gt(x, 4) { fail Odd() }", "section q refuses an argument in its range"),
        ("in [0, 5000]", "in [0, 2000]", r"what is stored can be 0 to \d+, and sums holds 0 to 2000"),
        ("and(shr(19, acc0), 0x100001)", "and(shr(9, acc0), 0x401)", "fc: .*lanes meet"),
        ("sub(shl(19, keep0), keep0)", "sub(shl(18, keep0), keep0)", "lanes meet: what has the bits 20 to 38"),
        ("set acc0 = and(acc0, sub(shl(19, keep0), keep0))", "", "section fc: store sums.*sums holds 0 to 5000"),
        ("0x8000080000", "0x8000080", "lanes meet"),
        ("label[0] = sums[1]", "label[0] = gt(sums[1], 7)", "decide: .*2 lanes is compared as if it were a number"),
    ],
)
def test_lanes_that_meet(old: str, new: str, message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        verify_program(changed(old, new))


def test_a_plugin_is_named() -> None:
    program = changed("weights_round[31]", "weights_round[32]")
    layers = tuple(replace(layer, maker="their-plugin") for layer in program.layers)
    with pytest.raises(PluginError, match="the lowering of their-plugin made a program that is wrong: section fc"):
        verify_program(replace(program, layers=layers))


def test_buffers_that_share_memory() -> None:
    program = parse_program(PROGRAM)
    check_places(program, {"sums": (0, 64), "weights_round": (64, 1024), "wad": (64, 64), "label": (64, 32)})
    with pytest.raises(VerifyError, match="buffers sums and wad share memory while both are needed"):
        check_places(program, {"sums": (0, 64), "wad": (32, 64)})
    with pytest.raises(VerifyError, match="buffer sums has 2 words, and 32 bytes of memory"):
        check_places(program, {"sums": (0, 32)})
