"""Inputs whose elements have ranges of their own: exact integers, from reals and from WAD."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml2sc.errors import RangeError
from ml2sc.ir import wad
from ml2sc.ir.graph import Tensor
from ml2sc.ir.types import FixedPoint, Interval, Scaling, round_half_up


def scaling_of(pairs: list[tuple[float, float]]) -> Scaling:
    lo, hi = np.array(pairs, dtype=np.float64).T
    return Scaling(lo.reshape(1, -1), hi.reshape(1, -1))


def tensor_of(bits: int, count: int) -> Tensor:
    format_ = FixedPoint(bits, False, Fraction(1, (1 << bits) - 1))
    return Tensor("x", (1, count), format_, interval=Interval(0, format_.qmax))


ends = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)).map(lambda p: (p[0], p[0] + p[1]))


@settings(max_examples=60, derandomize=True, database=None)
@given(st.lists(ends, min_size=1, max_size=5), st.sampled_from([2, 7, 8, 12, 16]), st.data())
def test_integers_are_the_nearest(pairs: list[tuple[float, float]], bits: int, data: st.DataObject) -> None:
    scaling, tensor = scaling_of(pairs), tensor_of(bits, len(pairs))
    rescale = wad.element_rescale(tensor, scaling)
    errors = wad.element_errors(tensor, scaling)
    top = tensor.format.qmax
    for index, (lo, width) in enumerate(zip(scaling.lo[0].tolist(), scaling.width[0].tolist(), strict=True)):
        shares = [Fraction(k, 2 * top) for k in data.draw(st.lists(st.integers(-2, 2 * top + 2), max_size=4))]
        reals = [float(Fraction(lo) + s * Fraction(width)) for s in shares] + [lo, lo + width, 0.0]
        given_ = np.array([[[r if i == index else 0.0 for i in range(len(pairs))]] for r in reals])
        for real, q in zip(reals, scaling.quantize(tensor.format, given_)[:, 0, index].tolist(), strict=True):
            u = (Fraction(real) - Fraction(lo)) / Fraction(width)
            assert q == min(max(round_half_up(u * top), 0), top)
            from_wad = rescale.apply(index, round_half_up(Fraction(real) * wad.WAD))
            if 0 <= u <= 1:
                assert abs(Fraction(from_wad, top) - u) <= Fraction(float(errors[0, index]))
                assert abs(Fraction(q, top) - u) <= Fraction(float(errors[0, index]))
        least, greatest = rescale.ranges[index]
        for x in (least - 1, least, greatest, greatest + 1, -(2**255), 2**255 - 1):
            clamped = min(max(x, 1 - rescale.limit), rescale.limit - 1)
            free = (clamped * rescale.multipliers[index] + rescale.addends[index]) >> rescale.shift
            assert (0 <= free <= top) == (least <= x <= greatest)
            assert abs(clamped * rescale.multipliers[index] + rescale.addends[index]) < 2**255


def test_two_fields_a_word_where_there_is_room() -> None:
    tensor = tensor_of(8, 3)
    near = wad.element_rescale(tensor, scaling_of([(0.0, 1.0), (-5.0, 5.0), (100.0, 900.0)]))
    assert near.per_word == 2
    assert len(near.words(0, 3)) == 2
    far = wad.element_rescale(tensor, scaling_of([(0.0, 1e-6), (0.0, 1e6), (1e9, 1e9 + 1)]))
    assert far.per_word == 1


@pytest.mark.parametrize(
    "pairs",
    [[(0.0, 1.0), (0.0, 1e-30)], [(0.0, 1e-18), (0.0, 1e30)], [(0.0, 1.0), (1e60, 2e60)]],
    ids=["a range below the step of WAD", "ranges that differ too much", "a range beyond WAD"],
)
def test_ranges_that_no_word_holds_are_refused(pairs: list[tuple[float, float]]) -> None:
    with pytest.raises(RangeError, match=r"element 1 of .x. goes from|element 0 goes from"):
        wad.element_rescale(tensor_of(8, 2), scaling_of(pairs))
