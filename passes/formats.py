"""How many bits a precision gives to each layer's weights and to each activation."""

from __future__ import annotations

from ml2sc.errors import UsageError
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.ops.base import op_of

from .precision import Integer, Layered

LINEAR = frozenset({"Gemm", "FusedGemm", "MatMul"})
"""Operators that read activations, not accumulators."""


def layers_of(graph: Graph) -> list[Node]:
    """Return a float graph's layers whose formats are ours to choose, in the order in which they are computed."""
    return [node for node in graph if node.op_type in LINEAR]


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
            if node.op_type in LINEAR or op_of(node).tabulated
        ]
        return max(asked, default=self.widest.activation_bits)
