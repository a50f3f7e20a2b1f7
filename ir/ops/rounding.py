"""Rounding to whole numbers: exact integer forms."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar

import numpy as np

from ml2sc.errors import RangeError

from ..graph import Node, Tensor
from ..program import word_multiplier
from ..types import Array, DType
from .base import Arrays, Bounds, ErrorContext, Inputs, Signature, attr_int, register_op
from .operands import UnaryOp, bounds_at, tensor_at, value_at
from .quantizer import Quantizer

_ACCURACY = 64
"""Bits of the factor that stands for a step's size."""
_MOST_SHIFT = 250
"""Largest shift that leaves what is added before it room in a word."""


class Rounding(UnaryOp):
    """X as a whole number.

    In a quantised graph: (2·(x − z)·multiplier + offset) >> (shift + 1), with multiplier / 2^shift the size of a step
    of x. What a caller gives is rounded to a step before, so a whole number may have become a little less or more:
    `offset` takes X to be as far up (Floor) or down (Ceil) as what is rounded to the same step.
    """

    batches = True
    lean: ClassVar[int]
    """Half steps that X is moved by before it is rounded down: 1, −1, or 0."""
    up: ClassVar[Fraction] = Fraction(0)
    """What is added to it as well."""
    function: ClassVar[np.ufunc]

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        return [Signature(tensor_at(inputs, 0).shape, DType.FLOAT)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [np.asarray(type(self).function(value_at(inputs, 0).astype(np.float64)))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        raw = q.raw(node.inputs[0])
        if raw.format.scale.denominator == 1:  # it is whole
            q.emit(node, "Identity", [raw.name], raw.format.scale, output=node.output, fixed=raw.format)
            return
        x = q.operand(node.inputs[0], _ACCURACY + 2)
        found = word_multiplier(x.format.scale, _ACCURACY, q.bits(x) + 2)
        if found is None or found[1] > _MOST_SHIFT:
            raise RangeError(
                f"{node.op_type}: its operand is too wide for a word of the EVM",
                node=str(node),
                hint="narrow the input range (--input-range), or choose a narrower --precision",
            )
        multiplier, shift = found
        attrs = {"multiplier": multiplier, "shift": shift, "offset": self.offset(multiplier, shift)}
        q.emit(node, self.op_type, [x.name], Fraction(1), output=node.output, attrs=attrs)

    def offset(self, multiplier: int, shift: int) -> int:
        """Return what is added before the shift."""
        top = (1 << (shift + 1)) - 1  # rounding down after adding it is rounding up
        return self.lean * multiplier + (top if self.up == 1 else int(self.up * (1 << (shift + 1))))

    def rounded(self, node: Node, u: Array) -> Array:
        """Return the whole numbers, given x − z."""
        shift = attr_int(node, "shift", 0)
        total = 2 * u * attr_int(node, "multiplier", 1) + attr_int(node, "offset", 0)
        down: Array = total // (1 << (shift + 1))
        return down

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        return [self.rounded(node, value_at(values, 0).astype(object) - tensor_at(inputs, 0).format.zero_point)]

    def jump(self, node: Node, inputs: Sequence[Bounds | None]) -> float:
        y = self.interval(node, inputs)[0]
        return 1.0 if (y.lo < y.hi).any() else 0.0

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """Exact where all that X can be taken for is rounded to one number; else as far off as that, and up to 1."""
        x, scale = bounds_at(context.real, 0), tensor_at(inputs, 0).format.scale
        used = Fraction(attr_int(node, "multiplier", 1), 1 << attr_int(node, "shift", 0))
        off = value_at(context.errors, 0) + float(scale) / 2
        off = off + abs(float(used / scale - 1)) * (np.maximum(np.abs(x.lo), np.abs(x.hi)) + off)
        lo, hi = (self.evaluate(node, [v])[0] for v in (x.lo - off, x.hi + off))
        return [np.broadcast_to(np.where(lo == hi, 0.0, np.floor(off) + 1.0), context.outputs[0].shape)]


@register_op
class Floor(Rounding):
    """The greatest whole number that is not above X."""

    op_type = "Floor"
    lean = 1
    function: ClassVar[np.ufunc] = np.floor


@register_op
class Ceil(Rounding):
    """The least whole number that is not below X."""

    op_type = "Ceil"
    lean = -1
    up = Fraction(1)
    function: ClassVar[np.ufunc] = np.ceil


@register_op
class Round(Rounding):
    """The nearest whole number (of two, the even one; in a quantised graph the greater)."""

    op_type = "Round"
    lean = 0
    up = Fraction(1, 2)
    function: ClassVar[np.ufunc] = np.rint


@register_op
class Trunc(Rounding):
    """X rounded towards 0: what a Cast of a real number to an integer is.

    In a quantised graph: as Floor of |x − z|, with the sign of x − z.
    """

    op_type = "Trunc"
    onnx = False
    lean = 1
    function: ClassVar[np.ufunc] = np.trunc

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        return [Signature(tensor_at(inputs, 0).shape, DType.INT64)]

    def rounded(self, node: Node, u: Array) -> Array:
        magnitude = super().rounded(node, np.abs(u))
        signed: Array = np.where(u < 0, -magnitude, magnitude)
        return signed
