"""Pass `fuse_activation`: activations that exporters write out in simpler operators become one operator again.

1. `x · Sigmoid(x)` becomes Swish, `x · HardSigmoid(x)` with alpha 1/6 and beta 1/2 HardSwish,
   `x · Tanh(Softplus(x))` Mish, `x · Reciprocal(1 + |x|)` Softsign.
2. `x · (1 + Erf(k·x)) / 2` with k = 1/√2 becomes Gelu, and so does `x · (1 + Tanh(k·x + c·k·x³)) / 2` with k = √(2/π)
   and c = 0.044715. Files hold these constants as float32: Gelu keeps theirs.
3. Factors and divisors may come in any order and nesting; a constant that is left over multiplies the result.

Operators that other ones still use stay. Together they are cheaper and, above all, closer: bounds of `x` and of
`Sigmoid(x)` apart do not show that large negative x give next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ml2sc.ir.graph import AttrValue, Graph, Node, Tensor
from ml2sc.ir.ops.base import attr_float
from ml2sc.ir.shapes import add_inferred
from ml2sc.ir.types import DType

from .manager import Pass, register_pass

_CLOSE = 1e-6
"""How far a constant of a file, in float32, may be from the one that it stands for."""
_DEGREE = 3


@register_pass
@dataclass(frozen=True)
class FuseActivation(Pass):
    """Recognises activations."""

    name: ClassVar[str] = "fuse_activation"
    after: ClassVar[tuple[str, ...]] = ("fold_constants",)

    def run(self, graph: Graph) -> bool:
        changed = False
        for name in [node.name for node in graph][::-1]:  # a whole product before its parts
            node = graph.node(name) if graph.has_node(name) else None
            if node is not None and node.op_type in {"Mul", "Div"} and _fuse_product(graph, node):
                graph.prune()
                changed = True
        return changed


def _scalar(graph: Graph, name: str) -> float | None:
    """Return a constant's value if it has just one element."""
    data = graph.tensor(name).data
    return float(data.ravel()[0]) if data is not None and data.size == 1 else None


def _made_by(graph: Graph, name: str, op_type: str) -> Node | None:
    node = graph.producer(name)
    return node if node is not None and node.op_type == op_type else None


def _factors(graph: Graph, name: str) -> tuple[float, list[str]]:
    """Return the constant factor of a product and the tensors that are multiplied."""
    node = graph.producer(name)
    if node is not None and node.op_type in {"Mul", "Div"}:
        constants = [_scalar(graph, i) for i in node.inputs]
        if node.op_type == "Div":
            if constants[1]:
                factor, rest = _factors(graph, node.inputs[0])
                return factor / constants[1], rest
        else:
            parts = [
                (c, []) if c is not None else _factors(graph, i) for i, c in zip(node.inputs, constants, strict=True)
            ]
            return parts[0][0] * parts[1][0], [*parts[0][1], *parts[1][1]]
    return 1.0, [name]


def _polynomial(graph: Graph, name: str, x: str) -> tuple[float, ...] | None:
    """Return the coefficients, up to that of x³, of a tensor that is a polynomial in `x`; None if it is not."""
    if name == x:
        return 0.0, 1.0, 0.0, 0.0
    if (constant := _scalar(graph, name)) is not None:
        return constant, 0.0, 0.0, 0.0
    node = graph.producer(name)
    if node is None or node.op_type not in {"Add", "Sub", "Mul", "Div", "Pow"}:
        return None
    a, b = (_polynomial(graph, i, x) for i in node.inputs)
    if a is None or b is None:
        return None
    match node.op_type:
        case "Add":
            return tuple(u + v for u, v in zip(a, b, strict=True))
        case "Sub":
            return tuple(u - v for u, v in zip(a, b, strict=True))
        case "Mul":
            return _product(a, b)
        case "Div":
            return tuple(u / b[0] for u in a) if b[0] and not any(b[1:]) else None
    if any(b[1:]) or b[0] not in (1.0, 2.0, 3.0):
        return None
    result: tuple[float, ...] | None = a
    for _ in range(int(b[0]) - 1):
        result = result and _product(result, a)
    return result


