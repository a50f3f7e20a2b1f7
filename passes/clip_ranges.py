"""Pass `clip_ranges`: rare values far out are left to saturation where that makes the answers better.

1. For every tensor that is brought to a format for a layer or a table to read, the candidates are its least and
   greatest value over the samples (`minmax`), the range that all but a few of its values lie in (`percentile`), and
   the range whose format adds the least mean square error to its values (`mse`).
2. Of them that range is taken with which the integers lose the fewest decisions on the samples, and then have the least
   mean square error; the widest where two are alike. Tensors are gone through in the order in which they are computed.
3. Inputs keep their declared range; so do tensors whose format has more than 16 bits: their steps are fine enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ml2sc.errors import UsageError
from ml2sc.ir.analysis import prove_intervals, real_bounds
from ml2sc.ir.graph import Graph
from ml2sc.ir.ops.base import op_of
from ml2sc.ir.types import Array

from .calibrate import Spread
from .formats import LINEAR, Formats
from .manager import Pass, register_pass
from .measure import Sample, answers, measure
from .precision import Binary, parse_precision
from .quantize import quantize

METHODS = ("minmax", "percentile", "mse")

_TAILS = (1e-5, 1e-4, 1e-3)
"""Shares of the values that percentile ranges leave outside at each end."""
_CUTS = 16
"""Steps in which `mse` draws each end in, down to a quarter of it."""
_FINE = 16
"""Bits of formats that gain nothing."""


@register_pass
@dataclass(frozen=True)
class ClipRanges(Pass):
    """Choose the range that each tensor's format spans.

    Attributes:
        precision: The precision the graph will be quantised to.
        spreads: How the tensors' values are spread, from `calibrate`.
        samples: For each sample the graph inputs' arrays, in their shapes.
        methods: Filled by `run`: the method taken, by tensor.
    """

    name: ClassVar[str] = "clip_ranges"
    after: ClassVar[tuple[str, ...]] = ("calibrate", "equalize")
    precision: str = "int8"
    spreads: Mapping[str, Spread] = field(default_factory=dict, repr=False)
    samples: Sequence[Sample] = field(default=(), repr=False)
    methods: dict[str, str] = field(default_factory=dict, repr=False, init=False, compare=False)

    def run(self, graph: Graph) -> bool:
        precision = parse_precision(self.precision)
        if precision is None:
            raise UsageError("the clip_ranges pass needs a precision, not 'auto'")
        self.methods.clear()
        if isinstance(precision, Binary):
            return False
        before, formats, bounds = dict(graph.observed), Formats(graph, precision), real_bounds(graph)
        asked = list(zip(self.samples, answers(graph, self.samples), strict=True))

        def badness() -> tuple[int, float]:
            quantized = quantize(graph, precision, bounds)
            prove_intervals(quantized)
            return measure(quantized, asked).badness

        for name in _read(graph):
            if name not in self.spreads or name in graph.inputs:
                continue
            bits, spread = formats.activation(name), self.spreads[name]
            ranges = {method: clipped(spread, bits, method) for method in METHODS}
            best: tuple[tuple[int, float], str] | None = None
            for method, ends in ranges.items():
                if best is not None and (ends == ranges[best[1]] or bits > _FINE):
                    continue
                graph.observed[name] = ends
                found = badness()
                if best is None or found < best[0]:
                    best = found, method
            assert best is not None
            graph.observed[name], self.methods[name] = ranges[best[1]], best[1]
        return graph.observed != before


def _read(graph: Graph) -> Iterable[str]:
    """Return the tensors that layers and tables read."""
    return dict.fromkeys(
        node.inputs[0]
        for node in graph
        if (node.op_type in LINEAR or op_of(node).tabulated) and not graph.tensor(node.inputs[0]).is_constant
    )


def clipped(spread: Spread, bits: int, method: str) -> tuple[float, float]:
    """Return the range that a method proposes for a format of `bits` bits.

    Args:
        spread: The tensor's values.
        bits: Width of the format.
        method: One of METHODS.
    """
    # 0 has an integer of its own in every format
    candidates = np.array([(min(lo, 0.0), max(hi, 0.0)) for lo, hi in _candidates(spread, method)])
    lo, hi = candidates[np.argmin(_noise(spread, candidates, bits))].tolist()
    return max(lo, spread.lo), min(hi, spread.hi)


def _candidates(spread: Spread, method: str) -> Iterator[tuple[float, float]]:
    if method == "minmax":
        yield spread.lo, spread.hi
    if method == "percentile":
        below = np.cumsum(spread.counts)
        for tail in _TAILS:
            outside = math.floor(tail * int(below[-1]))
            first = int(np.searchsorted(below, outside, side="right"))
            last = int(np.searchsorted(below, below[-1] - outside, side="left"))
            edges = spread.centres[[first, last]] + np.array([-0.5, 0.5]) * spread.width
            yield max(float(edges[0]), spread.lo), min(float(edges[1]), spread.hi)
    if method == "mse":
        shares = [1 - 0.75 * cut / _CUTS for cut in range(_CUTS + 1)]
        yield from ((spread.lo * below, spread.hi * above) for below in shares for above in shares)


def _noise(spread: Spread, ends: Array, bits: int) -> Array:
    """Return the mean square error that a format adds which spreads its integers over a range, for each of (n, 2)."""
    steps = (ends[:, 1] - ends[:, 0]) / ((1 << bits) - 1)
    filled = np.flatnonzero(spread.counts)
    centres, counts = spread.centres[filled], spread.counts[filled]
    outside = np.maximum(np.maximum(ends[:, :1] - centres, centres - ends[:, 1:]), 0.0)
    inside = (outside == 0) @ counts
    result: Array = (inside * steps * steps / 12 + (outside * outside) @ counts) / int(counts.sum())
    return result
