"""The check's verdicts, on contracts that are pretended: each answers as the Program interpreter, or wrongly."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import ml2sc
from ml2sc.backends.base import Artifact
from ml2sc.errors import ArtifactError, DataError, PoorResultWarning, UsageError
from ml2sc.ir.confidence import lower_confidence
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.interpret import Interpreter, ProgramError
from ml2sc.ir.ops.linear import Gemm
from ml2sc.ir.program import to_signed
from ml2sc.runtime import examine as module
from ml2sc.runtime.calling import Called
from ml2sc.runtime.check import check, random_samples
from ml2sc.runtime.contract import ContractError
from ml2sc.runtime.report import Distances, Report

r2_score = pytest.importorskip("sklearn.metrics").r2_score

SAMPLES = np.random.default_rng(5).uniform(-1, 1, (30, 4)).astype(np.float32)


def model(inputs: int = 4, last: str = "Identity", outputs: int = 3) -> onnx.ModelProto:
    """Return x[batch, inputs] → Gemm → `last` → y[batch, outputs]."""
    rng = np.random.default_rng(3)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="fc"),
            helper.make_node(last, ["h"], ["y"], name="last"),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", outputs])],
        [
            numpy_helper.from_array(rng.normal(size=(inputs, outputs)).astype(np.float32), "w"),
            numpy_helper.from_array(rng.normal(size=outputs).astype(np.float32), "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def two_layers() -> onnx.ModelProto:
    """Return x[1, 4] → Gemm → Relu → Gemm → y[1, 3]."""
    return onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18]> t (float[1,4] x) => (float[1,3] y) '
        "<float[4,2] w = {1, -1, 0.5, 2, -0.75, 1, 0.25, -2}, float[2,3] v = {1, -1, 0.5, 0.25, 2, 1}> "
        "{ h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }"
    )


def compiled(proto: onnx.ModelProto | None = None, **options: Any) -> Artifact:
    return ml2sc.compile(
        model() if proto is None else proto, **{"precision": "int8", "input_ranges": ((-1.0, 1.0),), **options}
    )


class PretendChain:
    def __init__(self, name: str) -> None:
        self.name = name

    def code(self, address: str) -> bytes:
        return bytes(1000)


Wrong = Callable[[str, Any], Any]
"""Changes the answer to a call: (function, right answer) → answer."""


class PretendContract:
    """Answers as the Program does, but for `wrong`."""

    address = "0x" + "33" * 20

    def __init__(self, artifact: Artifact, chain: PretendChain, wrong: Wrong) -> None:
        assert artifact.program is not None
        self.artifact, self.chain, self.wrong = artifact, chain, wrong
        self.interpreter = Interpreter(artifact.program)
        self.calls: list[str] = []

    def has(self, name: str) -> bool:
        assert self.artifact.program is not None
        return self.artifact.program.has_decision or not name.startswith("classify")

    def model_hash(self) -> bytes:
        return bytes(self.wrong("modelHash", bytes.fromhex(self.artifact.manifest["model_hash"].removeprefix("0x"))))

    def gas_packed(self, packed: bytes) -> int:
        return int(self.wrong("gas", 30_000 + packed[0]))

    def called_packed(self, packed: bytes) -> Called:
        return Called(7_000 + packed[0], 4_000 + packed[0])

    def call(self, function: str, argument: Any) -> Any:
        self.calls.append(function)
        try:
            packed = argument if function.endswith("Packed") else self.interpreter.quantize(argument)
        except ProgramError as error:
            index, value = error.args[1:]
            raise ContractError(error.error, {"index": index, "value": to_signed(value)}, b"") from error
        outcome = self.interpreter.run(packed)
        return self.wrong(function, outcome.outputs if function.startswith("predict") else outcome.decision)


Pretend = Callable[..., list[PretendContract]]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Return a function that makes `check` run on a pretended contract; its list fills with those that were made."""

    def install(
        wrong: Wrong = lambda function, answer: answer, *, revm: bool = False, second: Wrong | None = None
    ) -> list[PretendContract]:
        made: list[PretendContract] = []

        @contextmanager
        def place(artifact: Artifact, spec: str, *_: object) -> Iterator[Any]:
            how = wrong if not made or second is None else second
            made.append(PretendContract(artifact, PretendChain(spec), how))
            yield module._Place(made[-1].chain, made[-1], None)  # type: ignore[arg-type]

        monkeypatch.setattr(module, "_place", place)
        monkeypatch.setattr(module, "revm_is_installed", lambda: revm)
        return made

    return install


