"""Several rows of a convolution's results from fewer products than rows times taps: Winograd's minimal filters.

Everything is linear: a product is of one linear form of rows of pixels and one of rows of taps, and a row of results is
a linear form of sums of products. All of it holds mod 2^256, so that nothing on the way needs room in a lane; only the
results do, and they come multiplied by `factor`: its odd part leaves by its inverse mod 2^256, its powers of two by a
shift, for which the bits above the highest lane must be free.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, cached_property

_WORD = 1 << 256
_POINTS = (0, 1, -1, 2, -2, 3, -3)
"""Where polynomials are evaluated, beside infinity."""

_SHORT = 2
"""Rows of a form of pixels, at most, that is not made of others."""

Form = tuple[int, ...]
"""Coefficients, one for each row."""


@dataclass(frozen=True, slots=True)
class Product:
    """One product: into which sum it goes, and of which forms it is, by their numbers."""

    total: int
    taps: int
    pixels: int


@dataclass(frozen=True)
class Bilinear:
    """How some rows of results, one below the other, are computed.

    Attributes:
        rows: How many.
        stride: Rows of pixels from one to the next.
        pixels: Linear forms of the rows of pixels.
        taps: Linear forms of the rows of taps.
        products: The products.
        results: By row of results: `factor` times it as a linear form of the sums of products.
        factor: What results come multiplied by.
    """

    rows: int
    stride: int
    pixels: tuple[Form, ...]
    taps: tuple[Form, ...]
    products: tuple[Product, ...]
    results: tuple[Form, ...]
    factor: int

    def __post_init__(self) -> None:
        if not self.proved():
            raise ValueError("these products do not make the rows of a convolution")

    def proved(self) -> bool:
        """Return whether each row of results is `factor` times its rows of taps times rows of pixels, identically."""
        for row, result in enumerate(self.results):
            for ky in range(len(self.taps[0])):
                for at in range(len(self.pixels[0])):
                    made = sum(
                        result[p.total] * self.taps[p.taps][ky] * self.pixels[p.pixels][at] for p in self.products
                    )
                    if made != self.factor * (at == self.stride * row + ky):
                        return False
        return True

    @property
    def fast(self) -> bool:
        """Whether there are fewer products than rows times taps."""
        return len(self.products) < self.rows * len(self.taps[0])

    @property
    def totals(self) -> int:
        """How many sums of products there are."""
        return len(self.results[0])

    @property
    def shift(self) -> int:
        """The powers of two in the factor."""
        return (self.factor & -self.factor).bit_length() - 1

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Sums of products of which some rows take a multiple of what both are together, others of their difference."""
        return _mirrored(list(zip(*self.results, strict=True)))

    @cached_property
    def pixel_pairs(self) -> tuple[tuple[int, int], ...]:
        """Forms of pixels that are the sum and the difference of two others, which have fewer rows."""
        pairs = _mirrored(self.pixels)
        return tuple((i, j) for i, j in pairs if sum(map(bool, self.pixels[i])) > _SHORT)

    def of_larger_taps(self) -> Bilinear:
        """Return the same with what all rows of results multiply a sum of products by in its taps instead."""
        shares = [math.gcd(*(row[t] for row in self.results)) for t in range(self.totals)]
        forms = [tuple(shares[p.total] * v for v in self.taps[p.taps]) for p in self.products]
        taps = tuple(dict.fromkeys(forms))
        products = [replace(p, taps=taps.index(form)) for p, form in zip(self.products, forms, strict=True)]
        results = tuple(tuple(v // share for v, share in zip(row, shares, strict=True)) for row in self.results)
        return replace(self, taps=taps, products=tuple(products), results=results)

    @cached_property
    def inverse(self) -> int:
        """The inverse of its odd part, mod 2^256."""
        return pow(self.factor >> self.shift, -1, _WORD)


def _mirrored(forms: Sequence[Form]) -> tuple[tuple[int, int], ...]:
    """Return the pairs of linear forms of which some coefficients are the same, and all others opposite."""
    found = []
    for i, j in itertools.combinations(range(len(forms)), 2):
        factors = [(a, b) for a, b in zip(forms[i], forms[j], strict=True) if a or b]
        if all(abs(a) == abs(b) for a, b in factors) and len({a == b for a, b in factors}) > 1:
            found.append((i, j))
    return tuple(found)


@cache
def bilinear(rows: int, taps: int, stride: int, *, fast: bool) -> Bilinear:
    """Return how rows of results are computed from rows of pixels and taps.

    Args:
        rows: Rows of results.
        taps: Rows of taps.
        stride: Rows of pixels from a row of results to the next.
        fast: Use fewer products than rows times taps: each phase of the stride is a filter of its own.
    """
    height = stride * (rows - 1) + taps
    pixel_forms, tap_forms, products = list[Form](), list[Form](), list[Product]()
    results: list[list[Fraction]] = [[] for _ in range(rows)]
    direct: list[int | None] = [None] * rows

    def number(forms: list[Form], form: Form) -> int:
        if form not in forms:
            forms.append(form)
        return forms.index(form)

    def new_total(coefficients: Sequence[Fraction]) -> int:
        for row, coefficient in zip(results, coefficients, strict=True):
            row.append(coefficient)
        return len(results[0]) - 1

    def spread(values: Sequence[int], first: int, length: int) -> Form:
        form = [0] * length
        form[first : first + stride * len(values) : stride] = values
        return tuple(form)

    for phase in range(min(stride, taps)):
        own = len(range(phase, taps, stride))
        if fast and rows > 1 and own > 1:
            for evaluated, kernel, seen, divisor in _filter(rows, own):
                total = new_total([Fraction(v, divisor) for v in evaluated])
                t = number(tap_forms, spread(kernel, phase, taps))
                x = number(pixel_forms, spread(seen, phase, height))
                products.append(Product(total, t, x))
            continue
        for row in range(rows):
            if direct[row] is None:
                direct[row] = new_total([Fraction(int(row == other)) for other in range(rows)])
            for k in range(own):
                t = number(tap_forms, spread([int(k == i) for i in range(own)], phase, taps))
                at = stride * row + phase + stride * k
                x = number(pixel_forms, tuple(int(at == i) for i in range(height)))
                products.append(Product(direct[row] or 0, t, x))
    factor = math.lcm(*(v.denominator for row in results for v in row))
    forms = tuple(tuple(int(v * factor) for v in row) for row in results)
    return Bilinear(rows, stride, tuple(pixel_forms), tuple(tap_forms), tuple(products), forms, factor)


def _filter(rows: int, taps: int) -> list[tuple[list[int], list[int], list[int], int]]:
    """Return the products of a filter with stride 1, by Toom's and Cook's multiplication of polynomials transposed.

    Returns:
        Of each: by row of results its coefficient; by tap; by row of pixels; and what it is to be divided by.
    """
    count = rows + taps - 1
    points = [*_POINTS[: count - 1]]
    if len(points) < count - 1:
        raise ValueError(f"no filter of {rows} rows and {taps} taps")
    found = []
    for point in points:
        # Lagrange's polynomial of the point, of degree count - 2; infinity takes away the highest coefficient
        seen, divisor = [1], 1
        for other in points:
            if other != point:
                seen = [a - other * b for a, b in zip([0, *seen], [*seen, 0], strict=True)]
                divisor *= point - other
        powers = [point**k for k in range(max(rows, taps))]
        sign = -1 if divisor < 0 else 1
        found.append((powers[:rows], powers[:taps], [sign * v for v in [*seen, 0]], sign * divisor))
    seen = [1]
    for point in points:
        seen = [a - point * b for a, b in zip([0, *seen], [*seen, 0], strict=True)]
    found.append(([0] * (rows - 1) + [1], [0] * (taps - 1) + [1], seen, 1))
    return found
