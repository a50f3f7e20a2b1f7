"""The lane plan of a linear layer: how many outputs share a word, how weights are laid out, where they live.

Every way to compute the layer that can be built is priced, by the EVM's price list; the cheapest is taken, deployment
spread over the inferences that `--optimize` assumes.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ml2sc.errors import RangeError
from ml2sc.ir.forks import FORKS, Fork
from ml2sc.ir.gas import Costs
from ml2sc.ir.graph import Node
from ml2sc.ir.program import CONTRACT_WORDS, Program, Storage
from ml2sc.ir.types import Array

WORD_BITS = 256
MAX_ACCUMULATORS = 6
"""Accumulators kept on the stack at once: with more, solc runs out of reachable stack slots."""
ALONE_ACCUMULATORS = 10
"""Likewise where nothing is above them but one input, and a weight word that is multiplied by it."""
LITERAL_WORDS = 320
"""Layers of at most so many weight words can be written out, the words as literals: 12 KB of code."""
MAX_WORD_ROWS = 8
"""Inputs whose weights may share a word."""
MAX_STRAIGHT_INPUTS = 10
"""Inputs whose products straight-line code adds to several accumulators without a jump between them, where these share
the inputs' weight words, or the weights are literals."""
HELD_WORDS, HELD_IN_LOOP = 8, 3
"""Words of inputs in lanes that straight code, or the code of a loop, holds in variables."""
MAX_STRAIGHT_WORDS = 320
"""Words of inputs in lanes that a dot product of straight code may have."""
MAX_ROUND_WORDS = 320
"""Likewise of several dot products in one round of a loop over the outputs."""
CODE_MARGIN = 0.85
"""Of the bytes that a contract may have, how many are planned for: estimates are not exact."""
EXPECTED_CALLS = {"inference": 10_000, "balanced": 100, "deploy": 1}
"""Inferences over which deployment is spread, by `--optimize`."""
UPDATABLE_WORDS = 2_047
"""Words in a data contract that can be replaced: the code that stages it says its size in two bytes."""
CALLS_PER_UPDATE = 100
"""Inferences after which weights that can be replaced are."""
WRITTEN_ROWS = 4
"""Rows of a matrix from which on their code is there once, in a loop; fewer may be written out if each is one word."""
BYTES = 32
"""Inputs of a word of the packed input whose elements are bytes."""
PART_SIZES = (4, 8)
"""Bytes of a word that can be skipped together."""
SPANS = 16
"""Parts of a layer's inputs of which it is known how often all of them are zero: those of a data contract may be."""
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
_CHECK = 150
"""Bytes of code that check a data contract."""
PRAGUE = FORKS["prague"]


