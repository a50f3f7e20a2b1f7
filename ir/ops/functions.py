"""Functions of one variable that are not made of straight lines.

`activations.py` has those we know. To add one like Tanh or Gelu derive it from `SmoothFunction`: the function, its
lines and, if it does not grow everywhere, where it turns. That gives tables for narrow formats, polynomials for wide
ones, bounds and errors. One whose domain has an end, or that has an integer form of its own, is a `RealFunction`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from ml2sc.errors import RangeError

from ..graph import AttrValue, Node, Tensor
from ..program import word_multiplier
from ..series import ONE, Series
from ..smooth import Curve, Line, Polynomials, approximate, slope
from ..types import Array, FixedPoint, round_half_up
from .base import OPS, Arrays, Bounds, ErrorContext, Inputs, attr_float, attr_int
from .operands import UnaryOp, bounds_at, tensor_at, value_at
from .quantizer import Quantizer

_FLAT = 40
"""Where float64 is done with every curve: 40 · e^-40 < 2^-52."""
FLOAT_SLACK = 2.0**-46
UP = 1 + 2.0**-40
"""More than the roundings of a few float64 operations."""
LEAST_BITS = 12
"""Fewest fraction bits of a polynomial."""
SPARE_BITS = 6
"""Fraction bits of a result beyond those that the precision asks for."""
WORD_BITS = 254
_NEAR = 1e-4
"""How far a function's turn may be from where it says."""


