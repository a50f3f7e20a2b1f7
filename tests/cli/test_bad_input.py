"""What users get wrong: the exit status, one readable message on stderr, nothing on stdout, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from .conftest import MakeModel, Result, Run


@pytest.fixture
def rejected(compile_model: Run, tmp_path: Path) -> Callable[..., str]:
    """Return a function that compiles, expects a status, and returns stderr."""

    def run(status: int, *arguments: object) -> str:
        out = tmp_path / "out"
        result: Result = compile_model(*arguments, "-o", out)
        assert result.status == status, result.err
        assert result.out == ""
        assert not out.exists()
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
        assert "Traceback" not in result.err
        return result.err

    return run


Rejected = Callable[..., str]


def test_missing_file(rejected: Rejected, tmp_path: Path) -> None:
    assert "error[ML101]: cannot read the model" in rejected(1, tmp_path / "none.onnx")


def test_truncated_file(rejected: Rejected, examples: Path, tmp_path: Path) -> None:
    path = tmp_path / "digits.onnx"
    path.write_bytes((examples / "digits" / "digits.onnx").read_bytes()[:-1000])
    assert "error[ML101]" in rejected(1, path)


@pytest.mark.parametrize("content", [b"", b"not a model at all\n", b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_not_onnx(rejected: Rejected, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    err = rejected(1, path)
    assert "error[ML101]" in err
    assert "is not an ONNX model" in err


def test_external_data_outside_the_folder(rejected: Rejected, make_model: MakeModel, tmp_path: Path) -> None:
    """A name that leaves the model's folder and comes back to it: read from there, it would be written elsewhere."""
    path = make_model()
    proto = onnx.load(path)
    home = tmp_path / "models" / ".ssh"
    home.mkdir(parents=True)
    onnx.save(proto, home / "net.onnx", save_as_external_data=True, location="authorized_keys", size_threshold=0)
    proto = onnx.load(home / "net.onnx", load_external_data=False)
    for tensor in proto.graph.initializer:
        tensor.external_data[0].value = "../.ssh/authorized_keys"
    (home / "net.onnx").write_bytes(proto.SerializeToString())
    err = rejected(1, home / "net.onnx")
    assert "error[ML101]" in err
    assert "'../.ssh/authorized_keys': its name leads out of the folder" in err


def test_a_folder_of_somebody_else(compile_model: Run, make_model: MakeModel, tmp_path: Path) -> None:
    """It is refused before a compiler is looked for."""
    out = tmp_path / "site"
    out.mkdir()
    (out / "manifest.json").write_text('{"name": "a site", "icons": []}')
    (out / "model.onnx").write_text("mine")
    result = compile_model(make_model(), "--input-range", "-1,1", "-o", out, "--solc", "/nowhere/solc")
    assert result.status == 1
    assert "error[ML132]" in result.err
    assert "manifest.json is in the way" in result.err
    assert "nothing was changed" in result.err
    assert sorted((p.name, len(p.read_text())) for p in out.iterdir()) == [("manifest.json", 31), ("model.onnx", 4)]


def test_unsupported_operators_all_in_one_message(rejected: Rejected, make_model: MakeModel) -> None:
    extra = [
        helper.make_node("Einsum", ["h"], ["e"], name="/head/Einsum", equation="ij->ij"),
        helper.make_node("Hardmax", ["e"], ["m"], name="hard"),
    ]
    err = rejected(1, make_model(extra=extra))
    assert "error[ML110]: 2 operators are not supported" in err
    assert "'/head/Einsum' (Einsum)" in err
    assert "'hard' (Hardmax)" in err
    assert "hint:" in err


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weight_that_is_not_finite(rejected: Rejected, make_model: MakeModel, value: float) -> None:
    err = rejected(1, make_model(weight=value))
    assert "error[ML113]" in err
    assert "'second'" in err
    assert "%w2" in err


def test_dynamic_dimension(rejected: Rejected, make_model: MakeModel) -> None:
    assert "error[ML112]: only the first (batch) dimension" in rejected(1, make_model(shape=("batch", "features")))


def test_zero_size(rejected: Rejected, make_model: MakeModel) -> None:
    assert "error[ML112]: a graph input has no elements" in rejected(1, make_model(shape=("batch", 0)))


def test_string_input(rejected: Rejected, make_model: MakeModel) -> None:
    text = rejected(1, make_model(type_=TensorProto.STRING))
    assert "error[ML111]: graph inputs must be tensors of floats, or of signed integers, not string" in text


