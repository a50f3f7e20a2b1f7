"""What compilers answered, kept in the user's cache folder: the same source is not compiled twice.

An entry is one file, named after a hash of all that the answer depends on: the compiler, its full version, its program
and its input, byte for byte. A file is written under another name first and then renamed, so that other processes see
all of it or nothing. It begins with a hash of what follows, and one that is damaged counts as not there. The folder's
size is bounded: the entries that were not used for longest go. Nothing depends on an entry being there: whatever goes
wrong with the cache costs time only.
"""

from __future__ import annotations

import builtins
import hashlib
import json
import logging
import os
import stat
import zlib
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ml2sc.files import read_file, write_file

logger = logging.getLogger(__name__)

OFF = "off"
"""Value of `ML2SC_CACHE` that means: no cache."""

LIMIT = 512 << 20
"""Bytes of all entries together."""

LARGEST = 256 << 20
"""Bytes of an answer that are unpacked at most: a longer one was not written by us."""

_FORMAT = b"ml2sc-cache-1"
_SUFFIX = ".entry"


class Compiler(NamedTuple):
    """Who answers.

    Attributes:
        name: "solc" or "vyper".
        version: Its full version, commit included.
        program: The file that compiles, where there is one: two builds may say the same version.
    """

    name: str
    version: str
    program: Path | None = None


class CompilerCache:
    """Answers of compilers, by what was asked.

    Args:
        folder: Where they are kept; None: nowhere, every question is asked.
        limit: Bytes of all entries together.
    """

    def __init__(self, folder: Path | None, limit: int = LIMIT) -> None:
        self._folder, self._limit = folder, limit

    @classmethod
    def default(cls) -> CompilerCache:
        """Return the cache that `ML2SC_CACHE` names ("off", or a folder), else that in the user's cache folder."""
        given = os.environ.get("ML2SC_CACHE", "")
        if given.lower() == OFF:
            return cls(None)
        return cls(Path(given).expanduser() if given else user_cache() / "compilers")

    def answer(self, compiler: Compiler, question: str, ask: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return a compiler's answer to its standard JSON input.

        Args:
            compiler: Who is asked.
            question: The input, as text.
            ask: Asks it.
        """
        folder = self._usable
        if folder is None:
            return ask()
        try:
            path = folder / (_digest(compiler, question) + _SUFFIX)
        except OSError as error:  # its program cannot be read: it may be another one the next time
            logger.debug("%s is asked without the cache: %s", compiler.name, error)
            return ask()
        kept = _read(path)
        if kept is not None:
            logger.debug("%s %s: its answer is in the cache", compiler.name, compiler.version)
            return kept
        given = ask()
        if _is_verdict(given):
            self._write(path, given)
        return given

    @cached_property
    def _usable(self) -> Path | None:
        """The folder, made if need be; None if there is none, or if others could put answers into it."""
        folder = self._folder
        if folder is None:
            return None
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.stat()
        except OSError as error:
            logger.warning("no cache of compilers' outputs: %s: %s", folder, error.strerror or error)
            return None
        if os.name == "posix" and (found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
            logger.warning("no cache of compilers' outputs: others can write to %s, and so decide what you get", folder)
            return None
        return folder

    def _write(self, path: Path, answer: Mapping[str, Any]) -> None:
        body = zlib.compress(json.dumps(answer).encode())
        try:
            write_file(path, _head(body) + body, mode=0o600)
            self._shrink(path.parent)
        except OSError as error:  # a full disk, above all
            logger.warning("a compiler's output is not kept in %s: %s", path.parent, error.strerror or error)

    def _shrink(self, folder: Path) -> None:
        """Remove the entries that were not used for longest until the rest is within the limit."""
        entries = []
        with os.scandir(folder) as found:
            for file in found:
                if file.name.endswith((_SUFFIX, ".tmp")):
                    try:
                        about = file.stat(follow_symlinks=False)
                    except FileNotFoundError:  # another process was faster
                        continue
                    entries.append((about.st_mtime_ns, about.st_size, file.path))
        total = sum(size for _, size, _ in entries)
        for _, size, name in sorted(entries):
            if total <= self._limit:
                return
            Path(name).unlink(missing_ok=True)
            total -= size


def user_cache() -> Path:
    """Return our folder in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ml2sc"


def _digest(compiler: Compiler, question: str) -> str:
    """Return the name of an answer: hashes of fixed length follow one another, so that no two questions meet."""
    parts = [_FORMAT, compiler.name.encode(), compiler.version.encode(), question.encode()]
    hashes = [hashlib.sha256(part).digest() for part in parts]
    if compiler.program is not None:
        about = compiler.program.stat()
        hashes.append(_hash_of(compiler.program, about.st_mtime_ns, about.st_size))
    return hashlib.sha256(b"".join(hashes)).hexdigest()


@cache
def _hash_of(program: Path, modified: int, size: int) -> bytes:
    with program.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _head(body: bytes) -> bytes:
    return _FORMAT + b" " + hashlib.sha256(body).hexdigest().encode() + b"\n"


def _read(path: Path) -> Mapping[str, Any] | None:
    """Return an entry, and note that it was used; None if there is none, or if it is damaged."""
    try:
        content = read_file(path, LARGEST)
        head, body = content[: len(_head(b""))], content[len(_head(b"")) :]
        if head != _head(body):
            logger.warning("the cache's %s is damaged: its source is compiled again", path)
            return None
        unpack = zlib.decompressobj()
        answer = json.loads(unpack.decompress(body, LARGEST))
        os.utime(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, zlib.error) as error:
        logger.warning("the cache's %s cannot be read: %s", path, error)
        return None
    return answer if isinstance(answer, dict) else None


def _is_verdict(answer: Mapping[str, Any]) -> bool:
    """Whether the compiler said what it thinks of its input; what Python raised in it may be the machine's fault."""
    errors = (error for error in answer.get("errors", ()) if error.get("severity") == "error")
    return not any(hasattr(builtins, str(error.get("type", ""))) for error in errors)
