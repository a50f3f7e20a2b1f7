"""Tables and numbers of the results, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .measure import Figures

MISSING = "–"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose columns but the first are aligned to the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def gas(value: float) -> str:
    """Return an amount of gas: exact below ten million, in millions from there on."""
    return f"{value:,.0f}" if value < 10_000_000 else f"{value / 1e6:,.1f} M"


def share(value: float | None) -> str:
    """Return a share as a percentage."""
    return MISSING if value is None else f"{value:.2%}"


def cell(figures: Figures, value: float) -> str:
    """Return an amount of gas, or that there is no such contract."""
    return "does not fit" if figures.refused else gas(value)


def refusals(named: Iterable[tuple[str, Figures]]) -> str:
    """Return a paragraph on the contracts that could not be had; empty without any."""
    lines = [f"- {name}: {figures.refused}" for name, figures in named if figures.refused]
    return "\n".join(["Does not fit:", "", *lines, ""]) if lines else ""
