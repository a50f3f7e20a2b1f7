"""A chain that takes blocks back, and a transaction that reverts although it was foreseen to go through."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eth_utils.crypto import keccak
from support.bad_day import Proxy, forward, proxy
from support.mined import mined
from support.small_plan import assert_right, deploy, nonce

from ml2sc.runtime.chain import Reverted
from ml2sc.runtime.deploy import code_init
from ml2sc.runtime.journal import open_journal, read_journal
from ml2sc.runtime.node import anvil
from ml2sc.runtime.rpc import Rpc
from ml2sc.runtime.signer import NodeSigner
from ml2sc.runtime.transactions import Call, Plan, Step, execute

pytestmark = pytest.mark.anvil


@pytest.fixture
def node() -> Iterator[str]:
    """A node of one's own: what happens here would bother other tests."""
    with anvil() as url:
        yield url


@pytest.fixture
def bad(node: str) -> Iterator[Proxy]:
    with proxy(node) as running:
        yield running


def test_taken_back_after_the_end(node: str, tmp_path: Path) -> None:
    """The next run sends the very same transactions again: the contracts are where they were."""
    path, rpc = tmp_path / "journal.json", Rpc(node)
    deploy(node, path, names="a")  # sent together, the first two may be in one block
    first = deploy(node, path)
    sent = json.loads(path.read_text())["entries"]
    rpc.request("anvil_reorg", 2, [])
    assert nonce(node) == 1
    assert deploy(node, path) == first
    assert nonce(node) == 3
    assert_right(node, first, path)
    again = json.loads(path.read_text())["entries"]
    assert [again[name]["mined"] for name in "abc"] == [sent[name]["mined"] for name in "abc"]


def test_taken_back_while_waiting(node: str, bad: Proxy, tmp_path: Path) -> None:
    """The first two are mined, then taken back, before the third is: the same run sends them again."""
    path, rpc, taken = tmp_path / "journal.json", Rpc(node), []

    def hook(number: int, method: str, ask: Callable[[], bytes]) -> bytes:
        if method == "eth_sendRawTransaction" and not taken and nonce(node) == 2:
            rpc.request("anvil_reorg", rpc.quantity("eth_blockNumber"), [])  # two blocks, or one with both
            taken.append(nonce(node))
        return ask()

    bad.hook = hook
    addresses = deploy(bad.url, path)
    assert taken == [0]
    assert nonce(node) == 3
    assert_right(node, addresses, path)


def test_another_transaction_in_the_other_block(node: str, tmp_path: Path) -> None:
    """The nonce is used, but what it created is not there: the step is done anew, and what needs its address too."""
    path, rpc = tmp_path / "journal.json", Rpc(node)
    before = rpc.request("evm_snapshot")
    first = deploy(node, path, names="a")
    assert rpc.request("evm_revert", before)
    me = rpc.request("eth_accounts")[0]
    mined(rpc, {"from": me, "to": me})
    second = deploy(node, path, names="a")
    assert first["a"] != second["a"]
    assert_right(node, second, path, "a")
    assert nonce(node) == 2
    journal = read_journal(path)
    assert journal is not None
    assert [(name, entry.gas_used) for name, entry in journal.past] == [("a", 0)]


# A gate: a call with data shuts it, one without goes through or reverts with Refused().
#   CALLDATASIZE · PUSH1 set · JUMPI · PUSH0 · SLOAD · PUSH1 refuse · JUMPI · STOP
#   set: JUMPDEST · PUSH1 1 · PUSH0 · SSTORE · STOP
#   refuse: JUMPDEST · PUSH4 Refused() · PUSH0 · MSTORE · PUSH1 4 · PUSH1 28 · REVERT
GATE = bytes.fromhex("36600a57" + "5f54601057" + "00" + "5b60015f5500" + "5b63") + keccak(text="Refused()")[:4]
GATE += bytes.fromhex("5f526004601cfd")


def test_mined_and_reverted(node: str, bad: Proxy, tmp_path: Path) -> None:
    """Somebody shuts the gate between the estimate and the block: the error is named, the fee is in the books."""
    rpc = Rpc(node)
    other = rpc.request("eth_accounts")[1]
    path = tmp_path / "journal.json"
    plan = Plan(
        "gate",
        (
            Step("create", lambda _: Call(None, code_init(GATE))),
            Step("call", lambda addresses: Call(addresses["create"], b""), after=("create",)),
        ),
        [{"type": "error", "name": "Refused", "inputs": []}],
    )

    def run(url: str) -> None:
        ours = Rpc(url)
        where = {"plan": "gate", "chain_id": ours.chain_id, "genesis": ours.genesis, "sender": NodeSigner(ours).address}
        with open_journal(path, **where) as journal:
            execute(plan, ours, NodeSigner(ours), journal, wait=60, poll=0.02)

    def hook(number: int, method: str, ask: Callable[[], bytes]) -> bytes:
        if method == "eth_sendRawTransaction" and nonce(node) == 1:
            gate = json.loads(path.read_text())["entries"]["create"]["address"]
            mined(rpc, {"from": other, "to": gate, "data": "0x01"})
        return ask()

    bad.hook = hook
    with pytest.raises(Reverted, match=r"call: transaction 0x\w{64} failed, [\d,]+ gas used; .*Refused\(\)"):
        run(bad.url)
    assert nonce(node) == 2
    journal = read_journal(path)
    assert journal is not None
    (name, entry), *rest = journal.past
    assert (name, rest, entry.done) == ("call", [], False)
    receipt = rpc.request("eth_getTransactionReceipt", entry.mined)
    assert entry.fee == int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16) > 0
    # It would revert again: the next run sends nothing.
    bad.hook = forward
    with pytest.raises(Reverted, match=r"Refused\(\)"):
        run(node)
    assert nonce(node) == 2
    gate = journal.entries["create"].address
    rpc.request("anvil_setStorageAt", gate, "0x0", "0x" + "00" * 32)
    run(node)
    assert nonce(node) == 3
