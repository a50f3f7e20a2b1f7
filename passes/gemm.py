"""What the passes on linear layers share: reading a Gemm's matrices, and folding a constant affine map into them.

y = x·W + C, then y·f + o, is x·(W·diag(f)) + (C·f + o).
x·f + o, then (·)·W + C, is x·(diag(f)·W) + (o·W + C).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import prod
from typing import NamedTuple

import numpy as np

from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.ops import op_of
from ml2sc.ir.ops.base import attr_float, attr_int
from ml2sc.ir.ops.linear import is_folded
from ml2sc.ir.ops.normalization import BatchNormalization
from ml2sc.ir.ops.operands import FOLD_ERROR
from ml2sc.ir.types import Array, DType

RESHAPING = frozenset({"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that keep all elements and their order."""


class GemmParts(NamedTuple):
    """The constants of y = x·W + C, with alpha, beta and transB applied.

    Attributes:
        weights: W, float64, (k, n).
        bias: C, float64, broadcastable to (…, n), or None.
        slack: Bound on what rounding in float64 has put in C (the node's attribute `slack`); None if both are the
            model's own numbers.
    """

    weights: Array
    bias: Array | None
    slack: float | None = None


class Affine(NamedTuple):
    """x·factor + offset, both float64 and broadcastable to the shape of x; the offset is off by at most `slack`."""

    factor: Array
    offset: Array
    slack: float = 0.0


def gemm_parts(graph: Graph, node: Node) -> GemmParts | None:
    """Return a Gemm's W and C, or None if the node is no Gemm or one of them is not constant."""
    return layer_parts(graph, node) if node.op_type == "Gemm" else None


def layer_parts(graph: Graph, node: Node) -> GemmParts | None:
    """Return W and C of a Gemm or FusedGemm, or None if one of them is not constant."""
    b = graph.tensor(node.inputs[1]).data
    c_name = node.inputs[2] if len(node.inputs) > 2 else ""
    c = graph.tensor(c_name).data if c_name else None
    if b is None or (c_name and c is None):
        return None
    weights = _times(attr_float(node, "alpha", 1.0), b.T if attr_int(node, "transB", 0) else b)
    bias = None if c is None else _times(attr_float(node, "beta", 1.0), c)
    return GemmParts(weights, bias, attr_float(node, "slack", 0.0) if is_folded(node) else None)


def _times(factor: float | Array, array: Array) -> Array:
    """Return the product, and the very same array where the factor is 1, so that shared constants stay shared."""
    return array if np.all(factor == 1.0) else factor * array


def set_gemm(
    graph: Graph, node: Node, parts: GemmParts, *, output: str | None = None, origin: tuple[str, ...] = ()
) -> Node:
    """Give a Gemm other constants, and perhaps another output.

    Constants that only this node uses are changed in place (under their names); shared ones are left alone.

    Args:
        graph: The node's graph.
        node: A Gemm or FusedGemm.
        parts: Its new W and C; alpha, beta and transB become 1, 1 and 0.
        output: Tensor it makes from now on; nothing else may make it. None: as before.
        origin: Its origin from now on; empty: as before.
    """
    inputs = [node.inputs[0], _store(graph, node, 1, f"{node.name}.weight", parts.weights)]
    if parts.bias is not None:
        inputs.append(_store(graph, node, 2, f"{node.name}.bias", parts.bias))
    return graph.replace_node(
        node,
        inputs=tuple(inputs),
        outputs=(output or node.output,),
        attrs={key: node.attrs[key] for key in ("transA", "activation") if node.attrs.get(key)}
        | ({} if parts.slack is None else {"slack": parts.slack}),
        origin=origin or node.origin,
    )


def _store(graph: Graph, node: Node, slot: int, base: str, array: Array) -> str:
    old = node.inputs[slot] if len(node.inputs) > slot else ""
    if old and graph.tensor(old).data is array:
        return old
    if old and graph.only_use(old) is node and graph.producer(old) is None:
        tensor = graph.tensor(old)
        tensor.data, tensor.shape = array, array.shape
        return old
    return graph.add_tensor(Tensor(graph.fresh(old or base), array.shape, DType.FLOAT, array)).name


