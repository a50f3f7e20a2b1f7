"""Polynomials in place of a smooth function, segment by segment, with an error that is proved when they are made.

A `Curve` is a function and its straight lines: far to the left and to the right a function like Tanh or Gelu is all
but a line. What is left between the function and its lines is approximated on [lo, hi] by one polynomial a segment:

1. The Taylor series at a segment's centre, written in Chebyshev polynomials, is cut off where its rest is small.
2. The coefficients are rounded to `bits` fraction bits.
3. On every cell (1/8 wide) the polynomial in use, rounded coefficients and all, is compared with the series there,
   whose own rest is bounded by its coefficient over the whole cell (Lagrange). This is the proof; 1 needs none.
4. Beyond lo and hi the nearest value serves; the distance to the line there is part of the error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from operator import add
from typing import Any

from ml2sc.errors import RangeError

from .series import BITS, ONE, Series
from .types import round_half_up

CELL = Fraction(1, 8)
_STRETCH_BITS = 4
"""A cell's radius is 2^-4."""
_LEVEL = Fraction(1, 1 << 24)
"""Distance from its line at which a curve's slope is taken to be settled, too."""
_TERMS = 32
_WIDTHS = (1, 2, 4, 8)
"""What a segment is tried as: so many to 1."""
_SPARE_BITS = 6
"""Fraction bits below the ones asked for, so that a dozen roundings stay below half a step."""
_FARTHEST = 160
"""Where all curves are within 2^-112 of their lines."""
_WORD_GAS = 40
_TERM_GAS = 35
_LARGEST_DEGREE = 24


@dataclass(frozen=True, slots=True)
class Line:
    """slope · x + offset."""

    slope: float
    offset: float


@dataclass(frozen=True)
class Curve:
    """A function of one variable and its lines.

    Attributes:
        key: What makes it equal to another one: its operator and the attributes that matter.
        function: It, of a `Series` as of float64; where `exact_right` only for x <= 0.
        left: The line it nears for x → −∞, or None.
        right: The line it nears for x → ∞, or None.
        settled: For |x| from here on the distance to the line, and its slope, shrink as |x| grows.
        mirror: 1 if its distance to the lines is even, −1 if odd, else 0.
        exact_right: Whether it *is* the right line for x >= 0.
    """

    key: Hashable
    function: Callable[[Any], Any]
    left: Line
    right: Line
    settled: int = 4
    mirror: int = 0
    exact_right: bool = False

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Curve) and self.key == other.key

    def distance(self, x: Series, side: int) -> Series:
        """Return the function less its line on that side of 0 (−1 or 1)."""
        line = self.line(side)
        result: Series = self.function(x) - (x * line.slope + line.offset)
        return result

    def line(self, side: int) -> Line:
        """Return what the function is split into, with `distance`: its line, which meets the other if that is exact."""
        if side > 0:
            return self.right
        return Line(self.left.slope, self.right.offset) if self.exact_right else self.left


@dataclass(frozen=True)
class Polynomials:
    """A function of w = x·2^bits, both it and x with `bits` fraction bits, for all w.

    With t = |w| if mirrored, else w − first, brought into the segments: segment t >> segment_bits has the polynomial
    whose coefficients, of the variable that is −1 and 1 at its ends, are a row of `rows` (lowest first).

    Attributes:
        bits: Fraction bits.
        segment_bits: Binary logarithm of a segment's width in w.
        first: The w where the first segment starts.
        rows: Coefficients by segment.
        mirror: As in Curve.
        error: Bound on |result − function(w)|, in units of 1.
        slope: Bound on the function's |slope| from lo to hi.
    """

    bits: int
    segment_bits: int
    first: int
    rows: tuple[tuple[int, ...], ...]
    mirror: int
    error: float
    slope: float

    def distance(self, w: int) -> int:
        """Return the function less its line, with `bits` fraction bits."""
        t = min(max(abs(w) if self.mirror else w - self.first, 0), (len(self.rows) << self.segment_bits) - 1)
        half = self.segment_bits - 1
        r = (t & (1 << self.segment_bits) - 1) - (1 << half)
        *lower, total = self.rows[t >> self.segment_bits]
        for c in lower[::-1]:
            total = (total * r >> half) + c
        return self.mirror * total if self.mirror and w < 0 else total


@lru_cache(maxsize=1 << 14)
def _taylor(curve: Curve, side: int, centre: Fraction) -> Series:
    return curve.distance(Series.variable(centre, Fraction(0), _TERMS + 1), side)


@lru_cache(maxsize=1 << 14)
def _rest(curve: Curve, side: int, centre: Fraction) -> int:
    """Return a bound over a cell on the last term of its series, with BITS fraction bits."""
    over = curve.distance(Series.variable(centre, CELL / 2, _TERMS + 1), side)
    return (abs(over.mid[-1]) + over.rad[-1] >> _STRETCH_BITS * _TERMS) + 1


