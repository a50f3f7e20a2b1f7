"""Constants, error bounds and monotony of exp, sigmoid and ln, against mpmath with 400 bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import mpmath
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ml2sc.ir import fixmath
from ml2sc.ir.fixmath import ONE, OUTPUT_ONE

mpmath.mp.prec = 400

MOST = fixmath.LIMIT * ONE
EDGES = [0, 1, fixmath.LN2 // 2, fixmath.LN2 // 2 + 1, fixmath.LN2, ONE, MOST - 1, MOST]
# the ends of every interval of the range reduction, where the series' rest is largest
EDGES += [(2 * k + 1) * fixmath.LN2 // 2 + d for k in (1, 2, 45, 91) for d in (-1, 0, 1)]


@pytest.mark.parametrize(
    ("constant", "value", "rounded"),
    [
        (fixmath.LN2, lambda: mpmath.log(2), mpmath.floor),
        (fixmath.INV_LN2, lambda: 1 / mpmath.log(2), mpmath.ceil),
        (fixmath.SQRT2, lambda: mpmath.sqrt(2), mpmath.ceil),
        (fixmath.LN_SQRT2, lambda: mpmath.log(2) / 2, mpmath.floor),
    ],
)
def test_constants_to_the_last_bit(
    constant: int, value: Callable[[], mpmath.mpf], rounded: Callable[[mpmath.mpf], mpmath.mpf]
) -> None:
    assert constant == int(rounded(value() * ONE))


def test_coefficients() -> None:
    assert tuple(ONE // math.factorial(i) for i in range(fixmath.EXP_TERMS)) == fixmath.EXP_COEFFICIENTS
    assert tuple(ONE // (2 * i + 1) for i in range(fixmath.LN_TERMS)) == fixmath.LN_COEFFICIENTS


def exp_distance(t: int, terms: int = fixmath.EXP_TERMS) -> float:
    return float(abs(mpmath.mpf(fixmath.exp_neg(t, terms)) / ONE - mpmath.exp(-mpmath.mpf(t) / ONE)))


@pytest.mark.parametrize("t", EDGES)
def test_exp_at_the_edges(t: int) -> None:
    assert exp_distance(t) <= fixmath.EXP_ERROR


@given(st.integers(0, MOST))
def test_exp(t: int) -> None:
    assert exp_distance(t) <= fixmath.EXP_ERROR
    assert 0 <= fixmath.exp_neg(t) <= ONE
    assert fixmath.exp_neg(0) == ONE


@given(st.integers(0, MOST), st.integers(2, fixmath.EXP_TERMS))
def test_exp_of_fewer_terms(t: int, terms: int) -> None:
    assert exp_distance(t, terms) <= fixmath.exp_error(terms)
    assert 0 <= fixmath.exp_neg(t, terms) <= ONE


@pytest.mark.parametrize("terms", range(2, fixmath.EXP_TERMS))
def test_the_stated_error_of_fewer_terms_is_not_far_from_the_real_one(terms: int) -> None:
    assert max(exp_distance(t, terms) for t in EDGES) > fixmath.exp_error(terms) / 4


@pytest.mark.parametrize("bits", [12, 20, 30, 45, 70])
def test_terms_are_as_many_as_bits_need(bits: int) -> None:
    terms = fixmath.exp_terms(bits)
    assert terms == fixmath.EXP_TERMS or fixmath.exp_error(terms) < 2.0**-bits <= fixmath.exp_error(terms - 1)


def test_the_stated_error_of_exp_is_not_far_from_the_real_one() -> None:
    """A bound that is a thousand times too wide would hide a mistake."""
    worst = max(exp_distance(t) for t in EDGES + [i * MOST // 5000 for i in range(200)])
    assert worst > fixmath.EXP_ERROR / 2**8


@given(st.integers(0, MOST), st.integers(0, 80))
def test_exp_falls_except_within_its_error(t: int, log2_step: int) -> None:
    later = min(t + (1 << log2_step), MOST)
    assert fixmath.exp_neg(later) <= fixmath.exp_neg(t) + int(2 * fixmath.EXP_ERROR * ONE)


SCALES = st.fractions(min_value=Fraction(1, 10**12), max_value=Fraction(100)).filter(bool)


@given(SCALES, st.integers(-(10**16), 10**16))
@example(Fraction(1, 1 << 60), 0)
@example(Fraction(1, 1 << 60), -1)
@example(Fraction(1, 3), -200)
@example(Fraction(100), 1)
def test_sigmoid(scale: Fraction, x: int) -> None:
    attrs = fixmath.input_attrs(scale)
    got = fixmath.sigmoid(fixmath.InputScale(**attrs), x)
    real = mpmath.mpf(x) * scale.numerator / scale.denominator
    assert abs(mpmath.mpf(got) / OUTPUT_ONE - 1 / (1 + mpmath.exp(-real))) <= fixmath.SIGMOID_ERROR
    assert 0 <= got <= OUTPUT_ONE


@given(st.fractions(min_value=Fraction(1, 1 << 90), max_value=Fraction(1 << 30)).filter(bool), st.integers())
@example(Fraction(1, 1 << 90), -1)
def test_the_decision_of_one_sigmoid_is_that_of_its_output(scale: Fraction, x: int) -> None:
    """`classify` looks at the logit's sign; nobody may see a probability on the other side of one half.

    Below it the output can still round to one half: a logit of −2^−90 is nearer to it than a step.
    """
    got = fixmath.sigmoid(fixmath.InputScale(**fixmath.input_attrs(scale)), x)
    assert got >= OUTPUT_ONE // 2 if x >= 0 else got <= OUTPUT_ONE // 2
    if x < 0 and -x * scale > 4 * fixmath.SIGMOID_ERROR:
        assert got < OUTPUT_ONE // 2


@given(SCALES, st.integers(-(10**9), 10**9), st.integers(0, 10**9))
def test_sigmoid_grows_except_within_its_error(scale: Fraction, x: int, step: int) -> None:
    s = fixmath.InputScale(**fixmath.input_attrs(scale))
    assert fixmath.sigmoid(s, x + step) >= fixmath.sigmoid(s, x) - int(2 * fixmath.SIGMOID_ERROR * OUTPUT_ONE) - 1


def ln_distance(v: int) -> float:
    return float(abs(mpmath.mpf(fixmath.ln(v)) / ONE - mpmath.log(mpmath.mpf(v) / ONE)))


@pytest.mark.parametrize(
    "v", [ONE, ONE + 1, fixmath.SQRT2 - 1, fixmath.SQRT2, 2 * ONE - 1, 2 * ONE, 3 * ONE, (1 << 16) * ONE - 1]
)
def test_ln_at_the_edges(v: int) -> None:
    assert ln_distance(v) <= fixmath.LN_ERROR


@given(st.integers(ONE, (1 << 16) * ONE))
def test_ln(v: int) -> None:
    assert ln_distance(v) <= fixmath.LN_ERROR


@given(st.integers(ONE, 2 * ONE - 1))
def test_ln_of_small_numbers(v: int) -> None:
    assert ln_distance(v) <= fixmath.LN_ERROR


def test_nothing_leaves_a_word() -> None:
    """The emitted code wraps mod 2^256: the largest intermediate values stay below it."""
    assert MOST * fixmath.INV_LN2 < 1 << 255
    assert ONE << fixmath.OUTPUT_BITS < 1 << 255
    assert (fixmath.LN2 // 2 + 1) * 2 * ONE < 1 << 255
    assert (1 << 16) * ONE << fixmath.BITS < 1 << 255


@given(st.fractions(min_value=Fraction(1, 1 << 120), max_value=Fraction(1 << 40)).filter(bool), st.integers(0, 1 << 80))
def test_input_scale(scale: Fraction, magnitude: int) -> None:
    s = fixmath.InputScale(**fixmath.input_attrs(scale))
    assert (s.limit - 1) * scale < fixmath.LIMIT <= s.limit * scale
    exact = min(magnitude, s.limit) * min(scale, Fraction(fixmath.LIMIT)) * ONE
    assert abs(s.apply(magnitude) - exact) <= exact / (1 << 110) + Fraction(1, 2)
