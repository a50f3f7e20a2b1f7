"""The model as onnxruntime runs it, with its external data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
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
