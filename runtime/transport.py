"""HTTP to a node that may be anybody's: one answer within a size and a total time, no redirects.

A socket's timeout covers neither looking up a name nor a node that sends a byte every second. So each exchange is
done by a thread of its own, which is left behind when its time is up.
"""

from __future__ import annotations

import ssl
import threading
import time
from concurrent.futures import Future
from typing import NamedTuple

import requests
import urllib3

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
    """What a node answered: an HTTP status, the seconds it wants to be left alone, and the body of status 200."""

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
        self._session = requests.Session()

    def post(self, body: bytes, limit: int) -> HttpAnswer:
        """Send a JSON text and return the answer.

        Args:
            body: What to send.
            limit: Bytes the answer may have.

        Raises:
            TransportError: there is none in time, or it is too long.
        """
        answer: Future[HttpAnswer] = Future()

        def work() -> None:
            try:
                answer.set_result(self._post(body, limit))
            except BaseException as error:  # noqa: BLE001  # it is raised where the answer is awaited
                answer.set_exception(error)

        threading.Thread(target=work, name="node", daemon=True).start()
        try:
            return answer.result(self._timeout)
        except TimeoutError:
            self._session = requests.Session()  # the thread keeps the old one and its connection
            raise TransportError(f"no whole answer within {self._timeout:g} s") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # Without the cause: its text holds the URL.
            raise TransportError(_reason(error)) from None

    def _post(self, body: bytes, limit: int) -> HttpAnswer:
        end = time.monotonic() + self._timeout
        # Not compressed: a small answer cannot become a large one.
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        with self._session.post(
            self._url, data=body, headers=headers, timeout=self._timeout, stream=True, allow_redirects=False
        ) as response:
            if response.status_code != 200:
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
            return HttpAnswer(200, 0.0, bytes(read))


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
