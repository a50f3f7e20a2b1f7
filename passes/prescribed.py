"""What a model that comes quantised says about number formats, and what it leaves open."""

from __future__ import annotations

from ml2sc.errors import UsageError
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.ops.base import attr_int, op_of
from ml2sc.ir.ops.prequantized import prescribed_format

from .precision import AUTO, Integer, parse_precision

SCALED = frozenset({"ScaledConv", "ScaledGemm"})
"""Layers whose weights the model has rounded."""


def prescription(graph: Graph, name: str) -> Node | None:
    """Return the FakeQuantize whose format every use of a float tensor asks for, after Relu and movements if need be.

    Relu and movements commute with rounding to a format, so the tensor may be brought to it at once.
    """
    if name in graph.outputs or name == graph.decision:
        return None
    found: list[Node] = []
    for use in graph.uses(name):
        node = use.node
        if op_of(node).keeps_format or (op_of(node).moves and len(node.outputs) == 1):
            follower = prescription(graph, node.output)
        else:
            follower = node if node.op_type == "FakeQuantize" else None
        if follower is None:
            return None
        found.append(follower)
    alike = {prescribed_format(node) for node in found}
    return found[0] if len(alike) == 1 else None


def input_range(graph: Graph, name: str) -> tuple[float, float] | None:
    """Return the real numbers that the format prescribed for an input can hold, and a step more on either side.

    Calibration data often reach half a step beyond; there the contract saturates as the model does. An input of
    integers has no such step. None: no format is prescribed.
    """
    quantized = prescription(graph, name)
    if quantized is None:
        return None
    form, beyond = prescribed_format(quantized), 0 if is_whole(graph, name) else 1
    lo, hi = (float((q - form.zero_point) * form.scale) for q in (form.qmin - beyond, form.qmax + beyond))
    return lo, hi


def is_whole(graph: Graph, name: str) -> bool:
    """Whether an input of a float graph takes whole numbers only: the model has it as integers."""
    quantized = prescription(graph, name)
    return quantized is not None and attr_int(quantized, "whole", 0) == 1


def is_integer(graph: Graph, name: str) -> bool:
    """Whether the model has an input as integers of any size: its range decides about the format."""
    uses = [use.node for use in graph.uses(name)]
    return bool(uses) and all(node.op_type == "Trunc" and attr_int(node, "whole", 0) == 1 for node in uses)


def is_prequantized(graph: Graph) -> bool:
    """Whether some of a float graph's formats are prescribed."""
    return any(node.op_type in {"FakeQuantize", *SCALED} for node in graph)


def is_complete(graph: Graph) -> bool:
    """Whether no format of a layer is left to choose: all weights are given, and all inputs of layers."""
    layers = [node for node in graph if op_of(node).linear or node.op_type in SCALED]
    return not any(op_of(node).linear or not on_grid(graph, node.inputs[0]) for node in layers)


def on_grid(graph: Graph, name: str) -> bool:
    """Whether a float tensor's quantised form is rounded as the model says, so that doing it again changes nothing."""
    maker = graph.producer(name)
    if maker is not None and maker.op_type == "FakeQuantize":
        return True
    if maker is None or maker.op_type in SCALED:
        return prescription(graph, name) is not None
    return (op_of(maker).moves or op_of(maker).keeps_format or maker.op_type == "Clip") and all(
        graph.tensor(i).is_constant or on_grid(graph, i) for i in maker.inputs if i
    )


def model_precision(graph: Graph) -> Integer:
    """Return the precision that a quantised model's formats amount to: its widest weights and activations."""
    weights = [attr_int(node, "weight_bits", 8) for node in graph if node.op_type in SCALED]
    activations = [prescribed_format(node).bits for node in graph if node.op_type == "FakeQuantize"]
    return Integer(max(weights, default=8), max(activations, default=8))


def precision_beside(graph: Graph, asked: str) -> str | None:
    """Return the precision for what a quantised model leaves in float; None if it must be chosen.

    Args:
        graph: A float graph with prescribed formats.
        asked: What `--precision` says.

    Raises:
        UsageError: a precision is asked for that the model contradicts.
    """
    own = model_precision(graph)
    if is_complete(graph):
        if asked != AUTO and parse_precision(asked) != own:
            raise UsageError(
                f"--precision {asked} contradicts the model: it is quantised already, as {own}",
                hint="leave --precision out, or compile the model as it was before it was quantised",
            )
        return str(own)
    if asked == AUTO and any(node.op_type == "FakeQuantize" and "whole" not in node.attrs for node in graph):
        return str(own)
    return None if asked == AUTO else asked
