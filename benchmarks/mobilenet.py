"""MobileNetV1 at a quarter of its width (MLPerf Tiny's for person detection), with random weights: what a call costs.

It takes minutes. Alone: python -m benchmarks.mobilenet solidity
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import ml2sc
from ml2sc.errors import CheckError

from .jobs import TARGETS
from .networks import Floats

SIDE = 96
CHANNELS, FIRST = 3, 8
"""Of the image, and of what the first convolution makes of it."""
BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1))
"""Channels and stride of each block: a Conv 3×3 by channels, and a Conv 1×1."""
CLASSES = 2
CALIBRATION, SAMPLES = 4, 3
"""Images drawn."""


class _Layers:
    """The layers of a network under construction.

    Args:
        side: Height and width of its images.
    """

    def __init__(self, side: int) -> None:
        self.random, self.side, self.last = np.random.default_rng(0), side, "image"
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.products = 0

    def constant(self, name: str, shape: tuple[int, ...], deviation: float) -> str:
        """Add random numbers."""
        drawn = self.random.normal(size=shape) * deviation
        self.constants.append(numpy_helper.from_array(drawn.astype(np.float32), name))
        return name

    def conv(self, inputs: int, outputs: int, kernel: int, stride: int, group: int = 1) -> None:
        """Add a Conv whose padding is TensorFlow's `SAME`, and Relu."""
        number, each = len(self.nodes) // 2, inputs // group * kernel * kernel
        weights = self.constant(f"w{number}", (outputs, inputs // group, kernel, kernel), (2 / each) ** 0.5)
        bias = self.constant(f"b{number}", (outputs,), 0.05)
        side = -(-self.side // stride)
        padding = max((side - 1) * stride + kernel - self.side, 0)
        pads = [padding // 2] * 2 + [padding - padding // 2] * 2
        attributes = {"pads": pads, "strides": [stride] * 2, "group": group}
        self.nodes.append(helper.make_node("Conv", [self.last, weights, bias], [f"c{number}"], **attributes))
        self.nodes.append(helper.make_node("Relu", [f"c{number}"], [f"y{number}"]))
        self.side, self.last, self.products = side, f"y{number}", self.products + side * side * outputs * each


def network(side: int = SIDE) -> tuple[onnx.ModelProto, int]:
    """Return the network for images of a height and width, and its products, those by padding included."""
    layers = _Layers(side)
    layers.conv(CHANNELS, FIRST, 3, 2)
    channels = FIRST
    for outputs, stride in BLOCKS:
        layers.conv(channels, channels, 3, stride, group=channels)
        layers.conv(channels, outputs, 1, 1)
        channels = outputs
    weights = layers.constant("w", (channels, CLASSES), channels**-0.5)
    tail = (("GlobalAveragePool", [layers.last], "mean"), ("Flatten", ["mean"], "flat"))
    layers.nodes += [helper.make_node(op, inputs, [output]) for op, inputs, output in tail]
    layers.nodes.append(helper.make_node("MatMul", ["flat", weights], ["scores"]))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        layers.nodes,
        "mobilenet",
        [value("image", TensorProto.FLOAT, [1, CHANNELS, side, side])],
        [value("scores", TensorProto.FLOAT, [1, CLASSES])],
        layers.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model, layers.products + channels * CLASSES


def images(seed: int, count: int, side: int = SIDE) -> Floats:
    """Draw images."""
    return np.random.default_rng(seed).random((count, CHANNELS, side, side)).astype(np.float32)


def inference(target: str, side: int = SIDE) -> ml2sc.Report:
    """Compile, deploy and ask the network in int8, and return what was found.

    Raises:
        CheckError: the contract is not bit-exact.
        ContractLimitError: it does not fit.
        ToolchainError: a compiler or chain is missing or failed.
    """
    model, _ = network(side)
    data, ranges = {"image": images(1, CALIBRATION, side)}, ((0.0, 1.0),)
    compiled = ml2sc.compile(model, target, "int8", data, input_ranges=ranges, name="MobileNet", packed_only=True)
    report = ml2sc.check(ml2sc.build(compiled, ml2sc.Toolchain()), {"image": images(2, SAMPLES, side)})
    if not report.ok:
        raise CheckError(f"MobileNetV1, {target}: {report.failure}")
    return report


def main() -> None:
    """Measure the network for some targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="*", choices=TARGETS, default=TARGETS)
    parser.add_argument("--side", type=int, default=SIDE, help="height and width of the images")
    args = parser.parse_args()
    products = network(args.side)[1]
    for target in args.target:
        mean = inference(target, args.side).gas.mean
        sys.stdout.write(f"{target}: {products:,} products, {mean:,.0f} gas, {mean / products:.2f} a product\n")


if __name__ == "__main__":
    main()
