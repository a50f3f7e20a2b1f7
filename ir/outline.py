"""Finds sections that are alike, and makes them calls of one procedure.

Two sections are alike if they differ in constants, buffers and parts of segments only. Constants that differ are the
procedure's arguments, many of them a row of a table; segments that differ are put one after the other, and where a
section's part begins is an argument, too. (LLVM's IROutliner does the like.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, count
from math import gcd

from .procedures import Flow, Passed
from .program import (
    CONTRACT_WORDS,
    MODEL_HASH,
    OUTPUTS,
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
    LaterWords,
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
    add,
    bodies,
    calls_of,
    const,
    used_buffers,
    walk,
)
from .rewrite import Rewriting

MOST_WORDS = 6
"""Arguments that are words; more constants come as a table, as a compiler's stack has little room."""
_LEAST = 4
"""Statements that a procedure has at least."""

Key = tuple[object, ...]


@dataclass(frozen=True)
class Alike:
    """Sections that can be calls of one procedure.

    Attributes:
        members: Their names, in order.
    """

    members: tuple[str, ...]


def alike(program: Program) -> list[Alike]:
    """Return the groups of alike sections of a program, each section in one at most."""
    groups: dict[Key, list[Section]] = {}
    roles = _roles(program)
    for section in program.layers:
        shape = _Shape.of(program, section, roles[section.name])
        if shape is not None:
            groups.setdefault(shape.key, []).append(section)
    return [Alike(tuple(s.name for s in sections)) for sections in groups.values() if len(sections) > 1]


def outlined(program: Program, groups: Iterable[Alike]) -> Program:
    """Return a program that does the same, the sections of each group being calls of a procedure.

    Args:
        program: The program.
        groups: Some of those that `alike` found in it.
    """
    places = {section.name: number for number, section in enumerate(program.layers)}
    for group in sorted(groups, key=lambda group: places[group.members[0]]):  # as they come, whatever their prices
        program = _Outlining(program, group).run()
    return program


def worthwhile(
    program: Program, measure: Callable[[Program], tuple[float, int]], limit: float, byte_price: float
) -> list[Alike]:
    """Return the groups whose procedures pay, and those that it takes to stay within a limit, the most bytes first.

    Args:
        program: The program.
        measure: Returns the gas of an inference and the bytes of code.
        limit: Bytes of code that should be enough.
        byte_price: Gas of an inference that a byte of code may cost.
    """
    groups = alike(program)
    if not groups:
        return []
    gas, size = measure(program)
    gains = []
    for group in groups:
        more, less = measure(outlined(program, [group]))
        gains.append((more - gas, size - less, group))
    gains = [gain for gain in gains if gain[1] > 0]
    gains.sort(key=lambda gain: max(gain[0], 0.0) / gain[1])
    chosen: list[tuple[int, Alike]] = []
    for more, less, group in gains:
        if more > byte_price * less and size <= limit:
            break
        chosen.append((less, group))
        size -= less
    return [group for _, group in sorted(chosen, key=lambda saved: -saved[0])]


# -- what is alike ---------------------------------------------------------------------------------------------------


def _roles(program: Program) -> dict[str, Passed]:
    """Return what each section takes of earlier ones, and what later ones read of it."""
    flow = Flow(program)
    return {section.name: flow.passed(i, i + 1) for i, section in enumerate([*program.layers, program.dequantize])}


