"""The right answers that come with samples: labels for a model that decides, target values for one that estimates."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from ml2sc.errors import DataError
from ml2sc.ir.graph import Graph
from ml2sc.ir.types import Array, Interval

from .data import Rows, Samples

logger = logging.getLogger(__name__)

_NAMED = 8
"""Classes that a message names one by one."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Right answers by sample.

    Attributes:
        labels: The class of each, for a model that decides.
        targets: The values its outputs should have, one row a sample, for a model that estimates them. (One with
            several outputs is taken to decide for the greatest; with such labels it estimates, too.)
    """

    labels: Array | None = None
    targets: Rows | None = None

    @classmethod
    def of(cls, samples: Samples, graph: Graph) -> Truth:
        """Return what a model can be held to.

        Args:
            samples: Samples, with labels or without.
            graph: The quantised graph.

        Raises:
            DataError: a label is none of the model's classes.
        """
        rows = samples.labels
        if rows is None:
            return cls()
        decides, outputs = graph.decision is not None, sum(graph.tensor(name).size for name in graph.outputs)
        if rows.shape[1:] == (outputs,) or (rows.ndim == 1 and outputs == 1 and not decides):
            return cls(targets=rows)
        if rows.ndim > 1 or not decides:
            wanted = "one label a sample or " if decides else ""
            logger.info("labels y of shape %s are not used: %s%d values a sample could be", rows.shape, wanted, outputs)
            return cls()
        labels = rows[:].ravel()
        assert graph.decision is not None
        known = _classes(graph, graph.decision)
        strange = np.flatnonzero(~np.isin(labels, known))
        if strange.size:
            first = int(strange[0])
            raise DataError(
                f"{strange.size:,} of {labels.size:,} labels are none of the model's classes: the first is "
                f"{labels[first]:g}, of sample {first}",
                hint=f"the classes are {_said(known)}",
            )
        return cls(labels=labels.astype(np.int64))

    def part(self, first: int, last: int) -> Truth:
        """Return the answers to the samples from number `first` up to `last`, exclusive."""
        labels, targets = (None if rows is None else rows[first:last] for rows in (self.labels, self.targets))
        return Truth(labels, targets)

    def label(self, index: int) -> int | None:
        """Return a sample's class, if it is known."""
        return None if self.labels is None else int(self.labels[index])

    def target(self, index: int) -> list[float]:
        """Return a sample's target values; empty if there are none."""
        return [] if self.targets is None else np.asarray(self.targets[index], dtype=np.float64).ravel().tolist()


def _classes(graph: Graph, decision: str) -> Array:
    """Return all that a decision can be: the entries of its table of labels, else all integers of its interval."""
    node, interval = graph.producer(decision), graph.tensor(decision).interval
    if node is not None and node.op_type == "TableLookup":
        table = graph.tensor(node.inputs[0]).data
        assert table is not None
        return np.unique(table.astype(np.int64))
    assert isinstance(interval, Interval)
    return np.arange(interval.lo, interval.hi + 1)


def _said(classes: Array) -> str:
    if classes.size > _NAMED and classes[-1] - classes[0] == classes.size - 1:
        return f"{classes[0]} to {classes[-1]}"
    shown = ", ".join(map(str, classes[:_NAMED].tolist()))
    return shown if classes.size <= _NAMED else f"{shown}, … {classes[-1]}"
