"""What ends a model: probabilities, decisions and class labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from ml2sc.errors import RangeError, UnsupportedModelError

from .. import fixmath
from ..graph import Node, Tensor
from ..program import word_multiplier
from ..types import Array, DType
from .base import Arrays, Bounds, ErrorContext, Inputs, OpDef, Signature, attr_int, register_op
from .movement import axis_of
from .operands import bounds_at, tensor_at, value_at
from .quantizer import Quantizer


def _axis(node: Node, rank: int, default: int) -> int:
    return axis_of(node, attr_int(node, "axis", default), rank)


def _is_near(x: Bounds, error: Array, threshold: float) -> Array:
    """Whether values within bounds, or integers so far off them, may be on either side of a threshold (it is above)."""
    near: Array = (x.lo - error < threshold) & (x.hi + error >= threshold)
    return near


class _VectorOp(OpDef):
    """A function of each vector along one axis, which keeps the shape.

    In a quantised graph the axis is the last one, and results have 60 fraction bits.
    """

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        x = tensor_at(inputs, 0)
        _axis(node, len(x.shape), -1)
        return [Signature(x.shape, DType.FLOAT)]

    def _emit(self, node: Node, q: Quantizer, x: Tensor, attrs: Mapping[str, int | str]) -> None:
        shape = q.shape(node.inputs[0])
        axis = _axis(node, len(shape), -1)
        if any(dim > 1 for dim in shape[axis + 1 :]):
            raise UnsupportedModelError(
                f"{node.op_type} is supported along the last axis",
                node=str(node),
                tensor=f"%{node.inputs[0]}{list(shape)}, axis {axis}",
            )
        q.emit(
            node, self.op_type, [x.name], fixmath.OUTPUT_STEP, output=node.output, attrs={**attrs, "size": shape[axis]}
        )

    def _rows(self, node: Node, inputs: Inputs, values: Arrays) -> Array:
        x = value_at(values, 0) - tensor_at(inputs, 0).format.zero_point
        return x.reshape(-1, attr_int(node, "size", 1))

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        rows = [self._exact_row(node, [int(v) for v in row]) for row in self._rows(node, inputs, values)]
        return [np.array(rows, dtype=object).reshape(outputs[0].shape)]

    def _exact_row(self, node: Node, row: list[int]) -> list[int]:
        raise NotImplementedError


@register_op
class Softmax(_VectorOp):
    """exp(x_i − max x) / Σ_j exp(x_j − max x)."""

    op_type = "Softmax"

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0)
        axis = _axis(node, x.ndim, -1)
        e = np.exp(x - x.max(axis=axis, keepdims=True))
        return [e / e.sum(axis=axis, keepdims=True)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        shape = bounds_at(inputs, 0).lo.shape
        return [Bounds(np.zeros(shape), np.ones(shape))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        x = q.raw(node.inputs[0])
        self._emit(node, q, x, fixmath.input_attrs(x.format.scale, q.bits(x) + 1))

    def _exact_row(self, node: Node, row: list[int]) -> list[int]:
        scale, top = fixmath.InputScale.of(node), max(row)
        e = [fixmath.exp_neg(scale.apply(top - v)) for v in row]
        return [(v << fixmath.OUTPUT_BITS) // sum(e) for v in e]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        shape = outputs[0].shape
        return [Bounds(np.full(shape, 0, dtype=object), np.full(shape, fixmath.OUTPUT_ONE, dtype=object))]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """|∂p_i/∂x_j| sums to 2·p_i·(1 − p_i) <= 1/2 over j; exp's errors enter the quotient size + 1 times."""
        error = value_at(context.errors, 0)
        exp = fixmath.EXP_ERROR + fixmath.InputScale.of(node).error(tensor_at(inputs, 0).format.scale)
        own = (attr_int(node, "size", 1) + 2) * exp
        return [np.full(error.shape, min(float(error.max(initial=0.0)) / 2 + own, 1.0))]


