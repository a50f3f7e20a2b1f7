"""Checks that a Program does what its parts promise each other, for every input: always run, before it is printed.

- Every index lies in its buffer, segment or input, whatever the round of the loops around it and whatever the data.
- Every word that is read was written before, whichever branches were taken, in each of `predict` and `classify`.
- Every variable is declared once, before its use; loop variables are nobody's to change.
- A code contract is a run of sections that are needed together.
- A loop's variable that is said to be an address of a region is used for nothing else.
- A procedure has buffers of its own; what its calls do is checked for each of them, as if it stood there.
- What buffers are said to hold (`Lanes`) is what is stored there; lanes do not meet where they are taken apart;
  sections read what they are there to read. Where that is not proved, runs beside the graph decide (`ml2sc.ir.trial`).

Each section is walked once, loops with their counters as unknowns; only short loops whose rounds depend on each other
in other ways than by adding something up are walked round by round. What is written is a set of words for each way an
index depends on the counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from math import gcd

from ml2sc.errors import InternalError, PluginError, VerifyError

from .graph import Graph
from .interpret import Interpreter, ProgramError
from .pointers import check_pointers
from .procedures import check_procedures, expanded
from .program import (
    CONTRACT_WORDS,
    MASK,
    OURS,
    PACKED,
    WORD,
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
    InputFormat,
    Let,
    Load,
    LoadInput,
    OpCode,
    Program,
    Section,
    Statement,
    Storage,
    Store,
    StoreInput,
    Var,
    WadInput,
    as_byte_of,
    calls_of,
    expressions,
    loads,
    subexpressions,
    walk,
)
from .program_printer import statement_text
from .trial import difference, inputs_tried
from .types import integers
from .words import (
    ONE,
    Atom,
    Data,
    LanesMeetError,
    Loop,
    Word,
    Words,
    added,
    anything,
    fresh,
    lane,
    literal,
    of_atom,
    raised,
    summed,
)

_BYTES = 32
MOST_WORDS = 1 << 20
"""Words of a buffer: memory of so many costs more than any block has."""
_WALKED = 4_096
"""Statements, of all rounds together, of a loop that is walked round by round."""
_SHOWN = 160
"""Characters of a statement in a message."""
_SIGN = 1 << 255


def verify_program(program: Program, graph: Graph | None = None) -> list[str]:
    """Check a program.

    Proofs that lanes do not meet, that buffers hold what they are said to, that sections read what they are there to
    read, are not found for every valid program. Where one is missing the program is run beside its graph on many
    inputs, which decides; without a graph, and where a plugin's lowering stores lanes, a missing proof is a refusal.

    Args:
        program: The program.
        graph: The quantised graph that it was lowered from.

    Returns:
        What is not proved, but was tried, for people.

    Raises:
        VerifyError: it breaks a rule; the message says where.
        PluginError: the same, in a section that a plugin's lowering made.
    """
    doubts = unproved(program)
    if graph is None:
        for doubt in doubts:
            raise doubt
        return []
    number = inputs_tried(graph, proved=not doubts)
    found = difference(program, graph, number)
    if found is None:
        return [f"{doubt.args[0]} ({number} inputs gave the graph's integers)" for doubt in doubts]
    if doubts:
        raise type(doubts[0])(f"{doubts[0].args[0]}; {found}")
    raise VerifyError(found)


def unproved(program: Program) -> list[InternalError | PluginError]:
    """Check what is decided for every program.

    Args:
        program: The program.

    Returns:
        Refusals of what is not proved, which may be right all the same.

    Raises:
        VerifyError: it breaks a rule.
        PluginError: the same, in a section that a plugin's lowering made.
    """
    _check_declarations(program)
    check_procedures(program)
    check_pointers(program)
    _check_contracts(program)
    program = expanded(program)
    arithmetic = {proves: Words(program.segments, proves=proves) for proves in (True, False)}
    tables, found, doubts = _tables(program), {}, list[InternalError | PluginError]()
    for section in program.sections():
        for proves, words in arithmetic.items():
            try:
                found[section.name] = _Walk(program, section, words, tables, lanes=proves).run()
                break
            except VerifyError as error:
                refused = _blamed(section, str(error.args[0]))
                if not proves or _claims(program, section):
                    raise refused from error
                doubts.append(refused)
    _check_input(program, found[program.quantize.name])
    _check_order(program, found)
    for check in (_check_reads, _check_quantize):
        try:
            check(program, found)
        except (VerifyError, PluginError) as error:
            doubts.append(error)
    return doubts


def check_places(program: Program, places: Mapping[str, tuple[int, int]]) -> None:
    """Check that buffers that are needed at the same time share no memory, as a target lays them out.

    Args:
        program: The program.
        places: First byte and bytes of each buffer.

    Raises:
        VerifyError: two of them do.
    """
    lives = _lives(program)
    ordered = sorted((start, start + size, name) for name, (start, size) in places.items() if name in lives)
    for number, (_, end, name) in enumerate(ordered):
        for start, _, other in ordered[number + 1 :]:
            if start >= end:
                break
            if lives[name][0] <= lives[other][1] and lives[other][0] <= lives[name][1]:
                raise VerifyError(f"buffers {name} and {other} share memory while both are needed")
    for name, (_, size) in places.items():
        if size < _BYTES * program.buffers.get(name, 0):
            raise VerifyError(f"buffer {name} has {program.buffers[name]} words, and {size} bytes of memory")


def _lives(program: Program) -> dict[str, tuple[int, int]]:
    lives: dict[str, tuple[int, int]] = {}
    for number, section in enumerate(program.sections()):
        for statement in program.touched(section):
            names = [name for e in expressions(statement) for name in loads(e)]
            names += [statement.buffer] if isinstance(statement, Store | CopySegment) else []
            names += [*statement.takes, *statement.gives] if isinstance(statement, Call) else []
            for name in names:
                lives[name] = lives.get(name, (number, number))[0], number
    return lives


def _claims(program: Program, section: Section) -> bool:
    """Return whether a plugin's section stores what is said to be proved."""
    stored = (statement.buffer for statement in program.touched(section) if isinstance(statement, Store))
    return section.maker != OURS and any(b in program.holds and not program.holds[b].assumed for b in stored)


