"""Pools: the greatest, or the mean, of what lies in a window. One over all of a channel is a global pool."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np

from ml2sc.errors import ShapeError

from ..graph import AttrValue, Node, Tensor
from ..types import Array, DType
from .base import Arrays, Bounds, ErrorContext, Inputs, OpDef, Signature, attr_int, register_op
from .integers import largest, product_of, sum_of, within
from .linear import widened
from .operands import bounds_at, magnitude, tensor_at, value_at
from .quantizer import Quantizer
from .windows import OUTSIDE, Window, attr_ints, misses, patches, positions, windows_of


class _Pool(OpDef):
    """Works on each channel of (batch, channels, *spatial) by itself."""

    attributes: ClassVar[tuple[str, ...]] = ("dilations", "kernel_shape", "pads", "strides")

    def windows(self, node: Node, x: Sequence[int]) -> tuple[Window, ...]:
        """Return its windows, one a spatial axis, for the input's shape.

        Raises:
            ShapeError: they do not fit, or one lies wholly in padding.
        """
        if len(x) < 3:
            raise ShapeError(f"{node.op_type} needs a batch, channels and spatial axes, not {list(x)}", node=str(node))
        windows = windows_of(node, x[2:], attr_ints(node, "kernel_shape", x[2:]))
        for axis, window in enumerate(windows):
            if misses(window):
                raise ShapeError(
                    f"a window of {node.op_type} lies wholly in the padding of spatial axis {axis}", node=str(node)
                )
        return windows

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        x = tensor_at(inputs, 0)
        return [Signature((*x.shape[:2], *(window.out for window in self.windows(node, x.shape))), DType.FLOAT)]

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        x = tensor_at(inputs, 0)
        return [self.integers(node, value_at(values, 0).reshape(x.shape), x.format.zero_point)]

    def evaluate_batch(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        x = tensor_at(inputs, 0)
        given = value_at(values, 0)  # as one batch of all samples' batches
        y = self.integers(node, given.reshape(-1, *x.shape[1:]), x.format.zero_point)
        return [y.reshape(len(given), *outputs[0].shape)]

    def integers(self, node: Node, x: Array, zero: int) -> Array:
        """Return the pool of integers, `zero` standing for 0."""
        raise NotImplementedError

    def _geometry(self, node: Node) -> dict[str, AttrValue]:
        return {key: node.attrs[key] for key in self.attributes if key in node.attrs}


@register_op
class MaxPool(_Pool):
    """The greatest of each window; padding does not count. In a quantised graph: the same, in the format of X."""

    op_type = "MaxPool"
    keeps_format = True

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0)
        windows = self.windows(node, x.shape)
        y = x.reshape(*x.shape[:2], -1)[..., _positions_inside(windows)].max(axis=-2)
        return [np.asarray(y.reshape(*x.shape[:2], *(window.out for window in windows)), order="C")]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x = bounds_at(inputs, 0)
        return [Bounds(self.evaluate(node, [x.lo])[0], self.evaluate(node, [x.hi])[0])]

    def quantize(self, node: Node, q: Quantizer) -> None:
        x = q.raw(node.inputs[0])
        attrs = self._geometry(node)
        q.emit(
            node, "MaxPool", [x.name], x.format.scale, output=node.output, zero_point=x.format.zero_point, attrs=attrs
        )

    def integers(self, node: Node, x: Array, zero: int) -> Array:
        return self.evaluate(node, [x])[0]

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        return self.evaluate(node, [value_at(context.errors, 0)])


@lru_cache(maxsize=64)
def _positions_inside(windows: tuple[Window, ...]) -> Array:
    """Return the `positions`, (taps, outputs), one within the window in place of each in padding."""
    at = positions(windows)
    return np.ascontiguousarray(np.where(at == OUTSIDE, at.max(axis=1, keepdims=True), at).T)


@register_op
class AveragePool(_Pool):
    """The mean of each window: of what is no padding, or with `count_include_pad` of the model's padding, too.

    The attribute `overhang` (not ONNX's), by axis, says how much of the end's padding ceil_mode has added: that counts
    in no case.

    In a quantised graph: Σ (x − z) · m at scale s_x / d, d being the least common multiple of the windows' counts and
    m, by output, d / count: nothing is rounded, and where all counts are alike nothing is multiplied.
    """

    op_type = "AveragePool"
    reads_activations = True
    attributes = (*_Pool.attributes, "count_include_pad", "overhang")

    def counts(self, node: Node, windows: tuple[Window, ...]) -> Array:
        """Return what the sum of each window is divided by, int64 in the output's spatial shape."""
        overhangs = attr_ints(node, "overhang", (0,) * len(windows))
        total = np.ones((), dtype=np.int64)
        for window, overhang in zip(windows, overhangs, strict=True):
            if attr_int(node, "count_include_pad", 0):
                at = np.arange(window.out)[:, None] * window.stride + np.arange(window.kernel) * window.dilation
                counts = (at < window.padded - overhang).sum(axis=1)
            else:
                counts = (window.taps() != OUTSIDE).sum(axis=1)
            total = total[..., None] * counts
        return total

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        x = value_at(inputs, 0)
        windows = self.windows(node, x.shape)
        return [self._sums(x, windows) / self.counts(node, windows)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        x = bounds_at(inputs, 0)
        ends = Bounds(self.evaluate(node, [x.lo])[0], self.evaluate(node, [x.hi])[0])
        return [widened(ends, self.evaluate(node, [magnitude(x)])[0])]

    def quantize(self, node: Node, q: Quantizer) -> None:
        x = q.activation(node.inputs[0])
        divisor = math.lcm(*np.unique(self.counts(node, self.windows(node, x.shape))).tolist())
        q.emit(node, "AveragePool", [x.name], x.format.scale / divisor, output=node.output, attrs=self._geometry(node))

    def multipliers(self, node: Node, windows: tuple[Window, ...]) -> Array:
        """Return m of the quantised form, int64 in the output's spatial shape."""
        counts = self.counts(node, windows)
        return math.lcm(*np.unique(counts).tolist()) // counts

    def integers(self, node: Node, x: Array, zero: int) -> Array:
        windows, moved = self.windows(node, x.shape), sum_of(x, -zero)
        taps = math.prod(window.kernel for window in windows)
        return product_of(self._sums(within(largest(moved) * taps, moved), windows), self.multipliers(node, windows))

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        return [self.evaluate(node, [value_at(context.errors, 0)])[0] * (1 + 2.0**-40)]

    def _sums(self, x: Array, windows: tuple[Window, ...]) -> Array:
        sums: Array = patches(x, windows).sum(axis=-1)
        return np.reshape(sums, (*x.shape[:2], *(window.out for window in windows)))
