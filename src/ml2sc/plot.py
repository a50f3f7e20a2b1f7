"""Accuracy against gas, as an SVG picture."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from ml2sc.passes.search_formats import Candidate

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 440, 80, 110, 40, 60
_TICKS = 5


def picture(candidates: Sequence[Candidate], chosen: str, *, decides: bool, title: str) -> str:
    """Draw formats as points: predicted gas to the right, accuracy upward; the same formats give the same bytes.

    Args:
        candidates: Those that were measured on all samples.
        chosen: The precision that was taken.
        decides: Whether accuracy is the share of decisions kept; else it is the largest error, the least on top.
        title: What is above it.
    """
    points = [
        (c.gas, c.measured.kept / c.measured.samples if decides else -c.measured.largest, c)
        for c in candidates
        if c.measured is not None
    ]
    xs, ys = _axis([p[0] for p in points]), _axis([p[1] for p in points])
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    label = "decisions kept" if decides else "largest error"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}">',
        "<style>text {font: 12px sans-serif}</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="24" font-size="15">{escape(title)}</text>',
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="black"/>',
        f'<text x="{right}" y="{_HEIGHT - 16}" text-anchor="end">gas of an inference, predicted</text>',
        f'<text x="16" y="{_TOP}" transform="rotate(-90 16 {_TOP})" text-anchor="end">{label}</text>',
    ]
    for tick in range(_TICKS):
        part = tick / (_TICKS - 1)
        x, y = _LEFT + part * (right - _LEFT), bottom - part * (bottom - _TOP)
        value = ys[0] + part * (ys[1] - ys[0])
        text = f"{value:.2%}" if decides else f"{-value:.3g}"
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{xs[0] + part * (xs[1] - xs[0]):,.0f}</text>'
        )
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for gas, accuracy, candidate in points:
        x = _LEFT + (gas - xs[0]) / (xs[1] - xs[0]) * (right - _LEFT)
        y = bottom - (accuracy - ys[0]) / (ys[1] - ys[0]) * (bottom - _TOP)
        name = str(candidate.precision)
        fill = "crimson" if name == chosen else "steelblue" if candidate.good else "silver"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{6 if name == chosen else 4}" fill="{fill}"/>')
        parts.append(f'<text x="{x + 8:.1f}" y="{y - 5:.1f}" font-size="10">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _axis(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis, with some room beside the values."""
    lo, hi = (min(values), max(values)) if values else (0.0, 1.0)
    room = (hi - lo) / 20 or abs(hi) / 20 or 1.0
    return lo - room, hi + room
