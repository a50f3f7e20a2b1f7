"""calibrate: the range each tensor really takes, over samples, and how its values are spread over it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ml2sc.ir.evaluate import Each
from ml2sc.ir.graph import Graph
from ml2sc.ir.types import Array, DType

from .manager import Pass, register_pass
from .samples import Sample, Share, look, real_values

_HALF = 4096
"""Bins of a histogram on each side of 0."""
_TOGETHER = 1 << 18
"""Values that are counted in one go."""


@dataclass
class Spread:
    """A tensor's values over the samples, counted as they come: memory does not grow with the samples.

    Bins are a power of two wide; where a value lies beyond the last one, neighbours are merged two by two.

    Attributes:
        lo: Least value.
        hi: Greatest value.
        width: Real width of a bin.
        counts: Values in each bin; bin i holds [(i − 4096)·width, (i − 4095)·width).
    """

    lo: float = math.inf
    hi: float = -math.inf
    width: float = 0.0
    counts: Array = field(default_factory=lambda: np.zeros(2 * _HALF, dtype=np.int64))

    def merge(self, other: Spread) -> None:
        """Count what another one has counted: it comes to the same as if this one had seen it all."""
        if other.width:
            self._widen(other.width)
            other._widen(self.width)
        self.lo, self.hi = min(self.lo, other.lo), max(self.hi, other.hi)
        self.counts = self.counts + other.counts

    def _widen(self, width: float) -> None:
        """Make the bins so wide at least."""
        if not self.width:
            self.width = width  # all that was counted is 0
        while self.width < width:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([np.zeros(_HALF // 2, np.int64), pairs, np.zeros(_HALF // 2, np.int64)])
            self.width *= 2

    def add(self, values: Array) -> None:
        """Count elements, at least one, all of them finite: of one sample, or of several."""
        self.lo, self.hi = min(self.lo, float(values.min())), max(self.hi, float(values.max()))
        largest = max(-self.lo, self.hi)
        if not largest:
            self.counts[_HALF] += values.size
            return
        self._widen(math.ldexp(1.0, math.frexp(largest)[1] - _HALF.bit_length() + 1))
        bins = np.floor(values.ravel() / self.width).astype(np.int64) + _HALF
        self.counts += np.bincount(bins, minlength=2 * _HALF)

    @property
    def centres(self) -> Array:
        """The middle of each bin."""
        return (np.arange(2 * _HALF) - _HALF + 0.5) * self.width


@register_pass
@dataclass(frozen=True)
class Calibrate(Pass):
    """Record the least and greatest real value of every float tensor over the samples.

    Attributes:
        samples: For each sample the graph inputs' arrays, in their shapes.
        share: Who looks at them where they are many; None: it is done here. The result is the same.
        known: The `spreads` that an earlier run found on the same graph: no sample is looked at again.
        spreads: Filled by `run`: by tensor how its values are spread.
    """

    name: ClassVar[str] = "calibrate"
    after: ClassVar[tuple[str, ...]] = ("infer_shapes", "fold_constants", "fuse_gemm_relu", "equalize")
    samples: Sequence[Sample] = field(default=(), repr=False)
    known: Mapping[str, Spread] | None = field(default=None, repr=False)
    share: Share | None = field(default=None, repr=False, compare=False)
    spreads: dict[str, Spread] = field(default_factory=dict, repr=False, init=False, compare=False)

    def run(self, graph: Graph) -> bool:
        self.spreads.clear()
        self.spreads.update(self.known or {})
        if self.known is None:
            self.spreads.update(merged(look(spreads_of, graph, self.samples, self.share)))
        graph.observed = {name: (spread.lo, spread.hi) for name, spread in self.spreads.items()}
        return bool(graph.observed)


def spreads_of(graph: Graph, samples: Iterable[Sample]) -> dict[str, Spread]:
    """Return how the values of every float tensor are spread over some samples, by tensor.

    Args:
        graph: A float graph.
        samples: The samples.

    Raises:
        DataError: the model breaks down on one of them.
    """
    return count_values(graph, (reals.found for reals in real_values(graph, samples)))


def count_values(graph: Graph, samples: Iterable[Mapping[str, Each]]) -> dict[str, Spread]:
    """Return how values are spread, by tensor.

    Args:
        graph: A float graph.
        samples: What it gives for some samples at a time, by tensor.
    """
    spreads: dict[str, Spread] = {}
    counted = {t.name for t in graph.tensors.values() if t.type is DType.FLOAT and not t.is_constant}
    waiting: dict[str, list[Array]] = {}
    size = 0

    def count() -> None:
        for name, values in waiting.items():
            spreads.setdefault(name, Spread()).add(np.concatenate(values))
        waiting.clear()

    for found in samples:
        for name, each in found.items():
            for values in (each if isinstance(each, list) else [each]) if name in counted else ():
                known = values[~np.isnan(values)]  # what is missing in a sample of trees has no value
                if known.size:
                    waiting.setdefault(name, []).append(known)
                    size += known.size
        if size > _TOGETHER:
            count()
            size = 0
    count()
    return spreads


def merged(parts: Iterable[Mapping[str, Spread]]) -> dict[str, Spread]:
    """Return how values are spread over all samples, given it for parts of them."""
    spreads: dict[str, Spread] = {}
    for part in parts:
        for name, spread in part.items():
            spreads.setdefault(name, Spread()).merge(spread)
    return spreads
