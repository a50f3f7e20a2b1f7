"""Models that come quantised: the same decisions as onnxruntime, every output within one step of its format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import heavy
from support.checking import check_bounds, check_interpreters, compiled, outcomes
from support.contracts import check_contract, deployed, packed_and_wads
from support.quantized import Array, example, onnxruntime_answers, quantized, random_quantized, training
from support.random_models import Seeded

import ml2sc
from ml2sc.backends import Artifact
from ml2sc.frontend import torch_export
from ml2sc.frontend.torch_export import export_torch
from ml2sc.ir import wad
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.passes.lower import finish
from ml2sc.passes.prescribed import is_complete
from ml2sc.runtime import float_model

FORMS = (
    "QDQ u8s8",
    "QDQ u8s8 channel",
    "QDQ s8s8 channel symmetric",
    "QDQ u8u8",
    "QDQ u8s4 channel",
    "QDQ u16s8 channel",
    "QOperator u8s8",
    "QOperator u8u8 channel",
    "QOperator s8s8 symmetric",
)
OFTEN = ("QDQ u8s4 channel", "QOperator u8s8")
MNIST_FORMS = ("QDQ u8s8", "QDQ s8s8 channel", "QOperator u8s8 channel", "QOperator u8u8")


def samples_of(artifact: Artifact, x: Array) -> list[dict[str, Array]]:
    graph = artifact.graph
    assert graph is not None
    name = graph.inputs[0]
    return [{name: sample.reshape(graph.tensor(name).shape).astype(np.float64)} for sample in x]


def check_answers(artifact: Artifact, model: onnx.ModelProto, x: Array) -> None:
    """Compare the graph interpreter's answers with onnxruntime's: all decisions, and every output to one step."""
    graph = artifact.graph
    assert graph is not None
    output = graph.tensor(graph.outputs[0])
    step = float(output.format.scale) if output.format.bits <= 16 else 0.0
    wanted = onnxruntime_answers(model, x)
    for outcome, scores in zip(outcomes(graph, samples_of(artifact, x)), wanted, strict=True):
        found = np.array(outcome.outputs, dtype=np.float64) / wad.WAD
        assert np.abs(found - scores).max() <= step * (1 + 1e-5) + 1e-6 * np.abs(scores).max()
        assert outcome.decision == (scores.argmax() if scores.size > 1 else scores[0] >= 0.5)


@pytest.mark.parametrize("form", heavy.unless(OFTEN.__contains__, FORMS))
def test_digits(form: str) -> None:
    model, calibration, x = example("digits")
    model = quantized(model, calibration, form)
    artifact = compiled(model)
    check_answers(artifact, model, np.concatenate([x, training("digits")[-140:]]))
    check_bounds(artifact, 2, samples_of(artifact, x[:3]))
    check_interpreters(artifact, samples_of(artifact, x[:1]), [[10**30] * 64, [-(10**30)] * 64])


@pytest.mark.parametrize("form", heavy.but_each(4, MNIST_FORMS))
def test_mnist(form: str) -> None:
    model, calibration, x = example("mnist")
    model = quantized(model, calibration, form)
    check_answers(ml2sc.compile(model), model, x[:500])


@pytest.mark.parametrize("seed", heavy.unless((0).__eq__, range(24)))
def test_random_models(seed: int) -> None:
    """Every integer in its interval, every error within its bound, and the Program's integers those of the graph."""
    model = random_quantized(Seeded(seed))
    artifact = compiled(model)
    features = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    x = np.random.default_rng(seed).normal(size=(6, features)) * [[0.0], [0.5], [1.0], [2.0], [8.0], [100.0]]
    samples = samples_of(artifact, x)
    lo, hi = artifact.manifest["inputs"][0]["range"]
    check_bounds(artifact, 2, [{name: np.clip(v, lo, hi) for name, v in sample.items()} for sample in samples])
    check_interpreters(artifact, samples, [[10**30] * features, [-(10**30)] * features])
    graph, reference = artifact.graph, artifact.reference
    assert graph is not None
    assert reference is not None
    form = graph.tensor(graph.outputs[0]).format
    if is_complete(reference) and form.bits <= 16:
        for sample in samples:
            found = (
                np.array(wad.run_graph(graph, wad.quantize_inputs(graph, sample)).outputs, dtype=np.float64) / wad.WAD
            )
            wanted = evaluate_float(reference, sample)[graph.outputs[0]].ravel()
            assert np.abs(found - wanted).max() <= float(form.scale) * (1 + 1e-9)


