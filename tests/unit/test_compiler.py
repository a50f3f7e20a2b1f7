"""The whole road, without a chain."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import heavy

import ml2sc
from ml2sc import calibration
from ml2sc.backends.base import Artifact, CompilerRun
from ml2sc.calibration import Calibrated
from ml2sc.compiler import Quantized, build
from ml2sc.errors import ContractLimitError, DataError, Ml2scError, ToolchainError, UsageError
from ml2sc.ir import wad
from ml2sc.ir.batch import Batch
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.printer import print_graph
from ml2sc.ir.program_parser import parse_program
from ml2sc.ir.program_verify import verify_program
from ml2sc.options import Options
from ml2sc.passes import search_formats
from ml2sc.runtime.toolchain import Toolchain
from ml2sc.runtime.workers import Workers, local_workers

EXAMPLES = ("breast_cancer", "digits", "mnist")


def tiny(inputs: int = 4, outputs: int = 3) -> onnx.ModelProto:
    rng = np.random.default_rng(2)
    constants = {"w1": rng.normal(size=(inputs, 5)), "b1": rng.normal(size=5), "w2": rng.normal(size=(5, outputs))}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["a"], name="/fc1"),
            helper.make_node("Relu", ["a"], ["h"], name="/relu"),
            helper.make_node("Gemm", ["h", "w2"], ["y"], name="/fc2"),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", outputs])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def product(artifact: Artifact) -> tuple[Any, ...]:
    return artifact.source, artifact.data, json.dumps(artifact.manifest), artifact.compiler_input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "solidty"}, "did you mean 'solidity'"),
        ({"target": "rust"}, "unknown target 'rust'"),
        ({"precision": "int9"}, "unknown precision 'int9'"),
        ({"precision": "w1a8"}, "2 to 32 bits"),
        ({"weights": "cod"}, "unknown weights 'cod'"),
        ({"optimize": "speed"}, "unknown optimize 'speed'"),
        ({"expected_calls": 0}, "0 expected calls"),
        ({"fork": "pragu"}, "unknown fork 'pragu'"),
        ({"level": 3}, "unknown level '3'"),
        ({"name": "small"}, "'small' is no contract's name: letters and digits, in CapWords"),
        ({"name": "N" * 201}, "is no contract's name: 201 characters, 200 at most"),
        ({"input_ranges": ((1.0, 1.0),)}, "LO must be below HI"),
        ({"input_ranges": ((float("nan"), 1.0),)}, "LO must be below HI"),
        ({"input_ranges": ((0.0, float("inf")),)}, "LO must be below HI"),
    ],
)
def test_options_are_checked_first(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Options(**options).check()
    assert message in str(caught.value)
    with pytest.raises(UsageError):
        ml2sc.compile("/nowhere/model.onnx", **options)


def test_input_ranges_must_be_as_many_as_inputs() -> None:
    with pytest.raises(UsageError, match="2 input ranges for 1 inputs"):
        ml2sc.compile(tiny(), input_ranges=((0.0, 1.0), (0.0, 1.0)))


def test_path_and_proto_are_the_same_model(tmp_path: Path) -> None:
    onnx.save(tiny(), tmp_path / "tiny.onnx")
    from_path = ml2sc.compile(tmp_path / "tiny.onnx", precision="int8")
    from_text = ml2sc.compile(str(tmp_path / "tiny.onnx"), precision="int8")
    from_proto = ml2sc.compile(tiny(), precision="int8", name="Tiny")
    assert product(from_path) == product(from_text)
    assert from_path.name == "Tiny"
    assert from_path.program == from_proto.program


@pytest.mark.torch
def test_a_torch_module(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    artifact = ml2sc.compile(module, example_input=torch.zeros(1, 4), precision="int8", input_ranges=((-1.0, 1.0),))
    assert artifact.manifest["input_elements"] == 4
    assert artifact.name == "Sequential", "named after its class"
    with pytest.raises(UsageError, match="example_input"):
        ml2sc.compile(module)


@pytest.mark.parametrize("model", [{"weight": 1}, len, 7, b"onnx", None])
def test_what_is_no_model(model: object) -> None:
    with pytest.raises(UsageError, match=f"a model is the path of .*, not a {type(model).__name__}"):
        ml2sc.compile(model, example_input=[[1.0]])


def test_dump_ir(tmp_path: Path) -> None:
    ml2sc.compile(tiny(), precision="int8", dump_ir=tmp_path / "ir")
    names = sorted(p.name for p in (tmp_path / "ir").iterdir())
    assert names[0] == "000_import.ir"
    assert [int(name[:3]) for name in names] == list(range(len(names))), "every step once"
    assert any("fuse_gemm_relu" in name for name in names)
    assert names[-3].startswith(f"{len(names) - 3:03d}_quantize")
    assert names[-2] == f"{len(names) - 2:03d}_prove_ranges.ir"
    assert names[-1] == f"{len(names) - 1:03d}_lower.ir"


def test_dumped_program_reads_back(tmp_path: Path) -> None:
    artifact = ml2sc.compile(tiny(), precision="int8", dump_ir=tmp_path / "ir")
    text = max((tmp_path / "ir").iterdir()).read_text(encoding="utf-8")
    assert parse_program(text) == artifact.program


def test_a_pipeline_instead_of_a_level(tmp_path: Path) -> None:
    said: list[str] = []
    artifact = ml2sc.compile(
        tiny(),
        passes="infer_shapes,fold_constants,derive_decision,quantize{precision=w4a6},prove_ranges",
        explain=said.append,
    )
    assert artifact.manifest["precision"] == "w4a6"
    assert artifact.graph is not None
    assert "FusedGemm" not in {node.op_type for node in artifact.graph}
    assert any(line.startswith("004 quantize{precision=w4a6}:") for line in said)
    with pytest.raises(Ml2scError, match="quantise"):
        ml2sc.compile(tiny(), passes="infer_shapes,quantise")


@pytest.mark.parametrize("target", ["solidity", "vyper"])
def test_compiling_imports_nothing_of_chains(target: str, tmp_path: Path) -> None:
    onnx.save(tiny(), tmp_path / "tiny.onnx")
    script = (
        "import sys, ml2sc\n"
        "ml2sc.compile(sys.argv[1], sys.argv[2], 'int8', weights='data', input_ranges=((-1.0, 1.0),))\n"
        "print(*sorted({'eth', 'eth_abi', 'eth_account', 'eth_keys', 'eth_utils', 'web3'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "tiny.onnx"), target]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "\n"


def test_the_same_bytes_twice_and_in_another_process(tmp_path: Path) -> None:
    onnx.save(tiny(), tmp_path / "tiny.onnx")
    script = (
        "import sys, json, hashlib, ml2sc\n"
        "a = ml2sc.compile(sys.argv[1], precision='int8', weights='data', input_ranges=((-1.0, 1.0),))\n"
        "text = json.dumps([a.source, [d.hex() for d in a.data], a.manifest, a.compiler_input])\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    hashes = [
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "tiny.onnx")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    artifact = ml2sc.compile(tmp_path / "tiny.onnx", precision="int8", weights="data", input_ranges=((-1.0, 1.0),))
    text = json.dumps([artifact.source, [d.hex() for d in artifact.data], artifact.manifest, artifact.compiler_input])
    assert {h.strip() for h in hashes} == {hashlib.sha256(text.encode()).hexdigest()}


def test_manifest() -> None:
    artifact = ml2sc.compile(tiny(), precision="int8", input_ranges=((-1.0, 2.0),))
    manifest = json.loads(json.dumps(artifact.manifest, allow_nan=False))
    # architecture.md §7: I/O formats, shapes, hashes, every tensor's format and proven interval, lane plan, predicted
    # gas by layer, tool versions
    (given,) = manifest["inputs"]
    assert (given["name"], given["shape"], given["format"], given["range"]) == ("x", [1, 4], "uint8", [-1.0, 2.0])
    assert (given["scale"], given["zero_point"], given["interval"]) == ("1/85", 85, ["0", "255"])
    (answer,) = manifest["outputs"]
    assert (answer["name"], answer["shape"]) == ("y", [1, 3])
    assert manifest["element_bytes"] == 1
    assert manifest["input_elements"] == 4
    assert manifest["model_hash"].startswith("0x")
    assert len(manifest["model_hash"]) == 66
    assert {"x", "a", "h", "y"} & {t["name"] for t in manifest["tensors"]}
    assert all({"format", "scale", "interval", "error_bound"} <= set(t) for t in manifest["tensors"])
    layers = [layer for layer in manifest["plan"] if "macs" in layer]
    assert [layer["macs"] for layer in layers] == [20, 15]
    assert all({"bits", "lanes", "storage", "gas"} <= set(layer) for layer in layers)
    assert manifest["gas"]["predicted"] > 21_000
    assert 0 < manifest["error_bound"] < 10
    assert "toolchain" in manifest
    assert manifest["options"]["input_ranges"] == [[-1.0, 2.0]]


def test_the_stages_make_what_compile_makes() -> None:
    told: list[str] = []
    lifted = ml2sc.lift(tiny(), precision="int8", input_ranges=((-1.0, 1.0),), explain=told.append)
    assert [node.op_type for node in lifted.graph] == ["FusedGemm", "Gemm", "ArgMax"]
    first, quantized = ml2sc.quantize(lifted), ml2sc.quantize(lifted)  # it leaves what it is given as it is
    assert print_graph(first.graph) == print_graph(quantized.graph)
    assert all(node.op_type != "Requantize" for node in lifted.graph)
    lowered = ml2sc.lower(quantized)
    assert verify_program(lowered.program, quantized.graph) == []
    said = len(told)
    assert product(ml2sc.emit(lowered)) == product(
        ml2sc.compile(tiny(), precision="int8", input_ranges=((-1.0, 1.0),), explain=told.append)
    )
    assert [re.sub(r"\d+ ms", "", t) for t in told[:said]][-3:] == [re.sub(r"\d+ ms", "", t) for t in told[said:]][-3:]


def test_ranges_come_from_the_calibration_data() -> None:
    x = np.array([[0.5, 1.0, -1.5, 0.0], [2.0, 0.0, 0.0, 3.0]], dtype=np.float32)
    artifact = ml2sc.compile(tiny(), precision="int8", calibration=x)
    assert artifact.manifest["inputs"][0]["range"] == [-1.5, 3.0]
    assert ml2sc.compile(tiny(), precision="int8").manifest["inputs"][0]["range"] == [-65536.0, 65536.0]
    with pytest.raises(DataError):
        ml2sc.compile(tiny(), precision="int8", calibration=x[:, :3])


def test_what_calibration_found_stands_for_the_data() -> None:
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    first = ml2sc.compile(tiny(), precision="int8", calibration=x)
    calibrated = Calibrated.from_json(json.loads(json.dumps(first.manifest["calibrated"])))
    assert calibrated.observed
    live = {layer["layer"]: layer["live"] for layer in first.manifest["plan"] if "live" in layer}
    again = ml2sc.compile(
        tiny(),
        precision="int8",
        calibrated=calibrated,
        activity=live,
        input_ranges=(tuple(first.manifest["inputs"][0]["range"]),),
    )
    assert again.program == first.program
    assert again.manifest["calibrated"] == first.manifest["calibrated"]


# -- the examples -----------------------------------------------------------------------------


def example(examples: Path, name: str, precision: str, **options: Any) -> Quantized:
    calibration = examples / name / "calibration.npz" if precision == "int8" else None
    model = examples / name / f"{name}.onnx"
    return ml2sc.quantize(ml2sc.lift(model, precision=precision, calibration=calibration, **options))


def samples(examples: Path, name: str) -> Any:
    with np.load(examples / name / "samples.npz") as archive:
        return archive["x"]


def decisions(graph: Graph, x: Any) -> list[int]:
    """Return what the graph interpreter decides."""
    assert graph.decision is not None
    (name,) = graph.inputs
    return [
        int(value)
        for value in Batch([{name: sample} for sample in x]).values(graph, [graph.decision])[graph.decision].ravel()
    ]


def wanted(examples: Path, name: str) -> list[int]:
    import onnxruntime

    session = onnxruntime.InferenceSession(examples / name / f"{name}.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: samples(examples, name)})
    return list((scores[:, 0] >= 0.5).astype(int) if scores.shape[1] == 1 else scores.argmax(axis=1))


@pytest.mark.parametrize(
    ("name", "precision", "share"),
    heavy.unless(
        lambda case: case[:2] in {("digits", "int8"), ("breast_cancer", "auto")},
        [(name, *ask) for ask in (("int8", 0.99), ("auto", 1.0)) for name in EXAMPLES],
    ),
)
def test_examples_agree_with_onnxruntime(examples: Path, name: str, precision: str, share: float) -> None:
    got = decisions(example(examples, name, precision).graph, samples(examples, name))
    assert np.mean(np.array(got) == np.array(wanted(examples, name))) >= share


@pytest.mark.parametrize("name", heavy.unless("breast_cancer".__eq__, EXAMPLES))
def test_auto_keeps_the_stated_bound(examples: Path, name: str) -> None:
    known = example(examples, name, "auto")
    graph, reference = known.graph, known.reference
    bound = wad.output_error_bound(graph)
    assert bound <= 1e-6
    (key,) = graph.inputs
    for sample in samples(examples, name)[:40]:
        answer = wad.run_graph(graph, wad.quantize_inputs(graph, {key: sample}))
        values = evaluate_float(reference, {key: sample.astype(np.float64).reshape(graph.tensor(key).shape)})
        real = np.concatenate([values[o].ravel() for o in reference.outputs])
        assert np.abs(np.array([v / wad.WAD for v in answer.outputs]) - real).max() <= bound


@pytest.mark.parametrize("name", [EXAMPLES[0], *(pytest.param(name, marks=pytest.mark.heavy) for name in EXAMPLES[1:])])
@pytest.mark.parametrize("precision", ["auto", pytest.param("int8", marks=pytest.mark.heavy)])
def test_levels_decide_alike(examples: Path, name: str, precision: str) -> None:
    x = samples(examples, name)[:60]
    answers = [decisions(example(examples, name, precision, level=level).graph, x) for level in (0, 1, 2)]
    assert answers[0] == answers[1] == answers[2]


def test_as_many_processes_as_one_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `auto` finds does not depend on who looks for it."""
    asked: list[int] = []

    def workers(count: int) -> Workers:
        asked.append(count)
        return local_workers(count)

    monkeypatch.setattr(search_formats, "_SHORT", 0.0)
    monkeypatch.setattr(calibration, "local_workers", workers)
    data, made = np.random.default_rng(0).uniform(-1, 1, (120, 4)), list[tuple[Any, ...]]()
    for count in (1, 2):
        said: list[str] = []
        artifact = ml2sc.compile(tiny(), calibration=data, tolerance=0.05, workers=count, explain=said.append)
        made.append((product(artifact), [re.sub(r"\(\d+ ms\)", "", line) for line in said]))
    assert asked == [2]
    assert made[0] == made[1]


