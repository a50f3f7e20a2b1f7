"""Templates of the kits' files, and text that can stand in them."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from ml2sc.jsontext import json_text

if TYPE_CHECKING:
    from jinja2 import Environment

    from ml2sc.backends.base import Artifact


def rendered(template: str, **values: Any) -> str:
    """Return a template's text, ending in one newline.

    Args:
        template: Name of a file in `templates/`, without `.j2`.
        **values: What it shows.
    """
    return _environment().get_template(f"{template}.j2").render(**values).strip() + "\n"


def packing_code(*, types: bool, wad: bool = True) -> str:
    """Return the packer in TypeScript, or without types in JavaScript.

    Args:
        types: Whether it has types.
        wad: Whether the contract takes WAD values.
    """
    return rendered("packing.ts", types=types, takes_wad=wad)


def solc_version(artifact: Artifact) -> str | None:
    """Return the version of the solc that compiled an artifact ("0.8.37"), if it is known."""
    match = re.search(r"\d+\.\d+\.\d+", str(artifact.manifest["toolchain"].get("compiler", "")))
    return None if match is None else match[0]


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("ml2sc.kits"), undefined=StrictUndefined, autoescape=False)
    environment.filters["json"] = lambda value, indent=2: json_text(value, indent=indent)
    return environment
