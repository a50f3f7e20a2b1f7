"""What plans of a linear layer cost, by formulas: one list of prices for all targets.

They find the ways that are worth being emitted and walked (`walked`); where no target is known they decide.
"""

from __future__ import annotations

import functools
import heapq

from ml2sc.errors import RangeError
from ml2sc.ir.program import Storage

from .options import PlanOptions, contract_gas
from .plan import BYTES, WORD_BITS, DotPlan, LanePlan, Layer, Plan, every_plan

SHORTLIST = 20
"""Ways to compute a layer that are emitted: in thirty layers of both targets the best was always among them."""

_PUSH = _DUP = _SWAP = _MEMORY = 3
_MULTIPLY_ADD = 5 + 3
_AT_POINTER = 20  # DUP, PUSH, ADD in Solidity; Vyper checks a subscript's bounds
_TEST = _DUP + _PUSH + 10 + 1  # of a value on the stack: JUMPI, JUMPDEST
_TAKEN = 1 + _PUSH + 8  # JUMPDEST, and a JUMP back
_MASK = _PUSH + 3
_SHIFT = _PUSH + 3
_READ_BYTE, _READ_LANE, _READ_WORD = 9, 15, 12
_READ_KEPT = 12  # a word of inputs in straight code: less in Solidity, more in Vyper
_ROUND = 45  # of a loop: comparison, steps, jumps
_INNER_ROUND = 75
_OF_ROW = 6  # what a word of inputs takes more whose place depends on the row
_ROUND_OF_SUMS = 65  # sums come to the top of the stack and go back
_SUM_BYTES = 33
_END = 150
_END_IN_LOOP = 50
_COPY = 160  # EXTCODECOPY of a warm account, and the arithmetic of its arguments
_COPY_WORD = 3
_WRITE_WORD = 9  # PUSH32, PUSH2, MSTORE

_CODE_WORD = 5  # bytes of code that write a word to memory, without the word's own
_CODE_LITERAL = 5  # that multiply by a literal word, likewise
_CODE_LOADED = 8
_CODE_LOOP = 110
_CODE_MASKED = 9  # without the mask's own
_CODE_END = 170
_CODE_SUMS, _CODE_SUMS_OF_BYTES = 150, 600  # what weights without a sign add too much, counted and taken away
_CODE_ELEMENT = 5
_CODE_TEST = 12


def shortlist(layer: Layer, options: PlanOptions, count: int) -> list[tuple[float, Plan]]:
    """Return the plans that cost least by the formulas, the cheapest first, each after its price by them.

    Args:
        layer: The layer.
        options: What the planner is told.
        count: How many, at most.

    Raises:
        RangeError: an accumulator does not fit a word, or no plan is as it is settled.
    """
    if layer.proved_bits > WORD_BITS:
        raise RangeError(
            f"its sums need {layer.proved_bits} bits, and a word has {WORD_BITS}",
            node=layer.name,
            hint="narrow the input range (--input-range), or choose a narrower --precision",
        )
    ways = _priced(layer, options.weights, options.unroll, options.literals, options.updatable)
    if not ways:
        raise RangeError(f"no plan has {dict(layer.force)}", node=layer.name)
    totals = ((_total(gas, plan, layer, options), plan) for gas, plan in ways)
    return heapq.nsmallest(count, totals, key=lambda way: way[0])


def _total(inference: float, plan: Plan, layer: Layer, options: PlanOptions) -> float:
    deployment = deployment_gas(plan, layer) + options.updates * weights_gas(plan, layer)
    return inference + deployment / options.calls + options.code_price * code_bytes(plan, layer)


@functools.lru_cache(maxsize=64)
def _priced(layer: Layer, weights: str, unroll: int, literals: bool, updatable: bool) -> list[tuple[float, Plan]]:
    """Return the ways to compute a layer with the gas of an inference: the same for all prices of a byte of code."""
    options = PlanOptions(weights=weights, unroll=unroll, literals=literals, updatable=updatable)
    return [(inference_gas(plan, layer), plan) for plan in every_plan(layer, options)]


