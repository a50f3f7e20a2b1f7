"""ml2sc-deploy and ml2sc-check on a node: who pays, what it says, and what a check of an address proves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import ml2sc
from ml2sc.cli import check, deploy
from ml2sc.errors import CheckError
from ml2sc.runtime.chain import EmbeddedChain
from ml2sc.runtime.deploy import code_init, deployment_plan
from ml2sc.runtime.node import RpcChain, anvil
from ml2sc.runtime.prove import prove

pytestmark = pytest.mark.anvil

KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
"""Of anvil's first account: everybody knows it."""


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    with anvil() as url:
        yield url


def model(seed: int) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    first, second = (
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in (("w1", (40, 150)), ("w2", (150, 3)))
    )
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["h"]),
        helper.make_node("Gemm", ["h", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "data",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [first, second],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def built(target: str, toolchain: ml2sc.Toolchain, seed: int = 1) -> ml2sc.Artifact:
    options = {"name": "Data", "precision": "int8", "weights": "data", "input_ranges": ((-1.0, 1.0),)}
    return ml2sc.build(ml2sc.compile(model(seed), target=target, **options), toolchain)


@pytest.fixture(scope="module", params=["solidity", "vyper"])
def artifact(request: pytest.FixtureRequest, toolchain: ml2sc.Toolchain) -> ml2sc.Artifact:
    return built(request.param, toolchain)


def test_deploy_and_check(
    node: str,
    artifact: ml2sc.Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The quoted gas is the gas used; a second run sends nothing; the check proves it; the key is never told."""
    assert len(artifact.data) == 3
    folder = tmp_path / "out"
    ml2sc.write_folder(artifact, folder)
    arguments = [str(folder), "--chain", node]
    assert deploy.main(arguments) == 2  # nobody is named to pay
    monkeypatch.setenv("ML2SC_PRIVATE_KEY", KEY)
    assert deploy.main(arguments) == 2  # nobody to ask
    capsys.readouterr()
    assert deploy.main([*arguments, "--dry-run", "--json"]) == 0
    quoted = json.loads(capsys.readouterr().out)
    assert not (folder / "deployment.json").exists()
    assert deploy.main([*arguments, "--yes", "--json", "-v"]) == 0
    said = capsys.readouterr()
    assert KEY[2:] not in said.out + said.err + (folder / "deployment.json").read_text()
    result = json.loads(said.out)
    assert [t["gas"] for t in result["transactions"]] == [t["gas"] for t in quoted["transactions"]]
    assert [t["address"] for t in result["transactions"]] == [t["creates"] for t in quoted["transactions"]]
    assert result["proof"]["data_bytes"] == sum(map(len, artifact.data))
    assert deploy.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == result
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
    (folder / "deployment.json").unlink()
    arguments[4:4] = [RpcChain(node).rpc.request("eth_accounts")[1]]
    assert deploy.main(arguments) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["proof"] == first["proof"]
    assert second["gas"] == 0


def test_no_proxy(tmp_path: Path, artifact: ml2sc.Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    ml2sc.write_folder(artifact, tmp_path)
    with anvil("prague", "--disable-default-create2-deployer") as url:
        assert deploy.main([str(tmp_path), "--chain", url, "--unlocked", "--create2", "salt", "--yes"]) == 2
    assert "lacks the deterministic-deployment proxy" in capsys.readouterr().err


def test_another_contract_is_told_apart(artifact: ml2sc.Artifact, toolchain: ml2sc.Toolchain) -> None:
    """Code, weights and metadata, each with one byte changed."""
    chain = EmbeddedChain()
    addresses: dict[str, str] = {}
    for step in deployment_plan(artifact).steps:
        addresses[step.name] = chain.deploy(step.build(addresses).data).address
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
