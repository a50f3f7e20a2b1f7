from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ml2sc.ir.types import FixedPoint, Interval, as_python_ints, integer_array, round_half_up

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64)
PLACES = st.sampled_from((0, -1, 700, 840, -700, -850, -1000))


@pytest.mark.parametrize(
    ("bits", "signed", "lowest", "highest"),
    [
        (8, True, -128, 127),
        (8, False, 0, 255),
        (1, False, 0, 1),
        (1, True, -1, 0),
        (256, True, -(1 << 255), (1 << 255) - 1),
    ],
)
def test_ends_of_a_format(bits: int, signed: bool, lowest: int, highest: int) -> None:
    fmt = FixedPoint(bits, signed, Fraction(1))
    assert (fmt.qmin, fmt.qmax) == (lowest, highest)


@pytest.mark.parametrize(
    ("real", "q"), [(0.5, 1), (-0.5, 0), (1.5, 2), (-1.5, -1), (2.4999, 2), (-2.5, -2), (-2.5001, -3), (1e300, 127)]
)
def test_rounds_half_up_and_saturates(real: float, q: int) -> None:
    assert FixedPoint(8, True, Fraction(1)).quantize(np.array([real])).tolist() == [q]


def test_zero_point() -> None:
    fmt = FixedPoint(8, False, Fraction(1, 2), 100)
    assert fmt.quantize(np.array([[0.0, 1.0], [-50.5, 90.0]])).tolist() == [[100, 102], [0, 255]]
    assert fmt.dequantize(np.array([100, 102, 0])).tolist() == [0.0, 1.0, -50.0]
    assert str(fmt) == "u8*1/2+100"


@given(FINITE, st.integers(1, 200), st.integers(0, 120))
def test_quantize_is_exact_in_formats_wider_than_a_double(real: float, bits: int, fraction_bits: int) -> None:
    fmt = FixedPoint(bits, True, Fraction(1, 1 << fraction_bits))
    q = int(fmt.quantize(np.array(real)))
    exact = Fraction(real) * (1 << fraction_bits)
    if fmt.qmin <= exact <= fmt.qmax:
        assert -Fraction(1, 2) <= q - exact <= Fraction(1, 2)
        assert q - exact != -Fraction(1, 2), "ties go up"
    else:
        assert q == (fmt.qmax if exact > 0 else fmt.qmin)


@given(st.integers(-(1 << 250), 1 << 250))
def test_dequantize_is_correctly_rounded(q: int) -> None:
    fmt = FixedPoint(256, True, Fraction(3, 1 << 100), 7)
    assert fmt.dequantize(np.array([q], dtype=object))[0] == float(Fraction(3 * (q - 7), 1 << 100))


@given(st.lists(st.integers(-(1 << 60), 1 << 60), max_size=4), st.integers(0, 300), st.integers(-(1 << 60), 1 << 60))
def test_dequantize_is_the_same_on_every_path(values: list[int], bits: int, zero: int) -> None:
    fmt = FixedPoint(64, True, Fraction(1, 1 << bits), zero)
    want = [float(Fraction(v - zero, 1 << bits)) for v in values]
    assert fmt.dequantize(np.array(values, dtype=np.int64)).tolist() == want
    assert fmt.dequantize(np.array(values, dtype=object)).tolist() == want


@given(
    st.lists(st.integers(-(1 << 52), 1 << 52), max_size=6), st.integers(1, 1 << 120), st.integers(1, 1 << 120), PLACES
)
@example([1, -1, 3], (1 << 53) + 1, 3, 0)
@example([3, -3, 9, 5], (1 << 53) + 1, 3, -50)  # in the middle between two float64 numbers
def test_dequantize_with_any_scale(values: list[int], num: int, den: int, place: int) -> None:
    scale = Fraction(num, den) * Fraction(2) ** place
    want = [v * scale.numerator / scale.denominator for v in values]
    assert FixedPoint(64, True, scale).dequantize(np.array(values, dtype=np.int64)).tolist() == want


@given(st.fractions())
def test_round_half_up(value: Fraction) -> None:
    assert round_half_up(value) == (value + Fraction(1, 2)).__floor__()


