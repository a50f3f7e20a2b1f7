"""Does a contract keep its model? How that is judged, and how it is said."""

from __future__ import annotations

from dataclasses import dataclass

POOR = 0.99
"""A smaller share of the model that is kept is warned of."""
LEAST = 0.95
"""A smaller share is a failure, if nobody says otherwise."""


@dataclass(frozen=True)
class Kept:
    """How much of its model a contract keeps, on samples.

    Attributes:
        samples: How many were looked at.
        agreement: Share of the decisions that are the model's; None where it makes none.
        least: What that share is at least for inputs like these, with 95 % confidence; None where nothing can be said.
        accuracy: Share of the contract's decisions that are the labels; None without labels or decisions.
        model_accuracy: The same of the model's.
        fit: R² of the contract's outputs as estimates of the model's; None where it only decides, or nothing varies.
        label_fit: R² of the contract's outputs as estimates of the labels; None without labels.
        model_label_fit: The same of the model's.
    """

    samples: int
    agreement: float | None = None
    least: float | None = None
    accuracy: float | None = None
    model_accuracy: float | None = None
    fit: float | None = None
    label_fit: float | None = None
    model_label_fit: float | None = None

    @property
    def share(self) -> float | None:
        """The share that is kept: of decisions, or of the outputs' variance where they are estimates; None: unknown."""
        return self.fit if self._estimates else self.agreement

    @property
    def _estimates(self) -> bool:
        """Whether the outputs are estimates: they are if nothing is decided, or labels say so."""
        return self.agreement is None or self.label_fit is not None

    @property
    def poor(self) -> bool:
        """Whether it is so little that it should be known."""
        return self.share is not None and self.share < POOR

    def enough(self, least: float) -> bool:
        """Whether at least such a share is kept, as far as is known."""
        return self.share is None or self.share >= least

    @property
    def figures(self) -> str:
        """What was counted, as a phrase; empty where nothing was."""
        if self.agreement is not None and not self._estimates:
            kept = round(self.agreement * self.samples)
            return f"{kept:,} of {self.samples:,} decisions are the model's ({self.agreement:.2%})"
        if self.fit is not None:
            return f"R² of its outputs is {self.fit:.4f} against the model's"
        return ""

    def facts(self, least: float | None = None) -> list[tuple[str, str]]:
        """Return the verdict as facts of a sheet.

        Args:
            least: The share that is asked for.
        """
        facts = []
        if self.figures:
            word = "yes" if not self.poor else "poorly" if self.enough(least or 0.0) else "no"
            sure = ""
            if self.least is not None and not self._estimates:
                sure = f"; at least {self.least:.2%} on inputs like these, with 95 % confidence"
            facts.append(("keeps the model", f"{word}: {self.figures}{sure}"))
        if self.accuracy is not None:
            facts.append(("accuracy", f"{self.accuracy:.2%} of the labels{_beside(self.model_accuracy, '.2%')}"))
        if self.label_fit is not None:
            facts.append(("R²", f"{self.label_fit:.4f} against the labels{_beside(self.model_label_fit, '.4f')}"))
        return facts


def _beside(value: float | None, form: str) -> str:
    return "" if value is None else f", the model's own {value:{form}}"
