"""Compile, look at the folder, check it: the digits model, from the command line."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from ml2sc.cli import compile, deploy  # noqa: A004
from ml2sc.money import Prices

from .conftest import MakeModel, Run, _runner

pytestmark = pytest.mark.usefixtures("solc")


@pytest.fixture(scope="session")
def compiled(examples: Path, tmp_path_factory: pytest.TempPathFactory, solc: None) -> Path:
    """The digits model in int8, compiled once; copy it to change it."""
    folder = tmp_path_factory.mktemp("compiled") / "digits"
    digits = examples / "digits"
    arguments = [
        digits / "digits.onnx",
        "--precision",
        "int8",
        "--calibrate",
        digits / "calibration.npz",
        "-o",
        folder,
        "-q",
    ]
    assert compile.main([str(a) for a in arguments]) == 0
    return folder


@pytest.fixture
def folder(compiled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compiled, tmp_path / "digits"))


@pytest.fixture
def samples(examples: Path, tmp_path: Path) -> Path:
    """Forty samples of the digits."""
    with np.load(examples / "digits" / "samples.npz") as archive:
        arrays = {key: archive[key][:40] for key in archive.files}
    path = tmp_path / "samples.npz"
    np.savez(path, **arrays)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_stdout_and_stderr(compile_model: Run, make_model: MakeModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = compile_model(make_model(), "--precision", "int8", "--input-range", "-1,1", "-o", out)
    assert result.status == 0, result.err
    files = " ".join(result.out.split()).split(f" files {out}: ")[1].split(", ")
    assert set(files) == {p.name for p in out.iterdir()}
    assert {p.name for p in out.iterdir()} >= {
        "Tiny.sol",
        "Tiny.abi.json",
        "Tiny.bin",
        "Tiny.standard.json",
        "model.onnx",
        "manifest.json",
    }
    assert result.out.startswith("Tiny: 4 inputs, 3 outputs, precision int8\n")
    assert "error bound" in result.out
    assert "compiled by      solc" in result.out
    assert "precision" not in result.err
    assert "assumed" not in result.out + result.err
    assert "\x1b" not in result.out + result.err
    bytes.fromhex((out / "Tiny.bin").read_text())


def test_quiet(compile_model: Run, make_model: MakeModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = compile_model(make_model(), "--input-range", "-1,1", "-o", out, "-q")
    assert (result.status, result.err) == (0, "")
    assert set(map(Path, result.out.splitlines())) == set(out.iterdir())


def test_json_and_default_folder(
    compile_model: Run, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = compile_model(make_model(), "--precision", "int8", "--name", "Other", "--json")
    assert result.status == 0, result.err
    summary = json.loads(result.out)
    assert summary["name"] == summary["directory"] == "Other"
    assert summary["precision"] == "int8"
    assert summary["error_bound"] > 0
    assert 0 < summary["code_bytes"] <= 24_576
    assert all(Path(path).is_file() for path in summary["files"])
    assert "warning: no input range is declared for 'x': taken as ±65,536" in result.err
    assert result.err.count("±65,536") == 1


def test_same_input_same_bytes(compile_model: Run, make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model()
    for name in ("one", "two"):
        assert compile_model(model, "--input-range", "-1,1", "-o", tmp_path / name).status == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert str(tmp_path).encode() not in b"".join(contents(tmp_path / "one").values())


def test_existing_folder(compile_model: Run, make_model: MakeModel, tmp_path: Path) -> None:
    model, out = make_model(), tmp_path / "out"
    assert compile_model(model, "--input-range", "-1,1", "--name", "First", "-o", out).status == 0
    (out / "notes.txt").write_text("mine")
    assert compile_model(model, "--input-range", "-1,1", "--name", "Second", "-o", out).status == 0
    names = {p.name for p in out.iterdir()}
    assert {"notes.txt", "Second.sol", "manifest.json"} <= names
    assert not [name for name in names if name.startswith("First")]


def test_dump_ir_and_explain(compile_model: Run, make_model: MakeModel, tmp_path: Path) -> None:
    result = compile_model(
        make_model(), "--input-range", "-1,1", "-o", tmp_path / "out", "--dump-ir", tmp_path / "ir", "--explain"
    )
    assert result.status == 0
    assert (tmp_path / "ir" / "000_import.ir").is_file()
    assert "quantize{" in result.err
    assert "quantize{" not in result.out
    assert re.search(r"^  column +name +range .*\n  0–3 +x +-1 to 1 ", result.out, re.MULTILINE)


def test_check_table(check_folder: Run, folder: Path, samples: Path) -> None:
    result = check_folder(folder, "--samples", samples)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("Digits (solidity, int8): ok\n")
    assert "exact            yes: 40 of 40 bit for bit (packed and WAD inputs)" in result.out
    assert "keeps the model  yes: 40 of 40 decisions are the model's" in result.out


def test_check_json(check_folder: Run, folder: Path, samples: Path) -> None:
    result = check_folder(folder, "--samples", samples, "--json")
    assert result.status == 0, result.err
    report = json.loads(result.out)
    assert report["samples"] == report["bit_exact_samples"] == 40
    assert report["outside_range"] == 0
    assert report["bit_exact"] is True
    assert report["decision_agreement"] >= 0.95
    assert report["accuracy"] >= 0.9
    assert 0 < report["mean_abs_error"] <= report["max_abs_error"] <= report["error_bound"]
    assert 0 < report["onnxruntime"]["mean_abs_error"] <= report["onnxruntime"]["max_abs_error"]
    gas = report["gas"]
    assert gas["deploy"] > 200 * report["code_bytes"] - gas["weights"]
    assert 21_000 < gas["inference"]["min"] <= gas["inference"]["mean"] <= gas["inference"]["max"]
    assert "predicted" in gas


@pytest.mark.parametrize("name", [pytest.param("net.data", marks=pytest.mark.heavy), "weights.bin"])
def test_data_contracts_and_external_data(
    compile_model: Run,
    check_folder: Run,
    examples: Path,
    samples: Path,
    tmp_path: Path,
    name: str,
) -> None:
    (tmp_path / "in").mkdir()
    model, out = tmp_path / "in" / "net.onnx", tmp_path / "out"
    proto = onnx.load(examples / "digits" / "digits.onnx")
    onnx.save(proto, model, save_as_external_data=True, location=name, size_threshold=0)
    options = ("--precision", "int8", "--input-range", "0,1", "--weights", "data")
    assert compile_model(model, *options, "-o", out).status == 0
    assert (out / "model.onnx").read_bytes() == model.read_bytes()
    assert (out / "external" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
    lengths = [contract["bytes"] for contract in json.loads((out / "manifest.json").read_text())["data_contracts"]]
    assert sum(lengths) == (out / "weights.bin").stat().st_size > 0
    result = check_folder(out, "--samples", samples, "--json")
    assert result.status == 0, result.err
    report = json.loads(result.out)
    assert report["bit_exact"] is True
    assert report["gas"]["weights"] > 200 * sum(lengths)
    assert report["code_bytes"] > sum(lengths)
    for edited in ("weights.bin", f"external/{name}"):
        weights = (out / edited).read_bytes()
        (out / edited).write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
        assert f"{edited} was edited" in check_folder(out).err
        (out / edited).write_bytes(weights)


def test_check_without_samples(check_folder: Run, folder: Path) -> None:
    result = check_folder(folder, "--json")
    assert result.status == 0, result.err
    report = json.loads(result.out)
    assert (report["samples"], report["random"], report["outside_range"]) == (100, True, 0)
    assert report["accuracy"] is report["agreement_lower_bound"] is None
    assert report["keeps_model"] is True
    result = check_folder(folder)
    assert "keeps the model  not judged by random inputs" in result.out
    assert "confidence" not in result.out
    result = check_folder(folder, "--min-agreement", "0.9")
    assert result.status == 2
    assert "random inputs do not show whether the model is kept" in result.err


def test_gas_in_money(check_folder: Run, folder: Path, samples: Path) -> None:
    result = check_folder(folder, "--samples", samples, "--gas-price", "2", "--eth-price", "3000")
    assert result.status == 0
    for line in ("gas, called", "gas, sent", "to deploy"):
        assert re.search(rf"{line} +[\d,]+ [^(]*\([\d.]+ ether, \$[\d.]+\)", result.out), line
    assert check_folder(folder, "--eth-price", "3000").status == 2
    assert check_folder(folder, "--gas-price", "0").status == 2


def test_deployment_in_money(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rehearsal's figures are those of `Prices`, as the other commands' are."""
    deploy_folder = _runner(deploy.main, capsys)
    assert not re.search(r"ether|\$", deploy_folder(folder).out)
    result = deploy_folder(folder, "--gas-price", "2", "--eth-price", "3000")
    assert result.status == 0
    (line,) = re.findall(r"^  gas +([\d,]+)( .*)$", result.out, re.MULTILINE)
    gas = int(line[0].replace(",", ""))
    assert gas > 1_000_000
    assert line[1] == Prices(2, 3_000).of(gas)
    for wrong in (("--eth-price", "3000"), ("--gas-price", "0"), ("--gas-price", "2", "--eth-price", "nan")):
        result = deploy_folder(folder, *wrong)
        assert (result.status, result.out) == (2, "")


