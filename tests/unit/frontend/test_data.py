from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml2sc.errors import DataError
from ml2sc.frontend.data import load_samples, samples_from_arrays
from ml2sc.ir.parser import parse_graph

ONE = parse_graph('graph "m"\ninput %pixels: float[1,2,3]\n\n%y: float[1,2,3] = Relu(%pixels) @relu\n\noutput %y\n')
TWO = parse_graph(
    'graph "m"\ninput %a: float[1,2]\ninput %b: float[2]\n\n%y: float[1,2] = Add(%a, %b) @add\n\noutput %y\n'
)


def save(folder: Path, **arrays: Any) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("shape", [(4, 2, 3), (4, 6), (4, 1, 2, 3)])
@pytest.mark.parametrize("key", ["x", "pixels"])
def test_shapes_and_keys(tmp_path: Path, shape: tuple[int, ...], key: str) -> None:
    x = np.arange(24, dtype=np.float32).reshape(shape)
    samples = load_samples(save(tmp_path, **{key: x}, y=np.array([0, 1, 2, 3])), ONE)
    assert samples.count == 4
    assert samples.inputs["pixels"].shape == (4, 2, 3)
    assert samples.inputs["pixels"].dtype == np.float64
    assert samples.labels.tolist() == [0, 1, 2, 3]
    sample = samples.sample(2)
    assert sample["pixels"].shape == (1, 2, 3)
    assert sample["pixels"].ravel().tolist() == [12, 13, 14, 15, 16, 17]


@pytest.mark.parametrize("keys", [("x", "x1"), ("a", "b"), ("x", "b")])
def test_two_inputs(tmp_path: Path, keys: Any) -> None:
    samples = load_samples(save(tmp_path, **{keys[0]: np.ones((3, 2)), keys[1]: np.zeros((3, 2))}), TWO)
    assert {n: a.shape for n, a in samples.sample(0).items()} == {"a": (1, 2), "b": (2,)}
    assert samples.labels is None


def test_a_lone_array() -> None:
    assert samples_from_arrays(np.zeros((5, 6)), ONE).count == 5


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"x": np.zeros((4, 5))}, r"key 'x': shape \(4, 5\), expected \(samples, 2, 3\)"),
        ({"x": np.zeros((4, 3, 2))}, r"shape \(4, 3, 2\)"),
        ({"x": np.float32(1)}, r"shape \(\), expected"),
        ({"z": np.zeros((4, 6))}, r"lacks the key 'pixels' or 'x'; it holds 'z'"),
        ({"x": np.full((4, 6), np.nan)}, "sample 0 holds NaN"),
        ({"x": np.diag([0, 1, -6e58, 2, 3, 4.0])}, "sample 2 holds values that no contract's input can"),
        ({"x": np.full((4, 6), np.inf)}, "NaN or infinite"),
        ({"x": np.zeros((0, 6))}, "no samples"),
        ({"x": np.array([["a"] * 6])}, "not numbers"),
        ({"x": np.array([[None] * 6])}, "cannot be read"),
        ({"x": np.zeros((4, 6)), "y": np.zeros(3)}, r"key 'y': shape \[3\], but there are 4 samples"),
        ({}, "holds nothing"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, arrays: Any, match: str) -> None:
    path = save(tmp_path, **arrays)
    with pytest.raises(DataError, match=match) as caught:
        load_samples(path, ONE)
    assert str(path) in str(caught.value)


def test_different_numbers_of_samples(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="different numbers of samples"):
        load_samples(save(tmp_path, x=np.zeros((3, 2)), x1=np.zeros((4, 2))), TWO)


def test_files_that_are_not_npz(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        load_samples(tmp_path / "none.npz", ONE)
    text = tmp_path / "text.npz"
    text.write_text("hello")
    with pytest.raises(DataError, match=r"not an \.npz file"):
        load_samples(text, ONE)
    whole = save(tmp_path, x=np.zeros((40, 6))).read_bytes()
    text.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"npz file"):
        load_samples(text, ONE)
    damaged = bytearray(whole)
    damaged[150:200] = b"\xff" * 50
    text.write_bytes(damaged)
    with pytest.raises(DataError):
        load_samples(text, ONE)
