"""Whether the elements of inputs get ranges of their own, and which: judged on samples they do not come from.

One range for a whole input suits pixels; it leaves little of columns of a table that differ in size. Both are tried,
and ranges that leave rare values outside (as `clip_ranges` does), on two halves of some samples in turn: the other
half gives the ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml2sc.errors import DataError, Ml2scError
from ml2sc.ir.analysis import prove_intervals
from ml2sc.ir.evaluate import Each
from ml2sc.ir.graph import Graph
from ml2sc.ir.types import Array, Scaling

from .calibrate import Calibrate, Spread, count_values
from .clip_ranges import clipped
from .formats import Formats
from .measure import Answer, Measured, answer_of, is_halved, measure, spread_out, together
from .precision import Integer, Layered
from .quantize import quantize
from .readings import steady
from .samples import Sample, real_values
from .scale_inputs import ScaleInputs, scalable

Say = Callable[[str], None]
Ends = tuple[Array, Array]

TRIED = 512
"""Samples that the choice is made on."""
_RARE = 64
"""Samples of which some values may be called rare."""
_LEVELS = 8
"""Different values up to which an element is a flag or a number of something: others are not to be expected."""
_ROOM = 0.1
"""Share of an element's range that it is widened by at each end."""
_CONSTANT = 2.0**-30
"""Share of an element's size by which it must vary not to be taken for constant."""
_RELATED = 2.0**-20
"""Share of a constant's size that its range is wide at least."""


@dataclass(frozen=True)
class ElementRanges:
    """How ranges by element are made from samples.

    Attributes:
        bits: By input, width of its format.
        clips: Whether rare values are left outside.
    """

    bits: Mapping[str, int]
    clips: bool

    def of(self, rows: Sequence[Sample], ends: Mapping[str, Ends] | None = None) -> ScaleInputs:
        """Return the ranges that some samples give.

        Args:
            rows: The samples.
            ends: The least and the greatest value of each element, if they are known.
        """
        if ends is None:
            ends = _ends(rows, list(self.bits))
        some = spread_out(rows, TRIED)
        ends = _clipped(some, ends, self.bits) if self.clips else _widened(some, ends, self.bits)
        return ScaleInputs({name: element_ranges(*ends[name]) for name in self.bits})


def choose_scales(
    graph: Graph,
    precision: Integer | Layered,
    samples: Sequence[Sample],
    columns: Mapping[str, Ends],
    say: Say,
) -> ElementRanges | None:
    """Return the ranges by element that make the answers better, or None if one for each input is as good.

    They must lose no more decisions, and halve the root of the mean square error at least.

    Args:
        graph: The float graph, its input ranges declared.
        precision: What it will be quantised to.
        samples: Calibration samples.
        columns: By input whose range nobody declares, the ends of each element over all samples.
        say: Receives what was tried.
    """
    names = [name for name in scalable(graph, columns) if not _alike(columns[name])]
    if not names:
        return None
    formats, some = Formats(graph, precision), spread_out(samples, TRIED)
    bits = {name: formats.activation(name) for name in names}
    try:
        halves = [_half(graph, rows) for rows in (some[::2], some[1::2])]
    except DataError:
        return None  # whoever calibrates with them says so
    best, chosen = _judged(graph, precision, halves, None), None
    say(f"one range for each input: {_shown(best)}")
    tried = [ElementRanges(bits, clips=False)]
    tried += [ElementRanges(bits, clips=True)] if len(some) >= _RARE else []
    for ranges in tried:
        found = _judged(graph, precision, halves, ranges)
        say(f"one for each element{', without rare values' if ranges.clips else ''}: {_shown(found)}")
        if found is not None and (best is None or _is_better(found, best)):
            best, chosen = found, ranges
    return chosen


def _shown(found: Measured | None) -> str:
    if found is None:
        return "it cannot be quantised so"
    return f"{found.kept} of {found.samples} decisions kept, mean square error {found.square:.3g}"


def _alike(ends: Ends) -> bool:
    """Whether one range for all elements is hardly coarser, for any of them, than one of its own."""
    lo, hi = ends
    span = max(float(hi.max()), 0.0) - min(float(lo.min()), 0.0)
    return bool((2 * (hi - lo) >= span).all())


