"""R² by exact sums: scikit-learn's, and the same however the samples are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml2sc.ir.fit import Fit

NUMBERS = st.integers(-(10**21), 10**21)
PAIRS = st.integers(1, 3).flatmap(
    lambda n: st.lists(
        st.tuples(st.lists(NUMBERS, min_size=n, max_size=n), st.lists(NUMBERS, min_size=n, max_size=n)), min_size=2
    )
)


def fit(pairs: list[tuple[list[int], list[int]]]) -> Fit:
    made = Fit()
    for estimates, values in pairs:
        made.add(estimates, values)
    return made


@given(PAIRS, st.data())
def test_parts_in_any_order_make_the_whole(pairs: list[tuple[list[int], list[int]]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(pairs)))
    merged = Fit()
    for part in data.draw(st.permutations([pairs[:cut], pairs[cut:]])):
        merged.merge(fit(part))
    assert merged == fit(pairs)
    assert merged.r2 == fit(pairs).r2


def test_it_is_the_usual_r2() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    pairs = [([1, 5], [2, 4]), ([3, 2], [3, 2]), ([9, 0], [7, 1]), ([4, 4], [4, 5])]
    wanted = metrics.r2_score([values for _, values in pairs], [estimates for estimates, _ in pairs])
    assert fit(pairs).r2 == pytest.approx(wanted, abs=1e-15)


def test_what_does_not_vary_is_left_out() -> None:
    assert Fit().r2 is None
    assert fit([([1], [2])]).r2 is None
    assert fit([([1, 1], [2, 1]), ([1, 2], [2, 3])]).r2 == 1 - 1 / 2
