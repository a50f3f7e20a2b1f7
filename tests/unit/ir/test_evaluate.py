"""The float model on several samples at once: to the last bit what it gives for each alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.networks import dense
from support.random_cnns import random_cnn
from support.random_models import seeded_case
from support.recurrent import layer

import ml2sc
from ml2sc.errors import Ml2scError, ShapeError
from ml2sc.frontend.model_file import load_onnx
from ml2sc.frontend.onnx_import import import_graph
from ml2sc.ir.evaluate import evaluate_float, evaluate_floats, one_of
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph

EXAMPLES = Path(__file__).parents[3] / "examples"
TURNED = """
graph "turned"
input %x: float[1,3,4]
range %x [-1.0, 1.0]
const %W: float[3,5] = [0.1, -1.3, 0.7, 2.1, 0.3, -0.9, 1.1, 0.6, -0.2, 0.4, 1.7, 0.8, -1.9, 0.5, 0.7]
const %v: float[4] = [0.3, -0.7, 1.3, 0.9]
const %s: int64[2] = [4, 3]

%t: float[1,4,3] = Transpose(%x) {perm=[0,2,1]} @turn
%h: float[1,4,5] = MatMul(%t, %W) @fc
%r: float[4,3] = Reshape(%t, %s) @rows
%u: float[3,4] = Transpose(%r) @back
%w: float[3] = MatMul(%u, %v) @vector
%e: float[3] = Tanh(%w) @tanh
%p: float[5] = MatMul(%e, %W) @product
%a: float[1,4,5] = Add(%h, %p) @add

output %a
"""


def check(graph: Graph, samples: int = 9) -> int:
    """Compare every tensor; return how many of the graph's were computed together."""
    rng = np.random.default_rng(4)
    given = [{name: rng.uniform(-2, 2, graph.tensor(name).shape) for name in graph.inputs} for _ in range(samples)]
    with np.errstate(all="ignore"):
        alone, together = [evaluate_float(graph, sample) for sample in given], evaluate_floats(graph, given)
    assert together.keys() == {t.name for t in graph.tensors.values() if not t.is_constant}
    for name, each in together.items():
        for index, values in enumerate(alone):
            found, wanted = one_of(each, index), values[name]
            assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype), name
            assert found.tobytes() == wanted.tobytes(), name
            # a sum of them all is added in the order in which they lie
            assert (found * found).sum().tobytes() == (wanted * wanted).sum().tobytes(), name
    return sum(isinstance(each, np.ndarray) for each in together.values())


def imported(model: onnx.ModelProto) -> Graph:
    return import_graph(load_onnx(model))


@pytest.mark.parametrize("name", ["breast_cancer", "digits", "mnist_cnn", "resnet8", "churn"])
def test_examples(name: str) -> None:
    graph = ml2sc.lift(EXAMPLES / name / f"{name}.onnx").graph
    assert check(graph, 3 if name == "resnet8" else 9)


@pytest.mark.parametrize("op_type", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers(op_type: str) -> None:
    check(imported(layer(op_type)))


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "Elu", "Selu", "Mish", "Gelu"])
@pytest.mark.parametrize("width", [1, 7])
def test_activations(activation: str, width: int) -> None:
    graph = imported(dense(5, width, 3, activation=activation))
    assert check(graph, 33) == 4


def test_what_lies_otherwise_in_memory() -> None:
    check(parse_graph(TURNED))


@pytest.mark.parametrize("seed", range(24))
def test_random_models(seed: int) -> None:
    for model in (seeded_case(seed).model, random_cnn(seed).model):
        try:
            graph = imported(model)
        except Ml2scError:
            continue
        check(graph)


def test_a_sample_of_another_shape_is_refused() -> None:
    graph = parse_graph(TURNED)
    with pytest.raises(ShapeError, match=r"\[3, 4\], not \[1, 3, 4\]"):
        evaluate_floats(graph, [{"x": np.zeros((1, 3, 4))}, {"x": np.zeros((3, 4))}])
