"""Before anything is spent: who pays, how much at most, whether they agree, and that nobody else is at work."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from eth_account import Account
from support.bad_day import proxy
from support.small_plan import assert_right, nonce
from support.small_plan import deploy as carry_out
from support.terminal import terminal

import ml2sc
from ml2sc.cli import deploy
from ml2sc.runtime.journal import open_journal, read_journal
from ml2sc.runtime.node import anvil
from ml2sc.runtime.rpc import Rpc

pytestmark = pytest.mark.anvil

GWEI = 10**9


@pytest.fixture
def folder(build: Callable[[str], ml2sc.Artifact], tmp_path: Path) -> Path:
    ml2sc.write_folder(build("vyper"), tmp_path / "out")
    return tmp_path / "out"


Deploy = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(node: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Deploy:
    """Return a function that runs ml2sc-deploy and returns its exit status, stdout and stderr."""

    def run(*arguments: str, url: str = node) -> tuple[int, str, str]:
        capsys.readouterr()
        status = deploy.main([str(folder), "--chain", url, *arguments])
        return status, *capsys.readouterr()

    return run


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("answer", ["n", "", "yes please", "N"])
def test_no_spends_nothing(node: str, run: Deploy, folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    before, there = nonce(node), files(folder)
    with terminal(monkeypatch, answer) as screen:
        status, out, _ = run("--unlocked")
    assert (status, out) == (1, "")
    assert "Send these transactions? [y/N]" in screen.text
    assert "nothing was sent" in screen.text
    assert nonce(node) == before
    assert files(folder) - there <= {"deployments"}
    assert not list((folder / "deployments").glob("*.json"))


@pytest.mark.parametrize("answer", ["y", "YES"])
def test_yes_sees_the_price_first_then_a_bar(
    node: str, run: Deploy, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    before = nonce(node)
    with terminal(monkeypatch, answer) as screen:
        status, out, _ = run("--unlocked")
    assert status == 0
    assert "is deployed" in out
    assert nonce(node) == before + 3
    table, asked, rest = screen.text.partition("Send these transactions?")
    assert asked
    assert all(name in table for name in ("weights 0", "weights 1", "contract", "total", "ETH"))
    assert "weights 0:   0%" in rest
    assert "contract:  67%" in rest


def test_a_dry_run_needs_no_payer(node: str, run: Deploy, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be paid is known without who pays; who is named besides sees whether it is enough."""
    monkeypatch.delenv("ML2SC_PRIVATE_KEY", raising=False)
    before, there = nonce(node), files(folder)
    status, out, err = run("--dry-run")
    assert status == 0, err
    assert "nobody named to pay" in out
    assert "the account has" not in out
    with_payer = run("--dry-run", "--unlocked")[1]
    assert "the account has" in with_payer
    rows = [[line for line in text.splitlines() if line.startswith("  contract")] for text in (out, with_payer)]
    assert rows[0] == rows[1] != []
    assert run("--yes")[0] == 2
    assert (nonce(node), files(folder)) == (before, there)


def test_nobody_to_ask(node: str, run: Deploy, folder: Path) -> None:
    before = nonce(node)
    status, out, err = run("--unlocked")
    assert (status, out) == (2, "")
    assert "give --yes" in err
    assert nonce(node) == before
    assert not (folder / "deployments" / "31337.json").exists()


def test_prices_turn_gas_into_money(node: str, run: Deploy, folder: Path) -> None:
    before = nonce(node)
    for wrong in (("--gas-price", "-1"), ("--eth-price", "3000")):
        status, out, err = run("--unlocked", "--yes", *wrong)
        assert (status, out) == (2, "")
        assert "price" in err
    assert nonce(node) == before
    prices = ("--gas-price", "5", "--eth-price", "3000")
    money = r"the total at --gas-price 5: ([\d,]+) \(([\d.]+) ether, \$([\d.,]+)\)"
    assert "--gas-price" not in run("--unlocked", "--dry-run")[1]
    quoted = re.search(money, run("--unlocked", "--dry-run", *prices)[1])
    assert quoted is not None
    assert float(quoted[2]) == pytest.approx(5e-9 * int(quoted[1].replace(",", "")), rel=0.01)
    for _ in range(2):  # the second sends nothing, and tells what was paid
        _, out, _ = run("--unlocked", "--yes", *prices)
        assert f"  gas          {quoted[1]} ({quoted[2]} ether, ${quoted[3]})" in out


