"""Puts a compiled contract, and the data contracts that hold its weights, on a chain.

`deploy` does it on a chain that is there to be tried out; `deployment_plan` makes the transactions for a real one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from ml2sc.backends.base import Artifact
from ml2sc.backends.interface import FACTORY, SALT_BYTES, code_init, proxy_calldata
from ml2sc.errors import ArtifactError, InternalError

from .chain import CREATE2_PROXY, LIMITS, PROXY_CODE, Chain, intrinsic_gas, limits_of, local_chain
from .contract import Contract, encode_call
from .transactions import Addresses, Call, Plan, Step, create2
from .update import ACTIVATE, UpdateState, call_created, first_steps, update_calls


@dataclass(frozen=True)
class Deployment:
    """A contract that is on a chain.

    Attributes:
        address: Where it is, checksummed.
        gas_deploy: Gas of the transaction that created it.
        gas_weights: Gas of the transactions that created its data contracts, and put them in use; 0 without any.
        code_bytes: Bytes of its runtime code, data contracts not counted.
        data_addresses: The data contracts, in order; of an updatable contract those of the weights in use. Then the
            code contracts.
    """

    address: str
    gas_deploy: int
    gas_weights: int
    code_bytes: int
    data_addresses: tuple[str, ...] = ()


def deploy(artifact: Artifact, chain: Chain) -> Deployment:
    """Deploy an artifact's data contracts by the chain's CREATE2 proxy, unless they are there; then its contract.

    An updatable contract comes first; it belongs to the chain's account, creates its data contracts itself and has its
    first weights put in use.

    Raises:
        ArtifactError: it is not compiled.
        ContractLimitError: something exceeds what a public chain allows.
        Reverted: a constructor reverted.
    """
    creation = _creation(artifact)
    calls = [holder(index, code) for index, code in enumerate(artifact.codes)]
    missing = [call for call in calls if not chain.code(str(call.creates))]
    gas_weights = sum(chain.transact(CREATE2_PROXY, call.data).gas_used for call in missing)
    created = chain.deploy(creation + constructor_arguments(artifact, CREATE2_PROXY, chain.account))
    addresses = tuple(str(call.creates) for call in calls)
    if artifact.updatable:
        gas_weights += sum(chain.transact(created.address, data).gas_used for _, data in update_calls(artifact))
        contract = Contract(chain, created.address, artifact.abi)
        chunks = tuple(contract.call("activeChunk", index) for index in range(len(artifact.data)))
        addresses = (*chunks, *addresses)
    return Deployment(
        address=created.address,
        gas_deploy=created.gas_used,
        gas_weights=gas_weights,
        code_bytes=created.code_size,
        data_addresses=tuple(map(to_checksum_address, addresses)),
    )


def _creation(artifact: Artifact) -> bytes:
    if artifact.bytecode is None:
        raise ArtifactError(f"{artifact.name} is not compiled", hint="run the backend's compile first")
    return artifact.bytecode.creation


CONTRACT = "contract"
"""Name of the step that creates the contract itself."""

PROXY = "factory"
"""Name of the step that creates a proxy for CREATE2, where the chain lacks the one that others have."""

OFFER = "offer ownership"
"""Name of the step that offers an updatable contract to another owner."""


def holder_steps(artifact: Artifact) -> tuple[str, ...]:
    """Return the names of the steps that create data contracts, and then code contracts."""
    data = () if artifact.updatable else tuple(weights_step(index) for index in range(len(artifact.data)))
    return (*data, *(f"code {number}" for number in range(1, len(artifact.parts) + 1)))


def weights_step(index: int) -> str:
    """Return the name of the step that creates a data contract."""
    return f"weights {index}"


def holder(index: int, code: bytes, factory: str = CREATE2_PROXY) -> Call:
    """Return the call that creates a contract of some code where the constructor looks for it."""
    calldata = proxy_calldata(index, code)
    return create2(calldata[:SALT_BYTES], calldata[SALT_BYTES:], factory)


def parse_salt(text: str) -> bytes:
    """Return CREATE2's 32 bytes of salt: a number in hexadecimal (0x…), or keccak256 of any other text."""
    if re.fullmatch(r"0x[0-9a-fA-F]{1,64}", text):
        return int(text, 16).to_bytes(32, "big")
    return keccak(text=text)


