"""`ml2sc-deploy`: puts a compiled contract on a chain, and proves that it is there."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ml2sc.errors import Ml2scError, SigningKeyError, UsageError

from .common import heading, looks_secret, make_parser, run, table

if TYPE_CHECKING:
    from ml2sc.backends.base import Artifact
    from ml2sc.runtime.journal import Journal
    from ml2sc.runtime.node import RpcChain
    from ml2sc.runtime.prove import Proof
    from ml2sc.runtime.rpc import Rpc
    from ml2sc.runtime.signer import Signer
    from ml2sc.runtime.transactions import FeeOptions, Plan, Quote

_GWEI = 10**9


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run(_parser(), _run, argv)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "ml2sc-deploy",
        "Deploy a compiled contract, and compare code and weights on the chain with the folder. Run again after any "
        "failure: it goes on where it was, and sends nothing twice.",
    )
    add = parser.add_argument
    add("directory", metavar="DIR", help="a folder that ml2sc-compile wrote")
    add("--chain", default="embedded", metavar="CHAIN", help="a node's URL; to rehearse: embedded (default), anvil")
    add("--create2", metavar="SALT", help="addresses that depend on the artifact and SALT only (0x… or any text)")
    add("--journal", metavar="FILE", help="where the progress is kept (default: DIR/deployment.json)")
    add("--json", action="store_true", help="print the result as JSON")
    add_payment_options(parser)
    return parser


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
    add("--chain-id", type=int, metavar="N", help="refuse a node of any other chain")
    add("--dry-run", action="store_true", help="show the transactions and what they cost; send nothing")
    add("--yes", action="store_true", help="do not ask before spending")
    add("--max-fee", type=_gwei, metavar="GWEI", help="the most to pay a unit of gas (default: twice the base fee)")
    add("--tip", type=_gwei, metavar="GWEI", help="what to offer above the base fee (default: what the node suggests)")
    add("--wait", type=float, default=600.0, metavar="SECONDS", help="how long to wait for each transaction (600)")


def _gwei(text: str) -> int:
    try:
        wei = Decimal(text) * _GWEI
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not wei.is_finite() or wei < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no fee")
    return int(wei)


def _run(arguments: argparse.Namespace) -> None:
    from ml2sc.folder import load_folder
    from ml2sc.runtime.deploy import deployment_plan, parse_salt

    artifact = load_folder(arguments.directory)
    if not artifact.on_chain:
        raise UsageError(f"{artifact.name} was compiled for {artifact.target!r}, which makes no contract")
    plan = deployment_plan(artifact, None if arguments.create2 is None else parse_salt(arguments.create2))
    with ExitStack() as stack:
        if arguments.chain == "anvil":
            from ml2sc.runtime.node import anvil

            url = stack.enter_context(anvil(str(artifact.manifest["options"]["fork"])))
            path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "deployment.json")
            _deploy(artifact, plan, url, path, arguments, own=True)
        elif "://" in arguments.chain:
            path = Path(arguments.journal or Path(arguments.directory, "deployment.json"))
            _deploy(artifact, plan, arguments.chain, path, arguments, own=False)
        else:
            _rehearse(artifact, arguments)


def _rehearse(artifact: Artifact, arguments: argparse.Namespace) -> None:
    """Deploy on a chain in this process, which ends with it."""
    from ml2sc.runtime.chain import open_chain
    from ml2sc.runtime.deploy import deploy
    from ml2sc.runtime.prove import prove

    if arguments.create2 is not None:
        raise UsageError("the embedded chain has no CREATE2 proxy", hint="try '--chain anvil'")
    with open_chain(arguments.chain) as chain:
        deployment = deploy(artifact, chain)
        proof = prove(artifact, chain, deployment.address)
        gas = deployment.gas_deploy + deployment.gas_weights
        _print_result(artifact, proof, {"chain": chain.name, "gas": gas}, arguments)
        print(f"a rehearsal: {chain.name} ends here; give a node's URL to deploy", file=sys.stderr)


def _deploy(artifact: Artifact, plan: Plan, url: str, path: Path, arguments: argparse.Namespace, *, own: bool) -> None:
    from ml2sc.runtime.deploy import CONTRACT, has_create2_proxy
    from ml2sc.runtime.journal import open_journal, read_journal, require_same
    from ml2sc.runtime.prove import prove
    from ml2sc.runtime.transactions import CREATE2_PROXY, execute, quote

    chain = open_node(url, arguments)
    rpc, fees = chain.rpc, fee_options(arguments)
    if arguments.create2 is not None and not has_create2_proxy(chain):
        raise UsageError(
            f"chain {rpc.chain_id} lacks the deterministic-deployment proxy at {CREATE2_PROXY}",
            hint="deploy without --create2, or put github.com/Arachnid/deterministic-deployment-proxy there first",
        )
    signer = make_signer(arguments, rpc, own=own)
    where: dict[str, Any] = {
        "plan": plan.identity,
        "chain_id": rpc.chain_id,
        "genesis": rpc.genesis,
        "sender": signer.address,
    }
    if arguments.dry_run:
        journal = read_journal(path)
        if journal is not None:
            require_same(journal, **where)
        print_quote(quote(plan, rpc, signer.address, journal, fees), chain.name, signer.address, arguments, sys.stdout)
        return
    with open_journal(path, **where) as journal:
        if any(step.name not in journal.entries or not journal.entries[step.name].done for step in plan.steps):
            costs = quote(plan, rpc, signer.address, journal, fees)
            print_quote(costs, chain.name, signer.address, arguments, sys.stderr)
            costs.require_possible()
            confirm(own or arguments.yes)
        with progress_bar(quiet=arguments.quiet) as progress:
            addresses = execute(
                plan,
                rpc,
                signer,
                journal,
                fees=fees,
                wait=arguments.wait,
                poll=0.05 if own else 1.0,
                progress=progress,
            )
        proof = prove(artifact, chain, addresses[CONTRACT])
        journal.result = {"address": proof.address, "code_hash": proof.code_hash, "proved": True}
        journal.save()
        _print_result(artifact, proof, {"chain": chain.name, **_totals(journal)}, arguments)


def _totals(journal: Journal) -> dict[str, Any]:
    entries = [*journal.entries.items(), *journal.past]
    return {
        "chain_id": journal.chain_id,
        "sender": journal.sender,
        "transactions": [
            {"step": name, "hash": entry.mined, "address": entry.address, "gas": entry.gas_used, "fee": entry.fee}
            for name, entry in entries
        ],
        "gas": sum(entry.gas_used for _, entry in entries),
        "fee": sum(entry.fee for _, entry in entries),
    }


def _print_result(artifact: Artifact, proof: Proof, totals: dict[str, Any], arguments: argparse.Namespace) -> None:
    from ml2sc.runtime.transactions import ether

    if arguments.json:
        print(json.dumps({"name": artifact.name, **totals, "proof": proof.to_json()}, indent=2))
        return
    rows = [
        ("chain", totals["chain"]),
        ("address", proof.address),
        *((f"weights {index}", address) for index, address in enumerate(proof.data_addresses)),
        ("gas", f"{totals['gas']:,}"),
        *([("paid", ether(totals["fee"]))] if "fee" in totals else []),
        ("compared", proof.summary),
    ]
    print("\n".join([heading(f"{artifact.name} is deployed", sys.stdout), *(f"  {k:<10} {v}" for k, v in rows)]))


# -- what every command that sends transactions shares -----------------------------------------------------------------


def open_node(url: str, arguments: argparse.Namespace) -> RpcChain:
    """Return the chain behind a node.

    Raises:
        UsageError: it is not the chain that `--chain-id` asks for.
    """
    from ml2sc.runtime.node import RpcChain

    chain = RpcChain(url)
    if arguments.chain_id not in (None, chain.rpc.chain_id):
        raise UsageError(
            f"the node at {chain.rpc.host} is on chain {chain.rpc.chain_id}, not {arguments.chain_id}",
            hint="is the node's URL right?",
        )
    return chain


def fee_options(arguments: argparse.Namespace) -> FeeOptions:
    """Return the user's wishes about fees."""
    from ml2sc.runtime.transactions import FeeOptions

    return FeeOptions(arguments.max_fee, arguments.tip)


