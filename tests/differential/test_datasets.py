"""scikit-learn's wine, iris and diabetes: pipelines through skl2onnx, networks through PyTorch, up to the contract."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from support import heavy
from support.checking import check_bounds, check_interpreters, check_outputs, outcomes
from support.contracts import check_contract, deployed, onnxruntime_outputs, packed_and_wads

import ml2sc
from ml2sc.backends import Artifact
from ml2sc.frontend.torch_export import export_torch
from ml2sc.ir import wad

pytest.importorskip("skl2onnx")
from skl2onnx import to_onnx
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.filterwarnings("ignore:::sklearn", "ignore:::skl2onnx", "ignore:::torch", "ignore:::copyreg")

Array = np.ndarray[Any, Any]
LOADERS = {"wine": load_wine, "iris": load_iris, "diabetes": load_diabetes}
REGRESSION = "diabetes"
UNSEEN = 40


class Split(NamedTuple):
    x: Array
    y: Array
    unseen: Array


def split(name: str) -> Split:
    x, y = LOADERS[name](return_X_y=True)
    labels = None if name == REGRESSION else y
    parts = train_test_split(x.astype(np.float32), y, test_size=UNSEEN, random_state=0, stratify=labels)
    return Split(parts[0], parts[2], parts[1])


def estimator(name: str, kind: str) -> Any:
    if kind == "linear":
        return LinearRegression() if name == REGRESSION else LogisticRegression()
    mlp = MLPRegressor if name == REGRESSION else MLPClassifier
    return mlp(hidden_layer_sizes=(8,), activation=kind, solver="lbfgs", alpha=0.1, max_iter=60, random_state=0)


def samples_of(model: onnx.ModelProto, x: Array) -> list[dict[str, Array]]:
    return [{model.graph.input[0].name: row[None].astype(np.float64)} for row in x]


def answers(artifact: Artifact, samples: list[dict[str, Array]]) -> list[wad.Outcome]:
    assert artifact.graph is not None
    return outcomes(artifact.graph, samples)


def check_on_chain(artifact: Artifact, samples: list[dict[str, Array]], toolchain: ml2sc.Toolchain) -> None:
    packed, wads = packed_and_wads(artifact, samples[:5])
    check_contract(deployed(artifact, toolchain), artifact, packed, wads)


PIPELINES = [
    ("wine", "linear", "vyper"),
    ("wine", "relu", "solidity"),
    ("iris", "linear", "solidity"),
    ("iris", "tanh", "vyper"),
    ("diabetes", "linear", "vyper"),
    ("diabetes", "logistic", "solidity"),
]
KINDS = {"wine": "relu", "iris": "tanh", "diabetes": "linear"}
"""Those of every run."""


@pytest.mark.parametrize(("name", "kind", "target"), heavy.unless(lambda case: case[1] == KINDS[case[0]], PIPELINES))
def test_pipelines(name: str, kind: str, target: str, toolchain: ml2sc.Toolchain) -> None:
    """Raw features, a StandardScaler inside, no data but a range: decisions are onnxruntime's, the bound holds."""
    data = split(name)
    pipeline = make_pipeline(StandardScaler(), estimator(name, kind)).fit(data.x, data.y)
    model = to_onnx(pipeline, data.x[:1], options=None if name == REGRESSION else {"zipmap": False})
    reach = float(np.ceil(np.abs([*data.x, *data.unseen]).max()))
    artifact = ml2sc.compile(model, target=target, precision="auto", input_ranges=((-reach, reach),))
    assert artifact.manifest["error_bound"] <= 1e-6
    samples = samples_of(model, data.unseen)
    for sample, answer in zip(samples, answers(artifact, samples), strict=True):
        check_outputs(artifact, sample, answer.outputs)
        wanted = onnxruntime_outputs(model, sample)
        if name == REGRESSION:  # float32 keeps 24 bits of a number near 200, and sums a few
            np.testing.assert_allclose(answer.outputs[0] / 10**18, wanted[0].item(), rtol=1e-5)
        else:
            assert answer.decision == int(wanted[0][0])
    check_interpreters(artifact, samples[:3], [])
    check_bounds(artifact, 2, samples[:3])
    check_on_chain(artifact, samples, toolchain)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("iris", "vyper"),
        *heavy.unless(lambda _: False, [("diabetes", "solidity"), ("wine", "solidity")]),
    ],
)
def test_networks(name: str, target: str, toolchain: ml2sc.Toolchain) -> None:
    """Features standardised beforehand, as int8 wants them: one format serves all features of an input."""
    import torch
    from torch.nn import functional

    data = split(name)
    mean, deviation = data.x.mean(axis=0), data.x.std(axis=0)
    x, unseen = (data.x - mean) / deviation, (data.unseen - mean) / deviation
    regression = name == REGRESSION
    torch.manual_seed(0)
    outputs = 1 if regression else 3
    module = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 8), torch.nn.ReLU(), torch.nn.Linear(8, outputs))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.03)
    given = torch.from_numpy(x)
    target_values = torch.from_numpy((data.y / 100).astype(np.float32)[:, None] if regression else data.y)
    for _ in range(100):
        optimizer.zero_grad()
        loss = functional.mse_loss if regression else functional.cross_entropy
        loss(module(given), target_values).backward()
        optimizer.step()

    model = export_torch(module.eval(), torch.zeros(1, x.shape[1]))
    samples = samples_of(model, unseen)
    scores = np.array([onnxruntime_outputs(model, sample)[0][0] for sample in samples])
    exact = ml2sc.compile(model, precision="auto", input_ranges=((-10.0, 10.0),))
    narrow = ml2sc.compile(model, target=target, precision="int8", calibration={"x": x})
    assert exact.manifest["error_bound"] <= 1e-6
    got = [np.array([answer.outputs for answer in answers(a, samples)]) / 10**18 for a in (exact, narrow)]
    if regression:
        np.testing.assert_allclose(got[0], scores, atol=1e-5)
        spread = float(np.ptp(scores))
        assert np.abs(got[1] - scores).max() <= 0.02 * spread  # 0.9 % today
    else:
        kept = [np.mean(g.argmax(axis=1) == scores.argmax(axis=1)) for g in got]
        assert kept[0] == 1.0
        assert kept[1] >= 0.95  # all of them today
    check_bounds(narrow, 2, samples[:3])
    check_on_chain(narrow, samples, toolchain)
