"""exp, ln and what is made of them, on integers: the reference of the emitted code, operation by operation.

Numbers have 96 fraction bits inside (`ONE`), results 60 (`OUTPUT_STEP`). `passes/lower/heads.py` emits the same steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import factorial

from ml2sc.errors import RangeError

from .graph import Node
from .program import word_multiplier

BITS = 96
ONE = 1 << BITS
OUTPUT_BITS = 60
OUTPUT_ONE = 1 << OUTPUT_BITS
OUTPUT_STEP = Fraction(1, OUTPUT_ONE)

LIMIT = 64
"""exp(−64) < 2^−92: beyond it exp is taken as exp(−64)."""

LN2 = 0xB17217F7D1CF79ABC9E3B398
"""ln 2 · 2^96, rounded down."""
INV_LN2 = 0x171547652B82FE1777D0FFDA1
"""2^96 / ln 2, rounded up."""
SQRT2 = 0x16A09E667F3BCC908B2FB1367
"""sqrt 2 · 2^96, rounded up."""
LN_SQRT2 = 0x58B90BFBE8E7BCD5E4F1D9CC
"""ln(sqrt 2) · 2^96, rounded down."""

EXP_TERMS = 15
"""Terms of exp's series on |r| <= ln(2)/2 = 0.347: the rest is below 0.347^15 / 15! · 1.42 < 2^−62."""
EXP_COEFFICIENTS = tuple(
    ONE // f
    for f in (1, 1, 2, 6, 24, 120, 720, 5040, 40320, 362880, 3628800, 39916800, 479001600, 6227020800, 87178291200)
)

LN_TERMS = 12
"""Terms of artanh's series on |z| <= (√2 − 1)/(√2 + 1) = 0.1716: the rest is below 2 · 0.1716^25 / 25 < 2^−65."""
LN_COEFFICIENTS = tuple(ONE // (2 * i + 1) for i in range(LN_TERMS))

EXP_ERROR = 2.0**-60
"""|exp_neg(t)/2^96 − exp(−t)|: the series' rest 2^−62, fifteen roundings of 2^−96, the input's 2^−95."""
SIGMOID_ERROR = 2.0**-58
"""EXP_ERROR through 1/(1 + e) (slope at most 1), a rounding of 2^−60."""
LN_ERROR = 2.0**-62
"""|ln(v)/2^96 − ln v| for 1 <= v <= 2^16: the series' rest 2^−65, its roundings, 16 · 2^−96 of LN2."""


@dataclass(frozen=True, slots=True)
class InputScale:
    """How integers x become numbers with 96 fraction bits: (|x|·multiplier + 2^(shift−1)) >> shift.

    Attributes:
        multiplier: With 2^shift, the scale of x times 2^96.
        shift: See multiplier.
        limit: The |x| from which on the number is at least LIMIT.
    """

    multiplier: int
    shift: int
    limit: int

    @classmethod
    def of(cls, node: Node) -> InputScale:
        """Read it from a node's attributes."""
        m, s, limit = (node.attrs[key] for key in ("multiplier", "shift", "limit"))
        assert isinstance(m, int) and isinstance(s, int) and isinstance(limit, int)
        return cls(m, s, limit)

    def apply(self, magnitude: int) -> int:
        """Return min(magnitude, limit) with 96 fraction bits."""
        return (min(magnitude, self.limit) * self.multiplier + ((1 << self.shift) >> 1)) >> self.shift

    def error(self, scale: Fraction) -> float:
        """Return how far `apply` can be off, in units of 1: 2^−97 of rounding, and what the multiplier misses."""
        wrong = abs(Fraction(self.multiplier, ONE << self.shift) - min(scale, Fraction(LIMIT)))
        return float(self.limit * wrong) + 2.0**-97


def input_attrs(scale: Fraction, x_bits: int = 200) -> dict[str, int]:
    """Return the attributes that bring integers |x| < 2^x_bits of that scale to 96 fraction bits.

    The relative error is below 2^−110 where the products leave room for that in a word.

    Raises:
        RangeError: they leave none at all.
    """
    scale = min(scale, Fraction(LIMIT))  # from there on every x but 0 is at least the limit
    limit = min(-(-LIMIT * scale.denominator // scale.numerator), 1 << x_bits)
    found = word_multiplier(scale * ONE, 112, limit.bit_length())
    if found is None:  # limit · scale is at most 2 · LIMIT: the integers themselves need a whole word
        raise RangeError(
            f"integers of {x_bits} bits are too much for a word of the EVM",
            hint="narrow the input range (--input-range), or choose a narrower --precision",
        )
    return {"multiplier": found[0], "shift": found[1], "limit": limit}


def exp_terms(bits: int) -> int:
    """Return how many terms of exp's series leave less than 2^-bits; at most EXP_TERMS."""
    return next((n for n in range(2, EXP_TERMS) if exp_error(n) < 2.0**-bits), EXP_TERMS)


def exp_error(terms: int) -> float:
    """Return a bound on |exp_neg(t, terms)/2^96 − exp(−t)|: the first term left out, of r = 0.347, times exp(0.347)."""
    return EXP_ERROR + 1.42 * 0.347**terms / factorial(terms) if terms < EXP_TERMS else EXP_ERROR


def exp_neg(t: int, terms: int = EXP_TERMS) -> int:
    """Return exp(−t) for 0 <= t <= 64, both with 96 fraction bits.

    t = k·ln 2 + r with |r| <= ln(2)/2; exp(−r) by its series in Horner's form; then k halvings.
    """
    k = (t * INV_LN2 + (1 << 191)) >> 192
    r = t - k * LN2
    first, *rest = EXP_COEFFICIENTS[:terms][::-1]
    p = first
    for c in rest:
        p = c - ((r * p) >> BITS)
    return p >> k


def sigmoid(scale: InputScale, x: int) -> int:
    """Return 1 / (1 + exp(−x·scale)) with 60 fraction bits."""
    e = exp_neg(scale.apply(abs(x)))
    return ((ONE if x >= 0 else e) << OUTPUT_BITS) // (ONE + e)


def ln(v: int) -> int:
    """Return ln v for 1 <= v < 2^16, both with 96 fraction bits.

    v = 2^k·m with 1 <= m < 2; ln m = ln √2 + 2·artanh((m − √2)/(m + √2)).
    """
    k = 0
    while v >= 2 * ONE:
        v >>= 1
        k += 1
    top = (v - SQRT2) << BITS
    z = abs(top) // (v + SQRT2)
    z = -z if top < 0 else z
    z2 = (z * z) >> BITS
    s = LN_COEFFICIENTS[-1]
    for c in LN_COEFFICIENTS[-2::-1]:
        s = c + ((z2 * s) >> BITS)
    return k * LN2 + LN_SQRT2 + ((z * s) >> (BITS - 1))
