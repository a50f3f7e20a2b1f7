"""A node on the wire that answers slowly, endlessly, too deep, elsewhere, or with what its URL keeps secret."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ml2sc.errors import NodeError
from ml2sc.runtime.rpc import Rpc
from ml2sc.runtime.transport import Transport, TransportError

Behave = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Behaves as it is told, and notes the paths it was asked for."""

    def __init__(self) -> None:
        self.behave: Behave = lambda handler: None
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server.asked.append(self.path)
                self.rfile.read(int(self.headers["Content-Length"]))
                server.behave(self)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that leave are no error
        self.http.daemon_threads = True
        self.place = f"127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running
    running.http.shutdown()
    thread.join()
    running.http.server_close()


def answer(body: bytes, status: int = 200, **headers: str) -> Behave:
    """Send an answer."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def drip(start: bytes, again: bytes, pause: float) -> Behave:
    """Send bytes again and again."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.wfile.write(start)
        for _ in range(2000):
            handler.wfile.write(again)
            handler.wfile.flush()
            time.sleep(pause)

    return behave


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "behave",
    [
        drip(HEAD, b" ", 0.02),
        drip(b"HTTP/1.1 200 OK\r\n", b"x", 0.02),  # a header that does not end
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.02),
        drip(CHUNKED, b"1\r\n \r\n", 0.02),
        drip(CHUNKED, b"0" * 100, 0.02),  # a chunk's length that does not end
        lambda handler: time.sleep(1.5),
    ],
    ids=["body", "header", "continue", "chunks", "chunk's length", "silence"],
)
def test_slow(server: Server, behave: Behave) -> None:
    """However it drips: what counts is the time of the whole answer."""
    server.behave = behave
    begun = time.monotonic()
    with pytest.raises(NodeError, match=r"no whole answer within 0.5 s|no HTTP|no answer in time"):
        Rpc(f"http://{server.place}", timeout=0.5).request("eth_chainId")
    assert time.monotonic() - begun < 20  # it would go on for 40 s


def test_endless(server: Server) -> None:
    """Read once, and no further than the limit."""
    server.behave = drip(HEAD, b'{"result":"' + b"0" * 100_000, 0.0)
    with pytest.raises(NodeError, match="longer than 4,194,304 bytes"):
        Rpc(f"http://{server.place}", timeout=20).request("eth_getCode")
    assert len(server.asked) == 1


def test_compressed(server: Server) -> None:
    """A megabyte of zeros takes a kilobyte: what was not asked for is not unpacked."""
    server.behave = answer(gzip.compress(b" " * 10_000_000), Content_Encoding="gzip")
    with pytest.raises(NodeError, match="compressed"):
        Rpc(f"http://{server.place}").request("eth_chainId")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server: Server, status: int) -> None:
    server.behave = answer(b"", status, Location=f"http://{server.place}/elsewhere/SECRET99")
    with pytest.raises(NodeError, match="redirects") as caught:
        Rpc(f"http://{server.place}/here").request("eth_chainId")
    assert "SECRET99" not in str(caught.value)
    assert server.asked == ["/here"]


@pytest.mark.parametrize("depth", [65, 5_000, 500_000])
def test_deep(server: Server, depth: int) -> None:
    server.behave = answer(b'{"id":1,"result":' + b"[" * depth + b"]" * depth + b"}")
    with pytest.raises(NodeError, match="lists and objects more than 64 deep"):
        Rpc(f"http://{server.place}", patience=0).request("eth_chainId")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("wish", "seconds"), [("3", 3.0), ("86400", 30.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("٣", 0.0), ("-5", 0.0)]
)
def test_retry_after(server: Server, status: int, wish: str, seconds: float) -> None:
    """A node's wish counts, up to half a minute; a date or nonsense is no number of seconds."""
    server.behave = answer(b"", status, Retry_After=wish.encode().decode("latin-1"))
    assert Transport(f"http://{server.place}", 5).post(b"{}", 10) == (status, seconds, b"")


def test_connections_are_kept(server: Server) -> None:
    """A check asks a thousand times: not with a new connection each time."""
    ports = set()

    def behave(handler: BaseHTTPRequestHandler) -> None:
        ports.add(handler.client_address[1])
        answer(b'{"result":"0x1"}')(handler)

    server.behave = behave
    transport = Transport(f"http://{server.place}", 5)
    for _ in range(5):
        assert transport.post(b"{}", 100).body == b'{"result":"0x1"}'
    assert len(ports) == 1


