"""The kit `foundry`: a project that `forge build` and `forge test` pass untouched, without the network."""

from __future__ import annotations

from typing import Any

from ml2sc.interfaces import interface_files
from ml2sc.jsontext import json_text
from ml2sc.runtime.chain import CREATE2_PROXY

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
        "data": len(artifact.data),
        "decides": interface["decision"] is not None,
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
    }
    sources = {name: text for name, text in interface_files(artifact).items() if name.endswith(".sol")}
    files: dict[str, str | bytes] = {f"src/{name}": text for name, text in sources.items()}
    if solidity:
        files[f"src/{artifact.source_name}"] = artifact.source
    else:
        files[f"data/{model.name}.bin"] = model.creation
    files |= {f"data/weights{index}.bin": data for index, data in enumerate(artifact.data)}
    files |= {
        "foundry.toml": rendered("foundry.toml", **facts),
        "README.md": rendered("foundry-readme.md", **facts),
        "script/Vm.sol": rendered("Vm.sol"),
        f"script/{model.name}Deployment.sol": rendered("Deployment.sol", **facts),
        f"script/Deploy{model.name}.s.sol": rendered("Deploy.s.sol", **facts),
        f"test/{model.name}.t.sol": rendered("Model.t.sol", **facts),
        "test/vectors.json": f"{json_text(model.vectors)}\n",
    }
    if plain is not None:
        files[f"test/{model.name}Reference.sol"] = rendered("Reference.sol", **facts)
        files["test/reference.bin"] = bytes(plain.constants)
    return files


def _size(entry: dict[str, Any]) -> int:
    size = 1
    for extent in entry["shape"]:
        size *= int(extent)
    return size


register(Kit("foundry", _files, frozenset({"solidity", "vyper"})))