@pytest.mark.parametrize("target", ["solidity", "vyper"])
@pytest.mark.parametrize("factors", ["literals", "tables"])
def test_contracts(factors: str, target: str, toolchain: ml2sc.Toolchain, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer with one scale, and one with a scale an output: its factors in the code, or in tables if it is wide."""
    if factors == "tables":
        monkeypatch.setattr(finish, "_LITERAL_FACTORS", 0)
    artifact = ml2sc.compile(random_quantized(Seeded(50)), target=target)
    assert artifact.program is not None
    assert any("factors" in name for name in artifact.program.segments) == (factors == "tables")
    assert "each multiplied by its scale" in str(artifact.source)
    x = np.random.default_rng(0).normal(size=(12, 9)) * 3
    packed, wads = packed_and_wads(artifact, samples_of(artifact, x))
    check_contract(deployed(artifact, toolchain), artifact, packed, wads)


@pytest.mark.parametrize(
    ("form", "target"),
    [
        ("QDQ s8s8 channel", "solidity"),
        pytest.param("QOperator u8s8", "vyper", marks=pytest.mark.heavy),
    ],
)
def test_digits_on_chain(form: str, target: str, toolchain: ml2sc.Toolchain) -> None:
    model, calibration, x = example("digits")
    artifact = ml2sc.compile(quantized(model, calibration, form), target=target)
    packed, wads = packed_and_wads(artifact, samples_of(artifact, x[:12]))
    check_contract(deployed(artifact, toolchain), artifact, packed, wads)


@pytest.mark.parametrize("form", ["QOperator u8s8", "QOperator s8s8"])
def test_check_runs_what_onnxruntime_has_only_inexact_kernels_for(form: str, tmp_path: Path) -> None:
    """The second has none with exact sums, which are asked for first."""
    model, calibration, _ = example("digits")
    onnx.save(quantized(model, calibration, form), tmp_path / "model.onnx")
    assert float_model._session(tmp_path / "model.onnx").get_outputs()[0].name == "scores"


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg", "ignore:torch.ao.quantization is deprecated")
def test_quantisation_aware_training_in_pytorch() -> None:
    """What `torch.ao.quantization.prepare_qat` makes, with 7-bit activations and a scale for each output."""
    torch = pytest.importorskip("torch")
    ao = pytest.importorskip("torch.ao.quantization")

    class Network(torch.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.quantize, self.dequantize = ao.QuantStub(), ao.DeQuantStub()
            self.layers = torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))

        def forward(self, x: Any) -> Any:
            return self.dequantize(self.layers(self.quantize(x)))

    _, _, x = example("digits")
    torch.manual_seed(0)
    network = Network().train()
    network.qconfig = ao.get_default_qat_qconfig("fbgemm", version=0)
    ao.prepare_qat(network, inplace=True)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    data, target = torch.tensor(x.astype(np.float32)), torch.arange(len(x)) % 10
    for _ in range(20):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(data), target).backward()
        optimiser.step()
    network.apply(ao.disable_observer)
    with pytest.MonkeyPatch.context() as patch:  # it cannot export fake quantisation, and takes its time to say so
        patch.setattr(torch_export, "_export_dynamo", lambda *_: 1 / 0)
        model = export_torch(network, torch.zeros(1, 64))
    artifact = compiled(model)
    check_answers(artifact, model, x[:100])
    check_interpreters(artifact, samples_of(artifact, x[:2]), [])


def small_cnn() -> tuple[onnx.ModelProto, Array]:
    """Return a small convolutional network, and inputs for it."""
    rng = np.random.default_rng(4)
    weights = {
        "w0": rng.normal(0, 0.5, (4, 1, 3, 3)),
        "b0": rng.normal(0, 0.2, 4),
        "w1": rng.normal(0, 0.3, (5, 4, 3, 3)),
        "b1": rng.normal(0, 0.2, 5),
        "w2": rng.normal(0, 0.5, (5, 3)),
        "b2": rng.normal(0, 0.1, 3),
    }
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 18]> cnn (float[1,1,8,8] x) => (float[1,3] y) {
            a = Conv<pads = [1,1,1,1]>(x, w0, b0)
            b = Relu(a)
            c = MaxPool<kernel_shape = [2,2], strides = [2,2]>(b)
            d = Conv<strides = [2,2], pads = [1,1,1,1]>(c, w1, b1)
            e = Relu(d)
            f = GlobalAveragePool(e)
            g = Flatten(f)
            y = Gemm(g, w2, b2)
        }""")
    for name, values in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    return model, rng.uniform(0, 1, (60, 1, 8, 8))


@pytest.mark.parametrize("form", heavy.but_each(3, ["QDQ s8s8 channel", "QDQ u8s8", "QOperator u8s8 channel"]))
def test_a_convolutional_network(form: str) -> None:
    model, x = small_cnn()
    model = quantized(model, x[:40], form)
    artifact = compiled(model)
    check_answers(artifact, model, x)
    check_interpreters(artifact, samples_of(artifact, x[-3:]), [])
