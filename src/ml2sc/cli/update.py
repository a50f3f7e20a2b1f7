"""`ml2sc-update`: gives an updatable contract on a chain the weights of another model of the same architecture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ml2sc.errors import UsageError
from ml2sc.jsontext import json_text
from ml2sc.sheet import table

from .common import checked_address, heading, make_parser, noted, prices_of, run
from .comparing import SOLC_HELP, compare_folder
from .safe import add_safe_options, rows_of, safe_address, write_plan
from .sending import Sending, add_payment_options, open_node, priced, said_sent, totals, warn_of_chain

if TYPE_CHECKING:
    from ml2sc.backends.base import Artifact
    from ml2sc.runtime.node import RpcChain
    from ml2sc.runtime.prove import Proof
    from ml2sc.runtime.update import UpdateState

_CALLS = {
    "rollback": ("rollback", "put the weights back in use that were replaced last"),
    "freeze": ("freeze", "make the weights in use the last, for ever"),
    "accept_ownership": ("acceptOwnership", "take over the contract that its owner has offered"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run(_parser(), _run, argv)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "ml2sc-update",
        "Replace the weights of an updatable contract: all at once, after every bound has been proved anew. Run again "
        "after any failure: it goes on where it was, and sends nothing twice.",
    )
    add = parser.add_argument
    add("directory", metavar="DIR", help="the folder the contract was deployed or last updated from")
    add("--chain", required=True, metavar="URL", help="a node's URL")
    add("--address", metavar="0x...", help="the contract (default: what ml2sc-deploy noted in DIR)")
    what = parser.add_argument_group("what to do").add_mutually_exclusive_group(required=True)
    what.add_argument("--model", metavar="NEW.onnx", help="put the weights of this model in use")
    for name, (_, text) in _CALLS.items():
        what.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)
    what.add_argument("--transfer-ownership", metavar="0x...", help="offer the contract to this account")
    add("--samples", metavar="data.npz", help="show what changes on these inputs x, labels y")
    add("-o", dest="output", metavar="NEWDIR", help="folder for the new model's artifact (default: DIR-HASH)")
    add("--journal", metavar="FILE", help="where the progress is kept (default: DIR/update-HASH.json)")
    add("--solc", metavar="PATH", help=SOLC_HELP)
    add("--json", action="store_true", help="print the result as JSON")
    add_payment_options(parser)
    add_safe_options(parser)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from ml2sc.folder import load_folder
    from ml2sc.runtime.prove import prove
    from ml2sc.updating import update

    prices_of(arguments)  # wrong ones are told before anything is sent
    directory = Path(arguments.directory)
    artifact = load_folder(directory)
    if not artifact.updatable:
        raise UsageError(
            f"the weights of {artifact.name} are fixed", hint="compile it with --updatable and deploy it again"
        )
    if "://" not in arguments.chain:
        from ml2sc.runtime.opening import refuse_name

        refuse_name(arguments.chain)
        raise UsageError("an update needs a node's URL", hint="for instance --chain http://127.0.0.1:8545")
    safe = safe_address(arguments)
    address = None if arguments.address is None else checked_address(arguments.address)
    bytecode = compare_folder(artifact, arguments)
    new = None if arguments.model is None else update(artifact, arguments.model)
    chain = open_node(arguments.chain, arguments)
    if address is None:
        address = noted(arguments.directory, chain.rpc)
    if address is None:
        raise UsageError("which contract?", hint="give its --address")
    state = prove(artifact, chain, address, weights=False).update
    assert state is not None
    if not arguments.quiet:
        _print_state(state)
    result = {"name": artifact.name, "address": address, "chain": chain.name, "bytecode": vars(bytecode)}
    warn_of_chain(artifact, chain.rpc.chain_id)
    if arguments.safe is not None:
        _write_safe(artifact, new, chain, result, state, arguments, safe)
        return
    if new is not None:
        _update(artifact, new, chain, result, state, arguments)
        return
    _call(artifact, chain, result, state, arguments, _owners(arguments))


def _print_state(state: UpdateState) -> None:
    print(heading("the contract now", sys.stderr), file=sys.stderr)
    for name, text in state.rows():
        print(f"  {name:<12} {text}", file=sys.stderr)


class _Owners(NamedTuple):
    """One of the owner's functions, and its arguments."""

    function: str
    arguments: tuple[str, ...] = ()


