"""The kernel of convolutions by rows: from operators to `RowsOfTaps`, a chain of them sharing their layouts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice, takewhile

import numpy as np

from ml2sc.ir.gas import section_bytes
from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.layout import Layout
from ml2sc.ir.limits import shown
from ml2sc.ir.ops.base import op_of
from ml2sc.ir.ops.convolution import Conv, shifts_of
from ml2sc.ir.ops.pooling import AveragePool, MaxPool
from ml2sc.ir.ops.windows import Window
from ml2sc.ir.program import Note, Program, Statement
from ml2sc.ir.types import Array, Interval, as_python_ints

from ..context import DraftSection, Known, Lowering
from ..epilogue import ChannelScaling, Epilogue, find_epilogue
from ..options import ASSUMED, PlanOptions
from ..values import Packed, Value
from ..walked import NOWHERE, Line, least, lines, of_sections
from . import KERNELS, Composed
from .abreast import Abreast
from .blank import Blank, BlankRows, share_of
from .choice import Choice, Link, choices
from .conv import Beside, Convolution, RowsOfTaps
from .literal import Literal, in_loops, ways_in_loops
from .looped import LoopedRows, Loops, Workspace
from .maps import Maps
from .pixels import Gathered, Order, Pixels, relaid

_IN_DATA = {"code": False, "data": True}
"""Where records are, by where weights are to be."""
_BYTE = 256
_ONE_ROW = Window(1, 1)
"""How a kernel moves down a sequence, which is an image of one row."""


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
class RowsWay(Composed):
    """Convolutions that read each other's results, with their layouts.

    Attributes:
        source: The tensor that the first reads.
        stages: The convolutions.
        outside: Numbers of the tensors that others read.
        choice: Their layouts.
        finder: Finds how each convolution's loops lie.
        options: What the planner is told.
        clamped: What brings the input's bytes into its interval, if that is narrower.
        takes_packed: Whether it reads an input of the graph as it is packed; else its elements a value a word.
    """

    source: Tensor
    stages: tuple[_Stage, ...]
    outside: tuple[int, ...]
    choice: Choice
    finder: LoopFinder
    options: PlanOptions
    clamped: Epilogue | None
    takes_packed: bool

    @cached_property
    def _priced(self) -> list[list[tuple[float, Loops | None]]]:
        """The loops of each convolution after their prices, the cheapest first."""
        maps = self.choice.maps
        return [
            self.finder.priced(
                stage.added_to(None if stage.adds is None else maps[stage.adds]), maps[stage.reads], given, self.options
            )
            for stage, given in zip(self.stages, maps[1:], strict=True)
        ]

    @property
    def settled(self) -> tuple[Loops | None, ...]:
        """What of it the planner's prices decide: each convolution's loops."""
        return tuple(priced[0][1] for priced in self._priced)

    @cached_property
    def guess(self) -> float:
        """What the formulas say that the convolutions cost."""
        return self.finder.guess(self.stages, self.choice, self.options)

    @property
    def parts(self) -> float:
        """What the convolutions cost."""
        return sum(priced[0][0] for priced in self._priced)

    @property
    def alike(self) -> tuple[int, bool]:
        """How many convolutions it covers, and from where the first reads."""
        return len(self.stages), self.takes_packed

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
            draft.body += _brought(context, draft, context.values[name], source)
        made = [source]
        for number, (stage, given) in enumerate(zip(self.stages, self.choice.maps[1:], strict=True)):
            beside = None if stage.adds is None else made[stage.adds]
            choose = partial(self._choose, context, number)
            made.append(_emit(context, stage.added_to(beside), made[stage.reads], given, choose))
        return {self.stages[t - 1].epilogue.output.name: made[t].value() for t in self.outside}

    def _choose(self, context: Lowering, number: int, name: str) -> Loops | None:
        """Return the loops of a convolution, and note the choice; None: all output channels are written out.

        Args:
            context: The lowering.
            number: The convolution's.
            name: Of its section.
        """
        stage, maps = self.stages[number], self.choice.maps
        if name in context.choices.settled:
            ways = self.finder.about(stage, maps[stage.reads], maps[number + 1], self.options)
            return context.choices.make(name, ways, _loops_name, ways.__getitem__)
        return context.choices.note(name, self._priced[number], _loops_name)


def _loops_name(loops: Loops | None) -> str:
    return "literals" if loops is None else str(loops)


def _brought(context: Lowering, draft: DraftSection, value: Value, target: Maps) -> list[Statement]:
    """Return the statements that bring a tensor's elements into lanes: words of them, where they lie so, or each.

    Args:
        context: The lowering.
        draft: The section.
        value: The elements.
        target: Where they go.
    """
    packed = value.sources[value.which[0]]
    if isinstance(packed, Packed) and not packed.signed and not np.any(value.which != value.which[0]):
        order = Order.of(value.where.reshape(target.channels, target.height, target.width))
        if order is not None and Pixels.fits(packed, target, None, order.pixel):
            draft.read(value)
            return Pixels(packed, target, None, order).emit()
    words = relaid(value, target)
    if words is not None:
        draft.read(value)
        return words
    scalars = context.in_order(context.scalars(value, draft), draft, "values")
    return Gathered(scalars, target).emit()


Chooser = Callable[[str], "Loops | None"]
"""Returns the loops of the convolution whose section has a name."""


def _emit(context: Lowering, stage: _Stage, source: Maps, given: Maps, choose: Chooser) -> Maps:
    """Add the section of a convolution, in the loops that are found or settled, and return where its result is."""
    conv, nodes = stage.convolution, stage.epilogue.nodes
    operator = " + ".join(node.op_type for node in nodes)
    kernel = "x".join(map(str, conv.weights.shape[2:]))
    shape = f"{source.channels} x {source.height} x {source.width}"
    result = f"{given.channels} x {given.height} x {given.width}"
    draft = context.section(stage.node, f"{operator}, {kernel}, {shape} -> {result}")
    target = dataclasses.replace(given, buffer=context.buffer(f"{draft.name}_out", given.size, given.holds))
    loops = choose(draft.name)
    written = loops is None or isinstance(loops, Blank)
    rows = (_written if written else _looped)(context, draft, conv, source, target, loops)
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
            "lanes": rows.lanes,
            "stride": rows.pitch,
            "fields": rows.fields,
            "word_rows": 1,
            "storage": "literals" if storage is None else storage.value,
            "bytes": 0 if outputs.start else 32 * rows.size,
            **({} if loops is None or loops.live is None else {"live": str(loops.live)}),
        }
    return target


def _written(
    context: Lowering, draft: DraftSection, conv: Convolution, source: Maps, target: Maps, loops: Loops | None
) -> RowsOfTaps:
    """Return a convolution of which all output channels are written out, with what it needs added to the lowering."""
    sizes = _rows_of(conv, source, target, loops).buffers().values()
    return _rows_of(conv, source, target, loops, *(context.buffer(f"{draft.name}_sums", size) for size in sizes))


def _rows_of(
    conv: Convolution,
    source: Maps,
    target: Maps,
    loops: Loops | None,
    sums: str = "sums",
    *,
    in_data: bool | None = None,
) -> RowsOfTaps:
    """Return a convolution done in a way; records are in data contracts, or not, if that is settled."""
    if loops is None:
        return RowsOfTaps(conv, source, target, sums)
    if isinstance(loops, Blank):
        return BlankRows(conv, source, target, loops, sums)
    return in_loops(conv, source, target, loops, in_data=in_data)


def _looped(
    context: Lowering, draft: DraftSection, conv: Convolution, source: Maps, target: Maps, loops: Loops | None
) -> LoopedRows:
    """Return a convolution in loops, with what it needs added to the lowering."""
    assert loops is not None
    name, in_data = draft.name, _IN_DATA.get(context.options.weights)
    plain = in_loops(conv, source, target, loops, in_data=in_data)
    sizes, holds = plain.buffers(), plain.holds()
    own = plain.names

    def buffer(kind: str) -> str:
        return context.buffer(f"{name}_{kind}", sizes[kind], holds.get(kind)) if kind in sizes else kind

    names = Workspace(
        context.segment(f"{name}_weights", plain.segment()) if plain.size else own.segment,
        buffer(own.record),
        buffer(own.taps),
        buffer(own.window),
        buffer(own.sums),
        tuple(buffer(own.sums) for _ in range(1, _parts(loops))),
        buffer(own.partial),
    )
    return in_loops(conv, source, target, loops, names, in_data=in_data)


def _parts(loops: Loops | None) -> int:
    """Return how many sections a convolution has."""
    return 1 if loops is None else loops.parts


class Rows:
    """Convolutions, means and pools over the rows of images, with the pools and steps behind them."""

    operators = ("AveragePool", "Conv", "MaxPool")

    def ways(self, context: Lowering, node: Node, inputs: Mapping[str, Packed]) -> Iterable[RowsWay]:
        graph, options = context.graph, context.options
        known = context.known
        stages = known.once(("convolutions", node.name), lambda: tuple(_network(graph, node)))
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
        finder = known.once("loops", lambda: LoopFinder(graph))
        cut = known.once(("cut", node.name), lambda: _cut(graph, stages, finder, options))
        for first, length in cut.items():  # those behind it know where they end, too
            known.once(("cut", first), lambda length=length, first=first: {first: length})  # type: ignore[misc]
        lengths = range(cut[node.name], cut[node.name] - 1, -1) if cut else range(len(stages), 0, -1)
        given = _given(x)
        layouts = known.once(("layouts", node.name), lambda: _layouts(stages, finder, options, given, lengths))
        for length, choice in layouts:
            outside = _outside(graph, stages[:length])
            takes_packed = packed is not None and Pixels.fits(packed, choice.maps[0], clamped)
            into = clamped if takes_packed else None
            yield RowsWay(x, stages[:length], outside, choice, finder, options, into, takes_packed)


def _given(x: Tensor) -> tuple[int, int, int]:
    """Return of an input: the greatest u, what its u = 0 stands for, and the u that stands for zero."""
    assert x.interval is not None
    return x.interval.hi - x.interval.lo, x.interval.lo, x.format.zero_point - x.interval.lo


def _cut(graph: Graph, stages: Sequence[_Stage], finder: LoopFinder, options: PlanOptions) -> dict[str, int]:
    """Return where a long chain is cut, whose layouts are too many: how many convolutions follow, by the first of them.

    Each piece has lanes as wide as its own sums; what brings maps from one piece's lanes into the next one's is a few
    steps a word. Formulas tell where that is worth it. A network that is no chain, or a short one, stays whole.
    """
    count = len(stages)
    if count < _LONG or any(stage.reads != n or stage.adds is not None for n, stage in enumerate(stages)):
        return {}
    best, lengths = {count: 0.0}, dict[int, int]()
    for at in reversed(range(count)):
        own = tuple(_network(graph, stages[at].node))
        x, prices = graph.tensor(own[0].node.inputs[0]), dict[int, float]()
        for length in range(1, min(_PIECE, count - at) + 1):
            least = math.inf
            for choice in choices([stage.link for stage in own[:length]], *_given(x)):
                first = choice.maps[0]
                brought = _RELAID * first.channels * first.height * first.row_words if at else 0.0
                least = min(least, brought + finder.guess(own[:length], choice, options, least))
            prices[length] = least + best[at + length]
        lengths[at] = min(prices, key=prices.__getitem__)
        best[at] = prices[lengths[at]]
    cut, at = dict[str, int](), 0
    while at < count:
        cut[stages[at].node.name] = lengths[at]
        at += lengths[at]
    return cut


def _layouts(
    stages: Sequence[_Stage],
    finder: LoopFinder,
    options: PlanOptions,
    given: tuple[int, int, int],
    lengths: Sequence[int],
) -> list[tuple[int, Choice]]:
    """Return the layouts that some convolutions can have, the first of a chain, after how many these are.

    Those that the formulas find far too dear, where code costs least, are not among them.

    Args:
        stages: The chain.
        finder: Finds how each convolution's loops lie.
        options: What the planner is told.
        given: Of the input: the greatest u, what its u = 0 stands for, and the u that stands for zero.
        lengths: How many they may be, the most first: the code of all may be too much.
    """
    found: list[tuple[int, Choice]] = []
    for length in lengths:
        if found and length >= _SHORT:
            continue
        least, priced = math.inf, list[tuple[float, Choice]]()
        for choice in choices([stage.link for stage in stages[:length]], *given):
            about = finder.guess(stages[:length], choice, options, _HOPELESS * least)
            least = min(least, about)
            priced.append((about, choice))
        found += [(length, choice) for about, choice in priced if about <= _HOPELESS * least < math.inf]
    return found


KERNELS.register("rows")(Rows())


class LoopFinder:
    """Finds the loops of convolutions, one by one: what each costs does not depend on the others'.

    Each way is looked at once, and walked once, for all prices that lowerings are made with.

    Args:
        graph: The graph.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._about: dict[tuple[str, Maps, Maps], dict[Loops | None, tuple[float, int, int]]] = {}
        self._lines: dict[Hashable, tuple[Line, ...]] = {}

    def priced(
        self, stage: _Stage, source: Maps, target: Maps, options: PlanOptions
    ) -> list[tuple[float, Loops | None]]:
        """Return loops of a convolution after their prices, the cheapest first; None: all channels are written out.

        Of those that the formulas find best each is walked, if the target is known.

        Args:
            stage: The convolution.
            source: Where its input is.
            target: Where its result goes.
            options: What the planner is told.
        """
        about = self.about(stage, source, target, options)

        def price(loops: Loops | None) -> float:
            return self._price(stage, source, target, loops, options)

        ways = sorted(about, key=about.__getitem__)
        if not options.generators:
            fits = (way for way in ways if self._fits(stage, source, target, way, options))
            way = next(fits, ways[0])
            return [(about[way], way), *((about[other], other) for other in ways[:_FINALISTS] if other != way)]
        # how large sections are, only a target's sizes tell
        every = iter(ways)
        first = next((way for way in every if price(way) < math.inf), ways[0])
        rest = (
            way for way in takewhile(lambda way: about[way] <= _CLOSE * about[first], every) if price(way) < math.inf
        )
        near = chain([first], rest)
        return sorted(((price(way), way) for way in islice(near, _FINALISTS)), key=lambda found: found[0])

    def guess(self, stages: Sequence[_Stage], choice: Choice, options: PlanOptions, most: float = math.inf) -> float:
        """Return what the formulas say that convolutions cost in some layouts.

        Args:
            stages: The convolutions.
            choice: Their layouts.
            options: What the planner is told.
            most: Where it is above that, it is infinity.

        Returns:
            Infinity also where there is no way to do one of them.
        """
        total, maps = 0.0, choice.maps
        pairs = sorted(zip(stages, maps[1:], strict=True), key=lambda pair: -pair[0].convolution.macs)
        for stage, given in pairs:
            total += min(self.about(stage, maps[stage.reads], given, options).values(), default=math.inf)
            if total > most:
                return math.inf
        return total

    def about(self, stage: _Stage, source: Maps, target: Maps, options: PlanOptions) -> dict[Loops | None, float]:
        """Return what the formulas say of all ways to do a convolution whose code a contract has room for."""
        key = stage.node.name, source, target
        if key not in self._about:
            self._about[key] = _looked_at(self.graph, stage, source, target, options)
        data_price = options.rules.byte_price / options.calls
        return {
            way: gas + options.byte_price * code + data_price * data
            for way, (gas, code, data) in self._about[key].items()
        }

    def _fits(self, stage: _Stage, source: Maps, target: Maps, loops: Loops | None, options: PlanOptions) -> bool:
        """Return whether a contract has room for the code: formulas are not exact, and near the limit it is emitted."""
        if _parts(loops) > 1:
            return False
        code = self._about[stage.node.name, source, target][loops][1]
        return code < _SHARE * options.code_limit or self._price(stage, source, target, loops, options) < math.inf

    def _price(self, stage: _Stage, source: Maps, target: Maps, loops: Loops | None, options: PlanOptions) -> float:
        beside = stage.convolution.beside
        what = self._kind(stage, source, target, loops), source, target, loops
        key = *what, None if beside is None else beside.maps, bool(options.generators)
        if key not in self._lines:
            scratch = Lowering(self.graph, dataclasses.replace(options, choices={}), Known())
            given = dataclasses.replace(source, buffer=scratch.buffer("given", source.size))
            if beside is not None and (maps := beside.maps) is not None:
                stage = stage.added_to(dataclasses.replace(maps, buffer=scratch.buffer("beside", maps.size)))
            _emit(scratch, stage, given, target, lambda _: loops)
            sections = [draft.finish() for draft in scratch.sections]
            program = of_sections(sections, scratch, scratch.segments)
            fits = _parts(loops) == 1 or _leaves_room(program, options)
            self._lines[key] = lines(program, options) if fits else (NOWHERE,) * len(options.generators)
        return least(self._lines[key], options)

    def _kind(self, stage: _Stage, source: Maps, target: Maps, loops: Loops | None) -> Hashable:
        """Return what, of a convolution, the code depends on that does it in a way: it is the same for those alike.

        Literals are of one convolution alone.
        """
        if loops is None or isinstance(loops, (Blank, Literal)):
            return stage.node.name
        conv, ended = stage.convolution, stage.convolution.ended(source.top, source.zero)
        factors = conv.factors(source.top, source.zero)
        shape = (conv.weights.shape, conv.strides, conv.dilations, conv.pads, conv.groups, conv.height, conv.width)
        ends = (conv.pool, conv.zero, conv.largest, type(ended.scaling), ended.top, ended.shift > 0)
        clamps = ended.clamps_below, ended.clamps_above, ended.quotient_bits == ended.top.bit_length()
        scaled = None if factors is None else (factors.product_bits, factors.most > factors.top)
        beside = None if conv.beside is None else (conv.beside.multiplier > 0, conv.beside.top, conv.beside.zero)
        about = self._about[stage.node.name, source, target][loops]
        return shape, ends, clamps, scaled, beside, about


