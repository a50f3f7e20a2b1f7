"""Sections of a Program become Python functions, so that many samples run quickly.

A word is a Python int from 0 to 2^256 − 1. Sums, differences, products and bitwise operations are taken mod 2^256 only
where that shows: until then any integer with the same low 256 bits stands for the word.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any, NamedTuple

from ml2sc.errors import InternalError

from .program import (
    MASK,
    WORD,
    Apply,
    Assign,
    Block,
    Const,
    CopySegment,
    Expr,
    Fail,
    For,
    If,
    Let,
    Load,
    LoadInput,
    Note,
    OpCode,
    Program,
    Section,
    Statement,
    Store,
    StoreInput,
    Var,
    WadInput,
    summands,
    to_signed,
)


class ProgramError(Exception):
    """The program reverted.

    Attributes:
        error: Name of the custom error.
        args: Its arguments (words).
    """

    def __init__(self, error: str, *args: int) -> None:
        super().__init__(error, *args)
        self.error = error


class Machine:
    """Buffers and the packed input of one run.

    Args:
        program: The program.
        packed: The packed input.
        wads: The argument of `predict`, as words.
    """

    __slots__ = ("buffers", "input", "length", "wads")

    def __init__(self, program: Program, packed: bytes, wads: Sequence[int] = ()) -> None:
        # undefined words are poisoned, so that a program that reads one gives a wrong answer here
        self.buffers = {name: [_POISON] * words for name, words in program.buffers.items()}
        self.input, self.length = bytearray(packed + bytes(_BYTES)), len(packed)
        self.wads = wads

    def store_input(self, start: int, width: int, value: int) -> None:
        """Write the low bytes of a word into the packed input."""
        if start + width > self.length:
            raise IndexError
        self.input[start : start + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "big")


_POISON = int.from_bytes(b"\xde\xad" * 16, "big")
_BYTES = 32
_SIGN = 1 << 255


@dataclass
class Counts:
    """What a section counts while it runs.

    Attributes:
        reached: How often each `If` was come to, in `walk` order.
        taken: How often its condition held.
        opened: Numbers of the data contracts that were read.
    """

    reached: list[int]
    taken: list[int]
    opened: set[int]


Run = Callable[[Machine], None]


def translate(program: Program, section: Section, counts: Counts | None = None) -> Run:
    """Return a function that runs a section.

    It raises ProgramError where the program reverts and IndexError where an index is past the end of what it is of.

    Args:
        program: The section's program.
        section: The section.
        counts: Where its branches are counted, lists as long as it has `If`s get; None: nowhere.
    """
    return _Function(program, counts).translated(section)


def chunk(words: Sequence[int], start: int, count: int, size: int) -> Sequence[int]:
    """Return words of a segment, to be copied to a buffer of some size."""
    if start + count > len(words) or count > size:
        raise IndexError
    return words[start : start + count]


def _sdiv(a: int, b: int) -> int:
    a, b = to_signed(a), to_signed(b)
    if b == 0:
        return 0
    quotient = abs(a) // abs(b)
    return (quotient if (a < 0) == (b < 0) else -quotient) % WORD


_CALLED: dict[OpCode, Callable[[int, int], int]] = {
    OpCode.DIV: lambda a, b: a // b if b else 0,
    OpCode.SDIV: _sdiv,
    OpCode.MOD: lambda a, b: a % b if b else 0,
    OpCode.SHL: lambda bits, a: (a << bits) & MASK if bits < 256 else 0,
    OpCode.SHR: lambda bits, a: a >> bits if bits < 256 else 0,
    OpCode.SAR: lambda bits, a: (to_signed(a) >> min(bits, 255)) & MASK,
    OpCode.BYTE: lambda i, a: a >> (248 - 8 * i) & 255 if i < _BYTES else 0,
}
"""What has no short form in Python, for words."""
_BITWISE = {OpCode.ADD: "+", OpCode.SUB: "-", OpCode.OR: "|", OpCode.XOR: "^"}
"""Operations whose low bits depend on no others."""
_COMPARED = {OpCode.LT: "<", OpCode.GT: ">", OpCode.EQ: "=="}
_COMPARED_SIGNED = {OpCode.SLT: "<", OpCode.SGT: ">"}
_DEEPEST = 50
"""Parentheses that are nested in one expression: Python reads at most 200."""


class _Text(NamedTuple):
    """Python for an expression.

    Attributes:
        code: The text, an operand as it stands.
        word: Whether its value is a word, not just an integer with the word's low bits.
        depth: How deep its parentheses go.
    """

    code: str
    word: bool
    depth: int = 0


@functools.lru_cache(maxsize=32)
def _compiled(source: str, name: str) -> CodeType:
    """Compile Python; the programs of a search have many sections that differ in their weights alone."""
    return compile(source, name, "exec")


class _Function:
    """A section's function while it is written."""

    def __init__(self, program: Program, counts: Counts | None) -> None:
        self._program, self._counts = program, counts
        self._lines: list[str] = []
        self._indent = 1
        self._constants: dict[str, Any] = {
            "MASK": MASK,
            "SIGN": _SIGN,
            "from_bytes": int.from_bytes,
            "chunk": chunk,
            "ProgramError": ProgramError,
            **{op.mnemonic: function for op, function in _CALLED.items()},
        }
        self._names: dict[tuple[str, str], str] = {}
        self._ifs = 0
        self._temporaries = 0

    def translated(self, section: Section) -> Run:
        if self._counts is not None:
            self._constants |= {n: getattr(self._counts, n) for n in ("reached", "taken", "opened")}
        self._body(section.body)
        parameters = ", ".join(f"{name}={name}" for name in self._constants)  # locals are read the fastest
        head = [f"def run(m, {parameters}):", " data, wads = m.input, m.wads"]
        head += [f" {b} = m.buffers[{buffer!r}]" for (kind, buffer), b in self._names.items() if kind == "buffer"]
        names = dict(self._constants)
        exec(_compiled("\n".join([*head, *self._lines]), f"<section {section.name}>"), names)
        run: Run = names["run"]
        return run

    def _line(self, text: str) -> None:
        self._lines.append(" " * self._indent + text)

    def _name(self, kind: str, name: str) -> str:
        return self._names.setdefault((kind, name), f"{kind}{len(self._names)}")

    # -- statements ------------------------------------------------------------------------------------------------

    def _body(self, body: Iterable[Statement]) -> None:
        for statement in body:
            self._statement(statement)

    def _inner(self, body: Iterable[Statement], first: str, last: Iterable[str] = ()) -> None:
        self._indent += 1
        self._line(first)
        self._body(body)
        for line in last:
            self._line(line)
        self._indent -= 1

    def _statement(self, statement: Statement) -> None:
        match statement:
            case Note():
                pass
            case Let(name, value) | Assign(name, value):
                self._line(f"{self._name('v', name)} = {self._word(value)}")
            case Store(buffer, index, value):
                self._line(f"{self._name('buffer', buffer)}[{self._word(index)}] = {self._word(value)}")
            case StoreInput(offset, width, value):
                self._line(f"m.store_input({self._word(offset)}, {width}, {self._word(value)})")
            case CopySegment():
                self._copy(statement)
            case Block(body):
                self._body(body)
            case If(condition, body, otherwise):
                number = self._ifs  # before those of its body, as `walk` goes
                self._ifs += 1
                if self._counts is not None:
                    self._counts.reached.append(0)
                    self._counts.taken.append(0)
                    self._line(f"reached[{number}] += 1")
                self._line(f"if {self._word(condition)}:")
                self._inner(body, "pass" if self._counts is None else f"taken[{number}] += 1")
                if otherwise:
                    self._line("else:")
                    self._inner(otherwise, "pass")
            case Fail(error, args):
                self._line(f"raise ProgramError({', '.join([repr(error), *map(self._word, args)])})")
            case For():
                self._loop(statement)

    def _loop(self, loop: For) -> None:
        steps = []
        for induction in loop.inductions:
            name, start, step = self._name("v", induction.name), induction.start, induction.step
            self._line(f"{name} = {self._word(start)}")
            wraps = not (isinstance(start, Const) and step >= 0 and start.value + step * loop.count <= MASK)
            if step:
                steps.append(f"{name} = ({name} + {step}) & MASK" if wraps else f"{name} += {step}")
        self._line(f"for _ in range({loop.count}):")
        self._inner(loop.body, "pass", steps)

    def _copy(self, copy: CopySegment) -> None:
        segment, size = self._program.segments[copy.segment], self._program.buffers[copy.buffer]
        words = self._name("segment", copy.segment)
        self._constants[words] = segment.words
        offset = self._word(copy.offset)
        if self._counts is not None and copy.segment in self._program.places:
            first = self._program.places[copy.segment].first
            self._line(f"opened.add({first} + {offset} // {segment.per_contract})")
        buffer = self._name("buffer", copy.buffer)
        self._line(f"{buffer}[:{copy.words}] = chunk({words}, {offset}, {copy.words}, {size})")

    # -- expressions -----------------------------------------------------------------------------------------------

    def _word(self, expr: Expr) -> str:
        """Return Python for an expression's word."""
        return self._as_word(self._text(expr)).code

    def _as_word(self, text: _Text) -> _Text:
        return text if text.word else _Text(f"({text.code} & MASK)", True, text.depth + 1)

    def _text(self, expr: Expr) -> _Text:
        return self._named(self._written(expr))

    def _named(self, text: _Text) -> _Text:
        """Return a text, given a name if it is deep."""
        if text.depth < _DEEPEST:
            return text
        name = f"t{self._temporaries}"
        self._temporaries += 1
        self._line(f"{name} = {text.code}")
        return _Text(name, text.word)

    def _written(self, expr: Expr) -> _Text:
        match expr:
            case Const(value):
                return _Text(str(value) if value < WORD >> 192 else hex(value), True)
            case Var(name):
                return _Text(self._name("v", name), True)
            case Load(buffer, index):
                at = self._as_word(self._text(index))
                return _Text(f"{self._name('buffer', buffer)}[{at.code}]", True, at.depth + 1)
            case LoadInput(offset):
                at = self._as_word(self._text(offset))
                return _Text(f"from_bytes(data[{at.code}:{at.code} + {_BYTES}], 'big')", True, at.depth + 2)
            case WadInput(index):
                at = self._as_word(self._text(index))
                return _Text(f"wads[{at.code}]", True, at.depth + 1)
            case Apply(OpCode.ISZERO, (arg,)):
                operand = self._as_word(self._text(arg))
                return _Text(f"(+({operand.code} == 0))", True, operand.depth + 2)
            case Apply(OpCode.ADD):
                terms, last = summands(expr)
                texts = [self._text(term) for term in terms]
                total = self._text(last)
                for term, text in zip(reversed(terms), reversed(texts), strict=True):
                    total = self._named(self._applied(OpCode.ADD, text, total, term, last))
                return total
            case Apply(op, (first, second)):
                return self._applied(op, self._text(first), self._text(second), first, second)
        raise InternalError(f"unknown expression {expr!r}")

    def _applied(self, op: OpCode, a: _Text, b: _Text, first: Expr, second: Expr) -> _Text:
        depth = max(a.depth, b.depth) + 3
        if op in _BITWISE:
            word = op in {OpCode.OR, OpCode.XOR} and a.word and b.word
            return _Text(f"({a.code} {_BITWISE[op]} {b.code})", word, depth)
        if op is OpCode.AND:
            return _Text(f"({a.code} & {b.code})", a.word or b.word, depth)
        bits = first.value if isinstance(first, Const) else None
        if op is OpCode.SHL and bits is not None and bits < 256:
            return _Text(f"({b.code} << {bits})", False, depth)
        a, b = self._as_word(a), self._as_word(b)
        if op is OpCode.MUL:
            return _Text(f"({a.code} * {b.code})", False, depth)
        if op in _COMPARED:
            return _Text(f"(+({a.code} {_COMPARED[op]} {b.code}))", True, depth)
        if op in _COMPARED_SIGNED:
            return _Text(f"(+({_from_least(a, first)} {_COMPARED_SIGNED[op]} {_from_least(b, second)}))", True, depth)
        if op is OpCode.SHR and bits is not None and bits < 256:
            return _Text(f"({b.code} >> {bits})", True, depth)
        if op is OpCode.SAR and bits is not None and bits < 256:
            return _Text(f"((({b.code} ^ SIGN) - SIGN) >> {bits})", False, depth)
        if op is OpCode.BYTE and bits is not None and bits < _BYTES:
            return _Text(f"({b.code} >> {248 - 8 * bits} & 255)", True, depth)
        return _Text(f"{op.mnemonic}({a.code}, {b.code})", True, depth)


def _from_least(text: _Text, expr: Expr) -> str:
    """Return Python for a word's distance from the least signed word: in the order of signed words."""
    return str(expr.value ^ _SIGN) if isinstance(expr, Const) else f"({text.code} ^ SIGN)"
