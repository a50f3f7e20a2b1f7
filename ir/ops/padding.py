"""Pad by a constant. Padding that mirrors, repeats or extends a tensor becomes Gather when a model is read."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ml2sc.errors import ShapeError

from ..graph import Node, Tensor
from ..types import Array, DType, round_half_up
from .base import Arrays, Bounds, ErrorContext, Inputs, OpDef, Signature, attr_float, attr_int, register_op
from .operands import bounds_at, tensor_at, value_at
from .quantizer import Quantizer
from .windows import attr_ints


@register_op
class Pad(OpDef):
    """Adds entries of `value` (0 if it is left out) at the ends of axes, or where `pads` is negative removes some.

    In a quantised graph: `fill`, an integer, instead, in the format of X.
    """

    op_type = "Pad"
    keeps_format = True

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        x = tensor_at(inputs, 0)
        pads = self.ends(node, x.shape)
        if any(dim + min(a, 0) + min(b, 0) < 0 or dim + a + b < 0 for dim, (a, b) in zip(x.shape, pads, strict=True)):
            raise ShapeError(
                f"pads {node.attrs.get('pads')} leave nothing of {list(x.shape)}",
                node=str(node),
                hint="negative pads may take all elements but one of an axis",
            )
        shape = tuple(dim + a + b for dim, (a, b) in zip(x.shape, pads, strict=True))
        return [Signature(shape, DType.INT64 if x.type is DType.INT64 else DType.FLOAT)]

    def ends(self, node: Node, shape: Sequence[int]) -> list[tuple[int, int]]:
        """Return how much is added before and after each axis."""
        ends, rank = attr_ints(node, "pads", (0,) * 2 * len(shape)), len(shape)
        return list(zip(ends[:rank], ends[rank:], strict=True))

    def padded(self, node: Node, x: Array, fill: float) -> Array:
        """Return an array of any element type with its padding."""
        pads = self.ends(node, x.shape)
        kept = x[tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, pads, strict=True))]
        shape = [n + max(a, 0) + max(b, 0) for n, (a, b) in zip(kept.shape, pads, strict=True)]
        result: Array = np.full(shape, fill, dtype=x.dtype)
        inside = tuple(slice(max(a, 0), max(a, 0) + n) for n, (a, _) in zip(kept.shape, pads, strict=True))
        result[inside] = kept
        return result

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [self.padded(node, value_at(inputs, 0), attr_float(node, "value", 0.0))]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x, value = bounds_at(inputs, 0), attr_float(node, "value", 0.0)
        return [Bounds(self.padded(node, x.lo, value), self.padded(node, x.hi, value))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        x, value = q.raw(node.inputs[0]), attr_float(node, "value", 0.0)
        zero = x.format.zero_point
        fill = round_half_up(Fraction(value) / x.format.scale) + zero
        attrs = {"pads": node.attrs["pads"], "fill": fill, "value": value}
        q.emit(node, "Pad", [x.name], x.format.scale, output=node.output, zero_point=zero, attrs=attrs)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        x = value_at(values, 0).reshape(tensor_at(inputs, 0).shape)
        return [self.padded(node, x, attr_int(node, "fill", 0))]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        form = context.outputs[0].format
        stands_for = (attr_int(node, "fill", 0) - form.zero_point) * form.scale
        wrong = float(abs(stands_for - Fraction(attr_float(node, "value", 0.0))))
        return [self.padded(node, value_at(context.errors, 0), wrong)]