def _looked_at(
    graph: Graph, stage: _Stage, source: Maps, target: Maps, options: PlanOptions
) -> dict[Loops | None, tuple[float, int, int]]:
    """Return, of all ways to do a convolution whose code a contract has room for: gas, bytes of code, bytes of data."""
    conv = stage.convolution
    found: dict[Loops | None, tuple[float, int, int]] = {}
    share = _share(graph, stage, source, options)
    ways: list[Loops | None] = [
        dataclasses.replace(way, share=share) if isinstance(way, Abreast) else way
        for way in ways_in_loops(conv, source, target)
    ]
    literals = options.literals and options.weights != "data" and not conv.largest
    if literals:
        written: list[Loops | None] = [None, *_blank(graph, stage, source, target, options)]
        ways = [*(w for w in written if _rows_of(conv, source, target, w).possible), *ways]
    in_data = _IN_DATA.get(options.weights)
    for way in ways:
        rows = _rows_of(conv, source, target, way, in_data=in_data)
        if (isinstance(way, Literal) and not literals) or (in_data is False and not rows.possible):
            continue
        gas, code, data = rows.about()
        if code <= options.code_limit * _parts(way):
            found[way] = gas, code, data
    return found


def _share(graph: Graph, stage: _Stage, source: Maps, options: PlanOptions) -> float:
    """Return how often a convolution's pixels are not 0, as far as that is known and makes a difference."""
    name, x = Lowering(graph, options, Known()).name_of(stage.node), graph.tensor(stage.node.inputs[0])
    if options.rules.charges_limit:
        return 1.0
    if name in options.activity:
        return options.activity[name].element
    if x.name in options.observed:
        return round(float((options.observed[x.name] != source.offset).mean()), 3)
    return ASSUMED.element if source.zero == 0 else 1.0