@dataclass(frozen=True, slots=True)
class Activity:
    """Shares of a layer's inputs that are not stored as 0, and so not skipped.

    Attributes:
        element: Of single inputs.
        parts: Of aligned groups of inputs in a word, by their size.
        word: Of words.
        spans: For each sixteenth of the inputs, the share of samples that have one there; nothing if that is not known.
    """

    element: float
    parts: Mapping[int, float] = field(hash=False)
    word: float
    spans: tuple[float, ...] = ()

    def __str__(self) -> str:
        """Return the shares as text, for a manifest."""
        parts = (self.parts.get(s, 1.0) for s in PART_SIZES)
        return " ".join(str(share) for share in (self.element, *parts, self.word, *self.spans))

    def read_share(self, first: float, last: float) -> float:
        """Return in which share of inferences a run of inputs, between two fractions of them, is not all zero."""
        count = len(self.spans)
        return max(self.spans[math.floor(first * count) : math.ceil(last * count)], default=1.0)

    @classmethod
    def read(cls, text: str) -> Activity:
        """Return what has that text.

        Raises:
            ValueError: the text is none of shares from 0 to 1, of so many.
        """
        shares = [float(share) for share in text.split()]
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"a share of the inputs is not between 0 and 1: {text!r:.100}")
        count = len(PART_SIZES)
        if len(shares) not in {count + 2, count + 2 + SPANS}:
            raise ValueError(f"{len(shares)} shares of the inputs: {text!r:.100}")
        element, parts, word = shares[0], shares[1 : count + 1], shares[count + 1]
        return cls(element, dict(zip(PART_SIZES, parts, strict=True)), word, tuple(shares[count + 2 :]))


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
        packed_only: Leave out what takes WAD values.
        literals: Whether weights and constants may stand in the code as literals.
        unroll: Inputs handled in one round of a loop over inputs that have a word each.
        observed: Integers q of tensors by name, each of shape (samples, elements): what inputs look like.
        activity: What the inputs of layers looked like to an earlier compilation, by section, instead.
        updatable: Weights are to be replaced by others later: nothing that depends on them may be in the code.
        code_limit: Bytes of code a contract may have.
        rules: The chain's: its prices, how large data contracts may be, and whether an inference is charged as if it
            took every branch.
        divides: Whether the target can put sections into code contracts of their own.
        code_price: Gas an inference may cost more to save a byte of code: raised until the contract is small enough.
        force: By layer (a node's name, or its first origin's), attributes of `LanePlan` that its plan must have.
        choices: By section, or by node after an @, the way to compute it: `Choice.way` of another lowering.
        generators: What each of the target's code generators makes of a Program: the ways to compute a layer that the
            formulas find best are emitted and walked with it. Empty: the formulas decide.
        decides: Which of them decides; None: for each way the one that makes the best of it.
    """

    weights: str = "auto"
    optimize: str = "inference"
    expected_calls: int | None = None
    expected_updates: int | None = None
    strict_input: bool = False
    packed_only: bool = False
    literals: bool = True
    unroll: int = 16
    updatable: bool = False
    code_limit: int = 24_576
    rules: Fork = PRAGUE
    divides: bool = False
    code_price: float = 0.0
    observed: Mapping[str, Array] = field(default_factory=dict, compare=False)
    activity: Mapping[str, Activity] = field(default_factory=dict)
    force: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)
    generators: tuple[Callable[[Program], Costs], ...] = field(default=(), compare=False)
    decides: int | None = field(default=None, compare=False)

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
    def byte_price(self) -> float:
        """Gas of an inference that is worth a byte of code."""
        return self.code_price + self.rules.byte_price / self.calls

    @property
    def contract_words(self) -> int:
        """Words in a data contract."""
        return min(self.rules.data_words, UPDATABLE_WORDS) if self.updatable else self.rules.data_words

    @property
    def updates(self) -> int:
        """How often all weights are replaced meanwhile."""
        if not self.updatable:
            return 0
        return self.calls // CALLS_PER_UPDATE if self.expected_updates is None else self.expected_updates


@dataclass(frozen=True, slots=True)
class DotForm:
    """A way to deal a layer's inputs out into the lanes of words whose products are sums.

    Attributes:
        ways: Words that come of one word of inputs, each with every `ways`th input.
        stride: Bits of a lane.
        lanes: Inputs of a word.
        unit: Inputs of the word they come from.
        units: Words they come from.
        chunk: Of these, how many words' products may be added before the lane of sums is read; 0: not even one.
        dense_chunk: Likewise, with weights without a sign that are packed as closely as the inputs.
        raw_bits: Bits of a sum, made non-negative.
    """

    ways: int
    stride: int
    lanes: int
    unit: int
    units: int
    chunk: int
    dense_chunk: int
    raw_bits: int

    @property
    def place(self) -> int:
        """The lowest bit of the lane of sums."""
        return self.stride * (self.lanes - 1)

    @property
    def words(self) -> int:
        """Words of inputs in lanes."""
        return self.units * self.ways


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
        rules: The chain's prices.
        contract_words: Words in a data contract.
        force: Attributes of the plan that are settled.
        forms: Ways to compute it as dot products.
        across: Rows of a matrix that are multiplied by the same weights.
    """

    name: str
    rows: int
    outputs: int
    proved_bits: int
    weight_bits: int
    unit: int = 1
    mixed: bool = False
    activity: Activity = DENSE
    rules: Fork = PRAGUE
    contract_words: int = CONTRACT_WORDS
    force: Mapping[str, object] = field(default_factory=dict, hash=False)
    forms: tuple[DotForm, ...] = ()
    across: int = 1


