"""Functions made of straight pieces, powers, and the least and greatest of several values: exact integer forms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from ml2sc.errors import RangeError, ShapeError, UnsupportedModelError

from ..graph import Node, Tensor
from ..program import WORD
from ..types import Array, DType, round_half_up
from .base import Arrays, Bounds, ErrorContext, Inputs, OpDef, Signature, attr_float, attr_int, register_op
from .linear import widened
from .operands import UnaryOp, bounds_at, input_error, magnitude, tensor_at, value_at
from .quantizer import Quantizer

_LARGEST_POWER = 16
_RESULT_BITS = 160
"""Bits of a product that leave room for what comes after it."""
_HEADROOM = 40
"""What an operand, roomy as it may be, has to leave free so that its products have no more bits."""


def _hull(*corners: Array) -> Bounds:
    return Bounds(np.minimum.reduce(corners), np.maximum.reduce(corners))


@register_op
class Abs(UnaryOp):
    """|X|. In a quantised graph: |x − z|."""

    op_type = "Abs"

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [np.abs(value_at(inputs, 0))]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x = bounds_at(inputs, 0)
        return [Bounds(np.maximum(np.maximum(x.lo, -x.hi), 0), magnitude(x))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        x = q.raw(node.inputs[0])
        q.emit(node, "Abs", [x.name], x.format.scale, output=node.output)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        return [np.abs(value_at(values, 0) - tensor_at(inputs, 0).format.zero_point)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        x, zero = bounds_at(bounds, 0), tensor_at(inputs, 0).format.zero_point
        return self.interval(node, [Bounds(x.lo - zero, x.hi - zero)])

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        return [value_at(context.errors, 0)]


class _Extreme(OpDef):
    """The least or greatest of one or more tensors, broadcast as numpy does."""

    max_inputs = 1 << 30
    function: ClassVar[Any]

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        tensors = [tensor for tensor in inputs if tensor is not None]
        try:
            shape = np.broadcast_shapes(*(t.shape for t in tensors))
        except ValueError:
            raise ShapeError(f"{node.op_type}: its inputs' shapes do not broadcast", node=str(node)) from None
        return [Signature(shape, DType.INT64 if all(t.type is DType.INT64 for t in tensors) else DType.FLOAT)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [np.asarray(reduce(type(self).function, [v for v in inputs if v is not None]))]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        present = [b for b in inputs if b is not None]
        return [Bounds(*(self.evaluate(node, [b[end] for b in present])[0] for end in (0, 1)))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        operands = q.aligned(node.inputs)
        scale = operands[0].format.scale
        q.emit(node, self.op_type, [x.name for x in operands], scale, output=node.output)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        return self.evaluate(node, [v if v is None else v.astype(object) for v in values])

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        errors = [input_error(inputs, context, slot) for slot in range(len(inputs))]
        return [np.broadcast_to(reduce(np.maximum, errors), context.outputs[0].shape)]


@register_op
class Max(_Extreme):
    """The greatest of its inputs. In a quantised graph all of them have one scale and zero point 0."""

    op_type = "Max"
    function = np.maximum


@register_op
class Min(_Extreme):
    """The least of its inputs. In a quantised graph all of them have one scale and zero point 0."""

    op_type = "Min"
    function = np.minimum


@register_op
class PRelu(OpDef):
    """X where X >= 0, else slope · X, the slope constant and broadcast to X.

    In a quantised graph, at a scale `shift` bits finer: (x − z)·2^shift, or (x − z)·slope.
    """

    op_type = "PRelu"
    min_inputs = 2
    max_inputs = 2

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        x, slope = tensor_at(inputs, 0), tensor_at(inputs, 1)
        try:
            fits = np.broadcast_shapes(x.shape, slope.shape) == x.shape
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(f"PRelu: a slope {list(slope.shape)} for {list(x.shape)}", node=str(node))
        return [Signature(x.shape, DType.FLOAT)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0)
        return [np.where(x >= 0, x, value_at(inputs, 1) * x)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x, slope = bounds_at(inputs, 0), bounds_at(inputs, 1)
        if not np.array_equal(slope.lo, slope.hi):
            raise UnsupportedModelError("PRelu's slope must be constant", node=str(node), tensor=f"%{node.inputs[1]}")
        hull = _hull(*(self.evaluate(node, [v, slope.lo])[0] for v in (x.lo, x.hi, np.clip(0.0, x.lo, x.hi))))
        return [widened(hull, magnitude(hull))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        shift, slope = q.precise_bits, q.real(node.inputs[1])
        x = q.operand(node.inputs[0], shift + math.ceil(math.log2(float(np.abs(slope).max(initial=0.0)) + 1)))
        operand = q.constant(node.inputs[1], slope, Fraction(1, 1 << shift))
        scale = x.format.scale / (1 << shift)
        q.emit(node, "PRelu", [x.name, operand.name], scale, output=node.output, attrs={"shift": shift})

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        x = value_at(values, 0) - tensor_at(inputs, 0).format.zero_point
        return [np.where(x >= 0, x * (1 << attr_int(node, "shift", 0)), x * value_at(values, 1).astype(object))]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        x, slope, zero = bounds_at(bounds, 0), bounds_at(bounds, 1), tensor_at(inputs, 0).format.zero_point
        middle = np.minimum(np.maximum(zero, x.lo), x.hi)
        return [_hull(*(self.evaluate_exact(node, inputs, [v, slope.lo], outputs)[0] for v in (*x, middle)))]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        x_error, slope = value_at(context.errors, 0), magnitude(bounds_at(context.real, 1))
        below = np.maximum(-bounds_at(context.real, 0).lo, 0) + x_error
        return [np.maximum(1.0, slope) * x_error + input_error(inputs, context, 1) * below]


@register_op
class HardSigmoid(UnaryOp):
    """max(0, min(1, alpha · X + beta)).

    In a quantised graph, at a scale `shift` bits finer: clamp((x − z) · multiplier + offset, 0, top).
    """

    op_type = "HardSigmoid"
    shape: ClassVar[tuple[float, float]] = (0.2, 0.5)

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        if self._line(node)[0] < 0:
            raise UnsupportedModelError("HardSigmoid with a negative alpha is not supported", node=str(node))

    def _line(self, node: Node) -> tuple[float, float]:
        return attr_float(node, "alpha", self.shape[0]), attr_float(node, "beta", self.shape[1])

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        alpha, beta = self._line(node)
        return [np.clip(alpha * value_at(inputs, 0) + beta, 0.0, 1.0)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        ends = [self.evaluate(node, [v])[0] for v in bounds_at(inputs, 0)]
        # where it is not clamped |alpha · x| is at most 1 + |beta|: float64 rounds to within a part of that
        wide = widened(Bounds(*ends), np.asarray(2.0 + 2.0 * abs(self._line(node)[1])))
        return [Bounds(np.maximum(wide.lo, 0.0), np.minimum(wide.hi, 1.0))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        shift = q.precise_bits
        x = q.operand(node.inputs[0], shift + math.ceil(math.log2(self._line(node)[0] + 1)))
        q.emit(
            node,
            "HardSigmoid",
            [x.name],
            x.format.scale / (1 << shift),
            output=node.output,
            attrs=self._integers(node, x, shift),
        )

    def _integers(self, node: Node, x: Tensor, shift: int) -> dict[str, int | float]:
        alpha, beta = self._line(node)
        scale = x.format.scale / (1 << shift)
        return {
            "alpha": alpha,
            "beta": beta,
            "shift": shift,
            "multiplier": round_half_up(Fraction(alpha) * (1 << shift)),
            "offset": round_half_up(Fraction(beta) / scale),
            "top": round_half_up(1 / scale),
        }

    def _gate(self, node: Node, u: Array) -> Array:
        """Return the clamped integers, given x − z."""
        total = u * attr_int(node, "multiplier", 0) + attr_int(node, "offset", 0)
        clamped: Array = np.minimum(np.maximum(total, 0), attr_int(node, "top", 0))
        return clamped

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        return [self._gate(node, value_at(values, 0) - tensor_at(inputs, 0).format.zero_point)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        """It grows; but the sum that it clamps must fit a word, too."""
        self._check_sum(node, inputs, bounds)
        return super().interval_exact(node, inputs, bounds, outputs)

    def _check_sum(self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None]) -> None:
        x, zero = bounds_at(bounds, 0), tensor_at(inputs, 0).format.zero_point
        largest = max(abs(int(x.lo.min()) - zero), abs(int(x.hi.max()) - zero))
        if largest * attr_int(node, "multiplier", 0) + attr_int(node, "offset", 0) >= WORD >> 1:
            raise RangeError(
                f"{self.op_type}'s sum does not fit a word of the EVM",
                node=str(node),
                hint="narrow the input range (--input-range), or choose a narrower --precision",
            )

    def _gate_error(self, node: Node, inputs: Inputs, context: ErrorContext) -> Array:
        """The input's error, what rounding alpha adds to it, and what rounding beta and 1 does."""
        error, real = value_at(context.errors, 0), bounds_at(context.real, 0)
        shift = attr_int(node, "shift", 0)
        used = Fraction(attr_int(node, "multiplier", 0), 1 << shift)
        wrong = abs(used - Fraction(self._line(node)[0]))
        step = float(tensor_at(inputs, 0).format.scale / (1 << shift))
        return float(used) * error + float(wrong) * magnitude(real) + step

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        return [self._gate_error(node, inputs, context)]


