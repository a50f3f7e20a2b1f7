"""What ends a model: probabilities, decisions and class labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from ml2sc.errors import RangeError, UnsupportedModelError

from .. import fixmath
from ..graph import AttrValue, Node, Tensor
from ..program import word_multiplier
from ..types import Array, DType
from .base import Arrays, Bounds, ErrorContext, Inputs, OpDef, Signature, attr_float, attr_int, register_op
from .functions import LEAST_BITS
from .movement import axis_of
from .operands import bounds_at, input_error, tensor_at, value_at
from .quantizer import Quantizer


def _axis(node: Node, rank: int, default: int) -> int:
    return axis_of(node, attr_int(node, "axis", default), rank)


def exp_terms(node: Node) -> int:
    """Return the terms of exp's series in a quantised Softmax or LogSoftmax: fewer where its results are rounded."""
    return attr_int(node, "terms", fixmath.EXP_TERMS)


class _VectorOp(OpDef):
    """A function of each vector along one axis, which keeps the shape.

    In a quantised graph the axis is the last one, and results have 60 fraction bits.
    """

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        x = tensor_at(inputs, 0)
        _axis(node, len(x.shape), -1)
        return [Signature(x.shape, DType.FLOAT)]

    def _emit(self, node: Node, q: Quantizer, x: Tensor, attrs: Mapping[str, AttrValue]) -> None:
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
        attrs = fixmath.input_attrs(x.format.scale, q.saturating_bits(x) + 1)
        if not q.precise(node.output):
            shape = q.shape(node.inputs[0])
            size = shape[_axis(node, len(shape), -1)]  # a quotient has size + 2 times the error of an exponential
            attrs["terms"] = fixmath.exp_terms(max(q.precise_bits, LEAST_BITS) + (size + 2).bit_length())
        self._emit(node, q, x, attrs)

    def _exact_row(self, node: Node, row: list[int]) -> list[int]:
        scale, top, terms = fixmath.InputScale.of(node), max(row), exp_terms(node)
        e = [fixmath.exp_neg(scale.apply(top - v), terms) for v in row]
        total = sum(e)
        return [(v << fixmath.OUTPUT_BITS) // total for v in e]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        shape = outputs[0].shape
        return [Bounds(np.full(shape, 0, dtype=object), np.full(shape, fixmath.OUTPUT_ONE, dtype=object))]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """|∂p_i/∂x_j| sums to 2·p_i·(1 − p_i) <= 1/2 over j; exp's errors enter the quotient size + 1 times."""
        error = value_at(context.errors, 0)
        exp = fixmath.exp_error(exp_terms(node)) + fixmath.InputScale.of(node).error(tensor_at(inputs, 0).format.scale)
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


_NORMS: dict[str, Callable[..., Any]] = {
    "L1": lambda x: np.abs(x).sum(axis=-1, keepdims=True),
    "L2": lambda x: np.sqrt((x * x).sum(axis=-1, keepdims=True)),
    "MAX": lambda x: x.max(axis=-1, keepdims=True),
}
ROOT_BITS = 32
"""Fraction bits of a root of a sum of squares."""


@register_op
class Normalizer(_VectorOp):
    """X over its norm along the last axis, 0 where all are 0: L1 (Σ |x|), L2 (√ Σ x²) or MAX (the greatest).

    In a model the norm may be `kept` above a tiny number, to not divide by 0; where it is below that, the integers are
    those of the norm itself, and the error bound says so.
    """

    op_type = "Normalizer"
    onnx = False

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        if node.attrs.get("norm") not in _NORMS:
            raise UnsupportedModelError(
                f"Normalizer with norm {node.attrs.get('norm')!r}", node=str(node), hint="L1, L2 and MAX are supported"
            )

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0)
        total = np.maximum(_NORMS[str(node.attrs["norm"])](x), attr_float(node, "kept", -np.inf))
        return [x / np.where(total == 0, 1.0, total)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x = bounds_at(inputs, 0)
        if node.attrs["norm"] == "MAX" and (x.lo < 0).any():
            raise UnsupportedModelError(
                "Normalizer with norm MAX is supported of what cannot be below 0",
                node=str(node),
                tensor=f"%{node.inputs[0]}",
                hint="ONNX divides by the greatest value, scikit-learn by the greatest magnitude: let --input-range "
                "begin at 0, or take another norm",
            )
        return [Bounds(np.where(x.lo < 0, -1.0, 0.0), np.ones(x.lo.shape))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        norm = str(node.attrs["norm"])
        # squares, their sum and the root's fraction bits must fit a word
        room = _SQUARED_ROOM if norm == "L2" else fixmath.OUTPUT_BITS
        attrs = {key: node.attrs[key] for key in ("norm", "kept") if key in node.attrs}
        self._emit(node, q, q.operand(node.inputs[0], room), attrs)

    def _exact_row(self, node: Node, row: list[int]) -> list[int]:
        norm, bits = str(node.attrs["norm"]), fixmath.OUTPUT_BITS
        if norm == "L2":
            total, bits = math.isqrt(sum(v * v for v in row) << (2 * ROOT_BITS)), bits + ROOT_BITS
        else:
            total = (sum if norm == "L1" else max)(abs(v) for v in row)
        return [(abs(v) << bits) // (total or 1) * (1 if v >= 0 else -1) for v in row]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        shape, one = outputs[0].shape, fixmath.OUTPUT_ONE
        if node.attrs["norm"] == "L2":  # a root is rounded down: by less than 2^-32 of itself
            x = bounds_at(bounds, 0)
            widest = (max(abs(int(x.lo.min())), abs(int(x.hi.max()))) * 2).bit_length()
            if 2 * widest + attr_int(node, "size", 1).bit_length() + 2 * ROOT_BITS > _WORD_BITS:
                raise RangeError(
                    "the sum of its squares does not fit a word of the EVM",
                    node=str(node),
                    hint="narrow the input range (--input-range), or choose a narrower --precision",
                )
            one += one >> (ROOT_BITS - 2)
        return [Bounds(np.full(shape, -one, dtype=object), np.full(shape, one, dtype=object))]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """|x̂_i/Ŝ − x_i/S| <= (e_i + e_S) / S with S at least its lower bound; never more than 2."""
        error, x = value_at(context.errors, 0), bounds_at(context.real, 0)
        size, norm = attr_int(node, "size", 1), _NORMS[str(node.attrs["norm"])]
        rows = np.broadcast_to(error, x.lo.shape).reshape(-1, size)
        least = norm(np.maximum(np.maximum(x.lo, -x.hi), 0.0).reshape(-1, size))
        least = np.where(least < attr_float(node, "kept", 0.0), 0.0, least)
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = (rows + norm(rows)) / least + (2.0**-60 if node.attrs["norm"] != "L2" else 2.0 ** (2 - ROOT_BITS))
        return [np.where(np.isfinite(bound), np.minimum(bound, 2.0), 2.0).reshape(x.lo.shape)]


_SQUARED_ROOM = 120
"""Bits that an operand whose squares are added up leaves of a word's 200."""
_WORD_BITS = 254


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
class TableLookup(OpDef):
    """Entries `index` of a constant one-dimensional table: class labels, or real numbers."""

    op_type = "TableLookup"
    min_inputs = 2
    max_inputs = 2
    onnx = False

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        table = tensor_at(inputs, 0).type
        return [Signature(tensor_at(inputs, 1).shape, table if isinstance(table, DType) else DType.FLOAT)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [value_at(inputs, 0)[value_at(inputs, 1).astype(np.int64)]]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        table, shape = bounds_at(inputs, 0).lo, bounds_at(inputs, 1).lo.shape
        return [Bounds(np.full(shape, float(table.min())), np.full(shape, float(table.max())))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        real = q.real(node.inputs[0])
        whole = bool(np.all(real == np.floor(real)))
        scale = Fraction(1) if whole else q.step(float(np.abs(real).max(initial=0.0)))
        table = q.constant(node.inputs[0], real, scale)
        index = q.raw(node.inputs[1])
        if index.format.scale != 1:
            raise UnsupportedModelError("a table is looked up by a decision", node=str(node))
        q.emit(node, "TableLookup", [table.name, index.name], scale, output=node.output)

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
        """Another entry may come out: where they count as numbers they are off by the table's span at most."""
        table = tensor_at(inputs, 0)
        data = value_at([table.data], 0)
        span = int(data.max()) - int(data.min())
        own = input_error(inputs, context, 0).max(initial=0.0) if table.format.scale != 1 else 0.0
        return [np.full(context.outputs[0].shape, float(span * table.format.scale) + float(own))]
