"""What is emitted, word for word: a change of output shows as a change of these files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import ml2sc
from ml2sc.ir.printer import print_graph

from ..conftest import Golden

TARGETS = [("solidity", "sol"), ("vyper", "vy")]


def weights(rows: int, columns: int, step: int) -> onnx.TensorProto:
    """Return numbers that every machine makes alike: 64ths from −1 to 1, in no apparent order."""
    values = (np.arange(rows * columns) * step % 129 - 64) / 64
    return numpy_helper.from_array(values.reshape(rows, columns).astype(np.float32), f"w{rows}x{columns}")


def model(
    nodes: Sequence[onnx.NodeProto], inputs: int, outputs: dict[str, int], initialisers: Sequence[onnx.TensorProto]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, inputs])],
        [helper.make_tensor_value_info(name, type_, None) for name, type_ in outputs.items()],
        list(initialisers),
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def two_layers(inputs: int, hidden: int, outputs: int) -> onnx.ModelProto:
    first, second = weights(inputs, hidden, 37), weights(hidden, outputs, 53)
    nodes = [
        helper.make_node("Gemm", ["x", first.name], ["a"], name="/fc1/Gemm"),
        helper.make_node("Relu", ["a"], ["h"], name="/relu/Relu"),
        helper.make_node("Gemm", ["h", second.name], ["y"], name="/fc2/Gemm"),
    ]
    return model(nodes, inputs, {"y": TensorProto.FLOAT}, [first, second])


def test_breast_cancer_int8(golden: Golden, examples: Path) -> None:
    folder = examples / "breast_cancer"
    artifact = ml2sc.compile(folder / "breast_cancer.onnx", precision="int8", calibration=folder / "calibration.npz")
    golden("breast_cancer_int8.sol", artifact.source)
    assert artifact.graph is not None
    artifact.graph.observed.clear()  # sums in float64: their last bits are the processor's
    golden("breast_cancer_int8.ir", print_graph(artifact.graph))


def test_breast_cancer_int8_in_vyper(golden: Golden, examples: Path) -> None:
    folder = examples / "breast_cancer"
    golden(
        "breast_cancer_int8.vy",
        ml2sc.compile(folder / "breast_cancer.onnx", "vyper", "int8", folder / "calibration.npz").source,
    )


@pytest.mark.parametrize(("target", "suffix"), TARGETS)
def test_auto(golden: Golden, target: str, suffix: str) -> None:
    artifact = ml2sc.compile(two_layers(3, 4, 2), target, name="TinyAuto", input_ranges=((-1.0, 1.0),))
    assert artifact.manifest["precision"].startswith("q")
    golden(f"tiny_auto.{suffix}", artifact.source)


@pytest.mark.parametrize(("target", "suffix"), TARGETS)
def test_data_contracts(golden: Golden, target: str, suffix: str) -> None:
    artifact = ml2sc.compile(
        two_layers(64, 70, 3), target, "int8", name="TinyData", weights="data", input_ranges=((0.0, 1.0),)
    )
    assert len(artifact.data) >= 1
    golden(f"tiny_data.{suffix}", artifact.source)
    words = [data[i : i + 32].hex() for data in artifact.data for i in range(0, len(data), 32)]
    golden(f"tiny_data.{suffix}.weights.txt", "\n".join(words) + "\n")


@pytest.mark.parametrize(("target", "suffix"), TARGETS)
def test_updatable(golden: Golden, target: str, suffix: str) -> None:
    artifact = ml2sc.compile(
        two_layers(3, 4, 2),
        target,
        "int8",
        name="TinyUpdatable",
        input_ranges=((0.0, 1.0),),
        updatable=True,
        timelock=86_400,
    )
    golden(f"tiny_updatable.{suffix}", artifact.source)


def test_strict_input(golden: Golden) -> None:
    artifact = ml2sc.compile(
        two_layers(3, 4, 2), name="TinyStrict", precision="q7.12", strict_input=True, input_ranges=((-1.0, 1.0),)
    )
    golden("tiny_strict.sol", artifact.source)


def test_labels(golden: Golden) -> None:
    """A class table: `classify` answers 30, 10 or 20."""
    w, table = weights(3, 3, 41), numpy_helper.from_array(np.array([30, 10, 20], dtype=np.int64), "classes")
    nodes = [
        helper.make_node("MatMul", ["x", w.name], ["s"], name="scores"),
        helper.make_node("Softmax", ["s"], ["p"], name="softmax", axis=1),
        helper.make_node("ArgMax", ["p"], ["i"], name="argmax", axis=1, keepdims=0),
        helper.make_node("ArrayFeatureExtractor", [table.name, "i"], ["label"], name="lookup", domain="ai.onnx.ml"),
    ]
    proto = model(nodes, 3, {"label": TensorProto.INT64, "p": TensorProto.FLOAT}, [w, table])
    artifact = ml2sc.compile(proto, name="TinyLabels", precision="int8", input_ranges=((-1.0, 3.0),))
    assert artifact.manifest["decision"]
    golden("tiny_labels.sol", artifact.source)
