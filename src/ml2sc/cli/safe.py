"""What `--safe` does: a plan's transactions go to files for a Safe's owners, instead of to a node."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml2sc.errors import Ml2scError, UsageError

from .common import checked_address

if TYPE_CHECKING:
    from ml2sc.runtime.chain import Chain
    from ml2sc.runtime.safe import Batch, Planned
    from ml2sc.runtime.transactions import Plan


def add_safe_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that write a batch instead of sending."""
    add = parser.add_argument_group("instead of sending").add_argument
    add("--safe", metavar="FILE", help="write a batch for a Safe's Transaction Builder (JSON), tried on a local chain")
    add("--safe-address", metavar="0x...", help="the Safe; needed for what belongs to it")


def safe_address(arguments: argparse.Namespace) -> str | None:
    """Return the Safe that is named, if one is.

    Raises:
        UsageError: an option means nothing beside `--safe`, or without it.
    """
    if arguments.safe is None and arguments.safe_address is not None:
        raise UsageError("--safe-address is of use with --safe FILE only")
    if arguments.safe is not None and arguments.dry_run:
        raise UsageError("--safe sends nothing anyway", hint="leave --dry-run out")
    return None if arguments.safe_address is None else checked_address(arguments.safe_address)


def write_plan(
    plan: Plan,
    arguments: argparse.Namespace,
    *,
    chain_id: int,
    safe: str,
    check: Callable[[Sequence[Batch], Sequence[Planned], str], Any],
    chain: Chain | None = None,
    gas: Mapping[str, int] | None = None,
    alone: Iterable[str] = (),
) -> dict[str, Any]:
    """Write a plan's batches, read them again and try them; nothing is left behind if they fail.

    Args:
        plan: What is to be done.
        arguments: The command's.
        chain_id: The chain's number.
        safe: The Safe's address; empty if any will do.
        check: Tries batches on a local chain, given what is done already and what the plan creates.
        chain: Where it is to be done; None if no node is named.
        gas: Of steps, by name, where the plan does not know it.
        alone: Steps that begin a batch.

    Returns:
        What was written, as JSON values.
    """
    from ml2sc.runtime.safe import Batch, batched, discard, paths_of, planned, write_batches

    left, done, address = planned(plan, gas or {}, chain)
    if not left:
        raise UsageError("all is done already: there is nothing for the Safe to do")
    groups = batched(left, plan.limits, alone)
    paths = paths_of(Path(arguments.safe), len(groups))
    batches = [
        Batch(chain_id, safe, f"{plan.identity}: {', '.join(entry.name for entry in group)}", _calls(group))
        for group in groups
    ]
    found = write_batches(paths, batches, time.time_ns() // 1_000_000)
    try:
        check(found, done, address)
    except Ml2scError:
        discard(paths)
        raise
    return {
        "files": [str(path) for path in paths],
        "chain_id": chain_id,
        "safe": safe or None,
        "address": address or None,
        "calls": [[entry.name for entry in group] for group in groups],
        "gas": [sum(entry.gas for entry in group) for group in groups],
        "done": [entry.name for entry in done],
    }


def _calls(group: Iterable[Planned]) -> tuple[Any, ...]:
    return tuple(entry.call for entry in group)


def rows_of(written: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return for people what was written, and what to do with it."""
    rows = [
        ("batch", f"{file}: {', '.join(names)}; about {gas:,} gas")
        for file, names, gas in zip(written["files"], written["calls"], written["gas"], strict=True)
    ]
    if written["done"]:
        rows.append(("done before", ", ".join(written["done"])))
    if written["address"] is not None:
        rows.append(("address", f"{written['address']}, whoever sends it"))
    order = ", one after the other in this order" if len(rows) > 1 and len(written["files"]) > 1 else ""
    what = f"load it in the Safe's Transaction Builder on chain {written['chain_id']}{order}"
    return [*rows, ("tried", "read again and carried out on a local chain: what comes of it is right"), ("next", what)]
