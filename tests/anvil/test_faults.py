"""Whatever goes wrong while a plan is carried out, it ends as if nothing had, and nothing is paid for twice."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from support import forking
from support.bad_day import Proxy, forward, proxy
from support.forking import Started
from support.small_plan import assert_right, deploy, nonce

from ml2sc.errors import FundsError, JournalError, NodeError, TransactionError
from ml2sc.runtime.journal import read_journal
from ml2sc.runtime.node import anvil
from ml2sc.runtime.rpc import Rpc

pytestmark = pytest.mark.anvil

STEPS = 3


@pytest.fixture
def bad(node: str) -> Iterator[Proxy]:
    with proxy(node) as running:
        yield running


DEPLOYER = """
import sys
from pathlib import Path
from support.small_plan import deploy
deploy(sys.argv[1], Path(sys.argv[2]))
"""


def killed(bad: Proxy, path: Path, at: int, *, after: bool) -> bool:
    """Run a deployer that is killed at a request, before or after the node gets it. Returns whether it came so far."""
    process = Future[Started]()
    first = bad.count

    def hook(number: int, method: str, ask: Callable[[], bytes]) -> bytes | int | None:
        if number - first != at:
            return ask()
        if after:
            ask()
        process.result().kill()
        return None

    bad.hook = hook
    process.set_result(forking.start("-c", DEPLOYER, bad.url, path, imported=("support.small_plan",)))
    status = process.result().wait()
    bad.hook = forward
    return status == -signal.SIGKILL


def test_killed_at_every_request(node: str, bad: Proxy, tmp_path: Path) -> None:
    """The moments between two requests: before and after signing, writing, sending, waiting, noting.

    Every fifth of them; `ML2SC_SWEEP=1` tries all.
    """
    at = 0
    while True:
        path, before = tmp_path / f"{at}.json", nonce(node)
        was_killed = killed(bad, path, at, after=at % 2 == 1)
        addresses = deploy(node, path)
        assert nonce(node) - before == STEPS, f"killed at request {at}"
        assert_right(node, addresses, path)
        if not was_killed:
            break
        at += 1 if os.environ.get("ML2SC_SWEEP") else 5
    assert at > 20


def test_killed_around_each_sending(node: str, bad: Proxy, tmp_path: Path) -> None:
    """The moment that matters: signed and written down, but did the node get it?"""
    asked: list[str] = []

    def note(number: int, method: str, ask: Callable[[], bytes]) -> bytes:
        asked.append(method)
        return ask()

    bad.hook = note
    deploy(bad.url, tmp_path / "whole.json")
    sendings = [i for i, method in enumerate(asked) if method == "eth_sendRawTransaction"]
    assert len(sendings) == STEPS
    for at in sendings:
        for after in (False, True):
            path, before = tmp_path / f"{at}{after}.json", nonce(node)
            assert killed(bad, path, at, after=after)
            assert_right(node, deploy(node, path), path)
            assert nonce(node) - before == STEPS


@pytest.mark.parametrize("fault", ["lost request", "lost answer", "429", "503", "no JSON", "late"])
def test_answers_go_wrong(node: str, bad: Proxy, tmp_path: Path, fault: str) -> None:
    sent = 0

    def hook(number: int, method: str, ask: Callable[[], bytes]) -> bytes | int | None:
        nonlocal sent
        if method != "eth_sendRawTransaction":
            return ask()
        sent += 1
        if sent != 1:
            return ask()
        match fault:
            case "lost request":
                return None
            case "lost answer":
                ask()
                return None
            case "late":
                answer = ask()
                time.sleep(2.5)
                return answer
            case "no JSON":
                ask()
                return b"<html>"
        return int(fault)

    bad.hook = hook
    path, before = tmp_path / "journal.json", nonce(node)
    addresses = deploy(bad.url, path, timeout=2.0 if fault == "late" else 20.0)
    assert sent == STEPS + 1
    assert nonce(node) - before == STEPS
    assert_right(node, addresses, path)


def test_done_is_done(node: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    first, before = deploy(node, path), nonce(node)
    assert deploy(node, path) == first
    assert nonce(node) == before


def test_node_restarted(tmp_path: Path) -> None:
    """With its state, but without the transactions that waited."""
    path, state = tmp_path / "journal.json", str(tmp_path / "state.json")
    with anvil("prague", "--state", state) as url:
        port, rpc = int(url.rsplit(":", 1)[1]), Rpc(url)
        rpc.request("anvil_mine", "0x1")
        rpc.request("evm_setAutomine", False)
        with pytest.raises(TransactionError, match=r"was not mined within .*next nonce is 0"):
            deploy(url, path, wait=0.2)
        genesis = rpc.genesis
    with anvil("prague", "--state", state, port=port) as url:
        assert Rpc(url).genesis == genesis
        addresses = deploy(url, path)
        assert nonce(url) == STEPS
        assert_right(url, addresses, path)


def test_node_forgets_a_transaction(tmp_path: Path) -> None:
    with anvil() as url:
        rpc, path = Rpc(url), tmp_path / "journal.json"
        rpc.request("evm_setAutomine", False)
        with pytest.raises(TransactionError):
            deploy(url, path, wait=0.2)
        rpc.request("anvil_dropAllTransactions")
        rpc.request("evm_setAutomine", True)
        assert_right(url, deploy(url, path), path)
        assert nonce(url) == STEPS


def waiting(url: str, path: Path) -> Rpc:
    """Leave a plan with its first two transactions waiting."""
    rpc = Rpc(url)
    rpc.request("evm_setAutomine", False)
    with pytest.raises(TransactionError):
        deploy(url, path, wait=0.2)
    return rpc


def test_replaced_by_a_foreign_transaction(tmp_path: Path) -> None:
    """The nonce is lost, the step is done anew: one transaction more than without, none of ours twice."""
    with anvil() as url:
        path = tmp_path / "journal.json"
        rpc = waiting(url, path)
        me = rpc.request("eth_accounts")[0]
        other = {"from": me, "to": me, "nonce": "0x0", "gas": "0x5208", "maxFeePerGas": hex(10**11)}
        rpc.request("eth_sendTransaction", {**other, "maxPriorityFeePerGas": hex(10**10)})
        rpc.request("evm_mine")
        rpc.request("evm_setAutomine", True)
        addresses = deploy(url, path)
        assert_right(url, addresses, path)
        assert nonce(url) == STEPS + 1
        journal = read_journal(path)
        assert journal is not None
        assert [name for name, _ in journal.past] == ["a"]


def test_replaced_by_its_twin(tmp_path: Path) -> None:
    """A wallet sped it up: it is the same deed, and done."""
    with anvil() as url:
        path = tmp_path / "journal.json"
        rpc = waiting(url, path)
        me = rpc.request("eth_accounts")[0]
        ours = rpc.request(
            "eth_getTransactionByHash", json.loads(path.read_text())["entries"]["a"]["attempts"][0]["hash"]
        )
        twin = {"from": me, "data": ours["input"], "nonce": "0x0", "gas": ours["gas"], "maxFeePerGas": hex(10**11)}
        rpc.request("eth_sendTransaction", {**twin, "maxPriorityFeePerGas": hex(10**10)})
        rpc.request("evm_mine")
        rpc.request("evm_setAutomine", True)
        assert_right(url, deploy(url, path), path)
        assert nonce(url) == STEPS


def test_base_fee_rises_above_the_offer(tmp_path: Path) -> None:
    with anvil() as url:
        path = tmp_path / "journal.json"
        rpc = waiting(url, path)
        rpc.request("anvil_dropAllTransactions")
        rpc.request("anvil_setNextBlockBaseFeePerGas", hex(10**11))
        rpc.request("evm_mine")
        rpc.request("evm_setAutomine", True)
        assert_right(url, deploy(url, path), path)
        assert nonce(url) == STEPS
        journal = read_journal(path)
        assert journal is not None
        assert len(journal.entries["a"].attempts) == 2


def test_another_chain(node: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    deploy(node, path)
    with (
        anvil("prague", "--chain-id", "5") as url,
        pytest.raises(JournalError, match="is of chain 31337; the node"),
    ):
        deploy(url, path)
    with anvil("prague", "--timestamp", "1000") as url, pytest.raises(JournalError, match="of another chain 31337"):
        deploy(url, path)
    with pytest.raises(JournalError, match="is of another plan"):
        deploy(node, path, "four")


def test_insufficient_funds(tmp_path: Path) -> None:
    with anvil("prague", "--balance", "0") as url:
        with pytest.raises(FundsError):
            deploy(url, tmp_path / "journal.json")
        assert nonce(url) == 0


def test_url_key_is_not_told() -> None:
    with pytest.raises(NodeError) as caught:
        Rpc("http://127.0.0.1:9/v3/secret").request("eth_chainId")
    assert "secret" not in str(caught.value)
