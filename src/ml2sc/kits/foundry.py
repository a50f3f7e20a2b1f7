"""The kit `foundry`: a project that `forge build` and `forge test` pass untouched, without the network."""

from __future__ import annotations

from typing import Any

from ml2sc.errors import ContractLimitError
from ml2sc.interfaces import interface_files
from ml2sc.jsontext import json_text
from ml2sc.runtime.chain import CREATE2_PROXY, Reverted, limits_of, local_chain
from ml2sc.runtime.contract import Contract
from ml2sc.runtime.deploy import deploy

from .base import Files, Kit, Model, register
from .reference import reference_of
from .text import rendered, solc_version


def _files(model: Model) -> Files:
    artifact, interface = model.artifact, model.interface
    assert artifact.graph is not None
    plain = reference_of(artifact.graph)
    solidity = artifact.target == "solidity"
    facts: dict[str, Any] = {
        "name": model.name,
        "solidity": solidity,
        "updatable": artifact.updatable,
        **model.counts,
        **model.allowed,
        "decides": interface["decision"] is not None,
        "takes_wad": model.takes_wad,
        "outputs": sum(_size(entry) for entry in interface["outputs"]),
        "inputs": sum(_size(entry) for entry in interface["packing"]["inputs"]),
        "length": interface["packing"]["bytes"],
        "model_hash": interface["model_hash"],
        "weights_hash": model.weights_hash,
        "proxy": CREATE2_PROXY,
        "plain": plain,
        "settings": artifact.compiler_input["settings"],
        "version": solc_version(artifact) if solidity else None,
        "samples": len(model.vectors["samples"]),
        "called": "classifyPacked" if interface["decision"] is not None else "predictPacked",
        "calldata": 68 + -(-interface["packing"]["bytes"] // 32) * 32,
        "far": 1 << 20,
        "around": _AROUND,
        "ended": _ENDED,
        "runs": _RUNS,
    }
    sources = {name: text for name, text in interface_files(artifact).items() if name.endswith(".sol")}
    files: dict[str, str | bytes] = {f"src/{name}": text for name, text in sources.items()}
    if solidity:
        files[f"src/{artifact.source_name}"] = artifact.source
    else:
        files[f"data/{model.name}.bin"] = model.creation
    files |= model.held
    files |= {
        "foundry.toml": rendered("foundry.toml", **facts),
        "README.md": rendered("foundry-readme.md", **facts),
        "script/Vm.sol": rendered("Vm.sol"),
        f"script/{model.name}Deployment.sol": rendered("Deployment.sol", **facts),
        f"script/Deploy{model.name}.s.sol": rendered("Deploy.s.sol", **facts),
        f"test/{model.name}.t.sol": rendered("Model.t.sol", **facts),
        "test/vectors.json": f"{json_text(model.vectors)}\n",
    }
    files |= _snapshot(model, fuzzed=plain is not None)
    if plain is not None:
        files[f"test/{model.name}Reference.sol"] = rendered("Reference.sol", **facts)
        files["test/reference.bin"] = bytes(plain.constants)
    return files


_RUNS = 64
"""Inputs that forge tries."""
_AROUND, _ENDED = 125, 1_040
"""Gas that `forge snapshot` notes of the test of the model's gas, besides the model's; and of any other."""
_MEASURED = 2
"""Number of the sample of which that is."""


def _snapshot(model: Model, *, fuzzed: bool) -> Files:
    """Return `.gas-snapshot`; nothing where the embedded chain cannot measure what the model takes."""
    called = _called(model)
    if called is None:
        return {}
    lines = [f"test_gas() (gas: {called + _AROUND})"]
    lines += [f"{name}() (gas: {_ENDED})" for name in ("test_modelHash", "test_samples", "test_wrongLength")]
    fuzz = [f"testFuzz_reference(uint256) (runs: {_RUNS}, μ: {_ENDED}, ~: {_ENDED})"] if fuzzed else []
    return {".gas-snapshot": "\n".join(f"{model.name}Test:{line}" for line in [*fuzz, *lines]) + "\n"}


def _called(model: Model) -> int | None:
    """Return what a call takes of a contract that has made another in the same transaction."""
    chain = local_chain(limits_of(model.artifact))
    try:
        contract = Contract(chain, deploy(model.artifact, chain).address, model.artifact.abi)
    except (ContractLimitError, Reverted):
        return None
    called = contract.called_packed(bytes.fromhex(model.vectors["samples"][_MEASURED]["packed"][2:]))
    return None if called is None else called.warm


def _size(entry: dict[str, Any]) -> int:
    size = 1
    for extent in entry["shape"]:
        size *= int(extent)
    return size


register(Kit("foundry", _files, frozenset({"solidity", "vyper"})))
