"""A node in this process that mines each transaction at once; what it answers can be spoilt."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from eth_account import Account
from eth_utils.crypto import keccak

from ml2sc.runtime.chain import EmbeddedChain, Reverted, RevmChain, revm_is_installed
from ml2sc.runtime.signed import SignedTransaction, read_signed
from ml2sc.runtime.transactions import create_address
from ml2sc.runtime.transport import HttpAnswer

KEY = "0x" + "5a" * 32
ACCOUNT = str(Account.from_key(KEY).address)
GWEI = 10**9

Spoil = Callable[[str, Any], Any]
"""Given a method and the honest response (an object with "result" or "error"): bytes, or another JSON value."""


def honest(method: str, response: Any) -> Any:
    """Spoil nothing."""
    return response


class PretendChain:
    """Answers JSON-RPC as a node does; `post` takes the place of a `Transport`'s.

    Attributes:
        spoil: What becomes of its answers.
        asked: The methods it was asked for.
        mined: The transactions that it mined.
        legacy: Whether it has no EIP-1559.
    """

    def __init__(self, *, chain_id: int = 31337, legacy: bool = False) -> None:
        self._chain: Any = RevmChain() if revm_is_installed() else EmbeddedChain()
        self._chain.account = ACCOUNT
        self.chain_id, self.legacy = chain_id, legacy
        self.spoil: Spoil = honest
        self.asked: list[str] = []
        self.mined: list[tuple[SignedTransaction, dict[str, Any]]] = []

    def post(self, body: bytes, limit: int) -> HttpAnswer:
        """Answer a request."""
        question = json.loads(body)
        method, response = question["method"], {"jsonrpc": "2.0", "id": question["id"]}
        self.asked.append(method)
        try:
            response["result"] = self._answer(method, question["params"])
        except Reverted as error:
            response["error"] = {"code": 3, "message": "execution reverted", "data": "0x" + error.data.hex()}
        except LookupError:
            response["error"] = {"code": -32601, "message": f"the method {method} does not exist"}
        spoilt = self.spoil(method, response)
        return HttpAnswer(200, 0.0, spoilt if isinstance(spoilt, bytes) else json.dumps(spoilt).encode())

    def _answer(self, method: str, params: list[Any]) -> Any:
        match method:
            case "web3_clientVersion":
                return "pretend/1.0"
            case "eth_chainId":
                return hex(self.chain_id)
            case "eth_getBlockByNumber":
                return self._block(params[0], whole=params[1])
            case "eth_gasPrice" | "eth_maxPriorityFeePerGas" if self.legacy == (method == "eth_gasPrice"):
                return hex(2 * GWEI)
            case "eth_blockNumber" | "eth_getTransactionCount":  # a block for each transaction, all of one account
                return hex(min(len(self.mined), self._height(params[1]) if params else len(self.mined)))
            case "eth_getBalance":
                return hex(10**20)
            case "eth_accounts":
                return []
            case "eth_getCode":
                return "0x" + self._chain.code(params[0]).hex()
            case "eth_call":
                return "0x" + self._chain.call(params[0]["to"], _data(params[0])).hex()
            case "eth_estimateGas":
                return hex(1_000_000)
            case "eth_sendRawTransaction":
                return self._mine(bytes.fromhex(params[0][2:]))
            case "eth_getTransactionByHash":
                return next(
                    (self._shown(n) for n, (signed, _) in enumerate(self.mined) if signed.hash == params[0]), None
                )
            case "eth_getTransactionReceipt":
                return next((receipt for signed, receipt in self.mined if signed.hash == params[0]), None)
        raise LookupError(method)

    def _height(self, tag: str) -> int:
        return len(self.mined) if tag in ("latest", "pending") else int(tag, 16)

    def _block(self, tag: str, *, whole: bool) -> dict[str, Any]:
        number = self._height(tag)
        block = {
            "number": hex(number),
            "hash": f"0x{keccak(number.to_bytes(8, 'big')).hex()}",
            "gasLimit": hex(30_000_000),
            "timestamp": hex(1_800_000_000 + 12 * number),
            "transactions": [self._shown(number - 1)] if whole and 0 < number <= len(self.mined) else [],
        }
        return block if self.legacy else {**block, "baseFeePerGas": hex(GWEI)}

    def _shown(self, number: int) -> dict[str, Any]:
        signed, _ = self.mined[number]
        return {
            "hash": signed.hash,
            "from": signed.sender.lower(),
            "nonce": hex(signed.nonce),
            "to": signed.to,
            "input": "0x" + signed.data.hex(),
            "blockNumber": hex(number + 1),
        }

    def _mine(self, raw: bytes) -> str:
        signed = read_signed(raw)
        if any(signed.hash == known.hash for known, _ in self.mined):
            return signed.hash
        assert (signed.sender, signed.nonce, signed.legacy) == (ACCOUNT, len(self.mined), self.legacy)
        created = create_address(ACCOUNT, signed.nonce) if signed.to is None else None
        if signed.to is None:
            done = self._chain.deploy(signed.data)
            assert done.address == created
        else:
            done = self._chain.transact(signed.to, signed.data)
        price = signed.max_fee if self.legacy else min(signed.max_fee, GWEI + signed.tip)
        receipt = {
            "transactionHash": signed.hash,
            "status": "0x1",
            "gasUsed": hex(done.gas_used),
            "effectiveGasPrice": hex(price),
            "contractAddress": created,
            "blockNumber": hex(len(self.mined) + 1),
        }
        self.mined.append((signed, receipt))
        return signed.hash


def _data(call: dict[str, str]) -> bytes:
    return bytes.fromhex(call["data"][2:])
