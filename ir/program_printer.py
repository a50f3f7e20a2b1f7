"""The Program's text form, which `program_parser.py` reads back.

What runs comes before the words of the segments, so that the statements can be read at a glance::

    program
    input 2 elements of 1 bytes unsigned
    wad [0, 1000000000000000000] times 2
    outputs 1
    buffer fc_out words 1 lanes 12 stride 21 in [0, 255]
    buffer wad words 1
    segment fc_weights data words 32 per 767

    layer fc "Gemm, 2 -> 12" predict classify with {macs=24} {
      note "acc < 2^20"
      let acc0 = 0x8000
      for i = 0 step 32 times 1 {
        copy fc_weights[i] words 32 to fc_weights_round
        set acc0 = add(mul(byte(0, input(i)), fc_weights_round[0]), acc0)
      }
      store fc_out[0] = and(shr(3, acc0), 0xff)
    }

    words fc_weights = [
      0x1, 0x2, …
    ]

`pack offset width 1 = …` writes to the packed input, `wad(i)` is an element of `predict`'s argument. Procedures come
after the sections (`procedure like_fc "…" (k0) takes x gives y {`); `call like_fc(8) takes fc_out gives fc_1_out` calls
one. One that is a code contract says so (`(k0) contract 1 takes x`). A loop's variable that is an address says of what
(`i = 0 step 1 into fc_out`; `input` and `wads` are the arguments). A name that is not plain is a JSON string.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby

from .printer import WIDTH, WORD
from .program import (
    OURS,
    PACKED,
    Apply,
    Assign,
    Block,
    Call,
    Const,
    CopySegment,
    Expr,
    Fail,
    For,
    If,
    Induction,
    Lanes,
    Let,
    Load,
    LoadInput,
    Note,
    Procedure,
    Program,
    Section,
    Statement,
    Store,
    StoreInput,
    Var,
)

_DECIMAL = 1 << 32
"""Words below are written in decimal digits."""


def print_program(program: Program) -> str:
    """Return the whole program as text; the same program always gives the same text."""
    parts = [
        _declarations(program),
        *(_section(kind, section) for kind, section in _kinds(program)),
        *map(_procedure, program.procedures.values()),
        *(_words(name, segment.words) for name, segment in program.segments.items()),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _kinds(program: Program) -> Iterator[tuple[str, Section]]:
    yield "quantize", program.quantize
    for section in program.layers:
        yield "layer", section
    yield "dequantize", program.dequantize


def _declarations(program: Program) -> Iterator[str]:
    form = program.input
    yield "program"
    coded = f" coded {form.coded}" if form.coded else ""
    yield f"input {form.count} elements of {form.width} bytes {'signed' if form.signed else 'unsigned'}{coded}"
    for (lo, hi), same in groupby(form.wad_range):
        yield f"wad [{lo}, {hi}] times {len(list(same))}"
    yield f"outputs {program.outputs}"
    if program.has_decision:
        yield "decision"
    for name, words in program.buffers.items():
        yield f"buffer {_name(name)} words {words}{_lanes(program.holds.get(name))}"
    if program.contract_words:
        yield f"contracts of {program.contract_words} words"
    for name, segment in program.segments.items():
        yield (f"segment {_name(name)} {segment.storage.value} words {len(segment.words)} per {segment.per_contract}")


def _lanes(lanes: Lanes | None) -> str:
    if lanes is None:
        return ""
    text = f" lanes {lanes.count} stride {lanes.stride} in [{lanes.lo}, {lanes.hi}]"
    return f"{text} assumed" if lanes.assumed else text


def _section(kind: str, section: Section) -> Iterator[str]:
    flags = [flag for flag in ("predict", "classify") if getattr(section, flag)]
    facts = ", ".join(f"{_name(key)}={_fact(value)}" for key, value in section.facts.items())
    said = f"with {{{facts}}}" if facts else ""
    made = "" if section.maker == OURS else f"by {json.dumps(section.maker)}"
    place = f"contract {section.contract}" if section.contract else ""
    head = [kind, _name(section.name), json.dumps(section.title), *flags, *filter(None, [place, made, said])]
    yield " ".join([*head, *(["{"] if not section.reads else [])])
    for number, (name, bits) in enumerate(section.reads.items()):
        runs = ", ".join(map(_run, _runs(bits)))
        what = f"input({runs})" if name == PACKED else f"{_name(name)}[{runs}]"
        yield f"  reads {what}{' {' if number + 1 == len(section.reads) else ''}"
    yield from _body(section.body)
    yield "}"


def _runs(bits: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of each run of ones."""
    at = 0
    while bits:
        gap = (bits & -bits).bit_length() - 1
        bits >>= gap
        size = (~bits & (bits + 1)).bit_length() - 1
        yield at + gap, at + gap + size - 1
        bits >>= size
        at += gap + size


