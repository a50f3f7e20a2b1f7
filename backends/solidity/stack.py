"""How many values of a section live on the stack at once: what its reachable places cannot hold goes to memory.

And how often those are put there that are literals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from ml2sc.ir.gas import uses
from ml2sc.ir.liveness import REACH
from ml2sc.ir.program import (
    Apply,
    Assign,
    Block,
    Call,
    Const,
    CopySegment,
    Expr,
    For,
    If,
    Let,
    Load,
    LoadInput,
    OpCode,
    Program,
    Statement,
    Store,
    StoreInput,
    Var,
    bodies,
    expressions,
    reads_memory,
    subexpressions,
    walk,
)
from ml2sc.ir.remembered import remembered

HELD = 1
"""Of these, a section's return address."""
_GATHERED, _IN_SCOPE = 19, 22
"""Values of sums that solc still handles well; and values, of more than REACH, with all that is in scope around them.
Found by trial on 200 networks: where there are more, it is cheaper if the sums stay in place."""
_MORE_SPILLS = 8
_PRODUCTS = 4
_LONG = 1 << 64
"""What may be shorter if it is computed."""
_HOISTED, _REPEATED = 3, 6
"""Words read again and again that solc may keep on the stack: beside a loop's variables, and in straight code."""


def spills(program: Program) -> int:
    """Estimate how many words of memory solc's own variables take: as if all in scope at once had no other place."""
    return _MORE_SPILLS + max(_visible(s.body) for s in program.routines())


def _visible(body: Iterable[Statement]) -> int:
    """Return how many variables, at most, are in scope at once."""
    declared = most = 0
    for statement in body:
        match statement:
            case Let():
                declared += 1
            case For(inductions, _, inner):
                most = max(most, declared + len(inductions) + _visible(inner))
            case If() | Block():
                most = max(most, declared + max(map(_visible, bodies(statement))))
    return max(most, declared)


def crowded(program: Program) -> bool:
    """Return whether straight code adds up more values than can be put in reach, if each sum is gathered at its end."""
    return any(_crowded(section.body) for section in program.routines())


@remembered
def _crowded(body: tuple[Statement, ...]) -> bool:
    for code, scope in _straight(body):
        values, sums = _gathered(code)
        if values > _GATHERED or (values > REACH and values + len(scope - sums) > _IN_SCOPE):
            return True
    return False


def _gathered(code: list[Let | Assign]) -> tuple[int, set[str]]:
    """Return how many values there are at the end of straight code, its sums and what lives on to them; and the sums.

    That is words of memory, which are read in their order, and variables of several sums. The terms of a sum that is
    alone are used up as they are read: 0.
    """
    sums = [s for s in code if isinstance(s, Assign) and uses(s.value, s.name)]
    names = {s.name for s in sums}
    if len(names) < 2:
        return 0, names
    parts = [p for s in sums for p in subexpressions(s.value) if p != Var(s.name)]
    read = Counter(p.name for p in parts if isinstance(p, Var))
    lets = [s for s in code if isinstance(s, Let) and read[s.name]]
    kept = [s for s in lets if read[s.name] > 1 or reads_memory(s.value)]
    return len(names) + len(kept) + len({p for p in parts if isinstance(p, Load | LoadInput)}), names


def forwarded(program: Program) -> bool:
    """Return whether more words than are in reach wait, at once, in known places of memory for later layers to read.

    Functions that are called once are placed one after another; solc then knows the words they leave.
    """
    waiting = Counter[int]()
    known: dict[Load, int] = {}  # up to which function each word's wait is counted
    for position, section in enumerate(s for s in program.sections() if program.calls(s) == 1):
        for statement in walk(section.body):
            for word in known.keys() & {p for e in expressions(statement) for p in subexpressions(e)}:
                waiting.update(range(known[word], position))
                known[word] = position
            match statement:
                case For() | CopySegment() | Call():
                    known.clear()
                case Store(buffer, Const() as index):
                    known[Load(buffer, index)] = position
    return max(waiting.values(), default=0) > REACH


def hoisted(program: Program) -> bool:
    """Return whether a loop that does not write memory reads more words in known places than can be kept in reach.

    solc reads them before the loop.
    """
    loops = (s for section in program.routines() for s in walk(section.body) if isinstance(s, For))
    still = (s.body for s in loops if not any(isinstance(t, Store | StoreInput | CopySegment) for t in walk(s.body)))
    return any(len(set().union(*_known_reads(body))) > _HOISTED for body in still)


