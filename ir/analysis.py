"""What holds for every input of the declared range: real bounds, and the integers they become; exact evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ml2sc.errors import SAME_ARCHITECTURE, RangeError

from .graph import Graph, Node, Tensor
from .ops.base import Bounds, op_of
from .ops.elementwise import requantized
from .ops.linear import activate
from .thermometer import TREES, Room
from .tree_room import require_trees, reserve_ranks, reserve_trees
from .types import Array, DType, FixedPoint, Interval, Reserve, as_python_ints, integer_array

LINEAR = frozenset({"Gemm", "FusedGemm"})
"""Linear layers of a quantised graph."""
REPLACEABLE = LINEAR | {TREES}
"""Operators of a quantised graph whose weights, or trees, can be replaced."""

WORD_BITS = 255
"""Widest signed integer the EVM computes with, without its sign."""


def real_bounds(graph: Graph) -> dict[str, Bounds]:
    """Return sound float64 bounds, by element, of every tensor of a float graph.

    Raises:
        RangeError: a bound is not finite.
    """
    bounds: dict[str, Bounds] = {}
    for tensor in graph.tensors.values():
        if tensor.data is not None:
            values = np.asarray(tensor.data)
            values = values if tensor.type is DType.INT64 else values.astype(np.float64)
            bounds[tensor.name] = Bounds(values, values)
    for name in graph.inputs:
        lo, hi = graph.input_ranges[name]
        shape = graph.tensor(name).shape
        bounds[name] = Bounds(np.full(shape, lo, dtype=np.float64), np.full(shape, hi, dtype=np.float64))
    for node in graph:
        with np.errstate(over="ignore", invalid="ignore"):
            results = op_of(node).interval(node, [bounds[i] if i else None for i in node.inputs])
        for name, result in zip(node.outputs, results, strict=False):
            if not (np.all(np.isfinite(result.lo)) and np.all(np.isfinite(result.hi))):
                raise RangeError(
                    "its values cannot be bounded for the declared input range",
                    node=str(node),
                    tensor=f"%{name}",
                    hint="narrow the range with --input-range",
                )
            bounds[name] = result
    return bounds


def exact_bounds(graph: Graph, node_name: str, *, raw: bool = False) -> list[Bounds]:
    """Return bounds of a quantised node's output integers, given the proved intervals of its inputs.

    Args:
        graph: A quantised graph.
        node_name: The node.
        raw: Leave out the node's own activation (what the accumulator itself can be).
    """
    node = graph.node(node_name)
    if raw and "activation" in node.attrs:
        node = type(node)(node.name, "Gemm", node.inputs, node.outputs, {}, node.origin)
    inputs = graph.input_tensors(node)
    linear = node.op_type in LINEAR  # these take constants as they are stored: as Python ints large ones take long
    bounds = [None if t is None else _tensor_bounds(t, stored=linear) for t in inputs]
    outputs = [graph.tensor(o) for o in node.outputs if o]
    if not op_of(node).moves:
        bounds = [b if b is None else Bounds(np.atleast_1d(b.lo), np.atleast_1d(b.hi)) for b in bounds]
    if node_name in graph.reserves:
        room = graph.reserves[node_name].accumulator
        ends = (activate(node, integer_array([end], (1,))) for end in (room.lo, room.hi))
        results = [Bounds(*(np.full(outputs[0].shape, int(end[0]), dtype=object) for end in ends))]
    else:
        results = op_of(node).interval_exact(node, inputs, bounds, outputs)
    return [Bounds(_shaped(r.lo, o.shape), _shaped(r.hi, o.shape)) for r, o in zip(results, outputs, strict=True)]


def reserve(
    graph: Graph,
    headroom: int,
    deployed: Mapping[str, Reserve] | None = None,
    ranks: Room | None = None,
    *,
    takes_wad: bool = True,
) -> None:
    """Prove the intervals of a quantised graph so that weights of its linear layers, and its trees, may change later.

    Sums may become 2^headroom times as large as they can with these weights, of either sign, and weights that many bits
    wider: that goes into `graph.reserves`, and all that depends on it is proved for it.

    Args:
        graph: A quantised graph.
        headroom: Bits to spare.
        deployed: What the layers of a contract that exists have room for: the weights must fit that.
        ranks: What the ranks are that it takes, if trees read its inputs.
        takes_wad: Whether one that does not takes inputs as WAD, too.

    Raises:
        RangeError: a value does not fit a word of the EVM, or weights do not fit what is deployed.
        UnsupportedModelError: trees that cannot be replaced.
    """
    reserve_ranks(graph, headroom, ranks, takes_wad=takes_wad)
    for node in graph:
        if node.op_type in REPLACEABLE:
            graph.reserves[node.name] = _room(graph, node, headroom, deployed)
        prove_node(graph, node)


def _room(graph: Graph, node: Node, headroom: int, deployed: Mapping[str, Reserve] | None) -> Reserve:
    (bounds,) = exact_bounds(graph, node.name, raw=True)
    sums = Interval(int(bounds.lo.min()), int(bounds.hi.max()))
    if deployed is not None and node.name not in deployed:
        raise RangeError("the deployed contract has no such layer", node=str(node), hint=SAME_ARCHITECTURE)
    if node.op_type == TREES:
        if deployed is None:
            return reserve_trees(node, sums, headroom)
        room = deployed[node.name]
        require_trees(node, room)
        return _with_sums(node, sums, room)
    weights = graph.tensor(node.inputs[1]).interval
    assert weights is not None
    if deployed is None:
        limit = sums.magnitude << headroom
        return Reserve(Interval(-limit, limit), weights.signed_bits + headroom)
    room = deployed[node.name]
    if weights.signed_bits > room.weight_bits:
        raise RangeError(
            f"its weights need {weights.signed_bits} bits at the deployed scale, and the contract reads "
            f"{room.weight_bits}",
            node=str(node),
            hint=_NO_ROOM,
        )
    return _with_sums(node, sums, room)


def _with_sums(node: Node, sums: Interval, room: Reserve) -> Reserve:
    """Return what a layer has room for, if its sums fit it."""
    if sums.lo < room.accumulator.lo or sums.hi > room.accumulator.hi:
        raise RangeError(
            f"its sums can be {sums}, and the contract's lanes are proved for {room.accumulator}",
            node=str(node),
            hint=_NO_ROOM,
        )
    return room


_NO_ROOM = "train with smaller weights (weight decay), or deploy a new contract with more --headroom"


def _shaped(values: object, shape: tuple[int, ...]) -> Array:
    """Return integers as an object array; numpy turns object arrays without axes into bare integers."""
    array = np.empty(shape, dtype=object)
    array[...] = values.reshape(shape) if isinstance(values, np.ndarray) else values
    return array


def _tensor_bounds(tensor: Tensor, *, stored: bool) -> Bounds:
    if tensor.data is not None:
        data = tensor.data if stored or tensor.type is DType.INT64 else as_python_ints(tensor.data)
        return Bounds(data, data)
    assert tensor.interval is not None
    lo, hi = (np.full(tensor.shape, v, dtype=object) for v in (tensor.interval.lo, tensor.interval.hi))
    return Bounds(lo, hi)


def prove_intervals(graph: Graph) -> bool:
    """Prove the interval of every tensor of a quantised graph, and narrow accumulators' types to it.

    Returns:
        Whether anything changed.

    Raises:
        RangeError: a value does not fit a word of the EVM.
    """
    changed = False
    for node in graph:
        changed |= prove_node(graph, node)
    return changed


def prove_node(graph: Graph, node: Node) -> bool:
    """Prove the intervals of one node's outputs; as `prove_intervals`."""
    changed = False
    for name, bounds in zip(filter(None, node.outputs), exact_bounds(graph, node.name), strict=True):
        tensor = graph.tensor(name)
        interval = Interval(int(bounds.lo.min()), int(bounds.hi.max()))
        if interval.signed_bits > WORD_BITS:
            raise RangeError(
                f"|{name}| can reach 2^{interval.magnitude.bit_length()}, and the EVM computes with 2^{WORD_BITS}",
                node=str(node),
                tensor=f"%{name}",
                hint="narrow the input range (--input-range), or choose a narrower --precision",
            )
        type_ = tensor.format
        if type_.bits == ACCUMULATOR_BITS:
            type_ = FixedPoint(interval.signed_bits, True, type_.scale, type_.zero_point)
        changed |= (tensor.type, tensor.interval) != (type_, interval)
        graph.set_type(name, type_, interval)
    return changed


