"""What happens to a layer's sums: the Relu, Clip and Requantize behind it, done on all lanes of a word at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.analysis import exact_bounds
from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.ops.base import Bounds, op_of
from ml2sc.ir.ops.elementwise import multipliers_of
from ml2sc.ir.types import Array, Interval, as_python_ints

_WORD = 256
STEPS = frozenset({"Relu", "Clip", "Requantize"})
"""What ends sums."""


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
class Addend:
    """What is added to sums: multiplier · (q − z) of a tensor of their shape, an element to each.

    Attributes:
        tensor: The tensor.
        multiplier: Brings it to the scale of the sums; negative where it is taken away.
    """

    tensor: Tensor
    multiplier: int

    def correction(self, offset: int) -> int:
        """Return what is to be added where u = q − offset is multiplied instead of q − z."""
        return self.multiplier * (offset - self.tensor.format.zero_point)


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
        addends: What is added to them first, `accumulator` being a bound with that.
    """

    output: Tensor
    nodes: tuple[Node, ...]
    shift: int
    zero_point: int
    interval: Interval
    accumulator: Interval
    scaling: Scaling | ChannelScaling | None = None
    offsets: tuple[int, ...] = (0,)
    addends: tuple[Addend, ...] = ()

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


def find_epilogue(
    graph: Graph, node: Node, takes: Callable[[Node], bool] = lambda node: False, *, sums: bool = True
) -> Epilogue:
    """Follow a layer's output through the Relu, Clip, order-preserving movement and Requantize that only it feeds.

    Other activations may be added to it before; what they are must be computed before the layer is.

    Args:
        graph: The graph.
        node: The layer, a sum of activations, or a Relu, Clip or Requantize on its own.
        takes: Whether the layer's kernel does an operator, too, that commutes with all functions that do not fall: it
            chooses between elements.
        sums: Whether activations may be added.
    """
    nodes, addends = _summed(graph, node) if sums else ([node], ())
    tensor = graph.tensor(nodes[-1].output if nodes else node.inputs[0])
    summed, is_layer = tensor, bool(nodes)
    accumulator = tensor.interval  # of a layer alone that is what it can sum up
    if addends or accumulator is None or "activation" in node.attrs:
        raw = _raw_bounds(graph, summed, is_layer=is_layer)
        accumulator = Interval(int(raw.lo.min()), int(raw.hi.max()))
    shift, zero_point, use = 0, tensor.format.zero_point, node if not nodes else graph.only_use(tensor.name)
    requantized, multipliers = False, np.ones(1, dtype=object)
    while use is not None:
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
        elif not (use.op_type in {"Relu", "Clip"} or takes(use) or (op_of(use).moves and _keeps_order(graph, use))):
            break
        nodes.append(use)
        tensor = graph.tensor(use.output)
        use = graph.only_use(tensor.name)
    assert tensor.interval is not None
    if multipliers.size > 1:
        raw = _raw_bounds(graph, summed, is_layer=is_layer)
        found = _scaled_by_channel(tensor, tuple(nodes), multipliers, shift, zero_point, raw)
    elif multipliers[0] > 1:
        found = _scaled(tensor, tuple(nodes), int(multipliers[0]), shift, zero_point, accumulator)
    else:
        found = Epilogue(tensor, tuple(nodes), shift, zero_point, tensor.interval, accumulator)
    return dataclasses.replace(found, addends=addends)


def _raw_bounds(graph: Graph, tensor: Tensor, *, is_layer: bool) -> Bounds:
    """Return the bounds of a tensor's elements, less its zero point: of what a layer sums up, or of an activation."""
    if is_layer:
        maker = graph.producer(tensor.name)
        assert maker is not None
        return exact_bounds(graph, maker.name, raw=True)[0]
    assert tensor.interval is not None
    lo, hi = (v - tensor.format.zero_point for v in (tensor.interval.lo, tensor.interval.hi))
    return Bounds(*(np.full(tensor.shape, v, dtype=object) for v in (lo, hi)))


def _summed(graph: Graph, node: Node) -> tuple[list[Node], tuple[Addend, ...]]:
    """Return a layer with the sums that it takes in, and what these add to its own.

    Of a sum that is all its operands; of a step, which is no sum yet, its input.
    """
    if node.op_type == "Add":
        both = zip(node.inputs, multipliers_of(node), strict=True)
        return [node], tuple(Addend(graph.tensor(name), factor) for name, factor in both)
    if node.op_type in STEPS:
        return [], (Addend(graph.tensor(node.inputs[0]), 1),)
    nodes, addends = [node], list[Addend]()
    while (use := graph.only_use(nodes[-1].output)) is not None and use.op_type == "Add":
        slot = use.inputs.index(nodes[-1].output)
        other, factors = graph.tensor(use.inputs[1 - slot]), multipliers_of(use)
        alike = other.data is None and other.shape == graph.tensor(use.output).shape
        alike = alike and other.size == graph.tensor(nodes[-1].output).size
        if "activation" in node.attrs or factors[slot] != 1 or not alike or not _is_before(graph, other.name, node):
            break
        nodes.append(use)
        addends.append(Addend(other, factors[1 - slot]))
    return nodes, tuple(addends)


def _is_before(graph: Graph, tensor: str, node: Node) -> bool:
    """Return whether a tensor is there when a node is computed."""
    maker = graph.producer(tensor)
    return maker is None or next(n for n in graph if n.name in {maker.name, node.name}) is maker


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
    outputs, channels = multipliers.size, next(a for a in range(multipliers.ndim) if multipliers.shape[a] > 1)
    axis, multipliers = channels - multipliers.ndim, multipliers.ravel()
    lows, highs = (np.moveaxis(bound, axis, -1).reshape(-1, outputs) for bound in (raw.lo, raw.hi))
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
