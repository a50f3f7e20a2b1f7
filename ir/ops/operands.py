"""A node's operands by slot, for operators that know which slots are there; operators of one operand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Node, Tensor
from ..types import Array, DType
from .base import Bounds, ErrorContext, Inputs, OpDef, Signature

FOLD_ERROR = 2.0**-48
"""Relative error of a weight that passes multiplied together in float64 (a few roundings of 2^-53 each)."""


def value_at(values: Sequence[Array | None], slot: int) -> Array:
    """Return an operand's elements."""
    value = values[slot]
    assert value is not None
    return value


def tensor_at(inputs: Inputs, slot: int) -> Tensor:
    """Return the tensor in a slot."""
    tensor = inputs[slot]
    assert tensor is not None
    return tensor


def bounds_at(bounds: Sequence[Bounds | None], slot: int) -> Bounds:
    """Return an operand's bounds."""
    bound = bounds[slot]
    assert bound is not None
    return bound


def magnitude(bounds: Bounds) -> Array:
    """Return the greatest absolute value within bounds, by element."""
    greatest: Array = np.maximum(np.abs(bounds.lo), np.abs(bounds.hi))
    return greatest


def input_error(inputs: Inputs, context: ErrorContext, slot: int) -> Array:
    """Return the error of an operand: that of a tensor, or of a constant's rounding."""
    tensor = tensor_at(inputs, slot)
    if tensor.data is None:
        return value_at(context.errors, slot)
    assert tensor.real is not None
    error: Array = np.abs(tensor.format.dequantize(tensor.data) - tensor.real) + FOLD_ERROR * np.abs(tensor.real)
    return error


def int_of(node: Node, key: str) -> int:
    """Return an integer attribute that quantising has set."""
    value = node.attrs[key]
    assert isinstance(value, int)
    return value


class UnaryOp(OpDef):
    """One operand, one result of its shape."""

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        x = tensor_at(inputs, 0)
        return [Signature(x.shape, DType.INT64 if x.type is DType.INT64 else DType.FLOAT)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        """Sound for growing functions."""
        x = bounds_at(inputs, 0)
        rest = list(inputs[1:])
        lows = self.evaluate(node, [x.lo, *(b if b is None else b.lo for b in rest)])[0]
        highs = self.evaluate(node, [x.hi, *(b if b is None else b.hi for b in rest)])[0]
        return [Bounds(lows, highs)]
