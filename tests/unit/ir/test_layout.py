"""Layouts: a movement of a layout is numpy's movement of the places."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from ml2sc.ir.layout import Axis, Layout

CASES = 300


def _random(rng: np.random.Generator) -> Layout:
    """Return a layout of a tensor of up to four dimensions, each of one axis or several, some mirrored."""
    shape = tuple(int(v) for v in rng.integers(1, 9, size=rng.integers(1, 5)))
    axes, words = [], 1
    for dim, size in enumerate(shape):
        step = 1
        while step < size or step == 1:
            extent = int(rng.choice([1, 2, 3, 4, size]))
            if step * extent >= size or rng.random() < 0.2:
                extent = -(-size // step)
            in_lanes = rng.random() < 0.3
            distance = int(rng.integers(1, 5)) * words
            axes.append(Axis(dim, extent, step, 0 if in_lanes else distance, distance if in_lanes else 0))
            words *= 5 * extent
            step *= extent
            if step >= size:
                break
            if extent == 1:
                axes.pop()
    mirrored = tuple(bool(v) for v in rng.random(len(shape)) < 0.3)
    return Layout(shape, tuple(axes), word=int(rng.integers(0, 9)), lane=int(rng.integers(0, 3)), mirrored=mirrored)


def _grid(layout: Layout) -> np.ndarray:
    return np.stack(layout.places(), axis=-1).reshape(*layout.shape, 2)


def _same(layout: Layout | None, expected: np.ndarray) -> bool:
    """Return whether a movement has the places that numpy says, or none was found; found ones are counted."""
    if layout is None:
        return False
    np.testing.assert_array_equal(_grid(layout), expected)
    return True


def test_place_and_places_agree() -> None:
    rng = np.random.default_rng(1)
    for _ in range(CASES):
        layout = _random(rng)
        index = tuple(int(rng.integers(0, size)) for size in layout.shape)
        assert layout.place(index) == tuple(_grid(layout)[index])


def test_movements_are_those_of_numpy() -> None:
    rng = np.random.default_rng(2)
    found = {"sliced": 0, "strided": 0, "reshaped": 0}
    for _ in range(CASES):
        layout = _random(rng)
        grid, rank = _grid(layout), len(layout.shape)
        order = rng.permutation(rank).tolist()
        assert _same(layout.transposed(order), grid.transpose(*order, rank))
        dim = int(rng.integers(0, rank))
        start = int(rng.integers(0, layout.shape[dim]))
        stop = int(rng.integers(start + 1, layout.shape[dim] + 1))
        index = (slice(None),) * dim
        by = int(rng.integers(1, 4))
        found["sliced"] += _same(layout.sliced(dim, start, stop, by), grid[(*index, slice(start, stop, by))])
        step = int(rng.integers(1, 5))
        found["strided"] += _same(layout.strided(dim, step), grid[(*index, slice(None, None, step))])
        shape = _another_shape(rng, layout.size)
        found["reshaped"] += _same(layout.reshaped(shape), grid.reshape(*shape, 2))
    # most are described; what is not has to be moved
    assert min(found.values()) > CASES // 5, found


def _another_shape(rng: np.random.Generator, size: int) -> tuple[int, ...]:
    shape = []
    while size > 1 and len(shape) < 4:
        factor = int(rng.choice([f for f in range(1, size + 1) if size % f == 0]))
        shape.append(factor)
        size //= factor
    return (*shape, size)


def test_movements_compose() -> None:
    rng = np.random.default_rng(3)
    for _ in range(CASES):
        layout = Layout.row_major([int(v) for v in rng.integers(1, 6, size=3)])
        moved = layout.transposed([2, 0, 1]).strided(1, 2)
        assert moved is not None
        np.testing.assert_array_equal(_grid(moved), _grid(layout).transpose(2, 0, 1, 3)[:, ::2])


def test_flattened_rows_of_an_image_in_lanes() -> None:
    """Even and odd columns in words of their own, mirrored: a stride of two is one of the words, and no movement."""
    image = Layout(
        (4, 28),
        (Axis(0, 4, 1, words=2), Axis(1, 2, 1, words=1), Axis(1, 14, 2, lanes=1)),
        pitch=16,
        lane=1,
        mirrored=(False, True),
    )
    assert image.place((1, 27)) == (2, 1)
    assert image.place((1, 0)) == (3, 14)
    odd = image.strided(1, 2)
    assert odd is not None
    assert odd.shape == (4, 14)
    assert {word % 2 for word in odd.places()[0].tolist()} == {1}


@pytest.mark.parametrize("dim", [0, 1])
def test_what_no_axes_describe_has_no_layout(dim: int) -> None:
    axes = (Axis(0, 2, 1, words=50), Axis(0, 3, 2, words=7), Axis(1, 2, 1, words=90), Axis(1, 3, 2, words=9))
    halves = Layout((6, 6), axes)
    assert prod(halves.shape) == halves.size
    assert halves.sliced(dim, 1, 5) is None
