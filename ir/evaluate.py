"""The float model: every tensor in float64, for one sample or for several at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ml2sc.errors import ShapeError

from .graph import Graph, Node
from .ops import op_of
from .types import NUMPY_TYPES, Array, DType

Each = Array | list[Array]
"""A tensor's values for each of several samples: along a first axis, or one by one where they do not lie row by row in
memory. How they lie decides in which order numpy adds them up."""


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
    values = {t.name: t.data for t in graph.tensors.values() if t.data is not None}
    values.update((name, _given(graph, name, inputs)) for name in graph.inputs)
    for node in graph:
        arrays = op_of(node).evaluate(node, [values[name] if name else None for name in node.inputs])
        values.update(_typed(graph, node, arrays))
    return values


def evaluate_floats(graph: Graph, samples: Sequence[Mapping[str, Array]]) -> dict[str, Each]:
    """Run a float graph on several samples at once: to the last bit what `evaluate_float` gives for each.

    Args:
        graph: A graph that is not quantised.
        samples: For each, one at least, the real values of every input.

    Returns:
        Every tensor by name that is not a constant of the graph's, as of `evaluate_float`.

    Raises:
        ShapeError: an input is missing or has another shape than its tensor.
    """
    fixed = {t.name: t.data for t in graph.tensors.values() if t.data is not None}
    found: dict[str, Each] = {
        name: _joined([_given(graph, name, sample) for sample in samples]) for name in graph.inputs
    }
    alike = dict[str, Array]()
    for node in graph:
        if not found.keys().isdisjoint(node.inputs):
            found.update(_each(graph, node, fixed, found, len(samples)))
            continue
        arrays = op_of(node).evaluate(node, [fixed[name] if name else None for name in node.inputs])
        alike.update(_typed(graph, node, arrays))
        fixed |= alike
    return found | {name: [array] * len(samples) for name, array in alike.items()}


def one_of(values: Each, index: int) -> Array:
    """Return a tensor's values for one of the samples."""
    return values[index] if isinstance(values, list) else values[index, ...]


def _given(graph: Graph, name: str, inputs: Mapping[str, Array]) -> Array:
    tensor = graph.tensor(name)
    if name not in inputs or np.shape(inputs[name]) != tensor.shape:
        found = list(np.shape(inputs[name])) if name in inputs else "missing"
        raise ShapeError(f"an input is {found}, not {list(tensor.shape)}", tensor=f"%{name}")
    real = np.asarray(inputs[name], dtype=np.float64)
    return graph.scalings[name].normalized(real) if name in graph.scalings else real


def _each(
    graph: Graph, node: Node, fixed: Mapping[str, Array], found: Mapping[str, Each], count: int
) -> dict[str, Each]:
    """Return what a node gives for each sample, by tensor: at once if the operator can, or one after the other.

    Args:
        graph: The graph.
        node: A node, of whose inputs some depend on the sample.
        fixed: The tensors that do not.
        found: Those that do.
        count: Samples.
    """
    op, varying = op_of(node), [name in found for name in node.inputs]
    given = [None if not name else found.get(name, fixed.get(name)) for name in node.inputs]
    arrays = [x for x in given if not isinstance(x, list)]
    together = op.evaluate_together(node, arrays, varying) if len(arrays) == len(given) else None
    if together is not None:
        return dict(_typed(graph, node, together))
    alone = list[dict[str, Array]]()
    for index in range(count):
        one = [one_of(found[name], index) if name in found else fixed.get(name) for name in node.inputs]
        alone.append(_typed(graph, node, op.evaluate(node, one)))
    return {name: _joined([values[name] for values in alone]) for name in alone[0]}


def _joined(arrays: list[Array]) -> Each:
    """Return arrays of one shape as one, if each lies row by row in memory as its part of that does."""
    return np.stack(arrays) if all(array.flags.c_contiguous for array in arrays) else arrays


def _typed(graph: Graph, node: Node, arrays: Sequence[Array]) -> dict[str, Array]:
    """Return a node's outputs by name, each of its tensor's type."""
    result = dict[str, Array]()
    for name, array in zip(node.outputs, arrays, strict=False):
        type_ = graph.tensor(name).type if name else None
        if isinstance(type_, DType):
            result[name] = array.astype(NUMPY_TYPES[type_], copy=False)
    return result
