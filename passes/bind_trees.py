"""Lets trees look at the graph's inputs themselves, wherever movements take their elements, and finds the ladders.

Not a pass of a pipeline: what a model's inputs are follows from it, before their ranges are asked for.
"""

from __future__ import annotations

import numpy as np

from ml2sc.ir.graph import Graph
from ml2sc.ir.ops.base import op_of
from ml2sc.ir.thermometer import TREES, find_ladders
from ml2sc.ir.trees import Ensemble
from ml2sc.ir.types import Array, DType


def bind_trees(graph: Graph) -> None:
    """Rewrite the tree ensembles of a float graph, and set its `ladders`."""
    sources = _sources(graph)
    offsets, total = {}, 0
    for name in graph.inputs:
        offsets[name] = total
        total += graph.tensor(name).size
    for node in list(graph):
        if node.op_type != TREES or not all(name in sources for name in node.inputs):
            continue
        elements = np.concatenate([sources[name].ravel() for name in node.inputs])
        if len(elements) == 0 or (elements < 0).any():
            continue
        ensemble = Ensemble.of(node)
        used = [n for n in graph.inputs if ((elements >= offsets[n]) & (elements < offsets[n] + graph.tensor(n).size)).any()]
        place, size = {}, 0
        for name in used:
            for index in range(graph.tensor(name).size):
                place[offsets[name] + index] = size
                size += 1
        bound = ensemble.with_features([place[int(element)] for element in elements], size)
        graph.replace_node(node, inputs=tuple(used), attrs=bound.attributes())
    graph.prune()
    graph.ladders = find_ladders(graph)


def _sources(graph: Graph) -> dict[str, Array]:
    """Return, for tensors that hold nothing but elements of inputs, which: numbers of elements among all inputs'."""
    found: dict[str, Array] = {}
    first = 0
    for name in graph.inputs:
        tensor = graph.tensor(name)
        if tensor.type is DType.FLOAT:
            found[name] = np.arange(first, first + tensor.size, dtype=np.float64).reshape(tensor.shape)
        first += tensor.size
    for node in graph:
        if not op_of(node).moves:
            continue
        operands: list[Array | None] = []
        for name in node.inputs:
            tensor = graph.tensor(name) if name else None
            if tensor is not None and tensor.data is not None and tensor.type is DType.INT64:
                operands.append(tensor.data)
            elif name in found:
                operands.append(found[name])
            else:
                operands.append(None)
        if any(operand is None and name for operand, name in zip(operands, node.inputs, strict=True)):
            continue
        results = op_of(node).evaluate(node, operands)
        found.update((name, np.asarray(r)) for name, r in zip(node.outputs, results, strict=False) if name)
    return found
