"""The kit for Foundry, with forge itself: it passes untouched, and every mistake planted in it is found."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Folder, Forge, halved, with_another_weight, without_metadata

HEAVY = pytest.mark.heavy
RARE = [pytest.param(form, marks=HEAVY) for form in ("updatable", "codes", "large", "trees")]
FORMS = ["solidity", *(pytest.param(form, marks=HEAVY) for form in ("vyper", "data")), *RARE]
MISTAKES = [pytest.param("a changed weight", marks=HEAVY), "another scale", "an old ABI"]

Project = Callable[[str], Path]


@pytest.fixture(scope="module")
def project(folder: Folder, forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a function that returns a kit in which `forge snapshot --check` has passed once: it runs the tests."""

    @functools.cache
    def tested(form: str) -> Path:
        place = Path(shutil.copytree(folder(form) / "kits" / "foundry", tmp_path_factory.mktemp(form) / "project"))
        done = forge(place, "snapshot", "--check")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "0 failed" in done.stdout
        assert ("testFuzz_reference" in done.stdout) == (form != "trees")  # of trees no reference is written
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
        with_another_weight(project / "src" / "Class.sol")
    elif mistake == "another scale":
        halved(project / "test" / "vectors.json")
    else:
        path = project / "src" / "IClass.sol"
        path.write_text(path.read_text().replace("predictPacked(bytes calldata x)", "predictPacked(int256 x)"))


@pytest.mark.slow
def test_the_snapshot_is_the_models_gas(project: Project, forge: Forge, tmp_path: Path) -> None:
    """A unit of gas more or less, of which nothing has to be compiled again, is told."""
    spoilt = Path(shutil.copytree(project("solidity"), tmp_path / "project"))
    notes = spoilt / ".gas-snapshot"
    (line,) = (line for line in notes.read_text().splitlines() if "test_gas()" in line)
    gas = int(line.rpartition(" ")[2].rstrip(")"))
    notes.write_text(notes.read_text().replace(line, line.replace(str(gas), str(gas + 1))))
    done = forge(spoilt, "snapshot", "--check", "--match-test", "test_gas")
    assert done.returncode != 0
    assert f'consumed "(gas: {gas})" gas, expected "(gas: {gas + 1})"' in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found(mistake: str, project: Project, forge: Forge, tmp_path: Path) -> None:
    spoilt = Path(shutil.copytree(project("solidity"), tmp_path / "project"))
    plant(spoilt, mistake)
    done = forge(spoilt, "test")
    assert done.returncode != 0
    assert ("[FAIL" in done.stdout) == (mistake != "an old ABI"), done.stdout + done.stderr
