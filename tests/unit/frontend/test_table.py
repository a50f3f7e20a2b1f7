"""Files of samples of every kind give the same samples; parts of them are read where they are."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml2sc.errors import DataError, ToolchainError
from ml2sc.frontend.data import load_samples
from ml2sc.frontend.parquet import ParquetTable
from ml2sc.frontend.table import FileRows
from ml2sc.ir.parser import parse_graph

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ONE = parse_graph('graph "m"\ninput %pixels: float[1,6]\n\n%y: float[1,6] = Relu(%pixels) @relu\n\noutput %y\n')
COUNT = 500
X = (np.arange(COUNT * 6).reshape(COUNT, 6) * 37 % 251).astype(np.uint8)
Y = np.arange(COUNT) % 3


def as_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x=X, y=Y)


def as_compressed(path: Path) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, pixels=X, y=Y)


def as_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, X)


def as_features(path: Path) -> None:
    columns: dict[str, Any] = {f"column {i}": X[:, i] for i in range(6)}
    parquet.write_table(pyarrow.table({**columns, "name": ["a"] * COUNT, "y": Y}), path, row_group_size=120)


def as_lists(path: Path) -> None:
    parquet.write_table(pyarrow.table({"y": Y, "pixels": X.astype(np.float32).tolist()}), path, row_group_size=77)


def as_lists_of_fixed_size(path: Path) -> None:
    lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(X.ravel()), 6)
    parquet.write_table(pyarrow.table({"x": lists, "y": Y}), path)


KINDS = [as_npz, as_compressed, as_npy, as_features, as_lists, as_lists_of_fixed_size]


@pytest.mark.parametrize("write", KINDS)
@pytest.mark.parametrize("block", [60, 1 << 20])
def test_the_same_samples(
    write: Callable[[Path], None], block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml2sc.frontend.npz.BLOCK_BYTES", block)
    monkeypatch.setattr("ml2sc.frontend.parquet._BATCH_BYTES", block)
    write(tmp_path / "data")
    samples = load_samples(tmp_path / "data", ONE)
    assert len(samples) == COUNT
    assert samples.ranges["pixels"] == (0, 250)
    if write is not as_npy:
        assert samples.labels is not None
        assert samples.labels.tolist() == Y.tolist()
    for index in (0, 1, 119, 120, 7, 499):
        assert samples[index]["pixels"].tolist() == [X[index].tolist()]
    for first, last in ((0, 100), (100, 200), (450, 600), (20, 40)):
        part = pickle.loads(pickle.dumps(samples.part(first, last)))
        assert len(part) == len(X[first:last])
        assert [sample["pixels"].ravel().tolist() for sample in part] == X[first:last].tolist()
        inner = part.part(10, 30)
        assert [sample["pixels"].ravel().tolist() for sample in inner] == X[first:last][10:30].tolist()
        if part.labels is not None:
            assert part.labels.tolist() == Y[first:last].tolist()


@pytest.mark.parametrize("write", KINDS)
def test_a_part_travels_as_its_place(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "data")
    samples = load_samples(tmp_path / "data", ONE)
    part = samples.part(100, 200)
    assert isinstance(part.arrays["pixels"], FileRows)
    assert len(pickle.dumps(part.arrays)) < 600  # of 600 numbers and more


@pytest.mark.parametrize("write", KINDS)
def test_all_of_them_travel_as_their_place(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "data")
    samples = load_samples(tmp_path / "data", ONE)
    there = pickle.loads(pickle.dumps(samples))
    assert isinstance(there.arrays["pixels"], FileRows)
    assert [s["pixels"].tolist() for s in there] == [s["pixels"].tolist() for s in samples]
    assert (there.ranges, there.shapes) == (samples.ranges, samples.shapes)
    assert (there.labels is None) == (samples.labels is None)


@pytest.mark.parametrize("write", KINDS)
@pytest.mark.parametrize("change", ["touched", "cut", "gone"])
def test_a_file_that_changes_meanwhile_is_refused(write: Callable[[Path], None], change: str, tmp_path: Path) -> None:
    path = tmp_path / "data"
    write(path)
    samples = load_samples(path, ONE)
    assert len(list(samples.part(0, 100))) == 100
    if change == "touched":
        os.utime(path, ns=(1, 1))
    elif change == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"was changed while it was being read|No such file"):
        list(samples.part(100, 200))


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"x": [[1.0] * 6, [1.0] * 5]}, "not all of 6 numbers"),
        ({"x": [[1.0] * 6, [1.0] * 5 + [None]]}, "not all of 6 numbers"),
        ({"x": [[1.0] * 6, None]}, "lacks values"),
        ({"x": ["a", "b"]}, "not numbers"),
        ({"x": [["a"], ["b"]]}, "not numbers"),
        ({f"c{i}": [1.0, None if i == 3 else 2.0] for i in range(6)}, "'c3' lacks values"),
        ({f"c{i}": [1.0, float("nan") if i == 3 else 2.0] for i in range(6)}, "NaN"),
        ({f"c{i}": [1.0, 2.0] for i in range(5)}, r"shape \(2, 5\), expected \(samples, 6\)"),
        ({"name": ["a", "b"]}, "the key .* is missing in"),
        ({"x": [1.0, 2.0]}, r"shape \(2,\), expected"),
    ],
)
def test_parquet_that_does_not_fit(columns: dict[str, Any], match: str, tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(DataError, match=match) as caught:
        load_samples(path, ONE)
    assert str(path) in str(caught.value)


def test_features_have_the_names_of_their_columns(tmp_path: Path) -> None:
    as_features(tmp_path / "data")
    assert load_samples(tmp_path / "data", ONE).names == tuple(f"column {i}" for i in range(6))
    columns = {**{f"c{i}": [1.0, 2.0] for i in range(5)}, "columns": [3.0, 4.0]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "odd")
    assert load_samples(tmp_path / "odd", ONE).names == ("c0", "c1", "c2", "c3", "c4", "columns")


def test_features_are_taken_by_name_where_the_model_names_them(tmp_path: Path) -> None:
    """By workers as well; columns called x and y, too."""
    names = ("y", "x", "c", "d e", "f", "g")
    columns = {name: X[:, at] for at, name in enumerate(names)}
    parquet.write_table(pyarrow.table({name: columns[name] for name in sorted(names)}), tmp_path / "data")
    samples = load_samples(tmp_path / "data", ONE, ("y", "x", "c", "d_e", "f", "g"))
    assert (samples.names, samples.labels) == (("y", "x", "c", "d_e", "f", "g"), None)
    for some in (samples, pickle.loads(pickle.dumps(samples)).part(0, COUNT)):
        np.testing.assert_array_equal(np.concatenate([sample["pixels"] for sample in some]), X)
    with pytest.raises(DataError, match=r"data: columns are taken by name: it lacks the model's 'b'; .* know 'g'"):
        load_samples(tmp_path / "data", ONE, ("y", "x", "c", "d_e", "f", "b"))
    parquet.write_table(pyarrow.table({"pixels": X.tolist(), "number": Y}), tmp_path / "lists")
    np.testing.assert_array_equal(load_samples(tmp_path / "lists", ONE, tuple("abcdef"))[3]["pixels"][0], X[3])


def test_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    as_features(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot be read: .*corrupted"):
        load_samples(path, ONE)


@pytest.mark.parametrize("bytes_", [2, 4, 50, 700, -1])
def test_truncated_npz(bytes_: int, tmp_path: Path) -> None:
    path = tmp_path / "data"
    as_compressed(path)
    path.write_bytes(path.read_bytes()[:bytes_])
    with pytest.raises(DataError, match=r"damaged or truncated: it begins as an \.npz file does, but the table at its"):
        load_samples(path, ONE)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("data.parquet", b"x", "is damaged, or no .parquet file: it does not begin as one"),
        ("data.NPZ", b"\0" * 500, "is damaged, or no .NPZ file"),
        ("data.npy", b"", "is empty"),
        ("data.csv", b"a,b\n1,2\n", "is no .npz, .npy or Parquet file"),
    ],
)
def test_a_file_of_no_such_kind(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} {said}") as caught:
        load_samples(tmp_path / name, ONE)
    assert "an .npz file with x" in str(caught.value)


def test_npy_that_cannot_be_read_by_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", np.asfortranarray(X))
    with pytest.raises(DataError, match=r"Fortran's order") as caught:
        load_samples(tmp_path / "data.npy", ONE)
    assert "ascontiguousarray" in str(caught.value)
    whole = tmp_path / "whole.npy"
    as_npy(whole)
    whole.write_bytes(whole.read_bytes()[:-1])
    with pytest.raises(DataError, match="its header says 3,000 bytes, and 2,999 are there"):
        load_samples(whole, ONE)


def test_no_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_features(tmp_path / "data.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ToolchainError, match="needs pyarrow"):
        ParquetTable(tmp_path / "data.parquet")
