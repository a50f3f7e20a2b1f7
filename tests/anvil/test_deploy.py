"""ml2sc-deploy and ml2sc-check on a node: who pays, what it says, and what a check of an address proves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from eth_typing import HexStr
from eth_utils.crypto import keccak
from support.bad_day import forward, proxy
from support.mined import mined
from web3.utils.address import get_create2_address

import ml2sc
from ml2sc.backends.interface import data_contract_init
from ml2sc.cli import check, compile, deploy  # noqa: A004
from ml2sc.errors import CheckError
from ml2sc.runtime.chain import CREATE2_PROXY, PROXY_CODE, EmbeddedChain
from ml2sc.runtime.deploy import code_init, deployment_plan, holder
from ml2sc.runtime.node import RpcChain, anvil, to_hex
from ml2sc.runtime.prove import prove
from ml2sc.runtime.rpc import Rpc

pytestmark = pytest.mark.anvil

KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
"""Of anvil's first account: everybody knows it."""


def test_deploy_and_check(
    node: str,
    artifact: ml2sc.Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The quoted gas is the gas used; a second run sends nothing; the check proves it; the key is never told."""
    assert len(artifact.data) == 2
    folder = tmp_path / "out"
    ml2sc.write_folder(artifact, folder)
    arguments = [str(folder), "--chain", node]
    assert deploy.main(arguments) == 2  # nobody is named to pay
    monkeypatch.setenv("ML2SC_PRIVATE_KEY", KEY)
    assert deploy.main(arguments) == 2  # nobody to ask
    capsys.readouterr()
    assert deploy.main([*arguments, "--dry-run", "--json"]) == 0
    quoted = json.loads(capsys.readouterr().out)
    assert not (folder / "deployments" / "31337.json").exists()
    assert deploy.main([*arguments, "--yes", "--json", "-v"]) == 0
    said = capsys.readouterr()
    assert KEY[2:] not in said.out + said.err + (folder / "deployments" / "31337.json").read_text()
    result = json.loads(said.out)
    assert [t["gas"] for t in result["transactions"]] == [t["gas"] for t in quoted["transactions"]]
    assert [t["address"] for t in result["transactions"]] == [t["creates"] for t in quoted["transactions"]]
    assert result["proof"]["data_bytes"] == sum(map(len, artifact.data))
    assert deploy.main([*arguments, "--json"]) == 0
    assert result["sent"] == 3
    assert json.loads(capsys.readouterr().out) == {**result, "sent": 0}
    assert deploy.main(arguments) == 0
    said = capsys.readouterr().out
    assert "Data was deployed before" in said
    assert "nothing now" in said
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).uniform(-1, 1, (2, 40)).astype(np.float32))
    assert check.main([*arguments, "--samples", str(tmp_path / "x.npz"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bit_exact"]
    assert report["proof"]["address"] == result["proof"]["address"]


def test_create2(node: str, artifact: ml2sc.Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The addresses do not depend on the account; what is there already is not deployed again."""
    folder = tmp_path / "out"
    ml2sc.write_folder(artifact, folder)
    arguments = [str(folder), "--chain", node, "--unlocked", "--create2", "salt", "--yes", "--json"]
    assert deploy.main(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    (folder / "deployments" / "31337.json").unlink()
    arguments[4:4] = [RpcChain(node).rpc.request("eth_accounts")[1]]
    assert deploy.main(arguments) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["proof"] == first["proof"]
    assert second["gas"] == 0


@pytest.mark.parametrize("artifact", ["vyper"], indirect=True)
def test_create2_elsewhere(
    artifact: ml2sc.Artifact, model: onnx.ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another machine that compiles the same model, another chain, account and nonce: the same addresses."""
    ml2sc.write_folder(artifact, tmp_path / "here")
    onnx.save(model, tmp_path / "model.onnx")
    options = ["--target", "vyper", "--precision", "w8a16", "--weights", "data", "--input-range", "-1,1"]
    compile_there = [sys.executable, "-m", "ml2sc.cli.compile", "model.onnx", *options, "--name", "Data", "-o", "there"]
    subprocess.run(compile_there, cwd=tmp_path, check=True, env=os.environ | {"PYTHONHASHSEED": "5"})

    def result(folder: str, url: str, *account: str) -> dict[str, Any]:
        arguments = [str(tmp_path / folder), "--chain", url, "--unlocked", *account, "--create2", "elsewhere"]
        assert deploy.main([*arguments, "--yes", "--json"]) == 0
        return dict(json.loads(capsys.readouterr().out))

    with anvil() as url:
        here = result("here", url)
    with anvil("prague", "--chain-id", "1337", "--mnemonic-random") as url:
        rpc = Rpc(url)
        accounts = rpc.request("eth_accounts")
        mined(rpc, {"from": accounts[3], "to": accounts[0]})
        there = result("there", url, accounts[3])
    assert here["sender"] != there["sender"]
    assert here["proof"] == there["proof"]
    assert here["gas"] == there["gas"] > 0
    init_code = [data_contract_init(data) for data in artifact.data]
    expected = [
        get_create2_address(CREATE2_PROXY, HexStr(f"0x{salt:064x}"), HexStr(f"0x{init.hex()}"))
        for salt, init in enumerate(init_code)
    ]
    assert here["proof"]["data_addresses"] == expected
    init, salt = deployment_plan(artifact).steps[-1].build({}).data, keccak(text="elsewhere")
    whole = get_create2_address(CREATE2_PROXY, HexStr(f"0x{salt.hex()}"), HexStr(f"0x{init.hex()}"))
    assert here["proof"]["address"] == whole


@pytest.mark.parametrize("artifact", ["solidity"], indirect=True)
def test_who_has_only_the_model(
    node: str, artifact: ml2sc.Artifact, model: onnx.ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands of docs/security.md: compile the model again, then check the address."""
    ml2sc.write_folder(artifact, tmp_path / "theirs")
    deployment = ["--chain", node, "--unlocked", "--yes", "--json"]
    assert deploy.main([str(tmp_path / "theirs"), *deployment]) == 0
    address = json.loads(capsys.readouterr().out)["proof"]["address"]
    onnx.save(model, tmp_path / "model.onnx")
    options = ["--target", artifact.target, "--precision", "w8a16", "--weights", "data", "--input-range", "-1,1"]
    rebuilt = [str(tmp_path / "model.onnx"), *options, "--name", "Data", "-o", str(tmp_path / "mine")]
    assert compile.main(rebuilt) == 0
    capsys.readouterr()
    checked = ["--chain", node, "--address", address, "--json"]
    assert check.main([str(tmp_path / "mine"), *checked]) == 0
    assert not json.loads(capsys.readouterr().out)["proof"]["metadata_differs"]


@pytest.mark.parametrize("artifact", ["vyper"], indirect=True)
@pytest.mark.parametrize("lie", ["code", "no code", "weights"])
def test_node_that_lies(artifact: ml2sc.Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str], lie: str) -> None:
    """After the last transaction code and weights are read back: what differs fails the deployment, and is named."""
    ml2sc.write_folder(artifact, tmp_path)
    asked: list[str] = []

    def hook(number: int, method: str, ask: Callable[[], bytes]) -> bytes:
        answer = ask()
        if method != "eth_getCode":
            return answer
        told = json.loads(answer)
        if told["result"] in ("0x", to_hex(PROXY_CODE)):  # it lies of what was deployed
            return answer
        asked.append(told["result"])
        if lie == "no code":
            told["result"] = "0x"
        elif (told["result"][4:] in [data.hex() for data in artifact.data]) == (lie == "weights"):
            code, middle = told["result"], len(told["result"]) // 2
            told["result"] = code[:middle] + ("1" if code[middle] == "0" else "0") + code[middle + 1 :]
        return json.dumps(told).encode()

    with anvil() as url, proxy(url) as lying:
        lying.hook = hook
        arguments = [str(tmp_path), "--chain", lying.url, "--unlocked", "--yes"]
        status = deploy.main(arguments)
        said = capsys.readouterr()
        assert (status, said.out) == ((1, "") if lie == "no code" else (4, ""))
        assert {
            "code": "is not this artifact's: 1 of",
            "no code": "there is no contract at",
            "weights": "does not hold this artifact's weights: 1 of",
        }[lie] in said.err
        assert "proved" not in json.loads((tmp_path / "deployments" / "31337.json").read_text())["result"]
        assert asked
        lying.hook = forward
        assert deploy.main(arguments) == 0


def test_no_proxy(tmp_path: Path, artifact: ml2sc.Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    ml2sc.write_folder(artifact, tmp_path)
    with anvil("prague", "--disable-default-create2-deployer") as url:
        assert deploy.main([str(tmp_path), "--chain", url, "--unlocked", "--create2", "salt", "--yes"]) == 2
    assert "lacks the deterministic-deployment proxy" in capsys.readouterr().err


def test_own_proxy(tmp_path: Path, artifact: ml2sc.Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    """A chain without the proxy gets one of the contract's own; stopped half-way, the next run goes on with it."""
    ml2sc.write_folder(artifact, tmp_path)
    with anvil("prague", "--disable-default-create2-deployer") as url:
        arguments = [str(tmp_path), "--chain", url, "--unlocked", "--yes", "--json"]
        assert deploy.main([*arguments, "--dry-run"]) == 0
        quoted = json.loads(capsys.readouterr().out)
        with proxy(url) as failing:
            sent: list[str] = []

            def hook(number: int, method: str, ask: Callable[[], bytes]) -> bytes:
                sent.extend([method] if method == "eth_sendRawTransaction" else [])
                if len(sent) > 2:
                    return json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": "no"}}).encode()
                return ask()

            failing.hook = hook
            arguments[2] = failing.url
            assert deploy.main(arguments) != 0
        capsys.readouterr()
        arguments[2] = url
        assert deploy.main(arguments) == 0
        done = json.loads(capsys.readouterr().out)
        assert [t["step"] for t in done["transactions"]] == ["factory", "weights 0", "weights 1", "contract"]
        assert [t["gas"] for t in done["transactions"]] == [t["gas"] for t in quoted["transactions"]]
        assert [t["address"] for t in done["transactions"]] == [t["creates"] for t in quoted["transactions"]]
        assert Rpc(url).quantity("eth_getTransactionCount", done["sender"], "latest") == 4


def test_somebody_was_first(tmp_path: Path, artifact: ml2sc.Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    """A stranger creates the data contracts: they are what they must be, and nobody pays for them again."""
    ml2sc.write_folder(artifact, tmp_path)
    with anvil() as url:
        rpc = Rpc(url)
        me, stranger = rpc.request("eth_accounts")[:2]
        for index, data in enumerate(artifact.data):
            call = holder(index, b"\x00" + data)
            gas = hex(10_000_000)
            mined(rpc, {"from": stranger, "to": call.to, "data": to_hex(call.data), "gas": gas})
        assert deploy.main([str(tmp_path), "--chain", url, "--unlocked", me, "--yes", "--json"]) == 0
        done = json.loads(capsys.readouterr().out)
        assert [t["gas"] > 0 for t in done["transactions"]] == [False, False, True]
        assert done["proof"]["data_bytes"] == sum(map(len, artifact.data))


def test_another_contract_is_told_apart(artifact: ml2sc.Artifact, toolchain: ml2sc.Toolchain) -> None:
    """Code, weights and metadata, each with one byte changed."""
    chain = EmbeddedChain()
    addresses: dict[str, str] = {}
    for step in deployment_plan(artifact).steps:
        call = step.build(addresses)
        if call.to is None:
            addresses[step.name] = chain.deploy(call.data).address
        else:
            chain.transact(call.to, call.data)
            addresses[step.name] = str(call.creates)
    right = addresses["contract"]
    assert not prove(artifact, chain, right).metadata_differs
    code = bytearray(chain.code(right))
    code[len(code) // 2] ^= 1
    with pytest.raises(CheckError, match=r"1 of .* bytes differ"):
        prove(artifact, chain, chain.deploy(code_init(bytes(code))).address)
    with pytest.raises(CheckError, match="bytes instead of"):
        prove(artifact, chain, chain.deploy(code_init(bytes(code) + b"\x00")).address)
    other = chain.deploy(code_init(b"\x00" + bytes(artifact.data[0][:-1]) + bytes([artifact.data[0][-1] ^ 1]))).address
    swapped = chain.code(right).replace(bytes.fromhex(addresses["weights 0"][2:]), bytes.fromhex(other[2:]))
    with pytest.raises(CheckError, match=r"data contract 0 at .* does not hold"):
        prove(artifact, chain, chain.deploy(code_init(swapped)).address)
    if artifact.target == "solidity":
        metadata = bytearray(chain.code(right))
        metadata[-30] ^= 1
        assert prove(artifact, chain, chain.deploy(code_init(bytes(metadata))).address).metadata_differs
