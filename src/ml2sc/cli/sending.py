"""What every command that sends transactions shares: who pays, how much, and whether to ask."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ml2sc.errors import Ml2scError, OtherChainWarning, SigningKeyError, UsageError, warn
from ml2sc.foreign import looks_secret
from ml2sc.jsontext import json_text
from ml2sc.sheet import table

from .common import add_prices, heading, hide, prices_of

if TYPE_CHECKING:
    from ml2sc.backends.base import Artifact
    from ml2sc.runtime.journal import Journal
    from ml2sc.runtime.node import RpcChain
    from ml2sc.runtime.rpc import Rpc
    from ml2sc.runtime.signer import Signer
    from ml2sc.runtime.transactions import FeeOptions, Plan, Quote

_GWEI = 10**9

_MAX_FEE = (
    "the most to pay a unit of gas (default: twice the base fee and the tip, but no more than 500; "
    "as the gas price of a chain without EIP-1559 what the node asks, but no more than 30)"
)
_TIP = "what to offer above the base fee (default: what the node suggests, but no more than 30)"

_DEVELOPMENT_CHAINS = frozenset({1337, 31337})
"""Numbers of the chains that development nodes (geth, Ganache; Hardhat, anvil) begin."""


def add_payment_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that send transactions: who pays, how much, and whether to ask."""
    group = parser.add_argument_group("who pays (keys are never given on the command line)")
    who = group.add_mutually_exclusive_group()
    who.add_argument("--keystore", metavar="FILE", help="an encrypted keystore file")
    who.add_argument(
        "--key-env", metavar="NAME", help="the environment variable with the private key (default: ML2SC_PRIVATE_KEY)"
    )
    who.add_argument(
        "--unlocked", nargs="?", const="", metavar="0x...", help="an account the node holds; its first by default"
    )
    add = parser.add_argument_group("paying").add_argument
    add(
        "--passphrase-file",
        metavar="FILE",
        help="the keystore's passphrase (default: ML2SC_PASSPHRASE, or it is asked for)",
    )
    add(
        "--chain-id",
        type=int,
        metavar="N",
        help="refuse a node of any other chain; needed with --yes, unless the node is on this machine",
    )
    add("--dry-run", action="store_true", help="show the transactions and what they cost; send nothing")
    add("--yes", action="store_true", help="do not ask before spending")
    add("--max-fee", type=_gwei, metavar="GWEI", help=_MAX_FEE)
    add("--tip", type=_gwei, metavar="GWEI", help=_TIP)
    add("--wait", type=float, default=600.0, metavar="SECONDS", help="how long to wait for each transaction (600)")
    add_prices(parser)


def _gwei(text: str) -> int:
    try:
        wei = Decimal(text) * _GWEI
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not wei.is_finite() or wei < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no fee")
    return int(wei)


@dataclass
class Sending:
    """Carries plans out on a node, with the journal, the quote and the questions that every command has.

    Args:
        arguments: The command's, with `add_payment_options`.
        chain: The node.
        path: Where the journal is.
        own: Whether the chain is there to be tried out: its account pays, and nobody is asked.
        owner: Whose part a dry run takes where no payer is named; None: no account's.
    """

    arguments: argparse.Namespace
    chain: RpcChain
    path: Path
    own: bool
    owner: str | None = None

    @cached_property
    def signer(self) -> Signer:
        """Who pays."""
        from ml2sc.runtime.journal import read_journal
        from ml2sc.runtime.signer import NO_ACCOUNT, Nobody

        if self.arguments.dry_run and not self.own and not payer_is_named(self.arguments):
            journal = read_journal(self.path)
            return Nobody(self.owner or NO_ACCOUNT if journal is None else journal.sender)
        return make_signer(self.arguments, self.chain.rpc, own=self.own)

    def _where(self, plan: Plan) -> dict[str, Any]:
        rpc = self.chain.rpc
        return {
            "plan": plan.identity,
            "chain_id": rpc.chain_id,
            "genesis": rpc.genesis,
            "sender": self.signer.address,
        }

    def show(self, plan: Plan) -> None:
        """Print what a plan would cost (`--dry-run`)."""
        from ml2sc.runtime.journal import read_journal, require_same
        from ml2sc.runtime.transactions import examine

        journal = read_journal(self.path)
        if journal is not None:
            require_same(journal, **self._where(plan))
            examine(plan, self.chain.rpc, self.signer.address, journal)
        self._print_quote(plan, journal, sys.stdout)

    def _print_quote(self, plan: Plan, journal: Journal | None, stream: TextIO) -> Quote:
        from ml2sc.runtime.signer import Nobody
        from ml2sc.runtime.transactions import quote

        costs = quote(plan, self.chain.rpc, self.signer.address, journal, fee_options(self.arguments))
        sender = None if isinstance(self.signer, Nobody) else self.signer.address
        print_quote(costs, self.chain.name, sender, self.arguments, stream)
        return costs

    @contextmanager
    def journal(self, plan: Plan) -> Iterator[Journal]:
        """Open the plan's journal, and keep other runs out of it until the end of the block."""
        from ml2sc.runtime.journal import open_journal
        from ml2sc.runtime.transactions import examine

        with open_journal(self.path, **self._where(plan)) as journal:
            examine(plan, self.chain.rpc, self.signer.address, journal)
            yield journal

    def carry_out(self, plan: Plan, journal: Journal, until: Plan | None = None) -> dict[str, str]:
        """Show the costs, ask, and send what is not done.

        Args:
            plan: What is to be done, which is shown.
            journal: Its journal.
            until: The part of it that is done now; None: all of it.

        Returns:
            The contracts created, by the names of the steps.
        """
        from ml2sc.runtime.transactions import execute

        now = until or plan
        if any(step.name not in journal.entries or not journal.entries[step.name].done for step in now.steps):
            self._print_quote(plan, journal, sys.stderr).require_possible()
            confirm(self.own or self.arguments.yes)
        with progress_bar(quiet=self.arguments.quiet) as progress:
            return execute(
                now,
                self.chain.rpc,
                self.signer,
                journal,
                fees=fee_options(self.arguments),
                wait=self.arguments.wait,
                progress=progress,
            )


