"""Networks of images that cannot be: the command says what, where and what to do, and writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from .conftest import Run

IMAGE = "float[1,4,8,8] image"
BAD: dict[str, tuple[str, str, dict[str, Any], str, str]] = {
    "channels in groups": (
        "float[1,5,8,8] image",
        "y = Conv<group = 2>(image, w)",
        {"w": (4, 2, 3, 3)},
        "5 channels and 4 outputs do not divide into 2 groups",
        "the attribute group must divide both",
    ),
    "channels of a kernel": (
        IMAGE,
        "y = Conv<group = 2>(image, w)",
        {"w": (4, 3, 3, 3)},
        "takes 6 channels in 2 groups, the input [1, 4, 8, 8] has 4",
        "divided by the attribute group",
    ),
    "a large kernel": (
        IMAGE,
        "y = Conv<pads = [0,1,0,1]>(image, w)",
        {"w": (1, 4, 3, 11)},
        "the kernel spans 11 elements of spatial axis 1, and the input has 8, 10 with its padding",
        "more padding or a smaller kernel",
    ),
    "a dilated kernel": (
        IMAGE,
        "y = Conv<dilations = [4,1]>(image, w)",
        {"w": (1, 4, 3, 3)},
        "the kernel spans 9 elements of spatial axis 0",
        "use a larger input",
    ),
    "a large pool of a signal": (
        "float[1,4,8] image",
        "y = AveragePool<kernel_shape = [9]>(image)",
        {},
        "the kernel spans 9 elements of spatial axis 0",
        "a smaller kernel",
    ),
    "a kernel less than nothing": (
        "float[1,1,2,2] image",
        "y = ConvTranspose<pads = [2,2,2,2]>(image, w)",
        {"w": (1, 1, 2, 2)},
        "[-1, -1] are left",
        "use smaller pads",
    ),
    "a padding less than nothing": (
        IMAGE,
        "y = Pad(image, p)",
        {"p": np.array([0, 0, -5, 0, 0, 0, -4, 0])},
        "leave nothing of [1, 4, 8, 8]",
        "all elements but one",
    ),
    "a padding that leaves nothing": (
        IMAGE,
        "y = Pad(image, p)",
        {"p": np.array([0, 0, -4, 0, 0, 0, -4, 0])},
        "a tensor has no elements",
        "keep one element at least",
    ),
    "a size less than nothing": (
        IMAGE,
        "y = Resize(image, , , s)",
        {"s": np.array([1, 4, -2, 8])},
        "Resize of [1, 4, 8, 8] to [1, 4, -2, 8]",
        "larger scales or sizes",
    ),
    "blocks": (
        "float[1,6,8,8] image",
        "y = DepthToSpace<blocksize = 2>(image)",
        {},
        "is not divided by blocks of 2",
        "the channels must be a multiple of 4",
    ),
    "a dynamic height": (
        "float[n,3,height,8] image",
        "y = Conv(image, w)",
        {"w": (4, 3, 3, 3)},
        "only the first (batch) dimension of an input may be dynamic",
        "with all other dimensions fixed",
    ),
    "more elements than any memory": (
        IMAGE,
        "y = Pad(image, p)",
        {"p": np.array([0, 0, 2044, 2044, 0, 0, 2044, 2044])},
        "a tensor of 67,",
        "a smaller one",
    ),
}


def written(path: Path, inputs: str, body: str, constants: dict[str, Any]) -> Path:
    """Write a model; constants are arrays, or shapes of ones."""
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18]> net ({inputs}) => (float[?] y) {{ {body} }}'
    )
    for key, value in constants.items():
        array = np.ones(value, np.float32) if isinstance(value, tuple) else value
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, key))
    onnx.save(model, path)
    return path


def refused(compile_model: Run, tmp_path: Path, model: Path) -> str:
    before = sorted(tmp_path.iterdir())
    result = compile_model(model, "--precision", "int8", "--input-range", "0,1", "-o", tmp_path / "out")
    assert result.status == 1, result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    assert sorted(tmp_path.iterdir()) == before
    text: str = result.err
    return text


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_in_words(name: str, compile_model: Run, tmp_path: Path) -> None:
    inputs, body, constants, what, remedy = BAD[name]
    err = refused(compile_model, tmp_path, written(tmp_path / "net.onnx", inputs, body, constants))
    assert what in err
    assert "hint: " in err
    assert remedy in " ".join(err.split())
    assert ("tensor: %image" if "dynamic" in name else "node: ") in err


def resnet18() -> tuple[str, dict[str, Any]]:
    """Return ResNet-18's layers; those of one shape share their weights."""
    steps, constants, last = ["x0 = Conv<strides = [2,2], pads = [3,3,3,3]>(image, w0)"], {"w0": (64, 3, 7, 7)}, "p0"
    steps.append("p0 = MaxPool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]>(x0)")
    channels = 64
    for number, outputs in enumerate((64, 64, 128, 128, 256, 256, 512, 512), 1):
        stride = outputs // channels
        constants |= {f"a{inputs}x{outputs}": (outputs, inputs, 3, 3) for inputs in (channels, outputs)}
        steps += [
            f"a{number} = Conv<pads = [1,1,1,1], strides = [{stride},{stride}]>({last}, a{channels}x{outputs})",
            f"b{number} = Relu(a{number})",
            f"c{number} = Conv<pads = [1,1,1,1]>(b{number}, a{outputs}x{outputs})",
        ]
        short = last
        if stride > 1:
            short = f"s{number}"
            constants[f"w{number}"] = (outputs, channels, 1, 1)
            steps.append(f"{short} = Conv<strides = [{stride},{stride}]>({last}, w{number})")
        steps += [f"d{number} = Add(c{number}, {short})", f"p{number} = Relu(d{number})"]
        last, channels = f"p{number}", outputs
    constants["m"] = (512, 1000)
    return " ".join([*steps, f"g = GlobalAveragePool({last}) f = Flatten(g) y = Gemm(f, m)"]), constants


def test_resnet_18_is_too_much_by_numbers(compile_model: Run, tmp_path: Path) -> None:
    body, constants = resnet18()
    err = refused(compile_model, tmp_path, written(tmp_path / "net.onnx", "float[1,3,224,224] image", body, constants))
    assert "error[ML133]: an inference is 1,814,073,344 products by weights" in err
    for chain in ("glamsterdam", "base", "bnb", "arbitrum"):
        assert f"  on {chain} a call may use" in err
    assert "a transaction may use 60,000,000: 3.0 times as much" in err
    assert "an eth_call may use 50,000,000: 3.6 times as much" in err
    assert "this network on images of 40 x 40 instead of 224 x 224" in err
