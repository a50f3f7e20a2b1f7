"""The blocks that convolutional networks are made of, from both of PyTorch's exporters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import heavy
from support.architectures import ARCHITECTURES, EXPORTERS, exported
from support.checking import check_interpreters

import ml2sc
from ml2sc.frontend.model_file import load_onnx
from ml2sc.frontend.onnx_import import import_graph
from ml2sc.ir.evaluate import evaluate_float

pytestmark = pytest.mark.torch


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "exporter"),
    heavy.unless(
        lambda case: case[1] == "torchscript" and case[0] != "vgg",
        [(name, exporter) for name in ARCHITECTURES for exporter in EXPORTERS],
    ),
)
def test_imports_and_computes(name: str, exporter: str) -> None:
    proto, model, x = exported(name, exporter)
    with torch.no_grad():
        wanted = model(x).numpy()
    graph = import_graph(load_onnx(proto))
    sample = {graph.inputs[0]: x.numpy().astype(np.float64)}
    found = evaluate_float(graph, sample)[graph.outputs[0]]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    artifact = ml2sc.compile(proto, precision="int8", input_ranges=((0.0, 1.0),))
    assert artifact.graph is not None
    assert "BatchNormalization" not in {node.op_type for node in artifact.graph}
    scaled = {"squeeze-and-excite", "shufflenet unit", "vision transformer"}
    assert "Mul" not in {node.op_type for node in artifact.graph} or name in scaled
    check_interpreters(artifact, [sample], [])
