"""JSON-RPC to a node: typed answers, retries with back-off, and refusals told apart.

Everything that is asked here may be asked twice without harm; `eth_sendTransaction`, the one request that may not, is
never repeated. A node may be hostile: its answers have limits of size, depth and time, and a type each (`answers`);
its words are shown escaped, cut, and without the secrets of its URL.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import logging
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential, wait_random

from ml2sc.errors import ContractLimitError, NodeError
from ml2sc.foreign import Secrets, described, parse_json, shown

from . import answers
from .answers import AnswerError, Block, Receipt, SentTransaction, Simulated
from .chain import Reverted
from .transport import Transport, TransportError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_NOT_REPEATABLE = frozenset({"eth_sendTransaction"})
_RATE_LIMITED = -32005
"""EIP-1474's code for "limit exceeded", which providers send with HTTP status 200."""

_OUT_OF_GAS = re.compile(
    r"out of gas|OOG|OutOfGas|gas required exceeds|exceeds (the )?(block|transaction|configured)?\s*gas|"
    r"gas (limit )?(is )?too high|gas limit (is )?(above|exceeds|greater)|GasLimitMoreThanBlock",
    re.IGNORECASE,
)

_ANSWER_BYTES = 1 << 22
_BLOCK_BYTES = 1 << 24
"""The most bytes of an answer, and of one with all transactions of a block."""

_BACK_OFF = wait_exponential(multiplier=0.25, max=8.0) + wait_random(0.0, 0.25)

Params = Mapping[str, str]
"""A call or transaction, as JSON-RPC writes it."""


class _TransientError(Exception):
    """A failure that may pass; `after` is how many seconds the node wants to be left alone."""

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after


