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
from .functions import RealFunction, table_of
from .linear import widened
from .operands import UnaryOp, bounds_at, input_error, magnitude, tensor_at, value_at
from .quantizer import Quantizer

_STEEPEST_SWISH = 1.5
"""The slope of X · (X / 6 + 1 / 2) at 3, where it ends."""
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
    batches = True

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
    batches = True
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
    batches = True
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
            raise UnsupportedModelError(
                "PRelu's slope must be constant",
                node=str(node),
                tensor=f"%{node.inputs[1]}",
                hint="export the model with its weights as constants",
            )
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


class _Pieces(RealFunction):
    """A function of one variable made of straight pieces, or of a few parabolas: its wide integer form is exact."""

    def value(self, node: Node, x: Fraction) -> Fraction:
        """Return the function, exactly."""
        raise NotImplementedError

    def integers(self, node: Node, u: Array) -> Array:
        """Return the wide integer form of x − z."""
        raise NotImplementedError

    def interval_wide(self, node: Node, u: Bounds) -> Bounds:
        """Return the bounds of the wide integer form, given those of x − z."""
        raise NotImplementedError

    def errors_wide(self, node: Node, x: Tensor, error: Array, real: Bounds) -> Array:
        """Return how far the wide integer form is off, given the input's error and its bounds."""
        raise NotImplementedError

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        if table_of(node) is not None:
            return super().evaluate_exact(node, inputs, values, outputs)
        return [self.integers(node, value_at(values, 0) - tensor_at(inputs, 0).format.zero_point)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        if table_of(node) is not None:
            return super().interval_exact(node, inputs, bounds, outputs)
        x, zero = bounds_at(bounds, 0), tensor_at(inputs, 0).format.zero_point
        return [self.interval_wide(node, Bounds(x.lo - zero, x.hi - zero))]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        if table_of(node) is not None:
            return super().error(node, inputs, context)
        x, error = tensor_at(inputs, 0), value_at(context.errors, 0)
        return [self.errors_wide(node, x, error, bounds_at(context.real, 0))]


@register_op
class LeakyRelu(_Pieces):
    """X where X >= 0, else alpha · X.

    In a quantised graph a table, or, at a scale `shift` bits finer: (x − z)·2^shift, or (x − z)·multiplier.
    """

    op_type = "LeakyRelu"
    parameters: ClassVar[dict[str, float]] = {"alpha": 0.01}

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0)
        return [np.where(x >= 0, x, attr_float(node, "alpha", 0.01) * x)]

    def value(self, node: Node, x: Fraction) -> Fraction:
        return x if x >= 0 else Fraction(attr_float(node, "alpha", 0.01)) * x

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x = bounds_at(inputs, 0)
        return [_hull(*(self.evaluate(node, [v])[0] for v in (x.lo, x.hi, np.clip(0.0, x.lo, x.hi))))]

    def spread(self, node: Node, lo: float, hi: float, distance: Array) -> Array:
        bound: Array = distance * max(1.0, abs(attr_float(node, "alpha", 0.01)))
        return bound

    def quantize_wide(self, node: Node, q: Quantizer) -> None:
        alpha, shift = attr_float(node, "alpha", 0.01), q.precise_bits
        x = q.operand(node.inputs[0], shift + max(math.ceil(math.log2(abs(alpha) + 1)), 0))
        attrs = {"alpha": alpha, "multiplier": round_half_up(Fraction(alpha) * (1 << shift)), "shift": shift}
        q.emit(node, "LeakyRelu", [x.name], x.format.scale / (1 << shift), output=node.output, attrs=attrs)

    def integers(self, node: Node, u: Array) -> Array:
        return np.where(u >= 0, u * (1 << attr_int(node, "shift", 0)), u * attr_int(node, "multiplier", 0))

    def interval_wide(self, node: Node, u: Bounds) -> Bounds:
        middle = np.minimum(np.maximum(0, u.lo), u.hi)
        return _hull(*(self.integers(node, v) for v in (*u, middle)))

    def errors_wide(self, node: Node, x: Tensor, error: Array, real: Bounds) -> Array:
        alpha = attr_float(node, "alpha", 0.01)
        used = Fraction(attr_int(node, "multiplier", 0), 1 << attr_int(node, "shift", 0))
        below = np.maximum(-real.lo, 0) + error
        wrong: Array = max(1.0, abs(alpha)) * error + abs(float(used - Fraction(alpha))) * below
        return wrong


