from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml2sc.errors import ShapeError, UnsupportedModelError
from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.ops import OPS
from ml2sc.ir.ops.folding import FoldingOp, folds_only
from ml2sc.ir.shapes import add_inferred
from ml2sc.ir.types import Array, DType


def fold(op: str, *arrays: Array, **attrs: Any) -> Array:
    node = Node("n", op, tuple(f"x{i}" for i in range(len(arrays))), ("y",), attrs)
    return OPS.get(op).evaluate(node, list(arrays))[0]


def ints(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("op", "arrays", "attrs", "want"),
    [
        ("Pow", [ints(2, 3), ints(10, 2)], {}, ints(1024, 9)),
        ("Mod", [ints(-7, 7), ints(3, -3)], {}, ints(2, -2)),
        ("Mod", [ints(-7, 7), ints(3, -3)], {"fmod": 1}, ints(-1, 1)),
        ("Range", [ints(10), ints(0), ints(-3)], {}, ints(10, 7, 4, 1)),
        ("Where", [np.array([True, False]), ints(1, 2), ints(3, 4)], {}, ints(1, 4)),
        ("Equal", [ints(1, 2), ints(1, 3)], {}, np.array([True, False])),
        ("Max", [np.array([1.0, 5.0]), np.array([2.0]), np.array([3.0])], {}, np.array([3.0, 5.0])),
        ("ReduceProd", [ints(2, 3, 4)], {"keepdims": 0}, ints(24).reshape(())),
        ("ReduceSum", [np.ones((2, 3)), ints(1)], {}, np.full((2, 1), 3.0)),
        ("ReduceSum", [np.ones((2, 3)), ints()], {"noop_with_empty_axes": 1}, np.ones((2, 3))),
        ("ReduceMean", [ints(1, 4)], {}, ints(2)),
        ("Shape", [np.ones((2, 3, 4))], {"start": 1, "end": -1}, ints(3)),
        ("Size", [np.ones((2, 3, 4))], {}, ints(24).reshape(())),
        ("Reciprocal", [np.array([0.0, 4.0])], {}, np.array([np.inf, 0.25])),
    ],
)
def test_values_and_types(op: str, arrays: Any, attrs: dict[str, Any], want: Any) -> None:
    got = fold(op, *arrays, **attrs)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    np.testing.assert_array_equal(got, want)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="Mod cannot be computed"):
        fold("Mod", ints(1, 2), ints(1, 2, 3))
    with pytest.raises(ShapeError, match="its step is 0"):
        fold("Range", ints(0), ints(1), ints(0))


def test_they_need_not_remain() -> None:
    graph = Graph()
    graph.add_tensor(Tensor("x", (1, 2), DType.FLOAT))
    node = add_inferred(graph, "ReduceProd", ["x"], ["y"])
    assert graph.tensor("y").shape == (1, 1)
    assert not graph.tensor("y").is_constant
    with pytest.raises(UnsupportedModelError, match="folds to a constant"):
        OPS.get("ReduceProd").interval(node, [None])


def test_a_shape_is_known_without_the_elements() -> None:
    graph = Graph()
    graph.add_tensor(Tensor("x", (1, 2), DType.FLOAT))
    add_inferred(graph, "Shape", ["x"], ["s"])
    np.testing.assert_array_equal(graph.tensor("s").data, [1, 2])


def test_which_fold_only() -> None:
    assert folds_only("Shape")
    assert not folds_only("Relu")
    assert not folds_only("NoSuchOperator")
    assert all(isinstance(op, FoldingOp) == folds_only(name) for name, op in OPS.items())
