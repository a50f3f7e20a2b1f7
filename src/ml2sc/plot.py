"""Accuracy against gas, as an SVG picture: points with numbers, and a table of them beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple
from xml.sax.saxutils import escape

from ml2sc.passes.search_formats import Candidate

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 800, 64, 440, 64, 380
"""Of the picture, and of the ends of its axes, in pixels."""
_TABLE, _ROW = 462, 18
_TICKS = 5
_APART = 13.0
"""Points that are closer than that share a label."""
_LETTER, _LINE = 6.4, 13.0
"""Width and height of a letter of a label, about."""
_NAME = 20
"""Letters of a precision's name that there is room for."""
_SPAN = 0.25
"""The axis of gas spans at least so much of its greatest value: less is not worth choosing by."""
_LEAST = 0.05
"""The axis of shares goes down to 95 % at least."""
_HALO = "font-size: 11px; paint-order: stroke; stroke: white; stroke-width: 3px"
_DASHED = 'stroke="seagreen" stroke-width="1.5" stroke-dasharray="6 4"'


class _Axis(NamedTuple):
    """From where to where values go, on which pixels, and at which there are ticks."""

    lo: float
    hi: float
    first: float
    last: float
    step: float

    def at(self, value: float) -> float:
        return self.first + (value - self.lo) / (self.hi - self.lo) * (self.last - self.first)

    @property
    def ticks(self) -> list[float]:
        return [self.lo + i * self.step for i in range(round((self.hi - self.lo) / self.step) + 1)]


@dataclass(frozen=True)
class _Point:
    number: int
    candidate: Candidate
    value: float
    x: float
    y: float
    best: bool

    @property
    def name(self) -> str:
        return _cut(str(self.candidate.precision))


def picture(
    candidates: Sequence[Candidate], chosen: str, *, decides: bool, title: str, model_accuracy: float | None = None
) -> str:
    """Draw formats as points: predicted gas to the right, accuracy upward; the same formats give the same bytes.

    Args:
        candidates: The formats; those that were measured are shown.
        chosen: The precision that was taken.
        decides: Whether accuracy is a share of decisions, those that are the labels or else the model's; if not, it is
            the largest error, the least on top.
        title: What is above it.
        model_accuracy: Share of the float model's decisions that are the labels, if these are known.
    """
    shown = sorted((c for c in candidates if c.measured is not None), key=lambda c: (c.gas, str(c.precision)))
    against_labels = decides and model_accuracy is not None and all(c.accuracy is not None for c in shown)
    values = [_value(c, decides=decides, against_labels=against_labels) for c in shown]
    theirs = (model_accuracy or 1.0 if against_labels else 1.0) if decides else 0.0
    across, up = _gas_axis([c.gas for c in shown]), _value_axis([*values, theirs], decides=decides)
    best = _best(shown, values, chosen)
    points = [
        _Point(index + 1, c, value, across.at(c.gas), up.at(value), index in best)
        for index, (c, value) in enumerate(zip(shown, values, strict=True))
    ]
    what = "accuracy" if against_labels else "decisions kept" if decides else "largest error"
    model = f"the float model{f': {theirs:.2%} of the labels' if against_labels else ''}"
    height = max(_BOTTOM + 70, _TOP + _ROW * (len(points) + 8))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">',
        f"<style>text {{font: 12px sans-serif}} .mark {{{_HALO}}}</style>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        _text(16, 24, title, size=15),
        *_frame(across, up, what, decides=decides),
        f'<path d="M{_LEFT} {up.at(theirs):.1f}H{_RIGHT}" {_DASHED}/>',
        *(_mark(point, chosen) for point in sorted(points, key=lambda p: str(p.candidate.precision) == chosen)),
        *_labels(points, up.at(theirs)),
        *_table(points, chosen, what, decides=decides),
        *_legend(_TOP + _ROW * (len(points) + 2), model),
    ]
    return "\n".join([*parts, "</svg>", ""])