@dataclass
class _Shape:
    """What a section is but for what may differ.

    Attributes:
        tokens: What must be equal.
        constants: What may differ, in order: constants.
        buffers: Buffers, in order of appearance.
        segments: Segments, in order of appearance, but for copied ones.
        copied: Segments in the code that are copied as a whole, and to which buffer.
    """

    tokens: list[object]
    constants: list[int]
    buffers: dict[str, int]
    segments: dict[str, int]
    copied: dict[str, str]
    names: dict[str, int]

    @property
    def key(self) -> Key:
        return tuple(self.tokens)

    @classmethod
    def of(cls, program: Program, section: Section, roles: Passed) -> _Shape | None:
        """Return a section's shape; None if it is not fit for a procedure."""
        if sum(not isinstance(s, Note) for s in walk(section.body)) < _LEAST:
            return None
        shape = cls([], [], {}, {}, {}, {})
        shape._copies(program, section)
        if not shape._body(program, section.body, top=True):
            return None
        for name in shape.buffers:
            shape.tokens.append((name in roles.takes, name in roles.gives, name in shape.copied.values()))
        for name in shape.segments:
            if (unit := _unit(program, section, name)) is None:
                return None
            shape.tokens.append((program.segments[name].storage, unit))
        return shape

    def _copies(self, program: Program, section: Section) -> None:
        """Note the segments in the code that a call's section can copy before it."""
        writers = [s.buffer for s in walk(section.body) if isinstance(s, Store | CopySegment)]
        for statement in section.body:
            match statement:
                case CopySegment(segment, Const(0), _, buffer):
                    in_code = program.segments[segment].storage is Storage.CODE
                    if in_code and writers.count(buffer) == 1 and segment not in self.copied:
                        self.copied[segment] = buffer

    def _body(self, program: Program, body: Iterable[Statement], *, top: bool = False) -> bool:
        return all(self._statement(program, statement, top=top) for statement in body)

    def _statement(self, program: Program, statement: Statement, *, top: bool) -> bool:
        add_token = self.tokens.append
        add_token(type(statement).__name__)
        match statement:
            case Note():
                self.tokens.pop()
            case Let(name, value) | Assign(name, value):
                add_token(self._name(name))
                self._expr(value)
            case Store(buffer, index, value):
                add_token(self._buffer(buffer))
                self._expr(index)
                self._expr(value)
            case CopySegment(segment, offset, words, buffer):
                if program.segments[segment].storage is Storage.CODE:
                    add_token(self._buffer(buffer))
                    self._expr(offset)
                    return top and segment in self.copied
                add_token((self._buffer(buffer), words, self.segments.setdefault(segment, len(self.segments))))
                self._expr(offset)
            case For(inductions, count_, body):
                first, *rest = inductions
                add_token((count_, first.start, tuple((self._name(i.name), i.step) for i in inductions)))
                for induction in rest:
                    self._expr(induction.start)
                add_token("{")
                fits = self._body(program, body)
                add_token("}")
                return fits
            case If():
                self._expr(statement.condition)
                add_token("{")
                fits = self._body(program, statement.body)
                add_token("} else {")
                fits = fits and self._body(program, statement.otherwise)
                add_token("}")
                return fits
            case Block(body):
                add_token("{")
                fits = self._body(program, body)
                add_token("}")
                return fits
            case Fail(error, args):
                add_token((error, len(args)))
                for arg in args:
                    self._expr(arg)
            case StoreInput() | Call():
                return False
        return True

    def _expr(self, expr: Expr, *, fixed: bool = False) -> None:
        match expr:
            case Const(value):
                self.tokens.append(("constant", value) if fixed else "constant")
                self.constants.append(value)
            case Var(name):
                self.tokens.append(("variable", self._name(name)))
            case Load(buffer, index):
                self.tokens.append(("load", self._buffer(buffer)))
                self._expr(index)
            case LoadInput(index) | WadInput(index):
                self.tokens.append(type(expr).__name__)
                self._expr(index)
            case Apply(op, args):
                self.tokens.append(op)
                for arg in args:
                    self._expr(arg, fixed=op is OpCode.MOD)

    def _name(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))

    def _buffer(self, name: str) -> int:
        return self.buffers.setdefault(name, len(self.buffers))


def _link(groups: dict[str, set[str]], names: set[str]) -> None:
    """Put names, and all that they are in one group with already, into one group."""
    together = names.union(*(groups.get(name, set()) for name in names))
    groups.update(dict.fromkeys(together, together))


