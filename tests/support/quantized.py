"""Models that come quantised, as onnxruntime.quantization writes them, and onnxruntime's answers."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

Array = npt.NDArray[Any]

EXAMPLES = Path(__file__).parents[2] / "examples"

TYPES = {
    "u8": QuantType.QUInt8,
    "s8": QuantType.QInt8,
    "u16": QuantType.QUInt16,
    "s4": QuantType.QInt4,
    "u4": QuantType.QUInt4,
}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, samples: Array) -> None:
        self.feeds = iter([{name: sample[None].astype(np.float32)} for sample in samples])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.feeds, None)


def quantized(model: onnx.ModelProto, samples: Array, form: str) -> onnx.ModelProto:
    """Return a float model quantised statically.

    Args:
        model: The model, with one input.
        samples: Calibration inputs of shape (samples, …).
        form: Words of `QDQ` or `QOperator`, types of activations and weights (`u8s8`), `channel`, `symmetric`.
    """
    kind, types, *more = form.split()
    activation, weight = next((a, w) for a in TYPES for w in TYPES if a + w == types)
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it recommends pre-processing, on the root logger
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            quantize_static(
                model,
                path,
                _Reader(model.graph.input[0].name, samples),
                quant_format=QuantFormat[kind],
                activation_type=TYPES[activation],
                weight_type=TYPES[weight],
                per_channel="channel" in more,
                extra_options={"ActivationSymmetric": "symmetric" in more},
            )
            return onnx.load(path)
    finally:
        logging.disable(before)


def example(name: str) -> tuple[onnx.ModelProto, Array, Array]:
    """Return an example's float model, 60 calibration inputs and its test inputs."""
    folder = EXAMPLES / name
    with np.load(folder / "calibration.npz") as calibration, np.load(folder / "samples.npz") as samples:
        return onnx.load(folder / f"{name}.onnx"), calibration["x"][:60], samples["x"]


def onnxruntime_answers(model: onnx.ModelProto, samples: Array) -> Array:
    """Return onnxruntime's outputs, float64 of shape (samples, outputs), its 8-bit sums exact on any processor."""
    for exact in ("1", "0"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.x64quantprecision", exact)
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        except NoKernel:
            continue
        name = session.get_inputs()[0].name
        answers = [session.run(None, {name: sample[None].astype(np.float32)})[0].ravel() for sample in samples]
        return np.array(answers, dtype=np.float64)
    raise AssertionError("onnxruntime has no kernel for one of the operators")
