"""The lane plan of a linear layer: how many outputs share a word, how weights are laid out, where they live.

Costs are from the EVM's price list; see docs/kernels.md for the kernels they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass

from ml2sc.errors import RangeError
from ml2sc.ir.program import CONTRACT_WORDS, Storage

WORD_BITS = 256
MAX_ACCUMULATORS = 6
"""Accumulators kept on the stack at once: with more, solc runs out of reachable stack slots."""
IMMEDIATE_WORDS = 96
"""Layers of at most so many weight words are written out, the words as literals."""
EXPECTED_CALLS = {"inference": 10_000, "balanced": 100, "deploy": 1}
"""Inferences over which deployment is spread, by `--optimize`."""

_COPY_CODE = 12  # PUSH32, PUSH2, ADD, MSTORE
_COPY_DATA = 3
_COLD_ACCOUNT = 2_600
_ELEMENT = 35
_MULTIPLY_ADD = 22
_LOAD = 9
_SHIFT = 6
_CHUNK = 200  # a copy and the loop around it
_DEPLOY_CODE = 38 * 200  # the bytes of one word and its store, deposited
_DEPLOY_DATA = 32 * 216  # 32 bytes deposited, and in calldata
_DEPLOY_LITERAL = 42 * 200
_DEPLOY_CONTRACT = 54_000


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the planner is told.

    Attributes:
        weights: "auto", "code" or "data": where tables of weights may live.
        strict_input: Revert on an input out of range instead of saturating.
        optimize: "inference", "balanced" or "deploy": how many inferences the deployment is spread over.
        density: Share of non-zero inputs assumed where zeros can be skipped.
        unroll: Elements handled in one round of an inner loop.
        updatable: Weights are to be replaced by others later: nothing that depends on them may be in the code.
    """

    weights: str = "auto"
    optimize: str = "inference"
    strict_input: bool = False
    density: float = 0.3
    unroll: int = 8
    updatable: bool = False


