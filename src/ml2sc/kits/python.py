"""The kit `python`: a web3.py example that packs, asks and unpacks, and a test of its packing."""

from __future__ import annotations

from typing import Any

from ml2sc.jsontext import json_text

from .base import Files, Kit, Model, register
from .text import rendered


def _files(model: Model) -> Files:
    decides = model.interface["decision"] is not None
    facts: dict[str, Any] = {"name": model.name, "decides": decides, "takes_wad": model.takes_wad}
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
