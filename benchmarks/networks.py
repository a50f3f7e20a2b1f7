"""The networks that are measured: the trained examples, and random ones of any size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]

FOLDER = Path(__file__).parent.parent / "examples"
CALIBRATION, SAMPLES = 64, 4
"""Inputs drawn for a random network."""
_COLOURS, _CLASSES = 3, 10
"""Channels of the images of a convolutional one, and its outputs."""


class Calibrated(Protocol):
    """A network with typical inputs."""

    def model(self) -> onnx.ModelProto:
        """Return the ONNX model."""

    def calibration(self) -> dict[str, Any]:
        """Return the arrays of its calibration data: `x`, shape (samples, …)."""


class Network(Calibrated, Protocol):
    """A multi-layer perceptron with inputs for it: Gemm with transB, Relu between them, perhaps a Sigmoid at the end.

    Attributes:
        widths: Inputs, then the units of each layer.
    """

    @property
    def widths(self) -> tuple[int, ...]: ...

    def samples(self) -> dict[str, Any]:
        """Return the arrays it is measured on: `x`, and the labels `y` where there are some."""


def macs(network: Network) -> int:
    """Return the multiply-accumulates of an inference, which are the weights without the biases."""
    return sum(k * n for k, n in itertools.pairwise(network.widths))


def parameters(network: Network) -> int:
    """Return the number of weights and biases."""
    return macs(network) + sum(network.widths[1:])


def title(network: Network) -> str:
    """Return the widths, as in 784-32-10."""
    return "-".join(map(str, network.widths))


@dataclass(frozen=True)
class Example:
    """A trained network of `examples/`.

    Attributes:
        name: Name of its folder.
        widths: Inputs, then the units of each layer.
    """

    name: str
    widths: tuple[int, ...]

    def model(self) -> onnx.ModelProto:
        return onnx.load(self._file(f"{self.name}.onnx"))

    def calibration(self) -> dict[str, Any]:
        return self._arrays("calibration.npz")

    def samples(self) -> dict[str, Any]:
        return self._arrays("samples.npz")

    def _file(self, name: str) -> Path:
        return FOLDER / self.name / name

    def _arrays(self, name: str) -> dict[str, Any]:
        with np.load(self._file(name)) as archive:
            return dict(archive)


BREAST_CANCER = Example("breast_cancer", (30, 4, 4, 1))
DIGITS = Example("digits", (64, 32, 10))
MNIST20 = Example("mnist20", (400, 32, 16, 10))
MNIST = Example("mnist", (784, 32, 10))
EXAMPLES = (BREAST_CANCER, DIGITS, MNIST20, MNIST)


@dataclass(frozen=True)
class RandomMlp:
    """A network with normal weights of standard deviation 1/√fan-in, and random inputs. A function of its fields alone.

    Attributes:
        widths: Inputs, then the units of each layer. A single output goes through a Sigmoid.
        zeros: Share of the inputs that are 0; the others are even between 0.2 and 1. None: inputs are normal within ±3,
            like the standardised features of the paper.
    """

    widths: tuple[int, ...]
    zeros: float | None = None

    def model(self) -> onnx.ModelProto:
        rng = np.random.default_rng(self.widths)
        nodes, constants, last, layers = [], [], "x", len(self.widths) - 1
        for index, (k, n) in enumerate(itertools.pairwise(self.widths), start=1):
            weights, biases = rng.normal(size=(n, k)) / np.sqrt(k), rng.normal(size=n) / 4
            for name, array in ((f"W{index}", weights), (f"B{index}", biases)):
                constants.append(numpy_helper.from_array(array.astype(np.float32), name))
            nodes.append(helper.make_node("Gemm", [last, f"W{index}", f"B{index}"], [f"Y{index}"], transB=1))
            last = f"Y{index}"
            activation = "Relu" if index < layers else "Sigmoid" if n == 1 else None
            if activation:
                nodes.append(helper.make_node(activation, [last], [f"A{index}"]))
                last = f"A{index}"
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes,
            "mlp",
            [value("x", TensorProto.FLOAT, ["batch", self.widths[0]])],
            [value(last, TensorProto.FLOAT, ["batch", self.widths[-1]])],
            constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def calibration(self) -> dict[str, Any]:
        return {"x": self._draw(1, CALIBRATION)}

    def samples(self) -> dict[str, Any]:
        return {"x": self._draw(2, SAMPLES)}

    def _draw(self, seed: int, count: int) -> Floats:
        rng, shape = np.random.default_rng([seed, *self.widths]), (count, self.widths[0])
        if self.zeros is None:
            return np.clip(rng.normal(size=shape), -3, 3).astype(np.float32)
        return (rng.uniform(0.2, 1, shape) * (rng.random(shape) >= self.zeros)).astype(np.float32)


@dataclass(frozen=True)
class RandomResnet:
    """A convolutional network with random weights and inputs: a function of its fields alone.

    A Conv 3×3 and Relu, blocks of two of them around which a connection goes, the mean of each channel and a layer.

    Attributes:
        blocks: How many.
        channels: Of every map but the input's three.
        size: Height and width of all maps.
    """

    blocks: int
    channels: int
    size: tuple[int, int]

    @property
    def products(self) -> int:
        """Multiply-accumulates of an inference, those by padding included."""
        return math.prod(self.size) * sum(map(math.prod, self._taps())) + self.channels * _CLASSES

    @property
    def weights(self) -> int:
        """Weights, biases not counted."""
        return sum(map(math.prod, self._taps())) + self.channels * _CLASSES

    def model(self) -> onnx.ModelProto:
        rng = np.random.default_rng((self.blocks, self.channels, *self.size))
        nodes, constants, last, shortcut = [], [], "x", ""
        for index, shape in enumerate(self._taps()):
            weights = rng.normal(size=shape) * math.sqrt(2 / math.prod(shape[1:]))
            biases = rng.normal(size=shape[0]) / 20
            for name, array in ((f"W{index}", weights), (f"B{index}", biases)):
                constants.append(numpy_helper.from_array(array.astype(np.float32), name))
            nodes.append(helper.make_node("Conv", [last, f"W{index}", f"B{index}"], [f"C{index}"], pads=[1] * 4))
            last = f"C{index}"
            closes = index and index % 2 == 0
            if closes:
                nodes.append(helper.make_node("Add", [last, shortcut], [f"S{index}"]))
                last = f"S{index}"
            nodes.append(helper.make_node("Relu", [last], [f"R{index}"]))
            last = f"R{index}"
            shortcut = last if index == 0 or closes else shortcut
        scores = rng.normal(size=(self.channels, _CLASSES)) / math.sqrt(self.channels)
        constants.append(numpy_helper.from_array(scores.astype(np.float32), "W"))
        nodes.append(helper.make_node("GlobalAveragePool", [last], ["mean"]))
        nodes.append(helper.make_node("Flatten", ["mean"], ["flat"]))
        nodes.append(helper.make_node("MatMul", ["flat", "W"], ["scores"]))
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes,
            "resnet",
            [value("x", TensorProto.FLOAT, [1, _COLOURS, *self.size])],
            [value("scores", TensorProto.FLOAT, [1, _CLASSES])],
            constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def calibration(self) -> dict[str, Any]:
        drawn = np.random.default_rng(1).random((CALIBRATION, _COLOURS, *self.size))
        return {"x": drawn.astype(np.float32)}

    def _taps(self) -> Sequence[tuple[int, int, int, int]]:
        """Return the shapes of its convolutions' weights."""
        return [(self.channels, self.channels if index else _COLOURS, 3, 3) for index in range(1 + 2 * self.blocks)]
