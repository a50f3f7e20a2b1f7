"""Import rules of what convolutional networks have: convolutions, pools, padding, resizing, normalisation of maps.

Of the many ways in which ONNX says where a window may lie (auto_pad, ceil_mode, output_shape) the graph knows one:
explicit pads.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ml2sc.ir.graph import AttrValue
from ml2sc.ir.types import Array, DType

from .emitter import Emitter, OnnxNode
from .rules import RULES, Rule, import_rule

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
            node.fail(f"{name} {list(values)} of {node.op_type} must be positive", "1 stands for none")
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
    x, attrs = conv_attributes(emitter, node)
    emitter.emit("Conv", [x, *node.inputs[1:]], node.outputs, attrs)


def conv_attributes(emitter: Emitter, node: OnnxNode) -> tuple[str, dict[str, AttrValue]]:
    """Return a Conv's input and its attributes, normalised; its weights are the second input.

    A Pad by zeros before it is taken in.
    """
    sizes, weights = _spatial(emitter, node), emitter.tensor(node.inputs[1]).shape
    kernel = weights[2:]
    if "kernel_shape" in node.attrs and tuple(node.attrs["kernel_shape"]) != kernel:
        node.fail(
            f"kernel_shape {node.attrs['kernel_shape']} is not that of the weights {list(weights)}",
            "leave the attribute out: the weights say it",
        )
    windows, x = _windows(node, sizes, kernel), node.inputs[0]
    made = emitter.graph.producer(x)
    if made is not None and made.op_type == "Pad" and not made.attrs["value"]:
        pads, rank = made.attrs["pads"], len(sizes) + 2
        assert isinstance(pads, tuple)
        begins, ends = [int(p) for p in pads[:rank]], [int(p) for p in pads[rank:]]
        if not any((*begins[:2], *ends[:2])) and min(begins + ends) >= 0:
            x = made.inputs[0]
            windows["pads"] = [a + b for a, b in zip(windows["pads"], [*begins[2:], *ends[2:]], strict=True)]
    return x, {**_attributes(windows), "group": int(node.attrs.get("group", 1))}


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
    left = [f - b - e for f, b, e in zip(full, begins, ends, strict=True)]
    if min(left) < 1:
        node.fail(
            f"pads {begins} and {ends} take more than all of {full}, what the kernel reaches: {left} are left",
            "use smaller pads, or a larger input",
        )
    parts = weights.data.reshape(group, channels // group, *weights.shape[1:])
    biased = any(node.inputs[2:])
    bias = emitter.tensor(node.inputs[2]).data if biased else None
    if max(windows["strides"]) > 1 and max(windows["dilations"]) == 1 and (bias is not None or not biased):
        _by_phases(emitter, node, parts, bias, windows["strides"], begins, left)
        return
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


def _by_phases(
    emitter: Emitter,
    node: OnnxNode,
    parts: Array,
    bias: Array | None,
    strides: Sequence[int],
    begins: Sequence[int],
    sizes: Sequence[int],
) -> None:
    """Emit a transposed convolution as one whose channels are, by phase of the stride, elements of the result.

    Along an axis element s·y + r is the sum over m of input y + d − m times tap t + s·m, where d and t are quotient and
    remainder of r and the padding by s: so each phase is a convolution of its own, and none reads between elements.

    Args:
        emitter: The emitter.
        node: The node.
        parts: Its weights: (groups, inputs of a group, outputs of a group, *kernel).
        bias: By output.
        strides: By axis, from an element's window to the next one's.
        begins: By axis, what is left out before the first.
        sizes: By axis, what results.
    """
    x, kernel = emitter.tensor(node.inputs[0]), parts.shape[3:]
    group, inputs, outputs = parts.shape[:3]
    rank, area = len(kernel), prod(strides)
    taps = [-(-k // s) for k, s in zip(kernel, strides, strict=True)]
    ahead = [[(r + begin) // s for r in range(s)] for s, begin in zip(strides, begins, strict=True)]
    phases = [np.arange(size) % s for size, s in zip(sizes, strides, strict=True)]
    at = [np.arange(len(p)) // s + np.array(d)[p] for p, s, d in zip(phases, strides, ahead, strict=True)]
    first, last = [int(a.min()) for a in at], [int(a.max()) for a in at]
    weights = np.zeros((group, outputs, *strides, inputs, *taps), dtype=parts.dtype)
    forwards = parts.swapaxes(1, 2)
    for phase in np.ndindex(*strides):
        own = [range((r + b) % s, k, s) for r, b, s, k in zip(phase, begins, strides, kernel, strict=True)]
        turned = [[m - 1 - n for n in range(len(ks))] for m, ks in zip(taps, own, strict=True)]
        to: tuple[Any, ...] = (..., *np.ix_(*turned))
        of: tuple[Any, ...] = (..., *np.ix_(*own))
        weights[(slice(None), slice(None), *phase)][to] = forwards[of]
    given = [x.name, emitter.constant(weights.reshape(group * outputs * area, inputs, *taps), "weights")]
    if bias is not None:
        given.append(emitter.constant(np.repeat(bias, area), "bias"))
    attrs: dict[str, AttrValue] = {
        "dilations": (1,) * rank,
        "group": group,
        "pads": (
            *(m - 1 - f for m, f in zip(taps, first, strict=True)),
            *(end + 1 - n for end, n in zip(last, x.shape[2:], strict=True)),
        ),
        "strides": (1,) * rank,
    }
    places = [end - begin + 1 for begin, end in zip(first, last, strict=True)]
    sums = emitter.emit("Conv", given, None, attrs)
    flat = emitter.emit("Reshape", [sums, emitter.constant((x.shape[0], group * outputs, area * prod(places)), "flat")])
    phase_of = np.ravel_multi_index(np.meshgrid(*phases, indexing="ij"), strides)
    place_of = np.ravel_multi_index(
        np.meshgrid(*(a - begin for a, begin in zip(at, first, strict=True)), indexing="ij"), places
    )
    picked = (phase_of * prod(places) + place_of).ravel().tolist()
    dealt = emitter.emit("Gather", [flat, emitter.constant(picked, "picked")], None, {"axis": 2})
    shape = (x.shape[0], group * outputs, *sizes)
    emitter.emit("Reshape", [dealt, emitter.constant(shape, "shape")], node.outputs)


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


# -- other pools and reductions ----------------------------------------------------------------------------------------


@import_rule("LpPool", "GlobalLpPool")
def _lp_pool(emitter: Emitter, node: OnnxNode) -> None:
    """The sum of |x|, or the root of the sum of x², of each window: a mean times the window's size."""
    p = int(node.attrs.get("p", 2))
    if p not in (1, 2):
        node.fail(f"{node.op_type} with p = {p} is not supported", "p = 1 and p = 2 are")
    sizes = _spatial(emitter, node)
    attrs: dict[str, AttrValue] = {"kernel_shape": sizes}
    if node.op_type == "LpPool":
        attrs = _pool_attributes(emitter, node)
    kernel = attrs["kernel_shape"]
    assert isinstance(kernel, tuple)
    attrs = {**{key: value for key, value in attrs.items() if key != "overhang"}, "count_include_pad": 1}
    x = node.inputs[0]
    terms = _squared(emitter, x) if p == 2 else emitter.emit("Abs", [x])
    mean = emitter.emit("AveragePool", [terms], None, attrs)
    count = emitter.constant(np.array(float(prod(int(k) for k in kernel))), "count")
    total = emitter.emit("Mul", [mean, count], None if p == 2 else node.outputs)
    if p == 2:
        emitter.emit("Sqrt", [emitter.emit("Relu", [total])], node.outputs)


