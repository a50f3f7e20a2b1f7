"""The float model: every tensor in float64."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ml2sc.errors import ShapeError

from .graph import Graph
from .ops import op_of
from .types import NUMPY_TYPES, Array, DType


def evaluate_float(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a float graph in float64 (the operators' reference semantics).

    Args:
        graph: A graph that is not quantised.
        inputs: Real values of every input, each in its tensor's shape.

    Returns:
        Every tensor of the graph by name, constants included, each of its type; labels are int64. An input whose
        elements have ranges of their own is what the graph computes with (`Scaling`).

    Raises:
        ShapeError: an input is missing or has another shape than its tensor.
    """
    values: dict[str, Array] = {t.name: t.data for t in graph.tensors.values() if t.data is not None}
    for name in graph.inputs:
        tensor = graph.tensor(name)
        if name not in inputs or np.shape(inputs[name]) != tensor.shape:
            found = list(np.shape(inputs[name])) if name in inputs else "missing"
            raise ShapeError(f"an input is {found}, not {list(tensor.shape)}", tensor=f"%{name}")
        real = np.asarray(inputs[name], dtype=np.float64)
        values[name] = graph.scalings[name].normalized(real) if name in graph.scalings else real
    for node in graph:
        arrays = op_of(node).evaluate(node, [values[name] if name else None for name in node.inputs])
        for name, array in zip(node.outputs, arrays, strict=False):
            type_ = graph.tensor(name).type if name else None
            if isinstance(type_, DType):
                values[name] = array.astype(NUMPY_TYPES[type_], copy=False)
    return values
