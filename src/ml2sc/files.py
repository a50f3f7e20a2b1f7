"""Files that others have named or laid: here, and nowhere else, does a name from outside become a path.

Such a name comes from a model, a manifest or a plugin. It stands for a file inside a folder, or it is refused: no name
is absolute or leads upwards, no symbolic link on the way is followed, and what is read is a regular file of limited
size. What is written gets a name of its own first, one that nobody can have guessed, and takes its place at once.

What is refused is an OSError whose `strerror` says why, as where the system refuses.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO

MOST_BYTES = 1 << 31
"""Bytes of a file that is read whole: those of the largest protobuf."""

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # to open a FIFO is to wait for its writer
_BYTES = getattr(os, "O_BINARY", 0)


def inner_name(name: object) -> str:
    """Return a name from outside as a relative path in its shortest form, its parts divided by `/`.

    Raises:
        OSError: it is no text, empty, absolute, leads upwards, or has characters that cannot be shown.
    """
    if not isinstance(name, str) or not name.isprintable():
        raise _refused("its name has characters that cannot be shown")
    parts = PurePosixPath(name).parts
    if not parts:
        raise _refused("it has no name")
    if parts[0].startswith("/") or PurePath(name).drive:
        raise _refused("its name is absolute")
    if ".." in parts or "\\" in name:
        raise _refused("its name leads out of the folder")
    return "/".join(parts)


def inside(folder: Path, name: object, *, make: bool = False) -> Path:
    """Return the path of a file in a folder. Neither the file nor a folder on the way to it is a link.

    Args:
        folder: The folder; the user's own word, a link if they like.
        name: A name from outside.
        make: Make the folders on the way.

    Raises:
        OSError: the name is refused, or a link or a file is in the way.
    """
    *way, last = inner_name(name).split("/")
    path = folder
    for part in way:
        path /= part
        if make:
            path.mkdir(exist_ok=True)
        if path.is_symlink():
            raise _refused(f"{part!r} on the way to it is a symbolic link")
    path /= last
    if path.is_symlink():
        raise _refused("it is a symbolic link")
    return path


def read_inside(folder: Path, name: object, most: int = MOST_BYTES) -> bytes:
    """Read a file in a folder by a name from outside.

    Raises:
        OSError: the name is refused, no file is there, it is no regular file, or longer than `most` bytes.
    """
    return read_file(inside(folder, name), most)


def read_file(path: Path, most: int = MOST_BYTES, *, follow: bool = False) -> bytes:
    """Read a whole file.

    Args:
        path: The file.
        most: Bytes it may have.
        follow: Whether it may be a link: where the path is the user's own word.

    Raises:
        OSError: it cannot be read, is no regular file (or a link), or is too long.
    """
    with open_file(path, follow=follow) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, more than {most:,}")
        return file.read(size)


def open_file(path: Path, *, follow: bool = False) -> BinaryIO:
    """Open a file to read it.

    Args:
        path: The file.
        follow: Whether it may be a link: where the path is the user's own word.

    Raises:
        OSError: it cannot be read, or is no regular file (or a link).
    """
    if not follow and path.is_symlink():
        raise _refused("it is a symbolic link")
    descriptor = os.open(path, os.O_RDONLY | _AT_ONCE | _BYTES | (0 if follow else _NO_LINK))
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise _refused("it is no regular file")
        return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def write_file(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file, all of it or nothing, and to the disk. What was there is replaced; a link is not followed.

    Args:
        path: The file; its folder is there.
        content: What it holds then.
        mode: Its permissions, less the process's umask.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | _BYTES, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make a rename last: on POSIX systems that needs the folder flushed too."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(why: str) -> OSError:
    return OSError(errno.EINVAL, why)
