"""The cache of compilers' outputs: what is kept, what is not believed, what goes, and who may write there."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from ml2sc.runtime.compiler_cache import Compiler, CompilerCache
from ml2sc.runtime.toolchain import Toolchain

SOLC = Compiler("solc", "0.8.37+commit.1")
ANSWER = {"contracts": {"T.sol": {}}, "errors": [{"severity": "warning", "type": "Warning"}]}


class Asked:
    """Counts how often a compiler is asked."""

    def __init__(self, answer: Mapping[str, Any] = ANSWER) -> None:
        self.answer, self.times = answer, 0

    def __call__(self) -> Mapping[str, Any]:
        self.times += 1
        return self.answer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "made" / "by it"


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.entry"))


def test_a_question_is_asked_once(folder: Path) -> None:
    ask = Asked()
    assert CompilerCache(folder).answer(SOLC, "source", ask) == ANSWER
    assert CompilerCache(folder).answer(SOLC, "source", ask) == ANSWER
    assert ask.times == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == [entries(folder)[0].name]  # nothing temporary is left


def test_whatever_the_answer_depends_on_is_another_question(folder: Path, tmp_path: Path) -> None:
    program, other = tmp_path / "solc", tmp_path / "other"
    program.write_text("one build")
    other.write_text("another build")
    cache, ask = CompilerCache(folder), Asked()
    questions = [
        (SOLC, "source"),
        (SOLC, "source "),
        (Compiler("vyper", SOLC.version), "source"),
        (Compiler("solc", "0.8.37+commit.2"), "source"),
        (Compiler("solc", "0.8.37+commit.1s"), "ource"),
        (SOLC._replace(program=program), "source"),
        (SOLC._replace(program=other), "source"),
    ]
    for compiler, question in questions:
        cache.answer(compiler, question, ask)
    assert ask.times == len(questions) == len(entries(folder))
    program.write_text("a new build at the same place")
    cache.answer(SOLC._replace(program=program), "source", ask)
    assert ask.times == len(questions) + 1


def test_a_program_that_cannot_be_read_is_asked_each_time(folder: Path, tmp_path: Path) -> None:
    cache, ask = CompilerCache(folder), Asked()
    for _ in range(2):
        cache.answer(SOLC._replace(program=tmp_path / "gone"), "source", ask)
    assert ask.times == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "long", "foreign"])
def test_a_damaged_entry_is_compiled_again(folder: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    cache, ask = CompilerCache(folder), Asked()
    cache.answer(SOLC, "source", ask)
    (path,) = entries(folder)
    good = path.read_bytes()
    changed = good[:-9] + bytes([good[-9] ^ 1]) + good[-8:]
    spoilt = {"cut": good[:-1], "changed": changed, "empty": b"", "long": good + b"\0", "foreign": b"{}" * 100}
    path.write_bytes(spoilt[damage])
    assert cache.answer(SOLC, "source", ask) == ANSWER
    assert ask.times == 2
    assert "damaged" in caplog.text
    assert path.read_bytes() == good
    assert cache.answer(SOLC, "source", ask) == ANSWER
    assert ask.times == 2


def test_every_cut_and_every_changed_byte_is_noticed(folder: Path) -> None:
    cache = CompilerCache(folder)
    cache.answer(SOLC, "source", Asked())
    (path,) = entries(folder)
    good = path.read_bytes()
    for index in range(len(good)):
        for spoilt in (good[:index], good[:index] + bytes([good[index] ^ 0x40]) + good[index + 1 :]):
            path.write_bytes(spoilt)
            assert cache.answer(SOLC, "source", Asked({"sources": {}})) == {"sources": {}}


def test_links_and_what_is_no_file_are_not_followed(folder: Path, tmp_path: Path) -> None:
    cache = CompilerCache(folder)
    cache.answer(SOLC, "source", Asked())
    (path,) = entries(folder)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert cache.answer(SOLC, "source", Asked({"sources": {}})) == {"sources": {}}
    assert not path.is_symlink()  # replaced, not written through
    assert elsewhere.read_bytes() != path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    assert cache.answer(SOLC, "source", Asked({"sources": {}})) == {"sources": {}}


@pytest.mark.parametrize("kind", ["MemoryError", "RecursionError", "OSError", "AssertionError"])
def test_what_may_be_the_machines_fault_is_not_kept(folder: Path, kind: str) -> None:
    cache, ask = CompilerCache(folder), Asked({"errors": [{"severity": "error", "type": kind}]})
    for _ in range(2):
        cache.answer(SOLC, "source", ask)
    assert ask.times == 2


def test_an_error_in_the_source_is_kept(folder: Path) -> None:
    cache, ask = CompilerCache(folder), Asked({"errors": [{"severity": "error", "type": "StackTooDeep"}]})
    for _ in range(2):
        cache.answer(SOLC, "source", ask)
    assert ask.times == 1


def test_the_least_recently_used_go(folder: Path) -> None:
    def write(number: int) -> None:
        before = set(entries(folder))
        cache.answer(SOLC, f"question {number}", Asked({"noise": os.urandom(500).hex()}))
        (new,) = set(entries(folder)) - before
        os.utime(new, (number, number))  # seconds since 1970: long before any use from now on

    cache = CompilerCache(folder, limit=2_500)
    for number in range(3):
        write(number)
    unused = Asked()
    cache.answer(SOLC, "question 0", unused)
    write(3)
    write(4)
    assert unused.times == 0
    assert sum(path.stat().st_size for path in entries(folder)) <= 2_500
    kept = []
    for number in range(5):
        ask = Asked()
        CompilerCache(folder, limit=1 << 20).answer(SOLC, f"question {number}", ask)
        kept += [] if ask.times else [number]
    assert kept == [0, 3, 4]


def test_a_full_disk_costs_time_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Full:
        def __init__(self, descriptor: int) -> None:
            self.descriptor = descriptor

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            os.close(self.descriptor)

        def write(self, content: bytes) -> int:
            os.write(self.descriptor, content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fdopen = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda d, mode: Full(d) if mode == "wb" else fdopen(d, mode))
    ask = Asked()
    assert CompilerCache(folder).answer(SOLC, "source", ask) == ANSWER
    assert "No space left" in caplog.text
    assert list(folder.iterdir()) == []


def test_a_cache_that_cannot_be_made_costs_time_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert CompilerCache(tmp_path / "file" / "cache").answer(SOLC, "source", Asked()) == ANSWER
    assert "no cache of compilers' outputs" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_folder_that_others_can_write_to_is_not_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    cache, ask = CompilerCache(folder), Asked()
    for _ in range(2):
        cache.answer(SOLC, "source", ask)
    assert (ask.times, list(folder.iterdir())) == (2, [])
    assert caplog.text.count("others can write") == 1


def test_the_environment_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ML2SC_CACHE", raising=False)
    CompilerCache.default().answer(SOLC, "source", Asked())
    assert entries(tmp_path / "ml2sc" / "compilers")
    monkeypatch.setenv("ML2SC_CACHE", str(tmp_path / "mine"))
    CompilerCache.default().answer(SOLC, "source", Asked())
    assert entries(tmp_path / "mine")
    monkeypatch.setenv("ML2SC_CACHE", "OFF")
    ask = Asked()
    for _ in range(2):
        CompilerCache.default().answer(SOLC, "source", ask)
    assert ask.times == 2


_WRITER = """
import sys
from pathlib import Path
from ml2sc.runtime.compiler_cache import Compiler, CompilerCache
cache = CompilerCache(Path(sys.argv[1]), limit=60_000)
for round in range(3):
    for number in range(60):
        wanted = {"number": number, "padding": str(number) * 3000}
        got = cache.answer(Compiler("solc", "1"), str(number), lambda: wanted)
        assert got == wanted, got
"""


def test_processes_do_not_disturb_one_another(folder: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", _WRITER, str(folder)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
    assert not list(folder.glob(".*"))


def test_vyper_is_asked_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vyper.cli.vyper_json as vyper_json

    question = {
        "language": "Vyper",
        "sources": {"T.vy": {"content": "@external\ndef f() -> uint256:\n    return 1\n"}},
        "settings": {"outputSelection": {"T.vy": ["abi", "evm.bytecode.object"]}},
    }
    first = Toolchain(cache=CompilerCache(folder)).vyper(question)
    monkeypatch.setattr(vyper_json, "compile_json", lambda *_, **__: pytest.fail("it is asked again"))
    again = Toolchain(cache=CompilerCache(folder)).vyper(question)
    assert json.dumps(again) == json.dumps(first)
    assert again.output["contracts"]["T.vy"]["T"]["evm"]["bytecode"]["object"].startswith("0x")


def test_temporary_files_of_killed_processes_go_with_time(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
    os.write(descriptor, bytes(5_000))
    os.close(descriptor)
    os.utime(name, (0, 0))
    CompilerCache(folder, limit=5_000).answer(SOLC, "source", Asked())
    assert len(entries(folder)) == 1
    assert not Path(name).exists()
