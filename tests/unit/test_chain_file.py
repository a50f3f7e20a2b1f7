"""Chain profiles by name, and from files of the user's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ml2sc
from ml2sc.chain_file import chain_profile
from ml2sc.errors import UsageError
from ml2sc.ir.chains import PROFILES


def test_a_name() -> None:
    assert chain_profile("monad") is PROFILES["monad"]
    every = "known: ethereum, glamsterdam, base, op, bnb, arbitrum, monad, megaeth; or a file of yours, FILE.toml"
    for name in ("polygon", "monat", "../monad", ""):
        with pytest.raises(UsageError, match=f"unknown chain profile '{re.escape(name)}'") as caught:
            chain_profile(name)
        assert caught.value.hint == every


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nlike = "monad"\ncode_limit = 65_536\nchain_ids = [123]\n')
    mine = chain_profile(str(path))
    assert (mine.name, mine.code_limit, mine.chain_ids) == ("mine", 65_536, (123,))
    assert mine.cold_account == 10_100, "the rest is Monad's"
    path.write_text('name = "mine"')
    assert (chain_profile(str(path)).chain_ids, chain_profile(str(path)).transaction_gas) == ((), 1 << 24)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "mine"\n\ncode_limit = -5\n', ", line 3: code_limit: not a whole number from 1,024"),
        ('name = "mine"\n"gas" = 5\n', ", line 2: gas: there is no such entry"),
        ('like = "solana"\nname = "mine"\n', ", line 1: like: no known profile"),
        ('name = "monad"\n', ", line 1: name: monad is known already"),
        ('name = "prague"\n', ", line 1: name: prague is known already"),
        ("code_limit = 65_536\n", ": it has no name"),
        ('name = "mine"\n[deposit]\nx = 1\n', ", line 2: deposit: not a whole number"),
        ("name = \n", "is not TOML: .*line 1"),
        ("\x00", "is not TOML"),
        ("a = " + "[" * 5_000, "is not TOML"),
        ('name = "\\u001b[31m"\n', ", line 1: name: not 1 to 40"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        chain_profile(str(path))
    assert "\x1b" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the chain profile .*: No such file"):
        chain_profile(str(tmp_path / "none.toml"))
    (tmp_path / "large.toml").write_bytes(b"#" * 70_000)
    with pytest.raises(UsageError, match="it has 70,000 bytes"):
        chain_profile(str(tmp_path / "large.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is no text"):
        chain_profile(str(tmp_path / "binary.toml"))


def test_the_evm_of_a_chain() -> None:
    """A chain that knows Prague's machine only is given none of Osaka's instructions."""
    with pytest.raises(UsageError, match="monad knows the EVM up to prague, not osaka"):
        ml2sc.Options(chain_profile=PROFILES["monad"], fork="osaka").check()
    ml2sc.Options(chain_profile=PROFILES["ethereum"], fork="prague").check()