def run(artifact: Artifact, samples: Any = SAMPLES, **options: Any) -> Report:
    report = check(artifact, samples, **options)
    assert bool(report.failure) is not report.ok
    return report


def test_right(pretend: Pretend) -> None:
    made = pretend()
    report = run(compiled())
    assert report.ok
    assert report.bit_exact
    assert (report.samples, report.wad_samples, report.bit_exact_samples, report.outside_range) == (30, 30, 30, 0)
    assert report.first_difference is None
    assert report.max_abs_error is not None
    assert 0 < report.max_abs_error <= report.error_bound
    assert report.decision_agreement is not None
    assert report.decision_agreement > 0.9
    assert report.accuracy is None
    assert report.gas.min <= report.gas.mean <= report.gas.max
    assert report.code_bytes == 1000
    assert sorted(made[0].calls) == sorted(["predict", "classify", "predictPacked", "classifyPacked"] * 30)


def test_json_holds_what_is_promised(pretend: Pretend) -> None:
    pretend()
    report = run(compiled()).to_json()
    promised = {
        "samples", "outside_range", "bit_exact", "decision_agreement", "max_abs_error", "mean_abs_error", "error_bound",
        "onnxruntime", "gas", "code_bytes",
    }  # fmt: skip
    assert promised <= set(report)
    assert {"max_abs_error", "mean_abs_error"} <= set(report["onnxruntime"])
    assert set(report["gas"]) == {"deploy", "weights", "transactions", "called", "inference", "predicted"}
    assert report["gas"]["called"]["samples"] == 25
    assert report["gas"]["called"]["cold"] == report["gas"]["called"]["warm"] + 3_000
    assert set(report["gas"]["inference"]) == {"min", "mean", "max"}


@pytest.mark.parametrize("function", ["predict", "predictPacked"])
def test_wrong_output(pretend: Pretend, function: str) -> None:
    pretend(lambda f, answer: (*answer[:2], answer[2] + 1) if f == function else answer)
    report = run(compiled())
    assert not report.ok
    assert report.bit_exact_samples == 0
    assert report.first_difference is not None
    assert report.first_difference.startswith(f"sample 0, {function} on embedded: output 2: expected ")
    assert "30 of 30 samples are not bit-exact" in report.failure