def test_calibration_of_the_wrong_shape(rejected: Rejected, make_model: MakeModel, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.zeros((10, 7), np.float32))
    err = rejected(1, make_model(), "--calibrate", path)
    assert "error[ML130]" in err
    assert "shape (10, 7), expected (samples, 4)" in err
    assert str(path) in err


@pytest.mark.parametrize(
    ("option", "value", "near"),
    [
        ("--target", "solidty", "solidity"),
        ("--fork", "pragu", "prague"),
        ("--weights", "cod", "code"),
        ("--optimize", "inferense", "inference"),
        ("--passes", "fold_constant", "fold_constants"),
    ],
)
def test_misspelt_name(rejected: Rejected, make_model: MakeModel, option: str, value: str, near: str) -> None:
    err = rejected(2, make_model(), option, value)
    assert f"{value!r}" in err
    assert f"did you mean '{near}'" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--precision", "int7"),
        ("--precision", "w1a8"),
        ("--input-range", "1"),
        ("--input-range", "1,-1"),
        ("--input-range", "0,inf"),
        ("--input-range", "x=1"),
        ("--name", "../evil"),
        ("--name", ""),
        ("--name", "\u00e9t\u00e9"),
        ("--input-range", "-1,1", "--input-range", "-1,1"),
        ("--workers", "0"),
        ("-O3",),
        ("--colour",),
    ],
)
def test_usage(rejected: Rejected, make_model: MakeModel, arguments: tuple[str, ...]) -> None:
    assert "error" in rejected(2, make_model(), *arguments)


@pytest.mark.parametrize("place", ["a file", "under a file"])
def test_graphs_that_cannot_be_written(rejected: Rejected, make_model: MakeModel, tmp_path: Path, place: str) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    err = rejected(1, make_model(), "--dump-ir", file if place == "a file" else file / "deeper")
    assert "error[ML132]: cannot write the graphs into" in err
    assert file.read_text() == "mine"


def test_passes_that_prove_nothing(rejected: Rejected, make_model: MakeModel) -> None:
    err = rejected(2, make_model(), "--input-range", "-1,1", "--passes", "O2,quantize")
    assert "do not prove that the sums fit" in err
    assert "add 'prove_ranges' at the end" in err


def test_empty_output(
    compile_model: Run, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a shell gives a variable that is not set: it is not the current folder."""
    monkeypatch.chdir(tmp_path)
    result = compile_model(make_model(), "--input-range", "-1,1", "-o", "")
    assert (result.status, result.out) == (2, "")
    assert {p.name for p in tmp_path.iterdir()} == {"tiny.onnx"}


def test_no_model(compile_model: Run) -> None:
    result = compile_model()
    assert (result.status, result.out) == (2, "")
    assert "no model given" in result.err


@pytest.mark.parametrize("place", ["a file", "under a file", "/dev/null/x", "read-only", "read-only/x"])
def test_output_that_cannot_be_written(
    compile_model: Run, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said before the model is looked at, which is none."""
    file, model = tmp_path / "file", tmp_path / "tiny.onnx"
    for path in (file, model):
        path.write_text("mine")
    (tmp_path / "read-only").mkdir()
    monkeypatch.setattr("ml2sc.placing.os.access", lambda folder, _: "read-only" not in str(folder))
    target = {"a file": file, "under a file": file / "deeper" / "out"}.get(place, tmp_path / place)
    result = compile_model(model, "-o", target)
    assert (result.status, result.out) == (1, "")
    assert "error[ML132]: cannot write the folder" in result.err
    assert file.read_text() == "mine"
    assert {p.name for p in tmp_path.rglob("*")} == {"file", "tiny.onnx", "read-only"}


def test_no_solc(rejected: Rejected, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "solcx").mkdir()
    for name in ("ML2SC_SOLC", "ML2SC_SOLC_NPM", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SOLCX_BINARY_PATH", str(tmp_path / "solcx"))
    monkeypatch.chdir(tmp_path)
    err = rejected(3, make_model(), "--input-range", "-1,1")
    assert "error[ML150]: no usable solc found" in err
    assert "npm install -g solc" in err


def test_solc_that_is_not_there(rejected: Rejected, make_model: MakeModel, tmp_path: Path) -> None:
    assert "error[ML150]" in rejected(3, make_model(), "--input-range", "-1,1", "--solc", tmp_path / "solc")
