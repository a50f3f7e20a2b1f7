"""Results as tables for people: lines of text for a terminal, HTML for a notebook."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from .foreign import shown

_NAME_WIDTH = 18
"""Characters that a shortened name has at most."""
_LONGEST = 10_000
"""Characters of a text that may be anybody's: layers have the model's names, chains are called what nodes say."""
_LINE = 120
"""Characters of a line."""


@dataclass(frozen=True)
class Sheet:
    """A heading, a table, and facts below it.

    Attributes:
        title: What it is about.
        status: A word on how it went, after the title; empty for none.
        header: The table's header; empty for no table.
        rows: Its rows.
        legend: What the columns mean, line by line.
        facts: What else there is to say: (what, said).
    """

    title: str
    status: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    legend: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = field(default_factory=list)

    @property
    def heading(self) -> str:
        """Title and status in one line."""
        return f"{self.title}: {self.status}" if self.status else self.title

    def lines(self) -> list[str]:
        """Return what is below the heading, line by line."""
        width = max((len(what) for what, _ in self.facts), default=0)
        return [
            *(f"  {line}" for line in (table(self.header, self.rows) if self.header else ())),
            *(f"  {line}" for line in self.legend),
            *(line for what, said in self.facts for line in _fact(f"  {what:<{width}}  ", said)),
        ]

    def text(self) -> str:
        """Return all of it as lines of text."""
        return "\n".join([self.heading, *self.lines()])

    def html(self) -> str:
        """Return all of it as HTML."""
        cells = "".join(_row("th", self.header)) + "".join(_row("td", row) for row in self.rows)
        facts = "".join(f"<tr><th style='text-align:left'>{escape(k)}</th>{_cell('td', v)}</tr>" for k, v in self.facts)
        legend = "".join(f"<div><small>{escape(line)}</small></div>" for line in self.legend)
        parts = [f"<div><b>{escape(self.heading)}</b></div>", f"<table>{cells}</table>" if self.header else "", legend]
        return f"<div>{''.join(parts)}<table>{facts}</table></div>"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table: numbers to the right, with thousands separators, all else to the left."""
    cells = [[_shown(cell) for cell in row] for row in rows]
    right = [all(isinstance(row[i], int) or row[i] == "" for row in rows) for i in range(len(header))]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in [list(header), *cells]
    ]


def short_names(names: Iterable[str]) -> Mapping[str, str]:
    """Return short forms of names that are paths: as many of their last parts as tell them apart, long ones cut.

    Args:
        names: Names, such as `/encoder/fc1/Gemm`.
    """
    parts = {name: [part for part in re.split(r"[/.:]+", name) if part] or [name] for name in names}

    def end(name: str, count: int) -> str:
        return "/".join(parts[name][-count:])

    found = {}
    for name, own in parts.items():
        others = [other for other in parts if other != name]
        count = next((c for c in range(1, len(own)) if all(end(o, c) != end(name, c) for o in others)), len(own))
        found[name] = end(name, count)
    cut = {name: _cut(short) for name, short in found.items()}
    shown = list(cut.values())
    return {name: short if shown.count(short) == 1 else found[name] for name, short in cut.items()}


def _fact(start: str, said: str) -> list[str]:
    """Return the lines of a fact, those after the first indented as far as it."""
    lines = textwrap.wrap(_shown(said), _LINE - len(start), break_long_words=False, break_on_hyphens=False) or [""]
    return [f"{start if not index else ' ' * len(start)}{line}" for index, line in enumerate(lines)]


def _cut(text: str) -> str:
    if len(text) <= _NAME_WIDTH:
        return text
    half = (_NAME_WIDTH - 1) // 2
    return f"{text[:half]}…{text[half + 1 - _NAME_WIDTH :]}"


def _shown(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else shown(str(cell), _LONGEST)


def _row(tag: str, cells: Sequence[object]) -> str:
    return f"<tr>{''.join(_cell(tag, cell) for cell in cells)}</tr>"


def _cell(tag: str, cell: object) -> str:
    side = "right" if isinstance(cell, int) else "left"
    return f"<{tag} style='text-align:{side}'>{escape(_shown(cell))}</{tag}>"
