"""What a rollup asks for a transaction's bytes: forecast by its formula, read from it before anything is sent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from eth_account import Account
from support.networks import dense
from support.pretend_chain import GWEI, KEY, PretendChain

import ml2sc
from ml2sc.backends.summary import sheet_of
from ml2sc.cli import compile, deploy  # noqa: A004
from ml2sc.ir.data_fee import compressed_size
from ml2sc.money import Prices
from ml2sc.runtime.chain import CREATE2_PROXY, revm_is_installed
from ml2sc.runtime.contract import encode_call
from ml2sc.runtime.data_fee import ORACLE
from ml2sc.runtime.deploy import constructor_arguments, holder
from ml2sc.runtime.transport import Transport

pytestmark = pytest.mark.skipif(not revm_is_installed(), reason="no pyrevm")

BASE = 8_453
NODE = "https://base.example"
WITHIN = 0.02
PRICES = (3 * GWEI, GWEI // 5)
"""Of gas and of blobs on Ethereum, in wei."""
AS_LONG = bytes.fromhex("365f5260205ff3")
"""Code of an oracle for which a byte of the question costs a wei."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, toolchain: ml2sc.Toolchain) -> Path:
    place = tmp_path_factory.mktemp("rollup")
    options: dict[str, Any] = {"input_ranges": ((0.0, 1.0),), "chain_profile": "base", "weights": "data"}
    artifact = ml2sc.build(ml2sc.compile(dense(300, 4, 3), precision="int8", name="Net", **options), toolchain)
    ml2sc.write_folder(artifact, place / "net")
    return place / "net"


def by_hand(sent: list[tuple[str | None, bytes]]) -> int:
    """Return the fees of transactions, as they are signed, by the formula on the chain's pages and Base's scalars."""
    total = 0
    for to, data in sent:
        fields: dict[str, Any] = {"maxFeePerGas": 10**7, "maxPriorityFeePerGas": 10**6, "gas": 900_000, "nonce": 77}
        fields |= {"chainId": BASE, "data": data, "value": 0, **({} if to is None else {"to": to})}
        size = compressed_size(Account.sign_transaction(fields, KEY).raw_transaction)
        estimated = max(100_000_000, 836_500 * size - 42_585_600)
        total += estimated * (16 * 2_269 * PRICES[0] + 1_055_762 * PRICES[1]) // 10**12
    return total


def test_forecast(folder: Path) -> None:
    artifact = ml2sc.load_folder(folder)
    assert artifact.bytecode is not None
    assert len(artifact.data) == 1
    said = dict(sheet_of(artifact, Prices(below=(3, 0.2))).facts)["data fee"]
    inference, deployed = (float(figure) for figure in re.findall(r"([\d.]+) ether", said))
    drawn = np.random.default_rng(1).bytes(300)
    asked = [encode_call(artifact.abi, "predictPacked", x) for x in (drawn, bytes(300))]
    dearest, cheapest = (by_hand([(CREATE2_PROXY, data)]) / 10**18 for data in asked)
    assert inference == pytest.approx(dearest, rel=WITHIN)
    assert cheapest < inference
    init = artifact.bytecode.creation + constructor_arguments(artifact, CREATE2_PROXY, CREATE2_PROXY)
    weights = holder(0, artifact.codes[0]).data
    assert deployed == pytest.approx(by_hand([(None, init), (CREATE2_PROXY, weights)]) / 10**18, rel=WITHIN)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--l1-fees", "3,0.2"), "rollup of the OP Stack only"),
        (("--l1-fees", "3,0.2", "--chain-profile", "arbitrum"), "rollup of the OP Stack only"),
        (("--l1-fees", "3", "--chain-profile", "op"), "two numbers"),
        (("--l1-fees", "-1,1", "--chain-profile", "op"), "below 0"),
        (("--l1-fees", "nan,1", "--chain-profile", "op"), "below 0"),
    ],
)
def test_prices_that_are_none(
    options: tuple[str, ...], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(dense(4, 3), tmp_path / "net.onnx")
    out = tmp_path / "out"
    status = compile.main([str(tmp_path / "net.onnx"), "--precision", "int8", "-o", str(out), *options])
    assert status == 2
    assert text in capsys.readouterr().err
    assert not out.exists()


def test_the_chain_says_it(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The oracle is asked with each transaction; what it says is shown, and counted before anything is sent."""
    node = PretendChain(chain_id=BASE)
    monkeypatch.setattr(Transport, "post", lambda _, body, limit: node.post(body, limit))
    monkeypatch.setenv("ML2SC_PRIVATE_KEY", KEY)
    arguments = [str(folder), "--chain", NODE, "--dry-run"]

    def quoted() -> dict[str, Any]:
        assert deploy.main([*arguments, "--json"]) == 0
        return dict(json.loads(capsys.readouterr().out))

    before = quoted()
    assert before["data_fee"] == 0
    node._chain._nonces[ORACLE] = 1  # with which it is an account
    node._chain._codes[ORACLE] = AS_LONG
    found = quoted()
    each = [line["data_fee"] for line in found["transactions"]]
    sizes = [line["data_bytes"] for line in found["transactions"]]
    assert all(0 < fee - size < 300 for fee, size in zip(each, sizes, strict=True))
    assert found["data_fee"] == sum(each)
    assert found["fee"] == before["fee"] + sum(each)
    assert deploy.main(arguments) == 0
    assert "are for the transactions' bytes, by the chain's word" in capsys.readouterr().out
    node._chain._codes[ORACLE], node._chain._idle = b"\x00", None
    assert deploy.main(arguments) == 3
    assert "says no fee for a transaction's bytes" in capsys.readouterr().err
