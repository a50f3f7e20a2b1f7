"""Which variables and buffers are signed and which are truth values: a Program's words have no type, Vyper's have one.

Nothing depends on the choice but how much has to be converted: where a word of one kind is used as another, the printer
converts it, which costs no gas.
"""

from __future__ import annotations

from collections import Counter
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
    variables,
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
    kinds, wishes = dict(fixed), _Wishes(passed_as(program))
    for section in program.routines():
        wishes.section(section.name, walk(section.body))
    for _ in range(_ROUNDS):
        before, kinds = kinds, wishes.elected(kinds) | fixed
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
    code = walk(section.body)
    for statement in code:
        if isinstance(statement, Let | Assign):
            tests[statement.name] = tests.get(statement.name, True) and is_test(statement.value)
        if isinstance(statement, For):
            tests |= {i.name: False for i in statement.inductions}
    found = {name for name, only in tests.items() if only}
    for statement in code if found else ():
        for expression in expressions(statement):
            if not found.isdisjoint(variables(expression)):
                found.difference_update(_words(expression, tested=isinstance(statement, If)))
    return found


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


class _Wishes:
    """What kinds words would like to be of: some in any case, some as another word is.

    Args:
        same: A common name of buffers that are one.
    """

    def __init__(self, same: Mapping[str, str]) -> None:
        self.same, self.name = same, ""
        self.votes = Counter[tuple[Name, Kind]]()
        """Those that depend on nothing."""
        self.defined: list[tuple[Name, list[Name | Kind]]] = []
        """Words, and what each is once the sum or the product of, in order: words, and kinds of other things."""
        self.inductions: set[Name] = set()

    def elected(self, kinds: Mapping[Name, Kind]) -> dict[Name, Kind]:
        """Return the kinds that have a majority, given those of the round before."""
        votes = self.votes.copy()
        for name, terms in self.defined:
            if (own := _natural(terms, kinds)) is not None:
                votes[name, own] += 1
            if (wanted := kinds.get(name)) is not None:
                votes.update((term, wanted) for term in terms if isinstance(term, tuple))
        found = dict.fromkeys(self.inductions, Kind.UNSIGNED)
        for name in {name for name, _ in votes} - self.inductions:
            unsigned, signed = votes[name, Kind.UNSIGNED], votes[name, Kind.SIGNED]
            if unsigned != signed:
                found[name] = Kind.UNSIGNED if unsigned > signed else Kind.SIGNED
        return found

    def section(self, name: str, statements: Iterable[Statement]) -> None:
        """Note what the statements of a section wish."""
        self.name = name
        for statement in statements:
            match statement:
                case Let(variable, value) | Assign(variable, value):
                    self._define((name, variable), value)
                case Store(buffer, index, value):
                    self._use(index, Kind.UNSIGNED)
                    self._define(self._buffer(buffer), value)
                case _:
                    if isinstance(statement, For):
                        self.inductions |= {(name, i.name) for i in statement.inductions}
                    for expression in expressions(statement):
                        self._use(expression, None)

    def _define(self, name: Name, value: Expr) -> None:
        terms: list[Name | Kind] = []
        parts = [value]
        while parts:
            part = parts.pop()
            match part:
                case Var(variable):
                    terms.append((self.name, variable))
                case Load(buffer, index):
                    terms.append(self._buffer(buffer))
                    self._use(index, Kind.UNSIGNED)
                case LoadInput(index):
                    terms.append(Kind.UNSIGNED)
                    self._use(index, Kind.UNSIGNED)
                case WadInput(index):
                    terms.append(Kind.SIGNED)
                    self._use(index, Kind.UNSIGNED)
                case Apply(OpCode.ADD | OpCode.SUB | OpCode.MUL, args):
                    parts += args[::-1]
                case Apply(OpCode.SHL, (bits, shifted)):
                    self._use(bits, Kind.UNSIGNED)
                    parts.append(shifted)
                case Apply(op):
                    terms.append(Kind.SIGNED if op in {OpCode.SAR, OpCode.SDIV} else Kind.UNSIGNED)
                    self._use(part, None)
        self.defined.append((name, terms))

    def _use(self, expr: Expr, wanted: Kind | None) -> None:
        """Note what an expression asks of its parts when it is to be of a kind itself."""
        parts = [(expr, wanted)]
        while parts:
            part, kind = parts.pop()
            match part:
                case Var(name):
                    if kind is not None:
                        self.votes[(self.name, name), kind] += 1
                case Load(buffer, index):
                    if kind is not None:
                        self.votes[self._buffer(buffer), kind] += 1
                    parts.append((index, Kind.UNSIGNED))
                case LoadInput(index) | WadInput(index):
                    parts.append((index, Kind.UNSIGNED))
                case Apply(op, args):
                    parts += zip(args, operand_kinds(op, kind), strict=True)

    def _buffer(self, buffer: str) -> Name:
        return "", self.same.get(buffer, buffer)


def _natural(terms: Iterable[Name | Kind], kinds: Mapping[Name, Kind]) -> Kind | None:
    """Return the kind that a sum has of itself: signed if a term is."""
    found: Kind | None = None
    for term in terms:
        own = kinds.get(term) if isinstance(term, tuple) else term
        if own is Kind.SIGNED:
            return own
        found = found or own
    return found


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