@lru_cache(maxsize=1 << 14)
def _steepest(curve: Curve, side: int, centre: Fraction) -> int:
    """Return a bound on the function's slope in a cell, with BITS fraction bits: Σ k·|a_k|·(radius)^(k−1)."""
    line, sign = curve.line(side), 1
    if side < 0 and curve.mirror:  # the distance's slope on the left is that on the right, or its negative
        side, centre, sign = 1, -centre, -curve.mirror
    taylor = _taylor(curve, side, centre)
    first = abs(sign * taylor.mid[1] + round_half_up(Fraction(line.slope) * ONE)) + taylor.rad[1] + 1
    terms = range(2, _TERMS)
    rest = sum(k * ((abs(taylor.mid[k]) + taylor.rad[k] >> _STRETCH_BITS * (k - 1)) + 1) for k in terms)
    return first + rest + (_TERMS * _rest(curve, side, centre) << _STRETCH_BITS)


@lru_cache(maxsize=4096)
def slope(curve: Curve, lo: Fraction, hi: Fraction) -> float:
    """Return a bound on the function's |slope| from lo to hi."""
    if curve.exact_right and lo >= 0:
        return abs(curve.right.slope)
    left, right = (side * _settles(curve, side, _LEVEL) for side in (-1, 1))
    first = max(min(math.floor(lo / CELL), int(right / CELL) - 1), int(left / CELL))
    last = max(min(math.ceil(hi / CELL), int(right / CELL)), first + 1)  # the cells from lo to hi, and at least one
    centres = [CELL * i + CELL / 2 for i in range(first, last)]
    found = max(_steepest(curve, _side(centre), centre) for centre in centres)
    # beyond the cells the slope is between that of the last cell and the line's
    lines = [abs(curve.left.slope)] * (lo < left) + [abs(curve.right.slope)] * (hi > right)
    return max(_up(Fraction(found, ONE)), *lines, 0.0)


def _to_chebyshev(powers: list[int]) -> list[int]:
    """Return coefficients of Chebyshev polynomials for those of powers, three at least.

    x·T_k = (T_{k+1} + T_{|k−1|}) / 2, but for x·T_0 = T_1.
    """
    result = [0] * len(powers)
    for c in powers[::-1]:
        halves = [v >> 1 for v in result]
        result = [c + halves[1], result[0] + halves[2], *map(add, halves[1:], [*halves[3:], 0])]
    return result


def _from_chebyshev(coefficients: list[int]) -> list[int]:
    """Return coefficients of powers: T_{k+1} = 2·x·T_k − T_{k−1}."""
    before, t = [1], [0, 1]
    result = [0] * max(len(coefficients), 2)
    for k, c in enumerate(coefficients):
        polynomial = before if k == 0 else t
        for i, v in enumerate(polynomial):
            result[i] += c * v
        if k:
            doubled = [0, *(2 * v for v in t)]
            before, t = t, [v - (before[i] if i < len(before) else 0) for i, v in enumerate(doubled)]
    return result[: len(coefficients)]


def _side(x: Fraction) -> int:
    return -1 if x < 0 else 1


def _settles(curve: Curve, side: int, target: Fraction) -> int:
    """Return the least distance from 0, a whole number, beyond which the curve is its line to within `target`."""
    if side > 0 and curve.exact_right:
        return 0
    if curve.mirror:
        side = 1
    for x in range(curve.settled, _FARTHEST):
        if _away(curve, side * x) <= target:
            return x
    return _FARTHEST


@lru_cache(maxsize=4096)
def _away(curve: Curve, x: int) -> Fraction:
    side = _side(Fraction(x))
    if side > 0 and curve.exact_right:
        return Fraction(0)
    at, line = Series.variable(Fraction(x), Fraction(0), 1), curve.left if side < 0 else curve.right
    d: Series = curve.function(at) - (at * line.slope + line.offset)
    return Fraction(abs(d.mid[0]) + d.rad[0], ONE)


