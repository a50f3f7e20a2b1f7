"""Bytecode read from a folder against what compilers make of its source: equal, other, or not to be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import ml2sc
from ml2sc.backends.base import BACKENDS, Artifact, Bytecode, CompilerRun
from ml2sc.errors import ArtifactError, CheckError, ToolchainError
from ml2sc.runtime.bytecode import compare_bytecode, split_metadata

STATED = "solc 0.8.37+commit.abcdef12.Emscripten.clang"
HERE = "solc 0.8.37+commit.abcdef12.Linux.g++"
OTHER = "solc 0.8.30+commit.12345678.Linux.g++"

CODE = bytes(range(200))


def metadata(digest: int, *, more: bytes = b"") -> bytes:
    """Return CBOR as solc's: a map of two, its length in the last two bytes."""
    cbor = b"\xa2\x64ipfs\x58\x22" + bytes([digest]) * 34 + more + b"\x64solc\x43\x00\x08\x25"
    return cbor + len(cbor).to_bytes(2, "big")


class Compiler:
    """Stands for a backend whose compiler answers what it is told to."""

    name = "pretended"

    def __init__(self) -> None:
        self.made: Bytecode | ToolchainError = Bytecode(CODE + metadata(1), b"", (), HERE, "PATH")
        self.asked = 0

    def unsupported(self, program: Any) -> list[str]:
        return []

    def emit(self, program: Any, options: Any) -> Artifact:
        raise NotImplementedError

    def compile(self, artifact: Artifact, toolchain: Any) -> Bytecode:
        self.asked += 1
        assert artifact.bytecode is None
        if isinstance(self.made, ToolchainError):
            raise self.made
        return self.made


class Nothing:
    """A toolchain that is not asked."""

    def solc(self, standard_input: Mapping[str, Any]) -> CompilerRun:
        raise AssertionError

    vyper = solc


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    pretended = Compiler()
    monkeypatch.setattr(type(BACKENDS), "get", lambda self, name: pretended)
    return pretended


def read(creation: bytes, compiler: str = STATED) -> Artifact:
    bytecode = Bytecode(creation, b"", (), compiler, "npm", read=True)
    return Artifact("A", "pretended", "A.sol", "", {}, (), bytecode=bytecode)


def test_what_was_compiled_here_is_not_compiled_again(compiler: Compiler) -> None:
    artifact = read(b"anything")
    assert artifact.bytecode is not None
    built = replace(artifact, bytecode=replace(artifact.bytecode, read=False))
    found = compare_bytecode(built, Nothing())
    assert (found.compared, found.compiler, compiler.asked) == (True, STATED, 0)
    with pytest.raises(ArtifactError, match="not compiled"):
        compare_bytecode(replace(artifact, bytecode=None), Nothing())


@pytest.mark.parametrize(
    ("creation", "stated", "words"),
    [
        (CODE + metadata(1), STATED, f"what {HERE} makes of the source"),
        (CODE + metadata(1), "", f"what {HERE} makes of the source"),
        (CODE + metadata(2), STATED, "but for solc's metadata"),
        (CODE + metadata(2), OTHER, "but for solc's metadata"),
    ],
)
def test_equal(compiler: Compiler, creation: bytes, stated: str, words: str) -> None:
    found = compare_bytecode(read(creation, stated), Nothing(), needed=True)
    assert found.compared
    assert found.compiler == HERE
    assert words in found.summary


EVIL = {
    "a byte of code": bytes([CODE[0] ^ 1]) + CODE[1:] + metadata(1),
    "more code": CODE + b"\x00" + metadata(1),
    "code without metadata": CODE,
    # a constructor reads its arguments from where the code ends: that would be in here
    "longer metadata": CODE + metadata(1, more=bytes(32)),
    "nothing": b"",
}


@pytest.mark.parametrize("creation", EVIL.values(), ids=EVIL.keys())
def test_another_code(compiler: Compiler, creation: bytes) -> None:
    """The same version is an accusation, whatever machine it was built for; another one proves nothing, and says so."""
    with pytest.raises(CheckError, match=r"is not what solc 0\.8\.37"):
        compare_bytecode(read(creation), Nothing())
    for stated in (OTHER, ""):
        found = compare_bytecode(read(creation, stated), Nothing())
        assert not found.compared
        assert found.summary.startswith("NOT compared")
        assert HERE in found.summary
        assert (OTHER if stated else "does not say what made it") in found.summary
        with pytest.raises(CheckError, match="cannot be compared"):
            compare_bytecode(read(creation, stated), Nothing(), needed=True)


def test_no_compiler(compiler: Compiler) -> None:
    compiler.made = ToolchainError("no usable solc found\n  tried PATH: no executable solc")
    found = compare_bytecode(read(CODE), Nothing())
    assert found.summary == "NOT compared with the source: no usable solc found"
    assert not found.compiler
    with pytest.raises(ToolchainError):
        compare_bytecode(read(CODE), Nothing(), needed=True)


def test_metadata_is_told_from_code() -> None:
    assert split_metadata(CODE + metadata(3)) == (CODE, metadata(3))
    for code in (b"", b"\x01", CODE, CODE + metadata(3)[:-1] + b"\xff", CODE + metadata(3).replace(b"solc", b"sold")):
        assert split_metadata(code) == (code, b"")


def test_the_local_toolchain_downloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def route(name: str) -> Any:
        return lambda cache: iter(asked.append(name) or ())

    from ml2sc.runtime import toolchain

    monkeypatch.delenv("ML2SC_SOLC", raising=False)
    monkeypatch.setattr(toolchain, "_ROUTES", tuple((name, route(name)) for name, _ in toolchain._ROUTES))
    for downloads, routes in ((False, 3), (True, 5)):
        asked.clear()
        with pytest.raises(ToolchainError):
            ml2sc.Toolchain(downloads=downloads).solc({})
        assert len(asked) == routes
