"""Import rules of models that come quantised: ONNX's QDQ and QOperator forms.

A tensor of integers q is in the graph as the real numbers scale · (q − zero_point) that they stand for, made by a
FakeQuantize; the emitter's `codes` remember which tensors those are. Constants are known as integers and scales, by
element, in the emitter's `grids` until a layer takes them. Everything between is float operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
from onnx import TensorProto

from ml2sc.errors import UnsupportedModelError
from ml2sc.ir.types import Array

from .emitter import FLOATS, INTEGER_INPUTS, Code, Emitter, Grid, Integers, OnnxNode, plain_attributes
from .rules import RULES, Rule, emit_plain, import_rule
from .vision import conv_attributes

_MICROSOFT = "com.microsoft"

WIDTHS: dict[int, tuple[int, bool]] = {
    **INTEGER_INPUTS,
    TensorProto.UINT4: (4, False),
    TensorProto.INT4: (4, True),
    TensorProto.UINT2: (2, False),
    TensorProto.INT2: (2, True),
    TensorProto.INT32: (32, True),
}
"""Bits and sign of the element types that tensors are quantised to (int32: biases)."""

_STATIC = "quantise it statically, with calibration data: onnxruntime.quantization.quantize_static"

INSTEAD: dict[str, str] = {
    "DynamicQuantizeLinear": f"scales are computed while running; {_STATIC}",
    f"{_MICROSOFT}.DynamicQuantizeMatMul": f"scales are computed while running; {_STATIC}",
    f"{_MICROSOFT}.DynamicQuantizeLSTM": f"scales are computed while running; {_STATIC}",
    f"{_MICROSOFT}.MatMulIntegerToFloat": "give the model as it was written, not as a session optimised it",
    f"{_MICROSOFT}.MatMulNBits": "quantise the weights with one scale a tensor or an output, in QDQ form",
}
"""What to do instead of operators that quantised models have and that cannot be compiled."""


def _both(*names: str) -> Callable[[Rule], Rule]:
    """Decorator of a rule for operators that ONNX and onnxruntime have alike."""

    def add(rule: Rule) -> Rule:
        return import_rule(*names)(import_rule(*names, domain=_MICROSOFT)(rule))

    return add


# -- scales and zero points --------------------------------------------------------------------------------------------


def _slot(node: OnnxNode, slot: int) -> str:
    return node.inputs[slot] if slot < len(node.inputs) else ""


def _refuse(node: OnnxNode, message: str, tensor: str, hint: str | None = None) -> NoReturn:
    raise UnsupportedModelError(message, node=str(node), tensor=f"%{tensor}", hint=hint)


def _scales(emitter: Emitter, node: OnnxNode, name: str) -> Array:
    """Return a scale input's elements, float64.

    Raises:
        UnsupportedModelError: they are not constant, or not positive.
    """
    if not name:
        node.fail("a scale is missing")
    data = emitter.tensor(name).data
    if data is None:
        _refuse(node, "a scale must be constant", name, _STATIC)
    scales = np.asarray(data, dtype=np.float64)
    bad = np.flatnonzero(~(np.isfinite(scales) & (scales > 0)))
    if bad.size:
        found = f"{scales.ravel()[bad[0]]:g}" + (f" at [{bad[0]}]" if scales.size > 1 else "")
        _refuse(node, f"a scale must be a positive number, not {found}", name, "the tensor's calibration failed")
    return scales


def _zero_points(emitter: Emitter, node: OnnxNode, name: str, scale: str, kind: int | None) -> Array:
    """Return a zero point input's elements (0 if it is left out), int64, in the shape of the scales.

    Args:
        emitter: The emitter.
        node: The node.
        name: The zero point; '' if it is left out.
        scale: The scale beside it.
        kind: Element type it must have, if that is known.

    Raises:
        UnsupportedModelError: it is not constant, of another shape or type.
    """
    shape = emitter.tensor(scale).shape
    if not name:
        return np.zeros(shape, dtype=np.int64)
    tensor = emitter.tensor(name)
    if tensor.data is None:
        _refuse(node, "a zero point must be constant", name, _STATIC)
    found = emitter.element_types.get(name)
    if tensor.data.dtype.kind != "i" or found not in WIDTHS:
        _refuse(node, f"a zero point must be an integer of 2 to 16 bits, not {_type(found)}", name)
    if kind is not None and found != kind:
        _refuse(node, f"the zero point is {_type(found)}, but what it belongs to is {_type(kind)}", name)
    if tensor.size != emitter.tensor(scale).size:
        _refuse(node, f"the zero point has shape {list(tensor.shape)}, the scale %{scale} {list(shape)}", name)
    return tensor.data.reshape(shape)


def _type(kind: int | None) -> str:
    return "of an unknown type" if kind is None else TensorProto.DataType.Name(kind).lower()


def _along(node: OnnxNode, values: Array, shape: Sequence[int], axis: int, scale: str) -> Array:
    """Return scales or zero points broadcast to a tensor's shape: one, or one for each index along `axis`."""
    return np.broadcast_to(_beside(node, values, shape, axis, scale), shape)


