"""Which variables and buffers are signed and which are truth values: a Program's words have no type, Vyper's have one.

Nothing depends on the choice but how much has to be converted: where a word of one kind is used as another, the printer
converts it, which costs no gas.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from enum import Enum

from ml2sc.ir.program import (
    Apply,
    Assign,
    Expr,
    For,
    If,
    Let,
    Load,
    LoadInput,
    OpCode,
    Program,
    Section,
    Statement,
    Store,
    Var,
    WadInput,
    calls_of,
    expressions,
    summands,
    walk,
)

_ROUNDS = 4  # a variable's kind may follow from another's


class Kind(Enum):
    """How Vyper sees a word."""

    UNSIGNED = "uint256"
    SIGNED = "int256"
    BYTES = "bytes32"

    __hash__ = object.__hash__  # votes are counted by it


TESTS = frozenset({OpCode.LT, OpCode.GT, OpCode.SLT, OpCode.SGT, OpCode.EQ, OpCode.ISZERO})
"""Operations that give 0 or 1."""
SIGNED_OPERANDS = frozenset({OpCode.SLT, OpCode.SGT, OpCode.SDIV})
"""Operations on two signed words."""
_NEUTRAL = frozenset({OpCode.ADD, OpCode.SUB, OpCode.MUL})  # the same on signed and unsigned words

Name = tuple[str, str]
"""(section, variable) or ("", buffer)."""


def infer_kinds(program: Program, known: Mapping[str, Kind]) -> dict[Name, Kind]:
    """Return the kinds of variables and buffers: what most of their uses and definitions want, if there is a majority.

    Args:
        program: The program.
        known: Kinds of buffers that are settled already, by the names that `passed_as` has for them.
    """
    fixed: dict[Name, Kind] = {("", name): kind for name, kind in known.items()}
    kinds, same = dict(fixed), passed_as(program)
    code = [(section.name, list(walk(section.body))) for section in program.routines()]
    for _ in range(_ROUNDS):
        votes = _Votes(kinds, same)
        for name, statements in code:
            votes.section(name, statements)
        before, kinds = kinds, votes.result() | fixed
        if kinds == before:
            break
    return kinds


def passed_as(program: Program) -> dict[str, str]:
    """Return a common name of buffers that are passed as each other, which must be of one kind."""
    names: dict[str, str] = {}

    def root(name: str) -> str:
        while name in names:
            name = names[name]
        return name

    def join(own: str, actual: str) -> None:
        if root(own) != root(actual):
            names[root(actual)] = root(own)

    for section in program.sections():
        for call in calls_of(section.body):
            procedure = program.procedures[call.procedure]
            pairs = zip((*procedure.takes, *procedure.gives), (*call.takes, *call.gives), strict=True)
            for own, actual in pairs:
                join(own, actual)
    return {name: root(name) for name in names}


def truth_values(section: Section) -> set[str]:
    """Return the variables that hold nothing but results of tests and are only tested themselves."""
    tests: dict[str, bool] = {}
    for statement in walk(section.body):
        if isinstance(statement, Let | Assign):
            tests[statement.name] = tests.get(statement.name, True) and is_test(statement.value)
        if isinstance(statement, For):
            tests |= {i.name: False for i in statement.inductions}
        for expression in expressions(statement):
            whole = isinstance(statement, If)
            tests |= dict.fromkeys(_words(expression, tested=whole), False)
    return {name for name, only in tests.items() if only}


def is_test(expr: Expr) -> bool:
    """Return whether an expression can only be 0 or 1."""
    match expr:
        case Apply(OpCode.AND | OpCode.OR, args):
            return all(is_test(a) for a in args)
        case Apply(op):
            return op in TESTS
    return False


def _words(expr: Expr, *, tested: bool) -> Iterable[str]:
    """Yield the variables that an expression uses as words, not as truth values."""
    parts = [] if tested and isinstance(expr, Var) else [expr]
    while parts:
        match parts.pop():
            case Var(name):
                yield name
            case Load(_, index) | LoadInput(index) | WadInput(index):
                parts.append(index)
            case Apply(OpCode.ISZERO, (Var(),)):
                pass
            case Apply(_, args):
                parts += args


class _Votes:
    """Counts how often a word would like to be of a kind; buffers that are `same` are one."""

    def __init__(self, kinds: Mapping[Name, Kind], same: Mapping[str, str]) -> None:
        self.kinds, self.same = kinds, same
        self.counts = defaultdict[Name, Counter[Kind]](Counter)
        self.inductions: set[Name] = set()
        self.name = ""

    def result(self) -> dict[Name, Kind]:
        """Return the kinds elected; a name without a majority has none yet."""
        found = {}
        for name, counts in self.counts.items():
            if name in self.inductions or counts[Kind.UNSIGNED] > counts[Kind.SIGNED]:
                found[name] = Kind.UNSIGNED
            elif counts[Kind.SIGNED] > counts[Kind.UNSIGNED]:
                found[name] = Kind.SIGNED
        return found

    def section(self, name: str, statements: Iterable[Statement]) -> None:
        self.name = name
        for statement in statements:
            self.statement(statement)

    def statement(self, statement: Statement) -> None:
        match statement:
            case Let(name, value) | Assign(name, value):
                self.define((self.name, name), value)
            case Store(buffer, index, value):
                self.use(index, Kind.UNSIGNED)
                self.define(self._buffer(buffer), value)
            case _:
                if isinstance(statement, For):
                    self.inductions |= {(self.name, i.name) for i in statement.inductions}
                for expression in expressions(statement):
                    self.use(expression, None)

    def define(self, name: Name, value: Expr) -> None:
        self.vote(name, self.natural(value))
        self.use(value, self.kinds.get(name))

    def use(self, expr: Expr, wanted: Kind | None) -> None:
        """Count what an expression asks of its parts when it is to be of a kind itself."""
        parts = [(expr, wanted)]
        while parts:
            part, kind = parts.pop()
            match part:
                case Var(name):
                    self.vote((self.name, name), kind)
                case Load(buffer, index):
                    self.vote(self._buffer(buffer), kind)
                    parts.append((index, Kind.UNSIGNED))
                case LoadInput(index) | WadInput(index):
                    parts.append((index, Kind.UNSIGNED))
                case Apply(op, args):
                    parts += zip(args, operand_kinds(op, kind), strict=True)

    def natural(self, expr: Expr) -> Kind | None:
        """Return the kind that an expression has of itself."""
        match expr:
            case Var(name):
                return self.kinds.get((self.name, name))
            case Load(buffer):
                return self.kinds.get(self._buffer(buffer))
            case LoadInput():
                return Kind.UNSIGNED
            case WadInput() | Apply(OpCode.SAR | OpCode.SDIV):
                return Kind.SIGNED
            case Apply(OpCode.ADD | OpCode.SUB | OpCode.MUL, args):
                terms, rest = summands(expr)
                args = (*terms, rest) if terms else args
                kinds = [k for a in args if (k := self.natural(a)) is not None]
                return None if not kinds else Kind.SIGNED if Kind.SIGNED in kinds else kinds[0]
            case Apply(OpCode.SHL, (_, value)):
                return self.natural(value)
            case Apply():
                return Kind.UNSIGNED
        return None

    def _buffer(self, buffer: str) -> Name:
        return "", self.same.get(buffer, buffer)

    def vote(self, name: Name, kind: Kind | None) -> None:
        counts = self.counts[name]
        if kind is not None:
            counts[kind] += 1


def operand_kinds(op: OpCode, wanted: Kind | None) -> tuple[Kind | None, ...]:
    """Return the kind of word each operand of an operation is taken as, if its result is to be of a kind."""
    if op is OpCode.ISZERO:
        return (None,)
    if op is OpCode.EQ:
        return None, None
    if op in SIGNED_OPERANDS:
        return Kind.SIGNED, Kind.SIGNED
    if op in _NEUTRAL:
        return wanted, wanted
    if op is OpCode.SHL:
        return Kind.UNSIGNED, wanted
    if op is OpCode.SAR:
        return Kind.UNSIGNED, Kind.SIGNED
    return Kind.UNSIGNED, Kind.UNSIGNED
