"""The proof of what is deployed: code and weights on the chain are, byte for byte, what the artifact says.

The contract's own constructor is the reference: the artifact's creation code is run on an embedded chain, and what it
returns must be what the real chain holds, but for two things that differ by right. The addresses of the data contracts
are immutables in the code: they are read from the code on the chain, and what they hold is compared. And solc ends the
code with metadata (a hash of the source with its comments, and the compiler's version), which is no code: it may
differ, and that is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

from ml2sc.backends.base import Artifact
from ml2sc.errors import CheckError

from .bytecode import difference, split_metadata
from .chain import Chain, limits_of, local_chain
from .contract import Contract
from .deploy import deploy
from .update import UpdateState, compare_weights, read_state


@dataclass(frozen=True)
class Proof:
    """What was found equal.

    Attributes:
        address: The contract.
        code_bytes: Bytes of its code.
        code_hash: keccak256 of its code (EXTCODEHASH).
        metadata_differs: The code's metadata is another one: the source differed in comments or names only.
        data_addresses: Its data contracts, then its code contracts.
        data_bytes: Bytes of weights in them, all compared; 0 where only the code was.
        model_hash: Hash of the model, which the contract states.
        update: What an updatable contract says of itself; None for another one.
    """

    address: str
    code_bytes: int
    code_hash: str
    metadata_differs: bool
    data_addresses: tuple[str, ...]
    data_bytes: int
    model_hash: str
    update: UpdateState | None = None

    @property
    def summary(self) -> str:
        """What was compared, in a phrase."""
        metadata = " but for solc's metadata" if self.metadata_differs else ""
        weights = f", {self.data_bytes:,} bytes of weights" if self.data_bytes else ""
        return f"{self.code_bytes:,} bytes of code equal{metadata}{weights}, the model's hash"

    def to_json(self) -> dict[str, Any]:
        """Return the proof as JSON values."""
        update = {} if self.update is None else {"update": self.update.to_json()}
        own = {name: value for name, value in vars(self).items() if name != "update"}
        return {**own, "data_addresses": list(self.data_addresses), **update}


def prove(artifact: Artifact, chain: Chain, address: str, *, weights: bool = True) -> Proof:
    """Compare what is at an address with an artifact.

    Args:
        artifact: A compiled artifact.
        chain: Where the contract is.
        address: Its address.
        weights: Whether the weights must be the artifact's too, which an updatable contract can replace.

    Raises:
        ArtifactError: nothing is there, or the artifact is not compiled.
        CheckError: something else is there; the text says what differs.
    """
    contract = Contract(chain, address, artifact.abi)
    there = chain.code(address)
    local = local_chain(limits_of(artifact))
    deployment = deploy(artifact, local)
    code = local.code(deployment.address)
    holders = deployment.data_addresses[len(artifact.data) if artifact.updatable else 0 :]
    expected, addresses = _with_addresses(code, there, holders, address)
    _compare_holders(artifact, chain, addresses)
    metadata_differs = False
    if there != expected:
        body, trailer = split_metadata(expected)
        if not trailer or there[: len(body)] != body or split_metadata(there)[0] != body:
            raise CheckError(f"the code at {address} is not this artifact's: {difference(expected, there)}")
        metadata_differs = True
    update = None
    if artifact.updatable:
        update = read_state(contract, [len(data) for data in artifact.data])
        addresses = (*update.chunks, *addresses)
        if weights:
            compare_weights(artifact, chain, update)
    stated = contract.model_hash()
    if weights and stated != artifact.model_hash:
        raise CheckError(f"modelHash() is 0x{stated.hex()}, the hash of the model is 0x{artifact.model_hash.hex()}")
    return Proof(
        address=to_checksum_address(address),
        code_bytes=len(there),
        code_hash=f"0x{keccak(there).hex()}",
        metadata_differs=metadata_differs,
        data_addresses=addresses,
        data_bytes=sum(map(len, artifact.data)) if weights else 0,
        model_hash=f"0x{stated.hex()}",
        update=update,
    )


def _compare_holders(artifact: Artifact, chain: Chain, addresses: tuple[str, ...]) -> None:
    data = 0 if artifact.updatable else len(artifact.data)
    for index, (holder, code) in enumerate(zip(addresses, artifact.codes, strict=True)):
        held = chain.code(holder)
        if held == code:
            continue
        found = difference(code, held)
        if index < data:
            raise CheckError(f"data contract {index} at {holder} does not hold this artifact's weights: {found}")
        raise CheckError(f"code contract {index - data + 1} at {holder} is not this artifact's: {found}")


def _with_addresses(code: bytes, there: bytes, ours: tuple[str, ...], address: str) -> tuple[bytes, tuple[str, ...]]:
    """Put the chain's data contracts in the place of ours: they stand where ours stand."""
    expected, theirs = bytearray(code), []
    for own in map(to_canonical_address, ours):
        places = [i for i in range(len(code) - 19) if code.startswith(own, i)]
        found = {there[i : i + 20] for i in places}
        if len(found) != 1 or len(next(iter(found))) != len(own):
            raise CheckError(f"the code at {address} is not this artifact's: {difference(code, there)}")
        holder = found.pop()
        for i in places:
            expected[i : i + 20] = holder
        theirs.append(to_checksum_address(holder))
    return bytes(expected), tuple(theirs)
