"""Small convolutional networks with weights from a seed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper


def digits_like(
    size: int, channels: Sequence[int], outputs: int, *, seed: int = 1, kernel: int = 3, pool: bool = True
) -> onnx.ModelProto:
    """Return convolutions with padding, Relu and a 2 x 2 pool each, and a Gemm behind them.

    Args:
        size: Height and width of the image.
        channels: Of the input, and of each convolution.
        outputs: Of the network.
        seed: Of the weights.
        kernel: Height and width of the kernels.
        pool: Whether there are pools.
    """
    rng = np.random.default_rng(seed)
    nodes, constants, name, side = [], [], "x", size
    for layer, (before, after) in enumerate(itertools.pairwise(channels)):
        w = rng.normal(size=(after, before, kernel, kernel)) / (before * kernel)
        for letter, array in (("w", w), ("b", rng.normal(size=after) / 4)):
            constants.append(numpy_helper.from_array(array.astype(np.float32), f"{letter}{layer}"))
        pads = [kernel // 2] * 4
        nodes.append(
            helper.make_node("Conv", [name, f"w{layer}", f"b{layer}"], [f"c{layer}"], f"conv{layer}", pads=pads)
        )
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"], f"relu{layer}"))
        name = f"r{layer}"
        if pool:
            shape = {"kernel_shape": [2, 2], "strides": [2, 2]}
            nodes.append(helper.make_node("MaxPool", [name], [f"p{layer}"], f"pool{layer}", **shape))
            name, side = f"p{layer}", side // 2
    flat = channels[-1] * side * side
    last = rng.normal(size=(flat, outputs)) / np.sqrt(flat)
    constants.append(numpy_helper.from_array(last.astype(np.float32), "last"))
    nodes += [
        helper.make_node("Flatten", [name], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "last"], ["y"], "last"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels[0], size, size])]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, outputs])]
    graph = helper.make_graph(nodes, "cnn", inputs, results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def products(channels: Sequence[int], size: int) -> onnx.ModelProto:
    """Return convolutions of one tap with Relu, and the mean of each channel.

    Args:
        channels: Of the input, and of each convolution.
        size: Height and width of the image.
    """
    rng = np.random.default_rng(0)
    nodes, constants, name = [], [], "x"
    for layer, (before, after) in enumerate(itertools.pairwise(channels)):
        w = rng.normal(size=(after, before, 1, 1)) * (2 / before) ** 0.5
        constants.append(numpy_helper.from_array(w.astype(np.float32), f"w{layer}"))
        nodes.append(helper.make_node("Conv", [name, f"w{layer}"], [f"c{layer}"], f"pointwise{layer}"))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"], f"relu{layer}"))
        name = f"r{layer}"
    nodes.append(helper.make_node("GlobalAveragePool", [name], ["y"], "mean"))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels[0], size, size])]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels[-1], 1, 1])]
    graph = helper.make_graph(nodes, "products", inputs, results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def residual(size: int, channels: int, *, halved: bool) -> onnx.ModelProto:
    """Return a residual block, if asked for one more at half the size with a convolution as its shortcut, and a Gemm.

    Args:
        size: Height and width of the image, of two channels.
        channels: Of the block.
        halved: Whether there is the other block.
    """
    rng, side = np.random.default_rng(size + channels), size
    nodes, constants = [], []

    def conv(x: str, before: int, after: int, kernel: int = 3, stride: int = 1) -> str:
        name = f"c{len(nodes)}"
        w = rng.normal(size=(after, before, kernel, kernel)) / np.sqrt(before * kernel**2)
        for letter, array in (("w", w), ("b", rng.normal(size=after) / 4)):
            constants.append(numpy_helper.from_array(array.astype(np.float32), name + letter))
        pads = [kernel // 2] * 4 if stride == 1 else [0, 0, kernel // 2, kernel // 2]
        inputs = [x, f"{name}w", f"{name}b"]
        nodes.append(helper.make_node("Conv", inputs, [name], name, pads=pads, strides=[stride] * 2))
        return name

    def step(op_type: str, *inputs: str) -> str:
        nodes.append(helper.make_node(op_type, inputs, [f"s{len(nodes)}"], f"s{len(nodes)}"))
        return str(nodes[-1].output[0])

    last = step("Relu", conv("x", 2, channels))
    inner = step("Relu", conv(last, channels, channels))
    last = step("Relu", step("Add", conv(inner, channels, channels), last))
    if halved:
        inner = conv(step("Relu", conv(last, channels, channels + 1, stride=2)), channels + 1, channels + 1)
        last = step("Relu", step("Add", inner, conv(last, channels, channels + 1, 1, 2)))
        size, channels = -(-size // 2), channels + 1
    w = rng.normal(size=(channels * size * size, 3)) / np.sqrt(channels * size * size)
    constants.append(numpy_helper.from_array(w.astype(np.float32), "last"))
    nodes.append(helper.make_node("Gemm", [step("Flatten", last), "last"], ["y"], "last"))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, side, side])]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])]
    graph = helper.make_graph(nodes, "residual", inputs, results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def random_cnn(seed: int) -> onnx.ModelProto:
    """Return convolutions of a random kind each (plain, depthwise, 1 x 1; with strides and pools), and a Gemm.

    Args:
        seed: Of everything.
    """
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    first = channels = int(rng.integers(1, 4))
    height, width = (int(v) for v in rng.integers(7, 18, size=2))
    shape, name = [1, channels, height, width], "x"

    def constant(array: npt.NDArray[np.float64]) -> str:
        constants.append(numpy_helper.from_array(array.astype(np.float32), f"c{len(constants)}"))
        return constants[-1].name

    for layer in range(int(rng.integers(2, 4))):
        kind = str(rng.choice(["plain", "plain", "depthwise", "pointwise"]))
        kernel = 1 if kind == "pointwise" else int(rng.choice([3, 3, 5]))
        groups = channels if kind == "depthwise" else 1
        outputs = channels if kind == "depthwise" else int(rng.integers(2, 10))
        stride, pad = int(rng.choice([1, 1, 2])), kernel // 2
        w = rng.normal(size=(outputs, channels // groups, kernel, kernel)) / np.sqrt(channels // groups * kernel**2)
        attributes = {"pads": [pad] * 4, "strides": [stride] * 2, "group": groups}
        inputs = [name, constant(w), constant(rng.normal(size=outputs) / 4)]
        nodes.append(helper.make_node("Conv", inputs, [f"conv{layer}"], f"conv{layer}", **attributes))
        nodes.append(helper.make_node("Relu", [f"conv{layer}"], [f"relu{layer}"], f"relu{layer}"))
        name, channels = f"relu{layer}", outputs
        height, width = ((size - 1) // stride + 1 for size in (height, width))
        if min(height, width) > 3 and rng.random() < 0.5:
            pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
            operator = str(rng.choice(["MaxPool", "AveragePool"]))
            nodes.append(helper.make_node(operator, [name], [f"pool{layer}"], f"pool{layer}", **pool))
            name, height, width = f"pool{layer}", height // 2, width // 2
    flat = channels * height * width
    last = constant(rng.normal(size=(flat, 3)) / np.sqrt(flat))
    nodes += [
        helper.make_node("Flatten", [name], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", last], ["y"], "last"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, first, *shape[2:]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph(nodes, "cnn", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
