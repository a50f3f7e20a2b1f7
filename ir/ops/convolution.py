"""Convolutions, of one or more spatial axes: layers whose weights meet a window of the input at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ml2sc.errors import ShapeError, UnsupportedModelError

from ..graph import AttrValue, Node, Tensor
from ..types import Array, DType
from .base import Arrays, Bounds, Inputs, Signature, attr_float, attr_int, register_op
from .integers import product_of
from .linear import LinearOp, Multiply, activate, is_folded
from .operands import bounds_at, tensor_at, value_at
from .quantizer import Quantizer
from .windows import Window, patches, windows_of

GEOMETRY = ("dilations", "group", "pads", "spreads", "strides")
"""A convolution's attributes, normalised as `windows.py` says."""


@register_op
class Conv(LinearOp):
    """Y[o] = Σ W[o, c, taps] · X[c, positions] + B[o], W (outputs, channels / group, *kernel) and B constant.

    The attribute `spreads` (not ONNX's) says how far apart the input's elements are, with padding between them: a
    ConvTranspose is such a convolution, its weights turned when it is read. `slack` is as in `LinearOp`.

    In a quantised graph: X in activation format, padding is its zero point; W and B integers, and Y the exact
    accumulator Σ (x − z)·w + b at scale s_x · s_w. Where output channels have weight scales of their own, powers of two
    apart, the attribute `shifts` holds how many bits each accumulator is shifted left to come to the common scale.
    """

    op_type = "Conv"
    batches = True
    min_inputs = 2
    max_inputs = 3
    channel_axis = 1

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        for tensor in inputs[1:]:
            if tensor is not None and not tensor.is_constant:
                raise UnsupportedModelError(
                    "Conv by weights that are not constant is not supported",
                    node=str(node),
                    tensor=f"%{tensor.name}",
                    hint="its weights and bias must be constant",
                )

    def windows(self, node: Node, x: Sequence[int], w: Sequence[int]) -> tuple[Window, ...]:
        """Return its windows, one a spatial axis, for the shapes of input and weights.

        Raises:
            ShapeError: they do not fit each other or the attributes.
        """
        group = attr_int(node, "group", 1)
        if len(x) < 3 or len(w) != len(x):
            raise ShapeError(f"Conv cannot move a kernel {list(w)} over {list(x)}", node=str(node))
        if group < 1 or x[1] % group or w[0] % group:
            raise ShapeError(
                f"{x[1]} channels and {w[0]} outputs do not divide into {group} groups",
                node=str(node),
                hint="the attribute group must divide both",
            )
        if w[1] * group != x[1]:
            raise ShapeError(
                f"the kernel {list(w)} takes {w[1] * group} channels in {group} groups, the input {list(x)} has {x[1]}",
                node=str(node),
                hint="the kernel's second dimension is the input's channels, divided by the attribute group",
            )
        return windows_of(node, x[2:], w[2:])

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        x, w = tensor_at(inputs, 0), tensor_at(inputs, 1)
        windows = self.windows(node, x.shape, w.shape)
        if len(inputs) > 2 and inputs[2] is not None and inputs[2].shape != (w.shape[0],):
            raise ShapeError(f"the bias {list(inputs[2].shape)} does not fit {w.shape[0]} outputs", node=str(node))
        return [Signature((x.shape[0], w.shape[0], *(window.out for window in windows)), DType.FLOAT)]

    def product(self, node: Node, x: Array, w: Array, multiply: Multiply = np.matmul) -> Array:
        rank, group = w.ndim - 2, attr_int(node, "group", 1)
        lead, (channels, *sizes) = x.shape[: -rank - 1], x.shape[-rank - 1 :]
        windows = self.windows(node, (1, channels, *sizes), w.shape)
        # (lead, group, channels of the group, outputs, taps) to (lead, group, outputs, channels of the group · taps)
        rows = patches(x.reshape(*lead, group, channels // group, *sizes), windows)
        rows = np.moveaxis(rows, -3, -2)
        rows = rows.reshape(*rows.shape[:-2], -1)
        # whatever axes there are, numpy is to multiply what lies alike: else it adds up in another order
        rows = np.ascontiguousarray(rows) if group == 1 else rows
        columns = w.reshape(group, w.shape[0] // group, -1)
        results = [multiply(rows[..., g, :, :], columns[g].T) for g in range(group)]
        y = np.concatenate([np.moveaxis(result, -1, -2) for result in results], axis=-2)
        return y.reshape(*lead, w.shape[0], *(window.out for window in windows))

    def apply(self, node: Node, x: Array, w: Array, c: Array | None) -> Array:
        y = self.product(node, x, w)
        return activate(node, y if c is None else y + self.addend(c, w.ndim))  # whatever axes there are before its own

    def addend(self, c: Array, rank: int) -> Array:
        return c.reshape(-1, *[1] * (rank - 2))

    def finish(self, node: Node, sums: Array) -> Array:
        shifts = shifts_of(node)
        factors = None if shifts is None else np.array([1 << s for s in shifts], dtype=object)
        y = sums if factors is None else product_of(sums, self.addend(factors, sums.ndim))
        return super().finish(node, y)

    def weights(self, node: Node, w: Tensor) -> Array:
        return _shifted(node, super().weights(node, w))

    def bias(self, node: Node, c: Tensor) -> Array:
        return _shifted(node, super().bias(node, c))

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        c = inputs[2] if len(inputs) > 2 else None
        return [self.apply(node, value_at(inputs, 0), value_at(inputs, 1), c)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x, w = bounds_at(inputs, 0), bounds_at(inputs, 1).lo
        c = inputs[2] if len(inputs) > 2 else None
        windows = self.windows(node, x.lo.shape, w.shape)
        shape = (x.lo.shape[0], w.shape[0], *(window.out for window in windows))
        return [self.real_interval(node, x, w, None if c is None else c.lo, shape)]

    def quantize(self, node: Node, q: Quantizer) -> None:
        c = node.inputs[2] if len(node.inputs) > 2 else ""
        bias = q.real(c) if c else None
        x, weights = q.activation(node.inputs[0]), q.real(node.inputs[1])
        scale_w = q.weight_scale(weights, x.format, node.output)
        correction = node.attrs.get("correction")
        if bias is None and correction is not None:
            bias = np.zeros(len(weights))
        inputs = [x.name, q.constant(f"{node.name}.weight", weights, scale_w).name]
        scale = x.format.scale * scale_w
        if bias is not None:
            moved = None if correction is None else np.asarray(correction, dtype=np.float64)
            inputs.append(q.constant(f"{node.name}.bias", bias, scale, moved).name)
        attrs: dict[str, AttrValue] = {key: node.attrs[key] for key in GEOMETRY if key in node.attrs}
        if is_folded(node):
            attrs["slack"] = attr_float(node, "slack", 0.0)
        q.emit(node, "Conv", inputs, scale, output=node.output, attrs=attrs)


def shifts_of(node: Node) -> tuple[int, ...] | None:
    """Return how many bits each output channel's accumulator of a quantised Conv is shifted left; None: none is."""
    shifts = node.attrs.get("shifts")
    if shifts is None:
        return None
    assert isinstance(shifts, tuple)
    return tuple(int(s) for s in shifts)


def _shifted(node: Node, real: Array) -> Array:
    shifts = shifts_of(node)
    if shifts is None:
        return real
    moved: Array = np.ldexp(real, np.array(shifts).reshape(-1, *[1] * (real.ndim - 1)))
    return moved
