"""The kit `ts`: one file for viem, wagmi and ethers, the same without types, an example and a test."""

from __future__ import annotations

import hashlib
from typing import Any

from ml2sc.jsontext import json_text

from .base import Files, Kit, Model, register
from .text import packing_code, rendered


def _files(model: Model) -> Files:
    interface = model.interface
    facts: dict[str, Any] = {
        "name": model.name,
        "camel": model.name[:1].lower() + model.name[1:],
        "abi": interface["abi"],
        "packing": interface["packing"],
        "coded": "code" in interface["packing"],
        "classes": (interface["decision"] or {}).get("classes", []),
        "columns": [name for entry in interface["packing"]["inputs"] for name in entry.get("columns", [])],
        "model_hash": interface["model_hash"],
        "bytecode": f"0x{model.creation.hex()}",
        "data": [f"0x{init.hex()}" for init in model.holder_inits],
        "addresses": {str(chain): address for chain, address in sorted(model.addresses.items())},
        "decides": interface["decision"] is not None,
        "takes_wad": model.takes_wad,
        "digest": hashlib.sha256(model.creation).hexdigest(),
        "sample": model.vectors["samples"][2]["x"],
        # where file systems do not tell capitals from small letters, the model's own file may be called like it
        "example": "example" if model.name.lower() != "example" else "ask",
    }
    typed, plain = (packing_code(types=types, wad=model.takes_wad) for types in (True, False))
    return {
        f"{model.name}.ts": rendered("model.ts", **facts, types=True, packer=typed),
        f"{model.name}.js": rendered("model.ts", **facts, types=False, packer=plain),
        f"{model.name}.test.js": rendered("model.test.js", **facts),
        f"{facts['example']}.ts": rendered("example.ts", **facts),
        "package.json": rendered("ts-package.json", **facts),
        "tsconfig.json": rendered("tsconfig.json"),
        "README.md": rendered("ts-readme.md", **facts),
        "interface.json": f"{json_text(interface)}\n",
        "vectors.json": f"{json_text(model.vectors)}\n",
    }


register(Kit("ts", _files))
