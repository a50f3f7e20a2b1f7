"""The kit for Hardhat 3, with Hardhat itself, on a Node that it takes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.node import hardhat_modules, modern_node

from ml2sc.errors import UsageError
from ml2sc.folder import load_folder
from ml2sc.kits import write_kits

from .conftest import Folder, halved, with_another_weight, without_metadata

HEAVY = pytest.mark.heavy
RARE = [pytest.param(form, marks=HEAVY) for form in ("updatable", "codes", "large", "trees")]
FORMS = ["data", pytest.param("solidity", marks=HEAVY), *RARE]


def run(project: Path, solc: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    node, modules = modern_node(), hardhat_modules()
    if not (project / "node_modules").exists():
        (project / "node_modules").symlink_to(modules)
    environment = {
        **os.environ,
        "PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(project.parent),
        "SOLC": str(solc),
        "NO_COLOR": "1",
    }
    command = [str(node), "node_modules/hardhat/dist/src/cli.js", *arguments]
    return subprocess.run(command, cwd=project, check=False, capture_output=True, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_passes_untouched(form: str, folder: Folder, solc: Path, tmp_path: Path) -> None:
    out = folder(form)
    project = Path(shutil.copytree(out / "kits" / "hardhat", tmp_path / "project"))
    done = run(project, solc, "test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passing" in done.stdout
    made = json.loads((project / "artifacts" / "contracts" / "Class.sol" / "Class.json").read_text())
    theirs, ours = bytes.fromhex(made["bytecode"][2:]), bytes.fromhex((out / "Class.bin").read_text())
    assert without_metadata(theirs) == without_metadata(ours)


@pytest.mark.slow
@pytest.mark.heavy
@pytest.mark.parametrize("mistake", ["a changed weight", "changed data", "another scale", "an old ABI"])
def test_mistakes_are_found(mistake: str, folder: Folder, solc: Path, tmp_path: Path) -> None:
    form = "data" if mistake == "changed data" else "solidity"
    project = Path(shutil.copytree(folder(form) / "kits" / "hardhat", tmp_path / "project"))
    source, data = project / "contracts" / "Class.sol", project / "data" / "holder0.bin"
    if mistake == "a changed weight":
        with_another_weight(source)
    elif mistake == "changed data":
        data.write_bytes(data.read_bytes()[:-1] + b"\x55")
    elif mistake == "another scale":
        halved(project / "vectors.json")
    else:
        source.write_text(source.read_text().replace("function predictPacked(", "function predictBytes("))
    done = run(project, solc, "test")
    assert done.returncode != 0
    assert " failing" in done.stdout + done.stderr


def test_vyper_is_refused(folder: Folder) -> None:
    out = folder("vyper")
    with pytest.raises(UsageError, match=r"hardhat is for contracts in solidity; Class is in vyper"):
        write_kits(["hardhat"], load_folder(out), out, {})
