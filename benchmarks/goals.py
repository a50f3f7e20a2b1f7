"""A table of figures beside the best that is known, and what they should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .jobs import TARGETS
from .text import MISSING, gas, share, table

AGREEMENT = 0.995
"""Share of decisions that must be onnxruntime's for a figure of a classifier to count."""


@dataclass(frozen=True)
class Goal:
    """A row of the table.

    Attributes:
        what: What is compared.
        best: The best known figure, and whose.
        ours: Our figure by target; None if there is none.
        at_most: What it should be at most, by target.
        paper_way: The same network the paper's way, in this run.
        agreement: Share of equal decisions that goes with our figures, by target; empty where none does.
    """

    what: str
    best: str
    ours: Mapping[str, float | None]
    at_most: Mapping[str, float]
    paper_way: str = MISSING
    agreement: Mapping[str, float | None] = field(default_factory=dict)

    def verdict(self) -> str:
        """Return what is reached and what is not."""
        said = []
        for target, limit in self.at_most.items():
            value, agreement = self.ours[target], self.agreement.get(target, 1.0)
            if value is None or value > limit:
                said.append(f"{target.capitalize()} no")
            elif agreement is None or agreement < AGREEMENT:
                said.append(f"{target.capitalize()} no: {share(agreement)} of the decisions")
            else:
                said.append(f"{target.capitalize()} yes")
        return ", ".join(said)

    def row(self) -> list[str]:
        """Return the cells of its row."""
        limits = " / ".join(f"≤ {_amount(limit)}" for limit in self.at_most.values())
        ours = (MISSING if (value := self.ours[t]) is None else _amount(value) for t in TARGETS)
        return [self.what, self.best, self.paper_way, *ours, limits, self.verdict()]


def goal_table(goals: Iterable[Goal]) -> str:
    """Return the table."""
    head = ["benchmark", "best known", "the paper's way", *map(str.capitalize, TARGETS), "to be", "reached"]
    return table(head, (goal.row() for goal in goals))


def _amount(value: float) -> str:
    return f"{value:.2f}" if value < 100 else gas(value)
