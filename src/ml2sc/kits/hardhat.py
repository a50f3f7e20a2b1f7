"""The kit `hardhat`: a Hardhat 3 project with an Ignition module and tests in TypeScript."""

from __future__ import annotations

from typing import Any

from ml2sc.interfaces import interface_files
from ml2sc.jsontext import json_text
from ml2sc.runtime.chain import CREATE2_PROXY, PROXY_CODE

from .base import Files, Kit, Model, register
from .text import rendered, solc_version


def _files(model: Model) -> Files:
    artifact, interface = model.artifact, model.interface
    settings = {key: value for key, value in artifact.compiler_input["settings"].items() if key != "outputSelection"}
    facts: dict[str, Any] = {
        "name": model.name,
        "updatable": artifact.updatable,
        **model.counts,
        **model.allowed,
        "decides": interface["decision"] is not None,
        "takes_wad": model.takes_wad,
        "length": interface["packing"]["bytes"],
        "model_hash": interface["model_hash"],
        "weights_hash": model.weights_hash,
        "proxy": CREATE2_PROXY,
        "proxy_code": f"0x{PROXY_CODE.hex()}",
        "settings": settings,
        "version": solc_version(artifact),
    }
    sources = {name: text for name, text in interface_files(artifact).items() if name.endswith(".sol")}
    files: dict[str, str | bytes] = {f"contracts/{name}": text for name, text in sources.items()}
    files[f"contracts/{artifact.source_name}"] = artifact.source
    files |= model.held
    return files | {
        "hardhat.config.ts": rendered("hardhat.config.ts", **facts),
        f"ignition/modules/{model.name}.ts": rendered("ignition.ts", **facts),
        f"test/{model.name}.ts": rendered("hardhat-test.ts", **facts),
        "package.json": rendered("hardhat-package.json", **facts),
        "tsconfig.json": rendered("hardhat-tsconfig.json"),
        "README.md": rendered("hardhat-readme.md", **facts),
        "vectors.json": f"{json_text(model.vectors)}\n",
    }


register(Kit("hardhat", _files, frozenset({"solidity"})))
