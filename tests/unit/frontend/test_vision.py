"""Convolutions, pools and what is read as them, one operator at a time: onnxruntime is the judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import ml2sc
from ml2sc.errors import Ml2scError
from ml2sc.frontend.model_file import load_onnx
from ml2sc.frontend.onnx_import import import_graph
from ml2sc.ir.graph import Graph

Array = npt.NDArray[Any]
RNG = np.random.default_rng(3)
W33, W21 = RNG.normal(size=(4, 3, 3, 3)), RNG.normal(size=(6, 1, 2, 1))
W23 = np.random.default_rng(4).normal(size=(4, 3, 2, 3))


def model(
    nodes: list[onnx.NodeProto], shape: tuple[int, ...], constants: dict[str, Array], opset: int = 19
) -> onnx.ModelProto:
    """Return a model from x to y; float constants become float32."""
    initializers = [
        numpy_helper.from_array(a if a.dtype.kind == "i" else a.astype(np.float32), n) for n, a in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def one(op_type: str, shape: tuple[int, ...], opset: int = 19, **given: Any) -> onnx.ModelProto:
    """Return a model of one operator: arrays given are its further inputs, in order, '' where their name ends in _."""
    constants = {name: a for name, a in given.items() if isinstance(a, np.ndarray)}
    skipped = int(given.pop("skip", 0))
    attrs = {name: value for name, value in given.items() if not isinstance(value, np.ndarray)}
    inputs = ["x", *[""] * skipped, *constants]
    return model([helper.make_node(op_type, inputs, ["y"], name="n", **attrs)], shape, constants, opset)


def ints(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


CASES = {
    "conv": one("Conv", (1, 3, 7, 5), w=W33, b=RNG.normal(size=4), pads=[1, 0, 2, 1], strides=[2, 1]),
    "conv same upper": one("Conv", (1, 3, 6, 5), w=W33, auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv same lower": one("Conv", (1, 3, 6, 5), w=W33, auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv dilated": one("Conv", (1, 3, 7, 8), w=W33, dilations=[2, 1], pads=[2, 2, 2, 2]),
    "conv depthwise": one("Conv", (1, 3, 4, 5), w=W21, group=3),
    "conv 1-d": one("Conv", (1, 2, 9), w=RNG.normal(size=(3, 2, 4)), strides=[3], pads=[2, 1]),
    "conv 3-d": one("Conv", (1, 1, 3, 3, 4), w=RNG.normal(size=(2, 1, 2, 2, 2))),
    "transposed": one("ConvTranspose", (1, 4, 3, 4), w=W33, strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 2]),
    "transposed, side by side": one("ConvTranspose", (1, 4, 3, 4), w=W23, b=RNG.normal(size=3), strides=[2, 3]),
    "transposed sequence, side by side": one("ConvTranspose", (1, 4, 5), w=W23[:, :, 0], strides=[3]),
    "transposed, side by side and cut": one("ConvTranspose", (1, 4, 3, 4), w=W23, strides=[2, 3], pads=[0, 1, 0, 0]),
    "transposed, moved": one(
        "ConvTranspose", (1, 4, 3, 4), w=W23, strides=[2, 3], pads=[1, 0, 0, 0], output_padding=[1, 0]
    ),
    "transposed, overlapping": one(
        "ConvTranspose", (1, 4, 3, 5), w=RNG.normal(size=(4, 2, 4, 4)), strides=[2, 2], pads=[1] * 4
    ),
    "transposed, grouped phases": one(
        "ConvTranspose", (1, 4, 3, 4), w=W33, b=RNG.normal(size=6), group=2, strides=[2, 2]
    ),
    "transposed, steps beyond the kernel": one("ConvTranspose", (1, 4, 3, 4), w=W23, strides=[3, 4], pads=[1, 0, 0, 2]),
    "transposed, shaped": one("ConvTranspose", (1, 4, 3, 4), w=W33, strides=[2, 2], output_shape=[6, 7]),
    "transposed, same": one("ConvTranspose", (1, 4, 3, 4), w=W33, strides=[2, 2], auto_pad="SAME_UPPER"),
    "transposed, groups": one("ConvTranspose", (1, 4, 3, 4), w=W33, group=2, dilations=[1, 2]),
    "max": one("MaxPool", (1, 2, 7, 6), kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1, pads=[1, 0, 1, 1]),
    "max dilated": one("MaxPool", (1, 2, 7, 6), kernel_shape=[3, 2], dilations=[2, 3]),
    "mean": one("AveragePool", (1, 2, 7, 6), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "mean, all": one("AveragePool", (1, 2, 6, 6), kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    "mean, ceil": one("AveragePool", (1, 2, 6, 6), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "mean, ceil, all": one(
        "AveragePool", (1, 1, 6), kernel_shape=[3], strides=[2], pads=[1, 0], ceil_mode=1, count_include_pad=1
    ),
    "global mean": one("GlobalAveragePool", (1, 3, 5, 2)),
    "global max": one("GlobalMaxPool", (1, 3, 5, 2)),
    "global root": one("GlobalLpPool", (1, 3, 5, 2)),
    "root of squares": one("LpPool", (1, 3, 5, 4), kernel_shape=[2, 2], strides=[2, 1], pads=[1, 0, 0, 1]),
    "sum of sizes": one("LpPool", (1, 3, 5, 4), kernel_shape=[2, 2], p=1),
    "reduced mean": one("ReduceMean", (1, 3, 4, 2), axes=ints(2, 3), keepdims=0),
    "reduced max": one("ReduceMax", (1, 3, 4, 2), axes=ints(-1, -2)),
    "reduced sum": one("ReduceSum", (1, 3, 4, 2), axes=ints(2, 3), keepdims=0),
    "reduced, old": one("ReduceMean", (1, 3, 4, 2), opset=11, axes=[2, 3]),
    "pad": one("Pad", (1, 2, 3, 4), p=ints(0, 0, 1, -1, 0, 0, 2, 2), v=np.array(1.5)),
    "pad, reflect": one("Pad", (1, 2, 3, 4), p=ints(0, 0, 2, 0, 0, 0, 1, 3), mode="reflect"),
    "pad, edge": one("Pad", (1, 2, 3, 4), p=ints(0, 1, 2, 0, 0, 0, 1, 5), mode="edge"),
    "pad, wrap": one("Pad", (1, 2, 3, 4), p=ints(0, 0, 2, 0, 0, 0, 1, 3), mode="wrap"),
    "nearest": one("Resize", (1, 2, 3, 2), skip=1, s=np.array([1.0, 1.0, 2.0, 3.0]), nearest_mode="floor"),
    "nearest, old": one("Resize", (1, 2, 4, 6), opset=10, s=np.array([1.0, 1.0, 0.5, 0.7])),
    "nearest, sizes": one("Resize", (1, 2, 3, 2), skip=2, s=ints(1, 2, 5, 3)),
    "linear": one("Resize", (1, 2, 3, 4), skip=1, s=np.array([1.0, 1.0, 2.0, 1.5]), mode="linear"),
    "linear, corners": one(
        "Resize", (1, 2, 3, 4), skip=2, s=ints(1, 2, 7, 3), mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    "upsample": one("Upsample", (1, 2, 3, 2), opset=9, s=np.array([1.0, 1.0, 2.0, 3.0])),
    "to space": one("DepthToSpace", (1, 8, 2, 3), blocksize=2),
    "to space, by columns": one("DepthToSpace", (1, 8, 2, 3), blocksize=2, mode="CRD"),
    "to depth": one("SpaceToDepth", (1, 2, 4, 6), blocksize=2),
    "instance": one("InstanceNormalization", (1, 2, 4, 3), s=np.array([1.5, -2.0]), b=np.array([0.1, 1.0])),
    "group": one("GroupNormalization", (1, 6, 2, 3), opset=21, s=np.arange(6.0), b=np.ones(6), num_groups=2),
    "group, by group": one("GroupNormalization", (1, 6, 4), s=np.array([1.5, -2.0]), b=np.arange(2.0), num_groups=2),
    "layer": one("LayerNormalization", (1, 3, 8), s=np.arange(8.0), b=np.ones(8)),
    "layer, two axes": one("LayerNormalization", (1, 2, 3, 4), s=RNG.normal(size=(3, 4)), axis=-2, epsilon=0.5),
    "mean squares": one("RMSNormalization", (1, 2, 6), opset=23, s=np.arange(6.0)),
    "response": one("LRN", (1, 5, 2, 3), size=3, alpha=0.5, beta=0.75, bias=1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_onnxruntime_computes(name: str, kit: Any) -> None:
    kit.assert_like_onnxruntime(CASES[name], samples=1)


@pytest.mark.parametrize("epsilon", [1e-12, 1e-5])
def test_a_normalisation_compiles_whatever_its_epsilon(epsilon: float) -> None:
    """Bounds of a mean that is rounded begin below 0, which is no reason to refuse the root of it and a tiny number."""
    proto = one("LayerNormalization", (1, 8), s=np.arange(8.0), b=np.ones(8), epsilon=epsilon)
    artifact = ml2sc.compile(proto, precision="int8", input_ranges=((-10.0, 10.0),))
    assert artifact.manifest["error_bound"] < 100


@pytest.mark.parametrize(
    ("reduces", "convolved", "op_type"),
    [
        *((name, False, name) for name in ("ReduceSum", "ReduceMean", "ReduceMax")),
        *(("ReduceSum", True, "AveragePool"), ("ReduceMean", True, "AveragePool"), ("ReduceMax", True, "MaxPool")),
    ],
)
def test_what_is_reduced_of_a_table_is_no_pool(reduces: str, convolved: bool, op_type: str) -> None:
    """A pool would round squared distances to activations; what convolutions make is in their format anyway."""
    first = helper.make_node("Conv", ["x", "w"], ["z"]) if convolved else helper.make_node("Mul", ["x", "x"], ["z"])
    nodes = [first, helper.make_node(reduces, ["z", "axes"], ["y"], keepdims=0)]
    constants = {"axes": ints(2)} | ({"w": RNG.normal(size=(3, 3, 2))} if convolved else {})
    graph = import_graph(load_onnx(model(nodes, (1, 3, 4), constants)))
    assert list(graph)[1].op_type == op_type


def pads_of(graph: Graph) -> object:
    (node,) = [node for node in graph if node.op_type == "Conv"]
    return node.attrs["pads"]


def test_a_pad_by_zeros_goes_into_the_convolution() -> None:
    nodes = [
        helper.make_node("Pad", ["x", "p"], ["padded"]),
        helper.make_node("Conv", ["padded", "w"], ["y"], pads=[1, 0, 0, 1]),
    ]
    proto = model(nodes, (1, 3, 4, 4), {"p": ints(0, 0, 1, 2, 0, 0, 3, 4), "w": W33})
    graph = import_graph(load_onnx(proto))
    assert [node.op_type for node in graph] == ["Conv"]
    assert pads_of(graph) == (2, 2, 3, 5)


BAD = {
    "groups": (one("Conv", (1, 3, 4, 4), w=W21, group=2), "do not divide into 2 groups"),
    "channels": (one("Conv", (1, 2, 4, 4), w=W33), "takes 3 channels"),
    "too large": (
        one("Conv", (1, 3, 2, 4), w=W33),
        "the kernel spans 3 elements of spatial axis 0, and the input has 2",
    ),
    "no pool fits": (one("MaxPool", (1, 3, 2, 4), kernel_shape=[3, 3]), "the kernel spans 3 elements"),
    "only padding": (one("MaxPool", (1, 1, 2), kernel_shape=[1], pads=[2, 0]), "lies wholly in the padding"),
    "flat": (one("Conv", (3, 4), w=W33), "a batch, channels and spatial axes are needed"),
    "same, dilated": (one("Conv", (1, 3, 8, 8), w=W33, dilations=[2, 2], auto_pad="SAME_UPPER"), "with dilations"),
    "kernel_shape": (one("Conv", (1, 3, 8, 8), w=W33, kernel_shape=[3, 2]), "is not that of the weights"),
    "strides": (one("Conv", (1, 3, 8, 8), w=W33, strides=[0, 1]), "must be positive"),
    "nothing left": (one("Pad", (1, 1, 2, 2), p=ints(0, 0, -2, 0, 0, 0, -1, 0)), "leave nothing"),
    "mode": (one("Resize", (1, 1, 2, 2), skip=1, s=np.array([1.0, 1, 2, 2]), mode="cubic"), "mode 'cubic'"),
    "even": (one("LRN", (1, 5, 2, 3), size=2), "LRN with size 2"),
    "powers": (one("LpPool", (1, 3, 5, 4), kernel_shape=[2, 2], p=3), "p = 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_words(name: str) -> None:
    proto, words = BAD[name]
    with pytest.raises(Ml2scError) as caught:
        ml2sc.compile(proto, precision="int8", input_ranges=((0.0, 1.0),))
    assert words in str(caught.value)
    assert "'n'" in str(caught.value)


def test_a_height_that_is_not_known_is_refused() -> None:
    proto = one("Conv", (1, 3, 8, 8), w=W33)
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(Ml2scError, match="only the first"):
        import_graph(load_onnx(proto))


def test_transposed_windows_that_do_not_meet_are_made_of_single_pixels() -> None:
    graph = import_graph(load_onnx(CASES["transposed, side by side"]))
    (conv,) = (node for node in graph if node.op_type == "Conv")
    assert graph.tensor(conv.inputs[1]).shape == (18, 4, 1, 1)
    assert "spreads" not in conv.attrs
