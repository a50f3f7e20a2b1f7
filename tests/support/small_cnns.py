"""Small convolutional networks with weights from a seed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
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
