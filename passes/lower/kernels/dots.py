"""A linear layer as dot products: one multiplication gives the sum of several inputs' products.

Lanes of a product are coefficients of a product of polynomials. With inputs in n lanes, X = Σ_a x_a · 2^(D·a), and the
weights of one output in reverse order, K = Σ_a w_a · 2^(D·(n−1−a)), lane n − 1 of X·K is Σ_a x_a·w_a. Products of all
words of inputs are added before that lane is read. Lanes above it leave the word or are masked away; those below it
must neither overflow nor borrow: what makes them non-negative is added from the start, and that each then fits its D
bits is proved from the actual weights.

Inputs may lie closer together than D bits: every w-th of them is taken at a time, w words of them from each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.program import (
    Assign,
    Block,
    Const,
    CopySegment,
    Expr,
    Induction,
    Lanes,
    LaterWords,
    Let,
    Load,
    LoadInput,
    Note,
    Segment,
    Statement,
    Storage,
    Store,
    Var,
    add,
    and_,
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
from ..plan import DotForm, DotPlan
from ..product import Product, Rows, known
from ..values import Laned, Packed, Source, Value

_WORD = 256
_FORMS = 2
"""Ways to deal the inputs out that are priced: those with the most inputs a multiplication."""
_MAX_CHUNKS = 4
"""Parts that a sum may be read in: each costs a shift, a mask and an addition an output."""
_WIDEST = 62
"""Bits of sums that are added up in int64."""


@dataclass(frozen=True, slots=True)
class _Geometry:
    """How the inputs lie in a word.

    Attributes:
        stride: Bits from one to the next.
        lanes: Inputs of a word.
        bits: Width of one.
        from_top: Whether the first is the highest.
    """

    stride: int
    lanes: int
    bits: int
    from_top: bool

    @classmethod
    def of(cls, source: Source) -> _Geometry | None:
        """Return that of a source; None: it has a word for each."""
        if isinstance(source, Laned):
            return cls(source.stride, source.lanes, source.bits, source.from_top) if source.lanes > 1 else None
        if isinstance(source, Packed) and not source.signed and source.width in (1, 2):
            return cls(8 * source.width, 32 // source.width, 8 * source.width, from_top=True)
        return None


def dot_forms(groups: Sequence[Rows], weight_bits: int) -> tuple[DotForm, ...]:
    """Return how a layer's inputs can be dealt out into words, so that lanes have room for sums of products.

    Args:
        groups: The inputs and their weights.
        weight_bits: Bits of the widest weight, with its sign.
    """
    geometry = _Geometry.of(groups[0].source) if len(groups) == 1 else None
    if geometry is None:
        return ()
    group, most = groups[0], (1 << geometry.bits) - 1
    weights = group.weights
    total, magnitude = weights.sum(axis=0), np.abs(weights).sum(axis=0)
    if (int(magnitude.max(initial=0)) * most).bit_length() > _WIDEST:
        return ()
    least, greatest = (int(part.max(initial=0)) // 2 for part in (magnitude - total, magnitude + total))
    raw_bits = max(((least + greatest) * most).bit_length(), 1)
    excess = 1 << (weight_bits - 1)
    found: list[DotForm] = []
    for ways in range(1, geometry.lanes):
        stride = geometry.stride * ways
        limit = ((1 << stride) - 1) // most
        top = min(raw_bits, stride)  # of a sum, or of each part of one
        if isinstance(group.source, Packed):  # a word may start at any of them
            lanes = min((_WORD - top) // stride + 1, geometry.lanes // ways)
            unit = lanes * ways
        else:
            lanes, unit = -(-geometry.lanes // ways), geometry.lanes
        if lanes == 1:
            break
        if stride * (lanes - 1) + top > _WORD:
            continue
        units = -(-len(weights) // unit)
        chunk = units if least + greatest <= limit else _chunk(weights, unit, limit)
        dense = 0
        # a weight lies where the input does that it is multiplied with, and none of a way without one is above the word
        whole = geometry.stride * (ways * lanes - 1) + weight_bits <= _WORD
        if ways > 1 and weight_bits <= geometry.stride and whole and raw_bits <= stride and unit * units <= limit:
            filled = int(total.max()) + excess * unit * units
            dense = units if filled <= limit else _chunk(weights, unit, limit, excess)
            if dense < units and stride * lanes > _WORD:
                dense = 0
        if chunk or dense:
            found.append(DotForm(ways, stride, lanes, unit, units, chunk, dense, raw_bits))
        if len(found) == _FORMS:
            break
    return tuple(found)


def _chunk(weights: Array, unit: int, limit: int, excess: int = 0) -> int:
    """Return how many units' products can be added if a lane has room for `limit` times the widest input; 0: too few.

    Args:
        weights: (inputs, outputs).
        unit: Inputs of a unit.
        limit: Greatest sum of weights; of their magnitudes, where they have a sign.
        excess: What is added to each, so that none has.
    """
    units = -(-len(weights) // unit)
    padded = np.pad(weights, ((0, units * unit - len(weights)), (0, 0))) + excess
    signs = (padded,) if excess else (np.maximum(padded, 0), np.maximum(-padded, 0))
    parts = [p.reshape(units, unit, -1).sum(axis=1) for p in signs]
    for chunks in range(1, min(_MAX_CHUNKS, units) + 1):
        size = -(-units // chunks)
        starts = range(0, units, size)
        if all(sum(int(p[s : s + size].sum(axis=0).max()) for p in parts) <= limit for s in starts):
            return size
    return 0


class DotSections:
    """The lowering of one vector times a matrix as dot products, or of the rows of one.

    Args:
        context: The lowering of the graph.
        draft: The section to fill.
        product: What is lowered.
        plan: How.
    """

    def __init__(self, context: Lowering, draft: DraftSection, product: Product, plan: DotPlan) -> None:
        self.context, self.draft, self.product = context, draft, product
        self.plan, self.form, self.group = plan, plan.form, product.brought(context, draft)[0]
        geometry = _Geometry.of(self.group.source)
        assert geometry is not None
        self.geometry = geometry
        size = plan.chunk * (1 if plan.dense else plan.form.ways)
        self.chunks = [range(s, min(s + size, plan.row_words)) for s in range(0, plan.row_words, size)]
        """Weight words of an output whose products are added before the lane of sums is read."""
        self.lowest = sum(self._low(chunk) for chunk in self.chunks)
        """What is added to each sum, so that none is negative; it is taken from the biases."""
        bias = product.bias - self.lowest
        self.finish = Finish(context, draft, plan.ends, product.epilogue, bias, product.across)

    def emit(self) -> Value:
        """Add the section's statements and return where the results are."""
        finish, body, epilogue = self.finish, self.draft.body, self.product.epilogue
        laned = finish.result()
        body.append(Note(self._claim()))
        buffer = self._inputs_buffer()
        sums = self._straight(laned) if self.plan.immediate else self._looped(laned)

        def row(at: Expr, result: Expr) -> list[Statement]:
            dealt, words = self._dealt(at, buffer)
            return [*dealt, *(self._counted(words) if self.plan.dense else []), *sums(words, result)]

        step = self._step(self.product.apart)
        body += self.product.over_rows(step, finish.words, written=self.plan.written, row=row)
        if isinstance(epilogue.scaling, ChannelScaling) and finish.scales_afterwards:
            body += finish.scale_afterwards(epilogue.scaling, laned)
        self.draft.facts = self._facts()
        return finish.value(laned)

    # -- the proof and the report ----------------------------------------------------------------------------------

    def _claim(self) -> str:
        e, form = self.product.epilogue, self.form
        return (
            f"Proved for all inputs: {e.accumulator.lo} <= sum <= {e.accumulator.hi}; a multiplication adds up "
            f"{form.lanes} products, in bits {form.place} to {form.place + form.raw_bits - 1}, where "
            f"{self.lowest} is added to them; what is below does not reach {form.stride} bits a lane."
        )

    def _facts(self) -> dict[str, int | str]:
        plan, form = self.plan, self.form
        return {
            "operator": self.product.operator,
            "macs": self.product.inputs * self.finish.outputs * self.product.across,
            "bits": form.raw_bits,
            "lanes": form.lanes,
            "stride": form.stride,
            "fields": form.ways if plan.dense else 1,
            "word_rows": 1,
            "storage": "literals" if plan.immediate else plan.storage.value,
            "bytes": 32 * plan.table_words,
            "live": str(self.product.activity),
        }

    # -- inputs ----------------------------------------------------------------------------------------------------

    def _step(self, inputs: int) -> int:
        """Return how far apart in their source words are that begin so many inputs apart."""
        source = self.group.source
        return inputs * source.width if isinstance(source, Packed) else inputs // self.form.unit

    @property
    def _as_they_are(self) -> bool:
        """Whether words of inputs are multiplied as they are."""
        return self.form.ways == 1 and self._shifts() == [0]

    def _inputs_buffer(self) -> str:
        """Add the buffer of the words that inputs are dealt out into, if they are not in variables."""
        form, source = self.form, self.group.source
        if self._as_they_are or self.plan.held:
            return ""
        top = (1 << self.geometry.bits) - 1
        if isinstance(source, Laned) and source.buffer in self.context.holds:
            top = self.context.holds[source.buffer].hi
        holds = Lanes(form.lanes, form.stride, 0, top)
        return self.context.buffer(f"{self.draft.name}_inputs", form.words, holds)

    def _dealt(self, at: Expr, buffer: str) -> tuple[list[Statement], list[Expr]]:
        """Return statements that deal a row's inputs out, and where each word of them is then.

        Args:
            at: What is added to the place of the first row's inputs.
            buffer: Where they go, if they do not stay or go into variables.
        """
        form = self.form
        step, start = self._step(form.unit), add(at, const(self._index(0)))
        if self._as_they_are:
            return [], [self._read(add(start, const(step * t))) for t in range(form.units)]
        if self.plan.held:
            body: list[Statement] = []
            for t in range(form.units):
                body.append(Let(f"word{t}", self._read(add(start, const(step * t)))))
                body += [Let(f"x{t * form.ways + v}", x) for v, x in enumerate(self._parts(Var(f"word{t}")))]
            return body, [Var(f"x{k}") for k in range(form.words)]
        inner: list[Statement] = [Let("word", self._read(Var("p")))]
        inner += [Store(buffer, add(Var("o"), const(v)), x) for v, x in enumerate(self._parts(Var("word")))]
        rounds = loop("o", form.units, inner, step=form.ways, also=[Induction("p", start, step)])
        return [rounds], [Load(buffer, const(k)) for k in range(form.words)]

    def _index(self, position: int) -> int:
        source = self.group.source
        position += self.group.first
        return source.start + position * source.width if isinstance(source, Packed) else position // self.form.unit

    def _read(self, at: Expr) -> Expr:
        source = self.group.source
        return LoadInput(at) if isinstance(source, Packed) else Load(source.buffer, at)

    def _shifts(self) -> list[int]:
        """Return how far the inputs of each way are up in their word."""
        g, form = self.geometry, self.form
        unused = g.lanes - form.unit if isinstance(self.group.source, Packed) else 0
        return [g.stride * (unused + v) for v in range(form.ways)]

    def _parts(self, word: Expr) -> list[Expr]:
        """Return the words that one word of inputs is dealt out into."""
        form = self.form
        if form.ways == 1:
            return [shr(shift, word) for shift in self._shifts()]
        return [and_(shr(shift, word), const(self._ones(self.geometry.bits))) for shift in self._shifts()]

    def _ones(self, bits: int) -> int:
        """Return a word with `bits` ones in every lane."""
        return sum(((1 << bits) - 1) << (self.form.stride * a) for a in range(self.form.lanes))

    def _counted(self, words: Sequence[Expr]) -> list[Statement]:
        """Take what storing weights as w + 2^(bits − 1) adds to each sum, less what is added to it, into `less`."""
        form, excess = self.form, 1 << (self.plan.weight_bits - 1)
        total = functools.reduce(lambda rest, word: add(word, rest), words[1:], words[0])
        lane = and_(shr(form.place, mul(total, const(self._ones(1)))), const((1 << form.stride) - 1))
        return [
            Note(f"Weights are stored as w + {excess}: that times the sum of the inputs is taken away."),
            Let("less", sub(mul(lane, const(excess)), const(self.lowest))),
        ]

    # -- weights ---------------------------------------------------------------------------------------------------

    def _places(self) -> list[tuple[int, int]]:
        """Return, for each input of a unit, the way that it goes and its lane there."""
        g, form = self.geometry, self.form
        order = range(form.unit - 1, -1, -1) if g.from_top else range(form.unit)
        return [(lane % form.ways, lane // form.ways) for lane in order]

    def _weight_words(self, outputs: int) -> list[int]:
        """Return the weight words of all outputs, those of each together; outputs that are added have weights of 0."""
        form, weights = self.form, self.group.weights
        excess = 1 << (self.plan.weight_bits - 1)
        padded = np.zeros((form.units * form.unit, outputs), dtype=weights.dtype)
        padded[: len(weights), : weights.shape[1]] = weights
        grid = padded.T.reshape(outputs, form.units, form.unit)
        places = [(way, form.stride * (form.lanes - 1 - lane)) for way, lane in self._places()]
        if self.plan.dense:
            factors = np.array([1 << (place + self.geometry.stride * way) for way, place in places], dtype=object)
            every = (self.geometry.stride * v + form.stride * a for v in range(form.ways) for a in range(form.lanes))
            filled = sum(excess << place for place in every)
            return [int(w) + filled for w in (as_python_ints(grid) @ factors).ravel()]
        by_way = np.zeros((form.unit, form.ways), dtype=object)
        for k, (way, place) in enumerate(places):
            by_way[k, way] = 1 << place
        # what is above the lane of sums never comes down
        mask = (1 << form.place + (form.raw_bits if len(self.chunks) == 1 else form.stride)) - 1
        return [int(w) & mask for w in (as_python_ints(grid) @ by_way).ravel()]

    # -- sums ------------------------------------------------------------------------------------------------------

    def _sum(self, inputs: Sequence[Expr], weights: Sequence[Expr]) -> tuple[list[Statement], Expr]:
        """Return an output's sum, made non-negative, with nothing above it, and statements to put before."""
        form, body = self.form, list[Statement]()
        total: Expr = const(0)
        for number, chunk in enumerate(self.chunks):
            if self.plan.dense:
                body += self._apart(f"sum{number}", inputs, {k: weights[k] for k in chunk})
                part: Expr = Var(f"sum{number}")
            else:
                part = const(self._low(chunk) * self._ones(1))  # so that no lane is negative
                for k in chunk:
                    part = add(mul(inputs[k], weights[k]), part) if weights[k] != Const(0) else part
            lane = shr(form.place, part)
            if len(self.chunks) > 1:
                lane = and_(lane, const((1 << form.stride) - 1))
            total = add(lane, total)
        if self.plan.dense:
            total = sub(total, Var("less"))
        if len(self.chunks) > 1:  # nothing is above it, and with the least of each chunk added it may need more bits
            return body, total
        return body, and_(total, const((1 << form.raw_bits) - 1))

    def _apart(self, name: str, inputs: Sequence[Expr], weights: Mapping[int, Expr]) -> list[Statement]:
        """Add the products of dense weight words to a new variable."""
        ways, ones = self.form.ways, const(self._ones(self.plan.weight_bits))
        body: list[Statement] = [Let(name, const(0))]
        for k, word in weights.items():
            total: Expr = Var(name)
            for v in range(ways):
                apart = and_(shr(self.geometry.stride * v, Var("weights")), ones)
                total = add(mul(inputs[k * ways + v], apart), total)
            body.append(Block((Let("weights", word), Assign(name, total))))
        return body

    def _low(self, chunk: range) -> int:
        """Return how far below 0 any output's sum of some words' products can be."""
        words = 1 if self.plan.dense else self.form.ways
        rows = self.group.weights[chunk.start // words * self.form.unit : chunk.stop // words * self.form.unit]
        return ((1 << self.geometry.bits) - 1) * int(np.maximum(-rows, 0).sum(axis=0).max(initial=0))

    def _straight(self, laned: Laned) -> SumsOf:
        """Return what writes every output out, the weights as literals."""
        plan, outputs = self.plan, self.finish.outputs
        every, size = self._weight_words(outputs), plan.row_words
        starts = self._starts(self.finish.initial())

        def sums(inputs: Sequence[Expr], result: Expr) -> list[Statement]:
            body: list[Statement] = []
            for a in range(self.finish.words):
                body.append(Let(f"acc{a}", starts(const(a), result)))
                for o in range(a * plan.ends.lanes, min((a + 1) * plan.ends.lanes, outputs)):
                    row = [Const(word) for word in every[o * size : (o + 1) * size]]
                    _, total = self._sum(inputs, row)
                    placed = shl(plan.ends.stride * (o - a * plan.ends.lanes), total)
                    body.append(Assign(f"acc{a}", add(placed, Var(f"acc{a}"))))
            return [*body, Note(self.finish.said()), *self.finish.stores(laned, result)]

        return sums

    def _looped(self, laned: Laned) -> SumsOf:
        """Return what loops over the outputs: those of a word of sums from the last on, each above what is there."""
        plan, ends, size = self.plan, self.plan.ends, self.plan.row_words
        in_data, chunk = plan.storage is Storage.DATA, plan.together * size
        segment, buffer = self._table(chunk)
        rounds, several = ends.lanes // plan.together, ends.blocks > 1
        group, base = (Var("group"), Var("base")) if several else (const(0), const(0))
        starts = self._starts(self._filled())

        def sums(inputs: Sequence[Expr], result: Expr) -> list[Statement]:
            row = Var("row") if rounds > 1 else base
            added: list[Statement] = [CopySegment(segment, row, chunk, buffer)] if in_data else []
            for k in range(plan.together):
                words = [Load(buffer, add(const(0) if in_data else row, const(k * size + i))) for i in range(size)]
                before, total = self._sum(inputs, words)
                added.append(Block((*before, Assign("acc0", add(shl(ends.stride, Var("acc0")), total)))))
            if rounds > 1:
                added = [loop("j", rounds, added, also=[Induction("row", base, chunk)])]
            start = starts(group, result)
            if start != Const(0):
                added.append(Assign("acc0", add(start, Var("acc0"))))
            to = add(result, group)
            inner = [Let("acc0", const(0)), *added, Note(self.finish.said()), *self.finish.stores(laned, to)]
            if not several:
                return inner
            return [loop("group", ends.blocks, inner, also=[Induction("base", const(0), ends.lanes * size)])]

        return sums

    def _table(self, chunk: int) -> tuple[str, str]:
        """Add the segment of weights and the buffer it is read through; those of a round go into one data contract."""
        plan, ends, in_data = self.plan, self.plan.ends, self.plan.storage is Storage.DATA

        def made() -> list[int]:
            words = np.array(self._weight_words(plan.outputs), dtype=object)
            return words.reshape(ends.blocks, ends.lanes, -1)[:, ::-1].ravel().tolist()

        words = LaterWords(plan.table_words, made)
        per_contract = self.context.options.contract_words // chunk * chunk if in_data else 0
        name = self.context.segment(f"{self.draft.name}_weights", Segment(words, plan.storage, per_contract))
        buffer = self.context.buffer(f"{name}_round" if in_data else f"{name}_table", chunk if in_data else len(words))
        if not in_data:
            self.draft.body.append(CopySegment(name, const(0), len(words), buffer))
        return name, buffer

    def _starts(self, words: Sequence[int]) -> Callable[[Expr, Expr], Expr]:
        """Return what gives, for a word of sums and a row's results, what the word starts at.

        Args:
            words: What all words start at, row by row of the biases.
        """
        alike = len(self.product.bias) == 1
        literal = self.plan.immediate or self.plan.ends.blocks == 1
        if literal and (alike or self.plan.written):
            return lambda word, result: Const(words[known(word if alike else add(result, word))])
        table = self.context.table(self.draft, f"{self.draft.name}_bias", list(words))
        return lambda word, result: Load(table, word if alike else add(result, word))

    def _filled(self) -> list[int]:
        """Return what words of sums that come of a loop start at; lanes without an output become 0."""
        starts, ends = self.finish.initial(), self.plan.ends
        for row in range(0, len(starts), self.finish.words):
            for o in range(self.finish.outputs, self.plan.outputs):
                word, lane = divmod(o, ends.lanes)
                starts[row + word] = const(starts[row + word] - (self.lowest << ends.stride * lane)).value
        return starts


SumsOf = Callable[[Sequence[Expr], Expr], list[Statement]]
"""Returns what makes a row's sums of its words of inputs, and stores them from a word of the results on."""
