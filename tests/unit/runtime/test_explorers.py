"""Explorers, played by a server of this process that speaks their published formats."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from ml2sc.backends.base import Artifact
from ml2sc.errors import ArtifactError, CheckError, Ml2scError, NodeError, UsageError
from ml2sc.runtime.explorers import EXPLORERS, Submission, verify

ADDRESS = "0x" + "11" * 20
INPUT = {"language": "Solidity", "sources": {"Net.sol": {"content": "contract Net {}"}}, "settings": {}}

Reply = Callable[[str, str, str], tuple[int, Any]]


def artifact(compiler: str = "solc 0.8.37+commit.f401782d.Emscripten.clang", language: str = "Solidity") -> Artifact:
    manifest = {"toolchain": {"compiler": compiler}}
    return Artifact("Net", "solidity", "Net.sol", "", {**INPUT, "language": language}, (), manifest=manifest)


@pytest.fixture
def server() -> Iterator[Any]:
    """An explorer whose `reply` gets method, path and body, and returns status and value."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            made.asked.append((self.command, self.path, body))
            status, value = made.reply(self.command, self.path, body)
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    made: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.asked = []
    made.url = f"http://127.0.0.1:{made.server_address[1]}"
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def done(server: Any, explorer: str, submission: Submission, key: str = "") -> str:
    return verify(EXPLORERS[explorer](server.url, key), submission, wait=5, poll=0.01)


def test_sourcify(server: Any) -> None:
    states = iter([{"isJobCompleted": False}, {"isJobCompleted": True, "contract": {"match": "exact_match"}}])
    server.reply = lambda method, *_: (202, {"verificationId": "7a"}) if method == "POST" else (200, next(states))
    assert done(server, "sourcify", Submission.of(artifact(), 5, ADDRESS, b"")) == "exact match"
    (method, path, body), *polls = server.asked
    assert (method, path) == ("POST", f"/v2/verify/5/{ADDRESS}")
    assert json.loads(body) == {
        "stdJsonInput": INPUT,
        "compilerVersion": "0.8.37+commit.f401782d",
        "contractIdentifier": "Net.sol:Net",
    }
    assert [p[:2] for p in polls] == [("GET", "/v2/verify/7a")] * 2


def test_sourcify_refuses(server: Any) -> None:
    failed = {"isJobCompleted": True, "contract": {"match": None}, "error": {"message": "other \x1b[31mbytecode"}}
    server.reply = lambda method, *_: (202, {"verificationId": "7a"}) if method == "POST" else (200, failed)
    with pytest.raises(CheckError, match=r"other \\x1b\[31mbytecode"):
        done(server, "sourcify", Submission.of(artifact(), 5, ADDRESS, b""))
    server.reply = lambda *_: (409, {"customCode": "already_verified", "message": "is verified"})
    assert done(server, "sourcify", Submission.of(artifact(), 5, ADDRESS, b"")) == "it was verified before"
    server.reply = lambda *_: (400, {"customCode": "unsupported_chain", "message": "no such chain"})
    with pytest.raises(NodeError, match="no such chain"):
        done(server, "sourcify", Submission.of(artifact(), 5, ADDRESS, b""))


@pytest.mark.parametrize(("explorer", "path"), [("etherscan", "/?chainid=5"), ("blockscout", "/api")])
def test_etherscan_and_blockscout(explorer: str, path: str, server: Any) -> None:
    results = iter(["Pending in queue", "Pass - Verified"])

    def reply(method: str, path: str, body: str) -> tuple[int, Any]:
        if "checkverifystatus" not in body:
            return 200, {"status": "1", "message": "OK", "result": "guid7"}
        result = next(results)
        return 200, {"status": str(int("Pass" in result)), "message": "", "result": result}

    server.reply = reply
    vyper = artifact("vyper 0.4.3+commit.bff19ea2", "Vyper")
    assert (
        done(server, explorer, Submission.of(vyper, 5, ADDRESS, bytes(12) + b"\x22" * 20), "k3y") == "Pass - Verified"
    )
    form = {name: values[0] for name, values in parse_qs(server.asked[0][2]).items()}
    assert json.loads(form.pop("sourceCode"))["language"] == "Vyper"
    assert form == {
        "apikey": "k3y",
        "module": "contract",
        "action": "verifysourcecode",
        "contractaddress": ADDRESS,
        "codeformat": "vyper-json",
        "contractname": "Net.sol:Net",
        "compilerversion": "vyper:0.4.3",
        "constructorArguements": "00" * 12 + "22" * 20,
    }
    assert [asked[1] for asked in server.asked] == [path] * 3
    server.reply = lambda *_: (200, {"status": "0", "message": "NOTOK", "result": "Invalid API Key"})
    with pytest.raises(NodeError, match="Invalid API Key"):
        done(server, explorer, Submission.of(vyper, 5, ADDRESS, b""), "k3y")


@pytest.mark.parametrize(
    "value", [b"", b"[]", b"[" * 100_000, b"<html>", b'{"verificationId": 5}', b"\xff", b"x" * 3_000_000]
)
def test_any_answer_is_told_in_our_words(value: bytes, server: Any) -> None:
    server.reply = lambda *_: (200, value)
    for explorer in EXPLORERS:
        with pytest.raises(Ml2scError) as refused:
            done(server, explorer, Submission.of(artifact(), 5, ADDRESS, b""), "k3y")
        assert "k3y" not in str(refused.value)
        assert len(str(refused.value)) < 1_000


def test_what_is_missing(server: Any) -> None:
    with pytest.raises(UsageError, match="API key"):
        EXPLORERS["etherscan"](server.url, "")
    with pytest.raises(UsageError, match="--url"):
        EXPLORERS["blockscout"]("", "")
    with pytest.raises(ArtifactError, match="what compiled it"):
        Submission.of(artifact("solc, some"), 5, ADDRESS, b"")
    server.reply = lambda method, *_: (
        (202, {"verificationId": "7a"}) if method == "POST" else (200, {"isJobCompleted": 0})
    )
    with pytest.raises(NodeError, match="not finished within 0 s"):
        verify(EXPLORERS["sourcify"](server.url, ""), Submission.of(artifact(), 5, ADDRESS, b""), wait=0, poll=0.01)
