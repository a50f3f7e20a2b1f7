"""Convolutions and pools of any shape: a loop nest that moves the window over words of one value each.

It is what everything compiles to that no faster kernel takes: little code, weights there once, no patches. The input is
copied with its padding around it, as numbers above the zero point, so that the innermost loops know no rim. A word of
weights holds those of several outputs, a lane each, as in a dense layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ml2sc.ir.graph import Node, Tensor
from ml2sc.ir.ops.base import attr_int, op_of
from ml2sc.ir.ops.convolution import Conv, shifts_of
from ml2sc.ir.ops.padding import Pad
from ml2sc.ir.ops.pooling import AveragePool, MaxPool
from ml2sc.ir.ops.windows import Window
from ml2sc.ir.program import (
    MASK,
    Assign,
    Block,
    CopySegment,
    Expr,
    If,
    Let,
    Load,
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
    sgt,
    shr,
    sub,
)
from ml2sc.ir.types import Array, as_python_ints

from .context import DraftSection, Lowering, lowering
from .elementwise import ended, followers, result_of, title_of
from .lane_sums import LaneSums
from .nests import emit_nests, over
from .values import Scalars, Value

_WORD = 256
_UNROLLED = 16
"""Taps that are written out; of larger kernels only the last axis is, or not even that."""
_IN_CODE = 64
"""Words of weights that are in the contract's code; more are in data contracts."""


@dataclass(frozen=True, slots=True)
class _Map:
    """A feature map with its padding: one word a value.

    Attributes:
        buffer: Where.
        windows: The window that moves over it.
        strides: Words from one element to the next, by spatial axis.
        plane: Words of a channel.
    """

    buffer: str
    windows: tuple[Window, ...]
    strides: tuple[int, ...]
    plane: int

    def tap(self, at: Sequence[int]) -> int:
        """Return the words from a window's first tap to the one with these indices."""
        return sum(i * w.dilation * s for i, w, s in zip(at, self.windows, self.strides, strict=True))


def padded(context: Lowering, draft: DraftSection, x: Tensor, windows: tuple[Window, ...], zero: int, rim: int) -> _Map:
    """Emit what copies a tensor (1, channels, *spatial) with its padding around it.

    Args:
        context: The lowering.
        draft: The section.
        x: The tensor.
        windows: What moves over it.
        zero: What is taken from every value.
        rim: What padding is.
    """
    channels, sizes = prod(x.shape[: -len(windows)]), [window.padded for window in windows]
    strides = tuple(prod(sizes[axis + 1 :]) for axis in range(len(sizes)))
    plane = prod(sizes)
    value = context.scalars(context.values[x.name], draft, whole=False)
    places, kept = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    for window, stride in zip(windows, strides, strict=True):
        at = window.begin + np.arange(window.size) * window.spread
        inside = np.flatnonzero((at >= 0) & (at < window.padded))
        places = (places[:, None] + at[inside] * stride).ravel()
        kept = (kept[:, None] * window.size + inside).ravel()
    count = prod(window.size for window in windows)
    places = (np.arange(channels)[:, None] * plane + places).ravel()
    kept = (np.arange(channels)[:, None] * count + kept).ravel()
    source = value.direct()
    if len(kept) == channels * plane and isinstance(source, Scalars) and not (zero or source.offset):
        return _Map(source.buffer, windows, strides, plane)
    buffer = context.buffer(f"{draft.name}_padded", channels * plane)
    if len(kept) < channels * plane:
        draft.body.append(Note(f"The input, with padding of {rim} around it."))
        draft.body.append(loop("p", channels * plane, [Store(buffer, Var("p"), const(rim))]))
    draft.read(value.take(kept))
    draft.body += emit_nests([value.take(kept)], places, buffer, lambda xs: ([], sub(xs[0], const(zero))))
    return _Map(buffer, windows, strides, plane)


