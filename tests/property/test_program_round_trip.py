"""Printing a program and parsing the text gives the program back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ml2sc.ir.program import (
    MASK,
    Apply,
    Assign,
    Block,
    Const,
    CopySegment,
    Expr,
    Fail,
    For,
    If,
    Induction,
    InputFormat,
    Lanes,
    Let,
    Load,
    LoadInput,
    Note,
    OpCode,
    Program,
    Section,
    Segment,
    Storage,
    Store,
    StoreInput,
    Var,
    WadInput,
)
from ml2sc.ir.program_parser import parse_program
from ml2sc.ir.program_printer import print_program

names = st.one_of(
    st.text(min_size=1, max_size=6),
    st.from_regex(r"[A-Za-z_]\w{0,8}", fullmatch=True),
    st.sampled_from(["add", "input", "wad", "let", "words", "layer", "for", "decision"]),
)
words = st.integers(0, MASK) | st.integers(0, 9)
counts = st.integers(0, 2**40)
signed = st.integers(-(2**255), 2**255)


def _applied(parts: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    two = st.builds(Apply, st.sampled_from([op for op in OpCode if op is not OpCode.ISZERO]), st.tuples(parts, parts))
    return st.one_of(
        two,
        st.builds(Apply, st.just(OpCode.ISZERO), st.tuples(parts)),
        st.builds(Load, names, parts),
        st.builds(LoadInput, parts),
        st.builds(WadInput, parts),
    )


exprs = st.recursive(st.builds(Const, words) | st.builds(Var, names), _applied, max_leaves=6)
inductions = st.builds(Induction, names, exprs, signed, st.none() | names)


def _bodies(statements: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    bodies = st.lists(statements, max_size=3).map(tuple)
    return st.one_of(
        st.builds(For, st.lists(inductions, min_size=1, max_size=3).map(tuple), counts, bodies),
        st.builds(If, exprs, bodies),
        st.builds(Block, bodies),
    )


statements = st.recursive(
    st.one_of(
        st.builds(Let, names, exprs),
        st.builds(Assign, names, exprs),
        st.builds(Store, names, exprs, exprs),
        st.builds(StoreInput, exprs, counts, exprs),
        st.builds(CopySegment, names, exprs, counts, names),
        st.builds(Fail, names, st.lists(exprs, max_size=2).map(tuple)),
        st.builds(Note, st.text(max_size=8)),
    ),
    _bodies,
    max_leaves=5,
)
sections = st.builds(
    Section,
    names,
    st.text(max_size=8),
    st.lists(statements, max_size=4).map(tuple),
    st.booleans(),
    st.booleans(),
    st.dictionaries(names, signed | st.text(max_size=5), max_size=2),
    st.sampled_from(["ml2sc", "a plugin"]),
)
ranges = st.lists(st.tuples(signed, signed), max_size=3).map(tuple)
lanes = st.builds(Lanes, counts, counts, signed, signed, st.booleans())
segments = st.builds(Segment, st.lists(words, max_size=12).map(tuple), st.sampled_from(Storage), counts)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Draw a program that need not make sense."""
    buffers = draw(st.dictionaries(names, counts, max_size=3))
    return Program(
        draw(st.builds(InputFormat, counts, counts, st.booleans(), ranges)),
        draw(counts),
        buffers,
        draw(st.dictionaries(names, segments, max_size=2)),
        draw(sections),
        draw(st.lists(sections, max_size=2).map(tuple)),
        draw(sections),
        draw(st.booleans()),
        {name: draw(lanes) for name in buffers if draw(st.booleans())},
    )


@settings(deadline=None)
@given(programs())
def test_round_trip(program: Program) -> None:
    text = print_program(program)
    assert parse_program(text) == program
    assert print_program(parse_program(text)) == text
