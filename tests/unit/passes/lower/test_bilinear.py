"""Rows of convolutions from fewer products: against sums written out, mod 2^256 as the EVM computes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from ml2sc.passes.lower.kernels.bilinear import bilinear

_WORD = 1 << 256


@pytest.mark.parametrize(
    ("rows", "taps", "stride", "products"),
    [(2, 3, 1, 4), (4, 3, 1, 6), (2, 5, 1, 6), (2, 3, 2, 5), (2, 10, 2, 12), (4, 3, 2, 9), (2, 7, 2, 9)],
)
@pytest.mark.parametrize("larger", [False, True])
def test_fast_filters_give_the_same_rows(rows: int, taps: int, stride: int, products: int, *, larger: bool) -> None:
    form = bilinear(rows, taps, stride, fast=True)
    if larger:
        form = form.of_larger_taps()
        assert all(math.gcd(*(row[t] for row in form.results)) == 1 for t in range(form.totals))
    assert form.fast
    assert len(form.products) == products < rows * taps
    rng = np.random.default_rng(taps)
    w = [int(v) for v in rng.integers(-128, 128, taps)]
    x = [int(v) << 200 for v in rng.integers(0, 256, stride * (rows - 1) + taps)]  # they wrap on the way

    def of(coefficients: tuple[int, ...], values: list[int]) -> int:
        return sum(c * v for c, v in zip(coefficients, values, strict=True))

    totals = [0] * form.totals
    for p in form.products:
        totals[p.total] = (totals[p.total] + of(form.taps[p.taps], w) * of(form.pixels[p.pixels], x)) % _WORD
    for row, coefficients in enumerate(form.results):
        made = of(coefficients, totals) * form.inverse % _WORD >> form.shift
        wanted = sum(w[k] * x[stride * row + k] for k in range(taps))
        assert made == wanted % _WORD % (_WORD >> form.shift)


def test_forms_that_mirror_each_other() -> None:
    form = bilinear(2, 5, 1, fast=True)
    assert form.pairs == form.pixel_pairs == ((1, 2), (3, 4))
    assert bilinear(2, 3, 1, fast=True).pixel_pairs == ()  # of two rows each
    assert bilinear(2, 3, 1, fast=False).pairs == ()


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_plain_rows_are_products_of_the_rows_themselves(stride: int) -> None:
    form = bilinear(3, 4, stride, fast=False)
    assert len(form.products) == 12
    assert not form.fast
    assert form.factor == 1
    assert all(sorted(f) == [0, 0, 0, 1] for f in form.taps)


def test_what_is_no_filter_is_refused() -> None:
    form = bilinear(2, 3, 1, fast=True)
    wrong = (form.results[0], tuple(-v for v in form.results[1]))
    with pytest.raises(ValueError, match="do not make the rows"):
        dataclasses.replace(form, results=wrong)
