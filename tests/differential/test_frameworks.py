"""Models as skl2onnx and both PyTorch exporters write them, trained or seeded here, all the way to the EVM."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from support import heavy
from support.checking import check_bounds, check_interpreters, check_outputs, compiled
from support.contracts import check_contract, deployed, onnxruntime_outputs, packed_and_wads, reals

import ml2sc
from ml2sc.frontend import torch_export
from ml2sc.frontend.torch_export import export_torch

pytest.importorskip("skl2onnx")
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

pytestmark = pytest.mark.filterwarnings("ignore:::sklearn", "ignore:::skl2onnx", "ignore:::torch", "ignore:::copyreg")

RNG = np.random.default_rng(3)
X = RNG.uniform(-3, 3, size=(200, 4)).astype(np.float32)
THREE = (X[:, 0] > 0.3).astype(int) + (X[:, 1] + X[:, 2] > 0.5)
TWO = (X.sum(axis=1) > 0).astype(int)


def mlp(activation: str, kind: Any = MLPClassifier) -> Any:
    return kind(hidden_layer_sizes=(5, 3), activation=activation, max_iter=60, random_state=0)


CLASSIFIERS = {
    "mlp relu": (mlp("relu"), THREE),
    "mlp logistic": (mlp("logistic"), THREE),
    "mlp identity": (mlp("identity"), THREE),
    "mlp relu, binary": (mlp("relu"), TWO),
    "mlp logistic, binary, labels": (mlp("logistic"), np.array([5, -2])[TWO]),
    "logistic regression": (LogisticRegression(), THREE),
    "logistic regression, binary": (LogisticRegression(), TWO),
    "logistic regression, labels": (LogisticRegression(), np.array([3, 7, 9])[THREE]),
    "standard scaler": (make_pipeline(StandardScaler(), mlp("relu")), THREE),
    "min-max scaler": (make_pipeline(MinMaxScaler(), LogisticRegression()), TWO),
}
REGRESSORS = {
    "mlp relu": (mlp("relu", MLPRegressor), X[:, 0] * X[:, 1]),
    "mlp logistic, two outputs": (mlp("logistic", MLPRegressor), X[:, :2]),
    "linear": (make_pipeline(StandardScaler(), LinearRegression()), X[:, 3] + 2),
}
RANGE = {"precision": "auto", "input_ranges": ((-3.0, 3.0),)}


def samples_of(model: onnx.ModelProto, x: np.ndarray) -> list[dict[str, np.ndarray]]:
    return [{model.graph.input[0].name: row[None].astype(np.float64)} for row in x]


@pytest.mark.parametrize("name", heavy.but_each(6, CLASSIFIERS))
def test_classifiers(name: str, toolchain: ml2sc.Toolchain) -> None:
    estimator, labels = CLASSIFIERS[name]
    model = to_onnx(estimator.fit(X, labels), X[:1], options={"zipmap": False})
    artifact = compiled(model, **RANGE)
    samples = samples_of(model, X[:8])
    packed, wads = packed_and_wads(artifact, samples)
    contract = deployed(artifact, toolchain)
    check_contract(contract, artifact, packed, wads)
    for sample, values in zip(samples, wads, strict=True):
        label, probabilities = onnxruntime_outputs(model, sample)
        assert contract.classify(values) == int(label[0]) % 2**256
        np.testing.assert_allclose(reals(contract.predict(values)), probabilities[0], atol=3e-6)
        check_outputs(artifact, sample, contract.predict(values))
    # what remains of the stated 1e-6 is the format's: the functions themselves are exact to 1e-9
    fine = compiled(model, **{**RANGE, "precision": "q20.50"})
    assert fine.manifest["error_bound"] <= 1e-9
    check_interpreters(fine, samples, [])
    check_bounds(fine, 2, samples)


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(name: str, toolchain: ml2sc.Toolchain) -> None:
    estimator, target = REGRESSORS[name]
    model = to_onnx(estimator.fit(X, target), X[:1])
    artifact = compiled(model, **RANGE)
    samples = samples_of(model, X[:5])
    packed, wads = packed_and_wads(artifact, samples)
    contract = deployed(artifact, toolchain)
    check_contract(contract, artifact, packed, wads)
    for sample, values in zip(samples, wads, strict=True):
        check_outputs(artifact, sample, contract.predict(values))
        (wanted,) = onnxruntime_outputs(model, sample)
        np.testing.assert_allclose(reals(contract.predict(values)), wanted.ravel(), atol=1e-5)


def torch_modules() -> dict[str, tuple[Any, tuple[tuple[int, ...], ...]]]:
    import torch
    from torch import nn

    class Branches(nn.Module):
        """A skip connection, a Concat, a BatchNorm."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.norm = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(10, 3), nn.BatchNorm1d(5)
            self.norm.running_mean.uniform_()
            self.norm.running_var.uniform_(0.5, 1)

        def forward(self, x: torch.Tensor) -> Any:
            h = self.norm(self.a(x.flatten(1)))
            h = h + torch.relu(self.b(h))
            return torch.log_softmax(self.c(torch.cat([h, nn.functional.leaky_relu(h)], 1)), -1)

    class TwoInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 5), nn.Linear(3, 5)

        def forward(self, x: torch.Tensor, z: torch.Tensor) -> Any:
            h = self.a(x) * 0.5 - self.b(z)
            u, v = h.split([2, 3], 1)
            return torch.clamp(torch.cat([v, u, h[:, 1:4:2]], 1), -1, 6), torch.sigmoid(h)

    sigmoid = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1), nn.Sigmoid())
    return {
        "branches": (Branches(), ((1, 2, 3),)),
        "two inputs": (TwoInputs(), ((1, 4), (1, 3))),
        "sigmoid": (sigmoid, ((1, 4),)),
    }


