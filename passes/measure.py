"""How far a quantised graph's answers are from the model's, on samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, overload

import numpy as np

from ml2sc.ir import wad
from ml2sc.ir.batch import Batch
from ml2sc.ir.graph import Graph
from ml2sc.ir.program import MASK
from ml2sc.ir.types import Array

from .readings import steady
from .samples import Sample, real_values

T = TypeVar("T")

PROBED = 64
"""Samples that choices are made on which need no more."""


class Answer(NamedTuple):
    """The model's answer to one sample, in float64.

    Attributes:
        outputs: All float outputs, flattened.
        decision: The decision as a word, or None.
    """

    outputs: Array
    decision: int | None


@dataclass(frozen=True)
class Measured:
    """What was found on some samples.

    Attributes:
        samples: How many were looked at.
        kept: Decisions that are the model's; all samples where the model makes none.
        largest: Largest absolute error of an output.
        square: Mean square error of the outputs.
    """

    samples: int
    kept: int
    largest: float
    square: float

    @property
    def badness(self) -> tuple[int, float]:
        """What choices compare: decisions lost, then the mean square error, without bits that depend on the machine."""
        return self.samples - self.kept, steady(self.square)


def is_halved(square: float, other: float) -> bool:
    """Whether the root of a mean square error is at most half of another's; of none there is no half."""
    return square < other and 4 * square <= other


class Part(Sequence[T]):
    """Some of a sequence's elements, fetched when they are asked for.

    Args:
        whole: The sequence.
        chosen: Which of them, ascending.
    """

    def __init__(self, whole: Sequence[T], chosen: Sequence[int]) -> None:
        self._whole, self._chosen = whole, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        picked = self._chosen[index]
        return self._whole[picked] if isinstance(picked, int) else [self._whole[i] for i in picked]


def spread_out(samples: Sequence[T], count: int = PROBED) -> list[T]:
    """Return at most `count` samples, evenly from the whole of them."""
    return list(samples[:: stride(samples, count)])


def stride(samples: Sized, count: int = PROBED) -> int:
    """Return how far apart the samples are that `spread_out` takes."""
    return max(-(-len(samples) // count), 1)


def pick(samples: Sequence[T], chosen: Sequence[int]) -> list[T]:
    """Return some samples by number, all of them read in one go from the first to the last."""
    found = {i: samples[i] for i in sorted(chosen)}
    return [found[i] for i in chosen]


def answers(graph: Graph, samples: Iterable[Sample], outputs: Sequence[str] | None = None) -> list[Answer]:
    """Return a float graph's answers."""
    return [answer_of(graph, values, outputs) for reals in real_values(graph, samples) for values in reals]


def answer_of(graph: Graph, values: Mapping[str, Array], outputs: Sequence[str] | None = None) -> Answer:
    """Return a float graph's answer, given all that it computes for a sample."""
    names = graph.outputs if outputs is None else outputs
    flat = np.concatenate([np.zeros(0), *(values[name].ravel() for name in names)])
    label = None if graph.decision is None else int(values[graph.decision].ravel()[0]) & MASK
    return Answer(flat, label)


def together(parts: Iterable[Measured]) -> Measured:
    """Return what was found on all of several parts of some samples."""
    every = list(parts)
    count = sum(part.samples for part in every)
    square = sum(part.square * part.samples for part in every) / max(count, 1)
    largest = max((part.largest for part in every), default=0.0)
    return Measured(count, sum(part.kept for part in every), largest, square)


def measure(
    quantized: Graph,
    asked: Iterable[tuple[Sample, Answer]] | Asked,
    hopeless: Callable[[int, float], bool] = lambda lost, largest: False,
) -> Measured:
    """Run the graph interpreter on samples and compare what the contract would answer.

    Args:
        quantized: A quantised graph whose ranges are proved.
        asked: The samples with the model's answers to them; as `Asked` where they are measured on again and again.
        hopeless: Given the decisions lost and the largest error so far, whether to stop.
    """
    count = lost = 0
    largest = square = 0.0
    for outcome, wanted in _evaluated(quantized, asked if isinstance(asked, Asked) else _parts(asked)):
        error = np.abs(np.array(outcome.outputs, dtype=np.float64) / wad.WAD - wanted.outputs)
        count += 1
        lost += outcome.decision != wanted.decision
        largest = max(largest, float(error.max(initial=0.0)))
        square += float((error * error).mean()) if error.size else 0.0
        if hopeless(lost, largest):
            break
    return Measured(count, count - lost, largest, square / max(count, 1))


def _evaluated(quantized: Graph, asked: Iterable[tuple[Batch, list[Answer]]]) -> Iterator[tuple[wad.Outcome, Answer]]:
    names = wad.answering(quantized)
    for batch, wanted in asked:
        yield from zip(wad.outcomes(quantized, batch.values(quantized, names)), wanted, strict=True)


class Asked:
    """Samples with the model's answers to them that are measured on again and again.

    Args:
        asked: The samples with the answers.
    """

    def __init__(self, asked: Iterable[tuple[Sample, Answer]]) -> None:
        self._parts = list(_parts(asked))

    def __iter__(self) -> Iterator[tuple[Batch, list[Answer]]]:
        return iter(self._parts)


def _parts(asked: Iterable[tuple[Sample, Answer]]) -> Iterator[tuple[Batch, list[Answer]]]:
    """Iterate over samples in parts: more and more at once, as the first may be enough."""
    rest, size = iter(asked), _FIRST_SAMPLES
    while some := list(itertools.islice(rest, size)):
        yield Batch([sample for sample, _ in some]), [answer for _, answer in some]
        size = min(2 * size, PROBED)


_FIRST_SAMPLES = 4