def _run(ends: tuple[int, int]) -> str:
    first, last = ends
    return f"{first}" if first == last else f"{first} to {last}"


def _procedure(procedure: Procedure) -> Iterator[str]:
    words = ", ".join(map(_name, procedure.words))
    place = f" contract {procedure.contract}" if procedure.contract else ""
    head = f"procedure {_name(procedure.name)} {json.dumps(procedure.title)} ({words})"
    yield f"{head}{place}{_passed(procedure.takes, procedure.gives)} {{"
    yield from _body(procedure.body)
    yield "}"


def _passed(takes: Iterable[str], gives: Iterable[str]) -> str:
    named = (f" {word} {', '.join(map(_name, names))}" for word, names in (("takes", takes), ("gives", gives)) if names)
    return "".join(named)


def _fact(value: int | str) -> str:
    return json.dumps(value) if isinstance(value, str) else str(value)


def _body(body: Iterable[Statement]) -> Iterator[str]:
    for statement in body:
        yield from ("  " + line for line in _statement(statement))


def _statement(statement: Statement) -> Iterator[str]:
    match statement:
        case Note(text):
            yield f"note {json.dumps(text)}"
        case Let(name, value):
            yield f"let {_name(name)} = {expression_text(value)}"
        case Assign(name, value):
            yield f"set {_name(name)} = {expression_text(value)}"
        case Store(buffer, index, value):
            yield f"store {_name(buffer)}[{expression_text(index)}] = {expression_text(value)}"
        case StoreInput(offset, width, value):
            yield f"pack {expression_text(offset)} width {width} = {expression_text(value)}"
        case CopySegment(segment, offset, words, buffer):
            yield f"copy {_name(segment)}[{expression_text(offset)}] words {words} to {_name(buffer)}"
        case For(inductions, count, body):
            yield from _braced(f"for {', '.join(map(_induction, inductions))} times {count}", body)
        case If(condition, body, otherwise):
            *lines, end = _braced(f"if {expression_text(condition)}", body)
            yield from lines
            yield from _braced(f"{end} else", otherwise) if otherwise else [end]
        case Block(body):
            yield from _braced("block", body)
        case Fail(error, args):
            yield f"fail {_name(error)}({', '.join(map(expression_text, args))})"
        case Call(procedure, words, takes, gives):
            yield f"call {_name(procedure)}({', '.join(map(expression_text, words))}){_passed(takes, gives)}"


def _induction(induction: Induction) -> str:
    into = "" if induction.into is None else f" into {_name(induction.into)}"
    return f"{_name(induction.name)} = {expression_text(induction.start)} step {induction.step}{into}"


def statement_text(statement: Statement) -> str:
    """Return a statement's first line as the text form writes it."""
    return next(_statement(statement))


def _braced(head: str, body: Iterable[Statement]) -> Iterator[str]:
    yield f"{head} {{"
    yield from _body(body)
    yield "}"


def expression_text(expr: Expr) -> str:
    """Return an expression as the text form writes it."""
    written: list[str] = []
    left: list[Expr | str] = [expr]  # expressions can be nested deeper than calls
    while left:
        match left.pop():
            case str(text):
                written.append(text)
            case Const(value):
                written.append(word_text(value))
            case Var(name):
                written.append(_name(name))
            case Load(buffer, index):
                left += ["]", index, f"{_name(buffer)}["]
            case Apply(op, args):
                left.append(")")
                for arg in args[:0:-1]:
                    left += [arg, ", "]
                left += [args[0], f"{op.mnemonic}("]
            case LoadInput(offset):
                left += [")", offset, "input("]
            case index:
                left += [")", index.index, "wad("]
    return "".join(written)


def word_text(word: int) -> str:
    """Return a word as the text form writes it."""
    return str(word) if word < _DECIMAL else hex(word)


def _words(name: str, words: Iterable[int]) -> Iterator[str]:
    yield f"words {_name(name)} = ["
    line = " "
    for word in words:
        text = word_text(word)
        if len(line) + len(text) + 2 > WIDTH and line != " ":
            yield line
            line = " "
        line += f" {text},"
    if line != " ":
        yield line.removesuffix(",")
    yield "]"


def _name(text: str) -> str:
    return text if WORD.fullmatch(text) else json.dumps(text)