@lowering("Pad")
def lower_pad(context: Lowering, node: Node) -> None:
    """Fill what is padded, and copy the rest into it."""
    x, output = context.graph.tensor(node.inputs[0]), context.graph.tensor(node.output)
    op = op_of(node)
    assert isinstance(op, Pad)
    draft = context.section(node, f"Pad, {list(x.shape)} to {list(output.shape)}")
    result = result_of(context, node, draft)
    fill = const(attr_int(node, "fill", 0))
    draft.body.append(loop("p", output.size, [Store(result.buffer, Var("p"), fill)]))
    numbers = op.padded(node, np.arange(1, x.size + 1).reshape(x.shape), 0).ravel()
    places = np.flatnonzero(numbers)
    value = context.scalars(context.values[x.name], draft, whole=False).take(numbers[places] - 1)
    draft.read(value)
    draft.body += emit_nests([value], places, result.buffer, lambda xs: ([], xs[0]))
    draft.facts = {"operator": "Pad", "bits": _WORD, "lanes": 1}
    context.values[node.output] = Value.of(result)


# -- what follows ------------------------------------------------------------------------------------------------------


def _result(context: Lowering, node: Node, draft: DraftSection, chain: Sequence[Node], spare: int = 0) -> Scalars:
    """Add the buffer of what a section makes, with room for `spare` words more, and say that its nodes are done."""
    last = chain[-1] if chain else node
    result = result_of(context, last, draft)
    context.buffers[result.buffer] += spare
    context.values[last.output] = Value.of(result)
    context.done.update(step.name for step in (node, *chain))
    return result


# -- loops -------------------------------------------------------------------------------------------------------------


def _outputs(source: _Map) -> list[tuple[str, int, dict[str, int]]]:
    """Return the loops over a channel's outputs."""
    loops = []
    for axis, (window, stride) in enumerate(zip(source.windows, source.strides, strict=True)):
        outputs = prod(w.out for w in source.windows[axis + 1 :])
        loops.append((f"y{axis}", window.out, {"i": window.stride * stride, "o": outputs}))
    return loops


def _taps(source: _Map) -> tuple[list[tuple[str, int, dict[str, int]]], list[tuple[int, ...]]]:
    """Return the loops over a kernel, and the taps that are written out within them."""
    windows = source.windows
    unrolled = len(windows)
    while unrolled and prod(w.kernel for w in windows[len(windows) - unrolled :]) > _UNROLLED:
        unrolled -= 1
    outer = len(windows) - unrolled
    loops = []
    for axis in range(outer):
        inner = prod(w.kernel for w in windows[axis + 1 :])
        loops.append(
            (f"k{axis}", windows[axis].kernel, {"i": windows[axis].dilation * source.strides[axis], "w": inner})
        )
    taps = itertools.product(*(range(w.kernel if axis >= outer else 1) for axis, w in enumerate(windows)))
    return loops, list(taps)


# -- convolutions ------------------------------------------------------------------------------------------------------


@lowering("Conv")
def lower_conv(context: Lowering, node: Node) -> None:
    """Emit a convolution."""
    _Convolution(context, node).emit()


