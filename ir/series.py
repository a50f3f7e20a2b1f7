"""Power series with proved errors, on integers: what tables of smooth functions are made from.

A `Series` encloses the Taylor coefficients of a function at a point, or at every point of an interval. Functions
written with `exp`, `log`, `erf` and arithmetic work on it as they do on float64 arrays, so one definition of an
activation gives its values, its slopes and the remainders of its approximations. Only integers are used: every machine
gets the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import erf as float_erf
from math import isqrt
from operator import add, mul
from typing import Any

import numpy as np

from .types import Array, round_half_up

BITS = 256
"""Fraction bits of every number."""
ONE = 1 << BITS
_GUARD = 64


@dataclass(frozen=True, slots=True)
class Series:
    """Coefficient k lies within rad[k] of mid[k], both in steps of 2^-BITS.

    Attributes:
        mid: Centres.
        rad: Radii.
    """

    mid: tuple[int, ...]
    rad: tuple[int, ...]

    @classmethod
    def variable(cls, centre: Fraction, radius: Fraction, terms: int) -> Series:
        """Return x itself, at every point within `radius` of `centre`, with so many coefficients."""
        mid, rad = round_half_up(centre * ONE), -round_half_up(-radius * ONE)
        rad += (centre * ONE).denominator != 1 or (radius * ONE).denominator != 1
        return cls((mid, ONE, *[0] * (terms - 2))[:terms], (rad, *[0] * (terms - 1)))

    def _lift(self, other: Number) -> Series:
        if isinstance(other, Series):
            return other
        exact = Fraction(other) * ONE
        rest = (0,) * (len(self.mid) - 1)
        return Series((round_half_up(exact), *rest), (int(exact.denominator != 1), *rest))

    def __neg__(self) -> Series:
        return Series(tuple(-m for m in self.mid), self.rad)

    def __add__(self, other: Number) -> Series:
        b = self._lift(other)
        return Series(
            tuple(x + y for x, y in zip(self.mid, b.mid, strict=True)),
            tuple(x + y for x, y in zip(self.rad, b.rad, strict=True)),
        )

    __radd__ = __add__

    def __sub__(self, other: Number) -> Series:
        return self + -self._lift(other)

    def __rsub__(self, other: Number) -> Series:
        return self._lift(other) + -self

    def __mul__(self, other: Number) -> Series:
        b = self._lift(other)
        mid = [v >> BITS for v in _convolved(self.mid, b.mid)]
        rad = [0] * len(mid)
        if any(self.rad) or any(b.rad):
            rests = _convolved(tuple(map(abs, self.mid)), b.rad)
            wide = tuple(map(add, map(abs, b.mid), b.rad))
            rad = list(map(add, rests, _convolved(self.rad, wide)))
        return Series(tuple(mid), tuple((r >> BITS) + 2 for r in rad))

    __rmul__ = __mul__

    def __truediv__(self, other: Number) -> Series:
        """q_k = (a_k − Σ_{i≥1} b_i·q_{k−i}) / b_0."""
        b = self._lift(other)
        mid: list[int] = []
        rad: list[int] = []
        wide: list[int] = []
        above, slack_of = _trimmed(b.mid[1:]), _trimmed(b.rad[1:])
        size = tuple(map(abs, above))
        for k in range(len(self.mid)):
            top = (self.mid[k] << BITS) - _dot(above, mid[::-1]) >> BITS
            slack = _dot(size, rad[::-1]) + _dot(slack_of, wide[::-1])
            q, r = _quotient(top, self.rad[k] + (slack >> BITS) + 2, b.mid[0], b.rad[0])
            mid.append(q)
            rad.append(r)
            wide.append(abs(q) + r)
        return Series(tuple(mid), tuple(rad))

    def __rtruediv__(self, other: Number) -> Series:
        return self._lift(other) / self

    def _integrated(self, first: tuple[int, int], outer: Series | None) -> Series:
        """Return the series with a given coefficient 0 whose derivative is `outer` times this one's.

        Coefficient k is Σ_{i=1..k} i·a_i·h_{k−i} / k, from those of h before it.

        Args:
            first: Centre and radius of coefficient 0.
            outer: h; None if that is the result itself.
        """
        slopes, slack = _trimmed(_times_index(self.mid)), _trimmed(_times_index(self.rad))
        size = tuple(map(abs, slopes))
        mid, rad = [first[0]], [first[1]]
        centres, radii = (mid, rad) if outer is None else (outer.mid, outer.rad)
        for k in range(1, len(self.mid)):
            h, about = centres[k - 1 :: -1], radii[k - 1 :: -1]
            wrong = _dot(size, about) + _dot(slack, map(add, map(abs, h), about))
            mid.append((_dot(slopes, h) >> BITS) // k)
            rad.append(((wrong >> BITS) + 2) // k + 2)
        return Series(tuple(mid), tuple(rad))

    def exp(self) -> Series:
        """Return e^a: its derivative is itself."""
        value, wrong = _exp(self.mid[0])
        spread = _exp(self.rad[0])
        rad = wrong + ((value + wrong) * (spread[0] + spread[1] - ONE) >> BITS) + 2
        return self._integrated((value, rad), None)

    def log(self) -> Series:
        """Return ln a, from a·(ln a)' = a'.

        Raises:
            ZeroDivisionError: a may be 0 or less.
        """
        m, r = self.mid[0], self.rad[0]
        if m <= r:
            raise ZeroDivisionError
        derivative = Series(_times_index(self.mid), _times_index(self.rad)) / self
        mid = [_log(m), *(derivative.mid[k - 1] // k for k in range(1, len(self.mid)))]
        rad = [(r << BITS) // (m - r) + 2, *(derivative.rad[k - 1] // k + 2 for k in range(1, len(self.mid)))]
        return Series(tuple(mid), tuple(rad))

    def erf(self) -> Series:
        """Return erf a: its derivative is 2/√π·exp(−a²), at most 2/√π."""
        rest = (0,) * (len(self.mid) - 1)
        slope = (-(self * self)).exp() * Series((two_over_root_pi(), *rest), (1, *rest))
        value = (_erf(self.mid[0]), (self.rad[0] * 5 >> 2) + 2)
        return self._integrated(value, slope)

    def sqrt(self) -> Series:
        """Return √a, from √a·√a = a; coefficient 0 alone where a may be 0.

        Raises:
            ZeroDivisionError: a may be less than 0, or 0 and more coefficients are asked for.
        """
        m, r = self.mid[0], self.rad[0]
        if m < r or (m <= r and len(self.mid) > 1):
            raise ZeroDivisionError
        root = isqrt(m << BITS)
        mid, rad = [root], [(root - isqrt((m - r) << BITS)) + 2]
        for k in range(1, len(self.mid)):
            top = self.mid[k] - (sum(mid[i] * mid[k - i] for i in range(1, k)) >> BITS)
            slack = sum(2 * abs(mid[i]) * rad[k - i] + rad[i] * rad[k - i] for i in range(1, k)) >> BITS
            q, s = _quotient(top, self.rad[k] + slack + 2, 2 * mid[0], 2 * rad[0])
            mid.append(q)
            rad.append(s)
        return Series(tuple(mid), tuple(rad))


Number = Series | Fraction | int | float
"""What arithmetic with a Series takes; floats stand for themselves, exactly."""


def _dot(a: Iterable[int], b: Iterable[int]) -> int:
    """Return the sum of products, as far as both go."""
    return sum(map(mul, a, b))


def _convolved(a: tuple[int, ...], b: tuple[int, ...]) -> list[int]:
    """Return the coefficients of a product: Σ_{i=0..k} a_i·b_{k−i}."""
    few, all_ = min((_trimmed(a), b), (_trimmed(b), a), key=lambda pair: len(pair[0]))
    return [_dot(few, all_[k::-1]) for k in range(len(a))]


def _trimmed(values: Sequence[int]) -> Sequence[int]:
    """Return values without the zeros at the end: numbers and variables have hardly anything else."""
    end = len(values)
    while end and not values[end - 1]:
        end -= 1
    return values[:end]


def _times_index(values: tuple[int, ...]) -> tuple[int, ...]:
    return (*(k * v for k, v in enumerate(values) if k), 0)


def _quotient(top: int, slack: int, m: int, r: int) -> tuple[int, int]:
    """Return centre and radius of (top ± slack) / (m ± r)."""
    if abs(m) <= r:
        raise ZeroDivisionError
    q = (top << BITS) // m
    least = abs(m) - r
    return q, ((slack + (abs(q) * r >> BITS) + 1) << BITS) // least + abs(m) // least + 2


# -- the functions, on series and on float64 ---------------------------------------------------------------------------


def exp(x: Any) -> Any:
    """Return e^x of a Series or of float64."""
    return x.exp() if isinstance(x, Series) else np.exp(x)


def log(x: Any) -> Any:
    """Return ln x of a Series or of float64."""
    return x.log() if isinstance(x, Series) else np.log(x)


def sqrt(x: Any) -> Any:
    """Return √x of a Series or of float64."""
    return x.sqrt() if isinstance(x, Series) else np.sqrt(x)


def erf(x: Any) -> Any:
    """Return erf x of a Series or of float64."""
    if isinstance(x, Series):
        return x.erf()
    values: Array = np.array([float_erf(v) for v in np.ravel(x)], dtype=np.float64).reshape(np.shape(x))
    return values


# -- points ------------------------------------------------------------------------------------------------------------


@cache
def _ln2(bits: int) -> int:
    """Ln 2 = 2·artanh(1/3)."""
    return 2 * _artanh((1 << bits) // 3, bits)


def _artanh(z: int, bits: int) -> int:
    total, power, square, i = 0, z, z * z >> bits, 1
    while power:
        total += power // i
        power = power * square >> bits
        i += 2
    return total


@cache
def two_over_root_pi() -> int:
    """Return 2/√π to within 2^-BITS, with π by Machin's formula."""
    bits = BITS + _GUARD

    def arctan_of_inverse(n: int) -> int:
        total, power, i, sign = 0, (1 << bits) // n, 1, 1
        while power:
            total += sign * (power // i)
            power, i, sign = power // (n * n), i + 2, -sign
        return total

    pi = 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))
    return (2 << 2 * BITS + _GUARD // 2) // isqrt(pi << BITS)


def _exp(x: int) -> tuple[int, int]:
    """Return e^x and a bound on its error, by x = k·ln 2 + r and the series of e^r.

    About 100 roundings of 2^-320 on e^r < 2, and k of ln 2, are below 2^-300 for |k| < 2^10; 2^k scales them.
    """
    if x < -BITS << BITS:
        return 0, 1
    bits = BITS + _GUARD
    k, r = divmod(x << _GUARD, _ln2(bits))
    total = term = 1 << bits
    i = 1
    while term:
        term = (term * r >> bits) // i
        total += term
        i += 1
    return (total << k if k >= 0 else total >> -k) >> _GUARD, 1 + (1 << max(k - 40, 0))


def _log(x: int) -> int:
    """Return ln x to within 2^-BITS: x = 2^k·m with 1/√2 <= m < √2 or so, ln m = 2·artanh((m − 1)/(m + 1))."""
    bits = BITS + _GUARD
    k = x.bit_length() - BITS - 1
    m = x << _GUARD - k if k <= _GUARD else x >> k - _GUARD
    if m * m >> 2 * bits + 1:
        m, k = m >> 1, k + 1
    one = 1 << bits
    z = ((m - one) << bits) // (m + one)
    return k * _ln2(bits) + 2 * (_artanh(z, bits) if z >= 0 else -_artanh(-z, bits)) >> _GUARD


def _erf(x: int) -> int:
    """Return erf x to within 2^-BITS, by its series; 1 − erf 14 < 2^-280."""
    if abs(x) >= 14 << BITS:
        return ONE if x > 0 else -ONE
    bits = BITS + _GUARD + 300  # terms grow to e^(x²) < 2^283 before they cancel
    z = abs(x) << bits - BITS
    square, power, total, n = z * z >> bits, z, 0, 0
    while power:
        total += (power if n % 2 == 0 else -power) // (2 * n + 1)
        n += 1
        power = (power * square >> bits) // n
    value = total * two_over_root_pi() >> bits
    return value if x >= 0 else -value
