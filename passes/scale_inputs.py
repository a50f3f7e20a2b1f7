"""Pass `scale_inputs`: an input whose elements differ in size gets a range, and so a scale, for each of them.

1. Element i, which goes from lo_i to hi_i, becomes u_i = (x_i − lo_i) / (hi_i − lo_i). A linear layer that reads it
   takes that up in its constants: `x·W + C` is `u·(diag(hi − lo)·W) + (C + lo·W)`. It costs nothing on chain: packed
   inputs are the integers of u, and u has one scale.
2. Between input and layer there may be whatever moves elements (Flatten, Concat of several inputs, Slice, Transpose).
3. Elements that meet the same row of weights (those of a column, where the layer has several rows) share a range.
4. An input that anything else reads keeps its one range: every other operator would have to know the scales.
5. What float64 rounds on the way is in the layer's `slack`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.ops.base import attr_float, attr_int, op_of
from ml2sc.ir.ops.linear import is_folded
from ml2sc.ir.ops.operands import FOLD_ERROR
from ml2sc.ir.types import Array, DType, Scaling

from .formats import MATRICES, readers
from .gemm import GemmParts, layer_parts, set_gemm
from .manager import Pass, register_pass

_OTHER = -1
"""The number of an element that has no range of its own."""


@register_pass
@dataclass(frozen=True)
class ScaleInputs(Pass):
    """Gives elements of inputs ranges of their own.

    Attributes:
        ranges: By input, the ends of each element's range, lo < hi, in its shape. Inputs for which that cannot be done
            are left alone.
    """

    name: ClassVar[str] = "scale_inputs"
    after: ClassVar[tuple[str, ...]] = ("infer_shapes", "fold_constants", "fuse_gemm_relu", "derive_decision")
    ranges: Mapping[str, Scaling] = field(default_factory=dict, repr=False)

    def run(self, graph: Graph) -> bool:
        names = scalable(graph, self.ranges)
        if not names:
            return False
        groups = _Groups(graph, names)
        shared = groups.shared({name: self.ranges[name] for name in names})
        for node in _layers(graph, names):
            layer = graph.node(node.name)
            _take_up(graph, layer, groups.row(layer, shared.width, 1.0), groups.row(layer, shared.lo, 0.0))
        for name in names:
            graph.scalings[name] = groups.scaling(name, shared)
            graph.input_ranges[name] = (0.0, 1.0)
        graph.prune()
        return True


def scalable(graph: Graph, names: Iterable[str]) -> list[str]:
    """Return those of some inputs whose elements may have ranges of their own, in the graph's order."""
    asked = set(names)
    found = [name for name in graph.inputs if name in asked and _reaches_layers_only(graph, name)]
    while found:
        groups = _Groups(graph, found)
        mixed = [name for name in found if groups.is_mixed(name)]
        if not mixed:
            break
        found = [name for name in found if name not in mixed]
    return found


def _reaches_layers_only(graph: Graph, name: str) -> bool:
    if graph.tensor(name).type is not DType.FLOAT or not graph.tensor(name).size:
        return False
    moved, seen = [name], set[str]()
    while moved:
        tensor = moved.pop()
        if tensor in graph.outputs or tensor == graph.decision:
            return False
        for use in graph.uses(tensor):
            if op_of(use.node).moves:
                outputs = [o for o in use.node.outputs if o and o not in seen]
                seen.update(outputs)
                moved += outputs
            elif not _is_layer(graph, use.node, use.slot):
                return False
    return bool(readers(graph, name))


def _is_layer(graph: Graph, node: Node, slot: int) -> bool:
    if node.op_type == "MatMul":
        other = graph.tensor(node.inputs[1 - slot])
        matrices = len(other.shape) == 2 and len(graph.tensor(node.inputs[slot]).shape) == 2
        return other.is_constant and (matrices or (slot == 0 and len(other.shape) in {1, 2}))
    return node.op_type in MATRICES and slot == 0 and all(graph.tensor(i).is_constant for i in node.inputs[1:] if i)


def _layers(graph: Graph, names: Iterable[str]) -> list[Node]:
    found = (node for name in names for node in readers(graph, name))
    return list({node.name: node for node in found}.values())


