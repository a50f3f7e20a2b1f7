"""A contract's interface in source text: for Solidity, for Vyper, and a library that calls a deployed model by address.

All of it follows from the ABI.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml2sc.backends.interface import keccak
from ml2sc.errors import InternalError

if TYPE_CHECKING:
    from ml2sc.backends.base import Artifact

Entry = Mapping[str, Any]

_ARRAY = re.compile(r"(\w+)\[(\d+)\]")
_WORD = 32


def interface_files(artifact: Artifact) -> dict[str, str]:
    """Return the interfaces of a contract, by file name: `INAME.sol`, `INAME.vyi`, `NAMEHandle.sol`."""
    name, abi = artifact.name, artifact.abi
    manifest = artifact.manifest
    length = (
        int(manifest["code"]["bytes"]) if "code" in manifest else manifest["element_bytes"] * manifest["input_elements"]
    )
    return {
        f"I{name}.sol": _solidity(name, abi),
        f"I{name}.vyi": _vyper(name, abi, length),
        f"{name}Handle.sol": _handle(name, abi, artifact.manifest["model_hash"], updatable=artifact.updatable),
    }


def interface_names(name: str) -> frozenset[str]:
    """Return the names of those files for a contract."""
    return frozenset({f"I{name}.sol", f"I{name}.vyi", f"{name}Handle.sol"})


_NOTES = {
    "predict": "Runs the model: WAD (real * 10^18) in, WAD out.",
    "classify": "Runs the model and returns its decision: inputs as WAD (real * 10^18).",
    "predictPacked": "Runs the model on quantised inputs (docs/packing.md of ml2sc): WAD out.",
    "classifyPacked": "Runs the model on quantised inputs (docs/packing.md of ml2sc) and returns its decision.",
    "modelHash": "Names the model: keccak256 of the ONNX file.",
}
_RAISED = frozenset({"InputLength", "InputOutOfRange", "MalformedInput", "NotActive"})
"""What an inference reverts with."""


def _solidity(name: str, abi: Sequence[Entry]) -> str:
    lines = ["// SPDX-License-Identifier: MIT", "pragma solidity ^0.8.0;", ""]
    lines += [f"/// @title The interface of {name}, by ml2sc", f"interface I{name} {{"]
    lines += [f"    {line}" if line else "" for line in _declared(abi)]
    return "\n".join([*lines, "}", ""])


def _declared(abi: Sequence[Entry]) -> Iterator[str]:
    for entry in abi:
        if entry["type"] == "error":
            yield f"error {entry['name']}({_parameters(entry['inputs'])});"
    for entry in abi:
        if entry["type"] == "event":
            yield f"event {entry['name']}({_parameters(entry['inputs'])});"
    for entry in _functions(abi):
        if entry["name"] in _NOTES:
            yield from ("", f"/// @notice {_NOTES[entry['name']]}")
        result = f" returns ({_parameters(entry['outputs'], 'memory')})" if entry["outputs"] else ""
        view = " view" if entry["stateMutability"] == "view" else ""
        yield f"function {entry['name']}({_parameters(entry['inputs'], 'calldata')}) external{view}{result};"


def _functions(abi: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in abi if entry["type"] == "function"]


def _parameters(values: Sequence[Entry], place: str = "") -> str:
    return ", ".join(_parameter(value, place) for value in values)


def _parameter(value: Entry, place: str) -> str:
    referred = value["type"] == "bytes" or _ARRAY.fullmatch(value["type"]) is not None
    words = [value["type"], place if referred else "", "indexed" if value.get("indexed") else "", value["name"]]
    return " ".join(filter(None, words))


def _vyper(name: str, abi: Sequence[Entry], length: int) -> str:
    lines = ["# pragma version ~=0.4.3", f'"""\n@title The interface of {name}, by ml2sc\n"""']
    for entry in _functions(abi):
        given = ", ".join(f"{value['name']}: {_vyper_type(value['type'], length)}" for value in entry["inputs"])
        result = f" -> {_vyper_type(entry['outputs'][0]['type'], length)}" if entry["outputs"] else ""
        view = ["@view"] if entry["stateMutability"] == "view" else []
        lines += ["", "", *view, "@external", f"def {entry['name']}({given}){result}: ..."]
    return "\n".join([*lines, ""])


def _vyper_type(type_: str, length: int) -> str:
    return f"Bytes[{length}]" if type_ == "bytes" else type_


_HANDLE = """\
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/**
 * @title Calls to a deployed {name}, by ml2sc
 * @notice using {name}Handle for address; then model.{example}(x) is a staticcall. What the model reverts with is
 * passed on.
 */
