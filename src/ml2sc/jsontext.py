"""JSON for files and for what reads the standard output: the one place where values become its text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(value: Any, *, indent: int | None = 2, sort_keys: bool = False) -> str:
    """Return a value as JSON text, without a newline at its end.

    JSON has no word for a number that is infinite or none at all: such a number is null.

    Args:
        value: Mappings with texts as keys, lists, tuples, texts, numbers, booleans and None.
        indent: Spaces a level is indented by; None: no spaces at all.
        sort_keys: Whether keys are in the order of the alphabet.

    Raises:
        TypeError: something else is among them.
    """
    return json.dumps(
        _finite(value),
        indent=indent,
        separators=(",", ":") if indent is None else None,
        sort_keys=sort_keys,
        ensure_ascii=False,
        allow_nan=False,
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