@pytest.mark.parametrize("left_out", [False, True])
def test_proxies_and_passwords_of_the_environment(
    server: Server, left_out: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str | None] = []

    def behave(handler: BaseHTTPRequestHandler) -> None:
        said.append(handler.headers["Authorization"])
        answer(b'{"result":"0x1"}')(handler)

    server.behave = behave
    host = server.place.partition(":")[0]
    (tmp_path / "netrc").write_text(f"machine {host if left_out else 'node.invalid'} login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9" if left_out else f"http://{server.place}")
    monkeypatch.setenv("no_proxy", host if left_out else "")
    url = f"http://{server.place}/here" if left_out else "http://node.invalid/here"
    transport = Transport(url, 5)
    for _ in range(2):
        transport.post(b"{}", 100)
    assert server.asked == 2 * ["/here" if left_out else url]
    assert said == 2 * ["Basic bWU6c2VjcmV0"]


def test_cut_off(server: Server) -> None:
    server.behave = drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123", b"", 0)

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123")

    server.behave = behave
    with pytest.raises(TransportError, match="ends too early"):
        Transport(f"http://{server.place}", 5).post(b"{}", 100)


# -- secrets of the URL ------------------------------------------------------------------------------------------------


def echo(handler: BaseHTTPRequestHandler) -> None:
    """Repeat the URL and all headers, with a terminal's codes among them."""
    said = f"bad key in {handler.path} {dict(handler.headers)} \x1b[31m\x1b]0;owned\x07\r\nTiny is deployed"
    answer(json.dumps({"error": {"code": -1, "message": said}}).encode())(handler)


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("http://{}/v3/SECRETKEY123", ["SECRETKEY123"]),
        ("http://{}/v3/SECRET%2DKEY", ["SECRET-KEY", "SECRET%2DKEY"]),
        ('http://{}/v3/SEC|RET"KEY', ['SEC|RET"KEY', "SEC%7CRET"]),
        ("http://{}/v3/SECéRETKEY", ["SECéRETKEY", "SEC%C3%A9RETKEY"]),
        ("http://{}//a/../SECRETKEY", ["SECRETKEY"]),
        ("http://USERKEY99:@{}/x", ["USERKEY99"]),
        ("http://USERKEY99@{}/x", ["USERKEY99"]),
        ("http://user:PASSW0RD9@{}/x", ["PASSW0RD9", "dXNlcjpQQVNTVzBSRDk"]),
        ("http://user:PASS%40W0RD9@{}/x", ["PASS@W0RD9", "PASS%40W0RD9"]),
        ("http://{}/?apikey=QKEY777&x=1", ["QKEY777"]),
        ("http://{}/?apikey=Q%2DKEY777", ["Q-KEY777", "Q%2DKEY777"]),
        ("http://{}/x#FRAGKEY1", ["FRAGKEY1"]),
    ],
)
@pytest.mark.parametrize(
    "behave", [echo, answer(b"", 401), answer(b"", 302, Location="/SECRETKEY123")], ids=["echo", "refusal", "redirect"]
)
def test_only_the_host_is_shown(
    server: Server, url: str, secrets: list[str], behave: Behave, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.behave = behave
    for place in (server.place, "127.0.0.1:1"):
        with pytest.raises(NodeError) as caught:
            Rpc(url.format(place), timeout=3, patience=0.1).request("eth_chainId")
        logged = "".join(r.getMessage() for r in caplog.records if r.name.startswith("ml2sc"))
        said = str(caught.value) + logged
        assert [secret for secret in secrets if secret in said] == []
        assert place in said
        assert ("Connection refused" in said) == (place == "127.0.0.1:1")
        assert "\x1b" not in said
        assert "\nTiny" not in said


@pytest.mark.parametrize(
    "url",
    ["http://[::1/SECRETKEY", "http://127.0.0.1:99999/SECRETKEY", "ws://127.0.0.1/SECRETKEY", "http:///SECRETKEY"],
)
def test_no_url(url: str) -> None:
    with pytest.raises(NodeError) as caught:
        Rpc(url)
    assert "SECRETKEY" not in str(caught.value)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "127.8.9.1", "[::1]"])
def test_this_machine(name: str) -> None:
    assert Rpc(f"http://{name}:8545").is_local


@pytest.mark.parametrize("name", ["localhost.example.com", "127.0.0.1.example.com", "10.0.0.1", "example.com", "[::2]"])
def test_another_machine(name: str) -> None:
    assert not Rpc(f"http://{name}:8545").is_local