@dataclass(frozen=True, slots=True)
class LanePlan:
    """How a linear layer is computed.

    Attributes:
        proved_bits: Width of an accumulator, from the proof.
        stride: Bits of a lane.
        lanes: Lanes of a word.
        fields: Weights of one lane in a weight word. One: the word is the signed sum of laned weights; more: it holds
            offset-binary weights of `weight_bits`, masked apart while running.
        weight_bits: Width of a stored weight (with more than one field).
        accumulators: Accumulators of one block of outputs.
        blocks: Blocks of outputs; the inputs are read once for each.
        row_words: Weight words of one input and one block.
        immediate: Whether the weights are literals in straight-line code.
        storage: Where the table of weights lives otherwise.
    """

    proved_bits: int
    stride: int
    lanes: int
    fields: int
    weight_bits: int
    accumulators: int
    blocks: int
    row_words: int
    immediate: bool
    storage: Storage

    def field_place(self, field: int) -> tuple[int, int]:
        """Return (right shift of the weight word, offset of the lanes in the accumulator) for a field.

        A field is multiplied where it stands (no shift), its lanes sitting higher in the accumulator, as long as the
        top lane still fits below 2^256; beyond that the weight word is shifted down first.
        """
        slack = WORD_BITS - self.stride * (self.lanes - 1) - self.proved_bits
        reach = min(slack // self.weight_bits + 1, self.fields) if self.fields > 1 else 1
        return field // reach * reach * self.weight_bits, field % reach * self.weight_bits


def plan_linear(
    rows: int, outputs: int, proved_bits: int, weight_bits: int, options: PlanOptions, *, skips: bool, node: str
) -> LanePlan:
    """Choose the cheapest plan for one inference.

    Args:
        rows: Inputs of the layer.
        outputs: Outputs of the layer.
        proved_bits: Bits that hold every final accumulator with its bias.
        weight_bits: Bits of the widest weight, with its sign.
        options: What the planner is told.
        skips: Whether zero inputs are skipped.
        node: The layer, for the error.

    Raises:
        RangeError: an accumulator does not fit a word.
    """
    if proved_bits > WORD_BITS:
        raise RangeError(
            f"its sums need {proved_bits} bits, and a word has {WORD_BITS}",
            node=node,
            hint="narrow the input range (--input-range), or choose a narrower --precision",
        )
    candidates = [
        candidate
        for fields in range(1, MAX_ACCUMULATORS + 1)
        if fields * weight_bits <= WORD_BITS
        for candidate in _candidates(rows, outputs, proved_bits, weight_bits, fields, options)
    ]
    calls, density = EXPECTED_CALLS[options.optimize], options.density if skips else 1.0
    return min(candidates, key=lambda plan: _cost(plan, rows, density) + _deployment(plan, rows) / calls)


def chunk_words(unit: int, per_block: int, blocks: int) -> int:
    """Choose how many words of weights are in memory at a time: many make it dear, few waste space in data contracts.

    Args:
        unit: Words of the smallest possible chunk.
        per_block: Words of one block of outputs.
        blocks: Number of blocks.
    """

    def cost(chunk: int) -> int:
        chunks = -(-per_block // chunk) * blocks
        contracts = -(-chunks * chunk // (CONTRACT_WORDS // chunk * chunk))
        return 3 * chunk + chunk * chunk // 512 + _COLD_ACCOUNT * contracts + _CHUNK * chunks

    largest = max(min(CONTRACT_WORDS, per_block) // unit, 1)
    return min((unit * k for k in range(1, largest + 1)), key=cost)


def _candidates(
    rows: int, outputs: int, bits: int, weight_bits: int, fields: int, options: PlanOptions
) -> list[LanePlan]:
    stride = max(bits, fields * weight_bits if fields > 1 else 1)
    lanes = min(WORD_BITS // stride, outputs)
    needed = -(-outputs // lanes)
    if needed <= MAX_ACCUMULATORS:
        accumulators, blocks = needed, 1
    else:
        accumulators = MAX_ACCUMULATORS // fields * fields
        blocks = -(-needed // accumulators)
    row_words = -(-accumulators // fields)
    words = rows * blocks * row_words
    immediate = fields == 1 and blocks == 1 and words <= IMMEDIATE_WORDS and not options.updatable
    storages = {"code": [Storage.CODE], "data": [Storage.DATA]}.get(options.weights, [Storage.CODE, Storage.DATA])
    if options.updatable:
        storages = [Storage.DATA]
    return [
        LanePlan(bits, stride, lanes, fields, weight_bits, accumulators, blocks, row_words, immediate, storage)
        for storage in storages
    ]


def _deployment(plan: LanePlan, rows: int) -> float:
    """Return the gas of deploying the weights."""
    words = rows * plan.blocks * plan.row_words
    if plan.immediate:
        return words * _DEPLOY_LITERAL
    if plan.storage is Storage.CODE:
        return words * _DEPLOY_CODE
    return words * _DEPLOY_DATA + _DEPLOY_CONTRACT * -(-words // CONTRACT_WORDS)


def _cost(plan: LanePlan, rows: int, density: float) -> float:
    """Return the gas of one inference, by the price list."""
    if plan.immediate:
        return rows * (12 + 15 * plan.accumulators)
    shifts = len({plan.field_place(f)[0] for f in range(plan.fields)}) - 1
    element = plan.row_words * (_LOAD + _SHIFT * shifts if plan.fields > 1 else 0)
    element += plan.accumulators * (_MULTIPLY_ADD if plan.fields > 1 else _MULTIPLY_ADD - 3)
    words = rows * plan.blocks * plan.row_words
    copy = words * _COPY_CODE
    if plan.storage is Storage.DATA:
        copy = words * _COPY_DATA + _COLD_ACCOUNT * -(-words // CONTRACT_WORDS)
    return rows * plan.blocks * (_ELEMENT + density * element) + copy
