"""Import rules for normalisations over the tensor itself: by the mean and the variance of rows, groups or channels."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import prod

import numpy as np

from ml2sc.ir.graph import AttrValue, Node
from ml2sc.ir.ops.movement import axis_of

from .emitter import Emitter, OnnxNode
from .rules import import_rule


def _normalized(
    emitter: Emitter, x: str, mean: Callable[[str], str], epsilon: float, scale: str = "", *, centred: bool = True
) -> str:
    """Return x − mean, or x, by the root of the mean of its squares and epsilon; times a constant scale of each mean.

    None of n centred numbers is above √(n − 1) times the root of the mean of their squares, for the others have its sum
    against it; none of any n is above √n times it. The bounds of a quotient do not know that, so it is said.
    """
    if centred:
        x = emitter.emit("Sub", [x, mean(x)])
    means = mean(emitter.emit("Pow", [x, _number(emitter, 2.0)]))
    count = emitter.tensor(x).size // emitter.tensor(means).size
    # no mean of squares is below 0, but bounds of one that is rounded begin there: epsilon is the least there is
    above = emitter.emit("Clip", [emitter.emit("Add", [means, _number(emitter, epsilon)]), _number(emitter, epsilon)])
    factor = emitter.emit("Reciprocal", [emitter.emit("Sqrt", [above])])
    most = math.sqrt(count - 1 if centred else count)
    if scale:
        factor, data = emitter.emit("Mul", [factor, scale]), emitter.tensor(scale).data
        assert data is not None
        most *= float(np.abs(data).max())
    quotient = emitter.emit("Mul", [x, factor])
    return emitter.emit("Clip", [quotient, _number(emitter, -most), _number(emitter, most)])


def _number(emitter: Emitter, value: float) -> str:
    return emitter.constant(np.array(value), "number")


def _epsilon(node: OnnxNode) -> float:
    epsilon = float(node.attrs.get("epsilon", 1e-5))
    if not 0 < epsilon < math.inf:
        node.fail(f"an epsilon of {epsilon:g} lets a variance of 0 through", "1e-5 is usual")
    return epsilon


def _scaled(emitter: Emitter, node: OnnxNode, x: str, scale: str, bias: str) -> None:
    """Emit the node's output: x · scale + bias, each of which may be '' for none."""
    terms = [(op_type, name) for op_type, name in (("Mul", scale), ("Add", bias)) if name]
    for left, (op_type, name) in zip(reversed(range(len(terms))), terms, strict=True):
        x = emitter.emit(op_type, [x, name], None if left else node.outputs[:1])


@import_rule("LayerNormalization", "RMSNormalization")
def _layer_normalization(emitter: Emitter, node: OnnxNode) -> None:
    """Each row of the axes from `axis` on by its own mean and variance; RMSNormalization: by its mean square alone."""
    x = emitter.tensor(node.inputs[0])
    axis = axis_of(Node(node.name, node.op_type, (), ()), int(node.attrs.get("axis", -1)), len(x.shape))
    if any(node.outputs[1:]):
        node.fail("the mean and the deviation of a LayerNormalization are read", "only its first output is supported")
    size = prod(x.shape[axis:])
    rows = emitter.emit("Reshape", [x.name, emitter.constant([x.size // size, size], "rows")])

    def mean(name: str) -> str:
        return emitter.emit("ReduceMean", [name, emitter.constant([1], "axes")], None, {"keepdims": 1})

    done = _normalized(emitter, rows, mean, _epsilon(node), centred=node.op_type == "LayerNormalization")
    shaped = emitter.emit("Reshape", [done, emitter.constant(x.shape, "shape")])
    _scaled(emitter, node, shaped, node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else "")


@import_rule("InstanceNormalization", "GroupNormalization")
def _group_normalization(emitter: Emitter, node: OnnxNode) -> None:
    """Each channel of a map, or each group of channels, by its own mean and variance."""
    x = emitter.tensor(node.inputs[0])
    if len(x.shape) < 3:
        node.fail(
            f"{node.op_type} of a tensor of shape {list(x.shape)}: a batch, channels and spatial axes are needed",
            "give the input a batch dimension of 1",
        )
    channels = x.shape[1]
    groups = int(node.attrs.get("num_groups", channels))
    if groups < 1 or channels % groups:
        node.fail(f"{channels} channels do not divide into {groups} groups", "num_groups divides the channels")
    name, sizes = x.name, x.shape[2:]
    if groups < channels:
        sizes = (channels // groups * sizes[0], *sizes[1:])
        name = emitter.emit("Reshape", [name, emitter.constant((x.shape[0], groups, *sizes), "groups")])
    all_of: dict[str, AttrValue] = {"kernel_shape": sizes}
    scale, bias = (_by_channel(emitter, node, slot, groups, x.shape) for slot in (1, 2))
    inner, outer = (scale, "") if groups == channels else ("", scale)

    def mean(of: str) -> str:
        return emitter.emit("AveragePool", [of], None, all_of)

    done = _normalized(emitter, name, mean, _epsilon(node), inner)
    if groups < channels:
        done = emitter.emit("Reshape", [done, emitter.constant(x.shape, "shape")])
    _scaled(emitter, node, done, outer, bias)


def _by_channel(emitter: Emitter, node: OnnxNode, slot: int, groups: int, shape: tuple[int, ...]) -> str:
    """Return a constant input in the shape (channels, 1, ...); before operator set 21 it may be given by group."""
    data, channels = emitter.tensor(node.inputs[slot]).data, shape[1]
    if data is None or data.size not in (groups, channels):
        node.fail(f"%{node.inputs[slot]} is no constant of {channels} channels", "scale and bias are constants")
    each = np.repeat(data.ravel(), channels // data.size)
    return emitter.constant(each.reshape(channels, *[1] * len(shape[2:])), "channels")
