"""One vector times a matrix: the loop over the inputs and their weights.

A weight word holds the weights of several outputs for one input: W = Σ_j w_j · 2^(stride·j). `acc += x · W` adds one
product to each lane. Everything is linear mod 2^256, so lanes may borrow from each other on the way; only the final
value of each must fit its lane, and that is proved from the actual weights. The bias, the rounding of the requantise
step and an offset that makes lanes non-negative are in the accumulators from the start.

Inputs are taken in rounds: the code of a round is there once, and each weight word of it has a place in memory that is
known when the contract is written. What a round needs of a data contract is copied there, over the round before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.program import (
    Assign,
    Block,
    Const,
    CopySegment,
    Expr,
    For,
    If,
    Induction,
    LaterWords,
    Let,
    Load,
    LoadInput,
    Note,
    Segment,
    Statement,
    Storage,
    Var,
    add,
    and_,
    byte,
    const,
    loop,
    mul,
    shl,
    shr,
    sub,
)
from ml2sc.ir.types import Array, as_python_ints

from ..context import DraftSection, Lowering
from ..epilogue import ChannelScaling
from ..finish import Finish
from ..options import Activity
from ..plan import BYTES, LanePlan
from ..product import Product, Rows, known
from ..values import Laned, Packed, Source, Value

_TOGETHER = (4, 2, 1)
"""Inputs whose products are added in one expression, if there is room on the stack."""
_REACH = 16
"""Places on the stack that DUP and SWAP reach."""
_PAIR_BITS = 16
_PAIR_WORDS = ((1 << _PAIR_BITS) - 1) // (2 * 255)
"""Words whose bytes can be added up in sixteen lanes of a word."""
_EXCESS = 1 << 62
"""What int64 has room for beside weights."""


@dataclass(frozen=True, slots=True)
class _Table:
    """A segment of weights and the buffer it is read through.

    Attributes:
        segment: Name of the segment.
        buffer: Name of the buffer.
        block_words: Words of one block of outputs.
        chunk: Words of one round.
    """

    segment: str
    buffer: str
    block_words: int
    chunk: int


@dataclass(frozen=True, slots=True)
class _Literals:
    """Weight words of a word's inputs that are known: by input, by word of its row."""

    words: Sequence[Sequence[int]]

    def word(self, k: int, h: int) -> Expr:
        return Const(self.words[k][h])