def _value(candidate: Candidate, *, decides: bool, against_labels: bool) -> float:
    assert candidate.measured is not None
    if against_labels:
        assert candidate.accuracy is not None
        return candidate.accuracy
    return candidate.measured.kept / candidate.measured.samples if decides else -candidate.measured.largest


def _best(shown: Sequence[Candidate], values: Sequence[float], chosen: str) -> set[int]:
    """Return the formats that none is cheaper than and as accurate as (Pareto); of equal ones the choice or the first.

    Args:
        shown: The formats, by gas.
        values: How accurate they are.
        chosen: The choice.
    """
    order = sorted(range(len(shown)), key=lambda i: (shown[i].gas, -values[i], str(shown[i].precision) != chosen))
    best: list[int] = []
    for index in order:
        if not best or values[index] > values[best[-1]]:
            best.append(index)
    return set(best)


# -- axes --------------------------------------------------------------------------------------------------------------


def _gas_axis(values: Sequence[int]) -> _Axis:
    lo, hi = (float(min(values)), float(max(values))) if values else (0.0, 1.0)
    wanted = max(hi - lo, _SPAN * hi) * 1.1
    lo = max((lo + hi - wanted) / 2, 0.0)
    step = _step(wanted / _TICKS)
    first = math.floor(lo / step) * step
    return _Axis(first, math.ceil((lo + wanted) / step) * step, _LEFT, _RIGHT, step)


def _value_axis(values: Sequence[float], *, decides: bool) -> _Axis:
    """Return an axis that ends at 100 %, or at no error."""
    top = 1.0 if decides else 0.0
    span = max(top - min(values), _LEAST if decides else 1e-30)
    step = _step(span / _TICKS)
    return _Axis(top - math.ceil(span / step - 1e-9) * step, top, _BOTTOM, _TOP, step)


