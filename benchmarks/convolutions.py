"""Gas a multiply-accumulate of a convolution, by its kernel: the difference that one layer more makes to a network.

Alone: python -m benchmarks.convolutions
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import ml2sc
from ml2sc.errors import CheckError, ContractLimitError

from .jobs import TARGETS
from .networks import Floats
from .text import MISSING, gas, table

BY_HAND = ("OnChainHRDigitPredict, by hand, as published", 10_370_000, 55_860)
"""Another's convolutional network on the EVM: whose, gas of an inference, its products."""
NOTED = {
    "mnist_cnn": ("conv 3×3, pool, conv 3×3, pool, dense", "w5a8/w6a6/w8a8", 55_860),
    "lenet5": ("LeNet-5", "int8", 416_520),
}
"""Networks of `examples/` whose gas the snapshot has: what they are, their precision there, their products."""
SNAPSHOT = Path(__file__).parents[1] / "tests" / "gas" / "snapshot.json"
CALIBRATION, SAMPLES = 32, 3
"""Images drawn for a network."""


@dataclass(frozen=True)
class Kernel:
    """A convolution of int8, as many channels out as in.

    Attributes:
        name: What it is called in the table.
        taps: Height and width of its taps.
        channels: In and out.
        size: Height and width of its maps.
        groups: In which its channels are.
        stride: In both directions.
        pool: Rows and columns of whose results the greatest is taken behind it.
    """

    name: str
    taps: tuple[int, int]
    channels: int
    size: tuple[int, int]
    groups: int = 1
    stride: int = 1
    pool: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates, those by padding included."""
        points = int(np.prod([-(-side // self.stride) for side in self.size]))
        return points * self.channels * self.channels // self.groups * int(np.prod(self.taps))


KERNELS = (
    Kernel("3×3", (3, 3), 8, (8, 8)),
    Kernel("3×3, stride 2", (3, 3), 8, (8, 8), stride=2),
    Kernel("3×3, pool 2×2", (3, 3), 8, (8, 8), pool=2),
    Kernel("3×3, 2 groups", (3, 3), 8, (8, 8), groups=2),
    Kernel("3×3, depthwise", (3, 3), 8, (8, 8), groups=8),
    Kernel("5×5", (5, 5), 4, (8, 8)),
    Kernel("1×1", (1, 1), 16, (8, 8)),
)


def network(kernel: Kernel, layers: int) -> onnx.ModelProto:
    """Return a network of some layers of a kernel and Relu, and the mean of each channel: a function of these alone.

    The first takes steps of 1 and has no pool, so that the second reads maps of the kernel's size.
    """
    random = np.random.default_rng((*kernel.taps, kernel.channels, kernel.groups))
    height, width = kernel.taps
    shape, nodes, constants = (kernel.channels, kernel.channels // kernel.groups, height, width), [], []
    last = "x"
    for layer in range(layers):
        weights = random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        constants.append(numpy_helper.from_array(weights.astype(np.float32), f"w{layer}"))
        stride = kernel.stride if layer else 1
        attributes = {"pads": [height // 2, width // 2] * 2, "strides": [stride] * 2, "group": kernel.groups}
        nodes.append(helper.make_node("Conv", [last, f"w{layer}"], [f"c{layer}"], **attributes))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"y{layer}"]))
        last = f"y{layer}"
        if layer and kernel.pool > 1:
            sides = [kernel.pool] * 2
            nodes.append(helper.make_node("MaxPool", [last], [f"p{layer}"], kernel_shape=sides, strides=sides))
            last = f"p{layer}"
    nodes += [helper.make_node("GlobalAveragePool", [last], ["m"]), helper.make_node("Flatten", ["m"], ["scores"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [value("x", TensorProto.FLOAT, [1, kernel.channels, *kernel.size])],
        [value("scores", TensorProto.FLOAT, [1, kernel.channels])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def images(kernel: Kernel, seed: int, count: int) -> Floats:
    """Draw images for a kernel's networks."""
    drawn = np.random.default_rng(seed).random((count, kernel.channels, *kernel.size))
    return drawn.astype(np.float32)