def deployment_plan(
    artifact: Artifact,
    salt: bytes | None = None,
    *,
    sender: str = "",
    new_owner: str | None = None,
    has_proxy: bool = True,
) -> Plan:
    """Return the transactions that deploy an artifact: its data contracts, in any order, then its contract.

    Data and code contracts are created by CREATE2, which the contract's constructor relies on (docs/decisions/0006).
    Where the chain lacks the proxy that others have, one is created first.

    An updatable contract comes first, then its weights; the sender owns it, and offers it to the new owner in the end.
    The gas they will use is measured beforehand, on an embedded chain.

    Args:
        artifact: A compiled artifact.
        salt: 32 bytes; with them every address depends on the artifact, an updatable contract's owner, and the salt
            only (CREATE2).
        sender: Who sends the transactions (only of interest for an updatable contract).
        new_owner: Who is to own an updatable contract; None: the sender.
        has_proxy: Whether the chain has the CREATE2 proxy (`has_create2_proxy`).

    Raises:
        ArtifactError: it is not compiled.
        ContractLimitError: something exceeds what a public chain allows.
        Reverted: a constructor reverts.
    """
    creation = _creation(artifact)
    rehearsal, limits = _rehearse(artifact, salt), limits_of(artifact)
    names = holder_steps(artifact)
    before = () if has_proxy or not names else (PROXY,)

    def factory(addresses: Addresses) -> str:
        return addresses[PROXY] if before else CREATE2_PROXY

    def create_proxy(_: Addresses) -> Call:
        return Call(None, code_init(PROXY_CODE))

    def create_weights(index: int, addresses: Addresses) -> Call:
        return holder(index, artifact.codes[index], factory(addresses))

    def create_contract(addresses: Addresses) -> Call:
        return _create(salt, creation + constructor_arguments(artifact, factory(addresses), sender))

    def step(name: str, build: Callable[[Addresses], Call], after: tuple[str, ...]) -> Step:
        known = rehearsal[name]

        def gas(addresses: Addresses) -> int:
            """Take the rehearsal's gas over: only the calldata's address differs, and the chain's prices."""
            call = build(addresses)
            called = call.to is not None
            dearer = limits.created(known.code_bytes) - LIMITS.created(known.code_bytes)
            dearer += limits.intrinsic(call.data, called=called) - LIMITS.intrinsic(call.data, called=called)
            return known.gas + intrinsic_gas(call.data, create=not called)[0] + dearer

        return Step(name, build, after, gas, known.code_bytes)

    steps = [step(name, create_proxy, ()) for name in before]
    steps += [step(name, partial(create_weights, index), before) for index, name in enumerate(names)]
    steps.append(step(CONTRACT, create_contract, before + names))
    identity = _identity(artifact, salt, *before)
    if artifact.updatable:
        identity = f"{identity} of {sender}"
        steps += first_steps(artifact, CONTRACT, {name: step.gas for name, step in rehearsal.items()})
    if new_owner is not None and artifact.updatable:
        offer = encode_call(artifact.abi, "transferOwnership", new_owner)
        build = partial(call_created, CONTRACT, offer)
        steps.append(Step(OFFER, build, (ACTIVATE,), gas=lambda _: rehearsal[OFFER].gas))
    return Plan(identity, tuple(steps), artifact.abi, limits)


def _create(salt: bytes | None, init_code: bytes) -> Call:
    return Call(None, init_code) if salt is None else create2(salt, init_code)


