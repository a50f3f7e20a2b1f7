"""Products of two tensors that both depend on the input: the matrices of attention."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np

from ml2sc.errors import ShapeError

from ..graph import AttrValue, Node, Tensor
from ..types import Array, DType, as_python_ints
from .base import Arrays, Bounds, ErrorContext, Inputs, OpDef, Signature, attr_int, register_op
from .integers import matmul, product_of, sum_of
from .linear import widened
from .operands import bounds_at, input_error, magnitude, tensor_at, value_at
from .quantizer import Quantizer

_Binary = Callable[[Array, Array], Array]


@register_op
class ActivationMatMul(OpDef):
    """A · B, numpy's matmul of tensors of two axes at least: what a MatMul is where neither side is constant.

    Attribute `convex`: the rows of A are shares that add up to 1, so that results are between B's.

    In a quantised graph: the exact sums of (a − z_a)·(b − z_b), at scale s_a · s_b.
    """

    op_type = "ActivationMatMul"
    onnx = False
    min_inputs = 2
    max_inputs = 2
    reads_activations = True

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        a, b = tensor_at(inputs, 0).shape, tensor_at(inputs, 1).shape
        if min(len(a), len(b)) >= 2 and a[-1] == b[-2]:
            with contextlib.suppress(ValueError):
                return [Signature((*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]), DType.FLOAT)]
        raise ShapeError(f"MatMul cannot multiply {list(a)} by {list(b)}", node=str(node))

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [np.asarray(value_at(inputs, 0) @ value_at(inputs, 1))]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        a, b = bounds_at(inputs, 0), bounds_at(inputs, 1)
        found = _sums(a, b, np.multiply, np.add)
        found = widened(found, magnitude(a) @ magnitude(b))
        if not attr_int(node, "convex", 0):
            return [found]
        ends = widened(Bounds(_least(b.lo), -_least(-b.hi)), -_least(-magnitude(b)))
        return [Bounds(np.maximum(found.lo, ends.lo), np.minimum(found.hi, ends.hi))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        a, b = (q.activation(name) for name in node.inputs)
        attrs: dict[str, AttrValue] = {"convex": attr_int(node, "convex", 0)}
        q.emit(node, self.op_type, [a.name, b.name], a.format.scale * b.format.scale, output=node.output, attrs=attrs)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        (found,) = self.evaluate_batch(node, inputs, [value_at(values, slot)[None] for slot in range(2)], outputs)
        return [as_python_ints(found[0, ...])]

    def evaluate_batch(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        *batch, rows, columns = outputs[0].shape
        samples = len(value_at(values, 0))
        sides = []
        for slot in range(2):
            x = tensor_at(inputs, slot)
            shape = (samples, *(1,) * (len(batch) + 2 - len(x.shape)), *x.shape)
            u = sum_of(value_at(values, slot).reshape(shape), -x.format.zero_point)
            sides.append(np.broadcast_to(u, (samples, *batch, *x.shape[-2:])).reshape(-1, *x.shape[-2:]))
        products = [matmul(a, b) for a, b in zip(*sides, strict=True)]
        found = np.stack(products) if products else np.zeros((0, rows, columns), dtype=np.int64)
        return [found.reshape(samples, *batch, rows, columns)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        a, b = (
            Bounds(*(sum_of(end, -tensor_at(inputs, slot).format.zero_point) for end in bounds_at(bounds, slot)))
            for slot in range(2)
        )
        return [_sums(a, b, product_of, sum_of)]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """|Σ â·b̂ − Σ a·b| <= Σ |a|·e_b + |b|·e_a + e_a·e_b; the first is at most the greatest e_b of shares."""
        e_a, e_b = input_error(inputs, context, 0), input_error(inputs, context, 1)
        a, b = magnitude(bounds_at(context.real, 0)), magnitude(bounds_at(context.real, 1))
        of_b = a @ e_b
        if attr_int(node, "convex", 0):
            of_b = np.minimum(of_b, -_least(-e_b) * (1 + 2.0**-40))
        return [of_b + e_a @ (b + e_b)]


def _least(matrices: Array) -> Array:
    """Return the least element of each column, as a row."""
    least: Array = matrices.min(axis=-2, keepdims=True)
    return least


def _sums(a: Bounds, b: Bounds, times: _Binary, plus: _Binary) -> Bounds:
    """Return bounds of A · B: of each product by itself, added up one after the other."""
    lo: Array = np.zeros(1, dtype=np.int64)
    hi = lo
    for k in range(a.lo.shape[-1]):
        corners = [times(x[..., :, k, None], y[..., None, k, :]) for x in a for y in b]
        lo, hi = plus(lo, np.minimum.reduce(corners)), plus(hi, np.maximum.reduce(corners))
    return Bounds(lo, hi)