def affine_of(graph: Graph, node: Node) -> tuple[str, Affine] | None:
    """Read a node as a constant affine map of one of its inputs.

    Returns:
        The input's name and the map; None if the node is no such map, or changes the input's shape, or its constants
        are not finite (a division by zero).
    """
    output = graph.tensor(node.output)
    if output.type is not DType.FLOAT or output.is_constant:
        return None
    operands = [graph.tensor(name) for name in node.inputs if name]
    variable = [t for t in operands if not t.is_constant]
    if len(variable) != 1 or variable[0].shape != output.shape:
        return None
    x = variable[0]
    constants = [t.data for t in operands if t.data is not None]
    first = operands[0] is x
    one, zero = np.ones(()), np.zeros(())
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # what is not finite is refused below
        match node.op_type:
            case "Add":
                affine = Affine(one, constants[0])
            case "Sub":
                affine = Affine(one, -constants[0]) if first else Affine(-one, constants[0])
            case "Mul":
                affine = Affine(constants[0], zero)
            case "Div" if first:
                affine = Affine(1.0 / constants[0], zero)
            case "Neg":
                affine = Affine(-one, zero)
            case "BatchNormalization" if first:
                op = op_of(node)
                assert isinstance(op, BatchNormalization)
                factor, offset = op.affine(node, constants, len(x.shape))
                # the offset is bias − mean·factor: each of the two may be larger than their difference
                size = 2 * np.abs(constants[1]).max(initial=0.0) + np.abs(offset).max(initial=0.0)
                affine = Affine(factor, offset, slack=FOLD_ERROR * float(size))
            case _:
                return None
    return (x.name, affine) if np.isfinite(affine.factor).all() and np.isfinite(affine.offset).all() else None


def fold_affine(graph: Graph, op_types: Collection[str], *, backwards: bool = True) -> bool:
    """Fold constant affine maps into the Gemm before or after them; return whether anything changed.

    1. A map of a Gemm's output, if nothing else uses that output and its factor does not differ between rows.
    2. A map that makes a Gemm's input, if nothing else uses that input and its factor does not differ between rows.
    3. Operators that only reshape may lie between the two if the Gemm has a single row.

    Args:
        graph: Changed in place.
        op_types: Which operators are folded.
        backwards: Whether rule 2 is used.
    """
    names = [node.name for node in graph if node.op_type in op_types]
    # outwards from the Gemm in both directions, so that one sweep takes a whole chain
    before = [_fold_into_producer(graph, graph.node(name)) for name in names]
    left = [name for name in reversed(names) if graph.has_node(name)] if backwards else []
    after = [_fold_into_consumer(graph, graph.node(name)) for name in left]
    if not any((*before, *after)):
        return False
    graph.prune()
    return True


def _fold_into_producer(graph: Graph, node: Node) -> bool:
    found = affine_of(graph, node)
    if found is None:
        return False
    x, affine = found
    path = list(_up(graph, x, node))
    gemm = path[-1] if path else None
    parts = None if gemm is None else gemm_parts(graph, gemm)
    if gemm is None or parts is None:
        return False
    scale = _matrices(affine, graph.tensor(x).shape, graph.tensor(gemm.output).shape, direct=len(path) == 1)
    if scale is None:
        return False
    factor, offset, slack = scale
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
        scaled = np.zeros(()) if parts.bias is None else parts.bias * factor
        slack += (parts.slack or 0.0) * float(np.abs(factor).max()) + _rounding(scaled, offset)
        untouched = parts.slack is None and slack == 0.0 and bool(np.all(factor == 1.0))
        folded = _parts(_times(factor, parts.weights), scaled + offset, None if untouched else slack)
    if folded is None:
        return False
    origin = (*gemm.origin, *node.origin)
    graph.remove(node)
    if len(path) == 1:
        set_gemm(graph, gemm, folded, output=node.output, origin=origin)
    else:
        set_gemm(graph, gemm, folded, origin=origin)
        graph.replace_node(path[0], outputs=(node.output,))
    return True


