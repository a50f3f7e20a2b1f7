"""What ONNX's own node tests (tests/unit/frontend) do not show: other element types, bounds, errors, mistakes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from ml2sc.errors import Ml2scError, ShapeError, UnsupportedModelError
from ml2sc.ir.graph import Node, Tensor
from ml2sc.ir.ops import OPS, Bounds, ErrorContext, MovementOp
from ml2sc.ir.types import Array, DType, FixedPoint


def ints(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


# operator, attributes, further inputs, number of outputs; the data have shape (1, 2, 3)
CASES = [
    ("Identity", {}, [], 1),
    ("Dropout", {}, [], 1),
    ("Cast", {"to": 1}, [], 1),
    ("Flatten", {"axis": 2}, [], 1),
    ("Reshape", {}, [ints(0, -1)], 1),
    ("Squeeze", {}, [ints(0)], 1),
    ("Squeeze", {}, [], 1),
    ("Unsqueeze", {}, [ints(0, -1)], 1),
    ("Transpose", {}, [], 1),
    ("Transpose", {"perm": (0, 2, 1)}, [], 1),
    ("Concat", {"axis": 1}, [], 1),
    ("Split", {"axis": 2}, [ints(1, 2)], 2),
    ("Split", {"axis": -1}, [], 2),
    ("Slice", {}, [ints(2), ints(-100), ints(2), ints(-1)], 1),
    ("Slice", {}, [ints(0, 1), ints(1, 2)], 1),
    ("Gather", {"axis": 2}, [ints(-1, 0, 0)], 1),
    ("Expand", {}, [ints(2, 1, 1, 1)], 1),
    ("Tile", {}, [ints(1, 2, 1)], 1),
]


def build(
    op: str,
    attrs: dict[str, Any],
    further: list[Array],
    outputs: int = 1,
    shape: tuple[int, ...] = (1, 2, 3),
    type_: DType = DType.FLOAT,
) -> tuple[Node, list[Tensor]]:
    tensors = [Tensor("x", shape, type_)]
    tensors += [Tensor(f"c{i}", c.shape, DType.INT64, c) for i, c in enumerate(further)]
    node = Node("n", op, tuple(t.name for t in tensors), tuple(f"y{i}" for i in range(outputs)), attrs)
    return node, tensors


@pytest.mark.parametrize(("op", "attrs", "further", "outputs"), CASES)
def test_every_kind_of_element(op: str, attrs: dict[str, Any], further: list[Array], outputs: int) -> None:
    """The same element numbers come out, whatever carries them; float errors and integer bounds move alike."""
    node, tensors = build(op, attrs, further, outputs)
    definition = OPS.get(op)
    definition.verify(node, tensors)
    numbers = np.arange(6).reshape(1, 2, 3)
    want = definition.evaluate(node, [numbers.astype(np.float64), *further])
    assert [(w.shape, DType.FLOAT) for w in want] == definition.infer(node, tensors)
    for dtype in (np.int64, object):
        got = definition.evaluate(node, [numbers.astype(dtype), *further])
        assert all(g.dtype == dtype for g in got)
        assert all((g == w).all() for g, w in zip(got, want, strict=True))

    assert isinstance(definition, MovementOp)
    bounds = [Bounds(numbers - 1.0, numbers + 1.0), *(Bounds(c, c) for c in further)]
    for (lo, hi), w in zip(definition.interval(node, bounds), want, strict=True):
        assert (lo == w - 1).all()
        assert (hi == w + 1).all()
    quantised = [Tensor("x", (1, 2, 3), FixedPoint(8, True, Fraction(1, 4))), *tensors[1:]]
    for no_error in (None, np.zeros(3)):  # shapes and indices have no error, however that is said
        context = ErrorContext([numbers * 0.5, *(no_error for _ in further)], bounds, [])
        errors = definition.error(node, quantised, context)
        assert all((e == w * 0.5).all() for e, w in zip(errors, want, strict=True))


def test_a_concat_with_a_rounded_constant() -> None:
    fmt = FixedPoint(8, True, Fraction(1, 4))
    tensors = [Tensor("x", (1, 2), fmt), Tensor("c", (1, 2), fmt, np.array([[1, 2]]), real=np.array([[0.25, 0.6]]))]
    node = Node("n", "Concat", ("x", "c"), ("y",), {"axis": 1})
    context = ErrorContext([np.array([[0.5, 0.5]]), None], [None, None], [])
    np.testing.assert_allclose(OPS.get("Concat").error(node, tensors, context)[0], [[0.5, 0.5, 0.0, 0.1]])


@pytest.mark.parametrize(
    ("op", "attrs", "further", "match"),
    [
        ("Flatten", {"axis": 4}, [], "axis 4"),
        ("Reshape", {}, [ints(5)], "cannot reshape"),
        ("Reshape", {}, [ints(-1, -1)], "cannot reshape"),
        ("Reshape", {}, [ints(1, 2, 3, 0)], "nothing to keep"),
        ("Reshape", {"allowzero": 1}, [ints(0, 6)], "cannot reshape"),
        ("Squeeze", {}, [ints(1)], "cannot squeeze"),
        ("Unsqueeze", {}, [ints(0, 0)], "twice"),
        ("Transpose", {"perm": (0, 1)}, [], "perm"),
        ("Concat", {"axis": 3}, [], "axis 3"),
        ("Split", {"axis": 2}, [ints(1, 1)], "cannot split"),
        ("Slice", {}, [ints(0), ints(1), ints(0), ints(0)], "do not fit"),
        ("Slice", {}, [ints(0), ints(1, 2)], "do not fit"),
        ("Gather", {"axis": 2}, [ints(3)], "index 3 is outside"),
        ("Expand", {}, [ints(2, 2)], "do not broadcast"),
        ("Tile", {}, [ints(2)], "1 repeats"),
    ],
)
def test_what_does_not_fit(op: str, attrs: dict[str, Any], further: list[Array], match: str) -> None:
    node, tensors = build(op, attrs, further)
    with pytest.raises(ShapeError, match=match) as caught:
        OPS.get(op).infer(node, tensors)
    assert "'n'" in caught.value.node


@pytest.mark.parametrize("op", ["Reshape", "Unsqueeze", "Split", "Slice", "Gather", "Expand", "Tile"])
def test_shapes_and_indices_must_be_constant(op: str) -> None:
    node, tensors = build(op, {}, [ints(0), ints(1)] if op == "Slice" else [ints(0)])
    tensors[1].data = None
    check = OPS.get(op).verify if op == "Gather" else OPS.get(op).infer
    with pytest.raises(UnsupportedModelError, match="must be constant"):
        check(node, tensors)


@pytest.mark.parametrize(
    ("op", "attrs", "type_"),
    [
        ("Cast", {"to": 7}, DType.FLOAT),
        ("Cast", {"to": 9}, DType.INT64),
        ("Cast", {"to": 8}, DType.FLOAT),
        ("Cast", {}, DType.FLOAT),
    ],
)
def test_casts_that_are_not_supported(op: str, attrs: dict[str, Any], type_: DType) -> None:
    node, tensors = build(op, attrs, [], type_=type_)
    with pytest.raises(Ml2scError, match="Cast"):
        OPS.get(op).verify(node, tensors)


@pytest.mark.parametrize(("code", "type_"), [(6, DType.INT64), (1, DType.FLOAT), (11, DType.FLOAT)])
def test_a_label_may_be_cast_to_a_number(code: int, type_: DType) -> None:
    node, tensors = build("Cast", {"to": code}, [], type_=DType.INT64)
    OPS.get("Cast").verify(node, tensors)
    assert OPS.get("Cast").infer(node, tensors) == [((1, 2, 3), type_)]


def test_concat_of_shapes_that_differ() -> None:
    node = Node("n", "Concat", ("x", "z"), ("y",), {"axis": 0})
    with pytest.raises(ShapeError, match=r"cannot join \[1, 2\], \[1, 3\] along axis 0"):
        OPS.get("Concat").infer(node, [Tensor("x", (1, 2), DType.FLOAT), Tensor("z", (1, 3), DType.FLOAT)])
