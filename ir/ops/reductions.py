"""Sums, means, extremes and the first of several elements along axes: exact integer forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import prod
from typing import Any, ClassVar

import numpy as np

from ml2sc.errors import ShapeError, UnsupportedModelError

from ..graph import AttrValue, Node, Tensor
from ..types import Array, DType
from .base import Arrays, Bounds, ErrorContext, Inputs, OpDef, Signature, attr_int, constant_ints, register_op
from .linear import widened
from .movement import axis_of
from .operands import bounds_at, magnitude, tensor_at, value_at
from .quantizer import Quantizer


def reduced_axes(node: Node, rank: int, ints: Sequence[int] | None) -> tuple[int, ...]:
    """Return the axes, of a tensor of `rank` axes, that a node reduces.

    Args:
        node: It has an attribute `axes` once it is quantised.
        rank: Number of axes.
        ints: Its second input.
    """
    own = node.attrs.get("axes")
    if isinstance(own, tuple):
        return tuple(int(axis) for axis in own)
    if not ints:
        return () if attr_int(node, "noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted({axis_of(node, axis, rank) for axis in ints}))


class Reduction(OpDef):
    """What becomes of the elements along some axes (the second input; all if it is left out).

    In a quantised graph attribute `axes` lists them.
    """

    max_inputs = 2
    function: ClassVar[Callable[..., Any]]

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        x = tensor_at(inputs, 0)
        ints = constant_ints(node, inputs[1] if len(inputs) > 1 else None, "its axes input")
        axes = reduced_axes(node, len(x.shape), ints)
        kept = [1 if axis in axes else dim for axis, dim in enumerate(x.shape)]
        if not attr_int(node, "keepdims", 1):
            kept = [dim for axis, dim in enumerate(x.shape) if axis not in axes]
        if prod(x.shape) == 0:
            raise ShapeError(f"{node.op_type} of a tensor without elements", node=str(node), tensor=f"%{x.name}")
        return [Signature(tuple(kept), DType.INT64 if x.type is DType.INT64 else DType.FLOAT)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0)
        listed = inputs[1] if len(inputs) > 1 else None
        axes = reduced_axes(node, x.ndim, None if listed is None else [int(v) for v in np.ravel(listed)])
        y = np.asarray(type(self).function(x, axis=axes, keepdims=bool(attr_int(node, "keepdims", 1))))
        return [y.astype(x.dtype) if x.dtype.kind == "i" else y]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x, rest = bounds_at(inputs, 0), [None if b is None else b.lo for b in inputs[1:]]
        ends = Bounds(*(self.evaluate(node, [v, *rest])[0] for v in x))
        wide = widened(ends, self.evaluate(node, [magnitude(x), *rest])[0])
        # float64 makes no sum of what has one sign another sign
        return [
            Bounds(
                np.where(ends.lo >= 0, np.maximum(wide.lo, 0), wide.lo),
                np.where(ends.hi <= 0, np.minimum(wide.hi, 0), wide.hi),
            )
        ]

    def scale(self, x: Tensor, count: int) -> Fraction:
        """Return the size of the result's step."""
        return x.format.scale

    def quantize(self, node: Node, q: Quantizer) -> None:
        shape = q.shape(node.inputs[0])
        listed = node.inputs[1] if len(node.inputs) > 1 else ""
        axes = reduced_axes(node, len(shape), [int(v) for v in q.real(listed).ravel()] if listed else None)
        x = q.raw(node.inputs[0])
        attrs: dict[str, AttrValue] = {"axes": axes, "keepdims": attr_int(node, "keepdims", 1)}
        scale = self.scale(x, prod(shape[axis] for axis in axes))
        q.emit(node, self.op_type, [x.name], scale, output=node.output, attrs=attrs)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        x = tensor_at(inputs, 0)
        u = value_at(values, 0).astype(object).reshape(x.shape) - x.format.zero_point
        return [np.asarray(self.exact(np.asarray(u, dtype=object), reduced_axes(node, len(x.shape), None)))]

    def exact(self, u: Array, axes: tuple[int, ...]) -> Any:
        """Return what becomes of integers x − z."""
        return type(self).function(u, axis=axes)

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """The function of the errors."""
        x = tensor_at(inputs, 0)
        errors = np.broadcast_to(value_at(context.errors, 0), x.shape)
        total = self.bound(errors, reduced_axes(node, len(x.shape), None))
        return [np.asarray(total).reshape(context.outputs[0].shape)]

    def bound(self, errors: Array, axes: tuple[int, ...]) -> Any:
        """Return what the error of the result can be."""
        return type(self).function(errors, axis=axes)


@register_op
class ReduceSum(Reduction):
    """The sum along some axes (the second input; all if it is left out)."""

    op_type = "ReduceSum"
    function: ClassVar[Callable[..., Any]] = np.sum


