"""The chains: the same answers, the same gas, the limits of a public chain. Contracts are written in bytecode here."""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import forking

from ml2sc.errors import ContractLimitError, ToolchainError, UnknownNameError
from ml2sc.runtime.chain import (
    TX_GAS_LIMIT,
    Chain,
    EmbeddedChain,
    Reverted,
    RevmChain,
    intrinsic_gas,
    revm_is_installed,
)
from ml2sc.runtime.node import RpcChain, anvil
from ml2sc.runtime.opening import open_chain

needs_revm = pytest.mark.skipif(not revm_is_installed(), reason="pyrevm is not installed")


@pytest.fixture(params=["py-evm", pytest.param("revm", marks=needs_revm)])
def chain(request: pytest.FixtureRequest) -> Iterator[Chain]:
    with open_chain(request.param) as opened:
        yield opened


def init(runtime: str | bytes, before: str = "") -> bytes:
    """Return init code that runs `before` and deploys `runtime` (at most 65,535 bytes)."""
    code = bytes.fromhex(runtime) if isinstance(runtime, str) else runtime
    start = bytes.fromhex(before)
    # PUSH2 size, DUP1, PUSH1 offset, PUSH0, CODECOPY, PUSH0, RETURN
    head = b"\x61" + len(code).to_bytes(2, "big") + b"\x80\x60" + bytes([len(start) + 10]) + b"\x5f\x39\x5f\xf3"
    return start + head + code


def word(value: int | str) -> bytes:
    """Return a 32-byte word of an integer or of an address."""
    return (int(value, 16) if isinstance(value, str) else value).to_bytes(32, "big")


ECHO = "365f5f37365ff3"  # returns its calldata
REVERT = "63deadbeef60e01b5f5260045ffd"  # reverts with deadbeef
STORE = "5f54" + "5f35" + "5f55" + "5f52" + "60205ff3"  # swaps slot 0 with calldata[0:32], returns the old value
CLEAR = "60016001556000600155" + "00"  # slot 1: 0 -> 1 -> 0, a refund inside one transaction
TRANSIENT = "5f5c" + "60015f5d" + "5f5260205ff3"  # returns transient slot 0, then sets it to 1
LOOP = "5f35" + "5b" + "60019003" + "80" + "6002" + "57" + "00"  # counts calldata[0:32] down to zero
HASH = "610400" + "5f" + "20" + "5f52" + "611000" + "51" + "50" + "60205ff3"  # keccak of 1 KiB, touches more memory
SIZES = "5f35" + "803b" + "5f52" + "803f" + "602052" + "60605f" + "6040" + "833c" + "60a05ff3"  # of the account given
TOUCH = "5f5f355200"  # touches memory at calldata[0:32]: any gas at once, as its cost is quadratic
LOG = "60205f60205fa1" + "00"  # LOG1
FACTORY = "6460005ff300" + "5f52" + "6005601b5ff0" + "5f5260205ff3"  # creates a contract, returns its address


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 500])
def test_deploy_and_code(chain: Chain, size: int) -> None:
    code = bytes(range(1, 256))[:size].ljust(size, b"\x5b")
    receipt = chain.deploy(init(code))
    assert receipt.code_size == size
    assert chain.code(receipt.address) == code
    assert chain.code("0x" + "77" * 20) == b""


def test_call(chain: Chain) -> None:
    echo = chain.deploy(init(ECHO)).address
    for data in (b"", b"\x01", bytes(range(256)) * 10):
        assert chain.call(echo, data) == data
    assert chain.call(echo.lower(), b"x") == b"x"


def test_revert_carries_its_data(chain: Chain) -> None:
    address = chain.deploy(init(REVERT)).address
    for ask in (chain.call, chain.gas, chain.transact):
        with pytest.raises(Reverted) as caught:
            ask(address, b"")
        assert caught.value.data == bytes.fromhex("deadbeef")
    with pytest.raises(Reverted):
        chain.deploy(bytes.fromhex(REVERT))


def test_invalid_opcode_is_not_called_a_limit(chain: Chain) -> None:
    address = chain.deploy(init("fe")).address
    for ask in (chain.call, chain.gas, chain.transact):
        with pytest.raises(Reverted, match=r"(?i)invalid"):
            ask(address, b"")


