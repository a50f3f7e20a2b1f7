"""What a plugin adds works as if it were ours: an operator, a pass and a backend, from the commands and the library."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import heavy
from support.examples import compiled
from support.random_models import seeded_case

import ml2sc
from ml2sc.backends import BACKENDS, EmitOptions
from ml2sc.errors import RangeError, ToolchainError, UnsupportedModelError
from ml2sc.ir.interpret import Interpreter, ProgramError
from ml2sc.ir.ops import OPS
from ml2sc.ir.procedures import expanded
from ml2sc.ir.wad import inputs_from_wad, pack, quantize_inputs, run_graph
from ml2sc.passes import PASSES
from ml2sc.runtime.toolchain import Toolchain

from .conftest import EXAMPLE, HERE, Environment, With


@pytest.fixture(scope="module")
def solc() -> None:
    """Skip where there is no solc."""
    try:
        Toolchain().solc({"language": "Solidity", "sources": {"T.sol": {"content": "contract T {}"}}})
    except ToolchainError as error:
        pytest.skip(str(error))


@pytest.fixture
def environment(plugins: With) -> Environment:
    return plugins(EXAMPLE)


def write_model(path: Path, op_type: str, domain: str = "", **attrs: Any) -> Path:
    """Write x[1, 4] → Gemm → the operator → Gemm → y[1, 3]."""
    rng = np.random.default_rng(5)
    weights = {
        "w1": 3 * rng.normal(size=(4, 6)).astype(np.float32),
        "b1": rng.normal(size=6).astype(np.float32),
        "w2": rng.normal(size=(6, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["a"], name="first"),
        helper.make_node(op_type, ["a"], ["h"], name="middle", domain=domain, **attrs),
        helper.make_node("Gemm", ["h", "w2"], ["y"], name="last"),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, size]) for n, size in (("x", 4), ("y", 3))]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "tiny", values[:1], values[1:], tensors)
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


# -- the operator ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("solc")
@pytest.mark.parametrize(
    ("precision", "attrs"),
    [
        pytest.param("int8", {"bias": 0.5}, marks=pytest.mark.heavy),
        pytest.param("w16a16", {"lambd": 1 / 6, "bias": 1 / 6}, marks=pytest.mark.heavy),
        ("auto", {"lambd": 1.5, "bias": 1.5}),
    ],
)
def test_operator(environment: Environment, tmp_path: Path, precision: str, attrs: dict[str, float]) -> None:
    model = write_model(tmp_path / "tiny.onnx", "Shrink", **attrs)
    compiled = environment.compile(model, "--precision", precision, "--input-range", "-1,1", "-o", "out")
    assert compiled.status == 0, compiled.err
    checked = environment.check("out", "--json")
    assert checked.status == 0, checked.err
    report = json.loads(checked.out)
    assert report["bit_exact"]
    assert 0 < report["max_abs_error"] <= report["error_bound"] < 2


def test_operator_of_a_domain_of_its_own(environment: Environment, tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny.onnx", "DeadZone", "org.example")
    result = environment.compile(model, "--input-range", "-1,1", "--target", "python", "--dump-ir", "ir")
    assert result.status == 0, result.err
    assert '"org.example.DeadZone"(' in (tmp_path / "ir" / "000_import.ir").read_text()
    same = write_model(tmp_path / "same.onnx", "Shrink", lambd=0.5, bias=0.5)
    assert environment.compile(same, "--input-range", "-1,1", "--target", "python").status == 0
    x = [3 * 10**17, -(10**18), 10**18, 0]
    answers = [run_source(tmp_path / name / f"{name}.py", {"predict": [x]})["predict"] for name in ("Tiny", "Same")]
    assert answers[0] == answers[1]


def test_operator_that_cannot_be_compiled(environment: Environment, tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny.onnx", "Shrink", bias=1.0)
    result = environment.compile(model)
    assert result.status == 1
    assert "Shrink is supported with 0 <= bias <= lambd\n  node: 'middle' (Shrink)" in result.err


def test_operators_are_listed_with_their_plugin(environment: Environment) -> None:
    lines = environment.compile("--explain").out.splitlines()
    assert "Shrink  (by ml2sc-example-plugin)" in lines
    assert "org.example.DeadZone  (by ml2sc-example-plugin)" in lines
    assert "Relu" in lines


# -- the pass ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("solc")
def test_pass(environment: Environment, tmp_path: Path) -> None:
    arguments = [write_model(tmp_path / "tiny.onnx", "Relu"), "--precision", "int8", "--input-range", "-1,1"]
    spec = "prune{threshold=0.1},O2"
    compiled = environment.compile(*arguments, "--passes", spec, "-o", "out", "--dump-ir", "ir")
    assert compiled.status == 0, compiled.err
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["options"]["passes"] == spec
    assert (tmp_path / "ir" / "001_prune.ir").is_file()
    # the bound is stated against the model as pruned, and holds; onnxruntime runs the model as it was
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(6).uniform(-1, 1, size=(50, 4)))
    checked = environment.check("out", "--samples", tmp_path / "samples.npz", "--json")
    assert checked.status == 0, checked.err
    report = json.loads(checked.out)
    assert report["bit_exact"]
    assert report["max_abs_error"] <= report["error_bound"]
    assert report["onnxruntime"]["max_abs_error"] > 2 * report["max_abs_error"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("O2,prune", "pass 'prune' changes the model: it must come before 'fuse_gemm_relu'"),
        ("prune{threshold=2},O2", "pass 'prune': threshold=2.0 is not between 0 and 1"),
        ("prune{level=2},O2", "pass 'prune' has no option 'level'\n  hint: its options: threshold"),
        ("prun,O2", "unknown pass 'prun'\n  hint: did you mean 'prune'?"),
    ],
)
def test_pass_asked_for_wrongly(environment: Environment, examples: Path, spec: str, message: str) -> None:
    result = environment.compile(examples / "digits" / "digits.onnx", "--passes", spec)
    assert result.status == 2
    assert message in result.err


# -- the backend -------------------------------------------------------------------------------------------------------


def run_source(path: Path, questions: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Have a Python that finds no other package call functions of a source, each with every argument of its list."""
    program = """
import json, runpy, sys
functions = runpy.run_path(sys.argv[1])
questions = json.load(sys.stdin)
def ask(name, argument):
    try:
        return functions[name](bytes.fromhex(argument) if name.endswith("_packed") else argument)
    except functions["InputLength"] as error:
        return ["InputLength", *error.args]
    except functions["InputOutOfRange"] as error:
        return ["InputOutOfRange", *error.args]
answers = {name: [ask(name, argument) for argument in arguments] for name, arguments in questions.items()}
print(json.dumps({**answers, "model_hash": functions["model_hash"]().hex()}))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(path)],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        check=True,
    )
    answers: dict[str, list[Any]] = json.loads(done.stdout)
    return answers


def test_backend(environment: Environment, examples: Path, tmp_path: Path) -> None:
    digits = examples / "digits"
    arguments = ["--precision", "int8", "--calibrate", digits / "calibration.npz"]
    result = environment.compile(digits / "digits.onnx", *arguments, "--target", "python", "-o", "out", "--json")
    assert result.status == 0, result.err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"Digits.py", "model.onnx", "manifest.json"}
    assert json.loads(result.out)["target"] == "python"
    assert "gas" not in json.loads(result.out)

    reference = compiled("digits")
    assert reference.graph is not None
    with np.load(digits / "samples.npz") as archive:
        inputs = [quantize_inputs(reference.graph, {"x": row.reshape(1, 64)}) for row in archive["x"][:100]]
    packed = [pack(reference.graph, q) for q in inputs]
    right = [run_graph(reference.graph, q) for q in inputs]
    questions = {name: [p.hex() for p in packed] for name in ("predict_packed", "classify_packed")}
    answers = run_source(tmp_path / "out" / "Digits.py", questions)
    assert answers["predict_packed"] == [list(outcome.outputs) for outcome in right]
    assert answers["classify_packed"] == [outcome.decision for outcome in right]
    assert f"0x{answers['model_hash']}" == reference.manifest["model_hash"]

    checked = environment.check("out")
    assert checked.status == 2
    assert "Digits was compiled for 'python', which makes no contract: there is nothing to deploy" in checked.err


def test_backend_refuses_what_the_contract_refuses(environment: Environment, tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny.onnx", "Relu")
    arguments = ["--precision", "int8", "--input-range", "-1,1", "--strict-input", "--target", "python"]
    assert environment.compile(model, *arguments).status == 0
    questions = {
        "predict": [[0, 0, 2 * 10**18, 0], [0] * 3],
        "classify": [[-(10**20), 0, 0, 0]],
        "predict_packed": [""],
    }
    answers = run_source(tmp_path / "Tiny" / "Tiny.py", questions)
    assert answers["predict"] == [["InputOutOfRange", 2, 2 * 10**18], ["InputLength", 4, 3]]
    assert answers["classify"] == [["InputOutOfRange", 0, -(10**20)]]
    assert answers["predict_packed"] == [["InputLength", 4, 0]]


@pytest.fixture
def backend_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return the backend's module, imported from its source and registered nowhere."""
    monkeypatch.syspath_prepend(HERE / EXAMPLE / "src")
    yield importlib.import_module("ml2sc_example_plugin.python_backend")
    for name in [name for name in sys.modules if name.startswith(EXAMPLE)]:
        del sys.modules[name]