@register_op
class ReduceMean(Reduction):
    """The mean along some axes (the second input; all if it is left out). In a quantised graph: the sum."""

    op_type = "ReduceMean"
    function: ClassVar[Callable[..., Any]] = np.mean

    def scale(self, x: Tensor, count: int) -> Fraction:
        return x.format.scale / count

    def exact(self, u: Array, axes: tuple[int, ...]) -> Any:
        return np.sum(u, axis=axes)


@register_op
class ReduceMax(Reduction):
    """The greatest element along some axes (the second input; all if it is left out)."""

    op_type = "ReduceMax"
    function: ClassVar[Callable[..., Any]] = np.max

    def bound(self, errors: Array, axes: tuple[int, ...]) -> Any:
        return np.max(errors, axis=axes)


@register_op
class ReduceMin(ReduceMax):
    """The least element along some axes (the second input; all if it is left out)."""

    op_type = "ReduceMin"
    function: ClassVar[Callable[..., Any]] = np.min


class _Top(OpDef):
    """The `k` greatest elements of a vector, the first of equal ones before the others."""

    onnx = False

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        x, k = tensor_at(inputs, 0), attr_int(node, "k", 1)
        axis = axis_of(node, attr_int(node, "axis", -1), len(x.shape))
        if x.size != x.shape[axis]:
            raise UnsupportedModelError(
                "TopK is supported for one vector", node=str(node), tensor=f"%{x.name}{list(x.shape)}, axis {axis}"
            )
        if not 0 < k <= x.size:
            raise ShapeError(f"the {k} greatest of {x.size} elements", node=str(node), tensor=f"%{x.name}")
        return [Signature((*x.shape[:axis], k, *x.shape[axis + 1 :]), self.type_of(x))]

    def type_of(self, x: Tensor) -> DType:
        """Return the type of the result."""
        raise NotImplementedError

    def chosen(self, node: Node, x: Array) -> Array:
        """Return the indices of the greatest elements of a vector."""
        flat = list(x.ravel())
        order = sorted(range(len(flat)), key=lambda index: (-flat[index], index))
        return np.array(order[: attr_int(node, "k", 1)], dtype=np.int64)

    def _shaped(self, node: Node, x: Array, values: Array) -> Array:
        axis = axis_of(node, attr_int(node, "axis", -1), x.ndim)
        return values.reshape((*x.shape[:axis], len(values), *x.shape[axis + 1 :]))

    def _emit(self, node: Node, q: Quantizer, scale: Fraction, x: Tensor) -> None:
        attrs = {"k": attr_int(node, "k", 1), "axis": attr_int(node, "axis", -1)}
        q.emit(node, self.op_type, [x.name], scale, output=node.output, attrs=attrs)


@register_op
class TopIndices(_Top):
    """The indices of the `k` greatest elements of a vector, the first of equal ones before the others."""

    op_type = "TopIndices"

    def type_of(self, x: Tensor) -> DType:
        return DType.INT64

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0)
        return [self._shaped(node, x, self.chosen(node, x))]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        zeros = np.zeros(self.evaluate(node, [bounds_at(inputs, 0).lo])[0].shape)
        return [Bounds(zeros, zeros + (bounds_at(inputs, 0).lo.size - 1))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        self._emit(node, q, Fraction(1), q.raw(node.inputs[0]))

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        return [self.chosen(node, value_at(values, 0)).astype(object)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        shape = outputs[0].shape
        return [Bounds(np.full(shape, 0, dtype=object), np.full(shape, tensor_at(inputs, 0).size - 1, dtype=object))]

    def jump(self, node: Node, inputs: Sequence[Bounds | None]) -> float:
        return float(bounds_at(inputs, 0).lo.size - 1)

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """Another index may come out."""
        return [np.full(context.outputs[0].shape, float(tensor_at(inputs, 0).size - 1))]


@register_op
class TopValues(_Top):
    """The `k` greatest elements of a vector, in falling order."""

    op_type = "TopValues"

    def type_of(self, x: Tensor) -> DType:
        return x.type if isinstance(x.type, DType) else DType.FLOAT

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0)
        return [self._shaped(node, x, x.ravel()[self.chosen(node, x)])]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        return [Bounds(*(self.evaluate(node, [v])[0] for v in bounds_at(inputs, 0)))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        x = q.raw(node.inputs[0])
        self._emit(node, q, x.format.scale, x)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        x = value_at(values, 0).ravel()
        return [x[self.chosen(node, x)] - tensor_at(inputs, 0).format.zero_point]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """The k-th greatest moves no further than the element that moves furthest."""
        return [np.full(context.outputs[0].shape, float(value_at(context.errors, 0).max(initial=0.0)))]
