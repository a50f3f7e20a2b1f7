"""The lane plan of a linear layer: how many outputs share a word, how weights are laid out, where they live.

Every way to compute the layer that can be built is priced, by the EVM's price list; the cheapest is taken, deployment
spread over the inferences that `--optimize` assumes.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ml2sc.errors import RangeError
from ml2sc.ir.graph import Node
from ml2sc.ir.program import CONTRACT_WORDS, Storage
from ml2sc.ir.types import Array

WORD_BITS = 256
MAX_ACCUMULATORS = 6
"""Accumulators kept on the stack at once: with more, solc runs out of reachable stack slots."""
LITERAL_WORDS = 320
"""Layers of at most so many weight words can be written out, the words as literals: 12 KB of code."""
MAX_WORD_ROWS = 8
"""Inputs whose weights may share a word."""
MAX_STRAIGHT_INPUTS = 10
"""Inputs whose products straight-line code adds to several accumulators without a jump between them, where these share
the inputs' weight words, or the weights are literals."""
EXPECTED_CALLS = {"inference": 10_000, "balanced": 100, "deploy": 1}
"""Inferences over which deployment is spread, by `--optimize`."""
CALLS_PER_UPDATE = 100
"""Inferences after which weights that can be replaced are."""
BYTES = 32
"""Inputs of a word of the packed input whose elements are bytes."""
PART_SIZES = (4, 8)
"""Bytes of a word that can be skipped together."""

_PUSH = _DUP = _SWAP = _MEMORY = 3
_MULTIPLY_ADD = 5 + 3
_AT_POINTER = 20  # DUP, PUSH, ADD in Solidity; Vyper checks a subscript's bounds
_TEST = _DUP + _PUSH + 10 + 1  # of a value on the stack: JUMPI, JUMPDEST
_TAKEN = 1 + _PUSH + 8  # JUMPDEST, and a JUMP back
_MASK = _PUSH + 3
_SHIFT = _PUSH + 3
_READ_BYTE, _READ_LANE, _READ_WORD = 9, 15, 12
_ROUND = 45  # of a loop: comparison, steps, jumps
_INNER_ROUND = 75
_SUM_BYTES = 33
_END = 150
_END_IN_LOOP = 50
_COPY = 160  # EXTCODECOPY of a warm account, and the arithmetic of its arguments
_COPY_WORD = 3
_WRITE_WORD = 9  # PUSH32, PUSH2, MSTORE
_COLD_ACCOUNT = 2_600

_DEPOSIT = 216  # a byte of code: deposited, and in calldata
_CODE_WORD = 5  # bytes of code that write a word to memory, without the word's own
_CODE_LITERAL = 5  # that multiply by a literal word, likewise
_CODE_LOADED = 8
_CODE_LOOP = 110
_CODE_MASKED = 9  # without the mask's own
_CODE_END = 170
_CODE_SUMS, _CODE_SUMS_OF_BYTES = 150, 600  # what weights without a sign add too much, counted and taken away
_CODE_ELEMENT = 5
_CODE_TEST = 12
_CONTRACT = 54_000 + 200 * 150  # creating a data contract; checking it


@dataclass(frozen=True, slots=True)
class Activity:
    """Shares of a layer's inputs that are not stored as 0, and so not skipped.

    Attributes:
        element: Of single inputs.
        parts: Of aligned groups of inputs in a word, by their size.
        word: Of words.
    """

    element: float
    parts: Mapping[int, float] = field(hash=False)
    word: float

    def __str__(self) -> str:
        """Return the shares as text, for a manifest."""
        return " ".join(
            str(share) for share in (self.element, *(self.parts.get(s, 1.0) for s in PART_SIZES), self.word)
        )

    @classmethod
    def read(cls, text: str) -> Activity:
        """Return what has that text."""
        element, *parts, word = map(float, text.split())
        return cls(element, dict(zip(PART_SIZES, parts, strict=True)), word)


