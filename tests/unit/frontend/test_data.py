from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable, Sequence
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
    assert len(samples) == 4
    assert samples.ranges["pixels"] == (0, 23)
    assert samples.labels.tolist() == [0, 1, 2, 3]
    sample = samples[2]
    assert sample["pixels"].shape == (1, 2, 3)
    assert sample["pixels"].dtype == np.float64
    assert sample["pixels"].ravel().tolist() == [12, 13, 14, 15, 16, 17]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "?", ">f4", "f2", "i8", "f8"])
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_samples_are_read_in_any_order(monkeypatch: Any, tmp_path: Path, write: Any, dtype: str, order: str) -> None:
    monkeypatch.setattr("ml2sc.frontend.npz.BLOCK_BYTES", 100)  # two samples
    x = np.array(np.arange(42).reshape(7, 6) % 5, dtype=dtype, order=order)
    write(tmp_path / "data.npz", x=x, names=np.array(["a", None]))
    samples = load_samples(tmp_path / "data.npz", ONE)
    given = x.astype(np.float64).tolist()
    assert [s["pixels"].ravel().tolist() for s in samples] == given
    assert [s["pixels"].ravel().tolist() for s in samples[1::3]] == given[1::3]
    assert [samples[i]["pixels"].ravel().tolist() for i in (5, 0, 6, 3, -2)] == [given[i] for i in (5, 0, 6, 3, 5)]
    rows, columns = samples.outside({"pixels": (0, 3)})
    assert rows.tolist() == np.flatnonzero((x > 3).any(axis=1)).tolist()
    found = columns["pixels"].ravel().tolist() if columns else [0] * 6
    assert found == (x > 3).sum(axis=0).tolist()


def test_memory_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    x = np.zeros((1_500_000, 6), dtype=np.uint8)
    x[-1] = 7
    np.savez_compressed(tmp_path / "data.npz", x=x, y=x)
    tracemalloc.start()
    try:
        samples = load_samples(tmp_path / "data.npz", ONE)
        last = samples[len(samples) - 1]["pixels"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert last.tolist() == np.full((1, 2, 3), 7).tolist()
    assert samples.ranges["pixels"] == (0, 7)
    assert peak < x.nbytes // 2


@pytest.mark.parametrize("keys", [("x", "x1"), ("a", "b"), ("x", "b")])
def test_two_inputs(tmp_path: Path, keys: Any) -> None:
    samples = load_samples(save(tmp_path, **{keys[0]: np.ones((3, 2)), keys[1]: np.zeros((3, 2))}), TWO)
    assert {n: a.shape for n, a in samples[0].items()} == {"a": (1, 2), "b": (2,)}
    assert samples.labels is None


def test_a_lone_array() -> None:
    assert len(samples_from_arrays(np.zeros((5, 6)), ONE)) == 5


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"x": np.zeros((4, 5))}, r"key 'x': shape \(4, 5\), expected \(samples, 2, 3\)"),
        ({"x": np.zeros((4, 3, 2))}, r"shape \(4, 3, 2\)"),
        ({"x": np.float32(1)}, r"shape \(\), expected"),
        ({"z": np.zeros((4, 6))}, r"the key 'pixels' or 'x' is missing in .*; found: 'z'"),
        ({"x": np.full((4, 6), np.nan)}, "sample 0 holds NaN"),
        ({"x": np.diag([0, 1, -6e58, 2, 3, 4.0])}, "sample 2 holds values that no contract's input can"),
        ({"x": np.full((4, 6), np.inf)}, "NaN or infinite"),
        ({"x": np.zeros((0, 6))}, "no samples"),
        ({"x": np.array([["a"] * 6])}, "not numbers"),
        ({"x": np.array([[None] * 6])}, "cannot be read"),
        ({"x": np.zeros((4, 6)), "y": np.zeros(3)}, r"key 'y': shape \[3\], but there are 4 samples"),
        ({}, "found: nothing"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, arrays: Any, match: str) -> None:
    path = save(tmp_path, **arrays)
    with pytest.raises(DataError, match=match) as caught:
        load_samples(path, ONE)
    assert str(path) in str(caught.value)


def test_columns_that_hold_nan_are_named(tmp_path: Path) -> None:
    x, names = np.zeros((4, 6)), np.array(["age", "bmi", "bp", "s1", "s2", "s3"])
    x[2, [1, 4]] = np.nan
    for more, said in (({}, "columns 1, 4"), ({"columns": names}, "columns 1 ('bmi'), 4 ('s2')")):
        with pytest.raises(DataError, match=re.escape(f"sample 2 holds NaN or infinite values ({said})")):
            load_samples(save(tmp_path, x=x, **more), ONE)
    second = np.zeros((3, 2))
    second[1, 0] = np.inf
    with pytest.raises(DataError, match=r"key 'x1': sample 1 .* \(column 0 \('c'\)\)"):
        samples_from_arrays({"x": np.zeros((3, 2)), "x1": second, "columns": np.array(list("abcd"))}, TWO)


