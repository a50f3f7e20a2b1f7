"""Has explorers verify a contract: Sourcify (v2), Etherscan (V2), and Blockscout, which speaks as Etherscan did.

What is submitted is what the compiler was given; who verifies compiles it again. Whoever answers may be anybody: what
comes back is read within limits and shown without harm.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlencode

from ml2sc.backends.base import Artifact
from ml2sc.errors import ArtifactError, CheckError, NodeError, UsageError
from ml2sc.foreign import parse_json, shown

from .transport import Transport, TransportError

_TIMEOUT = 60.0
_MOST_BYTES = 1 << 20
_ANSWERED = frozenset({200, 201, 202, 400, 404, 409, 429})
"""Statuses whose text says something."""


@dataclass(frozen=True)
class Submission:
    """What an explorer is told.

    Attributes:
        chain_id: The chain's number.
        address: The contract.
        identifier: `path:Name` of the contract in the standard JSON input.
        language: "Solidity" or "Vyper".
        version: The compiler's, as `0.8.37+commit.f401782d`.
        standard_input: The compiler's standard JSON input, as text.
        arguments: The constructor's arguments, ABI-encoded.
    """

    chain_id: int
    address: str
    identifier: str
    language: str
    version: str
    standard_input: str
    arguments: bytes

    @classmethod
    def of(cls, artifact: Artifact, chain_id: int, address: str, arguments: bytes) -> Submission:
        """Return what is to be told of an artifact.

        Raises:
            ArtifactError: it does not say what compiled it.
        """
        compiler = str(artifact.manifest["toolchain"].get("compiler", ""))
        match = re.search(r"\d+\.\d+\.\d+\+commit\.[0-9a-f]+", compiler)
        if match is None:
            raise ArtifactError(
                f"{artifact.name} does not say exactly what compiled it: {shown(compiler, 80) or 'nothing'}",
                hint="compile the model again with a released compiler",
            )
        content = json.dumps(artifact.compiler_input)
        identifier = f"{artifact.source_name}:{artifact.name}"
        language = str(artifact.compiler_input["language"])
        return cls(chain_id, address, identifier, language, match[0], content, arguments)

    def fields(self) -> dict[str, str]:
        """Return what a form on an explorer's page asks for."""
        return {
            "address": self.address,
            "chain": str(self.chain_id),
            "compiler type": f"{self.language} (standard JSON input)",
            "compiler version": self.compiler,
            "contract": self.identifier,
            "constructor arguments": self.arguments.hex() or "none",
        }

    @property
    def compiler(self) -> str:
        """The compiler as Etherscan calls it: `v0.8.37+commit.f401782d`, `vyper:0.4.3`."""
        return f"vyper:{self.version.partition('+')[0]}" if self.language == "Vyper" else f"v{self.version}"


class State(NamedTuple):
    """How far a verification is: None while it lasts, else whether the contract is verified; and what is said of it."""

    verified: bool | None
    said: str


class Explorer(Protocol):
    """Somebody who verifies contracts."""

    def submit(self, submission: Submission) -> str:
        """Submit a contract; return by what to ask for it later."""

    def state(self, submission: Submission, token: str) -> State:
        """Ask how far it is."""


class Sourcify:
    """Sourcify's API, version 2.

    Args:
        url: Its server.
        key: Of no use here.
    """

    URL = "https://sourcify.dev/server"

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")

    def submit(self, submission: Submission) -> str:
        body = {
            "stdJsonInput": json.loads(submission.standard_input),
            "compilerVersion": submission.version,
            "contractIdentifier": submission.identifier,
        }
        place = f"{self._url}/v2/verify/{submission.chain_id}/{submission.address}"
        answer = _asked(place, json.dumps(body).encode(), "application/json")
        if answer.get("customCode") == "already_verified":
            return ""
        return _text(answer, "verificationId")

    def state(self, submission: Submission, token: str) -> State:
        if not token:
            return State(True, "it was verified before")
        answer = _asked(f"{self._url}/v2/verify/{token}")
        if answer.get("isJobCompleted") is not True:
            return State(None, "pending")
        contract, error = answer.get("contract"), answer.get("error")
        match = contract.get("match") if isinstance(contract, dict) else None
        if match in {"match", "exact_match"}:
            return State(True, str(match).replace("_", " "))
        message = error.get("message", "") if isinstance(error, dict) else ""
        return State(False, str(message) or "no match")


