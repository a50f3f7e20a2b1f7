"""Arithmetic by element, with broadcasting, and the activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar

import numpy as np

from ml2sc.errors import ShapeError, UnsupportedModelError

from ..graph import AttrValue, Node, Tensor
from ..types import Array, DType, round_half_up
from .base import Arrays, Bounds, ErrorContext, Inputs, OpDef, Signature, attr_float, register_op
from .integers import product_of, sum_of, within
from .linear import widened
from .operands import UnaryOp, bounds_at, input_error, int_of, magnitude, tensor_at, value_at
from .quantizer import Quantizer

_UNDERFLOW = 2.0**-1000
"""More than a float64 operation can lose where its result is too small to be rounded relatively."""


class _Broadcasting(OpDef):
    """Two operands, broadcast as numpy does."""

    min_inputs = 2
    max_inputs = 2
    batches = True
    function: ClassVar[np.ufunc]

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        a, b = tensor_at(inputs, 0), tensor_at(inputs, 1)
        try:
            shape = np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            raise ShapeError(
                f"{node.op_type}: shapes {list(a.shape)} and {list(b.shape)} do not broadcast", node=str(node)
            ) from None
        dtype = DType.INT64 if a.type is DType.INT64 and b.type is DType.INT64 else DType.FLOAT
        return [Signature(shape, dtype)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [np.asarray(type(self).function(value_at(inputs, 0), value_at(inputs, 1)))]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        a, b = bounds_at(inputs, 0), bounds_at(inputs, 1)
        corners = [type(self).function(x, y) for x in a for y in b]
        bounds = Bounds(np.minimum.reduce(corners), np.maximum.reduce(corners))
        return [widened(bounds, magnitude(bounds) + _UNDERFLOW)]


@register_op
class Add(_Broadcasting):
    """A + B.

    In a quantised graph: multipliers[0]·(a − z_a) + multipliers[1]·(b − z_b), the multipliers bringing both operands to
    the scale of the sum (and carrying the sign of a Sub); `slack` as in `LinearOp`.
    """

    op_type = "Add"
    elementwise = True
    function: ClassVar[np.ufunc] = np.add
    signs: ClassVar[tuple[int, int]] = (1, 1)

    def quantize(self, node: Node, q: Quantizer) -> None:
        if q.read_otherwise(node):
            return
        names, multipliers, common = self.terms(node, q)
        attrs: dict[str, AttrValue] = {"multipliers": tuple(multipliers)}
        if "slack" in node.attrs:
            attrs["slack"] = node.attrs["slack"]
        q.emit(node, "Add", names, common, output=node.output, attrs=attrs)

    def terms(self, node: Node, q: Quantizer) -> tuple[list[str], list[int], Fraction]:
        """Return the operands, what each is multiplied by, and the scale that this brings them to."""
        rounded = q.addends(node)
        if rounded is not None:
            *operands, common = rounded
            factors = [s * round_half_up(t.format.scale / common) for s, t in zip(self.signs, operands, strict=True)]
            return [t.name for t in operands], factors, common
        dynamic = {slot: q.addend(name) for slot, name in enumerate(node.inputs) if not q.is_constant(name)}
        scales = [t.format.scale for t in dynamic.values()]
        common = min(scales)
        for slot in range(2):
            if slot not in dynamic and not q.is_integer(node.inputs[slot]):  # fine enough for the constant, too
                want = q.step(float(np.abs(q.real(node.inputs[slot])).max(initial=0.0)))
                while common > want:
                    common /= 2
        if any(not _is_power_of_two(s / common) for s in scales):
            common /= 1 << q.precise_bits
        names, multipliers = [], []
        for slot, name in enumerate(node.inputs):
            operand = dynamic[slot] if slot in dynamic else q.constant(name, q.real(name), common)
            names.append(operand.name)
            multipliers.append(self.signs[slot] * round_half_up(operand.format.scale / common))
        return names, multipliers, common

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        a, b = (
            product_of(sum_of(value_at(values, slot), -tensor_at(inputs, slot).format.zero_point), multiplier)
            for slot, multiplier in enumerate(multipliers_of(node))
        )
        return [sum_of(a, b)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        lows, highs = [], []
        for slot, multiplier in enumerate(multipliers_of(node)):
            b = bounds_at(bounds, slot)
            lows.append(b.lo if multiplier >= 0 else b.hi)
            highs.append(b.hi if multiplier >= 0 else b.lo)
        return [
            Bounds(
                self.evaluate_exact(node, inputs, lows, outputs)[0],
                self.evaluate_exact(node, inputs, highs, outputs)[0],
            )
        ]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        total: Array | float = attr_float(node, "slack", 0.0)
        for slot, multiplier in enumerate(multipliers_of(node)):
            error = input_error(inputs, context, slot)
            ratio = abs(multiplier) * context.outputs[0].format.scale / tensor_at(inputs, slot).format.scale
            wrong = abs(float(ratio - 1))
            total = total + error + wrong * (magnitude(bounds_at(context.real, slot)) + error)
        return [np.asarray(total)]


@register_op
class Sub(Add):
    """A − B."""

    op_type = "Sub"
    function: ClassVar[np.ufunc] = np.subtract
    signs = (1, -1)


@register_op
class Mul(_Broadcasting):
    """A · B. In a quantised graph: (a − z_a)·(b − z_b), at scale s_a · s_b. A · A is never negative."""

    op_type = "Mul"
    elementwise = True
    function: ClassVar[np.ufunc] = np.multiply

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        (bounds,) = super().interval(node, inputs)
        return [_squared(bounds_at(inputs, 0), bounds)] if inputs[0] is inputs[1] else [bounds]

    def quantize(self, node: Node, q: Quantizer) -> None:
        if not q.read_otherwise(node):
            self._product(node, q, [None if not q.is_constant(name) else q.real(name) for name in node.inputs])

    def _product(self, node: Node, q: Quantizer, constants: list[Array | None]) -> None:
        dynamic = sum(c is None for c in constants)
        names, scale = [], Fraction(1)
        for name, real in zip(node.inputs, constants, strict=True):
            if real is None:
                operand = q.operand(name, 100 if dynamic > 1 else q.precise_bits)
            else:
                step = Fraction(1) if q.is_integer(name) else q.step(float(np.abs(real).max(initial=0.0)))
                operand = q.constant(name, real, step)
            names.append(operand.name)
            scale *= operand.format.scale
        q.emit(node, "Mul", names, scale, output=node.output)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        return [product_of(*(sum_of(value_at(values, s), -tensor_at(inputs, s).format.zero_point) for s in range(2)))]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        corners = [
            self.evaluate_exact(node, inputs, [x, y], outputs)[0]
            for x in bounds_at(bounds, 0)
            for y in bounds_at(bounds, 1)
        ]
        product = Bounds(np.minimum.reduce(corners), np.maximum.reduce(corners))
        if node.inputs[0] != node.inputs[1]:
            return [product]
        a, zero = bounds_at(bounds, 0), -tensor_at(inputs, 0).format.zero_point
        return [_squared(Bounds(sum_of(a.lo, zero), sum_of(a.hi, zero)), product)]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """|â·b̂ − a·b| <= |a|·e_b + |b|·e_a + e_a·e_b."""
        e_a, e_b = input_error(inputs, context, 0), input_error(inputs, context, 1)
        a, b = magnitude(bounds_at(context.real, 0)), magnitude(bounds_at(context.real, 1))
        return [a * e_b + b * e_a + e_a * e_b]


def _squared(operand: Bounds, product: Bounds) -> Bounds:
    """Return bounds of squares.

    Args:
        operand: Bounds of what is squared.
        product: Bounds of products of two such numbers.
    """
    around_zero = (operand.lo <= 0) & (operand.hi >= 0)
    return Bounds(np.where(around_zero, 0, np.maximum(product.lo, 0)), product.hi)


@register_op
class Div(Mul):
    """A / B, B constant. By an activation it is A · Reciprocal(B), which it becomes when a model is read."""

    op_type = "Div"

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        a, b = value_at(inputs, 0), value_at(inputs, 1)
        if a.dtype.kind == "i" and b.dtype.kind == "i":
            return [np.trunc(a / b).astype(np.int64)]
        return [np.asarray(a / b)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        b = bounds_at(inputs, 1)
        if not np.array_equal(b.lo, b.hi) or not np.all(b.lo):
            self._refuse(node)
        return super().interval(node, [inputs[0], Bounds(1.0 / b.lo, 1.0 / b.lo)])

    def quantize(self, node: Node, q: Quantizer) -> None:
        if not q.is_constant(node.inputs[1]) or not np.all(q.real(node.inputs[1])):
            self._refuse(node)
        if not q.read_otherwise(node):
            self._product(node, q, [None, 1.0 / q.real(node.inputs[1])])

    def _refuse(self, node: Node) -> None:
        raise UnsupportedModelError(
            "Div is supported by a constant without zeros", node=str(node), tensor=f"%{node.inputs[1]}"
        )


@register_op
class Neg(UnaryOp):
    """−X."""

    op_type = "Neg"
    batches = True

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [-value_at(inputs, 0)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x = bounds_at(inputs, 0)
        return [Bounds(-x.hi, -x.lo)]

    def quantize(self, node: Node, q: Quantizer) -> None:
        x = q.raw(node.inputs[0])
        q.emit(node, "Neg", [x.name], x.format.scale, output=node.output)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        return [tensor_at(inputs, 0).format.zero_point - value_at(values, 0)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        z, x = tensor_at(inputs, 0).format.zero_point, bounds_at(bounds, 0)
        return [Bounds(z - x.hi, z - x.lo)]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        return [value_at(context.errors, 0)]


@register_op
class Relu(UnaryOp):
    """max(X, 0). In a quantised graph: max(x, z), in the format of x."""

    op_type = "Relu"
    batches = True
    elementwise = True
    keeps_format = True

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [np.maximum(value_at(inputs, 0), 0)]

    def quantize(self, node: Node, q: Quantizer) -> None:
        x = q.raw(node.inputs[0])
        q.emit(node, "Relu", [x.name], x.format.scale, output=node.output, zero_point=x.format.zero_point)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        zero = tensor_at(inputs, 0).format.zero_point
        return [np.maximum(within(abs(zero), value_at(values, 0)), zero)]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        return [value_at(context.errors, 0)]


@register_op
class Clip(UnaryOp):
    """min(max(X, lo), hi), the bounds constant and optional. In a quantised graph: attributes lo and hi, integers."""

    op_type = "Clip"
    batches = True
    elementwise = True
    max_inputs = 3

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0)
        lo, hi = (inputs[slot] if slot < len(inputs) else None for slot in (1, 2))
        x = x if lo is None else np.maximum(x, lo)
        return [x if hi is None else np.minimum(x, hi)]

    def quantize(self, node: Node, q: Quantizer) -> None:
        x = q.raw(node.inputs[0])
        attrs: dict[str, int | float] = {}
        for slot, key in ((1, "lo"), (2, "hi")):
            if len(node.inputs) > slot and node.inputs[slot]:
                if not q.is_constant(node.inputs[slot]):
                    raise UnsupportedModelError(f"Clip's {key} must be constant", node=str(node))
                real = float(q.real(node.inputs[slot]).reshape(()))
                attrs[f"real_{key}"] = real
                attrs[key] = round_half_up(Fraction(real) / x.format.scale) + x.format.zero_point
        if "lo" in attrs and "hi" in attrs and attrs["lo"] > attrs["hi"]:
            raise UnsupportedModelError("Clip's lower bound is above its upper bound", node=str(node))
        q.emit(node, "Clip", [x.name], x.format.scale, output=node.output, zero_point=x.format.zero_point, attrs=attrs)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        ends = [int_of(node, key) for key in ("lo", "hi") if key in node.attrs]
        x = within(max(map(abs, ends), default=0), value_at(values, 0))
        x = np.maximum(x, int_of(node, "lo")) if "lo" in node.attrs else x
        return [np.minimum(x, int_of(node, "hi")) if "hi" in node.attrs else x]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """The input's error, and what the ends are rounded by; both results are between two ends, if there are two."""
        fmt, wrong = tensor_at(inputs, 0).format, Fraction(0)
        for key in ("lo", "hi"):
            if key in node.attrs:
                stands_for = (int_of(node, key) - fmt.zero_point) * fmt.scale
                wrong = max(wrong, abs(stands_for - Fraction(attr_float(node, f"real_{key}", 0.0))))
        ends = [attr_float(node, f"real_{key}", 0.0) for key in ("lo", "hi") if key in node.attrs]
        most = (ends[1] - ends[0]) * (1 + 2.0**-48) if len(ends) == 2 else math.inf
        return [np.minimum(value_at(context.errors, 0), most) + float(wrong)]


