"""Lets trees look at the graph's inputs themselves, wherever movements take their elements, and finds the ladders.

Not a pass of a pipeline: what a model's inputs are follows from it, before their ranges are asked for.
"""

from __future__ import annotations

import math

import numpy as np

from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.ops.base import attr_int, op_of
from ml2sc.ir.ops.movement import IMPUTED
from ml2sc.ir.thermometer import TREES, find_ladders
from ml2sc.ir.trees import Ensemble
from ml2sc.ir.types import Array, DType

from .merge_trees import merge_trees


def bind_trees(graph: Graph) -> None:
    """Rewrite the tree ensembles of a float graph, and set its `ladders`."""
    sources, values = _sources(graph)
    whole = {node.inputs[0] for node in graph if _is_whole(node)}
    owners = [name for name in graph.inputs for _ in range(graph.tensor(name).size)]
    for node in list(graph):
        if node.op_type != TREES or not all(name in sources for name in node.inputs):
            continue
        elements = [int(e) for name in node.inputs for e in sources[name].ravel().tolist()]
        used = {owners[element] for element in elements}
        kept = [element for element, owner in enumerate(owners) if owner in used]
        place = {element: position for position, element in enumerate(kept)}
        taken = [float(v) for name in node.inputs for v in values[name].ravel().tolist()]
        bound = Ensemble.of(node).imputed({e: v for e, v in enumerate(taken) if not math.isnan(v)})
        bound = bound.with_features([place[element] for element in elements], len(kept))
        bound = bound.of_whole({place[element] for element in elements if owners[element] in whole})
        inputs = tuple(name for name in graph.inputs if name in used)
        graph.replace_node(node, inputs=inputs, attrs=bound.attributes())
    graph.prune()
    merge_trees(graph)
    graph.prune()
    graph.ladders = find_ladders(graph)


def _is_whole(node: Node) -> bool:
    """Return whether a node is what reads an input of whole numbers in the other nodes' place."""
    return node.op_type == "Trunc" and attr_int(node, "whole", 0) == 1


def _sources(graph: Graph) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return, for tensors that hold nothing but elements of inputs, which, and what each is taken for if it is missing.

    Elements have numbers among all inputs'; what is taken for nothing is NaN.
    """
    found: dict[str, Array] = {}
    first = 0
    for name in graph.inputs:
        tensor = graph.tensor(name)
        if tensor.type is DType.FLOAT:
            found[name] = np.arange(first, first + tensor.size, dtype=np.float64).reshape(tensor.shape)
        first += tensor.size
    values = {name: np.full(elements.shape, np.nan) for name, elements in found.items()}
    for node in graph:
        if _is_whole(node) and node.inputs[0] in graph.inputs:
            found[node.output], values[node.output] = found[node.inputs[0]], values[node.inputs[0]]
        if not op_of(node).moves:
            continue
        for arrays in (found, values):
            operands: list[Array | None] = []
            for name in node.inputs:
                known = graph.tensor(name) if name else None
                whole = known is not None and known.type is DType.INT64
                operands.append(known.data if known is not None and whole else arrays.get(name))
            if any(operand is None and name for operand, name in zip(operands, node.inputs, strict=True)):
                continue
            results = op_of(node).evaluate(node, operands)
            arrays.update((name, np.asarray(r)) for name, r in zip(node.outputs, results, strict=False) if name)
        if IMPUTED in node.attrs and node.output in values:
            own = values[node.output]
            values[node.output] = np.where(np.isnan(own), np.asarray(node.attrs[IMPUTED], dtype=np.float64), own)
    return found, values
