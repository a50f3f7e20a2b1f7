"""The Program interpreter: runs a Program without a chain, word for word as the EVM would.

Expressions become nested closures once, so that many samples run quickly.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

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
    to_signed,
)
from .wad import Outcome


class ProgramError(Exception):
    """The program reverted.

    Attributes:
        error: Name of the custom error.
        args: Its arguments (words).
    """

    def __init__(self, error: str, *args: int) -> None:
        super().__init__(error, *args)
        self.error = error


class _Machine:
    """Buffers, variables and the packed input of one run."""

    __slots__ = ("buffers", "input", "variables", "wads")

    def __init__(self, program: Program, packed: bytearray, wads: Sequence[int]) -> None:
        # undefined words are poisoned, so that a program that reads one gives a wrong answer here
        self.buffers = {name: [_POISON] * words for name, words in program.buffers.items()}
        self.input = packed
        self.wads = wads
        self.variables: dict[str, int] = {}


_POISON = int.from_bytes(b"\xde\xad" * 16, "big")

_Eval = Callable[[_Machine], int]
_Run = Callable[[_Machine], None]

_BINARY: dict[OpCode, Callable[[int, int], int]] = {
    OpCode.ADD: lambda a, b: (a + b) & MASK,
    OpCode.SUB: lambda a, b: (a - b) & MASK,
    OpCode.MUL: lambda a, b: (a * b) & MASK,
    OpCode.DIV: lambda a, b: a // b if b else 0,
    OpCode.SDIV: lambda a, b: _sdiv(to_signed(a), to_signed(b)),
    OpCode.MOD: lambda a, b: a % b if b else 0,
    OpCode.AND: lambda a, b: a & b,
    OpCode.OR: lambda a, b: a | b,
    OpCode.XOR: lambda a, b: a ^ b,
    OpCode.SHL: lambda bits, a: (a << bits) & MASK if bits < 256 else 0,
    OpCode.SHR: lambda bits, a: a >> bits if bits < 256 else 0,
    OpCode.SAR: lambda bits, a: (to_signed(a) >> min(bits, 255)) & MASK,
    OpCode.LT: lambda a, b: int(a < b),
    OpCode.GT: lambda a, b: int(a > b),
    OpCode.SLT: lambda a, b: int(to_signed(a) < to_signed(b)),
    OpCode.SGT: lambda a, b: int(to_signed(a) > to_signed(b)),
    OpCode.EQ: lambda a, b: int(a == b),
    OpCode.BYTE: lambda i, a: a >> (248 - 8 * i) & 255 if i < 32 else 0,
}


def _sdiv(a: int, b: int) -> int:
    if b == 0:
        return 0
    quotient = abs(a) // abs(b)
    return (quotient if (a < 0) == (b < 0) else -quotient) % WORD


@dataclass
class Profile:
    """How often a program's branches were taken, and what its inputs looked like.

    Attributes:
        runs: Number of inputs.
        zeros: Zero bytes of all packed inputs together.
        reached: How often each `If` was come to: by section, then by its number among the section's in `walk` order.
        taken: How often its condition held.
        opened: For how many inputs each data contract was read, by its number.
    """

    runs: int = 0
    zeros: int = 0
    reached: Counter[tuple[str, int]] = field(default_factory=Counter)
    taken: Counter[tuple[str, int]] = field(default_factory=Counter)
    opened: Counter[int] = field(default_factory=Counter)


class Profiler:
    """Counts what depends on the input in a call of `classifyPacked` (`predictPacked` where there is no decision).

    Args:
        program: The program.

    Attributes:
        profile: The counts of all runs.
    """

    def __init__(self, program: Program) -> None:
        self.profile = Profile()
        self._decides = program.has_decision
        self._interpreter = Interpreter(program, self.profile)

    def run(self, packed: bytes) -> None:
        """Count one more input; one that is refused is not counted."""
        opened = self._interpreter.opened
        opened.clear()
        try:
            self._interpreter.decide(packed) if self._decides else self._interpreter.predict(packed)
        except ProgramError:
            return
        self.profile.runs += 1
        self.profile.opened.update(opened)
        self.profile.zeros += packed.count(0)


def profile(program: Program, packed: Iterable[bytes]) -> Profile:
    """Return the counts of some packed inputs."""
    profiler = Profiler(program)
    for x in packed:
        profiler.run(x)
    return profiler.profile


class Interpreter:
    """A program made ready to run.

    Args:
        program: The program.
        branches: Counts the branches of every decision (of every prediction, where the program decides nothing).

    Attributes:
        opened: Data contracts that those read, by number; never emptied.
    """

    def __init__(self, program: Program, branches: Profile | None = None) -> None:
        self.program = program
        self._branches: Profile | None = None
        self._segments = program.segments
        self.opened: set[int] = set()
        self._quantize = self._section(program.quantize)
        if not program.has_decision:
            self._branches = branches
        self._predict = self._sections(s for s in program.layers if s.predict)
        self._dequantize = self._section(program.dequantize)
        self._branches = branches
        self._classify = self._sections(s for s in program.layers if s.classify)

    def quantize(self, wads: Sequence[int]) -> bytes:
        """Return the packed input that `predict` makes of WAD values.

        Raises:
            ProgramError: an input is out of range and the program is strict.
        """
        machine = _Machine(self.program, bytearray(self.program.input.length), [w & MASK for w in wads])
        self._quantize(machine)
        return bytes(machine.input)

    def run(self, packed: bytes) -> Outcome:
        """Return what the contract answers to a packed input.

        Raises:
            ProgramError: the program reverts.
        """
        outputs = self.predict(packed)
        return Outcome(outputs, self.decide(packed) if self.program.has_decision else None)

    def predict(self, packed: bytes) -> tuple[int, ...]:
        """Return the outputs (WAD) for a packed input.

        Raises:
            ProgramError: the program reverts.
        """
        machine = _Machine(self.program, bytearray(packed), ())
        self._predict(machine)
        self._dequantize(machine)
        return tuple(to_signed(w) for w in machine.buffers["wad"][: self.program.outputs])

    def decide(self, packed: bytes) -> int:
        """Return the decision for a packed input (of a program that has one).

        Raises:
            ProgramError: the program reverts.
        """
        machine = _Machine(self.program, bytearray(packed), ())
        self._classify(machine)
        return machine.buffers["label"][0]

    def _section(self, section: Section) -> _Run:
        self._key, self._ifs = section.name, itertools.count()
        return self._block(section.body)

    def _sections(self, sections: Iterable[Section]) -> _Run:
        return _sequence([self._section(s) for s in sections])

    def _block(self, body: Iterable[Statement]) -> _Run:
        return _sequence([run for s in body if (run := self._statement(s)) is not None])

    def _statement(self, statement: Statement) -> _Run | None:
        match statement:
            case Note():
                return None
            case Let(name, value) | Assign(name, value):
                return _assign(name, _compile(value))
            case Store(buffer, index, value):
                return _store(buffer, _compile(index), _compile(value))
            case StoreInput(offset, width, value):
                return _store_input(_compile(offset), width, _compile(value))
            case CopySegment(segment, offset, words, buffer):
                copy = _copy(self._segments[segment].words, _compile(offset), words, buffer)
                return copy if self._branches is None else _sequence([self._opening(segment, _compile(offset)), copy])
            case Block(body):
                return self._block(body)
            case If(condition, body):
                key = self._key, next(self._ifs)  # before those of its body, as `walk` goes
                return _if(_compile(condition), self._block(body), key, self._branches)
            case Fail(error, args):
                return _fail(error, [_compile(a) for a in args])
            case For(inductions, count, body):
                starts = [(i.name, _compile(i.start)) for i in inductions]
                return _for(starts, [(i.name, i.step) for i in inductions], count, self._block(body))

    def _opening(self, segment: str, offset: _Eval) -> _Run:
        if segment not in self.program.places:
            return _sequence([])
        first, size = self.program.places[segment].first, self._segments[segment].per_contract

        def run(m: _Machine) -> None:
            self.opened.add(first + offset(m) // size)

        return run


def _sequence(runs: list[_Run]) -> _Run:
    if len(runs) == 1:
        return runs[0]

    def run(m: _Machine) -> None:
        for r in runs:
            r(m)

    return run


def _assign(name: str, value: _Eval) -> _Run:
    def run(m: _Machine) -> None:
        m.variables[name] = value(m)

    return run


def _store(buffer: str, index: _Eval, value: _Eval) -> _Run:
    def run(m: _Machine) -> None:
        m.buffers[buffer][_checked(index(m), len(m.buffers[buffer]), buffer)] = value(m)

    return run


def _store_input(offset: _Eval, width: int, value: _Eval) -> _Run:
    def run(m: _Machine) -> None:
        start = _checked(offset(m), len(m.input) - width + 1, "input")
        m.input[start : start + width] = (value(m) & ((1 << 8 * width) - 1)).to_bytes(width, "big")

    return run


def _copy(words: Sequence[int], offset: _Eval, count: int, buffer: str) -> _Run:
    def run(m: _Machine) -> None:
        start = _checked(offset(m), len(words) - count + 1, "segment")
        if len(m.buffers[buffer]) < count:
            raise InternalError(f"{count} words do not fit buffer {buffer}")
        m.buffers[buffer][:count] = words[start : start + count]

    return run


def _if(condition: _Eval, body: _Run, key: tuple[str, int], branches: Profile | None) -> _Run:
    def run(m: _Machine) -> None:
        if condition(m):
            body(m)

    if branches is None:
        return run
    reached, taken = branches.reached, branches.taken

    def run_counted(m: _Machine) -> None:
        reached[key] += 1
        if condition(m):
            taken[key] += 1
            body(m)

    return run_counted


def _fail(error: str, args: list[_Eval]) -> _Run:
    def run(m: _Machine) -> None:
        raise ProgramError(error, *(a(m) for a in args))

    return run


def _for(starts: list[tuple[str, _Eval]], steps: list[tuple[str, int]], count: int, body: _Run) -> _Run:
    def run(m: _Machine) -> None:
        variables = m.variables
        for name, start in starts:
            variables[name] = start(m)
        for _ in range(count):
            body(m)
            for name, step in steps:
                variables[name] += step

    return run


def _compile(expr: Expr) -> _Eval:
    match expr:
        case Const(value):
            return lambda m: value
        case Var(name):
            return lambda m: m.variables[name]
        case Load(buffer, index):
            at = _compile(index)
            return lambda m: m.buffers[buffer][_checked(at(m), len(m.buffers[buffer]), buffer)]
        case LoadInput(offset):
            start = _compile(offset)
            return lambda m: int.from_bytes(bytes(m.input[start(m) : start(m) + 32]).ljust(32, b"\0"), "big")
        case WadInput(index):
            at = _compile(index)
            return lambda m: m.wads[at(m)]
        case Apply(OpCode.ISZERO, (arg,)):
            operand = _compile(arg)
            return lambda m: int(operand(m) == 0)
        case Apply(op, (first, second)):
            function, left, right = _BINARY[op], _compile(first), _compile(second)
            return lambda m: function(left(m), right(m))
    raise InternalError(f"unknown expression {expr!r}")


def _checked(index: int, size: int, what: str) -> int:
    if index >= size:
        raise InternalError(f"index {index} of {what}, which has {size}")
    return index
