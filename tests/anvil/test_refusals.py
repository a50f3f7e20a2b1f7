"""What a node refuses, and keys that do not fit, in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from ml2sc.errors import ContractLimitError, SigningKeyError
from ml2sc.runtime.chain import Reverted
from ml2sc.runtime.contract import ContractError
from ml2sc.runtime.deploy import code_init
from ml2sc.runtime.journal import open_journal
from ml2sc.runtime.node import RpcChain
from ml2sc.runtime.rpc import Rpc
from ml2sc.runtime.signer import KeySigner, KeystoreSigner, NodeSigner
from ml2sc.runtime.transactions import Call, Plan, Step, execute

pytestmark = pytest.mark.anvil

ERROR = {"type": "error", "name": "Refused", "inputs": []}
# PUSH4 Refused() · PUSH0 · MSTORE · PUSH1 4 · PUSH1 28 · REVERT
REVERTS = b"\x63" + keccak(text="Refused()")[:4] + bytes.fromhex("5f526004601cfd")
LOOPS = bytes.fromhex("5b5f56")  # JUMPDEST · PUSH0 · JUMP


def run(url: str, path: Path, code: bytes) -> None:
    """Create a contract, then call it."""
    rpc = Rpc(url)
    signer = NodeSigner(rpc)
    steps = (
        Step("create", lambda _: Call(None, code_init(code))),
        Step("call", lambda addresses: Call(addresses["create"], b""), after=("create",)),
    )
    with open_journal(path, plan="p", chain_id=rpc.chain_id, genesis=rpc.genesis, sender=signer.address) as journal:
        execute(Plan("p", steps, [ERROR]), rpc, signer, journal, wait=60, poll=0.02)


def test_revert_is_foreseen_and_named(node: str, tmp_path: Path) -> None:
    rpc = Rpc(node)
    sender = NodeSigner(rpc).address
    before = rpc.quantity("eth_getTransactionCount", sender, "latest")
    for _ in range(2):
        with pytest.raises(ContractError, match=r"reverted: Refused\(\)"):
            run(node, tmp_path / "journal.json", REVERTS)
    assert rpc.quantity("eth_getTransactionCount", sender, "latest") == before + 1


def test_gas_cap(node: str) -> None:
    chain = RpcChain(node, own=True)
    address = chain.deploy(code_init(LOOPS)).address
    with pytest.raises(ContractLimitError, match="too little gas"):
        chain.call(address, b"")


def test_revert_of_a_call(node: str) -> None:
    chain = RpcChain(node, own=True)
    address = chain.deploy(code_init(REVERTS)).address
    with pytest.raises(Reverted) as caught:
        chain.call(address, b"")
    assert caught.value.data == keccak(text="Refused()")[:4]


def test_keystore(tmp_path: Path) -> None:
    path, key = tmp_path / "key.json", "0x" + "5a" * 32
    path.write_text(json.dumps(Account.encrypt(key, "open sesame", kdf="pbkdf2", iterations=2)))
    signer = KeystoreSigner(path, lambda: "open sesame")
    assert signer.address == Account.from_key(key).address
    fields = {"chainId": 1, "nonce": 0, "gas": 21_000, "value": 0, "maxFeePerGas": 1, "maxPriorityFeePerGas": 1}
    raw = signer.sign({**fields, "to": signer.address, "data": "0x"})
    assert Account.recover_transaction(raw) == signer.address
    with pytest.raises(SigningKeyError, match="does not open"):
        KeystoreSigner(path, lambda: "wrong").sign(fields)
    path.write_text("{}")
    with pytest.raises(SigningKeyError, match="is no keystore"):
        KeystoreSigner(path, lambda: "")


@pytest.mark.parametrize("text", ["", "secretsecret", "5a" * 31, "00" * 32])
def test_bad_key(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOME_KEY", text)
    with pytest.raises(SigningKeyError) as caught:
        KeySigner("SOME_KEY")
    assert not text or text not in str(caught.value)
    assert caught.value.__cause__ is None
