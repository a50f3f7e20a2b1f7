"""A report's table: is the contract exact, does it keep its model, what does it cost?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ml2sc.backends.summary import transactions
from ml2sc.frontend.data import columns_text
from ml2sc.money import Prices
from ml2sc.sheet import Sheet

if TYPE_CHECKING:
    from .report import Differing, Report

_SHOWN = 5
"""Samples with other decisions that the table names."""

Fact = tuple[str, str]


def sheet_of(report: Report, prices: Prices, least: float | None) -> Sheet:
    """Return a report's table.

    Args:
        report: The report.
        prices: What gas costs.
        least: The share of the model that is asked for; None: none is.
    """
    facts = [*_samples(report), *_kept(report, least), *_errors(report), *_gas(report, prices)]
    facts += [*_bounds(report), ("code", f"{report.code_bytes:,} bytes"), *_proof(report)]
    good = report.ok and report.kept.enough(least or 0.0)
    return Sheet(f"{report.name} ({report.target}, {report.precision})", "ok" if good else "FAILED", facts=facts)


def _samples(report: Report) -> Iterator[Fact]:
    outside = f", {report.outside_range:,} of them outside the declared range" if report.outside_range else ""
    some = "" if report.wad_samples == report.samples else f", the latter on {report.wad_samples:,}"
    given = f"packed and WAD inputs{some}" if report.wad_samples else "packed inputs"
    word = "yes" if report.bit_exact else "no"
    yield "chain", report.chain
    random = f" random, --seed {report.seed}" if report.random else ""
    yield "samples", f"{report.samples:,}{random}{outside}"
    yield (
        "exact",
        f"{word}: {report.bit_exact_samples:,} of {report.samples:,} bit for bit ({given})",
    )


def _kept(report: Report, least: float | None) -> Iterator[Fact]:
    if report.onnxruntime_missing is not None:
        yield "not compared", report.onnxruntime_missing
    if report.random:
        same = "" if report.decision_agreement is None else f" ({report.decision_agreement:.2%} of the decisions are)"
        yield "keeps the model", f"not judged by random inputs{same}: give --samples that are like yours"
    yield from report.kept.facts(least)
    if report.differing:
        yield "other decisions", _differing(report.differing, report.differing_samples)


def _differing(samples: Sequence[Differing], count: int) -> str:
    """Name the samples whose decisions differ, the first few of many."""
    shown = ", ".join(f"{d.sample} ({d.contract}, not {d.onnxruntime})" for d in samples[:_SHOWN])
    return f"samples {shown}" + (f" and {count - _SHOWN:,} more (--json lists them)" if samples[_SHOWN:] else "")


def _errors(report: Report) -> Iterator[Fact]:
    """Say how far outputs are from the model in float64, and from onnxruntime, which computes in float32."""
    theirs = report.onnxruntime
    yield "largest error", f"{_number(report.max_abs_error)}{_beside(theirs.max_abs_error)}"
    yield "mean error", f"{_number(report.mean_abs_error)}{_beside(theirs.mean_abs_error)}"
    if report.error_percentiles:
        shares = (f"{value:.3g} in {percent} %" for percent, value in report.error_percentiles.items())
        yield "errors up to", ", ".join(shares)
    if report.outside_range:
        share = report.outside.decision_agreement
        agreement = "" if share is None else f", {share:.2%} of the decisions as the model's"
        yield "outside range", f"largest error {_number(report.outside.max_abs_error)}{agreement}"
        yield "values there", columns_text(report.outside.columns)


def _gas(report: Report, prices: Prices) -> Iterator[Fact]:
    yield "gas, read", "none: a call from outside (eth_call) is free"
    if report.called is not None:
        cold, warm = (f"{gas:,.0f} {state}{prices.of(gas)}" for gas, state in _states(report))
        yield "gas, called", f"{cold}, {warm}: what a contract that calls it pays ({report.called.samples} samples)"
    predicted = "" if report.gas_predicted is None else f", {report.gas_predicted:,} predicted"
    spread = f"{report.gas.min:,} to {report.gas.max:,}{predicted}"
    mean = f"{report.gas.mean:,.0f}{prices.of(report.gas.mean)}"
    yield "gas, sent", f"{mean} as a transaction, 21,000 and calldata included ({spread})"
    if report.gas_deploy is not None and report.gas_weights is not None and report.transactions is not None:
        whole = report.gas_deploy + report.gas_weights
        weights = f", {report.gas_weights:,} of it for its weights" if report.gas_weights else ""
        yield "to deploy", f"{whole:,} gas{prices.of(whole)} in {transactions(report.transactions)}{weights}"


def _states(report: Report) -> list[tuple[float, str]]:
    assert report.called is not None
    return [(report.called.cold, "cold"), (report.called.warm, "warm")]


def _bounds(report: Report) -> Iterator[Fact]:
    """Say what is proved; the samples on which nothing saturates have a bound of their own."""
    calm = report.unsaturated
    every = f"{report.error_bound:.3g}: proved for every input of the declared range"
    if f"{calm.error_bound:.3g}" == f"{report.error_bound:.3g}":
        yield "error bound", every
        return
    largest = "" if calm.max_abs_error is None else f", largest error {calm.max_abs_error:.3g}"
    yield (
        "error bound",
        (f"{calm.error_bound:.3g}: proved for inputs on which nothing saturates ({calm.samples:,} samples{largest})"),
    )
    yield "", every


def _proof(report: Report) -> Iterator[Fact]:
    if report.bytecode is not None:
        yield "bytecode", report.bytecode.summary
    if report.proof is None:
        return
    yield "compared", report.proof.summary
    if report.proof.update is not None:
        yield from report.proof.update.rows()


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _beside(value: float | None) -> str:
    return "" if value is None else f" (to onnxruntime {value:.3g})"