@dataclass(frozen=True, slots=True)
class LanePlan:
    """How a linear layer is computed: each input times a word of the weights of several outputs.

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
        method: "lanes".
        written: Whether the rows of a matrix are written out one after the other; else they are a loop.
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
    method: str = "lanes"
    written: bool = False

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

    def result_words(self, outputs: int) -> int:
        """Return how many words so many outputs of a row take."""
        return self.blocks * self.accumulators if self.blocks > 1 else -(-outputs // self.lanes)


@dataclass(frozen=True, slots=True)
class DotPlan:
    """How a linear layer is computed as dot products: each output by itself.

    Attributes:
        form: How the inputs are dealt out.
        dense: Whether a weight word holds the weights of all inputs of a word, offset-binary, masked apart while
            running; else those of one word in lanes, with their sign.
        weight_bits: Width of a weight in a dense word.
        immediate: Whether the weights are literals in straight-line code; else there is a loop over the outputs.
        storage: Where the table of weights lives otherwise.
        together: Outputs of one round of that loop.
        ends: What happens to the sums when they are in lanes of a word.
        method: "dots".
        written: Whether the rows of a matrix are written out one after the other; else they are a loop.
    """

    form: DotForm
    dense: bool
    weight_bits: int
    immediate: bool
    storage: Storage
    together: int
    ends: LanePlan
    method: str = "dots"
    written: bool = False

    @property
    def chunk(self) -> int:
        """Words of inputs whose products are added before the lane of sums is read."""
        return self.form.dense_chunk if self.dense else self.form.chunk

    @property
    def held(self) -> bool:
        """Whether the words of inputs are in variables, if they are not multiplied where they are."""
        return self.form.words <= (HELD_WORDS if self.immediate else HELD_IN_LOOP)

    @property
    def row_words(self) -> int:
        """Weight words of one output."""
        return self.form.units if self.dense else self.form.words

    @property
    def outputs(self) -> int:
        """Outputs, with those that fill the last word of sums where it comes of a loop."""
        return self.ends.blocks * self.ends.lanes

    @property
    def table_words(self) -> int:
        """Weight words of the layer."""
        return self.outputs * self.row_words


Plan = LanePlan | DotPlan


def ends_of(plan: Plan) -> LanePlan:
    """Return the lanes in which a plan's sums end."""
    return plan.ends if isinstance(plan, DotPlan) else plan


def contract_gas(rules: Fork) -> int:
    """Return the gas of creating a data contract, and of checking it."""
    return rules.contract_price + rules.deposit * _CHECK


def plan_name(plan: Plan) -> str:
    """Return a plan's attributes as text, without those that are as usual."""
    return _named(plan)


def _named(plan: LanePlan | DotPlan | DotForm) -> str:
    usual = {f.name: f.default for f in dataclasses.fields(plan)}
    values = {name: getattr(plan, name) for name in usual}
    return " ".join(
        [getattr(plan, "method", ""), *(f"{n}={_value(v)}" for n, v in values.items() if v != usual[n])]
    ).strip()


def _value(value: object) -> str:
    match value:
        case LanePlan() | DotForm():
            return f"({_named(value)})"
        case Storage():
            return value.name.lower()
    return str(value)


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


def every_plan(layer: Layer, options: PlanOptions) -> Iterator[Plan]:
    """Iterate over all ways to compute a layer that what is settled of them allows."""
    return (plan for plan in candidates(layer, options) if _as_forced(plan, layer.force))


@functools.lru_cache(maxsize=64)
def _priced(layer: Layer, weights: str, unroll: int, literals: bool, updatable: bool) -> list[tuple[float, Plan]]:
    """Return the ways to compute a layer with the gas of an inference: the same for all prices of a byte of code."""
    options = PlanOptions(weights=weights, unroll=unroll, literals=literals, updatable=updatable)
    return [(inference_gas(plan, layer), plan) for plan in every_plan(layer, options)]


def _as_forced(plan: Plan, force: Mapping[str, object]) -> bool:
    return all(getattr(plan, name, None) == value for name, value in force.items())


def candidates(layer: Layer, options: PlanOptions) -> Iterator[Plan]:
    """Iterate over all ways to compute a layer."""
    plans: Iterator[Plan] = itertools.chain(_dots(layer, options), _lanes(layer, options))
    for plan in plans:
        yield plan
        if 1 < layer.across < WRITTEN_ROWS and ends_of(plan).accumulators == 1:
            yield dataclasses.replace(plan, written=True)


def _lanes(layer: Layer, options: PlanOptions) -> Iterator[LanePlan]:
    for round_rows, fields in itertools.product(_round_rows(layer, options), range(1, MAX_ACCUMULATORS + 1)):
        yield from _with_fields(layer, options, round_rows, fields, _word_rows(layer, round_rows))
    if layer.unit == 1 and options.unroll < layer.rows <= min(MAX_ROUND_WORDS, layer.contract_words):
        # a word of outputs at a time: of all inputs it is known where they are, and no subscript has to be checked
        yield from _with_fields(layer, options, layer.rows, 1, (1,), (1,))


