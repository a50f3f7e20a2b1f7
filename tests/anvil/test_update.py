"""The life of an updatable contract on a node: deployed, updated, rolled back, offered, frozen; by the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.forests import random_attributes, tree_model
from support.updates import built, network, samples

import ml2sc
from ml2sc.cli import check, deploy, update
from ml2sc.runtime.node import RpcChain
from ml2sc.runtime.rpc import Rpc

pytestmark = pytest.mark.anvil

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def first(toolchain: ml2sc.Toolchain) -> ml2sc.Artifact:
    """Return an updatable contract, compiled."""
    return built(network(1), toolchain, {"x": samples(1)}, precision="int8", target="vyper", name="Net")


@pytest.fixture
def folder(first: ml2sc.Artifact, tmp_path: Path) -> Path:
    """Return its folder, with a later model and labelled samples beside it."""
    ml2sc.write_folder(first, tmp_path / "net")
    onnx.save(network(2), tmp_path / "2.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    onnx.save(network(3), tmp_path / "3.onnx")
    onnx.save(network(4, size=5.0), tmp_path / "large.onnx")
    onnx.save(network(5, (6, 7, 3)), tmp_path / "wide.onnx")
    np.savez(tmp_path / "x.npz", x=samples(7), y=np.zeros(20, dtype=np.int64))
    return tmp_path / "net"


@pytest.fixture
def ask(node: str, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Return a function that runs a command and returns what it prints."""

    def run(command: Any, *arguments: object, account: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        own = [] if command is check else ["--yes", "--unlocked", Rpc(node).request("eth_accounts")[account]]
        assert command.main([*map(str, arguments), "--chain", node, "--json", *own]) == 0
        return dict(json.loads(capsys.readouterr().out))

    return run


def test_a_life(folder: Path, ask: Ask, node: str, capsys: pytest.CaptureFixture[str]) -> None:
    beside = folder.parent
    x, second = ["--samples", beside / "x.npz"], beside / "second"
    deployed = ask(deploy, folder)
    assert [t["step"] for t in deployed["transactions"]] == ["contract", "activate"]
    assert deployed["proof"]["update"]["version"] == 1
    assert ask(check, folder, *x)["bit_exact"]

    new = ["--model", beside / "2.onnx", *x]
    assert update.main([str(folder), "--chain", node, "--unlocked", "--dry-run", "--json", *map(str, new)]) == 0
    quoted = json.loads(capsys.readouterr().out)
    updated = ask(update, folder, *new, "-o", second)
    assert [t["gas"] for t in updated["transactions"]] == [t["gas"] for t in quoted["transactions"]]
    assert updated["changes"]["decisions_changed"]["samples"] == 20
    assert updated["proof"]["update"]["version"] == 2
    assert ask(check, second, *x)["bit_exact"]
    assert check.main([str(folder), "--chain", node]) == 4  # these weights are not in use any more
    assert "hash" in capsys.readouterr().err
    assert ask(update, folder, *new, "-o", second)["proof"]["update"]["version"] == 2  # nothing is left to be done

    ask(update, folder, "--rollback")
    assert ask(check, folder, *x)["proof"]["update"]["version"] == 1
    assert update.main([str(folder), "--chain", node, "--yes", "--unlocked", "--rollback"]) == 1
    assert "NoPreviousVersion" in capsys.readouterr().err
    assert ask(update, folder, "--model", beside / "3.onnx", "-o", beside / "third")["proof"]["update"]["version"] == 3

    heir = RpcChain(node).rpc.request("eth_accounts")[1]
    ask(update, beside / "third", "--transfer-ownership", heir)
    assert update.main([str(folder), "--chain", node, "--yes", "--unlocked", "--accept-ownership"]) == 2
    ask(update, folder, "--accept-ownership", account=1)
    assert update.main([str(folder), "--chain", node, "--yes", "--unlocked", "--freeze"]) == 2
    assert "owner" in capsys.readouterr().err
    assert ask(update, folder, "--freeze", account=1)["proof"]["update"]["frozen"]
    assert update.main([str(folder), "--chain", node, "--yes", "--unlocked", heir, "--model", str(new[1])]) == 2
    assert "frozen" in capsys.readouterr().err
    assert ask(check, beside / "third", *x)["bit_exact"]


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore:.*onnxruntime's label")
def test_trees(toolchain: ml2sc.Toolchain, tmp_path: Path, ask: Ask, node: str, capsys: Any) -> None:
    """Trees that fit are sent, and checked with the new folder's code; others are refused before anything is."""
    for seed, depth in ((2, 4), (6, 3), (4, 6)):
        attrs = random_attributes(np.random.default_rng(seed), features=4, trees=4, depth=depth, targets=2)
        onnx.save(tree_model("TreeEnsembleRegressor", 4, attrs | {"n_targets": 2}), tmp_path / f"{seed}.onnx")
    options = {"headroom": 2, "name": "Forest"}
    ml2sc.write_folder(built(str(tmp_path / "2.onnx"), toolchain, **options), tmp_path / "old")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    x, new = ["--samples", tmp_path / "x.npz"], tmp_path / "new"
    ask(deploy, tmp_path / "old")
    assert ask(check, tmp_path / "old", *x)["bit_exact"]
    updated = ask(update, tmp_path / "old", "--model", tmp_path / "6.onnx", *x, "-o", new)
    assert updated["proof"]["update"]["version"] == 2
    assert ask(check, new, *x)["bit_exact"]
    refused = [str(new), "--chain", node, "--yes", "--unlocked", "--model", str(tmp_path / "4.onnx")]
    assert update.main(refused) == 1
    assert "and the contract has" in capsys.readouterr().err


def test_refused(folder: Path, ask: Ask, node: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What does not fit the deployed code is refused, with the layer and the figure, before anything is sent."""
    beside = folder.parent
    ask(deploy, folder)
    for model, words in {"large": ("layer0", "bits", "weights"), "wide": ("layer0", "[6, 5]", "[6, 7]")}.items():
        asked = [str(folder), "--chain", node, "--yes", "--unlocked", "--model", str(beside / f"{model}.onnx")]
        assert update.main(asked) == 1
        said = capsys.readouterr().err
        assert all(word in said for word in words)
    assert sorted(p.name for p in beside.iterdir() if p.is_dir()) == ["net"]


def test_timelock(toolchain: ml2sc.Toolchain, ask: Ask, node: str, tmp_path: Path) -> None:
    """New weights are staged, and put in use after the notice; the first are not delayed."""
    model = network(1, (3, 2))
    artifact = built(model, toolchain, {"x": samples(1, (3, 2))}, precision="int8", timelock=3600)
    ml2sc.write_folder(artifact, tmp_path / "net")
    onnx.save(network(2, (3, 2), size=0.9), tmp_path / "2.onnx")
    assert ask(deploy, tmp_path / "net")["proof"]["update"]["version"] == 1
    again = (update, tmp_path / "net", "--model", tmp_path / "2.onnx", "-o", tmp_path / "second")
    staged = ask(*again)
    assert staged["ready_at"] > RpcChain(node).timestamp() + 3500
    assert ask(*again)["ready_at"] == staged["ready_at"]
    rpc = Rpc(node)
    rpc.request("evm_increaseTime", 3600)
    rpc.request("evm_mine")
    assert ask(*again)["proof"]["update"]["version"] == 2
    assert ask(check, tmp_path / "second")["bit_exact"]
