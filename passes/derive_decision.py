"""Pass `derive_decision`: find what `classify` returns.

1. The graph has an integer or a bool output (a label): it is the decision and no longer an output. So is one float that
   is no more than a label cast to float. If it is the only output, the scores its ArgMax reads (or what its
   GreaterOrEqual compares) become one, so that `predict` has something to return. More than one such output, or one of
   several elements, cannot be compiled. An ArgMax of a Softmax or LogSoftmax along the same axis (or of a
   Sigmoid) takes its index from their input instead, which has the same order.
2. Otherwise the only output is one vector of M >= 2 floats: the decision is ArgMax of the vector, or rather of what it
   was before Softmax, LogSoftmax, Sigmoid, an L1 Normalizer of probabilities and reshapings, which keep the order.
3. Otherwise the only output is one float, made by Sigmoid: the decision is 1 if Sigmoid's input is >= 0, else 0. If the
   model itself rounds Sigmoid's result to a format, it is 1 if what results is >= 1/2: the rounding may decide.
4. Any other graph makes no decision.
5. In 1 and 2, scores (1 − Sigmoid(z), Sigmoid(z)) for one z (scikit-learn's two classes) become (−z, z).

Scores before Softmax are exact, so decisions are; nothing changes for a graph that has a decision.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from ml2sc.errors import UnsupportedModelError
from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.ops.base import attr_int
from ml2sc.ir.ops.trees import EXCEEDS
from ml2sc.ir.printer import tensor_name, type_text
from ml2sc.ir.shapes import add_inferred
from ml2sc.ir.types import Array, DType

from .gemm import RESHAPING
from .manager import Pass, register_pass

_INT64 = 7
"""ONNX's TensorProto.INT64."""


@register_pass
@dataclass(frozen=True)
class DeriveDecision(Pass):
    """Sets the graph's decision."""

    name: ClassVar[str] = "derive_decision"
    after: ClassVar[tuple[str, ...]] = ("fold_constants", "eliminate_identity")

    def run(self, graph: Graph) -> bool:
        """Rewrite `graph` and return whether anything changed.

        Raises:
            UnsupportedModelError: there are several labels.
        """
        if graph.decision is not None:
            return False
        labels = {name: label for name in graph.outputs if (label := _label_of(graph, name)) is not None}
        if labels:
            _use_label(graph, labels)
        elif len(graph.outputs) == 1 and graph.tensor(graph.outputs[0]).type is DType.FLOAT:
            output = graph.tensor(graph.outputs[0])
            if output.is_constant:
                return False  # quantising refuses the model
            if output.size >= 2 and max(output.shape) == output.size:
                graph.decision = _greatest(graph, _two_classes(graph, _strip(graph, output.name, _keeps_order)))
            elif output.size == 1:
                graph.decision = _at_least_half(graph, output.name)
        if graph.decision is None:
            return False
        graph.prune()
        return True


def keep_scores(graph: Graph) -> None:
    """Where a label is the only output, make the scores it is chosen by an output, too.

    To be called before any pass: only an output's name is sure to mean the same tensor after them.
    """
    labels = [_label_of(graph, name) for name in graph.outputs]
    decider = _decider(graph, labels[0]) if len(labels) == 1 and labels[0] is not None else None
    if decider is not None:
        graph.outputs.append(_compared(graph, decider))


def _label_of(graph: Graph, output: str) -> str | None:
    """Return the label that an output is, or that one float is cast from; None if the output is real numbers."""
    tensor = graph.tensor(output)
    if tensor.type is not DType.FLOAT:
        return output
    source = graph.tensor(_strip(graph, output, lambda _, node: node.op_type in {"Cast", *RESHAPING}))
    return None if tensor.size != 1 or source.type is DType.FLOAT or source.is_constant else source.name


def _decider(graph: Graph, label: str) -> Node | None:
    """Return the ArgMax or GreaterOrEqual that a label comes from, the nearest one."""
    todo = deque([label])
    while todo:
        maker = graph.producer(todo.popleft())
        if maker is not None and maker.op_type in {"ArgMax", "GreaterOrEqual", EXCEEDS}:
            return maker
        todo.extend(() if maker is None else filter(None, maker.inputs))
    return None


def _compared(graph: Graph, decider: Node) -> str:
    """Return the tensor of the scores that a label is chosen by."""
    return _scores(graph, decider) if decider.op_type == "ArgMax" else decider.inputs[0]


def _scores(graph: Graph, argmax: Node) -> str:
    """Return the tensor furthest up whose elements have the order of those that an ArgMax compares."""
    axis = attr_int(argmax, "axis", 0) % len(graph.tensor(argmax.inputs[0]).shape)
    return _strip(graph, argmax.inputs[0], partial(_keeps_order_along, axis=axis))


