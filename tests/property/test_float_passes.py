"""The float passes keep every output and every origin of random small graphs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.shapes import add_inferred
from ml2sc.ir.types import Array, DType
from ml2sc.passes.derive_decision import DeriveDecision
from ml2sc.passes.fold_batch_norm import FoldBatchNorm
from ml2sc.passes.fold_scaling import FoldScaling
from ml2sc.passes.fuse_gemm_relu import FuseGemmRelu
from ml2sc.passes.manager import run_pipeline
from ml2sc.passes.matmul_add_to_gemm import MatmulAddToGemm

PASSES = (MatmulAddToGemm(), FoldBatchNorm(), FoldScaling(), FuseGemmRelu(), DeriveDecision())


class _Builder:
    """Adds random layers to a graph; constants are sometimes shared."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        self.graph = Graph()
        self.graph.add_tensor(Tensor("x", (draw(st.sampled_from([1, 1, 3])), draw(st.integers(1, 4))), DType.FLOAT))
        self.graph.inputs = ["x"]
        self._constants: dict[tuple[int, ...], str] = {}

    def constant(self, *shape: int) -> str:
        """Return a constant away from 0, perhaps one that is in use already."""
        if shape not in self._constants or self.draw(st.booleans()):
            data = self.rng.uniform(0.3, 2.0, size=shape) * self.rng.choice([-1.0, 1.0], size=shape)
            self._constants[shape] = self._add(np.asarray(data))
        return self._constants[shape]

    def _add(self, data: Array) -> str:
        type_ = DType.FLOAT if data.dtype == np.float64 else DType.INT64
        return self.graph.add_tensor(Tensor(self.graph.fresh("c"), data.shape, type_, data)).name

    def layer(self, x: str) -> str:
        """Add one operator that takes `x` and return its output."""
        shape, size, draw = self.graph.tensor(x).shape, self.graph.tensor(x).size, self.draw
        attrs: dict[str, int | float] = {}
        kinds = ["Add", "Sub", "Mul", "Div", "Neg", "Relu", "BatchNormalization", "Reshape", "Square"]
        kind = draw(st.sampled_from([*kinds, *(["Gemm", "MatMul"] * 3 if len(shape) == 2 else [])]))
        n = draw(st.integers(1, 4))
        match kind:
            case "Gemm":
                attrs = {"alpha": draw(st.sampled_from([1.0, 0.5])), "transB": draw(st.integers(0, 1))}
                inputs = [x, self.constant(n, shape[1]) if attrs["transB"] else self.constant(shape[1], n)]
                if draw(st.booleans()):
                    inputs.append(self.constant(*draw(st.sampled_from([(), (n,), (1, n), (shape[0], n)]))))
            case "MatMul":
                inputs = [x, self.constant(shape[1], n)]
            case "Add" | "Sub" | "Mul" | "Div":
                inputs = [
                    x,
                    self.constant(*draw(st.sampled_from([(), shape[1:], shape, (shape[0], *[1] * len(shape[1:]))]))),
                ]
                if kind != "Div" and draw(st.booleans()):
                    inputs.reverse()
            case "BatchNormalization":
                positive = self._add(self.rng.uniform(0.1, 1.0, size=shape[1]))
                inputs = [x, *(self.constant(shape[1]) for _ in range(3)), positive]
            case "Reshape":
                target = draw(st.sampled_from([(1, size), (size, 1), (1, size, 1, 1)]))
                inputs = [x, self._add(np.array(target, dtype=np.int64))]
            case "Square":
                kind, inputs = "Mul", [x, x]
            case _:
                inputs = [x]
        output = self.graph.fresh("t")
        return add_inferred(self.graph, kind, inputs, [output], attrs, origin=[f"onnx {output}"]).output


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a float graph of up to ten layers, in which an intermediate tensor may be an output too."""
    builder = _Builder(draw)
    made = ["x"]
    for _ in range(draw(st.integers(1, 10))):
        made.append(builder.layer(draw(st.sampled_from(made[-2:]))))
    builder.graph.outputs = list(dict.fromkeys([made[-1], *draw(st.lists(st.sampled_from(made[1:]), max_size=1))]))
    builder.graph.prune()
    return builder.graph


@settings(deadline=None)
@given(graphs())
def test_passes_keep_outputs_and_origins(graph: Graph) -> None:
    x = np.random.default_rng(3).normal(size=graph.tensor("x").shape)
    wanted, outputs = evaluate_float(graph, {"x": x}), list(graph.outputs)
    origins = {name for node in graph for name in node.origin}
    run_pipeline(graph, PASSES)
    got = evaluate_float(graph, {"x": x})
    for name in outputs:
        magnitude = max(1.0, *(float(np.abs(values).max()) for values in wanted.values()))
        assert float(np.abs(got[name] - wanted[name]).max()) <= 1e-9 * magnitude
    assert {name for node in graph for name in node.origin} == origins
    assert not {"BatchNormalization"} & {node.op_type for node in graph}