@register_op
class HardSigmoid(_Pieces):
    """max(0, min(1, alpha · X + beta)).

    In a quantised graph a table, or, at a scale `shift` bits finer: clamp((x − z) · multiplier + offset, 0, top).
    """

    op_type = "HardSigmoid"
    parameters: ClassVar[dict[str, float]] = {"alpha": 0.2, "beta": 0.5}

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        if self._line(node)[0] < 0:
            raise UnsupportedModelError(
                "HardSigmoid with a negative alpha is not supported",
                node=str(node),
                hint="it is 1 less a HardSigmoid of the positive alpha and of 1 less beta",
            )

    def _line(self, node: Node) -> tuple[float, float]:
        return attr_float(node, "alpha", self.parameters["alpha"]), attr_float(node, "beta", self.parameters["beta"])

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        alpha, beta = self._line(node)
        return [np.clip(alpha * value_at(inputs, 0) + beta, 0.0, 1.0)]

    def value(self, node: Node, x: Fraction) -> Fraction:
        alpha, beta = (Fraction(v) for v in self._line(node))
        return min(max(alpha * x + beta, Fraction(0)), Fraction(1))

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        ends = [self.evaluate(node, [v])[0] for v in bounds_at(inputs, 0)]
        # where it is not clamped |alpha · x| is at most 1 + |beta|: float64 rounds to within a part of that
        wide = widened(Bounds(*ends), np.asarray(2.0 + 2.0 * abs(self._line(node)[1])))
        return [Bounds(np.maximum(wide.lo, 0.0), np.minimum(wide.hi, 1.0))]

    def spread(self, node: Node, lo: float, hi: float, distance: Array) -> Array:
        return np.minimum(distance * self._line(node)[0], 1.0)

    def quantize_wide(self, node: Node, q: Quantizer) -> None:
        shift = q.precise_bits
        x = q.operand(node.inputs[0], shift + math.ceil(math.log2(self._line(node)[0] + 1)))
        attrs = self._integers(node, x, shift)
        q.emit(node, "HardSigmoid", [x.name], x.format.scale / (1 << shift), output=node.output, attrs=attrs)

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

    def integers(self, node: Node, u: Array) -> Array:
        total = u * attr_int(node, "multiplier", 0) + attr_int(node, "offset", 0)
        clamped: Array = np.minimum(np.maximum(total, 0), attr_int(node, "top", 0))
        return clamped

    def interval_wide(self, node: Node, u: Bounds) -> Bounds:
        """It grows; but the sum that it clamps must fit a word, too."""
        self._check_sum(node, u)
        return Bounds(*(self.integers(node, v) for v in u))

    def _check_sum(self, node: Node, u: Bounds) -> None:
        largest = max(abs(int(u.lo.min())), abs(int(u.hi.max())))
        if largest * attr_int(node, "multiplier", 0) + attr_int(node, "offset", 0) >= WORD >> 1:
            raise RangeError(
                f"{self.op_type}'s sum does not fit a word of the EVM",
                node=str(node),
                hint="narrow the input range (--input-range), or choose a narrower --precision",
            )

    def errors_wide(self, node: Node, x: Tensor, error: Array, real: Bounds) -> Array:
        """The input's error, what rounding alpha adds to it, and what rounding beta and 1 does."""
        shift = attr_int(node, "shift", 0)
        used = Fraction(attr_int(node, "multiplier", 0), 1 << shift)
        wrong = abs(used - Fraction(self._line(node)[0]))
        step = float(x.format.scale / (1 << shift))
        return float(used) * error + float(wrong) * magnitude(real) + step


@register_op
class HardSwish(HardSigmoid):
    """X · max(0, min(1, X / 6 + 1 / 2)). Quantised a table, or (x − z) times what HardSigmoid makes of it."""

    op_type = "HardSwish"
    parameters: ClassVar[dict[str, float]] = {"alpha": 1.0 / 6.0, "beta": 0.5}

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [value_at(inputs, 0) * super().evaluate(node, inputs)[0]]

    def value(self, node: Node, x: Fraction) -> Fraction:
        return x * super().value(node, x)

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x = bounds_at(inputs, 0)
        hull = _hull(*(self.evaluate(node, [v])[0] for v in (x.lo, x.hi, np.clip(-1.5, x.lo, x.hi))))
        return [widened(hull, 1.0 + magnitude(hull))]

    def spread(self, node: Node, lo: float, hi: float, distance: Array) -> Array:
        bound: Array = distance * _STEEPEST_SWISH
        return bound

    def quantize_wide(self, node: Node, q: Quantizer) -> None:
        x = q.operand(node.inputs[0], q.precise_bits + q.bits(q.raw(node.inputs[0])) + _HEADROOM)
        shift = max(min(q.precise_bits, _RESULT_BITS - 2 * q.bits(x)), 1)
        scale = x.format.scale * x.format.scale / (1 << shift)
        q.emit(node, "HardSwish", [x.name], scale, output=node.output, attrs=self._integers(node, x, shift))

    def integers(self, node: Node, u: Array) -> Array:
        product: Array = u * super().integers(node, u)
        return product

    def interval_wide(self, node: Node, u: Bounds) -> Bounds:
        """Where nothing is clamped it is u·(m·u + o), which is at least −o²/(4m)."""
        self._check_sum(node, u)
        hull = _hull(*(self.integers(node, v) for v in u))
        offset, multiplier = attr_int(node, "offset", 0), attr_int(node, "multiplier", 0)
        lowest = -(offset * offset // (4 * multiplier)) - 1 if multiplier else 0
        return Bounds(np.where(u.lo < 0, np.minimum(hull.lo, lowest), hull.lo), hull.hi)

    def errors_wide(self, node: Node, x: Tensor, error: Array, real: Bounds) -> Array:
        """The gate's own error is multiplied by x."""
        own = super().errors_wide(node, x, np.zeros(()), real)
        wrong: Array = _STEEPEST_SWISH * error + own * (magnitude(real) + error)
        return wrong


@register_op
class ThresholdedRelu(UnaryOp):
    """X where X > alpha, else 0. In a quantised graph: x − z where that is above `threshold`, else 0."""

    op_type = "ThresholdedRelu"
    batches = True

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