def is_decision(statement: If) -> bool:
    """Return whether one of two ways, or the only one, ends in two ways again.

    That is written as a loop of one round, which each way breaks out of: else it would jump to the end of the one that
    it is in, and from there on.
    """
    ends = [way[-1] for way in (statement.body, statement.otherwise) if way]
    return any(isinstance(end, If) and (end.otherwise or is_decision(end)) for end in ends)


def decided(program: Program) -> bool:
    """Return whether there are decisions: in their loops nothing is to be hoisted, of which some ways have no use."""
    return any(isinstance(s, If) and is_decision(s) for section in program.routines() for s in walk(section.body))


def settled(program: Program) -> bool:
    """Return whether a round of a loop has many products by literals, or of variables and words in known places.

    That is rows of pixels times rows of taps: such code is written so that all it holds is in reach wherever it is
    used; solc's own steps can but add variables.
    """
    return any(of_taps(section.body) for section in program.routines())


@remembered
def of_taps(body: tuple[Statement, ...]) -> bool:
    """Return whether a round of a loop has many such products."""
    return any(_products(s.body) >= _PRODUCTS for s in walk(body) if isinstance(s, For))


def _products(body: Iterable[Statement]) -> int:
    parts = (p for s in walk(body) for e in expressions(s) for p in subexpressions(e))
    return sum(isinstance(p, Apply) and p.op is OpCode.MUL and _is_of_taps(*p.args) for p in parts)


def _is_of_taps(a: Expr, b: Expr) -> bool:
    return isinstance(a, Const) or (isinstance(a, Load) and isinstance(a.index, Const) and isinstance(b, Var))


def repeated(program: Program) -> bool:
    """Return whether a section reads more words in known places several times than can be kept in reach.

    solc keeps them on the stack from the first time on.
    """
    for section in program.routines():
        reads = Counter(word for words in _known_reads(section.body) for word in words)
        if sum(times > 1 for times in reads.values()) > _REPEATED:
            return True
    return False


def _known_reads(body: Iterable[Statement]) -> Iterator[set[Load]]:
    """Yield the words each statement reads in places known beforehand, but for those that a loop reads and writes."""
    for statement in body:
        parts = {p for e in expressions(statement) for p in subexpressions(e)}
        yield {p for p in parts if isinstance(p, Load) and isinstance(p.index, Const)}
        match statement:
            case For(body=inner):
                written = {s.buffer for s in walk(inner) if isinstance(s, Store | CopySegment)}
                yield from ({w for w in words if w.buffer not in written} for words in _known_reads(inner))
            case If() | Block():
                for inner in bodies(statement):
                    yield from _known_reads(inner)


def repetitions(program: Program) -> float:
    """Return how often a packed inference uses a long literal, on the average of its own: 1 where there is none."""
    found: list[int] = []

    def visit(body: Iterable[Statement], times: int) -> None:
        for statement in body:
            parts = (part for e in expressions(statement) for part in subexpressions(e))
            found.extend(times for part in parts if isinstance(part, Const) and part.value >= _LONG)
            for inner in bodies(statement):
                visit(inner, times * (statement.count if isinstance(statement, For) else 1))

    for routine in program.routines():
        if routine is not program.quantize:
            visit(routine.body, program.calls(routine) if routine.name in program.procedures else 1)
    return sum(found) / len(found) if found else 1


def _straight(body: Iterable[Statement]) -> list[tuple[list[Let | Assign], frozenset[str]]]:
    """Return what is declared and assigned between two jumps, and which variables are in scope there from before."""
    found: list[tuple[list[Let | Assign], frozenset[str]]] = [([], frozenset())]

    def visit(body: Iterable[Statement], scope: frozenset[str]) -> None:
        for statement in body:
            match statement:
                case Let() | Assign():
                    found[-1][0].append(statement)
                    scope |= {statement.name}
                case Block(inner):
                    visit(inner, scope)
                case For() | If():
                    own = {i.name for i in statement.inductions} if isinstance(statement, For) else set()
                    for inner in bodies(statement):
                        found.append(([], scope | own))
                        visit(inner, scope | own)
                    found.append(([], scope))

    visit(body, frozenset())
    return found