def _product(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...] | None:
    full = np.convolve(a, b)
    return None if np.any(full[_DEGREE + 1 :]) else tuple(full[: _DEGREE + 1].tolist())


def _plus_one(graph: Graph, name: str) -> str | None:
    """Return v of v + 1."""
    node = _made_by(graph, name, "Add")
    if node is None:
        return None
    constants = [_scalar(graph, i) for i in node.inputs]
    return next((node.inputs[1 - slot] for slot, c in enumerate(constants) if c == 1.0), None)


def _near(value: float, wanted: float) -> bool:
    return math.isclose(value, wanted, rel_tol=_CLOSE)


def _gate(graph: Graph, gate: str, x: str) -> tuple[str, Mapping[str, AttrValue], float] | None:
    """Return the activation that x · gate is, its attributes, and a constant factor of it; None if it is none."""
    node = graph.producer(gate)
    if node is None:
        return None
    match node.op_type:
        case "Sigmoid" if node.inputs[0] == x:
            return "Swish", {}, 1.0
        case "HardSigmoid" if node.inputs[0] == x:
            alpha, beta = attr_float(node, "alpha", 0.2), attr_float(node, "beta", 0.5)
            return ("HardSwish", {"alpha": alpha, "beta": beta}, 1.0) if _near(alpha, 1 / 6) and beta == 0.5 else None
        case "Tanh" if (inner := _made_by(graph, node.inputs[0], "Softplus")) and inner.inputs[0] == x:
            return ("Mish", {}, 1.0) if "threshold" not in inner.attrs else None
        case "Reciprocal":
            absolute = _made_by(graph, _plus_one(graph, node.inputs[0]) or "", "Abs")
            return ("Softsign", {}, 1.0) if absolute is not None and absolute.inputs[0] == x else None
        case "Add":
            return _gelu(graph, _plus_one(graph, gate) or "", x)
    return None


def _gelu(graph: Graph, inner: str, x: str) -> tuple[str, Mapping[str, AttrValue], float] | None:
    node = graph.producer(inner)
    found = _polynomial(graph, node.inputs[0], x) if node is not None and node.op_type in {"Erf", "Tanh"} else None
    if node is None or found is None or found[0] or found[2]:
        return None
    scale, cubic = found[1], found[3]
    if node.op_type == "Erf" and not cubic and _near(scale, math.sqrt(0.5)):
        return "Gelu", {"approximate": "none", "scale": scale}, 2.0
    if node.op_type == "Tanh" and _near(scale, math.sqrt(2 / math.pi)) and _near(cubic / scale, 0.044715):
        return "Gelu", {"approximate": "tanh", "scale": scale, "cubic": cubic / scale}, 2.0
    return None


def _fuse_product(graph: Graph, node: Node) -> bool:
    factor, tensors = _factors(graph, node.output)
    if len(tensors) != 2:
        return False
    for x, gate in (tensors, tensors[::-1]):
        found = _gate(graph, gate, x)
        if found is not None and graph.tensor(x).shape == graph.tensor(node.output).shape:
            op_type, attrs, times = found
            _replace(graph, node, op_type, x, attrs, factor * times)
            return True
    return False


def _replace(graph: Graph, node: Node, op_type: str, x: str, attrs: Mapping[str, AttrValue], factor: float) -> None:
    """Let a node's output be factor · op_type(x)."""
    if factor == 1.0:
        graph.replace_node(node, op_type=op_type, inputs=(x,), attrs=dict(attrs))
        return
    made = add_inferred(graph, op_type, (x,), (graph.fresh(f"{node.output}.activation"),), attrs, origin=node.origin)
    data = np.array(factor)
    scale = graph.add_tensor(Tensor(graph.fresh(f"{node.output}.factor"), data.shape, DType.FLOAT, data))
    graph.replace_node(node, op_type="Mul", inputs=(made.output, scale.name), attrs={})