@pytest.fixture
def ten_on_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are but in these tests (`few_on_the_reference`)."""
    monkeypatch.setattr("ml2sc.runtime.examine._REFERENCE_SAMPLES", 10)


@pytest.mark.parametrize("function", ["classify", "classifyPacked"])
def test_wrong_decision(pretend: Pretend, function: str) -> None:
    pretend(lambda f, answer: 2 if f == function and answer == 1 else answer)
    report = run(compiled())
    assert 0 < report.bit_exact_samples < 30
    assert not report.ok
    assert report.first_difference is not None
    assert f"{function} on embedded: expected 1, got 2" in report.first_difference


def test_py_evm_repeats_some(pretend: Pretend, ten_on_the_reference: None) -> None:
    made = pretend(revm=True)
    report = run(compiled())
    assert report.ok
    assert report.chain == "embedded and py-evm"
    assert [c.chain.name for c in made] == ["embedded", "py-evm"]
    assert [c.calls.count("classifyPacked") for c in made] == [30, 10]


def test_chains_with_different_gas(pretend: Pretend, ten_on_the_reference: None) -> None:
    pretend(revm=True, second=lambda f, answer: answer + 1 if f == "gas" else answer)
    report = run(compiled())
    assert report.bit_exact_samples == 20
    assert report.first_difference is not None
    assert "gas: " in report.first_difference
    assert "on py-evm" in report.first_difference


def test_another_model(pretend: Pretend) -> None:
    pretend(lambda f, answer: bytes(32) if f == "modelHash" else answer)
    with pytest.raises(ArtifactError, match="was compiled from another model"):
        check(compiled(), SAMPLES)


def test_bound_that_does_not_hold(pretend: Pretend) -> None:
    pretend()
    artifact = compiled()
    stated = {"error_bound": 1e-9, "error_bound_unsaturated": 1e-9}
    report = run(replace(artifact, manifest={**artifact.manifest, **stated}))
    assert report.bit_exact
    assert not report.within_bound
    assert "is above the stated bound 1e-09" in report.failure


def test_bounds_with_and_without_saturation(pretend: Pretend) -> None:
    pretend()
    artifact = compiled(two_layers(), calibration=SAMPLES[:20] / 3)
    report = run(artifact)
    few = report.unsaturated
    assert few.error_bound < report.error_bound
    assert 0 < few.samples < 30
    assert few.max_abs_error is not None
    assert report.max_abs_error is not None
    assert few.max_abs_error <= few.error_bound < report.max_abs_error <= report.error_bound
    worse = run(replace(artifact, manifest={**artifact.manifest, "error_bound_unsaturated": 1e-9}))
    assert not worse.within_bound
    assert f"max_abs_error {few.max_abs_error} is above the stated bound 1e-09" in worse.failure


@pytest.mark.parametrize("strict", [False, True])
def test_outside_the_range(pretend: Pretend, strict: bool) -> None:
    pretend()
    x = SAMPLES.copy()
    x[:5, 1] = 7
    report = run(compiled(strict_input=strict), x)
    assert report.ok
    assert report.outside_range == 5
    assert report.outside.max_abs_error is not None
    assert report.outside.max_abs_error > report.error_bound
    assert report.max_abs_error is not None
    assert report.max_abs_error <= report.error_bound


def test_all_outside_the_range(pretend: Pretend) -> None:
    pretend()
    report = run(compiled(), SAMPLES + 5)
    assert report.ok
    assert report.max_abs_error is report.mean_abs_error is report.decision_agreement is None


def test_labels(pretend: Pretend) -> None:
    pretend()
    artifact = compiled()
    right = run(artifact, {"x": SAMPLES, "y": np.zeros(30, np.int64)})
    assert right.accuracy is not None
    assert right.onnxruntime.accuracy is not None
    assert 0 <= right.accuracy < 1
    assert run(artifact, {"x": SAMPLES, "y": np.zeros((30, 4))}).accuracy is None


def test_labels_that_are_none_of_the_classes(pretend: Pretend) -> None:
    pretend()
    for labels, said in (
        (np.arange(30) % 4, r"7 of 30 labels are none of the model's classes: the first is 3, of sample 3"),
        (np.full(30, 0.5), r"30 of 30 .* the first is 0.5, of sample 0"),
        (np.where(np.arange(30) == 9, np.nan, 0), r"the label of sample 9 is NaN"),
    ):
        with pytest.raises(DataError, match=said):
            check(compiled(), {"x": SAMPLES, "y": labels})


@pytest.mark.parametrize("part", [7, 100])
def test_estimates_are_held_to_values(pretend: Pretend, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """R² of a model with one output, and of one that could decide: labels say that it does not."""
    pretend()
    monkeypatch.setattr("ml2sc.runtime.check.PART", part)
    for outputs in (1, 3):
        artifact = compiled(model(outputs=outputs), precision="w4a4")
        assert artifact.reference is not None
        theirs = np.array([evaluate_float(artifact.reference, {"x": x[None].astype(float)})["y"][0] for x in SAMPLES])
        truth = theirs + np.random.default_rng(2).normal(size=theirs.shape)
        report = run(artifact, {"x": SAMPLES, "y": truth})
        assert report.model_label_r2 == pytest.approx(r2_score(truth, theirs), abs=1e-12)
        assert report.label_r2 is not None
        assert report.r2 is not None
        assert report.label_r2 != report.model_label_r2
        assert 0.9 < report.r2 < 1
        assert report.kept.share == report.r2
        assert f"{report.r2:.4f} against the model's" in report.summary()
        assert (
            f"{report.label_r2:.4f} against the labels, the model's own {report.model_label_r2:.4f}" in report.summary()
        )


def test_random_inputs_are_given_no_confidence(pretend: Pretend) -> None:
    pretend()
    artifact = compiled(precision="w2a2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = run(artifact, None)
    assert report.decision_agreement is not None
    assert report.decision_agreement < 0.95
    assert report.agreement_lower_bound is None
    assert report.kept.enough(1.0)
    assert "not judged by random inputs" in report.summary()
    assert "confidence" not in report.summary()


def test_a_poor_result_is_warned_of(pretend: Pretend) -> None:
    pretend()
    with pytest.warns(
        PoorResultWarning, match=r"Tiny keeps its model poorly: \d\d of 30 decisions are the model's"
    ) as caught:
        report = run(compiled(precision="w2a2"))
    assert caught[0].filename == __file__
    assert report.ok
    assert not report.kept.enough(0.99)


def test_a_report_in_one_line_and_as_a_page(pretend: Pretend) -> None:
    pretend()
    report = run(compiled())
    assert repr(report).startswith("<Report Tiny (solidity, int8): 30 of 30 samples exact, ")
    assert len(repr(report).splitlines()) == 1
    assert len(repr(report)) < 160
    text, page = report.summary(gas_price=2, eth_price=2_500), report._repr_html_()
    assert text.startswith("Tiny (solidity, int8): ok\n")
    assert "exact            yes: 30 of 30 bit for bit" in text
    assert re.search(r"gas, called +7,\d+ cold \([\d.]+ ether, \$[\d.]+\), 4,\d+ warm", text)
    assert text.index("largest error") < text.index("error bound")
    assert ET.fromstring(page).find(".//b").text == "Tiny (solidity, int8): ok"  # type: ignore[union-attr]


def test_one_sigmoid(pretend: Pretend) -> None:
    pretend()
    report = run(compiled(model(last="Sigmoid", outputs=1), precision="q16.40"))
    assert report.ok
    assert report.decision_agreement == 1.0


def test_no_decision(pretend: Pretend) -> None:
    made = pretend()
    report = run(compiled(model(outputs=1)))
    assert report.ok
    assert report.decision_agreement is None
    assert "classify" not in made[0].calls


def test_large_inputs_take_the_wad_road_less_often(pretend: Pretend) -> None:
    made = pretend()
    report = run(compiled(model(inputs=300)), np.zeros((40, 300), np.float32))
    assert (report.samples, report.wad_samples) == (40, 25)
    assert made[0].calls.count("predict") == 25
    assert made[0].calls.count("predictPacked") == 40


def test_interpreters_that_disagree(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend()
    artifact = compiled()
    right = Gemm.evaluate_batch
    monkeypatch.setattr(Gemm, "evaluate_batch", lambda *arguments: [out + 1 for out in right(*arguments)])
    report = run(artifact)
    assert not report.bit_exact
    assert report.first_difference is not None
    assert report.first_difference.startswith("sample 0, the Program interpreter: output 0: expected ")
    assert "the first node that differs is 'fc'" in report.first_difference


def test_limit_and_progress(pretend: Pretend) -> None:
    pretend()
    seen: list[tuple[int, int]] = []
    many = np.tile(SAMPLES, (9, 1))
    report = run(compiled(), many, limit=250, progress=lambda done, total: seen.append((done, total)))
    assert report.samples == 250
    assert seen == [(100, 250), (200, 250), (250, 250)]
    with pytest.raises(DataError, match="no samples"):
        check(compiled(), SAMPLES, limit=0)


def test_random_samples(pretend: Pretend) -> None:
    pretend()
    artifact = compiled()
    report = run(artifact, None)
    assert (report.samples, report.random, report.outside_range) == (100, True, 0)
    assert artifact.graph is not None
    x = random_samples(artifact.graph).arrays["x"]
    assert x.shape == (100, 1, 4)
    assert (x[0] == -1).all()
    assert (x[1] == 1).all()
    assert (x[2:] > -1).any()


def test_what_cannot_be_checked(pretend: Pretend) -> None:
    pretend()
    artifact = compiled()
    with pytest.raises(ArtifactError, match="no graph to check against"):
        check(replace(artifact, graph=None), SAMPLES)
    with pytest.raises(UsageError, match="starts empty"):
        check(artifact, SAMPLES, address="0x" + "33" * 20)
    with pytest.raises(DataError, match="expected"):
        check(artifact, SAMPLES[:, :2])


def test_certificate_of_the_samples(pretend: Pretend) -> None:
    pretend()
    x = SAMPLES.copy()
    x[7, 2] = 9
    artifact = compiled(precision="w2a2")
    report = run(artifact, x)
    assert list(report.error_percentiles) == [50, 90, 99]
    median, most, nearly_all = report.error_percentiles.values()
    assert report.max_abs_error is not None
    assert 0 < median < most <= nearly_all <= report.max_abs_error <= report.error_bound
    inside = [d for d in report.differing if not d.outside_range]
    assert inside
    assert all(d.contract != d.onnxruntime for d in report.differing)
    assert [d.sample for d in report.differing] == sorted({d.sample for d in report.differing})
    assert report.decision_agreement == (29 - len(inside)) / 29
    assert report.agreement_lower_bound == lower_confidence(29 - len(inside), 29)
    assert report.to_json()["differing"][0] == vars(report.differing[0])


def test_percentiles_are_errors_that_occurred(pretend: Pretend) -> None:
    pretend()
    report = run(compiled(), SAMPLES[:1])
    assert report.error_percentiles[99] == report.max_abs_error
    assert run(compiled(), SAMPLES + 5).error_percentiles == {}


def test_a_model_that_onnxruntime_has_no_kernel_for(pretend: Pretend) -> None:
    """The contract is compared with the interpreters and float64 all the same, and the cause is said."""
    pretend()
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 17]> t (float[1,4] x) => (float[1,3] y) '
        "<bfloat16[4,3] w = {16256, 48896, 15948, 49024, 16128, 48800, 15744, 16384, 16256, 48640, 16000, 16200}> "
        "{ h = Cast<to = 16>(x) g = Gemm(h, w) y = Cast<to = 1>(g) }"
    )
    report = run(compiled(proto))
    assert report.ok
    assert report.bit_exact
    assert report.onnxruntime_missing is not None
    assert "no kernel for the model on the CPU: Could not find an implementation for Gemm" in report.onnxruntime_missing
    assert report.onnxruntime == Distances()
    assert report.max_abs_error is not None
    assert report.decision_agreement is not None
    assert report.decision_agreement > 0.9
    assert report.to_json()["onnxruntime_missing"] == report.onnxruntime_missing


def test_random_samples_of_integers_are_whole(pretend: Pretend) -> None:
    pretend()
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 17]> t (int8[1,4] x) => (float[1,4] y) { y = Cast<to = 1>(x) }'
    )
    report = run(compiled(proto, input_ranges=()), None)
    assert report.ok
    assert (report.max_abs_error, report.onnxruntime.max_abs_error, report.outside_range) == (0.0, 0.0, 0)