def test_only_transactions_change_the_state(chain: Chain) -> None:
    store = chain.deploy(init(STORE)).address
    assert chain.call(store, word(5)) == word(0)
    chain.gas(store, word(6))
    assert chain.call(store, word(0)) == word(0)
    chain.transact(store, word(7))
    assert chain.call(store, word(0)) == word(7)
    assert chain.call(store, word(0)) == word(7)


def test_the_gas_of_a_call_just_made_is_known(
    chain: EmbeddedChain | RevmChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not made again, unless a transaction came between, or the time is another."""
    store, data = chain.deploy(init(STORE)).address, word(7)
    runs: list[bytes] = []
    run = type(chain)._run

    def count(self: Chain, to: str | None, data: bytes, gas: int, **more: Any) -> Any:
        runs.append(data)
        return run(self, to, data, gas, **more)

    monkeypatch.setattr(type(chain), "_run", count)
    assert chain.call(store, data) == word(0)
    before = chain.gas(store, data)
    assert len(runs) == 1
    chain.transact(store, data)
    assert chain.call(store, data) == data
    assert chain.gas(store, data) < before
    assert len(runs) == 3
    chain.gas(store, word(8))
    chain.time += 1
    chain.gas(store, word(8))
    assert len(runs) == 5


def test_transient_storage_ends_with_the_transaction(chain: Chain) -> None:
    address = chain.deploy(init(TRANSIENT)).address
    chain.transact(address, b"")
    assert chain.call(address, b"") == word(0)


def test_plain_transfer_costs_21000(chain: Chain) -> None:
    assert chain.gas(chain.deploy(init("00")).address, b"") == 21_000


def test_storage_gas_is_the_specifications(chain: Chain) -> None:
    store = chain.deploy(init(STORE)).address
    base = 21_000 + 8 * 2 + 3 * 4  # PUSH0 is 2; CALLDATALOAD, MSTORE, PUSH1 and memory are 3
    full = 31 * 4 + 16
    figures = [chain.transact(store, word(value)).gas_used for value in (9, 9, 0)]
    assert figures[0] - figures[1] == 20_000 - 100
    refund = 4_800
    assert figures[1] - figures[2] == refund + 12 - (2_900 - 100)
    assert abs(figures[1] - (base + full + 2_100 + 100)) < 20


def test_calldata_floor(chain: Chain) -> None:
    echo = chain.deploy(init("00")).address
    assert chain.gas(echo, b"\xff" * 5_000) == 21_000 + 40 * 5_000
    assert chain.transact(echo, bytes(5_000)).gas_used == 21_000 + 10 * 5_000


def test_intrinsic_gas() -> None:
    assert intrinsic_gas(b"\x00\x01", create=False) == (21_020, 21_050)
    assert intrinsic_gas(bytes(33), create=True) == (21_000 + 132 + 32_000 + 4, 21_330)


@needs_revm
def test_revm_gas_is_py_evms() -> None:
    """Whole receipts, deploys included, over all that a contract of ours does and some that it does not."""
    chains: list[Chain] = [EmbeddedChain(), RevmChain()]

    def deploy(code: bytes) -> str:
        receipts = [chain.deploy(code) for chain in chains]
        assert receipts[0] == receipts[1]
        return receipts[0].address

    data = deploy(init(b"\x00" + bytes(range(256)) * 90))
    deploy(init(bytes(24_576)))
    deploy(b"")
    constructed = deploy(init(STORE, before="602a5f55"))
    factory = deploy(init(FACTORY))
    child = "0x" + chains[0].call(factory, b"")[12:].hex()
    calls = [
        *((deploy(init(STORE)), word(value)) for value in (0, 1)),
        *((constructed, word(value)) for value in (42, 43, 0, 0, 1)),
        (deploy(init(CLEAR)), b""),
        (deploy(init(TRANSIENT)), b""),
        *((deploy(init(LOOP)), word(count)) for count in (1, 1_000)),
        (deploy(init(HASH)), b""),
        *((deploy(init(SIZES)), word(account)) for account in (data, factory, "0x" + "99" * 20)),
        (deploy(init(LOG)), b"abc"),
        (factory, b""),
        (child, b""),
        (deploy(init(ECHO)), b"\xff" * 3_000),
        (deploy(init(ECHO)), bytes(3_000) + b"\x01" * 77),
    ]
    for address, calldata in calls:
        assert chains[0].call(address, calldata) == chains[1].call(address, calldata)
        asked = [chain.gas(address, calldata) for chain in chains]
        sent = [chain.transact(address, calldata).gas_used for chain in chains]
        assert asked[0] == asked[1] == sent[0] == sent[1]
        assert chains[0].code(address) == chains[1].code(address)


@needs_revm
def test_every_transaction_takes_a_nonce() -> None:
    addresses = []
    for chain in (RevmChain(), EmbeddedChain()):
        store = chain.deploy(init(STORE)).address
        chain.transact(store, word(1))
        with pytest.raises(Reverted):
            chain.deploy(bytes.fromhex("5f5ffd"))
        chain.transact(store, word(2))
        addresses.append((store, chain.deploy(init(ECHO)).address))
    assert addresses[0] == addresses[1]


@needs_revm
def test_calls_leave_nothing_behind_for_one_another() -> None:
    """Calls on revm share an EVM, each undone: an answer and its gas are those of the first call on a new chain."""

    def filled() -> tuple[RevmChain, list[tuple[str, bytes]]]:
        chain = RevmChain()
        made = {name: chain.deploy(init(code)).address for name, code in contracts.items()}
        chain.transact(made["STORE"], word(7))
        return chain, [(made[name], data) for name, data in asked]

    contracts = {
        "STORE": STORE,
        "SIZES": SIZES,
        "FACTORY": FACTORY,
        "TRANSIENT": TRANSIENT,
        "HASH": HASH,
        "REVERT": REVERT,
    }
    asked = [("STORE", word(1)), ("SIZES", word("0x" + "77" * 20)), ("FACTORY", b""), ("TRANSIENT", b""), ("HASH", b"")]
    asked += [("REVERT", b""), *asked, ("STORE", word(2)), ("REVERT", b"")]

    def answer(chain: RevmChain, question: tuple[str, bytes]) -> tuple[bytes, int]:
        try:
            return chain.call(*question), chain.gas(*question)
        except Reverted as error:
            return error.data, 0

    chain, questions = filled()
    together = [answer(chain, question) for question in questions]
    alone = []
    for index in range(len(questions)):
        fresh, same = filled()
        alone.append(answer(fresh, same[index]))
    assert together == alone
    chain.transact(*questions[0])  # what a transaction changes, the next call sees
    assert chain.call(*questions[0]) == word(1)


def test_biggest_code(chain: Chain) -> None:
    assert chain.deploy(init(bytes(24_576))).code_size == 24_576
    with pytest.raises(ContractLimitError, match=r"24,577 bytes; a chain allows 24,576 \(EIP-170\)"):
        chain.deploy(init(bytes(24_577)))


def test_biggest_init_code(chain: Chain) -> None:
    code = init("00")
    chain.deploy(code.ljust(49_152, b"\x00"))
    with pytest.raises(ContractLimitError, match=r"49,153 bytes; a chain allows 49,152 \(EIP-3860\)"):
        chain.deploy(code.ljust(49_153, b"\x00"))


def test_transaction_gas_limit(chain: Chain) -> None:
    touch = chain.deploy(init(TOUCH)).address
    gas = chain.gas(touch, word(3_000_000))  # eth_call is free of the limit
    assert gas > TX_GAS_LIMIT
    with pytest.raises(ContractLimitError, match=f"needs {gas:,} gas; a transaction may use 16,777,216"):
        chain.transact(touch, word(3_000_000))
    assert TX_GAS_LIMIT * 0.99 < chain.transact(touch, word(2_930_000)).gas_used <= TX_GAS_LIMIT


def test_deploy_gas_limit(chain: Chain) -> None:
    with pytest.raises(
        ContractLimitError, match=r"deploying needs 17,\d{3},\d{3} gas; a transaction may use 16,777,216"
    ):
        chain.deploy(bytes.fromhex("5f" + "622dc6c0" + "52" + "00"))  # touches memory at 3,000,000


def test_calldata_alone_exceeds_the_limit(chain: Chain) -> None:
    address = chain.deploy(init("00")).address
    with pytest.raises(ContractLimitError, match="the transaction needs 20,021,000 gas"):
        chain.transact(address, b"\x01" * 500_000)


@pytest.mark.parametrize("kind", [EmbeddedChain, pytest.param(RevmChain, marks=needs_revm)])
def test_call_allowance(kind: type[EmbeddedChain | RevmChain]) -> None:
    chain = kind(call_gas=1_000_000)
    loop = chain.deploy(init(LOOP)).address
    chain.call(loop, word(1_000))
    with pytest.raises(ContractLimitError, match="needs more than 1,000,000 gas"):
        chain.call(loop, word(1_000_000))


@pytest.mark.parametrize("kind", [EmbeddedChain, pytest.param(RevmChain, marks=needs_revm)])
def test_what_is_asked_runs_out(kind: type[EmbeddedChain | RevmChain]) -> None:
    """A code contract that runs out leaves its caller a 64th, and that reverts without data: it is gas all the same."""
    chain = kind(call_gas=1_000_000)
    loop = chain.deploy(init(LOOP)).address
    # calldata on to the loop · PUSH0 PUSH0 CALLDATASIZE PUSH0 PUSH20 loop GAS STATICCALL · ISZERO PUSH1 fail JUMPI STOP
    ask = "365f5f37" + "5f5f365f73" + loop[2:].lower() + "5afa" + "15602457" + "00" + "5b5f5ffd"
    asking = chain.deploy(init(ask)).address
    chain.call(asking, word(1_000))
    with pytest.raises(ContractLimitError, match="needs more than 1,000,000 gas"):
        chain.call(asking, word(1_000_000))


def test_open_chain() -> None:
    with open_chain("embedded") as chain:
        assert isinstance(chain, RevmChain if revm_is_installed() else EmbeddedChain)
    with pytest.raises(UnknownNameError, match="unknown chain 'embeded'") as caught, open_chain("embeded"):
        pass
    assert "did you mean 'embedded'" in str(caught.value)
    with pytest.raises(ToolchainError, match="does not answer"), open_chain("http://127.0.0.1:9"):
        pass


def test_no_anvil(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ML2SC_ANVIL", "anvil")
    with pytest.raises(ToolchainError, match="no executable anvil"), open_chain("anvil"):
        pass


def pretend_anvil(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """Put a program `anvil` on PATH: a node around `EmbeddedChain`."""
    node = Path(__file__).parent / "pretend_node.py"
    (folder / "anvil").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{node}" {" ".join(options)} "$@"\n')
    (folder / "anvil").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_json_rpc_through_anvil(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_anvil(tmp_path, monkeypatch)
    local = EmbeddedChain()
    with open_chain("anvil") as chain:
        assert chain.name == "chain 31337 (pretend node)"
        receipt = chain.deploy(init(ECHO))
        assert receipt == local.deploy(init(ECHO))
        echo = receipt.address
        assert chain.code(echo) == bytes.fromhex(ECHO)
        assert chain.call(echo, b"abc") == b"abc"
        assert chain.gas(echo, b"abc") == chain.transact(echo, b"abc").gas_used == local.gas(echo, b"abc")
        reverting = chain.deploy(init(REVERT)).address
        with pytest.raises(Reverted) as caught:
            chain.call(reverting, b"")
        assert caught.value.data == bytes.fromhex("deadbeef")
        with pytest.raises(Reverted, match=r"transaction .* failed"):
            chain.transact(reverting, b"")


def test_only_a_chain_of_our_own_is_written_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_anvil(tmp_path, monkeypatch)
    with anvil() as url:
        chain = RpcChain(url)
        assert chain.gas("0x" + "66" * 20, b"") == 21_000
        with pytest.raises(ToolchainError, match="nothing is sent to"):
            chain.deploy(init(ECHO))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills the children of a killed process")
def test_anvil_ends_with_us(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_anvil(tmp_path, monkeypatch)
    told = tmp_path / "url"
    code = f"""
import pathlib, time
from ml2sc.runtime.node import anvil
with anvil() as url:
    pathlib.Path({str(told)!r}).write_text(url)
    time.sleep(600)
"""
    parent = forking.start("-c", code)
    awaited(lambda: told.exists() and told.read_text())
    port = int(told.read_text().rsplit(":", 1)[1])
    assert is_listened_to(port)
    parent.kill()
    assert parent.wait() == -signal.SIGKILL
    awaited(lambda: not is_listened_to(port))


def awaited(condition: Callable[[], Any]) -> None:
    """Wait until a condition gives something."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def is_listened_to(port: int) -> bool:
    """Return whether somebody takes connections to a port of this machine."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def test_anvil_that_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "anvil").write_text("#!/bin/sh\nexit 2\n")
    (tmp_path / "anvil").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match="anvil ended with 2"), open_chain("anvil"):
        pass