@register_op
class LogSoftmax(_VectorOp):
    """x_i − max x − ln Σ_j exp(x_j − max x)."""

    op_type = "LogSoftmax"

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0)
        axis = _axis(node, x.ndim, -1)
        shifted = x - x.max(axis=axis, keepdims=True)
        return [shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x = bounds_at(inputs, 0)
        spread = float(x.hi.max() - x.lo.min()) + float(np.log(x.lo.size)) + 1e-9
        return [Bounds(np.full(x.lo.shape, -spread), np.zeros(x.lo.shape))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        shape = q.shape(node.inputs[0])
        if shape[_axis(node, len(shape), -1)] >= 1 << 16:
            raise UnsupportedModelError("LogSoftmax is supported for fewer than 65,536 classes", node=str(node))
        x = q.raw(node.inputs[0])
        bits = q.bits(x) + 1
        found = word_multiplier(x.format.scale * fixmath.ONE, 112, bits)
        if found is None:
            raise RangeError(
                f"the logarithms of its probabilities do not fit a word with {fixmath.BITS} fraction bits",
                node=str(node),
                hint="narrow the input range with --input-range",
            )
        distance = {"distance_multiplier": found[0], "distance_shift": found[1]}
        self._emit(node, q, x, {**fixmath.input_attrs(x.format.scale, bits), **distance})

    def _exact_row(self, node: Node, row: list[int]) -> list[int]:
        scale, top = fixmath.InputScale.of(node), max(row)
        total = fixmath.ln(sum(fixmath.exp_neg(scale.apply(top - v)) for v in row))
        drop = fixmath.BITS - fixmath.OUTPUT_BITS
        multiplier, shift = (attr_int(node, f"distance_{key}", 0) for key in ("multiplier", "shift"))
        half = (1 << shift) >> 1
        return [-((((top - v) * multiplier + half) >> shift) + total >> drop) for v in row]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        x, size = bounds_at(bounds, 0), attr_int(node, "size", 1)
        lowest = self._exact_row(node, [int(x.lo.min()), int(x.hi.max())])[0]
        lowest -= (int(size).bit_length() + 1) << fixmath.OUTPUT_BITS
        shape = outputs[0].shape
        return [Bounds(np.full(shape, lowest, dtype=object), np.full(shape, 1, dtype=object))]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """|∂y_i/∂x_j| sums to at most 2 over j; the sum of exps is at least 1, so ln does not widen their errors."""
        error, x = value_at(context.errors, 0), bounds_at(context.real, 0)
        spread = float(x.hi.max() - x.lo.min()) + 2 * float(error.max(initial=0.0))
        scale = tensor_at(inputs, 0).format.scale
        exp = fixmath.EXP_ERROR + fixmath.InputScale.of(node).error(scale)
        ratio = Fraction(attr_int(node, "distance_multiplier", 0), fixmath.ONE << attr_int(node, "distance_shift", 0))
        wrong = spread * float(abs(ratio / scale - 1))
        own = (attr_int(node, "size", 1) + 1) * exp + fixmath.LN_ERROR + 2.0**-59 + wrong
        return [np.full(error.shape, 2 * float(error.max(initial=0.0)) + own)]


@register_op
class Normalizer(_VectorOp):
    """ai.onnx.ml's Normalizer with norm L1: x_i / Σ_j |x_j|, or 0 where all are 0."""

    op_type = "Normalizer"
    onnx = False

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        if node.attrs.get("norm") != "L1":
            raise UnsupportedModelError(
                f"Normalizer with norm {node.attrs.get('norm')!r}", node=str(node), hint="L1 is supported"
            )

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0)
        total = np.abs(x).sum(axis=-1, keepdims=True)
        return [x / np.where(total == 0, 1.0, total)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x = bounds_at(inputs, 0)
        return [Bounds(np.where(x.lo < 0, -1.0, 0.0), np.ones(x.lo.shape))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        self._emit(node, q, q.operand(node.inputs[0], fixmath.OUTPUT_BITS), {"norm": "L1"})

    def _exact_row(self, node: Node, row: list[int]) -> list[int]:
        total = sum(abs(v) for v in row) or 1
        return [(abs(v) << fixmath.OUTPUT_BITS) // total * (1 if v >= 0 else -1) for v in row]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        shape, one = outputs[0].shape, fixmath.OUTPUT_ONE
        return [Bounds(np.full(shape, -one, dtype=object), np.full(shape, one, dtype=object))]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """|x̂_i/Ŝ − x_i/S| <= (e_i + Σ e) / S with S at least its lower bound; never more than 2."""
        error, x = value_at(context.errors, 0), bounds_at(context.real, 0)
        size = attr_int(node, "size", 1)
        rows = error.reshape(-1, size)
        least = np.maximum(np.maximum(x.lo, -x.hi), 0.0).reshape(-1, size).sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = (rows + rows.sum(axis=1, keepdims=True)) / least + 2.0**-60
        return [np.where(np.isfinite(bound), np.minimum(bound, 2.0), 2.0).reshape(error.shape)]


@register_op
class ArgMax(OpDef):
    """Index of the greatest element along an axis, the first of equal ones (select_last_index: the last)."""

    op_type = "ArgMax"

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        if attr_int(node, "select_last_index", 0):
            raise UnsupportedModelError("ArgMax with select_last_index is not supported", node=str(node))

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        x = tensor_at(inputs, 0)
        axis = _axis(node, len(x.shape), 0)
        kept = (1,) if attr_int(node, "keepdims", 1) else ()
        return [Signature(x.shape[:axis] + kept + x.shape[axis + 1 :], DType.INT64)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0)
        axis = _axis(node, x.ndim, 0)
        index = np.argmax(x, axis=axis)
        return [np.asarray(np.expand_dims(index, axis) if attr_int(node, "keepdims", 1) else index)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x = bounds_at(inputs, 0)
        shape = self.evaluate(node, [x.lo])[0].shape
        return [Bounds(np.zeros(shape), np.full(shape, float(x.lo.shape[_axis(node, x.lo.ndim, 0)] - 1)))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        shape = q.shape(node.inputs[0])
        axis = _axis(node, len(shape), 0)
        if int(np.prod(shape)) != shape[axis]:
            raise UnsupportedModelError(
                "ArgMax is supported for one vector",
                node=str(node),
                tensor=f"%{node.inputs[0]}{list(shape)}, axis {axis}",
            )
        x = q.raw(node.inputs[0])
        q.emit(node, "ArgMax", [x.name], Fraction(1), output=node.output, attrs=dict(node.attrs))

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        return [np.argmax(value_at(values, 0).ravel()).reshape(outputs[0].shape).astype(object)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        shape = outputs[0].shape
        return [Bounds(np.full(shape, 0, dtype=object), np.full(shape, tensor_at(inputs, 0).size - 1, dtype=object))]

    def jump(self, node: Node, inputs: Sequence[Bounds | None]) -> float:
        return float(self.interval(node, inputs)[0].hi.max(initial=0.0))

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """Another index may win: where the index counts as a number it is off by the greatest one at most."""
        return [np.full(context.outputs[0].shape, float(tensor_at(inputs, 0).size - 1))]


@register_op
class GreaterOrEqual(OpDef):
    """X >= 0 as a decision (ONNX's operator with a constant 0 on its right)."""

    op_type = "GreaterOrEqual"
    min_inputs = 2
    max_inputs = 2

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        return [Signature(np.broadcast_shapes(tensor_at(inputs, 0).shape, tensor_at(inputs, 1).shape), DType.BOOL)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [np.asarray(value_at(inputs, 0) >= value_at(inputs, 1))]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        shape = np.broadcast_shapes(bounds_at(inputs, 0).lo.shape, bounds_at(inputs, 1).lo.shape)
        return [Bounds(np.zeros(shape), np.ones(shape))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        if not q.is_constant(node.inputs[1]) or np.any(q.real(node.inputs[1])):
            raise UnsupportedModelError("GreaterOrEqual is supported with a constant 0", node=str(node))
        x = q.raw(node.inputs[0])
        q.emit(node, "GreaterOrEqual", [x.name], Fraction(1), output=node.output)

    def verify(self, node: Node, inputs: Inputs) -> None:
        """In a quantised graph the 0 is implied."""

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        decision = value_at(values, 0) >= tensor_at(inputs, 0).format.zero_point
        return [np.asarray(decision).astype(int).astype(object)]

    def jump(self, node: Node, inputs: Sequence[Bounds | None]) -> float:
        x = bounds_at(inputs, 0)
        return float(_is_near(x, np.zeros(()), 0.0).any())

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """Near 0 the result may be 0 instead of 1, or the other way round; elsewhere it is exact."""
        near = _is_near(bounds_at(context.real, 0), value_at(context.errors, 0), 0.0)
        return [np.where(near, 1.0, 0.0).reshape(context.outputs[0].shape)]


@register_op
class TableLookup(OpDef):
    """Entry `index` of a constant one-dimensional integer table: a class label."""

    op_type = "TableLookup"
    min_inputs = 2
    max_inputs = 2
    onnx = False

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        return [Signature(tensor_at(inputs, 1).shape, DType.INT64)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [value_at(inputs, 0)[value_at(inputs, 1).astype(np.int64)]]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        table, shape = bounds_at(inputs, 0).lo, bounds_at(inputs, 1).lo.shape
        return [Bounds(np.full(shape, float(table.min())), np.full(shape, float(table.max())))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        table = q.constant(node.inputs[0], q.real(node.inputs[0]), Fraction(1))
        index = q.raw(node.inputs[1])
        if index.format.scale != 1:
            raise UnsupportedModelError("a table is looked up by a decision", node=str(node))
        q.emit(node, "TableLookup", [table.name, index.name], Fraction(1), output=node.output)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        index = value_at(values, 1)
        return [np.array([int(value_at(values, 0)[int(i)]) for i in index.ravel()], dtype=object).reshape(index.shape)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        table, shape = value_at([tensor_at(inputs, 0).data], 0), outputs[0].shape
        return [Bounds(np.full(shape, int(table.min()), dtype=object), np.full(shape, int(table.max()), dtype=object))]

    def jump(self, node: Node, inputs: Sequence[Bounds | None]) -> float:
        """It jumps where the index does."""
        return 0.0

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """Another label may come out: where labels count as numbers they are off by the table's span at most."""
        table = value_at([tensor_at(inputs, 0).data], 0)
        return [np.full(context.outputs[0].shape, float(int(table.max()) - int(table.min())))]
