"""Steps on feature maps, wherever their lanes are: a product with a value for each channel, Relu, Clip, Requantize.

Whole words are computed, and stored as they lay. Nothing is taken out of its word.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ml2sc.ir.graph import Node, Tensor
from ml2sc.ir.program import (
    Assign,
    Block,
    Expr,
    Induction,
    Lanes,
    Let,
    Load,
    Note,
    Statement,
    Store,
    Var,
    add,
    and_,
    const,
    loop,
    mul,
    or_,
    shr,
    sub,
)
from ml2sc.ir.types import Array, Interval

from .channels import Channels
from .context import Lowering
from .epilogue import ChannelScaling, Epilogue, find_epilogue
from .lane_steps import Ending, Factors, spread
from .values import Laned, Value

_WORD = 256
_FEWEST = 3
"""Elements of a word from which on its steps cost less than those of each element."""
_WRITTEN = 3
"""Words of a channel that are written out; over more there is a loop."""


def lower_by_channel(context: Lowering, node: Node) -> bool:
    """Emit a product of maps in lanes and a value for each channel, with the steps that follow it.

    Returns:
        False if it is another product, or the lanes have no room for it: nothing is emitted then.
    """
    first, second = (context.graph.tensor(name) for name in node.inputs)
    shape = context.graph.tensor(node.output).shape
    pairs = ((maps, factor) for maps, factor in ((first, second), (second, first)) if _by_channel(maps, factor, shape))
    return any(_lowered(context, node, maps, factor) for maps, factor in pairs)


def lower_step(context: Lowering, node: Node) -> bool:
    """Emit a Relu, Clip or Requantize of what is in lanes, with those that follow it.

    Returns:
        False if it is not in lanes, or these have no room: nothing is emitted then.
    """
    return _lowered(context, node, context.graph.tensor(node.inputs[0]), None)


def _by_channel(maps: Tensor, factor: Tensor, shape: tuple[int, ...]) -> bool:
    """Return whether equally many elements of maps, one after the other, are multiplied by each of a factor's."""
    if maps.data is not None or factor.data is not None or maps.shape != shape or not 1 < factor.size < maps.size:
        return False
    numbers: Array = np.broadcast_to(np.arange(factor.size).reshape(factor.shape), shape).ravel()
    each, rest = divmod(maps.size, factor.size)
    return not rest and bool(np.all(numbers == np.arange(maps.size) // each))


def _lowered(context: Lowering, node: Node, maps: Tensor, factor: Tensor | None) -> bool:
    """Emit a node if its maps lie in lanes that have room for what is done, and return whether they do."""
    if maps.name not in context.values:
        return False
    where = Channels.of(context.values[maps.name], 1 if factor is None else factor.size)
    if where is None or where.source.buffer not in context.holds:
        return False
    epilogue = find_epilogue(context.graph, node, sums=False) if factor is not None else context.epilogue(node)
    if not epilogue.nodes or isinstance(epilogue.scaling, ChannelScaling):
        return False
    step = _OnMaps(context, node, maps, factor, where, epilogue)
    if not step.runs or where.count < _FEWEST * step.words:
        return False
    context.values[epilogue.output.name] = step.emit()
    context.done.update(n.name for n in epilogue.nodes)
    return True


@dataclass(frozen=True)
class _OnMaps:
    """A product, if there is one, and what follows it.

    Attributes:
        context: The lowering.
        node: The node.
        maps: What is in lanes.
        factor: What it is multiplied by, a value for each channel; None: nothing.
        where: Where the maps' elements are.
        epilogue: What happens to the products, or to the maps.
    """

    context: Lowering
    node: Node
    maps: Tensor
    factor: Tensor | None
    where: Channels
    epilogue: Epilogue

    @property
    def words(self) -> int:
        """Words of a channel, those between its elements' included."""
        return int(self.where.ahead.max()) + 1

    @property
    def result(self) -> Interval:
        """What the results are in."""
        return (self.epilogue.scaling or self.epilogue).interval

    @property
    def result_bits(self) -> int:
        """Bits of a result, as a number above the least."""
        return max((self.result.hi - self.result.lo).bit_length(), 1)

    @cached_property
    def factors(self) -> Factors | None:
        """What clamped products are multiplied by."""
        scaling = self.epilogue.scaling
        if scaling is None or isinstance(scaling, ChannelScaling):
            return None
        most = (scaling.top * scaling.multiplier + scaling.rest) >> scaling.shift
        width = self.result.hi - self.result.lo
        return Factors(const(scaling.multiplier), const(scaling.rest), scaling.shift, scaling.bits, most, width)

    @cached_property
    def runs(self) -> list[list[int]]:
        """The lanes, dealt out to as few words as give each product room; none if there is no room for a result."""
        stride, bits = self.where.source.stride, self.epilogue.proved_bits
        lanes = sorted(set(self.where.lanes.tolist()))
        if self.result_bits > stride or max(bits, 0 if self.factors is None else self.factors.product_bits) > _WORD:
            return []
        if bits <= stride and stride * lanes[-1] + bits <= _WORD:
            return [lanes]
        for ways in range(2, len(lanes) + 1):
            runs = [lanes[way::ways] for way in range(ways)]
            if bits <= ways * stride and all(stride * (run[-1] - run[0]) + bits <= _WORD for run in runs):
                return runs
        return [[lane] for lane in lanes]

    def emit(self) -> Value:
        """Add the section, and return where the results are."""
        context, where = self.context, self.where
        operator = " + ".join(n.op_type for n in self.epilogue.nodes)
        channels = 1 if self.factor is None else self.factor.size
        stride, used = where.source.stride, int(where.lanes.max()) + 1
        draft = context.section(self.node, f"{operator}, {channels} x {where.count} values in lanes")
        draft.read(context.values[self.maps.name])
        holds = Lanes(used, stride, 0, self.result.hi - self.result.lo)
        target = context.buffer(f"{draft.name}_out", channels * self.words, holds)
        draft.body.append(Note(self._said()))
        if self.factor is None:
            draft.body += self._channel(target, const(where.first), const(0))
        else:
            factors = context.in_order(context.scalars(context.values[self.factor.name], draft), draft)
            factor = Let("factor", sub(Load(factors.buffer, Var("c")), const(self.factor.format.zero_point)))
            also = [Induction("i", const(where.first), where.step), Induction("o", const(0), self.words)]
            each = [factor, *self._channel(target, Var("i"), Var("o"))]
            draft.body.append(loop("c", channels, each, also=also))
        draft.facts = {
            "operator": operator,
            "bits": self.epilogue.proved_bits,
            "lanes": len(set(where.lanes.tolist())),
            "stride": stride,
        }
        laned = Laned(target, used, stride, self.result_bits, self.result.lo, channels * self.words * used)
        first = np.arange(channels)[:, None] * self.words
        return Value.of(laned).take(((first + where.ahead) * used + where.lanes).ravel())

    def _said(self) -> str:
        """Return what is done and proved, in words."""
        acc, e, source = self.epilogue.accumulator, self.epilogue, self.where.source
        what = "" if self.factor is None else "A word of lanes times the channel's value, less its zero point. "
        dealt = f", dealt out to {len(self.runs)} words" if len(self.runs) > 1 else ""
        return (
            f"{what}Proved for all inputs: {acc.lo} <= value <= {acc.hi}, in {e.proved_bits} bits with what is added; "
            f"lanes of {source.stride} bits{dealt}."
        )

    def _channel(self, target: str, at: Expr, to: Expr) -> list[Statement]:
        """Return the statements that make a channel's words, the first at a word of the source and of the target."""
        if self.words <= _WRITTEN:
            words = (self._word(target, add(at, const(k)), add(to, const(k))) for k in range(self.words))
            return [Block(tuple(word)) for word in words]
        also = [Induction("p", at, 1), Induction("r", to, 1)]
        return [loop("k", self.words, self._word(target, Var("p"), Var("r")), also=also)]

    def _word(self, target: str, at: Expr, to: Expr) -> list[Statement]:
        """Return the statements that make one word of results."""
        body: list[Statement] = [Let("word", Load(self.where.source.buffer, at))]
        if len(self.runs) == 1:
            statements, result = self._ended(self.runs[0])
            return [*body, *statements, Store(target, to, result)]
        body.append(Let("made", const(0)))
        for run in self.runs:
            statements, result = self._ended(run)
            body.append(Block((*statements, Assign("made", or_(Var("made"), result)))))
        return [*body, Store(target, to, Var("made"))]

    def _ended(self, run: list[int]) -> tuple[list[Statement], Expr]:
        """Return statements, and the results of some lanes of `word`, where these stand."""
        e, source = self.epilogue, self.where.source
        down, every = 0, list(range(run[-1] + 1))  # lanes beside them must not borrow from them, either
        pixels: Expr = Var("word")
        if len(self.runs) > 1:
            down, every = run[0], [lane - run[0] for lane in run]
            pixels = and_(
                shr(source.stride * down, pixels), const(spread((1 << source.bits) - 1, source.stride, every))
            )
        centred = add(pixels, const(spread(source.offset - self.maps.format.zero_point, source.stride, every)))
        ending = Ending(e, source.stride, run, down=-down, factors=self.factors)
        start = const(spread(e.constant + ending.half, source.stride, every))
        product = centred if self.factor is None else mul(centred, Var("factor"))
        statements, result = ending.word("lanes")
        return [Let("lanes", add(product, start)), *statements], result
