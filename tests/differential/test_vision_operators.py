"""Convolutions, pools, padding and norms of images on both targets: contract == interpreter, within the bound."""

from __future__ import annotations

import os
from itertools import product

import numpy as np
import onnx
import pytest
from support import heavy
from support.checking import check_bounds, check_interpreters, check_outputs, compiled
from support.contracts import check_contract, deployed, packed_and_wads

import ml2sc

SWEEP = bool(os.environ.get("ML2SC_SWEEP"))
IMAGE = "float[1,2,5,4] x"
MODELS = {
    "convolutions": (
        IMAGE,
        "float[1,3,3,2] a, float[1,2,3,2] b, float[1,3,5,4] d",
        (
            "a = Conv<strides = [2,2], pads = [1,1,1,1]>(x, w3, b3) "
            "b = Conv<group = 2, dilations = [2,2], pads = [1,1,1,1]>(x, deep) "
            'd = Conv<auto_pad = "SAME_LOWER">(x, w2)'
        ),
    ),
    "pools": (
        IMAGE,
        "float[1,2,3,2] a, float[1,2,5,4] b, float[1,2,1,1] d, float[1,2,1,1] e, float[1,2,4,3] f",
        (
            "a = MaxPool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1>(x) "
            "b = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(x) d = GlobalAveragePool(x) e = GlobalMaxPool(x) "
            "f = LpPool<kernel_shape = [2,2], p = 1>(x)"
        ),
    ),
    "transposed": (IMAGE, "float[1,3,11,9] a", "a = ConvTranspose<strides = [2,2]>(x, up, b3)"),
    "a convolution of a signal": (
        "float[1,2,9] x",
        "float[1,2,4] b",
        "a = Conv<strides = [2]>(x, w1) b = Relu(a)",
    ),
    "blocks": (
        "float[1,4,2,4] x",
        "float[1,1,4,8] a, float[1,1,4,8] b, float[1,16,1,2] d",
        (
            'a = DepthToSpace<blocksize = 2>(x) b = DepthToSpace<blocksize = 2, mode = "CRD">(x) '
            "d = SpaceToDepth<blocksize = 2>(x)"
        ),
    ),
    "sizes": (
        IMAGE,
        "float[1,2,7,6] a, float[1,2,9,8] b, float[1,2,4,5] d, float[1,2,10,8] e, float[1,2,10,8] f",
        (
            'a = Pad(x, rim, half) b = Pad<mode = "reflect">(x, wide) d = Pad<mode = "edge">(x, less) '
            'e = Resize<mode = "nearest">(x, , twice) f = Resize<mode = "linear">(x, , twice)'
        ),
    ),
    "norms of channels": (
        IMAGE,
        "float[1,2,5,4] a, float[1,2,5,4] b, float[1,2,1,1] d",
        "a = InstanceNormalization(x, ones, halves) b = LRN<size = 3, alpha = 0.1>(x) d = GlobalLpPool<p = 2>(x)",
    ),
    "a phase whose rows have no taps": (
        "float[1,6,1,5] x",
        "float[1,1,3,11] a",
        "a = ConvTranspose<strides = [2, 2], pads = [0, 0, 2, 0]>(x, long)",
    ),
    "norms of rows": (
        "float[1,4,2,3] x",
        "float[1,4,2,3] a",
        "a = LayerNormalization(x, thirds)",
    ),
}
OTHERS = {
    "of opset 9": (IMAGE, "float[1,2,10,8] a", "a = Upsample(x, twice)"),
    "of opset 21": (IMAGE, "float[1,2,5,4] a", "a = GroupNormalization<num_groups = 1>(x, ones, halves)"),
}
"""Operators that opset 18 does not have, or not any more."""
PRECISIONS = ["int8", "w3a5", "w16a16", "q8.20"] if SWEEP else ["int8", "w12a12"]


