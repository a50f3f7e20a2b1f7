"""New weights for an updatable contract: its state, and the transactions that stage, activate and take back weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from ml2sc.backends.base import Artifact
from ml2sc.backends.interface import weights_hash
from ml2sc.errors import CheckError, UsageError

from .chain import Chain, limits_of
from .contract import Contract, encode_call
from .transactions import Addresses, Call, Plan, Step

_LAST_TIME = 253_402_300_799
"""The last second of the year 9999, where calendars end."""

ACTIVATE = "activate"
"""Name of the step that puts new weights in use."""


def stage_step(index: int) -> str:
    """Return the name of the step that stages a chunk."""
    return f"stage {index}"


def update_calls(artifact: Artifact, *, at_once: bool = True) -> Iterator[tuple[str, bytes]]:
    """Yield what replaces the weights: names of steps ("stage 0", …, "activate") and their calldata, in order.

    Args:
        artifact: The new weights.
        at_once: Stage the last chunk and activate in one transaction; not where a timelock lies between the two.
    """
    expected, abi = weights_hash(artifact.data), artifact.abi
    last = len(artifact.data) - 1
    for index, chunk in enumerate(artifact.data):
        if index == last and at_once:
            yield ACTIVATE, encode_call(abi, "stageAndActivate", index, chunk, expected)
        else:
            yield stage_step(index), encode_call(abi, "stage", index, chunk)
    if not at_once:
        yield ACTIVATE, encode_call(abi, "activate", expected)


NOT_PROVED = (
    "storage says what may happen now, not how it came about: who created the contract may have written it with other "
    "init code, without events or notice. The creating transaction and the events tell"
)
"""What reading an updatable contract leaves open."""


@dataclass(frozen=True)
class Waiting:
    """Weights that are there but not in use: staged ones, or previous ones.

    Attributes:
        chunks: Contracts that hold them, in order; None for a chunk that is not there. Empty if none is.
        weights_hash: Their hash; None unless all are there.
        sound: Whether each that is there is a data contract of the right length. Only code that begins with STOP is
            sure to stay what it is; anything else was not put there by the contract's own code.
    """

    chunks: tuple[str | None, ...] = ()
    weights_hash: str | None = None
    sound: bool = True

    def __str__(self) -> str:
        there = sum(chunk is not None for chunk in self.chunks)
        if not there:
            return "nothing"
        text = f"weights {self.weights_hash}" if self.weights_hash else f"{there} of {len(self.chunks)} chunks"
        return text if self.sound else f"{text}, NOT put there by this contract's code"


@dataclass(frozen=True)
class UpdateState:
    """What an updatable contract says of itself.

    It is read from storage, which has its limits: see `NOT_PROVED`.

    Attributes:
        owner: Who may replace the weights.
        pending_owner: To whom the contract is offered; None for nobody.
        version: The weights in use; 0 before the first activation.
        previous_version: What a rollback would return to; 0 for nothing.
        frozen: Whether nothing can change any more.
        timelock: Seconds between staging and activation.
        ready_at: From when on what is staged may be activated, in seconds since 1970; 0 if at once.
        weights_hash: Hash of the weights in use.
        model_hash: Hash of the model they come from.
        chunks: Contracts that hold the weights in use; empty before the first activation.
        staged: The weights that wait for their activation.
        previous: Those that a rollback would return to.
        time: The earliest time that the next transaction may have, in seconds since 1970.
    """

    owner: str
    pending_owner: str | None
    version: int
    previous_version: int
    frozen: bool
    timelock: int
    ready_at: int
    weights_hash: str
    model_hash: str
    chunks: tuple[str, ...]
    staged: Waiting
    previous: Waiting
    time: int

    @property
    def can_activate(self) -> bool:
        """Whether the owner can put in use what is staged, in the next transaction."""
        return not self.frozen and self.staged.weights_hash is not None and self.ready_at <= self.time

    @property
    def can_rollback(self) -> bool:
        """Whether the owner can put the previous weights in use, in the next transaction."""
        return not self.frozen and self.previous_version > 0

    @property
    def can_replace(self) -> bool:
        """Whether the owner can put any weights in use without notice."""
        return not self.frozen and not (self.timelock and self.version)

    @property
    def summary(self) -> str:
        """Version, owner and what may still change, in a phrase."""
        if self.frozen:
            return f"version {self.version}, frozen for ever"
        whose = f"version {self.version}, which {self.owner} may replace"
        if self.can_replace:
            return f"{whose} at once"
        notice = f"with {self.timelock:,} s of notice"
        ready = ["what is staged"] if self.can_activate else []
        ready += [f"version {self.previous_version}"] if self.can_rollback else []
        return f"{whose} AT ONCE by {' or '.join(ready)}, by others {notice}" if ready else f"{whose} {notice}"

    def rows(self) -> list[tuple[str, str]]:
        """Return for people what is in use, what waits, and what the owner can do now: (what, text)."""
        rows = [("weights", self.summary), ("weights hash", self.weights_hash)]
        if self.frozen:
            return rows
        rows += [
            ("staged", f"{self.staged}{self._when()}"),
            ("previous", f"version {self.previous_version}, {self.previous}" if self.previous_version else "nothing"),
        ]
        if self.pending_owner is not None:
            rows.append(("offered to", f"{self.pending_owner}, who can accept at once"))
        return [*rows, ("not proved", NOT_PROVED)]

    def _when(self) -> str:
        if self.staged.weights_hash is None:
            return ""
        if self.ready_at <= self.time:
            return ", which can be put in use at once"
        when = datetime.fromtimestamp(min(self.ready_at, _LAST_TIME), UTC).isoformat(sep=" ", timespec="seconds")
        return f", which can be put in use from {when} on"

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        now = {name: getattr(self, name) for name in ("can_activate", "can_rollback", "can_replace")}
        return {**asdict(self), "now": now, "not_proved": NOT_PROVED}

    def require_open(self, sender: str, *, accepts: bool = False) -> None:
        """Refuse to send what the contract would refuse.

        Args:
            sender: Who sends.
            accepts: Whether it is to become the owner, instead of being it.

        Raises:
            UsageError: the contract is frozen, or the sender is not its owner.
        """
        if self.frozen:
            raise UsageError("the contract is frozen: nothing can be changed any more")
        if accepts:
            if (self.pending_owner or "").lower() != sender.lower():
                raise UsageError(f"the contract is offered to {self.pending_owner or 'nobody'}, not to {sender}")
        elif self.owner.lower() != sender.lower():
            raise UsageError(
                f"the contract's owner is {self.owner}, not {sender}",
                hint="sign with the owner's key (--keystore, --key-env, --unlocked)",
            )


def read_state(contract: Contract, lengths: Sequence[int]) -> UpdateState:
    """Ask an updatable contract for its state.

    Args:
        contract: The contract.
        lengths: Bytes of the chunks that its weights are cut into.
    """
    ask, chain = contract.call, contract.chain
    version, pending = int(ask("version")), str(ask("pendingOwner"))

    def waiting(function: str) -> Waiting:
        found = [str(ask(function, index)) for index in range(len(lengths))]
        holders = [to_checksum_address(holder) if int(holder, 16) else None for holder in found]
        codes = [b"" if holder is None else chain.code(holder) for holder in holders]
        if not any(holders):
            return Waiting()
        whole = f"0x{keccak(b''.join(map(keccak, codes))).hex()}" if all(holders) else None
        data = [code.startswith(b"\x00") and len(code) == 1 + n for code, n in zip(codes, lengths, strict=True)]
        sound = all(good for good, holder in zip(data, holders, strict=True) if holder is not None)
        return Waiting(tuple(holders), whole, sound)

    return UpdateState(
        owner=to_checksum_address(ask("owner")),
        pending_owner=to_checksum_address(pending) if int(pending, 16) else None,
        version=version,
        previous_version=int(ask("previousVersion")),
        frozen=bool(ask("frozen")),
        timelock=int(ask("timelock")),
        ready_at=int(ask("readyAt")),
        weights_hash=f"0x{bytes(ask('weightsHash')).hex()}",
        model_hash=f"0x{contract.model_hash().hex()}",
        chunks=tuple(to_checksum_address(ask("activeChunk", i)) for i in range(len(lengths))) if version else (),
        staged=waiting("stagedChunk"),
        previous=waiting("previousChunk"),
        time=chain.next_time(),
    )


def compare_weights(artifact: Artifact, chain: Chain, state: UpdateState) -> None:
    """Compare the weights in use with an artifact's, byte for byte.

    Raises:
        CheckError: they differ.
    """
    if not state.version:
        raise CheckError("no weights are in use yet: the contract answers nothing", hint="run ml2sc-deploy again")
    for index, (holder, data) in enumerate(zip(state.chunks, artifact.data, strict=True)):
        if chain.code(holder) != b"\x00" + data:
            expected = f"0x{weights_hash(artifact.data).hex()}"
            raise CheckError(
                f"the weights in use (version {state.version}, chunk {index} at {holder}) are not this artifact's: "
                f"their hash is {state.weights_hash}, this artifact's {expected}; the model's is {state.model_hash}",
                hint="the folder of the model in use is the one that ml2sc-update wrote",
            )


def first_steps(artifact: Artifact, creates: str, gas: Mapping[str, int]) -> list[Step]:
    """Return the steps that give a new contract its first weights.

    Args:
        artifact: The weights.
        creates: Name of the step that creates the contract.
        gas: What each step will use, by name.
    """
    steps: list[Step] = []
    for name, data in update_calls(artifact):
        needed = (creates, *(step.name for step in steps)) if name == ACTIVATE else (creates,)
        steps.append(Step(name, partial(call_created, creates, data), needed, gas=partial(_foreseen, gas[name])))
    return steps


def call_created(creates: str, data: bytes, addresses: Addresses) -> Call:
    """Return the call of a contract that an earlier step creates."""
    return Call(addresses[creates], data)


def update_plan(artifact: Artifact, chain: Chain, address: str, state: UpdateState, gas: Mapping[str, int]) -> Plan:
    """Return the transactions that replace a contract's weights. What is staged already is not staged again.

    Args:
        artifact: The new weights.
        chain: Where the contract is.
        address: The contract.
        state: Its state.
        gas: What "activate" will use (`rehearse_update`): the node cannot be asked before all is staged.
    """
    contract, expected = Contract(chain, address, artifact.abi), weights_hash(artifact.data)

    def is_staged(index: int, _: Addresses) -> bool:
        holder = str(contract.call("stagedChunk", index))
        return chain.code(holder) == b"\x00" + artifact.data[index]

    def is_active(_: Addresses) -> bool:
        return bytes(contract.call("weightsHash")) == expected

    steps: list[Step] = []
    for name, data in update_calls(artifact, at_once=not state.timelock):
        if name == ACTIVATE:
            before = tuple(step.name for step in steps)
            # a node estimates what must be given; some comes back, for the slots of staged chunks
            foreseen = partial(_foreseen, gas.get(name, 0))
            steps.append(Step(name, partial(_call, address, data), before, gas=foreseen, is_done=is_active))
        else:
            steps.append(Step(name, partial(_call, address, data), is_done=partial(is_staged, len(steps))))
    return Plan(
        f"update {artifact.name} at {address} to {expected.hex()[:16]}", tuple(steps), artifact.abi, limits_of(artifact)
    )


def _foreseen(gas: int, _: Addresses) -> int:
    return gas


def call_plan(artifact: Artifact, address: str, function: str, *args: Any) -> Plan:
    """Return the one transaction that calls a function of the owner's (`rollback`, `freeze`, …)."""
    data = encode_call(artifact.abi, function, *args)
    step = Step(function, partial(_call, address, data))
    return Plan(
        f"{function}({', '.join(args)}) of {artifact.name} at {address}", (step,), artifact.abi, limits_of(artifact)
    )


def _call(address: str, data: bytes, _: Addresses) -> Call:
    return Call(address, data)