class Etherscan:
    """Etherscan's API, version 2: one for all of its chains.

    Args:
        url: Its API.
        key: The API key.
    """

    URL = "https://api.etherscan.io/v2/api"

    def __init__(self, url: str, key: str) -> None:
        if not key:
            raise UsageError("Etherscan wants an API key", hint="put it in the environment variable ML2SC_EXPLORER_KEY")
        self._url, self._key = url, {"apikey": key}

    def submit(self, submission: Submission) -> str:
        form = {
            **self._key,
            "module": "contract",
            "action": "verifysourcecode",
            "contractaddress": submission.address,
            "sourceCode": submission.standard_input,
            "codeformat": "vyper-json" if submission.language == "Vyper" else "solidity-standard-json-input",
            "contractname": submission.identifier,
            "compilerversion": submission.compiler,
            "constructorArguements": submission.arguments.hex(),  # so they spell it
        }
        answer = _asked(self._place(submission), urlencode(form).encode(), "application/x-www-form-urlencoded")
        result = _text(answer, "result")
        if "already verified" in result.lower():
            return ""
        if answer.get("status") != "1":
            raise NodeError(f"the explorer refuses the contract: {shown(result)}")
        return result

    def state(self, submission: Submission, token: str) -> State:
        if not token:
            return State(True, "it was verified before")
        query = {**self._key, "module": "contract", "action": "checkverifystatus", "guid": token}
        answer = _asked(self._place(submission), urlencode(query).encode(), "application/x-www-form-urlencoded")
        result = _text(answer, "result")
        if "pending" in result.lower() or "in progress" in result.lower():
            return State(None, result)
        return State(answer.get("status") == "1" or "already verified" in result.lower(), result)

    def _place(self, submission: Submission) -> str:
        return f"{self._url}?chainid={submission.chain_id}"


class Blockscout(Etherscan):
    """A Blockscout explorer's API in Etherscan's form; each chain has one of its own.

    Args:
        url: The explorer's page.
        key: An API key, if it wants one.
    """

    URL = ""

    def __init__(self, url: str, key: str) -> None:
        if not url:
            raise UsageError("each chain has a Blockscout of its own", hint="name it with --url https://…")
        self._url, self._key = f"{url.rstrip('/')}/api", {"apikey": key} if key else {}

    def _place(self, submission: Submission) -> str:
        return self._url


EXPLORERS: dict[str, Callable[[str, str], Explorer]] = {
    "blockscout": Blockscout,
    "etherscan": Etherscan,
    "sourcify": Sourcify,
}
"""Explorers by name: made of a URL and an API key."""

ADDRESSES = {"blockscout": Blockscout.URL, "etherscan": Etherscan.URL, "sourcify": Sourcify.URL}


def verify(explorer: Explorer, submission: Submission, wait: float, poll: float = 3.0) -> str:
    """Have a contract verified.

    Args:
        explorer: Who is to do it.
        submission: What they are told.
        wait: Seconds to wait for the end of it.
        poll: Seconds between questions.

    Returns:
        What they say of it.

    Raises:
        CheckError: they say that it is another contract.
        NodeError: they cannot be reached, refuse, or take longer.
    """
    token, end = explorer.submit(submission), time.monotonic() + wait
    while True:
        state = explorer.state(submission, token)
        if state.verified is not None:
            break
        if time.monotonic() > end:
            raise NodeError(f"the explorer has not finished within {wait:g} s", hint="run the command again later")
        time.sleep(poll)
    if not state.verified:
        raise CheckError(f"the explorer does not verify the contract: {shown(state.said)}")
    return shown(state.said)


def _asked(url: str, body: bytes | None = None, content_type: str = "") -> Mapping[str, Any]:
    """Post something, or get a page; return the object that is answered.

    Raises:
        NodeError: there is no answer, or another one.
    """
    try:
        answer = Transport(url, _TIMEOUT).ask(body, _MOST_BYTES, content_type, _ANSWERED)
        value = parse_json(answer.body)
    except TransportError as error:
        raise NodeError(f"the explorer cannot be reached: {error}") from None
    except ValueError:
        raise NodeError(f"the explorer answers with status {answer.status}, and no JSON") from None
    if not isinstance(value, dict):
        raise NodeError("the explorer answers no object")
    if answer.status == 429:
        raise NodeError("the explorer has had too many questions", hint="run the command again later")
    return value


def _text(answer: Mapping[str, Any], key: str) -> str:
    value = answer.get(key)
    if not isinstance(value, str):
        said = answer.get("message") or answer.get("error") or f"nothing under {key!r}"
        raise NodeError(f"the explorer refuses the contract: {shown(str(said))}")
    return value
