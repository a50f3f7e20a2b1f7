"""Sections as Solidity functions: each one block of Yul.

Loop variables that point into a region (`ml2sc.ir.pointers`) are addresses in it, so that an access costs no index
arithmetic.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from ml2sc.errors import InternalError
from ml2sc.ir.divide import ADDRESSES, INPUT
from ml2sc.ir.pointers import WADS, Pointers, affine
from ml2sc.ir.program import (
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
    Let,
    Load,
    LoadInput,
    Note,
    OpCode,
    Program,
    Section,
    Segment,
    Statement,
    Storage,
    Store,
    StoreInput,
    Var,
    WadInput,
    as_byte_of,
    as_field_of,
    expressions,
    subexpressions,
    summands,
    walk,
)

from .memory import MemoryMap, element_bytes, in_bytes
from .stack import is_decision

_INDENT = "    "
_WIDTH = 116
_LITERAL_LIMIT = 1 << 32
_NAMED_FROM = 1 << 64
_NAMED_USES = 3


class Printer:
    """Prints sections of one program.

    Args:
        program: The program.
        memory: Where its buffers are.
        selectors: The 4-byte selector of every custom error.
    """

    def __init__(self, program: Program, memory: MemoryMap, selectors: Mapping[str, int]) -> None:
        self.program, self.memory, self.selectors = program, memory, selectors
        self._pointers = Pointers()
        self._names: dict[int, str] = {}

    def constants(self, section: Section, prefix: str) -> dict[str, int]:
        """Name the masks a section repeats; from now on they are printed by name.

        Args:
            section: The section.
            prefix: What the names start with.

        Returns:
            The constants by name, in the order in which the section first uses them.
        """
        count: dict[int, int] = {}
        for statement in walk(section.body):
            for expression in expressions(statement):
                for part in subexpressions(expression):
                    if isinstance(part, Const) and part.value >= _NAMED_FROM:
                        count[part.value] = count.get(part.value, 0) + 1
        repeated = [value for value, uses in count.items() if uses >= _NAMED_USES]
        self._names = {value: f"{prefix}_{number}" for number, value in enumerate(repeated)}
        return {name: value for value, name in self._names.items()}

    def section(self, section: Section, indent: int) -> list[str]:
        """Return the Yul lines of a section."""
        self._pointers.clear()
        return [_INDENT * indent + line for line in self._body(section.body)]

    def passed(self, pairs: Iterable[tuple[str, str]], indent: int) -> list[str]:
        """Return the Yul lines that copy buffers, given as (from, to)."""
        place, sizes = self.memory.place, self.program.buffers
        return [f"{_INDENT * indent}mcopy({place(to)}, {place(from_)}, {_hex(32 * sizes[to])})" for from_, to in pairs]

    def argument(self, value: Expr) -> str:
        """Return an argument of a procedure, as Solidity and not Yul has it."""
        if not isinstance(value, Const):
            raise InternalError("the arguments of procedures are constants")
        return str(value.value) if value.value < _LITERAL_LIMIT else f"0x{value.value:064x}"

    def segment(self, segment: Segment, buffer: str) -> list[str]:
        """Return the Yul lines that write a segment's words to its buffer."""
        place = self.memory.place
        return [f"mstore({place(buffer, 32 * i)}, 0x{word:064x})" for i, word in enumerate(segment.words)]

    # -- statements ------------------------------------------------------------------------------------------------

    def _body(self, body: Iterable[Statement]) -> list[str]:
        return [line for statement in body for line in self._statement(statement)]

    def _nested(self, head: str, body: Iterable[Statement]) -> list[str]:
        return [f"{head} {{".lstrip(), *(_INDENT + line for line in self._body(body)), "}"]

    def _statement(self, statement: Statement) -> list[str]:
        match statement:
            case Note(text):
                return [f"// {line}" for line in textwrap.wrap(text, _WIDTH - 20)]
            case Let(name, value):
                self._pointers.declare(statement)
                return [f"let {name} := {self._expr(value)}"]
            case Assign(name, value):
                return [f"{name} := {self._expr(value)}"]
            case Store(buffer, index, value):
                return [f"mstore({self._address(buffer, index, 32)}, {self._expr(value)})"]
            case StoreInput(offset, width, value):
                return self._store_input(offset, width, value)
            case CopySegment():
                return self._copy(statement)
            case If() if is_decision(statement):
                return ["for { } 1 { } {", *(_INDENT + line for line in self._decision([statement])), "}"]
            case If(condition, body, ()):
                return self._nested(f"if {self._expr(condition)}", body)
            case If(condition, body, otherwise):
                ways = [*self._nested("case 0", otherwise), *self._nested("default", body)]
                return [f"switch {self._expr(condition)}", *ways]
            case Block(body):
                return self._nested("", body)
            case Fail(error, args):
                lines = [f"mstore(0, shl(224, {_hex(self.selectors[error])})) // {error}"]
                lines += [f"mstore({4 + 32 * i}, {self._expr(arg)})" for i, arg in enumerate(args)]
                return [*lines, f"revert(0, {4 + 32 * len(args)})"]
            case For():
                return self._for(statement)
            case Call():
                return []  # by a statement of its own after the block

    def _decision(self, body: Sequence[Statement]) -> list[str]:
        """Return the lines of a way through a decision: who has come to its end leaves the whole at once."""
        *before, last = body
        if not isinstance(last, If):
            return [*self._body(body), "break"]
        lines = [*self._body(before), f"if {self._expr(last.condition)} {{"]
        lines += [*(_INDENT + line for line in self._decision(last.body)), "}"]
        return lines + (self._decision(last.otherwise) if last.otherwise else ["break"])

    def _store_input(self, offset: Expr, width: int, value: Expr) -> list[str]:
        address = self._address(INPUT, offset, 1)
        if width == 1:
            return [f"mstore8({address}, {self._expr(value)})"]
        # the bytes below the element are overwritten by the elements after it
        return [f"mstore({address}, shl({256 - 8 * width}, {self._expr(value)}))"]

    def _copy(self, copy: CopySegment) -> list[str]:
        segment = self.program.segments[copy.segment]
        if segment.storage is Storage.CODE:
            return []  # written by a function of its own before the block
        place, per = self.program.places[copy.segment], segment.per_contract
        begin = 1 + 32 * place.word

        def holder(number: int) -> str:
            return self.memory.place(ADDRESSES, 32 * (place.first + number))

        if isinstance(copy.offset, Const):
            number, word = divmod(copy.offset.value, per)
            contract, start = f"mload({holder(number)})", _hex(begin + 32 * word)
        elif segment.contracts == 1:
            contract, start = f"mload({holder(0)})", f"add({begin}, shl(5, {self._expr(copy.offset)}))"
        else:
            offset = self._expr(copy.offset)
            contract = f"mload(add({holder(0)}, shl(5, div({offset}, {per}))))"
            start = f"add(1, shl(5, mod({offset}, {per})))"
        target = self.memory.place(copy.buffer)
        return [f"extcodecopy({contract}, {target}, {start}, {_hex(32 * copy.words)})"]

    def _for(self, statement: For) -> list[str]:
        self._pointers.declare(statement)
        lets = " ".join(f"let {i.name} := {self._position(i, i.start)}" for i in statement.inductions)
        steps = " ".join(self._stepped(i) for i in statement.inductions if i.step)
        head = statement.inductions[0]
        assert isinstance(head.start, Const)
        assert head.step > 0
        end = self._position(head, Const(head.start.value + statement.count * head.step))
        return self._nested(f"for {{ {lets} }} lt({head.name}, {end}) {{ {steps} }}", statement.body)

    def _position(self, induction: Induction, value: Expr) -> str:
        region = induction.into
        return self._expr(value) if region is None else self._address(region, value, element_bytes(region))

    def _stepped(self, induction: Induction) -> str:
        """Return the assignment that ends a round; Yul has no negative literals."""
        name, step = induction.name, induction.step
        step *= 1 if induction.into is None else element_bytes(induction.into)
        return f"{name} := {'add' if step > 0 else 'sub'}({name}, {abs(step)})"

    # -- expressions -----------------------------------------------------------------------------------------------

    def _expr(self, expr: Expr) -> str:
        match expr:
            case Const(value):
                return self._names.get(value) or _literal(value)
            case Var(name):
                return name
            case Load(buffer, index):
                return f"mload({self._address(buffer, index, 32)})"
            case LoadInput(offset):
                return f"mload({self._address(INPUT, offset, 1)})"
            case WadInput(index):
                load = "calldataload" if self.memory.fixed else "mload"  # another contract has them in its memory
                return f"{load}({self._address(WADS, index, 32)})"
            case Apply() if (found := as_byte_of(expr)) is not None:
                return f"byte(0, mload({self._address(*found, 1)}))"
            case Apply() if (field := as_field_of(expr)) is not None:
                buffer, index, bits = field
                return f"shr({256 - bits}, mload({self._address(buffer, index, bits // 8)}))"
            case Apply(OpCode.ADD):
                terms, rest = summands(expr)
                return "".join(f"add({self._expr(t)}, " for t in terms) + self._expr(rest) + ")" * len(terms)
            case Apply(op, args):
                return f"{op.mnemonic}({', '.join(self._expr(a) for a in args)})"
        raise InternalError(f"cannot print {expr!r}")

    def _address(self, region: str, index: Expr, scale: int) -> str:
        """Return the address of element `index` of a region whose elements are `scale` bytes apart."""
        variable, constant = affine(index)
        if isinstance(variable, Var) and variable.name in self._pointers:
            return variable.name if not constant else f"add({variable.name}, {_hex(constant * scale)})"
        if region == WADS:
            fixed = WADS if constant == 0 else f"add({WADS}, {_hex(constant * scale)})"
        else:
            fixed = self.memory.place(region, constant * scale)
        if variable is None:
            return fixed
        return f"add({fixed}, {self._expr(in_bytes(variable, scale))})"


def _literal(value: int) -> str:
    """Return a literal, small negative numbers as `not(…)`."""
    if value < _LITERAL_LIMIT:
        return str(value)
    inverse = value ^ ((1 << 256) - 1)
    return f"not({inverse})" if inverse < _LITERAL_LIMIT else _hex(value)


def _hex(value: int) -> str:
    digits = f"{value:x}"
    return f"0x{digits.zfill(len(digits) + len(digits) % 2)}"
