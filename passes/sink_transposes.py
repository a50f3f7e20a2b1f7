"""Pass `sink_transposes`: of a convolutional network in NHWC, no Transpose between its layers is left.

Exporters of Keras and TensorFlow put a Transpose before and after each convolution. They meet, and are gone, if each is
moved behind what follows it:

1. Of two that follow each other one is made, or none.
2. `f(Transpose(x))`, f working on elements one by one, becomes `Transpose(f(x))`.
3. Likewise Add, Sub, Mul, Div, Max, Min, PRelu of what is transposed alike, or of that and constants (which are
   transposed back), and Concat.
4. Likewise what names axes: Pad, Split, Slice, Gather. A Pad by 0 that meets its convolution then becomes the
   convolution's own.
5. A mean, sum or maximum over what are the spatial axes before the Transpose becomes a pool over all of them.
6. The weights of a dense layer that reads all elements of something transposed, in one row, are put into the order
   before.
7. What else reads something transposed keeps that. Networks without convolutions stay as they are: a dense layer's
   weights take any order of its inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ml2sc.ir.graph import AttrValue, Graph, Node, Tensor
from ml2sc.ir.ops.base import attr_float, attr_int, op_of
from ml2sc.ir.ops.movement import Transpose
from ml2sc.ir.ops.operands import UnaryOp
from ml2sc.ir.ops.reductions import reduced_axes
from ml2sc.ir.ops.windows import attr_ints
from ml2sc.ir.types import DType

from .manager import Pass, register_pass

CONVOLUTIONS = frozenset({"Conv", "ScaledConv"})
"""Convolutions of a float graph."""
_DENSE = frozenset({"Gemm", "MatMul"})
_BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"})
_ALONG = frozenset({"Gather", "Split"})
"""Operators with an attribute `axis`, 0 where it is left out."""
_POOLS = {"ReduceMean": "AveragePool", "ReduceMax": "MaxPool", "ReduceSum": "AveragePool"}
"""What becomes a pool over all of a map, a sum times the map's size."""
_ROUNDS = 1_000
"""Transposes move on at most so often: a network has fewer operators than that for each of them."""


@register_pass
@dataclass(frozen=True)
class SinkTransposes(Pass):
    """Moves Transposes behind what follows them, until they meet."""

    name: ClassVar[str] = "sink_transposes"
    after: ClassVar[tuple[str, ...]] = ("fold_constants",)

    def run(self, graph: Graph) -> bool:
        if not any(node.op_type in CONVOLUTIONS for node in graph):
            return False
        changed = False
        for _ in range(_ROUNDS):
            moved = [_moved_on(graph, graph.node(node.name)) for node in list(graph) if graph.has_node(node.name)]
            if not any(moved):
                break
            changed = True
        if changed:
            for name in [node.name for node in graph if node.op_type in CONVOLUTIONS]:
                _take_padding(graph, graph.node(name))
            graph.prune()
        return changed


def _moved_on(graph: Graph, node: Node) -> bool:
    """Let a node read what the Transposes before it read, and one follow it; return whether that was done."""
    if node.op_type in _DENSE:
        return _reordered(graph, node)
    turned = [_transpose_of(graph, node, slot) for slot in range(len(node.inputs))]
    found = [t for t in turned if t is not None]
    if not found or not all(node.outputs):
        return False
    perm = _perm(graph, found[0])
    if node.op_type == "Transpose":
        return _merge(graph, node, found[0])
    if any(_perm(graph, t) != perm for t in found):
        return False
    if node.op_type == "Concat" and len(found) == len(node.inputs):
        axis = perm[attr_int(node, "axis", 0) % len(perm)]
        return _swap(graph, node, turned, perm, {**node.attrs, "axis": axis})
    others = [graph.tensor(name) for name, t in zip(node.inputs, turned, strict=True) if t is None and name]
    if any(not tensor.is_constant for tensor in others):
        return False
    if node.op_type in _BROADCASTING and all(len(tensor.shape) <= len(perm) for tensor in others):
        return _swap(graph, node, turned, perm, node.attrs)
    if turned[0] is None:
        return False
    if node.op_type in _POOLS:
        return _pooled(graph, node, found[0], perm)
    if node.op_type in _ALONG or node.op_type in {"Pad", "Slice"}:
        return _swap_axes(graph, node, turned, perm)
    plain = isinstance(op_of(node), UnaryOp) or node.op_type == "FakeQuantize"
    by_element = plain and all(tensor.size == 1 for tensor in others)
    return by_element and _swap(graph, node, turned, perm, node.attrs)


