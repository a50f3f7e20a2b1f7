"""A node for the tests of a file, and a compiled model with three data contracts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import ml2sc
from ml2sc.runtime.node import anvil
from ml2sc.runtime.rpc import Rpc


@pytest.fixture(scope="module")
def _module_node() -> Iterator[str]:
    with anvil() as url:
        yield url


@pytest.fixture
def node(_module_node: str) -> Iterator[str]:
    """A node on which nothing has happened: data contracts of another test would be used again."""
    rpc = Rpc(_module_node)
    before = rpc.request("evm_snapshot")
    yield _module_node
    rpc.request("evm_revert", before)


@pytest.fixture(scope="session")
def model() -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    first, second = (
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in (("w1", (40, 150)), ("w2", (150, 3)))
    )
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["h"]),
        helper.make_node("Gemm", ["h", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "data",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [first, second],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


Build = Callable[[str], ml2sc.Artifact]


@pytest.fixture(scope="session")
def build(model: onnx.ModelProto, toolchain: ml2sc.Toolchain) -> Build:
    """Return a function that compiles the model for a target, once."""
    options = {"name": "Data", "precision": "w8a16", "weights": "data", "input_ranges": ((-1.0, 1.0),)}
    return functools.cache(lambda target: ml2sc.build(ml2sc.compile(model, target=target, **options), toolchain))


@pytest.fixture(params=["solidity", pytest.param("vyper", marks=pytest.mark.heavy)])
def artifact(request: pytest.FixtureRequest, build: Build) -> ml2sc.Artifact:
    return build(request.param)
