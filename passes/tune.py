"""Calibration put together: samples, the model's answers to them, and which of its passes help."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ml2sc.ir import wad
from ml2sc.ir.analysis import prove_intervals, real_bounds
from ml2sc.ir.evaluate import Each
from ml2sc.ir.graph import Graph
from ml2sc.ir.ops.base import Bounds
from ml2sc.ir.types import Array

from .calibrate import Calibrate, Spread, count_values, merged
from .clip_ranges import ClipRanges
from .correct_bias import CorrectBias
from .equalize import Equalize
from .manager import Pass, run_pipeline
from .measure import PROBED, Answer, Measured, answer_of, answers, is_halved, measure, pick, spread_out, stride
from .precision import Binary, Precision
from .quantize import quantize
from .samples import Sample, Share, look, real_values

HELD = 1000
"""Samples that are held in memory while formats are compared."""


@dataclass(frozen=True)
class Goal:
    """What the answers to the calibration samples must be like.

    Attributes:
        agreement: Share of decisions that must be the model's.
        tolerance: Largest error of an output; None: any.
    """

    agreement: float = 1.0
    tolerance: float | None = None

    def text(self, *, decides: bool) -> str:
        """Return it in words.

        Args:
            decides: Whether the model makes decisions.
        """
        parts = [] if self.tolerance is None else [f"errors of at most {self.tolerance:g} on all samples"]
        if decides:
            parts.append("every decision" if self.agreement == 1 else f"{100 * self.agreement:.6g}% of the decisions")
        return " and ".join(parts)

    def allows(self, lost: int, largest: float, samples: int) -> bool:
        """Whether so many lost decisions of so many samples, and such an error, are good enough."""
        needed = math.ceil(self.agreement * samples - 1e-9)
        return samples - lost >= needed and (self.tolerance is None or largest <= self.tolerance)

    def is_met(self, found: Measured, samples: int) -> bool:
        """Whether what was found on so many samples is good enough; it may have been broken off."""
        return found.samples == samples and self.allows(samples - found.kept, found.largest, samples)


@dataclass(frozen=True)
class Tuning:
    """Which passes run before quantisation.

    Attributes:
        equalize: `equalize`.
        clip: `clip_ranges`.
        correct: `correct_bias`.
    """

    equalize: bool = False
    clip: bool = False
    correct: bool = False


@dataclass
class _Variant:
    """A calibrated float graph, with what is known of it.

    Attributes:
        graph: The graph.
        spreads: How its tensors' values are spread.
        probe: The samples that ranges are clipped and biases corrected with.
        bounds: Of its tensors.
        means: Of what layers read.
        answers: Of the graph to these samples.
    """

    graph: Graph
    spreads: Mapping[str, Spread]
    probe: Sequence[Sample]
    bounds: Mapping[str, Bounds]
    means: dict[str, Array] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    _ranges: dict[str, dict[str, tuple[tuple[float, float], str]]] = field(default_factory=dict)
    _corrections: dict[tuple[str, bool], dict[str, tuple[float, ...]]] = field(default_factory=dict)

    def passes(self, precision: Precision, tuning: Tuning) -> list[Pass]:
        """Return what a tuning means for the calibrated graph; what was found once is not looked for again."""
        text, found = str(precision), list[Pass]()
        if tuning.clip:
            ranges = self._ranges.setdefault(text, {})
            found.append(ClipRanges(text, self.spreads, self.probe, self.answers, ranges))
        if tuning.correct:
            corrections = self._corrections.setdefault((text, tuning.clip), {})
            found.append(CorrectBias(text, self.probe, self.means, corrections))
        return found


class Workbench:
    """A float graph with calibration samples, to be quantised in many ways.

    Args:
        graph: The float graph, which is left as it is.
        samples: For each sample the graph inputs' arrays, in their shapes.
        plain: The same graph with one range for each input, which binary formats are for; None: it is that.
        share: Who looks at the samples where they are many; None: it is done here.

    Samples are measured on in the order of how close their decisions are: what loses one loses it soon. So many of them
    are held in memory; the others come after them, in the order in which they are given, and are read each time.

    Attributes:
        graph: The same.
        samples: The same.
        plain: The graph for binary formats.
        share: Who looks at many samples.
        closest: The sample whose decision is the closest, and how far its scores are from another.
    """

    def __init__(
        self, graph: Graph, samples: Sequence[Sample], plain: Graph | None = None, share: Share | None = None
    ) -> None:
        self.graph, self.samples, self.plain, self.share = graph, samples, plain or graph, share
        looked = look(_margins_and_spreads, graph, samples, share)
        margins = np.concatenate([margins for margins, _, _ in looked])
        self._spreads = merged(spreads for _, spreads, _ in looked)
        order = np.argsort(margins, kind="stable")
        self._first, self._rest = order[:HELD], np.sort(order[HELD:])
        self._answers = [one for _, _, found in looked for one in found] if len(samples) <= HELD else []
        self.closest = (int(order[0]), float(margins[order[0]])) if len(order) else (0, math.inf)
        self._probe = self._asked(order[:: stride(samples)])
        self._spread_out = spread_out(samples)
        self._variants: dict[bool, _Variant] = {}

    def passes(self, precision: Precision, tuning: Tuning) -> list[Pass]:
        """Return the passes that a tuning means, to be run on the float graph, in this order."""
        variant = self._variant(equalized=tuning.equalize)
        before: list[Pass] = [Equalize()] if tuning.equalize else []
        return [*before, Calibrate(self.samples, variant.spreads), *variant.passes(precision, tuning)]

    def quantized(self, precision: Precision, tuning: Tuning) -> Graph:
        """Return the graph quantised so, its ranges proved.

        Raises:
            Ml2scError: it cannot be.
        """
        if isinstance(precision, Binary):
            quantized = quantize(self.plain, precision, tentative=True)
        else:
            variant = self._variant(equalized=tuning.equalize)
            graph = variant.graph.copy()
            for pass_ in variant.passes(precision, tuning):
                pass_.run(graph)
            quantized = quantize(graph, precision, variant.bounds, tentative=True)
        prove_intervals(quantized)
        wad.output_error_bound(quantized)
        return quantized

    def measure(self, quantized: Graph, goal: Goal | None = None) -> Measured:
        """Compare a quantised graph's answers with the model's, on all samples, or until the goal cannot be reached."""
        total = len(self.samples)
        if goal is None:
            return measure(quantized, self._all())
        return measure(quantized, self._all(), lambda lost, worst: not goal.allows(lost, worst, total))

    def meets(self, quantized: Graph, goal: Goal) -> bool:
        """Whether a quantised graph reaches a goal on the samples."""
        return goal.is_met(self.measure(quantized, goal), len(self.samples))

    def tune(self, precision: Precision, start: Tuning, accept: Callable[[Graph], bool] = lambda _: True) -> Tuning:
        """Return the passes that bring the answers to some of the samples closest to the model's.

        They are tried one after the other; one stays if fewer decisions are lost, or as many and the root of the mean
        square error is halved.

        Args:
            precision: The precision.
            start: The tuning to begin with.
            accept: Says of a quantised graph whether it may be taken.
        """
        if isinstance(precision, Binary):
            return Tuning()
        best, least = start, measure(self.quantized(precision, start), self._probe).badness
        for name in ("equalize", "correct", "clip"):
            tuning = replace(best, **{name: not getattr(best, name)})
            if (
                name == "equalize"
                and not self._variant(equalized=True).graph.observed.keys() - self.graph.tensors.keys()
            ):
                continue
            quantized = self.quantized(precision, tuning)
            found = measure(quantized, self._probe).badness
            # a small gain may be these samples' alone
            helps = found[0] < least[0] or (found[0] == least[0] and is_halved(found[1], least[1]))
            if helps and accept(quantized):
                best, least = tuning, found
        return best

    def _variant(self, *, equalized: bool) -> _Variant:
        if equalized not in self._variants:
            graph = self.graph.copy()
            calibrate = Calibrate(self.samples, None if equalized else self._spreads, self.share)
            run_pipeline(graph, [*([Equalize()] if equalized else []), calibrate])
            self._variants[equalized] = _Variant(graph, calibrate.spreads, self._spread_out, real_bounds(graph))
        return self._variants[equalized]

    @cached_property
    def _closest(self) -> list[tuple[Sample, Answer]]:
        return self._asked(self._first)

    def _asked(self, chosen: Array) -> list[tuple[Sample, Answer]]:
        samples = pick(self.samples, chosen.tolist())
        known = [self._answers[i] for i in chosen] if self._answers else answers(self.graph, samples)
        return list(zip(samples, known, strict=True))

    def _all(self) -> Iterator[tuple[Sample, Answer]]:
        yield from self._closest
        for first in range(0, len(self._rest), PROBED):
            samples = [self.samples[index] for index in self._rest[first : first + PROBED]]
            yield from zip(samples, answers(self.graph, samples), strict=True)


@dataclass(frozen=True)
class Judge:
    """Says how good formats are on samples that they are not calibrated with.

    Attributes:
        bench: Calibrates with other samples.
        samples: Those that are judged.
    """

    bench: Workbench
    samples: Sequence[Sample]
    _known: dict[int, list[Answer]] = field(default_factory=dict, repr=False, init=False, compare=False)

    def measure(self, precision: Precision, tuning: Tuning, goal: Goal | None = None) -> Measured:
        """Compare the answers with the model's, on all samples, or until the goal cannot be reached.

        Raises:
            Ml2scError: the graph cannot be quantised so.
        """
        quantized, total = self.bench.quantized(precision, tuning), len(self.samples)
        if goal is None:
            return measure(quantized, self._asked())
        return measure(quantized, self._asked(), lambda lost, worst: not goal.allows(lost, worst, total))

    def _asked(self) -> Iterator[tuple[Sample, Answer]]:
        """Iterate over the samples with the model's answers, which are kept for the first of them."""
        for first in range(0, len(self.samples), PROBED):
            samples = self.samples[first : first + PROBED]
            found = self._known[first] if first in self._known else answers(self.bench.graph, samples)
            if first < HELD:
                self._known[first] = found
            yield from zip(samples, found, strict=True)


