"""`ml2sc-check`: does a compiled contract answer as its model does?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ml2sc.errors import CheckError, UsageError
from ml2sc.jsontext import json_text

from .common import checked_address, failure, heading, make_parser, noted, run
from .comparing import SOLC_HELP

if TYPE_CHECKING:
    from collections.abc import Callable

    from ml2sc.runtime.report import Differing, Report
    from ml2sc.runtime.workers import Workers

_SHOWN = 5
"""Samples with other decisions that the table names."""


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
    add("--json", action="store_true", help="print the report as JSON")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from ml2sc.folder import load_folder
    from ml2sc.runtime.check import check
    from ml2sc.runtime.rpc import Rpc
    from ml2sc.runtime.toolchain import Toolchain

    # Looked at first: what is no address, a key for instance, is told to no node.
    address = None if arguments.address is None else checked_address(arguments.address)
    artifact = load_folder(arguments.directory)
    if address is None and "://" in arguments.chain:
        address = noted(arguments.directory, Rpc(arguments.chain))
    toolchain = None if arguments.solc is None else Toolchain(arguments.solc)
    with _progress_bar(quiet=arguments.quiet) as progress:
        report = check(
            artifact,
            arguments.samples,
            chain=arguments.chain,
            address=address,
            toolchain=toolchain,
            progress=progress,
            workers=_workers(arguments),
            seed=arguments.seed,
        )
    print(json_text(report.to_json()) if arguments.json else "\n".join(_lines(report)))
    if not report.ok:
        sys.stdout.flush()
        raise CheckError(report.failure)


def _workers(arguments: argparse.Namespace) -> Workers | int:
    """Return who shares the samples; a node is asked by one process unless the user says otherwise."""
    if arguments.workers is not None and arguments.workers < 1:
        raise UsageError(f"--workers {arguments.workers}: one or more")
    if arguments.scheduler is None:
        from ml2sc.runtime.workers import default_workers

        return arguments.workers or (default_workers() if arguments.chain == "embedded" else 1)
    if arguments.workers is not None:
        raise UsageError("--workers are processes of this machine, --scheduler names others", hint="leave one out")
    from ml2sc.runtime.cluster import Cluster

    return Cluster(arguments.scheduler)


@contextmanager
def _progress_bar(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr if it is a terminal and things take more than two seconds."""
    from tqdm import tqdm

    with tqdm(unit="sample", delay=2.0, leave=False, file=sys.stderr, disable=True if quiet else None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _lines(report: Report) -> list[str]:
    """Return the report as a table for people."""
    from ml2sc.frontend.data import columns_text

    verdict = heading("ok", sys.stdout) if report.ok else failure("FAILED", sys.stdout)
    outside = f", {report.outside_range:,} of them outside the declared range" if report.outside_range else ""
    theirs = report.onnxruntime
    whose = "onnxruntime's" if report.onnxruntime_missing is None else "the model's in float64"
    rows: list[tuple[str, str]] = [
        ("chain", report.chain),
        ("samples", f"{report.samples:,}{f' random, --seed {report.seed}' if report.random else ''}{outside}"),
        ("bit-exact", f"{report.bit_exact_samples:,} of {report.samples:,} ({_paths(report)})"),
    ]
    if report.onnxruntime_missing is not None:
        rows.append(("not compared", report.onnxruntime_missing))
    if report.decision_agreement is not None:
        least = f"; at least {report.agreement_lower_bound:.2%} of inputs like these, with 95 % confidence"
        rows.append(("decisions", f"{report.decision_agreement:.2%} as {whose}{least}"))
    if report.differing:
        rows.append(("other ones", _differing(report.differing)))
    if report.accuracy is not None:
        rows.append(("accuracy", f"{report.accuracy:.2%}{_beside(theirs.accuracy, '.2%')}"))
    rows += [
        ("error bound", f"{report.error_bound:.3g}{_unsaturated(report)}"),
        ("largest error", f"{_number(report.max_abs_error)}{_beside(theirs.max_abs_error, '.3g')}"),
        ("mean error", f"{_number(report.mean_abs_error)}{_beside(theirs.mean_abs_error, '.3g')}"),
    ]
    if report.error_percentiles:
        shares = (f"{value:.3g} in {percent} %" for percent, value in report.error_percentiles.items())
        rows.append(("errors up to", ", ".join(shares)))
    if report.outside_range:
        share = report.outside.decision_agreement
        agreement = "" if share is None else f", {share:.2%} of the decisions as {whose}"
        rows.append(("outside range", f"largest error {_number(report.outside.max_abs_error)}{agreement}"))
        rows.append(("values there", columns_text(report.outside.columns)))
    predicted = "" if report.gas_predicted is None else f", {report.gas_predicted:,} predicted"
    rows.append(("gas", f"{report.gas.mean:,.0f} on average ({report.gas.min:,} to {report.gas.max:,}){predicted}"))
    if report.gas_deploy is not None:
        weights = f" and {report.gas_weights:,} for its weights" if report.gas_weights else ""
        rows.append(("gas to deploy", f"{report.gas_deploy:,}{weights}"))
    rows.append(("code", f"{report.code_bytes:,} bytes"))
    if report.bytecode is not None:
        rows.append(("bytecode", report.bytecode.summary))
    if report.proof is not None:
        rows.append(("compared", report.proof.summary))
    if report.proof is not None and report.proof.update is not None:
        rows += report.proof.update.rows()
    title = heading(f"{report.name} ({report.target}, {report.precision}): ", sys.stdout)
    return [title + verdict, *(f"  {name:<14} {text}" for name, text in rows)]


def _differing(samples: Sequence[Differing]) -> str:
    """Name the samples whose decisions differ, the first few of many."""
    shown = ", ".join(f"{d.sample} ({d.contract}, not {d.onnxruntime})" for d in samples[:_SHOWN])
    return f"samples {shown}" + (f" and {len(samples) - _SHOWN} more (--json lists them)" if samples[_SHOWN:] else "")


def _unsaturated(report: Report) -> str:
    """Return what is said of the samples on which nothing saturates, where their bound is another one."""
    found = report.unsaturated
    if f"{found.error_bound:.3g}" == f"{report.error_bound:.3g}":
        return ""
    largest = "" if found.max_abs_error is None else f" (largest error {found.max_abs_error:.3g})"
    return f"; {found.error_bound:.3g} where nothing saturates: {found.samples:,} samples{largest}"


def _paths(report: Report) -> str:
    wad = "" if report.wad_samples == report.samples else f", the latter on {report.wad_samples:,}"
    return f"packed and WAD inputs{wad}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _beside(value: float | None, form: str) -> str:
    return "" if value is None else f" (onnxruntime {value:{form}})"


if __name__ == "__main__":
    sys.exit(main())