@pytest.mark.parametrize("seed", heavy.but_each(4, range(40)))
def test_backend_on_random_models(backend_module: ModuleType, seed: int) -> None:
    case = seeded_case(seed)
    try:
        artifact = ml2sc.compile(case.model, calibration=case.calibration, **case.options)
    except (RangeError, UnsupportedModelError) as error:
        pytest.skip(str(error).splitlines()[0])
    graph, program = artifact.graph, artifact.program
    assert graph is not None
    assert program is not None
    # a backend that does not say that it prints procedures gets none
    text = backend_module.source(expanded(program), EmitOptions("Random", "prague", bytes(32)))
    functions: dict[str, Any] = {}
    exec(compile(text, "Random.py", "exec"), functions)
    questions = [
        ("predict_packed", pack(graph, q), run_graph(graph, q))
        for q in (quantize_inputs(graph, sample) for sample in case.samples)
    ]
    for wads in case.wads:
        try:
            Interpreter(program).quantize(wads)
        except ProgramError as error:
            with pytest.raises(functions["InputOutOfRange"]) as refused:
                functions["predict"](wads)
            index, value = refused.value.args
            expected = error.args[1:]
        else:
            questions.append(("predict", wads, run_graph(graph, inputs_from_wad(graph, wads))))
            continue
        assert (index, value % 2**256) == expected
    for name, argument, right in questions:
        assert tuple(functions[name](argument)) == right.outputs
        if program.has_decision:
            assert functions[name.replace("predict", "classify")](argument) == right.decision


