"""Pass `clip_ranges`: rare values far out are left to saturation where that makes the answers better.

1. For every tensor that is brought to a format for a layer or a table to read, the candidates are its least and
   greatest value over the samples (`minmax`), the range that all but a few of its values lie in (`percentile`), and
   the range whose format adds the least mean square error to its values (`mse`).
2. Of them that range is taken with which the integers lose the fewest decisions on the samples, and then have the least
   mean square error; the widest where two are alike. Tensors are gone through in the order in which they are computed.
3. Inputs keep their declared range; so do tensors whose format has more than 16 bits: their steps are fine enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ml2sc.errors import UsageError
from ml2sc.ir.analysis import prove_intervals, real_bounds
from ml2sc.ir.graph import Graph
from ml2sc.ir.types import Array

from .calibrate import Spread
from .formats import Formats, reads_activations
from .manager import Pass, register_pass
from .measure import Answer, Asked, answers, measure
from .precision import Binary, Integer, Layered, parse_precision
from .quantize import quantize
from .samples import Sample

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
        answers: The model's answers to the samples; filled by `run` if it is empty.
        ranges: By tensor the range taken and its method; filled by `run` if it is empty, else taken as it is.
    """

    name: ClassVar[str] = "clip_ranges"
    after: ClassVar[tuple[str, ...]] = ("calibrate", "equalize")
    precision: str = "int8"
    spreads: Mapping[str, Spread] = field(default_factory=dict, repr=False)
    samples: Sequence[Sample] = field(default=(), repr=False)
    answers: list[Answer] = field(default_factory=list, repr=False, compare=False)
    ranges: dict[str, tuple[tuple[float, float], str]] = field(default_factory=dict, repr=False, compare=False)

    def run(self, graph: Graph) -> bool:
        precision = parse_precision(self.precision)
        if precision is None:
            raise UsageError("the clip_ranges pass needs a precision, not 'auto'")
        if isinstance(precision, Binary):
            return False
        before = dict(graph.observed)
        if not self.ranges:
            self.ranges.update(self._chosen(graph, precision))
        graph.observed.update({name: ends for name, (ends, _) in self.ranges.items()})
        return graph.observed != before

    @property
    def methods(self) -> dict[str, str]:
        """The method taken, by tensor."""
        return {name: method for name, (_, method) in self.ranges.items()}

    def _chosen(self, graph: Graph, precision: Integer | Layered) -> dict[str, tuple[tuple[float, float], str]]:
        """Return by tensor the range that is best and its method; the graph's own ranges come to be these."""
        formats, bounds, chosen = Formats(graph, precision), real_bounds(graph), {}
        if not self.answers:
            self.answers.extend(answers(graph, self.samples))
        asked = Asked(zip(self.samples, self.answers, strict=True))

        def badness(best: tuple[int, float] | None) -> tuple[int, float]:
            """Measure the ranges as they are, or until they are known to be worse than the best."""
            quantized = quantize(graph, precision, bounds, tentative=True)
            prove_intervals(quantized)
            return measure(quantized, asked, lambda lost, _: best is not None and lost > best[0]).badness

        known: tuple[int, float] | None = None  # of the ranges as they are
        for name in _read(graph):
            if name not in self.spreads or name in graph.inputs:
                continue
            bits, spread = formats.activation(name), self.spreads[name]
            ranges = {method: clipped(spread, bits, method) for method in METHODS}
            measured = {} if known is None else {graph.observed[name]: known}
            best: tuple[tuple[int, float], str] | None = None
            for method, ends in ranges.items():
                if best is not None and (ends == ranges[best[1]] or bits > _FINE):
                    continue
                if ends not in measured:
                    graph.observed[name] = ends
                    measured[ends] = badness(None if best is None else best[0])
                if best is None or measured[ends] < best[0]:
                    best = measured[ends], method
            assert best is not None
            known, method = best
            graph.observed[name] = ranges[method]
            chosen[name] = ranges[method], method
        return chosen


def _read(graph: Graph) -> Iterable[str]:
    """Return the tensors that layers and tables read."""
    reading = (node for node in graph if reads_activations(node))
    return dict.fromkeys(
        name for node in reading for name in node.inputs if name and not graph.tensor(name).is_constant
    )


def clipped(spread: Spread, bits: int, method: str) -> tuple[float, float]:
    """Return the range that a method proposes for a format of `bits` bits.

    Args:
        spread: The tensor's values.
        bits: Width of the format.
        method: One of METHODS.
    """
    lows, highs = _candidates(spread, method)
    # 0 has an integer of its own in every format
    lows, highs = np.minimum(lows, 0.0), np.maximum(highs, 0.0)
    best = int(_noise(spread, lows, highs, bits).argmin())
    return max(float(lows[best]), spread.lo), min(float(highs[best]), spread.hi)


def _candidates(spread: Spread, method: str) -> tuple[Array, Array]:
    """Return the lower and the upper ends of the ranges that a method has to choose from."""
    if method == "percentile":
        below = np.cumsum(spread.counts)
        outside = np.floor(np.array(_TAILS) * int(below[-1]))
        first = np.searchsorted(below, outside, side="right")
        last = np.searchsorted(below, below[-1] - outside, side="left")
        centres, half = spread.centres, 0.5 * spread.width
        return np.maximum(centres[first] - half, spread.lo), np.minimum(centres[last] + half, spread.hi)
    shares = 1 - 0.75 * np.arange(_CUTS + 1) / _CUTS if method == "mse" else np.ones(1)
    return np.repeat(spread.lo * shares, shares.size), np.tile(spread.hi * shares, shares.size)


def _noise(spread: Spread, lows: Array, highs: Array, bits: int) -> Array:
    """Return the mean square error that a format adds which spreads its integers over each of some ranges."""
    held = np.flatnonzero(spread.counts)  # of the columns of a table, few bins are
    counts, centres = spread.counts[held], spread.centres[held]
    below, low = _beyond(lows, lambda ends: ends - centres, counts)
    above, high = _beyond(highs, lambda ends: centres - ends, counts)
    steps = (highs - lows) / ((1 << bits) - 1)
    total = int(counts.sum())
    inside = total - below[0][low] - above[0][high]
    noise: Array = (inside * steps * steps / 12 + below[1][low] + above[1][high]) / total
    return noise


def _beyond(ends: Array, distance: Callable[[Array], Array], counts: Array) -> tuple[tuple[Array, Array], Array]:
    """Return how many values lie beyond each end and the sum of their square distances, and each end's place there."""
    distinct, place = np.unique(ends, return_inverse=True)
    away = np.maximum(distance(distinct[:, None]), 0.0)
    return ((away > 0) @ counts, (away * away) @ counts), place
