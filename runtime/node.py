"""A chain behind a node: read and called over JSON-RPC, and anvil, a node for trying things."""

from __future__ import annotations

import logging
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ml2sc.errors import ContractLimitError, NodeError, ToolchainError
from ml2sc.ir.forks import Fork

from .answers import Receipt
from .chain import CALL_GAS, LIMITS, DeployReceipt, Reverted, TxReceipt
from .children import die_with_parent
from .rpc import Rpc
from .toolchain import find_anvil

logger = logging.getLogger(__name__)

_ANYBODY = "0x" + "11" * 20


class RpcChain:
    """A node spoken to over JSON-RPC. It only reads, unless the chain is our own.

    Args:
        url: Where it listens.
        own: Whether the chain is there to be tried out (anvil): then the node's own first account sends transactions.
        wait: Seconds to wait for a receipt.
        limits: What it is expected to allow.
    """

    def __init__(self, url: str, *, own: bool = False, wait: float = 120.0, limits: Fork = LIMITS) -> None:
        self.rpc = Rpc(url)
        self._limits, self._call_gas = limits, max(limits.call_gas, CALL_GAS)
        self._own, self._wait = own, wait
        self._simulates = True
        try:
            version = self.rpc.client_version()
        except NodeError as error:
            if not error.reason:
                raise
            version = self.rpc.host  # public nodes need not say what they are
        self.name = f"chain {self.rpc.chain_id} ({version})"

    @property
    def account(self) -> str:
        accounts = self.rpc.accounts() if self._own else []
        if not accounts:
            raise ToolchainError(
                f"nothing is sent to {self.name} from here",
                hint="ml2sc-deploy puts a contract on a chain; give its --address",
            )
        return accounts[0]

    def deploy(self, init_code: bytes) -> DeployReceipt:
        receipt = self._send({"data": to_hex(init_code)})
        if receipt.created is None:
            raise NodeError(f"the node at {self.rpc.host} does not say which contract {receipt.hash} created")
        return DeployReceipt(receipt.created, receipt.gas_used, len(self.code(receipt.created)))

    def call(self, address: str, calldata: bytes) -> bytes:
        transaction = {"from": _ANYBODY, "to": address, "data": to_hex(calldata)}
        try:
            return self.rpc.call({**transaction, "gas": hex(self._call_gas)})
        except ContractLimitError:
            # A node that refuses so much instead of giving what it has: let it give what it has.
            return self.rpc.call(transaction)

    def run(self, code: bytes) -> bytes:
        return self.rpc.call({"from": _ANYBODY, "data": to_hex(code), "gas": hex(self._call_gas)})

    def gas(self, address: str, calldata: bytes) -> int:
        if self._own:
            return self.transact(address, calldata).gas_used
        call = {"from": _ANYBODY, "to": address, "data": to_hex(calldata)}
        if self._simulates:
            try:
                return self._simulated_gas(call)
            except NodeError as error:
                if not error.reason:
                    raise
                self._simulates = False
                logger.info("the node has no eth_simulateV1: gas is its estimate, which may be some per cent high")
        return self.rpc.estimate(call)

    def _simulated_gas(self, call: dict[str, str]) -> int:
        outcome = self.rpc.simulate(call)
        if not outcome.succeeded:
            raise Reverted(outcome.returned)
        return outcome.gas_used

    def transact(self, address: str, calldata: bytes) -> TxReceipt:
        return TxReceipt(self._send({"to": address, "data": to_hex(calldata)}).gas_used)

    def timestamp(self) -> int:
        """Return the last block's time, in seconds since 1970."""
        return self.rpc.block().timestamp

    def next_time(self) -> int:
        # a chain that makes blocks on demand only may have had none for long
        return max(self.timestamp(), int(time.time()))

    def code(self, address: str) -> bytes:
        return self.rpc.code(address)

    def _send(self, transaction: dict[str, str]) -> Receipt:
        tx_hash = self.rpc.send({"from": self.account, "gas": hex(self._limits.transaction_gas), **transaction})
        end = time.monotonic() + self._wait
        while (receipt := self.rpc.receipt(tx_hash)) is None:
            if time.monotonic() > end:
                raise ToolchainError(f"transaction {tx_hash} was not mined within {self._wait:.0f} s")
            time.sleep(0.02)
        if not receipt.succeeded:
            raise Reverted(b"", f"transaction {tx_hash} failed, {receipt.gas_used:,} gas used")
        return receipt


def anvil_limits(limits: Fork) -> tuple[str, ...]:
    """Return anvil's options for limits that are not Ethereum's."""
    if limits.code_limit == LIMITS.code_limit:
        return ()
    return "--code-size-limit", str(limits.code_limit), "--gas-limit", str(limits.block_gas)


def to_hex(data: bytes) -> str:
    """Return bytes as JSON-RPC writes them."""
    return "0x" + data.hex()


@contextmanager
def anvil(fork: str = "prague", *options: str, port: int | None = None, seconds: float = 20.0) -> Iterator[str]:
    """Start anvil and end it at the end of the block, or as soon as this process is killed (on Linux).

    Args:
        fork: The rules it follows.
        *options: More of its options.
        port: Where it listens; a free one by default.
        seconds: How long it may take to start.

    Yields:
        Its URL.

    Raises:
        ToolchainError: there is no anvil, or it does not start.
    """
    program = find_anvil()
    if port is None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    command = [program, "--host", "127.0.0.1", "--port", str(port), "--hardfork", fork, "--silent", *options]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, preexec_fn=die_with_parent())
    try:
        _await_start(process, port, fork, seconds)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _await_start(process: subprocess.Popen[bytes], port: int, fork: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=seconds).close()
        except OSError:
            if process.poll() is not None:
                message = f"anvil ended with {process.returncode}: does it know '--hardfork {fork}'?"
                raise ToolchainError(message) from None
            if time.monotonic() > end:
                raise ToolchainError(f"anvil did not start within {seconds:.0f} s") from None
            time.sleep(0.02)
        else:
            return
