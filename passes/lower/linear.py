"""Gemm: sums of products, several to a word.

A weight word holds the weights of several outputs for one input: W = Σ_j w_j · 2^(stride·j). `acc += x · W` adds one
product to each lane. Everything is linear mod 2^256, so lanes may borrow from each other on the way; only the final
value of each must fit its lane, and that is proved from the actual weights. The bias, the rounding of the requantise
step and an offset that makes lanes non-negative are in the accumulators from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.analysis import exact_bounds
from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.ops.base import Bounds, op_of
from ml2sc.ir.program import (
    CONTRACT_WORDS,
    Assign,
    Block,
    Const,
    CopySegment,
    Expr,
    If,
    Induction,
    Let,
    Load,
    LoadInput,
    Note,
    OpCode,
    Segment,
    Statement,
    Storage,
    Store,
    Var,
    add,
    and_,
    binary,
    byte,
    const,
    gt,
    loop,
    mul,
    or_,
    shl,
    shr,
    sub,
)
from ml2sc.ir.types import Array, Interval, as_python_ints

from .context import Lowering, lowering
from .plan import chunk_words, plan_linear
from .values import Laned, Packed, Source, Value

_xor = binary(OpCode.XOR)
_WORD = 256
_LITERAL_FACTORS = 4
"""Words of results whose lanes' own factors are literals; where there are more a loop reads them from tables."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """What happens to lanes that are clamped already: u = floor((v·multiplier + rest) / 2^shift).

    Attributes:
        multiplier: At most 2^shift, so that u grows by steps of 1.
        shift: See above.
        rest: What the rounding and the clamped range leave, less than the multiplier.
        interval: [lo, hi] of the result, u = 0 standing for lo.
        top: Greatest v.
    """

    multiplier: int
    shift: int
    rest: int
    interval: Interval
    top: int

    @property
    def bits(self) -> int:
        """Width of a product."""
        return max((self.top * self.multiplier + self.rest).bit_length(), self.shift + 1)

    @property
    def result_bits(self) -> int:
        """Width of u."""
        return max((self.interval.hi - self.interval.lo).bit_length(), 1)

    def ways(self, stride: int, lanes: int) -> int:
        """Return into how many words the lanes of one must be dealt out for their products to have room."""

        def fits(ways: int) -> bool:
            highest = stride * ways * (-(-lanes // ways) - 1)
            return self.bits <= stride * ways and highest + self.bits <= _WORD

        return next(ways for ways in range(1, lanes + 1) if ways == lanes or fits(ways))


@dataclass(frozen=True, slots=True)
class ChannelScaling:
    """The same for outputs with scales of their own, one by one: u = min(floor((v·multiplier + rest) / 2^shift), top).

    Attributes:
        multipliers: By output.
        rests: By output.
        shift: See above.
        interval: [lo, hi] of the result, u = 0 standing for lo.
        clamps: Whether some u can be above the top.
    """

    multipliers: tuple[int, ...]
    rests: tuple[int, ...]
    shift: int
    interval: Interval
    clamps: bool


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What happens to an accumulator: u = clamp(floor((acc + rounding) / 2^shift) + zero_point, lo, hi) − lo.

    Attributes:
        output: The tensor that results.
        nodes: The nodes it covers, the linear layer first.
        shift: See above.
        zero_point: See above.
        interval: [lo, hi], the proved interval of the result.
        accumulator: Proved interval of the accumulator.
        scaling: What is done to u in the end, if the scale of the result is no power of two of the accumulator's.
        offsets: What the accumulators are shifted by (one, or by output) from the start, `accumulator` with them.
    """

    output: Tensor
    nodes: tuple[Node, ...]
    shift: int
    zero_point: int
    interval: Interval
    accumulator: Interval
    scaling: Scaling | ChannelScaling | None = None
    offsets: tuple[int, ...] = (0,)

    @property
    def constant(self) -> int:
        """What is added to every accumulator: the rounding, and (zero_point − lo) in its scale."""
        return ((1 << self.shift) >> 1) + ((self.zero_point - self.interval.lo) << self.shift)

    @property
    def top(self) -> int:
        """Greatest u."""
        return self.interval.hi - self.interval.lo

    @property
    def clamps_below(self) -> bool:
        """Whether some input drives the accumulator below what the result can be."""
        return self.accumulator.lo + self.constant < 0

    @property
    def clamps_above(self) -> bool:
        """Whether some input drives the accumulator above what the result can be."""
        return (self.accumulator.hi + self.constant) >> self.shift > self.top

    @property
    def proved_bits(self) -> int:
        """Bits of a lane: of a non-negative accumulator, or of one made so by adding 2^(bits − 1)."""
        if self.clamps_below:
            return self._value_bits + 1
        # the test for a value above the top needs a bit above it
        return max(self._value_bits, self.quotient_bits + 1) if self.clamps_above else self._value_bits

    @property
    def quotient_bits(self) -> int:
        """Bits of the accumulator after the shift, negative ones cleared."""
        return self._value_bits - self.shift

    @property
    def _value_bits(self) -> int:
        lo, hi = self.accumulator.lo + self.constant, self.accumulator.hi + self.constant
        # something must be left of a lane after the shift, else it would be its neighbour's lowest bits
        least = self.shift + 1
        if self.scaling is not None:  # and what takes its place must fit
            least = max(least, (self.scaling.interval.hi - self.scaling.interval.lo).bit_length())
        return max((~lo if lo < 0 else 0).bit_length(), max(hi, 0).bit_length(), least)


