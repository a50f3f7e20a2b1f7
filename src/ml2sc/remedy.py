"""What to do where a precision does not keep its model: tried before it is named."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ml2sc.backends.summary import verdict_of
from ml2sc.calibration import Formats
from ml2sc.errors import Ml2scError, Ml2scWarning
from ml2sc.fidelity import assess
from ml2sc.frontend.data import Samples
from ml2sc.ir.graph import Graph
from ml2sc.passes import run_pipeline
from ml2sc.passes.precision import AUTO
from ml2sc.passes.prove_ranges import ProveRanges
from ml2sc.passes.quantize import Quantize
from ml2sc.passes.tune import Goal


class _Try(NamedTuple):
    """Something to try: what a user would have to do, the float graph, and how formats are chosen then."""

    what: str
    graph: Graph
    choose: Callable[[Graph], Formats]


@dataclass(frozen=True)
class Remedies:
    """What can be tried, the gentlest first: an input range for each column, then `auto`.

    Attributes:
        graph: The float graph, its input ranges declared.
        reference: The model.
        samples: Calibration data, if there are any.
        precision: What does not do.
        choose: Chooses formats, as `choose_formats` does.
        priced: Predicts gas from a quantised graph.
        least: The share of the model that is asked for, if any is.
        tolerance: The largest error that is asked for.
        ranged: Whether the user declared input ranges.
    """

    graph: Graph
    reference: Graph
    samples: Samples | None
    precision: str
    choose: Callable[..., Formats]
    priced: Callable[[Graph], int]
    least: float | None
    tolerance: float | None
    ranged: bool

    def text(self) -> str:
        """Return the first that was tried and helps, in words, or that none does."""
        found = ""
        for attempt in self._tries():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", Ml2scWarning)  # they were told of what was asked for
                    found, helps = self._outcome(attempt)
            except Ml2scError as error:
                found, helps = f"auto was tried and does not help: {error.message}", False
            if helps:
                break
        return found

    def _tries(self) -> Iterator[_Try]:
        if self.samples is not None and self.ranged:
            graph, ends = self.graph.copy(), self.samples.columns
            graph.input_ranges.update(self.samples.ranges)
            goal = Goal(tolerance=self.tolerance)
            yield _Try(
                "leave --input-range out",
                graph,
                lambda g: self.choose(g, self.precision, goal=goal, declared={}, columns=ends),
            )
        yield _Try(
            "leave --precision out",
            self.graph.copy(),
            lambda g: self.choose(g, AUTO, goal=Goal(tolerance=self.tolerance)),
        )

    def _outcome(self, attempt: _Try) -> tuple[str, bool]:
        """Return what came of it, and whether that is what was asked for."""
        graph = attempt.graph
        formats = attempt.choose(graph)
        run_pipeline(graph, formats.passes)
        source = graph.copy()
        run_pipeline(graph, [Quantize(formats.precision), ProveRanges()])
        taken = f"{attempt.what} (tried: {formats.precision}, {self.priced(graph):,} gas"
        if self.samples is None:
            return f"{taken})", True
        entry = assess(self.reference, source, graph, self.samples, {}, None, chosen=True)
        verdict = verdict_of({"calibration": entry})
        assert verdict is not None
        helps = verdict.enough(self.least or 0.0) and entry["max_abs_error"] <= (self.tolerance or float("inf"))
        return f"{taken}, {verdict.figures or 'errors up to ' + format(entry['max_abs_error'], '.3g')})", helps