def _margins_and_spreads(graph: Graph, samples: Iterable[Sample]) -> tuple[Array, dict[str, Spread], list[Answer]]:
    """Return how far the model's scores are from another decision for each sample, and how all values are spread.

    With them come the model's answers to the first samples, as many as are held.
    """
    margins, found = list[float](), list[Answer]()

    def valued() -> Iterator[Mapping[str, Each]]:
        for reals in real_values(graph, samples):
            for values in reals:
                margins.append(_margin(graph, values))
                if len(found) < HELD:
                    found.append(answer_of(graph, values))
            yield reals.found

    spreads = count_values(graph, valued())
    return np.array(margins, dtype=np.float64), spreads, found


def _margin(graph: Graph, values: Mapping[str, Array]) -> float:
    """Return how far the model's scores are from another decision; 0 where that is not known."""
    if graph.decision is None:
        return 0.0
    node = graph.producer(graph.decision)
    while node is not None and node.op_type not in {"ArgMax", "GreaterOrEqual"}:
        node = next((graph.producer(i) for i in node.inputs if i and not graph.tensor(i).is_constant), None)
    if node is None:
        return 0.0
    scores: Array = np.sort(values[node.inputs[0]].ravel())
    if node.op_type == "ArgMax":
        return float(scores[-1] - scores[-2]) if scores.size > 1 else 0.0
    return float(np.abs(scores - values[node.inputs[1]].ravel()).min())