ACCUMULATOR_BITS = 256
"""Width of a result whose range is not proved yet."""


def saturated(graph: Graph, values: Mapping[str, Array]) -> dict[str, int]:
    """Return how many values each Requantize clamped.

    Args:
        graph: A quantised graph.
        values: What `evaluate_exact` returned.

    Returns:
        The number of elements, by output tensor of a Requantize that clamped some.
    """
    read = {node.inputs[0] for node in graph if node.op_type == "Requantize"}
    return saturated_samples(graph, {name: values[name][None] for name in read})[0] if read else {}


def saturated_samples(graph: Graph, found: Mapping[str, Array]) -> list[dict[str, int]]:
    """Return what `saturated` does for each of some samples.

    Args:
        graph: A quantised graph.
        found: What `evaluate_together` returned.
    """
    result: list[dict[str, int]] = [{} for _ in next(iter(found.values()))]
    for node in graph:
        if node.op_type == "Requantize":
            source, output = graph.tensor(node.inputs[0]), graph.tensor(node.output)
            free = requantized(node, source, found[source.name], output).reshape(len(result), -1)
            beyond = (free < output.format.qmin) | (free > output.format.qmax)
            for own, count in zip(result, np.count_nonzero(beyond, axis=1).tolist(), strict=True):
                if count:
                    own[output.name] = count
    return result