class Rpc:
    """A node that answers JSON-RPC over HTTP.

    Timeouts, broken connections, answers that are no JSON, HTTP 429 and 5xx are tried again, after 0.25 s, 0.5 s, … up
    to 8 s, for `patience` seconds. A node that was never reached is given up at once.

    Every method raises NodeError where the node cannot be reached, refuses (`reason` holds its words), or answers what
    is not of the type that was asked for.

    Args:
        url: Where it listens. Paths of URLs hold access keys: only the host ever appears in a text.
        timeout: Seconds for one answer, all of it.
        patience: Seconds during which a request is tried again.

    Raises:
        NodeError: it is no URL of a node.
    """

    def __init__(self, url: str, *, timeout: float = 30.0, patience: float = 60.0) -> None:
        try:
            parts = urlsplit(url)
            name, port = parts.hostname, parts.port
        except ValueError:
            raise NodeError("the node's URL is none", hint="for instance http://127.0.0.1:8545") from None
        if parts.scheme not in ("http", "https") or not name:
            raise NodeError(f"a node's URL begins with http:// or https://, not {shown(parts.scheme) or 'nothing'}://")
        self.host = shown(name if port is None else f"{name}:{port}")
        self.is_local = _is_loopback(name)
        self._secrets = Secrets()
        self._secrets.add_url(url)
        self._transport = Transport(url, timeout)
        self._patience = patience
        self._met = False
        self._ids = itertools.count(1)

    # -- typed ---------------------------------------------------------------------------------------------------------

    @cached_property
    def chain_id(self) -> int:
        """The chain's number."""
        return self.ask(_chain_id, "eth_chainId")

    @cached_property
    def genesis(self) -> str:
        """The hash of block 0: it tells apart chains that share a number."""
        return self.block(0).hash

    def client_version(self) -> str:
        """Return what the node says it is."""
        return self.ask(answers.text, "web3_clientVersion")

    def block(self, number: int | None = None) -> Block:
        """Return a block's head; the last one's by default."""
        return self.ask(answers.block, "eth_getBlockByNumber", "latest" if number is None else hex(number), False)

    def block_transactions(self, number: int) -> list[SentTransaction]:
        """Return the transactions of a block; none where the node does not know it."""
        listed = self.ask(answers.optional(answers.transactions), "eth_getBlockByNumber", hex(number), True)
        return listed or []

    def block_number(self) -> int:
        """Return the last block's number."""
        return self.quantity("eth_blockNumber")

    def nonce(self, account: str, at: int | str = "latest") -> int:
        """Return how many transactions of an account are mined, at a block; or with those that wait ("pending")."""
        return self.quantity("eth_getTransactionCount", account, at if isinstance(at, str) else hex(at))

    def balance(self, account: str) -> int:
        """Return what an account has, in wei."""
        return self.ask(answers.amount, "eth_getBalance", account, "latest")

    def code(self, address: str) -> bytes:
        """Return the runtime code at an address; empty if there is none."""
        return self.ask(answers.data, "eth_getCode", address, "latest")

    def accounts(self) -> list[str]:
        """Return the accounts that the node holds."""
        return self.ask(answers.accounts, "eth_accounts")

    def call(self, call: Params, at: int | None = None) -> bytes:
        """Call a view function and return what it returns.

        Raises:
            Reverted: it reverted.
            ContractLimitError: it needs more gas than it got, or than the node gives.
        """
        return self.ask(answers.data, "eth_call", call, "latest" if at is None else hex(at))

    def estimate(self, call: Params) -> int:
        """Return the gas that a transaction needs.

        Raises:
            Reverted: it would revert.
            ContractLimitError: it needs more gas than the node gives.
        """
        return self.quantity("eth_estimateGas", call)

    def simulate(self, call: Params) -> Simulated:
        """Return how a call would end (eth_simulateV1, which not every node knows)."""
        return self.ask(answers.simulated, "eth_simulateV1", {"blockStateCalls": [{"calls": [call]}]}, "latest")

    def transaction(self, hash_: str) -> SentTransaction | None:
        """Return a transaction, or None where the node does not know it."""
        found = self.ask(answers.optional(answers.transaction), "eth_getTransactionByHash", hash_)
        if found is not None and found.hash != hash_:
            raise self._wrong("eth_getTransactionByHash", f"transaction {found.hash}, not {hash_}")
        return found

    def receipt(self, hash_: str) -> Receipt | None:
        """Return a transaction's receipt, or None where there is none."""
        found = self.ask(answers.optional(answers.receipt), "eth_getTransactionReceipt", hash_)
        if found is not None and found.hash != hash_:
            raise self._wrong("eth_getTransactionReceipt", f"the receipt of {found.hash}, not of {hash_}")
        return found

    def send_raw(self, raw: str) -> str:
        """Send a signed transaction and return its hash."""
        return self.ask(answers.digest, "eth_sendRawTransaction", raw)

    def send(self, transaction: Params) -> str:
        """Have the node sign and send a transaction of an account it holds, and return its hash."""
        return self.ask(answers.digest, "eth_sendTransaction", transaction)

    def sign(self, transaction: Params) -> bytes:
        """Have the node sign a transaction of an account it holds."""
        return self.ask(answers.signed, "eth_signTransaction", transaction)

    def quantity(self, method: str, *params: Any) -> int:
        """Ask for a number below 2^64."""
        return self.ask(answers.quantity, method, *params)

    def ask(self, parse: Callable[[Any], T], method: str, *params: Any) -> T:
        """Ask, and return the answer as a parser of `answers` reads it.

        Raises:
            NodeError: as every method; the answer is of another type.
            Reverted: a call reverted.
            ContractLimitError: a call needs more gas than it got, or than the node gives.
        """
        answer = self.request(method, *params)
        try:
            return parse(answer)
        except AnswerError as error:
            raise self._wrong(method, str(error)) from None

    # -- untyped -------------------------------------------------------------------------------------------------------

    def request(self, method: str, *params: Any) -> Any:
        """Ask and return the result as JSON; what it is must be looked at (`ask`).

        Raises:
            NodeError: as every method.
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

    def _unreachable(self, method: str, error: _TransientError) -> NodeError:
        return NodeError(
            f"the node at {self.host} does not answer {method}: {error}",
            hint="try again later, or another node: a deployment that is run again goes on where it was",
        )

    def _wrong(self, method: str, text: str) -> NodeError:
        return NodeError(
            f"the node at {self.host} answers {method} wrongly: {self._secrets.redact(text)}", hint="ask another node"
        )

    def _once(self, method: str, params: tuple[Any, ...]) -> Any:
        number = next(self._ids)
        question = {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
        limit = _BLOCK_BYTES if method == "eth_getBlockByNumber" and params[-1] is True else _ANSWER_BYTES
        try:
            status, after, body = self._transport.post(json.dumps(question).encode(), limit)
        except TransportError as error:
            if error.lasting:
                raise self._wrong(method, str(error)) from None
            if not self._met:
                raise self._refused(method, str(error)) from None
            raise _TransientError(str(error)) from None
        if 300 <= status < 400:
            raise self._refused(method, f"it redirects (HTTP {status}), which is not followed")
        if status == 429 or status >= 500:
            raise _TransientError(f"HTTP {status}", after)
        if status != 200:
            raise self._refused(method, f"HTTP {status}")
        try:
            response = parse_json(body)
        except ValueError as error:
            raise _TransientError(f"its answer is refused: {error}") from None
        self._met = True
        if not isinstance(response, dict) or ("error" not in response and "result" not in response):
            raise _TransientError("its answer is no JSON-RPC")
        if response.get("error") is not None:
            raise self._refusal(method, response["error"])
        if response.get("id") != number:
            raise self._wrong(method, "it is the answer to another question")
        return response.get("result")

    def _refused(self, method: str, text: str) -> NodeError:
        return NodeError(f"the node at {self.host} does not answer {method}: {text}", hint="is the URL right?")

    def _refusal(self, method: str, refusal: object) -> Exception:
        members = refusal if isinstance(refusal, dict) else {"message": refusal}
        said = members.get("message")
        whole = self._secrets.redact(said) if isinstance(said, str) else described(said)
        message = shown(whole)
        if members.get("code") == _RATE_LIMITED or "rate limit" in message.lower():
            return _TransientError(message)
        data = _revert_data(members.get("data"))
        # Some nodes give a revert of no data as an empty string of bytes, and an exhausted call likewise.
        if "revert" in message.lower() or (data and not _OUT_OF_GAS.search(message)):
            return Reverted(data, "" if data else message)
        if method in ("eth_call", "eth_estimateGas", "eth_simulateV1") and _OUT_OF_GAS.search(message):
            return ContractLimitError(
                f"the node at {self.host} gives {method} too little gas for this: {message}",
                hint="use a node with a higher cap (geth: --rpc.gascap), or a smaller model",
            )
        return NodeError(f"the node at {self.host} refuses {method}: {message}", reason=message or "no reason given")


def _chain_id(value: object) -> int:
    number = answers.quantity(value)
    if not number:
        raise AnswerError("0, which is no chain: a signature for it would hold on every chain")
    return number


def _is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its name alone: names that must be looked up may change."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wait(state: RetryCallState) -> float:
    outcome = state.outcome
    error = None if outcome is None else outcome.exception()
    asked = error.after if isinstance(error, _TransientError) else 0.0
    return max(asked, _BACK_OFF(state))


def _failure(state: RetryCallState) -> str:
    return "" if state.outcome is None else str(state.outcome.exception())


def _revert_data(data: Any) -> bytes:
    """Return what a revert returned; nodes nest it differently."""
    while isinstance(data, Mapping):
        data = data.get("data", data.get("result"))
    match = re.search(r"0x([0-9a-fA-F]*)", data) if isinstance(data, str) else None
    return bytes.fromhex(match.group(1)) if match and len(match.group(1)) % 2 == 0 else b""
