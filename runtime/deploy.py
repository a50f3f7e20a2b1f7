"""Puts a compiled contract, and the data contracts that hold its weights, on a chain.

`deploy` does it on a chain that is there to be tried out; `deployment_plan` makes the transactions for a real one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from ml2sc.backends.base import DATA_CONTRACT_LIMIT, Artifact
from ml2sc.errors import ArtifactError, ContractLimitError, InternalError

from .chain import Chain, EmbeddedChain, RevmChain, intrinsic_gas, revm_is_installed
from .contract import Contract, encode_call
from .transactions import CREATE2_PROXY, PROXY_CODE, Addresses, Call, Plan, Step, create2
from .update import ACTIVATE, UpdateState, call_created, first_steps, owner_argument, update_calls


@dataclass(frozen=True)
class Deployment:
    """A contract that is on a chain.

    Attributes:
        address: Where it is, checksummed.
        gas_deploy: Gas of the transaction that created it.
        gas_weights: Gas of the transactions that created its data contracts, and put them in use; 0 without any.
        code_bytes: Bytes of its runtime code, data contracts not counted.
        data_addresses: The data contracts, in order; of an updatable contract those of the weights in use.
    """

    address: str
    gas_deploy: int
    gas_weights: int
    code_bytes: int
    data_addresses: tuple[str, ...] = ()


def data_contract_init(data: bytes) -> bytes:
    """Return init code that creates a contract whose code is a STOP byte and then `data`.

    The STOP makes calling it harmless; readers skip it (`EXTCODECOPY` from offset 1).

    Args:
        data: At most 24,575 bytes.

    Raises:
        ContractLimitError: it is longer.
    """
    if len(data) > DATA_CONTRACT_LIMIT:
        raise ContractLimitError(
            f"a data contract holds {DATA_CONTRACT_LIMIT:,} bytes, not {len(data):,}",
            hint="split the data over several",
        )
    return code_init(b"\x00" + data)


def deploy(artifact: Artifact, chain: Chain) -> Deployment:
    """Deploy an artifact's data contracts, then its contract with their addresses.

    An updatable contract comes first; it belongs to the chain's account, creates its data contracts itself and has its
    first weights put in use.

    Raises:
        ArtifactError: it is not compiled.
        ContractLimitError: something exceeds what a public chain allows.
        Reverted: a constructor reverted.
    """
    creation = _creation(artifact)
    if artifact.updatable:
        created = chain.deploy(creation + owner_argument(chain.account))
        gas_weights = sum(chain.transact(created.address, data).gas_used for _, data in update_calls(artifact))
        contract = Contract(chain, created.address, artifact.abi)
        addresses = tuple(contract.call("activeChunk", index) for index in range(len(artifact.data)))
    else:
        receipts = [chain.deploy(data_contract_init(data)) for data in artifact.data]
        addresses = tuple(receipt.address for receipt in receipts)
        gas_weights = sum(receipt.gas_used for receipt in receipts)
        created = chain.deploy(creation + _constructor_arguments(artifact, addresses))
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

OFFER = "offer ownership"
"""Name of the step that offers an updatable contract to another owner."""


def weights_step(index: int) -> str:
    """Return the name of the step that creates a data contract."""
    return f"weights {index}"


def parse_salt(text: str) -> bytes:
    """Return CREATE2's 32 bytes of salt: a number in hexadecimal (0x…), or keccak256 of any other text."""
    if re.fullmatch(r"0x[0-9a-fA-F]{1,64}", text):
        return int(text, 16).to_bytes(32, "big")
    return keccak(text=text)


def deployment_plan(
    artifact: Artifact, salt: bytes | None = None, *, sender: str = "", new_owner: str | None = None
) -> Plan:
    """Return the transactions that deploy an artifact: its data contracts, in any order, then its contract.

    An updatable contract comes first, then its weights; the sender owns it, and offers it to the new owner in the end.
    The gas they will use is measured beforehand, on an embedded chain.

    Args:
        artifact: A compiled artifact.
        salt: 32 bytes; with them every address depends on the artifact, an updatable contract's owner, and the salt
            only (CREATE2).
        sender: Who sends the transactions (only of interest for an updatable contract).
        new_owner: Who is to own an updatable contract; None: the sender.

    Raises:
        ArtifactError: it is not compiled.
        ContractLimitError: something exceeds what a public chain allows.
        Reverted: a constructor reverts.
    """
    creation = _creation(artifact)
    rehearsal = _rehearse(artifact, salt)
    if artifact.updatable:
        return _updatable_plan(artifact, salt, sender, new_owner, rehearsal)
    names = tuple(weights_step(index) for index in range(len(artifact.data)))

    def create_contract(addresses: Addresses) -> Call:
        return _create(salt, creation + _constructor_arguments(artifact, tuple(addresses[name] for name in names)))

    def create_weights(data: bytes, _: Addresses) -> Call:
        return _create(salt, data_contract_init(data))

    def gas(name: str, addresses: Mapping[str, str]) -> int:
        """Take the rehearsal's gas over: only the calldata's addresses differ."""
        build = create_contract if name == CONTRACT else partial(create_weights, artifact.data[names.index(name)])
        data = build(addresses).data
        return rehearsal[name].gas + intrinsic_gas(data, create=salt is None)[0]

    steps = [
        Step(
            name,
            partial(create_weights, data),
            gas=partial(gas, name),
            code_bytes=rehearsal[name].code_bytes,
        )
        for name, data in zip(names, artifact.data, strict=True)
    ]
    steps.append(
        Step(
            CONTRACT,
            create_contract,
            after=names,
            gas=partial(gas, CONTRACT),
            code_bytes=rehearsal[CONTRACT].code_bytes,
        )
    )
    return Plan(_identity(artifact, salt), tuple(steps), artifact.abi)


