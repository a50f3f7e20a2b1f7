"""Which sums of two activations are computed with a layer's own sums, or on lanes: what is rounded for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.ops.base import op_of
from ml2sc.ir.types import FixedPoint

SUMS = frozenset({"Add", "Sub"})
_LOST = 2
"""Square of the factor by which weights may become coarser for an operand's sake: half a bit."""


@dataclass(frozen=True, slots=True)
class Skip:
    """A sum that a layer takes in: its accumulators are added to before they are rounded.

    Attributes:
        node: The Add or Sub.
        layer: The tensor whose accumulators they are: a layer's, or such a sum's.
        other: The operand that is added.
    """

    node: Node
    layer: str
    other: str


def skips(graph: Graph) -> Mapping[str, Skip]:
    """Return the sums that layers take in, by the tensor `layer`, of a float graph.

    1. An Add or Sub of two activations of one shape, of which one is a layer's result that nothing else reads. It
       is not what a Sub takes away: accumulators keep their sign.
    2. The other operand is there before the layer is computed. Of two layers the later one takes in the other.
    3. A sum that is one of these may take in another operand.
    """
    order = dict.fromkeys(graph.inputs, -1)
    found: dict[str, Skip] = {}
    first: dict[str, int] = {}
    """Where the layer is whose accumulators a tensor is."""
    for number, node in enumerate(graph):
        order.update((name, number) for name in node.outputs if name)
        if op_of(node).linear and "activation" not in node.attrs:
            first[node.output] = number
        if node.op_type not in SUMS or not _alike(graph, node):
            continue
        takers = [
            (first[layer], layer, other)
            for layer, other in zip(node.inputs, reversed(node.inputs), strict=True)
            if layer in first and graph.only_use(layer) is node and order[other] < first[layer]
        ]
        takers = [taker for taker in takers if node.op_type == "Add" or taker[1] == node.inputs[0]]
        if takers:
            at, layer, other = max(takers)
            found[layer], first[node.output] = Skip(node, layer, other), at
    return MappingProxyType(found)


def _alike(graph: Graph, node: Node) -> bool:
    a, b = (graph.tensor(name) for name in node.inputs)
    return a.name != b.name and not a.is_constant and not b.is_constant and a.shape == b.shape


def of_layers(graph: Graph, name: str) -> bool:
    """Return whether a float tensor is a layer's result, or a sum of such, after operators that leave it in lanes."""
    node = graph.producer(name)
    while node is not None and (op_of(node).keeps_format or op_of(node).moves or node.op_type == "Clip"):
        node = graph.producer(node.inputs[0])
    if node is not None and node.op_type in SUMS and _alike(graph, node):
        return all(graph.producer(operand) is None or of_layers(graph, operand) for operand in node.inputs)
    return node is not None and op_of(node).linear


def whole(own: FixedPoint, scale: Fraction, share: int = 2) -> int | None:
    """Return the integer that brings an operand to a scale, or None if it misses too much.

    Args:
        own: Format of the operand.
        scale: The scale.
        share: What is missed is at most that part of a step of the operand, at the far end of its format: at most half
            of one, which is no more than rounding to that step did.
    """
    ratio = own.scale / scale
    multiplier = max(round(ratio), 1)
    span = max(own.qmax - own.zero_point, own.zero_point - own.qmin)
    return multiplier if abs(multiplier - ratio) * share * span <= ratio else None


def fitted(weights: Fraction, x: FixedPoint, own: FixedPoint) -> Fraction:
    """Return the scale of a layer's weights with which `whole` finds an integer for what is added to its sums.

    Args:
        weights: The scale that they would have. They become coarser, by half a bit at most; where that does not do
            they keep it.
        x: Format of the layer's input.
        own: Format of the operand.
    """
    accumulator = x.scale * weights
    if whole(own, accumulator) is not None:
        return weights
    coarser = own.scale / accumulator / (own.scale // accumulator or 1)
    return weights * coarser if coarser >= 1 and coarser * coarser <= _LOST else weights