# -- with solc ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    found = Toolchain()
    try:
        found.solc({"language": "Solidity", "sources": {"T.sol": {"content": "contract T {}"}}})
    except ToolchainError as error:
        pytest.skip(str(error))
    return found


def test_build(toolchain: Toolchain) -> None:
    artifact = ml2sc.compile(tiny(), precision="int8", input_ranges=((-1.0, 1.0),))
    built = build(artifact, toolchain)
    assert built.bytecode is not None
    assert built.bytecode.warnings == ()
    assert built.manifest["code_bytes"] == len(built.bytecode.runtime) <= 24_576
    assert built.manifest["toolchain"]["compiler"].startswith("solc 0.")
    assert artifact.bytecode is None


class Bytes:
    """A compiler that makes contracts of a given size."""

    def __init__(self, artifact: Artifact, size: int) -> None:
        evm = {"bytecode": {"object": "00"}, "deployedBytecode": {"object": "00" * size}}
        contract = {"abi": artifact.abi, "evm": evm}
        self.output = {"contracts": {artifact.source_name: {artifact.name: contract}}}

    def solc(self, standard_input: Any) -> CompilerRun:
        return CompilerRun(self.output, "solc 0.8.99", "PATH")


def test_the_limit_on_code_is_eip_170s() -> None:
    artifact = ml2sc.compile(tiny(), precision="int8", input_ranges=((-1.0, 1.0),))
    assert build(artifact, Bytes(artifact, 24_576)).manifest["code_bytes"] == 24_576
    with pytest.raises(ContractLimitError, match=r"24,577 bytes of code; a chain accepts 24,576"):
        build(artifact, Bytes(artifact, 24_577))


