"""Choices between ways to compute something: by price, or as somebody says. They are noted, to be made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ml2sc.errors import UsageError
from ml2sc.ir.limits import shown
from ml2sc.ir.program import Choice

T = TypeVar("T")

RUNNERS_UP = 3
"""Ways that were not taken which are remembered."""
_LONGEST = 200


@dataclass
class Choices:
    """The choices of a lowering.

    Attributes:
        settled: Those that are made beforehand: ways by what they are chosen for.
        made: All that were made so far.
        free: How many of them were made by prices that `make` was given.
    """

    settled: Mapping[str, str]
    made: dict[str, Choice] = field(default_factory=dict)
    free: int = 0

    def make(self, name: str, ways: Iterable[T], text: Callable[[T], str], price: Callable[[T], float]) -> T:
        """Return the way that is settled, or else the one that costs least, the first of equal ones.

        Args:
            name: What is chosen for: a section, or a node after an @.
            ways: The ways, one at least.
            text: Names a way; no two ways of one choice have the same name.
            price: Returns what a way costs.

        Raises:
            UsageError: the one that is settled is none of them.
        """
        settled = self.settled.get(name)
        if settled is not None:
            for way in ways:
                if text(way) == settled:
                    self.made[name] = Choice(settled)
                    return way
            raise UsageError(
                f"{shown(name)} cannot be computed in the way {settled!r:.{_LONGEST}}",
                hint="name one that the manifest of the same model's contract names, or leave the choice out",
            )
        self.free += 1
        return self.note(name, sorted(((price(way), way) for way in ways), key=lambda found: found[0]), text)

    def note(self, name: str, priced: Sequence[tuple[float, T]], text: Callable[[T], str]) -> T:
        """Note that the first of some ways is taken, and return it.

        Args:
            name: What is chosen for.
            priced: The ways after their prices, the cheapest first.
            text: Names a way.
        """
        best, chosen = priced[0]
        others = tuple((text(way), cost) for cost, way in priced[1 : 1 + RUNNERS_UP])
        self.made[name] = Choice(text(chosen), best, others)
        return chosen


def require_used(settled: Mapping[str, str], made: Mapping[str, Choice]) -> None:
    """Refuse a choice for something that there is not.

    Args:
        settled: Ways by what they are to be chosen for.
        made: What was chosen.

    Raises:
        UsageError: nothing is chosen for one of the names.
    """
    for name in sorted(settled.keys() - made.keys()):
        known = ", ".join(map(shown, made)) or "nothing"
        raise UsageError(f"there is nothing to choose for {shown(name)}", hint=f"there is for {known:.300}")
