"""Files of ours in a folder of the user's: all of them or none, and nothing of the user's in the way of them.

What was put there is listed, with its hashes, in a file among them: only what has the name and the hash of a file on
that list is replaced or deleted.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from ml2sc.errors import OutputError
from ml2sc.files import inside, read_inside
from ml2sc.manifest import Listing

MOST_LISTED = 1 << 28
"""Bytes of a list."""

IsOurs = Callable[[str, str], bool]
"""Whether we write files of a name for a contract of a name."""


def digest(content: bytes) -> str:
    """Return the hash by which a file is known to be ours."""
    return hashlib.sha256(content).hexdigest()


def place_files(target: Path, files: Mapping[str, bytes], listing: str, is_ours: IsOurs) -> list[Path]:
    """Write files into a folder.

    They are written beside the folder first and then moved into it, so a failure leaves the folder as it was. Files in
    it that were put there earlier are replaced, or deleted if there are no such any more; all others stay.

    Args:
        target: The folder; it and its parents are made if need be.
        files: What to write, by name inside the folder; the list itself comes last.
        listing: Name of the file among them that lists the others: `ml2sc.manifest.Listing`.
        is_ours: Which names on an earlier list can be files of ours.

    Returns:
        The paths written.

    Raises:
        OutputError: the folder cannot be written, or holds files under these names that are not ours.
    """
    try:
        place = Path(os.path.realpath(target))  # the folder is the user's own word: a link if they like
        stale = _stale(place, target, files, listing, is_ours)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".ml2sc-", dir=place.parent) as private:
            new = Path(private, "new")
            new.mkdir()
            for name, content in files.items():
                inside(new, name, make=True).write_bytes(content)
            _move(new, place, list(files), stale)
    except OSError as error:
        raise _unwritable(target, error) from error
    return [target / name for name in files]


def require_writable(target: Path) -> None:
    """Refuse a folder that cannot be written, before what goes into it is made.

    Args:
        target: The folder, there or not.

    Raises:
        OutputError: it is none, or it may not be written, or made.
    """
    try:
        place = Path(os.path.realpath(target))
        beside = next(folder for folder in place.parents if folder.exists())
        for folder in (place, beside) if place.exists() else (beside,):
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unwritable(target, error) from error


def require_place(target: Path, files: Mapping[str, bytes], listing: str, is_ours: IsOurs) -> None:
    """Refuse a folder in which something is in the way of files, before they are made.

    Args:
        target: The folder.
        files: As for `place_files`.
        listing: Likewise.
        is_ours: Likewise.

    Raises:
        OutputError: it holds files under these names that are not ours, or is none.
    """
    try:
        _stale(Path(os.path.realpath(target)), target, files, listing, is_ours)
    except OSError as error:
        raise _unwritable(target, error) from error


def _unwritable(target: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write the folder {target}: {error.strerror or error}", hint="name another one with -o DIR"
    )


def _stale(place: Path, target: Path, files: Mapping[str, bytes], listing: str, is_ours: IsOurs) -> list[str]:
    """Return the names of earlier files that go, once everything in the way is known to be ours.

    A file is ours if the list there has it and it has that hash, or if it is what we would write.

    Raises:
        OSError: the folder cannot be read.
        OutputError: something else is there.
    """
    if not place.exists():
        return []
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    listed = _listed_files(place, target, listing, is_ours)
    for name in {**listed, **files}:
        try:
            found = digest(read_inside(place, name))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _in_the_way(target / name, error.strerror or str(error)) from error
        ours = name == listing or found == listed.get(name) or (name in files and found == digest(files[name]))
        if not ours:
            raise _in_the_way(target / name, "ml2sc has not written it, or it was edited since")
    return [name for name in listed if name not in files]


def _listed_files(place: Path, target: Path, name: str, is_ours: IsOurs) -> dict[str, str]:
    """Return the hashes of the files that the list in a folder says ml2sc wrote.

    Raises:
        OutputError: a file has the list's name and is none.
    """
    try:
        listing = Listing.model_validate_json(read_inside(place, name, MOST_LISTED))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _in_the_way(target / name, error.strerror or str(error)) from error
    except ValidationError as error:
        raise _in_the_way(target / name, f"it is no {Path(name).stem} of ml2sc") from error
    return {file: found for file, found in listing.files.items() if is_ours(file, listing.name)}


def _in_the_way(path: Path, why: str) -> OutputError:
    return OutputError(
        f"{path} is in the way: {why}", hint="nothing was changed; move it away, or name another folder with -o DIR"
    )


def _move(new: Path, place: Path, names: list[str], stale: list[str]) -> None:
    """Put the files of `new` in their place; those of an artifact that was there before go."""
    if not place.exists():
        new.rename(place)
        return
    for name in names:  # the manifest comes last: until then it does not match what is there
        (new / name).replace(inside(place, name, make=True))
    for name in stale:
        path = inside(place, name)
        path.unlink(missing_ok=True)
        with suppress(OSError):  # it holds other files
            for folder in path.relative_to(place).parents[:-1]:
                (place / folder).rmdir()
