"""JSON-RPC to a node: retries with back-off, and refusals told apart.

Everything that is asked here may be asked twice without harm; `eth_sendTransaction`, the one request that may not, is
never repeated.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, cast
from urllib.parse import urlsplit

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential, wait_random

from ml2sc.errors import ContractLimitError, NodeError

from .chain import Reverted

logger = logging.getLogger(__name__)

_NOT_REPEATABLE = frozenset({"eth_sendTransaction"})
_RATE_LIMITED = -32005
"""EIP-1474's code for "limit exceeded", which providers send with HTTP status 200."""

_OUT_OF_GAS = re.compile(
    r"out of gas|OOG|OutOfGas|gas required exceeds|exceeds (the )?(block|transaction|configured)?\s*gas|"
    r"gas (limit )?(is )?too high|gas limit (is )?(above|exceeds|greater)|GasLimitMoreThanBlock",
    re.IGNORECASE,
)


_BACK_OFF = wait_exponential(multiplier=0.25, max=8.0) + wait_random(0.0, 0.25)


class _TransientError(Exception):
    """A failure that may pass; `after` is how many seconds the node wants to be left alone."""

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after


class Rpc:
    """A node that answers JSON-RPC over HTTP.

    Timeouts, broken connections, answers that are no JSON, HTTP 429 and 5xx are tried again, after 0.25 s, 0.5 s, … up
    to 8 s, for `patience` seconds. A node that was never reached is given up at once.

    Args:
        url: Where it listens. Paths of URLs hold access keys: only the host ever appears in a text.
        timeout: Seconds to wait for one answer.
        patience: Seconds during which a request is tried again.
    """

    def __init__(self, url: str, *, timeout: float = 30.0, patience: float = 60.0) -> None:
        from web3 import HTTPProvider

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NodeError(f"a node's URL begins with http:// or https://, not {parts.scheme or 'nothing'}://")
        self.host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
        self._secrets = [secret for secret in (parts.path.strip("/"), parts.query, parts.password) if secret]
        # The retries are ours: web3's own do not know which refusals pass.
        self._provider = HTTPProvider(url, request_kwargs={"timeout": timeout}, exception_retry_configuration=None)
        self._patience = patience
        self._met = False

    @cached_property
    def chain_id(self) -> int:
        """The chain's number."""
        return int(self.request("eth_chainId"), 16)

    @cached_property
    def genesis(self) -> str:
        """The hash of block 0: it tells apart chains that share a number."""
        return str(self.request("eth_getBlockByNumber", "0x0", False)["hash"])

    def request(self, method: str, *params: Any) -> Any:
        """Ask and return the result.

        Raises:
            NodeError: the node cannot be reached, or refuses; `reason` holds its words.
            Reverted: a call reverted.
            ContractLimitError: a call needs more gas than it got, or than the node gives.
        """
        if method in _NOT_REPEATABLE:
            try:
                return self._once(method, params)
            except _TransientError as error:
                raise self._unreachable(method, error) from error
        retrying = Retrying(
            retry=retry_if_exception_type(_TransientError),
            wait=_wait,
            stop=stop_after_delay(self._patience),
            before_sleep=lambda state: logger.info("%s: asking again (%s)", method, _failure(state)),
            reraise=True,
        )
        try:
            return retrying(self._once, method, params)
        except _TransientError as error:
            raise self._unreachable(method, error) from error

    def quantity(self, method: str, *params: Any) -> int:
        """Ask for a number.

        Raises:
            NodeError: as `request`.
        """
        return int(self.request(method, *params), 16)

    def _unreachable(self, method: str, error: _TransientError) -> NodeError:
        return NodeError(
            f"the node at {self.host} does not answer {method}: {error}",
            hint="try again later, or another node: a deployment that is run again goes on where it was",
        )

    def _once(self, method: str, params: tuple[Any, ...]) -> Any:
        try:
            response = self._provider.make_request(cast("Any", method), list(params))
        except OSError as error:  # requests' errors are OSErrors
            status, after = _http_status(error)
            text = self._redacted(str(error))
            if (status is not None and status != 429 and status < 500) or not (self._met or status):
                raise NodeError(
                    f"the node at {self.host} does not answer {method}: {text}", hint="is the URL right?"
                ) from None
            raise _TransientError(text, after) from None
        except ValueError as error:
            raise _TransientError(f"its answer is no JSON: {self._redacted(str(error))}") from None
        self._met = True
        if "error" not in response and "result" not in response:
            raise _TransientError("its answer is no JSON-RPC")
        if response.get("error") is None:
            return response["result"]
        raise self._refusal(method, cast("Mapping[str, Any]", response["error"]))

    def _refusal(self, method: str, refusal: Mapping[str, Any]) -> Exception:
        message = str(refusal.get("message", refusal))
        if refusal.get("code") == _RATE_LIMITED or "rate limit" in message.lower():
            return _TransientError(message)
        data = _revert_data(refusal.get("data"))
        # Some nodes give a revert of no data as an empty string of bytes, and an exhausted call likewise.
        if "revert" in message.lower() or (data and not _OUT_OF_GAS.search(message)):
            return Reverted(data, "" if data else message)
        if method in ("eth_call", "eth_estimateGas", "eth_simulateV1") and _OUT_OF_GAS.search(message):
            return ContractLimitError(
                f"the node at {self.host} gives {method} too little gas for this: {message}",
                hint="use a node with a higher cap (geth: --rpc.gascap), or a smaller model",
            )
        return NodeError(f"the node at {self.host} refuses {method}: {message}", reason=message)

    def _redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text


def _wait(state: RetryCallState) -> float:
    outcome = state.outcome
    error = None if outcome is None else outcome.exception()
    asked = error.after if isinstance(error, _TransientError) else 0.0
    return max(asked, _BACK_OFF(state))


def _failure(state: RetryCallState) -> str:
    return "" if state.outcome is None else str(state.outcome.exception())


def _http_status(error: OSError) -> tuple[int | None, float]:
    """Return an HTTP error's status, None if it never came to one, and the seconds of its Retry-After."""
    response = getattr(error, "response", None)
    if response is None:
        return None, 0.0
    after = str(response.headers.get("Retry-After", ""))
    return int(response.status_code), min(float(after), 30.0) if after.isdecimal() else 0.0


def _revert_data(data: Any) -> bytes:
    """Return what a revert returned; nodes nest it differently."""
    while isinstance(data, Mapping):
        data = data.get("data", data.get("result"))
    match = re.search(r"0x([0-9a-fA-F]*)", data) if isinstance(data, str) else None
    return bytes.fromhex(match.group(1)) if match and len(match.group(1)) % 2 == 0 else b""
