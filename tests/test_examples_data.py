"""The committed models and samples are what examples/README.md says they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from support.checking import outcomes

import ml2sc


class Example(NamedTuple):
    name: str
    layers: tuple[int, ...]
    samples: int
    accuracy: float
    binary: bool = False


EXAMPLES = [
    Example("breast_cancer", (30, 4, 4, 1), 169, 0.95, binary=True),
    Example("digits", (64, 32, 10), 360, 0.95),
    Example("mnist", (784, 32, 10), 500, 0.93),
    Example("mnist20", (400, 32, 16, 10), 500, 0.93),
]
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=[e.name for e in EXAMPLES])


def load(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    with np.load(path) as data:
        assert sorted(data) == ["x", "y"]
        return data["x"], data["y"]


def accuracy(model: Path, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> float:
    (scores,) = onnxruntime.InferenceSession(model).run(None, {"x": x})
    decided = scores[:, 0] >= 0.5 if scores.shape[1] == 1 else scores.argmax(axis=1)
    return float(np.mean(decided == y))


@each_example
def test_model_is_the_network_described(examples: Path, example: Example) -> None:
    model = onnx.load(examples / example.name / f"{example.name}.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}  # fails on external data
    matrices = [weights[node.input[1]] for node in model.graph.node if node.op_type == "Gemm"]
    assert [matrix.shape[::-1] for matrix in matrices] == list(zip(example.layers, example.layers[1:], strict=False))
    assert model.graph.node[-1].op_type == ("Sigmoid" if example.binary else "Gemm")
    batch, features = model.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param
    assert features.dim_value == example.layers[0]


@each_example
def test_model_tells_nothing_of_the_machine_it_was_made_on(examples: Path, example: Example) -> None:
    assert b"site-packages" not in (examples / example.name / f"{example.name}.onnx").read_bytes()


@each_example
def test_samples_are_small_and_unseen(examples: Path, example: Example) -> None:
    folder = examples / example.name
    assert all((folder / name).stat().st_size < 300_000 for name in ("samples.npz", "calibration.npz"))
    x, y = load(folder / "samples.npz")
    seen, seen_y = load(folder / "calibration.npz")
    assert x.shape == (example.samples, example.layers[0])
    assert 200 <= len(seen) <= 400
    for features, labels in ((x, y), (seen, seen_y)):
        assert features.dtype == np.float32
        assert labels.dtype == np.int64
        assert labels.shape == features.shape[:1]
    assert not {row.tobytes() for row in x} & {row.tobytes() for row in seen}


@each_example
def test_accuracy(examples: Path, example: Example) -> None:
    folder = examples / example.name
    assert accuracy(folder / f"{example.name}.onnx", *load(folder / "samples.npz")) >= example.accuracy


NETWORKS = [
    ("mnist_cnn", [(3, 1, 3, 3), (6, 3, 3, 3), (10, 294)], (28 * 28, 14 * 14, 1), 55_860),
    ("lenet5", [(6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)], (28 * 28, 10 * 10, 1, 1, 1), 416_520),
    (
        "resnet8",
        [
            *((4, 1, 3, 3), (4, 4, 3, 3), (4, 4, 3, 3)),
            *((8, 4, 3, 3), (8, 8, 3, 3), (8, 4, 1, 1)),
            *((16, 8, 3, 3), (16, 16, 3, 3), (16, 8, 1, 1)),
            (10, 16),
        ],
        (*[32 * 32] * 3, *[16 * 16] * 3, *[8 * 8] * 3, 1),
        790_688,
    ),
]


@pytest.mark.parametrize(("name", "layers", "points", "products"), NETWORKS)
def test_convolutional_networks_are_those_described(
    examples: Path, name: str, layers: list[tuple[int, ...]], points: tuple[int, ...], products: int
) -> None:
    path = examples / name / f"{name}.onnx"
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    found = [weights[node.input[1]].shape for node in model.graph.node if node.op_type in {"Conv", "Gemm"}]
    assert found == layers
    assert sum(outputs * int(np.prod(shape)) for outputs, shape in zip(points, layers, strict=True)) == products
    assert b"site-packages" not in path.read_bytes()
    assert accuracy(path, *load(examples / name / "samples.npz")) >= 0.975


@pytest.mark.parametrize("name", ["lenet5", "mnist_cnn"])
@pytest.mark.parametrize("file", ["samples.npz", "calibration.npz"])
def test_convolutional_networks_have_mnists_images(examples: Path, file: str, name: str) -> None:
    (x, y), (images, labels) = load(examples / "mnist" / file), load(examples / name / file)
    assert np.array_equal(x.reshape(-1, 1, 28, 28), images)
    assert np.array_equal(y, labels)


@pytest.mark.parametrize("file", ["samples.npz", "calibration.npz"])
def test_resnet8_has_mnists_images_with_an_edge(examples: Path, file: str) -> None:
    (x, y), (images, labels) = load(examples / "mnist" / file), load(examples / "resnet8" / file)
    assert np.array_equal(np.pad(x.reshape(-1, 1, 28, 28), ((0, 0), (0, 0), (2, 2), (2, 2))), images)
    assert np.array_equal(y, labels)


@pytest.mark.parametrize("file", ["samples.npz", "calibration.npz"])
def test_mnist20_is_mnist_without_its_edges(examples: Path, file: str) -> None:
    (x, y), (inner, labels) = load(examples / "mnist" / file), load(examples / "mnist20" / file)
    assert np.array_equal(x.reshape(-1, 28, 28)[:, 4:24, 4:24].reshape(-1, 400), inner)
    assert np.array_equal(y, labels)


def test_the_churn_trees_are_the_ones_described(examples: Path) -> None:
    """Every decision on unseen rows is the library's, and the gas what the page says."""
    folder = examples / "churn"
    artifact = ml2sc.compile(folder / "churn.onnx")
    assert artifact.graph is not None
    x, y = load(folder / "samples.npz")
    same, predicted = load(folder / "predictions.npz")
    assert np.array_equal(same, x)
    found = outcomes(artifact.graph, [{"x": row[None].astype(np.float64)} for row in x])
    assert [outcome.decision for outcome in found] == predicted.tolist()
    assert np.mean(predicted == y) >= 0.85
    assert len((folder / "columns.txt").read_text().split()) == x.shape[1]
    plan = next(layer for layer in artifact.manifest["plan"] if "kernel" in layer)
    assert (plan["trees"], plan["kernel"]) == (100, "grid")
    assert artifact.manifest["gas"]["predicted"] < 27_500
    assert b"site-packages" not in (folder / "churn.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.heavy
@pytest.mark.torch
@pytest.mark.parametrize("name", ["breast_cancer", "digits"])
def test_training_script_makes_such_a_model(examples: Path, name: str, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", f"examples.{name}.train", "-o", tmp_path, "--seed", "1"],
        check=True,
        cwd=examples.parent,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert accuracy(tmp_path / f"{name}.onnx", *load(tmp_path / "samples.npz")) >= 0.95


@pytest.mark.heavy
@pytest.mark.torch
def test_mnist_training_script_reads_the_file_it_describes(examples: Path, tmp_path: Path) -> None:
    x, y = load(examples / "mnist" / "samples.npz")
    pixels = np.rint(x * 255).astype(np.uint8)
    np.savez(tmp_path / "data.npz", train_x=pixels, train_y=y, test_x=pixels, test_y=y)
    subprocess.run(
        [sys.executable, "-m", "examples.mnist.train", "--data", tmp_path / "data.npz", "-o", tmp_path],
        check=True,
        cwd=examples.parent,
    )
    again, labels = load(tmp_path / "samples.npz")
    assert np.array_equal(again, x)
    assert np.array_equal(labels, y)
    assert accuracy(tmp_path / "mnist.onnx", again, labels) >= 0.95  # seen in training
