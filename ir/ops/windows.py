"""Windows that slide over spatial axes: what convolutions and pools have in common.

In the graph their attributes are normalised: `pads` (all begins, then all ends), `strides`, `dilations` and, where the
weights do not say it, `kernel_shape`, each with an entry an axis. What ONNX calls auto_pad and ceil_mode is written out
when a model is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from ml2sc.errors import ShapeError, UnsupportedModelError

from ..graph import Node
from ..limits import check_elements
from ..types import Array

OUTSIDE = -1
"""The position of what is not there: padding."""


@dataclass(frozen=True, slots=True)
class Window:
    """How a kernel moves along one spatial axis.

    Attributes:
        size: Elements of the input.
        kernel: Elements of the kernel.
        stride: From one output to the next, in elements of the (spread) input.
        dilation: From one tap to the next, likewise.
        begin: Padding before the first element; where it is negative so many elements are left out.
        end: Padding after the last, likewise.
        spread: From one element of the input to the next: between them is padding (a transposed convolution).
    """

    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    begin: int = 0
    end: int = 0
    spread: int = 1

    @property
    def extent(self) -> int:
        """Elements from the first tap to the last, both counted."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def padded(self) -> int:
        """Elements that the kernel moves over, padding counted."""
        return (self.size - 1) * self.spread + 1 + self.begin + self.end

    @property
    def out(self) -> int:
        """Number of outputs; below 1 where the kernel does not fit."""
        return (self.padded - self.extent) // self.stride + 1

    @property
    def whole(self) -> bool:
        """Whether there is one output, under whose taps every element is."""
        return self.out == 1 and np.count_nonzero(self.taps() != OUTSIDE) == self.size

    def taps(self) -> Array:
        """Return the input's position under each tap of each output, int64 (out, kernel); OUTSIDE in padding."""
        at = np.arange(self.out)[:, None] * self.stride + np.arange(self.kernel) * self.dilation - self.begin
        inside = (at >= 0) & (at % self.spread == 0) & (at // self.spread < self.size)
        return np.where(inside, at // self.spread, OUTSIDE)


@lru_cache(maxsize=256)
def misses(window: Window) -> bool:
    """Return whether one of a window's outputs has padding under all taps."""
    return bool((window.taps() == OUTSIDE).all(axis=1).any())


def attr_ints(node: Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """Return an attribute that is a list of integers.

    Raises:
        UnsupportedModelError: it is something else, or has not as many entries as the default.
    """
    value = node.attrs.get(name, tuple(default))
    if not isinstance(value, tuple) or not all(isinstance(v, int) for v in value):
        raise UnsupportedModelError(f"attribute {name} must be a list of integers, not {value!r}", node=str(node))
    if len(value) != len(default):
        raise ShapeError(f"attribute {name} has {len(value)} entries, and {len(default)} are needed", node=str(node))
    return tuple(int(v) for v in value)


def windows_of(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> tuple[Window, ...]:
    """Return the windows of a convolution or pool, one a spatial axis.

    Args:
        node: The operator, its attributes normalised.
        sizes: The input's spatial dimensions.
        kernel: The kernel's.

    Raises:
        ShapeError: the attributes do not fit the axes, or the kernel does not fit the padded input.
    """
    rank = len(sizes)
    if len(kernel) != rank:
        raise ShapeError(f"a kernel of shape {list(kernel)} does not fit {rank} spatial axes", node=str(node))
    ones = (1,) * rank
    strides, dilations, spreads = (attr_ints(node, name, ones) for name in ("strides", "dilations", "spreads"))
    pads = attr_ints(node, "pads", (0,) * 2 * rank)
    for name, values in (
        ("kernel_shape", kernel),
        ("strides", strides),
        ("dilations", dilations),
        ("spreads", spreads),
    ):
        if min(values, default=1) < 1:
            raise ShapeError(
                f"{name} {list(values)} of {node.op_type} must be positive", node=str(node), hint="1 stands for none"
            )
    windows = tuple(
        Window(size, k, stride, dilation, begin, end, spread)
        for size, k, stride, dilation, begin, end, spread in zip(
            sizes, kernel, strides, dilations, pads[:rank], pads[rank:], spreads, strict=True
        )
    )
    for axis, window in enumerate(windows):
        if window.out < 1:
            raise ShapeError(
                f"the kernel spans {window.extent} elements of spatial axis {axis}, and the input has {window.size}, "
                f"{window.padded} with its padding",
                node=str(node),
                hint="use a larger input, more padding or a smaller kernel",
            )
    check_elements(prod(w.out * w.kernel for w in windows), node=str(node))
    return windows


@lru_cache(maxsize=64)
def positions(windows: tuple[Window, ...]) -> Array:
    """Return the position, in the flattened spatial axes, under each tap of each output; OUTSIDE in padding.

    Returns:
        int64, (outputs, taps), both row-major.
    """
    at, inside = np.zeros((1, 1), dtype=np.int64), np.ones((1, 1), dtype=bool)
    for window in windows:
        taps = window.taps()
        at = (at[:, None, :, None] * window.size + taps[None, :, None, :]).reshape(len(at) * window.out, -1)
        inside = (inside[:, None, :, None] & (taps != OUTSIDE)[None, :, None, :]).reshape(at.shape)
    found: Array = np.where(inside, at, OUTSIDE)
    found.setflags(write=False)
    return found


def patches(x: Array, windows: tuple[Window, ...]) -> Array:
    """Return what lies under each tap of each output, 0 in padding.

    Args:
        x: (…, *spatial), of any element type.
        windows: One a spatial axis.

    Returns:
        (…, outputs, taps).
    """
    lead = x.shape[: x.ndim - len(windows)]
    flat = x.reshape(*lead, -1)
    padded = np.concatenate([flat, np.zeros((*lead, 1), dtype=x.dtype)], axis=-1)
    found: Array = padded[..., positions(windows)]  # OUTSIDE is the last one
    return found