class _Groups:
    """Which elements of the inputs share a range: each has a number, and numbers are moved as the elements are.

    Args:
        graph: The graph.
        names: Inputs whose elements shall have ranges of their own.
    """

    def __init__(self, graph: Graph, names: Iterable[str]) -> None:
        self._graph = graph
        self._numbers: dict[str, Array] = {}
        count = 0
        for name in names:
            tensor = graph.tensor(name)
            self._numbers[name] = np.arange(count, count + tensor.size, dtype=np.float64).reshape(tensor.shape)
            count += tensor.size
        self._own = dict(self._numbers)
        self._mixed: set[int] = set()
        for node in graph:
            if op_of(node).moves and any(name in self._numbers for name in node.inputs):
                results = op_of(node).evaluate(node, [self._moved(name) for name in node.inputs])
                self._numbers.update((o, r) for o, r in zip(node.outputs, results, strict=True) if o)
        self._leader = np.arange(count)
        for node in _layers(graph, self._own):
            matrix = self._matrix(node)
            for column in matrix.T if len(matrix) > 1 else ():  # what is alone has nothing to share a range with
                self._join(np.unique(column).astype(np.int64))

    def is_mixed(self, name: str) -> bool:
        """Whether some of an input's elements would share a range with elements that have none."""
        return not self._mixed.isdisjoint(self._leader[self._own[name].astype(np.int64)].ravel().tolist())

    def shared(self, ranges: Mapping[str, Scaling]) -> Scaling:
        """Return the range of each number."""
        lo, hi = (np.concatenate([np.ravel(getattr(ranges[name], end)) for name in self._own]) for end in ("lo", "hi"))
        least, greatest = np.full(lo.shape, np.inf), np.full(hi.shape, -np.inf)
        np.minimum.at(least, self._leader, lo)
        np.maximum.at(greatest, self._leader, hi)
        return Scaling(least[self._leader], greatest[self._leader])

    def scaling(self, name: str, shared: Scaling) -> Scaling:
        """Return the ranges of one input's elements."""
        numbers = self._own[name].astype(np.int64)
        return Scaling(shared.lo[numbers], shared.hi[numbers])

    def row(self, node: Node, values: Array, other: float) -> Array:
        """Return what the elements that meet each row of a layer's weights have in common.

        Args:
            node: The layer.
            values: By number.
            other: What it is for elements without ranges of their own.
        """
        numbers = self._matrix(node).max(axis=0).astype(np.int64)
        return np.where(numbers == _OTHER, other, values[numbers])

    def _moved(self, name: str) -> Array | None:
        if not name:
            return None
        tensor = self._graph.tensor(name)
        if name in self._numbers:
            return self._numbers[name]
        if tensor.type is not DType.FLOAT:
            return tensor.data
        return np.full(tensor.shape, float(_OTHER))

    def _matrix(self, node: Node) -> Array:
        """Return the numbers of a layer's input, those that meet the same row of weights below each other."""
        slot = 0 if node.inputs[0] in self._numbers else 1
        numbers = self._numbers[node.inputs[slot]]
        if slot == 1 or attr_int(node, "transA", 0):
            numbers = numbers.T
        return numbers.reshape(-1, numbers.shape[-1])

    def _join(self, members: Array) -> None:
        own = members[members != _OTHER]
        if not own.size:
            return
        leaders = np.unique(self._leader[own])
        self._leader[np.isin(self._leader, leaders)] = leaders[0]
        if own.size < members.size or not self._mixed.isdisjoint(leaders.tolist()):
            self._mixed.add(int(leaders[0]))


def _take_up(graph: Graph, node: Node, factor: Array, offset: Array) -> None:
    """Make a layer of x one of u, x = offset + factor·u."""
    if node.op_type == "MatMul":
        _take_up_product(graph, node, factor, offset)
        return
    parts = layer_parts(graph, node)
    assert parts is not None
    old = np.zeros(()) if parts.bias is None else parts.bias
    terms = np.abs(offset) @ np.abs(parts.weights)
    bias = old + offset @ parts.weights
    slack = (parts.slack or 0.0) + FOLD_ERROR * float((np.abs(old) + terms).max(initial=0.0))
    set_gemm(graph, node, GemmParts(factor.reshape(-1, 1) * parts.weights, bias if bias.any() else None, slack))


def _take_up_product(graph: Graph, node: Node, factor: Array, offset: Array) -> None:
    """Do the same for a MatMul; an Add after it has what its offset makes."""
    slot = 1 if graph.tensor(node.inputs[1]).is_constant else 0
    weights = graph.tensor(node.inputs[slot]).data
    assert weights is not None
    across = slot == 0  # W·x
    vector = weights.ndim == 1
    scaled = weights * (factor if across or vector else factor.reshape(-1, 1))
    moved = (weights @ offset).reshape(-1, 1) if across else np.asarray(offset @ weights)
    terms = float((np.abs(weights) @ np.abs(offset) if across else np.abs(offset) @ np.abs(weights)).max(initial=0.0))
    attrs = {**node.attrs, "slack": attr_float(node, "slack", 0.0) * is_folded(node) + FOLD_ERROR * terms}
    new = graph.add_tensor(Tensor(graph.fresh(f"{node.name}.weight"), weights.shape, DType.FLOAT, scaled))
    inputs = (new.name, node.inputs[1]) if across else (node.inputs[0], new.name)
    output = node.output
    if not moved.any():
        graph.replace_node(node, inputs=inputs, attrs=attrs)
        return
    shape = graph.tensor(output).shape
    product = graph.add_tensor(Tensor(graph.fresh(f"{output}.product"), shape, DType.FLOAT))
    constant = graph.add_tensor(Tensor(graph.fresh(f"{node.name}.bias"), moved.shape, DType.FLOAT, moved))
    graph.replace_node(node, inputs=inputs, outputs=(product.name,), attrs=attrs)
    graph.add("Add", [product.name, constant.name], [output], name=f"{node.name}.add", origin=node.origin)