def _swap_axes(graph: Graph, node: Node, turned: list[Node | None], perm: tuple[int, ...]) -> bool:
    """Do so for an operator that names axes: they are others before the Transpose."""
    if node.op_type == "Pad":
        ends = np.array(attr_ints(node, "pads", (0,) * 2 * len(perm))).reshape(2, len(perm))
        pads = ends[:, np.argsort(perm)].ravel().tolist()
        return _swap(graph, node, turned, perm, {**node.attrs, "pads": tuple(pads)})
    if node.op_type != "Slice":
        axis = perm[attr_int(node, "axis", 0) % len(perm)]
        alike = node.op_type != "Gather" or len(graph.tensor(node.inputs[1]).shape) == 1
        return alike and _swap(graph, node, turned, perm, {**node.attrs, "axis": axis}, node.inputs[1:])
    starts = graph.tensor(node.inputs[1])
    given = graph.tensor(node.inputs[3]).data if len(node.inputs) > 3 and node.inputs[3] else np.arange(starts.size)
    assert given is not None
    axes = np.array([perm[int(axis) % len(perm)] for axis in given.ravel()], dtype=np.int64)
    named = graph.add_tensor(Tensor(graph.fresh(f"{node.name}.axes"), axes.shape, starts.type, axes)).name
    return _swap(graph, node, turned, perm, node.attrs, (*node.inputs[1:3], named, *node.inputs[4:]))


def _pooled(graph: Graph, node: Node, first: Node, perm: tuple[int, ...]) -> bool:
    """Make a Reduce over what are all spatial axes before the Transpose, and only those, a pool; what is left is moved.

    Args:
        graph: Changed in place.
        node: The Reduce.
        first: The Transpose of its input.
        perm: Its permutation.
    """
    listed = graph.tensor(node.inputs[1]).data if len(node.inputs) > 1 and node.inputs[1] else None
    axes = reduced_axes(node, len(perm), None if listed is None else [int(axis) for axis in listed.ravel()])
    kept = [perm[axis] for axis in range(len(perm)) if axis not in axes]
    if kept != [0, 1] or len(perm) < 3:
        return False
    x, output = graph.tensor(first.inputs[0]), graph.tensor(node.output)
    shape = (*x.shape[:2], *[1] * (len(perm) - 2))
    made = graph.add_tensor(Tensor(graph.fresh(f"{output.name}.turned"), shape, output.type)).name
    attrs: dict[str, AttrValue] = {"kernel_shape": x.shape[2:]}
    total = node.op_type == "ReduceSum"
    graph.replace_node(node, op_type=_POOLS[node.op_type], inputs=(x.name,), outputs=(made,), attrs=attrs)
    if total:
        size = np.array(float(np.prod(x.shape[2:])))
        count = graph.add_tensor(Tensor(graph.fresh(f"{node.name}.count"), (), output.type, size)).name
        mean, made = made, graph.add_tensor(Tensor(graph.fresh(f"{output.name}.sum"), shape, output.type)).name
        graph.add("Mul", [mean, count], [made], origin=node.origin)
    if attr_int(node, "keepdims", 1):
        graph.add("Transpose", [made], [output.name], {"perm": perm}, origin=first.origin)
    else:
        new = np.array(output.shape, dtype=np.int64)
        sizes = graph.add_tensor(Tensor(graph.fresh(f"{node.name}.shape"), new.shape, DType.INT64, new)).name
        graph.add("Reshape", [made, sizes], [output.name], origin=first.origin)
    return True


def _reordered(graph: Graph, node: Node) -> bool:
    """Let a dense layer read the elements of what is transposed in their order before, where it reads them in a row."""
    flat, weights = graph.producer(node.inputs[0]), graph.tensor(node.inputs[1])
    if flat is None or flat.op_type not in {"Flatten", "Reshape"} or attr_int(node, "transA", 0):
        return False
    first = _transpose_of(graph, flat, 0)
    if first is None or weights.data is None or weights.data.ndim != 2:
        return False
    x, perm, row = graph.tensor(first.inputs[0]), _perm(graph, first), graph.tensor(node.inputs[0])
    if perm[0] != 0 or row.shape != (x.shape[0], int(np.prod(x.shape[1:]))):
        return False
    back = np.argsort(np.arange(row.shape[1]).reshape(x.shape[1:]).transpose([axis - 1 for axis in perm[1:]]).ravel())
    data = np.take(weights.data, back, axis=1 if attr_int(node, "transB", 0) else 0)
    ordered = graph.add_tensor(Tensor(graph.fresh(f"{weights.name}.turned"), weights.shape, weights.type, data)).name
    sizes = np.array(row.shape, dtype=np.int64)
    shape = graph.add_tensor(Tensor(graph.fresh(f"{row.name}.shape"), sizes.shape, DType.INT64, sizes)).name
    made = graph.add_tensor(Tensor(graph.fresh(f"{row.name}.turned"), row.shape, row.type)).name
    graph.add("Reshape", [x.name, shape], [made], origin=flat.origin)
    graph.replace_node(node, inputs=(made, ordered, *node.inputs[2:]))
    return True


