"""Every edit of a manifest is refused, or the folder means what it did.

`ML2SC_FUZZ=2000 python -m pytest tests/property/test_manifests.py` tries that many edits instead of the few hundred of
every run.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.mutations import damaged, mutated, places
from support.networks import dense

import ml2sc
from ml2sc.backends.base import Artifact, Bytecode, as_compiled
from ml2sc.errors import ArtifactError
from ml2sc.folder import load_folder, write_folder
from ml2sc.manifest import NOTES, Manifest
from ml2sc.options import Options

EDITS = int(os.environ.get("ML2SC_FUZZ", "300"))

RECORDS = {"options", "calibrated", "deployed", "plan"}
"""Entries that a compilation starts from: another record is as true if it gives the same contract."""


def built(artifact: Artifact, settings: dict[str, Any], edits: dict[str, str] | None = None) -> Artifact:
    """Return an artifact as if a compiler had been there: loading a folder needs none."""
    noted = {"compiler": "a compiler", "found": "PATH", "settings": settings, **({"edits": edits} if edits else {})}
    manifest = {**artifact.manifest, "toolchain": noted, "code_bytes": 2}
    code = Bytecode(b"\x60\x01", b"", artifact.abi, "a compiler", "PATH")
    return dataclasses.replace(as_compiled(artifact, settings, edits or {}), bytecode=code, manifest=manifest)


def artifacts(folder: Path) -> Iterator[Artifact]:
    """Make contracts of all kinds of manifests."""
    ranges = Options(input_ranges=((-1.0, 1.0),), name="Net")
    calibration = np.random.default_rng(0).uniform(-1, 1, (20, 3)).astype(np.float32)
    plain = ml2sc.compile(dense(3, 2, 2), precision="int8", calibration=calibration, options=ranges)
    line = line_of(plain.source)
    yield built(plain, {}, {line: f"{line[:-1]}0;"})
    yield built(
        ml2sc.compile(dense(2, 2, activation="Sigmoid"), precision="q15.16", options=ranges, weights="data"), {}
    )
    updatable = dataclasses.replace(ranges, target="vyper", updatable=True, timelock=60)
    yield built(
        ml2sc.compile(dense(3, 2, 1), precision="int8", calibration=calibration, options=updatable),
        {"experimentalCodegen": True},
    )
    columns = Options(
        input_ranges=(((-1.0, 1.0), (0.0, 1000.0), (2.5, 2.75)),), column_names=("age", "income", "rate"), name="Net"
    )
    yield built(ml2sc.compile(dense(3, 2, 2), precision="int8", options=columns), {})
    proto = dense(2, 2)
    onnx.save(proto, folder / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    yield built(ml2sc.compile(folder / "net.onnx", precision="int8", options=ranges, passes="O1"), {})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Artifact]]:
    top = tmp_path_factory.mktemp("manifests")
    made = []
    for index, artifact in enumerate(artifacts(top)):
        write_folder(artifact, top / str(index))
        made.append((top / str(index), load_folder(top / str(index))))
    return made


def meaning(artifact: Artifact) -> dict[str, Any]:
    """Return everything about a contract but what its notes and records say."""
    assert artifact.bytecode is not None
    facts = {key: value for key, value in artifact.manifest.items() if key not in NOTES | RECORDS}
    said = ("name", "target", "source", "compiler_input", "abi", "data", "model", "external")
    texts = {name: getattr(artifact, name) for name in said}
    return {**texts, "code": artifact.bytecode.creation, "manifest": facts}


def require_same_or_refused(path: Path, content: bytes, expected: Artifact, what: str) -> bool:
    """Load a folder with another manifest; return whether it can be loaded."""
    (path / "manifest.json").write_bytes(content)
    refusal = ""
    try:
        loaded = load_folder(path)
    except ArtifactError as error:
        refusal = str(error)
    if refusal:
        assert len(refusal) < 2000, what
        assert refusal.replace("\n", "").isprintable(), what
        return False
    assert meaning(loaded) == meaning(expected), what
    Manifest.of(loaded.manifest)
    return True


def test_what_is_written_loads_to_the_same(folders: list[tuple[Path, Artifact]]) -> None:
    for path, artifact in folders:
        content = (path / "manifest.json").read_bytes()
        assert require_same_or_refused(path, content, artifact, "unchanged")
        assert json.loads(json.dumps(artifact.manifest)) == json.loads(content)


def test_edits_of_entries(folders: list[tuple[Path, Artifact]]) -> None:
    """Every entry in its turn, then any of them."""
    entries = [json.loads((path / "manifest.json").read_text()) for path, _ in folders]
    everywhere = [(which, place) for which, entry in enumerate(entries) for place in range(len(list(places(entry))))]
    random.Random(0).shuffle(everywhere)
    loaded = 0
    for seed in range(EDITS):
        rng = random.Random(seed)
        which, place = everywhere[seed % len(everywhere)]
        path, artifact = folders[which]
        entry = copy.deepcopy(entries[which])
        what = mutated(entry, rng, list(places(entry))[place])
        text = json.dumps(entry).encode()
        loaded += require_same_or_refused(path, text, artifact, f"{seed}: {what}")
        (path / "manifest.json").write_text(json.dumps(entries[which]))
    assert 0 < loaded < EDITS / 2  # notes and records may say something else


def test_damaged_bytes(folders: list[tuple[Path, Artifact]]) -> None:
    path, artifact = folders[0]
    content = (path / "manifest.json").read_bytes()
    for seed in range(EDITS // 3):
        require_same_or_refused(path, damaged(content, random.Random(seed)), artifact, f"seed {seed}")
    (path / "manifest.json").write_bytes(content)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"error_bound": NaN}',
        '{"error_bound": ' + "9" * 10_000 + "}",
        '{"name": "\\ud800"}',
        "\x00",
        "",
    ],
    ids=lambda text: text[:20],
)
def test_texts_that_are_no_json(folders: list[tuple[Path, Artifact]], text: str) -> None:
    path, artifact = folders[0]
    content = (path / "manifest.json").read_bytes()
    assert not require_same_or_refused(path, text.encode(), artifact, text[:20])
    (path / "manifest.json").write_bytes(content)


def edited(path: Path, place: tuple[str, ...], value: Any) -> None:
    entry = json.loads((path / "manifest.json").read_text())
    part = entry
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    (path / "manifest.json").write_text(json.dumps(entry))


def line_of(source: str) -> str:
    """Return the line of a Solidity contract that a compilation may edit."""
    (line,) = (line for line in source.splitlines() if line.startswith("    uint256 private constant _MEMORY = "))
    return line


@pytest.mark.parametrize(
    "change",
    [
        lambda line: {line: line.replace(";", "0; // more")},
        lambda line: {line: "    uint256 private constant _MEMORY = 32;"},
        lambda line: {line: "    uint256 private constant _MEMORY = 100000;"},
        lambda line: {line: f"{line[:-1]}0;", "return": "return 0; //"},
        lambda line: {line[:-1]: f"{line[:-1]}0"},
        lambda line: {"": f"{line[:-1]}0;"},
        lambda line: {"pragma": "// pragma"},
    ],
)
def test_edits_that_no_compilation_makes(
    folders: list[tuple[Path, Artifact]], change: Callable[[str], dict[str, str]]
) -> None:
    """The source in a folder is the model's, but for what its own compilation had to change."""
    path, artifact = folders[1]
    content = (path / "manifest.json").read_bytes()
    edited(path, ("toolchain", "edits"), change(line_of(artifact.source)))
    with pytest.raises(ArtifactError, match="does not compile with the settings and edits that are recorded"):
        load_folder(path)
    (path / "manifest.json").write_bytes(content)


@pytest.mark.parametrize("settings", [{"viaIR": False}, {"optimizer": {"enabled": False}}, {"libraries": {}}])
def test_settings_that_no_compilation_chooses(folders: list[tuple[Path, Artifact]], settings: dict[str, Any]) -> None:
    for path, _ in folders:
        content = (path / "manifest.json").read_bytes()
        edited(path, ("toolchain", "settings"), settings)
        with pytest.raises(ArtifactError, match="does not compile with the settings and edits that are recorded"):
            load_folder(path)
        (path / "manifest.json").write_bytes(content)


def test_the_options_are_those_of_the_compiler() -> None:
    kept = Manifest.model_fields["options"].annotation
    assert kept is not None
    assert set(kept.model_fields) == {field.name for field in dataclasses.fields(Options)}
