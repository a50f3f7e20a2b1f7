"""What strangers say: read within limits, shown without harm, and rid of what is secret.

Text of a node, a journal or a command line may hold escape sequences for a terminal, a megabyte of brackets, or a
private key that was typed in the wrong place. Whoever reads or shows such text does it with these functions.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote, unquote_plus, urlsplit

_MOST_DEPTH = 64
_MOST_CONTAINERS = 200_000
_SHOWN = 300

_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z|\\\Z)|[\[{\]}]', re.DOTALL)


def shown(text: str, limit: int = _SHOWN) -> str:
    r"""Return a text on one line, without control characters (they become \x1b, \n, …), and cut where it is long."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


def described(value: object) -> str:
    """Return what a JSON value is, in a few words: hostile ones may be large."""
    if isinstance(value, str):
        return f"'{shown(value, 80)}'"
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    if isinstance(value, dict):
        return f"an object of {len(value):,} members"
    return shown(json.dumps(value), 80)


def parse_json(data: bytes) -> Any:
    """Return the value of a JSON text, unless it is one that would hurt: too deep, or too many lists and objects.

    Args:
        data: UTF-8.

    Raises:
        ValueError: it is no JSON, or too deep or too rich.
    """
    require_shallow(data)
    try:
        return json.loads(data)
    except ValueError:
        raise ValueError("no JSON") from None  # without the cause: it holds the text


def require_shallow(data: bytes) -> None:
    """Refuse a JSON text that would hurt who parses it; where Python's recursion limit is raised, it kills the process.

    Raises:
        ValueError: it is too deep, or has too many lists and objects.
    """
    depth = count = 0
    for match in _STRING_OR_BRACKET.finditer(data):
        token = match.group()
        if token in (b"[", b"{"):
            depth, count = depth + 1, count + 1
            if depth > _MOST_DEPTH or count > _MOST_CONTAINERS:
                raise ValueError(f"lists and objects more than {_MOST_DEPTH} deep, or {_MOST_CONTAINERS:,} of them")
        elif token in (b"]", b"}"):
            depth -= 1


# -- secrets -----------------------------------------------------------------------------------------------------------

_HEX_RUN = re.compile(r"[0-9a-fA-F]{48,}")
"""What may be a private key, or most of one; an address has 40 digits."""


def looks_secret(text: str) -> bool:
    """Return whether a text holds what may be a private key."""
    return _HEX_RUN.search(text) is not None


class Secrets:
    """Texts that are never shown; each in the forms that programs give it (quoted, unquoted, escaped)."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def forget(self) -> None:
        """Hide nothing any more."""
        self._forms, self._pattern = set(), None

    def add(self, *texts: str) -> None:
        """Hide texts from now on."""
        for text in texts:
            for plain in (text, unquote(text), unquote_plus(text)):
                quoted = quote(plain), quote(plain, safe=""), quote(plain, safe="!#$%&'()*+,/:;=?@[]~")
                self._forms |= {plain, json.dumps(plain)[1:-1], repr(plain)[1:-1], *quoted}
        longest_first = sorted(filter(None, self._forms), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE) if longest_first else None

    def add_url(self, url: str) -> None:
        """Hide all of a URL but scheme and host: access keys stand in paths, queries, user names and passwords."""
        try:
            parts = urlsplit(url)
        except ValueError:
            self.add(url.partition("://")[2])
            return
        login = parts.netloc.rpartition("@")[0]
        user, _, password = login.partition(":")
        # Short pieces are words ("v3", "rpc"): without them no text would be left readable.
        pieces = [piece for piece in re.split(r"[/&=?;]", f"{parts.path}/{parts.query}") if len(piece) >= 6]
        pieces += [text for text in (parts.path.strip("/"), parts.query, parts.fragment, login) if len(text) >= 4]
        pieces += [password] if len(password) >= 3 else []
        pieces += [user] if len(user) >= 6 or not password else []
        if login:  # as a node sees it (RFC 7617)
            pieces.append(base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode())
        self.add(*filter(None, pieces))

    def add_arguments(self, arguments: Iterable[str]) -> None:
        """Hide what may be keys on a command line, but for names of files, and what is secret in its URLs."""
        for argument in arguments:
            value = argument.partition("=")[2] if argument.startswith("-") else argument
            if "://" in value:
                self.add_url(value)
            if not (value and _is_there(value)):
                self.add(*_HEX_RUN.findall(argument))

    def redact(self, text: str) -> str:
        """Return a text with an ellipsis for each secret."""
        return text if self._pattern is None else self._pattern.sub("…", text)


def _is_there(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL in it
        return False
