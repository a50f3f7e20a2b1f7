"""Operators that move elements: nothing is emitted, only where elements are is noted."""

from __future__ import annotations

import numpy as np

from ml2sc.ir.graph import Node
from ml2sc.ir.ops.base import op_of

from .context import Lowering, lowering
from .values import Value


@lowering(
    "Concat",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "Cast",
)
def lower_movement(context: Lowering, node: Node) -> None:
    """Run the operator on the elements' numbers instead of their values."""
    tensors = context.graph.input_tensors(node)
    constants = {t.name for t in tensors if t is not None and t.data is not None and t.real is not None}
    for name in constants:
        context.constant(name)
    moved = [t.name for t in tensors if t is not None and t.name in context.values]
    names = list(dict.fromkeys(moved))
    sources, which, where = Value.joined([context.values[name] for name in names])
    numbers, first = {}, 0
    for name in names:
        tensor = context.graph.tensor(name)
        numbers[name] = np.arange(first, first + tensor.size).reshape(tensor.shape)
        first += tensor.size
    arguments = [None if t is None else numbers.get(t.name, t.data) for t in tensors]
    for output, elements in zip(node.outputs, op_of(node).evaluate(node, arguments), strict=False):
        if output:
            order = elements.ravel()
            context.values[output] = Value(sources, which[order], where[order])
