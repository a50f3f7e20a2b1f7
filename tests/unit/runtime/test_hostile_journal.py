"""A folder from a stranger: its journal counts for nothing that the chain does not show; no link is followed."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from support.pretend_chain import ACCOUNT, GWEI, KEY, PretendChain

from ml2sc.errors import JournalError, Ml2scError, OutputError
from ml2sc.runtime.deploy import code_init
from ml2sc.runtime.journal import Journal, noted_address, open_journal, read_journal
from ml2sc.runtime.rpc import Rpc
from ml2sc.runtime.signer import KeySigner
from ml2sc.runtime.transactions import Call, Plan, Step, create2, execute

PLAN = Plan(
    "p",
    (
        Step("create", lambda _: Call(None, code_init(b"\x00abc"))),
        Step("call", lambda addresses: Call(addresses["create"], b"\x01"), after=("create",)),
    ),
)
ELSEWHERE = "0x" + "66" * 20


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> PretendChain:
    monkeypatch.setenv("ML2SC_PRIVATE_KEY", KEY)
    return PretendChain()


@pytest.fixture
def rpc(chain: PretendChain, monkeypatch: pytest.MonkeyPatch) -> Rpc:
    rpc = Rpc("http://127.0.0.1:9/", patience=0.0)
    monkeypatch.setattr(rpc._transport, "post", chain.post)
    return rpc


def go(rpc: Rpc, path: Path, plan: Plan = PLAN) -> Journal:
    """Carry the plan out, or go on with it."""
    with open_journal(path, plan="p", chain_id=rpc.chain_id, genesis=rpc.genesis, sender=ACCOUNT) as journal:
        execute(plan, rpc, KeySigner(), journal, wait=0.2, poll=0.001)
    return journal


def entry(**fields: Any) -> dict[str, Any]:
    """Return an entry that says its step is done."""
    empty = {"nonce": None, "block": 0, "attempts": [], "address": None, "mined": None}
    return {**empty, "done": True, "gas_used": 7, "fee": 7, **fields}


def attempt(key: str, **fields: Any) -> dict[str, Any]:
    """Return a signed transaction of a key's."""
    whole = {"chainId": 31337, "nonce": 0, "gas": 10**6, "value": 0, "data": "0x" + code_init(b"\x00abc").hex()}
    signed = Account.from_key(key).sign_transaction(
        {**whole, "maxFeePerGas": GWEI, "maxPriorityFeePerGas": 5, **fields}
    )
    raw, hash_ = signed.raw_transaction.hex(), signed.hash.hex()
    return {"raw": "0x" + raw.removeprefix("0x"), "hash": "0x" + hash_.removeprefix("0x"), "max_fee": GWEI, "tip": 5}


def plant(path: Path, rpc: Rpc, entries: dict[str, Any], **more: Any) -> None:
    head = {"version": 1, "plan": "p", "chain_id": 31337, "genesis": rpc.genesis, "sender": ACCOUNT}
    path.write_text(json.dumps({**head, "entries": entries, "past": [], "result": {}, **more}))


def test_done_without_a_transaction(chain: PretendChain, rpc: Rpc, tmp_path: Path) -> None:
    """The attacker's contract is on the chain, and the journal says that it is ours."""
    path, theirs = tmp_path / "deployment.json", entry(address=ELSEWHERE, mined="0x" + "ab" * 32)
    plant(path, rpc, {"create": theirs, "call": entry()})
    before = path.read_bytes()
    with pytest.raises(JournalError, match="says that create is done, and names no transaction that did it"):
        go(rpc, path)
    assert chain.mined == []
    assert path.read_bytes() == before


OTHER = "0x" + "77" * 32