def test_another_run_is_at_work(node: str, run: Deploy, folder: Path) -> None:
    """Two deployers with one journal: the second says so and goes."""
    before = nonce(node)
    with open_journal(folder / "deployments" / "31337.json", plan="p", chain_id=1, genesis="g", sender="s"):
        status, out, err = run("--unlocked", "--yes")
    assert (status, out) == (1, "")
    assert "another run is at work with the journal" in err
    assert nonce(node) == before
    assert run("--unlocked", "--yes")[0] == 0


def test_two_runs_of_one_account(node: str, tmp_path: Path) -> None:
    """With journals of their own they take the same nonces: one step is mined, the other is done anew."""
    signed, first = threading.Barrier(2), itertools.count()

    def hook(number: int, method: str, ask: Callable[[], bytes]) -> bytes:
        if method == "eth_sendRawTransaction" and next(first) < 2:
            signed.wait(timeout=60)  # so that both have signed before either sends
        return ask()

    before, addresses = nonce(node), {}

    def go(name: str, url: str) -> None:
        addresses[name] = carry_out(url, tmp_path / name, name, names=name)

    with proxy(node) as bad:
        bad.hook = hook
        threads = [threading.Thread(target=go, args=(name, bad.url)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in "ab":
        assert_right(node, addresses[name], tmp_path / name, name)
    assert nonce(node) == before + 2
    journals = [read_journal(tmp_path / name) for name in "ab"]
    assert sum(len(journal.past) for journal in journals if journal is not None) == 1


def test_wrong_chain(node: str, run: Deploy, folder: Path) -> None:
    before = nonce(node)
    status, out, err = run("--unlocked", "--yes", "--chain-id", "1")
    assert (status, out) == (2, "")
    assert "is on chain 31337, not 1" in err
    assert nonce(node) == before
    assert not (folder / "deployments" / "31337.json").exists()
    assert run("--unlocked", "--dry-run", "--chain-id", "31337")[0] == 0


def test_base_fee_above_the_most(node: str, run: Deploy, folder: Path) -> None:
    before = nonce(node)
    status, out, err = run("--unlocked", "--yes", "--max-fee", "0.000000001")
    assert (status, out) == (3, "")
    assert "wei a gas, more than the 1 that may be paid" in err
    assert "wait, or allow more with --max-fee" in err
    assert nonce(node) == before
    assert not (folder / "deployments" / "31337.json").exists()


def test_the_most_is_the_most(run: Deploy, folder: Path) -> None:
    """No transaction offers more, neither at first nor when the base fee has risen since."""
    with anvil("prague", "--base-fee", str(10 * GWEI)) as url:
        rpc = Rpc(url)
        rpc.request("evm_setAutomine", False)
        fees = ("--max-fee", "12", "--tip", "5", "--unlocked", "--yes", "--wait", "0.1")
        assert run(*fees, url=url)[0] == 3
        attempts = [
            a
            for e in json.loads((folder / "deployments" / "31337.json").read_text())["entries"].values()
            for a in e["attempts"]
        ]
        assert {(a["max_fee"], a["tip"]) for a in attempts} == {(12 * GWEI, 2 * GWEI)}
        rpc.request("anvil_dropAllTransactions")
        rpc.request("anvil_setNextBlockBaseFeePerGas", hex(12 * GWEI + 1))
        rpc.request("evm_mine")
        status, _, err = run(*fees, url=url)
        assert status == 3
        assert "the base fee is 12,000,000,001 wei a gas, more than the 12,000,000,000 that may be paid" in err
        rpc.request("anvil_dropAllTransactions")
        rpc.request("anvil_setNextBlockBaseFeePerGas", hex(12 * GWEI + 1))
        rpc.request("evm_mine")
        status, _, err = run("--max-fee", "13", *fees[2:], url=url)
        assert status == 3
        assert "weights 0: to replace what was sent takes an offer of 13,500,000,001 wei a gas" in err
        rpc.request("evm_setAutomine", True)
        rpc.request("anvil_setNextBlockBaseFeePerGas", hex(12 * GWEI + 1))
        rpc.request("evm_mine")
        assert run("--max-fee", "20", *fees[2:6], url=url)[0] == 0
        entries = json.loads((folder / "deployments" / "31337.json").read_text())["entries"].values()
        assert max(a["max_fee"] for e in entries for a in e["attempts"]) <= 20 * GWEI
        assert rpc.quantity("eth_getTransactionCount", rpc.request("eth_accounts")[0], "latest") == 3


def test_poor_account(run: Deploy, folder: Path) -> None:
    with anvil("prague", "--balance", "0") as url:
        status, out, err = run("--unlocked", "--yes", url=url)
    assert (status, out) == (1, "")
    assert "the account has 0 ETH and this costs 0." in err
    assert not (folder / "deployments" / "31337.json").exists()


KEY, PASSPHRASE = "5a" * 31 + "3c", "correct horse battery staple"


def leaks(text: str) -> list[str]:
    """Return what a text tells of the key and the passphrase."""
    key = bytes.fromhex(KEY)
    forms = (KEY, str(int(KEY, 16)), key.decode("latin-1"), repr(key)[2:-1], PASSPHRASE)
    return [secret for secret in forms if secret in text]


def test_secrets_are_told_to_nobody(
    node: str, run: Deploy, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever succeeds or fails, with all notes and tracebacks on: neither on a screen nor in a file."""
    rpc, said = Rpc(node), []
    keystore, passphrase = tmp_path / "key.json", tmp_path / "passphrase"
    keystore.write_text(json.dumps(Account.encrypt("0x" + KEY, PASSPHRASE, kdf="pbkdf2", iterations=2)))
    passphrase.write_text(PASSPHRASE + "\n")
    account = Account.from_key(KEY).address
    opened = ("--keystore", str(keystore), "--passphrase-file", str(passphrase), "--yes", "-v")

    def expect(wanted: int, *arguments: str, url: str = node) -> str:
        status, out, err = run(*arguments, url=url)
        assert status == wanted, err
        said.append(out + err)
        return err

    def forbidden(number: int, method: str, ask: Callable[[], bytes]) -> bytes | int:
        return 403 if method == "eth_sendRawTransaction" else ask()

    assert "costs" in expect(1, *opened)  # it has no money
    rpc.request("anvil_setBalance", account, hex(10**18))
    monkeypatch.setenv("ML2SC_PASSPHRASE", PASSPHRASE + "?")
    assert "the passphrase does not open the keystore" in expect(1, "--keystore", str(keystore), "--yes", "-v")
    monkeypatch.setenv("ML2SC_PRIVATE_KEY", KEY + "5a")
    assert "holds no valid private key" in expect(1, "--yes", "-v")
    monkeypatch.setenv("ML2SC_PRIVATE_KEY", KEY)
    expect(2, "-v")  # nobody to ask
    expect(0, "--dry-run", "-v")
    with proxy(node) as bad:
        bad.hook = forbidden
        expect(3, "--yes", "-v", url=bad.url)
    expect(0, *opened)
    expect(0, "--yes", "-v", "--journal", str(folder / "second.json"))
    # What people do instead of what they should:
    expect(2, "--yes", "--private-key", "0x" + KEY)
    expect(2, "--yes", f"--private-key={KEY}")
    for option in ("--key-env", "--unlocked", "--keystore"):
        assert "a key is never given on the command line" in expect(2, "--yes", "-v", option, "0x" + KEY)
    for text in said:
        assert leaks(text) == []
    for path in tmp_path.rglob("*"):
        if path.is_file() and path != passphrase:
            assert leaks(path.read_bytes().decode("latin-1")) == [], path
    assert leaks("0x" + KEY + PASSPHRASE) == [KEY, PASSPHRASE]


def test_passphrase_is_asked_for_unseen(
    node: str, run: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keystore = tmp_path / "key.json"
    keystore.write_text(json.dumps(Account.encrypt("0x" + KEY, PASSPHRASE, kdf="pbkdf2", iterations=2)))
    Rpc(node).request("anvil_setBalance", Account.from_key(KEY).address, hex(10**18))
    asked: list[str] = []

    def getpass(prompt: str, stream: object) -> str:
        asked.append(prompt)
        return PASSPHRASE

    monkeypatch.setattr("getpass.getpass", getpass)
    with terminal(monkeypatch) as screen:
        assert run("--keystore", str(keystore), "--yes")[0] == 0
    assert asked == [f"Passphrase of {keystore}: "]
    assert leaks(screen.text) == []
    status, _, err = run("--keystore", str(keystore), "--yes", "--journal", str(tmp_path / "other.json"))
    assert status == 1
    assert "the keystore's passphrase is needed" in err
