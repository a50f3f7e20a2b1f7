"""ml2sc-deploy, -check and -update with a node or a folder that is not one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.pretend_chain import ACCOUNT, KEY, PretendChain
from support.updates import built, network, samples

import ml2sc
from ml2sc.cli import check, deploy
from ml2sc.runtime.journal import journal_path, noted_addresses
from ml2sc.runtime.transport import Transport

LOCAL, REMOTE = "http://127.0.0.1:9/", "https://node.example/v3/ACCESSKEY77"

Deploy = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def artifact(toolchain: ml2sc.Toolchain) -> ml2sc.Artifact:
    return built(network(1, (3, 2)), toolchain, {"x": samples(1, (3, 2))}, precision="int8", name="Net")


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> PretendChain:
    return PretendChain()


@pytest.fixture
def run(
    artifact: ml2sc.Artifact,
    chain: PretendChain,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Deploy:
    """Return a function that runs ml2sc-deploy in a folder of the contract."""
    monkeypatch.setattr(Transport, "post", lambda _, body, limit: chain.post(body, limit))
    monkeypatch.setenv("ML2SC_PRIVATE_KEY", KEY)
    ml2sc.write_folder(artifact, tmp_path / "net")

    def run(*arguments: str, command: Callable[[list[str]], int] = deploy.main) -> tuple[int, str, str]:
        capsys.readouterr()
        return command([str(tmp_path / "net"), *arguments]), *capsys.readouterr()

    return run


def test_yes_needs_the_chain(run: Deploy, chain: PretendChain) -> None:
    """Who says yes beforehand says for which chain; for a development chain on this machine it may be left open."""
    chain.chain_id = 1
    status, out, err = run("--chain", REMOTE, "--yes")
    assert (status, out) == (2, "")
    assert "--yes needs --chain-id: the node at node.example says it is on chain 1" in err
    assert "give --chain-id 1 if that is the chain" in err
    assert not chain.mined
    assert run("--chain", REMOTE, "--yes", "--chain-id", "5")[0] == 2
    assert not chain.mined
    assert run("--chain", REMOTE, "--dry-run")[0] == 0
    assert run("--chain", REMOTE, "--yes", "--chain-id", "1")[0] == 0
    assert len(chain.mined) == 2
    assert run("--chain", LOCAL, "--yes")[0] == 2  # a tunnel may lead anywhere


def test_legacy_chain(run: Deploy, chain: PretendChain) -> None:
    """The dry run says it; what is sent is a legacy transaction."""
    chain.legacy = True
    status, out, _ = run("--chain", LOCAL, "--dry-run")
    assert status == 0
    assert "at a gas price of 2 gwei (a chain without EIP-1559: legacy transactions)" in out
    assert run("--chain", LOCAL, "--yes")[0] == 0
    assert [signed.legacy for signed, _ in chain.mined] == [True, True]


def test_says_what_was_sent(run: Deploy, chain: PretendChain) -> None:
    status, out, _ = run("--chain", LOCAL, "--yes")
    assert status == 0
    assert "Net is deployed" in out
    assert "2 transactions now" in out
    status, out, _ = run("--chain", LOCAL, "--yes")
    assert status == 0
    assert "Net was deployed before" in out
    assert "nothing now: all was done before" in out
    assert json.loads(run("--chain", LOCAL, "--yes", "--json")[1])["sent"] == 0
    assert len(chain.mined) == 2


def test_planted_journal(run: Deploy, chain: PretendChain, tmp_path: Path) -> None:
    """Another's contract of the same code and weights, and a journal that says it is ours."""
    assert run("--chain", LOCAL, "--yes")[0] == 0
    path = tmp_path / "net" / "deployments" / "31337.json"
    content = json.loads(path.read_text())
    for held in content["entries"].values():
        held |= {"nonce": None, "attempts": [], "mined": "0x" + "ab" * 32}
    path.write_text(json.dumps(content))
    for more in ((), ("--dry-run",)):
        status, out, err = run("--chain", LOCAL, "--yes", *more)
        assert (status, out) == (1, "")
        assert "says that contract is done, and names no transaction that did it" in err
    assert len(chain.mined) == 2


def test_each_chain_has_its_journal(run: Deploy, chain: PretendChain, tmp_path: Path) -> None:
    """A development chain first and another one later simply works, and both are known."""
    folder = tmp_path / "net"
    assert run("--chain", LOCAL, "--yes")[0] == 0
    first = (folder / "deployments" / "31337.json").read_bytes()
    chain.chain_id = 5
    status, _, err = run("--chain", LOCAL, "--dry-run")
    assert status == 0, err
    assert set(noted_addresses(folder)) == {31337}
    assert journal_path(folder, 5) == folder / "deployments" / "5.json"
    (folder / "deployments" / "31337.json").rename(folder / "deployment.json")
    assert journal_path(folder, 31337) == folder / "deployment.json"  # an earlier version's
    assert set(noted_addresses(folder)) == {31337}
    assert (folder / "deployment.json").read_bytes() == first


def test_a_link_in_place_of_the_journals(run: Deploy, tmp_path: Path) -> None:
    """Who hands over a folder does not have us write elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "net" / "deployments").symlink_to(tmp_path / "elsewhere")
    status, out, err = run("--chain", LOCAL, "--yes")
    assert (status, out) == (1, "")
    assert "symbolic link" in err
    assert not list((tmp_path / "elsewhere").iterdir())


def test_owner(run: Deploy, chain: PretendChain, tmp_path: Path) -> None:
    """A contract that has changed hands since is not said to be deployed for its first owner."""
    assert run("--chain", LOCAL, "--yes")[0] == 0
    owner = f"{ACCOUNT[2:].lower():0>64}"

    def spoil(method: str, response: dict[str, str]) -> dict[str, str]:
        return (
            {**response, "result": "0x" + "66".rjust(64, "0")} if response.get("result") == f"0x{owner}" else response
        )

    chain.spoil = spoil
    status, out, err = run("--chain", LOCAL, "--yes")
    assert (status, out) == (4, "")
    assert f"belongs to 0x{'66'.rjust(40, '0')}, not to {ACCOUNT}" in err


def test_noted_address_is_named(run: Deploy, chain: PretendChain, tmp_path: Path) -> None:
    """A check says where it has the address from; and it is of the chain that the note is of, or none."""
    assert run("--chain", LOCAL, "--yes")[0] == 0
    status, _, err = run("--chain", LOCAL, command=check.main)
    assert status == 0
    assert f"put there by {ACCOUNT}: so says" in err
    assert "which whoever made the folder wrote" in err
    chain.chain_id = 5
    status, out, err = run("--chain", LOCAL, command=check.main)
    assert (status, out) == (1, "")
    assert "is of another chain (31337) than the node's (5)" in err
