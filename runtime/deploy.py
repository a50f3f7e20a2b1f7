"""Puts a compiled contract, and the data contracts that hold its weights, on a chain."""

from __future__ import annotations

from dataclasses import dataclass

from eth_abi.abi import encode

from ml2sc.backends.base import DATA_CONTRACT_LIMIT, Artifact
from ml2sc.errors import ArtifactError, ContractLimitError, InternalError

from .chain import Chain


@dataclass(frozen=True)
class Deployment:
    """A contract that is on a chain.

    Attributes:
        address: Where it is, checksummed.
        gas_deploy: Gas of the transaction that created it.
        gas_weights: Gas of the transactions that created its data contracts; 0 without any.
        code_bytes: Bytes of its runtime code, data contracts not counted.
        data_addresses: The data contracts, in constructor order.
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
    size = (len(data) + 1).to_bytes(2, "big")
    # PUSH2 size · DUP1 · PUSH1 10 · PUSH0 · CODECOPY: copy all that follows these 10 bytes to memory at 0
    # PUSH0 · RETURN: and return those `size` bytes as the code
    return b"\x61" + size + b"\x80\x60\x0a\x5f\x39\x5f\xf3" + b"\x00" + data


def deploy(artifact: Artifact, chain: Chain) -> Deployment:
    """Deploy an artifact's data contracts, then its contract with their addresses.

    Raises:
        ArtifactError: it is not compiled.
        ContractLimitError: something exceeds what a public chain allows.
        Reverted: a constructor reverted.
    """
    if artifact.bytecode is None:
        raise ArtifactError(f"{artifact.name} is not compiled", hint="run the backend's compile first")
    receipts = [chain.deploy(data_contract_init(data)) for data in artifact.data]
    addresses = tuple(receipt.address for receipt in receipts)
    created = chain.deploy(artifact.bytecode.creation + _constructor_arguments(artifact, addresses))
    return Deployment(
        address=created.address,
        gas_deploy=created.gas_used,
        gas_weights=sum(receipt.gas_used for receipt in receipts),
        code_bytes=created.code_size,
        data_addresses=addresses,
    )


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
