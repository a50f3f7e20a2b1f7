"""Which kits there are, and how they are written: all of one or nothing, and nothing of the user's."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import ml2sc
from ml2sc.cli import kit
from ml2sc.errors import ArtifactError, OutputError, UnknownNameError, UsageError
from ml2sc.folder import load_folder
from ml2sc.kits import base, write_kits
from ml2sc.kits.base import KITS, Kit, Model

from .conftest import Folder, small


def copied(folder: Folder, form: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder(form), tmp_path / "out"))


def test_again_from_the_folder(folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = copied(folder, "solidity", tmp_path)
    before = {path: path.read_bytes() for path in (out / "kits").rglob("*") if path.is_file() and path.suffix != ".sol"}
    shutil.rmtree(out / "kits" / "python")
    assert kit.main([str(out), "--kit", "foundry", "--kit", "python", "--kit", "foundry"]) == 0
    assert capsys.readouterr().out.split() == [str(out / "kits" / name) for name in ("foundry", "python")]
    addresses = out / "kits" / "python" / "addresses.json"
    assert json.loads(addresses.read_text()) == {}
    kept = {path: text for path, text in before.items() if path.name not in {"addresses.json", "kit.json"}}
    assert {path: path.read_bytes() for path in kept} == kept


def test_what_was_edited_stays(folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = copied(folder, "solidity", tmp_path)
    edited, mine = out / "kits" / "ts" / "example.ts", out / "kits" / "ts" / "mine.ts"
    edited.write_text("mine")
    mine.write_text("mine")
    assert kit.main([str(out), "--kit", "foundry", "--kit", "ts"]) == 1
    assert "edited since" in capsys.readouterr().err
    edited.unlink()
    assert kit.main([str(out), "--kit", "ts"]) == 0
    assert edited.read_text() != mine.read_text() == "mine"


def test_bad_input(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(folder, "vyper", tmp_path)
    artifact = load_folder(out)
    shutil.rmtree(out / "kits")
    monkeypatch.setitem(base.KITS, "solid", Kit("solid", lambda model: {}, frozenset({"solidity"})))
    with pytest.raises(UnknownNameError, match="did you mean 'foundry'"):
        write_kits(["ts", "foundy"], artifact, out, {})
    with pytest.raises(UsageError, match="Class is in vyper") as refused:
        write_kits(["ts", "solid"], artifact, out, {})
    assert "foundry, python, ts" in str(refused.value)
    plain = ml2sc.compile(small(), precision="int8", input_ranges=((-1.0, 1.0),))
    with pytest.raises(ArtifactError, match="not compiled"):
        write_kits(["ts"], plain, out, {})
    assert kit.main([str(out)]) == 2
    (out / "Class.bin").rename(tmp_path / "Class.bin")
    assert kit.main([str(out), "--kit", "ts"]) == 1
    assert "Class.bin" in capsys.readouterr().err
    (tmp_path / "Class.bin").rename(out / "Class.bin")
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "from": "another version"}))
    assert kit.main([str(out), "--kit", "ts"]) == 1
    assert "another version of ml2sc" in capsys.readouterr().err
    assert not (out / "kits").exists()


@pytest.mark.parametrize("name", ["Example", "Vm", "Function", "Test"])
def test_names_that_kits_use_themselves(name: str, folder: Folder) -> None:
    """No two files of a kit have the same name, capitals or not; in Solidity nothing else is called like the model."""
    artifact = replace(load_folder(folder("vyper")), name=name)
    for made in (kit_.files(Model(artifact, {})) for kit_ in KITS.values() if kit_.name != "hardhat"):
        assert len({file.lower() for file in made}) == len(made)
        for text in (str(made[file]) for file in made if file.endswith(".sol")):
            declared = re.findall(r"^(?:abstract contract|contract|interface|library) (\w+)", text, re.MULTILINE)
            assert name not in declared


def test_a_link_is_not_followed(folder: Folder, tmp_path: Path) -> None:
    out = copied(folder, "solidity", tmp_path)
    artifact = load_folder(out)
    shutil.rmtree(out / "kits" / "ts")
    (out / "kits" / "ts").mkdir()
    (tmp_path / "secret").write_text("theirs")
    (out / "kits" / "ts" / "example.ts").symlink_to(tmp_path / "secret")
    with pytest.raises(OutputError, match="symbolic link"):
        write_kits(["ts"], artifact, out, {})
    assert (tmp_path / "secret").read_text() == "theirs"