def _blamed(section: Section, reason: str) -> InternalError | PluginError:
    message = f"section {section.name}: {reason}"
    if section.maker == OURS:
        return VerifyError(message)
    return PluginError(f"the lowering of {section.maker} made a program that is wrong: {message}")


def _check_declarations(program: Program) -> None:
    names = [routine.name for routine in program.routines()]
    for name in names:
        if names.count(name) > 1:
            raise VerifyError(f"two sections are called {name}")
    for name, words in program.buffers.items():
        if not 0 <= words <= MOST_WORDS:
            raise VerifyError(f"buffer {name} has {words} words; there can be {MOST_WORDS}")
    for name, lanes in program.holds.items():
        if name not in program.buffers:
            raise VerifyError(f"there is no buffer {name} to hold lanes")
        room = lanes.count > 0 < lanes.stride and lanes.stride * (lanes.count - 1) + lanes.hi.bit_length() <= 256
        packed = lanes.stride < 256
        if not room or lanes.lo > lanes.hi or (packed and (lanes.lo < 0 or lanes.hi >> lanes.stride)):
            raise VerifyError(
                f"buffer {name} cannot hold {lanes.count} lanes of {lanes.stride} bits in [{lanes.lo}, {lanes.hi}]"
            )
    for name, segment in program.segments.items():
        if segment.storage is Storage.DATA and not 0 < segment.per_contract <= (
            program.contract_words or CONTRACT_WORDS
        ):
            raise VerifyError(f"segment {name} has {segment.per_contract} words in a data contract")


def _check_contracts(program: Program) -> None:
    """Check that code contracts are procedures and, after these, runs of sections, needed as a whole or not at all."""
    shared = [procedure.contract for procedure in program.procedures.values() if procedure.contract]
    runs = [number for number, _ in groupby(section.contract for section in program.layers) if number]
    if [*shared, *runs] != [*range(1, len(shared) + len(runs) + 1)]:
        raise VerifyError("code contracts are procedures, then runs of layers, and numbered from 1 as they come")
    around = (program.quantize, program.dequantize)
    if any(section.contract for section in around):
        raise VerifyError("only layers are in code contracts")
    for section in program.sections():
        calls = [call.procedure for call in calls_of(section.body)]
        asked = next((name for name in calls if program.procedures[name].contract), None)
        if asked is not None and (section.contract or section in around or len(calls) > 1):
            raise VerifyError(f"section {section.name} cannot call {asked}: layers outside call a code contract, alone")
    for number in runs:
        needed = {(s.predict, s.classify) for s in program.layers if s.contract == number}
        if len(needed) > 1:
            raise VerifyError(f"code contract {number} has sections that are not all needed by the same functions")


def _tables(program: Program) -> dict[str, tuple[str, int, int]]:
    """Return segment, first word and words of the buffers that nothing but one copy at a known place ever writes."""
    writers: dict[str, list[Statement]] = {}
    for section in program.sections():
        for statement in walk(section.body):
            if isinstance(statement, Store | CopySegment):
                writers.setdefault(statement.buffer, []).append(statement)
    found = {}
    for buffer, statements in writers.items():
        match statements:
            case [CopySegment(segment, Const(offset), words)]:
                found[buffer] = segment, offset, words
    return found


@dataclass
class _Found:
    """What a section does to the words of buffers (and bytes of the packed input, as `_PACKED`): sets, a bit a word."""

    needs: dict[str, int] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)
    reads: dict[str, int] = field(default_factory=dict)


_PACKED = "the packed input"
_WADS = "the argument"


def _check_input(program: Program, quantize: _Found) -> None:
    form = program.input
    if len(form.wad_range) not in {0, form.count}:
        raise VerifyError(f"ranges of {len(form.wad_range)} WAD values, and {form.count} elements")
    if not form.takes_wad:
        if program.quantize.body:
            raise VerifyError(f"section {program.quantize.name} packs WAD values, which are not taken")
        return
    missing = ((1 << program.input.length) - 1) & ~quantize.writes.get(_PACKED, 0)
    if missing:
        raise VerifyError(
            f"section {program.quantize.name}: byte {_lowest(missing)} of the packed input is not written"
        )


def _check_order(program: Program, found: Mapping[str, _Found]) -> None:
    """Check that each of `predict` and `classify` reads nothing but what it has written itself."""
    for entry, sections, result, words in program.entries:
        written: dict[str, int] = {}
        for section in sections:
            for buffer, needed in found[section.name].needs.items():
                missing = needed & ~written.get(buffer, 0)
                if missing:
                    raise _blamed(
                        section,
                        f"word {_lowest(missing)} of buffer {buffer} (of {program.buffers[buffer]} words) is read, and "
                        f"{entry} runs nothing that has written it before",
                    )
            for buffer, own in found[section.name].writes.items():
                written[buffer] = written.get(buffer, 0) | own
        missing = ((1 << words) - 1) & ~written.get(result, 0)
        if missing:
            raise VerifyError(f"{entry} does not write word {_lowest(missing)} of buffer {result}")


def _check_reads(program: Program, found: Mapping[str, _Found]) -> None:
    """Check that each section reads what it is there to read."""
    for section in program.sections():
        own = found[section.name]
        needed = {_PACKED if name == PACKED else name: bits for name, bits in section.reads.items()}
        for name, bits in needed.items():
            missing = bits & ~own.reads.get(name, 0)
            if missing:
                what = f"byte {_lowest(missing)} of {name}" if name == _PACKED else f"word {_lowest(missing)} of {name}"
                raise _blamed(section, f"{what} is not read, and that is what it is there for")


def _check_quantize(program: Program, found: Mapping[str, _Found]) -> None:
    """Check that each element of the argument makes an element of the packed input, in equal steps over its range."""
    form = program.input
    if form.coded or not form.takes_wad:  # trees' bits, or no argument at all
        return
    missing = ((1 << form.count) - 1) & ~found[program.quantize.name].reads.get(_WADS, 0)
    if missing:
        raise VerifyError(f"section {program.quantize.name}: element {_lowest(missing)} of the argument is not read")
    interpreter = Interpreter(program)
    least, most, *between = (_elements(form, _quantized(interpreter, part)) for part in range(_PARTS + 2))
    for part, packed in enumerate(between):
        for number, (x, (lo, hi), q, first, last) in enumerate(
            zip(_points(form, part + 2), form.wad_range, packed, least, most, strict=True)
        ):
            if hi > lo and abs((q - first) * (hi - lo) - (last - first) * (x - lo)) > 2 * (hi - lo):
                raise VerifyError(
                    f"section {program.quantize.name}: element {number} becomes {first} at {lo} and {last} at {hi}, "
                    f"and {q} at {x}"
                )