def _unit(program: Program, section: Section, name: str) -> int | None:
    """Return the words in whose multiples a section reads a segment; None if there is no such number.

    Then the segment can be moved by multiples of it, and cut into data contracts there.
    """
    segment = program.segments[name]
    unit = max(s.words for s in walk(section.body) if isinstance(s, CopySegment) and s.segment == name)
    if len(segment.words) % unit or not _copied_by(section.body, name, unit, {}):
        return None
    return unit


def _copied_by(body: Iterable[Statement], name: str, unit: int, steps: Mapping[str, int]) -> bool:
    """Return whether all copies from a segment start at multiples of a number of words.

    Args:
        body: The statements.
        name: The segment.
        unit: The number.
        steps: What the loop variables around are multiples of.
    """
    for statement in body:
        match statement:
            case CopySegment(segment, offset) if segment == name:
                if _divisor(offset, steps) % unit:
                    return False
            case For(inductions, _, inner):
                own = {i.name: gcd(_divisor(i.start, steps), i.step) for i in inductions}
                if not _copied_by(inner, name, unit, {**steps, **own}):
                    return False
            case If() | Block():
                if not all(_copied_by(inner, name, unit, steps) for inner in bodies(statement)):
                    return False
    return True


def _divisor(expr: Expr, steps: Mapping[str, int]) -> int:
    """Return a number that divides an expression's value; 0 if that is 0."""
    match expr:
        case Const(value):
            return value
        case Var(name):
            return steps.get(name, 1)
        case Apply(OpCode.ADD, (a, b)):
            return gcd(_divisor(a, steps), _divisor(b, steps))
        case Apply(OpCode.MUL, (a, b)):
            return _divisor(a, steps) * _divisor(b, steps)
    return 1


# -- making it one ---------------------------------------------------------------------------------------------------