def totals(journal: Journal) -> dict[str, Any]:
    """Return what a journal's transactions cost, as JSON values."""
    entries = [*journal.entries.items(), *journal.past]
    return {
        "chain_id": journal.chain_id,
        "sender": journal.sender,
        "transactions": [
            {"step": name, "hash": entry.mined, "address": entry.address, "gas": entry.gas_used, "fee": entry.fee}
            for name, entry in entries
        ],
        "sent": journal.sent,
        "gas": sum(entry.gas_used for _, entry in entries),
        "fee": sum(entry.fee for _, entry in entries),
    }


def priced(gas: int, arguments: argparse.Namespace) -> str:
    """Return so much gas in words, with what it costs at the prices that the user names."""
    return f"{gas:,}{prices_of(arguments).of(gas)}"


def said_sent(count: int) -> str:
    """Return how many transactions a run has sent, in words: none must not look like some."""
    return f"{count:,} transaction{'s' if count > 1 else ''} now" if count else "nothing now: all was done before"


def open_node(url: str, arguments: argparse.Namespace) -> RpcChain:
    """Return the chain behind a node.

    Raises:
        UsageError: it is not the chain that `--chain-id` asks for, or nobody is asked and nothing is said of the chain.
    """
    from ml2sc.runtime.node import RpcChain

    chain = RpcChain(url)
    if arguments.chain_id not in (None, chain.rpc.chain_id):
        raise UsageError(
            f"the node at {chain.rpc.host} is on chain {chain.rpc.chain_id}, not {arguments.chain_id}",
            hint="is the node's URL right?",
        )
    ours = chain.rpc.is_local and chain.rpc.chain_id in _DEVELOPMENT_CHAINS  # a tunnel to a real chain is local, too
    if arguments.yes and not arguments.dry_run and arguments.chain_id is None and not ours:
        raise UsageError(
            f"--yes needs --chain-id: the node at {chain.rpc.host} says it is on chain {chain.rpc.chain_id}, and what "
            "is signed is valid there, whatever chain was meant",
            hint=f"give --chain-id {chain.rpc.chain_id} if that is the chain",
        )
    return chain


def warn_of_chain(artifact: Artifact, chain_id: int) -> None:
    """Warn if a chain is another one than an artifact is for."""
    from ml2sc.ir.chains import ChainProfile, owner_of

    entries = artifact.manifest["options"].get("chain_profile")
    if entries is None or chain_id in _DEVELOPMENT_CHAINS:
        return
    profile, owner = ChainProfile.of(entries), owner_of(chain_id)
    if chain_id in profile.chain_ids or (owner is None and not profile.chain_ids):
        return
    whose = f"which is {owner.name}'s" if owner is not None else f"and {profile.name} is {said_ids(profile.chain_ids)}"
    text = f"{artifact.name} is for {profile.name}, and this is chain {chain_id}, {whose}"
    warn(f"{text}: its limits and prices may be others", OtherChainWarning)


def said_ids(chain_ids: Sequence[int]) -> str:
    """Return the numbers of chains in words."""
    return f"chain {' or '.join(map(str, chain_ids))}"


def fee_options(arguments: argparse.Namespace) -> FeeOptions:
    """Return the user's wishes about fees."""
    from ml2sc.runtime.transactions import FeeOptions

    return FeeOptions(arguments.max_fee, arguments.tip)