def _owners(arguments: argparse.Namespace) -> _Owners:
    if arguments.transfer_ownership is not None:
        return _Owners("transferOwnership", (checked_address(arguments.transfer_ownership),))
    return next(_Owners(function) for name, (function, _) in _CALLS.items() if getattr(arguments, name))


def _update(
    old: Artifact,
    new: Artifact,
    chain: RpcChain,
    result: dict[str, Any],
    state: UpdateState,
    arguments: argparse.Namespace,
) -> None:
    from ml2sc.folder import require_room, write_folder
    from ml2sc.runtime.contract import Contract
    from ml2sc.runtime.deploy import rehearse_update
    from ml2sc.runtime.journal import journal_path
    from ml2sc.runtime.prove import prove
    from ml2sc.runtime.transactions import Plan
    from ml2sc.runtime.update import read_state, update_plan

    if not state.version:
        raise UsageError("the contract has no weights yet", hint="run ml2sc-deploy again: it goes on where it was")
    address = str(result["address"])
    directory, short = Path(arguments.directory), str(new.manifest["weights_hash"])[2:10]
    path = Path(arguments.journal or directory / f"update-{short}.json")
    sending = Sending(arguments, chain, path, own=False, owner=state.owner)
    active = state.weights_hash == new.manifest["weights_hash"]
    if not active:
        state.require_open(sending.signer.address)
    elif arguments.address is None and sending.signer.address not in (state.owner, state.pending_owner):
        raise UsageError(
            f"these weights are in use already, in a contract of {state.owner}, not of {sending.signer.address}",
            hint="the folder may name another's contract: give yours with --address",
        )
    changes = _changes(old, new, state, arguments.samples)
    if not arguments.quiet:
        _print_changes(changes, old, state)
    gas = {} if active else rehearse_update(new, state)
    plan = update_plan(new, chain, address, state, gas)
    if arguments.dry_run:
        sending.show(plan)
        return
    folder = Path(arguments.output or f"{directory.resolve()}-{short}")
    require_room(new, folder)
    result = {**result, "name": new.name, "changes": changes, "sent": 0}
    with ExitStack() as stack:
        journal = None
        if not active or path.exists():
            journal = stack.enter_context(sending.journal(plan))
            if state.timelock and not active:
                sending.carry_out(plan, journal, until=Plan(plan.identity, plan.steps[:-1], plan.abi))
                ready = read_state(Contract(chain, address, new.abi), [len(data) for data in new.data]).ready_at
                if chain.timestamp() < ready:
                    _print_staged({**result, **totals(journal), "ready_at": ready}, arguments)
                    return
            sending.carry_out(plan, journal)
            result |= totals(journal)
            journal.result = {"address": address, "weights_hash": new.manifest["weights_hash"]}
            journal.save()
        proof = prove(new, chain, address)
        write_folder(new, folder)
        if journal is not None:
            journal.move(journal_path(folder, chain.rpc.chain_id))
    _print_result({**result, "folder": str(folder), "proof": proof.to_json()}, proof, arguments)


def _write_safe(
    old: Artifact,
    new: Artifact | None,
    chain: RpcChain,
    result: dict[str, Any],
    state: UpdateState,
    arguments: argparse.Namespace,
    safe: str | None,
) -> None:
    """Write what the contract's owner, a Safe, is to do (`--safe`)."""
    from ml2sc.folder import require_room, write_folder
    from ml2sc.runtime.deploy import rehearse_update
    from ml2sc.runtime.safe import rehearse_calls
    from ml2sc.runtime.update import ACTIVATE, call_plan, update_plan

    address, call = str(result["address"]), None if new is not None else _owners(arguments)
    accepts = call is not None and call.function == "acceptOwnership"
    safe = safe or (state.pending_owner if accepts else state.owner)
    state.require_open(safe or "", accepts=accepts)
    gas, folder = dict[str, int](), None
    if call is not None:
        plan = call_plan(old, address, call.function, *call.arguments)
    else:
        assert new is not None
        if state.weights_hash == new.manifest["weights_hash"]:
            raise UsageError("these weights are in use already: there is nothing for the Safe to do")
        changes = _changes(old, new, state, arguments.samples)
        result = {**result, "changes": changes}
        if not arguments.quiet:
            _print_changes(changes, old, state)
        short = str(new.manifest["weights_hash"])[2:10]
        folder = Path(arguments.output or f"{Path(arguments.directory).resolve()}-{short}")
        require_room(new, folder)
        gas = rehearse_update(new, state)
        plan = update_plan(new, chain, address, state, gas)
    function = "" if call is None else call.function
    written = write_plan(
        plan,
        arguments,
        chain_id=chain.rpc.chain_id,
        safe=str(safe),
        chain=chain,
        gas=gas,
        alone=(ACTIVATE,) if state.timelock else (),
        check=lambda batches, done, _: rehearse_calls(old, new, state, address, batches, done, function),
    )
    rows = rows_of(written)
    if state.timelock and new is not None:
        rows.append(("then", f"the batch that activates can be carried out {state.timelock:,} s after what it needs"))
    if new is not None and folder is not None:
        write_folder(new, folder)
        result |= {"folder": str(folder)}
        rows.append(("folder", f"{folder}: the new model; ml2sc-check compares it with the chain when all is done"))
    if arguments.json:
        print(json_text({**result, **written, "address": address}))
        return
    print("\n".join([heading(f"{old.name}: written, not sent", sys.stdout), *(f"  {k:<12} {v}" for k, v in rows)]))