def _beside(node: OnnxNode, values: Array, shape: Sequence[int], axis: int, scale: str) -> Array:
    """Return scales or zero points in a shape that broadcasts against a tensor's."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim != 1:
        _refuse(
            node, f"scales of shape {list(values.shape)} are not supported", scale, "one scale a tensor or a channel is"
        )
    if not -len(shape) <= axis < len(shape):
        _refuse(node, f"axis {axis} does not exist in a tensor of shape {list(shape)}", scale)
    if shape[axis] != values.size:
        _refuse(node, f"{values.size} scales do not fit axis {axis} of a tensor of shape {list(shape)}", scale)
    aligned = [1] * len(shape)
    aligned[axis] = values.size
    return values.reshape(aligned)


def _axis(node: OnnxNode) -> int:
    if node.attrs.get("block_size", 0):
        node.fail("scales by blocks are not supported", "quantise with one scale a tensor or a channel")
    return int(node.attrs.get("axis", 1))


def _code(emitter: Emitter, node: OnnxNode, scale: str, zero: str, kind: int | None) -> Code:
    """Return the format of an activation.

    Raises:
        UnsupportedModelError: it has several scales, or its type is not one activations can have.
    """
    scales = _scales(emitter, node, scale)
    zeros = _zero_points(emitter, node, zero, scale, kind)
    kind = emitter.element_types.get(zero, kind) if zero else (TensorProto.UINT8 if kind is None else kind)
    if scales.size != 1:
        _refuse(
            node, "an activation with one scale a channel is not supported", scale, "per-channel scales are for weights"
        )
    if kind not in WIDTHS or kind == TensorProto.INT32:
        _refuse(
            node, f"an activation quantised to {_type(kind)} is not supported", scale, "uint8, int8, uint16, int16 are"
        )
    return Code(float(scales.reshape(())), int(zeros.reshape(())), *WIDTHS[kind])


# -- quantising and dequantising ---------------------------------------------------------------------------------------


def _quantized(emitter: Emitter, node: OnnxNode, x: str, code: Code, output: str) -> None:
    """Add a FakeQuantize that makes a tensor of integers."""
    attrs = {"scale": code.scale, "zero_point": code.zero_point, "bits": code.bits, "signed": int(code.signed)}
    emitter.emit("FakeQuantize", [x], [output], attrs)
    emitter.codes[output] = code


def _dequantized(
    emitter: Emitter, node: OnnxNode, x: str, scale: str, zero: str, axis: int, output: str | None = None
) -> str:
    """Return the real numbers that a tensor of integers stands for, constant or not, named `output` if that is given.

    Raises:
        UnsupportedModelError: scales or zero points do not fit the tensor.
    """
    scales = _scales(emitter, node, scale)
    if x in emitter.integers and emitter.integers[x].kind == TensorProto.INT32:
        if zero and np.any(_zero_points(emitter, node, zero, scale, TensorProto.INT32)):
            _refuse(node, "the zero point of sums must be 0", zero)
        factors = emitter.constant(_beside(node, scales, emitter.tensor(x).shape, axis, scale), "scale")
        sums = emitter.real(emitter.integers[x].numbers, None)
        return emitter.emit("Mul", [sums, factors], None if output is None else (output,))
    if x in emitter.integers:
        return _from_integers(emitter, node, x, _code(emitter, node, scale, zero, emitter.integers[x].kind), output)
    if x in emitter.codes:
        code = emitter.codes[x]
        found = _code(emitter, node, scale, zero, None)
        if (found.scale, found.zero_point) != (code.scale, code.zero_point) or (zero and found != code):
            _refuse(
                node,
                f"a tensor quantised as {code} is dequantised as {found}",
                x,
                "both must have the same scale and zero point",
            )
        return emitter.real(x, output)
    tensor = emitter.tensor(x)
    kind = emitter.element_types.get(x)
    if tensor.data is None or tensor.data.dtype.kind != "i" or kind not in WIDTHS:
        _refuse(node, "what is dequantised is neither a constant of integers nor the result of a QuantizeLinear", x)
    zeros = _zero_points(emitter, node, zero, scale, None if not zero else kind)
    by_element = np.array(_along(node, scales, tensor.shape, axis, scale))
    integers = tensor.data - _along(node, zeros, tensor.shape, axis, scale)
    name = emitter.constant(np.asarray(integers * by_element), "dequantized", output)
    emitter.grids[name] = Grid(np.asarray(integers), by_element, WIDTHS[kind][0])
    return name


def _from_integers(emitter: Emitter, node: OnnxNode, x: str, code: Code, output: str | None) -> str:
    """Return what an input of integers stands for: scale · (x − zero point)."""
    real = emitter.real(emitter.integers[x].numbers, None)
    if code.zero_point:
        real = emitter.emit("Sub", [real, emitter.constant(np.array(float(code.zero_point)), "zero_point")])
    outputs = None if output is None else (output,)
    return emitter.emit("Mul", [real, emitter.constant(np.array(code.scale), "scale")], outputs)


@_both("QuantizeLinear")
def _quantize_linear(emitter: Emitter, node: OnnxNode) -> None:
    x, scale, zero, axis = node.inputs[0], node.inputs[1], _slot(node, 2), _axis(node)
    kind = int(node.attrs.get("output_dtype", 0)) or (emitter.element_types.get(zero) if zero else TensorProto.UINT8)
    if x in emitter.codes or x in emitter.integers:
        _refuse(node, "what is quantised is quantised already", x)
    data = emitter.tensor(x).data
    if data is None:
        _quantized(emitter, node, x, _code(emitter, node, scale, zero, kind), node.outputs[0])
        return
    shape, scales = data.shape, _scales(emitter, node, scale)
    zeros = _zero_points(emitter, node, zero, scale, kind)
    if kind not in WIDTHS:
        _refuse(node, f"quantising to {_type(kind)} is not supported", x, "to integers of 2 to 16 bits it is")
    bits, signed = WIDTHS[kind]
    low = -(1 << (bits - 1)) if signed else 0
    # weights that an exporter left in float: rounded in float32, as onnxruntime does it
    q = np.rint(data.astype(np.float32) / _along(node, scales, shape, axis, scale).astype(np.float32)).astype(
        np.float64
    )
    q = np.clip(q + _along(node, zeros, shape, axis, scale), low, low + (1 << bits) - 1)
    emitter.element_types[emitter.constant(q.astype(np.int64), name=node.outputs[0])] = kind


@_both("DequantizeLinear")
def _dequantize_linear(emitter: Emitter, node: OnnxNode) -> None:
    _dequantized(emitter, node, node.inputs[0], node.inputs[1], _slot(node, 2), _axis(node), node.outputs[0])


_plain_clip, _plain_cast, _plain_pad = RULES["", "Clip"], RULES["", "Cast"], RULES["", "Pad"]
_plain_max_pool, _plain_resize = RULES["", "MaxPool"], RULES["", "Resize"]


@import_rule("Cast")
def _cast(emitter: Emitter, node: OnnxNode) -> None:
    """Cast integers that are given, or a layer's sums of them, to float: it is those numbers."""
    whole = emitter.integers.get(node.inputs[0])
    if whole is not None and int(node.attrs["to"]) in FLOATS:
        emitter.real(whole.numbers, node.outputs[0])
    else:
        _plain_cast(emitter, node)


