"""Cases of a test that `make test` leaves to `make test-all`: CONTRIBUTING.md lists those tests."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from _pytest.mark import ParameterSet

EVERYTHING = "ML2SC_ALL" in os.environ
"""Whether what is heavy within a test is done, too: `pytest --all` says so."""


def unless(kept: Callable[[Any], bool], cases: Iterable[Any]) -> list[ParameterSet]:
    """Return the cases (a tuple has a value for each name), those that are not kept marked heavy."""
    return [_param(case, kept(case)) for case in cases]


def but_each(step: int, cases: Iterable[Any], start: int = 0) -> list[ParameterSet]:
    """Return the cases, all marked heavy but one in `step`."""
    return [_param(case, at % step == start) for at, case in enumerate(cases)]


def in_turns(step: int, *axes: Iterable[Any]) -> list[ParameterSet]:
    """Return all combinations of values of some axes, all marked heavy but one in `step`.

    Those are so chosen that each value is there; of three axes and more, that each two values of two of them meet.
    """
    every = itertools.product(*map(enumerate, axes))
    return [_param(tuple(v for _, v in case), sum(place for place, _ in case) % step == 0) for case in every]


def crossed(step: int, *axes: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return combinations of values of some axes for a test to go through: all with `--all`, else one in `step`."""
    every = itertools.product(*map(enumerate, axes))
    return [tuple(v for _, v in case) for case in every if EVERYTHING or sum(place for place, _ in case) % step == 0]


def _param(case: Any, kept: bool) -> ParameterSet:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=() if kept else pytest.mark.heavy)