def _take_padding(graph: Graph, conv: Node) -> None:
    """Let a convolution do what a Pad by 0 does before it, or before the Transpose that it reads."""
    rank = len(graph.tensor(conv.inputs[0]).shape)
    turned = _transpose_of(graph, conv, 0)
    perm = tuple(range(rank)) if turned is None else _perm(graph, turned)
    pad = graph.producer(conv.inputs[0] if turned is None else turned.inputs[0])
    if pad is None or pad.op_type != "Pad" or attr_float(pad, "value", 0.0):
        return
    ends = np.array(attr_ints(pad, "pads", (0,) * 2 * rank)).reshape(2, rank)[:, list(perm)]
    if ends.min() < 0 or ends[:, :2].any():
        return
    own = attr_ints(conv, "pads", (0,) * 2 * (rank - 2))
    x = pad.inputs[0]
    if turned is not None:
        given = graph.tensor(x)
        shape = tuple(given.shape[axis] for axis in perm)
        made = graph.add_tensor(Tensor(graph.fresh(f"{conv.inputs[0]}.plain"), shape, given.type))
        graph.add("Transpose", [x], [made.name], turned.attrs, origin=turned.origin)
        x = made.name
    pads = tuple(a + int(b) for a, b in zip(own, ends[:, 2:].ravel(), strict=True))
    graph.replace_node(conv, inputs=(x, *conv.inputs[1:]), attrs={**conv.attrs, "pads": pads})


def _transpose_of(graph: Graph, node: Node, slot: int) -> Node | None:
    """Return the Transpose that makes an input."""
    name = node.inputs[slot]
    maker = graph.producer(name) if name else None
    return maker if maker is not None and maker.op_type == "Transpose" else None


def _perm(graph: Graph, transpose: Node) -> tuple[int, ...]:
    op = op_of(transpose)
    assert isinstance(op, Transpose)
    return op.permutation(transpose, len(graph.tensor(transpose.output).shape))


def _merge(graph: Graph, node: Node, first: Node) -> bool:
    before, after = _perm(graph, first), _perm(graph, node)
    perm = tuple(before[axis] for axis in after)
    origin = (*first.origin, *node.origin)
    graph.replace_node(node, inputs=(first.inputs[0],), attrs={"perm": perm}, origin=origin)
    return True


def _swap(
    graph: Graph,
    node: Node,
    turned: list[Node | None],
    perm: tuple[int, ...],
    attrs: Mapping[str, AttrValue],
    others: Sequence[str] | None = None,
) -> bool:
    """Let a node read what its Transposes read, and transpose what it makes.

    Args:
        graph: Changed in place.
        node: The node.
        turned: The Transpose of each of its inputs, if there is one.
        perm: Theirs.
        attrs: The node's attributes from now on.
        others: Its inputs after the first from now on; None: constants as they broadcast before the Transposes.
    """
    back = tuple(int(axis) for axis in np.argsort(perm))
    first = next(t for t in turned if t is not None)
    if others is None:
        inputs = [
            transpose.inputs[0] if transpose is not None else _turned_back(graph, name, back)
            for name, transpose in zip(node.inputs, turned, strict=True)
        ]
    else:
        inputs = [first.inputs[0], *others]
    outputs = [graph.tensor(name) for name in node.outputs]
    made = []
    for output in outputs:
        shape = tuple(output.shape[axis] for axis in back)
        made.append(graph.add_tensor(Tensor(graph.fresh(f"{output.name}.turned"), shape, output.type)).name)
    graph.replace_node(node, inputs=tuple(inputs), outputs=tuple(made), attrs=attrs)
    for name, output in zip(made, outputs, strict=True):
        graph.add("Transpose", [name], [output.name], {"perm": perm}, origin=first.origin)
    return True


def _turned_back(graph: Graph, name: str, back: tuple[int, ...]) -> str:
    """Return a constant that broadcasts against what is not transposed as this one does against what is."""
    if not name:
        return name
    tensor = graph.tensor(name)
    assert tensor.data is not None
    if tensor.size == 1:
        return name
    full = tensor.data.reshape(*[1] * (len(back) - tensor.data.ndim), *tensor.data.shape).transpose(back)
    return graph.add_tensor(Tensor(graph.fresh(f"{name}.turned"), full.shape, tensor.type, np.array(full))).name
