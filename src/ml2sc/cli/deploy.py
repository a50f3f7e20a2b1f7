"""`ml2sc-deploy`: puts a compiled contract on a chain, and proves that it is there."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml2sc.errors import CheckError, UsageError
from ml2sc.jsontext import json_text

from .common import PROFILE_HELP, checked_address, heading, make_parser, prices_of, run
from .comparing import SOLC_HELP, compare_folder
from .safe import add_safe_options, rows_of, safe_address, write_plan
from .sending import Sending, add_payment_options, open_node, priced, said_sent, totals, warn_of_chain

if TYPE_CHECKING:
    from ml2sc.backends.base import Artifact
    from ml2sc.runtime.bytecode import Comparison
    from ml2sc.runtime.node import RpcChain
    from ml2sc.runtime.prove import Proof


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
    add("--owner", metavar="0x...", help="offer an updatable contract to this account in the end (default: who pays)")
    add("--journal", metavar="FILE", help="where the progress is kept (default: DIR/deployments/CHAIN_ID.json)")
    add("--solc", metavar="PATH", help=SOLC_HELP)
    add("--json", action="store_true", help="print the result as JSON")
    add("--chain-profile", metavar="CHAIN", help=PROFILE_HELP)
    add_payment_options(parser)
    add_safe_options(parser)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from ml2sc.folder import load_folder
    from ml2sc.runtime.opening import refuse_name

    prices_of(arguments)  # wrong ones are told before anything is sent
    safe = safe_address(arguments)
    refuse_name(arguments.chain)
    artifact = load_folder(arguments.directory)
    if not artifact.on_chain:
        raise UsageError(f"{artifact.name} was compiled for {artifact.target!r}, which makes no contract")
    if arguments.owner is not None and not artifact.updatable:
        raise UsageError(f"nobody owns {artifact.name}: its weights are fixed", hint="leave --owner out")
    bytecode = compare_folder(artifact, arguments)
    artifact = _for_chain(artifact, arguments.chain_profile)
    if arguments.safe is not None:
        _write_safe(artifact, arguments, safe)
        return
    with ExitStack() as stack:
        if arguments.chain == "anvil":
            from ml2sc.runtime.chain import limits_of
            from ml2sc.runtime.node import anvil, anvil_limits

            limits = anvil_limits(limits_of(artifact))
            url = stack.enter_context(anvil(str(artifact.manifest["options"]["fork"]), *limits))
            path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "deployment.json")
            _deploy(artifact, bytecode, Sending(arguments, open_node(url, arguments), path, own=True))
        elif "://" in arguments.chain:
            from ml2sc.runtime.journal import journal_path

            node, named = open_node(arguments.chain, arguments), arguments.journal
            warn_of_chain(artifact, node.rpc.chain_id)
            path = Path(named) if named else journal_path(Path(arguments.directory), node.rpc.chain_id)
            _deploy(artifact, bytecode, Sending(arguments, node, path, own=False))
        else:
            _rehearse(artifact, bytecode, arguments)


def _for_chain(artifact: Artifact, name: str | None) -> Artifact:
    """Return an artifact as one for a chain of a profile, which may have other limits than it was compiled for."""
    if name is None:
        return artifact
    from ml2sc.chain_file import chain_profile

    options = {**artifact.manifest["options"], "chain_profile": chain_profile(name).to_json()}
    return dataclasses.replace(artifact, manifest={**artifact.manifest, "options": options})


def _write_safe(artifact: Artifact, arguments: argparse.Namespace, safe: str | None) -> None:
    """Write what deploys a contract for a Safe to do (`--safe`)."""
    from ml2sc.runtime.deploy import deployment_plan, parse_salt
    from ml2sc.runtime.safe import rehearse_deployment
    from ml2sc.runtime.signer import NO_ACCOUNT

    if artifact.updatable and safe is None:
        raise UsageError("an updatable contract belongs to the Safe: which is it?", hint="give --safe-address 0x...")
    node = open_node(arguments.chain, arguments) if "://" in arguments.chain else None
    chain_id = arguments.chain_id if node is None else node.rpc.chain_id
    if chain_id is None:
        raise UsageError("for which chain is the batch?", hint="give --chain-id N, or a node's URL as --chain")
    warn_of_chain(artifact, chain_id)
    if node is not None:
        _require_proxy(node)
    salt, account = parse_salt(arguments.create2 or "0x0"), safe or NO_ACCOUNT
    owner = None if arguments.owner is None else checked_address(arguments.owner)
    written = write_plan(
        deployment_plan(artifact, salt, sender=account, new_owner=owner),
        arguments,
        chain_id=chain_id,
        safe=safe or "",
        chain=node,
        check=lambda batches, done, address: rehearse_deployment(artifact, account, address, batches, done),
    )
    if arguments.json:
        print(json_text({"name": artifact.name, **written}))
        return
    title = heading(f"{artifact.name}: written, not sent", sys.stdout)
    print("\n".join([title, *(f"  {k:<12} {v}" for k, v in rows_of(written))]))


def _require_proxy(chain: RpcChain) -> None:
    from ml2sc.runtime.chain import CREATE2_PROXY
    from ml2sc.runtime.deploy import has_create2_proxy

    if not has_create2_proxy(chain):
        raise UsageError(
            f"chain {chain.rpc.chain_id} lacks the deterministic-deployment proxy at {CREATE2_PROXY}",
            hint="deploy without --create2, or put github.com/Arachnid/deterministic-deployment-proxy there first",
        )


def _rehearse(artifact: Artifact, bytecode: Comparison, arguments: argparse.Namespace) -> None:
    """Deploy on a chain in this process, which ends with it."""
    from ml2sc.runtime.chain import limits_of
    from ml2sc.runtime.deploy import deploy
    from ml2sc.runtime.opening import open_chain
    from ml2sc.runtime.prove import prove

    if arguments.create2 is not None:
        raise UsageError("a rehearsal on the embedded chain takes no salt", hint="try '--chain anvil'")
    with open_chain(arguments.chain, limits=limits_of(artifact)) as chain:
        deployment = deploy(artifact, chain)
        proof = prove(artifact, chain, deployment.address)
        gas = deployment.gas_deploy + deployment.gas_weights
        _print_result(artifact, bytecode, proof, {"chain": chain.name, "gas": gas}, arguments)
        print(f"a rehearsal: {chain.name} ends here; give a node's URL to deploy", file=sys.stderr)


def _deploy(artifact: Artifact, bytecode: Comparison, sending: Sending) -> None:
    from ml2sc.runtime.deploy import CONTRACT, deployment_plan, has_create2_proxy, parse_salt
    from ml2sc.runtime.prove import prove

    arguments, chain = sending.arguments, sending.chain
    has_proxy = has_create2_proxy(chain)
    if arguments.create2 is not None:
        _require_proxy(chain)
    owner = None if arguments.owner is None else checked_address(arguments.owner)
    salt = None if arguments.create2 is None else parse_salt(arguments.create2)
    sender = sending.signer.address
    plan = deployment_plan(artifact, salt, sender=sender, new_owner=owner, has_proxy=has_proxy)
    if arguments.dry_run:
        sending.show(plan)
        return
    with sending.journal(plan) as journal:
        addresses = sending.carry_out(plan, journal)
        proof = prove(artifact, chain, addresses[CONTRACT])
        if proof.update is not None and proof.update.owner not in (journal.sender, owner):
            raise CheckError(
                f"{artifact.name} at {proof.address} belongs to {proof.update.owner}, not to {owner or journal.sender}",
                hint="if it was handed over on purpose, ml2sc-check shows what is there",
            )
        journal.result = {"address": proof.address, "code_hash": proof.code_hash, "proved": True}
        journal.save()
        _print_result(artifact, bytecode, proof, {"chain": chain.name, **totals(journal)}, arguments)


def _print_result(
    artifact: Artifact, bytecode: Comparison, proof: Proof, costs: dict[str, Any], arguments: argparse.Namespace
) -> None:
    from ml2sc.runtime.transactions import ether

    if arguments.json:
        result = {"name": artifact.name, **costs, "bytecode": vars(bytecode), "proof": proof.to_json()}
        print(json_text(result))
        return
    rows = [
        ("chain", costs["chain"]),
        ("address", proof.address),
        *((f"weights {index}", address) for index, address in enumerate(proof.data_addresses)),
        ("gas", priced(costs["gas"], arguments)),
        *([("paid", ether(costs["fee"])), ("sent", said_sent(costs["sent"]))] if "fee" in costs else []),
        *([] if proof.update is None else proof.update.rows()),
        ("bytecode", bytecode.summary),
        ("compared", proof.summary),
    ]
    if "chain_id" in costs and not arguments.quiet:
        where = f"--chain {costs['chain_id']} --address {proof.address}"
        rows.append(("to verify", f"ml2sc-verify {shlex.quote(arguments.directory)} {where}"))
    title = f"{artifact.name} is deployed" if costs.get("sent", 1) else f"{artifact.name} was deployed before"
    print("\n".join([heading(title, sys.stdout), *(f"  {k:<12} {v}" for k, v in rows)]))


if __name__ == "__main__":
    sys.exit(main())