def test_every_input_has_its_own_names() -> None:
    arrays = {"x": np.zeros((3, 2)), "x1": np.zeros((3, 2))}
    samples = samples_from_arrays(arrays | {"columns": np.array(list("abcd"))}, TWO)
    assert [samples.names_of(name) for name in ("a", "b")] == [("a", "b"), ("c", "d")]
    assert samples_from_arrays(arrays, TWO).names_of("b") == ()


ABC = parse_graph('graph "m"\ninput %x: float[1,3]\n\n%y: float[1,3] = Relu(%x) @relu\n\noutput %y\n')
TABLES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pandas": lambda columns: pytest.importorskip("pandas").DataFrame(columns),
    "pyarrow": lambda columns: pytest.importorskip("pyarrow").table(columns),
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("names", ["abc", ("select", "column_names", "columns")])
def test_columns_of_tables_are_taken_by_name(kind: str, names: Sequence[str]) -> None:
    """Whatever they are called."""
    a, b, c = names
    table = TABLES[kind]({b: [3.0, 4.0], c: [5, 6], a: [1.0, 2.0]})
    for given in (table, {"x": table}):
        assert samples_from_arrays(given, ABC, names=(a, b, c))[0]["x"].tolist() == [[1, 3, 5]]
        unnamed = samples_from_arrays(given, ABC)
        assert unnamed[0]["x"].tolist() == [[3, 5, 1]]
        assert unnamed.names == (b, c, a)
    labelled = samples_from_arrays(TABLES[kind]({"y": [7, 8], b: [3, 4], c: [5, 6], a: [1, 2]}), ABC, names=(a, b, c))
    assert labelled[1]["x"].tolist() == [[2, 4, 6]]
    assert labelled.labels is not None
    assert labelled.labels.tolist() == [7, 8]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("abd", "it lacks the model's 'c'; the model does not know 'd'"),
        ("ab", "it lacks the model's 'c'"),
        ("abcd", "the model does not know 'd'"),
        ("yab", "it lacks the model's 'c'; the model does not know 'y'"),
        ("aabc", "it has twice 'a'"),
    ],
)
def test_columns_that_are_not_the_models(columns: str, said: str) -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match=f"the samples, key 'x': columns are taken by name: {said}") as caught:
        samples_from_arrays(
            pandas.DataFrame(np.zeros((2, len(columns))), columns=list(columns)), ABC, names=("a", "b", "c")
        )
    assert "the columns are 'a', 'b', 'c'" in str(caught.value.hint)


def test_columns_without_names_are_taken_by_position() -> None:
    pandas = pytest.importorskip("pandas")
    for given in (np.array([[1, 2, 3]]), pandas.DataFrame([[1, 2, 3]])):
        samples = samples_from_arrays(given, ABC, names=("a", "b", "c"))
        assert samples[0]["x"].tolist() == [[1, 2, 3]]
        assert samples.names == ("a", "b", "c")


def test_each_input_takes_its_own_columns() -> None:
    pandas = pytest.importorskip("pandas")
    second = pandas.DataFrame({"d d": [4], "c": [3]})
    samples = samples_from_arrays({"x": np.array([[1, 2]]), "x1": second}, TWO, names=("a", "b", "c", "d_d"))
    assert samples[0]["b"].tolist() == [3, 4]
    assert samples_from_arrays({"x": second, "x1": second}, TWO).names == ()


def test_names_of_another_order_are_refused(tmp_path: Path) -> None:
    """An array's columns stay where they are."""
    path = save(tmp_path, x=np.array([[1, 2, 3]]), columns=np.array(list("bca")))
    assert load_samples(path, ABC, ("b", "c", "a")).names == ("b", "c", "a")
    with pytest.raises(DataError, match="key 'columns': the model's columns are in another order") as caught:
        load_samples(path, ABC, ("a", "b", "c"))
    assert caught.value.hint == "x must have a, b, c"


def test_different_numbers_of_samples(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="different numbers of samples"):
        load_samples(save(tmp_path, x=np.zeros((3, 2)), x1=np.zeros((4, 2))), TWO)


def test_files_that_are_not_npz(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        load_samples(tmp_path / "none.npz", ONE)
    text = tmp_path / "text.npz"
    text.write_text("hello")
    with pytest.raises(DataError, match=r"is damaged, or no \.npz file"):
        load_samples(text, ONE)
    whole = save(tmp_path, x=np.zeros((40, 6))).read_bytes()
    text.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"npz file"):
        load_samples(text, ONE)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("at", [60, 800, 1700])
def test_damage_is_found_wherever_it_is(monkeypatch: Any, tmp_path: Path, write: Any, at: int) -> None:
    monkeypatch.setattr("ml2sc.frontend.npz.BLOCK_BYTES", 1000)
    path = tmp_path / "data.npz"
    write(path, x=np.random.default_rng(0).uniform(0, 1, (40, 6)))
    damaged = bytearray(path.read_bytes())
    damaged[at] ^= 0x55
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="key 'x' cannot be read"):
        load_samples(path, ONE)
