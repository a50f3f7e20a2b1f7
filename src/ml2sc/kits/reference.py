"""A second implementation for kits to compare with: the quantised graph, one number at a time, in plain Solidity.

It shares nothing with the contract: no lanes, no words of weights, no assembly. Constants are read from a file, eight
bytes each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ml2sc.ir import wad
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.ops.base import op_of
from ml2sc.ir.types import Array, FixedPoint

_BYTES = 8


class _UnsupportedError(Exception):
    """An operator that has no plain form here."""


@dataclass
class Reference:
    """The plain form of a graph.

    Attributes:
        lines: Statements of a function that has `packed` and `constants` and returns `y` and `decision`.
        constants: What `constants` holds.
    """

    lines: list[str] = field(default_factory=list)
    constants: bytearray = field(default_factory=bytearray)

    def constant(self, values: Array) -> int:
        """Keep integers; return the number of the first among all.

        Raises:
            _UnsupportedError: one needs more than eight bytes.
        """
        first = len(self.constants) // _BYTES
        try:
            self.constants += b"".join(int(v).to_bytes(_BYTES, "big", signed=True) for v in values.ravel())
        except OverflowError:
            raise _UnsupportedError from None
        return first


def reference_of(graph: Graph) -> Reference | None:
    """Return the plain form of a quantised graph; None if an operator has none here (docs/kits.md)."""
    result = Reference()
    try:
        _inputs(graph, result)
        for node in graph:
            _node(graph, node, result)
    except _UnsupportedError:
        return None
    _outputs(graph, result)
    return result


def _name(tensor: str, graph: Graph) -> str:
    return f"v{list(graph.tensors).index(tensor)}"


def _declare(tensor: str, graph: Graph, expression: str) -> str:
    return f"int256[] memory {_name(tensor, graph)} = {expression};"


def _inputs(graph: Graph, result: Reference) -> None:
    width, first = wad.element_width(graph), 0
    for name in graph.inputs:
        tensor = graph.tensor(name)
        assert tensor.interval is not None
        signed = str(tensor.format.signed).lower()
        read = (
            f"_elements(packed, {first}, {tensor.size}, {width}, {signed}, {tensor.interval.lo}, {tensor.interval.hi})"
        )
        result.lines.append(_declare(name, graph, read))
        first += tensor.size * width


def _node(graph: Graph, node: Node, result: Reference) -> None:
    """Add a node's statement.

    Raises:
        _UnsupportedError: it has none.
    """
    source, target = graph.tensor(node.inputs[0]), graph.tensor(node.outputs[0])
    x = _name(source.name, graph)
    if node.op_type in {"Gemm", "FusedGemm"}:
        w = graph.tensor(node.inputs[1]).data
        assert w is not None
        bias = graph.tensor(node.inputs[2]).data if len(node.inputs) > 2 and node.inputs[2] else None
        spread = np.zeros(target.size, dtype=np.int64) if bias is None else np.broadcast_to(bias, target.shape)
        relu = str(node.attrs.get("activation") == "Relu").lower()
        if node.attrs.get("activation") not in {None, "Relu"} or not isinstance(source.type, FixedPoint):
            raise _UnsupportedError
        places = f"{result.constant(w)}, {result.constant(spread)}, {w.shape[0]}, {w.shape[1]}"
        expression = f"_linear({x}, {source.format.zero_point}, constants, {places}, {relu})"
    elif node.op_type == "Requantize":
        form = target.format
        numbers = [source.format.zero_point, node.attrs["multiplier"], node.attrs["shift"], form.zero_point]
        expression = f"_requantized({x}, {', '.join(map(str, [*numbers, form.qmin, form.qmax]))})"
    elif node.op_type == "ArgMax":
        expression = f"_argMax({x})"
    elif op_of(node).moves and len(node.outputs) == 1 and source.data is None:
        tensors = graph.input_tensors(node)
        values = [None if tensor is None else tensor.data for tensor in tensors]
        if any(tensor is not None and tensor.data is None for tensor in tensors[1:]):
            raise _UnsupportedError
        values[0] = np.arange(source.size).reshape(source.shape)
        (moved,) = op_of(node).evaluate_exact(node, tensors, values, [target])
        expression = f"_moved({x}, constants, {result.constant(np.asarray(moved))}, {target.size})"
    else:
        raise _UnsupportedError
    result.lines.append(_declare(target.name, graph, expression))


def _outputs(graph: Graph, result: Reference) -> None:
    total = sum(graph.tensor(name).size for name in graph.outputs)
    result.lines += [f"y = new int256[]({total});"]
    first = 0
    for name in graph.outputs:
        tensor, rescale = graph.tensor(name), wad.output_rescale(graph.tensor(name))
        numbers: list[Any] = [tensor.format.zero_point, rescale.multiplier, rescale.shift, rescale.lo, rescale.hi]
        result.lines.append(f"_rescale({_name(name, graph)}, y, {first}, {', '.join(map(str, numbers))});")
        first += tensor.size
    if graph.decision is not None:
        result.lines.append(f"decision = uint256({_name(graph.decision, graph)}[0]);")
