"""The kit `python`: a web3.py example that packs, asks and unpacks, and a test of its packing."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ml2sc.jsontext import json_text

from .base import Files, Kit, Model, register
from .text import rendered


def _files(model: Model) -> Files:
    abi = json.dumps(model.interface["abi"], sort_keys=True)
    facts: dict[str, Any] = {
        "name": model.name,
        "decides": model.interface["decision"] is not None,
        "takes_wad": model.takes_wad,
        "abi_digest": hashlib.sha256(abi.encode()).hexdigest(),
    }
    addresses = {str(chain): address for chain, address in sorted(model.addresses.items())}
    return {
        "example.py": rendered("example.py", **facts),
        "test_packing.py": rendered("test_packing.py", **facts),
        "README.md": rendered("python-readme.md", **facts),
        "addresses.json": f"{json_text(addresses)}\n",
        "interface.json": f"{json_text(model.interface)}\n",
        "vectors.json": f"{json_text(model.vectors)}\n",
    }


register(Kit("python", _files))
