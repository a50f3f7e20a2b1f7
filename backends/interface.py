"""What the contracts of every target look like from outside: the same functions, the same errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import xor
from typing import Any

from ml2sc.errors import ContractLimitError, InternalError
from ml2sc.ir.divide import Part
from ml2sc.ir.program import MODEL_HASH, Program

from .base import DATA_CONTRACT_LIMIT, EmitOptions

_ERRORS = {
    "InputLength": {"expected": "uint256", "actual": "uint256"},
    "InputOutOfRange": {"index": "uint256", "value": "int256"},
    "MalformedInput": {"index": "uint256"},
    "WeightsMissing": {"index": "uint256", "account": "address"},
}

_UPDATE_ERRORS: dict[str, dict[str, str]] = {
    "ChunkIndex": {"index": "uint256"},
    "ChunkLength": {"expected": "uint256", "actual": "uint256"},
    "ChunkMissing": {"index": "uint256"},
    "ContractFrozen": {},
    "CreationFailed": {},
    "NoPreviousVersion": {},
    "NotActive": {},
    "OwnerIsZero": {},
    "TooEarly": {"readyAt": "uint256"},
    "Unauthorized": {"account": "address"},
    "WeightsHashMismatch": {"staged": "bytes32", "given": "bytes32"},
}

_VERSION_FIELDS = {"version": "uint256", "weightsHash": "bytes32", "modelHash": "bytes32"}
_UPDATE_EVENTS: dict[str, tuple[dict[str, str], int]] = {
    "Activated": (_VERSION_FIELDS, 3),
    "Frozen": (_VERSION_FIELDS, 3),
    "OwnershipTransferStarted": ({"previousOwner": "address", "newOwner": "address"}, 2),
    "OwnershipTransferred": ({"previousOwner": "address", "newOwner": "address"}, 2),
    "RolledBack": (_VERSION_FIELDS, 3),
    "Staged": ({"index": "uint256", "chunk": "address", "codehash": "bytes32"}, 1),
}
"""Events: their fields, and how many of those, from the first on, are indexed."""

_UPDATE_FUNCTIONS: dict[str, tuple[dict[str, str], str, str]] = {
    "acceptOwnership": ({}, "", "nonpayable"),
    "activate": ({"expected": "bytes32"}, "", "nonpayable"),
    "activeChunk": ({"index": "uint256"}, "address", "view"),
    "freeze": ({}, "", "nonpayable"),
    "frozen": ({}, "bool", "view"),
    "owner": ({}, "address", "view"),
    "pendingOwner": ({}, "address", "view"),
    "previousChunk": ({"index": "uint256"}, "address", "view"),
    "previousVersion": ({}, "uint256", "view"),
    "readyAt": ({}, "uint256", "view"),
    "rollback": ({}, "", "nonpayable"),
    "stage": ({"index": "uint256", "data": "bytes"}, "", "nonpayable"),
    "stageAndActivate": ({"index": "uint256", "data": "bytes", "expected": "bytes32"}, "", "nonpayable"),
    "stagedChunk": ({"index": "uint256"}, "address", "view"),
    "timelock": ({}, "uint256", "view"),
    "transferOwnership": ({"newOwner": "address"}, "", "nonpayable"),
    "version": ({}, "uint256", "view"),
    "weightsHash": ({}, "bytes32", "view"),
}
"""Functions: parameters, result, mutability."""

FACTORY = "factory"
"""Name of the constructor's argument that says who created the data contracts."""

SALT_BYTES = 32
"""Bytes of a CREATE2 salt: the number of a data or code contract."""

ERRORS = {name: tuple(fields.values()) for name, fields in {**_ERRORS, **_UPDATE_ERRORS}.items()}
"""Custom errors and the types of their arguments."""


def packed_texts(program: Program, *, strict: bool) -> dict[str, str]:
    """Return what a contract's comments say of its inputs: `packed_size`, `packed_note`, `range_note`."""
    form = program.input
    if form.coded:
        return {
            "packed_size": "a thermometer code",
            "packed_note": f"The {form.count} inputs as a thermometer code: the edges each exceeds (see the manifest)",
            "range_note": "",
        }
    each = f"{form.width} byte{'s' if form.width > 1 else ''} each{', ' + _TWOS if form.signed else ''}"
    outside = "reverts" if strict else "is taken as the nearest in it"
    return {
        "packed_size": f"{form.count} elements of {form.width}",
        "packed_note": f"The {form.count} inputs' integers q, big-endian, {each}",
        "range_note": f"; one out of range {outside}",
    }


_TWOS = "two's complement"


