"""`ml2sc-check`: does a compiled contract answer as its model does?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ml2sc.errors import CheckError, UsageError
from ml2sc.jsontext import json_text
from ml2sc.verdict import LEAST

from .common import add_prices, checked_address, make_parser, noted, prices_of, print_sheet, process_count, run
from .comparing import SOLC_HELP

if TYPE_CHECKING:
    from ml2sc.runtime.workers import Workers

_ADVICE = "compile it without --precision, and calibrate with samples like these: auto keeps all of their decisions"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run(_parser(), _run, argv)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "ml2sc-check",
        "Deploy a compiled contract and compare it, sample by sample, with the integer model and with onnxruntime.",
    )
    add = parser.add_argument
    add("directory", metavar="DIR", help="a folder that ml2sc-compile wrote")
    add("--samples", metavar="data.npz", help="inputs x of shape (samples, ...), labels y (default: random inputs)")
    add("--chain", default="embedded", metavar="CHAIN", help="embedded (default), anvil, or a node's URL")
    add("--address", metavar="0x...", help="prove what is at this address of a node's chain")
    add("--seed", type=int, metavar="N", help="of the random inputs (default: another one each time; it is printed)")
    add("--solc", metavar="PATH", help=SOLC_HELP)
    add(
        "--workers",
        type=int,
        metavar="N",
        help="processes that share the samples on the embedded chain (default: one a core, as far as memory goes)",
    )
    add("--scheduler", metavar="tcp://...", help="share the samples among the workers of this Dask scheduler instead")
    add(
        "--min-agreement",
        type=float,
        metavar="SHARE",
        help=f"share of the samples' decisions (for regressions: R²) that must be the model's (default: {LEAST})",
    )
    add("--json", action="store_true", help="print the report as JSON")
    add_prices(parser)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from ml2sc.folder import load_folder
    from ml2sc.runtime.check import check
    from ml2sc.runtime.rpc import Rpc
    from ml2sc.runtime.toolchain import Toolchain

    prices, least = prices_of(arguments), _least(arguments)
    # Looked at first: what is no address, a key for instance, is told to no node.
    address = None if arguments.address is None else checked_address(arguments.address)
    artifact = load_folder(arguments.directory)
    if address is None and "://" in arguments.chain:
        address = noted(arguments.directory, Rpc(arguments.chain))
    toolchain = None if arguments.solc is None else Toolchain(arguments.solc)
    report = check(
        artifact,
        arguments.samples,
        chain=arguments.chain,
        address=address,
        toolchain=toolchain,
        workers=_workers(arguments),
        seed=arguments.seed,
    )
    kept = report.kept.enough(least)
    if arguments.json:
        print(json_text({**report.to_json(), "min_agreement": least, "keeps_model": kept}))
    else:
        print_sheet(report.sheet(prices, least), ok=report.ok and kept)
    sys.stdout.flush()
    if not report.ok:
        raise CheckError(report.failure)
    if not kept:
        advice = artifact.manifest.get("calibration", {}).get("advice")
        raise CheckError(
            f"the contract is exact, but does not keep its model: {report.kept.figures}, and at least {least:g} is "
            "asked for",
            hint=f"{advice or _ADVICE}; --min-agreement takes less",
        )


def _least(arguments: argparse.Namespace) -> float:
    """Return the share of the model that must be kept.

    Raises:
        UsageError: it is none, or there is nothing to find it on.
    """
    if arguments.min_agreement is None:
        return LEAST
    if not 0 < arguments.min_agreement <= 1:
        raise UsageError(f"a share of {arguments.min_agreement:g} of the decisions is none: above 0, at most 1")
    if arguments.samples is None:
        raise UsageError("random inputs do not show whether the model is kept", hint="add --samples data.npz")
    return float(arguments.min_agreement)


def _workers(arguments: argparse.Namespace) -> Workers | int:
    """Return who shares the samples; a node is asked by one process unless the user says otherwise."""
    if arguments.scheduler is None:
        return 1 if arguments.workers is None and arguments.chain != "embedded" else process_count(arguments)
    if arguments.workers is not None:
        raise UsageError("--workers are processes of this machine, --scheduler names others", hint="leave one out")
    if "://" not in arguments.scheduler:
        raise UsageError(f"--scheduler {arguments.scheduler!r} is no address", hint="for instance tcp://10.0.0.1:8786")
    from ml2sc.runtime.cluster import Cluster

    return Cluster(arguments.scheduler)


if __name__ == "__main__":
    sys.exit(main())
