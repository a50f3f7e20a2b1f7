"""Cases of a test that `make test` leaves to `make test-all`: CONTRIBUTING.md lists those tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from _pytest.mark import ParameterSet


def unless(kept: Callable[[Any], bool], cases: Iterable[Any]) -> list[ParameterSet]:
    """Return the cases (a tuple has a value for each name), those that are not kept marked heavy."""
    return [_param(case, kept(case)) for case in cases]


def but_each(step: int, cases: Iterable[Any], start: int = 0) -> list[ParameterSet]:
    """Return the cases, all marked heavy but one in `step`."""
    return [_param(case, at % step == start) for at, case in enumerate(cases)]


def _param(case: Any, kept: bool) -> ParameterSet:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=() if kept else pytest.mark.heavy)