def _identity(artifact: Artifact, salt: bytes | None, *before: str) -> str:
    """Return what a plan is; `before` names the steps that make up for what the chain lacks."""
    codes = [keccak(part.runtime) for part in artifact.bytecode.parts] if artifact.bytecode is not None else []
    data = [keccak(data) for data in artifact.data]
    parts = [_creation(artifact), *data, *codes, salt or b"", *map(str.encode, before)]
    return f"deploy {artifact.name} {keccak(b''.join(parts)).hex()[:16]}"


def rehearse_update(artifact: Artifact, state: UpdateState) -> dict[str, int]:
    """Return what the steps of an update will use, by name, measured on an embedded chain.

    Args:
        artifact: The new weights.
        state: The contract's: slots that were written before cost less.
    """
    chain = local_chain(limits_of(artifact))
    address = deploy(artifact, chain).address
    gas: dict[str, int] = {}
    for _ in range(2 if state.previous_version else 1):
        for name, data in update_calls(artifact, at_once=not state.timelock):
            chain.time += state.timelock if name == ACTIVATE else 0
            gas[name] = chain.transact(address, data).gas_used
    return gas


class _Rehearsed(NamedTuple):
    """What a step took on an embedded chain: bytes of code, and gas (for creating, apart from its intrinsic gas)."""

    gas: int
    code_bytes: int


def _rehearse(artifact: Artifact, salt: bytes | None) -> dict[str, _Rehearsed]:
    """Deploy on an embedded chain: through its proxy if there is a salt, data contracts always."""
    chain = local_chain(limits_of(artifact))
    rehearsed: dict[str, _Rehearsed] = {}

    def note(name: str, used: int, data: bytes, code_bytes: int, *, create: bool) -> None:
        rehearsed[name] = _Rehearsed(used - intrinsic_gas(data, create=create)[0], code_bytes)

    def create(name: str, init_code: bytes) -> str:
        # Straight first, with a salt too: it says which limit is broken, where the proxy would only revert.
        receipt = chain.deploy(init_code)
        if salt is None:
            note(name, receipt.gas_used, init_code, receipt.code_size, create=True)
        else:
            data = salt + init_code
            note(name, chain.gas(CREATE2_PROXY, data), data, receipt.code_size, create=False)
        return receipt.address

    proxy = chain.deploy(code_init(PROXY_CODE))
    note(PROXY, proxy.gas_used, code_init(PROXY_CODE), proxy.code_size, create=True)
    for index, (name, code) in enumerate(zip(holder_steps(artifact), artifact.codes, strict=True)):
        call = holder(index, code)
        used = chain.transact(CREATE2_PROXY, call.data).gas_used
        note(name, used, call.data, len(code), create=False)
    address = create(CONTRACT, _creation(artifact) + constructor_arguments(artifact, CREATE2_PROXY, chain.account))
    if artifact.updatable:
        offer = (OFFER, encode_call(artifact.abi, "transferOwnership", "0x" + "ff" * 20))
        for name, data in [*update_calls(artifact), offer]:
            rehearsed[name] = _Rehearsed(chain.transact(address, data).gas_used, 0)
    return rehearsed


def has_create2_proxy(chain: Chain) -> bool:
    """Return whether a chain has the deterministic-deployment proxy."""
    return chain.code(CREATE2_PROXY) == PROXY_CODE


def constructor_arguments(artifact: Artifact, factory: str, owner: str | None) -> bytes:
    """Encode who owns an updatable contract, and who creates the data and code contracts, if there are any."""
    constructors = [entry for entry in artifact.abi if entry["type"] == "constructor"]
    takes = [f"{value['type']} {value['name']}" for entry in constructors for value in entry["inputs"]]
    given = {"address owner_": owner} if artifact.updatable else {}
    given |= {f"address {FACTORY}": factory} if artifact.codes else {}
    if takes != [*given]:
        raise InternalError(
            f"the constructor of {artifact.name} takes ({', '.join(takes)}) instead of ({', '.join(given)}), "
            f"and there are {len(artifact.data)} data contracts and {len(artifact.parts)} code contracts"
        )
    return encode(["address"] * len(given), list(given.values()))
