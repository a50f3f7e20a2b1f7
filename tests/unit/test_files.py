"""Names from outside, and files that somebody else may have laid."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ml2sc.files import inner_name, inside, read_file, read_inside, write_file


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("weights.bin", "weights.bin"),
        ("./data//w.bin", "data/w.bin"),
        ("onnx::MatMul_12", "onnx::MatMul_12"),
        ("...", "..."),
        ("Gewichte für x", "Gewichte für x"),
    ],
)
def test_names(name: str, path: str) -> None:
    assert inner_name(name) == path


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "no name"),
        (".", "no name"),
        ("/etc/passwd", "absolute"),
        ("//host/share", "absolute"),
        ("..", "leads out"),
        ("a/../b", "leads out"),
        ("a/../../b", "leads out"),
        ("..\\b", "leads out"),
        ("a\x00b", "cannot be shown"),
        ("a\nb", "cannot be shown"),
        ("\x1b[2J", "cannot be shown"),
        ("a\u202eb", "cannot be shown"),
        ("\ud800", "cannot be shown"),
        (b"weights.bin", "cannot be shown"),
        (None, "cannot be shown"),
    ],
)
def test_refused_names(tmp_path: Path, name: object, why: str) -> None:
    with pytest.raises(OSError, match=why):
        inner_name(name)
    with pytest.raises(OSError, match=why):
        read_inside(tmp_path, name)


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "secret").write_text("secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").symlink_to(tmp_path / "mine" / "secret")
    (folder / "within").symlink_to("plain")
    (folder / "plain").write_text("plain")
    (folder / "way").symlink_to(tmp_path / "mine")
    for name in ("file", "within", "way/secret"):
        with pytest.raises(OSError, match="symbolic link"):
            read_inside(folder, name)
    with pytest.raises(OSError, match="symbolic link"):
        inside(folder, "way/new", make=True)
    assert read_inside(folder, "plain") == b"plain"
    (tmp_path / "link").symlink_to(folder)
    assert read_inside(tmp_path / "link", "plain") == b"plain"  # the folder is the user's own word
    assert read_file(folder / "file", follow=True) == b"secret"


def test_only_regular_files_of_limited_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        read_inside(tmp_path, "pipe")
    with pytest.raises(OSError, match="no regular file"):
        read_file(Path("/dev/zero"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        read_inside(tmp_path, "folder")
    (tmp_path / "long").write_bytes(bytes(11))
    assert read_inside(tmp_path, "long", 11) == bytes(11)
    with pytest.raises(OSError, match="11 bytes, more than 10"):
        read_inside(tmp_path, "long", 10)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="more than"):
        read_inside(tmp_path, "sparse")


def test_writing_replaces_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "planted").symlink_to(tmp_path / "mine")
    write_file(tmp_path / "planted", b"new")
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "planted").read_bytes() == b"new"
    assert not (tmp_path / "planted").is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "planted"]


def test_writing_does_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("before")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "file", b"after")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file", "before")]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_file(tmp_path / "open", b"")
        write_file(tmp_path / "private", b"", mode=0o600)
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("open", "private")] == [0o644, 0o600]
