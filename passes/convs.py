"""Folding a constant affine map by channel into the convolution before or after it.

Conv(x)·f + o by output channel has the weights W·f and the bias C·f + o. Conv(x·f + o) by input channel has W·f, and
what W makes of o is added to C: unless there is padding, which is 0 whatever o is. Of a layer whose weights came
quantised, a convolution or not, f goes into its scales.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.ops.base import attr_float, attr_int, op_of
from ml2sc.ir.ops.convolution import Conv
from ml2sc.ir.ops.linear import is_folded
from ml2sc.ir.ops.operands import FOLD_ERROR
from ml2sc.ir.ops.windows import OUTSIDE
from ml2sc.ir.types import Array, DType

from .gemm import Affine, affine_of, fold_affine
from .prescribed import SCALED


def fold_maps(graph: Graph, op_types: Collection[str]) -> bool:
    """Fold constant affine maps into the Gemm or convolution before or after them; return whether anything changed.

    Args:
        graph: Changed in place.
        op_types: Which operators are folded.
    """
    changed = fold_affine(graph, op_types)
    for backwards in (False, True):  # away from the layer, so that one sweep takes a whole chain
        names = [node.name for node in graph if node.op_type in op_types]
        for name in names[::-1] if backwards else names:
            if graph.has_node(name):
                changed |= _fold_into_convolution(graph, graph.node(name), backwards=backwards)
    for name in [node.name for node in graph if node.op_type in op_types]:
        changed |= _fold_into_scales(graph, graph.node(name))
    return changed


def _fold_into_convolution(graph: Graph, node: Node, *, backwards: bool) -> bool:
    """Fold a node that is an affine map by channel into the convolution that makes its input.

    Args:
        graph: Changed in place.
        node: The node.
        backwards: Fold it into the convolution that alone reads its output instead.
    """
    found = affine_of(graph, node)
    if found is None:
        return False
    x, affine = found
    shape = graph.tensor(x).shape
    by_channel = _by_channel(affine, shape) if len(shape) > 2 else None
    if by_channel is None:
        return False
    if backwards:
        return _into_reader(graph, node, x, by_channel)
    conv = graph.producer(x)
    if conv is None or conv.op_type != "Conv" or graph.only_use(x) != node:
        return False
    weights, bias = _parts(graph, conv)
    factor, offset, slack = by_channel
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
        scaled = bias * factor
        lost = FOLD_ERROR * float((np.abs(scaled) + np.abs(offset)).max()) if scaled.any() else 0.0
        slack += attr_float(conv, "slack", 0.0) * float(np.abs(factor).max()) + lost
        folded = weights * factor.reshape(-1, *[1] * (weights.ndim - 1)), scaled + offset
    if not all(np.isfinite(part).all() for part in folded):
        return False
    exact = slack == 0.0 and not is_folded(conv) and bool(np.all(factor == 1.0))
    output, origin = node.output, (*conv.origin, *node.origin)
    graph.remove(node)
    _set(graph, conv, folded, None if exact else slack, outputs=(output,), origin=origin)
    return True


def _into_reader(graph: Graph, node: Node, x: str, affine: Affine) -> bool:
    conv = graph.only_use(node.output)
    if conv is None or conv.op_type != "Conv" or conv.inputs[0] != node.output:
        return False
    factor, offset, slack = affine
    weights, bias = _parts(graph, conv)
    op = op_of(conv)
    assert isinstance(op, Conv)
    windows = op.windows(conv, graph.tensor(x).shape, weights.shape)
    if offset.any() and any((window.taps() == OUTSIDE).any() for window in windows):
        return _factor_only(graph, node, conv, affine)
    axes = tuple(range(1, weights.ndim))
    factors, offsets = (_by_input(conv, weights, values) for values in (factor, offset))
    with np.errstate(over="ignore", invalid="ignore"):
        terms = np.abs(weights * offsets).sum(axis=axes)
        slack = slack * float(np.abs(weights).sum(axis=axes).max()) + attr_float(conv, "slack", 0.0)
        slack += FOLD_ERROR * float((np.abs(bias) + terms).max())
        folded = weights * factors, bias + (weights * offsets).sum(axis=axes)
    if not all(np.isfinite(part).all() for part in folded):
        return False
    graph.replace_node(conv, inputs=(x, *conv.inputs[1:]))
    _set(graph, graph.node(conv.name), folded, slack, outputs=conv.outputs, origin=(*node.origin, *conv.origin))
    graph.remove(node)
    return True


def _fold_into_scales(graph: Graph, node: Node) -> bool:
    """Fold a node that is an affine map by channel into the layer of integer weights that makes its input."""
    found = affine_of(graph, node)
    layer = None if found is None else graph.producer(found[0])
    if found is None or layer is None or layer.op_type not in SCALED or graph.only_use(found[0]) != node:
        return False
    shape = graph.tensor(found[0]).shape
    by_channel = _by_channel(found[1], shape, 1 if layer.op_type == "ScaledConv" else len(shape) - 1)
    scales = graph.tensor(layer.inputs[2]).data
    bias = graph.tensor(layer.inputs[3]).data if len(layer.inputs) > 3 else np.zeros(1)
    assert scales is not None
    assert bias is not None
    if by_channel is None or not (by_channel.factor > 0).all():  # a scale is positive
        return False
    factor, offset, slack = by_channel
    factor = factor[:1] if np.all(factor == factor[0]) else factor
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # what is not finite, or 0, is refused below
        scaled, moved = scales * factor, bias * factor + offset
        slack += attr_float(layer, "slack", 0.0) * float(factor.max())
        slack += FOLD_ERROR * float((np.abs(bias * factor) + np.abs(offset)).max())
    if not (np.isfinite(scaled).all() and np.isfinite(moved).all() and (scaled > 0).all()):
        return False
    names = [graph.add_tensor(Tensor(graph.fresh(f"{layer.name}.scales"), scaled.shape, DType.FLOAT, scaled)).name]
    if moved.any():
        names.append(graph.add_tensor(Tensor(graph.fresh(f"{layer.name}.bias"), moved.shape, DType.FLOAT, moved)).name)
    output, origin = node.output, (*layer.origin, *node.origin)
    graph.remove(node)
    graph.replace_node(
        layer,
        inputs=(*layer.inputs[:2], *names),
        outputs=(output,),
        attrs={**layer.attrs, "slack": slack},
        origin=origin,
    )
    return True


def _factor_only(graph: Graph, node: Node, conv: Node, affine: Affine) -> bool:
    """Fold x·f + o, perhaps several nodes, as (x + o / f)·f into a convolution with padding: only f goes into it."""
    first, x, (factor, offset, slack) = node, _operand(graph, node), affine
    chain = [node]
    while (made := graph.producer(x)) is not None and graph.only_use(x) == first:
        found = affine_of(graph, made)
        before = None if found is None else _by_channel(found[1], graph.tensor(x).shape)
        if found is None or before is None:
            break
        slack += before.slack * float(np.abs(factor).max())
        offset, factor = before.offset * factor + offset, before.factor * factor
        first, x = made, found[0]
        chain.append(made)
    if not factor.all() or np.all(factor == 1.0):
        return False
    with np.errstate(over="ignore"):  # what is not finite is refused below
        shift = offset / factor
        slack = slack / float(np.abs(factor).min()) + FOLD_ERROR * float(np.abs(shift).max())
    weights, bias = _parts(graph, conv)
    folded = weights * _by_input(conv, weights, factor)
    if not (np.isfinite(shift).all() and np.isfinite(folded).all()):
        return False
    shift = shift[:1] if np.all(shift == shift[0]) else shift.reshape(-1, *[1] * (weights.ndim - 2))
    added = graph.add_tensor(Tensor(graph.fresh(f"{node.name}.shift"), shift.shape, DType.FLOAT, np.array(shift)))
    for made in chain[1:]:
        graph.remove(made)
    graph.replace_node(node, op_type="Add", inputs=(x, added.name), attrs={"slack": slack})
    _set(graph, conv, (folded, bias), attr_float(conv, "slack", 0.0), outputs=conv.outputs, origin=conv.origin)
    return True


def _operand(graph: Graph, node: Node) -> str:
    return next(name for name in node.inputs if name and not graph.tensor(name).is_constant)


def _by_input(conv: Node, weights: Array, values: Array) -> Array:
    """Bring what is given by input channel to the weights that meet it."""
    group = attr_int(conv, "group", 1)
    mine = np.repeat(values.reshape(group, -1), len(weights) // group, axis=0)
    return mine.reshape(*mine.shape, *[1] * (weights.ndim - 2))


def _by_channel(affine: Affine, shape: tuple[int, ...], channel: int = 1) -> Affine | None:
    """Return a map's factors and offsets by channel (an axis) of a tensor; None: they differ within one."""
    parts = []
    for part in (affine.factor, affine.offset):
        full = np.asarray(part).reshape(*[1] * (len(shape) - np.ndim(part)), *np.shape(part))
        if any(size != 1 for axis, size in enumerate(full.shape) if axis != channel):
            return None
        parts.append(np.broadcast_to(full.ravel(), (shape[channel],)))
    return Affine(parts[0], parts[1], affine.slack)