DENSE = Activity(1.0, dict.fromkeys(PART_SIZES, 1.0), 1.0)
ASSUMED = Activity(0.3, {4: 0.4, 8: 0.5}, 0.75)
"""Where there is no data, of inputs whose 0 means zero."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the planner is told.

    Attributes:
        weights: "auto", "code" or "data": where tables of weights may live.
        optimize: "inference", "balanced" or "deploy": how many inferences the deployment is spread over.
        expected_calls: That number itself; None: `optimize` decides.
        expected_updates: With `updatable`, how often all weights are replaced in that time; None: once in
            `CALLS_PER_UPDATE` inferences.
        strict_input: Revert on an input out of range instead of saturating.
        literals: Whether weights and constants may stand in the code as literals.
        unroll: Inputs handled in one round of a loop over inputs that have a word each.
        observed: Integers q of tensors by name, each of shape (samples, elements): what inputs look like.
        activity: What the inputs of layers looked like to an earlier compilation, by section, instead.
        updatable: Weights are to be replaced by others later: nothing that depends on them may be in the code.
        code_limit: Bytes of code a contract may have.
        code_price: Gas an inference may cost more to save a byte of code: raised until the contract is small enough.
        force: By layer (a node's name, or its first origin's), attributes of `LanePlan` that its plan must have.
    """

    weights: str = "auto"
    optimize: str = "inference"
    expected_calls: int | None = None
    expected_updates: int | None = None
    strict_input: bool = False
    literals: bool = True
    unroll: int = 16
    updatable: bool = False
    code_limit: int = 24_576
    code_price: float = 0.0
    observed: Mapping[str, Array] = field(default_factory=dict, compare=False)
    activity: Mapping[str, Activity] = field(default_factory=dict)
    force: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def forced(self, node: Node) -> Mapping[str, object]:
        """Return what is settled of a node's plan."""
        for name in (node.name, *node.origin):
            if name in self.force:
                return self.force[name]
        return {}

    @property
    def calls(self) -> int:
        """Inferences over which the deployment is spread."""
        return self.expected_calls or EXPECTED_CALLS[self.optimize]

    @property
    def updates(self) -> int:
        """How often all weights are replaced meanwhile."""
        if not self.updatable:
            return 0
        return self.calls // CALLS_PER_UPDATE if self.expected_updates is None else self.expected_updates


