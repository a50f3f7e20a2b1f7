"""A typed handle on a deployed contract: Python integers in, Python integers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

from ml2sc.errors import ArtifactError, ContractLimitError, NodeError
from ml2sc.foreign import shown

from .calling import Called, measure_call
from .chain import Chain, Reverted

_BUILT_IN_ERRORS: tuple[Mapping[str, Any], ...] = (
    {"type": "error", "name": "Error", "inputs": [{"name": "reason", "type": "string"}]},
    {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
)


_UNDECODABLE = (DecodingError, OverflowError, UnicodeDecodeError)
"""What eth_abi raises for bytes that are no encoding; the latter two for offsets and texts out of this world."""


class ContractError(Reverted):
    """The contract reverted with an error its ABI names.

    Args:
        name: Name of the error ("InputLength").
        args: Its arguments, by name.
        data: The return data.
    """

    def __init__(self, name: str, args: Mapping[str, Any], data: bytes) -> None:
        super().__init__(data)
        self.name = name
        self.arguments = dict(args)
        self.message = f"the contract reverted: {name}({', '.join(f'{k}={shown(str(v))}' for k, v in args.items())})"


class Contract:
    """A contract of the interface every backend emits.

    A revert raises `ContractError` where the ABI has its error, else `Reverted`; a call that needs more gas than the
    chain's call allowance raises `ContractLimitError`.

    Args:
        chain: Where it is.
        address: Its address.
        abi: Its ABI.

    Raises:
        ArtifactError: there is no contract at that address.
    """

    def __init__(self, chain: Chain, address: str, abi: Sequence[Mapping[str, Any]]) -> None:
        if not chain.code(address):
            raise ArtifactError(f"there is no contract at {address} on {chain.name}")
        self.chain = chain
        self.address = address
        self._functions = {entry["name"]: entry for entry in abi if entry["type"] == "function"}
        self._abi = abi

    def has(self, name: str) -> bool:
        """Return whether the contract has a function of this name."""
        return name in self._functions

    def predict(self, x: Sequence[int]) -> list[int]:
        """Return the M outputs in WAD (real · 10^18) for N inputs in WAD."""
        return list(self.call("predict", list(x)))

    def classify(self, x: Sequence[int]) -> int:
        """Return the class for N inputs in WAD."""
        return int(self.call("classify", list(x)))

    def predict_packed(self, x: bytes) -> list[int]:
        """Return the M outputs in WAD for N quantised elements, packed as the manifest says."""
        return list(self.call("predictPacked", x))

    def classify_packed(self, x: bytes) -> int:
        """Return the class for N quantised elements, packed as the manifest says."""
        return int(self.call("classifyPacked", x))

    def model_hash(self) -> bytes:
        """Return the hash of the model (32 bytes)."""
        return bytes(self.call("modelHash"))

    def gas_packed(self, x: bytes) -> int:
        """Return the gas of a transaction calling `classifyPacked`, or `predictPacked` where there is no classify."""
        return self.gas(self._packed, x)

    def called_packed(self, x: bytes) -> Called | None:
        """Return what a contract pays that makes such a call; None if it reverts, or cannot be made here."""
        try:
            return measure_call(self.chain, self.address, self.calldata(self._packed, x))
        except (ContractLimitError, NodeError, Reverted):
            return None  # nodes need not run code without an address

    @property
    def _packed(self) -> str:
        return "classifyPacked" if self.has("classifyPacked") else "predictPacked"

    def call(self, name: str, *args: Any) -> Any:
        """Call a view function by name and return its first result.

        Args:
            name: Name of the function.
            *args: Its arguments, as eth_abi takes them.
        """
        try:
            output = self.chain.call(self.address, self.calldata(name, *args))
        except Reverted as error:
            raise decode_revert(error, self._abi) from error
        try:
            return decode([entry["type"] for entry in self._functions[name]["outputs"]], output)[0]
        except _UNDECODABLE as error:
            raise ArtifactError(
                f"{name} of the contract at {self.address} answers {len(output)} bytes that do not fit its ABI",
                hint="the contract at this address is another one",
            ) from error

    def gas(self, name: str, *args: Any) -> int:
        """Return the gas of a transaction calling a function by name: intrinsic cost and calldata included."""
        try:
            return self.chain.gas(self.address, self.calldata(name, *args))
        except Reverted as error:
            raise decode_revert(error, self._abi) from error

    def calldata(self, name: str, *args: Any) -> bytes:
        """Return the calldata of a call.

        Raises:
            ArtifactError: the contract has no such function.
        """
        return encode_call(self._abi, name, *args)


def encode_call(abi: Sequence[Mapping[str, Any]], name: str, *args: Any) -> bytes:
    """Return the calldata of a call.

    Args:
        abi: The contract's ABI.
        name: Name of the function.
        *args: Its arguments, as eth_abi takes them.

    Raises:
        ArtifactError: the contract has no such function.
    """
    functions = [entry for entry in abi if entry["type"] == "function"]
    wanted = next((entry for entry in functions if entry["name"] == name), None)
    if wanted is None:
        has = ", ".join(entry["name"] for entry in functions)
        raise ArtifactError(f"the contract has no function {name}", hint=f"it has {has}")
    return _selector(wanted) + encode(_types(wanted), args)


def decode_revert(error: Reverted, abi: Sequence[Mapping[str, Any]]) -> Reverted:
    """Return the error an ABI (or Solidity itself) names, or the one given where none is named.

    Args:
        error: What a chain said.
        abi: The contract's ABI.
    """
    errors = [*_BUILT_IN_ERRORS, *(entry for entry in abi if entry["type"] == "error")]
    entry = next((entry for entry in errors if _selector(entry) == error.data[:4]), None)
    if entry is None:
        return error
    try:
        values = decode(_types(entry), error.data[4:])
    except _UNDECODABLE:
        return error
    names = (argument["name"] or str(i) for i, argument in enumerate(entry["inputs"]))
    return ContractError(entry["name"], dict(zip(names, values, strict=True)), error.data)


def _types(entry: Mapping[str, Any]) -> list[str]:
    return [argument["type"] for argument in entry["inputs"]]


def _selector(entry: Mapping[str, Any]) -> bytes:
    return _selector_of(f"{entry['name']}({','.join(_types(entry))})")


@lru_cache(maxsize=256)
def _selector_of(signature: str) -> bytes:
    return keccak(text=signature)[:4]
