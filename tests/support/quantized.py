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
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from .random_models import Chooser

Array = npt.NDArray[Any]

EXAMPLES = Path(__file__).parents[2] / "examples"

TYPES = {
    "u8": QuantType.QUInt8,
    "s8": QuantType.QInt8,
    "u16": QuantType.QUInt16,
    "s4": QuantType.QInt4,
    "u4": QuantType.QUInt4,
}

ACTIVATIONS = ((TensorProto.UINT8, 8), (TensorProto.INT8, 8), (TensorProto.UINT16, 16), (TensorProto.UINT4, 4))
WEIGHTS = ((TensorProto.INT8, 8), (TensorProto.UINT8, 8), (TensorProto.INT4, 4))


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


def random_quantized(choose: Chooser) -> onnx.ModelProto:
    """Return a small random network in QDQ form, by hand: odd scales, zero points, widths and types.

    Args:
        choose: Makes the choices.
    """
    rng = np.random.default_rng(choose.number(0, 2**31))
    dyadic = choose.pick([False, False, False, True])  # powers of two: shifts do, nothing is multiplied

    def tidy(scale: Any) -> Any:
        return 2.0 ** np.round(np.log2(scale)) if dyadic else np.float32(scale)

    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, values: Array, kind: int) -> str:
        constants.append(helper.make_tensor(name, kind, list(np.shape(values)), np.ravel(values).tolist()))
        return name

    def qdq(x: str, name: str, reach: float) -> str:
        kind, bits = choose.pick(ACTIVATIONS)
        signed = kind in {TensorProto.INT8, TensorProto.INT16}
        low = -(1 << (bits - 1)) if signed else 0
        scale = tidy(reach / (1 << bits) * 2.0 ** rng.uniform(-2, 2))
        zero = choose.pick([0, low, low + (1 << bits) - 1, int(rng.integers(low, low + (1 << bits)))])
        pair = [
            constant(f"{name}.scale", np.array(float(scale)), TensorProto.FLOAT),
            constant(f"{name}.zero", np.array(zero), kind),
        ]
        nodes.append(helper.make_node("QuantizeLinear", [x, *pair], [f"{name}.q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", *pair], [f"{name}.r"]))
        return f"{name}.r"

    features = size = choose.pick([4, 1, 9, 40])
    h = qdq("x", "in", 4.0)
    for index in range(choose.number(1, 3)):
        outputs, name = choose.pick([3, 1, 8, 24, 90]), f"layer{index}"
        kind, bits = choose.pick(WEIGHTS)
        low = -(1 << (bits - 1)) if kind in {TensorProto.INT8, TensorProto.INT4} else 0
        channels = outputs if choose.pick([True, False]) else 1
        zero = rng.integers(low, low + (1 << bits), size=channels) if choose.pick([False, True]) else np.zeros(channels)
        scales = tidy(rng.uniform(0.5, 1, size=channels) * 2.0 ** -(bits + rng.integers(0, 6, size=channels)))
        w = rng.integers(low, low + (1 << bits), size=(features, outputs))
        inputs = [
            constant(f"{name}.w", w, kind),
            constant(f"{name}.scale", scales.astype(float), TensorProto.FLOAT),
            constant(f"{name}.zero", zero.astype(int), kind),
        ]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.weights"], axis=1))
        operands = [h, f"{name}.weights"]
        if choose.pick([True, False]):
            operands.append(constant(f"{name}.bias", rng.normal(size=outputs), TensorProto.FLOAT))
        nodes.append(helper.make_node("Gemm", operands, [f"{name}.y"]))
        h = f"{name}.y"
        if choose.pick([True, False]):
            nodes.append(helper.make_node("Relu", [h], [f"{name}.relu"]))
            h = f"{name}.relu"
        features = outputs
        h = qdq(h, f"{name}.out", 2.0 * features**0.5) if choose.pick([True, True, True, False]) else h
    nodes.append(helper.make_node("Identity", [h], ["y"]))
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, d]) for n, d in (("x", size), ("y", features)))
    graph = helper.make_graph(nodes, "quantised", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def example(name: str) -> tuple[onnx.ModelProto, Array, Array]:
    """Return an example's float model, 60 calibration inputs and its test inputs."""
    folder = EXAMPLES / name
    with np.load(folder / "calibration.npz") as calibration, np.load(folder / "samples.npz") as samples:
        return onnx.load(folder / f"{name}.onnx"), calibration["x"][:60], samples["x"]


def training(name: str) -> Array:
    """Return all of an example's calibration inputs."""
    with np.load(EXAMPLES / name / "calibration.npz") as calibration:
        inputs: Array = calibration["x"]
        return inputs


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
