"""The model as onnxruntime runs it, with its external data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from skl2onnx import to_onnx
from sklearn.tree import DecisionTreeRegressor
from support.networks import dense

import ml2sc
from ml2sc.runtime.float_model import open_onnxruntime


@pytest.mark.parametrize("name", ["weights.bin", "model.onnx", "model.onnx/w", "Model1.onnx"])
def test_external_data_of_any_name(tmp_path: Path, name: str) -> None:
    """Where the name of one is what the model would be called, the model is called otherwise."""
    proto = dense(3, 2)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    onnx.save(proto, tmp_path / "net.onnx", save_as_external_data=True, location=name, size_threshold=0)
    inputs = {"x": np.array([[0.5, -0.25, 1.0]])}
    answers = []
    for model in (tmp_path / "net.onnx", dense(3, 2)):
        with open_onnxruntime(ml2sc.compile(model, precision="int8", input_ranges=((-1.0, 1.0),))) as run:
            answers.append(run(inputs).outputs.tolist())
    assert answers[0] == answers[1]


def test_types_that_onnxruntime_does_not_take() -> None:
    """skl2onnx declares the results of trees of doubles as such, which the operator does not give."""
    x = np.random.default_rng(0).normal(size=(40, 3))
    tree = DecisionTreeRegressor(max_depth=3).fit(x, x[:, 0] > x[:, 1])
    with open_onnxruntime(ml2sc.compile(to_onnx(tree, x[:1]))) as run:
        assert isinstance(run, str)
        assert "does not take the model's types: Type (tensor(double))" in run
