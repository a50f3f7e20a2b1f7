"""Operators of models that come quantised: the model itself says scales and zero points.

The frontend writes ONNX's QDQ and QOperator forms out in these two and in float operators between them. Their integer
forms use the model's numbers as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from ml2sc.errors import RangeError, ShapeError, UnsupportedModelError

from ..graph import AttrValue, Node, Tensor
from ..program import word_multiplier
from ..types import Array, DType, FixedPoint
from .base import Arrays, Bounds, ErrorContext, Inputs, OpDef, Signature, attr_float, attr_int, register_op
from .convolution import GEOMETRY, Conv
from .linear import is_folded, linear_interval
from .operands import bounds_at, input_error, int_of, magnitude, tensor_at, value_at
from .quantizer import Quantizer

_BELOW_A_STEP = 16
"""Bits below one step that the multiplier keeps: exact rounding is missed by 2^−16 of a step, as float32 misses it."""
_CHANNEL_BITS = 8
"""Further bits of the greatest multiplier where channels have their own: the small ones have fewer than it."""

_WORD_BITS = 250
"""Bits of a product: well inside a word."""
_BIAS_ERROR = 2.0**-6
"""Most that rounding a bias may move a result, in steps of its format."""


def prescribed_format(node: Node) -> FixedPoint:
    """Return the fixed-point format that a FakeQuantize prescribes."""
    return FixedPoint(
        attr_int(node, "bits", 8),
        bool(attr_int(node, "signed", 0)),
        Fraction(attr_float(node, "scale", 1.0)),
        attr_int(node, "zero_point", 0),
    )


def unsigned(form: FixedPoint) -> FixedPoint:
    """Return a format without sign for the same real numbers, every q that much greater."""
    return FixedPoint(form.bits, False, form.scale, form.zero_point - form.qmin)


@register_op
class FakeQuantize(OpDef):
    """X rounded to what the integers of the model's own format stand for: QuantizeLinear, dequantised.

    In a quantised graph: clamp(floor(((x − z_x)·m + 2^(shift−1)) / 2^shift) + z_y, qmin, qmax). The second input, m, is
    one multiplier or one for each channel: then it carries the scales of a layer's weights, too. The
    attribute `ties` says that some input may lie halfway between two integers: it goes to the even one, as in ONNX.
    """

    op_type = "FakeQuantize"
    max_inputs = 2
    onnx = False

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        return [Signature(tensor_at(inputs, 0).shape, DType.FLOAT)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        """Round half to even, as ONNX does."""
        fmt, x = prescribed_format(node), value_at(inputs, 0)
        scale = attr_float(node, "scale", 1.0)
        x = x if len(inputs) < 2 or inputs[1] is None else x * inputs[1]
        q = np.clip(np.rint(x / scale) + fmt.zero_point, fmt.qmin, fmt.qmax)
        return [np.asarray((q - fmt.zero_point) * scale)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        """Growing; float64 may take what is next to a tie to the other side of it."""
        x, step = bounds_at(inputs, 0), attr_float(node, "scale", 1.0)
        gains = [] if len(inputs) < 2 or inputs[1] is None else [inputs[1].lo]
        lo, hi = (
            self.evaluate(node, [v * (1 + s * 2.0**-48), *gains])[0]
            for v, s in ((x.lo, -np.sign(x.lo)), (x.hi, np.sign(x.hi)))
        )
        return [Bounds(lo - step * 2.0**-40, hi + step * 2.0**-40)]

    def quantize(self, node: Node, q: Quantizer) -> None:
        x, to = q.raw(node.inputs[0]), prescribed_format(node)
        # the model's input, or what a layer was brought to in one go
        if unsigned(x.format) == unsigned(to) and q.on_grid(node.inputs[0]):
            q.keep(node)
        else:
            emit_fake_quantize(q, node, x.name, to, np.ones(1), node.output, dict(node.attrs))

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        fmt, shift = outputs[0].format, int_of(node, "shift")
        x = (value_at(values, 0) - tensor_at(inputs, 0).format.zero_point) * value_at(values, 1)
        half: Any = (1 << shift) >> 1
        if "ties" in node.attrs:
            half = half - 1 + (x // (1 << shift)) % 2
        y = (x + half) // (1 << shift) + fmt.zero_point
        return [np.minimum(np.maximum(y, fmt.qmin), fmt.qmax)]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """Numbers e apart are rounded to integers at most floor(e/s) + 1 apart; and both saturate alike."""
        fmt = context.outputs[0].format
        gain, wrong = np.abs(bounds_at(context.real, 1).lo), input_error(inputs, context, 1)
        error = value_at(context.errors, 0)
        before = error * (gain + wrong) + wrong * magnitude(bounds_at(context.real, 0))
        steps = np.minimum(np.floor(before / float(fmt.scale) * (1 + 2.0**-40)) + 1.0, float(fmt.qmax - fmt.qmin))
        return [steps * float(fmt.scale)]


def emit_fake_quantize(
    q: Quantizer, node: Node, x: str, to: FixedPoint, gains: Array, output: str, attrs: dict[str, AttrValue]
) -> Tensor:
    """Add FakeQuantize(x · gains) to the quantised graph and return its output.

    Args:
        q: The graph under construction.
        node: The float node it comes from.
        x: Tensor of the quantised graph.
        to: The format prescribed.
        gains: Real factors, float64: of shape (1,), or one for each channel, broadcastable to x.
        output: The float tensor the result stands for.
        attrs: The FakeQuantize's attributes.

    Raises:
        RangeError: the products do not fit a word.
    """
    tensor = q.tensor(x)
    ratio = Fraction(float(np.max(gains))) * tensor.format.scale / to.scale
    bits = to.bits + _BELOW_A_STEP + (_CHANNEL_BITS if gains.size > 1 else 0)
    found = word_multiplier(ratio, bits, q.bits(tensor))
    if found is None:
        raise RangeError(
            f"its input can reach 2^{q.bits(tensor)}, too much to bring it to another scale in a word of the EVM",
            node=str(node),
            hint="narrow the input range with --input-range",
        )
    multiplier, shift = found
    if gains.size > 1:  # a small multiplier that is exact for the greatest factor has no bits for the others
        shift += max(min(bits - multiplier.bit_length(), _WORD_BITS - q.bits(tensor) - multiplier.bit_length()), 0)
    unit = to.scale / (tensor.format.scale * (1 << shift))
    multipliers = q.constant(f"{output}.multiplier", gains, unit)
    if shift and any((Fraction(float(gain)) / unit).denominator == 1 for gain in gains.ravel()):
        attrs = {**attrs, "ties": "even"}  # a multiplier that is rounded makes ties only where there are none
    return q.emit(
        node, "FakeQuantize", [x, multipliers.name], to.scale, output=output, fixed=to, attrs={**attrs, "shift": shift}
    )


@register_op
class ScaledGemm(OpDef):
    """Y = (X · B) ∘ scale + C for integers B: a layer whose weights came quantised, with one scale or one an output.

    Inputs X (…, k), B (k, n), scale (1) or (n), and C (n) or what broadcasts to (…, n), all but X constant. Attribute
    `weight_bits`: width of the model's weights.
    """

    op_type = "ScaledGemm"
    layer: ClassVar[str] = "Gemm"
    """The operator of a quantised graph that it becomes."""
    min_inputs = 3
    max_inputs = 4
    onnx = False

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        if any(t is not None and not t.is_constant for t in inputs[1:]):
            raise UnsupportedModelError("a quantised layer's weights, scales and bias must be constant", node=str(node))

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        x, b = tensor_at(inputs, 0), tensor_at(inputs, 1)
        if not x.shape or len(b.shape) != 2 or x.shape[-1] != b.shape[0]:
            raise ShapeError(f"{list(x.shape)} cannot be multiplied by {list(b.shape)}", node=str(node))
        shape = (*x.shape[:-1], b.shape[1])
        bias = inputs[3] if len(inputs) > 3 else None
        try:
            fits = bias is None or np.broadcast_shapes(bias.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                f"the bias {bias and list(bias.shape)} does not broadcast to {list(shape)}", node=str(node)
            )
        return [Signature(shape, DType.FLOAT)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        y = value_at(inputs, 0) @ value_at(inputs, 1).astype(np.float64) * value_at(inputs, 2)
        return [y if len(inputs) < 4 or inputs[3] is None else y + inputs[3]]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        weights = bounds_at(inputs, 1).lo.astype(np.float64) * bounds_at(inputs, 2).lo
        bias = inputs[3] if len(inputs) > 3 else None
        return [linear_interval(bounds_at(inputs, 0), weights, np.zeros(()) if bias is None else bias.lo)]

    def quantize(self, node: Node, q: Quantizer) -> None:
        x, integers, scales = q.activation(node.inputs[0]), q.real(node.inputs[1]), q.real(node.inputs[2])
        shape = q.shape(node.output)
        bias = self._bias(q.real(node.inputs[3]), shape) if len(node.inputs) > 3 else None
        follower = q.prescribed(node.output)
        to = None if follower is None else prescribed_format(follower)
        fine = 0
        if bias is not None and to is not None:
            fine = _bias_bits(bias / (scales * float(x.format.scale)), scales, x.format, to)
        if scales.size == 1:
            step = Fraction(float(scales[0])) / (1 << fine)
            self._emit(node, q, x.name, integers * scales, bias, step, node.output)
            return
        # sums at the scale of the input; the outputs' own scales come after them
        own = None if bias is None else bias / scales
        sums = self._emit(node, q, x.name, integers, own, Fraction(1, 1 << fine), None)
        gains = self.by_channel(scales, len(shape))
        if to is not None and follower is not None:
            attrs = dict(follower.attrs)
            q.rounded_early(emit_fake_quantize(q, node, sums.name, to, gains, node.output, attrs), node.output)
        else:
            factors = q.constant(f"{node.name}.scales", gains, q.step(float(scales.max())))
            q.emit(node, "Mul", [sums.name, factors.name], sums.format.scale * factors.format.scale, output=node.output)

    def by_channel(self, values: Array, rank: int) -> Array:
        """Return what is given by output so that it broadcasts against a result of `rank` axes."""
        return values

    def _bias(self, bias: Array, shape: tuple[int, ...]) -> Array:
        """Return C by output, or as it is where it differs from row to row."""
        full = np.broadcast_to(bias, shape)
        rows = full.reshape(-1, shape[-1])
        return np.array(rows[0] if (rows == rows[0]).all() else full)

    def _emit(
        self, node: Node, q: Quantizer, x: str, weights: Array, bias: Array | None, scale: Fraction, output: str | None
    ) -> Tensor:
        """Add the layer of real weights that are multiples of `scale`."""
        tensor = q.tensor(x)
        inputs = [x, q.constant(f"{node.name}.weight", weights, scale).name]
        if bias is not None:
            inputs.append(q.constant(f"{node.name}.bias", bias, tensor.format.scale * scale).name)
        # float64 has rounded the quotients of the bias and the scales: what `slack` says of folded layers
        attrs: dict[str, AttrValue] = {}
        if output is None or is_folded(node):
            attrs["slack"] = attr_float(node, "slack", 0.0) / (1.0 if output else float(q.real(node.inputs[2]).min()))
        attrs |= {key: node.attrs[key] for key in GEOMETRY if key in node.attrs}
        shape = q.shape(node.output)
        return q.emit(node, self.layer, inputs, tensor.format.scale * scale, output=output, shape=shape, attrs=attrs)


@register_op
class ScaledConv(ScaledGemm):
    """Y = Conv(X, B) · scale + C for integers B: a convolution whose weights came quantised.

    Inputs as those of ScaledGemm, B (outputs, channels / group, *kernel), C (outputs); attributes those of Conv.
    """

    op_type = "ScaledConv"
    layer = "Conv"
    _conv: ClassVar[Conv] = Conv()

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        return self._conv.infer(node, [*inputs[:2], inputs[3] if len(inputs) > 3 else None])

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        y = self._conv.product(node, value_at(inputs, 0), value_at(inputs, 1).astype(np.float64))
        y = y * self.by_channel(value_at(inputs, 2), y.ndim)
        return [y if len(inputs) < 4 or inputs[3] is None else y + self.by_channel(inputs[3], y.ndim)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        integers, scales = bounds_at(inputs, 1).lo.astype(np.float64), bounds_at(inputs, 2).lo
        weights = integers * scales.reshape(-1, *[1] * (integers.ndim - 1))
        bias = inputs[3] if len(inputs) > 3 else None
        shape = self.evaluate(node, [b if b is None else b.lo for b in inputs])[0].shape
        return [self._conv.real_interval(node, bounds_at(inputs, 0), weights, None if bias is None else bias.lo, shape)]

    def by_channel(self, values: Array, rank: int) -> Array:
        return self._conv.addend(values, rank)

    def _bias(self, bias: Array, shape: tuple[int, ...]) -> Array:
        return bias


def _bias_bits(bias: Array, scales: Array, x: FixedPoint, to: FixedPoint) -> int:
    """Return the fraction bits that sums need for the sake of a bias that is no integer in their scale.

    Args:
        bias: In units of the sums, float64, one for each output (or row and output).
        scales: Of the weights.
        x: Format of the layer's input.
        to: Format of its result.
    """
    wrong = np.abs(bias - np.rint(bias)) * scales * float(x.scale / to.scale)
    times = max(float(wrong.max(initial=0.0)) / _BIAS_ERROR, 1.0)
    return (math.ceil(times) - 1).bit_length()  # log2, rounded up, without a libm's rounding
