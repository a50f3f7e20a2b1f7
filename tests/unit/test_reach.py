"""Models that nobody can pay for."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import onnx
import pytest

import ml2sc
from ml2sc.errors import ContractLimitError
from ml2sc.frontend.model_file import load_onnx
from ml2sc.frontend.onnx_import import import_graph
from ml2sc.ir.forks import FORKS
from ml2sc.reach import products


def first_layer(side: int, channels: int) -> onnx.ModelProto:
    """Return the first convolution of a ResNet, and means."""
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18]> net (float[1,3,{side},{side}] image) => (float[1,{channels},1,1] y) '
        "{ a = Conv<pads = [3,3,3,3], strides = [2,2]>(image, w) b = Relu(a) y = GlobalAveragePool(b) }"
    )
    weights = np.random.default_rng(0).normal(size=(channels, 3, 7, 7)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return model


def test_it_says_by_how_much_and_what_would_fit() -> None:
    with pytest.raises(ContractLimitError) as caught:
        ml2sc.compile(first_layer(1024, 64), precision="int8", input_ranges=((0.0, 1.0),))
    text = str(caught.value)
    assert f"an inference is {512 * 512 * 64 * 147:,} products by weights" in text
    assert "a transaction may use" in text
    assert "an eth_call may use 50,000,000: 4.9 times as much" in text
    assert "on bnb a call may use 300,000,000: perhaps enough (--chain-profile bnb)" in text
    assert "this network on images of" in text
    assert "instead of 1024 x 1024" in text


def test_it_says_how_wide_a_dense_network_could_be() -> None:
    shape = "float[1,4096,512]"  # the weights are there once: a file of 2 MB
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18]> net ({shape} x) => (float[1,4096,256] y) '
        "{ a = MatMul(x, w) b = Relu(a) y = MatMul(b, m) }"
    )
    for name, size in (("w", (512, 512)), ("m", (512, 256))):
        data = np.random.default_rng(0).normal(size=size).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(data, name))
    with pytest.raises(ContractLimitError) as caught:
        ml2sc.compile(model, precision="int8", input_ranges=((0.0, 1.0),))
    text = str(caught.value)
    share = math.sqrt(50_000_000 / (4096 * 512 * (512 + 256)))
    widths = " - ".join(str(math.floor(width * share)) for width in (512, 512, 256))
    assert (
        f"some 50,000,000 products fit an eth_call: this network with layers of {widths} instead of 512 - 512" in text
    )


def maps(side: int, channels: int) -> onnx.ModelProto:
    """Return a convolution that makes maps of an image's pixels, and one that reads them."""
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18]> net (float[1,1,{side},{side}] image) => (float[1,1,1,1] y) '
        "{ a = Conv(image, w) b = Relu(a) c = Conv(b, v) y = GlobalAveragePool(c) }"
    )
    for name, shape in (("w", (channels, 1, 1, 1)), ("v", (1, channels, 1, 1))):
        data = np.random.default_rng(0).uniform(0.5, 1.0, size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(data, name))
    return model


def test_memory_is_priced_before_anything_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("ml2sc.compiler.lower_graph")
    monkeypatch.setitem(FORKS, "prague", dataclasses.replace(FORKS["prague"], call_gas=60_000))
    with pytest.raises(ContractLimitError) as caught:
        ml2sc.compile(maps(64, 32), precision="int8", input_ranges=((0.0, 1.0),))
    text = str(caught.value)
    found = re.search(rf"{64 * 64 * 32:,} values of (\d+) bits", text)
    assert found is not None
    assert int(found[1]) > 8 + 7, "pixels stand in lanes of sums of 32 products"
    words = 64 * 64 * 32 * int(found[1]) // 256
    assert f"{3 * words + words * words // 512:,} of it for {words:,} words of memory" in text
    assert "an eth_call may use 60,000: " in text
    assert "on bnb a call may use 300,000,000: perhaps enough (--chain-profile bnb)" in text
    assert "less may fit: this network on images of" in text


def test_products() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18]> net (float[1,4,5,5] x) => (float[1,3] y) '
        "{ a = Conv<group = 2>(x, w) f = Flatten(a) g = Gemm<transB = 1>(f, m) y = MatMul(g, n) }"
    )
    weights = {"w": (6, 2, 3, 3), "m": (7, 54), "n": (7, 3)}
    for name, shape in weights.items():
        data = np.ones(shape, dtype=np.float32)
        data.flat[0] = 0
        model.graph.initializer.append(onnx.numpy_helper.from_array(data, name))
    counted = list(products(import_graph(load_onnx(model))).values())
    assert counted == [9 * (6 * 18 - 1), 7 * 54 - 1, 7 * 3 - 1]
