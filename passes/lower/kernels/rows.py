"""The kernel of convolutions by rows: from operators to `RowsOfTaps`, a chain of them sharing their layouts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.layout import Layout
from ml2sc.ir.limits import shown
from ml2sc.ir.ops.base import op_of
from ml2sc.ir.ops.convolution import Conv, shifts_of
from ml2sc.ir.ops.pooling import AveragePool, MaxPool
from ml2sc.ir.ops.windows import Window, attr_ints
from ml2sc.ir.program import Note
from ml2sc.ir.types import Array, Interval, as_python_ints

from ..context import Lowering
from ..epilogue import Epilogue, find_epilogue
from ..plan import PlanOptions
from ..values import Packed, Value
from . import KERNELS
from .choice import Choice, choices
from .conv import Convolution, RowsOfTaps
from .maps import Maps
from .pixels import Gathered, Pixels

_RANK = 4
_BYTE = 256


@dataclass(frozen=True, slots=True)
class _Stage:
    """A convolution of a chain, with what ends its sums."""

    node: Node
    convolution: Convolution
    epilogue: Epilogue


@dataclass(frozen=True)
class RowsWay:
    """A chain of convolutions with its layouts.

    Attributes:
        source: The tensor it reads.
        stages: The convolutions.
        choice: Their layouts.
        clamped: What brings the input's bytes into its interval, if that is narrower.
        takes_packed: Whether it reads an input of the graph as it is packed; else its elements a value a word.
    """

    source: Tensor
    stages: tuple[_Stage, ...]
    choice: Choice
    clamped: Epilogue | None
    takes_packed: bool

    @property
    def covers(self) -> tuple[Node, ...]:
        return tuple(node for stage in self.stages for node in stage.epilogue.nodes)

    @property
    def packed(self) -> tuple[str, ...]:
        return (self.source.name,) if self.takes_packed else ()

    @property
    def reads(self) -> Mapping[str, Layout]:
        return {self.source.name: Layout.row_major(self.source.shape)}

    @property
    def gives(self) -> Mapping[str, Layout]:
        return {self.stages[-1].epilogue.output.name: self.choice.maps[-1].layout}

    @property
    def proofs(self) -> tuple[str, ...]:
        maps = self.choice.maps
        pairs = zip(self.stages, maps, maps[1:], strict=False)
        return tuple(RowsOfTaps(stage.convolution, x, y).claim() for stage, x, y in pairs)

    def emit(self, context: Lowering, inputs: Mapping[str, Packed]) -> dict[str, Value]:
        name, first = self.source.name, self.choice.maps[0]
        title = f"{shown(name)!r}: {first.channels} x {first.height} rows of pixels in lanes"
        if self.takes_packed:
            draft = context.plain_section(f"input_{name}", f"Input {title}", predict=True, classify=True)
        else:
            draft = context.section(self.stages[0].node, title)
        source = dataclasses.replace(first, buffer=context.buffer(f"{draft.name}_maps", first.size, first.holds))
        if self.takes_packed:
            pixels = Pixels(inputs[name], source, self.clamped)
            draft.body += [Note(pixels.said()), *pixels.emit()]
        else:
            value = context.scalars(context.values[name], draft)
            draft.body += Gathered(Gathered.in_order(context, draft, value), source).emit()
        for stage, given in zip(self.stages, self.choice.maps[1:], strict=True):
            source = self._stage(context, stage, source, given)
        return {self.stages[-1].epilogue.output.name: source.value()}

    def _stage(self, context: Lowering, stage: _Stage, source: Maps, given: Maps) -> Maps:
        conv, nodes = stage.convolution, stage.epilogue.nodes
        operator = " + ".join(node.op_type for node in nodes)
        kernel = "x".join(map(str, conv.weights.shape[2:]))
        shape = f"{source.channels} x {source.height} x {source.width}"
        result = f"{given.channels} x {given.height} x {given.width}"
        draft = context.section(stage.node, f"{operator}, {kernel}, {shape} -> {result}")
        target = dataclasses.replace(given, buffer=context.buffer(f"{draft.name}_out", given.size, given.holds))
        rows = RowsOfTaps(conv, source, target)
        draft.body += rows.emit()
        draft.facts = {
            "kernel": "rows",
            "operator": operator,
            **({"macs": conv.macs} if stage.node.op_type == "Conv" else {}),
            "bits": rows.ended.proved_bits,
            "lanes": source.lanes,
            "stride": source.pitch,
            "fields": 1,
            "word_rows": 1,
            "storage": "literals",
            "bytes": 0,
        }
        return target


class Rows:
    """Convolutions and means over the rows of images, with the pools and steps behind them."""

    operators = ("AveragePool", "Conv")

    def ways(self, graph: Graph, node: Node, inputs: Mapping[str, Packed], options: PlanOptions) -> Iterable[RowsWay]:
        stages = tuple(_chain(graph, node))
        x = graph.tensor(node.inputs[0])
        interval, zero = x.interval, x.format.zero_point
        if not stages or options.updatable or interval is None or zero not in interval:
            return
        packed = inputs.get(x.name)
        if graph.only_use(x.name) is None or x.name in graph.outputs:
            packed = None
        clamped = None
        if packed is not None:
            whole = (interval.lo, interval.hi) == (packed.qmin, packed.qmax)
            clamped = _into(x, packed, interval) if packed.signed or not whole else None
            if options.strict_input and not whole:
                packed = None  # what an element out of range is answered with, the section says that checks them
        for length in range(len(stages), 0, -1):  # literals of all may be too much code
            chain = [stage.convolution for stage in stages[:length]]
            for choice in choices(chain, interval.hi - interval.lo, interval.lo, zero - interval.lo):
                if packed is not None and Pixels.fits(packed, choice.maps[0], clamped):
                    yield RowsWay(x, stages[:length], choice, clamped, takes_packed=True)
                else:
                    yield RowsWay(x, stages[:length], choice, None, takes_packed=False)


KERNELS.register("rows")(Rows())


def _into(x: Tensor, packed: Packed, interval: Interval) -> Epilogue:
    """Return what brings bytes into an interval: those of a signed input count from 128 below zero."""
    by = _BYTE // 2 if packed.signed else 0
    return Epilogue(x, (), 0, by, Interval(interval.lo + by, interval.hi + by), Interval(0, _BYTE - 1))


def _chain(graph: Graph, node: Node) -> Iterator[_Stage]:
    """Iterate over convolutions that read one another, from a node on, as far as each is one that rows do."""
    while True:
        stage = _stage(graph, node)
        if stage is None:
            return
        yield stage
        use = graph.only_use(stage.epilogue.output.name)
        if use is None or use.op_type not in Rows.operators or use.inputs[0] != stage.epilogue.output.name:
            return
        if graph.tensor(use.inputs[0]).shape != (1, *_shape(stage.convolution)):
            return
        node = use


def _shape(conv: Convolution) -> tuple[int, int, int]:
    return conv.outputs, conv.out_height // conv.pool[0], conv.out_width // conv.pool[1]


def _stage(graph: Graph, node: Node) -> _Stage | None:
    """Return a convolution of images with what follows it, a mean being one with taps of 1; None if it is another."""
    x = graph.tensor(node.inputs[0])
    found = _taps(graph, node) if len(x.shape) == _RANK and x.shape[0] == 1 else None
    if found is None:
        return None
    weights, bias, (rows, columns) = found
    if rows.spread > 1 or columns.spread > 1:
        return None
    pools: list[Node] = []

    def takes(use: Node) -> bool:
        if use.op_type != "MaxPool" or pools or not _tiles(use, graph.tensor(use.inputs[0])):
            return False
        pools.append(use)
        return True

    epilogue = find_epilogue(graph, node, takes, sums=False)
    zero_point = epilogue.output.format.zero_point
    if epilogue.scaling is not None or zero_point not in epilogue.interval:
        return None
    pool = attr_ints(pools[0], "kernel_shape", (1, 1)) if pools else (1, 1)
    convolution = Convolution(
        weights,
        bias,
        (rows.stride, columns.stride),
        (rows.dilation, columns.dilation),
        (rows.begin, columns.begin),
        x.shape[1] // weights.shape[1],
        x.shape[2],
        x.shape[3],
        rows.out,
        columns.out,
        epilogue,
        (pool[0], pool[1]),
        zero_point - epilogue.interval.lo,
    )
    return _Stage(node, convolution, epilogue)


def _taps(graph: Graph, node: Node) -> tuple[Array, Array, tuple[Window, ...]] | None:
    """Return the weights, the bias and the windows of a convolution, or of a mean of equally many everywhere."""
    x = graph.tensor(node.inputs[0])
    operator = op_of(node)
    if isinstance(operator, AveragePool):
        windows = operator.windows(node, x.shape)
        ones = np.ones((x.shape[1], 1, *(window.kernel for window in windows)), dtype=np.int64)
        alike = bool(np.all(operator.multipliers(node, windows) == 1))
        return (ones, np.zeros(x.shape[1], dtype=object), windows) if alike else None
    assert isinstance(operator, Conv)
    w = graph.tensor(node.inputs[1])
    c = graph.tensor(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    if w.data is None or shifts_of(node) is not None:
        return None
    bias = np.zeros(w.shape[0], dtype=object) if c is None or c.data is None else as_python_ints(c.data)
    return w.data, bias, operator.windows(node, x.shape, w.shape)


def _tiles(node: Node, x: Tensor) -> bool:
    """Return whether a pool's windows lie side by side, without padding."""
    operator = op_of(node)
    assert isinstance(operator, MaxPool)
    if len(x.shape) != _RANK:
        return False
    windows = operator.windows(node, x.shape)
    side_by_side = all(window.kernel == window.stride and window.dilation == 1 for window in windows)
    return side_by_side and all(window.begin == 0 and window.out * window.kernel <= window.size for window in windows)
