"""The plans of a linear layer: how many outputs share a word, how weights are laid out, where they live.

Every way to compute the layer that can be built is one; what it costs is not known here (`formulas`, `walked`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from ml2sc.ir.forks import Fork
from ml2sc.ir.program import CONTRACT_WORDS, Storage

from .options import DENSE, PART_SIZES, PRAGUE, Activity, PlanOptions

WORD_BITS = 256
MAX_ACCUMULATORS = 6
"""Accumulators kept on the stack at once: with more, solc runs out of reachable stack slots."""
ALONE_ACCUMULATORS = 10
"""Likewise where nothing is above them but one input, and a weight word that is multiplied by it."""
LITERAL_WORDS = 512
"""Layers of at most so many weight words can be written out, the words as literals: 20 KB of code of a contract."""
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
WRITTEN_ROWS = 4
"""Rows of a matrix from which on their code is there once, in a loop; fewer may be written out if each is one word."""
BYTES = 32
"""Inputs of a word of the packed input whose elements are bytes."""


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

    @classmethod
    def of_sums(cls, bits: int, stride: int, lanes: int, words: int) -> LanePlan:
        """Return the lanes of sums that no table of weights makes.

        Args:
            bits: Width of a sum, from the proof.
            stride: Bits of a lane.
            lanes: Lanes of a word.
            words: Words of a row.
        """
        return cls(
            proved_bits=bits,
            stride=stride,
            lanes=lanes,
            fields=1,
            weight_bits=1,
            accumulators=words,
            blocks=1,
            row_words=1,
            round_rows=1,
            immediate=True,
            storage=Storage.CODE,
        )

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


@lru_cache(maxsize=1 << 14)
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


def every_plan(layer: Layer, options: PlanOptions) -> Iterator[Plan]:
    """Iterate over all ways to compute a layer that what is settled of them allows."""
    return (plan for plan in candidates(layer, options) if _as_forced(plan, layer.force))


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
    even = _even_rows(layer)
    if layer.unit > 1 and even not in _round_rows(layer, options):
        yield from _with_fields(layer, options, even, 1, (1,), (ALONE_ACCUMULATORS,))
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
    """Return how many inputs a round may have: a word of them, or as many as make about 32."""
    if layer.unit == 1:
        return (min(options.unroll, layer.rows),)
    units = max(BYTES // layer.unit, 1)
    return tuple({layer.unit: None, layer.unit * min(units, -(-layer.rows // layer.unit)): None})


def _even_rows(layer: Layer) -> int:
    """Return how many inputs a round may have so that none is left over after the last, at most about 32."""
    units = -(-layer.rows // layer.unit)
    most = min(max(BYTES // layer.unit, 1), units)
    return layer.unit * max(n for n in range(1, most + 1) if units % n == 0)


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