def make_signer(arguments: argparse.Namespace, rpc: Rpc, *, own: bool) -> Signer:
    """Return who signs, as the options say; a chain of our own has an account for us.

    Raises:
        UsageError: nobody is named, or a key is given.
        SigningKeyError: the key cannot be used.
    """
    from ml2sc.runtime.signer import KEY_VARIABLE, KeySigner, KeystoreSigner, NodeSigner

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
        except OSError as error:
            raise SigningKeyError(f"cannot read {arguments.passphrase_file}: {error.strerror or error}") from error
    if PASSPHRASE_VARIABLE in os.environ:
        return os.environ[PASSPHRASE_VARIABLE]
    if not sys.stdin.isatty():
        raise SigningKeyError(
            "the keystore's passphrase is needed", hint=f"give --passphrase-file, or set {PASSPHRASE_VARIABLE}"
        )
    return getpass.getpass(f"Passphrase of {arguments.keystore}: ", sys.stderr)


def print_quote(costs: Quote, chain: str, sender: str, arguments: argparse.Namespace, stream: TextIO) -> None:
    """Print what a plan costs."""
    from ml2sc.runtime.transactions import ether

    if arguments.dry_run and arguments.json:
        print(json.dumps(costs.to_json(), indent=2), file=stream)
        return
    if arguments.quiet and not arguments.dry_run:
        return
    rows: list[tuple[object, ...]] = [
        (line.name, line.state, line.data_bytes, line.code_bytes, line.gas, ether(line.fee), line.problem or "yes")
        for line in costs.lines
    ]
    rows.append(("total", "", "", "", costs.gas, ether(costs.fee), ""))
    prices = costs.fees
    print(heading(f"{chain}, account {sender}", stream), file=stream)
    for text in table(("transaction", "state", "bytes", "code", "gas", "fee", "fits"), rows):
        print(f"  {text}", file=stream)
    print(
        f"  at a base fee of {prices.base / _GWEI:.9g} gwei and a tip of {prices.tip / _GWEI:.9g}; "
        f"the account has {ether(costs.balance)}",
        file=stream,
    )


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


if __name__ == "__main__":
    sys.exit(main())
