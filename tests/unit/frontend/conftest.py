"""Small ONNX models made by hand, and the comparison with onnxruntime that most frontend tests end in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ml2sc.frontend.onnx_import import import_graph, load_onnx
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.types import Array
from ml2sc.ir.verify import verify


class Kit:
    """What the frontend's tests are made of."""

    @staticmethod
    def model(
        nodes: Sequence[onnx.NodeProto],
        inputs: dict[str, Sequence[int | str | None]],
        outputs: Sequence[str],
        constants: dict[str, Array] | None = None,
        *,
        opset: int = 21,
        ml: bool = False,
        output_type: int = TensorProto.FLOAT,
    ) -> onnx.ModelProto:
        """Return a model; arrays of float64 become float32 initialisers."""
        initialisers = [
            numpy_helper.from_array(a.astype(np.float32) if a.dtype == np.float64 else a, name)
            for name, a in (constants or {}).items()
        ]
        graph = helper.make_graph(
            list(nodes),
            "tiny",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, output_type, None) for name in outputs],
            initialisers,
        )
        imports = [helper.make_opsetid("", opset), *([helper.make_opsetid("ai.onnx.ml", 1)] if ml else [])]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)

    @staticmethod
    def to_graph(proto: onnx.ModelProto) -> Graph:
        """Import a model and verify the graph."""
        graph = import_graph(load_onnx(proto))
        verify(graph)
        return graph

    @staticmethod
    def assert_like_onnxruntime(
        proto: onnx.ModelProto, *, samples: int = 5, seed: int = 0, scale: float = 1.0
    ) -> Graph:
        """Check that the imported graph gives onnxruntime's outputs to 1e-5, its labels exactly; return the graph."""
        graph = Kit.to_graph(proto)
        rng = np.random.default_rng(seed)
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        for _ in range(samples):
            feed = {
                name: (scale * rng.normal(size=graph.tensor(name).shape)).astype(np.float32) for name in graph.inputs
            }
            values = evaluate_float(graph, feed)
            for meta, want in zip(session.get_outputs(), session.run(None, feed), strict=True):
                expected = (
                    np.array([list(want[0].values())]) if isinstance(want, list) else want
                )  # a ZipMap's dictionaries
                got = values[meta.name]
                assert got.shape == expected.shape, meta.name
                if expected.dtype.kind == "i":
                    assert got.dtype == np.int64
                    np.testing.assert_array_equal(got, expected)
                else:
                    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5, err_msg=meta.name)
        return graph

    @staticmethod
    def mlp(opset: int = 21) -> onnx.ModelProto:
        """Return a 4-3-2 network: Gemm, Relu, Gemm."""
        rng = np.random.default_rng(1)
        nodes = [
            helper.make_node("Gemm", ["x", "W1", "b1"], ["h"], name="/fc1/Gemm", transB=1),
            helper.make_node("Relu", ["h"], ["a"], name="/relu/Relu"),
            helper.make_node("Gemm", ["a", "W2", "b2"], ["y"], name="/fc2/Gemm", transB=1),
        ]
        weights = {
            "W1": rng.normal(size=(3, 4)),
            "b1": rng.normal(size=3),
            "W2": rng.normal(size=(2, 3)),
            "b2": rng.normal(size=2),
        }
        return Kit.model(nodes, {"x": ["batch", 4]}, ["y"], weights, opset=opset)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    """Return the functions above; test modules cannot import each other."""
    return Kit
