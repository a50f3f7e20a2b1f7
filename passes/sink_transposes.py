"""Pass `sink_transposes`: of a convolutional network in NHWC, no Transpose between its layers is left.

Exporters of Keras and TensorFlow put a Transpose before and after each convolution. They meet, and are gone, if each is
moved behind what follows it:

1. Of two that follow each other one is made, or none.
2. `f(Transpose(x))`, f working on elements one by one, becomes `Transpose(f(x))`.
3. Likewise Add, Sub, Mul, Div of two transposed alike, or of one and a constant (which is transposed back), and Concat.
4. What else reads something transposed keeps that. Networks without convolutions stay as they are: a dense layer's
   weights take any order of its inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ml2sc.ir.graph import AttrValue, Graph, Node, Tensor
from ml2sc.ir.ops.base import attr_int, op_of
from ml2sc.ir.ops.movement import Transpose
from ml2sc.ir.ops.operands import UnaryOp

from .manager import Pass, register_pass

_BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div"})
_ROUNDS = 1_000
"""Transposes move on at most so often: a network has fewer operators than that for each of them."""


@register_pass
@dataclass(frozen=True)
class SinkTransposes(Pass):
    """Moves Transposes behind what follows them, until they meet."""

    name: ClassVar[str] = "sink_transposes"
    after: ClassVar[tuple[str, ...]] = ("fold_constants",)

    def run(self, graph: Graph) -> bool:
        if not any(node.op_type == "Conv" for node in graph):
            return False
        changed = False
        for _ in range(_ROUNDS):
            moved = [_moved_on(graph, graph.node(node.name)) for node in list(graph) if graph.has_node(node.name)]
            if not any(moved):
                break
            changed = True
        if changed:
            graph.prune()
        return changed


def _moved_on(graph: Graph, node: Node) -> bool:
    """Let a node read what the Transposes before it read, and one follow it; return whether that was done."""
    turned = [_transpose_of(graph, node, slot) for slot in range(len(node.inputs))]
    found = [t for t in turned if t is not None]
    if not found or len(node.outputs) != 1:
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
    by_element = isinstance(op_of(node), UnaryOp) and all(tensor.size == 1 for tensor in others)
    return turned[0] is not None and by_element and _swap(graph, node, turned, perm, node.attrs)


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
    graph: Graph, node: Node, turned: list[Node | None], perm: tuple[int, ...], attrs: Mapping[str, AttrValue]
) -> bool:
    """Let a node read what its Transposes read, and transpose what it makes."""
    back = tuple(int(axis) for axis in np.argsort(perm))
    output = graph.tensor(node.output)
    inputs = []
    for name, transpose in zip(node.inputs, turned, strict=True):
        inputs.append(transpose.inputs[0] if transpose is not None else _turned_back(graph, name, back))
    shape = tuple(output.shape[axis] for axis in back)
    made = graph.add_tensor(Tensor(graph.fresh(f"{output.name}.turned"), shape, output.type))
    graph.replace_node(node, inputs=tuple(inputs), outputs=(made.name,), attrs=attrs)
    origin = next(t for t in turned if t is not None).origin
    graph.add("Transpose", [made.name], [output.name], {"perm": perm}, origin=origin)
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