def function_names(wanted: Mapping[str, str], taken: Iterable[str], between: str = "") -> dict[str, str]:
    """Return a function name for each section and procedure, or what else is one, none of which is taken.

    Args:
        wanted: What each would be called.
        taken: Names that are not free.
        between: What stands before the number that follows where another is called so.
    """
    found, used = dict[str, str](), set(taken)
    for name, base in wanted.items():
        function, number = base, 1
        while function in used:
            number += 1
            function = f"{base}{between}{number}"
        used.add(function)
        found[name] = function
    return found


def contract_abi(program: Program, options: EmitOptions) -> list[dict[str, Any]]:
    """Return the ABI as solc reports it, so that it is known before anything is compiled."""
    n, m = f"int256[{program.input.count}]", f"int256[{program.outputs}]"
    functions = [("predictPacked", "x", "bytes", "y", m), ("modelHash", "", "", "", "bytes32")]
    if program.has_decision:
        functions.append(("classifyPacked", "x", "bytes", "", "uint256"))
    if program.input.takes_wad:
        functions.append(("predict", "x", n, "y", m))
        functions += [("classify", "x", n, "", "uint256")] if program.has_decision else []
    abi: list[dict[str, Any]] = []
    numbers = [section.contract for section in program.layers]
    parts = max([*numbers, *(procedure.contract for procedure in program.procedures.values())], default=0)
    count = parts + (0 if program.updatable else program.data_contract_count)
    if count and not program.updatable:
        abi.append({"inputs": [_value(FACTORY, "address")], "stateMutability": "nonpayable", "type": "constructor"})
    names = [
        "InputLength",
        *(["InputOutOfRange"] if options.strict_input and not program.input.coded else []),
        *(["MalformedInput"] if program.input.coded else []),
        *(["WeightsMissing"] if count else []),
    ]
    if program.updatable:
        abi += _update_abi([_value("owner_", "address"), *([_value(FACTORY, "address")] if count else [])])
    for name in names:
        abi.append({"inputs": _values(_ERRORS[name]), "name": name, "type": "error"})
    if options.erc165:
        functions.append(("supportsInterface", "interfaceId", "bytes4", "", "bool"))
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


ERC165 = "0x01ffc9a7"
"""ERC-165's own identifier."""


def interface_id(program: Program) -> str:
    """Return the ERC-165 identifier of what every model's contract has: packed inputs, and the model's hash."""
    names = ["predictPacked(bytes)", "modelHash()", *(["classifyPacked(bytes)"] if program.has_decision else [])]
    selectors = (int.from_bytes(keccak(name.encode())[:4], "big") for name in names)
    return f"0x{reduce(xor, selectors):08x}"


def state_slot(name: str) -> str:
    """Return the slot where a contract's state begins by ERC-7201, for the namespace `ml2sc.NAME`."""
    inner = int.from_bytes(keccak(f"ml2sc.{name}".encode()), "big") - 1
    return f"0x{keccak(inner.to_bytes(32, 'big')).hex()[:-2]}00"