_PARTS = 4
"""Points of the range of each element at which it is looked at besides its ends: others for each."""


def _points(form: InputFormat, part: int) -> list[int]:
    """Return a value of each element: the least, the greatest, or one between."""
    if part < 2:
        return [ends[part] for ends in form.wad_range]
    places = ((1 + (7 * number + 3 * part + number * part) % 13) for number in range(form.count))
    return [lo + (hi - lo) * place // 14 for (lo, hi), place in zip(form.wad_range, places, strict=True)]


def _quantized(interpreter: Interpreter, part: int) -> bytes:
    try:
        return interpreter.quantize(_points(interpreter.program.input, part))
    except ProgramError as error:
        raise VerifyError(f"section {interpreter.program.quantize.name} refuses an argument in its range") from error


def _elements(form: InputFormat, packed: bytes) -> list[int]:
    found: list[int] = integers(packed, form.width, signed=form.signed).tolist()
    return found


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


# -- a section -------------------------------------------------------------------------------------------------------

_Steps = tuple[tuple[Loop, int], ...]
"""Loops, and by how much each of their rounds moves an index."""


@dataclass
class _Layer:
    """What was written in the round of a loop, or in the branch, that is walked.

    Attributes:
        loop: The loop; None for a branch and for the section.
        written: By buffer, and by how the index depends on the loops around: the words in their first rounds.
        content: What is in words of buffers whose lanes are to be proved.
        loaded: The narrowest bounds of lanes, and of what is above them, that were taken for granted in a load.
        read: What may have been read, as `written`; of segments what was copied.
    """

    loop: Loop | None = None
    written: dict[str, dict[_Steps, int]] = field(default_factory=dict)
    read: dict[str, dict[_Steps, int]] = field(default_factory=dict)
    content: dict[str, list[_Stored]] = field(default_factory=dict)
    loaded: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def write_all(self, ways: Sequence[dict[str, dict[_Steps, int]]]) -> None:
        """Add what each of some ways, one of which is gone, has written."""
        first, *others = ways or [{}]
        for buffer, entries in first.items():
            for steps, bits in entries.items():
                for way in others:
                    bits &= way.get(buffer, {}).get(steps, 0)
                _include(self.written, buffer, steps, bits)

    def take(self, branch: _Layer) -> None:
        """Add what was read, and may be in buffers, after a branch that may be taken."""
        for buffer, entries in branch.content.items():
            self.content.setdefault(buffer, []).extend(entries)
        for name, sets in branch.read.items():
            for steps, bits in sets.items():
                _include(self.read, name, steps, bits)


def _include(sets: dict[str, dict[_Steps, int]], name: str, steps: _Steps, bits: int) -> None:
    own = sets.setdefault(name, {})
    own[steps] = own.get(steps, 0) | bits


@dataclass(frozen=True, slots=True)
class _Stored:
    """What some words of a buffer hold: lanes as the buffer's, other bounds.

    Attributes:
        steps: How the index depends on the loops around.
        bits: The words, in their first rounds; none where it is what an earlier round may have stored.
        lo: The least.
        hi: The greatest.
        above: The greatest value above the lanes.
        statement: What stored it.
    """

    steps: _Steps
    bits: int
    lo: int
    hi: int
    above: int
    statement: Statement


@dataclass(frozen=True)
class _Copied:
    """What a copy has brought into a buffer: words of a segment, from one on that may depend on counters."""

    segment: str
    first: int
    steps: _Steps
    words: int


class _Walk:
    """Walks one section."""

    def __init__(
        self,
        program: Program,
        section: Section,
        words: Words,
        tables: Mapping[str, tuple[str, int, int]],
        *,
        lanes: bool,
    ) -> None:
        self._program, self._section, self._words, self._proves = program, section, words, lanes
        self._variables: dict[str, Word] = {}
        self._inductions: set[str] = set()
        self._copied = {b: _Copied(s, first, (), size) for b, (s, first, size) in tables.items()}
        self._layers = [_Layer()]
        self._needs: dict[str, int] = {}
        self._at: Statement | None = None

    def run(self) -> _Found:
        try:
            self._body(self._section.body)
            self._check_content()
        except (VerifyError, LanesMeetError) as error:
            where = "" if self._at is None else f"{_short(statement_text(self._at))}: "
            raise VerifyError(f"{where}{error.args[0]}") from error
        writes, reads = (
            {name: sets.get((), 0) for name, sets in every.items()}
            for every in (self._layers[0].written, self._layers[0].read)
        )
        return _Found(self._needs, writes, reads)

    # -- statements ------------------------------------------------------------------------------------------------

    def _body(self, body: Iterable[Statement]) -> bool:
        """Walk statements, whose variables end with them; return whether they come to their end."""
        outside = set(self._variables)
        ends = True
        for statement in body:
            self._at = statement
            ends = self._statement(statement) and ends
        for name in self._variables.keys() - outside:
            del self._variables[name]
        return ends

    def _statement(self, statement: Statement) -> bool:
        match statement:
            case Let(name, value):
                word = self._value(value)
                if name in self._variables:
                    raise VerifyError(f"variable {name} is declared twice")
                self._variables[name] = word
            case Assign(name, value):
                word = self._value(value)
                if name not in self._variables:
                    raise VerifyError(f"variable {name} is not declared")
                if name in self._inductions:
                    raise VerifyError(f"{name} is a loop's variable")
                self._variables[name] = word
            case Store(buffer, index, value):
                self._store(buffer, self._value(index), self._value(value))
            case StoreInput(offset, width, value):
                self._value(value)
                at = self._bounded(self._value(offset), self._program.input.length - width + 1, _PACKED)
                self._write(_PACKED, at, (1 << width) - 1)
            case CopySegment():
                self._copy(statement)
            case Block(body):
                return self._body(body)
            case If(condition, body, ()):
                self._if(condition, body)
            case If(condition, body, otherwise):
                return self._either(condition, body, otherwise)
            case For():
                self._for(statement)
            case Fail(_, args):
                for arg in args:
                    self._value(arg)
                return False
        return True

    def _store(self, buffer: str, index: Word, value: Word) -> None:
        at = self._bounded(index, self._size(buffer), buffer)
        self._write(buffer, at, 1)
        self._copied.pop(buffer, None)
        lanes = self._program.holds.get(buffer)
        if lanes is None or lanes.assumed or not self._proves:
            return
        above = 0
        if lanes.stride == 256:
            lo, hi = self._words.interval(value)
        else:
            bounds = self._words.lane_bounds(value, lanes.stride, lanes.count)
            _, above = bounds.pop()
            lo, hi = min(b[0] for b in bounds), max(b[1] for b in bounds)
        self._keep(buffer, at, lo, hi, above)

    def _keep(self, buffer: str, at: _Index, lo: int, hi: int, above: int) -> None:
        """Note what a store leaves in a buffer whose lanes are to be proved, instead of what was there."""
        assert self._at is not None
        own = self._layers[-1].content.setdefault(buffer, [])
        if at.exact:
            own[:] = _overwritten(own, at.steps, 1 << at.first)
        own.append(_Stored(at.steps, at.bits, lo, hi, above, self._at))

    def _check_content(self) -> None:
        """Check that what the section leaves in buffers is what they are said to hold."""
        for buffer, entries in self._layers[0].content.items():
            lanes = self._program.holds[buffer]
            for stored in entries:
                self._at = stored.statement
                if not stored.bits:
                    continue
                if stored.above:
                    raise VerifyError(f"there is something above the {lanes.count} lanes of a word of {buffer}")
                if stored.lo < lanes.lo or stored.hi > lanes.hi:
                    raise VerifyError(
                        f"what is stored can be {_number(stored.lo)} to {_number(stored.hi)}, and {buffer} holds "
                        f"{lanes.lo} to {lanes.hi}"
                    )

    def _copy(self, copy: CopySegment) -> None:
        segment = self._program.segments.get(copy.segment)
        if segment is None:
            raise VerifyError(f"there is no segment {copy.segment}")
        offset = self._value(copy.offset)
        size = self._size(copy.buffer)
        if not 0 < copy.words <= size:
            raise VerifyError(f"{copy.words} words are copied to buffer {copy.buffer} of {size} words")
        name = f"segment {copy.segment}"
        at = self._bounded(offset, len(segment.words) - copy.words + 1, name, len(segment.words))
        if segment.contracts > 1:
            step = gcd(segment.per_contract, *(abs(step) for _, step in at.steps)) if at.exact else 1
            if at.first % step + copy.words > step:
                raise VerifyError(
                    f"what is copied from {name} may lie in two data contracts of {segment.per_contract} words"
                )
        _include(self._layers[-1].read, name, at.steps, at.run(copy.words))
        self._write(copy.buffer, _Index(0, 0, (), exact=True), (1 << copy.words) - 1)
        self._copied.pop(copy.buffer, None)
        if at.exact:
            self._copied[copy.buffer] = _Copied(copy.segment, at.first, at.steps, copy.words)

    def _size(self, buffer: str) -> int:
        if buffer not in self._program.buffers:
            raise VerifyError(f"there is no buffer {buffer}")
        return self._program.buffers[buffer]

    # -- branches --------------------------------------------------------------------------------------------------

    def _if(self, condition: Expr, body: Sequence[Statement]) -> None:
        tested = self._value(condition)
        before, copied = dict(self._variables), dict(self._copied)
        fails = self._narrowed(condition, truth=False)
        holds = {} if isinstance(condition, Var) else self._narrowed(condition, truth=True)
        ends_of = self._words.unsigned(tested)
        if holds is None or (ends_of is not None and ends_of[1] == 0):
            return  # never taken
        if ends_of is not None and ends_of[0] > 0:
            fails = None  # always taken
        self._variables.update(holds)
        self._layers.append(_Layer())
        ends = self._body(body)
        branch = self._layers.pop()
        self._layers[-1].take(branch)
        self._copied = {b: c for b, c in copied.items() if self._copied.get(b) == c}
        if not ends:
            self._variables = {**before, **(fails or {})}
            return
        if fails is None:
            self._variables = {
                n: w if self._variables[n] is holds.get(n) else self._variables[n] for n, w in before.items()
            }
            return
        after, zero = self._variables, _zero_atoms(tested)
        merged = {}
        for name, old in before.items():
            new = after[name]
            merged[name] = old
            if new is not holds.get(name, old):
                merged[name] = self._merged(fails.get(name, old), new, zero if name not in fails else frozenset())
        self._variables = merged

    def _either(self, condition: Expr, body: Sequence[Statement], otherwise: Sequence[Statement]) -> bool:
        """Walk both ways of a branch, each from what was before it; return whether one of them comes to its end."""
        self._value(condition)
        before, copied = dict(self._variables), dict(self._copied)
        ways, written = [], list[dict[str, dict[_Steps, int]]]()
        for truth, statements in ((True, body), (False, otherwise)):
            narrowed = {} if isinstance(condition, Var) and truth else self._narrowed(condition, truth=truth)
            self._variables, self._copied = {**before, **(narrowed or {})}, dict(copied)
            self._layers.append(_Layer())
            ends = self._body(statements)
            branch = self._layers.pop()
            self._layers[-1].take(branch)
            if ends:
                ways.append((self._variables, narrowed or {}, self._copied))
                written.append(branch.written)
        self._layers[-1].write_all(written)
        if not ways:
            self._variables = before
            return False
        merged = dict(before)
        for name, old in before.items():
            news = [old if way[name] is narrowed.get(name, old) else way[name] for way, narrowed, _ in ways]
            merged[name] = news[0] if all(new is news[0] for new in news) else self._joined(news[0], news[1])
        self._variables = merged
        self._copied = {b: c for b, c in copied.items() if all(kept.get(b) == c for _, _, kept in ways)}
        return True

    def _merged(self, old: Word, new: Word, zero: frozenset[Atom]) -> Word:
        """Return what a variable is after a branch; where that was not taken, some atoms are 0."""
        times, rest = new.without(old)
        if times == 1 and all(atom in zero for atom, _ in rest):
            return new
        return self._joined(old, new)

    def _joined(self, a: Word, b: Word) -> Word:
        (lo, hi), (least, most) = self._words.interval(a), self._words.interval(b)
        lo, hi = min(lo, least), max(hi, most)
        return fresh(lo, hi) if lo >= -_SIGN and hi < WORD else anything()

    def _narrowed(self, condition: Expr, *, truth: bool) -> dict[str, Word] | None:
        """Return what variables are where a condition holds, or does not; None: that cannot be."""
        match condition:
            case Apply(OpCode.ISZERO, (inner,)):
                return self._narrowed(inner, truth=not truth)
            case Apply(OpCode.OR, (a, b)) if not truth:
                first, second = self._narrowed(a, truth=False), self._narrowed(b, truth=False)
                if first is None or second is None:
                    return None
                shared = first.keys() & second.keys()
                return {**first, **second, **{name: self._common(first[name], second[name]) for name in shared}}
            case Var(name) if name in self._variables:
                lo, hi = self._words.interval(self._variables[name])
                if lo == 0 and truth and hi:
                    return {name: fresh(1, hi)}
            case Apply(op, (a, b)) if op in _ORDERS:
                sides = self._compared(op, a, b, truth=truth), self._compared(_ORDERS[op], b, a, truth=truth)
                return None if sides[0] is None or sides[1] is None else {**sides[0], **sides[1]}
        return {}

    def _common(self, a: Word, b: Word) -> Word:
        (lo, hi), (least, most) = self._words.interval(a), self._words.interval(b)
        return fresh(max(lo, least), max(min(hi, most), lo, least))

    def _compared(self, op: OpCode, a: Expr, b: Expr, *, truth: bool) -> dict[str, Word] | None:
        if not isinstance(a, Var) or a.name not in self._variables or not isinstance(b, Var | Const):
            return {}
        mine, other = self._variables[a.name], self._value(b)
        if op in (OpCode.SLT, OpCode.SGT):
            (lo, hi), (least, most) = self._words.as_signed(mine), self._words.as_signed(other)
        else:
            ends, others = self._words.unsigned(mine), self._words.unsigned(other)
            if ends is None or others is None:
                return {}
            (lo, hi), (least, most) = ends, others
        below = op in (OpCode.LT, OpCode.SLT)
        if truth:
            lo, hi = (lo, min(hi, most - 1)) if below else (max(lo, least + 1), hi)
        else:
            lo, hi = (max(lo, least), hi) if below else (lo, min(hi, most))
        if lo > hi:
            return None
        if (lo, hi) == self._words.interval(mine):
            return {}
        narrowed = fresh(lo, hi)
        return {name: narrowed for name, word in self._variables.items() if word is mine}

    # -- loops -----------------------------------------------------------------------------------------------------

    def _for(self, loop: For) -> None:
        starts = [self._value(induction.start) for induction in loop.inductions]
        names = [induction.name for induction in loop.inductions]
        if not names or not isinstance(loop.inductions[0].start, Const) or loop.inductions[0].step < 1:
            raise VerifyError("the first variable of a loop starts at a constant, and rises")
        if loop.count < 0 or len(set(names)) < len(names) or any(name in self._variables for name in names):
            raise VerifyError(f"loop variables are declared twice: {', '.join(names)}")
        if not loop.count:
            return
        inside = list(walk(loop.body))
        self._forget(inside)
        changed = {s.name for s in inside if isinstance(s, Assign) and s.name in self._variables}
        sums = {name for name in changed if _adds_up(name, loop, inside)}
        self._inductions.update(names)
        if changed == sums or loop.count * len(inside) > _WALKED:
            self._summarised(loop, starts, inside, sums, changed - sums)
        else:
            for k in range(loop.count):
                for induction, start in zip(loop.inductions, starts, strict=True):
                    self._variables[induction.name] = added(start, literal(induction.step * k))
                self._body(loop.body)
        for name in names:
            self._variables.pop(name, None)
        self._inductions.difference_update(names)
        self._forget(inside)

    def _forget(self, inside: Iterable[Statement]) -> None:
        """Forget what copies have brought into buffers that some statements write."""
        for statement in inside:
            if isinstance(statement, Store | CopySegment):
                self._copied.pop(statement.buffer, None)

    def _summarised(
        self, loop: For, starts: Sequence[Word], inside: Sequence[Statement], sums: set[str], others: set[str]
    ) -> None:
        """Walk the body once for all rounds; again where variables turn out to be more than they were before."""
        before = dict(self._variables)
        assumed = {name: fresh(*self._words.interval(before[name])) for name in others}
        carried = {name: anything() for name in sums}
        settled, attempt = False, 0
        while not settled:
            own = Loop(loop.count)
            counter = of_atom(Atom(0, loop.count - 1, loop=own))
            self._variables = {**before, **carried, **assumed}
            for induction, start in zip(loop.inductions, starts, strict=True):
                self._variables[induction.name] = Word(parts=((1, start), (induction.step, counter)))
            with self._layer(own) as layer:
                self._body(loop.body)
            after = self._variables
            settled = self._settled(layer, attempt)
            for name in others:
                joined = self._joined(assumed[name], after[name])
                if self._words.interval(joined) != self._words.interval(assumed[name]):
                    assumed[name], settled = (anything() if attempt else joined), False
            attempt += 1
            self._forget(inside)
        results = dict(assumed)
        for name, carry in carried.items():
            _, rest = after[name].without(carry)
            results[name] = summed(own, rest, before[name])
        self._variables = {**before, **results}

    def _settled(self, layer: _Layer, attempt: int) -> bool:
        """Return whether a round reads nothing from buffers that an earlier one may have stored beyond what it took."""
        settled = True
        for buffer in layer.content.keys() & layer.loaded.keys():
            lo, hi, above = layer.loaded[buffer]
            entries = layer.content[buffer]
            least, most = min(e.lo for e in entries), max(e.hi for e in entries)
            over = max(e.above for e in entries)
            if least < lo or most > hi or over > above:
                lanes = self._program.holds[buffer]
                packed = lanes.stride < 256
                widest = (
                    (0, (1 << lanes.stride) - 1, MASK >> min(lanes.count * lanes.stride, 256))
                    if packed
                    else (-_SIGN, MASK, 0)
                )
                ghost = widest if attempt else (least, most, over)
                around = self._layers[-1].content.setdefault(buffer, [])
                around.append(_Stored((), 0, *ghost, entries[0].statement))
                settled = False
        return settled

    @contextmanager
    def _layer(self, loop: Loop) -> Iterator[_Layer]:
        """Collect what is written in a round; afterwards it is written in all of them."""
        layer = _Layer(loop)
        self._layers.append(layer)
        yield layer
        self._layers.pop()
        around = self._layers[-1].written
        for buffer, sets in layer.written.items():
            for steps, bits in sets.items():
                rest, bits = _all_rounds(loop, steps, bits)
                before = around.get(buffer, {}).get(rest, 0)
                if buffer == _PACKED and before & bits:
                    raise VerifyError(f"byte {_lowest(before & bits)} of the packed input is written twice")
                _include(around, buffer, rest, bits)
        for name, sets in layer.read.items():
            for steps, bits in sets.items():
                _include(self._layers[-1].read, name, *_all_rounds(loop, steps, bits))
        for buffer, entries in layer.content.items():
            kept = self._layers[-1].content.setdefault(buffer, [])
            every = [(entry, *_all_rounds(loop, entry.steps, entry.bits)) for entry in entries]
            for _, rest, bits in every:
                kept[:] = _overwritten(kept, rest, bits)
            kept += [replace(entry, steps=rest, bits=bits) for entry, rest, bits in every]

    # -- words of buffers ------------------------------------------------------------------------------------------

    def _bounded(self, index: Word, limit: int, what: str, size: int | None = None) -> _Index:
        """Return an index that is proved to lie below a limit."""
        lo, hi = self._words.interval(index)
        if lo < 0 or hi >= limit:
            name = what if what == _PACKED or what.startswith("segment ") else f"buffer {what}"
            raise VerifyError(
                f"index {_number(lo)} to {_number(hi)} of {name} of {limit if size is None else size} "
                f"{'bytes' if what == _PACKED else 'words'}"
            )
        affine = _affine(index)
        return _Index(lo, hi, (), exact=lo == hi) if affine is None else _Index(affine[0], hi, affine[1], exact=True)

    def _write(self, buffer: str, at: _Index, bits: int) -> None:
        if at.exact:
            _include(self._layers[-1].written, buffer, at.steps, bits << at.first)

    def _read(self, buffer: str, at: _Index) -> None:
        steps, bits = at.steps, at.bits
        _include(self._layers[-1].read, buffer, steps, bits)
        for layer in reversed(self._layers):
            bits &= ~layer.written.get(buffer, {}).get(steps, 0)
            if not bits:
                return
            if layer.loop is not None:
                steps, bits = _all_rounds(layer.loop, steps, bits)
        self._needs[buffer] = self._needs.get(buffer, 0) | bits

    # -- expressions -----------------------------------------------------------------------------------------------

    def _value(self, expr: Expr) -> Word:
        """Return what an expression can be; what is left to do is kept in a list, as expressions can be very deep."""
        left: list[Expr | tuple[int, Callable[..., Word]]] = [expr]
        words: list[Word] = []
        while left:
            item = left.pop()
            if isinstance(item, tuple):
                size, combine = item
                args = words[-size:]
                del words[-size:]
                words.append(combine(*args))
            elif isinstance(item, Const):
                words.append(literal(item.value))
            elif isinstance(item, Var):
                if item.name not in self._variables:
                    raise VerifyError(f"variable {item.name} is not declared")
                words.append(self._variables[item.name])
            else:
                parts, combine = self._parts(item)
                left.append((len(parts), combine))
                left += parts[::-1]
        return words[0]

    def _parts(self, expr: Load | LoadInput | WadInput | Apply) -> tuple[tuple[Expr, ...], Callable[..., Word]]:
        """Return the parts of an expression, and what makes its word of theirs."""
        words = self._words
        match expr:
            case Apply(op, args) if op in _PLAIN:
                return args, partial(self._applied, op)
            case Load(buffer, index):
                return (index,), lambda at: self._load(buffer, at)
            case LoadInput(offset):
                return (offset,), lambda at: self._input(at, _BYTES)
            case WadInput(index):
                return (index,), self._wad
            case Apply(OpCode.AND, (Apply(OpCode.SHR, (Const(shift), inner)), Const(mask))) if shift < 256:
                return (inner,), lambda word: words.masked(word, shift, mask)
            case Apply(OpCode.AND, (inner, Const(mask)) | (Const(mask), inner)):
                return (inner,), lambda word: words.masked(word, 0, mask)
            case Apply(OpCode.SHR, (Const(shift), Apply(OpCode.SHL, (place, (Load() | Const()) as table)))) if (
                entry := _entry_of(table, place, 256 - shift)
            ) is not None:
                return (entry,), lambda at: self._entry(at, table, 256 - shift)
            case Apply(OpCode.SHR | OpCode.SAR as op, (Const(shift), LoadInput(offset))) if 0 < shift < 256:
                used = _BYTES - shift // 8
                return (offset,), lambda at: self._first_bytes(op, shift, self._input(at, used))
            case Apply(OpCode.SHR, (Const(shift), inner)):
                return (inner,), lambda word: words.masked(word, shift, MASK) if shift < 256 else literal(0)
            case Apply(OpCode.SHL, (Const(shift), inner)):
                return (inner,), lambda word: raised(word, 1 << shift & MASK)
            case Apply(OpCode.BYTE, (Const(place), inner)):
                return (inner,), lambda word: words.masked(word, 248 - 8 * place, 255) if place < 32 else literal(0)
            case Apply(OpCode.BYTE, (index, Const() as table)):
                return (index,), lambda at: self._entry(at, table, 8)
            case Apply(OpCode.BYTE, (_, Load(_, Apply(OpCode.SHR, (_, index))) as table)) if (
                as_byte_of(expr) is not None
            ):
                return (index,), lambda at: self._entry(at, table, 8)
            case Apply(OpCode.XOR, (Apply(OpCode.OR, (inner, Var(mask))), Var(again))) if mask == again:
                return (inner, Var(mask)), words.without
            case Apply(OpCode.XOR, (inner, Const(mask)) | (Const(mask), inner)):
                return (inner,), lambda word: words.flipped(word, mask)
            case Apply(op, args):
                return args, partial(self._applied, op)

    def _load(self, buffer: str, index: Word) -> Word:
        at = self._bounded(index, self._size(buffer), buffer)
        self._read(buffer, at)
        copied = self._copied.get(buffer)
        if copied is not None and at.last < copied.words:
            if at.exact:
                return of_atom(ONE, {Data(copied.segment, copied.first + at.first, _joint(copied.steps, at.steps)): 1})
            if not copied.steps:
                content = self._words.content(copied.segment, copied.first, copied.words)
                return fresh(min(content), max(content))
        lanes = self._program.holds.get(buffer)
        if lanes is None:
            return anything()
        stored = [entry for layer in self._layers for entry in layer.content.get(buffer, ())]
        lo, hi = min([lanes.lo, *(e.lo for e in stored)]), max([lanes.hi, *(e.hi for e in stored)])
        above = max([0, *(e.above for e in stored)])
        for layer in self._layers:
            least, most, over = layer.loaded.get(buffer, (lo, hi, above))
            layer.loaded[buffer] = max(least, lo), min(most, hi), min(over, above)
        if lanes.stride == 256:
            return fresh(lo, hi) if lo >= -_SIGN and hi < WORD else anything()
        one = lane if lanes.count > 1 else fresh
        parts = [(1 << lanes.stride * number, one(lo, hi)) for number in range(lanes.count)]
        if above:
            parts.append((1 << lanes.stride * lanes.count, fresh(0, above)))
        return Word(parts=parts)

    def _entry(self, index: Word, table: Load | Const, bits: int) -> Word:
        """Return an entry of a table, of `bits` bits; an index past the end of the only word gives 0, or anything."""
        per_word, ones = 256 // bits, (1 << bits) - 1
        content: Sequence[int] = ()
        ends = self._words.unsigned(index) or (0, MASK)
        if isinstance(table, Const):
            content = (table.value,)
        else:
            self._load(table.buffer, self._words.masked(index, per_word.bit_length() - 1, MASK))
            copied = self._copied.get(table.buffer)
            if copied is not None and not copied.steps:
                content = self._words.content(copied.segment, copied.first, copied.words)
        if ends[1] >= per_word * len(content):
            return fresh(0, ones)
        places = range(ends[0], ends[1] + 1)
        entries = [content[i // per_word] >> (256 - bits * (i % per_word + 1)) & ones for i in places]
        return fresh(min(entries), max(entries))

    def _first_bytes(self, op: OpCode, shift: int, word: Word) -> Word:
        if op is OpCode.SHR:
            return self._words.masked(word, shift, MASK)
        return self._shifted_signed(literal(shift), word)

    def _input(self, offset: Word, used: int) -> Word:
        """Return 32 bytes of the packed input, of which the first are used: elements, where they are whole ones."""
        length, width = self._program.input.length, self._program.input.width
        lo, hi = self._words.interval(offset)
        if lo < 0 or hi >= length + _BYTES:
            raise VerifyError(f"bytes from {_number(lo)} to {_number(hi)} on are read of an input of {length} bytes")
        affine = _affine(offset)
        at = _Index(lo, hi, (), exact=lo == hi) if affine is None else _Index(affine[0], hi, affine[1], exact=True)
        _include(self._layers[-1].read, _PACKED, at.steps, at.run(used))
        whole = affine is not None and not any(v % width for v in (_BYTES, affine[0], *(s for _, s in affine[1])))
        size = 8 * width if whole else 8
        return Word(parts=[(1 << place, fresh(0, (1 << size) - 1)) for place in range(0, 8 * _BYTES, size)])

    def _wad(self, index: Word) -> Word:
        lo, hi = self._words.interval(index)
        if lo < 0 or hi >= self._program.input.count:
            raise VerifyError(
                f"elements {_number(lo)} to {_number(hi)} are read of an argument of {self._program.input.count}"
            )
        affine = _affine(index)
        at = _Index(lo, hi, (), exact=lo == hi) if affine is None else _Index(affine[0], hi, affine[1], exact=True)
        _include(self._layers[-1].read, _WADS, at.steps, at.bits)
        return fresh(-_SIGN, _SIGN - 1)

    def _applied(self, op: OpCode, *args: Word) -> Word:
        words = self._words
        match op:
            case OpCode.ADD:
                return added(args[0], args[1])
            case OpCode.SUB:
                return added(args[0], args[1], -1)
            case OpCode.BYTE:
                return fresh(0, 255)
            case OpCode.MUL:
                return self._product(*args)
            case OpCode.AND:
                return words.both(*args)
            case OpCode.OR:
                return words.either(*args)
            case OpCode.LT | OpCode.GT | OpCode.SLT | OpCode.SGT:
                words.require_numbers(args)
                return fresh(0, 1)
            case OpCode.EQ | OpCode.ISZERO:
                return fresh(0, 1)
            case OpCode.SAR:
                return self._shifted_signed(*args)
        ends = [words.unsigned(arg) for arg in args]
        if op is OpCode.SDIV:
            signed = [words.as_signed(arg) for arg in args]
            reach = max(map(abs, signed[0]))
            return fresh(0 if signed[0][0] >= 0 and signed[1][0] >= 0 else -reach, reach)
        first, second = ends
        if first is None or second is None:
            return anything()
        match op:
            case OpCode.DIV:
                return fresh(first[0] // max(second[1], 1) if second[0] else 0, first[1] // max(second[0], 1))
            case OpCode.MOD:
                return fresh(0, min(first[1], max(second[1] - 1, 0)))
            case OpCode.SHR:
                return fresh(second[0] >> min(first[1], 256), second[1] >> min(first[0], 256))
            case OpCode.SHL if first[1] < 256 and second[1] << first[1] < WORD:
                return fresh(second[0] << first[0], second[1] << first[1])
        return anything()

    def _product(self, a: Word, b: Word) -> Word:
        for factor, other in ((a, b), (b, a)):
            if (value := factor.constant) is not None:
                return Word(parts=((value if value < _SIGN else value - WORD, other),))
        for word, other in ((a, b), (b, a)):
            data = word.flat.get((ONE, ()))
            if len(word.flat) == 1 and data is not None and not isinstance(data, int) and not other.has_data:
                return Word(
                    {
                        key: {d: times * _centred(f) for d, times in data.items()}  # type: ignore[arg-type]
                        for key, f in other.flat.items()
                    },
                    known=min(word.known, other.known),
                )
        ends = [self._words.interval(word) for word in (a, b)]
        products = [x * y for x in ends[0] for y in ends[1]]
        lo, hi = min(products), max(products)
        return fresh(lo, hi) if lo >= -_SIGN and hi < WORD else anything()

    def _shifted_signed(self, shift: Word, word: Word) -> Word:
        lo, hi = self._words.as_signed(word)
        ends = self._words.unsigned(shift)
        least, most = (0, 255) if ends is None else (min(ends[0], 255), min(ends[1], 255))
        corners = [v >> s for v in (lo, hi) for s in (least, most)]
        return fresh(min(corners), max(corners))


@dataclass(frozen=True, slots=True)
class _Index:
    """An index that is in range: exactly `first` plus what counters add, or else anything from `first` to `last`."""

    first: int
    last: int
    steps: _Steps
    exact: bool

    @property
    def bits(self) -> int:
        """The words it can be, in the first rounds."""
        return self.run(1)

    def run(self, words: int) -> int:
        """Return the same of so many words from it on."""
        return ((1 << words) - 1) << self.first if self.exact else (1 << self.last + words) - (1 << self.first)


_PLAIN = frozenset(OpCode) - {OpCode.AND, OpCode.XOR, OpCode.SHL, OpCode.SHR, OpCode.SAR, OpCode.BYTE}
"""Operations that are one and the same whatever they are applied to."""
_ORDERS = {OpCode.LT: OpCode.GT, OpCode.GT: OpCode.LT, OpCode.SLT: OpCode.SGT, OpCode.SGT: OpCode.SLT}


def _overwritten(entries: Iterable[_Stored], steps: _Steps, bits: int) -> list[_Stored]:
    """Return what is left of entries when some words get others."""
    left = (replace(e, bits=e.bits & ~bits) if e.steps == steps and e.bits else e for e in entries)
    return [now for now, was in zip(left, entries, strict=True) if now.bits or not was.bits]


def _entry_of(table: Load | Const, place: Expr, bits: int) -> Expr | None:
    """Return the index of an entry of a table, if one is shifted to the top of its word."""
    per_word = 256 // bits if bits > 0 else 0
    match place, table:
        case Apply(OpCode.SHL, (Const(shift), Apply(OpCode.AND, (index, Const(mask))))), Const():
            return index if 1 << shift == bits and mask == per_word - 1 else None
        case (
            Apply(OpCode.SHL, (Const(shift), Apply(OpCode.AND, (index, Const(mask))))),
            Load(_, Apply(OpCode.SHR, (Const(down), again))),
        ):
            same = again is index or (isinstance(index, Var) and again == index)
            return index if same and 1 << shift == bits and mask == per_word - 1 == (1 << down) - 1 else None
    return None


def _centred(factor: int) -> int:
    return factor if factor < _SIGN else factor - WORD


def _affine(word: Word) -> tuple[int, _Steps] | None:
    """Return the constant and the counters' factors, if there is nothing else in a word."""
    first, steps = 0, []
    for (atom, span), factor in word.flat.items():
        if not isinstance(factor, int) or span or (atom is not ONE and atom.loop is None):
            return None
        if atom.loop is None:
            first = _centred(factor)
        else:
            steps.append((atom.loop, _centred(factor)))
    return first, tuple(sorted(steps, key=lambda step: step[0].number))


def _joint(a: _Steps, b: _Steps) -> _Steps:
    total = dict(a)
    for loop, step in b:
        total[loop] = total.get(loop, 0) + step
    return tuple(sorted(((x, s) for x, s in total.items() if s), key=lambda step: step[0].number))


def _all_rounds(loop: Loop, steps: _Steps, bits: int) -> tuple[_Steps, int]:
    """Return a set of words in all rounds of a loop, and how it depends on the other loops."""
    step = next((s for x, s in steps if x is loop), 0)
    done = 1
    while step and done < loop.count:
        more = min(done, loop.count - done)
        bits |= bits << step * more if step > 0 else bits >> -step * more
        done += more
    return tuple((x, s) for x, s in steps if x is not loop), bits


def _zero_atoms(condition: Word) -> frozenset[Atom]:
    """Return atoms that are 0 where a word is 0: those of a sum without negative terms, or of a single term."""
    terms = condition.flat
    if condition.known < 256 or any(atom is ONE or not isinstance(f, int) for (atom, _), f in terms.items()):
        return frozenset()
    if len(terms) > 1 and any(atom.lo < 0 for atom, _ in terms):
        return frozenset()
    total = sum(f * max(abs(atom.lo), atom.hi) for (atom, _), f in terms.items() if isinstance(f, int))
    return frozenset(atom for atom, span in terms if not span) if total < WORD else frozenset()


def _adds_up(name: str, loop: For, inside: Sequence[Statement]) -> bool:
    """Return whether all that a loop does with a variable is to add something to it."""
    uses = sum(
        isinstance(part, Var) and part.name == name
        for statement in inside
        for expr in expressions(statement)
        for part in subexpressions(expr)
    )
    return uses == sum(_added_to(name, s.value) for s in inside if isinstance(s, Assign) and s.name == name) > 0


def _added_to(name: str, value: Expr) -> int:
    """Return 1 if an expression is something plus a variable, 0 if not."""
    left = [value]
    found = 0
    while left:
        match left.pop():
            case Var(other):
                found += other == name
            case Apply(OpCode.ADD, args):
                left += args
            case Apply(OpCode.SUB, (first, _)):
                left.append(first)
    return int(found == 1)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _number(value: int) -> str:
    return str(value) if abs(value) < 1 << 64 else f"{'-' if value < 0 else ''}2^{abs(value).bit_length() - 1} or more"