library {name}Handle {{
    /// @notice There is no contract at that address, or one that answers otherwise than {name}.
    error NoModel(address account);
{errors}
    /// @notice keccak256 of the ONNX file{compiled}.
    bytes32 internal constant MODEL_HASH = {model_hash};

    /// @notice Whether the contract at an address says that it is {this}.
    function isModel(address model) internal view returns (bool) {{
        return modelHash(model) == MODEL_HASH;
    }}
{functions}}}
"""

_CALL = """
    /// @notice {note}
    function {name}(address model{given}) internal view returns ({returned} y) {{
        bool answered;
        assembly ("memory-safe") {{
            let data := mload(0x40)
            mstore(data, 0x{selector}00000000000000000000000000000000000000000000000000000000)
{encode}
            let done := staticcall(gas(), model, data, {size}, {result}, {result_size})
            if iszero(done) {{
                returndatacopy(data, 0, returndatasize())
                revert(data, returndatasize())
            }}
            answered := iszero(lt(returndatasize(), {result_size})){load}
        }}
        if (!answered) revert NoModel(model);
    }}
"""


def _handle(name: str, abi: Sequence[Entry], model_hash: str, *, updatable: bool) -> str:
    functions = [entry for entry in _functions(abi) if entry["name"] in _NOTES]
    raised = [entry for entry in abi if entry["type"] == "error" and entry["name"] in _RAISED]
    errors = [f"    error {entry['name']}({_parameters(entry['inputs'])});" for entry in raised]
    decides = any(entry["name"] == "classifyPacked" for entry in functions)
    return _HANDLE.format(
        name=name,
        example="classifyPacked" if decides else "predictPacked",
        errors="\n".join([*errors, ""]),
        compiled=" it was compiled from; its owner may have put another in use" if updatable else "",
        this="compiled from that model" if not updatable else "running that model now",
        model_hash=model_hash,
        functions="".join(map(_call, functions)),
    )


def _call(entry: Entry) -> str:
    returned, at = entry["outputs"][0]["type"], "            "
    array = _ARRAY.fullmatch(returned)
    given = entry["inputs"][0]["type"] if entry["inputs"] else ""
    if given == "bytes":
        encode = [
            "mstore(add(data, 0x04), 0x20)",
            "// the length and the bytes behind it; all but what is asked for is cut off by the call",
            "mcopy(add(data, 0x24), x, add(mload(x), 0x20))",
        ]
        size = "add(mload(x), 0x44)"
    elif given:
        words = _words(given)
        encode, size = [f"mcopy(add(data, 0x04), x, {_WORD * words})"], str(4 + _WORD * words)
    else:
        encode, size = [], "4"
    signature = f"{entry['name']}({','.join(value['type'] for value in entry['inputs'])})"
    return _CALL.format(
        note=_NOTES[entry["name"]],
        name=entry["name"],
        given=f", {given} memory x" if given else "",
        returned=f"{returned} memory" if array else returned,
        selector=keccak(signature.encode())[:4].hex(),
        encode="\n".join(f"{at}{line}" for line in encode) or f"{at}// it takes nothing",
        size=size,
        result="y" if array else "0",
        result_size=_WORD * _words(returned),
        load="" if array else f"\n{at}y := mload(0)",
    )


def _words(type_: str) -> int:
    """Return the words of a static type."""
    array = _ARRAY.fullmatch(type_)
    if array is None and type_ not in {"uint256", "int256", "bytes32"}:
        raise InternalError(f"a model's function has the type {type_}")
    return 1 if array is None else int(array[2])