@import_rule("Clip")
def _clip(emitter: Emitter, node: OnnxNode) -> None:
    """Clip integers as what they stand for (PyTorch writes 7-bit formats as a Clip between the two)."""
    code = emitter.codes.get(node.inputs[0])
    if code is None:
        _plain_clip(emitter, node)
        return
    bounds = []
    for name in (_slot(node, 1), _slot(node, 2)):
        data = emitter.tensor(name).data if name else None
        if name and data is None:
            _refuse(node, "the bounds of a Clip of integers must be constant", name)
        real = None if data is None else np.array((data.astype(np.float64) - code.zero_point) * code.scale)
        bounds.append("" if real is None else emitter.constant(real))
    emitter.codes[emitter.emit_coded("Clip", [node.inputs[0], *bounds], node.outputs)] = code


@import_rule("Pad")
def _pad(emitter: Emitter, node: OnnxNode) -> None:
    """Pad integers by what their value stands for."""
    code = emitter.codes.get(node.inputs[0])
    if code is None:
        _plain_pad(emitter, node)
        return
    inputs = [emitter.real(node.inputs[0], None), *node.inputs[1:]]
    value = _slot(node, 2)
    data = emitter.tensor(value).data if value else np.zeros(())
    if data is None:
        _refuse(node, "the value of a Pad must be constant", value)
    real = emitter.constant(np.array((data.astype(np.float64) - code.zero_point) * code.scale).reshape(()), "value")
    inputs = [*inputs[:2], real, *inputs[3:]]
    _plain_pad(emitter, replace(node, inputs=tuple(inputs)))
    emitter.codes[node.outputs[0]] = code