@pytest.mark.parametrize("target", ["solidity", pytest.param("vyper", marks=pytest.mark.heavy)])
def test_code_that_cannot_fit_is_refused_without_compiling(target: str) -> None:
    """Compilers take minutes for such source, or break off with errors of their own."""
    artifact = ml2sc.compile(tiny(inputs=2500), target, "q15.40", weights="code", input_ranges=((-1.0, 1.0),))
    with pytest.raises(ContractLimitError, match=r"would have about [\d,]+ bytes of code; a chain accepts 24,576"):
        build(artifact, Bytes(artifact, 1))


@pytest.mark.parametrize("inputs", [3, 1100])
def test_a_compiler_that_breaks_off(inputs: int) -> None:
    """What is wrong with source that is too long is its length, whatever the compiler says."""
    artifact = ml2sc.compile(tiny(inputs=inputs), precision="q15.40", weights="code", input_ranges=((-1.0, 1.0),))
    broken = Bytes(artifact, 1)
    broken.output = {"errors": [{"severity": "error", "message": "AssertionError"}]}
    expected = ContractLimitError if inputs == 1100 else ToolchainError
    with pytest.raises(expected, match="would have about" if inputs == 1100 else "AssertionError"):
        build(artifact, broken)


@pytest.mark.heavy
def test_code_that_is_too_large_is_refused(toolchain: Toolchain) -> None:
    artifact = ml2sc.compile(tiny(inputs=700), precision="q15.40", weights="code", input_ranges=((-1.0, 1.0),))
    assert artifact.data == ()
    with pytest.raises(ContractLimitError, match=r"bytes of code; a chain accepts 24,576") as caught:
        build(artifact, toolchain)
    assert "--weights data" in str(caught.value.hint)
