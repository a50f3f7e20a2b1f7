"""How long a node is left alone before it is asked again, and what is said when that does not help."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ml2sc.errors import NodeError
from ml2sc.runtime.rpc import Rpc
from ml2sc.runtime.transport import HttpAnswer


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the seconds that are waited, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)
    return waited


def node(monkeypatch: pytest.MonkeyPatch, *answers: Any, patience: float = 60.0) -> Rpc:
    """Return a node that gives these answers, one after the other: a status with seconds to wait, or a response."""
    rpc, left = Rpc("http://127.0.0.1:9/secret", patience=patience), list(answers)

    def post(body: bytes, limit: int) -> HttpAnswer:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, dict):
            return HttpAnswer(200, 0.0, json.dumps({"id": json.loads(body)["id"], **answer}).encode())
        return HttpAnswer(*answer, b"")

    monkeypatch.setattr(rpc._transport, "post", post)
    return rpc


FINE = {"result": "0x7"}


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_waits_grow(monkeypatch: pytest.MonkeyPatch, waits: list[float], status: int) -> None:
    rpc = node(monkeypatch, *[(status, 0.0)] * 7, FINE)
    assert rpc.quantity("eth_chainId") == 7
    for waited, least in zip(waits, [0.25, 0.5, 1, 2, 4, 8, 8], strict=True):
        assert least <= waited <= least + 0.25


def test_retry_after(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    """A node's wish counts; what it may be, tests/unit/runtime/test_transport.py tries."""
    rpc = node(monkeypatch, (429, 3.0), (429, 30.0), (429, 0.0), FINE)
    assert rpc.quantity("eth_chainId") == 7
    assert waits[:2] == [3.0, 30.0]
    assert waits[2] <= 1.25


def test_limit_told_with_status_200(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    refusals = [{"code": -32005, "message": "too many"}, {"code": -32000, "message": "Rate limit reached"}]
    assert node(monkeypatch, *({"error": refusal} for refusal in refusals), FINE).quantity("eth_chainId") == 7
    assert len(waits) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_patience_ends(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with pytest.raises(NodeError, match=rf"127.0.0.1:9 does not answer eth_chainId: HTTP {status}") as caught:
        node(monkeypatch, (status, 0.0), patience=0.5).request("eth_chainId")
    assert "goes on where it was" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refused_for_good(monkeypatch: pytest.MonkeyPatch, waits: list[float], status: int) -> None:
    with pytest.raises(NodeError, match="is the URL right"):
        node(monkeypatch, (status, 0.0)).request("eth_chainId")
    assert waits == []


def test_sending_by_the_node_is_never_repeated(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    """Whether a lost answer meant a transaction nobody knows: so `ml2sc-deploy` never has a node send of its own."""
    with pytest.raises(NodeError):
        node(monkeypatch, (503, 0.0), FINE).request("eth_sendTransaction", {})
    assert waits == []