def test_int8_that_does_not_keep_its_model(
    compile_model: Run, check_folder: Run, make_model: MakeModel, tmp_path: Path
) -> None:
    """Elements of very different size, through one scale: most of them are lost."""
    model, out, rng = make_model(), tmp_path / "out", np.random.default_rng(5)
    x = rng.normal(size=(80, 4))
    x[:, 3] = 0  # it says nothing, but twice, and sets the scale
    x[0, 3], x[1, 3] = 9_000, -9_000
    np.savez(tmp_path / "data.npz", x=x)
    arguments = (model, "--precision", "w8a3", "--calibrate", tmp_path / "data.npz", "-o", out)
    result = compile_model(*arguments)
    assert (result.status, result.out) == (4, "")
    assert not out.exists()
    assert "error[ML160]: Tiny in w8a3 does not keep its model" in result.err
    assert "and at least 0.95 is asked for" in result.err
    assert "try --precision" in result.err
    result = compile_model(*arguments, "--min-agreement", "0.05")
    assert result.status == 0, result.err
    assert "warning: Tiny keeps its model poorly" in result.err
    assert "keeps the model  poorly: " in result.out
    result = check_folder(out, "--samples", tmp_path / "data.npz")
    assert result.status == 4
    assert result.out.startswith("Tiny (solidity, w8a3): FAILED\n")
    assert "exact            yes: 80 of 80" in result.out
    assert "keeps the model  no: " in result.out
    assert "error[ML160]: the contract is exact, but does not keep its model" in result.err
    assert check_folder(out, "--samples", tmp_path / "data.npz", "--min-agreement", "0.05").status == 0