def inference(kernel: Kernel, layers: int, target: str) -> float | None:
    """Compile, deploy and ask a network, and return the gas of a transaction; None: it does not fit.

    Raises:
        CheckError: the contract is not bit-exact.
        ToolchainError: a compiler or chain is missing or failed.
    """
    options: dict[str, Any] = {"target": target, "precision": "int8", "name": "Convolutions"}
    try:
        compiled = ml2sc.compile(network(kernel, layers), calibration={"x": images(kernel, 1, CALIBRATION)}, **options)
        artifact = ml2sc.build(compiled, ml2sc.Toolchain())
    except ContractLimitError:
        return None
    report = ml2sc.check(artifact, {"x": images(kernel, 2, SAMPLES)})
    if not report.ok:
        raise CheckError(f"{layers} layers of {kernel}, {target}: {report.failure}")
    return report.gas.mean


def added(kernel: Kernel, target: str) -> float | None:
    """Return the gas of one layer more; None: there is no such contract."""
    few, many = 1, 2
    found = [inference(kernel, layers, target) for layers in (few, many)]
    less, more = found
    return None if less is None or more is None else more - less


def rows(measured: Mapping[tuple[Kernel, str], float | None]) -> Iterator[list[str]]:
    """Iterate over the rows of the table of kernels."""
    for kernel in KERNELS:
        height, width = kernel.size
        row = [kernel.name, f"{kernel.channels} × {height}×{width}", f"{kernel.macs:,}"]
        for target in TARGETS:
            value = measured[kernel, target]
            row += [MISSING, MISSING] if value is None else [gas(value), f"{value / kernel.macs:.2f}"]
        yield row


def networks() -> Iterator[list[str]]:
    """Iterate over the rows of the table of networks: what is published of another's, and the snapshot's of ours."""
    whose, theirs, products = BY_HAND
    cost = [gas(theirs), f"{theirs / products:.2f}", MISSING, MISSING]
    yield [f"the layers of the next ({whose})", MISSING, f"{products:,}", *cost]
    entries = json.loads(SNAPSHOT.read_text(encoding="utf-8"))["gas"]
    for name, (what, precision, products) in NOTED.items():
        row = [f"{what} (examples/{name})", precision, f"{products:,}"]
        for target in TARGETS:
            mean = entries[f"{name} {target} {precision}"]["classifyPacked mean"]
            row += [gas(mean), f"{mean / products:.2f}"]
        yield row


def report() -> str:
    """Measure every kernel, and return the page."""
    measured = {}
    for kernel in KERNELS:
        for target in TARGETS:
            measured[kernel, target] = added(kernel, target)
            print(f"{kernel.name}, {kernel.channels} channels, {target}: {measured[kernel, target]}", file=sys.stderr)
    return page(measured)


def page(measured: Mapping[tuple[Kernel, str], float | None]) -> str:
    """Return the page.

    Args:
        measured: Gas of one layer more, by kernel and target.
    """
    return f"""# Convolutions

Written by `make bench PAGES=convolutions`. Gas of whole transactions on an embedded EVM with Prague's rules, unless it
is said whose it is.

## Networks

{table(["network", "precision", "products", *_by_target("gas")], networks())}

Ours are of `tests/gas/snapshot.json`: the mean of 100 images that training did not see, 21,000 and the calldata
included, every answer exact. The network by hand has the same layers.

## Kernels

{table(["kernel", "channels and maps", "products", *_by_target("gas")], rows(measured))}

What a network of two such layers takes more than of one: int8, random weights, Relu behind each layer, then the mean of
each channel; {SAMPLES} random images. What unpacks the second layer's weights and what ends its sums is in it. Products
by padding count.
"""


def _by_target(what: str) -> Sequence[str]:
    return [f"{target.capitalize()}: {column}" for target in TARGETS for column in (what, "gas a product")]


if __name__ == "__main__":
    sys.stdout.write(report())