@pytest.mark.parametrize(
    ("key", "fields", "words"),
    [
        (OTHER, {}, "a transaction of 0x"),  # the attacker's own
        (KEY, {"chainId": 1}, "that is not what it says"),  # ours, for another chain
        (KEY, {"nonce": 1}, "that is not what it says"),
        (KEY, {"data": "0x60006000"}, "which does something else"),  # ours, for something else
        (KEY, {"value": 1}, "which does something else"),
        (KEY, {"to": ELSEWHERE}, "which does something else"),
    ],
)
@pytest.mark.parametrize("done", [True, False])
def test_somebody_elses_transaction(
    chain: PretendChain, rpc: Rpc, tmp_path: Path, key: str, fields: dict[str, Any], words: str, done: bool
) -> None:
    """It is neither taken for ours nor sent."""
    path, signed = tmp_path / "deployment.json", attempt(key, **fields)
    own = "0x" + Account.from_key(KEY).address[2:]
    assert own == ACCOUNT
    address = go(rpc, tmp_path / "first.json", Plan("p", PLAN.steps[:1])).entries["create"].address
    asked = len(chain.asked)
    held = entry(nonce=0, attempts=[signed], address=address, mined=signed["hash"] if done else None, done=done)
    plant(path, rpc, {"create": held})
    with pytest.raises(JournalError, match=words):
        go(rpc, path)
    assert "eth_sendRawTransaction" not in chain.asked[asked:]


def test_a_real_transaction_that_did_something_else(chain: PretendChain, rpc: Rpc, tmp_path: Path) -> None:
    """Signed by us and mined, but named as what did another step."""
    path = tmp_path / "deployment.json"
    go(rpc, path)
    content = json.loads(path.read_text())
    content["entries"]["create"]["mined"] = content["entries"]["call"]["mined"]
    path.write_text(json.dumps(content))
    with pytest.raises(JournalError, match="does something else"):
        go(rpc, path)
    assert len(chain.mined) == 2


def test_what_the_chain_shows_counts(chain: PretendChain, rpc: Rpc, tmp_path: Path) -> None:
    """Its own journal, with the books cooked: nothing is sent, and the books are right again."""
    path = tmp_path / "deployment.json"
    assert go(rpc, path).sent == 2
    content = json.loads(path.read_text())
    fees = [held["fee"] for held in content["entries"].values()]
    for held in content["entries"].values():
        held["fee"], held["gas_used"] = 1, 1
    path.write_text(json.dumps(content))
    journal = go(rpc, path)
    assert (journal.sent, len(chain.mined)) == (0, 2)
    assert [held.fee for held in journal.entries.values()] == fees


def test_another_address(chain: PretendChain, rpc: Rpc, tmp_path: Path) -> None:
    path = tmp_path / "deployment.json"
    go(rpc, path)
    content = json.loads(path.read_text())
    content["entries"]["create"]["address"] = ELSEWHERE
    path.write_text(json.dumps(content))
    with pytest.raises(JournalError, match=f"create creates 0x.*, not {ELSEWHERE}"):
        go(rpc, path)