@dataclass(frozen=True, slots=True)
class Layer:
    """What is planned.

    Attributes:
        name: For the error.
        rows: Inputs.
        outputs: Outputs.
        proved_bits: Bits that hold every final sum with its bias.
        weight_bits: Bits of the widest weight, with its sign.
        unit: Inputs of a word they lie in.
        mixed: Whether some lie in words of other sizes.
        activity: What inputs look like.
        force: Attributes of the plan that are settled.
    """

    name: str
    rows: int
    outputs: int
    proved_bits: int
    weight_bits: int
    unit: int = 1
    mixed: bool = False
    activity: Activity = DENSE
    force: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class LanePlan:
    """How a linear layer is computed.

    Attributes:
        proved_bits: Width of an accumulator, from the proof.
        stride: Bits of a lane.
        lanes: Lanes of a word.
        fields: Weights of one input in a lane of a weight word, for as many accumulators.
        weight_bits: Width of a stored weight, where a lane holds more than one.
        accumulators: Accumulators of one block of outputs.
        blocks: Blocks of outputs; the inputs are read once for each.
        row_words: Weight words of one input and one block; `word_rows` inputs share them.
        round_rows: Inputs of one round of the loop over them; its code is there once.
        immediate: Whether the weights are literals in straight-line code.
        storage: Where the table of weights lives otherwise.
        loop_ends: Whether the code that ends a word's sums is there once, in a loop over the words.
        word_rows: Inputs whose weights share a word.
        skip_words: Whether a word of zeros is skipped.
        part: Inputs of a word handled, or skipped, together; 0: all.
        skip_parts: Whether parts of zeros are skipped.
        loop_parts: Whether the code of a part is there once, in a loop over a word's parts.
        skip_elements: Whether each input is tested for zero.
    """

    proved_bits: int
    stride: int
    lanes: int
    fields: int
    weight_bits: int
    accumulators: int
    blocks: int
    row_words: int
    round_rows: int
    immediate: bool
    storage: Storage
    loop_ends: bool = False
    word_rows: int = 1
    skip_words: bool = False
    part: int = 0
    skip_parts: bool = False
    loop_parts: bool = False
    skip_elements: bool = False

    @property
    def masked(self) -> bool:
        """Whether a weight word holds several weights a lane, offset-binary, masked apart while running.

        Else it is the signed sum of laned weights.
        """
        return self.fields * self.word_rows > 1

    def field_place(self, field: int) -> tuple[int, int]:
        """Return (right shift of the weight word, offset of the lanes in the accumulator) for a field.

        A field is multiplied where it stands (no shift), its lanes sitting higher in the accumulator, as long as the
        top lane still fits below 2^256; beyond that the weight word is shifted down first.
        """
        slack = WORD_BITS - self.stride * (self.lanes - 1) - self.proved_bits
        reach = min(slack // self.weight_bits + 1, self.fields) if self.fields > 1 else 1
        return field // reach * reach * self.weight_bits, field % reach * self.weight_bits

    @property
    def shifts(self) -> int:
        """Shifts of a weight word."""
        return len({self.field_place(f)[0] for f in range(self.fields)}) - 1

    def words(self, rows: int) -> int:
        """Return how many weight words so many inputs and one block have."""
        return -(-rows // self.word_rows) * self.row_words

    def table_words(self, rows: int) -> int:
        """Return how many weight words a layer of so many inputs has."""
        return self.blocks * self.words(rows)


def plan_linear(layer: Layer, options: PlanOptions) -> LanePlan:
    """Choose the plan that costs least.

    Args:
        layer: The layer.
        options: What the planner is told.

    Raises:
        RangeError: an accumulator does not fit a word.
    """
    if layer.proved_bits > WORD_BITS:
        raise RangeError(
            f"its sums need {layer.proved_bits} bits, and a word has {WORD_BITS}",
            node=layer.name,
            hint="narrow the input range (--input-range), or choose a narrower --precision",
        )
    best, least = None, math.inf
    for inference, plan in _priced(layer, options.weights, options.unroll, options.literals, options.updatable):
        if inference < least:  # what else it costs comes on top
            deployment = deployment_gas(plan, layer) + options.updates * weights_gas(plan, layer)
            price = inference + deployment / options.calls
            price += options.code_price * code_bytes(plan, layer)
            if price < least:
                best, least = plan, price
    if best is None:
        raise RangeError(f"no plan has {dict(layer.force)}", node=layer.name)
    return best


@functools.lru_cache(maxsize=64)
def _priced(layer: Layer, weights: str, unroll: int, literals: bool, updatable: bool) -> list[tuple[float, LanePlan]]:
    """Return the ways to compute a layer with the gas of an inference: the same for all prices of a byte of code."""
    options = PlanOptions(weights=weights, unroll=unroll, literals=literals, updatable=updatable)
    plans = (plan for plan in candidates(layer, options) if _as_forced(plan, layer.force))
    return [(inference_gas(plan, layer), plan) for plan in plans]


def _as_forced(plan: LanePlan, force: Mapping[str, object]) -> bool:
    return all(getattr(plan, name) == value for name, value in force.items())


def candidates(layer: Layer, options: PlanOptions) -> Iterator[LanePlan]:
    """Iterate over all ways to compute a layer."""
    for round_rows, fields in itertools.product(_round_rows(layer, options), range(1, MAX_ACCUMULATORS + 1)):
        yield from _with_fields(layer, options, round_rows, fields)


def _with_fields(layer: Layer, options: PlanOptions, round_rows: int, fields: int) -> Iterator[LanePlan]:
    for word_rows in _word_rows(layer, round_rows):
        together = fields * word_rows
        if together * layer.weight_bits > WORD_BITS:
            continue
        # the weights of a round must fit a data contract
        most = min(MAX_ACCUMULATORS // fields, CONTRACT_WORDS // round_rows) * fields
        stride = max(layer.proved_bits, together * layer.weight_bits if together > 1 else 1)
        lanes = min(WORD_BITS // stride, layer.outputs)
        needed = -(-layer.outputs // lanes)
        blocks = 1
        if needed > most:
            blocks, needed = -(-needed // most), most
        if fields > needed:
            continue
        row_words = -(-needed // fields)
        for immediate, storage in _places(layer.rows * row_words, together, blocks, options):
            crowded = immediate or fields > 1
            every_skip = _skips(layer, word_rows, immediate=immediate, crowded=crowded)
            for skips, loop_ends in itertools.product(every_skip, (False, True) if needed > 2 else (False,)):
                plan = LanePlan(
                    layer.proved_bits,
                    stride,
                    lanes,
                    fields,
                    layer.weight_bits,
                    needed,
                    blocks,
                    row_words,
                    round_rows,
                    immediate,
                    storage,
                    loop_ends,
                    word_rows,
                    **skips,  # type: ignore[arg-type]
                )
                if not crowded or _straight_inputs(plan, layer) <= MAX_STRAIGHT_INPUTS:
                    yield plan


def _straight_inputs(plan: LanePlan, layer: Layer) -> int:
    """Return how many inputs straight-line code multiplies between two jumps; solc keeps all of them on the stack."""
    if plan.skip_elements or plan.accumulators == 1:
        return 1
    if plan.skip_parts or plan.loop_parts:
        return plan.part
    rows = layer.rows if plan.immediate else plan.round_rows
    return min(layer.unit, rows) if plan.skip_words else rows


def _word_rows(layer: Layer, round_rows: int) -> Iterator[int]:
    """Iterate over how many inputs' weights may share a word: none of them in two words, parts or rounds of inputs."""
    size = 1 if layer.mixed else {1: round_rows, BYTES: max(PART_SIZES)}.get(layer.unit, layer.unit)
    return (n for n in range(1, min(size, layer.rows, MAX_WORD_ROWS) + 1) if size % n == 0)


def _places(words: int, together: int, blocks: int, options: PlanOptions) -> Iterator[tuple[bool, Storage]]:
    """Iterate over (are the weights literals, where their table lives otherwise)."""
    if options.updatable:
        yield False, Storage.DATA
        return
    if options.literals and options.weights != "data" and together == 1 and blocks == 1 and words <= LITERAL_WORDS:
        yield True, Storage.CODE
    if options.weights != "data":
        yield False, Storage.CODE
    if options.weights != "code":
        yield False, Storage.DATA


def _round_rows(layer: Layer, options: PlanOptions) -> tuple[int, ...]:
    """Return how many inputs a round may have: a word of them, or as many as make about 32."""
    if layer.unit == 1:
        return (min(options.unroll, layer.rows),)
    units = max(BYTES // layer.unit, 1)
    return tuple({layer.unit: None, layer.unit * min(units, -(-layer.rows // layer.unit)): None})


def _skips(layer: Layer, word_rows: int, *, immediate: bool, crowded: bool) -> Iterator[dict[str, int | bool]]:
    """Iterate over what can be skipped and how."""
    # a test also parts straight-line code into pieces whose inputs have room on the stack
    tests = (False, True) if layer.activity.element < 1 or crowded else (False,)
    if layer.unit != BYTES:
        for word, element in itertools.product(tests if layer.unit > 1 else (False,), tests):
            yield {"skip_words": word, "skip_elements": element}
        return
    for word, element in itertools.product(tests, tests):
        whole: dict[str, int | bool] = {"skip_words": word, "skip_elements": element}
        yield whole
        sizes = [size for size in PART_SIZES if size % word_rows == 0]
        for size, part, inner in itertools.product(sizes, tests, (False, True)):
            if (part or inner) and not (inner and immediate):
                yield {**whole, "part": size, "skip_parts": part, "loop_parts": inner}


def inference_gas(plan: LanePlan, layer: Layer) -> float:
    """Return the gas of one inference, by the price list."""
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
    gas += layer.rows * parts * (read + (_TEST if plan.skip_elements else 0))
    gas += layer.rows * elements * (_element(plan, accumulators, rounds) + (_TAKEN if plan.skip_elements else 0))
    gas += accumulators * _END + (_ROUND + accumulators * _END_IN_LOOP if plan.loop_ends else 0)
    gas *= plan.blocks
    table = 0 if plan.immediate else plan.table_words(layer.rows)
    if plan.storage is Storage.DATA:
        gas += words * (rounds * plan.blocks * _COPY + table * _COPY_WORD) + _COLD_ACCOUNT * _contracts(plan, layer)
    else:
        gas += table * _WRITE_WORD
    return gas


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


def deployment_gas(plan: LanePlan, layer: Layer) -> float:
    """Return the gas of deploying a layer's weights and code."""
    return float(code_bytes(plan, layer)) * _DEPOSIT + weights_gas(plan, layer)


def weights_gas(plan: LanePlan, layer: Layer) -> float:
    """Return the gas of putting a layer's weights on the chain, where they are not in the code."""
    if plan.immediate or plan.storage is Storage.CODE:
        return 0.0
    return float(_DEPOSIT * 32 * plan.table_words(layer.rows) + _CONTRACT * _contracts(plan, layer))


def code_bytes(plan: LanePlan, layer: Layer) -> int:
    """Return the bytes of code of a layer, its weights among them where they are in the code."""
    accumulators = _accumulators(plan, layer)
    ends = _CODE_END * (2 if plan.loop_ends else accumulators)
    element = _CODE_ELEMENT + (_CODE_TEST if plan.skip_elements else 0)
    word = -(-plan.stride * plan.lanes // 8)
    if plan.immediate:
        return layer.rows * (element + accumulators * (_CODE_LITERAL + word)) + ends
    element += accumulators * (_CODE_MASKED + word if plan.masked else _CODE_LOADED)
    rows = plan.part if plan.loop_parts else plan.round_rows
    table = plan.table_words(layer.rows) * (_CODE_WORD + word) if plan.storage is Storage.CODE else 0
    sums = _CODE_SUMS_OF_BYTES if layer.unit == BYTES else _CODE_SUMS
    return _CODE_LOOP + rows * element + table + ends + (sums if plan.masked else 0)


def _accumulators(plan: LanePlan, layer: Layer) -> int:
    return plan.accumulators if plan.blocks > 1 else -(-layer.outputs // plan.lanes)


def _contracts(plan: LanePlan, layer: Layer) -> int:
    chunk = plan.words(plan.round_rows)
    chunks = -(-layer.rows // plan.round_rows) * plan.blocks
    return -(-chunks // max(CONTRACT_WORDS // chunk, 1))
