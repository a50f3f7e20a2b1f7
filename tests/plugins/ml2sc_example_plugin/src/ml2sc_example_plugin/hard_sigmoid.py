"""HardSigmoid, ONNX's operator, and `org.example.Gate`, one of our own: what they mean, and what a contract does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ml2sc.errors import RangeError, UnsupportedModelError
from ml2sc.ir.analysis import ACCUMULATOR_BITS
from ml2sc.ir.graph import Node, Tensor
from ml2sc.ir.ops import Bounds, ErrorContext, OpDef, Signature
from ml2sc.ir.ops.base import Arrays, Inputs, attr_float
from ml2sc.ir.ops.linear import widened
from ml2sc.ir.ops.quantizer import Quantizer
from ml2sc.ir.program import Expr, Let, Statement, Var, add, const, mul, sub
from ml2sc.ir.types import Array, DType, round_half_up
from ml2sc.passes.lower import Lowering
from ml2sc.passes.lower.elementwise import at_least, at_most, lower_map


class HardSigmoid(OpDef):
    """max(0, min(1, alpha · X + beta)).

    In a quantised graph, at a scale `shift` bits finer: clamp((x − z) · multiplier + offset, 0, top).
    """

    op_type = "HardSigmoid"

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        if self.slope(node)[0] < 0:
            raise UnsupportedModelError("HardSigmoid with a negative alpha is not supported", node=str(node))

    def slope(self, node: Node) -> tuple[float, float]:
        """Return alpha and beta."""
        return attr_float(node, "alpha", 0.2), attr_float(node, "beta", 0.5)

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        (x,) = inputs
        assert x is not None
        return [Signature(x.shape, DType.FLOAT)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        (x,) = inputs
        assert x is not None
        alpha, beta = self.slope(node)
        return [np.clip(alpha * x + beta, 0.0, 1.0)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        (x,) = inputs
        assert x is not None
        ends = Bounds(self.evaluate(node, [x.lo])[0], self.evaluate(node, [x.hi])[0])
        # where it is not clamped |alpha · x| is at most 1 + |beta|: float64 rounds to within a part of that
        return [widened(ends, np.asarray(2.0 + 2.0 * abs(self.slope(node)[1])))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        alpha, beta = self.slope(node)
        shift = q.precise_bits
        x = q.operand(node.inputs[0], shift + math.ceil(math.log2(alpha + 1)))
        scale = x.format.scale / (1 << shift)
        q.emit(
            node,
            "HardSigmoid",
            [x.name],
            scale,
            output=node.output,
            attrs={
                "alpha": alpha,
                "beta": beta,
                "shift": shift,
                "multiplier": round_half_up(Fraction(alpha) * (1 << shift)),
                "offset": round_half_up(Fraction(beta) / scale),
                "top": round_half_up(1 / scale),
            },
        )

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        return [np.minimum(np.maximum(self.sum(node, inputs, values[0]), 0), integer(node, "top"))]

    def sum(self, node: Node, inputs: Inputs, q: Array | None) -> Array:
        """Return the integers that are clamped."""
        (x,) = inputs
        assert x is not None
        assert q is not None
        y: Array = (q - x.format.zero_point) * integer(node, "multiplier") + integer(node, "offset")
        return y

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        """The default is right for a growing function; but the sum that it clamps must fit a word, too."""
        (x,) = bounds
        assert x is not None
        largest = max(abs(int(v)) for ends in x for v in self.sum(node, inputs, ends).ravel())
        if largest >= 1 << ACCUMULATOR_BITS - 1:
            raise RangeError(f"HardSigmoid's sum can reach {largest:.3g}, more than a word holds", node=str(node))
        return super().interval_exact(node, inputs, bounds, outputs)

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """The input's error, what rounding alpha adds to it, and what rounding beta and 1 does."""
        error, real = context.errors[0], context.real[0]
        assert error is not None
        assert real is not None
        scale = context.outputs[0].format.scale
        used = Fraction(integer(node, "multiplier"), 1 << integer(node, "shift"))
        wrong = abs(used - Fraction(attr_float(node, "alpha", 0.0)))
        largest = np.maximum(np.abs(real.lo), np.abs(real.hi))
        return [float(used) * error + float(wrong) * largest + float(scale)]


class Gate(HardSigmoid):
    """max(0, min(1, X / 2 + 1 / 2)), which a graph holds as the HardSigmoid it is once it is quantised."""

    op_type = "org.example.Gate"

    def slope(self, node: Node) -> tuple[float, float]:
        return 0.5, 0.5


def lower_hard_sigmoid(context: Lowering, node: Node) -> None:
    """Write out `HardSigmoid.evaluate_exact` of every element."""
    zero = const(context.graph.tensor(node.inputs[0]).format.zero_point)

    def compute(operands: list[Expr]) -> tuple[list[Statement], Expr]:
        x = sub(operands[0], zero)
        y = add(mul(x, const(integer(node, "multiplier"))), const(integer(node, "offset")))
        return [Let("y", y), at_least("y", const(0)), at_most("y", const(integer(node, "top")))], Var("y")

    lower_map(context, node, compute)


def integer(node: Node, key: str) -> int:
    """Return an attribute that `HardSigmoid.quantize` set."""
    value = node.attrs[key]
    assert isinstance(value, int)
    return value
