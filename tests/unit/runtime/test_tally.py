"""Sums over samples: cut anywhere, put together in any order, they are the same to the last bit."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml2sc.ir.interpret import Profile
from ml2sc.runtime import tally as module
from ml2sc.runtime.report import Differing
from ml2sc.runtime.tally import GasTally, Listed, Share, Spread, Tally

REALS = st.lists(st.floats(0, 1e300, allow_subnormal=True), min_size=1, max_size=60)


def spread(*parts: list[float]) -> Spread:
    made = Spread()
    for part in parts:
        made.add(np.array(part, dtype=np.float64))
    return made


@given(REALS)
def test_mean_and_percentiles_are_those_of_all(values: list[float]) -> None:
    found = spread(values)
    assert (found.count, found.largest) == (len(values), max(values))
    assert found.mean is not None
    assert math.isclose(found.mean, math.fsum(values) / len(values), rel_tol=1e-15, abs_tol=0)
    wanted = {p: float(np.percentile(values, p, method="higher")) for p in module.PERCENTILES}
    assert found.percentiles == wanted


def test_the_sum_is_exact() -> None:
    tiny = 5e-324
    assert spread([2.0**53, 1.0, 1.0, 0.0]).mean == (2**53 + 2) / 4  # floats would lose both ones
    assert spread([tiny, tiny, 3 * tiny, 0.0, 0.0]).mean == tiny
    assert spread([1.5e308, 1.5e308]).mean == 1.5e308  # their float sum overflows
    many = np.full(5_000, np.nextafter(2.0, 0))  # mantissas of 53 bits, more than an int64 adds up
    assert spread(many.tolist()).mean == np.nextafter(2.0, 0)


@pytest.mark.parametrize("kept", [0, 7, 1 << 20])
@given(data=st.data())
def test_parts_in_any_order_make_the_whole(kept: int, data: st.DataObject) -> None:
    values = data.draw(REALS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "KEPT", kept)
        whole = spread(values)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
        pieces = [values[a:b] for a, b in zip([0, *cuts], [*cuts, len(values)], strict=True)]
        merged = Spread()
        for piece in data.draw(st.permutations(pieces)):
            merged.merge(pickle.loads(pickle.dumps(spread(piece))))
    assert (merged.count, merged.largest, merged.mean) == (whole.count, whole.largest, whole.mean)
    assert merged.percentiles == whole.percentiles


@given(REALS)
def test_percentiles_of_many_are_hardly_too_high(values: list[float]) -> None:
    exact = spread(values).percentiles
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "KEPT", 0)
        found = spread(values).percentiles
    for percent, value in exact.items():
        assert value <= found[percent] <= max(value * (1 + 2**-8), 2.0**-1022)


def test_nothing() -> None:
    empty = spread([])
    empty.merge(Spread())
    assert (empty.count, empty.largest, empty.mean, empty.percentiles) == (0, None, None, {})
    assert Share().share is None
    assert Share().lower_bound is None


def test_lists_keep_the_first_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LISTED", 3)
    whole, parts = Listed[str](), [Listed[str](), Listed[str]()]
    for sample in (9, 2, 7, 4, 5):
        whole.add(sample, f"number {sample}")
        parts[sample % 2].add(sample, f"number {sample}")
    parts[0].merge(parts[1])
    assert parts[0] == whole
    assert whole.count == 5
    assert whole.in_order == [(2, "number 2"), (4, "number 4"), (5, "number 5")]


def test_tallies_add_up_in_every_field() -> None:
    one, other = Tally(), Tally()
    for tally, sample in ((one, 3), (other, 8)):
        tally.samples, tally.wad_samples, tally.outside, tally.unsaturated = 10, 5, 2, 3
        tally.inexact.add(sample, "wrong")
        tally.differing.add(sample, Differing(sample, 1, 2, outside_range=False))
        for name in ("gas", "cold", "warm"):
            getattr(tally, name).add(30_000 + sample)
        for name in ("fit", "label_fit", "model_label_fit"):
            getattr(tally, name).add([sample], [sample + 1])
        tally.profile = Profile(runs=1, zeros=4)
        tally.count_outside({"x": np.array([0, sample])})
        for name in ("errors", "runtime_errors", "unsaturated_errors", "outside_errors"):
            getattr(tally, name).add(np.array([float(sample)]))
        for name in ("agreement", "outside_agreement", "accuracy", "runtime_accuracy"):
            getattr(tally, name).add(sample == 3)
    other.within_bound = False
    one.merge(other)
    fresh = Tally()
    assert [name for name in vars(fresh) if getattr(one, name) == getattr(fresh, name)] == []
    assert one.outside_values["x"].tolist() == [0, 11]
    assert (one.samples, one.wad_samples, one.outside, one.unsaturated) == (20, 10, 4, 6)
    assert one.gas == GasTally(2, 60_011, 30_003, 30_008)
    assert one.agreement == Share(1, 2)
    assert one.errors.mean == 5.5
    assert one.profile == Profile(runs=2, zeros=8)
    assert [sample for sample, _ in one.inexact.in_order] == [3, 8]