@lru_cache(maxsize=256)
def approximate(curve: Curve, lo: Fraction, hi: Fraction, bits: int, count: int) -> Polynomials:
    """Return polynomials whose error is at most about 2^-(bits+1) for x from lo to hi.

    Args:
        curve: The function.
        lo: Least x.
        hi: Greatest x.
        bits: Fraction bits that are asked for; the result has a few more.
        count: Values to be computed in one inference, which decides between few long and many short polynomials.

    Raises:
        RangeError: so many bits cannot be had.
    """
    target = Fraction(1, 1 << bits + 3)
    left, right = -_settles(curve, -1, target), _settles(curve, 1, target)
    if curve.mirror:
        first, last = 0, min(right, max(-(-max(-lo, hi) // 1), 1))
    else:
        first = min(max(lo // 1, left), right - 1)
        last = max(min(-(-hi // 1), right), first + 1)
    first, last = int(first), int(last)
    best: tuple[int, int, list[list[int]]] | None = None
    for per_unit in _WIDTHS:
        rows = _fit(curve, first, last, per_unit, target)
        if rows is None:
            continue
        degree = len(rows[0]) - 1
        # a row of coefficients, each a few bits shorter than the one before it
        words = -(-sum(max(bits + 8 - 5 * k, 8) for k in range(degree + 1)) // 256)
        cost = len(rows) * words * _WORD_GAS + degree * _TERM_GAS * count
        if best is None or cost < best[0]:
            best = cost, per_unit, rows
    if best is None:
        raise RangeError(f"a table cannot be made to 2^-{bits}", hint="narrow the precision or the input range")
    _, per_unit, exact = best
    drop = BITS - (bits + _SPARE_BITS)
    rows_ = tuple(tuple((c + (1 << drop - 1)) >> drop for c in row) for row in exact)
    error = _prove(curve, first, per_unit, rows_, bits + _SPARE_BITS)
    below = Fraction(0) if curve.mirror or lo >= first else _away(curve, first)
    above = Fraction(0) if max(hi, -lo if curve.mirror else hi) <= last else _away(curve, last)
    total = error + Fraction(len(rows_[0]), 1 << bits + _SPARE_BITS) + 2 * max(below, above)
    width = bits + _SPARE_BITS - (per_unit.bit_length() - 1)
    return Polynomials(
        bits + _SPARE_BITS, width, first << bits + _SPARE_BITS, rows_, curve.mirror, _up(total), slope(curve, lo, hi)
    )


def _up(value: Fraction) -> float:
    """Return a float that is not less."""
    return float(value) * (1 + 2.0**-50)


def _fit(curve: Curve, first: int, last: int, per_unit: int, target: Fraction) -> list[list[int]] | None:
    """Return polynomials of one degree for all segments, with BITS fraction bits, or None if it would be too high."""
    centres = [Fraction(2 * i + 1, 2 * per_unit) for i in range(first * per_unit, last * per_unit)]
    rows = [_chebyshev(curve, centre, per_unit.bit_length()) for centre in centres]
    limit = int(target * ONE)
    degree = max(next(n for n in range(1, _TERMS + 1) if sum(map(abs, row[n + 1 :])) <= limit) for row in rows)
    if degree > _LARGEST_DEGREE or any(abs(row[-1]) > limit >> 8 for row in rows):
        return None
    return [_from_chebyshev(row[: degree + 1]) for row in rows]


@lru_cache(maxsize=1 << 13)
def _chebyshev(curve: Curve, centre: Fraction, half: int) -> list[int]:
    """Return the coefficients of Chebyshev polynomials in a segment, 2^-half to either side of its centre."""
    taylor = _taylor(curve, _side(centre), centre)
    return _to_chebyshev([c >> half * k for k, c in enumerate(taylor.mid)])


def _prove(curve: Curve, first: int, per_unit: int, rows: tuple[tuple[int, ...], ...], bits: int) -> Fraction:
    """Return a bound on |polynomial − distance| in all segments."""
    worst = 0
    cells = int(1 / CELL) // per_unit  # in a segment
    for index, row in enumerate(rows):
        start = Fraction(first) + Fraction(index, per_unit)
        for cell in range(cells):
            centre = start + CELL * cell + CELL / 2
            side = _side(centre)
            taylor, rest = _taylor(curve, side, centre), _rest(curve, side, centre)
            # the row's variable is −1 … 1 over the segment: shift and stretch it to be that over the cell
            moved = _shifted([c << BITS - bits for c in row], Fraction(2 * cell + 1 - cells, cells), cells)
            mid = [c >> _STRETCH_BITS * k for k, c in enumerate(taylor.mid[:-1])]
            difference = [(moved[k] if k < len(moved) else 0) - c for k, c in enumerate(mid)]
            radii = sum((r >> _STRETCH_BITS * k) + 1 for k, r in enumerate(taylor.rad[:-1]))
            # conversions round down a few thousand times by 2^-BITS
            found = sum(map(abs, _to_chebyshev(difference))) + radii + rest + (1 << 16)
            worst = max(worst, found)
    return Fraction(worst, ONE)


def _shifted(powers: list[int], offset: Fraction, parts: int) -> list[int]:
    """Return the coefficients of p(offset + t / parts)."""
    result = list(powers)
    for start in range(len(result) - 1):
        for k in range(len(result) - 2, start - 1, -1):
            result[k] += result[k + 1] * offset.numerator // offset.denominator
    return [c // parts**k for k, c in enumerate(result)]
