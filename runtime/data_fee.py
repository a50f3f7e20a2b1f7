"""What a rollup asks for a transaction's bytes: those of the OP Stack say it themselves, in a contract of theirs."""

from __future__ import annotations

from ml2sc.errors import NodeError
from ml2sc.ir.chains import ChainProfile, owner_of
from ml2sc.ir.forks import Fork

from .chain import Reverted
from .contract import encode_call
from .node import to_hex
from .rpc import Rpc

ORACLE = "0x420000000000000000000000000000000000000F"
"""Where every chain of the OP Stack has its GasPriceOracle."""

_ABI = [{"type": "function", "name": "getL1Fee", "inputs": [{"name": "data", "type": "bytes"}], "outputs": []}]


def asks_for_data(rpc: Rpc, limits: Fork) -> bool:
    """Return whether a chain asks a fee for a transaction's bytes, of which gas is no part, and says how much.

    Args:
        rpc: The node.
        limits: What the chain is taken for; a known chain is known by its number.
    """
    taken = owner_of(rpc.chain_id) or limits
    return isinstance(taken, ChainProfile) and taken.data_fee and bool(rpc.code(ORACLE))


def data_fee(rpc: Rpc, transaction: bytes) -> int:
    """Return what the chain asks for a transaction's bytes, in wei.

    Args:
        rpc: The node.
        transaction: The transaction, not signed: the signature's bytes are added there.

    Raises:
        NodeError: the chain does not say.
    """
    try:
        said = rpc.call({"to": ORACLE, "data": to_hex(encode_call(_ABI, "getL1Fee", transaction))})
    except Reverted as error:
        raise NodeError(f"the node at {rpc.host} says no fee for a transaction's bytes: {error}") from error
    if len(said) != 32:
        raise NodeError(f"the node at {rpc.host} says no fee for a transaction's bytes: {len(said)} bytes at {ORACLE}")
    return int.from_bytes(said)
