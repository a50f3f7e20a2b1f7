"""The kits for TypeScript and Python: types, samples, a deployed contract, and planted mistakes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import forking
from support.node import node, node_modules, wagmi_modules

from ml2sc.folder import load_folder
from ml2sc.runtime.deploy import deploy
from ml2sc.runtime.node import RpcChain, anvil

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


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ('"scale": "', '"scale": "3'),
        ('"name": "predictPacked"', '"name": "predicted"'),
        ('"stateMutability": "view"', '"stateMutability": "pure"'),
        ('"model_hash": "0x', '"model_hash": "0x0'),  # all that the kit has of the weights
    ],
)
def test_python(old: str, new: str, folder: Folder, tmp_path: Path) -> None:
    project = kit(folder, "python", tmp_path)
    path = project / "interface.json"
    path.write_text(path.read_text().replace(old, new))
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # those of these tests take a second
    done = forking.python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project, env=environment)
    assert done.returncode == (1 if old else 0), done.stdout


WAGMI = """\
import { http } from "viem";
import { mainnet } from "viem/chains";
import { createConfig, readContract, type ReadContractParameters } from "@wagmi/core";
import { abi, addresses, modelHash, pack } from "./Class.js";

const config = createConfig({ chains: [mainnet], transports: { [mainnet.id]: http() } });
const address = addresses[mainnet.id] ?? "0x0000000000000000000000000000000000000000";
const asked = { address, abi, functionName: "classifyPacked", args: [pack([1, 2, 3])] } as const satisfies
  ReadContractParameters<typeof abi, "classifyPacked">;
export const decision: bigint = await readContract(config, asked);
export const scores: readonly bigint[] = await readContract(config, { ...asked, functionName: "predictPacked" });
export const hash: `0x${string}` = await readContract(config, { address, abi, functionName: "modelHash" });
export const same: boolean = hash === modelHash;
"""


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("", "", ""), ('"classifyPacked", args', '"classified", args', "TS2"), ("[pack([1, 2, 3])]", "[3n]", "TS2")],
)
def test_wagmis_types(old: str, new: str, said: str, folder: Folder, tmp_path: Path) -> None:
    project = kit(folder, "ts", tmp_path)
    (project / "node_modules").symlink_to(wagmi_modules())
    (project / "wagmi.ts").write_text(WAGMI.replace(old, new))
    done = run([node(), str(node_modules() / "typescript" / "bin" / "tsc"), "--noEmit"], project)
    assert (done.returncode == 0) == (not said), done.stdout
    assert said in done.stdout


@pytest.mark.anvil
def test_a_deployed_contract_is_read(folder: Folder, tmp_path: Path) -> None:
    artifact = load_folder(folder("solidity"))
    sample = json.loads((folder("solidity") / "vectors.json").read_text())["samples"][2]
    with anvil() as url:
        address = deploy(artifact, RpcChain(url, own=True)).address
        environment = {**os.environ, "RPC_URL": url, "ADDRESS": address}
        python = forking.python("example.py", cwd=kit(folder, "python", tmp_path), env=environment)
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
