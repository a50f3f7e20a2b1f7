"""Makes one ensemble of trees that a model adds up one by one.

What is computed of one tree's leaf alone has a value for each leaf, whatever it is: exporters write out depths, votes
and weights so, with dozens of operators a tree. A sum of such values is an ensemble.

1. A tensor that follows from one tree, and constants, becomes that tree with other leaves; from several, where it is a
   sum of such tensors, scaled or moved.
2. It is made one ensemble where several trees meet in it and something else reads it. One tree alone stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.ops.base import op_of
from ml2sc.ir.thermometer import TREES
from ml2sc.ir.trees import Ensemble, Fork, Leaf, TreeNode
from ml2sc.ir.types import Array, DType


@dataclass(frozen=True)
class _Sum:
    """What a tensor is, if it follows from leaves.

    Attributes:
        parts: By ensemble (the tensor it makes): what each of its leaves adds, in their order; in the tensor's shape.
        rest: What is added besides; None: nothing.
    """

    parts: Mapping[str, Sequence[Array]]
    rest: Array | None = None


def merge_trees(graph: Graph) -> None:
    """Rewrite a float graph whose trees look at its inputs.

    Args:
        graph: The graph.
    """
    trees = {node.output: node for node in graph if node.op_type == TREES and Ensemble.of(node).aggregate == "SUM"}
    if len(trees) < 2:
        return
    sums: dict[str, _Sum] = {}
    with np.errstate(all="ignore"):
        for node in list(graph):
            found = _leaves(node) if node.output in trees else _followed(graph, node, sums, trees)
            if found is not None:
                sums[node.output] = found
    for node in list(graph):
        found = sums.get(node.output)
        if found is None or len(found.parts) < 2 or graph.tensor(node.output).type is not DType.FLOAT:
            continue
        owners = [trees[name] for name in found.parts]
        alike = len({(owner.inputs, Ensemble.of(owner).double) for owner in owners}) == 1
        uses = graph.uses(node.output)
        read = node.output in graph.outputs or any(use.node.output not in sums for use in uses)
        if alike and read:
            _replace(graph, node, owners, found)


def _leaves(node: Node) -> _Sum:
    ensemble = Ensemble.of(node)
    rows = [
        np.array([[float(leaf.values.get(target, 0)) for target in range(ensemble.targets)]])
        for leaf in ensemble.nodes
        if isinstance(leaf, Leaf)
    ]
    base = np.array([list(map(float, ensemble.base))])
    if len(ensemble.roots) == 1:
        return _Sum({node.output: [row + base for row in rows]})
    return _Sum({node.output: rows}, base)


def _followed(graph: Graph, node: Node, sums: Mapping[str, _Sum], trees: Mapping[str, Node]) -> _Sum | None:
    """Return what an operator makes of sums and constants; None where that is no sum."""
    given = [sums.get(name) if name else None for name in node.inputs]
    fixed = [graph.tensor(name).data if name else None for name in node.inputs]
    owners = {owner for operand in given if operand is not None for owner in operand.parts}
    lacking = any(n and s is None and c is None for n, s, c in zip(node.inputs, given, fixed, strict=True))
    if not owners or lacking or len([output for output in node.outputs if output]) != 1:
        return None
    if len(owners) == 1 and len(Ensemble.of(trees[(owner := next(iter(owners)))]).roots) == 1:
        rows = []
        for leaf in range(len(next(s for s in given if s is not None).parts[owner])):
            values = [c if s is None else s.parts[owner][leaf] for s, c in zip(given, fixed, strict=True)]
            rows.append(np.asarray(op_of(node).evaluate(node, values)[0]))
        return _Sum({owner: rows}) if all(np.isfinite(row).all() for row in rows) else None
    return _linear(graph, node, given, fixed)


def _linear(graph: Graph, node: Node, given: Sequence[_Sum | None], fixed: Sequence[Array | None]) -> _Sum | None:
    """Return what an operator makes of sums if it adds, scales or moves them."""
    tensor = graph.tensor(node.output)
    if tensor.type is not DType.FLOAT:
        return None

    def each(operand: _Sum, change: Callable[[Array], Array]) -> _Sum:
        def changed(row: Array) -> Array:
            return np.broadcast_to(change(row), tensor.shape)

        parts = {owner: [changed(row) for row in rows] for owner, rows in operand.parts.items()}
        return _Sum(parts, None if operand.rest is None else changed(operand.rest))

    first = given[0]
    match node.op_type:
        case "Add" | "Sub":
            sign = -1.0 if node.op_type == "Sub" else 1.0
            a, b = (_Sum({}, c) if s is None else s for s, c in zip(given, fixed, strict=True))
            return _added(each(a, lambda row: row), each(b, lambda row: sign * row))
        case "Neg" if first is not None:
            return each(first, np.negative)
        case "Mul":
            scaled, factor = (given[1], fixed[0]) if first is None else (first, fixed[1])
            return None if scaled is None or factor is None else each(scaled, lambda row: row * factor)
        case "Div" if first is not None and fixed[1] is not None:
            divisor = fixed[1]
            return each(first, lambda row: row / divisor)
        case _ if op_of(node).moves and first is not None and not any(given[1:]):
            return each(first, lambda row: np.asarray(op_of(node).evaluate(node, [row, *fixed[1:]])[0]))
    return None


def _added(first: _Sum, second: _Sum) -> _Sum:
    parts = dict(first.parts)
    for owner, rows in second.parts.items():
        parts[owner] = [a + b for a, b in zip(parts[owner], rows, strict=True)] if owner in parts else rows
    rests = [rest for rest in (first.rest, second.rest) if rest is not None]
    return _Sum(parts, sum(rests[1:], rests[0]) if rests else None)


def _replace(graph: Graph, node: Node, owners: Sequence[Node], found: _Sum) -> None:
    """Let one ensemble, and a Reshape of its targets, make what a node makes."""
    tensor = graph.tensor(node.output)
    nodes: list[TreeNode] = []
    roots: list[int] = []
    for owner in owners:
        ensemble, first = Ensemble.of(owner), len(nodes)
        rows = iter(found.parts[owner.output])
        for own in ensemble.nodes:
            if isinstance(own, Fork):
                nodes.append(dataclasses.replace(own, odd=own.odd + first, even=own.even + first))
            else:
                nodes.append(Leaf(dict(enumerate(np.ravel(next(rows)).tolist()))))
        roots += [root + first for root in ensemble.roots]
    base = np.zeros(tensor.size) if found.rest is None else np.ravel(found.rest)
    old = Ensemble.of(owners[0])
    merged = Ensemble(old.features, tensor.size, tuple(nodes), tuple(roots), tuple(base.tolist()), double=old.double)
    origin = dict.fromkeys(name for owner in (*owners, node) for name in owner.origin or (owner.name,))
    graph.remove(node)
    name = graph.fresh(f"{node.output}_sums")
    flat = graph.add_tensor(dataclasses.replace(tensor, name=name, shape=(1, tensor.size)))
    graph.add(TREES, owners[0].inputs, [flat.name], merged.attributes(), name=graph.fresh("trees"), origin=origin)
    shape = graph.add_tensor(
        dataclasses.replace(
            tensor,
            name=graph.fresh(f"{node.output}_shape"),
            shape=(len(tensor.shape),),
            type=DType.INT64,
            data=np.array(tensor.shape, dtype=np.int64),
        )
    )
    graph.add("Reshape", [flat.name, shape.name], [node.output], name=graph.fresh("reshape"), origin=node.origin)
