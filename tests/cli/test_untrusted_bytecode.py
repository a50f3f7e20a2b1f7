"""A folder whose bytecode is not its source's: each command that would use it says so before it does anything."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml2sc.cli import deploy, update

from .conftest import MakeModel, Run, _runner


@pytest.fixture(params=[pytest.param("vyper", marks=pytest.mark.heavy), "solidity"])
def folder(request: pytest.FixtureRequest, make_model: MakeModel, compile_model: Run, tmp_path: Path) -> Path:
    """Return a folder of an updatable contract, which all three commands take."""
    if request.param == "solidity":
        request.getfixturevalue("solc")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).uniform(-1, 1, (9, 4)).astype(np.float32))
    options = ("--precision", "int8", "--calibrate", tmp_path / "x.npz", "--updatable", "-o", tmp_path / "out")
    assert compile_model(make_model(), "--target", request.param, *options).status == 0
    return tmp_path / "out"


def tamper(folder: Path, *, unreached: bool = False, compiler: str | None = None) -> None:
    """Change a byte of the code, perhaps one that is never run, and all that the manifest says of it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    path = folder / f"{manifest['name']}.bin"
    code = bytearray.fromhex(path.read_text())
    if unreached:
        # the INVALID before solc's metadata; the hash in what Vyper puts after its code
        place = code.rindex(b"\xa2\x64ipfs") - 1 if b"ipfs" in code else code.rindex(b"\x58\x20") + 9
    else:
        place = len(code) // 2
    code[place] ^= 1
    path.write_text(f"{code.hex()}\n")
    manifest["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    if compiler is not None:
        manifest["toolchain"]["compiler"] = compiler
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_it_is_not_used(folder: Path, check_folder: Run, capsys: pytest.CaptureFixture[str]) -> None:
    deploy_folder, update_folder = (_runner(module.main, capsys) for module in (deploy, update))
    nowhere = ("--chain", "http://127.0.0.1:1", "--unlocked", "--yes")
    good = check_folder(folder, "--json")
    assert json.loads(good.out)["bytecode"]["compared"]
    tamper(folder)
    for result in (
        check_folder(folder),
        check_folder(folder, *nowhere[:2], "--address", "0x" + "11" * 20),
        deploy_folder(folder),
        deploy_folder(folder, *nowhere),
        update_folder(folder, *nowhere, "--address", "0x" + "11" * 20, "--rollback"),
    ):
        assert result.status == 4, result
        assert ".bin is not what" in result.err
        assert not result.out
    assert not list(folder.glob("*deployment*"))


def test_another_version_is_no_accusation(folder: Path, check_folder: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said in words and in JSON that nothing was compared; what the contract answers still is."""
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    kind = manifest["toolchain"]["compiler"].split()[0]
    tamper(folder, unreached=True, compiler=f"{kind} 0.0.1")
    said = check_folder(folder)
    assert "NOT compared with the source" in said.out
    told = json.loads(check_folder(folder, "--json").out)["bytecode"]
    assert told["compared"] is False
    assert f"{kind} 0.0.1" in told["text"]
    result = _runner(deploy.main, capsys)(folder, "--json")
    assert result.status == 0
    assert json.loads(result.out)["bytecode"] == told
    assert "warning: the bytecode is NOT compared" in result.err


@pytest.mark.parametrize("folder", ["vyper"], indirect=True)
def test_random_samples_are_others_each_time(folder: Path, check_folder: Run, tmp_path: Path) -> None:
    """Their seed is printed, and gives the same ones again."""
    first, second = (json.loads(check_folder(folder, "--json").out) for _ in range(2))
    assert first["random"]
    assert first["seed"] != second["seed"]
    # errors and gas; gas alone is the same for most samples
    assert {**first, "seed": 0} != {**second, "seed": 0}
    again = check_folder(folder, "--json", "--seed", first["seed"])
    assert json.loads(again.out) == first
    assert f"random, --seed {first['seed']}" in check_folder(folder, "--seed", first["seed"]).out
    for wrong in (("--seed", 1, "--samples", tmp_path / "x.npz"), ("--seed=-1",)):
        assert check_folder(folder, *wrong).status == 2