def inference_gas(plan: Plan, layer: Layer) -> float:
    """Return the gas of one inference, by the price list."""
    if isinstance(plan, DotPlan):
        return _dots_gas(plan, layer)
    accumulators = _accumulators(plan, layer)
    rounds = -(-layer.rows // plan.round_rows)
    units = -(-layer.rows // layer.unit)
    activity = layer.activity
    words = activity.word if plan.skip_words else 1.0
    parts = min(activity.parts[plan.part], words) if plan.skip_parts else words
    elements = min(activity.element, parts) if plan.skip_elements else parts

    gas = 0.0 if plan.immediate else rounds * _ROUND
    gas += units * ((_MEMORY + _PUSH if layer.unit > 1 else 0) + (_TEST + words * _TAKEN if plan.skip_words else 0))
    if plan.masked:
        gas += words * units * (_SUM_BYTES if layer.unit == BYTES else _DUP + 3)
    if plan.part:
        number = units * BYTES / plan.part
        gas += words * number * (_INNER_ROUND if plan.loop_parts else 0)
        gas += number * (words * (_TEST + _MASK) + parts * _TAKEN if plan.skip_parts else 0)
    read = {1: _READ_WORD, BYTES: _READ_BYTE}.get(layer.unit, _READ_LANE)
    if layer.unit == rounds == accumulators == 1:  # multiplied where it is
        read = _PUSH + _MEMORY
    gas += layer.rows * parts * (read + (_TEST if plan.skip_elements else 0))
    gas += layer.rows * elements * (_element(plan, accumulators, rounds) + (_TAKEN if plan.skip_elements else 0))
    gas += accumulators * _END + (_ROUND + accumulators * _END_IN_LOOP if plan.loop_ends else 0)
    gas *= plan.blocks
    table = 0 if plan.immediate else plan.table_words(layer.rows)
    if plan.storage is Storage.DATA:
        gas += words * (rounds * plan.blocks * _COPY + table * _COPY_WORD)
        return _of_rows(gas, plan, layer) + layer.rules.cold_account * _contracts(plan, layer)
    return _of_rows(gas, plan, layer) + table * _WRITE_WORD


def _of_rows(gas: float, plan: Plan, layer: Layer) -> float:
    """Return the gas of all rows of a matrix, one of which takes so much."""
    looped = layer.across > 1 and not plan.written
    return layer.across * (gas + (_ROUND + _OF_ROW * -(-layer.rows // layer.unit) if looped else 0))


def _dots_gas(plan: DotPlan, layer: Layer) -> float:
    form, straight = plan.form, plan.immediate
    outputs = layer.outputs if straight else plan.outputs
    gas = 0.0
    if form.ways > 1 or layer.unit == BYTES:  # else the words are multiplied where they are
        each = _READ_WORD + form.ways * (_DUP + _SHIFT + _MASK + (0 if plan.held else _PUSH + _MEMORY))
        gas += form.units * (each + (0 if plan.held else _ROUND))
    read = _DUP if plan.held else _READ_KEPT if straight else _PUSH + _MEMORY
    at_pointer = not straight and plan.storage is Storage.CODE
    load = _PUSH if straight else _MEMORY + (_AT_POINTER if at_pointer else _PUSH)
    if plan.dense:
        row = form.units * load + form.words * (_DUP + _SHIFT + _MASK + read + _MULTIPLY_ADD)
        gas += form.words * (read + 3) + _END
    else:
        row = form.words * (load + read + _MULTIPLY_ADD)
    row += -(-form.units // plan.chunk) * (_SHIFT + _PUSH) + _SHIFT + _MASK + 3
    gas += outputs * row + plan.ends.accumulators * plan.ends.blocks * _END
    if straight:
        return _of_rows(gas, plan, layer)
    rounds = outputs / plan.together
    gas += rounds * _ROUND_OF_SUMS + (_ROUND if plan.ends.blocks > 1 else 0)
    if plan.storage is Storage.DATA:
        gas += rounds * _COPY + plan.table_words * _COPY_WORD
        return _of_rows(gas, plan, layer) + layer.rules.cold_account * _contracts(plan, layer)
    return _of_rows(gas, plan, layer) + plan.table_words * _WRITE_WORD


def _element(plan: LanePlan, accumulators: int, rounds: int) -> float:
    """Return the gas of an input's products and sums."""
    sums = accumulators * (_DUP + _MULTIPLY_ADD + (_SWAP + 1 if plan.skip_elements else 2))
    if plan.immediate:
        return sums + accumulators * _PUSH
    at_pointer = plan.loop_parts or (plan.storage is Storage.CODE and rounds > 1)
    load = _MEMORY + (_AT_POINTER if at_pointer else _PUSH)
    if not plan.masked:
        return sums + accumulators * load
    shifts = plan.shifts + plan.row_words * (1 - 1 / plan.word_rows)
    return sums + accumulators * (_DUP + _MASK + 2) + plan.row_words * load + _SHIFT * shifts


def deployment_gas(plan: Plan, layer: Layer) -> float:
    """Return the gas of deploying a layer's weights and code."""
    return float(code_bytes(plan, layer)) * layer.rules.byte_price + weights_gas(plan, layer)


def weights_gas(plan: Plan, layer: Layer) -> float:
    """Return the gas of putting a layer's weights on the chain, where they are not in the code."""
    if plan.immediate or plan.storage is Storage.CODE:
        return 0.0
    words = plan.table_words if isinstance(plan, DotPlan) else plan.table_words(layer.rows)
    return float(layer.rules.byte_price * 32 * words + contract_gas(layer.rules) * _contracts(plan, layer))


def code_bytes(plan: Plan, layer: Layer) -> int:
    """Return the bytes of code of a layer, its weights among them where they are in the code."""
    if isinstance(plan, DotPlan):
        return _dots_bytes(plan, layer)
    accumulators = _accumulators(plan, layer)
    copies = layer.across if plan.written else 1
    ends = _CODE_END * (2 if plan.loop_ends else accumulators)
    element = _CODE_ELEMENT + (_CODE_TEST if plan.skip_elements else 0)
    word = -(-plan.stride * plan.lanes // 8)
    if plan.immediate:
        return copies * (layer.rows * (element + accumulators * (_CODE_LITERAL + word)) + ends)
    element += accumulators * (_CODE_MASKED + word if plan.masked else _CODE_LOADED)
    rows = plan.part if plan.loop_parts else plan.round_rows
    table = plan.table_words(layer.rows) * (_CODE_WORD + word) if plan.storage is Storage.CODE else 0
    sums = _CODE_SUMS_OF_BYTES if layer.unit == BYTES else _CODE_SUMS
    return copies * (_CODE_LOOP + rows * element + ends + (sums if plan.masked else 0)) + table


def _dots_bytes(plan: DotPlan, layer: Layer) -> int:
    form, straight = plan.form, plan.immediate
    word = -(-(form.place + form.raw_bits) // 8)
    mask = -(-form.place // 8)
    size = plan.ends.accumulators * _CODE_END
    if form.ways > 1 or layer.unit == BYTES:
        each = form.ways * (_CODE_ELEMENT + mask)
        size += form.units * (4 + each) if plan.held else _CODE_LOOP + each
    read = 1 if plan.held else 4
    end = 12 * -(-form.units // plan.chunk) + _CODE_ELEMENT + word
    copies = layer.across if plan.written else 1
    if straight:
        return copies * (size + layer.outputs * (form.words * (1 + word + read + 2) + end))
    load = 6 if plan.storage is Storage.CODE else 4
    row = form.units * load + form.words * (read + 8) + _CODE_SUMS if plan.dense else form.words * (load + read + 2)
    table = plan.table_words * (_CODE_WORD + word) if plan.storage is Storage.CODE else 0
    return copies * (size + _CODE_LOOP * (2 if plan.ends.blocks > 1 else 1) + plan.together * (row + end)) + table


def _accumulators(plan: LanePlan, layer: Layer) -> int:
    return plan.accumulators if plan.blocks > 1 else -(-layer.outputs // plan.lanes)


def _contracts(plan: Plan, layer: Layer) -> int:
    if isinstance(plan, DotPlan):
        chunk = plan.together * plan.row_words
        return -(-plan.outputs // plan.together // max(layer.contract_words // chunk, 1))
    chunk = plan.words(plan.round_rows)
    chunks = -(-layer.rows // plan.round_rows) * plan.blocks
    return -(-chunks // max(layer.contract_words // chunk, 1))
