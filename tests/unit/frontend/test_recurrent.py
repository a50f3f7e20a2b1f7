"""Recurrent layers: onnxruntime is the judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.recurrent import GATES, INPUTS, SIZE, STEPS, layer

from ml2sc.errors import UnsupportedModelError
from ml2sc.frontend.model_file import load_onnx
from ml2sc.frontend.onnx_import import import_graph
from ml2sc.ir.evaluate import evaluate_float

CASES = {
    **{op_type: layer(op_type) for op_type in GATES},
    **{f"{op_type}, backwards": layer(op_type, direction="reverse", states=True) for op_type in GATES},
    **{f"{op_type}, both ways": layer(op_type, direction="bidirectional", states=True) for op_type in GATES},
    **{f"{op_type}, no bias": layer(op_type, bias=False, lens=STEPS) for op_type in GATES},
    "reset behind": layer("GRU", linear_before_reset=1, states=True),
    "reset behind, from zero": layer("GRU", linear_before_reset=1),
    "activations": layer("LSTM", activations=["Tanh", "relu", "Softsign"]),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_onnxruntime_computes(name: str, kit: Any) -> None:
    kit.assert_like_onnxruntime(CASES[name], samples=2)


def test_the_batch_may_come_first() -> None:
    """There is no layout 1 in onnxruntime: the same numbers, in another shape."""
    plain, other = (import_graph(load_onnx(layer("GRU", layout=layout))) for layout in (0, 1))
    x = np.random.default_rng(1).normal(size=(STEPS, INPUTS))
    first = evaluate_float(plain, {"x": x[:, None]})[plain.outputs[0]]
    second = evaluate_float(other, {"x": x[None]})[other.outputs[0]]
    assert first.shape == (STEPS, 1, 1, SIZE)
    assert second.shape == (1, STEPS, 1, SIZE)
    np.testing.assert_array_equal(first.ravel(), second.ravel())


@pytest.mark.parametrize(
    ("attrs", "said"),
    [
        ({"clip": 1.0}, "clip of a recurrent layer"),
        ({"input_forget": 1}, "input_forget of a recurrent layer"),
        ({"activations": ["Sigmoid", "Affine", "Tanh"]}, "activations Sigmoid, Affine, Tanh"),
        ({"lens": 2}, "sequences that are shorter than their 3 steps"),
    ],
)
def test_what_is_not_supported_is_said(attrs: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedModelError, match=said):
        import_graph(load_onnx(layer("LSTM", **attrs)))