# -- layers ------------------------------------------------------------------------------------------------------------


def _layer(
    emitter: Emitter, node: OnnxNode, x: str, grid: Grid, bias: str, outputs: Sequence[str] | None, alpha: float = 1.0
) -> str:
    """Add a layer whose weights (inputs, outputs) are on a grid.

    Raises:
        UnsupportedModelError: the inputs of one output have several scales.
    """
    scales = grid.scales[0] if len(grid.scales) else np.ones(grid.scales.shape[1])
    if grid.scales.size and np.any(grid.scales != scales):
        node.fail(
            "the weights' scales differ along the axis that is summed", "one scale a tensor or an output is supported"
        )
    scales = scales[:1] if scales.size and np.all(scales == scales[0]) else scales
    names = [x, emitter.constant(grid.integers, "integers"), emitter.constant(np.array(scales * alpha), "scales")]
    return emitter.emit("ScaledGemm", [*names, bias] if bias else names, outputs, {"weight_bits": grid.bits})


def _gemm_of(emitter: Emitter, node: OnnxNode, a: str, grid: Grid, c: str, outputs: Sequence[str] | None) -> str:
    """Add a Gemm whose B is on a grid: transA, transB, alpha and beta are written out.

    Raises:
        UnsupportedModelError: C is not constant.
    """
    if node.attrs.get("transA", 0):
        a = emitter.emit("Transpose", [a], None, {"perm": (1, 0)})
    if node.attrs.get("transB", 0):
        grid = Grid(grid.integers.T, grid.scales.T, grid.bits)
    beta = float(node.attrs.get("beta", 1.0))
    if c and emitter.tensor(c).data is None:
        _refuse(node, "the bias of a quantised layer must be constant", c)
    if c and beta != 1.0:
        c = emitter.emit("Mul", [c, emitter.constant(np.array(beta), "beta")])
    return _layer(emitter, node, a, grid, c, outputs, float(node.attrs.get("alpha", 1.0)))


@import_rule("Gemm")
def _gemm(emitter: Emitter, node: OnnxNode) -> None:
    a, b, c = node.inputs[0], node.inputs[1], _slot(node, 2)
    for name in (a, b):
        if len(emitter.tensor(name).shape) != 2:
            shape = list(emitter.tensor(name).shape)
            node.fail(f"Gemm multiplies matrices, and %{name} has shape {shape}", "MatMul takes batches of matrices")
    if c and not emitter.tensor(c).is_constant:
        product = replace(node, inputs=(a, b), outputs=(emitter.fresh("product"),))
        _gemm(emitter, product)
        beta = float(node.attrs.get("beta", 1.0))
        addend = c if beta == 1.0 else emitter.emit("Mul", [c, emitter.constant(np.array(beta), "beta")])
        emitter.emit("Add", [product.outputs[0], addend], node.outputs)
        return
    if emitter.tensor(a).is_constant and not emitter.tensor(b).is_constant:
        _gemm_from_left(emitter, node, a, b, c)
        return
    grid = emitter.grids.get(b)
    if not emitter.tensor(b).is_constant and grid is None:
        _gemm_of_activations(emitter, node, a, b, c)
    elif grid is None or grid.integers.ndim != 2:
        emit_plain(emitter, node)
    else:
        _gemm_of(emitter, node, a, grid, c, node.outputs)


