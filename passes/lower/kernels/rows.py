"""The kernel of convolutions by rows: from operators to `RowsOfTaps`, a chain of them sharing their layouts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.gas import section_bytes
from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.layout import Layout
from ml2sc.ir.limits import shown
from ml2sc.ir.ops.base import op_of
from ml2sc.ir.ops.convolution import Conv, shifts_of
from ml2sc.ir.ops.pooling import AveragePool, MaxPool
from ml2sc.ir.ops.windows import Window, attr_ints
from ml2sc.ir.program import Note, Program
from ml2sc.ir.types import Array, Interval, as_python_ints

from ..context import DraftSection, Known, Lowering
from ..epilogue import ChannelScaling, Epilogue, find_epilogue
from ..plan import PlanOptions
from ..values import Packed, Value
from ..walked import least_price, of_sections
from . import KERNELS
from .choice import Choice, Link, choices
from .conv import Beside, Convolution, RowsOfTaps, closed_up
from .literal import Literal, in_loops, ways_in_loops
from .looped import LoopedRows, Loops, Workspace
from .maps import Maps
from .pixels import Gathered, Pixels

_RANK = 4
_BYTE = 256


@dataclass(frozen=True, slots=True)
class _Stage:
    """A convolution of a network, with what ends its sums.

    Attributes:
        node: The operator.
        convolution: Its numbers.
        epilogue: What ends its sums.
        reads: The tensor that it reads: 0 is the network's input, k + 1 what the k-th gives.
        adds: The tensor that is added to its sums.
    """

    node: Node
    convolution: Convolution
    epilogue: Epilogue
    reads: int
    adds: int | None = None

    @property
    def link(self) -> Link:
        return Link(self.convolution, self.reads, self.adds)

    def added_to(self, maps: Maps | None) -> _Stage:
        """Return the same, told where what is added to its sums is."""
        if self.convolution.beside is None:
            return self
        beside = dataclasses.replace(self.convolution.beside, maps=maps)
        return dataclasses.replace(self, convolution=dataclasses.replace(self.convolution, beside=beside))


@dataclass(frozen=True)
class RowsWay:
    """Convolutions that read each other's results, with their layouts.

    Attributes:
        source: The tensor that the first reads.
        stages: The convolutions.
        outside: Numbers of the tensors that others read.
        choice: Their layouts.
        finder: Finds how each convolution's loops lie.
        clamped: What brings the input's bytes into its interval, if that is narrower.
        takes_packed: Whether it reads an input of the graph as it is packed; else its elements a value a word.
    """

    source: Tensor
    stages: tuple[_Stage, ...]
    outside: tuple[int, ...]
    choice: Choice
    finder: LoopFinder
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
        return {self.stages[t - 1].epilogue.output.name: self.choice.maps[t].layout for t in self.outside}

    @property
    def proofs(self) -> tuple[str, ...]:
        maps = self.choice.maps
        pairs = zip(self.stages, maps[1:], strict=True)
        return tuple(RowsOfTaps(stage.convolution, maps[stage.reads], y).claim() for stage, y in pairs)

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
        made = [source]
        for stage, given in zip(self.stages, self.choice.maps[1:], strict=True):
            beside = None if stage.adds is None else made[stage.adds]
            made.append(_emit(context, stage.added_to(beside), made[stage.reads], given, self.finder.choose))
        return {self.stages[t - 1].epilogue.output.name: made[t].value() for t in self.outside}


Chooser = Callable[[Lowering, str, "_Stage", Maps, Maps], "Loops | None"]


def _emit(context: Lowering, stage: _Stage, source: Maps, given: Maps, choose: Chooser) -> Maps:
    """Add the section of a convolution, in the loops that are found or settled, and return where its result is."""
    conv, nodes = stage.convolution, stage.epilogue.nodes
    operator = " + ".join(node.op_type for node in nodes)
    kernel = "x".join(map(str, conv.weights.shape[2:]))
    shape = f"{source.channels} x {source.height} x {source.width}"
    result = f"{given.channels} x {given.height} x {given.width}"
    draft = context.section(stage.node, f"{operator}, {kernel}, {shape} -> {result}")
    target = dataclasses.replace(given, buffer=context.buffer(f"{draft.name}_out", given.size, given.holds))
    loops = choose(context, draft.name, stage, source, given)
    rows = RowsOfTaps(conv, source, target) if loops is None else _looped(context, draft, conv, source, target, loops)
    storage, several = rows.storage, _parts(loops) > 1
    for outputs, body in rows.pieces():
        if outputs.start:
            draft = context.section(stage.node, f"{operator}, {kernel}, {shape} -> {result}")
        if several:
            draft.title += f": channels {outputs.start} to {outputs.stop - 1}"
        draft.body += body
        draft.facts = {
            "kernel": "rows",
            "operator": operator,
            **({"macs": conv.macs * len(outputs) // conv.outputs} if stage.node.op_type == "Conv" else {}),
            "bits": rows.ended.proved_bits,
            "lanes": source.lanes,
            "stride": source.pitch,
            "fields": rows.fields,
            "word_rows": 1,
            "storage": "literals" if storage is None else storage.value,
            "bytes": 0 if outputs.start else 32 * rows.size,
        }
    return target


def _looped(
    context: Lowering, draft: DraftSection, conv: Convolution, source: Maps, target: Maps, loops: Loops
) -> LoopedRows:
    """Return a convolution in loops, with what it needs added to the lowering."""
    name, in_data = draft.name, {"code": False, "data": True}.get(context.options.weights)
    plain = in_loops(conv, source, target, loops, in_data=in_data)
    sizes = plain.buffers()
    own = plain.names

    def buffer(kind: str) -> str:
        return context.buffer(f"{name}_{kind}", sizes[kind]) if kind in sizes else kind

    names = Workspace(
        context.segment(f"{name}_weights", plain.segment()) if plain.size else own.segment,
        buffer(own.record),
        buffer(own.taps),
        buffer(own.window),
        buffer(own.sums),
        tuple(buffer(own.sums) for _ in range(1, _parts(loops))),
    )
    return in_loops(conv, source, target, loops, names, in_data=in_data)


def _parts(loops: Loops | None) -> int:
    """Return how many sections a convolution has."""
    return 1 if loops is None else loops.parts


class Rows:
    """Convolutions and means over the rows of images, with the pools and steps behind them."""

    operators = ("AveragePool", "Conv")

    def ways(self, context: Lowering, node: Node, inputs: Mapping[str, Packed]) -> Iterable[RowsWay]:
        graph, options = context.graph, context.options
        stages = tuple(_network(graph, node))
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
        finder = LoopFinder(graph, options)
        found = False
        for length in range(len(stages), 0, -1):  # the code of all may be too much
            if found and length >= _SHORT:
                continue
            links, outside = [stage.link for stage in stages[:length]], _outside(graph, stages[:length])
            for choice in choices(links, interval.hi - interval.lo, interval.lo, zero - interval.lo):
                pairs = zip(stages, choice.maps[1:], strict=False)
                if not all(finder.about(stage, choice.maps[stage.reads], target) for stage, target in pairs):
                    continue
                found = True
                if packed is not None and Pixels.fits(packed, choice.maps[0], clamped):
                    yield RowsWay(x, stages[:length], outside, choice, finder, clamped, takes_packed=True)
                else:
                    yield RowsWay(x, stages[:length], outside, choice, finder, None, takes_packed=False)


KERNELS.register("rows")(Rows())


class LoopFinder:
    """Finds the loops of convolutions, one by one: what each costs does not depend on the others'.

    Args:
        graph: The graph.
        options: What the planner is told.
    """

    def __init__(self, graph: Graph, options: PlanOptions) -> None:
        self.graph, self.options = graph, options
        self._about: dict[tuple[str, Maps, Maps], dict[Loops | None, float]] = {}
        self._prices: dict[tuple[str, Maps, Maps, Loops | None], float] = {}

    def choose(self, context: Lowering, name: str, stage: _Stage, source: Maps, target: Maps) -> Loops | None:
        """Return the loops of a convolution; None: all output channels are written out.

        Of those that the formulas find best each is walked, if the target is known, and the cheapest is taken.

        Args:
            context: The lowering, in which the choice is noted.
            name: Of the convolution's section.
            stage: The convolution.
            source: Where its input is.
            target: Where its result goes.
        """
        source = dataclasses.replace(source, buffer="")

        about = self.about(stage, source, target)

        def price(loops: Loops | None) -> float:
            return self._price(stage, source, target, loops) if self.options.generators else about[loops]

        ways = list(about)
        if name not in context.choices.settled:
            # how large sections are, of which there are several so that they can be cut, only a target's sizes tell
            told = [w for w in about if _parts(w) == 1 or (self.options.generators and price(w) < math.inf)]
            ways = sorted(told or about, key=about.__getitem__)[:_FINALISTS]
            ways = [way for way in ways if about[way] <= _CLOSE * about[ways[0]]]
        return context.choices.make(name, ways, lambda way: "literals" if way is None else str(way), price)

    def about(self, stage: _Stage, source: Maps, target: Maps) -> dict[Loops | None, float]:
        """Return what the formulas say of all ways to do a convolution whose code a contract has room for."""
        key = stage.node.name, source, target
        if key not in self._about:
            conv, options, found = stage.convolution, self.options, dict[Loops | None, float]()
            ways: list[Loops | None] = [*ways_in_loops(conv, source, target)]
            literals = options.literals and options.weights != "data"
            if literals and closed_up(conv, source, target) == 1:
                ways.insert(0, None)
            for way in ways:
                if isinstance(way, Literal) and not literals:
                    continue
                rows = RowsOfTaps(conv, source, target) if way is None else in_loops(conv, source, target, way)
                gas, code, data = rows.about()
                if code <= options.code_limit * _parts(way):
                    found[way] = gas + options.byte_price * code + options.rules.byte_price / options.calls * data
            self._about[key] = found
        return self._about[key]

    def _price(self, stage: _Stage, source: Maps, target: Maps, loops: Loops | None) -> float:
        key = stage.node.name, source, target, loops
        if key not in self._prices:
            scratch = Lowering(self.graph, dataclasses.replace(self.options, choices={}), Known())
            given = dataclasses.replace(source, buffer=scratch.buffer("given", source.size))
            if stage.convolution.beside is not None and (beside := stage.convolution.beside.maps) is not None:
                stage = stage.added_to(dataclasses.replace(beside, buffer=scratch.buffer("beside", beside.size)))
            _emit(scratch, stage, given, target, lambda *_: loops)
            sections = [draft.finish() for draft in scratch.sections]
            program = of_sections(sections, scratch, scratch.segments)
            fits = _parts(loops) == 1 or self._leaves_room(program)
            self._prices[key] = least_price(program, self.options) if fits else math.inf
        return self._prices[key]

    def _leaves_room(self, program: Program) -> bool:
        """Return whether each section of several leaves room in a contract for another, as the target compiles them.

        Else every one would be a contract of its own, with all maps passed to it and back.
        """
        for generator in self.options.generators:
            costs = generator(program)
            if max(section_bytes(costs.program, costs.sizes).values()) > _SHARE * self.options.code_limit:
                return False
        return True


_SHARE = 0.6
"""Of a contract's code, what one of a convolution's sections may take, at most."""
_SHORT = 3
"""Convolutions of a chain from which on it is not cut: their layouts are too many to try."""
_FINALISTS, _CLOSE = 3, 1.25
"""Loops that are walked, at most; and how much dearer they may be, by the formulas, than the best of these."""


def _into(x: Tensor, packed: Packed, interval: Interval) -> Epilogue:
    """Return what brings bytes into an interval: those of a signed input count from 128 below zero."""
    by = _BYTE // 2 if packed.signed else 0
    return Epilogue(x, (), 0, by, Interval(interval.lo + by, interval.hi + by), Interval(0, _BYTE - 1))


def _network(graph: Graph, node: Node) -> Iterator[_Stage]:
    """Iterate over convolutions that read one another, from a node on, as far as each is one that rows do.

    What is added to sums must be a result of such a convolution, too, or what the first reads.
    """
    shapes = {node.inputs[0]: graph.tensor(node.inputs[0]).shape}
    number = {node.inputs[0]: 0}
    started = False
    for other in graph:
        started = started or other is node
        if not started or other.op_type not in Rows.operators or other.inputs[0] not in number:
            continue
        stage = _stage(graph, other, number)
        if stage is None or graph.tensor(other.inputs[0]).shape != shapes[other.inputs[0]]:
            if other is node:
                return
            continue
        yield stage
        name = stage.epilogue.output.name
        number[name], shapes[name] = len(number), (1, *_shape(stage.convolution))


def _outside(graph: Graph, stages: Sequence[_Stage]) -> tuple[int, ...]:
    """Return the numbers of the results that not only some convolutions read."""
    inside = {node.name for stage in stages for node in stage.epilogue.nodes}
    found = []
    for number, stage in enumerate(stages, 1):
        name = stage.epilogue.output.name
        uses = graph.uses(name)
        if not uses or name in graph.outputs or name == graph.decision or any(u.node.name not in inside for u in uses):
            found.append(number)
    return tuple(found)


def _shape(conv: Convolution) -> tuple[int, int, int]:
    return conv.outputs, conv.out_height // conv.pool[0], conv.out_width // conv.pool[1]


def _stage(graph: Graph, node: Node, number: Mapping[str, int]) -> _Stage | None:
    """Return a convolution of images with what follows it, a mean being one with taps of 1; None if it is another.

    Args:
        graph: The graph.
        node: The convolution.
        number: Of the tensors that are in lanes already.
    """
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

    epilogue = find_epilogue(graph, node, takes)
    if epilogue.addends and (pools or len(epilogue.addends) > 1 or epilogue.addends[0].tensor.name not in number):
        pools.clear()
        epilogue = find_epilogue(graph, node, takes, sums=False)
    zero_point, interval = epilogue.output.format.zero_point, (epilogue.scaling or epilogue).interval
    if zero_point not in interval:
        return None
    if isinstance(epilogue.scaling, ChannelScaling):
        if len(epilogue.offsets) != len(weights):
            return None
        bias = bias + np.array(epilogue.offsets, dtype=object)
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
        zero_point - interval.lo,
        _beside(epilogue),
    )
    adds = number[epilogue.addends[0].tensor.name] if epilogue.addends else None
    return _Stage(node, convolution, epilogue, number[x.name], adds)


def _beside(epilogue: Epilogue) -> Beside | None:
    """Return what is added to a convolution's sums."""
    if not epilogue.addends:
        return None
    (addend,) = epilogue.addends
    interval = addend.tensor.interval
    assert interval is not None
    return Beside(addend.multiplier, interval.hi - interval.lo, addend.tensor.format.zero_point - interval.lo)


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