class RealFunction(UnaryOp):
    """A function of one variable that is not made of straight lines.

    In a quantised graph it is a table (attribute `table`: the result's q for every q of the input's format, which is
    narrow), or what `quantize_wide` made of it. Where a function's domain has an end both clamp the input to the range
    that was proved of it (`from_real`, `to_real`): nothing beyond is ever computed, however coarse the input's steps.

    Attributes:
        parameters: The attributes that make a difference, with their defaults.
        needs: What the domain is, for people.
    """

    tabulated = True
    batches = True
    parameters: ClassVar[Mapping[str, AttrValue]] = {}
    needs: ClassVar[str] = ""

    def real(self, node: Node, x: Any) -> Any:
        """Return the function of a `Series`, or of float64, within its domain."""
        raise NotImplementedError

    def spread(self, node: Node, lo: float, hi: float, distance: Array) -> Array:
        """Return a bound on |f(a) − f(b)| for a and b from lo to hi that are so far apart."""
        raise NotImplementedError

    def quantize_wide(self, node: Node, q: Quantizer) -> None:
        """Add the integer form for wide formats to the quantised graph."""
        raise NotImplementedError

    def exact_wide(self, node: Node) -> Callable[[int], int]:
        """Return the integer form as a function of x − z."""
        raise NotImplementedError

    def error_wide(self, node: Node, x: FixedPoint) -> float:
        """Return how far the integer form can be off for an x that stands for its real value exactly."""
        raise NotImplementedError

    def domain(self, lo: float, hi: float) -> bool:
        """Return whether the function is defined, and of a size that can be computed, from lo to hi."""
        return True

    def turn(self, node: Node) -> tuple[float, float] | None:
        """Return where a function that falls and then grows turns, and a value not above the one there."""
        return None

    def value(self, node: Node, x: Fraction) -> Fraction:
        """Return the function to within 2^-200."""
        return Fraction(self.real(node, Series.variable(x, Fraction(0), 1)).mid[0], ONE)

    def settings(self, node: Node) -> dict[str, AttrValue]:
        """Return the parameters of a node."""
        return {key: node.attrs.get(key, default) for key, default in self.parameters.items()}

    # -- the float side ------------------------------------------------------------------------------------------------

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        with np.errstate(all="ignore"):  # an infinite or NaN constant is reported where it is used
            return [np.asarray(self.real(node, value_at(inputs, 0).astype(np.float64)))]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x = bounds_at(inputs, 0)
        lo, hi = float(x.lo.min(initial=math.inf)), float(x.hi.max(initial=-math.inf))
        if x.lo.size and not self.domain(lo, hi):
            raise RangeError(
                f"{node.op_type} needs {self.needs}, and its input can be anything from {lo:.6g} to {hi:.6g}",
                node=str(node),
                tensor=f"%{node.inputs[0]}",
                hint="narrow the input range with --input-range, or keep the value away from there in the model "
                "(Clip, Max, or a constant added)",
            )
        ends = [self.evaluate(node, [v])[0] for v in x]
        least, greatest = np.minimum(*ends), np.maximum(*ends)
        if (turn := self.turn(node)) is not None:
            least = np.where((x.lo < turn[0] + _NEAR) & (x.hi > turn[0] - _NEAR), turn[1], least)
        return [self.widen(node, Bounds(least, greatest))]

    def widen(self, node: Node, y: Bounds) -> Bounds:
        """Return bounds moved out by more than float64 can have lost."""
        slack = (1.0 + np.maximum(np.abs(y.lo), np.abs(y.hi))) * FLOAT_SLACK
        return Bounds(y.lo - slack, y.hi + slack)

    # -- integers ------------------------------------------------------------------------------------------------------

    def quantize(self, node: Node, q: Quantizer) -> None:
        formats = q.table_formats(node)
        if formats is None:
            self.quantize_wide(node, q)
            return
        x, to = formats
        lo, hi = q.extent(node.inputs[0])
        settings = self.settings(node)
        table = _entries(self.op_type, tuple(settings.items()), x.format, to, lo, hi)
        attrs = {**settings, "from_real": float(lo), "to_real": float(hi), "table": table}
        q.emit(node, self.op_type, [x.name], to.scale, output=node.output, attrs=attrs, fixed=to)

    def emit_wide(self, node: Node, q: Quantizer, x: Tensor, bits: int, attrs: Mapping[str, AttrValue]) -> None:
        """Add the integer form to the quantised graph.

        Args:
            node: The float node.
            q: The quantizer.
            x: The operand.
            bits: Fraction bits of the result.
            attrs: What `exact_wide` needs.
        """
        lo, hi = q.extent(node.inputs[0])
        proved = {"from_real": float(lo), "to_real": float(hi)}
        all_attrs = {**self.settings(node), **proved, **attrs}
        q.emit(node, self.op_type, [x.name], Fraction(2) ** -bits, output=node.output, attrs=all_attrs)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        x, q = tensor_at(inputs, 0).format, value_at(values, 0)
        if (table := table_of(node)) is not None:
            result = [table[int(v) - x.qmin] for v in q.ravel()]
        else:
            function = self.exact_wide(node)
            result = [function(int(v) - x.zero_point) for v in q.ravel()]
        return [np.array(result, dtype=object).reshape(q.shape)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        x, from_, to = bounds_at(bounds, 0), tensor_at(inputs, 0).format, outputs[0].format
        if (table := table_of(node)) is not None:
            pairs = [
                (int(a) - from_.qmin, int(b) - from_.qmin) for a, b in zip(x.lo.ravel(), x.hi.ravel(), strict=True)
            ]
            found = {pair: table[pair[0] : pair[1] + 1] for pair in set(pairs)}
            lows, highs = ([end(found[pair]) for pair in pairs] for end in (min, max))
            return [Bounds(*(np.array(v, dtype=object).reshape(x.lo.shape) for v in (lows, highs)))]
        ends = [self.evaluate_exact(node, inputs, [v], outputs)[0] for v in x]
        least, greatest = np.minimum(*ends), np.maximum(*ends)
        if (turn := self.turn(node)) is not None:
            real = [from_.dequantize(v) for v in x]
            lowest = math.floor(Fraction(turn[1]) / to.scale)
            inside = (real[0] < turn[0] + _NEAR) & (real[1] > turn[0] - _NEAR)
            least = np.where(inside, np.minimum(least, lowest), least)
        # between the ends it follows the function to within its error, up to which they do, too
        room = math.ceil(2 * Fraction(self.error_wide(node, from_)) / to.scale) + 1
        return [Bounds(least - room, greatest + room)]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """What the input's error becomes, and what the integer form adds."""
        x, y = tensor_at(inputs, 0).format, context.outputs[0].format
        lo, hi = attr_float(node, "from_real", 0.0), attr_float(node, "to_real", 0.0)
        error = value_at(context.errors, 0)
        if table_of(node) is None:
            moved = attr_float(node, "moved", 0.0)
            spread = self.spread(node, lo, hi, np.maximum(error, moved))
            return [(spread + self.error_wide(node, x)) * UP]
        real = self.interval(node, context.real)[0]
        top, bottom = (float((end - y.zero_point) * y.scale) for end in (y.qmax, y.qmin))
        cut = np.maximum(np.maximum(real.hi - top, bottom - real.lo), 0.0)
        return [(self.spread(node, lo, hi, error) + float(y.scale) / 2 + cut) * UP]


def table_of(node: Node) -> tuple[int, ...] | None:
    """Return the table of a quantised `RealFunction`, or None if it has none."""
    table = node.attrs.get("table")
    assert table is None or isinstance(table, tuple)
    return table if table is None else tuple(int(v) for v in table)


@lru_cache(maxsize=256)
def _entries(
    op_type: str, settings: tuple[tuple[str, AttrValue], ...], x: FixedPoint, y: FixedPoint, lo: Fraction, hi: Fraction
) -> tuple[int, ...]:
    """Return f, correctly rounded and saturated to format y, for every q of format x."""
    op = OPS.get(op_type)
    assert isinstance(op, RealFunction)
    node = Node("table", op_type, ("x",), ("y",), dict(settings))
    reals = [(q - x.zero_point) * x.scale for q in range(x.qmin, x.qmax + 1)]
    return tuple(y.quantize_one(op.value(node, min(max(real, lo), hi))) for real in reals)


class SmoothFunction(RealFunction):
    """A smooth function on all reals that nears a straight line on either side.

    Wide, it is a polynomial a segment (`ml2sc.ir.smooth`): w = ((x − z)·multiplier + 2^(shift−1)) >> shift has the
    result's fraction bits; the result is the line on w's side of 0, plus the polynomial of w.

    Attributes:
        left: Its line for x → −∞.
        right: Its line for x → ∞.
        mirror: 1 if its distance to the lines is even, −1 if odd, else 0.
        exact_right: Whether it *is* the right line for x >= 0; `real` is asked for x <= 0 only, then.
    """

    left: ClassVar[Line] = Line(0.0, 0.0)
    right: ClassVar[Line] = Line(1.0, 0.0)
    mirror: ClassVar[int] = 0
    exact_right: ClassVar[bool] = False

    def lines(self, node: Node) -> tuple[Line, Line]:
        """Return the two lines."""
        return self.left, self.right

    def curve(self, node: Node) -> Curve:
        """Return the function with its parameters."""
        left, right = self.lines(node)
        key = (self.op_type, *self.settings(node).values())
        return Curve(key, lambda x: self.real(node, x), left, right, mirror=self.mirror, exact_right=self.exact_right)

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0).astype(np.float64)
        left, right = self.lines(node)
        end = 0.0 if self.exact_right else float(_FLAT)
        with np.errstate(all="ignore"):
            y = np.asarray(self.real(node, np.clip(x, -_FLAT, end)))
            y = np.where(x < -_FLAT, left.slope * x + left.offset, y)
            return [np.where(x > end, right.slope * x + right.offset, y)]

    def widen(self, node: Node, y: Bounds) -> Bounds:
        """Nothing is below the turn, or beyond a line that is flat."""
        left, right = self.lines(node)
        turn, wide = self.turn(node), super().widen(node, y)
        least = turn[1] if turn is not None else left.offset if left.slope == 0 else -math.inf
        greatest = max(left.offset, right.offset) if left.slope == right.slope == 0 else math.inf
        return Bounds(np.maximum(wide.lo, least), np.minimum(wide.hi, greatest))

    def value(self, node: Node, x: Fraction) -> Fraction:
        line = self.lines(node)[x > 0]
        if abs(x) > 4 * _FLAT or (self.exact_right and x > 0):
            return Fraction(line.slope) * x + Fraction(line.offset)
        return super().value(node, x)

    def spread(self, node: Node, lo: float, hi: float, distance: Array) -> Array:
        left, right = self.lines(node)
        beyond = min(float(distance.max(initial=0.0)), float(1 << 10))
        lo_, hi_ = (Fraction(v) for v in (lo - beyond, hi + beyond))
        steepest = slope(self.curve(node), lo_, hi_)
        if lo_ < math.floor(lo) or hi_ > math.ceil(hi):  # where the last segment's end and the line serve
            steepest = max(steepest, abs(left.slope), abs(right.slope))
        bound: Array = distance * steepest
        bounded = left.slope == right.slope == 0 and self.turn(node) is None
        return np.minimum(bound, abs(right.offset - left.offset)) if bounded else bound

    def quantize_wide(self, node: Node, q: Quantizer) -> None:
        lo, hi = (min(max(v, Fraction(-1 << 10)), Fraction(1 << 10)) for v in q.extent(node.inputs[0]))
        size = math.prod(q.shape(node.inputs[0]))
        p = approximate(
            self.curve(node), Fraction(lo // 1), Fraction(-(-hi // 1)), max(q.precise_bits, LEAST_BITS), size
        )
        x = q.operand(node.inputs[0], p.bits)
        x_bits = q.bits(x)
        found = word_multiplier(x.format.scale * (1 << p.bits), 112, x_bits)
        lines = [self.curve(node).line(side) for side in (-1, 1)]
        ints = [tuple(round_half_up(Fraction(v) * (1 << p.bits)) for v in (line.slope, line.offset)) for line in lines]
        if found is None or x_bits + p.bits + max(abs(i[0]).bit_length() for i in ints) > 2 * WORD_BITS:
            raise too_wide(node)
        multiplier, shift = found
        largest = (1 << x_bits) * x.format.scale
        # rounding of w, what the multiplier misses, and rounding of the lines
        moved = Fraction(1, 2 << p.bits) + abs(Fraction(multiplier, 1 << shift + p.bits) - x.format.scale) * (
            1 << x_bits
        )
        missed = max(
            abs(Fraction(v) - Fraction(i, 1 << p.bits)) * size
            for line, pair in zip(lines, ints, strict=True)
            for v, i, size in ((line.slope, pair[0], largest), (line.offset, pair[1], 1))
        )
        steepest = max(p.slope, *(abs(line.slope) for line in lines))
        error = Fraction(p.error) + moved * Fraction(steepest) + missed + Fraction(1, 1 << p.bits)
        attrs: dict[str, AttrValue] = {
            "multiplier": multiplier,
            "shift": shift,
            "segment_bits": p.segment_bits,
            "first": p.first,
            "mirror": p.mirror,
            "left": ints[0],
            "right": ints[1],
            "bits": p.bits,
            "degree": len(p.rows[0]) - 1,
            "coefficients": tuple(c for row in p.rows for c in row),
            "own_error": float(error) * UP,
        }
        self.emit_wide(node, q, x, p.bits, attrs)

    def exact_wide(self, node: Node) -> Callable[[int], int]:
        p, lines = polynomials(node), [ints(node, key) for key in ("left", "right")]
        multiplier, shift = attr_int(node, "multiplier", 0), attr_int(node, "shift", 0)

        def function(u: int) -> int:
            w = (u * multiplier + ((1 << shift) >> 1)) >> shift
            slope_, offset = lines[w >= 0]
            return (w * slope_ >> p.bits) + offset + p.distance(w)

        return function

    def error_wide(self, node: Node, x: FixedPoint) -> float:
        return attr_float(node, "own_error", 0.0)


def ints(node: Node, key: str) -> tuple[int, ...]:
    """Return an attribute that is a list of integers."""
    value = node.attrs[key]
    assert isinstance(value, tuple)
    return tuple(int(v) for v in value)


def polynomials(node: Node) -> Polynomials:
    """Return the polynomials of a quantised `SmoothFunction`."""
    flat, terms = ints(node, "coefficients"), attr_int(node, "degree", 0) + 1
    rows = tuple(flat[i : i + terms] for i in range(0, len(flat), terms))
    bits, segment_bits, first, mirror = (attr_int(node, k, 0) for k in ("bits", "segment_bits", "first", "mirror"))
    return Polynomials(bits, segment_bits, first, rows, mirror, 0.0, 0.0)


def too_wide(node: Node) -> RangeError:
    """Return the error that the operands of a function do not fit a word."""
    return RangeError(
        f"{node.op_type} of so wide a range does not fit a word of the EVM",
        node=str(node),
        hint="narrow the input range with --input-range, or choose a narrower --precision",
    )
