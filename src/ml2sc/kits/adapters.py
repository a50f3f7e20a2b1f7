"""The kits `erc7007`, `erc7992` and `erc8004`: contracts that make a deployed model answer to a standard.

Each runs the model again, whatever the target it was compiled for.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from ml2sc.backends.interface import keccak

from .base import Files, Kit, Model, register
from .text import rendered

_REFUSALS = frozenset({"InputLength", "InputOutOfRange", "MalformedInput"})
"""Errors that say that an input is none."""


class _Adapter(NamedTuple):
    """An adapter: its kit's name, the standard's, what it does, and what its constructor takes."""

    kit: str
    standard: str
    what: str
    takes: str
    example: str


_ADAPTERS = (
    _Adapter(
        "erc7007",
        "ERC-7007",
        "`verify(prompt, aigcData, proof)` of verifiable AI-generated content",
        "the model's address",
        "$MODEL",
    ),
    _Adapter(
        "erc7992",
        "ERC-7992",
        "`verifyInference(modelId, inputCommitment, output, proof)` of verifiable inference",
        "the model's address and the registry's",
        "$MODEL $REGISTRY",
    ),
    _Adapter(
        "erc8004",
        "ERC-8004",
        "a validator of agents' work, which answers 100 or 0",
        "the model's address and the validation registry's",
        "$MODEL $REGISTRY",
    ),
)


def _files(adapter: _Adapter, model: Model) -> Files:
    errors = [entry for entry in model.artifact.abi if entry["type"] == "error" and entry["name"] in _REFUSALS]
    signatures = (f"{entry['name']}({','.join(value['type'] for value in entry['inputs'])})" for entry in errors)
    reexecution = rendered(
        "reexecution.sol",
        name=model.name,
        model_hash=model.artifact.manifest["model_hash"],
        decides=model.interface["decision"] is not None,
        updatable=model.artifact.updatable,
        refusals=[f"0x{keccak(signature.encode())[:4].hex()}" for signature in signatures],
    )
    contract = f"{model.name}{adapter.kit.upper()}"
    readme = rendered(
        "adapter-readme.md",
        **adapter._asdict(),
        name=model.name,
        file=f"{contract}.sol",
        contract=contract,
        address=", ".join(f"{address} on chain {chain}" for chain, address in sorted(model.addresses.items())),
    )
    source = rendered(f"{adapter.kit}.sol", name=model.name, reexecution=reexecution)
    return {f"{contract}.sol": source, "README.md": readme}


for _adapter in _ADAPTERS:
    register(Kit(_adapter.kit, partial(_files, _adapter)))
