"""The kit for Foundry, with forge itself: it passes untouched, and every mistake planted in it is found."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Folder, Forge, without_metadata

HEAVY = pytest.mark.heavy
FORMS = ["solidity", "vyper", pytest.param("data", marks=HEAVY), pytest.param("updatable", marks=HEAVY)]
MISTAKES = [pytest.param("a changed weight", marks=HEAVY), "another scale", "an old ABI"]

Project = Callable[[str], Path]


@pytest.fixture(scope="module")
def project(folder: Folder, forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a function that returns a kit in which `forge test` has passed, once."""

    @functools.cache
    def tested(form: str) -> Path:
        place = Path(shutil.copytree(folder(form) / "kits" / "foundry", tmp_path_factory.mktemp(form) / "project"))
        done = forge(place, "test", "-v")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "0 failed" in done.stdout
        assert "testFuzz_reference" in done.stdout
        return place

    return tested


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_passes_untouched(form: str, folder: Folder, project: Project) -> None:
    out, place = folder(form), project(form)
    if form != "vyper":
        made = json.loads((place / "out" / "Class.sol" / "Class.json").read_text())
        ours = bytes.fromhex((out / "Class.bin").read_text())
        theirs = bytes.fromhex(made["bytecode"]["object"].removeprefix("0x"))
        assert without_metadata(theirs) == without_metadata(ours)


def plant(project: Path, mistake: str) -> None:
    """Make a mistake in a project, as somebody's hand, or another version of a model, might."""
    if mistake == "a changed weight":
        path = project / "src" / "Class.sol"
        text = path.read_text()
        place = text.index("0x", text.index("function _", text.index("// Layers")))
        digit = text[place + 20]
        path.write_text(text[: place + 20] + ("1" if digit != "1" else "2") + text[place + 21 :])
    elif mistake == "another scale":
        path = project / "test" / "vectors.json"
        vectors = json.loads(path.read_text())
        for sample in vectors["samples"]:
            sample["packed"] = "0x" + bytes(b // 2 for b in bytes.fromhex(sample["packed"][2:])).hex()
        path.write_text(json.dumps(vectors))
    else:
        path = project / "src" / "IClass.sol"
        path.write_text(path.read_text().replace("predictPacked(bytes calldata x)", "predictPacked(int256 x)"))


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found(mistake: str, project: Project, forge: Forge, tmp_path: Path) -> None:
    spoilt = Path(shutil.copytree(project("solidity"), tmp_path / "project"))
    plant(spoilt, mistake)
    done = forge(spoilt, "test")
    assert done.returncode != 0
    assert ("[FAIL" in done.stdout) == (mistake != "an old ABI"), done.stdout + done.stderr
