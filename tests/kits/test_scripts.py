"""The kits for TypeScript and Python: types, samples, a deployed contract, and planted mistakes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.node import node, node_modules

from ml2sc.folder import load_folder
from ml2sc.runtime.deploy import deployment_plan
from ml2sc.runtime.node import anvil
from ml2sc.runtime.rpc import Rpc

from .conftest import Folder


def run(command: list[str], place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment}
    return subprocess.run(command, cwd=place, check=False, capture_output=True, text=True, env=variables)


def kit(folder: Folder, name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder("solidity") / "kits" / name, tmp_path / name))


def test_typescript(folder: Folder, tmp_path: Path) -> None:
    project = kit(folder, "ts", tmp_path)
    (project / "node_modules").symlink_to(node_modules())
    done = run([node(), "node_modules/typescript/bin/tsc", "--noEmit"], project)
    assert done.returncode == 0, done.stdout
    assert run([node(), "--test"], project).returncode == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"scale": "', '"scale": "3'),
        ('"name": "classify"', '"name": "classified"'),
        ('export const bytecode =\n  "0x60', 'export const bytecode =\n  "0x61'),
    ],
)
def test_mistakes_in_javascript_are_found(old: str, new: str, folder: Folder, tmp_path: Path) -> None:
    project = kit(folder, "ts", tmp_path)
    path = project / "Class.js"
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    done = run([node(), "--test"], project)
    assert "# fail 1" in done.stdout


def test_python(folder: Folder, tmp_path: Path) -> None:
    project = kit(folder, "python", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    assert run(command, project).returncode == 0
    interface = (project / "interface.json").read_text()
    (project / "interface.json").write_text(interface.replace('"scale": "', '"scale": "3'))
    assert run(command, project).returncode == 1


@pytest.mark.anvil
def test_a_deployed_contract_is_read(folder: Folder, tmp_path: Path) -> None:
    artifact = load_folder(folder("solidity"))
    sample = json.loads((folder("solidity") / "vectors.json").read_text())["samples"][2]
    with anvil() as url:
        rpc = Rpc(url)
        sender = rpc.request("eth_accounts")[0]
        (step,) = deployment_plan(artifact).steps
        call = step.build({})
        sent = rpc.request("eth_sendTransaction", {"from": sender, "data": f"0x{call.data.hex()}", "gas": "0xf00000"})
        address = rpc.request("eth_getTransactionReceipt", sent)["contractAddress"]
        python = run([sys.executable, "example.py"], kit(folder, "python", tmp_path), RPC_URL=url, ADDRESS=address)
        assert python.returncode == 0, python.stderr
        names = ["low", "middle", "high"]
        assert python.stdout.splitlines()[-1] == f"decision {sample['decision']} {names[int(sample['decision'])]}"
        project = kit(folder, "ts", tmp_path)
        (project / "node_modules").symlink_to(node_modules())
        compiler = [node(), "node_modules/typescript/bin/tsc", "--outDir", "built"]
        assert run(compiler, project).returncode == 0
        script = run([node(), "built/example.js"], project, RPC_URL=url, ADDRESS=address)
        assert script.returncode == 0, script.stderr
        assert f"decision {sample['decision']}n {names[int(sample['decision'])]}" in script.stdout
        wrong = run([node(), "built/example.js"], project, RPC_URL=url, ADDRESS="0x" + "22" * 20)
        assert wrong.returncode != 0
