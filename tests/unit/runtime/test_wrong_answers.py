"""A node that answers one of its methods wrongly, in every way there is: never a bug of ours, never a wait without end.

In CI 150; `ML2SC_FUZZ=2000` tries more. A case's number is its seed.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.pretend_chain import KEY, PretendChain
from support.updates import built, network, samples

import ml2sc
from ml2sc.cli import check, deploy
from ml2sc.runtime import signer, transactions
from ml2sc.runtime.signer import KeySigner
from ml2sc.runtime.transport import Transport

CASES = int(os.environ.get("ML2SC_FUZZ", "100"))

WRONG: list[Any] = [
    None, True, -1, 1e400, 12345, "", "0x", "-0x1", "0xzz", "0x" + "f" * 65, "0x" + "f" * 64, "0x" + "f" * 16,
    "0x0", "0x1", "0x010101", "x" * 100_000, "\x1b]0;owned\x07\r\nall is well", "\ud800", "０ｘ１", [], {},
    {"a": 1}, [None], ["0x1"], [[]],
]  # fmt: skip
ERRORS: list[Any] = [
    "oops", 5, [], True, {}, {"code": "x", "message": None, "data": {"data": {"data": 5}}},
    {"code": 3, "message": "execution reverted", "data": "0x1"}, {"code": 3, "message": "execution reverted"},
    {"code": 3, "message": "reverted", "data": "0x08c379a0" + "20".rjust(64, "0") + "2".rjust(64, "0") + "ff" * 32},
    {"code": 3, "message": "reverted", "data": "0x08c379a0" + "ff" * 64}, {"message": ["nonce"], "code": None},
    {"code": -32000, "message": "nonce too low"}, {"code": -32000, "message": "insufficient funds"},
    {"code": -32000, "message": "out of gas"}, {"code": -32601, "message": "\x1b[31m\u202e" + "m" * 10_000},
]  # fmt: skip
RAW: list[bytes] = [
    b"", b"[]", b"5", b"null", b'"x"', b"{}", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 100_000, b"[]" * 5, b"NaN",
    b'{"id":1,"result":' + b"[" * 5_000 + b"]" * 5_000 + b"}", b"[" + b"[]," * 300_000 + b"[]]",
    b'{"result":"' + b'\\"' * 9,
    b'{"id":1,"result":' + b"9" * 5_000 + b"}",
]  # fmt: skip
METHODS = (
    "web3_clientVersion", "eth_chainId", "eth_getBlockByNumber", "eth_maxPriorityFeePerGas", "eth_gasPrice",
    "eth_getCode", "eth_getTransactionCount", "eth_estimateGas", "eth_getBalance", "eth_blockNumber",
    "eth_sendRawTransaction",
    "eth_getTransactionReceipt", "eth_getTransactionByHash", "eth_call", "eth_simulateV1",
)  # fmt: skip


class Spoiler:
    """Spoils answers to a method: all of them, or one."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.method = self._random.choice(METHODS)
        self._only = self._random.choice([None, 0, 1, 2, 5])
        self._count = itertools.count()

    def __call__(self, method: str, response: Any) -> Any:
        if method != self.method or self._only not in (None, next(self._count)):
            return response
        choice = self._random.random()
        if choice < 0.2:
            return self._random.choice(RAW)
        if choice < 0.4:
            return {"id": response["id"], "error": self._random.choice(ERRORS)}
        if choice < 0.5:
            return {**response, "id": self._random.choice(WRONG)}
        spoilt = copy.deepcopy(response)
        members = [spoilt.get("result")]
        while isinstance(members[-1], dict) and members[-1] and self._random.random() < 0.9:
            inner = self._random.choice(list(members[-1]))
            if not isinstance(members[-1][inner], dict):
                members[-1][inner] = self._random.choice(WRONG)
                return spoilt
            members.append(members[-1][inner])
        if isinstance(spoilt.get("result"), str) and len(spoilt["result"]) > 66 and self._random.random() < 0.7:
            text, at = spoilt["result"], self._random.randrange(2, len(spoilt["result"]))
            spoilt["result"] = text[:at] + self._random.choice(["f" * 64, "", "0", "g"]) + text[at + 64 :]
        else:
            spoilt["result"] = self._random.choice(WRONG)
        return spoilt


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.001
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.001)