@register_op
class Requantize(UnaryOp):
    """clamp(floor(((x − z_x)·multiplier + 2^(shift−1)) / 2^shift) + z_y, qmin, qmax), into the format of the output."""

    op_type = "Requantize"
    elementwise = True
    onnx = False

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [value_at(inputs, 0)]

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        fmt = outputs[0].format
        y = within(1 << fmt.bits, requantized(node, tensor_at(inputs, 0), value_at(values, 0), outputs[0]))
        return [np.minimum(np.maximum(y, fmt.qmin), fmt.qmax)]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """Half a step of rounding, what the multiplier misses, and what saturation cuts off."""
        x, y = tensor_at(inputs, 0).format, context.outputs[0].format
        error, real = value_at(context.errors, 0), bounds_at(context.real, 0)
        shift = int_of(node, "shift")
        ratio = y.scale * Fraction(int_of(node, "multiplier"), 1 << shift) / x.scale
        rounding = float(y.scale) / 2 if shift else 0.0
        moved = error + abs(float(ratio - 1)) * (magnitude(real) + error) + rounding
        if not context.saturates:
            return [moved]
        top = float((y.qmax - y.zero_point) * y.scale)
        bottom = float((y.qmin - y.zero_point) * y.scale)
        return [moved + np.maximum(np.maximum(real.hi - top, bottom - real.lo), 0.0)]


def requantized(node: Node, source: Tensor, q: Array, result: Tensor) -> Array:
    """Return what a Requantize makes of integers q before it clamps them."""
    shift = int_of(node, "shift")
    x = sum_of(product_of(sum_of(q, -source.format.zero_point), int_of(node, "multiplier")), (1 << shift) >> 1)
    return sum_of(within(1 << shift, x) >> shift, result.format.zero_point)


def multipliers_of(node: Node) -> tuple[int, int]:
    """Return the factors that bring a node's two operands to one scale."""
    multipliers = node.attrs["multipliers"]
    assert isinstance(multipliers, tuple)
    a, b = (int(m) for m in multipliers)
    return a, b


def _is_power_of_two(ratio: Fraction) -> bool:
    n, d = ratio.numerator, ratio.denominator
    return n & (n - 1) == 0 and d & (d - 1) == 0