def payer_is_named(arguments: argparse.Namespace) -> bool:
    """Return whether the options, or the environment, name somebody who pays."""
    from ml2sc.runtime.signer import KEY_VARIABLE

    given = (arguments.keystore, arguments.unlocked, arguments.key_env)
    return any(who is not None for who in given) or KEY_VARIABLE in os.environ


def make_signer(arguments: argparse.Namespace, rpc: Rpc, *, own: bool) -> Signer:
    """Return who signs, as the options say; a chain of our own has an account for us.

    Raises:
        UsageError: nobody is named, or a key is given.
        SigningKeyError: the key cannot be used.
    """
    from ml2sc.runtime.signer import KEY_VARIABLE, KeySigner, KeystoreSigner, NodeSigner

    hide(os.environ.get(arguments.key_env or KEY_VARIABLE, ""))
    if any(looks_secret(str(text)) for text in (arguments.keystore, arguments.key_env, arguments.unlocked)):
        raise UsageError(
            "a key is never given on the command line: others can see it there, and the shell keeps it",
            hint="--keystore takes a file, --key-env the name of a variable, --unlocked an account",
        )
    if arguments.keystore is not None:
        return KeystoreSigner(arguments.keystore, lambda: _passphrase(arguments))
    if arguments.unlocked is not None or own:
        return NodeSigner(rpc, arguments.unlocked or None)
    if arguments.key_env is not None or KEY_VARIABLE in os.environ:
        return KeySigner(arguments.key_env or KEY_VARIABLE)
    raise UsageError(
        "nobody is named to pay", hint=f"give --keystore FILE, --unlocked, or a key in the variable {KEY_VARIABLE}"
    )


def _passphrase(arguments: argparse.Namespace) -> str:
    from ml2sc.runtime.signer import PASSPHRASE_VARIABLE

    if arguments.passphrase_file is not None:
        try:
            return Path(arguments.passphrase_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            # Without its name: somebody may have typed the passphrase itself.
            reason = getattr(error, "strerror", None) or "it is no text"
            raise SigningKeyError(f"cannot read the file of --passphrase-file: {reason}") from None
    if PASSPHRASE_VARIABLE in os.environ:
        return os.environ[PASSPHRASE_VARIABLE]
    if not sys.stdin.isatty():
        raise SigningKeyError(
            "the keystore's passphrase is needed", hint=f"give --passphrase-file, or set {PASSPHRASE_VARIABLE}"
        )
    return getpass.getpass(f"Passphrase of {arguments.keystore}: ", sys.stderr)


def print_quote(costs: Quote, chain: str, sender: str | None, arguments: argparse.Namespace, stream: TextIO) -> None:
    """Print what a plan costs: whoever pays, if nobody is named."""
    from ml2sc.runtime.transactions import ether, gwei

    if arguments.dry_run and arguments.json:
        print(json_text(costs.to_json()), file=stream)
        return
    if arguments.quiet and not arguments.dry_run:
        return
    rows: list[tuple[object, ...]] = [
        (line.name, line.state, line.data_bytes, line.code_bytes, line.gas, ether(line.fee), line.problem or "yes")
        for line in costs.lines
    ]
    rows.append(("total", "", "", "", costs.gas, ether(costs.fee), ""))
    prices = costs.fees
    print(heading(f"{chain}, {f'account {sender}' if sender else 'nobody named to pay'}", stream), file=stream)
    for text in table(("transaction", "state", "bytes", "code", "gas", "fee", "fits"), rows):
        print(f"  {text}", file=stream)
    if prices.legacy:
        price = f"a gas price of {gwei(prices.base)} (a chain without EIP-1559: legacy transactions)"
    else:
        price = f"a base fee of {gwei(prices.base)} and a tip of {gwei(prices.tip)}; at most {gwei(prices.most)} in all"
    has = f"; the account has {ether(costs.balance)}" if sender else ""
    print(f"  at {price}{has}", file=stream)
    if costs.data_fee:
        print(f"  {ether(costs.data_fee)} of it are for the transactions' bytes, by the chain's word", file=stream)
    if prices.note:
        print(f"  {prices.note}", file=stream)
    if arguments.gas_price is not None:
        print(f"  the total at --gas-price {arguments.gas_price:g}: {priced(costs.gas, arguments)}", file=stream)


def confirm(yes: bool) -> None:
    """Ask before spending.

    Raises:
        UsageError: there is nobody to ask.
        Ml2scError: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("there is nobody to ask whether to spend this", hint="give --yes")
    print("Send these transactions? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Ml2scError("nothing was sent")


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar on stderr if it is a terminal."""
    from tqdm import tqdm

    with tqdm(unit="tx", leave=False, file=sys.stderr, disable=True if quiet else None) as bar:

        def show(done: int, total: int, name: str) -> None:
            bar.total = total
            bar.set_description(name, refresh=False)
            bar.update(done - bar.n)
            bar.refresh()

        yield show
