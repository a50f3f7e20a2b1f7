"""Pass `sink_movements`: an activation behind a movement of a layer's results comes before it.

A ConvTranspose, a DepthToSpace and a head of a network that is reshaped are layers whose results are moved to where
they belong: `f(move(layer(x)))`, f working on elements one by one, becomes `move(f(layer(x)))`. Next to its layer an
activation is applied to whole words of sums; behind the movement each value would have to be taken out first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.ops.base import op_of
from ml2sc.ir.ops.operands import UnaryOp
from ml2sc.ir.types import DType

from .manager import Pass, register_pass
from .sink_transposes import CONVOLUTIONS

_LAYERS = CONVOLUTIONS | {"Gemm", "MatMul"}
MOST_LEFT_OUT = 2
"""A movement that leaves more than the half of the elements out comes first: it saves computing them."""


@register_pass
@dataclass(frozen=True)
class SinkMovements(Pass):
    """Moves what moves elements behind activations."""

    name: ClassVar[str] = "sink_movements"
    after: ClassVar[tuple[str, ...]] = ("fold_constants",)

    def run(self, graph: Graph) -> bool:
        changed = False
        for name in [node.name for node in graph]:
            while (movement := _before(graph, graph.node(name))) is not None:
                _swap(graph, graph.node(name), movement)
                changed = True
        if changed:
            graph.prune()
        return changed


def _before(graph: Graph, node: Node) -> Node | None:
    """Return what moves a layer's results to where an activation reads them, and no other; None: nothing does."""
    others = [graph.tensor(name) for name in node.inputs[1:] if name]
    if not isinstance(op_of(node), UnaryOp) or any(not t.is_constant or t.size != 1 for t in others):
        return None
    most = 1 if op_of(node).tabulated else MOST_LEFT_OUT  # a function costs as much for an element that is left out
    moved = graph.tensor(node.inputs[0])
    movement = _mover(graph, moved.name)
    if movement is None or graph.only_use(moved.name) is None:
        return None
    source = graph.tensor(movement.inputs[0])
    if moved.type is not DType.FLOAT or source.type is not DType.FLOAT:
        return None
    largest = source.size
    while (earlier := _mover(graph, source.name)) is not None:
        source = graph.tensor(earlier.inputs[0])
        largest = max(largest, source.size)
    if largest > most * moved.size:
        return None
    maker = graph.producer(source.name)
    while maker is not None and isinstance(op_of(maker), UnaryOp):
        maker = graph.producer(maker.inputs[0])
    return movement if maker is not None and maker.op_type in _LAYERS else None


def _mover(graph: Graph, name: str) -> Node | None:
    """Return the producer of a tensor if it does nothing but move the elements of its first input."""
    node = graph.producer(name)
    if node is None or not op_of(node).moves or len(node.outputs) > 1:
        return None
    return node if all(graph.tensor(i).is_constant for i in node.inputs[1:] if i) else None


def _swap(graph: Graph, node: Node, movement: Node) -> None:
    """Let an activation read what a movement reads, and the movement follow it."""
    source, output = graph.tensor(movement.inputs[0]), graph.tensor(node.output)
    base = f"{output.name.removesuffix('.unmoved')}.unmoved"
    made = graph.add_tensor(Tensor(graph.fresh(base), source.shape, output.type)).name
    graph.replace_node(node, inputs=(source.name, *node.inputs[1:]), outputs=(made,))
    graph.replace_node(movement, inputs=(made, *movement.inputs[1:]), outputs=(output.name,))
