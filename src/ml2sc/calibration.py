"""From calibration data to number formats: which precision, which passes, and how good the result is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ml2sc.errors import FewSamplesWarning, RangeWarning, warn
from ml2sc.ir.analysis import real_bounds
from ml2sc.ir.graph import Graph
from ml2sc.ir.limits import shown
from ml2sc.ir.types import Scaling
from ml2sc.passes.calibrate import Calibrate
from ml2sc.passes.choose_precision import TARGET_ERROR, Gas, bits_needed, choose_binary
from ml2sc.passes.choose_scales import Ends, choose_scales
from ml2sc.passes.clip_ranges import ClipRanges
from ml2sc.passes.equalize import Equalize
from ml2sc.passes.manager import Pass, run_pipeline
from ml2sc.passes.measure import Part
from ml2sc.passes.precision import AUTO, Binary, Integer, Precision, parse_precision
from ml2sc.passes.prescribed import is_prequantized, precision_beside
from ml2sc.passes.samples import Look, Sample
from ml2sc.passes.scale_inputs import ScaleInputs, scalable
from ml2sc.passes.search_formats import MARGIN, Candidate, Descended, Descent, Search
from ml2sc.passes.tune import Goal, Judge, Tuning, Workbench
from ml2sc.runtime.workers import local_workers

log = logging.getLogger(__name__)

Say = Callable[[str], None]

_LEAVES = Integer(16, 16)
"""Precision of a model of trees."""
_HALVED = 400
"""Samples from which on `auto` chooses on one half of them and judges on the other; of fewer it judges on each part
what the others give."""
_PARTS = 4
_SHARED = 20_000
"""Samples from which on several processes look at them: starting them takes as long as one needs for some thousands."""
_FEW = 100
"""Samples below which what is found on them says little."""


@dataclass(frozen=True)
class Calibrated:
    """What an earlier calibration found, as the manifest records it: enough to compile to the same bytes without data.

    Attributes:
        observed: Range that each tensor's format spans.
        equalized: Whether `equalize` ran.
        corrections: By layer, what is added to its bias before it is quantised.
    """

    observed: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    equalized: bool = False
    corrections: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def apply(self, graph: Graph, before: Sequence[Pass] = ()) -> None:
        """Bring a float graph to the state in which it was quantised.

        Args:
            graph: The graph.
            before: Passes that ran before calibration's own.
        """
        run_pipeline(graph, before)
        if self.equalized:
            run_pipeline(graph, [Equalize()])
        graph.observed = dict(self.observed)
        for name, correction in self.corrections.items():
            node = graph.node(name)
            graph.replace_node(node, attrs={**node.attrs, "correction": correction})

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's entry."""
        return {
            "observed": {name: list(ends) for name, ends in self.observed.items()},
            "equalized": self.equalized,
            "corrections": {name: list(values) for name, values in self.corrections.items()},
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Calibrated:
        """Read the manifest's entry.

        Raises:
            LookupError, TypeError, ValueError, AttributeError: it is not one.
        """
        return cls(
            {str(name): (float(lo), float(hi)) for name, (lo, hi) in entry["observed"].items()},
            bool(entry["equalized"]),
            {str(name): tuple(map(float, values)) for name, values in entry["corrections"].items()},
        )

    @classmethod
    def of(cls, graph: Graph, passes: Sequence[Pass]) -> Calibrated:
        """Note what passes have done to a float graph."""
        corrections = {node.name: node.attrs["correction"] for node in graph if "correction" in node.attrs}
        return cls(
            dict(graph.observed),
            any(isinstance(p, Equalize) for p in passes),
            {name: tuple(map(float, c)) for name, c in corrections.items() if isinstance(c, tuple)},
        )


@dataclass(frozen=True)
class Formats:
    """What was chosen.

    Attributes:
        precision: The precision.
        passes: What runs on the float graph before it is quantised.
        candidates: What else was looked at, and the choice, by gas; empty where there was no choice.
    """

    precision: str
    passes: Sequence[Pass] = ()
    candidates: Sequence[Candidate] = ()

    def methods(self) -> dict[str, str]:
        """Return by which method the range of a tensor was chosen, where there was more than one."""
        return {t: method for p in self.passes if isinstance(p, ClipRanges) for t, method in p.methods.items()}


def choose_formats(
    graph: Graph,
    precision: str,
    samples: Sequence[Sample] | None,
    goal: Goal,
    gas: Gas,
    say: Say,
    progress: Callable[[int], None],
    *,
    declared: Mapping[str, Scaling] | None = None,
    columns: Mapping[str, Ends] | None = None,
    plain: bool = False,
    detailed: bool = False,
    margin: float = MARGIN,
    accuracy: Callable[[Graph], float | None] = lambda graph: None,
    workers: int = 1,
) -> Formats:
    """Choose precision and passes for a float graph.

    Args:
        graph: The float graph, its input ranges declared.
        precision: What `--precision` says.
        samples: Calibration samples, if there are any.
        goal: What `auto` must reach on them.
        gas: Predicts gas from a quantised graph.
        say: Receives what is tried.
        progress: Called after every format tried, with their number.
        declared: Ranges of single elements, by input, that are declared.
        columns: By input whose range nobody declares, the ends of each element over all samples.
        plain: Run no pass that changes weights or biases: others will take their place.
        detailed: Measure the runners-up in full.
        margin: Share of the gas that `auto` spends on accuracy.
        accuracy: With it, the share of a quantised graph's decisions that are the labels, if these are known.
        workers: How many processes look at the samples where they are many, and search where the search is long; what
            is chosen does not depend on it.

    Raises:
        UsageError: a precision is asked for that the model contradicts.
        RangeError: nothing reaches the goal.
    """
    look = partial(_looked, workers) if workers > 1 and len(samples or ()) >= _SHARED else None
    calibrate: list[Pass] = [] if samples is None else [Calibrate(samples, share=look)]
    if is_prequantized(graph):
        beside = precision_beside(graph, precision)
        if beside is not None:
            log.info("the model is quantised: its own formats are used; what it leaves open is %s", beside)
            return Formats(beside, calibrate)
    chosen = parse_precision(precision)
    if graph.ladders and not isinstance(chosen, Binary):
        # only what leaves are rounded to is open: nothing is to be searched for
        return Formats(str(chosen or _LEAVES), calibrate)
    if isinstance(chosen, Binary):
        _warn_of_saturation(graph, chosen)
    if samples is None and chosen is None:
        return Formats(str(choose_binary(graph, say, goal.tolerance or TARGET_ERROR, gas)))
    if samples is not None and precision == AUTO and graph.decision is None and goal.tolerance is None:
        chosen = choose_binary(graph, say, gas=gas)
    if isinstance(chosen, Binary):
        return Formats(str(chosen), calibrate)
    declared = _scalable(graph, declared or {})
    if samples is None:
        return Formats(precision, [ScaleInputs(declared)] if declared else [])
    _warn_of_few(samples)
    scale = ScaleInputs(declared) if declared else None
    if scale is None:
        ranges = choose_scales(graph, chosen or Integer(8, 8), samples, columns or {}, say)
        scale = None if ranges is None else ranges.of(samples, columns)
    before: list[Pass] = [] if scale is None else [scale]
    scaled = graph.copy()
    run_pipeline(scaled, before)
    whole = Workbench(scaled, samples, graph, look)
    if chosen is not None:
        return _formats(whole, chosen, Tuning() if plain else whole.tune(chosen, Tuning()), before)
    bench, judges = _judges(whole, samples)
    search = Search(
        bench,
        goal,
        gas,
        say,
        progress,
        plain=plain,
        detailed=detailed,
        margin=margin,
        judges=judges,
        whole=whole,
        accuracy=accuracy,
        share=partial(_shared, workers) if workers > 1 else None,
    )
    found = search.run()
    return _formats(whole, found.precision, found.tuning, before, found.candidates)


def _looked(workers: int, job: Look[Any], parts: Sequence[range]) -> Iterator[tuple[range, Any]]:
    yield from local_workers(min(workers, len(parts))).run(job, parts)


def _shared(workers: int, descent: Descent, knobs: Sequence[int]) -> Iterator[Descended]:
    yield from local_workers(min(workers, len(knobs))).run(descent, knobs)


def _judges(whole: Workbench, samples: Sequence[Sample]) -> tuple[Workbench, list[Judge]]:
    """Return the samples that `auto` searches with, and what judges it on others; input ranges are those of all."""
    graph, plain, numbers = whole.graph, whole.plain, range(len(samples))
    if len(samples) >= _HALVED:
        bench = Workbench(graph, Part(samples, numbers[::2]), plain, whole.share)
        return bench, [Judge(bench, Part(samples, numbers[1::2]))]
    judges = []
    for first in range(min(_PARTS, len(samples))):
        rest = [n for n in numbers if n % _PARTS != first] or list(numbers)
        judges.append(
            Judge(Workbench(graph, Part(samples, rest), plain, whole.share), Part(samples, numbers[first::_PARTS]))
        )
    return whole, judges


def _scalable(graph: Graph, declared: Mapping[str, Scaling]) -> dict[str, Scaling]:
    """Return those of the declared ranges by element that can be kept apart; say of which they cannot."""
    kept = scalable(graph, declared)
    for name in declared.keys() - kept:
        lo, hi = graph.input_ranges[name]
        warn(
            f"columns of input {shown(name)!r} have ranges of their own, but not only linear layers read it: it keeps "
            f"one scale, for all of {lo:g} to {hi:g}",
            RangeWarning,
        )
    return {name: declared[name] for name in kept}


def _warn_of_saturation(graph: Graph, binary: Binary) -> None:
    needed = bits_needed(graph, real_bounds(graph))
    if needed > binary.integer_bits:
        warn(
            f"{binary} holds reals within ±2^{binary.integer_bits}, and tensors can reach 2^{needed} for this input "
            "range: what is beyond saturates, and the error bound counts it; "
            f"q{needed}.{binary.fraction_bits} holds all",
            RangeWarning,
        )


def _warn_of_few(samples: Sequence[Sample]) -> None:
    count, first = len(samples), samples[0]
    if count > 1 and all(np.array_equal(sample[name], first[name]) for sample in samples for name in first):
        warn(f"all {count} calibration samples are the same: they say nothing about other inputs", FewSamplesWarning)
    elif count < _FEW:
        those = "one calibration sample says" if count == 1 else f"{count} calibration samples say"
        warn(f"{those} little about other inputs: give some hundreds", FewSamplesWarning)


def _formats(
    bench: Workbench,
    precision: Precision,
    tuning: Tuning,
    before: Sequence[Pass],
    candidates: Sequence[Candidate] = (),
) -> Formats:
    if isinstance(precision, Binary):
        return Formats(str(precision), [Calibrate(bench.samples)], candidates)
    return Formats(str(precision), [*before, *bench.passes(precision, tuning)], candidates)
