"""docs/deploy-to-a-testnet.md: its commands, as they stand there, on a local chain and then on one called Sepolia."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from eth_account import Account
from support.networks import dense
from support.terminal import terminal

from ml2sc.runtime.chain import CREATE2_PROXY
from ml2sc.runtime.node import anvil
from ml2sc.runtime.rpc import Rpc
from ml2sc.runtime.safe import read_batch

pytestmark = pytest.mark.anvil

PAGE = (Path(__file__).parents[2] / "docs" / "deploy-to-a-testnet.md").read_text(encoding="utf-8")
BLOCKS = [
    [line.partition("  #")[0].strip() for line in block.splitlines()]
    for block in re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
]
COMPILE, REHEARSE, QUOTE, DEPLOY, CHECK = BLOCKS[0]
SAFE = BLOCKS[1][0]
LOCAL, SEPOLIA = 31_337, 11_155_111
PASSPHRASE = "for testing only"


class Said(NamedTuple):
    """What a command printed: on stdout, and on the terminal at which somebody answered yes."""

    out: str
    screen: str


Type = Callable[..., Said]


@pytest.fixture
def type_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Return what types a command of the page in a folder with all that the page wants there."""
    draw = np.random.default_rng(5)
    onnx.save(dense(6, 5, 3), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=draw.normal(size=(50, 6)).astype(np.float32))
    np.savez(tmp_path / "samples.npz", x=draw.normal(size=(5, 6)).astype(np.float32))
    key = Account.create()
    (tmp_path / "key.json").write_text(json.dumps(Account.encrypt(key.key, PASSPHRASE, kdf="pbkdf2", iterations=2)))
    monkeypatch.setenv("ML2SC_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("ACCOUNT", key.address)
    monkeypatch.chdir(tmp_path)

    def run(command: str, expected: int = 0) -> Said:
        name, *arguments = shlex.split(os.path.expandvars(command))
        main = importlib.import_module(f"ml2sc.cli.{name.removeprefix('ml2sc-')}").main
        capsys.readouterr()
        with terminal(monkeypatch, "y") as screen:
            status = main(arguments)
        assert status == expected, screen.text
        return Said(capsys.readouterr().out, screen.text)

    return run


@contextmanager
def chain(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rpc]:
    """Open a chain of some number, from whose faucet the account got something."""
    with anvil("prague", "--chain-id", str(number)) as url:
        rpc = Rpc(url)
        rpc.request("anvil_setBalance", os.environ["ACCOUNT"], hex(10**17))
        monkeypatch.setenv("RPC_URL", url)
        yield rpc


def test_every_command(type_: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "to deploy" in type_(COMPILE).out
    assert "is deployed" in type_(REHEARSE).out
    journals = tmp_path / "model" / "deployments"
    for number in (LOCAL, SEPOLIA):
        journal = journals / f"{number}.json"
        with chain(number, monkeypatch) as rpc:
            assert "nobody named to pay" in type_(QUOTE).out
            assert not journal.exists()
            said = type_(DEPLOY)
            assert "Send these transactions? [y/N]" in said.screen
            address = json.loads(journal.read_text())["result"]["address"]
            assert re.search(rf"address +{address}", said.out)
            assert rpc.code(address)
            assert "5 of 5 bit for bit" in type_(CHECK).out
            again = type_(DEPLOY)
            assert "nothing now: all was done before" in again.out
            assert "[y/N]" not in again.screen
            (verify,) = re.findall(r"to verify +(ml2sc-verify .*)", again.out)
            assert verify == f"ml2sc-verify model --chain {number} --address {address}"
            assert address in type_(f"{verify} --print").out
    assert f"(`{verify.removesuffix(address)}0x…`" in PAGE
    assert {path.name for path in journals.glob("*.json")} == {f"{LOCAL}.json", f"{SEPOLIA}.json"}


def test_a_name_is_no_address(type_: Type) -> None:
    type_(COMPILE)
    assert "a node of it is named by its URL" in type_(DEPLOY.replace("$RPC_URL", "sepolia"), expected=2).screen
    assert not Path("model", "deployments").exists()


def test_a_safe(type_: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comment in the page's block says what replaces --chain."""
    (without,) = re.findall(r"without a node: (--chain-id \d+)", PAGE)
    type_(COMPILE)
    with chain(SEPOLIA, monkeypatch):
        said = type_(SAFE).out
    first = read_batch(Path("batch.json").read_bytes())
    Path("batch.json").unlink()
    assert type_(re.sub(r"--chain \S+", without, SAFE)).out == said
    assert "load it in the Safe's Transaction Builder" in said
    for batch in (first, read_batch(Path("batch.json").read_bytes())):
        assert (batch.chain_id, {call.to for call in batch.calls}) == (SEPOLIA, {CREATE2_PROXY})