def _blank(graph: Graph, stage: _Stage, source: Maps, target: Maps, options: PlanOptions) -> Iterator[Blank]:
    """Yield how often words of pixels are not zero, if that is known and some are, or if it is settled."""
    name, x = Lowering(graph, options, Known()).name_of(stage.node), graph.tensor(stage.node.inputs[0])
    share, conv, way = 1.0, stage.convolution, Blank(1, window=False, dense=False)
    if not BlankRows(conv, source, target, way).possible:
        return
    if not options.rules.charges_limit:  # else nothing that is skipped is cheaper
        if name in options.activity:
            share = options.activity[name].word
        elif x.name in options.observed:
            live = options.observed[x.name] != source.offset
            share = share_of(conv, source, live.reshape(len(live), -1, conv.height, conv.width))
    if share < _MANY or str(way) in options.choices.values():
        yield dataclasses.replace(way, share=share)


def _leaves_room(program: Program, options: PlanOptions) -> bool:
    """Return whether each section of several leaves room in a contract for another, as the target compiles them.

    Else every one would be a contract of its own, with all maps passed to it and back.
    """
    for generator in options.generators:
        costs = generator(program)
        if max(section_bytes(costs.program, costs.sizes).values()) > _SHARE * options.code_limit:
            return False
    return True


