"""What a Program costs on a target, planned but not run: of a layer alone, emitted on trial, or of the whole.

The planner's own formulas (`formulas`) are one list for all targets; they find the ways that are worth being walked.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ml2sc.ir.forks import COLD_ACCOUNT, WARM
from ml2sc.ir.gas import Costs, Shares, executed, least_section_bytes, section_bytes
from ml2sc.ir.program import (
    MODEL_HASH,
    OUTPUTS,
    If,
    InputFormat,
    Let,
    Load,
    Program,
    Section,
    Segment,
    Storage,
    const,
    used_buffers,
    walk,
)
from ml2sc.ir.wad import element_width

from .context import Lowering
from .options import CODE_MARGIN, PlanOptions, contract_gas

T = TypeVar("T")


class PlannedShares(Shares):
    """How often branches are taken, and data contracts are read, as far as who wrote them knows.

    Args:
        program: The program.
        worst: Take every branch, and open every data contract.
    """

    def __init__(self, program: Program, *, worst: bool = False) -> None:
        super().__init__(worst=worst)
        self._taken = {
            section.name: [s.share for s in walk(section.body) if isinstance(s, If)] for section in executed(program)
        }
        self._opened: dict[int, float] = {}
        for name, place in program.places.items():
            for number, share in enumerate(program.segments[name].opened):
                contract = place.first + number
                self._opened[contract] = max(share, self._opened.get(contract, 0.0))

    def taken(self, section: str, number: int) -> float:
        """Return the share of the times that a branch of a section is taken."""
        share = None if self.worst else self._taken[section][number]
        return super().taken(section, number) if share is None else share

    def opened(self, contract: int) -> float:
        """Return the share of inferences that read a data contract."""
        return 1.0 if self.worst else self._opened.get(contract, 1.0)


@dataclass(frozen=True, slots=True)
class Line:
    """What a program costs an inference, by the price of a byte of code: one walk is good for all of these.

    Attributes:
        gas: Where that is nothing, the share of the deployment included; infinity if it does not get on a chain.
        size: Bytes of code.
    """

    gas: float
    size: int = 0

    def at(self, code_price: float) -> float:
        """Return what it costs where a byte of code costs so much."""
        return self.gas + code_price * self.size


NOWHERE = Line(math.inf)
"""Of what does not get on a chain."""


def price(costs: Costs, options: PlanOptions) -> float:
    """Return the gas of an inference, deployment spread over the inferences; infinity if it does not get on a chain.

    Args:
        costs: The program, as a target's compiler translates it.
        options: What the planner is told.
    """
    return line(costs, options).at(options.code_price)


def line(costs: Costs, options: PlanOptions, room: float | None = None) -> Line:
    """Return what `price` does, for all prices of a byte of code.

    Args:
        costs: The program, as a target's compiler translates it.
        options: What the planner is told.
        room: Bytes that a section may have, for it is not cut; None: what a code contract beside others surely has.
    """
    if not costs.compiles():
        return NOWHERE
    program = costs.program
    most = CODE_MARGIN * options.code_limit - costs.sizes.part if room is None else room
    if least_section_bytes(program) > most:
        return NOWHERE
    sizes = section_bytes(program, costs.sizes)
    if max(sizes.values()) > most:
        return NOWHERE
    rules, sections = options.rules, executed(program)
    shares = PlannedShares(program, worst=rules.charges_limit)
    gas = costs.frame_gas() + rules.memory(costs.memory_words(sections))
    cold = sum(costs.cold_accounts(sections, shares).values())
    gas += sum(costs.section(s, shares) for s in sections) + cold
    gas += rules.dearer(cold_accounts=cold / (COLD_ACCOUNT - WARM), cold_slots=costs.slot_count())
    size = sum(sizes.values())
    words = sum(len(segment.words) for segment in program.segments.values() if segment.storage is Storage.DATA)
    contracts = max((p.first + program.segments[name].contracts for name, p in program.places.items()), default=0)
    weights = 32 * words * rules.byte_price + contract_gas(rules) * contracts
    deployment = size * rules.byte_price + (1 + options.updates) * weights
    return Line(gas + deployment / options.calls, size)


def lines(program: Program, options: PlanOptions, room: float | None = None) -> tuple[Line, ...]:
    """Return what a program costs by each code generator; by `Costs` where none is named.

    Args:
        program: The program.
        options: What the planner is told.
        room: As of `line`.
    """
    return tuple(line(generator(program), options, room) for generator in options.generators or (Costs,))


def least(walked: Sequence[Line], options: PlanOptions) -> float:
    """Return the price of a program by the code generator that decides.

    Args:
        walked: What `lines` returned of it.
        options: What the planner is told.
    """
    return min(one.at(options.code_price) for one in _deciding(walked, options))


def least_price(program: Program, options: PlanOptions) -> float:
    """Return the price of a program by the code generator that decides; `Costs` where none is named."""
    return min(price(generator(program), options) for generator in _deciding(options.generators or (Costs,), options))


def _deciding(each: Sequence[T], options: PlanOptions) -> Sequence[T]:
    """Return what of each code generator counts: that of the one that decides, or all where none does."""
    return each if options.decides is None or not options.generators else [each[options.decides]]


def of_sections(
    sections: Iterable[Section], context: Lowering, segments: Mapping[str, Segment], reads: Iterable[str] = ()
) -> Program:
    """Return a program of some sections of a lowering alone.

    Args:
        sections: The sections.
        context: The lowering that they are in.
        segments: The constant data that they are the first to use.
        reads: Buffers that are read after them.
    """
    layers = tuple(dataclasses.replace(section, predict=True) for section in sections)
    if context.options.updatable:
        segments = {MODEL_HASH: Segment((0,), Storage.DATA, 1), **segments}
    after = tuple(Let(f"x{i}", Load(name, const(0))) for i, name in enumerate(reads))
    width = element_width(context.graph)
    count = sum(context.graph.tensor(name).size for name in context.graph.inputs)
    return Program(
        input=InputFormat(count, width, signed=False, wad_range=((0, 0),) * count),
        outputs=1,
        buffers={name: context.buffers[name] for section in layers for name in used_buffers(section)} | {OUTPUTS: 1},
        segments=segments,
        quantize=Section("quantize", "", ()),
        layers=layers,
        dequantize=Section("dequantize", "", after),
        has_decision=False,
    )
