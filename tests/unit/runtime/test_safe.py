"""Batches for a Safe: what the files hold, and that a changed one is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ml2sc.errors import CheckError, OutputError, UsageError
from ml2sc.ir.forks import FORKS
from ml2sc.runtime.safe import Batch, Planned, batched, checksum, paths_of, read_batch, write_batches
from ml2sc.runtime.transactions import Call

SAFE = "0xA77DE01e157f9f57C7c4A326eeE9C4874D0598b6"
BATCH = Batch(1, SAFE, "deploy Net: weights 0", (Call("0x" + "aB" * 20, b"\x00\x01"), Call("0x" + "11" * 20, b"")))


def written(batch: Batch = BATCH) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(batch.to_json(1_700_000_000_000)))
    return found


def test_the_transaction_builders_checksum() -> None:
    """A batch that the Transaction Builder 1.18.2 wrote."""
    theirs = {
        "version": "1.0",
        "chainId": "1",
        "createdAt": 1761326849944,
        "meta": {
            "name": "Transactions Batch",
            "description": "",
            "txBuilderVersion": "1.18.2",
            "createdFromSafeAddress": SAFE,
            "createdFromOwnerAddress": "",
            "checksum": "0x8b5032f716845c8b08bab3d63dbd9ba92e056f3557793cd041e59b84e16aa989",
        },
        "transactions": [
            {
                "to": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
                "value": "0",
                "data": None,
                "contractMethod": {
                    "inputs": [
                        {"internalType": "address", "name": "spender", "type": "address"},
                        {"internalType": "uint256", "name": "value", "type": "uint256"},
                    ],
                    "name": "approve",
                    "payable": False,
                },
                "contractInputsValues": {
                    "spender": "0x474e5Ded6b5D078163BFB8F6dBa355C3aA5478C8",
                    "value": "100000000000",
                },
            }
        ],
    }
    assert checksum(theirs) == theirs["meta"]["checksum"]  # type: ignore[index]
    assert checksum({**theirs, "chainId": "2"}) != checksum(theirs)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "batch.json"
    (found,) = write_batches([path], [BATCH], 1_700_000_000_000)
    assert (found.chain_id, found.safe, found.name) == (1, SAFE, BATCH.name)
    assert [(call.to, call.data) for call in found.calls] == [
        ("0xABaBaBaBABabABabAbAbABAbABabababaBaBABaB", b"\x00\x01"),
        ("0x1111111111111111111111111111111111111111", b""),
    ]
    first = json.loads(path.read_bytes())["transactions"][0]
    assert (first["value"], first["contractMethod"], first["contractInputsValues"]) == ("0", None, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda batch: batch.update(chainId="5"),
        lambda batch: batch["transactions"][0].update(data="0x0002"),
        lambda batch: batch["transactions"][0].update(value="1"),
        lambda batch: batch["transactions"][0].update(to="0x11"),
        lambda batch: batch["transactions"].pop(),
        lambda batch: batch["meta"].pop("checksum"),
        lambda batch: batch.pop("transactions"),
        lambda batch: batch.update(transactions=3),
    ],
)
def test_a_changed_batch_is_refused(change: Any) -> None:
    batch = written()
    change(batch)
    with pytest.raises(CheckError, match=r"no batch of the Transaction Builder|not as it was written"):
        read_batch(json.dumps(batch).encode())
    with pytest.raises(CheckError):
        read_batch(b"[" * 1_000)


def test_a_batch_is_a_transaction() -> None:
    """Calls go together as long as a transaction holds them; time must pass before some."""
    call = BATCH.calls[0]
    calls = [Planned(f"weights {i}", call, 5_000_000, 5_000_000) for i in range(4)]
    assert [len(group) for group in batched(calls, FORKS["osaka"])] == [3, 1]
    assert [len(group) for group in batched([Planned("large", call, 20_000_000, 20_000_000)], FORKS["osaka"])] == [1]
    assert [len(group) for group in batched(calls, FORKS["osaka"], alone=["weights 1"])] == [1, 3]
    assert [len(group) for group in batched(calls, FORKS["prague"])] == [4]


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "batch.json"
    assert paths_of(path, 1) == [path]
    assert [each.name for each in paths_of(path, 2)] == ["batch-1.json", "batch-2.json"]
    (tmp_path / "batch-2.json").write_text("mine")
    with pytest.raises(UsageError, match=r"batch-2\.json is there already"):
        paths_of(path, 2)
    with pytest.raises(OutputError, match="cannot write"):
        write_batches([path, tmp_path / "none" / "batch.json"], [BATCH, BATCH], 0)
    assert not path.exists(), "nothing half-written is left behind"
