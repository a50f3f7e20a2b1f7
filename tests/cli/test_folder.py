"""Writing a folder: all of it or nothing, and nothing of the user's."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from support.networks import dense

import ml2sc
from ml2sc.backends.base import Artifact, Bytecode, CompilerRun
from ml2sc.errors import ArtifactError, OutputError
from ml2sc.folder import load_folder, require_room, write_folder

ARTIFACT = Artifact(
    name="Net",
    target="solidity",
    source_name="Net.sol",
    source="contract Net {} // ·\n",
    compiler_input={"z": 1, "a": 2},
    abi=[{"type": "function", "name": "predict"}],
    data=(b"one", b"three"),
    manifest={"name": "Net", "model_hash": f"0x{bytes(32).hex()}"},
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
    "external/data/weights": b"abc",
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


OTHER = replace(ARTIFACT, name="Other", source_name="Other.sol", data=(), external={})


def test_of_external_data_the_folder_goes_too(tmp_path: Path) -> None:
    write_folder(ARTIFACT, tmp_path)
    write_folder(OTHER, tmp_path)
    assert not (tmp_path / "external").exists()
    write_folder(ARTIFACT, tmp_path)
    (tmp_path / "external" / "mine").write_text("mine")
    write_folder(OTHER, tmp_path)
    assert contents(tmp_path / "external") == {"mine": b"mine"}


def listing(files: dict[str, str], name: str = "Net") -> dict[str, Any]:
    return {"name": name, "model_hash": f"0x{bytes(32).hex()}", "files": files}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


FOREIGN: list[Any] = [
    {"name": "an app", "icons": []},
    {"name": "Net", "files": {"notes.txt": ""}},
    {"files": ["notes.txt"]},
    listing({"notes.txt": "0"}),
    {**listing({}), "name": "../x"},
    [],
    "text",
    None,
]


@pytest.mark.parametrize("manifest", FOREIGN, ids=str)
def test_a_foreign_manifest_is_in_the_way(tmp_path: Path, manifest: Any) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "manifest.json").write_text(json.dumps(manifest))
    before = contents(tmp_path)
    for attempt in (write_folder, require_room):
        with pytest.raises(OutputError, match=r"manifest\.json is in the way: it is no manifest of ml2sc") as caught:
            attempt(ARTIFACT, out)
        assert "nothing was changed" in str(caught.value)
    assert contents(tmp_path) == before
    assert list(tmp_path.iterdir()) == [out]


def test_only_files_of_our_names_are_deleted(tmp_path: Path) -> None:
    """A manifest that lists others' files, with their right hashes, has none of them deleted."""
    (tmp_path / "mine.txt").write_text("mine")
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    names = ["notes.txt", "sub/Net.sol", ".bashrc", "deployment.json"]
    for name in names:
        (out / name).write_text("mine")
    hashes = {name: digest(out / name) for name in names}
    hashes |= {
        name: digest(tmp_path / "mine.txt") for name in ("../mine.txt", str(tmp_path / "mine.txt"), "a/../../mine.txt")
    }
    (out / "manifest.json").write_text(json.dumps(listing(hashes)))
    write_folder(ARTIFACT, out)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert [(out / name).read_text() for name in names] == ["mine"] * len(names)


@pytest.mark.parametrize("name", sorted(FILES))
def test_what_was_edited_is_not_overwritten_or_deleted(tmp_path: Path, name: str) -> None:
    write_folder(ARTIFACT, tmp_path)
    (tmp_path / name).write_text("edited")
    before = contents(tmp_path)
    for artifact in (ARTIFACT, OTHER):
        with pytest.raises(OutputError, match=f"{name} is in the way: ml2sc has not written it, or it was edited"):
            write_folder(artifact, tmp_path)
        assert contents(tmp_path) == before
    (tmp_path / name).unlink()
    write_folder(ARTIFACT, tmp_path)
    assert contents(tmp_path).keys() == before.keys()


@pytest.mark.parametrize("name", sorted(FILES))
def test_what_is_there_without_a_manifest_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match="is in the way"):
        write_folder(ARTIFACT, tmp_path)
    assert contents(tmp_path) == {name: b"mine"}