class _Convolution:
    """The loops of one convolution: over groups, blocks of output channels, outputs, input channels and taps."""

    def __init__(self, context: Lowering, node: Node) -> None:
        graph = context.graph
        self.context, self.node = context, node
        self.x, self.w = (graph.tensor(name) for name in node.inputs[:2])
        op = op_of(node)
        assert isinstance(op, Conv) and self.w.data is not None
        self.windows = op.windows(node, self.x.shape, self.w.shape)
        self.groups = attr_int(node, "group", 1)
        self.outputs, self.channels = self.w.shape[0] // self.groups, self.w.shape[1]
        self.taps, self.points = prod(self.w.shape[2:]), prod(window.out for window in self.windows)
        interval = graph.tensor(node.output).interval
        assert interval is not None
        self.low, high = interval.lo, interval.hi
        bits = max((high - self.low).bit_length(), 1)
        self.blocks = -(-self.outputs // max(_WORD // bits, 1))
        self.lanes = -(-self.outputs // self.blocks)
        self.stride = _WORD // self.lanes
        if self.lanes == 1:
            self.low = 0

    def emit(self) -> None:
        """Add the section."""
        context, node = self.context, self.node
        chain = followers(context, node)
        draft = context.section(node, f"{title_of(node, chain)}, {list(self.x.shape[1:])} by {list(self.w.shape)}")
        source = padded(context, draft, self.x, self.windows, self.x.format.zero_point, 0)
        draft.body.append(Note(self._claim()))
        spare = self.blocks * self.lanes - self.outputs
        result = _result(context, node, draft, chain, spare * self.points)
        starts = context.table(draft, f"{draft.name}_start", self._starts())
        size = self.channels * self.taps
        total = self.groups * self.blocks * size
        in_data = total > _IN_CODE
        chunks = list(self._chunks(draft, in_data=in_data))

        def block(at: dict[str, Expr]) -> list[Statement]:
            return [*(chunk.copy(at["b"]) for chunk in chunks if in_data), *over(_outputs(source), at, point)]

        def point(at: dict[str, Expr]) -> list[Statement]:
            body: list[Statement] = [Let("acc", Load(starts, at["b"]))]
            for chunk in chunks:
                body += chunk.emit(source, at["i"], at["w"])
            for lane in range(self.lanes):
                steps, value = ended(context, chain, (), self._lane(lane))
                place = add(at["o"], const(lane * self.points))
                body.append(Block((*steps, Store(result.buffer, place, value))))
            return body

        if not in_data:  # all of them at once, from where each block reads its own
            draft.body += [CopySegment(chunk.segment, const(0), total, chunk.buffer) for chunk in chunks]
        ahead = 0 if in_data else size
        group = {"b": self.blocks, "w": self.blocks * ahead, "i": self.channels * source.plane}
        loops = [
            ("g", self.groups, {**group, "o": self.outputs * self.points}),
            ("h", self.blocks, {"b": 1, "w": ahead, "o": self.lanes * self.points}),
        ]
        draft.body += over(loops, dict.fromkeys("bwio", const(0)), block)
        draft.facts = {
            "operator": title_of(node, chain),
            "macs": self.groups * self.outputs * self.points * size,
            "bits": self.stride if self.lanes > 1 else _WORD,
            "lanes": self.lanes,
            "stride": self.stride,
            "storage": (Storage.DATA if in_data else Storage.CODE).value,
            "bytes": 32 * total,
        }

    def _claim(self) -> str:
        if self.lanes == 1:
            return f"One output channel at a time, {self.channels} x {self.taps} products each."
        return (
            f"{self.lanes} output channels at a time, {self.channels} x {self.taps} products each. Proved for all "
            f"inputs: sums are {self.low} at least, and fit lanes of {self.stride} bits once that is taken away."
        )

    def _lane(self, lane: int) -> Expr:
        if self.lanes == 1:
            return Var("acc")
        shifted = shr(self.stride * lane, Var("acc"))
        last = lane == self.lanes - 1
        return add(
            shifted if last and self.stride * self.lanes == _WORD else and_(shifted, const((1 << self.stride) - 1)),
            const(self.low),
        )

    def _starts(self) -> list[int]:
        """Return the accumulators' first values, by block: the biases, and what makes lanes non-negative."""
        bias = self.context.graph.tensor(self.node.inputs[2]).data if len(self.node.inputs) > 2 else None
        values = np.zeros(self.groups * self.outputs, dtype=object) if bias is None else as_python_ints(bias)
        return self._in_lanes(self._shifted(values) - self.low)

    def _shifted(self, values: Array) -> Array:
        shifts = shifts_of(self.node)
        if shifts is None:
            return values
        moved: Array = values * np.array([1 << s for s in shifts], dtype=object).reshape(-1, *[1] * (values.ndim - 1))
        return moved

    def _in_lanes(self, values: Array) -> list[int]:
        """Return one word a block of what is given by output channel."""
        by_group = values.reshape(self.groups, self.outputs)
        words = []
        for group in by_group:
            for first in range(0, self.outputs, self.lanes):
                lanes = group[first : first + self.lanes]
                words.append(sum(int(v) << self.stride * lane for lane, v in enumerate(lanes)) & MASK)
        return words

    def _chunks(self, draft: DraftSection, *, in_data: bool) -> Iterator[_Chunk]:
        """Yield the parts of the weights that are read together, each with its segment and buffer."""
        assert self.w.data is not None
        weights = self._shifted(as_python_ints(self.w.data))
        kernel = [(0, self.channels), *((0, window.kernel) for window in self.windows)]
        room = self.context.options.contract_words
        for box in _boxes(kernel, room):
            part = weights[(slice(None), *(slice(*ends) for ends in box))].reshape(len(weights), -1)
            words = np.array([self._in_lanes(column) for column in part.T], dtype=object).T.ravel()
            size = part.shape[1]
            segment = Segment(
                tuple(int(w) for w in words),
                Storage.DATA if in_data else Storage.CODE,
                room // size * size if in_data else 0,
            )
            name = self.context.segment(f"{draft.name}_weights", segment)
            buffer = self.context.buffer(f"{name}_chunk", size if in_data else len(words))
            yield _Chunk(name, buffer, size, box)


def _boxes(box: list[tuple[int, int]], most: int) -> Iterator[list[tuple[int, int]]]:
    """Cut a box along its first axes into boxes of at most so many elements."""
    if prod(b - a for a, b in box) <= most:
        yield box
        return
    axis = next(i for i, (a, b) in enumerate(box) if b - a > 1)
    slab = prod(b - a for a, b in box[axis + 1 :])
    together = max(most // slab, 1)
    for first in range(*box[axis], together):
        yield from _boxes([*box[:axis], (first, min(first + together, box[axis][1])), *box[axis + 1 :]], most)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Weights that are read together.

    Attributes:
        segment: Where they are.
        buffer: Where they are copied to, for a block.
        words: Of a block.
        box: First and last (not included) input channel, and tap along each spatial axis.
    """

    segment: str
    buffer: str
    words: int
    box: list[tuple[int, int]]

    def copy(self, block: Expr) -> Statement:
        """Return what copies the weights of a block of a number."""
        return CopySegment(self.segment, mul(block, const(self.words)), self.words, self.buffer)

    def emit(self, source: _Map, at: Expr, weights: Expr) -> list[Statement]:
        """Return what adds the products of the window at a position to `acc`."""
        (first, last), *kernel = self.box
        part = _Map(
            source.buffer,
            tuple(
                Window(w.size, b - a, w.stride, w.dilation, w.begin, w.end, w.spread)
                for w, (a, b) in zip(source.windows, kernel, strict=True)
            ),
            source.strides,
            source.plane,
        )
        start = first * source.plane + source.tap([a for a, _ in kernel])
        loops, taps = _taps(part)
        channels = ("c", last - first, {"w": prod(b - a for a, b in kernel), "i": source.plane})

        def products(at: dict[str, Expr]) -> list[Statement]:
            total: Expr = Var("acc")
            for number, tap in reversed(list(enumerate(taps))):
                value = Load(source.buffer, add(at["i"], const(part.tap(tap))))
                total = add(mul(value, Load(self.buffer, add(at["w"], const(number)))), total)
            return [Assign("acc", total)]

        return over([channels, *loops], {"i": add(at, const(start)), "w": weights}, products)


# -- pools -------------------------------------------------------------------------------------------------------------


@lowering("MaxPool")
def lower_max_pool(context: Lowering, node: Node) -> None:
    """The greatest of each window; padding is what no value is less than."""
    x = context.graph.tensor(node.inputs[0])
    assert x.interval is not None
    op = op_of(node)
    assert isinstance(op, MaxPool)
    least = const(x.interval.lo)

    def tap(value: Expr) -> list[Statement]:
        return [Let("t", value), If(sgt(Var("t"), Var("acc")), (Assign("acc", Var("t")),))]

    _lower_pool(context, node, op.windows(node, x.shape), 0, x.interval.lo, least, tap, None)


@lowering("AveragePool")
def lower_average_pool(context: Lowering, node: Node) -> None:
    """The sum of each window, times what makes the counts alike where they are not."""
    x = context.graph.tensor(node.inputs[0])
    op = op_of(node)
    assert isinstance(op, AveragePool)
    windows = op.windows(node, x.shape)
    factors = op.multipliers(node, windows).ravel()

    def tap(value: Expr) -> list[Statement]:
        return [Assign("acc", add(value, Var("acc")))]

    table = None if np.all(factors == 1) else factors
    if table is None and all(window.whole for window in windows):
        lanes = LaneSums.of(context.values[x.name], prod(x.shape[: -len(windows)]))
        if lanes is not None:
            _lower_whole(context, node, lanes)
            return
    _lower_pool(context, node, windows, x.format.zero_point, 0, const(0), tap, table)


def _lower_whole(context: Lowering, node: Node, lanes: LaneSums) -> None:
    """Emit the mean of whole channels that lie in lanes."""
    x = context.graph.tensor(node.inputs[0])
    chain = followers(context, node)
    draft = context.section(node, f"{title_of(node, chain)}, {list(x.shape[1:])} to 1 each")
    draft.read(context.values[x.name])
    result = _result(context, node, draft, chain)
    draft.body.append(Note(lanes.said()))

    def channel(at: dict[str, Expr]) -> list[Statement]:
        summed, total = lanes.total(at["i"], "lanes")
        centred = add(total, const(-lanes.count * x.format.zero_point))
        steps, value = ended(context, chain, (), Var("acc"))
        return [*summed, Let("acc", centred), *steps, Store(result.buffer, at["o"], value)]

    loops = [("c", context.graph.tensor(node.output).size, {"i": lanes.step, "o": 1})]
    draft.body += over(loops, {"i": const(lanes.first), "o": const(0)}, channel)
    draft.facts = {"operator": title_of(node, chain), "bits": lanes.source.stride, "lanes": lanes.source.lanes}


def _lower_pool(
    context: Lowering,
    node: Node,
    windows: tuple[Window, ...],
    zero: int,
    rim: int,
    start: Expr,
    tap: Callable[[Expr], list[Statement]],
    factors: Array | None,
) -> None:
    """Emit a pool.

    Args:
        context: The lowering.
        node: The node.
        windows: Its windows.
        zero: What is taken from every value.
        rim: What padding is.
        start: What `acc` is at first.
        tap: What brings a value into `acc`.
        factors: By output, what `acc` is multiplied by in the end; None: nothing.
    """
    x = context.graph.tensor(node.inputs[0])
    chain = followers(context, node)
    channels, points = prod(x.shape[: -len(windows)]), prod(window.out for window in windows)
    draft = context.section(node, f"{title_of(node, chain)}, {list(x.shape[1:])} to {points} each")
    source = padded(context, draft, x, windows, zero, rim)
    result = _result(context, node, draft, chain)
    loops, taps = _taps(source)
    factor = None if factors is None else context.table(draft, f"{draft.name}_factors", factors.tolist())

    def window(at: dict[str, Expr]) -> list[Statement]:
        return [s for t in taps for s in _scoped(tap(Load(source.buffer, add(at["i"], const(source.tap(t))))))]

    def point(at: dict[str, Expr]) -> list[Statement]:
        value: Expr = Var("acc")
        if factor is not None:
            value = mul(value, Load(factor, at["f"]))
        steps, value = ended(context, chain, (), value)
        inner = over(loops, {"i": at["i"], "w": const(0)}, window)
        return [Let("acc", start), *inner, *steps, Store(result.buffer, at["o"], value)]

    outputs = _outputs(source)
    starts: dict[str, Expr] = {"i": const(0), "o": const(0)}
    if factor is not None:
        outputs = [(name, count, {**steps, "f": steps["o"]}) for name, count, steps in outputs]
        starts["f"] = const(0)
    channel = ("c", channels, {"i": source.plane, "o": points})
    draft.body += over([channel, *outputs], starts, point)
    draft.facts = {"operator": title_of(node, chain), "bits": _WORD, "lanes": 1}


def _scoped(statements: list[Statement]) -> list[Statement]:
    return [Block(tuple(statements))] if any(isinstance(s, Let) for s in statements) else statements
