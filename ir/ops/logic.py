"""Comparisons, what is made of their answers, and the choice between two values.

An answer is 0 or 1, in a format whose step is 1: casting it to a number moves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from ml2sc.errors import ShapeError, UnsupportedModelError

from ..graph import AttrValue, Node, Tensor
from ..types import Array, DType
from .base import Arrays, Bounds, ErrorContext, Inputs, OpDef, Signature, attr_int, register_op
from .elementwise import Add, multipliers_of
from .operands import bounds_at, input_error, magnitude, tensor_at, value_at
from .quantizer import Quantizer


def broadcast_shape(node: Node, inputs: Inputs) -> tuple[int, ...]:
    """Return the shape that a node's operands are broadcast to.

    Raises:
        ShapeError: there is none.
    """
    shapes = [tensor.shape for tensor in inputs if tensor is not None]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        found = " and ".join(str(list(shape)) for shape in shapes)
        raise ShapeError(f"{node.op_type}: shapes {found} do not broadcast", node=str(node)) from None


def as_ints(values: Any) -> Array:
    """Return answers as an object array of 0 and 1."""
    return np.asarray(values).astype(int).astype(object)


class Comparison(Add):
    """A and B compared by their difference.

    In a quantised graph d = multipliers[0]·(a − z_a) + multipliers[1]·(b − z_b) is compared with 0; without a second
    operand, which is a constant 0 then, d = a − z_a.
    """

    signs: ClassVar[tuple[int, int]] = (1, -1)
    elementwise = False
    function: ClassVar[np.ufunc]

    def verify(self, node: Node, inputs: Inputs) -> None:
        """In a quantised graph a 0 is implied."""
        if not any(t is not None and not isinstance(t.type, DType) for t in inputs):
            super().verify(node, inputs)

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        return [Signature(broadcast_shape(node, inputs), DType.BOOL)]

    def answer(self, node: Node, difference: Array) -> Array:
        """Return the answers, given the differences' integers."""
        answers: Array = type(self).function(difference, 0)
        return answers

    def spans(self, node: Node, lo: Array, hi: Array) -> Array:
        """Return where the answer may be either, for real differences within bounds."""
        either: Array = (lo <= 0) & (hi >= 0)
        return either

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        a, b = bounds_at(inputs, 0), bounds_at(inputs, 1)
        either = self.spans(node, a.lo - b.hi, a.hi - b.lo)
        answers = np.asarray(type(self).function(a.lo, b.hi)).astype(np.float64)
        return [Bounds(np.where(either, 0.0, answers), np.where(either, 1.0, answers))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        if q.is_constant(node.inputs[1]) and not np.any(q.real(node.inputs[1])):
            q.emit(node, self.op_type, [q.raw(node.inputs[0]).name], Fraction(1), output=node.output)
            return
        names, multipliers, _ = self.terms(node, q)
        attrs: dict[str, AttrValue] = {"multipliers": tuple(multipliers), **self.settings(multipliers)}
        q.emit(node, self.op_type, names, Fraction(1), output=node.output, attrs=attrs)

    def settings(self, multipliers: Sequence[int]) -> dict[str, int]:
        """Return further attributes of a quantised node."""
        return {}

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        return [as_ints(self.answer(node, self._difference(node, inputs, values, outputs)))]

    def _difference(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> Array:
        if "multipliers" not in node.attrs:
            difference: Array = value_at(values, 0) - tensor_at(inputs, 0).format.zero_point
            return difference
        return super().evaluate_exact(node, inputs, values, outputs)[0]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        shape = outputs[0].shape
        return [Bounds(np.full(shape, 0, dtype=object), np.full(shape, 1, dtype=object))]

    def jump(self, node: Node, inputs: Sequence[Bounds | None]) -> float:
        bounds = self.interval(node, inputs)[0]
        return float((bounds.hi - bounds.lo).max(initial=0.0))

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """Where the difference may be on the other side the answer may be the other one; elsewhere it is exact."""
        if all(_is_whole(inputs, context, slot) for slot in range(len(inputs))):
            return [np.zeros(context.outputs[0].shape)]
        a, error = bounds_at(context.real, 0), value_at(context.errors, 0)
        lo, hi = a.lo, a.hi
        if "multipliers" in node.attrs:
            b, other = bounds_at(context.real, 1), input_error(inputs, context, 1)
            first, second = (abs(m) for m in multipliers_of(node))
            x, y = (tensor_at(inputs, slot).format.scale for slot in (0, 1))
            wrong = abs(float(second * x / (first * y) - 1))
            error = input_error(inputs, context, 0) + other + wrong * (magnitude(b) + other)
            error = error + float(Fraction(attr_int(node, "slack", 0), first) * x)
            lo, hi = a.lo - b.hi, a.hi - b.lo
        either = self.spans(node, lo - error, hi + error)
        return [np.broadcast_to(np.where(either, 1.0, 0.0), context.outputs[0].shape)]


def _is_whole(inputs: Inputs, context: ErrorContext, slot: int) -> bool:
    """Whether an operand is whole numbers, exactly: then so is a difference, and less than 1 is 0."""
    tensor = tensor_at(inputs, slot)
    if tensor.data is not None:
        assert tensor.real is not None
        return bool(np.all(tensor.real == np.floor(tensor.real)) and (1 / tensor.format.scale).denominator == 1)
    return tensor.format.scale == 1 and not value_at(context.errors, slot).any()


@register_op
class Greater(Comparison):
    """1 where A > B, else 0."""

    op_type = "Greater"
    function: ClassVar[np.ufunc] = np.greater


@register_op
class GreaterOrEqual(Comparison):
    """1 where A >= B, else 0."""

    op_type = "GreaterOrEqual"
    function: ClassVar[np.ufunc] = np.greater_equal

    def spans(self, node: Node, lo: Array, hi: Array) -> Array:
        either: Array = (lo < 0) & (hi >= 0)
        return either


@register_op
class Less(Comparison):
    """1 where A < B, else 0."""

    op_type = "Less"
    function: ClassVar[np.ufunc] = np.less


@register_op
class LessOrEqual(Comparison):
    """1 where A <= B, else 0."""

    op_type = "LessOrEqual"
    function: ClassVar[np.ufunc] = np.less_equal


@register_op
class Equal(Comparison):
    """1 where A = B, else 0.

    In a quantised graph: where |d| <= slack, which is half a step of the coarser operand. What a caller gives as A is
    rounded to its format, so it counts as B where no other step is nearer.
    """

    op_type = "Equal"
    function: ClassVar[np.ufunc] = np.equal

    def settings(self, multipliers: Sequence[int]) -> dict[str, int]:
        coarser = max(abs(m) for m in multipliers)
        return {"slack": (coarser >> 1) + 1 if coarser > 1 else 0}

    def answer(self, node: Node, difference: Array) -> Array:
        answers: Array = np.abs(difference) <= attr_int(node, "slack", 0)
        return answers

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        a, b = bounds_at(inputs, 0), bounds_at(inputs, 1)
        met = self.spans(node, a.lo - b.hi, a.hi - b.lo)
        known = (a.lo == a.hi) & (b.lo == b.hi)
        return [Bounds(np.where(met & known, 1.0, 0.0), np.where(met, 1.0, 0.0))]


class _Logic(OpDef):
    """A function of answers."""

    min_inputs = max_inputs = 2
    batches = True
    function: ClassVar[np.ufunc]

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        for tensor in inputs:
            if tensor is not None and isinstance(tensor.type, DType) and tensor.type is not DType.BOOL:
                raise UnsupportedModelError(
                    f"{node.op_type} takes bools", node=str(node), tensor=f"%{tensor.name}", hint="cast it to bool"
                )

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        return [Signature(broadcast_shape(node, inputs), DType.BOOL)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [np.asarray(type(self).function(*(np.asarray(v).astype(np.bool_) for v in inputs if v is not None)))]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        operands = [b for b in inputs if b is not None]
        known = np.asarray(np.logical_and.reduce(np.broadcast_arrays(*(b.lo == b.hi for b in operands))))
        answers = self.evaluate(node, [b.lo for b in operands])[0].astype(np.float64)
        return [Bounds(np.where(known, answers, 0.0), np.where(known, answers, 1.0))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        names = [_answer(q, name).name for name in node.inputs]
        q.emit(node, self.op_type, names, Fraction(1), output=node.output)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        return [as_ints(self.evaluate(node, values)[0])]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        return [Bounds(*(np.asarray(v).astype(int).astype(object) for v in self.interval(node, bounds)[0]))]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """It may be the other answer where one of those it depends on may be."""
        wrong = sum(value_at(context.errors, slot) for slot in range(len(inputs)))
        return [np.broadcast_to(np.minimum(wrong, 1.0), context.outputs[0].shape)]


def _answer(q: Quantizer, name: str) -> Tensor:
    return q.constant(name, q.real(name), Fraction(1)) if q.is_constant(name) else q.raw(name)


@register_op
class Not(_Logic):
    """1 where X is 0, else 0."""

    op_type = "Not"
    min_inputs = max_inputs = 1
    function: ClassVar[np.ufunc] = np.logical_not


@register_op
class And(_Logic):
    """1 where A and B are 1, else 0."""

    op_type = "And"
    function: ClassVar[np.ufunc] = np.logical_and


@register_op
class Or(_Logic):
    """1 where A or B is 1, else 0."""

    op_type = "Or"
    function: ClassVar[np.ufunc] = np.logical_or


@register_op
class Xor(_Logic):
    """1 where just one of A and B is 1, else 0."""

    op_type = "Xor"
    function: ClassVar[np.ufunc] = np.logical_xor


@register_op
class Where(OpDef):
    """A where the condition is 1, else B. In a quantised graph A and B have one scale and zero point 0."""

    op_type = "Where"
    min_inputs = max_inputs = 3
    batches = True

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        types = {tensor_at(inputs, slot).type for slot in (1, 2)}
        (dtype,) = types if len(types) == 1 else (DType.FLOAT,)
        return [Signature(broadcast_shape(node, inputs), dtype if isinstance(dtype, DType) else DType.FLOAT)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        condition, a, b = (value_at(inputs, slot) for slot in range(3))
        return [np.asarray(np.where(condition.astype(np.bool_), a, b))]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        condition, a, b = (bounds_at(inputs, slot) for slot in range(3))
        lo, hi = (
            np.where(condition.lo > 0, x, np.where(condition.hi < 1, y, nearest(x, y)))
            for x, y, nearest in ((a.lo, b.lo, np.minimum), (a.hi, b.hi, np.maximum))
        )
        return [Bounds(lo, hi)]

    def quantize(self, node: Node, q: Quantizer) -> None:
        condition = _answer(q, node.inputs[0])
        a, b = q.aligned(node.inputs[1:])
        q.emit(node, "Where", [condition.name, a.name, b.name], a.format.scale, output=node.output)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        condition, a, b = (value_at(values, slot) for slot in range(3))
        return [np.where(condition.astype(np.bool_), a.astype(object), b.astype(object))]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        return self.interval(node, bounds)

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """The larger of the two errors; where the condition may be wrong, how far apart they can be as well."""
        a, b = bounds_at(context.real, 1), bounds_at(context.real, 2)
        apart = np.maximum(a.hi, b.hi) - np.minimum(a.lo, b.lo)
        wrong = np.where(value_at(context.errors, 0) > 0, apart, 0.0)
        error = np.maximum(input_error(inputs, context, 1), input_error(inputs, context, 2)) + wrong
        return [np.broadcast_to(error, context.outputs[0].shape)]
