"""Layers: products by constant weights. Gemm and MatMul; convolutions are in `convolution.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from ml2sc.errors import ShapeError, UnsupportedModelError

from ..graph import AttrValue, Node, Tensor
from ..types import Array, DType, as_python_ints
from .base import Arrays, Bounds, ErrorContext, Inputs, OpDef, Signature, attr_float, attr_int, register_op
from .integers import matmul, sum_of
from .operands import FOLD_ERROR, tensor_at, value_at
from .quantizer import Quantizer

DEQUANTIZE_ERROR = 2.0**-51
"""Relative error of scale · q in float64 where the scale is no power of two (for those it is exact)."""


def widened(bounds: Bounds, magnitude: Array) -> Bounds:
    """Move float bounds outward by more than float64 arithmetic can have lost on terms of that magnitude."""
    slack = np.asarray(magnitude) * 2.0**-40
    return Bounds(bounds.lo - slack, bounds.hi + slack)


def _exact_product(x: Array, w: Array) -> Array:
    """Return the product of integer matrices, x with any number of axes before its last."""
    return matmul(x.reshape(-1, len(w)), w).reshape(*x.shape[:-1], w.shape[1])


Multiply = Callable[[Array, Array], Array]


class LinearOp(OpDef):
    """y = x · W + C, with W (and C) constant.

    The attribute `correction`, by output, is added to C when it is quantised (pass `correct_bias`).
    Passes that fold other operators in note in the attribute `slack` how far rounding may have moved C; where it is
    absent W and C are the model's own numbers.

    In a quantised graph: x is (…, k) in activation format, W (k, n) and C ((n) or (rows, n)) integers, and y the exact
    accumulator (x − z)·W + C at scale s_x · s_w.

    What x · W is, `product` says; all else follows from it.
    """

    linear = True
    reads_activations = True
    channel_axis: ClassVar[int] = -1
    """The output's axis along which W has a column, and C an element, for each entry."""

    def product(self, node: Node, x: Array, w: Array, multiply: Multiply = np.matmul) -> Array:
        """Return x · W.

        Args:
            node: The operator.
            x: The layer's input; there may be further axes before its own.
            w: The weights.
            multiply: Multiplies matrices of x's and w's element types: (…, k) by (k, n).
        """
        return multiply(x, w)

    def addend(self, c: Array, rank: int) -> Array:
        """Return C so that it broadcasts against a result of `rank` axes."""
        return c

    def apply(self, node: Node, x: Array, w: Array, c: Array | None) -> Array:
        """Return the layer's real outputs, its activation included."""
        y = self.product(node, x, w)
        return activate(node, y if c is None else y + self.addend(c, y.ndim))

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        (found,) = self.evaluate_batch(node, inputs, [value_at(values, 0)[None], *values[1:]], outputs)
        return [as_python_ints(found[0, ...])]

    def evaluate_batch(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        x, shape = tensor_at(inputs, 0), outputs[0].shape
        given = value_at(values, 0).reshape(-1, *x.shape)
        sums = self.product(node, sum_of(given, -x.format.zero_point), value_at(values, 1), _exact_product)
        y = sum_of(sums.reshape(len(given), *shape), self.addend(_bias(values), len(shape)))
        # as one batch of all samples' batches
        return [self.finish(node, y.reshape(-1, *shape[1:])).reshape(y.shape)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        x, w = bounds[0], bounds[1]
        assert x is not None and w is not None
        zero, shape = tensor_at(inputs, 0).format.zero_point, outputs[0].shape
        plus, minus = np.maximum(w.lo, 0), np.minimum(w.lo, 0)
        bias = self.addend(_bias([b if b is None else b.lo for b in bounds]), len(shape))
        ends = sum_of(np.stack([x.lo, x.hi]), -zero)
        above, below = (self.product(node, ends, part, _exact_product).reshape(2, *shape) for part in (plus, minus))
        lo, hi = sum_of(sum_of(above[0], below[1]), bias), sum_of(sum_of(above[1], below[0]), bias)
        return [Bounds(self.finish(node, lo), self.finish(node, hi))]

    def finish(self, node: Node, sums: Array) -> Array:
        """Return the results' integers, given the sums with their C; it grows with them."""
        return activate(node, sums)

    def weights(self, node: Node, w: Tensor) -> Array:
        """Return the reals that a quantised layer's weights stand for."""
        return w.format.dequantize(_data(w))

    def bias(self, node: Node, c: Tensor) -> Array:
        """Return the reals that a quantised layer's C stands for."""
        return c.format.dequantize(_data(c))

    def real_interval(self, node: Node, x: Bounds, w: Array, c: Array | None, shape: tuple[int, ...]) -> Bounds:
        """Return sound bounds of the real outputs, of a shape, given those of x and the real W and C."""
        y = self._affine(node, x, w, None if c is None else self.addend(c, len(shape)), shape)
        return Bounds(activate(node, y.lo), activate(node, y.hi))

    def _affine(self, node: Node, x: Bounds, w: Array, bias: Array | None, shape: tuple[int, ...]) -> Bounds:
        plus, minus = np.maximum(w, 0), np.minimum(w, 0)

        def times(a: Array, b: Array) -> Array:
            return self.product(node, a, b).reshape(shape)

        bias = np.zeros(()) if bias is None else bias
        size = times(np.maximum(np.abs(x.lo), np.abs(x.hi)), np.abs(w)) + np.abs(bias)
        lo, hi = times(x.lo, plus) + times(x.hi, minus) + bias, times(x.hi, plus) + times(x.lo, minus) + bias
        return widened(Bounds(lo, hi), size)

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """|x̂·ŵ + ĉ − x·w − c| <= |ŵ|·e_x + |x·(ŵ − w) + ĉ − c|, summed; Relu moves no two values apart.

        The second term is bounded as a sum: its parts have signs, which do not all point the same way.
        """
        x_error, x = context.errors[0], context.real[0]
        assert x_error is not None and x is not None
        w, shape = tensor_at(inputs, 1), context.outputs[0].shape
        weights, folded = self.weights(node, w), is_folded(node)
        total = self.product(node, x_error, np.abs(weights))
        size = np.maximum(np.abs(x.lo), np.abs(x.hi))
        total = (total + self.product(node, size, _constant_rounding(w, folded=folded))).reshape(shape)
        wrong: Array | None = None
        if len(inputs) > 2 and inputs[2] is not None:
            c = inputs[2]
            wrong = self.addend(self.bias(node, c) - _real(c), len(shape))
            total = total + self.addend(_constant_rounding(c, folded=folded), len(shape))
        moved = self._affine(node, x, weights - _real(w), wrong, shape)
        return [total + np.maximum(np.abs(moved.lo), np.abs(moved.hi)) + attr_float(node, "slack", 0.0)]


def is_folded(node: Node) -> bool:
    """Whether W and C of a layer are products that float64 may have rounded."""
    return "slack" in node.attrs or any(attr_float(node, key, 1.0) != 1.0 for key in ("alpha", "beta"))


def activate(node: Node, y: Array) -> Array:
    """Apply a FusedGemm's activation."""
    return np.maximum(y, 0) if node.attrs.get("activation") == "Relu" else y


def _constant_rounding(c: Tensor, *, folded: bool) -> Array:
    """Bound what float64 adds to the difference between a constant's integers and the model's constant, by element."""
    scale = c.format.scale
    exact = scale.denominator & (scale.denominator - 1) == 0 and scale.numerator == 1
    rounding = FOLD_ERROR if folded else 0.0 if exact else DEQUANTIZE_ERROR
    error: Array = rounding * np.abs(_real(c))
    return error


def _bias(values: Arrays) -> Array:
    return np.zeros(1, dtype=np.int64) if len(values) < 3 or values[2] is None else values[2]


def _data(tensor: Tensor) -> Array:
    assert tensor.data is not None
    return tensor.data


def _real(tensor: Tensor) -> Array:
    assert tensor.real is not None
    return tensor.real


def emit_linear(q: Quantizer, node: Node, x: Tensor, weights: Array, bias: Array | None, output: str | None) -> Tensor:
    """Add the integer form of y = x · W + C to the quantised graph.

    Args:
        q: The graph under construction.
        node: The float node.
        x: Input in activation format, (…, k).
        weights: Real W, (k, n).
        bias: Real C, broadcastable to (…, n), or None.
        output: The float tensor the result stands for, or None.
    """
    shape = (*x.shape[:-1], weights.shape[1])
    scale_w = q.weight_scale(weights, x.format, node.output)
    scale = x.format.scale * scale_w
    inputs = [x.name, q.constant(f"{node.name}.weight", weights, scale_w).name]
    correction = node.attrs.get("correction")
    if bias is None and correction is not None:
        bias = np.zeros(())
    if bias is not None:
        full = np.broadcast_to(bias, shape).reshape(-1, shape[-1])
        per_row = bool((full != full[0]).any())
        moved = None if correction is None or per_row else np.asarray(correction, dtype=np.float64)
        inputs.append(q.constant(f"{node.name}.bias", full.reshape(shape) if per_row else full[0], scale, moved).name)
    attrs: dict[str, AttrValue] = {"activation": node.attrs["activation"]} if "activation" in node.attrs else {}
    if is_folded(node):
        attrs["slack"] = attr_float(node, "slack", 0.0)
    op_type = "FusedGemm" if "activation" in attrs else "Gemm"
    return q.emit(node, op_type, inputs, scale, output=output, shape=shape, attrs=attrs)


@register_op
class Gemm(LinearOp):
    """Y = alpha · A' · B' + beta · C, A' and B' transposed where transA, transB say so.

    In a graph A may have further axes before its own two, as MatMul's has.
    """

    op_type = "Gemm"
    min_inputs = 2
    max_inputs = 3
    batches = True

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        a, b = tensor_at(inputs, 0), tensor_at(inputs, 1)
        turned = attr_int(node, "transA", 0)
        if len(a.shape) < 2 or (turned and len(a.shape) > 2) or len(b.shape) != 2:
            raise ShapeError(f"Gemm multiplies matrices, not {list(a.shape)} by {list(b.shape)}", node=str(node))
        *rows, k = a.shape[::-1] if turned else a.shape
        k2, n = b.shape[::-1] if attr_int(node, "transB", 0) else b.shape
        shape = (*rows, n)
        if k != k2:
            raise ShapeError(f"Gemm cannot multiply {(*rows, k)} by {(k2, n)}", node=str(node))
        if len(inputs) > 2 and inputs[2] is not None:
            try:
                fits = np.broadcast_shapes(inputs[2].shape, shape) == shape
            except ValueError:
                fits = False
            if not fits:
                raise ShapeError(f"Gemm's C {list(inputs[2].shape)} does not broadcast to {shape}", node=str(node))
        return [Signature(shape, DType.FLOAT)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        a, b = value_at(inputs, 0), value_at(inputs, 1)
        a = np.swapaxes(a, -1, -2) if attr_int(node, "transA", 0) else a
        b = b.T if attr_int(node, "transB", 0) else b
        y = a @ b
        if (alpha := attr_float(node, "alpha", 1.0)) != 1.0:
            y = alpha * y
        if len(inputs) > 2 and inputs[2] is not None:
            beta = attr_float(node, "beta", 1.0)
            y = y + (inputs[2] if beta == 1.0 else beta * inputs[2])
        return [activate(node, y)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        a, b = inputs[0], inputs[1]
        assert a is not None and b is not None
        weights = b.lo.T if attr_int(node, "transB", 0) else b.lo
        weights = attr_float(node, "alpha", 1.0) * weights
        x = Bounds(a.lo.T, a.hi.T) if attr_int(node, "transA", 0) else a
        c = inputs[2] if len(inputs) > 2 else None
        bias = np.zeros(()) if c is None else attr_float(node, "beta", 1.0) * c.lo
        y = linear_interval(x, weights, bias)
        return [Bounds(activate(node, y.lo), activate(node, y.hi))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        if not q.is_constant(node.inputs[1]):
            self._refuse(node)
        b = q.real(node.inputs[1])
        weights = attr_float(node, "alpha", 1.0) * (b.T if attr_int(node, "transB", 0) else b)
        c = node.inputs[2] if len(node.inputs) > 2 else ""
        if c and not q.is_constant(c):
            self._refuse(node)
        bias = attr_float(node, "beta", 1.0) * q.real(c) if c else None
        x = q.activation(node.inputs[0])
        if attr_int(node, "transA", 0):
            x = _transposed(q, node, x, None)
        emit_linear(q, node, x, weights, bias, node.output)

    def _refuse(self, node: Node) -> None:
        raise UnsupportedModelError(
            f"{node.op_type} of two activations is not supported", node=str(node), hint="its B and C must be constant"
        )


@register_op
class FusedGemm(Gemm):
    """Gemm followed by the activation its attribute names (com.microsoft's operator; here: Relu)."""

    op_type = "FusedGemm"
    onnx = False

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        if node.attrs.get("activation") != "Relu":
            raise UnsupportedModelError(f"FusedGemm with activation {node.attrs.get('activation')!r}", node=str(node))


def _product_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of numpy's matmul.

    Raises:
        ValueError: there is none.
    """
    if not a or not b or a[-1] != b[-2 if len(b) > 1 else 0]:
        raise ValueError("their inner dimensions differ")
    return (*np.broadcast_shapes(a[:-2], b[:-2]), *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))


@register_op
class MatMul(LinearOp):
    """numpy's matmul, one side a constant matrix; of two activations it is ActivationMatMul."""

    op_type = "MatMul"
    min_inputs = 2
    max_inputs = 2
    batches = True

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        a, b = tensor_at(inputs, 0), tensor_at(inputs, 1)
        try:
            shape = _product_shape(a.shape, b.shape)
        except ValueError:
            raise ShapeError(f"MatMul cannot multiply {list(a.shape)} by {list(b.shape)}", node=str(node)) from None
        return [Signature(shape, DType.FLOAT)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [np.asarray(value_at(inputs, 0) @ value_at(inputs, 1))]

    def evaluate_together(self, node: Node, inputs: Arrays, varying: Sequence[bool]) -> list[Array] | None:
        # vectors that lie side by side are a matrix to numpy, whose products are added in another order
        vectors = any(x is not None and varies and x.ndim < 3 for x, varies in zip(inputs, varying, strict=True))
        return None if vectors else super().evaluate_together(node, inputs, varying)

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        a, b = inputs[0], inputs[1]
        assert a is not None and b is not None
        # whichever side is constant has equal bounds; the other one's sign decides nothing
        if (b.lo is b.hi or np.array_equal(b.lo, b.hi)) and b.lo.ndim:
            return [linear_interval(a, b.lo, np.zeros(()))]
        plus, minus = np.maximum(a.lo, 0), np.minimum(a.lo, 0)
        magnitude = np.abs(a.lo) @ np.maximum(np.abs(b.lo), np.abs(b.hi))
        return [widened(Bounds(plus @ b.lo + minus @ b.hi, plus @ b.hi + minus @ b.lo), magnitude)]

    def quantize(self, node: Node, q: Quantizer) -> None:
        left, right = node.inputs
        if q.is_constant(right) and len(q.shape(right)) in {1, 2}:
            weights = q.real(right).reshape(q.shape(right)[0], -1)
            emit_linear(q, node, q.activation(left), weights, None, node.output)
        elif q.is_constant(left) and len(q.shape(left)) == len(q.shape(right)) == 2:
            # W·x is (xᵀ·Wᵀ)ᵀ
            rows = _transposed(q, node, q.activation(right), None)
            _transposed(q, node, emit_linear(q, node, rows, q.real(left).T, None, None), node.output)
        else:
            raise UnsupportedModelError(
                "MatMul is supported by a constant matrix",
                node=str(node),
                tensor=f"%{left}{list(q.shape(left))} @ %{right}{list(q.shape(right))}",
                hint="batches of constant matrices are not",
            )


def _transposed(q: Quantizer, node: Node, x: Tensor, output: str | None) -> Tensor:
    return q.emit(
        node,
        "Transpose",
        [x.name],
        x.format.scale,
        output=output,
        shape=x.shape[::-1],
        zero_point=x.format.zero_point,
        attrs={"perm": (1, 0)},
    )


def linear_interval(x: Bounds, weights: Array, bias: Array) -> Bounds:
    """Return sound float bounds of x · W + C for constant W and C."""
    plus, minus = np.maximum(weights, 0), np.minimum(weights, 0)
    magnitude = np.maximum(np.abs(x.lo), np.abs(x.hi)) @ np.abs(weights) + np.abs(bias)
    return widened(Bounds(x.lo @ plus + x.hi @ minus + bias, x.hi @ plus + x.lo @ minus + bias), magnitude)
