"""Import rules of what convolutional networks have: convolutions, pools, padding, resizing, normalisation of maps.

Of the many ways in which ONNX says where a window may lie (auto_pad, ceil_mode, output_shape) the graph knows one:
explicit pads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ml2sc.ir.graph import AttrValue

from .emitter import Emitter, OnnxNode
from .rules import import_rule

_SAME = ("SAME_UPPER", "SAME_LOWER")


# -- windows -----------------------------------------------------------------------------------------------------------


def _spatial(emitter: Emitter, node: OnnxNode, least: int = 3) -> tuple[int, ...]:
    """Return the sizes of the first input's spatial axes: those after batch and channels."""
    shape = emitter.tensor(node.inputs[0]).shape
    if len(shape) < least:
        node.fail(
            f"{node.op_type} of a tensor of shape {list(shape)}: a batch, channels and spatial axes are needed",
            "give the input a batch dimension of 1",
        )
    return shape[2:]


def _entries(node: OnnxNode, name: str, count: int, default: int) -> list[int]:
    """Return an attribute with an entry for each of `count` ends or axes."""
    values = list(node.attrs.get(name, ())) or [default] * count
    if len(values) != count:
        node.fail(f"attribute {name} of {node.op_type} has {len(values)} entries, and {count} are needed")
    return values


def _windows(node: OnnxNode, sizes: Sequence[int], kernel: Sequence[int]) -> dict[str, list[int]]:
    """Return strides, dilations and explicit pads."""
    rank = len(sizes)
    if len(kernel) != rank:
        node.fail(f"a kernel of shape {list(kernel)} does not fit {rank} spatial axes")
    strides, dilations = (_entries(node, name, rank, 1) for name in ("strides", "dilations"))
    pads = _entries(node, "pads", 2 * rank, 0)
    for name, values in (("kernel_shape", kernel), ("strides", strides), ("dilations", dilations)):
        if min(values, default=1) < 1:
            node.fail(f"{name} {list(values)} of {node.op_type} must be positive")
    auto = str(node.attrs.get("auto_pad", "NOTSET"))
    if auto == "VALID":
        pads = [0] * 2 * rank
    elif auto in _SAME:
        if any(d != 1 for d in dilations):
            node.fail(f"auto_pad {auto} with dilations is not supported", "give the pads explicitly")
        total = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(sizes, strides, kernel, strict=True)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = small + large if auto == "SAME_UPPER" else large + small
    elif auto != "NOTSET":
        node.fail(f"auto_pad {auto!r} of {node.op_type} is not one that ONNX has")
    return {"strides": strides, "dilations": dilations, "pads": pads}


def _attributes(windows: dict[str, list[int]]) -> dict[str, AttrValue]:
    return {name: tuple(values) for name, values in windows.items()}


@import_rule("Conv")
def _conv(emitter: Emitter, node: OnnxNode) -> None:
    emitter.emit("Conv", node.inputs, node.outputs, conv_attributes(emitter, node))


def conv_attributes(emitter: Emitter, node: OnnxNode) -> dict[str, AttrValue]:
    """Return a Conv's attributes, normalised; its weights are the second input."""
    sizes, weights = _spatial(emitter, node), emitter.tensor(node.inputs[1]).shape
    kernel = weights[2:]
    if "kernel_shape" in node.attrs and tuple(node.attrs["kernel_shape"]) != kernel:
        node.fail(f"kernel_shape {node.attrs['kernel_shape']} is not that of the weights {list(weights)}")
    return {**_attributes(_windows(node, sizes, kernel)), "group": int(node.attrs.get("group", 1))}


