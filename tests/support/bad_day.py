"""A node's bad day: a proxy that loses, delays and refuses answers, and tells who is asked what."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Hook = Callable[[int, str, Callable[[], bytes]], bytes | int | None]
"""Given a request's number, its method and how to forward it: the answer, an HTTP status, or None to drop it."""


def forward(number: int, method: str, ask: Callable[[], bytes]) -> bytes | int | None:
    """Do as if the proxy were not there."""
    return ask()


class Proxy:
    """Stands before a node; `hook` decides on each request."""

    def __init__(self, url: str) -> None:
        self.url, self.hook, self.count = "", forward, 0
        proxy, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = urllib.request.Request(url, body, {"Content-Type": "application/json"})

                def ask() -> bytes:
                    with urllib.request.urlopen(request, timeout=20) as response:
                        return bytes(response.read())

                with lock:
                    number = proxy.count
                    proxy.count += 1
                answer = proxy.hook(number, json.loads(body)["method"], ask)
                if isinstance(answer, bytes):
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                elif answer is not None:
                    self.send_error(answer)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a killed client is no error here
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def proxy(url: str) -> Iterator[Proxy]:
    """Run a proxy before a node."""
    running = Proxy(url)
    thread = threading.Thread(target=running.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield running
    finally:
        running.server.shutdown()
        thread.join()
        running.server.server_close()
