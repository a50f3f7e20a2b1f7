"""Pass `equalize`: neighbouring layers share the sizes of their weights (cross-layer equalisation).

1. Between two layers of which only the second reads the first, after Relu or LeakyRelu if at all, output j of the first
   (its column of weights, its bias) is multiplied by 2^k and row j of the second divided by it: the same function, for
   what lies between is positively homogeneous. Powers of two keep every weight exact.
2. k is such that the largest weights of column and row become alike, to the nearest power of two: what one large weight
   costs all others in a format for the whole tensor is shared (Nagel et al., "Data-free quantization", 2019).
3. The tensors between get new names: they no longer hold the model's values.
4. Convolutions likewise, of one another: their output channels are columns, their input channels rows; between them
   there may be pools, Pad by 0 and PRelu, too.
5. A channel without weights on one side, layers whose weights are not constant, transposed inputs, groups that are not
   single channels and a convolution beside a Gemm stay as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.ops.base import attr_float, attr_int, op_of
from ml2sc.ir.types import Array

from .formats import layers_of
from .manager import Pass, register_pass

_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu"})
_HOMOGENEOUS_MAPS = frozenset({"AveragePool", "MaxPool", "PRelu", "Pad"})
_MOST = 16
"""Greatest |k|."""


@register_pass
@dataclass(frozen=True)
class Equalize(Pass):
    """Equalises the weights of neighbouring layers."""

    name: ClassVar[str] = "equalize"
    after: ClassVar[tuple[str, ...]] = ("fuse_gemm_relu", "fold_scaling", "derive_decision")

    def run(self, graph: Graph) -> bool:
        changed = False
        for name in [node.name for node in layers_of(graph)]:
            first = graph.node(name)
            between, second = _follower(graph, first)
            if second is None or not (_is_plain(graph, first) and _is_plain(graph, second)):
                continue
            columns = _magnitudes(graph, first, _out_axis(first))
            rows = _magnitudes(graph, second, _in_axis(second))
            shifts = np.array([_shift(c, r) for c, r in zip(columns.tolist(), rows.tolist(), strict=True)])
            if not shifts.any():
                continue
            _scale(graph, first, 1, shifts, _out_axis(first))
            _scale(graph, second, 1, -shifts, _in_axis(second))
            if len(first.inputs) > 2 and first.inputs[2]:
                _scale(graph, first, 2, shifts, -1)
            if "slack" in first.attrs:
                slack = attr_float(first, "slack", 0.0) * 2.0 ** max(int(shifts.max()), 0)
                graph.replace_node(graph.node(name), attrs={**first.attrs, "slack": slack})
            for tensor in between:
                graph.rename_tensor(tensor, graph.fresh(f"{tensor}.equalized"))
            changed = True
        if changed:
            graph.prune()
        return changed


def _follower(graph: Graph, layer: Node) -> tuple[list[str], Node | None]:
    """Return the layer that alone reads a layer's output, and the tensors between."""
    between, convolves = [layer.output], layer.op_type == "Conv"
    while (use := graph.only_use(between[-1])) is not None and (
        use.op_type in _HOMOGENEOUS or (convolves and use.op_type in _HOMOGENEOUS_MAPS and _is_homogeneous(graph, use))
    ):
        between.append(use.output)
    alike = use is not None and op_of(use).linear and (use.op_type == "Conv") == convolves
    return between, use if use is not None and alike and use.inputs[0] == between[-1] else None


def _is_homogeneous(graph: Graph, node: Node) -> bool:
    """Whether channels times positive numbers come out times the same."""
    return attr_float(node, "value", 0.0) == 0.0 and all(graph.tensor(i).is_constant for i in node.inputs[1:] if i)


def _is_plain(graph: Graph, layer: Node) -> bool:
    constants = [graph.tensor(i) for i in layer.inputs[1:] if i]
    # of a depthwise convolution each output channel has one input channel: both are the weights' first axis
    grouped = attr_int(layer, "group", 1)
    shape = constants[0].shape
    by_channel = grouped == shape[0] and shape[1] == 1
    fits = grouped == 1 or by_channel if layer.op_type == "Conv" else len(shape) == 2
    return (
        fits
        and not attr_int(layer, "transA", 0)
        and not graph.tensor(layer.inputs[0]).is_constant
        and all(t.is_constant for t in constants)
    )


def _out_axis(layer: Node) -> int:
    return 0 if layer.op_type == "Conv" or attr_int(layer, "transB", 0) else 1


def _in_axis(layer: Node) -> int:
    return 0 if attr_int(layer, "group", 1) > 1 else 1 - _out_axis(layer)


def _data(tensor: Tensor) -> Array:
    assert tensor.data is not None
    return tensor.data


def _magnitudes(graph: Graph, layer: Node, axis: int) -> Array:
    """Return the largest |weight| of each channel along an axis."""
    weights = np.abs(_data(graph.tensor(layer.inputs[1])))
    largest: Array = weights.max(axis=tuple(i for i in range(weights.ndim) if i != axis))
    return largest


def _shift(column: float, row: float) -> int:
    """Return the k for which column·2^k and row/2^k are closest."""
    if not column or not row:
        return 0
    return min(max(round(math.log2(row / column) / 2), -_MOST), _MOST)


def _scale(graph: Graph, layer: Node, slot: int, shifts: Array, axis: int) -> None:
    """Multiply a constant of a layer by powers of two along an axis; others that use it keep theirs."""
    layer = graph.node(layer.name)
    tensor = graph.tensor(layer.inputs[slot])
    data = _data(tensor)
    if slot == 2 and (not data.ndim or data.shape[-1] != len(shifts)):
        data = np.broadcast_to(data, (*data.shape[:-1], len(shifts)))
    where = axis % data.ndim if data.ndim else 0
    scaled = np.ldexp(data, shifts.reshape(-1, *[1] * (data.ndim - 1 - where)))
    new = graph.add_tensor(Tensor(graph.fresh(f"{tensor.name}.equalized"), scaled.shape, tensor.type, scaled))
    inputs = list(layer.inputs)
    inputs[slot] = new.name
    graph.replace_node(layer, inputs=tuple(inputs))