def _step(least: float) -> float:
    """Return the next number of the row 1, 2, 5, 10 and so on."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def _frame(across: _Axis, up: _Axis, what: str, *, decides: bool) -> Iterator[str]:
    yield f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" fill="none" stroke="black"/>'
    yield _text(_RIGHT, _BOTTOM + 42, "gas of an inference, predicted", anchor="end")
    yield _text(16, _TOP - 14, what)
    for value in across.ticks:
        yield f'<path d="M{across.at(value):.1f} {_BOTTOM}v5" stroke="black"/>'
        yield _text(across.at(value), _BOTTOM + 20, f"{value:,.0f}", anchor="middle")
    for value in up.ticks:
        yield f'<path d="M{_LEFT} {up.at(value):.1f}H{_RIGHT}" stroke="gainsboro"/>'
        yield _text(_LEFT - 8, up.at(value) + 4, _said(value, up.step, decides=decides), anchor="end")


def _said(value: float, step: float, *, decides: bool) -> str:
    if not decides:
        return f"{abs(value):.3g}"
    return f"{100 * value:.{max(0, -math.floor(math.log10(100 * step) + 1e-9))}f} %"


# -- points ------------------------------------------------------------------------------------------------------------


def _mark(point: _Point, chosen: str) -> str:
    name = str(point.candidate.precision)
    title = f"<title>{escape(name)}</title>"
    where = f'cx="{point.x:.1f}" cy="{point.y:.1f}"'
    if name == chosen:
        return f'<circle {where} r="7" fill="crimson">{title}</circle>'
    look = 'fill="steelblue"' if point.candidate.good else 'fill="white" stroke="gray" stroke-width="1.5"'
    return f'<circle {where} r="5" {look}>{title}</circle>'


def _labels(points: Sequence[_Point], line: float) -> Iterator[str]:
    """Yield numbers beside points, one label for those that lie on one another; the name of the best is added.

    Args:
        points: The points.
        line: Where the float model's line is: nothing is written on it.
    """
    taken: list[tuple[float, float, float, float]] = [(p.x - 6, p.y - 6, p.x + 6, p.y + 6) for p in points]
    taken.append((_LEFT, line - 1, _RIGHT, line + 1))
    for group in _groups(points):
        names = [p.name for p in group if p.best]
        text = _numbers([p.number for p in group]) + (f": {names[-1]}" if names else "")
        x, y, box = _place(group, len(text) * _LETTER, taken)
        taken.append(box)
        yield f'<text class="mark" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _groups(points: Sequence[_Point]) -> list[list[_Point]]:
    groups: list[list[_Point]] = []
    for point in points:
        near = next((g for g in groups if any(math.dist((p.x, p.y), (point.x, point.y)) < _APART for p in g)), None)
        if near is None:
            groups.append([point])
        else:
            near.append(point)
    return groups


def _place(
    group: Sequence[_Point], width: float, taken: Sequence[tuple[float, float, float, float]]
) -> tuple[float, float, tuple[float, float, float, float]]:
    """Return where a label begins that covers nothing, if there is such a place, and what it covers itself."""
    left, right = min(p.x for p in group), max(p.x for p in group)
    middle = sum(p.y for p in group) / len(group)
    beside, centred = (right + 10, left - 10 - width), ((left + right - width) / 2,)
    tries = [
        (x, middle + down)
        for down in (4, 19, -12, 34, -26, 48, 62, 76)
        for x in (beside if abs(down) <= _LINE else (*centred, *beside))
    ]
    boxes = [(x, y, (x, y - _LINE + 2, x + width, y + 2)) for x, y in tries]
    inside = [b for b in boxes if b[0] > _LEFT and b[2][2] < _TABLE - 8 and _TOP - 10 < b[1] < _BOTTOM]
    free = [b for b in inside if not any(_overlap(b[2], other) for other in taken)]
    return (free or inside or boxes)[0]


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _numbers(numbers: Sequence[int]) -> str:
    """Return numbers as a list, three or more in a row as a range."""
    runs: list[list[int]] = [[numbers[0]]]
    for before, number in pairwise(numbers):
        if number == before + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


# -- what is beside ----------------------------------------------------------------------------------------------------


def _table(points: Sequence[_Point], chosen: str, what: str, *, decides: bool) -> Iterator[str]:
    columns = ((_TABLE + 18, "end"), (_TABLE + 28, "start"), (_WIDTH - 100, "end"), (_WIDTH - 16, "end"))
    rows = [("#", "precision", "gas", what.removeprefix("decisions "))]
    for point in points:
        value = f"{point.value:.2%}" if decides else f"{-point.value:.3g}"
        rows.append((str(point.number), point.name, f"{point.candidate.gas:,}", value))
    for index, row in enumerate(rows):
        bold = index == 0 or str(points[index - 1].candidate.precision) == chosen
        for (x, anchor), cell in zip(columns, row, strict=True):
            yield _text(x, _TOP + _ROW * index, cell, anchor=anchor, bold=bold)


def _legend(top: float, model: str) -> Iterator[str]:
    entries = (
        ('<circle cx="{x}" cy="{y}" r="7" fill="crimson"/>', "the choice"),
        ('<circle cx="{x}" cy="{y}" r="5" fill="steelblue"/>', "good enough"),
        ('<circle cx="{x}" cy="{y}" r="5" fill="white" stroke="gray" stroke-width="1.5"/>', "not good enough"),
        (f'<path d="M{{left}} {{y}}h20" {_DASHED}/>', model),
    )
    for index, (mark, text) in enumerate(entries):
        y = top + _ROW * index
        yield mark.format(x=_TABLE + 12, left=_TABLE + 2, y=y)
        yield _text(_TABLE + 28, y + 4, text)
    yield _text(_TABLE + 2, top + _ROW * len(entries) + 4, "with a name: none is cheaper and as accurate")


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 0, bold: bool = False) -> str:
    styles = [*([f"font-size: {size}px"] if size else []), *(["font-weight: bold"] if bold else [])]
    look = f' style="{"; ".join(styles)}"' if styles else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{look}>{escape(text)}</text>'


def _cut(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
