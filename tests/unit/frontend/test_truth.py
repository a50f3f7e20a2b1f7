"""Labels and target values: which model is held to which."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import ml2sc
from ml2sc.errors import DataError
from ml2sc.frontend.data import samples_from_arrays
from ml2sc.frontend.truth import Truth

X = np.random.default_rng(1).uniform(-1, 1, (12, 3))


def truth(labels: Any, outputs: int = 3, last: str = "Identity") -> Truth:
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18]> t (float[1,3] x) => (float[1,{outputs}] y) '
        f"<float[3,{outputs}] w = {{{', '.join(['1'] * 3 * outputs)}}}> {{ h = MatMul(x, w) y = {last}(h) }}"
    )
    graph = ml2sc.quantize(ml2sc.lift(model, precision="int8", input_ranges=((-1.0, 1.0),))).graph
    return Truth.of(samples_from_arrays({"x": X, "y": labels}, graph), graph)


@pytest.mark.parametrize("shape", [(12,), (12, 1)])
@pytest.mark.parametrize(("outputs", "last", "classes"), [(3, "Identity", 3), (1, "Sigmoid", 2)])
def test_one_label_a_sample(shape: tuple[int, ...], outputs: int, last: str, classes: int) -> None:
    labels = np.arange(12) % classes
    found = truth(labels.reshape(shape).astype(np.float32), outputs, last)
    assert [found.label(i) for i in range(12)] == labels.tolist()
    assert found.targets is None
    assert found.part(3, 5).label(0) == labels[3]


@pytest.mark.parametrize(("outputs", "shape"), [(1, (12,)), (1, (12, 1)), (3, (12, 3))])
def test_values(outputs: int, shape: tuple[int, ...]) -> None:
    values = np.arange(float(np.prod(shape))).reshape(shape)
    found = truth(values, outputs)
    assert found.labels is None
    assert found.target(4) == values.reshape(12, -1)[4].tolist()
    assert found.part(4, 6).target(1) == found.target(5)


@pytest.mark.parametrize(("outputs", "shape"), [(3, (12, 2)), (1, (12, 3)), (3, (12, 3, 1))])
def test_what_fits_nothing_is_not_used(outputs: int, shape: tuple[int, ...]) -> None:
    found = truth(np.zeros(shape), outputs)
    assert found.labels is found.targets is found.label(0) is None
    assert found.target(0) == []


@pytest.mark.parametrize(
    ("labels", "outputs", "last", "said"),
    [
        (np.arange(12) % 4, 3, "Identity", "the first is 3, of sample 3"),
        (np.arange(12) - 1, 3, "Identity", "the first is -1, of sample 0"),
        (np.full(12, 1.5), 3, "Identity", "12 of 12 labels .* the first is 1.5"),
        (np.arange(12) % 3, 1, "Sigmoid", "the first is 2, of sample 2"),
    ],
)
def test_labels_that_are_no_classes(labels: Any, outputs: int, last: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        truth(labels, outputs, last)
    assert str(caught.value.hint).startswith("the classes are 0, 1")
