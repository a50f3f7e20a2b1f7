"""Three small contracts, the third of which needs the addresses of the others; deployed by a process to be killed."""

from __future__ import annotations

from pathlib import Path

from eth_utils.address import to_canonical_address

from ml2sc.runtime.deploy import code_init
from ml2sc.runtime.journal import open_journal, read_journal
from ml2sc.runtime.rpc import Rpc
from ml2sc.runtime.signer import NodeSigner
from ml2sc.runtime.transactions import Addresses, Call, Plan, Step, execute

CODES = {"a": b"\x00first", "b": b"\x00second"}


def last_code(addresses: Addresses) -> bytes:
    """Return the third contract's code: a STOP and the others' addresses."""
    return b"\x00" + b"".join(to_canonical_address(addresses[name]) for name in CODES)


def plan(identity: str = "three", names: str = "abc") -> Plan:
    """Return the plan, or some steps of it."""
    steps = [Step(name, lambda _, code=code: Call(None, code_init(code))) for name, code in CODES.items()]
    steps.append(Step("c", lambda a: Call(None, code_init(last_code(a))), after=("a", "b"), gas=lambda _: 70_000))
    return Plan(identity, tuple(step for step in steps if step.name in names))


def deploy(
    url: str, path: Path, identity: str = "three", *, names: str = "abc", wait: float = 60.0, timeout: float = 20.0
) -> dict[str, str]:
    """Carry the plan out, or go on with it."""
    rpc = Rpc(url, timeout=timeout, patience=20.0)
    signer = NodeSigner(rpc)
    where = {"plan": identity, "chain_id": rpc.chain_id, "genesis": rpc.genesis, "sender": signer.address}
    with open_journal(path, **where) as journal:
        return execute(plan(identity, names), rpc, signer, journal, wait=wait, poll=0.02)


def nonce(url: str) -> int:
    """Return how many transactions of the paying account are mined."""
    rpc = Rpc(url)
    return rpc.nonce(rpc.accounts()[0])


def assert_right(url: str, addresses: dict[str, str], path: Path, names: str = "abc") -> None:
    """The chain holds what the plan says, and the journal the same addresses."""
    rpc = Rpc(url)
    assert set(addresses) == set(names)
    for name, address in addresses.items():
        expected = last_code(addresses) if name == "c" else CODES[name]
        assert rpc.code(address) == expected
    journal = read_journal(path)
    assert journal is not None
    assert {name: entry.address for name, entry in journal.entries.items()} == addresses
    assert all(entry.done for entry in journal.entries.values())
