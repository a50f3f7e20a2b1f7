"""Series enclose the Taylor coefficients that mpmath finds."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest

from ml2sc.ir.series import ONE, Series, erf, exp, log, sqrt

TERMS = 6

FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "polynomial": (lambda x: 3 - x * x / 4 + 0.1 * x, lambda x: 3 - x * x / 4 + mpmath.mpf(0.1) * x),
    "exp": (exp, mpmath.exp),
    "log": (lambda x: log(2 + x * x), lambda x: mpmath.log(2 + x * x)),
    "erf": (erf, mpmath.erf),
    "sqrt": (lambda x: sqrt(1 + x * x), lambda x: mpmath.sqrt(1 + x * x)),
    "quotient": (lambda x: (1 - x) / (x * x + 0.5), lambda x: (1 - x) / (x * x + 0.5)),
    "logistic": (lambda x: 1 / (1 + exp(-x)), lambda x: 1 / (1 + mpmath.exp(-x))),
}
POINTS = (Fraction(0), Fraction(1, 8), Fraction(-9, 8), Fraction(61, 16), Fraction(-37, 4))


def real(x: Fraction) -> Any:
    return mpmath.mpf(x.numerator) / x.denominator


def inside(value: Any, mid: int, rad: int) -> bool:
    return bool(abs(mpmath.mpf(mid) - value * ONE) <= rad)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_coefficients_at_a_point(name: str) -> None:
    ours, theirs = FUNCTIONS[name]
    with mpmath.workprec(1200):
        for point in POINTS:
            series = ours(Series.variable(point, Fraction(0), TERMS))
            wanted = mpmath.taylor(theirs, real(point), TERMS - 1)
            for k, (mid, rad) in enumerate(zip(series.mid, series.rad, strict=True)):
                assert inside(wanted[k], mid, rad + 1), f"coefficient {k} at {point}"
                assert rad < 1 << 40  # 2^-216: far below any table's need


@pytest.mark.parametrize("name", FUNCTIONS)
def test_coefficients_over_an_interval(name: str) -> None:
    ours, theirs = FUNCTIONS[name]
    radius = Fraction(1, 16)
    with mpmath.workprec(600):
        for point in POINTS[1:]:
            series = ours(Series.variable(point, radius, TERMS))
            for x in (point - radius, point + radius / 3, point + radius):
                wanted = mpmath.taylor(theirs, real(x), TERMS - 1)
                assert all(inside(w, m, r + 1) for w, m, r in zip(wanted, series.mid, series.rad, strict=True))


@pytest.mark.parametrize("x", [-400, -100, -1, Fraction(1, 3), 20, 90])
def test_exp_of_anything(x: Fraction) -> None:
    series = exp(Series.variable(Fraction(x), Fraction(0), 1))
    with mpmath.workprec(1000):
        assert inside(mpmath.exp(real(Fraction(x))), series.mid[0], series.rad[0] + 2**200 * (x > 50))
        assert series.rad[0] <= max(series.mid[0] >> 200, 8)


@pytest.mark.parametrize("x", [Fraction(1, 10**9), Fraction(3, 4), 1, Fraction(3, 2), 10**6])
def test_log_and_sqrt_of_anything(x: Fraction) -> None:
    variable = Series.variable(Fraction(x), Fraction(0), 1)
    with mpmath.workprec(1000):
        # 1e-9 is itself rounded to 2^-256
        assert inside(mpmath.log(real(Fraction(x))), log(variable).mid[0], log(variable).rad[0] + 2**31)
        assert inside(mpmath.sqrt(real(Fraction(x))), sqrt(variable).mid[0], sqrt(variable).rad[0] + 2**31)


def test_what_is_not_defined() -> None:
    x = Series.variable(Fraction(0), Fraction(1, 16), 3)
    for undefined in (lambda: 1 / x, lambda: log(x), lambda: sqrt(x)):
        with pytest.raises(ZeroDivisionError):
            undefined()
    assert sqrt(Series.variable(Fraction(0), Fraction(0), 1)).mid == (0,)


def test_float64() -> None:
    x = np.array([[0.5, -2.0]])
    np.testing.assert_allclose(erf(x), [[0.5204998778130465, -0.9953222650189527]], rtol=1e-15)
    np.testing.assert_array_equal(exp(x), np.exp(x))
    np.testing.assert_array_equal(log(x * x), np.log(x * x))
    np.testing.assert_array_equal(sqrt(x * x), np.abs(x))
