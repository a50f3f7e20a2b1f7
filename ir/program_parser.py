"""Reads the Program's text form, the exact inverse of `program_printer.py`; `#` starts a comment."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from .program import (
    MASK,
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
    InputFormat,
    Lanes,
    Let,
    Load,
    LoadInput,
    Note,
    OpCode,
    Procedure,
    Program,
    Section,
    Segment,
    Statement,
    Storage,
    Store,
    StoreInput,
    Var,
    WadInput,
)
from .tokens import STRING, Reader, Token, fail, unquote

_TOKEN = re.compile(
    rf"""
    (?P<space>[ \t\r\n]+|\#[^\n]*)
    |(?P<int>-?(?:0x[0-9a-f]{{1,99}}|\d{{1,99}}))
    |(?P<string>{STRING})
    |(?P<word>[A-Za-z_]\w*)
    |(?P<mark>[][(){{}},=])
    """,
    re.VERBOSE | re.ASCII,
)
_OPERATIONS = {op.mnemonic: op for op in OpCode}
_SECTIONS = ("quantize", "layer", "dequantize")


def parse_program(text: str) -> Program:
    """Read a program from its text form.

    Raises:
        IrSyntaxError: the text is not a program; the message gives the line.
    """
    return _Parser(text).program()


_FURTHEST = 1 << 32
"""No buffer has so many words, nor the packed input so many bytes."""


class _Parser(Reader):
    def __init__(self, text: str) -> None:
        super().__init__(text, _TOKEN)
        self._buffers: dict[str, int] = {}
        self._holds: dict[str, Lanes] = {}
        self._segments: dict[str, tuple[Token, Storage, int, int]] = {}
        self._statements: dict[str, Callable[[], Statement]] = {
            "note": lambda: Note(self.string()),
            "let": lambda: Let(*self._given()),
            "set": lambda: Assign(*self._given()),
            "store": self._store,
            "pack": self._pack,
            "copy": self._copy,
            "for": self._for,
            "if": lambda: If(self._expression(), self._body(), self._body() if self.accept("else") else ()),
            "block": lambda: Block(self._body()),
            "fail": lambda: Fail(self.word(), self._arguments()),
            "call": lambda: Call(self.word(), self._arguments(), *self._passed()),
        }

    def program(self) -> Program:
        self.expect("program")
        form = self._input()
        self.expect("outputs")
        outputs = self._int()
        has_decision = self.accept("decision")
        while self.accept("buffer"):
            self._buffer()
        contract_words = self._contract_words() if self.accept("contracts") else 0
        while self.accept("segment"):
            self._segment()
        sections: dict[str, list[Section]] = {kind: [] for kind in _SECTIONS}
        while (token := self.peek()).text in sections:
            sections[self.next().text].append(self._section())
        for kind in ("quantize", "dequantize"):
            if len(sections[kind]) != 1:
                fail(token, f"expected one section {kind}, found {len(sections[kind])}")
        procedures = {}
        while self.accept("procedure"):
            procedure = self._procedure()
            procedures[procedure.name] = procedure
        segments = {}
        while self.accept("words"):
            token = self.peek()
            name = self.word()
            if name not in self._segments:
                fail(token, f"segment {name!r} is not declared, or has its words twice")
            segments[name] = self._words(*self._segments.pop(name))
        for name, (token, *_) in self._segments.items():
            fail(token, f"segment {name!r} has no words")
        if self.peek().kind != "end":
            fail(self.peek(), f"expected a section or the words of a segment, found {self.peek().text!r}")
        return Program(
            form,
            outputs,
            self._buffers,
            segments,
            sections["quantize"][0],
            tuple(sections["layer"]),
            sections["dequantize"][0],
            has_decision,
            self._holds,
            procedures,
            contract_words,
        )

    # -- declarations ----------------------------------------------------------------------------------------------

    def _input(self) -> InputFormat:
        self.expect("input")
        count = self._int()
        self.expect("elements")
        self.expect("of")
        width = self._int()
        self.expect("bytes")
        signed = self._either("signed", "unsigned") == "signed"
        coded = self._int() if self.accept("coded") else 0
        ranges: list[tuple[int, int]] = []
        while self.accept("wad"):
            bounds = self._bounds()
            self.expect("times")
            ranges += [bounds] * self._int()
        return InputFormat(count, width, signed, tuple(ranges), coded)

    def _buffer(self) -> None:
        token = self.peek()
        name = self.word()
        if name in self._buffers:
            fail(token, f"buffer {name!r} is declared twice")
        self._buffers[name] = self._number("words")
        if self.peek().text == "lanes":
            count, stride = self._number("lanes"), self._number("stride")
            self.expect("in")
            self._holds[name] = Lanes(count, stride, *self._bounds(), self.accept("assumed"))

    def _contract_words(self) -> int:
        self.expect("of")
        words = self._int()
        self.expect("words")
        return words

    def _segment(self) -> None:
        token = self.peek()
        name = self.word()
        if name in self._segments:
            fail(token, f"segment {name!r} is declared twice")
        storage = Storage(self._either("code", "data"))
        self._segments[name] = token, storage, self._number("words"), self._number("per")

    def _words(self, token: Token, storage: Storage, count: int, per_contract: int) -> Segment:
        self.expect("=")
        words = tuple(self.bracketed(self._word))
        if len(words) != count:
            fail(token, f"{count} words are declared, and {len(words)} are given")
        return Segment(words, storage, per_contract)

    def _section(self) -> Section:
        name, title = self.word(), self.string()
        predict, classify = self.accept("predict"), self.accept("classify")
        contract = self._int() if self.accept("contract") else 0
        maker = self.string() if self.accept("by") else OURS
        facts = dict(self.bracketed(self._fact, "{", "}")) if self.accept("with") else {}
        reads: dict[str, int] = {}
        while self.accept("reads"):
            buffer = self.word()
            packed = self.peek().text == "("
            runs = self.bracketed(self._run, "(", ")") if packed else self.bracketed(self._run)
            reads[PACKED if packed else buffer] = sum(runs)
        return Section(name, title, self._body(), predict, classify, facts, maker, contract, reads)

    def _run(self) -> int:
        token, first = self.peek(), self._int()
        last = self._int() if self.accept("to") else first
        if not 0 <= first <= last < _FURTHEST:
            fail(token, f"{first} to {last} are no words")
        return (2 << last) - (1 << first)

    def _procedure(self) -> Procedure:
        name, title = self.word(), self.string()
        words = tuple(self.bracketed(self.word, "(", ")"))
        contract = self._int() if self.accept("contract") else 0
        return Procedure(name, title, words, *self._passed(), self._body(), contract)

    def _passed(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        takes = self.items(self.word) if self.accept("takes") else []
        gives = self.items(self.word) if self.accept("gives") else []
        return tuple(takes), tuple(gives)

    def _arguments(self) -> tuple[Expr, ...]:
        return tuple(self.bracketed(self._expression, "(", ")"))

    def _fact(self) -> tuple[str, int | str]:
        key = self.word()
        self.expect("=")
        return key, self.string() if self.peek().kind == "string" else self._int()

    # -- statements ------------------------------------------------------------------------------------------------

    def _body(self) -> tuple[Statement, ...]:
        self.expect("{")
        body: list[Statement] = []
        while not self.accept("}"):
            token = self.next()
            if token.text not in self._statements:
                fail(token, f"expected one of {', '.join(self._statements)}, found {token.text!r}")
            body.append(self._statements[token.text]())
        return tuple(body)

    def _given(self) -> tuple[str, Expr]:
        name = self.word()
        self.expect("=")
        return name, self._expression()

    def _place(self) -> tuple[str, Expr]:
        name = self.word()
        self.expect("[")
        index = self._expression()
        self.expect("]")
        return name, index

    def _store(self) -> Statement:
        place = self._place()
        self.expect("=")
        return Store(*place, self._expression())

    def _pack(self) -> Statement:
        offset, width = self._expression(), self._number("width")
        self.expect("=")
        return StoreInput(offset, width, self._expression())

    def _copy(self) -> Statement:
        place, words = self._place(), self._number("words")
        self.expect("to")
        return CopySegment(*place, words, self.word())

    def _for(self) -> Statement:
        return For(tuple(self.items(self._induction)), self._number("times"), self._body())

    def _induction(self) -> Induction:
        return Induction(*self._given(), self._number("step"), self.word() if self.accept("into") else None)

    # -- expressions -----------------------------------------------------------------------------------------------

    def _expression(self) -> Expr:
        """Read an expression; what is open is kept in a list, as expressions can be nested deeper than calls."""
        opened: list[tuple[Token, Literal[")", "]"], list[Expr]]] = []
        while True:
            token = self.next()
            value: Expr
            if token.kind == "int":
                value = Const(self._checked(token))
            elif token.kind not in {"word", "string"}:
                fail(token, f"expected an expression, found {token.text!r}")
            elif self.peek().text in {"(", "["}:
                opened.append((token, ")" if self.next().text == "(" else "]", []))
                continue
            else:
                value = Var(unquote(token, skip=0))
            while opened:
                token, end, args = opened[-1]
                args.append(value)
                if end == ")" and self.accept(","):
                    break
                self.expect(end)
                opened.pop()
                value = self._applied(token, args) if end == ")" else Load(unquote(token, skip=0), args[0])
            else:
                return value

    def _applied(self, token: Token, args: list[Expr]) -> Expr:
        name = token.text
        if name not in _OPERATIONS and name not in {"input", "wad"}:
            fail(token, f"there is no operation {name!r}")
        wanted = 1 if name in {"input", "wad", OpCode.ISZERO.mnemonic} else 2
        if len(args) != wanted:
            fail(token, f"{name} takes {wanted}, not {len(args)}")
        if name in _OPERATIONS:
            return Apply(_OPERATIONS[name], tuple(args))
        return LoadInput(args[0]) if name == "input" else WadInput(args[0])

    def _word(self) -> int:
        return self._checked(self.next_of("int"))

    def _checked(self, token: Token) -> int:
        value = _number_of(token)
        if not 0 <= value <= MASK:
            fail(token, f"{token.text} is no word: 0 to 2^256 - 1")
        return value

    def _int(self) -> int:
        return _number_of(self.next_of("int"))

    def _number(self, word: str) -> int:
        self.expect(word)
        return self._int()

    def _bounds(self) -> tuple[int, int]:
        token = self.peek()
        bounds = self.bracketed(self._int)
        if len(bounds) != 2:
            fail(token, f"expected [lo, hi], found {len(bounds)} numbers")
        return bounds[0], bounds[1]

    def _either(self, *words: str) -> str:
        token = self.next()
        if token.text not in words:
            fail(token, f"expected {' or '.join(words)}, found {token.text!r}")
        return token.text


def _number_of(token: Token) -> int:
    return int(token.text, 16 if "x" in token.text else 10)
