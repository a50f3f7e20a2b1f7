"""HTTP to a node that may be anybody's: one answer within a size and a total time, no redirects.

A socket's timeout covers neither looking up a name nor a node that sends a byte every second. So each exchange is
done by a thread of its own, which is left behind when its time is up.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Container
from concurrent.futures import Future
from typing import Any, NamedTuple

import requests
import urllib3
from requests.utils import get_netrc_auth

_OK = frozenset({200})
_CHUNK = 1 << 16
_MOST_RETRY_AFTER = 30.0
_MOST_CAUSES = 20


class TransportError(Exception):
    """There is no answer. The text names no URL.

    Args:
        text: Why.
        lasting: Whether it would be the same another time.
    """

    def __init__(self, text: str, *, lasting: bool = False) -> None:
        super().__init__(text)
        self.lasting = lasting


class HttpAnswer(NamedTuple):
    """What a node answered: an HTTP status, the seconds it wants to be left alone, and the body, if it was read."""

    status: int
    retry_after: float
    body: bytes


class Transport:
    """Posts to one URL, over connections that are kept open.

    Args:
        url: http:// or https://.
        timeout: Seconds for one answer, from the first byte asked to the last one read.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._url, self._timeout = url, timeout
        self._session: requests.Session | None = None

    def post(self, body: bytes, limit: int) -> HttpAnswer:
        """Send a JSON text and return the answer.

        Args:
            body: What to send.
            limit: Bytes the answer may have.

        Raises:
            TransportError: there is none in time, or it is too long.
        """
        return self.ask(body, limit, "application/json", _OK)

    def ask(self, body: bytes | None, limit: int, content_type: str, answered: Container[int]) -> HttpAnswer:
        """Post something, or get what is there.

        Args:
            body: What to send; None: nothing, the answer is only read.
            limit: Bytes the answer may have.
            content_type: What the body is.
            answered: Statuses whose bodies are read.

        Raises:
            TransportError: there is no answer in time, or it is too long.
        """
        answer: Future[HttpAnswer] = Future()

        def work() -> None:
            try:
                answer.set_result(self._ask(body, limit, content_type, answered))
            except BaseException as error:  # noqa: BLE001  # it is raised where the answer is awaited
                answer.set_exception(error)

        threading.Thread(target=work, name="node", daemon=True).start()
        try:
            return answer.result(self._timeout)
        except TimeoutError:
            self._session = None  # the thread keeps the old one and its connection
            raise TransportError(f"no whole answer within {self._timeout:g} s") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # Without the cause: its text holds the URL.
            raise TransportError(_reason(error)) from None

    def _ask(self, body: bytes | None, limit: int, content_type: str, answered: Container[int]) -> HttpAnswer:
        end = time.monotonic() + self._timeout
        method = "GET" if body is None else "POST"
        # Not compressed: a small answer cannot become a large one.
        headers = {"Accept-Encoding": "identity", **({} if body is None else {"Content-Type": content_type})}
        options: dict[str, Any] = {"timeout": self._timeout, "stream": True, "allow_redirects": False}
        if self._session is None:
            self._session = _session(self._url)
        with self._session.request(method, self._url, data=body, headers=headers, **options) as response:
            if response.status_code not in answered:
                return HttpAnswer(response.status_code, _retry_after(response), b"")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise TransportError("its answer is compressed, which was not asked for", lasting=True)
            read = bytearray()
            while part := response.raw.read(_CHUNK, decode_content=False):
                read += part
                if len(read) > limit:
                    raise TransportError(f"its answer is longer than {limit:,} bytes", lasting=True)
                if time.monotonic() > end:
                    break  # nobody waits for it any more
            return HttpAnswer(response.status_code, 0.0, bytes(read))


def _session(url: str) -> requests.Session:
    """Return a session that has looked up once what the environment says of a URL: proxies, certificates, ~/.netrc.

    Done for each request, as it is by itself, that takes longer than all else.
    """
    session = requests.Session()
    settings = session.merge_environment_settings(url, {}, None, None, None)
    session.proxies, session.verify, session.cert = settings["proxies"], settings["verify"], settings["cert"]
    session.auth = get_netrc_auth(url)
    session.trust_env = False
    return session


def _retry_after(response: requests.Response) -> float:
    text = str(response.headers.get("Retry-After", ""))
    return min(float(text), _MOST_RETRY_AFTER) if text.isascii() and text.isdecimal() else 0.0


def _reason(error: BaseException) -> str:
    """Return why there was no answer, in the system's words."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and len(causes) < _MOST_CAUSES:
        causes.append(cause)
    for cause in reversed(causes):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException) and cause.strerror:
            return cause.strerror
    if any(isinstance(cause, (requests.Timeout, urllib3.exceptions.TimeoutError)) for cause in causes):
        return "no answer in time"
    return "what it sends is no HTTP, or ends too early"