def _gemm_of_activations(emitter: Emitter, node: OnnxNode, a: str, b: str, c: str) -> None:
    """Write alpha · A' · B' + beta · C, where both A and B depend on the input, as a product and a Gemm's rest."""
    attrs = node.attrs
    a, b = (
        emitter.emit("Transpose", [name], None, {"perm": (1, 0)}) if attrs.get(key) else name
        for name, key in ((a, "transA"), (b, "transB"))
    )
    factors = [float(attrs.get(key, 1.0)) for key in ("alpha", "beta")]
    terms = [_of_activations(emitter, a, b, None), c]
    scaled = [
        emitter.emit("Mul", [name, emitter.constant(np.array(factor), "factor")]) if name and factor != 1.0 else name
        for name, factor in zip(terms, factors, strict=True)
    ]
    emitter.emit("Add" if c else "Identity", [name for name in scaled if name], node.outputs)


def _gemm_from_left(emitter: Emitter, node: OnnxNode, a: str, b: str, c: str) -> None:
    """Write A' · B' + C for a constant A as (B'ᵀ · A'ᵀ + Cᵀ)ᵀ."""
    turned_a, turned_b = (1 - int(node.attrs.get(key, 0)) for key in ("transB", "transA"))
    attrs = {**node.attrs, "transA": turned_a, "transB": turned_b}
    inputs = [b, a]
    if c:
        missing = range(2 - len(emitter.tensor(c).shape))
        row = emitter.emit("Unsqueeze", [c, emitter.constant(missing, "axes")]) if missing else c
        inputs.append(emitter.emit("Transpose", [row], None, {"perm": (1, 0)}))
    turned = replace(node, inputs=tuple(inputs), outputs=(emitter.fresh("turned"),), attrs=attrs)
    _gemm(emitter, turned)
    emitter.emit("Transpose", turned.outputs, node.outputs, {"perm": (1, 0)})


def _from_left(emitter: Emitter, node: OnnxNode, a: str, b: str, outputs: Sequence[str] | None) -> str:
    """Multiply by a constant vector or matrix A from the left: A · B is (Bᵀ · Aᵀ)ᵀ."""
    matrix, ranks = len(emitter.tensor(a).shape) == 2, len(emitter.tensor(b).shape)
    turn = {"perm": (*range(ranks - 2), ranks - 1, ranks - 2)}
    weights = emitter.emit("Transpose", [a], None, {"perm": (1, 0)}) if matrix else a
    if ranks == 1:
        return _matmul_of(emitter, node, b, weights, outputs)
    columns = emitter.emit("Transpose", [b], None, turn)
    if not matrix:
        return _matmul_of(emitter, node, columns, weights, outputs)
    return emitter.emit("Transpose", [_matmul_of(emitter, node, columns, weights, None)], outputs, turn)


def _matmul_of(emitter: Emitter, node: OnnxNode, a: str, b: str, outputs: Sequence[str] | None) -> str:
    left, right = emitter.grids.get(a), emitter.grids.get(b)
    shapes = [len(emitter.tensor(name).shape) for name in (a, b)]
    constant = emitter.tensor(a).is_constant and not emitter.tensor(b).is_constant
    if constant and shapes != [2, 2] and shapes[0] in {1, 2} and shapes[1] > 0:
        return _from_left(emitter, node, a, b, outputs)
    if right is not None and right.integers.ndim == 2 and left is None:
        return _layer(emitter, node, a, right, "", outputs)
    if left is not None and right is None and left.integers.ndim == len(emitter.tensor(b).shape) == 2:
        columns = Grid(left.integers.T, left.scales.T, left.bits)  # W·x is (xᵀ·Wᵀ)ᵀ
        rows = _layer(emitter, node, emitter.emit("Transpose", [b], None, {"perm": (1, 0)}), columns, "", None)
        return emitter.emit("Transpose", [rows], outputs, {"perm": (1, 0)})
    if not any(emitter.tensor(name).is_constant for name in (a, b)) and all(shapes):
        return _of_activations(emitter, a, b, outputs)
    return emitter.emit("MatMul", [a, b], outputs)