# -- the library -------------------------------------------------------------------------------------------------------


def test_library(environment: Environment, tmp_path: Path) -> None:
    script = """
import sys
import ml2sc
from ml2sc.backends import BACKENDS
from ml2sc.ir.ops import OPS
from ml2sc.passes import LEVELS, PASSES

assert OPS.owner("Shrink") == BACKENDS.owner("python") == "ml2sc-example-plugin"
assert not [name for name in sys.modules if name.startswith("ml2sc_example_plugin")], "loaded before it is needed"
assert {"prune", "quantize"} <= set(PASSES.names())
prune = PASSES.get("prune")(0.1)
arguments = {"target": "python", "precision": "int8", "input_ranges": ((-1.0, 1.0),)}
artifact = ml2sc.compile(sys.argv[1], passes=(prune, *LEVELS[2]), **arguments)
assert artifact.manifest["options"]["passes"].startswith("prune{threshold=0.1},infer_shapes,")
assert artifact.source == ml2sc.compile(sys.argv[1], passes="prune{threshold=0.1},O2", **arguments).source
ml2sc.write_folder(ml2sc.build(artifact, ml2sc.Toolchain()), "out")
again = ml2sc.load_folder("out")
assert (again.source, again.bytecode) == (artifact.source, None)
"""
    result = environment.script(script, write_model(tmp_path / "tiny.onnx", "Relu"))
    assert result.status == 0, result.err


def test_nothing_stays_installed() -> None:
    assert "python" not in BACKENDS
    assert "prune" not in PASSES
    assert "Shrink" not in OPS