@pytest.fixture(scope="module")
def artifacts(toolchain: ml2sc.Toolchain) -> dict[str, ml2sc.Artifact]:
    """Return a contract with data contracts, and an updatable one."""
    model, data = network(1, (3, 2)), {"x": samples(1, (3, 2))}
    fixed = ml2sc.compile(model, calibration=data, precision="int8", weights="data", name="Net")
    return {
        "fixed": ml2sc.build(fixed, toolchain),
        "updatable": built(model, toolchain, data, precision="int8", name="Net"),
    }


_ACCOUNT = functools.cache(signer._account)
_sign, _known = KeySigner.sign, dict[Any, bytes]()


def _signed(key: KeySigner, transaction: Mapping[str, Any]) -> bytes:
    """Sign a transaction the first time; the same ones come again and again, and signing takes half of the time."""
    asked = (key.address, *sorted(transaction.items()))
    if asked not in _known:
        _known[asked] = _sign(key, transaction)
    return _known[asked]


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> Callable[[PretendChain], None]:
    """Return a function that puts a chain behind every URL; waiting takes no time."""
    clock = Clock()
    monkeypatch.setattr(transactions, "time", clock)
    monkeypatch.setattr("tenacity.nap.time.sleep", clock.sleep)
    monkeypatch.setattr("ml2sc.runtime.rpc.stop_after_delay", lambda _: lambda state: state.attempt_number > 2)
    monkeypatch.setenv("ML2SC_PRIVATE_KEY", KEY)
    monkeypatch.setattr("ml2sc.runtime.signer._account", _ACCOUNT)
    monkeypatch.setattr(KeySigner, "sign", _signed)
    return lambda node: monkeypatch.setattr(Transport, "post", lambda _, body, limit: node.post(body, limit))


def test_wrong_answers(
    artifacts: dict[str, ml2sc.Artifact],
    chain: Callable[[PretendChain], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("ml2sc.folder.load_folder", lambda folder: artifacts[Path(folder).name])
    url = ["--chain", "http://127.0.0.1:9/", "--json"]
    np.savez(tmp_path / "x.npz", x=samples(7, (3, 2), count=1))
    ends: dict[int, int] = {}
    for seed in range(CASES):
        node, spoiler = PretendChain(legacy=seed % 5 == 0), Spoiler(seed)
        kind = ("fixed", "updatable")[seed % 2]
        path = ["--journal", str(tmp_path / f"{seed}.json")]
        chain(node)
        if seed % 3 == 0:  # a check of what is there
            assert deploy.main([kind, *url, *path, "--yes"]) == 0
            address = json.loads(capsys.readouterr().out)["proof"]["address"]
            node.spoil = spoiler
            status = check.main([kind, *url, "--address", address, "--samples", str(tmp_path / "x.npz")])
        else:
            node.spoil = spoiler
            status = deploy.main([kind, *url, *path, "--yes", "--wait", "10"])
        said = capsys.readouterr()
        # a chain that is no development chain is signed for only where --chain-id names it
        refused = spoiler.method == "eth_chainId" and "--yes needs --chain-id" in said.err
        assert status in ((2,) if refused else (0, 1, 3, 4)), f"seed {seed}, {spoiler.method}: {said.err}"
        assert "\x1b" not in said.err, seed
        assert KEY[2:] not in said.out + said.err, seed
        assert len(node.mined) <= 4, seed
        assert all(signed.max_fee <= transactions.MOST_FEE for signed, _ in node.mined), seed
        ends[status] = ends.get(status, 0) + 1
    assert ends[0] > CASES // 10
    assert ends[3] > CASES // 4
