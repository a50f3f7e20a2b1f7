"""Transactions of others, on a node of the tests: anvil answers before its block is there."""

from __future__ import annotations

import time
from typing import Any

from ml2sc.runtime.rpc import Rpc


def mined(rpc: Rpc, transaction: dict[str, Any], seconds: float = 60.0) -> str:
    """Have the node send a transaction, wait until it is in a block, and return its hash."""
    hash_ = rpc.send(transaction)
    until = time.monotonic() + seconds
    while rpc.receipt(hash_) is None:
        assert time.monotonic() < until, f"{hash_} is in no block after {seconds} s"
        time.sleep(0.01)
    return hash_
