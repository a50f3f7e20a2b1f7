"""What the float model computes for the samples that formats are chosen on, by whoever does the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from ml2sc.errors import DataError
from ml2sc.ir.evaluate import evaluate_float
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


def real_values(graph: Graph, sample: Sample) -> dict[str, Array]:
    """Run a float graph on a sample, which must be one that fixed-point numbers can follow.

    Args:
        graph: A graph that is not quantised.
        sample: Real values of every input, each in its tensor's shape.

    Returns:
        Every tensor of the graph by name, constants included.

    Raises:
        DataError: the model itself breaks down on the sample: a node gives NaN or infinity.
    """
    with np.errstate(all="ignore"):  # said below, with the node's name
        values = evaluate_float(graph, dict(sample))
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
    return values
