"""A JSON-RPC node around `EmbeddedChain`, started by test_chain.py in place of anvil."""

from __future__ import annotations

import argparse
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from ml2sc.runtime.chain import EmbeddedChain, Reverted

CHAIN = EmbeddedChain()
RECEIPTS: list[dict[str, str]] = []
ACCOUNTS = ["0x" + "11" * 20]


def answer(method: str, params: list[Any]) -> Any:
    """Return the result of a request."""
    match method:
        case "web3_clientVersion":
            return "pretend node"
        case "eth_chainId":
            return hex(31337)
        case "eth_accounts":
            return ACCOUNTS
        case "eth_getCode":
            return "0x" + CHAIN.code(params[0]).hex()
        case "eth_call":
            return "0x" + CHAIN.call(params[0]["to"], bytes.fromhex(params[0]["data"][2:])).hex()
        case "eth_estimateGas":
            return hex(CHAIN.gas(params[0]["to"], bytes.fromhex(params[0]["data"][2:])))
        case "eth_sendTransaction":
            name = f"0x{len(RECEIPTS):064x}"
            RECEIPTS.append({"transactionHash": name, "blockNumber": hex(len(RECEIPTS)), **send(params[0])})
            return name
        case "eth_getTransactionReceipt":
            return RECEIPTS[int(params[0], 16)]
        case _:
            raise LookupError(method)


def send(transaction: dict[str, str]) -> dict[str, str]:
    """Apply a transaction and return its receipt."""
    data = bytes.fromhex(transaction["data"][2:])
    if "to" not in transaction:
        created = CHAIN.deploy(data)
        return {"status": "0x1", "gasUsed": hex(created.gas_used), "contractAddress": created.address.lower()}
    try:
        return {"status": "0x1", "gasUsed": hex(CHAIN.transact(transaction["to"], data).gas_used)}
    except Reverted:
        return {"status": "0x0", "gasUsed": "0x5208"}


class Handler(BaseHTTPRequestHandler):
    """Speaks JSON-RPC over POST."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        response = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            response["result"] = answer(request["method"], request["params"])
        except Reverted as error:
            message = "execution reverted"
            response["error"] = {"code": 3, "message": message, "data": "0x" + error.data.hex()}
        except LookupError:
            response["error"] = {"code": -32601, "message": "method not found"}
        body = json.dumps(response).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--no-accounts", action="store_true")
    options, _ = parser.parse_known_args()
    if options.no_accounts:
        ACCOUNTS.clear()
    HTTPServer(("127.0.0.1", options.port), Handler).serve_forever()