def _update_abi(constructor: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Return what an updatable contract has besides."""
    entries: list[dict[str, Any]] = [{"inputs": constructor, "stateMutability": "nonpayable", "type": "constructor"}]
    for name, fields in _UPDATE_ERRORS.items():
        entries.append({"inputs": _values(fields), "name": name, "type": "error"})
    for name, (fields, indexed) in _UPDATE_EVENTS.items():
        inputs = [{**value, "indexed": i < indexed} for i, value in enumerate(_values(fields))]
        entries.append({"anonymous": False, "inputs": inputs, "name": name, "type": "event"})
    for name, (fields, result, mutability) in _UPDATE_FUNCTIONS.items():
        outputs = [_value("", result)] if result else []
        entry = {"inputs": _values(fields), "name": name, "outputs": outputs}
        entries.append({**entry, "stateMutability": mutability, "type": "function"})
    return entries


def code_init(code: bytes) -> bytes:
    """Return init code that creates a contract of the given code (below 16 MB)."""
    # PUSH2 size · DUP1 · PUSH1 10 · PUSH0 · CODECOPY: copy all that follows these 10 bytes to memory at 0
    # PUSH0 · RETURN: and return those `size` bytes as the code. Where a chain allows more than 65,535: PUSH3, 11 bytes
    size = b"\x61" + len(code).to_bytes(2, "big") if len(code) < 1 << 16 else b"\x62" + len(code).to_bytes(3, "big")
    return size + b"\x80\x60" + bytes([len(size) + 7]) + b"\x5f\x39\x5f\xf3" + code


def proxy_calldata(index: int, code: bytes) -> bytes:
    """Return what the CREATE2 proxy is sent to create a contract of some code where the constructor looks for it."""
    return index.to_bytes(SALT_BYTES, "big") + code_init(code)


def data_contract_init(data: bytes, most: int = DATA_CONTRACT_LIMIT) -> bytes:
    """Return init code that creates a contract whose code is a STOP byte and then `data`.

    The STOP makes calling it harmless; readers skip it (`EXTCODECOPY` from offset 1). Neither this code nor what it
    creates asks anybody, calls anybody or can destroy itself: a CREATE2 address with its hash holds `data` or nothing.

    Args:
        data: The bytes.
        most: Bytes it may hold.

    Raises:
        ContractLimitError: it is longer.
    """
    if len(data) > most:
        raise ContractLimitError(
            f"a data contract holds {most:,} bytes, not {len(data):,}",
            hint="split the data over several",
        )
    return code_init(b"\x00" + data)


def data_init_hash(data: bytes) -> str:
    """Return the hash, in hexadecimal, of the init code of a data contract."""
    return f"0x{keccak(code_init(bytes(1) + data)).hex()}"


def oversized(program: Program) -> list[str]:
    """Return what is said of data contracts that hold more than one can, a sentence each."""
    most = max(DATA_CONTRACT_LIMIT, 32 * program.contract_room)
    return [
        f"a data contract of {len(data):,} bytes: a contract holds {most:,}"
        for data in program.data_contracts()
        if len(data) > most
    ]


def part_names(part: Part, name: str, suffix: str) -> tuple[str, str]:
    """Return what a code contract of a contract is called, and its source."""
    number = part.procedure.contract
    return f"{name}Code{number}", f"{name}.code{number}.{suffix}"


def model_name(name: str) -> str:
    """Return what the abstract contract, or the library, is called whose functions a contract of that name shows."""
    return f"{name}Model"


_HASH_LINE = re.compile(
    r"^( {4}bytes32 private constant _CODE_HASH[1-9][0-9]* = 0x|_CODE_HASH[1-9][0-9]*: constant\(bytes32\) = 0x)"
    r"([0-9a-f]{64})(;?)$",
    re.MULTILINE,
)
"""A line that holds the hash of a code contract's init code: zeros until that is compiled."""


def code_hashes(source: str, codes: Sequence[bytes]) -> dict[str, str]:
    """Return the edits that put the hashes of code contracts' init code into a source.

    Raises:
        InternalError: it has another number of places for them.
    """
    lines = list(_HASH_LINE.finditer(source))
    if len(lines) != len(codes):
        raise InternalError(f"{len(codes)} code contracts, and {len(lines)} places for their hashes")
    hashes = (keccak(code_init(code)).hex() for code in codes)
    return {line[0]: f"{line[1]}{hash_}{line[3]}" for line, hash_ in zip(lines, hashes, strict=True)}


def without_hashes(source: str, edits: Mapping[str, str]) -> dict[str, str]:
    """Return those edits that do not put hashes of code contracts into a source, each into its place."""
    places = {line[0]: line for line in _HASH_LINE.finditer(source)}

    def is_hash(old: str, new: str) -> bool:
        line, after = places.get(old), _HASH_LINE.fullmatch(new)
        return line is not None and after is not None and (line[1], line[3]) == (after[1], after[3])

    return {old: new for old, new in edits.items() if not is_hash(old, new)}


def chunk_runs(data: Sequence[bytes]) -> list[tuple[int, int]]:
    """Return the lengths of an update's chunks: (number of the first chunk after a run of equal ones, their bytes)."""
    runs: list[tuple[int, int]] = []
    for index, chunk in enumerate(data):
        if runs and runs[-1][1] == len(chunk):
            runs.pop()
        runs.append((index + 1, len(chunk)))
    return runs


def stated_place(program: Program) -> dict[str, int]:
    """Return the number of the data contract that holds an updatable contract's model hash, and where in its code."""
    if not program.updatable:
        return {}
    place = program.places[MODEL_HASH]
    return {"chunk": place.first, "offset": 1 + 32 * place.word}


def weights_hash(data: Iterable[bytes]) -> bytes:
    """Return the hash of an updatable contract's weights, as its `weightsHash()` says it.

    That is keccak256 of the chunks' code hashes one after the other, where a chunk's code is a STOP and its bytes.
    """
    return keccak(b"".join(keccak(b"\x00" + chunk) for chunk in data))


def storage_place(storage: str) -> str:
    """Return where a layer's weights are, in words."""
    return {"literals": "the code as literals", "code": "the code", "data": "data contracts"}[storage]


def keccak(data: bytes) -> bytes:
    """Return the keccak256 of some bytes."""
    from eth_hash.auto import keccak as hash_of

    return hash_of(data)


def _values(fields: Mapping[str, str]) -> list[dict[str, str]]:
    return [_value(name, type_) for name, type_ in fields.items()]


def _value(name: str, type_: str) -> dict[str, str]:
    return {"internalType": type_, "name": name, "type": type_}
