"""Writing a folder: all of it or nothing, and nothing of the user's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ml2sc.backends.base import Artifact, Bytecode
from ml2sc.errors import ArtifactError, OutputError
from ml2sc.folder import write_folder

ARTIFACT = Artifact(
    name="Net",
    target="solidity",
    source_name="Net.sol",
    source="contract Net {} // ·\n",
    compiler_input={"z": 1, "a": 2},
    abi=[{"type": "function", "name": "predict"}],
    data=(b"one", b"three"),
    manifest={"name": "Net"},
    model=b"\x08\x09",
    external={"data/weights": b"abc"},
    bytecode=Bytecode(b"\x60\x01", b"", (), "solc 0.8.30", "PATH"),
)

FILES = {
    "Net.sol": "contract Net {} // ·\n".encode(),
    "Net.abi.json": b'[\n  {\n    "name": "predict",\n    "type": "function"\n  }\n]\n',
    "Net.bin": b"6001\n",
    "Net.standard.json": b'{\n  "a": 2,\n  "z": 1\n}\n',
    "weights.bin": b"onethree",
    "model.onnx": b"\x08\x09",
    "data/weights": b"abc",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_files(tmp_path: Path) -> None:
    paths = write_folder(ARTIFACT, tmp_path / "deep" / "out")
    written = contents(tmp_path / "deep" / "out")
    assert {name: written[name] for name in FILES} == FILES
    assert [str(p.relative_to(tmp_path / "deep" / "out")) for p in paths] == [*FILES, "manifest.json"]
    manifest = json.loads(written["manifest.json"])
    assert set(manifest["files"]) == set(FILES)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]


def test_replacing_an_artifact_keeps_foreign_files(tmp_path: Path) -> None:
    write_folder(ARTIFACT, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    write_folder(replace(ARTIFACT, name="Other", source_name="Other.sol", data=(), external={}), tmp_path)
    names = {"Other.sol", "Other.abi.json", "Other.bin", "Other.standard.json", "model.onnx", "manifest.json"}
    assert set(contents(tmp_path)) == {*names, "notes.txt"}


def test_manifest_cannot_have_other_files_deleted(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    write_folder(ARTIFACT, tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    path.write_text(json.dumps({"files": {"../mine.txt": "", "..": "", str(tmp_path / "mine.txt"): ""}}))
    write_folder(ARTIFACT, tmp_path / "out")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def fail(path: Path, data: bytes) -> int:
        if path.name == "Net.standard.json":
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        write_folder(ARTIFACT, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "Net.sol").write_text("before")
    with pytest.raises(OutputError):
        write_folder(ARTIFACT, tmp_path / "out")
    assert contents(tmp_path) == {"out/Net.sol": b"before"}


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    for target in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(OutputError, match="cannot write the folder"):
            write_folder(ARTIFACT, target)
    assert contents(tmp_path) == {"out": b"mine"}


@pytest.mark.parametrize("name", ["manifest.json", "weights.bin", "a/../model.onnx", "./Net.sol", "/w"])
def test_external_data_with_a_name_of_ours(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="cannot be put beside the model"):
        write_folder(replace(ARTIFACT, external={name: b""}), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_not_compiled(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not compiled"):
        write_folder(replace(ARTIFACT, bytecode=None), tmp_path / "out")
