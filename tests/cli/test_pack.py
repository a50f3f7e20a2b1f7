"""`ml2sc-pack`, and what `ml2sc-compile` writes for callers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ml2sc
from ml2sc.folder import load_folder
from ml2sc.ir import wad
from ml2sc.ir.interpret import Interpreter

from .conftest import MakeModel, Result, Run

COLUMNS = ("age", "income", "rate */ @dev", "children")


@pytest.fixture
def folder(compile_model: Run, make_model: MakeModel, tmp_path: Path, solc: None) -> Path:
    out, columns = tmp_path / "out", tmp_path / "columns.json"
    columns.write_text(json.dumps(COLUMNS))
    options = ["--precision", "int8", "--columns", columns, "--labels", 'no,yes,"""maybe']
    result = compile_model(make_model(), *options, "--input-range", "-1,3", "-o", out)
    assert result.status == 0, result.err
    return out


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_what_callers_need(folder: Path, run_pack: Run, check_folder: Run, tmp_path: Path) -> None:
    interface, vectors = read(folder, "interface.json"), read(folder, "vectors.json")
    artifact = load_folder(folder)
    assert interface["abi"] == read(folder, "Tiny.abi.json")
    assert interface["decision"] == {"classes": ["no", "yes", '"""maybe']}
    assert interface["packing"]["inputs"][0]["columns"] == list(COLUMNS)
    assert interface["model_hash"] == artifact.manifest["model_hash"]
    source = (folder / "Tiny.sol").read_text()
    assert "Columns: 0 age, 1 income, 2 rate * / (at)dev, 3 children. Decisions: 0 no, 1 yes," in " ".join(
        line.strip(" *") for line in source.splitlines()
    )
    assert artifact.program is not None
    assert artifact.graph is not None
    interpreter = Interpreter(artifact.program)
    assert len(vectors["samples"]) == 10
    for sample in vectors["samples"]:
        packed = bytes.fromhex(sample["packed"][2:])
        assert ml2sc.pack(folder, sample["x"]) == ml2sc.pack(folder / "manifest.json", sample["x"]) == packed
        given = wad.inputs_from_wad(artifact.graph, list(map(int, sample["wad"])))
        assert wad.pack(artifact.graph, given) == packed
        answer = interpreter.run(packed)
        assert [str(v) for v in answer.outputs] == sample["outputs"]
        assert str(answer.decision) == sample["decision"]
        assert run_pack(folder, "--x", ",".join(map(repr, sample["x"]))).out.strip() == sample["packed"]
        assert run_pack(folder, "--x", ",".join(map(repr, sample["x"])), "--wad").out.strip() == ",".join(sample["wad"])
    assert check_folder(folder).status == 0

    vectors["samples"][3]["outputs"][0] += "0"
    (folder / "vectors.json").write_text(json.dumps(vectors))
    assert check_folder(folder).status == 1


def test_files_of_samples(folder: Path, run_pack: Run, tmp_path: Path) -> None:
    x = np.array([[-1, 0, 1, 2], [3, 2.5, 9, -9]])
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    (tmp_path / "x.json").write_text('{"x": [-1, 0, 1, 2]}')
    lines = [f"0x{ml2sc.pack(folder, row).hex()}" for row in x]
    for name in ("x.npy", "x.npz"):
        assert run_pack(folder, "--x", tmp_path / name).out.split() == lines
    assert run_pack(folder, "--x", tmp_path / "x.json").out.split() == lines[:1]
    back = run_pack(folder / "interface.json", "--unpack", lines[0])
    assert np.allclose(json.loads(back.out)["x"], x[0], atol=0.02)
    assert json.loads(run_pack(folder, "--unpack", "-1,500000000000000000,0").out) == {"y": [[-1e-18, 0.5, 0.0]]}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 2, "--x or --unpack"),
        (("--x", "1,two"), 2, "neither numbers"),
        (("--x", "1,2"), 1, "2 values for the 4 elements"),
        (("--x", "1,2,nan,4"), 1, "no finite number"),
        (("--x", "none.npz"), 1, "cannot read none.npz"),
        (("--x", "none.json"), 1, "cannot read none.json"),
        (("--unpack", "0x12"), 1, "1 bytes"),
        (("--unpack", "0x1"), 2, "hexadecimal"),
        (("--unpack", "1,2"), 1, "2 outputs"),
    ],
)
def test_bad_input(
    arguments: tuple[str, ...], status: int, said: str, run_pack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = {"name": "x", "shape": [1, 4], "format": "int8", "scale": "1/4", "zero_point": 0, "interval": ["-5", "5"]}
    outputs = [{"name": "y", "shape": [1, 3]}]
    manifest = {"packing": {"element_bytes": 1, "inputs": [entry]}, "outputs": outputs}
    (tmp_path / "interface.json").write_text(json.dumps(manifest))
    result = run_pack(tmp_path, *arguments)
    assert (result.status, result.out) == (status, "")
    assert said in result.err


def test_a_table_is_packed_by_name(run_pack: Run, tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    entry = {"name": "x", "shape": [1, 3], "format": "int8", "scale": "1", "zero_point": 0, "interval": ["-9", "9"]}

    def packed(columns: object, **table: list[int]) -> Result:
        packing = {"element_bytes": 1, "inputs": [{**entry, "columns": columns}]}
        interface = {"packing": packing, "outputs": [{"name": "y", "shape": [1]}]}
        (tmp_path / "interface.json").write_text(json.dumps(interface))
        parquet.write_table(pyarrow.table(table), tmp_path / "x.parquet")
        return run_pack(tmp_path, "--x", tmp_path / "x.parquet")

    assert packed(["a", "b", "c"], b=[2, 5], c=[3, 6], a=[1, 4]).out.split() == ["0x010203", "0x040506"]
    assert packed([], b=[2, 5], c=[3, 6], a=[1, 4]).out.split() == ["0x020301", "0x050604"]
    assert "it lacks the model's 'a'" in packed(["a", "b", "c"], b=[2], c=[3], d=[1]).err
    assert "2 names for the 3 columns of 'x'" in packed(["a", "b"], b=[2]).err
    assert "the columns of 'x' have no names" in packed([1, 2, 3], b=[2]).err


def test_a_folder_without_an_interface(run_pack: Run, tmp_path: Path) -> None:
    def told(result: Result) -> str:
        assert (result.status, result.out) == (1, "")
        return result.err

    assert "cannot read" in told(run_pack(tmp_path, "--x", "1"))
    for content in ("[]", "{}", '{"packing": 3}', "[" * 1000):
        (tmp_path / "interface.json").write_text(content)
        assert "error[ML131]" in told(run_pack(tmp_path, "--x", "1"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--labels", "a,b"), "2 names for the 3 decisions"),
        (("--labels", "a,b,b"), "two of the names are"),
        (("--columns", "a,b,c"), "3 names for 4 columns"),
        (("--columns", "a,b,c,"), "the name of a column"),
        (("--labels", "none.txt"), "cannot read none.txt"),
    ],
)
def test_names_that_do_not_fit(
    options: tuple[str, ...], said: str, compile_model: Run, make_model: MakeModel, tmp_path: Path
) -> None:
    result = compile_model(make_model(), "--precision", "int8", "--input-range", "-1,3", *options, "-o", tmp_path / "o")
    assert result.status == 2
    assert said in result.err
    assert not (tmp_path / "o").exists()