_MANY = 0.95
"""Share of the words of pixels that are not zero from which on skipping the others is not thought of."""
_SHARE = 0.6
"""Of a contract's code, what one of a convolution's sections may take, at most."""
_SHORT = 3
"""Convolutions of a chain from which on it is not cut: their layouts are too many to try."""
_LONG, _PIECE, _RELAID = 16, 4, 150
"""Convolutions of a chain from which on it is cut, and of a piece at most; gas of bringing a word into other lanes.

Chosen by MobileNetV1, whose rows take 100 to 500 gas each: pieces of six and 240 gas come out one percent dearer.
"""
_HOPELESS = 2.0
"""How many times as dear as the best layouts others may be, by the formulas."""
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
    number = {node.inputs[0]: 0}
    started, count = False, 0
    for other in graph:
        started = started or other is node
        if not started or other.op_type not in Rows.operators or other.inputs[0] not in number:
            continue
        stage = _stage(graph, other, number)
        if stage is None:
            if other is node:
                return
            continue
        yield stage
        count += 1
        result = stage.epilogue.output
        if _image(result.shape) == _shape(stage.convolution):  # else it is another image, of the same elements
            number[result.name] = count


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


def _shape(conv: Convolution) -> tuple[int, ...]:
    return conv.outputs, conv.out_height // conv.pool[0], conv.out_width // conv.pool[1]