def _fold_into_consumer(graph: Graph, node: Node) -> bool:
    found = affine_of(graph, node)
    if found is None:
        return False
    x, affine = found
    path = list(_down(graph, node.output))
    gemm = path[-1] if path else None
    parts = None if gemm is None else gemm_parts(graph, gemm)
    if gemm is None or parts is None or attr_int(gemm, "transA", 0):
        return False
    scale = _matrices(affine, graph.tensor(x).shape, graph.tensor(gemm.inputs[0]).shape, direct=len(path) == 1)
    if scale is None:
        return False
    factor, offset, slack = scale
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
        old = np.zeros(()) if parts.bias is None else parts.bias
        terms = np.abs(offset) @ np.abs(parts.weights)
        slack = (
            (parts.slack or 0.0)
            + slack * float(np.abs(parts.weights).sum(axis=0).max(initial=0.0))
            + FOLD_ERROR * float((np.abs(old) + terms).max())
        )
        folded = _parts(_times(factor.reshape(-1, 1), parts.weights), old + offset @ parts.weights, slack)
    if folded is None:
        return False
    if len(path) > 1:
        graph.replace_node(path[0], inputs=(x, *path[0].inputs[1:]))
    else:
        gemm = graph.replace_node(gemm, inputs=(x, *gemm.inputs[1:]))
    set_gemm(graph, gemm, folded, origin=(*node.origin, *gemm.origin))
    graph.remove(node)
    return True


def _up(graph: Graph, tensor: str, consumer: Node) -> Iterator[Node]:
    """Walk from `consumer`'s input to a Gemm; yield reshaping nodes and the Gemm, or up to where the walk fails."""
    producer = graph.producer(tensor)
    while producer is not None and graph.only_use(tensor) == consumer:
        yield producer
        if producer.op_type not in RESHAPING:
            return
        tensor, consumer = producer.inputs[0], producer
        producer = graph.producer(tensor)


def _down(graph: Graph, tensor: str) -> Iterator[Node]:
    """Walk from a tensor to the Gemm that takes it; yield reshaping nodes and it, or up to where the walk fails."""
    consumer = graph.only_use(tensor)
    while consumer is not None and consumer.inputs[0] == tensor:
        yield consumer
        if consumer.op_type not in RESHAPING:
            return
        tensor = consumer.output
        consumer = graph.only_use(tensor)


def _matrices(affine: Affine, shape: tuple[int, ...], matrix: tuple[int, ...], *, direct: bool) -> Affine | None:
    """Return the map's factor as (1, columns) and its offset as (1, columns), or one that broadcasts to all rows.

    Args:
        affine: A map of a tensor of shape `shape`.
        shape: Its shape.
        matrix: The Gemm's view of it, (…, columns).
        direct: Whether the two are the same tensor.

    Returns:
        None if it cannot be expressed so.
    """
    *rows, columns = matrix
    if prod(rows) == 1:
        factor, offset = (np.broadcast_to(a, shape).reshape(1, columns) for a in affine[:2])
        return Affine(factor, offset, affine.slack)
    factor, offset = (np.atleast_2d(a) for a in affine[:2])
    if not direct or prod(factor.shape[:-1]) != 1:
        return None
    offset = np.broadcast_to(offset, (*offset.shape[:-1], columns))
    return Affine(np.broadcast_to(factor.reshape(1, -1), (1, columns)), offset, affine.slack)


def _rounding(first: Array, second: Array) -> float:
    """Return a bound on what float64 loses in the sum of terms of that size; adding to 0 loses nothing."""
    return FOLD_ERROR * float((np.abs(first) + np.abs(second)).max(initial=0.0)) if np.any(first) else 0.0


def _parts(weights: Array, bias: Array, slack: float | None) -> GemmParts | None:
    """Return the new constants, C as a vector where it has one row and left out where it is 0; None if not finite."""
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        return None
    if bias.ndim > 1 and prod(bias.shape[:-1]) == 1:
        bias = bias.reshape(-1)
    return GemmParts(weights, bias if bias.any() else None, slack)
