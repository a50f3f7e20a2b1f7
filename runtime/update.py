"""New weights for an updatable contract: its state, and the transactions that stage, activate and take back weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address

from ml2sc.backends.base import Artifact
from ml2sc.backends.interface import weights_hash
from ml2sc.errors import CheckError, UsageError

from .chain import Chain
from .contract import Contract, encode_call
from .transactions import Addresses, Call, Plan, Step

INIT_BYTES = 11
"""Init code of a chunk's contract, besides the chunk."""

ACTIVATE = "activate"
"""Name of the step that puts new weights in use."""


def stage_step(index: int) -> str:
    """Return the name of the step that stages a chunk."""
    return f"stage {index}"


def owner_argument(owner: str) -> bytes:
    """Return the constructor's argument of an updatable contract."""
    return encode(["address"], [owner])


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


@dataclass(frozen=True)
class UpdateState:
    """What an updatable contract says of itself.

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

    @property
    def summary(self) -> str:
        """Version, owner and what may still change, in a phrase."""
        if self.frozen:
            return f"version {self.version}, frozen for ever"
        delay = f" with {self.timelock:,} s of notice" if self.timelock else ""
        return f"version {self.version}, which {self.owner} may replace{delay}"

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


def read_state(contract: Contract, chunks: int) -> UpdateState:
    """Ask an updatable contract for its state.

    Args:
        contract: The contract.
        chunks: How many chunks its weights are cut into.
    """
    ask = contract.call
    version, pending = int(ask("version")), str(ask("pendingOwner"))
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
        chunks=tuple(to_checksum_address(ask("activeChunk", i)) for i in range(chunks)) if version else (),
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
    return Plan(f"update {artifact.name} at {address} to {expected.hex()[:16]}", tuple(steps), artifact.abi)


def _foreseen(gas: int, _: Addresses) -> int:
    return gas


def call_plan(artifact: Artifact, address: str, function: str, *args: Any) -> Plan:
    """Return the one transaction that calls a function of the owner's (`rollback`, `freeze`, …)."""
    data = encode_call(artifact.abi, function, *args)
    step = Step(function, partial(_call, address, data))
    return Plan(f"{function}({', '.join(args)}) of {artifact.name} at {address}", (step,), artifact.abi)


def _call(address: str, data: bytes, _: Addresses) -> Call:
    return Call(address, data)
