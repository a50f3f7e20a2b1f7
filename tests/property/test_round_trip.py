"""Printing a graph and parsing the text gives the graph back."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.printer import print_graph
from ml2sc.ir.types import DType, FixedPoint, Interval, integer_array

names = st.one_of(st.text(min_size=1, max_size=6), st.from_regex(r"[A-Za-z_/.][\w/.-]{0,8}", fullmatch=True))
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
floats = st.floats(width=64)
big = st.integers(-(2**255), 2**255 - 1)
formats = st.builds(
    FixedPoint,
    bits=st.integers(1, 256),
    signed=st.booleans(),
    scale=st.fractions(min_value=Fraction(1, 10**40), max_value=10**6),
    zero_point=st.integers(-300, 300),
)
types = st.one_of(st.sampled_from(DType), formats)
intervals = st.tuples(big, big).map(lambda pair: Interval(min(pair), max(pair)))
attributes = st.dictionaries(
    names,
    st.one_of(
        big,
        floats,
        st.text(max_size=8),
        st.lists(big, max_size=3).map(tuple),
        st.lists(floats, max_size=3).map(tuple),
        st.lists(st.text(max_size=4), max_size=3).map(tuple),
    ),
    max_size=3,
)
bounds = st.dictionaries(names, st.tuples(floats, floats), max_size=2)


@st.composite
def tensors(draw: st.DrawFn, name: str, *, constant: bool) -> Tensor:
    """Draw a tensor, with data if it is constant."""
    tensor = Tensor(name, draw(shapes), draw(types), interval=draw(st.none() | intervals))
    if constant:
        elements = {DType.FLOAT: floats, DType.INT64: st.integers(-(2**61), 2**61), DType.BOOL: st.booleans()}.get(
            tensor.type, big
        )
        values = draw(st.lists(elements, min_size=tensor.size, max_size=tensor.size))
        if isinstance(tensor.type, FixedPoint):
            tensor.data = integer_array(values, tensor.shape)
            reals = draw(st.none() | st.lists(floats, min_size=tensor.size, max_size=tensor.size))
            tensor.real = None if reals is None else np.array(reals, dtype=np.float64).reshape(tensor.shape)
        else:
            dtype = {DType.FLOAT: np.float64, DType.INT64: np.int64, DType.BOOL: np.bool_}[tensor.type]
            tensor.data = np.array(values, dtype=dtype).reshape(tensor.shape)
    return tensor


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a graph that need not make sense: operators, shapes and types are arbitrary."""
    graph = Graph(draw(st.text(max_size=8)))
    pool = iter(draw(st.lists(names, min_size=12, max_size=12, unique=True)))
    graph.inputs = [
        graph.add_tensor(draw(tensors(next(pool), constant=False))).name for _ in range(draw(st.integers(0, 2)))
    ]
    for _ in range(draw(st.integers(0, 3))):
        graph.add_tensor(draw(tensors(next(pool), constant=draw(st.booleans()))))
    for node_name in draw(st.lists(names, max_size=3, unique=True)):
        inputs = draw(st.lists(st.sampled_from(["", *graph.tensors]), max_size=3))
        made = [
            graph.add_tensor(draw(tensors(next(pool), constant=False))).name for _ in range(draw(st.integers(1, 2)))
        ]
        outputs = [*draw(st.sampled_from([[], [""]])), *made]
        origin = draw(st.lists(st.text(max_size=5), max_size=2, unique=True))
        graph.add(draw(names), inputs, outputs, draw(attributes), name=node_name, origin=origin)
    if graph.tensors:
        some = st.sampled_from(list(graph.tensors))
        graph.outputs = draw(st.lists(some, max_size=3))
        graph.decision = draw(st.none() | some)
    graph.input_ranges, graph.observed = draw(bounds), draw(bounds)
    return graph


@settings(deadline=None)
@given(graphs())
def test_round_trip(graph: Graph) -> None:
    text = print_graph(graph)
    again = parse_graph(text)
    assert print_graph(again) == text

    assert repr(list(again)) == repr(list(graph))  # repr: a NaN attribute does not equal itself
    assert (again.name, again.inputs, again.outputs, again.decision) == (
        graph.name,
        graph.inputs,
        graph.outputs,
        graph.decision,
    )
    assert repr((again.input_ranges, again.observed)) == repr((graph.input_ranges, graph.observed))
    assert set(again.tensors) == set(graph.tensors)
    for name, tensor in graph.tensors.items():
        other = again.tensor(name)
        assert (other.shape, other.type, other.interval) == (tensor.shape, tensor.type, tensor.interval)
        for a, b in ((tensor.data, other.data), (tensor.real, other.real)):
            assert (a is None) == (b is None)
            if a is not None:
                assert (a.dtype, a.shape, repr(a.tolist())) == (b.dtype, b.shape, repr(b.tolist()))