def model_of(name: str) -> onnx.ModelProto:
    inputs, outputs, body = (MODELS | OTHERS)[name]
    rng = np.random.default_rng(5)
    shapes = {
        "w3": (3, 2, 3, 3),
        "w2": (3, 2, 2, 2),
        "w1": (2, 2, 3),
        "deep": (2, 1, 3, 3),
        "up": (2, 3, 3, 3),
        "long": (6, 1, 5, 3),
        "b3": (3,),
    }
    constants = {key: rng.uniform(-1, 1, shape).astype(np.float32) for key, shape in shapes.items()}
    constants |= {key: np.array(values, np.int64) for key, values in RIMS.items()}
    constants |= {"half": np.float32(0.5), "twice": np.array([1, 1, 2, 2], np.float32)}
    constants |= {"thirds": np.array([1 / 3, -2, 3], np.float32)}
    constants |= {"ones": np.ones(2, np.float32), "halves": np.full(2, 0.5, np.float32)}
    opset = int(name.split()[-1]) if name in OTHERS else 18
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : {opset}]> tiny ({inputs}) => ({outputs}) {{ {body} }}'
    )
    used = {i for node in model.graph.node for i in node.input}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in constants.items() if k in used)
    onnx.checker.check_model(model, full_check=True)
    return model


RIMS = {
    "rim": (0, 0, 1, 1, 0, 0, 1, 1),
    "wide": (0, 0, 2, 1, 0, 0, 2, 3),
    "less": (0, 0, -1, 1, 0, 0, 0, 0),
}


def samples_of(model: onnx.ModelProto) -> list[dict[str, np.ndarray]]:
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    rng = np.random.default_rng(3)
    rows = [rng.uniform(-2, 2, shape).astype(np.float32).astype(np.float64) for _ in range(3)]
    return [{"x": row} for row in (*rows, np.full(shape, 2.0), np.full(shape, -2.0))]


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        case
        for at, name in enumerate([*MODELS, *OTHERS])
        for case in heavy.unless(
            lambda case, at=at: SWEEP or (at % 2 == 1 and case[1] == PRECISIONS[1]), product([name], PRECISIONS)
        )
    ],
)
def test_without_a_chain(name: str, precision: str) -> None:
    model = model_of(name)
    samples = samples_of(model)
    artifact = compiled(model, precision=precision, input_ranges=((-2.0, 2.0),))
    check_interpreters(artifact, samples, [])
    check_bounds(artifact, 2, samples)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *((name, "solidity") for name in [*MODELS, *OTHERS]),
        *(pytest.param(name, "vyper", marks=() if name == "convolutions" else pytest.mark.heavy) for name in MODELS),
    ],
)
def test_on_the_evm(name: str, target: str, toolchain: ml2sc.Toolchain) -> None:
    model = model_of(name)
    samples = samples_of(model)
    artifact = compiled(model, precision="int8", target=target, input_ranges=((-2.0, 2.0),), optimize="deploy")
    packed, wads = packed_and_wads(artifact, samples)
    contract = deployed(artifact, toolchain)
    check_contract(contract, artifact, packed, wads)
    for sample, values in zip(samples, wads, strict=True):
        check_outputs(artifact, sample, contract.predict(values))


def test_a_convolution_that_comes_quantised(toolchain: ml2sc.Toolchain) -> None:
    """QLinearConv: the contract's integers are the operator's own."""
    rng = np.random.default_rng(1)
    constants = {
        "s": np.float32(1 / 64),
        "z": np.uint8(128),
        "w": rng.integers(-127, 128, (3, 2, 3, 3)).astype(np.int8),
        "ws": np.array([0.01, 0.02, 0.005], np.float32),
        "wz": np.zeros(3, np.int8),
        "ys": np.float32(0.05),
        "yz": np.uint8(120),
        "b": rng.integers(-500, 500, 3).astype(np.int32),
    }
    body = (
        "q = QuantizeLinear(x, s, z) r = QLinearConv<pads = [1,1,1,1]>(q, s, z, w, ws, wz, ys, yz, b) "
        "y = DequantizeLinear(r, ys, yz)"
    )
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18]> tiny ({IMAGE}) => (float[1,3,5,4] y) {{ {body} }}'
    )
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in constants.items())
    samples = samples_of(model)
    artifact = compiled(model, input_ranges=((-2.0, 2.0),))
    check_interpreters(artifact, samples, [])
    packed, wads = packed_and_wads(artifact, samples)
    contract = deployed(artifact, toolchain)
    check_contract(contract, artifact, packed, wads)
    for sample, values in zip(samples, wads, strict=True):
        check_outputs(artifact, sample, contract.predict(values))
