"""The rules every Graph keeps; checked before the first pass and after each."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import numpy as np

from ml2sc.errors import VerifyError

from .graph import Graph, Node, Tensor
from .ops import OpDef, op_of
from .printer import type_text
from .types import NUMPY_TYPES, Array, DType, FixedPoint


def verify(graph: Graph) -> None:
    """Check that a graph keeps the rules of the IR.

    1. Inputs and outputs are tensors of the table; an input is listed once, is no constant and no operator makes it.
    2. Every tensor that is used is an input, a constant or made by just one operator. (What an operator makes may be
       known at compile time: it then has data, until `fold_constants` drops the operator.)
    3. There is no cycle.
    4. A constant has its tensor's shape and element type; floats are finite; integers lie in their format, and in their
       interval where one is proved. No interval leaves its format.
    5. Every operator keeps its own rules (`OpDef.verify`).
    6. Shape and type of its outputs are what `OpDef.infer` says. A quantised operator has no float signature: of those
       only the ones that move elements are checked, and only their shapes.

    Raises:
        VerifyError: a rule is broken; the message names the node or tensor.
        Ml2scError: an operator cannot be compiled as it is used here.
    """
    _check_interface(graph)
    for tensor in graph.tensors.values():
        _check_tensor(tensor)
    nodes = _in_order(graph)
    _check_structure(graph, nodes)
    definitions: dict[str, OpDef] = {}
    for node in nodes:
        if node.op_type not in definitions:
            definitions[node.op_type] = op_of(node)
        _check_node(graph, node, definitions[node.op_type])


def _check_interface(graph: Graph) -> None:
    for name, count in Counter(graph.inputs).items():
        if count > 1:
            raise VerifyError(f"input %{name} is listed {count} times")
        _require(graph, name, "input")
        if graph.tensor(name).is_constant:
            raise VerifyError(f"input %{name} is a constant")
        if (producer := graph.producer(name)) is not None:
            raise VerifyError(f"input %{name} is made by node {producer}")
    results = [("output", name) for name in graph.outputs]
    if graph.decision is not None:
        results.append(("decision", graph.decision))
    for role, name in results:
        _require(graph, name, role)
        if not _has_value(graph, name):
            raise VerifyError(f"{role} %{name} is made by nobody")


def _in_order(graph: Graph) -> list[Node]:
    try:
        return list(graph)
    except nx.NetworkXUnfeasible:
        cycle = ", ".join(str(graph.node(edge[0])) for edge in nx.find_cycle(graph.to_networkx()))
        raise VerifyError(f"nodes form a cycle: {cycle}") from None


def _check_structure(graph: Graph, nodes: list[Node]) -> None:
    made: dict[str, Node] = {}
    for node in nodes:
        if not any(node.outputs):
            raise VerifyError(f"node {node} has no outputs")
        for name in filter(None, node.outputs):
            _require(graph, name, f"node {node}: output")
            if name in made:
                raise VerifyError(f"tensor %{name} is made twice: by {made[name]} and by {node}")
            made[name] = node
        for name in filter(None, node.inputs):
            _require(graph, name, f"node {node}: input")
            if not _has_value(graph, name):
                raise VerifyError(f"node {node} uses tensor %{name}, which nobody makes")


def _check_tensor(tensor: Tensor) -> None:
    if any(dim < 0 for dim in tensor.shape):
        raise VerifyError(f"tensor %{tensor.name} has a negative dimension: {list(tensor.shape)}")
    if tensor.interval is not None:
        if not isinstance(tensor.type, FixedPoint):
            raise VerifyError(f"tensor %{tensor.name} has an interval, but is not fixed-point")
        if tensor.interval.lo < tensor.type.qmin or tensor.interval.hi > tensor.type.qmax:
            raise VerifyError(f"tensor %{tensor.name}: its interval {tensor.interval} leaves its format {tensor.type}")
    if tensor.data is not None:
        _check_array(tensor, tensor.data, "data")
        _check_elements(tensor, tensor.data)
    if tensor.real is not None:
        _check_array(tensor, tensor.real, "real values")


def _check_array(tensor: Tensor, array: Array, what: str) -> None:
    if array.shape != tensor.shape:
        raise VerifyError(f"constant %{tensor.name} has shape {list(tensor.shape)}, its {what} {list(array.shape)}")


def _check_elements(tensor: Tensor, data: Array) -> None:
    allowed = (np.int64, np.object_) if isinstance(tensor.type, FixedPoint) else (NUMPY_TYPES[tensor.type],)
    if data.dtype not in allowed:
        raise VerifyError(
            f"constant %{tensor.name} is {type_text(tensor.type, tensor.shape)}, but its data are {data.dtype}"
        )
    if tensor.type is DType.FLOAT and not np.isfinite(data).all():
        raise VerifyError(f"constant %{tensor.name} has elements that are NaN or infinite")
    if isinstance(tensor.type, FixedPoint) and data.size:
        least, greatest = int(data.min()), int(data.max())
        if least < tensor.type.qmin or greatest > tensor.type.qmax:
            raise VerifyError(f"constant %{tensor.name}: elements [{least}, {greatest}] leave the format {tensor.type}")
        if tensor.interval is not None and not (least in tensor.interval and greatest in tensor.interval):
            raise VerifyError(
                f"constant %{tensor.name}: elements [{least}, {greatest}] leave the interval {tensor.interval}"
            )


def _check_node(graph: Graph, node: Node, op: OpDef) -> None:
    inputs = graph.input_tensors(node)
    op.verify(node, inputs)
    outputs = [graph.tensor(name) if name else None for name in node.outputs]
    quantised = any(isinstance(t.type, FixedPoint) for t in (*inputs, *outputs) if t is not None)
    if quantised and not op.moves:
        return
    signatures = op.infer(node, inputs)
    if any(node.outputs[len(signatures) :]):
        raise VerifyError(f"node {node} has {len(node.outputs)} outputs, but {node.op_type} makes {len(signatures)}")
    for tensor, (shape, dtype) in zip(outputs, signatures, strict=False):
        if tensor is not None and (tensor.shape != shape or not (quantised or tensor.type is dtype)):
            raise VerifyError(
                f"node {node}: output %{tensor.name} is {type_text(tensor.type, tensor.shape)}, "
                f"but {node.op_type} gives {type_text(dtype, shape)}"
            )


def _require(graph: Graph, name: str, role: str) -> None:
    if name not in graph.tensors:
        raise VerifyError(f"{role} %{name} does not exist")


def _has_value(graph: Graph, name: str) -> bool:
    return name in graph.inputs or graph.tensor(name).is_constant or graph.producer(name) is not None