def find_epilogue(graph: Graph, node: Node) -> Epilogue:
    """Follow a layer's output through the Relu, Clip, order-preserving movement and Requantize that only it feeds."""
    raw = exact_bounds(graph, node.name, raw=True)[0]
    accumulator = Interval(int(raw.lo.min()), int(raw.hi.max()))
    nodes, tensor, shift, zero_point = [node], graph.tensor(node.output), 0, 0
    requantized, multipliers = False, np.ones(1, dtype=object)
    while (use := graph.only_use(tensor.name)) is not None:
        if use.op_type == "FakeQuantize":
            factors = graph.tensor(use.inputs[1]).data
            assert factors is not None
            shift_here = int(use.attrs["shift"])  # type: ignore[arg-type]
            if requantized or "ties" in use.attrs or factors.min() < 1 or factors.max() > 1 << shift_here:
                break
            requantized, shift, multipliers = True, shift_here, as_python_ints(factors)
            zero_point = graph.tensor(use.output).format.zero_point
        elif use.op_type == "Requantize":
            if requantized or use.attrs["multiplier"] != 1:
                break
            requantized = True
            shift = int(use.attrs["shift"])  # type: ignore[arg-type]
            zero_point = graph.tensor(use.output).format.zero_point
        elif not (use.op_type in {"Relu", "Clip"} or (op_of(use).moves and _keeps_order(graph, use))):
            break
        nodes.append(use)
        tensor = graph.tensor(use.output)
    assert tensor.interval is not None
    if multipliers.size > 1:
        return _scaled_by_channel(tensor, tuple(nodes), multipliers, shift, zero_point, raw)
    if multipliers[0] > 1:
        return _scaled(tensor, tuple(nodes), int(multipliers[0]), shift, zero_point, accumulator)
    return Epilogue(tensor, tuple(nodes), shift, zero_point, tensor.interval, accumulator)