@register_op
class HardSwish(HardSigmoid):
    """X · max(0, min(1, X / 6 + 1 / 2)). In a quantised graph: (x − z) times what HardSigmoid makes of it."""

    op_type = "HardSwish"
    shape = (1.0 / 6.0, 0.5)

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [value_at(inputs, 0) * super().evaluate(node, inputs)[0]]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x = bounds_at(inputs, 0)
        hull = _hull(*(self.evaluate(node, [v])[0] for v in (x.lo, x.hi, np.clip(-1.5, x.lo, x.hi))))
        return [widened(hull, 1.0 + magnitude(hull))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        x = q.operand(node.inputs[0], q.precise_bits + q.bits(q.raw(node.inputs[0])) + _HEADROOM)
        shift = max(min(q.precise_bits, _RESULT_BITS - 2 * q.bits(x)), 1)
        scale = x.format.scale * x.format.scale / (1 << shift)
        q.emit(node, "HardSwish", [x.name], scale, output=node.output, attrs=self._integers(node, x, shift))

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        u = value_at(values, 0) - tensor_at(inputs, 0).format.zero_point
        return [u * self._gate(node, u)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        """Where nothing is clamped it is u·(m·u + o), which is at least −o²/(4m)."""
        self._check_sum(node, inputs, bounds)
        x, zero = bounds_at(bounds, 0), tensor_at(inputs, 0).format.zero_point
        hull = _hull(*(self.evaluate_exact(node, inputs, [v], outputs)[0] for v in x))
        offset, multiplier = attr_int(node, "offset", 0), attr_int(node, "multiplier", 0)
        lowest = -(offset * offset // (4 * multiplier)) - 1 if multiplier else 0
        return [Bounds(np.where(x.lo < zero, np.minimum(hull.lo, lowest), hull.lo), hull.hi)]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """Its slope is at most 3/2, and the gate's own error is multiplied by x."""
        error = value_at(context.errors, 0)
        own = self._gate_error(node, inputs, ErrorContext((np.zeros(()),), context.real, context.outputs))
        return [1.5 * error + own * (magnitude(bounds_at(context.real, 0)) + error)]


@register_op
class ThresholdedRelu(UnaryOp):
    """X where X > alpha, else 0. In a quantised graph: x − z where that is above `threshold`, else 0."""

    op_type = "ThresholdedRelu"

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0)
        return [np.where(x > attr_float(node, "alpha", 1.0), x, 0.0)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x, alpha = bounds_at(inputs, 0), attr_float(node, "alpha", 1.0)
        return [_pieces(x, alpha)]

    def jump(self, node: Node, inputs: Sequence[Bounds | None]) -> float:
        x, alpha = bounds_at(inputs, 0), attr_float(node, "alpha", 1.0)
        return abs(alpha) if ((x.lo <= alpha) & (x.hi >= alpha)).any() else 0.0

    def quantize(self, node: Node, q: Quantizer) -> None:
        x, alpha = q.raw(node.inputs[0]), attr_float(node, "alpha", 1.0)
        attrs: dict[str, int | float] = {"alpha": alpha, "threshold": math.floor(Fraction(alpha) / x.format.scale)}
        q.emit(node, self.op_type, [x.name], x.format.scale, output=node.output, attrs=attrs)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        u = value_at(values, 0) - tensor_at(inputs, 0).format.zero_point
        return [np.where(u > attr_int(node, "threshold", 0), u, 0)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        x, zero = bounds_at(bounds, 0), tensor_at(inputs, 0).format.zero_point
        return [_pieces(Bounds(x.lo - zero, x.hi - zero), attr_int(node, "threshold", 0))]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """Near alpha the result may be 0 instead of x, or the other way round: it jumps there."""
        error, x, alpha = value_at(context.errors, 0), bounds_at(context.real, 0), attr_float(node, "alpha", 1.0)
        near = (x.lo - error <= alpha) & (x.hi + error >= alpha)
        return [error + np.where(near, abs(alpha), 0.0)]


def _pieces(x: Bounds, threshold: float) -> Bounds:
    """Return bounds of x where it is above the threshold, else 0."""
    above, below = x.hi > threshold, x.lo <= threshold
    lo = np.where(above, np.maximum(x.lo, threshold), 0)
    hi = np.where(above, x.hi, 0)
    return Bounds(np.where(below, np.minimum(lo, 0), lo), np.where(below, np.maximum(hi, 0), hi))


@register_op
class Pow(OpDef):
    """X to a constant whole power from 1 to 16. In a quantised graph: (x − z)^power >> drop.

    Roots, reciprocals and other powers are written out as Sqrt, Reciprocal or Exp(power · Log(X)) when a model is read.
    """

    op_type = "Pow"
    min_inputs = 2
    max_inputs = 2

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        x = tensor_at(inputs, 0)
        try:
            shape = np.broadcast_shapes(*(t.shape for t in inputs if t is not None))
        except ValueError:
            raise ShapeError("Pow: its inputs' shapes do not broadcast", node=str(node)) from None
        return [Signature(shape, DType.INT64 if x.type is DType.INT64 else DType.FLOAT)]

    def verify(self, node: Node, inputs: Inputs) -> None:
        """In a quantised graph the power is an attribute."""
        if "power" not in node.attrs:
            super().verify(node, inputs)

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x, power = value_at(inputs, 0), value_at(inputs, 1)
        with np.errstate(all="ignore"):  # an infinite or NaN constant is reported where it is used
            return [np.asarray(np.power(x.astype(np.float64), power).astype(x.dtype))]

    def _power(self, node: Node, values: Array) -> int:
        power = float(values.ravel()[0]) if values.size else math.nan
        if not (np.all(values == power) and power.is_integer() and 1 <= power <= _LARGEST_POWER):
            raise UnsupportedModelError(
                f"Pow is supported with one whole power from 1 to {_LARGEST_POWER}",
                node=str(node),
                tensor=f"%{node.inputs[1]}",
                hint="any other power that is a constant of the file becomes Sqrt, Reciprocal or Exp and Log",
            )
        return int(power)

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x, powers = bounds_at(inputs, 0), bounds_at(inputs, 1)
        if not np.array_equal(powers.lo, powers.hi):
            raise UnsupportedModelError("Pow needs a constant power", node=str(node), tensor=f"%{node.inputs[1]}")
        power = self._power(node, powers.lo)
        hull = _powers(x, power)
        shape = np.broadcast_shapes(x.lo.shape, powers.lo.shape)
        wide = widened(Bounds(*(np.broadcast_to(v, shape) for v in hull)), magnitude(hull))
        return [Bounds(np.maximum(wide.lo, 0.0), wide.hi) if power % 2 == 0 else wide]

    def quantize(self, node: Node, q: Quantizer) -> None:
        if not q.is_constant(node.inputs[1]):
            raise UnsupportedModelError("Pow needs a constant power", node=str(node), tensor=f"%{node.inputs[1]}")
        power = self._power(node, q.real(node.inputs[1]))
        x = q.operand(node.inputs[0], (power - 1) * q.bits(q.raw(node.inputs[0])) + _HEADROOM)
        drop = max(power * q.bits(x) - _RESULT_BITS, 0)
        attrs = {"power": power, "drop": drop}
        q.emit(node, "Pow", [x.name], x.format.scale**power * (1 << drop), output=node.output, attrs=attrs)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        y = (value_at(values, 0) - tensor_at(inputs, 0).format.zero_point) ** attr_int(node, "power", 1)
        return [np.broadcast_to(y >> attr_int(node, "drop", 0), outputs[0].shape)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        x, zero = bounds_at(bounds, 0), tensor_at(inputs, 0).format.zero_point
        hull = _powers(Bounds(x.lo - zero, x.hi - zero), attr_int(node, "power", 1))
        if max(abs(int(v)) for end in hull for v in end.ravel()) >= WORD >> 1:
            raise RangeError(
                "Pow of so wide a range does not fit a word of the EVM",
                node=str(node),
                hint="narrow the input range (--input-range), or choose a narrower --precision",
            )
        return [Bounds(*(np.broadcast_to(v >> attr_int(node, "drop", 0), outputs[0].shape) for v in hull))]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """|x̂^n − x^n| <= n · (|x| + e)^(n−1) · e."""
        error, power = value_at(context.errors, 0), attr_int(node, "power", 1)
        largest = magnitude(bounds_at(context.real, 0)) + error
        rounding = float(context.outputs[0].format.scale) if attr_int(node, "drop", 0) else 0.0
        return [np.broadcast_to(power * largest ** (power - 1) * error + rounding, context.outputs[0].shape)]


def _powers(x: Bounds, power: int) -> Bounds:
    hull = _hull(x.lo**power, x.hi**power)
    return Bounds(np.where((x.lo < 0) & (x.hi > 0), 0, hull.lo), hull.hi) if power % 2 == 0 else hull