@import_rule("ConvTranspose")
def _conv_transpose(emitter: Emitter, node: OnnxNode) -> None:
    """A convolution of the input with padding between its elements; the kernel is turned round."""
    sizes, weights = _spatial(emitter, node), emitter.tensor(node.inputs[1])
    group, rank = int(node.attrs.get("group", 1)), len(sizes)
    if weights.data is None:
        node.fail("ConvTranspose by weights that are not constant is not supported")
    channels = emitter.tensor(node.inputs[0]).shape[1]
    if len(weights.shape) != rank + 2 or group < 1 or weights.shape[0] != channels or channels % group:
        node.fail(f"a kernel {list(weights.shape)} in {group} groups does not fit {channels} channels")
    kernel = weights.shape[2:]
    plain = OnnxNode(**{**vars(node), "attrs": {k: v for k, v in node.attrs.items() if k != "auto_pad"}})
    windows = _windows(plain, sizes, kernel)
    beyond = _entries(node, "output_padding", rank, 0)
    reach = [(k - 1) * d for k, d in zip(kernel, windows["dilations"], strict=True)]
    begins, ends = windows["pads"][:rank], windows["pads"][rank:]
    full = [(n - 1) * s + r + 1 + b for n, s, r, b in zip(sizes, windows["strides"], reach, beyond, strict=True)]
    auto, shape = str(node.attrs.get("auto_pad", "NOTSET")), list(node.attrs.get("output_shape", ()))[-rank:]
    if shape or auto in _SAME:
        wanted = shape or [n * s for n, s in zip(sizes, windows["strides"], strict=True)]
        if any(w > f for f, w in zip(full, shape, strict=False)):
            node.fail(f"output_shape {shape} is larger than what the kernel reaches, {full}")
        total = [max(f - w, 0) for f, w in zip(full, wanted, strict=True)]
        begins = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total]
        ends = [t - b for t, b in zip(total, begins, strict=True)]
    elif auto == "VALID":
        begins, ends = [0] * rank, [0] * rank
    parts = weights.data.reshape(group, channels // group, *weights.shape[1:])
    turned = np.flip(parts.swapaxes(1, 2), axis=tuple(range(3, 3 + rank)))
    turned = turned.reshape(group * weights.shape[1], channels // group, *kernel)
    attrs: dict[str, AttrValue] = {
        "dilations": tuple(windows["dilations"]),
        "group": group,
        "pads": (
            *(r - b for r, b in zip(reach, begins, strict=True)),
            *(r - e + b for r, e, b in zip(reach, ends, beyond, strict=True)),
        ),
        "spreads": tuple(windows["strides"]),
    }
    name = emitter.constant(turned, "weights")
    emitter.emit("Conv", [node.inputs[0], name, *node.inputs[2:]], node.outputs, attrs)


def _overhang(node: OnnxNode, sizes: Sequence[int], kernel: Sequence[int], windows: dict[str, list[int]]) -> list[int]:
    """Return how far the last window reaches beyond the padded input with ceil_mode, by axis; 0 where it does not."""
    if not node.attrs.get("ceil_mode", 0):
        return [0] * len(sizes)
    rank, overhang = len(sizes), []
    for axis, (size, k, stride, dilation) in enumerate(
        zip(sizes, kernel, windows["strides"], windows["dilations"], strict=True)
    ):
        begin, end = windows["pads"][axis], windows["pads"][rank + axis]
        extent = (k - 1) * dilation + 1
        out = -(-(size + begin + end - extent) // stride) + 1
        if (out - 1) * stride >= size + begin:  # a window must begin in the input or before it
            out -= 1
        overhang.append(max((out - 1) * stride + extent - (size + begin + end), 0))
    return overhang


def _pool_attributes(emitter: Emitter, node: OnnxNode) -> dict[str, AttrValue]:
    sizes = _spatial(emitter, node)
    kernel = list(node.attrs.get("kernel_shape", ()))
    windows = _windows(node, sizes, kernel)
    overhang = _overhang(node, sizes, kernel, windows)
    pads = windows["pads"]
    windows["pads"] = [*pads[: len(sizes)], *(p + o for p, o in zip(pads[len(sizes) :], overhang, strict=True))]
    attrs = {"kernel_shape": tuple(kernel), **_attributes(windows)}
    return {**attrs, "overhang": tuple(overhang)} if any(overhang) else attrs


@import_rule("MaxPool")
def _max_pool(emitter: Emitter, node: OnnxNode) -> None:
    if len(node.outputs) > 1 and node.outputs[1]:
        node.fail("the second output of MaxPool, where the greatest were found, is not supported")
    attrs = _pool_attributes(emitter, node)
    attrs.pop("overhang", None)  # no padding counts
    emitter.emit("MaxPool", node.inputs, node.outputs[:1], attrs)


@import_rule("AveragePool")
def _average_pool(emitter: Emitter, node: OnnxNode) -> None:
    attrs = _pool_attributes(emitter, node)
    if node.attrs.get("count_include_pad", 0):
        attrs["count_include_pad"] = 1
    emitter.emit("AveragePool", node.inputs, node.outputs, attrs)


@import_rule("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(emitter: Emitter, node: OnnxNode) -> None:
    attrs: dict[str, AttrValue] = {"kernel_shape": _spatial(emitter, node)}
    emitter.emit(node.op_type.removeprefix("Global"), node.inputs, node.outputs, attrs)