def _with_fields(
    layer: Layer,
    options: PlanOptions,
    round_rows: int,
    fields: int,
    every_word_rows: Iterable[int],
    every_most: Iterable[int] = (MAX_ACCUMULATORS, ALONE_ACCUMULATORS),
) -> Iterator[LanePlan]:
    for word_rows in every_word_rows:
        together = fields * word_rows
        if together * layer.weight_bits > WORD_BITS:
            continue
        stride = max(layer.proved_bits, together * layer.weight_bits if together > 1 else 1)
        lanes = min(WORD_BITS // stride, layer.outputs)
        alone = together == 1 and layer.across == 1
        for blocks, needed in _blocks(
            -(-layer.outputs // lanes),
            [most for most in every_most if alone or most <= MAX_ACCUMULATORS],
            layer.contract_words // round_rows,  # the weights of a round must fit a data contract
            fields,
        ):
            yield from _placed(layer, options, (stride, lanes, blocks, needed), round_rows, word_rows, fields)


def _blocks(accumulators: int, every_most: Iterable[int], in_contract: int, fields: int) -> Iterator[tuple[int, int]]:
    """Iterate over numbers of blocks that so many accumulators are dealt out to, each with those of one."""
    for most in every_most:
        blocks = -(-accumulators // (min(most // fields, in_contract) * fields))
        each = -(-accumulators // blocks)
        if each >= fields and (most <= MAX_ACCUMULATORS or each > MAX_ACCUMULATORS):
            yield blocks, each


def _placed(
    layer: Layer, options: PlanOptions, lanes: tuple[int, int, int, int], round_rows: int, word_rows: int, fields: int
) -> Iterator[LanePlan]:
    """Iterate over where weights are, what is skipped, and how sums end, of (stride, lanes, blocks, accumulators)."""
    stride, of_word, blocks, accumulators = lanes
    row_words = -(-accumulators // fields)
    straight = blocks == 1 and layer.rows < 2 * round_rows
    places = _places(layer.rows * row_words, fields * word_rows, blocks, options, looped=not straight)
    for immediate, storage in places:
        crowded = immediate or fields > 1 or accumulators > MAX_ACCUMULATORS
        every_skip = _skips(layer, word_rows, immediate=immediate, crowded=crowded)
        for skips, loop_ends in itertools.product(every_skip, (False, True) if accumulators > 2 else (False,)):
            plan = LanePlan(
                layer.proved_bits,
                stride,
                of_word,
                fields,
                layer.weight_bits,
                accumulators,
                blocks,
                row_words,
                round_rows,
                immediate,
                storage,
                loop_ends,
                word_rows,
                **skips,  # type: ignore[arg-type]
            )
            if accumulators > MAX_ACCUMULATORS:
                fits = plan.skip_elements and not plan.loop_parts
            else:
                fits = not crowded or _straight_inputs(plan, layer) <= MAX_STRAIGHT_INPUTS
            if fits:
                yield plan


def _dots(layer: Layer, options: PlanOptions) -> Iterator[DotPlan]:
    lanes = min(WORD_BITS // layer.proved_bits, layer.outputs)
    words = -(-layer.outputs // lanes)
    for form, dense in itertools.product(layer.forms, (False, True)):
        if not (form.dense_chunk if dense else form.chunk):
            continue
        row_words = form.units if dense else form.words
        for immediate, storage in _places(layer.outputs * row_words, 1 + dense, 1, options):
            if words > MAX_ACCUMULATORS if immediate else form.words > MAX_STRAIGHT_WORDS:
                continue
            # in a loop all words of sums have as many lanes, and few of them are left over
            dealt = lanes if immediate else -(-layer.outputs // words)
            ends = LanePlan(
                proved_bits=layer.proved_bits,
                stride=layer.proved_bits,
                lanes=dealt,
                fields=1,
                weight_bits=layer.weight_bits,
                accumulators=words if immediate else 1,
                blocks=1 if immediate else words,
                row_words=1,
                round_rows=1,
                immediate=immediate,
                storage=storage,
            )
            most = 1 if immediate else max(MAX_ROUND_WORDS // form.words, 1)
            for together in (n for n in range(1, min(most, dealt) + 1) if dealt % n == 0):
                yield DotPlan(form, dense, layer.weight_bits, immediate, storage, together, ends)


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


def _places(
    words: int, together: int, blocks: int, options: PlanOptions, *, looped: bool = True
) -> Iterator[tuple[bool, Storage]]:
    """Iterate over (are the weights literals, where their table lives otherwise).

    solc writes the words of a table in the code that no loop reads a second time where they are read: those are
    literals that cost more.
    """
    if options.updatable:
        yield False, Storage.DATA
        return
    literals = options.literals and words <= LITERAL_WORDS
    if options.weights != "data" and literals and together == 1 and blocks == 1:
        yield True, Storage.CODE
    if options.weights != "data" and (looped or not literals):
        yield False, Storage.CODE
    if options.weights != "code":
        yield False, Storage.DATA


def _round_rows(layer: Layer, options: PlanOptions) -> tuple[int, ...]:
    """Return how many inputs a round may have: a word of them, or as many as make about 32, or come out even."""
    if layer.unit == 1:
        return (min(options.unroll, layer.rows),)
    units = -(-layer.rows // layer.unit)
    most = min(max(BYTES // layer.unit, 1), units)
    even = max(n for n in range(1, most + 1) if units % n == 0)  # no round is left over
    return tuple({layer.unit: None, layer.unit * even: None, layer.unit * most: None})


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
