"""Shapes, element types and constants, found node by node.

One sweep does all three, since each needs the others: a Reshape's shape may be a constant that a Concat of dimensions
makes. The importer adds its nodes through it, and passes run it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ml2sc.errors import VerifyError

from .graph import AttrValue, Graph, Node, Tensor
from .limits import check_shape
from .ops.base import Inputs, Signature, op_of
from .ops.folding import FoldingOp
from .types import NUMPY_TYPES, Array, FixedPoint


def add_inferred(
    graph: Graph,
    op_type: str,
    inputs: Iterable[str],
    outputs: Iterable[str],
    attrs: Mapping[str, AttrValue] | None = None,
    *,
    name: str | None = None,
    origin: Iterable[str] = (),
) -> Node:
    """Add an operator together with its output tensors, whose shape, type and (where constant) elements are found here.

    Args:
        graph: Where to.
        op_type: The operator.
        inputs: Tensors of the graph by slot; '' where one is left out.
        outputs: Names of tensors that do not exist yet by slot; '' where one is left out.
        attrs: ONNX's attributes.
        name: The node's name; one is made up if it is None.
        origin: ONNX nodes it comes from.

    Raises:
        Ml2scError: the operator does not fit its inputs.
    """
    node = Node(
        name=name or op_type.lower(),
        op_type=op_type,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        attrs=dict(attrs or {}),
        origin=tuple(dict.fromkeys(origin)),
    )
    operands = graph.input_tensors(node)
    signatures = _infer(node, operands)
    arrays = _fold(node, operands, signatures)
    for slot, output in enumerate(node.outputs):
        if output:
            data = arrays[slot] if arrays is not None else None
            graph.add_tensor(Tensor(output, signatures[slot].shape, signatures[slot].dtype, data))
    return graph.add(node.op_type, node.inputs, node.outputs, node.attrs, name=name, origin=node.origin)


def infer_shapes(graph: Graph, *, fold: bool = False) -> bool:
    """Recompute shape and type of every tensor a node makes; return whether anything changed.

    Quantised parts of the graph are left alone.

    Args:
        graph: The graph.
        fold: Also turn what does not depend on the model's input into constants, and remove the nodes that made it.

    Raises:
        Ml2scError: an operator does not fit its inputs.
    """
    changed = False
    known: dict[str, Array] = {}
    for node in graph:
        operands = [
            t if t is None or t.name not in known else replace(t, data=known[t.name]) for t in graph.input_tensors(node)
        ]
        outputs = [graph.tensor(name) if name else None for name in node.outputs]
        if any(t is not None and isinstance(t.type, FixedPoint) for t in (*operands, *outputs)):
            continue
        signatures = _infer(node, operands)
        arrays = _fold(node, operands, signatures)
        for slot, tensor in enumerate(outputs):
            if tensor is None:
                continue
            if arrays is not None:
                known[tensor.name] = arrays[slot]
            changed |= (tensor.shape, tensor.type) != signatures[slot]
            tensor.shape, tensor.type = signatures[slot]
    if fold:
        for name, array in known.items():
            graph.tensor(name).data = array
        changed |= remove_constant_nodes(graph)
    return changed


def remove_constant_nodes(graph: Graph) -> bool:
    """Remove every node whose outputs are all known, and what no output needs; return whether anything was removed."""
    changed = False
    for node in graph:
        if all(graph.tensor(output).is_constant for output in node.outputs if output):
            graph.remove(node)
            changed = True
    return graph.prune() or changed


def _infer(node: Node, operands: Inputs) -> list[Signature]:
    op = op_of(node)
    op.verify(node, operands)
    signatures = op.infer(node, operands)
    for signature in signatures:
        check_shape(signature.shape, node=str(node))
    if len(signatures) < len(node.outputs) and any(node.outputs[len(signatures) :]):
        raise VerifyError(f"{node} has {len(node.outputs)} outputs, but {node.op_type} makes {len(signatures)}")
    return signatures


def _fold(node: Node, operands: Inputs, signatures: Sequence[Signature]) -> list[Array] | None:
    """Return the outputs' elements, of their signatures' types, if they do not depend on the input, else None."""
    op = op_of(node)
    if isinstance(op, FoldingOp) and op.shape_only:
        arrays = op.evaluate_shape(node, operands)
    elif any(tensor is not None and not tensor.is_constant for tensor in operands):
        return None
    else:
        arrays = op.evaluate(node, [None if tensor is None else tensor.data for tensor in operands])
    return [a.astype(NUMPY_TYPES[s.dtype], copy=False) for a, s in zip(arrays, signatures, strict=True)]
