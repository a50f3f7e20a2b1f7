"""Names of contracts; and of classes and columns: given one after the other, or in a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ml2sc.errors import DataError, UsageError
from ml2sc.files import read_file
from ml2sc.foreign import parse_json, shown

LONGEST = 100
"""Characters of a name."""
LONGEST_NAME = 200
"""Characters of a contract's name, which is a file's as well."""
_MOST_BYTES = 1 << 24
_SHOWN = 8
"""Names that a message lists."""


def contract_name(text: str) -> str:
    """Return `text` as a contract's name: letters, digits and underscores in CapWords; `Model` if nothing is left.

    It is a file's name as well, in any folder: it has no dots or slashes, and at most `LONGEST_NAME` characters.
    """
    words = [word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", text) if word]
    name = ""
    for word in words:
        name += ("_" if name[-1:].isdigit() and word[0].isdigit() else "") + word
    if not name:
        return "Model"
    return (f"Model{name}" if name[0].isdigit() else name)[:LONGEST_NAME]


def read_names(text: str, option: str) -> tuple[str, ...]:
    """Return the names that an option gives: `A,B,C`, a file `.txt` with one a line, or `.json` with a list of them.

    Args:
        text: The option's value.
        option: The option, for messages.

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """
    if not text.lower().endswith((".txt", ".json")):
        return tuple(name.strip() for name in text.split(","))
    path = Path(text)
    try:
        content = read_file(path, _MOST_BYTES, follow=True)
        names = parse_json(content) if path.suffix.lower() == ".json" else content.decode().splitlines()
    except OSError as error:
        raise UsageError(f"{option}: cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{option}: {path} holds no names: {error}", hint="UTF-8, a name a line, or JSON") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{option}: {path} holds no list of names", hint='for instance ["cat", "dog"]')
    return tuple(name.strip() for name in names)


def check_names(names: tuple[str, ...], what: str) -> None:
    """Refuse names that cannot stand in a comment or a file.

    Args:
        names: Names of classes, or of columns.
        what: Which, for messages.

    Raises:
        UsageError: one is empty, too long, twice there, or has characters that cannot be shown.
    """
    seen: set[str] = set()
    for name in names:
        if not name or len(name) > LONGEST or not name.isprintable():
            raise UsageError(
                f"the name of a {what}, {shown(name, 80)!r}, is none: 1 to {LONGEST} characters that can be shown"
            )
        if name in seen:
            raise UsageError(f"two of the names are {name!r}", hint=f"a name for each {what}")
        seen.add(name)


def in_order(found: Sequence[str], wanted: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the names of a table's columns in a model's order.

    LightGBM writes an underscore for a blank in a name: either is found.

    Args:
        found: The table's, in its order.
        wanted: The model's.
        where: What to call the table in messages.

    Raises:
        DataError: the model has others, or one is there twice.
    """
    own = {name.replace(" ", "_"): name for name in found} | {name: name for name in found}
    chosen = [own[name] for name in wanted if name in own]
    known = set(chosen)
    wrong = {
        "it lacks the model's": [name for name in wanted if name not in own],
        "the model does not know": [name for name in found if name not in known],
        "it has twice": [name for name, times in Counter(found).items() if times > 1],
    }
    if any(wrong.values()):
        parts = "; ".join(f"{what} {_listed(names)}" for what, names in wrong.items() if names)
        raise DataError(f"{where}: columns are taken by name: {parts}", hint=f"the columns are {_listed(wanted)}")
    return tuple(chosen)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"{name!r:.60}" for name in names[:_SHOWN]) + more
