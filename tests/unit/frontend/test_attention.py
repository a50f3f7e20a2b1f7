"""Products of two tensors that depend on the input, as attention has them."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import helper

from ml2sc.errors import Ml2scError
from ml2sc.ir.analysis import real_bounds


def attention(kit: Any, axis: int = -1, *, tokens: int = 4) -> Any:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "t"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"], axis=axis),
        helper.make_node("MatMul", ["p", "x"], ["y"]),
    ]
    return kit.model(nodes, {"x": [1, tokens, 3]}, ["y"])


@pytest.mark.parametrize(
    ("a", "b"),
    [([2, 3], [3, 4]), ([3], [3, 4]), ([2, 3], [3]), ([3], [3]), ([2, 1, 2, 3], [4, 3, 2]), ([2, 3], [5, 3, 2])],
    ids=str,
)
def test_it_is_what_onnxruntime_computes(kit: Any, a: list[int], b: list[int]) -> None:
    proto = kit.model([helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": a, "b": b}, ["y"])
    kit.assert_like_onnxruntime(proto)


@pytest.mark.parametrize(("axis", "convex"), [(-1, 1), (2, 1), (1, 0)])
def test_shares_of_rows_are_known(kit: Any, axis: int, convex: int) -> None:
    """What is mixed in shares that add up to 1 lies between what is mixed, however many there are."""
    graph = kit.assert_like_onnxruntime(attention(kit, axis))
    assert [node.attrs["convex"] for node in graph if node.op_type == "ActivationMatMul"] == [0, convex]


def test_bounds_of_shares_do_not_grow_with_their_number(kit: Any) -> None:
    graph = kit.to_graph(attention(kit, tokens=50))
    graph.input_ranges["x"] = (-1.0, 2.0)
    bounds = real_bounds(graph)["y"]
    assert float(bounds.lo.min()) == pytest.approx(-1.0)
    assert float(bounds.hi.max()) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([helper.make_node("MatMul", ["a", "a"], ["y"])], r"cannot multiply \[2, 3\] by \[2, 3\]"),
        ([helper.make_node("Gemm", ["a", "c"], ["y"])], r"%c has shape \[1, 3, 2\]"),
    ],
)
def test_what_does_not_fit_is_refused(kit: Any, nodes: list[Any], said: str) -> None:
    with pytest.raises(Ml2scError, match=said):
        kit.to_graph(kit.model(nodes, {"a": [2, 3], "c": [1, 3, 2]}, ["y"]))
