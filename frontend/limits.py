"""What a model may hold, looked at before it is read, inlined or computed. The figures are in `ml2sc.ir.limits`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

import onnx

from ml2sc.errors import ModelFormatError, UnsupportedModelError
from ml2sc.ir.limits import EXTERNAL_BYTES, NODES, check_total, shown

_Function = tuple[str, str, str]
"""(domain, name, overload)."""


def check_nodes(proto: onnx.ModelProto) -> None:
    """Refuse a model of too many operators, counted as if its functions were written out.

    Raises:
        ModelFormatError: a function calls itself, directly or through others.
        UnsupportedModelError: there are more operators than `NODES`.
    """
    calls = {_key(f.domain, f.name, f.overload): Counter(map(_called, _nodes(f.node))) for f in proto.functions}
    callees = {name: [c for c in called if c in calls] for name, called in calls.items()}
    sizes: dict[_Function, int] = {}
    try:
        for name in TopologicalSorter(callees).static_order():
            sizes[name] = _size(calls[name], sizes)
    except CycleError as error:
        circle = " calls ".join(repr(shown(name)) for _, name, _ in error.args[1])
        raise ModelFormatError(f"functions of the model call each other in a circle: {circle}") from error
    size = _size(Counter(map(_called, _nodes(proto.graph.node))), sizes)
    if size > NODES:
        raise UnsupportedModelError(
            f"the model has {size if size < 1 << 64 else 'more than 2^64'} operators, its functions written out: "
            f"there may be {NODES:,}",
            hint="compile a part of the model",
        )


def check_claims(claimed: int, tensor: str) -> None:
    """Refuse tensors that claim so many bytes of external data.

    Raises:
        UnsupportedModelError: they are more than `EXTERNAL_BYTES`.
    """
    if claimed > EXTERNAL_BYTES:
        raise UnsupportedModelError(
            f"the model's tensors claim {claimed:,} bytes of external data up to here: there may be {EXTERNAL_BYTES:,}",
            tensor=f"%{tensor}",
        )


def check_constants(proto: onnx.ModelProto) -> None:
    """Refuse initialisers of too many elements, by the shapes they state.

    Raises:
        UnsupportedModelError: they have more than the limits say.
    """
    total = 0
    for tensor in proto.graph.initializer:
        size = 1
        for dim in tensor.dims:
            size *= dim
        total += max(size, 0)
        check_total(total)


def _key(domain: str, name: str, overload: str) -> _Function:
    return "" if domain == "ai.onnx" else domain, name, overload


def _called(node: onnx.NodeProto) -> _Function:
    return _key(node.domain, node.op_type, node.overload)


def _size(called: Counter[_Function], sizes: dict[_Function, int]) -> int:
    return sum(times * sizes.get(name, 1) for name, times in called.items())


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Iterate over nodes and those of the graphs in their attributes."""
    todo = list(nodes)
    while todo:
        node = todo.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                todo.extend(graph.node)
