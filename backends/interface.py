"""What the contracts of every target look like from outside: the same functions, the same errors."""

from __future__ import annotations

from typing import Any

from ml2sc.ir.program import Program

from .base import EmitOptions

ERRORS = {
    "InputLength": ("uint256", "uint256"),
    "InputOutOfRange": ("uint256", "int256"),
    "WeightsMismatch": ("uint256", "address"),
}
"""Custom errors and the types of their arguments."""

_ERROR_FIELDS = {
    "InputLength": ("expected", "actual"),
    "InputOutOfRange": ("index", "value"),
    "WeightsMismatch": ("index", "account"),
}


def contract_abi(program: Program, options: EmitOptions) -> list[dict[str, Any]]:
    """Return the ABI as solc reports it, so that it is known before anything is compiled."""
    n, m = f"int256[{program.input.count}]", f"int256[{program.outputs}]"
    functions = [
        ("predict", "x", n, "y", m),
        ("predictPacked", "x", "bytes", "y", m),
        ("modelHash", "", "", "", "bytes32"),
    ]
    if program.has_decision:
        functions += [("classify", "x", n, "", "uint256"), ("classifyPacked", "x", "bytes", "", "uint256")]
    abi: list[dict[str, Any]] = []
    count = len(program.data_contracts())
    if count:
        abi.append(
            {"inputs": [_value("weights", f"address[{count}]")], "stateMutability": "nonpayable", "type": "constructor"}
        )
    names = [
        "InputLength",
        *(["InputOutOfRange"] if options.strict_input else []),
        *(["WeightsMismatch"] if count else []),
    ]
    for name in names:
        inputs = [_value(field, type_) for field, type_ in zip(_ERROR_FIELDS[name], ERRORS[name], strict=True)]
        abi.append({"inputs": inputs, "name": name, "type": "error"})
    for name, argument, given, result, returned in sorted(functions):
        abi.append(
            {
                "inputs": [_value(argument, given)] if given else [],
                "name": name,
                "outputs": [_value(result, returned)],
                "stateMutability": "view",
                "type": "function",
            }
        )
    return abi


def storage_place(storage: str) -> str:
    """Return where a layer's weights are, in words."""
    return {"literals": "the code as literals", "code": "the code", "data": "data contracts"}[storage]


def keccak(data: bytes) -> bytes:
    """Return the keccak256 of some bytes."""
    from eth_utils.crypto import keccak as hash_of

    return hash_of(data)


def _value(name: str, type_: str) -> dict[str, str]:
    return {"internalType": type_, "name": name, "type": type_}