def _of_activations(emitter: Emitter, a: str, b: str, outputs: Sequence[str] | None) -> str:
    """Add the product of two tensors that depend on the input; a vector is a matrix of one row, or of one column."""
    left, right = emitter.tensor(a).shape, emitter.tensor(b).shape
    maker = emitter.graph.producer(a)
    shares = maker is not None and maker.op_type == "Softmax" and maker.attrs.get("axis") in {-1, len(left) - 1}
    if len(left) > 1 and len(right) > 1:
        return emitter.emit("ActivationMatMul", [a, b], outputs, {"convex": int(shares)})
    a = a if len(left) > 1 else emitter.emit("Unsqueeze", [a, emitter.constant([0])])
    b = b if len(right) > 1 else emitter.emit("Unsqueeze", [b, emitter.constant([1])])
    product = emitter.emit("ActivationMatMul", [a, b], attrs={"convex": int(shares)})
    flat = [axis for axis, x in ((-2, left), (-1, right)) if len(x) == 1]
    return emitter.emit("Squeeze", [product, emitter.constant(flat)], outputs)


@import_rule("Conv")
def _conv(emitter: Emitter, node: OnnxNode) -> None:
    grid = emitter.grids.get(node.inputs[1])
    if grid is None:
        x, attrs = conv_attributes(emitter, node)
        emitter.emit("Conv", [x, *node.inputs[1:]], node.outputs, attrs)
    else:
        _conv_of(emitter, node, grid, node.outputs)


def _conv_of(emitter: Emitter, node: OnnxNode, grid: Grid, outputs: Sequence[str] | None) -> str:
    """Add a convolution whose weights are on a grid: one scale, or one for each output channel.

    Raises:
        UnsupportedModelError: the weights of one output channel have several scales, or the bias is not constant.
    """
    x, attrs = conv_attributes(emitter, node)
    by_output = grid.scales.reshape(len(grid.scales), -1)
    if np.any(by_output != by_output[:, :1]):
        node.fail("the weights' scales differ within an output channel", "one scale a tensor or an output is supported")
    scales = by_output[:, 0]
    scales = scales[:1] if np.all(scales == scales[0]) else scales
    bias = _slot(node, 2)
    if bias and emitter.tensor(bias).data is None:
        _refuse(node, "the bias of a quantised layer must be constant", bias)
    names = [x, emitter.constant(grid.integers, "integers"), emitter.constant(np.array(scales), "scales")]
    names += [bias] if bias else []
    return emitter.emit("ScaledConv", names, outputs, {**attrs, "weight_bits": grid.bits})


@import_rule("MaxPool")
def _max_pool(emitter: Emitter, node: OnnxNode) -> None:
    """The greatest of integers stand for the greatest of what they stand for."""
    code = emitter.codes.get(node.inputs[0])
    if code is None:
        _plain_max_pool(emitter, node)
        return
    real = emitter.real(node.inputs[0], None)
    _plain_max_pool(emitter, replace(node, inputs=(real,), outputs=node.outputs[:1]))
    emitter.codes[node.outputs[0]] = code


@import_rule("Resize")
def _resize(emitter: Emitter, node: OnnxNode) -> None:
    """Pick among integers, or round what lies between them to their format again."""
    code = emitter.codes.get(node.inputs[0])
    if code is None:
        _plain_resize(emitter, node)
        return
    resized = emitter.fresh("resized")
    inputs = (emitter.real(node.inputs[0], None), *node.inputs[1:])
    _plain_resize(emitter, replace(node, inputs=inputs, outputs=(resized,)))
    if str(node.attrs.get("mode", "nearest")) == "nearest":
        emitter.emit("Identity", [resized], node.outputs)
        emitter.codes[node.outputs[0]] = code
    else:
        _quantized(emitter, node, resized, code, node.outputs[0])


@import_rule("MatMul")
def _matmul(emitter: Emitter, node: OnnxNode) -> None:
    _matmul_of(emitter, node, node.inputs[0], node.inputs[1], node.outputs)


# -- QOperator form ----------------------------------------------------------------------------------------------------


