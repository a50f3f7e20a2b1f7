"""One vector times a matrix, before it is decided how: what the planner is told, and the kernels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.types import Array

from .context import DraftSection, Lowering
from .epilogue import Epilogue
from .plan import ASSUMED, BYTES, DENSE, PART_SIZES, SPANS, Activity
from .values import Laned, Packed, Source, Value


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of W for a run of positions of one source.

    Attributes:
        source: Where the inputs are.
        first: First position (a multiple of the lanes of a laned source).
        weights: In int64 or Python ints, (positions, outputs).
        correction: Σ over the rows of (what u = 0 stands for) · w, by output.
        common: Whether u = 0 is what inputs often are.
        live: Whether inputs are not stored as 0, (samples, positions), if that is known.
    """

    source: Source
    first: int
    weights: Array
    correction: Array
    common: bool
    live: Array | None = None

    @property
    def unit(self) -> int:
        """Inputs of a word."""
        return unit_of(self.source)

    def needed(self, across: int = 1, apart: int = 0) -> Value:
        """Return the inputs whose weights are not all 0, of as many rows that lie alike."""
        where = self.first + np.flatnonzero((self.weights != 0).any(axis=1))
        return Value.of(self.source).take((where + apart * np.arange(across)[:, None]).ravel())

    def activity(self) -> Activity:
        """Return what the inputs look like."""
        if self.live is None:
            return ASSUMED if self.common else DENSE
        count = -(-self.live.shape[1] // self.unit) * self.unit
        padded = np.zeros((len(self.live), count), dtype=bool)
        padded[:, : self.live.shape[1]] = self.live

        def share(size: int) -> float:
            return round(float(padded.reshape(len(padded), -1, size).any(axis=2).mean()), 3)

        parts = {size: share(size) if self.unit % size == 0 else 1.0 for size in PART_SIZES}
        cuts = [count * span // SPANS for span in range(SPANS + 1)]
        spans = tuple(round(float(padded[:, a:b].any(axis=1).mean()), 3) for a, b in itertools.pairwise(cuts))
        return Activity(round(float(self.live.mean()), 3), parts, share(self.unit), spans)


def unit_of(source: Source) -> int:
    """Return how many inputs are in a word that is read at once."""
    if isinstance(source, Laned):
        return source.lanes
    return BYTES if isinstance(source, Packed) and source.width == 1 and not source.signed else 1


@dataclass(frozen=True)
class Product:
    """What is lowered.

    Attributes:
        context: The lowering of the graph.
        draft: The section to fill.
        epilogue: What happens to the sums.
        groups: The inputs and their weights.
        bias: What each output's sum starts at.
        operator: The operators it covers, for the report.
        inputs: Inputs of the layer.
        activity: What they look like.
        addends: What is added to the sums, an element to each, row by row.
        across: Rows that are multiplied by the same code and weights.
        apart: Positions of the source from one row to the next (whole words of a laned source).
    """

    context: Lowering
    draft: DraftSection
    epilogue: Epilogue
    groups: list[Rows]
    bias: Array
    operator: str
    inputs: int
    activity: Activity
    addends: tuple[Value, ...] = ()
    across: int = 1
    apart: int = 0

    @property
    def rows(self) -> int:
        """Inputs that are read: those of whole words, and each that comes several times once."""
        return sum(len(g.weights) for g in self.groups)
