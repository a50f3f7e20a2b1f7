"""What a node supplies and gets signed has a bound: prices, gas, nonces, how often a step is begun anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.pretend_chain import ACCOUNT, GWEI, KEY, PretendChain, Spoil

from ml2sc.errors import NodeError, TransactionError
from ml2sc.runtime.deploy import code_init
from ml2sc.runtime.journal import Attempt, Journal, open_journal
from ml2sc.runtime.rpc import Rpc
from ml2sc.runtime.signed import read_signed
from ml2sc.runtime.signer import KeySigner, NodeSigner
from ml2sc.runtime.transactions import (
    MOST_FEE,
    MOST_TIP,
    Call,
    FeeOptions,
    Plan,
    Step,
    current_fees,
    execute,
    quote,
)

_DEFAULT = FeeOptions()

PLAN = Plan("p", (Step("create", lambda _: Call(None, code_init(b"\x00abc"))),))


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML2SC_PRIVATE_KEY", KEY)


def connect(chain: PretendChain, monkeypatch: pytest.MonkeyPatch) -> Rpc:
    """Return a handle on a chain in this process."""
    rpc = Rpc("http://127.0.0.1:9/", patience=0.0)
    monkeypatch.setattr(rpc._transport, "post", chain.post)
    return rpc


def result(method: str, value: Any) -> Spoil:
    """Answer a method with a value."""
    return lambda asked, response: {**response, "result": value} if asked == method else response


def member(method: str, name: str, value: Any) -> Spoil:
    """Replace a member of what a method answers."""

    def spoil(asked: str, response: Any) -> Any:
        if asked == method and response["result"] is not None:
            response["result"][name] = value
        return response

    return spoil


def send(rpc: Rpc, path: Path, fees: FeeOptions = _DEFAULT, wait: float = 0.2) -> Journal:
    """Carry the plan out."""
    with open_journal(path, plan="p", chain_id=rpc.chain_id, genesis=rpc.genesis, sender=ACCOUNT) as journal:
        execute(PLAN, rpc, KeySigner(), journal, fees=fees, wait=wait, poll=0.001)
    return journal


def test_tip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A million gwei suggested: 30 are offered, and it is said; the user may offer more."""
    chain = PretendChain()
    chain.spoil = result("eth_maxPriorityFeePerGas", hex(10**6 * GWEI))
    rpc = connect(chain, monkeypatch)
    assert "suggests a tip of 1,000,000 gwei; 30 gwei is offered" in quote(PLAN, rpc, ACCOUNT).fees.note
    send(rpc, tmp_path / "a.json")
    assert "suggests a tip of 1,000,000 gwei" in caplog.text
    send(rpc, tmp_path / "b.json", FeeOptions(tip=40 * GWEI))
    send(rpc, tmp_path / "c.json", FeeOptions(max_fee=11 * GWEI))
    assert [(s.tip // GWEI, s.max_fee // GWEI) for s, _ in chain.mined] == [(30, 32), (40, 42), (10, 11)]


@pytest.mark.parametrize("base", [501 * GWEI, 10**14, (1 << 256) - 1])
def test_base_fee(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base: int) -> None:
    chain = PretendChain()
    chain.spoil = member("eth_getBlockByNumber", "baseFeePerGas", hex(base))
    with pytest.raises(TransactionError, match=r"base fee is [\d,]+ wei a gas, more than the 500,000,000,000"):
        send(connect(chain, monkeypatch), tmp_path / "j.json")
    assert "eth_sendRawTransaction" not in chain.asked
    fees = current_fees(connect(chain, monkeypatch), FeeOptions(max_fee=base + 5))
    assert (fees.most, fees.limit) == (base + 5, base + 5)


def test_twice_the_base_fee_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = PretendChain()
    chain.spoil = member("eth_getBlockByNumber", "baseFeePerGas", hex(400 * GWEI))
    assert current_fees(connect(chain, monkeypatch)).most == MOST_FEE


def test_gas_price_of_a_legacy_chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All of it is paid: so a node that hides the base fee gains nothing by a high one."""
    chain = PretendChain(legacy=True)
    rpc = connect(chain, monkeypatch)
    chain.spoil = result("eth_gasPrice", hex(MOST_TIP + 1))
    with pytest.raises(TransactionError, match="no base fee, and the node asks a gas price of 30,000,000,001"):
        send(rpc, tmp_path / "j.json")
    assert not chain.mined
    send(rpc, tmp_path / "j.json", FeeOptions(max_fee=MOST_TIP + 1))
    assert [signed.max_fee for signed, _ in chain.mined] == [MOST_TIP + 1]


def test_legacy_transactions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chain = PretendChain(legacy=True)
    rpc = connect(chain, monkeypatch)
    assert quote(PLAN, rpc, ACCOUNT).to_json()["legacy"]
    journal = send(rpc, tmp_path / "j.json")
    ((signed, receipt),) = chain.mined
    assert signed.legacy
    assert signed.chain_id == 31337
    assert journal.entries["create"].fee == 2 * GWEI * int(receipt["gasUsed"], 16)
    assert journal.entries["create"].attempts == [
        Attempt(signed.hash, journal.entries["create"].attempts[0].raw, 2 * GWEI, 2 * GWEI)
    ]
    assert send(rpc, tmp_path / "j.json").sent == 0


def test_legacy_is_replaced_by_one_that_pays_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The node has lost it, and gas has become dearer: the same nonce, an eighth more at least."""
    chain = PretendChain(legacy=True)
    rpc = connect(chain, monkeypatch)

    honest_mine, chain._mine = chain._mine, lambda raw: read_signed(raw).hash  # type: ignore[method-assign]
    with pytest.raises(TransactionError, match="not mined within"):
        send(rpc, tmp_path / "j.json")
    chain._mine = honest_mine  # type: ignore[method-assign]
    chain.spoil = result("eth_gasPrice", hex(2 * GWEI + 1))
    journal = send(rpc, tmp_path / "j.json")
    assert [attempt.max_fee for attempt in journal.entries["create"].attempts] == [
        2 * GWEI,
        2 * GWEI + 2 * GWEI // 8 + 1,
    ]
    assert len(chain.mined) == 1


def test_rising_base_fees_do_not_drive_the_tip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A node that never mines and says each time that the base fee has risen above the offer."""
    chain, base = PretendChain(), [GWEI]
    rpc = connect(chain, monkeypatch)
    chain._mine = lambda raw: read_signed(raw).hash  # type: ignore[method-assign]

    def spoil(method: str, response: Any) -> Any:
        response = member("eth_getBlockByNumber", "baseFeePerGas", hex(base[0]))(method, response)
        return result("eth_maxPriorityFeePerGas", hex(25 * GWEI))(method, response)

    chain.spoil = spoil
    offers: list[dict[str, Any]] = []
    for _ in range(5):
        with pytest.raises(TransactionError) as caught:
            send(rpc, tmp_path / "j.json", wait=0.0)
        if "or a tip of 31,640,625,002, more than 30,000,000,000" in str(caught.value):
            break
        offers = json.loads((tmp_path / "j.json").read_text())["entries"]["create"]["attempts"]
        base[0] = offers[-1]["max_fee"] + 1
    else:
        pytest.fail("the offers have no end")
    assert [offer["tip"] for offer in offers] == [25 * GWEI, 25 * GWEI + 25 * GWEI // 8 + 1]
    assert max(offer["max_fee"] for offer in offers) <= MOST_FEE
    assert {read_signed(bytes.fromhex(offer["raw"][2:])).nonce for offer in offers} == {0}


@pytest.mark.parametrize(
    ("method", "value", "words"),
    [
        ("eth_estimateGas", "0x5207", "estimates 20,999 gas"),
        ("eth_estimateGas", hex(1 << 64), "which is no quantity"),
        ("eth_getTransactionCount", hex(1 << 64), "which is no quantity"),
        ("eth_chainId", "0x0", "which is no chain"),
        ("eth_sendRawTransaction", "0x1", "which is no hash"),
    ],
)
def test_values_out_of_this_world(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: str, value: str, words: str
) -> None:
    chain = PretendChain()
    chain.spoil = result(method, value)
    with pytest.raises(NodeError, match=words):
        send(connect(chain, monkeypatch), tmp_path / "j.json")


def test_steps_are_not_begun_anew_for_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A node that says of every nonce that another transaction took it, and keeps what was signed for itself."""
    chain, count = PretendChain(), [0]
    rpc = connect(chain, monkeypatch)
    signed: list[str] = []

    def keep(raw: bytes) -> str:
        signed.append(read_signed(raw).hash)
        count[0] += 1
        return signed[-1]

    chain._mine = keep  # type: ignore[method-assign]

    def spoil(method: str, response: Any) -> Any:
        if method in ("eth_getTransactionCount", "eth_blockNumber"):
            return {**response, "result": hex(count[0])}
        if method == "eth_getBlockByNumber" and "transactions" in (response["result"] or {}):
            other = {"hash": "0x" + "77" * 32, "from": ACCOUNT, "to": ACCOUNT, "input": "0x", "blockNumber": "0x1"}
            response["result"]["transactions"] = [{**other, "nonce": hex(n)} for n in range(count[0])]
        return response

    chain.spoil = spoil
    monkeypatch.setattr("ml2sc.runtime.transactions._SURE_AFTER", 0.0)
    with pytest.raises(TransactionError, match="other transactions took its nonce 4 times"):
        send(rpc, tmp_path / "j.json", wait=60.0)
    assert len(set(signed)) == 4


def test_node_that_signs_something_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chain = PretendChain()
    rpc = connect(chain, monkeypatch)
    fields = {"chainId": 31337, "nonce": 0, "gas": 1_050_000, "value": 1, "data": "0x"}
    raw = KeySigner().sign({**fields, "to": ACCOUNT, "maxFeePerGas": 4 * GWEI, "maxPriorityFeePerGas": 2 * GWEI})

    def spoil(method: str, response: Any) -> Any:
        answers = {"eth_accounts": [ACCOUNT.lower()], "eth_signTransaction": {"raw": "0x" + raw.hex()}}
        return {"id": response["id"], "result": answers[method]} if method in answers else response

    chain.spoil = spoil
    with (
        open_journal(tmp_path / "j", plan="p", chain_id=31337, genesis=rpc.genesis, sender=ACCOUNT) as journal,
        pytest.raises(NodeError, match="signed another transaction than it was given"),
    ):
        execute(PLAN, rpc, NodeSigner(rpc), journal, wait=0.2, poll=0.001)
    assert not (tmp_path / "j").exists()
    assert "eth_sendRawTransaction" not in chain.asked


def test_receipt_of_another_contract(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chain = PretendChain()
    chain.spoil = member("eth_getTransactionReceipt", "contractAddress", "0x" + "66" * 20)
    with pytest.raises(NodeError, match=r"created 0x6666\w+, not"):
        send(connect(chain, monkeypatch), tmp_path / "j.json")
