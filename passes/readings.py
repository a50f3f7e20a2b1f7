"""How the tensors of a float graph are read, and what formats follow from that: what quantize asks before it builds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.ops.base import Bounds, op_of
from ml2sc.ir.types import DType, FixedPoint, round_half_up

from .error_bounds import span_of
from .formats import Formats, readers
from .precision import WIDEST, Binary, Precision
from .prescribed import is_complete, is_integer, is_prequantized, on_grid
from .residual import SUMS, skips
from .sink_movements import MOST_LEFT_OUT

_TABLE_BITS = 10
"""Widest activations that index tables."""
_WHOLE_BITS = 32
"""Widest format of an input of integers, which are given exactly."""
_BESIDE_PRESCRIBED = 20
"""Width of activations that a model whose formats are all given leaves in float."""


class Readings:
    """Who reads the tensors of a float graph, and in which formats.

    Args:
        graph: A float graph whose inputs have declared ranges.
        precision: The number format.
        bounds: Bounds of the graph's tensors.

    Attributes:
        graph: The graph.
        widths: Bits by layer and activation; None: all tensors have the one binary format.
        skips: What is added to layers' sums (residual connections), by each of the two tensors.
    """

    def __init__(self, graph: Graph, precision: Precision, bounds: Mapping[str, Bounds]) -> None:
        self.graph, self.precision, self.bounds = graph, precision, bounds
        self.widths = None if isinstance(precision, Binary) else Formats(graph, precision)
        self.skips = {} if is_prequantized(graph) else skips(graph)
        self._prescribes_all = is_prequantized(graph) and is_complete(graph)
        self._joining: dict[str, bool] = {}
        self._precisely_read: dict[str, bool] = {}

    def tabulated(self, node: Node) -> bool:
        """Whether an operator is looked up in a table."""
        bits = WIDEST if self.widths is None else self.bits(node.inputs[0])
        return op_of(node).tabulated and bits <= _TABLE_BITS and not self.precise(node.output)

    def bits(self, name: str) -> int:
        """Return the bits of a float tensor in activation form."""
        assert self.widths is not None
        bits = self.widths.activation(name)
        # where the model says all formats, it has none for what it does not round: ours must not show
        return max(bits, _BESIDE_PRESCRIBED) if self._prescribes_all and not on_grid(self.graph, name) else bits

    def precise(self, name: str) -> bool:
        """Whether a float tensor reaches an output or a decision without being requantised on the way."""
        if name not in self._precisely_read:
            uses = [use.node for use in self.graph.uses(name) if not op_of(use.node).reads_activations]
            self._precisely_read[name] = (
                name in self.graph.outputs
                or name == self.graph.decision
                or any(self.precise(output) for use in uses for output in use.outputs if output)
            )
        return self._precisely_read[name]

    def joins(self, node: Node) -> bool:
        """Whether activations are joined, and nothing but layers and tables read the result: they share a format."""
        if node.name not in self._joining:
            self._joining[node.name] = (
                self.widths is not None
                and op_of(node).moves
                and len(set(node.inputs)) > 1
                and not any(
                    not name or self.graph.tensor(name).is_constant or self._is_integer(name) for name in node.inputs
                )
                and self._read_rounded(node)
            )
        return self._joining[node.name]

    def rounds_before(self, node: Node) -> bool:
        """Whether activations are put into another order, and rounded before, in the lanes of the layer."""
        x, y = (self.graph.tensor(name) for name in (node.inputs[0], node.outputs[0]))
        return (
            self.widths is not None
            and op_of(node).reorders
            and not any(name and not self._is_integer(name) for name in node.inputs[1:])
            and x.size <= MOST_LEFT_OUT * y.size
            and self._read_rounded(node)
        )

    def read_as(self, node: Node) -> str:
        """Return what becomes of a movement's result before it is read: its range is that of the elements in use."""
        while (use := self.graph.only_use(node.output)) is not None and op_of(use).moves and len(use.outputs) == 1:
            node = use
        return node.output

    def _read_rounded(self, node: Node) -> bool:
        """Whether nothing but layers and tables reads what a node moves."""
        return (
            not is_prequantized(self.graph)
            and not any(self.precise(output) for output in node.outputs if output)
            and all(
                op_of(use).reads_activations or self.tabulated(use)
                for output in node.outputs
                for use in readers(self.graph, output)
            )
        )

    def joint(self, name: str) -> str:
        """Return the float tensor whose format a tensor's activations have: what they are joined to, or its own."""
        joins = next((use.node for use in self.graph.uses(name) if self.joins(use.node)), None)
        return name if joins is None else self.joint(joins.outputs[0])

    def stepped(self, scale: Fraction, x: FixedPoint, target: str, bits: int) -> Fraction:
        """Return the scale of weights with which activations, or accumulators, are a power of two of each other."""
        # The activations' scale must be the accumulators' times 2^S. Either they are rounded up to that (losing up to
        # a bit of the activations), or the weights' scale is (losing up to a bit of the weights): the lesser loss.
        step = span_step(self.range(target), bits)
        ratio = step / (x.scale * scale)
        shift = ceil_log2(ratio) - 1
        finer = ratio / Fraction(2) ** shift
        # activations that are joined to others have these' scale
        maker = self.graph.producer(self.joint(target))
        settled = maker is not None and self.joins(maker)
        return scale * finer if shift >= 0 and (settled or finer * finer <= 2) else scale

    def of_input(self, name: str, lo: float, hi: float) -> FixedPoint:
        """Return the format of an input of a range; integers are given as they are."""
        if self.widths is None:
            return self.binary()
        bits = self.widths.activation(name)
        if is_integer(self.graph, name):
            needed = (math.ceil(max(hi, 0.0)) - math.floor(min(lo, 0.0))).bit_length()
            if needed <= _WHOLE_BITS:
                ends = float(math.floor(min(lo, 0.0))), float(math.ceil(max(hi, 0.0)))
                return spanning(ends, Fraction(1), max(bits, needed))
        return spanning((lo, hi), span_step((lo, hi), bits), bits)

    def binary(self) -> FixedPoint:
        """Return the one format of all tensors."""
        assert isinstance(self.precision, Binary)
        return FixedPoint(self.precision.bits, True, Fraction(1, 1 << self.precision.fraction_bits))

    def of_activation(self, raw: FixedPoint, name: str) -> FixedPoint:
        """Return the format that a float tensor is requantised to from another: steps of that times a power of two."""
        if self.widths is None:
            return self.binary()
        extent, bits = self.range(name), self.bits(name)
        ratio = span_step(extent, bits) / raw.scale
        step = raw.scale * (1 << max(ceil_log2(ratio), 0))
        return spanning(extent, step, bits)

    def range(self, name: str) -> tuple[float, float]:
        """Return the real range of a float tensor, or of what it is joined to: as observed, else as proved."""
        name = self.joint(name)
        lo, hi = span_of(self.bounds[name])
        if name in self.graph.observed:
            lo, hi = max(lo, self.graph.observed[name][0]), min(hi, self.graph.observed[name][1])
        return steady(lo), steady(hi)

    def requantized(self, name: str) -> str | None:
        """Return the float tensor that a layer's output is requantised as, or None if it never is.

        That tensor comes after the Relu, Clip, constant Add or movement that follows the layer.
        """
        while (use := self.graph.only_use(name)) is not None:
            if op_of(use).reads_activations or self.tabulated(use):
                return name
            passes = op_of(use).keeps_format or use.op_type == "Clip" or op_of(use).moves
            adds = use.op_type in SUMS and any(self.graph.tensor(i).is_constant for i in use.inputs)
            takes = name in self.skips
            if use.op_type in SUMS and not (adds or takes) and not self.precise(use.output):
                return name  # `addends` takes it in activation form
            if not (passes or adds or takes) or len(use.outputs) != 1:
                return None
            name = use.output
        uses = self.graph.uses(name)
        return name if any(op_of(u.node).reads_activations or self.tabulated(u.node) for u in uses) else None

    def _is_integer(self, name: str) -> bool:
        return self.graph.tensor(name).type is DType.INT64


def steady(value: float) -> float:
    """Return a value rounded to 24 bits.

    The last bits of a sum depend on the order in which a processor's BLAS adds; the compiled contract must not.
    """
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * (1 << 24)), exponent - 24)


def span_step(extent: tuple[float, float], bits: int) -> Fraction:
    """Return the step that spreads a range with 0 in it over all integers of a format."""
    lo, hi = min(extent[0], 0.0), max(extent[1], 0.0)
    span = Fraction(hi) - Fraction(lo)
    return (span or Fraction(1)) / ((1 << bits) - 1)


def spanning(extent: tuple[float, float], step: Fraction, bits: int) -> FixedPoint:
    """Return the unsigned format of a range, and 0, in such steps."""
    zero = round_half_up(-Fraction(min(extent[0], 0.0)) / step)
    return FixedPoint(bits, False, step, min(max(zero, 0), (1 << bits) - 1))


def ceil_log2(ratio: Fraction) -> int:
    """Return the least integer k with 2^k >= ratio."""
    k = ratio.numerator.bit_length() - ratio.denominator.bit_length() - 1
    while Fraction(2) ** k < ratio:
        k += 1
    return k