def _squared(emitter: Emitter, x: str) -> str:
    return emitter.emit("Pow", [x, emitter.constant(np.array(2.0), "two")])


REDUCING: dict[str, str] = {"ReduceMean": "AveragePool", "ReduceMax": "MaxPool", "ReduceSum": "AveragePool"}


def _spatial_axes(emitter: Emitter, node: OnnxNode) -> tuple[str, tuple[int, ...]] | None:
    """Return the feature map of which a Reduce works on just the spatial axes; None: there is none.

    Returns:
        It, and the permutation by which a Transpose makes the Reduce's input of it; empty if none does.
    """
    x = emitter.tensor(node.inputs[0])
    axes = node.attrs.get("axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1]:
        data = emitter.tensor(node.inputs[1]).data
        axes = None if data is None else data.ravel().tolist()
    rank = len(x.shape)
    if x.is_constant or x.type is not DType.FLOAT or rank < 3 or axes is None:
        return None
    found = sorted(int(axis) % rank for axis in axes if -rank <= int(axis) < rank)
    if found == list(range(2, rank)):
        return x.name, ()
    made = emitter.graph.producer(x.name)
    if made is None or made.op_type != "Transpose":
        return None
    perm = made.attrs.get("perm", tuple(reversed(range(rank))))
    assert isinstance(perm, tuple)
    order = tuple(int(axis) for axis in perm)
    kept = [axis for axis in order if axis < 2]
    alike = sorted(order[axis] for axis in found) == list(range(2, rank)) and kept == [0, 1]
    return (made.inputs[0], order) if alike else None


def _is_table(emitter: Emitter, name: str) -> bool:
    """Return whether a tensor of three axes is computed without convolutions: a table, whose rows are no images.

    A pool rounds what it reads to the format of activations. Where naive Bayes sums squared distances it must not.
    """
    if len(emitter.tensor(name).shape) > _TABLE_AXES:
        return False
    seen, stack = {name}, [name]
    while stack:
        made = emitter.graph.producer(stack.pop())
        if made is not None and made.op_type in _WINDOWED:
            return False
        new = {other for other in (() if made is None else made.inputs) if other} - seen
        seen |= new
        stack += new
    return True


_TABLE_AXES = 3
_WINDOWED = frozenset({"Conv", "AveragePool", "MaxPool", "ScaledConv"})


def _or_pool(plain: Rule) -> Rule:
    def rule(emitter: Emitter, node: OnnxNode) -> None:
        """Reduce a feature map's spatial axes by a pool over all of them, of one in NHWC before it was transposed."""
        found = _spatial_axes(emitter, node)
        if found is None or _is_table(emitter, found[0]):
            plain(emitter, node)
            return
        x, turned = emitter.tensor(found[0]), found[1]
        kept = bool(node.attrs.get("keepdims", 1))
        sizes = x.shape[2:]
        attrs: dict[str, AttrValue] = {"kernel_shape": sizes}
        total = node.op_type == "ReduceSum"
        last = kept and not turned
        pooled = emitter.emit(REDUCING[node.op_type], [x.name], node.outputs if last and not total else None, attrs)
        if total:
            count = emitter.constant(np.array(float(prod(sizes))), "count")
            pooled = emitter.emit("Mul", [pooled, count], node.outputs if last else None)
        if kept and turned:
            emitter.emit("Transpose", [pooled], node.outputs, {"perm": turned})
        elif not kept:
            emitter.emit("Reshape", [pooled, emitter.constant(x.shape[:2], "shape")], node.outputs)

    return rule


for _name in REDUCING:
    import_rule(_name)(_or_pool(RULES["", _name]))


# -- movements ---------------------------------------------------------------------------------------------------------


@import_rule("Pad")
def _pad(emitter: Emitter, node: OnnxNode) -> None:
    """Padding of all modes: ends of axes, from an attribute or inputs."""
    x = emitter.tensor(node.inputs[0])
    rank, mode = len(x.shape), str(node.attrs.get("mode", "constant"))
    ends = list(node.attrs.get("pads", node.attrs.get("paddings", ()))) or _constants(emitter, node, 1, "pads")
    axes = _constants(emitter, node, 3, "axes") if len(node.inputs) > 3 and node.inputs[3] else list(range(rank))
    if len(ends) != 2 * len(axes) or any(not -rank <= a < rank for a in axes):
        node.fail(f"{len(ends)} pads for {len(axes)} axes of a tensor of shape {list(x.shape)}")
    pads = [0] * 2 * rank
    for slot, axis in enumerate(axes):
        pads[axis % rank], pads[rank + axis % rank] = int(ends[slot]), int(ends[len(axes) + slot])
    value = float(node.attrs.get("value", 0.0))
    if len(node.inputs) > 2 and node.inputs[2]:
        data = emitter.tensor(node.inputs[2]).data
        if data is None or data.size != 1:
            node.fail("the value of Pad must be a constant")
        value = float(np.asarray(data, dtype=np.float64).ravel()[0])
    if mode == "constant":
        if any(pads):
            emitter.emit("Pad", [x.name], node.outputs, {"pads": tuple(pads), "value": value})
        else:
            emitter.emit("Identity", [x.name], node.outputs)
        return
    changed = [axis for axis in range(rank) if pads[axis] or pads[rank + axis]]
    name = x.name
    for axis in changed:
        picked = emitter.constant(_extended(node, mode, x.shape[axis], pads[axis], pads[rank + axis]), "picked")
        name = emitter.emit("Gather", [name, picked], node.outputs if axis == changed[-1] else None, {"axis": axis})
    if not changed:
        emitter.emit("Identity", [name], node.outputs)


def _extended(node: OnnxNode, mode: str, size: int, begin: int, end: int) -> list[int]:
    """Return which entries of an axis stand in the padded one."""
    kept = np.arange(max(-begin, 0), size - max(-end, 0))
    added = (max(begin, 0), max(end, 0))
    if mode not in ("edge", "reflect", "wrap"):
        node.fail(f"Pad with mode {mode!r} is not supported", "constant, edge, reflect and wrap are")
    if not len(kept) or (mode == "reflect" and max(added) > len(kept) - 1):
        node.fail(f"pads {begin} and {end} with mode {mode} reach beyond an axis of {size}")
    found: list[int] = np.pad(kept, added, mode=mode).tolist()  # type: ignore[call-overload]
    return found


def _constants(emitter: Emitter, node: OnnxNode, slot: int, what: str) -> list[Any]:
    """Return the elements of an input that must be constant."""
    name = node.inputs[slot] if slot < len(node.inputs) else ""
    data = emitter.tensor(name).data if name else None
    if data is None:
        node.fail(f"the {what} of {node.op_type} must be constant", "export the model with a static input shape")
    found: list[Any] = data.ravel().tolist()
    return found


@import_rule("DepthToSpace", "SpaceToDepth")
def _depth_to_space(emitter: Emitter, node: OnnxNode) -> None:
    """Channels become neighbouring pixels, or the other way: a Transpose between two Reshapes."""
    x, block = emitter.tensor(node.inputs[0]), int(node.attrs["blocksize"])
    to_space = node.op_type == "DepthToSpace"
    mode = str(node.attrs.get("mode", "DCR"))
    if mode not in {"DCR", "CRD"}:
        node.fail(f"{node.op_type}: mode {mode!r} is neither DCR nor CRD")
    first = mode == "DCR"
    if len(x.shape) != 4 or block < 1:
        node.fail(f"{node.op_type} by {block} of a tensor of shape {list(x.shape)} is not supported")
    n, c, h, w = x.shape
    if (c % (block * block)) if to_space else (h % block or w % block):
        what = f"the channels must be a multiple of {block * block}" if to_space else "the block must divide both sides"
        node.fail(f"{node.op_type}: {list(x.shape)} is not divided by blocks of {block}", what)
    if to_space:
        deep = c // (block * block)
        apart = (n, block, block, deep, h, w) if first else (n, deep, block, block, h, w)
        perm = (0, 3, 4, 1, 5, 2) if first else (0, 1, 4, 2, 5, 3)
        result = (n, deep, h * block, w * block)
    else:
        apart = (n, c, h // block, block, w // block, block)
        perm = (0, 3, 5, 1, 2, 4) if first else (0, 1, 3, 5, 2, 4)
        result = (n, c * block * block, h // block, w // block)
    split = emitter.emit("Reshape", [x.name, emitter.constant(apart, "apart")])
    turned = emitter.emit("Transpose", [split], None, {"perm": perm})
    emitter.emit("Reshape", [turned, emitter.constant(result, "shape")], node.outputs)


# -- resizing ----------------------------------------------------------------------------------------------------------


@import_rule("Upsample", "Resize")
def _resize(emitter: Emitter, node: OnnxNode) -> None:
    """Nearest: picked entries of each axis. Linear: each axis times a matrix of constant weights."""
    x = emitter.tensor(node.inputs[0])
    mode = str(node.attrs.get("mode", "nearest"))
    if mode not in ("nearest", "linear"):
        node.fail(f"{node.op_type} with mode {mode!r} is not supported", "nearest and linear are")
    scales, sizes = _new_sizes(emitter, node, x.shape)
    changed = [axis for axis, (old, new) in enumerate(zip(x.shape, sizes, strict=True)) if old != new]
    name = x.name
    for axis in changed:
        outputs = node.outputs if axis == changed[-1] else None
        at = _coordinates(node, x.shape[axis], sizes[axis], scales[axis])
        if mode == "nearest":
            picked = _nearest(node, at, x.shape[axis], smaller=scales[axis] < 1)
            name = emitter.emit("Gather", [name, emitter.constant(picked, "picked")], outputs, {"axis": axis})
        else:
            name = _mixed(emitter, name, axis, _linear_weights(at, x.shape[axis]), outputs)
    if not changed:
        emitter.emit("Identity", [name], node.outputs)


def _new_sizes(emitter: Emitter, node: OnnxNode, shape: tuple[int, ...]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return how many times larger each axis becomes, and its new size."""
    if node.attrs.get("antialias", 0):
        node.fail("Resize with antialias is not supported")
    if node.op_type == "Upsample" or node.version < 11:
        given = list(node.attrs.get("scales", ())) or _constants(emitter, node, 1, "scales")
        scales = {axis: float(s) for axis, s in enumerate(given)}
        sizes: dict[int, int] = {}
    else:
        axes = [int(axis) % len(shape) for axis in node.attrs.get("axes", range(len(shape)))]
        given = _constants(emitter, node, 2, "scales") if len(node.inputs) > 2 and node.inputs[2] else []
        scales = dict(zip(axes, map(float, given), strict=False))
        sized = _constants(emitter, node, 3, "sizes") if len(node.inputs) > 3 and node.inputs[3] else []
        sizes = dict(zip(axes, map(int, sized), strict=False))
        if bool(scales) == bool(sizes):
            node.fail("Resize needs either scales or sizes")
        if sizes and str(node.attrs.get("keep_aspect_ratio_policy", "stretch")) != "stretch":
            node.fail("Resize that keeps the aspect ratio is not supported", "give the sizes that result")
    new = tuple(sizes.get(axis, int(np.floor(n * scales.get(axis, 1.0)))) for axis, n in enumerate(shape))
    if min(new, default=1) < 1 or min(scales.values(), default=1.0) <= 0:
        node.fail(
            f"{node.op_type} of {list(shape)} to {list(new)}: nothing is left",
            "use larger scales or sizes: each axis needs one element at least",
        )
    return tuple(scales.get(axis, m / n) for axis, (n, m) in enumerate(zip(shape, new, strict=True))), new


def _coordinates(node: OnnxNode, old: int, new: int, scale: float) -> Array:
    """Return where each entry of the new axis lies on the old one, in float32 as onnxruntime computes it."""
    default = "asymmetric" if node.op_type == "Upsample" or node.version < 11 else "half_pixel"
    mode = str(node.attrs.get("coordinate_transformation_mode", default))
    i, s, half = np.arange(new, dtype=np.float32), np.float32(scale), np.float32(0.5)
    if mode == "asymmetric":
        return np.asarray(i / s)
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and new > 1):
        return np.asarray((i + half) / s - half)
    if mode == "pytorch_half_pixel":
        return np.zeros(new, dtype=np.float32)
    if mode == "align_corners":
        return np.asarray(i * np.float32(old - 1) / np.float32(new - 1)) if new > 1 else np.zeros(new, dtype=np.float32)
    if mode != "half_pixel_symmetric":
        node.fail(f"coordinate_transformation_mode {mode!r} is not supported")
    adjustment = np.float32(new) / (s * np.float32(old))
    centre = np.float32(old) / 2
    return np.asarray(centre * (1 - adjustment) + (i + half) / s - half)


def _nearest(node: OnnxNode, at: Array, old: int, *, smaller: bool) -> list[int]:
    """Return which entry of the old axis each of the new one is."""
    plain = node.op_type == "Upsample" or node.version < 11  # there onnxruntime rounds so
    default = ("ceil" if smaller else "floor") if plain else "round_prefer_floor"
    mode = str(node.attrs.get("nearest_mode", default))
    rounded = {
        "floor": np.floor(at),
        "ceil": np.ceil(at),
        "round_prefer_floor": np.ceil(at - np.float32(0.5)),
        "round_prefer_ceil": np.floor(at + np.float32(0.5)),
    }
    if mode not in rounded:
        node.fail(f"nearest_mode {mode!r} is not one that ONNX has")
    found: list[int] = np.clip(rounded[mode], 0, old - 1).astype(np.int64).tolist()
    return found


def _linear_weights(at: Array, old: int) -> Array:
    """Return the matrix (old, new) of the weights between neighbours."""
    at = np.clip(at.astype(np.float64), 0, old - 1)
    below = np.floor(at).astype(np.int64)
    weights = np.zeros((old, len(at)))
    columns = np.arange(len(at))
    np.add.at(weights, (below, columns), 1 - (at - below))
    np.add.at(weights, (np.minimum(below + 1, old - 1), columns), at - below)
    return weights


def _mixed(emitter: Emitter, x: str, axis: int, weights: Array, outputs: Sequence[str] | None) -> str:
    """Multiply an axis by a matrix."""
    rank = len(emitter.tensor(x).shape)
    perm = tuple(rank - 1 if i == axis else axis if i == rank - 1 else i for i in range(rank))
    matrix = emitter.constant(weights, "weights")
    if axis == rank - 1:
        return emitter.emit("MatMul", [x, matrix], outputs)
    last = emitter.emit("Transpose", [x], None, {"perm": perm})
    return emitter.emit("Transpose", [emitter.emit("MatMul", [last, matrix])], outputs, {"perm": perm})


# -- normalisation -----------------------------------------------------------------------------------------------------


@import_rule("LRN")
def _lrn(emitter: Emitter, node: OnnxNode) -> None:
    """X / (bias + alpha · mean of x² over neighbouring channels) ^ beta; the mean counts what lies beyond the ends."""
    sizes = _spatial(emitter, node)
    x, size = emitter.tensor(node.inputs[0]), int(node.attrs["size"])
    alpha, beta = float(node.attrs.get("alpha", 1e-4)), float(node.attrs.get("beta", 0.75))
    bias = float(node.attrs.get("bias", 1.0))
    if size < 1 or size % 2 == 0 or bias <= 0 or alpha < 0 or beta <= 0:
        node.fail(f"LRN with size {size}, alpha {alpha:g}, beta {beta:g} and bias {bias:g} is not supported")
    flat = emitter.constant([1, 1, x.shape[1], prod(sizes)], "flat")
    squares = emitter.emit("Reshape", [_squared(emitter, x.name), flat])
    across: dict[str, AttrValue] = {
        "kernel_shape": (size, 1),
        "pads": ((size - 1) // 2, 0, size - 1 - (size - 1) // 2, 0),
        "count_include_pad": 1,
    }
    means = emitter.emit("AveragePool", [squares], None, across)
    means = emitter.emit("Reshape", [emitter.emit("Relu", [means]), emitter.constant(x.shape, "shape")])
    scaled = emitter.emit("Mul", [means, emitter.constant(np.array(alpha), "alpha")])
    base = emitter.emit("Add", [scaled, emitter.constant(np.array(bias), "bias")])
    exponent = emitter.emit("Mul", [emitter.emit("Log", [base]), emitter.constant(np.array(-beta), "beta")])
    emitter.emit("Mul", [x.name, emitter.emit("Exp", [exponent])], node.outputs)