def _image(shape: Sequence[int]) -> tuple[int, ...] | None:
    """Return channels, height and width of an image, a sequence being one of a single row; None of all else."""
    if len(shape) == len("NCW"):
        return shape[1], 1, shape[2]
    return tuple(shape[1:]) if len(shape) == len("NCHW") else None


def _stage(graph: Graph, node: Node, number: Mapping[str, int]) -> _Stage | None:
    """Return a convolution of images with what follows it; None if it is another.

    A mean is one with taps of 1, and so is a pool, of which not the sum but the greatest is taken.

    Args:
        graph: The graph.
        node: The convolution.
        number: Of the tensors that are in lanes already.
    """
    x = graph.tensor(node.inputs[0])
    image = _image(x.shape) if x.shape and x.shape[0] == 1 else None
    found = None if image is None else _taps(graph, node)
    if image is None or found is None:
        return None
    channels, height, width = image
    weights, bias, (rows, columns) = found
    if rows.spread > 1 or columns.spread > 1:
        return None
    largest = node.op_type == "MaxPool"
    if largest and any((rows.begin, rows.end, columns.begin, columns.end)):
        assert x.interval is not None
        if x.interval.lo != x.format.zero_point:  # what padding holds must not be greater than a pixel
            return None
    pools: list[tuple[int, int]] = []

    def takes(use: Node) -> bool:
        pooled = graph.tensor(use.inputs[0])
        if largest or pools or use.op_type != "MaxPool":
            return False
        if _image(pooled.shape) != _image(graph.tensor(node.output).shape):
            return False
        tile = _tile(use, pooled)
        if tile is not None:
            pools.append(tile)
        return tile is not None

    epilogue = find_epilogue(graph, node, takes, sums=not largest)
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
    convolution = Convolution(
        weights,
        bias,
        (rows.stride, columns.stride),
        (rows.dilation, columns.dilation),
        (rows.begin, columns.begin),
        channels // weights.shape[1],
        height,
        width,
        rows.out,
        columns.out,
        epilogue,
        pools[0] if pools else (1, 1),
        zero_point - interval.lo,
        _beside(epilogue),
        largest,
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


def _taps(graph: Graph, node: Node) -> tuple[Array, Array, tuple[Window, Window]] | None:
    """Return weights, bias and both windows of a convolution, a pool, or a mean of equally many everywhere."""
    x = graph.tensor(node.inputs[0])
    operator = op_of(node)
    if isinstance(operator, (AveragePool, MaxPool)):
        windows = operator.windows(node, x.shape)
        if isinstance(operator, AveragePool) and not np.all(operator.multipliers(node, windows) == 1):
            return None
        rows, columns = (_ONE_ROW, *windows)[-2:]
        ones = np.ones((x.shape[1], 1, rows.kernel, columns.kernel), dtype=np.int64)
        return ones, np.zeros(x.shape[1], dtype=object), (rows, columns)
    assert isinstance(operator, Conv)
    w = graph.tensor(node.inputs[1])
    c = graph.tensor(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    if w.data is None or shifts_of(node) is not None:
        return None
    bias = np.zeros(w.shape[0], dtype=object) if c is None or c.data is None else as_python_ints(c.data)
    rows, columns = (_ONE_ROW, *operator.windows(node, x.shape, w.shape))[-2:]
    return w.data.reshape(*w.shape[:2], rows.kernel, columns.kernel), bias, (rows, columns)


def _tile(node: Node, x: Tensor) -> tuple[int, int] | None:
    """Return the height and width of a pool's windows if they lie side by side, without padding."""
    operator = op_of(node)
    assert isinstance(operator, MaxPool)
    windows = operator.windows(node, x.shape)
    side_by_side = all(window.kernel == window.stride and window.dilation == 1 for window in windows)
    if not side_by_side or any(window.begin or window.out * window.kernel > window.size for window in windows):
        return None
    rows, columns = (_ONE_ROW, *windows)[-2:]
    return rows.kernel, columns.kernel