def evaluate_exact(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the integers of every tensor of a quantised graph: the graph interpreter.

    Args:
        graph: A quantised graph.
        inputs: Integers q of each graph input, in its shape.

    Returns:
        Object arrays of Python ints (int64 for shapes and indices) by tensor name.
    """
    return evaluate_samples(graph, [inputs])[0]


def evaluate_samples(graph: Graph, samples: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """Return what `evaluate_exact` does for each of some samples: nodes are computed for all of them at once.

    Args:
        graph: A quantised graph.
        samples: For each sample the integers q of each graph input.
    """
    constants = {tensor.name: tensor.data for tensor in graph.tensors.values() if tensor.data is not None}
    result = [dict(constants) for _ in samples]
    for name, values in evaluate_together(graph, samples).items() if samples else ():
        for index, one in enumerate(result):
            one[name] = _shaped(as_python_ints(values[index, ...]), values.shape[1:])
    return result


def evaluate_together(graph: Graph, samples: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the integers of every tensor but constants for some samples, which are the first axis.

    Args:
        graph: A quantised graph.
        samples: For each, one at least, the integers q of each graph input.

    Returns:
        int64, or Python ints where that does not hold them, by tensor name.
    """
    given = [_given(graph, inputs) for inputs in samples]
    found = {name: np.stack([one[name] for one in given]) for name in given[0]}
    evaluate_nodes(graph, graph, found)
    return found


def evaluate_nodes(graph: Graph, nodes: Iterable[Node], found: dict[str, Array]) -> None:
    """Compute what some nodes give for several samples.

    Args:
        graph: A quantised graph.
        nodes: Nodes of it, in order.
        found: The integers of the tensors that are known, by name, in int64 or as Python ints; the samples are their
            first axis. What the nodes give is added.
    """
    count = len(next(iter(found.values())))
    for node in nodes:
        tensors = graph.input_tensors(node)
        outputs = [graph.tensor(o) for o in node.outputs if o]
        values = [None if t is None else found[t.name] if t.data is None else t.data for t in tensors]
        op = op_of(node)
        if all(t is None or t.is_constant for t in tensors):
            once = op.evaluate_exact(node, tensors, [v if v is None else as_python_ints(v) for v in values], outputs)
            results = [np.stack([np.reshape(r, o.shape)] * count) for r, o in zip(once, outputs, strict=True)]
        else:
            results = op.evaluate_batch(node, tensors, values, outputs)
        found.update((o.name, r.reshape(count, *o.shape)) for o, r in zip(outputs, results, strict=True))


def _given(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the integers of graph inputs, brought into their intervals."""
    values = {}
    for name, q in inputs.items():
        tensor = graph.tensor(name)
        given, interval = np.asarray(q).reshape(tensor.shape), tensor.interval
        if given.dtype != np.int64 or (interval is not None and interval.signed_bits > 63):
            given = _shaped(as_python_ints(given), tensor.shape)
        values[name] = given if interval is None else np.minimum(np.maximum(given, interval.lo), interval.hi)
    return values
