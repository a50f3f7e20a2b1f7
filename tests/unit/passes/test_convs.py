"""What passes do to convolutions: folding by channel, equalising; the function stays the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ml2sc.frontend.model_file import load_onnx
from ml2sc.frontend.onnx_import import import_graph
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.passes.equalize import Equalize
from ml2sc.passes.fold_batch_norm import FoldBatchNorm
from ml2sc.passes.fold_scaling import FoldScaling

Array = npt.NDArray[Any]
IMAGE = np.random.default_rng(2).normal(size=(1, 4, 5, 6))


def graph_of(nodes: list[onnx.NodeProto], constants: dict[str, Array]) -> Graph:
    graph = helper.make_graph(
        nodes,
        "convs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, IMAGE.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in constants.items()],
    )
    return import_graph(load_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)))


def ops(graph: Graph) -> list[str]:
    return [node.op_type for node in graph]


def value(graph: Graph) -> Array:
    return evaluate_float(graph, {"x": IMAGE})["y"]


def conv(x: str, w: str, y: str, **attrs: Any) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, w], [y], name=y, **attrs)


def normal(x: str, y: str) -> onnx.NodeProto:
    return helper.make_node("BatchNormalization", [x, "scale", "shift", "mean", "var"], [y], name=y)


RNG = np.random.default_rng(4)
NORMAL = {
    "scale": RNG.uniform(0.5, 2, 4),
    "shift": RNG.normal(size=4),
    "mean": RNG.normal(size=4),
    "var": RNG.uniform(0.5, 2, 4),
}
W33, W11, DEEP = RNG.normal(size=(4, 4, 3, 3)), RNG.normal(size=(4, 2, 1, 1)), RNG.normal(size=(4, 1, 3, 3))


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ([conv("x", "w", "c", pads=[1, 1, 1, 1]), normal("c", "y")], ["Conv"]),
        ([normal("x", "n"), conv("n", "w", "y")], ["Conv"]),
        ([normal("x", "n"), conv("n", "grouped", "y", group=2)], ["Conv"]),
        ([normal("x", "n"), conv("n", "w", "y", pads=[1, 1, 1, 1])], ["Add", "Conv"]),  # padding stays 0
        ([conv("x", "w", "c"), normal("c", "n"), helper.make_node("Add", ["c", "n"], ["y"])], None),
    ],
)
def test_normalisation_folds_where_it_may(nodes: list[onnx.NodeProto], left: list[str] | None) -> None:
    graph = graph_of(nodes, {**NORMAL, "w": W33, "grouped": W11})
    before = value(graph)
    FoldBatchNorm().run(graph)
    np.testing.assert_allclose(value(graph), before, rtol=1e-9, atol=1e-9)
    assert left is None or ops(graph) == left
    assert "BatchNormalization" not in ops(graph)


def test_scaling_by_channel_folds_and_that_of_pixels_does_not() -> None:
    nodes = [
        conv("x", "w", "c"),
        helper.make_node("Mul", ["c", "channel"], ["m"], name="m"),
        helper.make_node("Add", ["m", "pixel"], ["y"], name="y"),
    ]
    constants = {"w": W33, "channel": RNG.normal(size=(4, 1, 1)), "pixel": RNG.normal(size=(3, 4))}
    graph = graph_of(nodes, constants)
    before = value(graph)
    FoldScaling().run(graph)
    assert ops(graph) == ["Conv", "Add"]
    np.testing.assert_allclose(value(graph), before, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("chain", [("Sub", "Div"), ("Mul", "Sub"), ("Div", "Add", "Mul", "Sub")])
@pytest.mark.parametrize("shape", [(4, 1, 1), ()])
def test_what_is_taken_off_before_padding_stays(chain: tuple[str, ...], shape: tuple[int, ...]) -> None:
    names = ["x", *(f"t{i}" for i in range(len(chain)))]
    nodes = [
        helper.make_node(op_type, [names[i], f"c{i}"], [names[i + 1]], name=names[i + 1])
        for i, op_type in enumerate(chain)
    ]
    rng = np.random.default_rng(len(chain))
    constants = {f"c{i}": rng.uniform(0.5, 2, size=shape) for i in range(len(chain))}
    graph = graph_of([*nodes, conv(names[-1], "w", "y", pads=[1, 1, 1, 1])], {**constants, "w": W33})
    before = value(graph)
    FoldScaling().run(graph)
    assert ops(graph) in (["Add", "Conv"], ["Sub", "Conv"])
    np.testing.assert_allclose(value(graph), before, rtol=1e-9, atol=1e-9)
    assert not FoldScaling().run(graph)


@pytest.mark.parametrize("second", ["w", "deep"])
def test_channels_of_neighbours_are_made_alike(second: str) -> None:
    nodes = [
        conv("x", "uneven", "c", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="r"),
        helper.make_node("MaxPool", ["r"], ["p"], name="p", kernel_shape=[2, 2]),
        conv("p", second, "y", group=4 if second == "deep" else 1),
    ]
    uneven = W33 * np.array([1.0, 64.0, 1 / 32, 1.0]).reshape(-1, 1, 1, 1)
    graph = graph_of(nodes, {"uneven": uneven, "w": W33, "deep": DEEP})
    before = value(graph)
    assert Equalize().run(graph)
    np.testing.assert_allclose(value(graph), before, rtol=1e-12, atol=1e-12)
    weights = graph.tensor(next(node for node in graph if node.op_type == "Conv").inputs[1]).data
    assert weights is not None
    largest = np.abs(weights).max(axis=(1, 2, 3))
    assert largest.max() / largest.min() < 256  # of some 2,000


def test_as_many_groups_as_outputs_are_no_channels_each() -> None:
    """Of a convolution with two groups of two inputs, one output each, neither axis of the weights is all channels."""
    nodes = [
        conv("x", "w", "c", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="r"),
        conv("r", "pairs", "y", group=2),
    ]
    uneven = W33 * np.array([1.0, 64.0, 1 / 32, 1.0]).reshape(-1, 1, 1, 1)
    graph = graph_of(nodes, {"w": uneven, "pairs": W33[:2, :2]})
    before = value(graph)
    assert not Equalize().run(graph)
    np.testing.assert_array_equal(value(graph), before)