def test_create2_needs_no_transaction_of_ours(rpc: Rpc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address says what is there; but no other address does."""
    call, path = create2(bytes(32), code_init(b"\x00abc")), tmp_path / "deployment.json"
    plan = Plan("p", (Step("create", lambda _: call),))
    assert call.creates is not None
    codes = {call.creates: b"\x00abc", ELSEWHERE: b"\x00abc"}
    monkeypatch.setattr(Rpc, "code", lambda _, address: codes.get(address, b""))
    plant(path, rpc, {"create": entry(address=call.creates)})
    assert go(rpc, path, plan).sent == 0
    plant(path, rpc, {"create": entry(address=ELSEWHERE)})
    with pytest.raises(JournalError, match="names no transaction that did it"):
        go(rpc, path, plan)


# -- files -------------------------------------------------------------------------------------------------------------


def test_links_are_not_followed(rpc: Rpc, tmp_path: Path) -> None:
    """Whatever name of ours is a link to a file of the user's, that file stays as it is."""
    precious = tmp_path / "precious"
    precious.write_text("precious\n")
    for number, name in enumerate((".{}.tmp", ".{}.lock", "{}")):
        path = tmp_path / str(number) / "deployment.json"
        path.parent.mkdir()
        (path.parent / name.format(path.name)).symlink_to(precious)
        if number == 0:
            go(rpc, path)  # that name means nothing any more
        else:
            with pytest.raises((OutputError, JournalError), match="symbolic link"):
                go(rpc, path)
        assert precious.read_text() == "precious\n"
    dangling = tmp_path / "3" / "deployment.json"
    dangling.parent.mkdir()
    dangling.symlink_to(tmp_path / "new")
    with pytest.raises(JournalError, match="symbolic link"):
        go(rpc, dangling)
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
@pytest.mark.parametrize("kind", ["fifo", "folder", "large"])
def test_no_regular_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "deployment.json"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "large":
            with path.open("wb") as file:
                file.truncate(1 << 36)
    with pytest.raises(JournalError):
        read_journal(path)


def test_only_its_owner_reads_it(rpc: Rpc, tmp_path: Path) -> None:
    """What is signed and not yet sent is in it; and nothing else is left beside it."""
    go(rpc, tmp_path / "deployment.json")
    assert (tmp_path / "deployment.json").stat().st_mode & 0o777 == 0o600
    assert {file.name for file in tmp_path.iterdir()} == {"deployment.json", ".deployment.json.lock"}


VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2**64, 2**300, 1.5, float("inf"), "", "x", "0x", "0x" + "ab" * 32, ELSEWHERE,
    "\ud800\x1b[31m", [], [[]], {}, {"a": 1}, [None, None], ["create", {}],
]  # fmt: skip


def edited(content: Any, rng: random.Random) -> Any:
    """Change, remove or add one value somewhere in a JSON value."""
    if isinstance(content, (dict, list)) and content and rng.random() < 0.85:
        key = rng.choice(list(content) if isinstance(content, dict) else range(len(content)))
        if rng.random() < 0.15:
            del content[key]
        else:
            content[key] = edited(content[key], rng)
        return content
    if isinstance(content, dict) and rng.random() < 0.3:
        return {**content, rng.choice(["x", "", "\x1b"]): rng.choice(VALUES)}
    return rng.choice(VALUES)


def test_edited_journals(chain: PretendChain, rpc: Rpc, tmp_path: Path) -> None:
    """Whatever is changed in a journal, it is refused in our words, or no more is sent than by a new one."""
    path = tmp_path / "deployment.json"
    go(rpc, path)
    whole, rng = path.read_text(), random.Random(5)
    said: list[str] = []
    for number in range(int(os.environ.get("ML2SC_FUZZ", "150"))):
        path.write_text(json.dumps(edited(json.loads(whole), rng)))
        before = len(chain.mined)
        try:
            go(rpc, path)
            noted_address(tmp_path, rpc.chain_id)
        except Ml2scError as error:
            said.append(str(error))
        assert len(chain.mined) - before <= 2, number
    assert len(said) > 50
    assert not [text for text in said if "\x1b" in text]


@pytest.mark.parametrize("text", ["", "5", "[]", "{}", "[" * 100_000, '{"version": 2}', "\x00", '{"version": 1e400}'])
def test_no_journal(tmp_path: Path, text: str) -> None:
    (tmp_path / "deployment.json").write_text(text)
    with pytest.raises(JournalError):
        read_journal(tmp_path / "deployment.json")


@pytest.mark.parametrize("address", [5, None, "", "0x12", "x" * 40, ["0x"]])
def test_noted_address_is_one(rpc: Rpc, tmp_path: Path, address: Any) -> None:
    plant(tmp_path / "deployment.json", rpc, {}, result={"address": address})
    with pytest.raises(JournalError, match=r"is no (address|text)"):
        noted_address(tmp_path, rpc.chain_id)