@dataclass(frozen=True, slots=True)
class _Loads:
    """Weight words of a word's inputs in a buffer, from word `base` on; an input's weights are its word's lowest."""

    buffer: str
    base: Expr
    plan: LanePlan

    def word(self, k: int, h: int) -> Expr:
        plan = self.plan
        word = Load(self.buffer, add(self.base, const(plan.words(k // plan.word_rows * plan.word_rows) + h)))
        return shr(k % plan.word_rows * plan.fields * plan.weight_bits, word)

    def moved(self, base: Expr) -> _Loads:
        return _Loads(self.buffer, base, self.plan)


_Weights = _Literals | _Loads


@dataclass(frozen=True, slots=True)
class _Taken:
    """How often what skips zeros finds none, where it stands within what skips more."""

    word: float
    part: float
    element: float

    @classmethod
    def of(cls, plan: LanePlan, activity: Activity) -> _Taken:
        word = activity.word if plan.skip_words else 1.0
        part = min(activity.parts[plan.part], word) if plan.skip_parts else word
        element = min(activity.element, part)
        return cls(word, part / word if word else 1.0, element / part if part else 1.0)


class LaneSections:
    """The lowering of one vector times a matrix, or of the rows of one.

    Args:
        context: The lowering of the graph.
        draft: The section to fill.
        product: What is lowered.
        plan: How.
    """

    def __init__(self, context: Lowering, draft: DraftSection, product: Product, plan: LanePlan) -> None:
        self.context, self.draft, self.product, self.plan = context, draft, product, plan
        self.epilogue, self.rows = product.epilogue, product.rows
        self.groups = product.brought(context, draft)
        self.finish = Finish(context, draft, plan, self.epilogue, product.bias, product.across)
        self.accumulators = self.finish.accumulators
        self.sums_words = plan.masked and all(map(_adds_up, self.groups))
        self._shares = _Taken.of(plan, product.activity)

    def emit(self) -> Value:
        """Add the section's statements and return where the results are."""
        plan, finish = self.plan, self.finish
        laned = finish.result()
        body = self.draft.body
        body.append(Note(self._claim()))
        tables = [None if plan.immediate else self._table(g) for g in self.groups]
        starts = self._starts()

        def row(at: Expr, result: Expr) -> list[Statement]:
            group = const(0) if plan.blocks == 1 else Var("group")
            inner = starts(group, result) + self._block(tables, laned, add(result, group), at)
            if plan.blocks == 1:
                return inner
            offsets = [Induction(f"base{i}", const(0), t.block_words) for i, t in enumerate(tables) if t is not None]
            return [loop("group", plan.blocks, inner, step=plan.accumulators, also=offsets)]

        step = self._stride(self.groups[0], self.product.apart) if self.groups else 0
        body += self.product.over_rows(step, finish.words, written=plan.written, row=row)
        if isinstance(self.epilogue.scaling, ChannelScaling) and finish.scales_afterwards:
            body += finish.scale_afterwards(self.epilogue.scaling, laned)
        self.draft.facts = self._facts()
        return finish.value(laned)

    # -- the proof and the report ----------------------------------------------------------------------------------

    def _claim(self) -> str:
        e, plan = self.epilogue, self.plan
        limit = 1 << (plan.proved_bits - 1 if e.clamps_below else plan.proved_bits)
        acc = e.accumulator
        low = acc.lo + e.constant
        high = f"{acc.hi + e.constant} < 2^{limit.bit_length() - 1}"
        return (
            f"Proved for all inputs: {acc.lo} <= sum <= {acc.hi}; with what is added from the start "
            f"{low} <= acc <= {high}: {plan.lanes} lanes of {plan.stride} bits a word."
        )

    def _facts(self) -> dict[str, int | str]:
        plan = self.plan
        return {
            "operator": self.product.operator,
            "macs": self.product.inputs * self.finish.outputs * self.product.across,
            "bits": plan.proved_bits,
            "lanes": plan.lanes,
            "stride": plan.stride,
            "fields": plan.fields,
            "word_rows": plan.word_rows,
            "storage": "literals" if plan.immediate else plan.storage.value,
            "bytes": 32 * plan.table_words(self.rows),
            "live": str(self.product.activity),
        }

    # -- data ------------------------------------------------------------------------------------------------------

    def _starts(self) -> Callable[[Expr, Expr], list[Statement]]:
        """Return what gives, for a block of outputs and a row's results, statements that start the accumulators."""
        words, name, size = self.finish.initial(), f"{self.draft.name}_bias", self.accumulators
        alike, updatable = len(self.product.bias) == 1, self.context.options.updatable

        def started(starts: Iterable[Expr]) -> list[Statement]:
            return [Let(f"acc{a}", start) for a, start in enumerate(starts)]

        if updatable:
            segment = Segment(tuple(words), Storage.DATA, self.context.options.contract_words // size * size)
            bias = self.context.segment(name, segment)
            buffer = self.context.buffer(f"{bias}_chunk", size)

            def copied(group: Expr, result: Expr) -> list[Statement]:
                copy = CopySegment(bias, group if alike else add(result, group), size, buffer)
                return [copy, *started(Load(buffer, const(a)) for a in range(size))]

            return copied
        if self.plan.blocks == 1 and (alike or self.plan.written):

            def literal(group: Expr, result: Expr) -> list[Statement]:
                first = 0 if alike else known(result)
                return started(Const(word) for word in words[first : first + size])

            return literal
        table = self.context.table(self.draft, name, words)

        def loaded(group: Expr, result: Expr) -> list[Statement]:
            at = group if alike else add(result, group)
            return started(Load(table, add(at, const(a))) for a in range(size))

        return loaded

    def _weight_words(self, weights: Array, block: int = 0, rows: int = 0) -> list[int]:
        """Return a block's words of some inputs' weights; those of the inputs that share words come together.

        Args:
            weights: The weights, (inputs, outputs).
            block: Number of the block of outputs.
            rows: Inputs that there are at least words for: those added have weights of 0.
        """
        plan = self.plan
        first, width = block * plan.accumulators * plan.lanes, plan.row_words * plan.fields * plan.lanes
        own = weights[:, first : first + width]
        excess = 1 << (plan.weight_bits - 1) if plan.masked else 0
        shape = -(-max(rows, len(own)) // plan.word_rows) * plan.word_rows, width
        padded = np.zeros(shape, dtype=own.dtype if excess < _EXCESS else object)
        padded[: len(own), : own.shape[1]] = own
        padded += excess
        places = [
            plan.stride * lane + plan.weight_bits * (row * plan.fields + field)
            for row, field, lane in itertools.product(range(plan.word_rows), range(plan.fields), range(plan.lanes))
        ]
        grid = padded.reshape(-1, plan.word_rows, plan.row_words, plan.fields, plan.lanes).transpose(0, 2, 1, 3, 4)
        words = as_python_ints(grid.reshape(-1, len(places))) @ np.array([1 << p for p in places], dtype=object)
        # the bits above the lanes never come down, and are cleared with the rest at the end: negative words get shorter
        mask = (1 << (plan.stride * plan.lanes)) - 1
        return [word & mask for word in words.tolist()]

    def _table(self, group: Rows) -> _Table:
        """Add the segment of a group's weights: block by block, in each round by round."""
        plan = self.plan
        in_data = plan.storage is Storage.DATA
        round_rows = self._round_rows(group)
        chunk = plan.words(round_rows)
        # whole rounds, so that none lies in two data contracts
        rows = -(-len(group.weights) // round_rows) * round_rows if in_data else len(group.weights)
        block_words = plan.words(rows)
        size = plan.blocks * block_words

        def made() -> list[int]:
            return [word for block in range(plan.blocks) for word in self._weight_words(group.weights, block, rows)]

        words = LaterWords(size, made)
        per_contract = self.context.options.contract_words // chunk * chunk if in_data else 0
        opened = self._opened(rows // round_rows, per_contract // chunk) if in_data else ()
        segment = Segment(words, plan.storage, per_contract, opened)
        name = self.context.segment(f"{self.draft.name}_weights", segment)
        buffer = self.context.buffer(f"{name}_round" if in_data else f"{name}_table", chunk if in_data else size)
        if not in_data:
            self.draft.body.append(CopySegment(name, const(0), size, buffer))
        return _Table(name, buffer, block_words, chunk)

    def _opened(self, rounds: int, per_contract: int) -> tuple[float, ...]:
        """Return in which share of inferences each data contract is read.

        Args:
            rounds: Rounds of a block of outputs.
            per_contract: Rounds in a data contract.
        """
        activity = self.product.activity
        if not self.plan.skip_words or not activity.spans:
            return ()
        shares = [activity.read_share(r / rounds, (r + 1) / rounds) for r in range(rounds)] * self.plan.blocks
        return tuple(max(shares[start : start + per_contract]) for start in range(0, len(shares), per_contract))

    def _round_rows(self, group: Rows) -> int:
        """Return the inputs of a round: whole words of the group's own source."""
        units = max(self.plan.round_rows // group.unit, 1)
        return group.unit * min(units, -(-len(group.weights) // group.unit))

    # -- statements ------------------------------------------------------------------------------------------------

    def _block(self, tables: Sequence[_Table | None], laned: Laned, block: Expr, at: Expr) -> list[Statement]:
        """Add everything up and end it, the inputs being `at` further on than the first row's."""
        body: list[Statement] = []
        if self.plan.masked:
            body.append(Let("total", const(0)))
        for index, (group, table) in enumerate(zip(self.groups, tables, strict=True)):
            if table is None:
                body += self._literals(group, at)
                continue
            looped = self._looped(group, table, at, Var(f"base{index}") if self.plan.blocks > 1 else const(0))
            if self.sums_words:
                looped = [Block((Let("pairs", const(0)), *looped, self._gathered(group)))]
            body += looped
        body += self._correction()
        body.append(Note(self.finish.said()))
        return body + self.finish.stores(laned, block)

    def _literals(self, group: Rows, row: Expr) -> list[Statement]:
        """Write every round out, the weights as literals; inputs without weights are left out."""
        body: list[Statement] = []
        every, size = self._weight_words(group.weights), self.plan.row_words
        words = [every[k : k + size] for k in range(0, len(every), size)]
        if group.unit == 1:
            reads = {k: _scalar(group.source, self._index(group, k, row)) for k, own in enumerate(words) if any(own)}
            return list(self._inputs(reads, _Literals(words)))
        for start in range(0, len(words), group.unit):
            used = [k for k in range(min(group.unit, len(words) - start)) if any(words[start + k])]
            if used:
                literal = _Literals(words[start : start + group.unit])
                body += self._word(group, self._index(group, start, row), used, literal, [])
        return body

    def _looped(self, group: Rows, table: _Table, row: Expr, base: Expr) -> list[Statement]:
        """Loop over the rounds of a table; what is left of the inputs after them comes apart."""
        size, rows = self._round_rows(group), len(group.weights)
        # a word of bytes can be read to its end: what is too much there has weights of 0, or comes after the input
        padded = group.unit == BYTES and self.plan.storage is Storage.DATA
        full = -(-rows // size) if padded else rows // size
        body: list[Statement] = []
        if full > 1:
            inner = self._round(group, table, Var("i"), Var("r"), min(size, rows))
            first = Induction("i", self._index(group, 0, row), self._stride(group, size))
            second = Induction("r", base, table.chunk)
            inductions: tuple[Induction, ...] = (first, second)
            if not isinstance(first.start, Const):
                inductions = (
                    (second, first) if isinstance(base, Const) else (Induction("n", const(0), 1), first, second)
                )
            body.append(For(inductions, full, tuple(inner)))
        elif full:
            body += self._round(group, table, self._index(group, 0, row), base, min(size, rows))
        if full * size < rows:
            done = full * size
            at, rest = self._index(group, done, row), add(base, const(self.plan.words(done)))
            body += self._round(group, table, at, rest, rows - done)
        return body

    def _index(self, group: Rows, number: int, row: Expr) -> Expr:
        """Return where the word of an input is: a byte of the packed input, or a word of a buffer.

        Args:
            group: The inputs.
            number: Which of them, in the first row.
            row: How much further on those of the row are.
        """
        position = group.first + number
        if isinstance(group.source, Packed):
            index = const(group.source.start + position * group.source.width)
        else:
            index = const(position // group.unit)
        return add(row, index)

    def _stride(self, group: Rows, rows: int) -> int:
        return rows * group.source.width if isinstance(group.source, Packed) else rows // group.unit

    def _round(self, group: Rows, table: _Table, at: Expr, row: Expr, rows: int) -> list[Statement]:
        """Handle the inputs of a round, the first of which is at an index; its weights are at a word of the segment."""
        plan = self.plan
        body: list[Statement] = []
        copy: list[Statement] = []
        place = row
        if plan.storage is Storage.DATA:
            copy = [CopySegment(table.segment, row, plan.words(rows), table.buffer)]
            place = const(0)
        if group.unit == 1:
            reads = {k: _scalar(group.source, add(at, const(self._stride(group, k)))) for k in range(rows)}
            return [*copy, *self._inputs(reads, _Loads(table.buffer, place, plan))]
        if group.unit != BYTES:  # a round of several words
            body, copy = copy, []
        for start in range(0, rows, group.unit):
            weights = _Loads(table.buffer, add(place, const(plan.words(start))), plan)
            used = range(min(group.unit, rows - start))
            body += self._word(group, add(at, const(self._stride(group, start))), used, weights, copy)
        return body

    def _word(
        self, group: Rows, at: Expr, used: Sequence[int], weights: _Weights, copy: list[Statement]
    ) -> list[Statement]:
        """Handle the inputs `used` of the word at an index, after copying their weights."""
        plan, source = self.plan, group.source
        load = LoadInput(at) if isinstance(source, Packed) else Load(source.buffer, at)
        inner = copy + self._added_up(group, used)
        if plan.loop_parts and isinstance(weights, _Loads):
            inner += self._parts_loop(len(used), weights)
        elif plan.part:
            for start in range(0, group.unit, plan.part):
                part = [k for k in used if start <= k < start + plan.part]
                if part:
                    inputs = self._inputs(_elements(source, part), weights)
                    tested = and_(Var("word"), _ones_at(source, part))
                    inner += [If(tested, inputs, share=self._shares.part)] if plan.skip_parts else inputs
        else:
            inner += self._inputs(_elements(source, used), weights)
        if plan.skip_words:
            inner = [If(Var("word"), tuple(inner), share=self._shares.word)]
        return [Block((Let("word", load), *inner))]

    def _parts_loop(self, count: int, weights: _Loads) -> list[Statement]:
        """Loop over the parts of a word of bytes, the next one always at its top."""
        plan, body = self.plan, list[Statement]()
        full, rest = divmod(count, plan.part)
        if full:
            inner = self._top_part(plan.part, weights.moved(Var("s")))
            inner.append(Assign("word", shl(8 * plan.part, Var("word"))))
            also = [Induction("s", weights.base, plan.words(plan.part))]
            body.append(loop("b", full, inner, also=also))
        if rest:
            body += self._top_part(rest, weights.moved(add(weights.base, const(plan.words(full * plan.part)))))
        return body

    def _top_part(self, size: int, weights: _Loads) -> list[Statement]:
        inputs = self._inputs({k: byte(const(BYTES - size + k), Var("part")) for k in range(size)}, weights)
        let = Let("part", shr(256 - 8 * size, Var("word")))
        if self.plan.skip_parts:
            inputs = (If(Var("part"), inputs, share=self._shares.part),)
        return [Block((let, *inputs))]

    def _inputs(self, inputs: Mapping[int, Expr], weights: _Weights) -> tuple[Statement, ...]:
        """Add the products of inputs of a word, by their number in it, to the accumulators."""
        plan, body = self.plan, list[Statement]()
        if plan.skip_elements:
            for k, x in inputs.items():
                products = If(Var(f"x{k}"), self._products(k, weights), share=self._shares.element)
                body.append(Block((Let(f"x{k}", x), products)))
            return tuple(body)
        numbers, size = list(inputs), self._together
        for start in range(0, len(numbers), size):
            together = numbers[start : start + size]
            if self.accumulators == 1 and not self._counts_inputs:
                body.append(_summed(0, [(inputs[k], self._weight(k, 0, weights)) for k in together]))
                continue
            block: list[Statement] = [Let(f"x{k}", inputs[k]) for k in together]
            block += [
                _summed(a, [(Var(f"x{k}"), self._weight(k, a, weights)) for k in together])
                for a in range(self.accumulators)
            ]
            block += [self._counted(k) for k in together if self._counts_inputs]
            body.append(Block(tuple(block)))
        return tuple(body)

    @property
    def _together(self) -> int:
        """Inputs whose products are added in one expression: the accumulator is fetched and put back once for all.

        In a loop over blocks of outputs less room is left for them and the weight words that accumulators share: it has
        as many of these as can be, two variables of each loop, a word of inputs, and their sum. Parts in a loop of
        their own are short.
        """
        plan = self.plan
        taken = plan.accumulators + 2 + 2 * (self.rows > plan.round_rows) + 1 + plan.masked

        def fits(inputs: int) -> bool:
            words = -(-inputs // plan.word_rows) if plan.fields > 1 else 0
            return plan.blocks == 1 or plan.loop_parts or taken + inputs + words <= _REACH

        return next((size for size in _TOGETHER if fits(size)), 1)

    def _products(self, k: int, weights: _Weights) -> tuple[Statement, ...]:
        """Add the products of one input, x, to every accumulator."""
        plan, x = self.plan, Var(f"x{k}")
        body: list[Statement] = [self._counted(k)] if self._counts_inputs else []
        if plan.fields == 1:
            sums = (_summed(a, [(x, self._weight(k, a, weights))]) for a in range(self.accumulators))
            return (*body, *sums)
        for h in range(-(-self.accumulators // plan.fields)):
            body.append(Let(f"w{k}_{h}", weights.word(k, h)))
            word = Var(f"w{k}_{h}")
            for field in range(min(plan.fields, self.accumulators - h * plan.fields)):
                shift, offset = plan.field_place(field)
                if offset == 0 and shift:
                    body.append(Assign(word.name, shr(shift - plan.field_place(field - 1)[0], word)))
                masked = and_(word, const(self.finish.ones(offset, plan.weight_bits)))
                body.append(_summed(h * plan.fields + field, [(x, masked)]))
        return tuple(body)

    def _weight(self, k: int, a: int, weights: _Weights) -> Expr:
        """Return an input's weights for an accumulator, from the word itself.

        Where nothing parts the code of several inputs, words in variables would all be on the stack at once: solc joins
        the sums of an accumulator to one expression.
        """
        plan = self.plan
        word = weights.word(k, a // plan.fields)
        if not plan.masked:
            return word
        shift, offset = plan.field_place(a % plan.fields)
        return and_(shr(shift, word), const(self.finish.ones(offset, plan.weight_bits)))

    # -- what weights without a sign add too much -------------------------------------------------------------------

    @property
    def _counts_inputs(self) -> bool:
        """Whether inputs are added up one by one."""
        return self.plan.masked and not self.sums_words

    def _counted(self, k: int) -> Statement:
        return Assign("total", add(Var("total"), Var(f"x{k}")))

    def _added_up(self, group: Rows, used: Sequence[int]) -> list[Statement]:
        """Add a word's inputs to `pairs`, those of all lanes at once."""
        if not self.sums_words:
            return []
        word: Expr = Var("word")
        if not _is_bytes(group.source):
            return [Assign("pairs", add(Var("pairs"), word))]
        if len(used) < BYTES:
            word = and_(word, _ones_at(group.source, used))
        low = const(_spread(_PAIR_BITS, 8))
        pairs = add(and_(shr(8, word), low), and_(word, low))
        return [Assign("pairs", add(Var("pairs"), pairs))]

    def _gathered(self, group: Rows) -> Statement:
        """Add the lanes of `pairs` up."""
        pairs: Expr = Var("pairs")
        if isinstance(group.source, Laned) and not _is_bytes(group.source):
            lanes, stride = group.source.lanes, group.source.stride
        else:
            low = const(_spread(2 * _PAIR_BITS, _PAIR_BITS))
            pairs = add(and_(shr(_PAIR_BITS, pairs), low), and_(pairs, low))
            lanes, stride = 256 // (2 * _PAIR_BITS), 2 * _PAIR_BITS
        ones = const(sum(1 << (stride * lane) for lane in range(lanes)))
        top = shr(stride * (lanes - 1), mul(pairs, ones))
        total = top if stride * lanes == 256 else and_(top, const((1 << stride) - 1))
        return Assign("total", add(Var("total"), total))

    def _correction(self) -> list[Statement]:
        """Take away what storing weights as w + 2^(bits − 1) has added: 2^(bits − 1) · Σx in every lane."""
        plan = self.plan
        if not plan.masked:
            return []
        excess = 1 << (plan.weight_bits - 1)
        body: list[Statement] = [
            Note(f"Weights are stored as w + {excess}: take that times the sum of the inputs away.")
        ]
        for a in range(self.accumulators):
            offset = plan.field_place(a % plan.fields)[1]
            lanes = const(self.finish.ones(offset, 1) * excess)
            body.append(Assign(f"acc{a}", sub(Var(f"acc{a}"), mul(Var("total"), lanes))))
        return body


def _is_bytes(source: Source) -> bool:
    """Return whether 32 inputs are in a word, a byte each."""
    return isinstance(source, Packed) or (source.stride == 8 if isinstance(source, Laned) else False)


def _adds_up(group: Rows) -> bool:
    """Return whether the inputs of a group can be added up a word at a time."""
    source = group.source
    units = -(-len(group.weights) // group.unit)
    if group.unit == 1:
        return False
    if isinstance(source, Laned) and not _is_bytes(source):
        return units * source.lanes * ((1 << source.bits) - 1) < 1 << source.stride
    return units <= _PAIR_WORDS


def _scalar(source: Source, at: Expr) -> Expr:
    """Return the input at an index of a source that has a word, or some bytes, for each."""
    return source.read_at(at) if isinstance(source, Packed) else Load(source.buffer, at)


def _elements(source: Source, numbers: Iterable[int]) -> dict[int, Expr]:
    """Return inputs of the variable `word`, by their number in it."""
    if isinstance(source, Laned):
        return {k: source.lane(Var("word"), k) for k in numbers}
    return {k: byte(const(k), Var("word")) for k in numbers}


def _ones_at(source: Source, numbers: Iterable[int]) -> Const:
    """Return a word with ones where some of its inputs are."""
    if isinstance(source, Laned):
        return const(sum(((1 << source.bits) - 1) << source.place(k) for k in numbers))
    return const(sum(255 << (248 - 8 * k) for k in numbers))


def _spread(stride: int, bits: int) -> int:
    return sum(((1 << bits) - 1) << place for place in range(0, 256, stride))


def _summed(a: int, products: Iterable[tuple[Expr, Expr]]) -> Statement:
    """Return acc := product + (… + acc): operands are computed from the right, so each product is added where it is."""
    total: Expr = Var(f"acc{a}")
    for x, w in products:
        if w != Const(0):
            total = add(mul(x, w), total)
    return Assign(f"acc{a}", total)
