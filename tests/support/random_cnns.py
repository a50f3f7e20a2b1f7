"""Random small convolutional networks, a seed each: odd sizes, strides, dilations, groups, pools, activations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ml2sc.errors import Ml2scError
from ml2sc.frontend.model_file import load_onnx
from ml2sc.frontend.onnx_import import import_graph

Array = npt.NDArray[Any]

OPSET = 19
PRECISIONS = ("int8", "int8", "w2a2", "w4a4", "w8a4", "w16a16", "q8.8", "q15.16", "auto")
UNARY = ("Relu", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "Elu", "Clip", "PRelu", "Softplus")


@dataclass(frozen=True)
class Cnn:
    """A network and how to compile it.

    Attributes:
        model: The ONNX model.
        options: Keyword arguments of `ml2sc.compile`.
        samples: Inputs in the declared range, float64, in the input's shape.
    """

    model: onnx.ModelProto
    options: dict[str, Any]
    samples: list[dict[str, Array]]

    def __str__(self) -> str:
        return f"{self.options}\n{onnx.printer.to_text(self.model)}"


@dataclass
class Builder:
    """Adds operators to a model, one after the other.

    Attributes:
        rng: The source of choices.
        name: The tensor made last.
        shape: Its shape.
        most: Channels that a convolution gives, at most.
    """

    rng: np.random.Generator
    name: str
    shape: tuple[int, ...]
    most: int = 9
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def number(self, lo: int, hi: int) -> int:
        return int(self.rng.integers(lo, hi + 1))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, options: Any) -> Any:
        return options[self.number(0, len(options) - 1)]

    def constant(self, array: Array, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype=dtype), name))
        return name

    def add(self, op_type: str, inputs: list[str], **attrs: Any) -> None:
        """Add an operator; what shape it gives is asked afterwards."""
        output = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op_type, inputs, [output], name=f"{op_type.lower()}{len(self.nodes)}", **attrs)
        )
        self.name = output

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.shape[2:]


def _window(b: Builder, kernel: list[int], *, dilated: bool = True) -> dict[str, Any]:
    rank = len(kernel)
    attrs: dict[str, Any] = {}
    if b.chance(0.5):
        attrs["strides"] = [b.number(1, 3) for _ in range(rank)]
    if dilated and b.chance(0.3):
        attrs["dilations"] = [b.number(1, 3) for _ in range(rank)]
    elif b.chance(0.2):
        # where strides leave out elements, onnxruntime's pools take paddings below 0
        attrs["strides"] = [min(s, k) for s, k in zip(attrs.get("strides", [1] * rank), kernel, strict=True)]
        attrs["auto_pad"] = b.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
        return attrs
    if b.chance(0.7):
        attrs["pads"] = [b.number(0, k - 1) for k in kernel] + [b.number(0, k - 1) for k in kernel]
    return attrs


def _conv(b: Builder) -> None:
    channels = b.shape[1]
    group = b.pick([g for g in (1, 1, 2, 3, channels) if channels % g == 0])
    outputs = group * b.number(1, max(1, b.most // group))
    kernel = [b.number(1, min(b.pick([3, 3, 5]), n)) for n in b.sizes]
    weights = b.rng.normal(size=(outputs, channels // group, *kernel)) / np.sqrt(channels / group * np.prod(kernel))
    inputs = [b.name, b.constant(weights)]
    if b.chance(0.6):
        inputs.append(b.constant(b.rng.normal(size=outputs) / 4))
    b.add("Conv", inputs, group=group, **_window(b, kernel))


def _transposed(b: Builder) -> None:
    channels, rank = b.shape[1], len(b.sizes)
    group = b.pick([g for g in (1, 2, channels) if channels % g == 0])
    kernel = [b.number(1, 3) for _ in b.sizes]
    strides = [b.number(1, 2) for _ in range(rank)]
    pads = [b.number(0, (k - 1) // 2) for k in kernel] * 2
    weights = b.rng.normal(size=(channels, b.number(1, 2), *kernel)) / np.sqrt(channels / group * np.prod(kernel))
    b.add("ConvTranspose", [b.name, b.constant(weights)], group=group, strides=strides, pads=pads)


def _pool(b: Builder) -> None:
    kernel = [b.number(1, min(3, n)) for n in b.sizes]
    attrs = _window(b, kernel, dilated=False)
    within = all(s <= k for s, k in zip(attrs.get("strides", kernel), kernel, strict=True))
    if "auto_pad" not in attrs and "pads" not in attrs and within:
        attrs["ceil_mode"] = b.number(0, 1)  # else onnx and onnxruntime differ on how many windows there are
    if b.chance(0.5):
        b.add("MaxPool", [b.name], kernel_shape=kernel, **attrs)
    else:
        b.add("AveragePool", [b.name], kernel_shape=kernel, count_include_pad=b.number(0, 1), **attrs)


def _halved(b: Builder) -> None:
    """The pool that is behind most convolutions: windows side by side."""
    kernel = [b.pick([k for k in (2, 2, 3) if k <= n] or [1]) for n in b.sizes]
    b.add(b.pick(["MaxPool", "MaxPool", "AveragePool"]), [b.name], kernel_shape=kernel, strides=kernel)


def _unary(b: Builder) -> None:
    op_type = b.pick(UNARY)
    if op_type == "Clip":
        b.add("Clip", [b.name, b.constant(np.array(0.0)), b.constant(np.array(1.5))])
    elif op_type == "PRelu":
        slopes = b.rng.uniform(0, 0.5, size=(b.shape[1], *[1] * len(b.sizes)))
        b.add("PRelu", [b.name, b.constant(slopes)])
    else:
        b.add(op_type, [b.name])


def _normalized(b: Builder) -> None:
    c = b.shape[1]
    parameters = [
        b.rng.uniform(0.5, 1.5, c),
        b.rng.normal(size=c) / 4,
        b.rng.normal(size=c) / 4,
        b.rng.uniform(0.5, 2, c),
    ]
    b.add("BatchNormalization", [b.name, *(b.constant(p) for p in parameters)])


def _residual(b: Builder) -> None:
    """A convolution that keeps the shape, added to its input."""
    channels, before = b.shape[1], b.name
    kernel = [b.pick([1, 3]) for _ in b.sizes]
    weights = b.rng.normal(size=(channels, channels, *kernel)) / np.sqrt(channels * np.prod(kernel))
    b.add("Conv", [b.name, b.constant(weights)], pads=[k // 2 for k in kernel] * 2)
    if b.chance(0.5):
        b.add("Relu", [b.name])
    b.add("Add", [b.name, before])


def _dense_block(b: Builder) -> None:
    """A 1×1 convolution joined to its input along the channels."""
    channels, before = b.shape[1], b.name
    ones = [1] * len(b.sizes)
    b.add("Conv", [b.name, b.constant(b.rng.normal(size=(2, channels, *ones)) / np.sqrt(channels))])
    b.add("Concat", [before, b.name], axis=1)


def _squeezed(b: Builder) -> None:
    """Squeeze and excite: each channel times a function of its mean."""
    channels, before, ones = b.shape[1], b.name, [1] * len(b.sizes)
    b.add("GlobalAveragePool", [b.name])
    b.add("Conv", [b.name, b.constant(b.rng.normal(size=(channels, channels, *ones)) / np.sqrt(channels))])
    b.add(b.pick(["Sigmoid", "HardSigmoid"]), [b.name])
    b.add("Mul", [before, b.name])


def _shuffled(b: Builder) -> None:
    channels, sizes = b.shape[1], b.sizes
    groups = next((g for g in (2, 3, 5) if channels % g == 0), 1)
    rank = len(sizes)
    b.add("Reshape", [b.name, b.constant(np.array([1, groups, channels // groups, *sizes]), np.int64)])
    b.add("Transpose", [b.name], perm=[0, 2, 1, *range(3, 3 + rank)])
    b.add("Reshape", [b.name, b.constant(np.array([1, channels, *sizes]), np.int64)])


def _padded(b: Builder) -> None:
    mode = b.pick(["constant", "reflect", "edge", "wrap"])
    ends = [b.number(0, min(2, n - 1)) for n in b.sizes], [b.number(0, min(2, n - 1)) for n in b.sizes]
    inputs = [b.name, b.constant(np.array([0, 0, *ends[0], 0, 0, *ends[1]]), np.int64)]
    if mode == "constant" and b.chance(0.5):
        inputs.append(b.constant(np.array(0.5)))
    b.add("Pad", inputs, mode=mode)


def _resized(b: Builder) -> None:
    scales = b.constant(np.array([1.0, 1.0, *(b.pick([1.0, 2.0, 1.5]) for _ in b.sizes)]))
    mode = b.pick(["nearest", "linear"])
    where = b.pick(["half_pixel", "asymmetric", "align_corners"])
    b.add("Resize", [b.name, "", scales], mode=mode, coordinate_transformation_mode=where)


def _reduced(b: Builder) -> None:
    axes = b.constant(np.arange(2, 2 + len(b.sizes)), np.int64)
    b.add(b.pick(["ReduceMean", "ReduceMax", "ReduceSum"]), [b.name, axes], keepdims=1)


def _moved_blocks(b: Builder) -> None:
    if b.shape[1] % 4 == 0:
        b.add("DepthToSpace", [b.name], blocksize=2, mode=b.pick(["DCR", "CRD"]))
    else:
        b.add("SpaceToDepth", [b.name], blocksize=2)


def _root_of_squares(b: Builder) -> None:
    kernel = [b.number(1, min(2, n)) for n in b.sizes]
    b.add("LpPool", [b.name], kernel_shape=kernel, p=b.number(1, 2))


def _relu(b: Builder) -> None:
    b.add("Relu", [b.name])


def _by_channel(b: Builder) -> None:
    """A convolution of each channel alone."""
    channels = b.shape[1]
    kernel = [b.number(1, min(3, n)) for n in b.sizes]
    weights = b.rng.normal(size=(channels, 1, *kernel)) / np.sqrt(np.prod(kernel))
    attrs = _window(b, kernel)
    b.add("Conv", [b.name, b.constant(weights), b.constant(b.rng.normal(size=channels) / 4)], group=channels, **attrs)


PLAIN = (_conv, _conv, _conv, _relu, _relu, _halved, _residual, _by_channel, _normalized)
"""What the kernels of convolutions take in, one after the other."""
STEPS = (
    _conv,
    _conv,
    _conv,
    _transposed,
    _pool,
    _pool,
    _unary,
    _unary,
    _normalized,
    _residual,
    _dense_block,
    _squeezed,
    _shuffled,
    _padded,
    _resized,
    _reduced,
    _halved,
    _by_channel,
    _moved_blocks,
    _root_of_squares,
)


def _inferred(b: Builder, shape: tuple[int, ...]) -> tuple[int, ...]:
    graph = helper.make_graph(
        b.nodes,
        "cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(b.name, TensorProto.FLOAT, None)],
        b.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    imported = import_graph(load_onnx(model))
    return imported.tensor(imported.outputs[0]).shape


def random_cnn(seed: int, *, precisions: tuple[str, ...] = PRECISIONS) -> Cnn:
    """Return the network of a seed.

    Every second one is large: fewer operators, larger images, more channels; every second of all is of those operators
    alone that kernels of convolutions take in.

    Args:
        seed: Its number.
        precisions: What to choose from.
    """
    rng = np.random.default_rng(seed)
    large, plain = seed % 2 == 1, seed // 2 % 2 == 1
    depth, largest, channels, most = (4, 33, 20, 20) if large else (6, 9, 4, 9)
    rank = int(rng.choice([1, 2, 2, 2]))
    shape = (1, int(rng.integers(1, channels + 1)), *(int(rng.integers(1, largest + 1)) for _ in range(rank)))
    b = Builder(rng, "image", shape, most)
    for _ in range(b.number(1, depth)):
        nodes, constants, name, before = list(b.nodes), list(b.constants), b.name, b.shape
        b.pick(PLAIN if plain else STEPS)(b)
        try:
            b.shape = _inferred(b, shape)
            fits = min(b.shape) > 0 and np.prod(b.shape) < 3000
        except Ml2scError:
            fits = False
        if not fits:
            b.nodes, b.constants, b.name, b.shape = nodes, constants, name, before
    head = b.number(0, 3)
    if head:
        if head > 1:
            b.add("GlobalAveragePool" if head == 2 else "GlobalMaxPool", [b.name])
            b.shape = (*b.shape[:2], *[1] * rank)
        b.add("Flatten", [b.name])
        features = int(np.prod(b.shape))
        b.add(
            "Gemm",
            [b.name, b.constant(rng.normal(size=(features, 3)) / np.sqrt(features)), b.constant(rng.normal(size=3))],
        )
    elif not b.nodes:
        b.add("Relu", [b.name])
    ends = (-1.0, 1.0) if b.chance(0.6) else (0.0, 1.0)
    graph = helper.make_graph(
        b.nodes,
        "cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(b.name, TensorProto.FLOAT, None)],
        b.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    options = {"precision": b.pick(precisions), "input_ranges": (ends,), "level": b.number(0, 2)}
    samples = [{"image": rng.uniform(*ends, size=shape)} for _ in range(3)]
    samples += [{"image": np.full(shape, ends[0])}, {"image": rng.choice(ends, size=shape)}]
    return Cnn(model, options, samples)
