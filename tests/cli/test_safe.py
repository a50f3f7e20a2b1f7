"""`--safe`: a deployment and updates written for a Safe, instead of being sent."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.pretend_chain import ACCOUNT, KEY, PretendChain
from support.updates import built, network, samples

import ml2sc
from ml2sc.cli import deploy, update
from ml2sc.cli.sending import warn_of_chain
from ml2sc.folder import write_folder
from ml2sc.ir.chains import PROFILES
from ml2sc.runtime import safe
from ml2sc.runtime.chain import CREATE2_PROXY, RevmChain, revm_is_installed
from ml2sc.runtime.safe import read_batch
from ml2sc.runtime.transport import Transport

pytestmark = pytest.mark.skipif(not revm_is_installed(), reason="no pyrevm")

NODE = "http://127.0.0.1:9/"
SAFE = "0xA77DE01e157f9f57C7c4A326eeE9C4874D0598b6"
DATA = {"x": samples(1)}

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def fixed(toolchain: ml2sc.Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a contract with a data contract."""
    artifact = ml2sc.compile(network(1), calibration=DATA, precision="int8", weights="data", name="Net")
    path = tmp_path_factory.mktemp("fixed") / "net"
    write_folder(ml2sc.build(artifact, toolchain), path)
    return path


@pytest.fixture(scope="module")
def owned(toolchain: ml2sc.Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an updatable contract with a timelock."""
    path = tmp_path_factory.mktemp("owned") / "net"
    write_folder(built(network(1), toolchain, DATA, precision="int8", name="Net", timelock=600), path)
    return path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    def run(main: Callable[[list[str]], int], *arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        return main([str(a) for a in arguments]), *capsys.readouterr()

    return run


def carried_out(path: Path, chain: RevmChain) -> None:
    """Do what a batch says, as the Safe."""
    chain.account = SAFE
    for call in read_batch(path.read_bytes()).calls:
        chain.transact(str(call.to), call.data)


def test_a_deployment(fixed: Path, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "batch.json"
    status, text, err = command(deploy.main, fixed, "--safe", out, "--chain-id", 1)
    assert status == 0, err
    assert "weights 0, contract; about" in text
    assert "load it in the Safe's Transaction Builder on chain 1" in text
    address = text.split("address")[1].split(",")[0].strip()
    batch = read_batch(out.read_bytes())
    assert (batch.chain_id, {call.to for call in batch.calls}) == (1, {CREATE2_PROXY})
    chain = RevmChain()
    carried_out(out, chain)
    assert chain.code(address)


def test_what_means_nothing(fixed: Path, owned: Path, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "batch.json"
    for arguments, text in (
        ((fixed, "--safe", out), "for which chain"),
        ((fixed, "--safe", out, "--chain-id", 1, "--dry-run"), "sends nothing anyway"),
        ((fixed, "--safe-address", SAFE), "of use with --safe FILE only"),
        ((owned, "--safe", out, "--chain-id", 1), "belongs to the Safe: which is it?"),
        ((fixed, "--chain", "sepolia"), "sepolia is a chain, and a node of it is named by its URL"),
        ((fixed, "--chain", "11155111"), "11155111 is a chain"),
    ):
        status, _, err = command(deploy.main, *arguments)
        assert status == 2
        assert text in err
    assert not out.exists()


def test_what_does_not_stand_its_check_is_not_left(
    fixed: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that misses a call does not make the contract: its constructor reverts."""
    whole = safe.Batch.to_json

    def cut(self: safe.Batch, created: int) -> dict[str, Any]:
        return whole(safe.Batch(self.chain_id, self.safe, self.name, self.calls[1:]), created)

    monkeypatch.setattr(safe.Batch, "to_json", cut)
    out = tmp_path / "batch.json"
    status, _, err = command(deploy.main, fixed, "--safe", out, "--chain-id", 1)
    assert status != 0
    assert "reverted" in err
    assert not out.exists()


def test_a_life(
    owned: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toolchain: ml2sc.Toolchain
) -> None:
    """An updatable contract is the Safe's from the start; an update with a timelock is two batches."""
    node = PretendChain()
    monkeypatch.setattr(Transport, "post", lambda _, body, limit: node.post(body, limit))
    first = tmp_path / "first.json"
    options = ("--safe", first, "--safe-address", SAFE, "--chain", NODE, "--json")
    status, text, _ = command(deploy.main, owned, *options)
    assert status == 0
    said, chain = json.loads(text), node._chain
    assert said["calls"] == [["contract", "activate"]]
    carried_out(first, chain)
    (tmp_path / "new.onnx").write_bytes(network(2).SerializeToString())
    second = tmp_path / "second.json"
    arguments = (owned, "--chain", NODE, "--address", said["address"], "--safe", second, "--json")
    status, text, _ = command(update.main, *arguments, "--model", tmp_path / "new.onnx", "-o", tmp_path / "newer")
    assert status == 0
    found = json.loads(text)
    assert found["calls"] == [["stage 0"], ["activate"]]
    assert [Path(file).name for file in found["files"]] == ["second-1.json", "second-2.json"]
    carried_out(tmp_path / "second-1.json", chain)
    chain.time += 700
    carried_out(tmp_path / "second-2.json", chain)
    new = ml2sc.load_folder(tmp_path / "newer")
    from ml2sc.runtime.prove import prove

    assert prove(new, chain, said["address"]).update.version == 2  # type: ignore[union-attr]
    for option in ("--rollback", "--freeze"):
        status, text, err = command(update.main, tmp_path / "newer", *arguments[1:], option)
        assert status == 0, err
        second.unlink()
    status, _, err = command(update.main, tmp_path / "newer", *arguments[1:], "--safe-address", ACCOUNT, "--freeze")
    assert status == 2
    assert f"the contract's owner is {SAFE}" in err
    assert KEY not in err


def test_another_chain_than_it_is_for(fixed: Path, command: Command, tmp_path: Path) -> None:
    """Whoever deploys for one chain on another is warned; development chains are any chain's rehearsal."""
    arguments = ("--safe", tmp_path / "batch.json", "--chain-profile", "monad")
    status, _, err = command(deploy.main, fixed, *arguments, "--chain-id", 1)
    assert status == 0
    assert "Net is for monad, and this is chain 1, which is ethereum's: its limits and prices may be others" in err
    artifact = ml2sc.load_folder(fixed)

    def warned(profile: dict[str, Any], chain_id: int) -> bool:
        options = {**artifact.manifest["options"], "chain_profile": profile}
        other = dataclasses.replace(artifact, manifest={**artifact.manifest, "options": options})
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            warn_of_chain(other, chain_id)
        return bool(found)

    monad, mine = PROFILES["monad"].to_json(), {**PROFILES["base"].to_json(), "name": "mine", "chain_ids": []}
    cases = [(monad, 143), (monad, 10_143), (monad, 31_337), (monad, 999), (monad, 1), (mine, 999), (mine, 1)]
    assert [warned(*case) for case in cases] == [False, False, False, True, True, False, True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_chain(artifact, 143)