@import_rule("QLinearMatMul")
def _qlinear_matmul(emitter: Emitter, node: OnnxNode) -> None:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = node.inputs
    # one scale a row of a, one a column of b
    left = _dequantized(emitter, node, a, a_scale, a_zero, max(len(emitter.tensor(a).shape) - 2, 0))
    right = _dequantized(emitter, node, b, b_scale, b_zero, max(len(emitter.tensor(b).shape) - 1, 0))
    y = _matmul_of(emitter, node, left, right, None)
    _quantized(emitter, node, y, _code(emitter, node, y_scale, y_zero, None), node.outputs[0])


@import_rule("QLinearConv")
def _qlinear_conv(emitter: Emitter, node: OnnxNode) -> None:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = node.inputs[:8]
    real = _dequantized(emitter, node, x, x_scale, x_zero, 0)
    weights = _dequantized(emitter, node, w, w_scale, w_zero, 0)
    grid, bias = emitter.grids.get(weights), _slot(node, 8)
    if grid is None:
        _refuse(node, "QLinearConv by weights that are not constant is not supported", w)
    if bias:
        data = emitter.tensor(bias).data
        if data is None:
            _refuse(node, "the bias of a quantised layer must be constant", bias)
        scales = _scales(emitter, node, x_scale) * _scales(emitter, node, w_scale)
        bias = emitter.constant(data * scales.reshape(-1), "bias")
    float_op = replace(node, op_type="Conv", inputs=(real, weights, *([bias] if bias else [])))
    y = _conv_of(emitter, float_op, grid, None)
    _quantized(emitter, node, y, _code(emitter, node, y_scale, y_zero, None), node.outputs[0])


@import_rule("ConvInteger", "MatMulInteger")
def _integer_layer(emitter: Emitter, node: OnnxNode) -> None:
    """The sums of a layer of integers: those of what they stand for, divided by its scale."""
    x, w = node.inputs[:2]
    zero, zeros = (_integer_zero(emitter, node, slot, name) for slot, name in ((2, x), (3, w)))
    if zero.size != 1:
        _refuse(node, "a zero point for each row of an activation is not supported", node.inputs[2])
    if x in emitter.codes:
        code = emitter.codes[x]
        if int(zero.reshape(())) != code.zero_point:
            _refuse(node, f"a tensor quantised as {code} is multiplied with the zero point {int(zero.reshape(()))}", x)
        real, scale = emitter.real(x, None), code.scale
    elif x in emitter.integers and emitter.integers[x].kind in INTEGER_INPUTS:
        bits, signed = INTEGER_INPUTS[emitter.integers[x].kind]
        real, scale = _from_integers(emitter, node, x, Code(1.0, int(zero.reshape(())), bits, signed), None), 1.0
    else:
        _refuse(node, f"the first operand of {node.op_type} must be an activation of integers", x, _STATIC)
    weights = emitter.tensor(w)
    if weights.data is None or weights.data.dtype.kind != "i":
        _refuse(node, f"{node.op_type} by weights that are not constant is not supported", w)
    axis = 0 if node.op_type == "ConvInteger" else max(len(weights.shape) - 1, 0)
    integers = np.asarray(weights.data - _along(node, zeros, weights.shape, axis, w))
    grid = Grid(integers, np.full(weights.shape, 1.0 / scale), WIDTHS[emitter.element_types[w]][0])
    float_op = replace(node, op_type="Conv", inputs=(real, w))
    if node.op_type == "ConvInteger":
        sums = _conv_of(emitter, float_op, grid, node.outputs)
    elif integers.ndim == 2:
        sums = _layer(emitter, node, real, grid, "", node.outputs)
    else:
        _refuse(node, f"MatMulInteger by weights of shape {list(weights.shape)} is not supported", w, "matrices are")
    emitter.integers[sums] = Integers(TensorProto.INT32, sums)


def _integer_zero(emitter: Emitter, node: OnnxNode, slot: int, operand: str) -> Array:
    """Return an operand's zero points, int64; 0 if they are left out."""
    name = _slot(node, slot)
    return _zero_points(emitter, node, name, name or operand, None) if name else np.zeros((), dtype=np.int64)


