"""Operators that only ever work on constants: shape arithmetic and the preparation of weights.

They have a float side and no integer side: where their inputs depend on the model's input they are unsupported.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ml2sc.errors import ShapeError

from ..graph import Node, Tensor
from ..limits import check_elements, check_shape
from ..types import Array, DType
from .base import OPS, Arrays, Inputs, OpDef, Signature, attr_int, register_op


class FoldingOp(OpDef):
    """An operator that must fold away.

    Attributes:
        shape_only: Its output depends on its first input's shape only, so that folds whatever the elements are.
    """

    shape_only: ClassVar[bool] = False

    def compute(self, node: Node, arrays: list[Array]) -> Array:
        """Return the output, given the inputs that are present."""
        raise NotImplementedError

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        # These only ever meet constants, so computing them tells the shape at no cost.
        return [_signature(array) for array in self.evaluate_shape(node, inputs)]

    def evaluate_shape(self, node: Node, inputs: Inputs) -> list[Array]:
        """Return the outputs with ones for unknown elements: right in shape, and in value if `shape_only`."""
        return self.evaluate(node, [None if tensor is None else _stand_in(tensor) for tensor in inputs])

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        arrays = [array for array in inputs if array is not None]
        try:
            with np.errstate(all="ignore"):  # an infinite or NaN result is reported where it is used
                out = np.asarray(self.compute(node, arrays))
        except ValueError as error:
            raise ShapeError(f"{self.op_type} cannot be computed: {error}", node=str(node)) from error
        if out.dtype.kind in "iu":
            return [out.astype(np.int64)]
        return [out if out.dtype.kind == "b" else out.astype(np.float64)]


def _stand_in(tensor: Tensor) -> Array:
    if tensor.data is not None:
        return tensor.data
    ones = np.ones(tensor.shape)
    return ones.astype(
        np.int64 if tensor.type is DType.INT64 else np.bool_ if tensor.type is DType.BOOL else np.float64
    )


def _signature(array: Array) -> Signature:
    return Signature(array.shape, {"b": DType.BOOL, "i": DType.INT64}.get(array.dtype.kind, DType.FLOAT))


@register_op
class Shape(FoldingOp):
    """The dimensions of a tensor, from `start` to `end`."""

    op_type = "Shape"
    shape_only = True

    def compute(self, node: Node, arrays: list[Array]) -> Array:
        end = attr_int(node, "end", arrays[0].ndim)
        return np.array(arrays[0].shape[attr_int(node, "start", 0) : end], dtype=np.int64)


@register_op
class Size(FoldingOp):
    """The number of elements of a tensor."""

    op_type = "Size"
    shape_only = True

    def compute(self, node: Node, arrays: list[Array]) -> Array:
        return np.array(arrays[0].size, dtype=np.int64)


@register_op
class Range(FoldingOp):
    """start, start + delta, … up to limit (not included)."""

    op_type = "Range"
    min_inputs = max_inputs = 3

    def compute(self, node: Node, arrays: list[Array]) -> Array:
        if not all(array.size == 1 for array in arrays):
            raise ValueError("its inputs are not one number each")
        start, limit, delta = (array.ravel()[0] for array in arrays)
        if delta == 0:
            raise ValueError("its step is 0")
        check_elements((float(limit) - float(start)) / float(delta), node=str(node))
        return np.arange(start, limit, delta)


@register_op
class Mod(FoldingOp):
    """ONNX's Mod, on constants."""

    op_type = "Mod"
    min_inputs = max_inputs = 2

    def compute(self, node: Node, arrays: list[Array]) -> Array:
        check_shape(np.broadcast_shapes(*(array.shape for array in arrays)), node=str(node))
        function = np.fmod if attr_int(node, "fmod", 0) else np.mod
        return np.asarray(function(*arrays))


@register_op
class ReduceProd(FoldingOp):
    """The product along some axes (the second input; all if it is left out), on constants."""

    op_type = "ReduceProd"
    max_inputs = 2

    def compute(self, node: Node, arrays: list[Array]) -> Array:
        data = arrays[0]
        axes = tuple(int(axis) for axis in arrays[1].ravel()) if len(arrays) > 1 else ()
        if not axes and attr_int(node, "noop_with_empty_axes", 0):
            return data
        out = np.prod(data, axis=axes or None, keepdims=bool(attr_int(node, "keepdims", 1)))
        return np.asarray(out).astype(data.dtype)


def folds_only(op_type: str) -> bool:
    """Whether an operator of ours is supported only on constants."""
    return op_type in OPS and isinstance(OPS.get(op_type), FoldingOp)