def _parts(graph: Graph, conv: Node) -> tuple[Array, Array]:
    """Return a convolution's weights and its bias, zeros if it has none."""
    weights = graph.tensor(conv.inputs[1]).data
    bias = graph.tensor(conv.inputs[2]).data if len(conv.inputs) > 2 and conv.inputs[2] else None
    assert weights is not None
    return weights, np.zeros(len(weights)) if bias is None else bias


def _set(
    graph: Graph,
    conv: Node,
    parts: tuple[Array, Array],
    slack: float | None,
    *,
    outputs: tuple[str, ...],
    origin: tuple[str, ...],
) -> None:
    """Give a convolution other constants; those that others use too are left alone."""
    names = []
    for slot, (kind, array) in enumerate(zip(("weight", "bias"), parts, strict=True), start=1):
        old = conv.inputs[slot] if slot < len(conv.inputs) else ""
        base = old or f"{conv.name}.{kind}"
        if slot == 2 and not array.any():
            continue
        names.append(graph.add_tensor(Tensor(graph.fresh(base), array.shape, DType.FLOAT, np.array(array))).name)
    attrs = {key: value for key, value in conv.attrs.items() if key != "slack"}
    attrs |= {} if slack is None else {"slack": slack}
    graph.replace_node(conv, inputs=(conv.inputs[0], *names), outputs=outputs, attrs=attrs, origin=origin)
