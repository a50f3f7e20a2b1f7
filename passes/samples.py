"""What the float model computes for the samples that formats are chosen on, by whoever does the work."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from ml2sc.errors import DataError
from ml2sc.ir.evaluate import Each, evaluate_floats, one_of
from ml2sc.ir.graph import Graph
from ml2sc.ir.types import Array

Sample = Mapping[str, Array]
Found = TypeVar("Found")

PART = 4_096
"""Samples that are looked at in one go where many do the work."""


@dataclass(frozen=True)
class Look(Generic[Found]):
    """Work for others: to look at some of the samples.

    Attributes:
        what: Looks at samples with a float graph.
        graph: The float graph.
        samples: All samples.
    """

    what: Callable[[Graph, Iterable[Sample]], Found]
    graph: Graph
    samples: Sequence[Sample]

    @contextmanager
    def open(self) -> Iterator[Callable[[range], tuple[range, Found]]]:
        """Yield what looks at some of them, by their numbers, and returns these with what it found."""
        yield lambda part: (part, self.what(self.graph, self.samples[part.start : part.stop]))


Share = Callable[[Look[Any], Sequence[range]], Iterable[tuple[range, Any]]]
"""Does such work for some parts, in any order."""


def look(
    what: Callable[[Graph, Iterable[Sample]], Found], graph: Graph, samples: Sequence[Sample], share: Share | None
) -> list[Found]:
    """Return what is found on the samples: for each part of them, in order.

    Args:
        what: Looks at samples with a float graph.
        graph: The float graph.
        samples: The samples.
        share: Who does it; None: it is done here, all of them being one part.
    """
    parts = [range(first, min(first + PART, len(samples))) for first in range(0, len(samples), PART)]
    if share is None or len(parts) < 2:
        return [what(graph, samples)]
    found = dict(share(Look(what, graph, samples), parts))
    return [found[part] for part in parts]


_TOGETHER, _VALUES = 256, 1 << 18
"""Samples that are run at once, at most, and values of all their tensors together, about."""


class Reals:
    """What the float model computes for each of several samples.

    Args:
        graph: The model.
        samples: The samples, one at least.

    Attributes:
        found: Every tensor but constants, by name.
    """

    def __init__(self, graph: Graph, samples: Sequence[Sample]) -> None:
        self._constants = {t.name: t.data for t in graph.tensors.values() if t.data is not None}
        self._count = len(samples)
        self.found = evaluate_floats(graph, samples)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Iterate over the samples: every tensor by name, constants included."""
        for index in range(self._count):
            yield self._constants | {name: one_of(each, index) for name, each in self.found.items()}


def real_values(graph: Graph, samples: Iterable[Sample]) -> Iterator[Reals]:
    """Run a float graph on samples, which must be such that fixed-point numbers can follow: some at a time, in order.

    Args:
        graph: A graph that is not quantised.
        samples: For each the real values of every input, each in its tensor's shape.

    Raises:
        DataError: the model itself breaks down on a sample: a node gives NaN or infinity.
    """
    rest, together = iter(samples), run_together(graph)
    while some := list(itertools.islice(rest, together)):
        with np.errstate(all="ignore"):  # said below, with the node's name
            reals = Reals(graph, some)
        if not all(_finite(each) for name, each in reals.found.items() if name not in graph.inputs):
            for sample, values in zip(some, reals, strict=True):
                _require_finite(graph, sample, values)
        yield reals


def run_together(graph: Graph) -> int:
    """Return how many samples a graph is run on at once."""
    values = sum(tensor.size for tensor in graph.tensors.values() if not tensor.is_constant)
    return min(max(_VALUES // max(values, 1), 1), _TOGETHER)


def _finite(each: Each) -> bool:
    return all(np.isfinite(one).all() for one in (each if isinstance(each, list) else [each]))


def _require_finite(graph: Graph, sample: Sample, values: Mapping[str, Array]) -> None:
    """Refuse a sample for which a node gives NaN or infinity."""
    for node in graph:
        for name in filter(None, node.outputs):
            if not np.isfinite(values[name]).all():
                wrong = ~np.isfinite(values[name])
                given = "; ".join(f"{i} = {np.array2string(np.ravel(sample[i]), threshold=12)}" for i in graph.inputs)
                raise DataError(
                    f"the model computes {values[name][wrong][0]} for a sample: {given:.300}",
                    node=str(node),
                    tensor=f"%{name}: {wrong.size:,} elements, {np.count_nonzero(wrong):,} of them not finite",
                    hint="leave such samples out, or keep what the operator reads in its domain (Clip before it)",
                )