class _Outlining:
    """Makes a procedure of a group of sections.

    Args:
        program: The program.
        group: The sections.
    """

    def __init__(self, program: Program, group: Alike) -> None:
        self._program = program
        by_name = {section.name: section for section in program.layers}
        roles = _roles(program)
        self._sections = [by_name[name] for name in group.members]
        self._roles = roles[group.members[0]]
        self._shapes = [shape for s in self._sections if (shape := _Shape.of(program, s, roles[s.name])) is not None]
        self._room = program.contract_words or CONTRACT_WORDS
        """Words that a data contract has."""
        tables = [program.segments[name] for shape in self._shapes for name in shape.copied]
        has_data = not program.updatable and any(s.storage is Storage.DATA for s in program.segments.values())
        self._in_data = has_data and all(len(table.words) <= self._room for table in tables)
        """Whether tables in the code are moved to data contracts, each to one."""
        self._name = _new(f"like_{group.members[0]}", {routine.name for routine in program.routines()})
        self._buffers = dict(program.buffers)
        self._segments = dict(program.segments)
        self._layers = program.layers
        self._free = (name for n in count() if (name := f"k{n}") not in self._shapes[0].names)
        self._words: dict[str, list[int]] = {}
        """The arguments for each parameter, by section."""
        self._takes: dict[str, list[str]] = {}
        """The sections' buffers for each that the procedure takes."""
        self._gives: dict[str, list[str]] = {}
        self._start: list[Statement] = []
        """What the procedure does first."""
        self._tables: list[CopySegment] = []
        """What copies each section's table of constants, if that is in the code."""

    def run(self) -> Program:
        """Return the program with the procedure."""
        first = self._shapes[0]
        own = self._own_buffers()
        bases = self._merged()
        if self._in_data:
            self._move_tables(own)

        def copy(statement: CopySegment) -> CopySegment | None:
            if statement.segment in first.copied:
                return None
            segment, parameter = bases[statement.segment]
            offset = statement.offset if parameter is None else add(Var(parameter), statement.offset)
            return replace(statement, segment=segment, offset=offset)

        constants = iter(self._arguments())

        def leaf(expr: Expr) -> Expr:
            return next(constants) if isinstance(expr, Const) else expr

        body = Rewriting(leaf, own, copy).body(s for s in self._sections[0].body if not isinstance(s, Note))
        title = f"What {', '.join(s.name for s in self._sections)} have in common"
        procedure = Procedure(
            self._name, title, tuple(self._words), tuple(self._takes), tuple(self._gives), (*self._start, *body)
        )
        calling = {section.name: self._calling(number) for number, section in enumerate(self._sections)}
        program = replace(
            self._program,
            layers=tuple(calling.get(section.name, section) for section in self._layers),
            procedures={**self._program.procedures, self._name: procedure},
        )
        used = {name for routine in program.routines() for name in used_buffers(routine)} | {OUTPUTS}
        copied = {s.segment for r in program.routines() for s in walk(r.body) if isinstance(s, CopySegment)}
        return replace(
            program,
            buffers={name: words for name, words in self._buffers.items() if name in used},
            holds={name: lanes for name, lanes in self._program.holds.items() if name in used},
            segments={n: segment for n, segment in self._segments.items() if n in copied or n == MODEL_HASH},
        )

    def _calling(self, number: int) -> Section:
        """Return a section that calls the procedure, with what it copies itself, and its notes."""
        section = next(s for s in self._layers if s.name == self._sections[number].name)
        copied = {} if self._in_data else self._shapes[number].copied
        body = [s for s in section.body if isinstance(s, Note) or (isinstance(s, CopySegment) and s.segment in copied)]
        words = tuple(const(arguments[number]) for arguments in self._words.values())
        takes, gives = (tuple(actual[number] for actual in of.values()) for of in (self._takes, self._gives))
        call = Call(self._name, words, takes, gives)
        facts = {**section.facts, "procedure": self._name}
        return replace(section, body=(*body, *self._tables[number : number + 1], call), facts=facts)

    # -- buffers ---------------------------------------------------------------------------------------------------

    def _own_buffers(self) -> dict[str, str]:
        """Give the procedure buffers of its own, as long as the longest; return them by the first section's."""
        own: dict[str, str] = {}
        first = self._shapes[0]
        passed: dict[str, set[str]] = {}  # buffers that a call passes for each other have one length
        for number, actual in enumerate(zip(*(shape.buffers for shape in self._shapes), strict=True)):
            name, _ = self._buffer(str(number), max(self._buffers[buffer] for buffer in actual))
            own[actual[0]] = name
            copied = actual[0] in first.copied.values()
            if actual[0] in self._roles.takes or (copied and not self._in_data):
                self._takes[name] = list(actual)
            if actual[0] in self._roles.gives:
                self._gives[name] = list(actual)
            if name in self._takes or name in self._gives or copied:
                _link(passed, {name, *actual})
        for call in (call for section in self._layers for call in calls_of(section.body)):
            procedure = self._program.procedures[call.procedure]
            for pair in zip((*procedure.takes, *procedure.gives), (*call.takes, *call.gives), strict=True):
                _link(passed, {*pair})
        for name, group in passed.items():
            if name == min(group):
                size = max(self._buffers[buffer] for buffer in group)
                for buffer in sorted(group):
                    self._lengthen(buffer, size)
        return own

    def _buffer(self, like: str, size: int) -> tuple[str, int]:
        name = _new(f"{self._name}_{like}", self._buffers)
        self._buffers[name] = size
        return name, size

    def _lengthen(self, buffer: str, size: int) -> None:
        """Make a buffer longer, and a table in the code that fills it."""
        if self._buffers[buffer] == size:
            return
        self._buffers[buffer] = size

        def copy(statement: CopySegment) -> CopySegment:
            segment = self._segments[statement.segment]
            if statement.buffer != buffer or segment.storage is not Storage.CODE:
                return statement
            words = (*segment.words, *(0,) * (size - len(segment.words)))
            self._segments[statement.segment] = replace(segment, words=words)
            return replace(statement, words=size)

        rewriting = Rewriting(lambda leaf: leaf, copy=copy)
        self._layers = tuple(replace(section, body=rewriting.body(section.body)) for section in self._layers)

    # -- segments --------------------------------------------------------------------------------------------------

    def _merged(self) -> dict[str, tuple[str, str | None]]:
        """Put segments that differ one after the other; return segment and parameter, by the first section's."""
        found: dict[str, tuple[str, str | None]] = {}
        for names in zip(*(shape.segments for shape in self._shapes), strict=True):
            if len({*names}) == 1:
                found[names[0]] = names[0], None
                continue
            unit = _unit(self._program, self._sections[0], names[0])
            assert unit is not None
            parts = {name: self._program.segments[name].words for name in names}
            starts = dict(zip(parts, accumulate(map(len, parts.values()), initial=0), strict=False))
            found[names[0]] = self._segment(names[0], _joined(list(parts.values())), unit), next(self._free)
            self._words[str(found[names[0]][1])] = [starts[name] for name in names]
        return found

    def _segment(self, like: str, words: Sequence[int], unit: int) -> str:
        """Add a segment in data contracts, before the others of its kind."""
        name = _new(f"like_{like}", self._segments)
        self._segments[name] = Segment(words, Storage.DATA, self._room // unit * unit)
        return name

    def _move_tables(self, own: Mapping[str, str]) -> None:
        """Move the tables in the code that each section copies to a data contract: there they are no code a section."""
        for names in zip(*(shape.copied for shape in self._shapes), strict=True):
            buffer = own[self._shapes[0].copied[names[0]]]
            self._copy_row(names[0], [tuple(self._segments[name].words) for name in names], buffer)

    def _copy_row(self, like: str, rows: Sequence[tuple[int, ...]], buffer: str) -> None:
        """Have the procedure copy a row of a table in a data contract to a buffer first, for each section another."""
        size, parameter = len(rows[0]), next(self._free)
        segment = self._segment(like, tuple(word for row in rows for word in row), size)
        self._words[parameter] = [size * number for number in range(len(rows))]
        self._start.append(CopySegment(segment, Var(parameter), size, buffer))

    # -- constants -------------------------------------------------------------------------------------------------

    def _arguments(self) -> list[Expr]:
        """Return what stands for each of the first section's constants: itself, a parameter, or a table's word."""
        columns = list(zip(*(shape.constants for shape in self._shapes), strict=True))
        differ = list(dict.fromkeys(column for column in columns if len({*column}) > 1))
        places: dict[tuple[int, ...], Expr] = {}
        if len(differ) <= MOST_WORDS:
            for column in differ:
                parameter = next(self._free)
                self._words[parameter] = list(column)
                places[column] = Var(parameter)
        else:
            table = self._table(list(zip(*differ, strict=True)))
            places = {column: Load(table, const(n)) for n, column in enumerate(differ)}
        return [places.get(column, Const(column[0])) for column in columns]

    def _table(self, rows: Sequence[tuple[int, ...]]) -> str:
        """Return the buffer that has a section's row of constants; where there are data contracts, it is read there."""
        size = len(rows[0])
        table, _ = self._buffer("constants", size)
        if self._in_data and size <= self._room:
            self._copy_row(f"{self._sections[0].name}_constants", rows, table)
            return table
        self._takes[table] = []
        for section, row in zip(self._sections, rows, strict=True):
            segment = _new(f"{section.name}_constants", self._segments)
            self._segments[segment] = Segment(row)
            buffer = _new(f"{segment}_table", self._buffers)
            self._buffers[buffer] = size
            self._takes[table].append(buffer)
            self._tables.append(CopySegment(segment, const(0), size, buffer))
        return table


def _joined(parts: Sequence[Sequence[int]]) -> Sequence[int]:
    return LaterWords(sum(map(len, parts)), lambda: [word for part in parts for word in part])


def _new(like: str, taken: Iterable[str]) -> str:
    """Return a name that is not taken."""
    return next(name for n in count(1) if (name := like if n == 1 else f"{like}_{n}") not in taken)
