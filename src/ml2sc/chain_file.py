"""Chain profiles by name, or from a TOML file of the user's, which is hostile until it is checked."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from ml2sc.errors import UsageError
from ml2sc.files import read_file
from ml2sc.foreign import shown
from ml2sc.ir.chains import PROFILES, ChainProfile, ProfileError
from ml2sc.ir.forks import FORKS

_MOST_BYTES = 1 << 16
_LIKE = "like"


def chain_profile(text: str) -> ChainProfile:
    """Return the profile of that name, or the one in a file.

    Args:
        text: A name, or the name of a file that ends in `.toml`. The file has the entries of `ChainProfile`; `like`
            names the profile whose entries count where it has none (default: ethereum).

    Raises:
        UsageError: there is no profile of that name; or the file cannot be read, or is no profile: the text names entry
            and line.
    """
    if text in PROFILES:
        return PROFILES[text]
    if not text.lower().endswith(".toml"):
        raise UsageError(
            f"unknown chain profile '{shown(text)}'",
            hint=f"known: {', '.join(PROFILES)}; or a file of yours, FILE.toml",
        )
    return _read(Path(text))


def _read(path: Path) -> ChainProfile:
    try:
        content = read_file(path, _MOST_BYTES, follow=True).decode()
    except OSError as error:
        raise UsageError(f"cannot read the chain profile {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"the chain profile {path} is no text") from error
    try:
        entries = tomllib.loads(content)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise UsageError(f"the chain profile {path} is not TOML: {shown(str(error))}") from error
    try:
        return _profile(entries)
    except ProfileError as error:
        where = _line(content, error.key)
        key = f"{shown(error.key)}: " if error.key else ""
        raise UsageError(f"{path}{where}: {key}{error.text}") from error


def _profile(entries: dict[str, Any]) -> ChainProfile:
    like = entries.pop(_LIKE, "ethereum")
    if not isinstance(like, str) or like not in PROFILES:
        raise ProfileError(_LIKE, f"no known profile; there are {', '.join(PROFILES)}")
    if "name" not in entries:
        raise ProfileError("", "it has no name")
    profile = ChainProfile.of({**PROFILES[like].to_json(), "chain_ids": [], **entries})
    if profile.name in {*PROFILES, *FORKS}:
        raise ProfileError("name", f"{profile.name} is known already: choose another")
    return profile


def _line(content: str, key: str) -> str:
    """Return ", line N" of an entry; empty where it stands in a way that a search does not find."""
    own = re.compile(rf"\s*\[*\s*[\"']?{re.escape(key)}[\"']?\s*[=.\]]")
    number = next((i for i, line in enumerate(content.splitlines(), 1) if key and own.match(line)), None)
    return "" if number is None else f", line {number}"