@import_rule("QLinearGlobalAveragePool", "QLinearAveragePool", domain=_MICROSOFT)
def _qlinear_pool(emitter: Emitter, node: OnnxNode) -> None:
    x, x_scale, x_zero, y_scale = node.inputs[:4]
    real = _dequantized(emitter, node, x, x_scale, x_zero, 0)
    rank = len(emitter.tensor(real).shape)
    last = int(node.attrs.get("channels_last", 0))
    if last:
        real = emitter.emit("Transpose", [real], None, {"perm": (0, rank - 1, *range(1, rank - 1))})
    pooled = emitter.fresh("pooled")
    attrs = _without(node.attrs, "channels_last")
    name = node.op_type.removeprefix("QLinear")
    pool = replace(node, op_type=name, domain="", inputs=(real,), outputs=(pooled,), attrs=attrs)
    RULES["", name](emitter, pool)
    if last:
        pooled = emitter.emit("Transpose", [pooled], None, {"perm": (0, *range(2, rank), 1)})
    _quantized(emitter, node, pooled, _code(emitter, node, y_scale, _slot(node, 4), None), node.outputs[0])


@import_rule("QGemm", domain=_MICROSOFT)
def _qgemm(emitter: Emitter, node: OnnxNode) -> None:
    a, a_scale, a_zero, b, b_scale, b_zero = node.inputs[:6]
    x = _dequantized(emitter, node, a, a_scale, a_zero, 0)
    w = _dequantized(emitter, node, b, b_scale, b_zero, 0 if node.attrs.get("transB", 0) else 1)
    grid, bias = emitter.grids.get(w), _slot(node, 6)
    if grid is None:
        _refuse(node, "QGemm of two activations is not supported", b, "its B must be constant")
    if bias:
        data = emitter.tensor(bias).data
        if data is None:
            _refuse(node, "the bias of a quantised layer must be constant", bias)
        scales = _scales(emitter, node, a_scale) * _scales(emitter, node, b_scale) * float(node.attrs.get("alpha", 1.0))
        bias = emitter.constant(data * scales.reshape(-1), "bias")
    y_scale, y_zero = _slot(node, 7), _slot(node, 8)
    y = _gemm_of(emitter, node, x, grid, bias, None if y_scale else node.outputs)
    if y_scale:
        _quantized(emitter, node, y, _code(emitter, node, y_scale, y_zero, None), node.outputs[0])


@import_rule("QLinearAdd", "QLinearMul", domain=_MICROSOFT)
def _qlinear_binary(emitter: Emitter, node: OnnxNode) -> None:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale = node.inputs[:7]
    operands = [_dequantized(emitter, node, a, a_scale, a_zero, 0), _dequantized(emitter, node, b, b_scale, b_zero, 0)]
    y = emitter.emit(node.op_type.removeprefix("QLinear"), operands)
    _quantized(emitter, node, y, _code(emitter, node, y_scale, _slot(node, 7), None), node.outputs[0])


@import_rule("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", domain=_MICROSOFT)
def _qlinear_unary(emitter: Emitter, node: OnnxNode) -> None:
    x, x_scale, x_zero, y_scale = node.inputs[:4]
    real = _dequantized(emitter, node, x, x_scale, x_zero, 0)
    float_op = OnnxNode(
        name=node.name,
        op_type=node.op_type.removeprefix("QLinear"),
        domain="",
        version=int(node.attrs.get("opset", 13)),
        inputs=(real,),
        outputs=(emitter.fresh("real"),),
        attrs=_without(node.attrs, "opset"),
    )
    RULES.get(("", float_op.op_type), emit_plain)(emitter, float_op)
    _quantized(emitter, node, float_op.outputs[0], _code(emitter, node, y_scale, _slot(node, 4), None), node.outputs[0])


@import_rule("QLinearConcat", domain=_MICROSOFT)
def _qlinear_concat(emitter: Emitter, node: OnnxNode) -> None:
    y_scale, y_zero, *operands = node.inputs
    triples = [operands[i : i + 3] for i in range(0, len(operands), 3)]
    real = [_dequantized(emitter, node, x, scale, zero, 0) for x, scale, zero in triples]
    y = emitter.emit("Concat", real, None, plain_attributes(node))
    _quantized(emitter, node, y, _code(emitter, node, y_scale, y_zero, None), node.outputs[0])


def _without(attrs: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in attrs.items() if key != name}
