"""Shrink, ONNX's operator, and `org.example.DeadZone`, one of our own: what they mean, and what a contract does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ml2sc.errors import UnsupportedModelError
from ml2sc.ir.graph import Node, Tensor
from ml2sc.ir.ops import Bounds, ErrorContext, OpDef, Signature
from ml2sc.ir.ops.base import Arrays, Inputs, attr_float
from ml2sc.ir.ops.linear import widened
from ml2sc.ir.ops.quantizer import Quantizer
from ml2sc.ir.program import Assign, Expr, If, Let, Statement, Var, add, const, sgt, slt, sub
from ml2sc.ir.types import Array, DType, round_half_up
from ml2sc.passes.lower import Lowering
from ml2sc.passes.lower.elementwise import lower_map


class Shrink(OpDef):
    """X − bias where X > lambd, X + bias where X < −lambd, else 0.

    In a quantised graph: the same of x − z, with `offset` and `threshold` for bias and lambd.
    """

    op_type = "Shrink"

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        lambd, bias = self.shape(node)
        if not 0 <= bias <= lambd:
            raise UnsupportedModelError("Shrink is supported with 0 <= bias <= lambd", node=str(node))

    def shape(self, node: Node) -> tuple[float, float]:
        """Return lambd and bias."""
        return attr_float(node, "lambd", 0.5), attr_float(node, "bias", 0.0)

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        (x,) = inputs
        assert x is not None
        return [Signature(x.shape, DType.FLOAT)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        (x,) = inputs
        assert x is not None
        lambd, bias = self.shape(node)
        return [np.where(x > lambd, x - bias, np.where(x < -lambd, x + bias, 0.0))]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        (x,) = inputs
        assert x is not None
        ends = Bounds(self.evaluate(node, [x.lo])[0], self.evaluate(node, [x.hi])[0])
        return [widened(ends, np.maximum(np.abs(x.lo), np.abs(x.hi)))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        lambd, bias = self.shape(node)
        x = q.raw(node.inputs[0])
        scale = x.format.scale
        q.emit(
            node,
            "Shrink",
            [x.name],
            scale,
            output=node.output,
            attrs={
                "lambd": lambd,
                "bias": bias,
                "threshold": math.floor(Fraction(lambd) / scale),
                "offset": round_half_up(Fraction(bias) / scale),
            },
        )

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        x, q = inputs[0], values[0]
        assert x is not None
        assert q is not None
        u, threshold, offset = q - x.format.zero_point, integer(node, "threshold"), integer(node, "offset")
        return [np.where(u > threshold, u - offset, np.where(u < -threshold, u + offset, 0))]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """The input's error, what rounding bias adds, and the jump at lambd where x may be on either side of it."""
        error, real = context.errors[0], context.real[0]
        assert error is not None
        assert real is not None
        lambd, bias = self.shape(node)
        near = (real.lo - error <= -lambd) | (real.hi + error >= lambd)
        return [error + float(context.outputs[0].format.scale) + np.where(near, lambd - bias, 0.0)]


class DeadZone(Shrink):
    """Shrink with lambd = bias = 1/2, which a graph holds as the Shrink it is once it is quantised."""

    op_type = "org.example.DeadZone"

    def shape(self, node: Node) -> tuple[float, float]:
        return 0.5, 0.5


def lower_shrink(context: Lowering, node: Node) -> None:
    """Write out `Shrink.evaluate_exact` of every element."""
    zero = const(context.graph.tensor(node.inputs[0]).format.zero_point)
    threshold, offset = integer(node, "threshold"), const(integer(node, "offset"))

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        above = If(sgt(Var("x"), const(threshold)), (Assign("y", sub(Var("x"), offset)),))
        below = If(slt(Var("x"), const(-threshold)), (Assign("y", add(Var("x"), offset)),))
        return [Let("x", sub(operands[0], zero)), Let("y", const(0)), above, below], Var("y")

    lower_map(context, node, compute)


def integer(node: Node, key: str) -> int:
    """Return an attribute that `Shrink.quantize` set."""
    value = node.attrs[key]
    assert isinstance(value, int)
    return value