def _updatable_plan(
    artifact: Artifact,
    salt: bytes | None,
    sender: str,
    new_owner: str | None,
    rehearsal: Mapping[str, _Rehearsed],
) -> Plan:
    init_code = _creation(artifact) + owner_argument(sender)
    created = _create(salt, init_code)

    def create_contract(_: Addresses) -> Call:
        return created

    def gas(_: Addresses) -> int:
        return rehearsal[CONTRACT].gas + intrinsic_gas(created.data, create=salt is None)[0]

    steps = [Step(CONTRACT, create_contract, gas=gas, code_bytes=rehearsal[CONTRACT].code_bytes)]
    steps += first_steps(artifact, CONTRACT, {name: step.gas for name, step in rehearsal.items()})
    if new_owner is not None:
        offer = encode_call(artifact.abi, "transferOwnership", new_owner)
        build = partial(call_created, CONTRACT, offer)
        steps.append(Step(OFFER, build, (ACTIVATE,), gas=lambda _: rehearsal[OFFER].gas))
    return Plan(f"{_identity(artifact, salt)} of {sender}", tuple(steps), artifact.abi)


def _create(salt: bytes | None, init_code: bytes) -> Call:
    return Call(None, init_code) if salt is None else create2(salt, init_code)


def _identity(artifact: Artifact, salt: bytes | None) -> str:
    parts = [_creation(artifact), *(keccak(data) for data in artifact.data), salt or b""]
    return f"deploy {artifact.name} {keccak(b''.join(parts)).hex()[:16]}"


def rehearse_update(artifact: Artifact, state: UpdateState) -> dict[str, int]:
    """Return what the steps of an update will use, by name, measured on an embedded chain.

    Args:
        artifact: The new weights.
        state: The contract's: slots that were written before cost less.
    """
    chain = _local_chain()
    address = deploy(artifact, chain).address
    gas: dict[str, int] = {}
    for _ in range(2 if state.previous_version else 1):
        for name, data in update_calls(artifact, at_once=not state.timelock):
            chain.time += state.timelock if name == ACTIVATE else 0
            gas[name] = chain.transact(address, data).gas_used
    return gas


def _local_chain() -> RevmChain | EmbeddedChain:
    return RevmChain() if revm_is_installed() else EmbeddedChain()


class _Rehearsed(NamedTuple):
    """What a step took on an embedded chain: bytes of code, and gas (for creating, apart from its intrinsic gas)."""

    gas: int
    code_bytes: int


def _rehearse(artifact: Artifact, salt: bytes | None) -> dict[str, _Rehearsed]:
    """Deploy on an embedded chain, through its own proxy if there is a salt."""
    chain = _local_chain()
    proxy = "" if salt is None else chain.deploy(code_init(PROXY_CODE)).address
    addresses: list[str] = []
    rehearsed: dict[str, _Rehearsed] = {}

    def create(name: str, init_code: bytes) -> None:
        if salt is None:
            receipt = chain.deploy(init_code)
            used, address = receipt.gas_used, receipt.address
            rest = used - intrinsic_gas(init_code, create=True)[0]
        else:
            # Straight first: it says which limit is broken, where the proxy would only revert.
            address = chain.deploy(init_code).address
            data = salt + init_code
            rest = chain.gas(proxy, data) - intrinsic_gas(data, create=False)[0]
        addresses.append(address)
        rehearsed[name] = _Rehearsed(rest, len(chain.code(address)))

    if artifact.updatable:
        create(CONTRACT, _creation(artifact) + owner_argument(chain.account))
        offer = (OFFER, encode_call(artifact.abi, "transferOwnership", "0x" + "ff" * 20))
        for name, data in [*update_calls(artifact), offer]:
            rehearsed[name] = _Rehearsed(chain.transact(addresses[0], data).gas_used, 0)
        return rehearsed
    for index, data in enumerate(artifact.data):
        create(weights_step(index), data_contract_init(data))
    create(CONTRACT, _creation(artifact) + _constructor_arguments(artifact, tuple(addresses)))
    return rehearsed


def code_init(code: bytes) -> bytes:
    """Return init code that creates a contract of the given code (at most 65,535 bytes)."""
    # PUSH2 size · DUP1 · PUSH1 10 · PUSH0 · CODECOPY: copy all that follows these 10 bytes to memory at 0
    # PUSH0 · RETURN: and return those `size` bytes as the code
    return b"\x61" + len(code).to_bytes(2, "big") + b"\x80\x60\x0a\x5f\x39\x5f\xf3" + code


def has_create2_proxy(chain: Chain) -> bool:
    """Return whether a chain has the deterministic-deployment proxy."""
    return chain.code(CREATE2_PROXY) == PROXY_CODE


def _constructor_arguments(artifact: Artifact, addresses: tuple[str, ...]) -> bytes:
    """Encode the data contracts' addresses: as one `address[K]` or `address[]`, or as K times `address`."""
    constructor = next((entry for entry in artifact.abi if entry["type"] == "constructor"), None)
    types = [entry["type"] for entry in constructor["inputs"]] if constructor is not None else []
    if types in (["address[]"], [f"address[{len(addresses)}]"]):
        return encode(types, [addresses])
    if types == ["address"] * len(addresses):
        return encode(types, addresses)
    raise InternalError(
        f"the constructor of {artifact.name} takes ({', '.join(types)}), not {len(addresses)} data contracts"
    )
