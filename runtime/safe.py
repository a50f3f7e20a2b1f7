"""Batches for a Safe's Transaction Builder: a plan's transactions in files, for the owners of a Safe to sign.

A Safe creates contracts by calling the CREATE2 proxy, so that their addresses are known beforehand. A batch is one
transaction: where a plan takes more gas than one may use, there are several files, to be carried out in their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from ml2sc.backends.base import Artifact
from ml2sc.errors import CheckError, InternalError, OutputError, UsageError
from ml2sc.files import read_file, write_file
from ml2sc.foreign import parse_json
from ml2sc.ir.forks import Fork
from ml2sc.jsontext import json_text

from .chain import Chain, EmbeddedChain, RevmChain, limits_of, local_chain
from .contract import encode_call
from .deploy import CONTRACT, Deployment, deploy
from .node import to_hex
from .prove import Proof, prove
from .transactions import Call, Plan
from .update import ACTIVATE, UpdateState, update_calls

_VERSION, _BUILDER = "1.0", "1.16.5"
_MOST_BYTES = 1 << 27
_ADDRESS, _DATA = re.compile(r"0x[0-9a-fA-F]{40}"), re.compile(r"0x(?:[0-9a-f]{2})*")
_ROOM = 0.9
"""Of the gas of a transaction, what a batch may take: the Safe itself takes some, for each signature."""


@dataclass(frozen=True)
class Batch:
    """Calls that a Safe makes in one transaction.

    Attributes:
        chain_id: The chain's number.
        safe: The Safe's address; empty if any will do.
        name: What the Transaction Builder shows.
        calls: What it calls, in order.
    """

    chain_id: int
    safe: str
    name: str
    calls: tuple[Call, ...]

    def to_json(self, created: int) -> dict[str, Any]:
        """Return it as the Transaction Builder writes it.

        Args:
            created: When, in milliseconds since 1970.
        """
        batch: dict[str, Any] = {
            "version": _VERSION,
            "chainId": str(self.chain_id),
            "createdAt": created,
            "meta": {
                "name": self.name,
                "description": "written by ml2sc",
                "txBuilderVersion": _BUILDER,
                "createdFromSafeAddress": self.safe,
                "createdFromOwnerAddress": "",
            },
            "transactions": [
                {
                    "to": to_checksum_address(str(call.to)),
                    "value": "0",
                    "data": to_hex(call.data),
                    "contractMethod": None,
                    "contractInputsValues": None,
                }
                for call in self.calls
            ],
        }
        return {**batch, "meta": {**batch["meta"], "checksum": checksum(batch)}}


def checksum(batch: Mapping[str, Any]) -> str:
    """Return the checksum that the Transaction Builder compares a file with; the batch's name does not count."""
    meta = {key: value for key, value in batch["meta"].items() if key != "checksum"}
    return to_hex(keccak(text=_serialized({**batch, "meta": {**meta, "name": None}})))


def _serialized(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_serialized, value))}]"
    if isinstance(value, dict):
        keys = sorted(value)
        return f"{{{json_text(keys, indent=None)}{''.join(f'{_serialized(value[key])},' for key in keys)}}}"
    return json_text(value, indent=None)


def read_batch(content: bytes) -> Batch:
    """Return the batch that a file holds.

    Raises:
        CheckError: it is none, or was changed.
    """
    try:
        found = parse_json(content)
        meta, calls = found["meta"], tuple(map(_call, found["transactions"]))
        batch = Batch(int(found["chainId"]), meta["createdFromSafeAddress"], meta["name"], calls)
        untouched = (found["version"], meta["checksum"]) == (_VERSION, checksum(found))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckError(f"this is no batch of the Transaction Builder: {error}") from error
    if not untouched:
        raise CheckError("this batch is not as it was written: its checksum is another one")
    return batch


def _call(found: Mapping[str, Any]) -> Call:
    to, data = found["to"], found["data"]
    if not _ADDRESS.fullmatch(to) or not _DATA.fullmatch(data) or found["value"] != "0":
        raise ValueError("a transaction has another receiver, calldata or value than can be")
    return Call(to_checksum_address(to), bytes.fromhex(data[2:]))


@dataclass(frozen=True)
class Planned:
    """A call of a plan.

    Attributes:
        name: Its step.
        call: The call.
        gas: What it uses.
        counted: What of that counts against the limit of a transaction.
    """

    name: str
    call: Call
    gas: int
    counted: int


def planned(plan: Plan, gas: Mapping[str, int], chain: Chain | None = None) -> tuple[list[Planned], list[Planned], str]:
    """Return a plan's calls: those that are to be made, those that the chain shows as done, and what it creates last.

    Args:
        plan: What is to be done, every contract by CREATE2.
        gas: Of the steps whose gas the plan does not know, by name.
        chain: Where; None if there is no node to ask: then nothing is done.
    """
    addresses: dict[str, str] = {}
    left: list[Planned] = []
    done: list[Planned] = []
    for step in plan.steps:
        call = step.build(addresses)
        if call.to is None:
            raise InternalError(f"{step.name}: a Safe creates nothing but through the proxy")
        if call.creates is not None:
            addresses[step.name] = call.creates
        used = gas.get(step.name, 0) if step.gas is None else step.gas(addresses)
        entry = Planned(step.name, call, used, used - plan.limits.state(bool(step.code_bytes), step.code_bytes))
        there = chain is not None and call.creates is not None and chain.code(call.creates)
        known = chain is not None and step.is_done is not None and step.is_done(addresses)
        (done if there or known else left).append(entry)
    return left, done, addresses.get(CONTRACT, "")