def _scaled(
    tensor: Tensor, nodes: tuple[Node, ...], multiplier: int, shift: int, zero_point: int, accumulator: Interval
) -> Epilogue:
    """Return the epilogue of floor((acc·multiplier + 2^(shift−1)) / 2^shift) + zero_point, clamped to [lo, hi].

    Sums are clamped before they are multiplied, to the least and the greatest that give lo and hi: what is left has few
    bits, and each step of it moves the result by one at most, so lo and hi come out exactly.
    """
    assert tensor.interval is not None
    lo, hi = tensor.interval.lo, tensor.interval.hi
    offset = ((1 << shift) >> 1) + ((zero_point - lo) << shift)
    least = -(offset // multiplier)
    rest = least * multiplier + offset
    most = least + (((hi - lo + 1) << shift) - 1 - rest) // multiplier
    top = min(most, max(accumulator.hi, least)) - least
    scaling = Scaling(multiplier, shift, rest, tensor.interval, top)
    return Epilogue(tensor, nodes, 0, 0, Interval(least, least + top), accumulator, scaling)


def _scaled_by_channel(
    tensor: Tensor, nodes: tuple[Node, ...], multipliers: Array, shift: int, zero_point: int, raw: Bounds
) -> Epilogue:
    """Return the same where every output has a multiplier of its own.

    Each sum is shifted so that 0 stands for the least that matters; what gives more than hi is clamped afterwards.
    """
    assert tensor.interval is not None
    outputs = len(multipliers)
    lows, highs = (bound.reshape(-1, outputs) for bound in (raw.lo, raw.hi))
    lo, hi = tensor.interval.lo, tensor.interval.hi
    offset = ((1 << shift) >> 1) + ((zero_point - lo) << shift)
    least = [max(-(offset // int(m)), int(low)) for m, low in zip(multipliers, lows.min(axis=0), strict=True)]
    rests = tuple(start * int(m) + offset for start, m in zip(least, multipliers, strict=True))
    shifted = Interval(int((lows - least).min()), max(int((highs - least).max()), 0))
    greatest = max(
        (max(int(high) - start, 0) * int(m) + rest) >> shift
        for high, start, m, rest in zip(highs.max(axis=0), least, multipliers, rests, strict=True)
    )
    scaling = ChannelScaling(tuple(map(int, multipliers)), rests, shift, tensor.interval, greatest > hi - lo)
    return Epilogue(tensor, nodes, 0, 0, Interval(0, shifted.hi), shifted, scaling, tuple(-v for v in least))


def _keeps_order(graph: Graph, node: Node) -> bool:
    tensors = graph.input_tensors(node)
    dynamic = [t for t in tensors if t is not None and t.data is None]
    outputs = [o for o in node.outputs if o]
    if len(dynamic) != 1 or len(outputs) != 1 or graph.tensor(outputs[0]).size != dynamic[0].size:
        return False
    order = np.arange(dynamic[0].size).reshape(dynamic[0].shape)
    values = [None if t is None else order if t is dynamic[0] else t.data for t in tensors]
    return bool(np.array_equal(op_of(node).evaluate(node, values)[0].ravel(), order.ravel()))


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of W for a run of positions of one source.

    Attributes:
        source: Where the inputs are.
        first: First position (a multiple of the lanes of a laned source).
        weights: Python ints, (positions, outputs).
        correction: Σ over the rows of (what u = 0 stands for) · w, by output.
        skips: Whether u = 0 contributes nothing often enough to test for it.
    """

    source: Source
    first: int
    weights: Array
    correction: Array
    skips: bool


def _gather_rows(value: Value, weights: Array, zero_point: int, interval: Interval) -> Iterator[_Rows]:
    """Bring the rows of W into the order in which the inputs lie."""
    for index, source in enumerate(value.sources):
        elements = np.flatnonzero(value.which == index)
        if not elements.size:
            continue
        by_position: dict[int, Array] = {}
        for element in elements:
            position = int(value.where[element])
            row = weights[element]
            by_position[position] = by_position[position] + row if position in by_position else row
        offset = source.offset - zero_point
        common = interval.lo == zero_point and offset == 0
        for first, last in _spans(sorted(by_position), source):
            zero = np.zeros(weights.shape[1], dtype=object)
            block = np.array([by_position.get(p, zero) for p in range(first, last)], dtype=object)
            yield _Rows(source, first, block, offset * block.sum(axis=0), common)


def _spans(positions: Sequence[int], source: Source) -> Iterator[tuple[int, int]]:
    """Yield [first, last) ranges that cover the positions: whole words of a laned source, else without gaps."""
    if isinstance(source, Laned):
        lanes = source.lanes
        yield positions[0] // lanes * lanes, (positions[-1] // lanes + 1) * lanes
        return
    first = previous = positions[0]
    for position in positions[1:]:
        if position != previous + 1:
            yield first, previous + 1
            first = position
        previous = position
    yield first, previous + 1


@lowering("Gemm", "FusedGemm")
def lower_gemm(context: Lowering, node: Node) -> None:
    """Emit one section a row of the layer's input (one, as a rule)."""
    graph = context.graph
    epilogue = find_epilogue(graph, node)
    x, w = graph.tensor(node.inputs[0]), graph.tensor(node.inputs[1])
    c = graph.tensor(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    assert w.data is not None and x.interval is not None
    k, n = w.shape
    value = context.values[x.name]
    results = []
    for row in range(x.size // k):
        elements = np.arange(row * k, (row + 1) * k)
        groups = list(_gather_rows(value.take(elements), as_python_ints(w.data), x.format.zero_point, x.interval))
        bias = np.zeros(n, dtype=object)
        if c is not None and c.data is not None:
            bias = bias + as_python_ints(c.data if c.data.ndim == 1 else c.data.reshape(-1, n)[row])
        bias = bias + sum(g.correction for g in groups) + epilogue.constant + np.array(epilogue.offsets, dtype=object)
        results.append(_Kernel(context, node, epilogue, groups, bias).emit())
    sources, which, where = Value.joined(results)
    context.values[epilogue.output.name] = Value(sources, which, where)
    context.done.update(n.name for n in epilogue.nodes)


class _Kernel:
    """One vector times a matrix."""

    def __init__(self, context: Lowering, node: Node, epilogue: Epilogue, groups: list[_Rows], bias: Array) -> None:
        self.context, self.node, self.epilogue, self.groups = context, node, epilogue, groups
        self.outputs = len(bias)
        widest = max((Interval(int(g.weights.min()), int(g.weights.max())).signed_bits for g in groups), default=1)
        if node.name in context.graph.reserves:
            widest = context.graph.reserves[node.name].weight_bits
        rows = sum(len(g.weights) for g in groups)
        skips = all(g.skips for g in groups)
        self.plan = plan_linear(
            rows, self.outputs, epilogue.proved_bits, widest, context.options, skips=skips, node=str(node)
        )
        self.bias = bias
        self.skips = skips and self.plan.accumulators > 1
        self.operator = " + ".join(_said(n) for n in epilogue.nodes)
        self.draft = context.section(node, f"{self.operator}, {rows} -> {self.outputs}")
        self.rows = rows

    def emit(self) -> Value:
        plan, name = self.plan, self.draft.name
        used = -(-self.outputs // plan.lanes)
        words = plan.blocks * plan.accumulators if plan.blocks > 1 else used
        self.accumulators = plan.accumulators if plan.blocks > 1 else used
        result = self.epilogue.scaling or self.epilogue
        laned = Laned(
            self.context.buffer(f"{name}_out", words),
            plan.lanes,
            plan.stride,
            max((result.interval.hi - result.interval.lo).bit_length(), 1),
            result.interval.lo,
            self.outputs,
        )
        scaling = self.epilogue.scaling
        self.scales_afterwards = isinstance(scaling, ChannelScaling) and used > _LITERAL_FACTORS
        body = self.draft.body
        body.append(Note(self._claim()))
        tables = [] if plan.immediate else [self._table(g) for g in self.groups]
        group = const(0) if plan.blocks == 1 else Var("group")
        copies, starts = self._starts(group)
        inner = copies + self._block(tables, laned, group, starts)
        if plan.blocks > 1:
            offsets = [Induction(f"base{i}", const(0), t.words // plan.blocks) for i, t in enumerate(tables)]
            inner = [loop("group", plan.blocks, inner, step=plan.accumulators, also=offsets)]
        body += inner
        if isinstance(scaling, ChannelScaling) and self.scales_afterwards:
            body += self._scale_afterwards(scaling, laned)
        self.draft.facts = self._facts()
        return Value.of(laned)

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

    def _ending(self) -> str:
        """Return what happens to the finished sums, in words."""
        e = self.epilogue
        steps = ["negative lanes become 0"] if e.clamps_below else []
        steps += [f"acc >> {e.shift}"] if e.shift else []
        steps += [f"at most {e.top}"] if e.clamps_above else []
        if isinstance(e.scaling, ChannelScaling):
            steps.append(f"each multiplied by its scale, >> {e.scaling.shift}")
        elif e.scaling is not None:
            steps.append(f"(acc * {e.scaling.multiplier:#x} + {e.scaling.rest:#x}) >> {e.scaling.shift}")
        lo = (e.scaling or e).interval.lo
        zero = f", 0 standing for {lo}" if lo else ""
        return f"Every lane at once: {', '.join([*steps, 'stored'])}{zero}."

    def _facts(self) -> dict[str, int | str]:
        plan = self.plan
        words = self.rows * plan.blocks * plan.row_words
        return {
            "operator": self.operator,
            "macs": self.rows * self.outputs,
            "bits": plan.proved_bits,
            "lanes": plan.lanes,
            "stride": plan.stride,
            "fields": plan.fields,
            "storage": "literals" if plan.immediate else plan.storage.value,
            "bytes": 32 * words,
        }

    # -- data ------------------------------------------------------------------------------------------------------

    def _initial(self) -> list[int]:
        """Return the accumulators' first values: each lane's bias, and 2^(bits − 1) where lanes go negative."""
        plan = self.plan
        half = 1 << (plan.proved_bits - 1) if self.epilogue.clamps_below else 0
        words = []
        for a in range(plan.blocks * self.accumulators):
            offset = plan.field_place(a % plan.accumulators % plan.fields)[1] if plan.fields > 1 else 0
            lanes = range(a * plan.lanes, min((a + 1) * plan.lanes, self.outputs))
            word = sum((int(self.bias[o]) + half) << (plan.stride * (o - a * plan.lanes) + offset) for o in lanes)
            words.append(const(word).value)
        return words

    def _starts(self, group: Expr) -> tuple[list[Statement], list[Expr]]:
        """Return the accumulators' first values in a block of outputs, after statements that bring them there."""
        words, name, size = self._initial(), f"{self.draft.name}_bias", self.accumulators
        if self.context.options.updatable:
            segment = Segment(tuple(words), Storage.DATA, CONTRACT_WORDS // size * size)
            bias = self.context.segment(name, segment)
            buffer = self.context.buffer(f"{bias}_chunk", size)
            return [CopySegment(bias, group, size, buffer)], [Load(buffer, const(a)) for a in range(size)]
        if self.plan.blocks == 1:
            return [], [Const(w) for w in words]
        bias = self.context.table(self.draft, name, words)
        return [], [Load(bias, add(group, const(a))) for a in range(size)]

    def _weight_word(self, row: Array, first: int) -> int:
        """Return the weight word of one input for accumulators first … first + fields − 1."""
        plan, word = self.plan, 0
        excess = 1 << (plan.weight_bits - 1) if plan.fields > 1 else 0
        for field in range(plan.fields):
            for lane in range(plan.lanes):
                output = (first + field) * plan.lanes + lane
                if output < len(row) or plan.fields > 1:
                    weight = int(row[output]) if output < len(row) else 0
                    word += (weight + excess) << (plan.stride * lane + plan.weight_bits * field)
        return const(word).value

    def _table(self, group: _Rows) -> _Table:
        plan = self.plan
        per_block = len(group.weights) * plan.row_words
        chunk = per_block * plan.blocks
        if plan.storage is Storage.DATA:
            chunk = chunk_words(_unit(group.source) * plan.row_words, per_block, plan.blocks)
        words: list[int] = []
        for block in range(plan.blocks):
            first = block * plan.accumulators
            fields = [first + h * plan.fields for h in range(plan.row_words)]
            words += [self._weight_word(row, field) for row in group.weights for field in fields]
            # whole chunks, so that none lies in two data contracts
            words += [0] * (-len(words) % chunk if plan.storage is Storage.DATA else 0)
        per_contract = CONTRACT_WORDS // chunk * chunk if plan.storage is Storage.DATA else 0
        name = self.context.segment(f"{self.draft.name}_weights", Segment(tuple(words), plan.storage, per_contract))
        buffer = self.context.buffer(f"{name}_chunk", chunk)
        if plan.storage is Storage.CODE:
            self.draft.body.append(CopySegment(name, const(0), len(words), buffer))
        return _Table(name, buffer, len(words), chunk)

    # -- statements ------------------------------------------------------------------------------------------------

    def _block(self, tables: list[_Table], laned: Laned, block: Expr, starts: Sequence[Expr]) -> list[Statement]:
        body: list[Statement] = [Let(f"acc{a}", start) for a, start in enumerate(starts)]
        if self.plan.fields > 1:
            body.append(Let("total", const(0)))
        for index, group in enumerate(self.groups):
            if self.plan.immediate:
                body += self._straight(group, f"{index}_")
            else:
                body += self._looped(group, tables[index], Var(f"base{index}") if self.plan.blocks > 1 else const(0))
        body += self._correction()
        body.append(Note(self._ending()))
        for a in range(self.accumulators):
            body += self._finish(a, laned, add(block, const(a)))
        return body

    def _accumulate(self, x: Expr, words: Callable[[int], Expr]) -> list[Statement]:
        """Add x · weights to every accumulator; words(h) is weight word h of this input."""
        plan = self.plan
        if plan.fields == 1:
            return [Assign(f"acc{a}", add(Var(f"acc{a}"), mul(x, words(a)))) for a in range(self.accumulators)]
        body: list[Statement] = [Assign("total", add(Var("total"), x))]
        for h in range(-(-self.accumulators // plan.fields)):
            body.append(Let(f"w{h}", words(h)))
            for field in range(min(plan.fields, self.accumulators - h * plan.fields)):
                shift, offset = plan.field_place(field)
                if offset == 0 and shift:
                    body.append(Assign(f"w{h}", shr(shift - plan.field_place(field - 1)[0], Var(f"w{h}"))))
                acc = f"acc{h * plan.fields + field}"
                masked = and_(Var(f"w{h}"), const(self._ones(offset, plan.weight_bits)))
                body.append(Assign(acc, add(Var(acc), mul(x, masked))))
        return body

    def _ones(self, offset: int, bits: int) -> int:
        """Return a word with `bits` ones in every lane, `offset` bits up."""
        plan = self.plan
        return sum(((1 << bits) - 1) << (plan.stride * lane + offset) for lane in range(plan.lanes)) & ((1 << 256) - 1)

    def _correction(self) -> list[Statement]:
        """Take away what storing weights as w + 2^(bits − 1) has added: 2^(bits − 1) · Σx in every lane."""
        plan = self.plan
        if plan.fields == 1:
            return []
        body: list[Statement] = [
            Note(
                f"Weights are stored as w + {1 << (plan.weight_bits - 1)}: take that times the sum of the inputs away."
            )
        ]
        for a in range(self.accumulators):
            offset = plan.field_place(a % plan.fields)[1]
            excess = self._ones(offset, 1) << (plan.weight_bits - 1)
            body.append(Assign(f"acc{a}", sub(Var(f"acc{a}"), mul(Var("total"), const(excess)))))
        return body

    def _finish(self, a: int, laned: Laned, index: Expr) -> list[Statement]:
        """Clamp, shift and clamp all lanes of an accumulator at once, and store it."""
        plan, e, acc = self.plan, self.epilogue, Var(f"acc{a}")
        offset = plan.field_place(a % plan.fields)[1] if plan.fields > 1 else 0
        body: list[Statement] = []
        bits = plan.proved_bits - 1
        if e.clamps_below:
            # the top bit of a lane says "not negative"; spread over the bits below it, it keeps or clears the lane
            body.append(Let(f"keep{a}", and_(shr(bits, acc), const(self._ones(offset, 1)))))
            mask = sub(shl(bits, Var(f"keep{a}")), Var(f"keep{a}"))
            body.append(Assign(acc.name, and_(acc, mask)))
        quotient, c = shr(e.shift + offset, acc), e.quotient_bits
        is_clean = e.clamps_below and not e.shift and not offset
        clean = quotient if is_clean else and_(quotient, const(self._ones(0, c)))
        if not e.clamps_above:
            return body + self._stored(a, laned, index, clean)
        body.append(Assign(acc.name, clean))
        over = and_(shr(c, add(acc, const(self._ones(0, 1) * ((1 << c) - 1 - e.top)))), const(self._ones(0, 1)))
        body.append(Let(f"over{a}", over))
        m = e.top.bit_length()
        if e.top == (1 << m) - 1:
            saturated = or_(acc, sub(shl(m, Var(f"over{a}")), Var(f"over{a}")))
            return body + self._stored(a, laned, index, and_(saturated, const(self._ones(0, m))))
        spread = f"spread{a}"
        body.append(Let(spread, sub(shl(c, Var(f"over{a}")), Var(f"over{a}"))))
        kept = _xor(or_(acc, Var(spread)), Var(spread))
        return body + self._stored(a, laned, index, add(kept, mul(Var(f"over{a}"), const(e.top))))

    def _stored(self, a: int, laned: Laned, index: Expr, word: Expr) -> list[Statement]:
        """Store a word of clamped lanes, after multiplying them if their scale demands it.

        The lanes are dealt out into as many words as give a product room, and put together again.
        """
        plan, scaling = self.plan, self.epilogue.scaling
        if scaling is None:
            return [Store(laned.buffer, index, word)]
        if isinstance(scaling, ChannelScaling):
            if self.scales_afterwards:
                return [Store(laned.buffer, index, word)]
            steps = self._one_by_one(scaling, word, self._literal_factors(scaling, a))
            return [Block((*steps, Store(laned.buffer, index, Var("scaled"))))]
        ways, acc = scaling.ways(plan.stride, plan.lanes), f"acc{a}"
        body: list[Statement] = [Assign(acc, word)]
        parts: list[Expr] = []
        for way in range(ways):
            places = range(0, plan.stride * (plan.lanes - way), plan.stride * ways)
            dealt = shr(plan.stride * way, Var(acc))
            if ways > 1:
                dealt = and_(dealt, const(_every(places, max(scaling.top.bit_length(), 1))))
            product = add(mul(dealt, const(scaling.multiplier)), const(sum(scaling.rest << p for p in places)))
            scaled = and_(shr(scaling.shift, product), const(_every(places, scaling.result_bits)))
            parts.append(shl(plan.stride * way, scaled))
        total = parts[0]
        for part in parts[1:]:
            total = or_(total, part)
        body.append(Store(laned.buffer, index, total))
        return body

    def _one_by_one(self, scaling: ChannelScaling, word: Expr, factors: Sequence[tuple[Expr, Expr]]) -> list[Statement]:
        """Multiply each lane of a word by its own factor, into the variable `scaled`.

        Args:
            scaling: What is done.
            word: The lanes, clamped below.
            factors: Multiplier and rest of each lane.
        """
        stride, bits, top = self.plan.stride, self.epilogue.quotient_bits, scaling.interval.hi - scaling.interval.lo
        body: list[Statement] = [Let("sums", word), Let("scaled", const(0))]
        for lane, (factor, rest) in enumerate(factors):
            v = and_(shr(stride * lane, Var("sums")), const((1 << bits) - 1))
            one: list[Statement] = [Let("u", shr(scaling.shift, add(mul(v, factor), rest)))]
            if scaling.clamps:
                one.append(If(gt(Var("u"), const(top)), (Assign("u", const(top)),)))
            one.append(Assign("scaled", or_(Var("scaled"), shl(stride * lane, Var("u")))))
            body.append(Block(tuple(one)))
        return body

    def _literal_factors(self, scaling: ChannelScaling, a: int) -> list[tuple[Expr, Expr]]:
        outputs = range(a * self.plan.lanes, min((a + 1) * self.plan.lanes, self.outputs))
        return [(const(scaling.multipliers[o]), const(scaling.rests[o])) for o in outputs]

    def _scale_afterwards(self, scaling: ChannelScaling, laned: Laned) -> list[Statement]:
        """Return a loop over the words stored: its code is there once, the factors are in tables."""
        lanes = laned.lanes
        unused = [0] * (laned.words * lanes - self.outputs)
        tables = [
            self.context.table(self.draft, f"{self.draft.name}_{name}", [*values, *unused])
            for name, values in (("factors", scaling.multipliers), ("rests", scaling.rests))
        ]
        factors, rests = tables
        at = [add(Var("t"), const(lane)) for lane in range(lanes)]
        loads: list[tuple[Expr, Expr]] = [(Load(factors, t), Load(rests, t)) for t in at]
        inner = self._one_by_one(scaling, Load(laned.buffer, Var("o")), loads)
        inner.append(Store(laned.buffer, Var("o"), Var("scaled")))
        return [loop("o", laned.words, inner, also=[Induction("t", const(0), lanes)])]

    def _guarded(self, x: Var, body: list[Statement]) -> list[Statement]:
        return [If(x, tuple(body))] if self.skips else body

    def _straight(self, group: _Rows, tag: str) -> list[Statement]:
        body: list[Statement] = []
        open_word = -1
        for p, row in enumerate(group.weights):
            position = group.first + p
            words = [self._weight_word(row, a) for a in range(self.accumulators)]
            if not any(words):
                continue
            word, x = self._element_at(group.source, position, f"word{tag}")
            if word is not None and position // _unit(group.source) != open_word:
                open_word = position // _unit(group.source)
                body.append(Let(f"word{tag}{open_word}", word))
            if self.accumulators > 1:
                body.append(Let(f"x{tag}{position}", x))
                x = Var(f"x{tag}{position}")
            body += [Assign(f"acc{a}", add(Var(f"acc{a}"), mul(x, Const(w)))) for a, w in enumerate(words) if w]
        return body

    def _element_at(self, source: Source, position: int, word: str) -> tuple[Expr | None, Expr]:
        """Return the word an element at a known position lies in, if it shares it, and the element."""
        number = position // _unit(source)
        if isinstance(source, Laned):
            return Load(source.buffer, const(number)), source.lane(Var(f"{word}{number}"), position % source.lanes)
        if _unit(source) == 32 and isinstance(source, Packed):
            return LoadInput(const(source.start + 32 * number)), byte(const(position % 32), Var(f"{word}{number}"))
        return None, source.read(const(position))

    def _looped(self, group: _Rows, table: _Table, base: Expr) -> list[Statement]:
        """Loop over the chunks of a table, and in each over its rows."""
        words = len(group.weights) * self.plan.row_words
        if self.plan.storage is Storage.CODE:
            return self._chunk(group, table, const(0), base, len(group.weights))
        body: list[Statement] = []
        chunks = words // table.chunk
        rows = table.chunk // self.plan.row_words
        if chunks > 1:
            inner: list[Statement] = [CopySegment(table.segment, add(base, Var("chunk")), table.chunk, table.buffer)]
            inner += self._chunk(group, table, Var("first"), const(0), rows)
            also = [Induction("first", const(0), rows)]
            body.append(loop("chunk", chunks, inner, step=table.chunk, also=also))
        else:
            chunks = 0
        done = chunks * table.chunk
        while done < words:
            size = min(table.chunk, words - done)
            body.append(CopySegment(table.segment, add(base, const(done)), size, table.buffer))
            body += self._chunk(group, table, const(done // self.plan.row_words), const(0), size // self.plan.row_words)
            done += size
        return body

    def _chunk(self, group: _Rows, table: _Table, first: Expr, row: Expr, rows: int) -> list[Statement]:
        """Loop over rows of weights in memory from word `row` on, and over inputs from `first` after the group's."""
        source, unit = group.source, _unit(group.source)
        if isinstance(source, Packed) and source.width == 1 and not source.signed:
            return self._bytes(group, table, first, row, rows)
        if isinstance(source, Laned):
            return self._lanes(source, table, _quotient(add(first, const(group.first)), unit), row, rows)
        unroll = min(self.context.options.unroll, rows)
        width = source.width if isinstance(source, Packed) else 1
        start = add(
            mul(add(first, const(group.first)), const(width)), const(source.start if isinstance(source, Packed) else 0)
        )
        body: list[Statement] = []
        done = 0
        for size, count in ((unroll, rows // unroll), (1, rows % unroll)):
            if not count:
                continue
            inner: list[Statement] = []
            for u in range(size):
                at = add(Var("i"), const(u * width))
                x = source.read_at(at) if isinstance(source, Packed) else Load(source.buffer, at)
                inner += self._one(f"x{u}", x, table, Var("r"), u)
            body.append(
                self._rows_loop(
                    count,
                    inner,
                    size,
                    add(start, const(done * width)),
                    size * width,
                    add(row, const(done * self.plan.row_words)),
                )
            )
            done += size * count
        return body

    def _rows_loop(
        self,
        count: int,
        inner: list[Statement],
        rows: int,
        start: Expr,
        step: int,
        row: Expr,
        names: tuple[str, str] = ("i", "r"),
    ) -> Statement:
        """Return a loop with one variable along the inputs and one along the weights, that with a known start first."""
        i, r = Induction(names[0], start, step), Induction(names[1], row, rows * self.plan.row_words)
        first, second = (i, r) if isinstance(start, Const) else (r, i)
        assert isinstance(first.start, Const)
        return loop(first.name, count, inner, start=first.start.value, step=first.step, also=[second])

    def _one(self, name: str, x: Expr, table: _Table, row: Expr, u: int) -> list[Statement]:
        at = u * self.plan.row_words
        body = self._accumulate(Var(name), lambda h: Load(table.buffer, add(row, const(at + h))))
        # the weight words of one input are this block's own: their names may come again for the next input
        return [Let(name, x), If(Var(name), tuple(body))] if self.skips else [Let(name, x), *_renamed(body, u)]

    def _lanes(self, source: Laned, table: _Table, word: Expr, row: Expr, rows: int) -> list[Statement]:
        inner: list[Statement] = [Let("word", Load(source.buffer, Var("i")))]
        for lane in range(source.lanes):
            inner += self._one(f"x{lane}", source.lane(Var("word"), lane), table, Var("r"), lane)
        return [self._rows_loop(rows // source.lanes, inner, source.lanes, word, 1, row)]

    def _bytes(self, group: _Rows, table: _Table, first: Expr, row: Expr, rows: int) -> list[Statement]:
        """Read 32 inputs at a time; a word of zeros is skipped whole."""
        source = group.source
        assert isinstance(source, Packed)
        start = add(first, const(group.first + source.start))
        full, rest = rows // 32, rows % 32
        body: list[Statement] = []
        if full:
            body.append(self._rows_loop(full, self._word(table, 32, Var("r")), 32, start, 32, row))
        if rest:
            tail = f"tail{group.first}"
            body.append(Let(tail, LoadInput(add(start, const(32 * full)))))
            body += self._within(table, rest, add(row, const(32 * full * self.plan.row_words)), tail)
        return body

    def _word(self, table: _Table, count: int, row: Expr) -> list[Statement]:
        inner = self._within(table, count, row, "word")
        let = Let("word", LoadInput(Var("i")))
        return [let, If(Var("word"), tuple(inner))] if self.skips else [let, *inner]

    def _within(self, table: _Table, count: int, row: Expr, word: str) -> list[Statement]:
        """Handle the first `count` bytes of a variable, some at a time; so many zeros are skipped at once."""
        unroll = min(self.context.options.unroll, count)
        rounds, rest = divmod(count, unroll)
        body: list[Statement] = []
        if rounds:
            inner = [*self._part(table, unroll, Var("s"), word), Assign(word, shl(8 * unroll, Var(word)))]
            body.append(self._rows_loop(rounds, inner, unroll, const(0), 1, row, ("b", "s")))
        if rest:
            body += self._part(table, rest, add(row, const(rounds * unroll * self.plan.row_words)), word)
        return body

    def _part(self, table: _Table, size: int, row: Expr, word: str) -> list[Statement]:
        """Handle the first `size` bytes of a variable, one after the other."""
        body: list[Statement] = []
        for u in range(size):
            body += self._one(f"x{u}", byte(const(32 - size + u), Var("part")), table, row, u)
        let = Let("part", shr(256 - 8 * size, Var(word)))
        return [Block((let, *self._guarded(Var("part"), body)))]


@dataclass(frozen=True, slots=True)
class _Table:
    """A segment of weights and the buffer it is read through.

    Attributes:
        segment: Name of the segment.
        buffer: Name of the buffer.
        words: Words of the segment.
        chunk: Words of one copy.
    """

    segment: str
    buffer: str
    words: int
    chunk: int


def _every(places: Iterable[int], bits: int) -> int:
    """Return a word with `bits` ones at each place."""
    return sum(((1 << bits) - 1) << place for place in places)


def _unit(source: Source) -> int:
    """Return how many inputs one round of the outer loop takes."""
    if isinstance(source, Laned):
        return source.lanes
    return 32 if isinstance(source, Packed) and source.width == 1 and not source.signed else 1


def _said(node: Node) -> str:
    return "Gemm + Relu" if node.op_type == "FusedGemm" else node.op_type


def _quotient(position: Expr, lanes: int) -> Expr:
    """Return the word a position lies in; positions that vary go by whole words already."""
    if isinstance(position, Const):
        return const(position.value // lanes)
    return binary(OpCode.DIV)(position, const(lanes))


def _renamed(body: list[Statement], u: int) -> list[Statement]:
    """Return statements whose Let of a weight word becomes an Assign after the first input of a round."""
    if u == 0:
        return body
    return [Assign(s.name, s.value) if isinstance(s, Let) else s for s in body]
