"""Damaging files: JSON values entry by entry, bytes by ones and by blocks."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        7,
        255,
        2**31,
        2**63,
        2**70,
        -(2**70),
        10**400,
        0.0,
        0.5,
        -0.5,
        1e-320,
        1e308,
        -1e308,
    ),
    *(
        "",
        "a",
        "0",
        "-1",
        "1/0",
        "1/3",
        "1e9999999",
        "nan",
        "inf",
        "0x",
        "\x00",
        "\ud800",
        "..",
        "/",
        "é\u202e",
        "9" * 400,
    ),
    *(
        "int8",
        "q31.32",
        "auto",
        "vyper",
        "solidity",
        "osaka",
        "deploy",
        "data",
        "O2",
        "prune",
        "1.0 1.0 1.0 1.0",
        "a" * 5000,
    ),
    *([], [[]], [None], [0], [0.0, 1.0], [1.0, 0.0], ["0", "1"], {}, {"": None}, {"x": [0, 1]}, {"a": {"b": {}}}),
)
KEYS = ("", "x", "y", "name", "files", "__class__", "../x", "é", "\ud800", "live", "gas", "edits")


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in a JSON value: what holds it, and its key or index there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield value, key
        yield from places(part)


def mutated(value: Any, rng: random.Random, place: tuple[Any, Any]) -> str:
    """Change a JSON value at one place of it, and return how."""
    holder, key = place
    old = holder[key]
    ways = ["value", "value", "value", "near", "near", "delete", "more", "copy"]
    match rng.choice(ways):
        case "value":
            holder[key] = copy.deepcopy(rng.choice(VALUES))
        case "delete":
            del holder[key]
            return f"{key!r} deleted"
        case "more" if isinstance(holder, dict):
            new = rng.choice(KEYS)
            holder[new] = copy.deepcopy(rng.choice(VALUES))
            return f"{new!r} beside {key!r}: {holder[new]!r:.80}"
        case "more":
            holder.insert(key, copy.deepcopy(rng.choice([old, rng.choice(VALUES)])))
        case "copy":
            other, where = rng.choice(list(places(value)))
            holder[key] = copy.deepcopy(other[where])
        case _:
            holder[key] = _near(old, rng)
    return f"{key!r}: {old!r:.80} -> {holder[key]!r:.80}"


def _near(value: Any, rng: random.Random) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return value + rng.choice([-1, 1, 1 << 40, 0.5])
        case float():
            return value * rng.choice([1 + 1e-12, 1 + 1e-6, 0.5, -1, 1e30]) + rng.choice([0, 0, 1e-9])
        case str() if value:
            at = rng.randrange(len(value))
            return value[:at] + rng.choice(["", "0", "9", "a", "-", ".", "/", " ", "\n"]) + value[at + 1 :]
        case list() if value:
            return rng.sample(value, rng.randrange(len(value) + 1))
        case dict() if value:
            return {k: value[k] for k in rng.sample(sorted(value), rng.randrange(len(value) + 1))}
    return rng.choice(VALUES)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with a few of them changed, cut out, doubled or cut off."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        if not changed:
            break
        at = rng.randrange(len(changed))
        end = min(at + rng.choice([1, 1, 2, 4, 8, 100]), len(changed))
        match rng.choice(["bits", "bytes", "bytes", "cut", "double", "end"]):
            case "bits":
                changed[at] ^= 1 << rng.randrange(8)
            case "bytes":
                changed[at:end] = bytes(rng.choice([0, 255, rng.randrange(256)]) for _ in range(end - at))
            case "cut":
                del changed[at:end]
            case "double":
                changed[at:at] = changed[at:end]
            case _:
                del changed[max(at, len(changed) // 2) :]
    return bytes(changed)