def test_half_moved_files_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(ARTIFACT, tmp_path / "out")
    replace_file, moved = Path.replace, []

    def killed(path: Path, target: Path) -> Path:
        if len(moved) == 3:
            raise KeyboardInterrupt
        moved.append(path.name)
        return replace_file(path, target)

    changed = replace(ARTIFACT, source="contract Net { }", compiler_input={}, model=b"\x08\x0a")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_folder(changed, tmp_path / "out")
    write_folder(changed, tmp_path / "out")
    write_folder(changed, tmp_path / "new")
    assert contents(tmp_path / "out") == contents(tmp_path / "new")


def test_links_are_not_followed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "secret").write_text("secret")
    for name in (*FILES, "manifest.json", "external"):
        out = tmp_path / f"out-{name.replace('/', '-')}"
        (out / name).parent.mkdir(parents=True)
        (out / name).symlink_to(mine if name == "external" else mine / "secret")
        with pytest.raises(OutputError, match=r"is in the way: .*symbolic link"):
            write_folder(ARTIFACT, out)
        assert (out / name).is_symlink()
        assert contents(mine) == {"secret": b"secret"}


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "out").symlink_to("far")
    write_folder(ARTIFACT, tmp_path / "out")
    write_folder(OTHER, tmp_path / "out")
    assert (tmp_path / "far" / "Other.sol").exists()
    assert (tmp_path / "out").is_symlink()


def test_planted_names_of_temporary_files_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / f".out.{os.getpid()}.tmp").symlink_to("mine")
    write_folder(ARTIFACT, tmp_path / "out")
    assert contents(tmp_path / "mine") == {}
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".out.{os.getpid()}.tmp", "mine", "out"]


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


@pytest.mark.parametrize("name", ["manifest.json", "weights.bin", "model.onnx", "Net.sol", "deployment.json"])
def test_external_data_may_have_any_name(tmp_path: Path, name: str) -> None:
    write_folder(replace(ARTIFACT, external={name: b"abc"}), tmp_path)
    assert contents(tmp_path)[f"external/{name}"] == b"abc"
    assert contents(tmp_path).keys() == {*FILES, "manifest.json", f"external/{name}"} - {"external/data/weights"}


@pytest.mark.parametrize("name", ["../w", "/w", "a/../../w", "..\\w", "", "a\x00b"])
def test_but_none_that_leads_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="cannot write the folder"):
        write_folder(replace(ARTIFACT, external={name: b"abc"}), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_not_compiled(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not compiled"):
        write_folder(replace(ARTIFACT, bytecode=None), tmp_path / "out")


class PretendSolc:
    """A compiler whose own variables take more memory than the source leaves them."""

    used = 0x0FE0

    def __init__(self, abi: Any) -> None:
        self.abi = abi

    def solc(self, standard_input: Any) -> CompilerRun:
        (source,) = standard_input["sources"]
        runtime = f"61{self.used:04x}604052"
        code = {"bytecode": {"object": "6001"}, "deployedBytecode": {"object": runtime}}
        output = {"contracts": {source: {source.removesuffix(".sol"): {"abi": self.abi, "evm": code}}}}
        return CompilerRun(output, "solc 0.8.30", "PATH")

    def vyper(self, standard_input: Any) -> CompilerRun:
        raise AssertionError


@pytest.mark.parametrize("name", ["x", "uint256 private constant _MEMORY = 99999;"])
def test_what_compiling_edits_is_edited_again_on_loading(tmp_path: Path, name: str) -> None:
    """Whatever tensors are called: their names stand in comments."""
    model = dense(3, 2)
    for value in (model.graph.input[0], *model.graph.node):
        if isinstance(value, onnx.ValueInfoProto):
            value.name = name
        else:
            value.input[0] = name
    artifact = ml2sc.compile(model, precision="int8", input_ranges=((-1.0, 1.0),))
    built = ml2sc.build(artifact, PretendSolc(artifact.abi))
    assert list(built.manifest["toolchain"]["edits"].values()) == ["    uint256 private constant _MEMORY = 4064;"]
    assert "\n    uint256 private constant _MEMORY = 4064;\n" in built.source
    write_folder(built, tmp_path)
    loaded = load_folder(tmp_path)
    assert loaded.source == built.source
    assert loaded.compiler_input == built.compiler_input
    files = {"files": loaded.manifest["files"]}
    assert json.loads(json.dumps(loaded.manifest)) == json.loads(json.dumps({**built.manifest, **files}))
    write_folder(loaded, tmp_path / "again")
    names = {str(p.relative_to(tmp_path / "again")) for p in (tmp_path / "again").iterdir()}
    assert all((tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)