def batched(calls: Iterable[Planned], limits: Fork, alone: Iterable[str] = ()) -> list[list[Planned]]:
    """Return calls in batches that a transaction can hold.

    Args:
        calls: The calls, in order.
        limits: What a transaction may use.
        alone: Steps that begin a batch: time must pass before them.
    """
    found: list[list[Planned]] = []
    room = 0.0
    for entry in calls:
        if not found or entry.counted > room or entry.name in alone:
            found.append([])
            room = _ROOM * limits.transaction_gas
        found[-1].append(entry)
        room -= entry.counted
    return found


def paths_of(path: Path, count: int) -> list[Path]:
    """Return the files of so many batches: FILE, or FILE-1, FILE-2, … in its folder.

    Raises:
        UsageError: one is there already.
    """
    paths = [path] if count == 1 else [path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(1, count + 1)]
    for each in paths:
        if each.exists() or each.is_symlink():
            raise UsageError(f"{each} is there already", hint="name another file with --safe")
    return paths


def write_batches(paths: Sequence[Path], batches: Sequence[Batch], created: int) -> list[Batch]:
    """Write batches, and return what a reader finds in the files.

    Args:
        paths: The files.
        batches: As many batches.
        created: When, in milliseconds since 1970.

    Raises:
        OutputError: they cannot be written; none is left behind then.
        CheckError: what was read again differs.
    """
    written: list[Path] = []
    try:
        for path, batch in zip(paths, batches, strict=True):
            write_file(path, f"{json_text(batch.to_json(created), indent=2)}\n".encode())
            written.append(path)
        found = [read_batch(read_file(path, _MOST_BYTES)) for path in paths]
    except OSError as error:
        discard(written)
        raise OutputError(f"cannot write {error.filename or paths[0]}: {error.strerror or error}") from error
    return found


def discard(paths: Iterable[Path]) -> None:
    """Remove files that did not stand their check."""
    for path in paths:
        path.unlink(missing_ok=True)


# -- simulated --------------------------------------------------------------------------------------------------------


def rehearse_deployment(
    artifact: Artifact, safe: str, address: str, batches: Iterable[Batch], done: Iterable[Planned]
) -> Proof:
    """Make the calls of batches from the Safe's account on an embedded chain, and compare what comes of them.

    Args:
        artifact: What is deployed.
        safe: The Safe's address.
        address: Where the contract must be then.
        batches: As read from the files.
        done: What the real chain has already.

    Raises:
        CheckError: something else comes of it.
        Reverted: a call reverts.
    """
    chain = _chain_of(artifact, safe)
    for call in (*(entry.call for entry in done), *(call for batch in batches for call in batch.calls)):
        chain.transact(str(call.to), call.data)
    proof = prove(artifact, chain, address)
    if proof.update is not None and proof.update.owner != to_checksum_address(safe):
        raise CheckError(f"the contract would belong to {proof.update.owner}, not to the Safe {safe}")
    return proof


def rehearse_calls(
    old: Artifact,
    new: Artifact | None,
    state: UpdateState,
    address: str,
    batches: Iterable[Batch],
    done: Iterable[Planned] = (),
    function: str = "",
) -> Proof:
    """Make the owner's calls on a copy of an updatable contract on an embedded chain, and compare what comes of them.

    Args:
        old: The artifact that the contract was deployed from.
        new: The weights that it has then; None where it keeps its own.
        state: The contract's.
        address: Where it really is.
        batches: As read from the files.
        done: What the real chain has already: chunks that are staged.
        function: Which function is called, if it is not an update.

    Raises:
        CheckError: something else is called, or comes of it.
        Reverted: a call reverts.
    """
    chain = _chain_of(old, state.owner)
    copy = deploy(old, chain)
    _prepare(old, chain, copy, state, function)
    for entry in done:
        chain.transact(copy.address, entry.call.data)
    chain.time += state.timelock
    for batch in batches:
        for call in batch.calls:
            if call.to != to_checksum_address(address):
                raise CheckError(f"a batch calls {call.to}, not the contract at {address}")
            chain.transact(copy.address, call.data)
        chain.time += state.timelock
    return prove(new or old, chain, copy.address, weights=new is not None)


def _prepare(
    artifact: Artifact, chain: RevmChain | EmbeddedChain, copy: Deployment, state: UpdateState, function: str
) -> None:
    """Bring a copy where the contract is, as far as the call needs it."""
    if function == "rollback":
        for name, data in update_calls(artifact, at_once=not state.timelock):
            chain.time += state.timelock if name == ACTIVATE else 0
            chain.transact(copy.address, data)
    if function == "acceptOwnership" and state.pending_owner is not None:
        chain.transact(copy.address, encode_call(artifact.abi, "transferOwnership", state.pending_owner))
        chain.account = state.pending_owner


def _chain_of(artifact: Artifact, account: str) -> RevmChain | EmbeddedChain:
    chain = local_chain(limits_of(artifact))
    chain.account = to_checksum_address(account)
    return chain
