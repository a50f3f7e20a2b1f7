"""From calibration data to number formats: which precision, which passes, and how good the result is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ml2sc.errors import FewSamplesWarning, RangeWarning, warn
from ml2sc.ir.analysis import real_bounds
from ml2sc.ir.graph import Graph
from ml2sc.passes.calibrate import Calibrate
from ml2sc.passes.choose_precision import TARGET_ERROR, Gas, bits_needed, choose_binary
from ml2sc.passes.clip_ranges import ClipRanges
from ml2sc.passes.equalize import Equalize
from ml2sc.passes.manager import Pass, run_pipeline
from ml2sc.passes.measure import Sample
from ml2sc.passes.precision import AUTO, Binary, Precision, parse_precision
from ml2sc.passes.prescribed import is_prequantized, precision_beside
from ml2sc.passes.search_formats import Candidate, Search
from ml2sc.passes.tune import Goal, Tuning, Workbench

log = logging.getLogger(__name__)

Say = Callable[[str], None]

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

    def apply(self, graph: Graph) -> None:
        """Bring a float graph to the state in which it was quantised."""
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
    plain: bool = False,
    detailed: bool = False,
    accuracy: Callable[[Graph], float | None] = lambda graph: None,
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
        plain: Run no pass that changes weights or biases: others will take their place.
        detailed: Measure the runners-up in full.
        accuracy: With it, the share of a quantised graph's decisions that are the labels, if these are known.

    Raises:
        UsageError: a precision is asked for that the model contradicts.
        RangeError: nothing reaches the goal.
    """
    if is_prequantized(graph):
        beside = precision_beside(graph, precision)
        if beside is not None:
            log.info("the model is quantised: its own formats are used; what it leaves open is %s", beside)
            return Formats(beside, [] if samples is None else [Calibrate(samples)])
    chosen = parse_precision(precision)
    if isinstance(chosen, Binary):
        _warn_of_saturation(graph, chosen)
    if samples is None:
        binary = choose_binary(graph, say, goal.tolerance or TARGET_ERROR, gas) if chosen is None else chosen
        return Formats(precision if chosen is not None else str(binary))
    if precision == AUTO and graph.decision is None and goal.tolerance is None:
        chosen = choose_binary(graph, say, gas=gas)
    if isinstance(chosen, Binary):
        return Formats(str(chosen), [Calibrate(samples)])
    _warn_of_few(samples)
    bench = Workbench(graph, samples)
    if chosen is not None:
        return _formats(bench, chosen, Tuning() if plain else bench.tune(chosen, Tuning()))
    found = Search(bench, goal, gas, say, progress, plain=plain, detailed=detailed, accuracy=accuracy).run()
    return _formats(bench, found.precision, found.tuning, found.candidates)


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


def _formats(bench: Workbench, precision: Precision, tuning: Tuning, candidates: Sequence[Candidate] = ()) -> Formats:
    return Formats(str(precision), bench.passes(precision, tuning), candidates)