def test_samples_outside_the_range(check_folder: Run, folder: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).uniform(0, 1, (6, 64)).astype(np.float32)
    x[4:, 3] = 40
    np.savez(tmp_path / "far.npz", x=x)
    result = check_folder(folder, "--samples", tmp_path / "far.npz", "--json")
    assert result.status == 0, result.err
    report = json.loads(result.out)
    assert (report["outside_range"], report["bit_exact_samples"]) == (2, 6)
    assert report["max_abs_error"] <= report["error_bound"]
    assert report["outside"]["max_abs_error"] > 0
    assert "2 of them outside" in check_folder(folder, "--samples", tmp_path / "far.npz").out


def test_contract_that_is_wrong(
    check_folder: Run, compile_model: Run, folder: Path, samples: Path, examples: Path, tmp_path: Path
) -> None:
    """The bytecode of another precision, under this folder's name."""
    digits = examples / "digits"
    arguments = ("--precision", "w7a8", "--calibrate", digits / "calibration.npz", "-o", tmp_path / "other")
    assert compile_model(digits / "digits.onnx", *arguments).status == 0
    code = (tmp_path / "other" / "Digits.bin").read_bytes()
    (folder / "Digits.bin").write_bytes(code)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["Digits.bin"] = hashlib.sha256(code).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "Digits.bin is not what solc" in check_folder(folder, "--samples", samples).err
    # said to be another compiler's it cannot be compared, but it answers as it does
    manifest["toolchain"]["compiler"] = "solc 0.8.24+commit.00000000"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    result = check_folder(folder, "--samples", samples)
    assert result.status == 4
    assert result.out.startswith("Digits (solidity, int8): FAILED\n")
    assert "error[ML160]: 40 of 40 samples are not bit-exact; sample 0, predictPacked on " in result.err
    assert "expected" in result.err


@pytest.mark.parametrize("name", ["Digits.sol", "Digits.abi.json", "Digits.bin", "Digits.standard.json", "model.onnx"])
def test_edited_file(check_folder: Run, folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes().replace(b"2", b"3", 1))
    result = check_folder(folder)
    assert (result.status, result.out) == (1, "")
    assert "error[ML131]" in result.err
    assert f"{name} was edited" in result.err


