"""Pass `equalize`: neighbouring layers share the sizes of their weights (cross-layer equalisation).

1. Between two layers of which only the second reads the first, after Relu or LeakyRelu if at all, output j of the first
   (its column of weights, its bias) is multiplied by 2^k and row j of the second divided by it: the same function, for
   what lies between is positively homogeneous. Powers of two keep every weight exact.
2. k is such that the largest weights of column and row become alike, to the nearest power of two: what one large weight
   costs all others in a format for the whole tensor is shared (Nagel et al., "Data-free quantization", 2019).
3. The tensors between get new names: they no longer hold the model's values.
4. A channel without weights on one side, layers whose weights are not constant and transposed inputs stay as they are.
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
            columns, rows = (
                _magnitudes(graph, first, _out_axis(first)),
                _magnitudes(graph, second, 1 - _out_axis(second)),
            )
            shifts = np.array([_shift(c, r) for c, r in zip(columns.tolist(), rows.tolist(), strict=True)])
            if not shifts.any():
                continue
            _scale(graph, first, 1, shifts, _out_axis(first))
            _scale(graph, second, 1, -shifts, 1 - _out_axis(second))
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
    between = [layer.output]
    while (use := graph.only_use(between[-1])) is not None and use.op_type in _HOMOGENEOUS:
        between.append(use.output)
    return between, use if use is not None and op_of(use).linear and use.inputs[0] == between[-1] else None


def _is_plain(graph: Graph, layer: Node) -> bool:
    constants = [graph.tensor(i) for i in layer.inputs[1:] if i]
    return (
        not attr_int(layer, "transA", 0)
        and not graph.tensor(layer.inputs[0]).is_constant
        and all(t.is_constant for t in constants)
        and len(constants[0].shape) == 2
    )


def _out_axis(layer: Node) -> int:
    return 0 if attr_int(layer, "transB", 0) else 1


def _data(tensor: Tensor) -> Array:
    assert tensor.data is not None
    return tensor.data


def _magnitudes(graph: Graph, layer: Node, axis: int) -> Array:
    """Return the largest |weight| of each channel along an axis."""
    largest: Array = np.abs(_data(graph.tensor(layer.inputs[1]))).max(axis=1 - axis)
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
    scaled = np.ldexp(data, np.expand_dims(shifts, 1) if axis == 0 and data.ndim == 2 else shifts)
    new = graph.add_tensor(Tensor(graph.fresh(f"{tensor.name}.equalized"), scaled.shape, tensor.type, scaled))
    inputs = list(layer.inputs)
    inputs[slot] = new.name
    graph.replace_node(layer, inputs=tuple(inputs))
