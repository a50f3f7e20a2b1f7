"""One vector times a matrix, before it is decided how: what the planner is told, and the kernels."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.program import Block, Const, Expr, Induction, Statement, Var, const, loop
from ml2sc.ir.types import Array

from .context import DraftSection, Lowering
from .epilogue import Epilogue
from .nests import emit_nests
from .options import ASSUMED, DENSE, PART_SIZES, SPANS, Activity
from .plan import BYTES
from .values import Laned, Packed, Scalars, Source, Value


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
    """A layer, before it is decided how it is computed.

    Attributes:
        tensor: The tensor of the inputs.
        value: Where they are.
        epilogue: What happens to the sums.
        groups: The inputs of the first row and their weights.
        bias: What each output's sum starts at: (rows, outputs), one row for all that start alike.
        operator: The operators it covers, for the report.
        inputs: Inputs of the layer.
        activity: What they look like.
        across: Rows that are multiplied by the same weights.
        apart: Positions of the source from one row to the next (whole words of a laned source).
        gathered: Whether the inputs are brought together first, a word each: `groups` says where they are then.
    """

    tensor: str
    value: Value
    epilogue: Epilogue
    groups: tuple[Rows, ...]
    bias: Array
    operator: str
    inputs: int
    activity: Activity
    across: int = 1
    apart: int = 0
    gathered: bool = False

    @property
    def rows(self) -> int:
        """Inputs that are read: those of whole words, and each that comes several times once."""
        return sum(len(g.weights) for g in self.groups)

    @property
    def outputs(self) -> int:
        """Outputs of a row."""
        return int(self.bias.shape[1])

    def title(self) -> str:
        """Return what is computed, in words."""
        rows = "" if self.across == 1 else f"{self.across} rows of "
        return f"{self.operator}, {rows}{self.inputs} -> {self.outputs}"

    def brought(self, context: Lowering, draft: DraftSection) -> tuple[Rows, ...]:
        """Return the first row's inputs where they are, after adding to the section what brings them there, if need be.

        Buffers may have other names than when it was found out where the inputs are.
        """
        value = context.values[self.tensor]
        if self.gathered:
            scalars = context.scalars(value, draft)
            buffer = context.buffer(f"{draft.name}_rows", value.size)
            draft.body += emit_nests([scalars], np.arange(value.size), buffer, lambda operands: ([], operands[0]))
            value = Value.of(Scalars(buffer, value.size))
        now = dict(zip(self.value.sources, value.sources, strict=True))
        groups = tuple(dataclasses.replace(group, source=now[group.source]) for group in self.groups)
        for group in groups:
            draft.read(group.needed(self.across, self.apart))
        return groups

    def over_rows(self, step: int, words: int, *, written: bool, row: RowOf) -> list[Statement]:
        """Return what is done for all rows.

        Args:
            step: What is added to the place of a row's inputs for the next row's.
            words: Words of a row's results.
            written: Whether rows are written out one after the other; else they are a loop.
            row: Returns what is done for one, of what is added to the places of its inputs, and of its results.
        """
        if self.across == 1:
            return row(const(0), const(0))
        if written:
            return [Block(tuple(row(const(r * step), const(r * words)))) for r in range(self.across)]
        also = [Induction("result", const(0), words)]
        return [loop("matrix_row", self.across, row(Var("matrix_row"), Var("result")), step=step, also=also)]


RowOf = Callable[[Expr, Expr], list[Statement]]


def known(index: Expr) -> int:
    """Return an index that is a constant."""
    assert isinstance(index, Const)
    return index.value
