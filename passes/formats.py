"""How many bits a precision gives to each layer's weights and to each activation."""

from __future__ import annotations

from ml2sc.errors import UsageError
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.ops.base import op_of

from .precision import Integer, Layered

MATRICES = frozenset({"Gemm", "FusedGemm", "MatMul"})
"""Layers whose weights are one matrix that their input's last axis meets."""


def layers_of(graph: Graph) -> list[Node]:
    """Return a float graph's layers whose formats are ours to choose, in the order in which they are computed."""
    return [node for node in graph if op_of(node).linear]


def reads_activations(node: Node) -> bool:
    """Whether an operator of a float graph reads activations, not accumulators: as a layer, or as a table's index."""
    op = op_of(node)
    return op.reads_activations or op.tabulated


def readers(graph: Graph, name: str) -> list[Node]:
    """Return the operators that read a float tensor, or elements that are only moved from it."""
    uses = [use.node for use in graph.uses(name)]
    moved = [output for use in uses if op_of(use).moves for output in use.outputs if output]
    return [use for use in uses if not op_of(use).moves] + [r for output in moved for r in readers(graph, output)]


class Formats:
    """Bits by layer and by activation.

    Args:
        graph: A float graph.
        precision: The same for all layers, or one for each.

    Raises:
        UsageError: there is not one for each layer.
    """

    def __init__(self, graph: Graph, precision: Integer | Layered) -> None:
        self._graph = graph
        self._layers: dict[str, Integer] = {}
        self.widest = precision if isinstance(precision, Integer) else precision.widest
        if isinstance(precision, Layered):
            nodes = layers_of(graph)
            if len(nodes) != len(precision.layers):
                names = ", ".join(node.name for node in nodes) or "none"
                raise UsageError(
                    f"precision {precision} is for {len(precision.layers)} layers, the model has {len(nodes)}: {names}"
                )
            self._layers = {node.output: layer for node, layer in zip(nodes, precision.layers, strict=True)}

    def weights(self, output: str) -> int:
        """Return the bits of the weights of the layer that makes a float tensor."""
        return self._layers.get(output, self.widest).weight_bits

    def activation(self, name: str) -> int:
        """Return the bits of a float tensor as layers and tables read it: the most that one of them asks for."""
        asked = [
            self._layers.get(node.output, self.widest).activation_bits
            for node in readers(self._graph, name)
            if reads_activations(node)
        ]
        return max(asked, default=self.widest.activation_bits)
