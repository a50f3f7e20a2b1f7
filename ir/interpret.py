"""The Program interpreter: runs a Program without a chain, word for word as the EVM would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from ml2sc.errors import InternalError

from .procedures import expanded
from .program import LABEL, MASK, OUTPUTS, Program, Section, to_signed
from .translate import Counts, Machine, ProgramError, Run, translate
from .wad import Outcome

__all__ = ["Interpreter", "Profile", "Profiler", "ProgramError", "profile"]


Answer = TypeVar("Answer")


@dataclass
class Profile:
    """How often a program's branches were taken, and what its inputs looked like.

    Attributes:
        runs: Number of inputs.
        zeros: Zero bytes of all packed inputs together.
        reached: How often each `If` was come to: by section, then by its number among the section's in `walk` order.
        taken: How often its condition held.
        opened: For how many inputs each data contract was read, by its number.
        assumed: Whether the inputs were made up.
    """

    runs: int = 0
    zeros: int = 0
    reached: Counter[tuple[str, int]] = field(default_factory=Counter)
    taken: Counter[tuple[str, int]] = field(default_factory=Counter)
    opened: Counter[int] = field(default_factory=Counter)
    assumed: bool = False

    def merge(self, other: Profile) -> None:
        """Add another's counts."""
        self.runs += other.runs
        self.zeros += other.zeros
        self.reached.update(other.reached)
        self.taken.update(other.taken)
        self.opened.update(other.opened)


class Profiler:
    """Counts what depends on the input in a call of `classifyPacked` (`predictPacked` where there is no decision).

    Args:
        program: The program.
    """

    def __init__(self, program: Program) -> None:
        self._decides = program.has_decision
        self._interpreter = Interpreter(program, counting=True)
        self._runs = self._zeros = 0
        self._opened = Counter[int]()

    def run(self, packed: bytes) -> None:
        """Count one more input; one that is refused is not counted."""
        with suppress(ProgramError):
            self._count(self._interpreter.decide if self._decides else self._interpreter.predict, packed)

    def answer(self, packed: bytes) -> Outcome:
        """Count one more input, and return what the contract answers to it.

        Raises:
            ProgramError: the program reverts.
        """
        if not self._decides:
            return Outcome(self._count(self._interpreter.predict, packed), None)
        return self._count(self._interpreter.run, packed)

    def _count(self, call: Callable[[bytes], Answer], packed: bytes) -> Answer:
        opened = self._interpreter.opened
        opened.clear()
        answer = call(packed)
        self._runs += 1
        self._opened.update(opened)
        self._zeros += packed.count(0)
        return answer

    @property
    def profile(self) -> Profile:
        """The counts of all runs so far."""
        reached, taken = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
        for section, counts in self._interpreter.counts.items():
            reached.update({(section, number): times for number, times in enumerate(counts.reached)})
            taken.update({(section, number): times for number, times in enumerate(counts.taken)})
        return Profile(self._runs, self._zeros, reached, taken, Counter(self._opened))

    def take(self) -> Profile:
        """Return the counts, and begin again from nothing."""
        found = self.profile
        for counts in self._interpreter.counts.values():
            counts.reached[:], counts.taken[:] = [0] * len(counts.reached), [0] * len(counts.taken)
        self._runs = self._zeros = 0
        self._opened.clear()
        return found


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
        counting: Count the branches of every decision (of every prediction, where the program decides nothing).

    Attributes:
        counts: What was counted, by section.
        opened: Data contracts that were read meanwhile, by number; never emptied.
    """

    def __init__(self, program: Program, *, counting: bool = False) -> None:
        self.program = expanded(program)
        self.counts: dict[str, Counts] = {}
        self.opened: set[int] = set()
        self._counting = counting
        self._runs: dict[tuple[str, bool], Run] = {}

    def quantize(self, wads: Sequence[int]) -> bytes:
        """Return the packed input that `predict` makes of WAD values.

        Raises:
            ProgramError: an input is out of range and the program is strict.
        """
        machine = Machine(self.program, bytes(self.program.input.length), [w & MASK for w in wads])
        self._call([self.program.quantize], machine, counted=False)
        return bytes(machine.input[: machine.length])

    def run(self, packed: bytes) -> Outcome:
        """Return what the contract answers to a packed input.

        Raises:
            ProgramError: the program reverts.
        """
        program = self.program
        if not program.has_decision:
            return Outcome(self.predict(packed), None)
        predict, classify = program.entries
        if classify.sections[: len(predict.sections) - 1] != predict.sections[:-1]:
            decision = self.decide(packed)
            return Outcome(self.predict(packed), decision)
        machine = Machine(program, packed)  # what both begin with is run once
        self._call(classify.sections, machine, counted=True)
        decision = machine.buffers[LABEL][0]
        self._call([program.dequantize], machine, counted=False)
        return Outcome(self._outputs(machine), decision)

    def predict(self, packed: bytes) -> tuple[int, ...]:
        """Return the outputs (WAD) for a packed input.

        Raises:
            ProgramError: the program reverts.
        """
        machine = Machine(self.program, packed)
        self._call(self.program.entries[0].sections, machine, counted=not self.program.has_decision)
        return self._outputs(machine)

    def _outputs(self, machine: Machine) -> tuple[int, ...]:
        return tuple(to_signed(w) for w in machine.buffers[OUTPUTS][: self.program.outputs])

    def decide(self, packed: bytes) -> int:
        """Return the decision for a packed input (of a program that has one).

        Raises:
            ProgramError: the program reverts.
        """
        machine = Machine(self.program, packed)
        self._call(self.program.entries[-1].sections, machine, counted=True)
        return machine.buffers[LABEL][0]

    def _call(self, sections: Iterable[Section], machine: Machine, *, counted: bool) -> None:
        for section in sections:
            key = section.name, counted and self._counting
            if key not in self._runs:
                counts = self.counts.setdefault(section.name, Counts([], [], self.opened)) if key[1] else None
                self._runs[key] = translate(self.program, section, counts)
            try:
                self._runs[key](machine)
            except IndexError as error:
                raise InternalError(f"section {section.name} reads or writes past the end of something") from error