@given(st.integers(-(1 << 256), 1 << 256), st.integers(0, 1 << 256))
def test_signed_bits_is_the_narrowest_width(lo: int, size: int) -> None:
    interval = Interval(lo, lo + size)
    bits = interval.signed_bits
    assert -(1 << (bits - 1)) <= interval.lo <= interval.hi < 1 << (bits - 1)
    if bits > 1:
        assert not (-(1 << (bits - 2)) <= interval.lo and interval.hi < 1 << (bits - 2))


def test_interval() -> None:
    assert (Interval(-5, 3).magnitude, str(Interval(-5, 3)), 4 in Interval(-5, 3)) == (5, "[-5, 3]", False)
    assert [Interval(lo, hi).signed_bits for lo, hi in ((0, 0), (-1, 0), (0, 1), (-128, 127), (-129, 0))] == [
        1,
        1,
        2,
        8,
        9,
    ]
    with pytest.raises(ValueError, match="empty interval"):
        Interval(1, 0)


def test_integer_arrays_never_hold_more_than_they_can() -> None:
    assert integer_array([1, -2], (2, 1)).dtype == np.int64
    wide = integer_array([1, 1 << 62], (2,))
    assert wide.dtype == object
    assert int(wide[1]) * 4 == 1 << 64
    assert type(as_python_ints(np.array([3]))[0] * (1 << 80)) is int


@pytest.mark.parametrize(
    "scale", [Fraction(1, 255), Fraction(3, 7), Fraction(1, 1 << 20), Fraction(10) ** 400, Fraction(1, 10**400)]
)
@pytest.mark.parametrize("bits", [8, 30, 40, 41, 100])
def test_quantize_is_exact_where_floats_are_not(scale: Fraction, bits: int) -> None:
    format_ = FixedPoint(bits, False, scale, 3)
    rng = np.random.default_rng(bits)
    ties = [
        float((k + Fraction(1, 2)) * scale) if scale.denominator < 10**300 and scale < 10**300 else 0.0
        for k in range(-5, 300)
    ]
    near = [np.nextafter(v, side) for v in ties for side in (-np.inf, np.inf)]
    wide = (rng.normal(size=50) * 2.0 ** rng.integers(-60, 200, size=50)).tolist()
    real = np.array([*ties, *near, *wide, 0.0, 1e308, -1e308, 5e-324])
    got = format_.quantize(real).tolist()
    assert got == [format_.quantize_one(Fraction(v)) for v in real.tolist()]


@pytest.mark.parametrize("scale", [Fraction(3, 127), Fraction(1, 255), Fraction(7), Fraction((1 << 60) + 1, 3)])
def test_dequantize_rounds_once(scale: Fraction) -> None:
    format_ = FixedPoint(40, True, scale, 5)
    q = np.array([0, 1, -1, 5, 255, -(1 << 39), (1 << 39) - 1, 123_456_789_012])
    assert format_.dequantize(q).tolist() == [float((int(v) - 5) * scale) for v in q]


@pytest.mark.parametrize("bits", [20, 53, 54, 60, 90, 106, 107])
@pytest.mark.parametrize("shift", [0, 31, 150])
def test_dequantize_many_at_once(bits: int, shift: int) -> None:
    """Of scales with more digits than a float64: ties and neighbours of powers of two, too, are correctly rounded."""
    rng = np.random.default_rng(bits)
    numerator = int.from_bytes(rng.bytes(14)) >> 112 - bits | 1 | 1 << bits - 1
    q = np.concatenate([rng.integers(-(1 << 45), 1 << 45, 50), rng.integers(-9, 9, 20), 1 << np.arange(45), [3 << 40]])
    for number in (numerator, (1 << bits) - 1, (1 << bits - 1) + 1):
        format_ = FixedPoint(60, True, Fraction(number, 1 << shift), 1)
        want = [(int(v) - 1) * number / (1 << shift) for v in q]
        assert format_.dequantize(q).tolist() == want
        assert format_.dequantize(q.astype(object)).tolist() == want


def test_dequantize_zeros_of_a_huge_scale() -> None:
    assert FixedPoint(8, True, Fraction(1 << 70)).dequantize(np.zeros(3, dtype=np.int64)).tolist() == [0.0] * 3
