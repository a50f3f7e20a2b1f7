"""Pass `eliminate_identity`: operators that change nothing go.

1. Identity, Dropout and a Cast to the same type give way to their input.
2. So does any other movement of one tensor (Reshape, Transpose, Slice, Expand, a Concat of one, …) that leaves every
   element where it was and the shape as it was.
3. A movement that changes only the shape, after another such one, becomes a single Reshape.

The graph's outputs keep their names. A no-op from an input (or a constant, or another output) to an output stays: both
names are promised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.ops import op_of
from ml2sc.ir.types import DType

from .manager import Pass, register_pass


@register_pass
@dataclass(frozen=True)
class EliminateIdentity(Pass):
    """Removes no-ops and merges changes of shape."""

    name: ClassVar[str] = "eliminate_identity"
    after: ClassVar[tuple[str, ...]] = ("fold_constants",)

    def run(self, graph: Graph) -> bool:
        changed = False
        for name in [node.name for node in graph]:
            before = graph.node(name)
            node = _merge_reshapes(graph, before)
            changed |= node is not before
            changed |= _is_noop(graph, node) and _remove(graph, node)
        return graph.prune() or changed


def _keeps_order(graph: Graph, node: Node) -> bool:
    """Whether a node has one data input, whose elements all come out again in the same order and type."""
    operands = graph.input_tensors(node)
    data = operands[0] if operands else None
    if data is None or not op_of(node).moves or len([o for o in node.outputs if o]) != 1:
        return False
    if any(t is not None and not t.is_constant for t in operands[1:]) or (
        node.op_type == "Concat" and len(operands) > 1
    ):
        return False
    output = graph.tensor(node.output)
    if output.size != data.size or output.type != data.type:
        return False
    numbers = np.arange(data.size, dtype=np.float64).reshape(data.shape)
    moved = op_of(node).evaluate(node, [numbers, *(None if t is None else t.data for t in operands[1:])])[0]
    return bool(np.array_equal(moved.ravel(), numbers.ravel()))


def _is_noop(graph: Graph, node: Node) -> bool:
    return _keeps_order(graph, node) and graph.tensor(node.output).shape == graph.tensor(node.inputs[0]).shape


def _merge_reshapes(graph: Graph, node: Node) -> Node:
    """Apply rule 3 to `node` and its producer; return the node that took its place, or `node`."""
    first = graph.producer(node.inputs[0]) if node.inputs and node.inputs[0] else None
    if first is None or not _keeps_order(graph, node) or not _keeps_order(graph, first):
        return node
    shape = np.array(graph.tensor(node.output).shape, dtype=np.int64)
    constant = graph.add_tensor(Tensor(graph.fresh(f"{node.name}.shape"), shape.shape, DType.INT64, shape))
    inputs = (first.inputs[0], constant.name)
    return graph.replace_node(node, op_type="Reshape", inputs=inputs, attrs={}, origin=(*first.origin, *node.origin))


def _remove(graph: Graph, node: Node) -> bool:
    """Remove a no-op; return whether that was possible."""
    source, result = node.inputs[0], node.output
    promised = {*graph.inputs, *graph.outputs, graph.decision}
    if result not in promised:
        graph.replace_uses(result, source)
        graph.remove(node)
        return True
    if source in promised or graph.producer(source) is None:
        return False
    graph.replace_uses(result, source)
    graph.remove(node)
    graph.prune()  # frees the name
    graph.rename_tensor(source, result)
    return True