EVERY_RUN = {"branches": "dynamo", "two inputs": "torchscript", "sigmoid": "dynamo"}


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "exporter"),
    heavy.unless(
        lambda case: case[1] == EVERY_RUN[case[0]],
        [(name, exporter) for name in EVERY_RUN for exporter in ("dynamo", "torchscript")],
    ),
)
def test_torch(monkeypatch: pytest.MonkeyPatch, toolchain: ml2sc.Toolchain, name: str, exporter: str) -> None:
    import torch

    torch.manual_seed(0)
    module, shapes = torch_modules()[name]
    if exporter == "torchscript":
        monkeypatch.setattr(torch_export, "_export_dynamo", _no_dynamo)
    examples = tuple(torch.randn(shape) for shape in shapes)
    model = export_torch(module, examples if len(examples) > 1 else examples[0])
    artifact = compiled(model, precision="auto", input_ranges=((-3.0, 3.0),) * len(shapes))
    names = [i.name for i in model.graph.input]
    rng = np.random.default_rng(1)
    samples = [
        {n: rng.uniform(-3, 3, s).astype(np.float32).astype(np.float64) for n, s in zip(names, shapes, strict=True)}
        for _ in range(4)
    ]
    packed, wads = packed_and_wads(artifact, samples)
    contract = deployed(artifact, toolchain)
    check_contract(contract, artifact, packed, wads)
    for sample, values in zip(samples, wads, strict=True):
        check_outputs(artifact, sample, contract.predict(values))
        wanted = np.concatenate([v.ravel() for v in onnxruntime_outputs(model, sample)])
        np.testing.assert_allclose(reals(contract.predict(values)), wanted, atol=1e-5)
        if name == "branches":
            assert contract.classify(values) == int(np.argmax(wanted))
        if name == "sigmoid":
            assert contract.classify(values) == int(wanted[0] >= 0.5)


def _no_dynamo(*_: object) -> None:
    raise RuntimeError("no dynamo today")