def _use_label(graph: Graph, labels: Mapping[str, str]) -> None:
    """Make a label the decision.

    Args:
        graph: Changed in place.
        labels: By output: the label it is, or is cast from.

    Raises:
        UnsupportedModelError: there are several, or it has several elements.
    """
    if len(labels) > 1 or any(graph.tensor(name).size != 1 for name in labels):
        shown = (f"{tensor_name(n)}: {type_text(graph.tensor(n).type, graph.tensor(n).shape)}" for n in labels)
        raise UnsupportedModelError(
            "a model can have one integer output, or one bool, of one element (its label)",
            tensor=", ".join(shown),
            hint="leave the others out when exporting, or cast them to float",
        )
    ((output, label),) = labels.items()
    graph.decision = label
    graph.outputs = [name for name in graph.outputs if name != output]
    if not graph.outputs and (decider := _decider(graph, label)) is not None:
        graph.outputs = [_compared(graph, decider)]
    for node in graph:
        if node.op_type == "ArgMax":
            graph.replace_node(node, inputs=(_two_classes(graph, _scores(graph, node)),))


def _two_classes(graph: Graph, scores: str) -> str:
    """Return (−z, z), which has the order of scores (1 − Sigmoid(z), Sigmoid(z)); the scores if they are not that."""
    concat = graph.producer(scores)
    if concat is None or concat.op_type != "Concat" or len(concat.inputs) != 2:
        return scores
    first, second = (graph.producer(name) for name in concat.inputs)
    if first is None or first.op_type != "Sub" or second is None or second.op_type != "Sigmoid":
        return scores
    one = graph.tensor(first.inputs[0])
    if (
        one.data is None
        or not (one.data == 1).all()
        or first.inputs[1] != second.output
        or graph.tensor(scores).size != 2
    ):
        return scores
    z, negative = second.inputs[0], graph.fresh("decision.negative")
    add_inferred(graph, "Neg", (z,), (negative,), origin=first.origin)
    both = (graph.fresh("decision.scores"),)
    return add_inferred(graph, "Concat", (negative, z), both, concat.attrs, origin=concat.origin).output


def _greatest(graph: Graph, scores: str) -> str:
    size = graph.tensor(scores).size
    if graph.tensor(scores).shape[-1:] != (size,):
        shape = _constant(graph, "decision.shape", np.array([size], dtype=np.int64), DType.INT64)
        scores = add_inferred(graph, "Reshape", (scores, shape), (graph.fresh("decision.scores"),)).output
    attrs = {"axis": -1, "keepdims": 0}
    return add_inferred(graph, "ArgMax", (scores,), (graph.fresh("decision"),), attrs, name="argmax").output


def _at_least_half(graph: Graph, output: str) -> str | None:
    """Return the decision of a model with one output, or None if no Sigmoid makes it; Sigmoid(x) >= 1/2 is x >= 0."""
    sigmoid = graph.producer(_strip(graph, output, lambda _, node: node.op_type in RESHAPING))
    rounded = sigmoid if sigmoid is not None and sigmoid.op_type == "FakeQuantize" else None
    if rounded is not None:
        sigmoid = graph.producer(_strip(graph, rounded.inputs[0], lambda _, node: node.op_type in RESHAPING))
    if sigmoid is None or sigmoid.op_type != "Sigmoid":
        return None
    score = sigmoid.inputs[0]
    if rounded is not None:
        half = _constant(graph, "decision.half", np.full((), 0.5), DType.FLOAT)
        score = add_inferred(graph, "Sub", (rounded.output, half), (graph.fresh("decision.score"),)).output
    zero = _constant(graph, "decision.zero", np.zeros(()), DType.FLOAT)
    positive = graph.fresh("decision.positive")
    add_inferred(graph, "GreaterOrEqual", (score, zero), (positive,))
    return add_inferred(graph, "Cast", (positive,), (graph.fresh("decision"),), {"to": _INT64}).output


def _strip(graph: Graph, tensor: str, skips: Callable[[Graph, Node], bool]) -> str:
    """Walk up from a tensor over the nodes that may be skipped; return what the last of them takes."""
    while (producer := graph.producer(tensor)) is not None and skips(graph, producer):
        tensor = producer.inputs[0]
    return tensor


def _keeps_order(graph: Graph, node: Node) -> bool:
    """Whether the elements of a node's output, one vector, are ordered as those of its input."""
    x = graph.tensor(node.inputs[0])
    if node.op_type in RESHAPING:
        return True
    if not x.shape or max(x.shape) != x.size:
        return False
    return _keeps_order_along(graph, node, x.shape.index(x.size))


def _keeps_order_along(graph: Graph, node: Node, axis: int) -> bool:
    """Whether a node keeps the order of the elements along `axis`."""
    rank = len(graph.tensor(node.inputs[0]).shape) if node.inputs else 0
    match node.op_type:
        case "Sigmoid":
            return True
        case "Softmax" | "LogSoftmax":
            return attr_int(node, "axis", -1) % rank == axis
        case "Normalizer":
            # division by the sum; it is positive only where all elements are
            source = graph.producer(node.inputs[0])
            return axis == rank - 1 and source is not None and source.op_type in {"Softmax", "Sigmoid"}
        case _:
            return False


def _constant(graph: Graph, name: str, array: Array, type_: DType) -> str:
    return graph.add_tensor(Tensor(graph.fresh(name), array.shape, type_, array)).name