def _is_better(found: Measured, best: Measured) -> bool:
    return found.kept >= best.kept and is_halved(steady(found.square), steady(best.square))


@dataclass(frozen=True)
class _Half:
    """Some samples.

    Attributes:
        rows: They.
        answers: The model's.
        spreads: How the values of its tensors are spread.
    """

    rows: Sequence[Sample]
    answers: Sequence[Answer]
    spreads: Mapping[str, Spread]


def _half(graph: Graph, rows: Sequence[Sample]) -> _Half:
    """Run the float graph on some samples."""
    found = list[Answer]()

    def valued() -> Iterator[Mapping[str, Each]]:
        for reals in real_values(graph, rows):
            found.extend(answer_of(graph, values) for values in reals)
            yield reals.found

    spreads = count_values(graph, valued())
    return _Half(rows, found, spreads)


def _judged(
    graph: Graph, precision: Integer | Layered, halves: Sequence[_Half], ranges: ElementRanges | None
) -> Measured | None:
    """Measure on each half of some samples what the other half gives; None if it cannot be quantised."""
    parts = []
    for judged, other in (halves, halves[::-1]):
        given = other if other.rows else judged
        part = graph.copy()
        try:
            if ranges is None:
                Calibrate(given.rows, given.spreads).run(part)
            else:
                ranges.of(given.rows).run(part)
                Calibrate(given.rows).run(part)
            quantized = quantize(part, precision, tentative=True)
            prove_intervals(quantized)
            parts.append(measure(quantized, zip(judged.rows, judged.answers, strict=True)))
        except Ml2scError:
            return None
    return together(parts)


def _ends(rows: Sequence[Sample], names: Sequence[str]) -> dict[str, Ends]:
    found: dict[str, Ends] = {}
    for row in rows:
        for name in names:
            lo, hi = found.get(name, (row[name], row[name]))
            found[name] = np.minimum(lo, row[name]), np.maximum(hi, row[name])
    return found


def _widened(rows: Sequence[Sample], ends: Mapping[str, Ends], names: Iterable[str]) -> dict[str, Ends]:
    """Return ranges with room for values that the samples have not, where an element takes more than a few.

    Values of one sign keep it.
    """
    found = {}
    for name in names:
        values = np.stack([row[name].ravel() for row in rows])
        many = np.array([len(np.unique(column)) > _LEVELS for column in values.T]).reshape(ends[name][0].shape)
        lo, hi = ends[name]
        more = np.where(many, _ROOM * (hi - lo), 0.0)
        found[name] = (
            np.where(lo >= 0, np.maximum(lo - more, 0.0), lo - more),
            np.where(hi <= 0, np.minimum(hi + more, 0.0), hi + more),
        )
    return found


def _clipped(rows: Sequence[Sample], ends: Mapping[str, Ends], bits: Mapping[str, int]) -> dict[str, Ends]:
    """Return for each element the range whose format adds the least mean square error to its values."""
    found = {}
    for name in ends:
        values = np.stack([row[name].ravel() for row in rows])
        lo, hi = (end.copy() for end in ends[name])
        for index, column in enumerate(values.T):
            middle = float(np.median(column))
            spread = Spread()
            spread.add(column - middle)
            least, greatest = clipped(spread, bits[name], "mse")
            lo.flat[index], hi.flat[index] = steady(least + middle), steady(greatest + middle)
        found[name] = lo, hi
    return found


def constant_elements(lo: Array, hi: Array) -> Array:
    """Return which elements, from lo to hi over the samples, are constant."""
    return np.asarray(hi - lo <= _CONSTANT * np.maximum(np.abs(lo), np.abs(hi)))


def element_ranges(lo: Array, hi: Array) -> Scaling:
    """Return ranges for elements that go from lo to hi over the samples.

    Nothing is known of one that is constant: 0 and 1 may be a flag's, and are taken for that; others get a range of 1
    around them, which keeps their weights from deciding the scale of all weights.
    """
    constant = constant_elements(lo, hi)
    flag = constant & (lo >= 0) & (hi <= 1)
    size = np.maximum(np.maximum(np.abs(lo), np.abs(hi)) * _RELATED, 0.5)
    return Scaling(
        np.where(flag, 0.0, np.where(constant, lo - size, lo)), np.where(flag, 1.0, np.where(constant, hi + size, hi))
    )