def _changes(old: Artifact, new: Artifact, state: UpdateState, samples: str | None) -> dict[str, Any]:
    """Return what the update changes, as JSON values."""
    from ml2sc.updating import compare

    return {
        "version": [state.version, "the next"],
        "model_hash": [state.model_hash, new.manifest["model_hash"]],
        "weights_hash": [state.weights_hash, new.manifest["weights_hash"]],
        "error_bound": [old.manifest["error_bound"], new.manifest["error_bound"]],
        **({} if samples is None else compare(old, new, samples)),
    }


def _print_changes(changes: dict[str, Any], old: Artifact, state: UpdateState) -> None:
    pairs = {name: values for name, values in changes.items() if isinstance(values, list)}
    rows = [(name.replace("_", " "), *map(_said, values)) for name, values in pairs.items()]
    print(heading("what changes", sys.stderr), file=sys.stderr)
    for line in table(("", "now", "then"), rows):
        print(f"  {line}", file=sys.stderr)
    if "decisions_changed" in changes:
        decisions = changes["decisions_changed"]
        print(f"  {decisions['changed']:,} of {decisions['samples']:,} decisions are others", file=sys.stderr)
    if state.weights_hash != old.manifest["weights_hash"]:
        print(f"  (the folder's own weights are {old.manifest['weights_hash']}, not those in use)", file=sys.stderr)


def _said(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_staged(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json_text(result))
        return
    print(f"staged; run the same command again after {_time(result['ready_at'])} to put the weights in use")


def _time(seconds: int) -> str:
    """Return a time of the chain in words; a contract may state one that no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:,} s after 1970"


def _print_result(result: dict[str, Any], proof: Proof, arguments: argparse.Namespace) -> None:
    from ml2sc.runtime.transactions import ether

    if arguments.json:
        print(json_text(result))
        return
    assert proof.update is not None
    rows = [
        ("chain", result["chain"]),
        ("address", proof.address),
        *proof.update.rows(),
        *([("gas", priced(result["gas"], arguments)), ("paid", ether(result["fee"]))] if "gas" in result else []),
        ("compared", proof.summary),
        ("sent", said_sent(result["sent"])),
        *([("folder", result["folder"])] if "folder" in result else []),
    ]
    print("\n".join([heading(f"{result['name']}: done", sys.stdout), *(f"  {k:<12} {v}" for k, v in rows)]))


def _call(
    artifact: Artifact,
    chain: RpcChain,
    result: dict[str, Any],
    state: UpdateState,
    arguments: argparse.Namespace,
    call: _Owners,
) -> None:
    """Send one of the owner's other transactions."""
    from ml2sc.runtime.prove import prove
    from ml2sc.runtime.update import call_plan

    path = Path(arguments.journal or Path(arguments.directory) / f"{call.function}.json")
    sending = Sending(arguments, chain, path, own=False)
    if not path.exists():
        state.require_open(sending.signer.address, accepts=call.function == "acceptOwnership")
    address = str(result["address"])
    plan = call_plan(artifact, address, call.function, *call.arguments)
    if arguments.dry_run:
        sending.show(plan)
        return
    with sending.journal(plan) as journal:
        sending.carry_out(plan, journal)
        proof = prove(artifact, chain, address, weights=False)
        path.unlink()  # it may come again: a second rollback is not the first one's continuation
        _print_result({**result, **totals(journal), "proof": proof.to_json()}, proof, arguments)


if __name__ == "__main__":
    sys.exit(main())