def test_edited_file_with_its_hash(check_folder: Run, folder: Path) -> None:
    source = (folder / "Digits.sol").read_bytes() + b"// more\n"
    (folder / "Digits.sol").write_bytes(source)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["Digits.sol"] = hashlib.sha256(source).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    result = check_folder(folder)
    assert result.status == 1
    assert "Digits.sol is not what the model compiles to" in result.err
    assert "edited, or made by another version of ml2sc" in result.err


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("error_bound",), 0.5, "error_bound is not what the model compiles to"),
        (("inputs", 0, "scale"), "1/7", "inputs is not what the model compiles to"),
        (("tensors", 1, "interval"), ["0", "1"], "tensors is not what the model compiles to"),
        (("target",), "vyper", "target is not that of the options"),
        (("precision",), 5, "precision: Input should be a valid string"),
        (("toolchain",), None, "toolchain: Input should be an object"),
        (("options", "level"), "a", "options.level: Input should be a valid integer"),
        (("options", "level"), 7, "unknown level '7'"),
    ],
)
def test_edited_manifest(check_folder: Run, folder: Path, place: tuple[Any, ...], value: Any, said: str) -> None:
    """Who packs inputs relies on what it says of them."""
    manifest = json.loads((folder / "manifest.json").read_text())
    part = manifest
    for key in place[:-1]:
        part = part[key]
    assert part[place[-1]] != value
    part[place[-1]] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    result = check_folder(folder)
    assert (result.status, result.out) == (1, "")
    assert "error[ML131]" in result.err
    assert said in result.err


def test_file_that_leads_nowhere(check_folder: Run, folder: Path) -> None:
    (folder / "Digits.bin").unlink()
    (folder / "Digits.bin").symlink_to("Digits.bin")
    result = check_folder(folder)
    assert (result.status, result.out) == (1, "")
    assert "error[ML131]: cannot read" in result.err


@pytest.mark.parametrize("name", ["manifest.json", "Digits.sol", "Digits.bin", "model.onnx"])
def test_missing_file(check_folder: Run, folder: Path, name: str) -> None:
    (folder / name).unlink()
    result = check_folder(folder)
    assert (result.status, result.out) == (1, "")
    assert f"cannot read {folder / name}" in result.err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "Digits"}'])
def test_manifest_that_is_none(check_folder: Run, folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    result = check_folder(folder)
    assert result.status == 1
    assert "error[ML131]" in result.err


def test_manifest_that_points_elsewhere(check_folder: Run, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../samples.npz"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    result = check_folder(folder)
    assert result.status == 1
    assert "lists a file that ml2sc does not write: '../samples.npz'" in result.err


def test_check_usage(check_folder: Run, folder: Path, tmp_path: Path) -> None:
    assert check_folder(tmp_path / "nowhere").status == 1
    result = check_folder(folder, "--chain", "embeded")
    assert result.status == 2
    assert "did you mean 'embedded'" in result.err
    result = check_folder(folder, "--address", "0x" + "11" * 20)
    assert result.status == 2
    assert "starts empty" in result.err
    result = check_folder(folder, "--chain", "http://127.0.0.1:9")
    assert result.status == 2
    assert "a check spends nothing" in result.err
    assert check_folder(folder, "--chain", "http://127.0.0.1:9", "--address", "0x" + "11" * 20).status == 3


def test_samples_that_do_not_fit(check_folder: Run, folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", x=np.zeros((3, 5)))
    result = check_folder(folder, "--samples", tmp_path / "bad.npz")
    assert result.status == 1
    assert "error[ML130]" in result.err


def test_a_second_compile_takes_the_compilers_output_from_the_cache(
    compile_model: Run, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vyper.cli.vyper_json as vyper_json

    monkeypatch.setenv("ML2SC_CACHE", str(tmp_path / "cache"))
    asked, compile_json = [], vyper_json.compile_json

    def count(*arguments: Any, **more: Any) -> Any:
        asked.append(arguments)
        return compile_json(*arguments, **more)

    monkeypatch.setattr(vyper_json, "compile_json", count)
    model, found = make_model(), []
    for folder, more in (("cold", ()), ("warm", ()), ("again", ("--no-cache",))):
        arguments = ("--input-range=-4,4", "--target", "vyper", "-o", tmp_path / folder, *more)
        assert compile_model(model, *arguments).status == 0
        found.append((len(asked), contents(tmp_path / folder)))
    (cold, first), (warm, second), (again, third) = found
    assert 0 < cold == warm < again
    assert first == second == third
