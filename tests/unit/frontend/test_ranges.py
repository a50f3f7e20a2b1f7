from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml2sc.errors import DataError, UsageError
from ml2sc.frontend.ranges import ColumnRange, apply_ranges, column_names, read_ranges
from ml2sc.ir.parser import parse_graph

GRAPH = parse_graph('graph "m"\ninput %x: float[1,2]\ninput %age: float[1,1]')
CSV = "column,lo,hi\nalcohol, 11, 14.8\nash,1,3\nage,0,120\n"


def unknown() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        name: (np.full(GRAPH.tensor(name).shape, np.nan), np.full(GRAPH.tensor(name).shape, np.nan))
        for name in GRAPH.inputs
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.csv", CSV),
        ("r.csv", "\ufeffLO,Column,HI\n11,alcohol,14.8\n1,ash,3\n0,age,120\n"),
        ("r.json", '{"alcohol": [11, 14.8], "ash": [1, 3], "age": [0, 120]}'),
        (
            "r.json",
            (
                '[{"column": "alcohol", "lo": 11, "hi": 14.8}, {"column": "ash", "lo": 1, "hi": 3}, '
                '{"column": "age", "lo": 0, "hi": 120}]'
            ),
        ),
    ],
)
def test_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_ranges(tmp_path / name)
    assert found == (ColumnRange("alcohol", 11, 14.8), ColumnRange("ash", 1, 3), ColumnRange("age", 0, 120))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.csv", "", "its header is missing"),
        ("r.csv", "name,min,max\na,0,1\n", "not column,lo,hi"),
        ("r.csv", "column,lo,hi\na,0\n", "line 2 has not three fields"),
        ("r.csv", "column,lo,hi\na,0,one\n", "could not convert"),
        ("r.csv", "column,lo,hi\n", "holds no ranges"),
        ("r.csv", "column,lo,hi\na,1,0\n", "column 'a' goes from 1 to 0"),
        ("r.csv", "column,lo,hi\na,0,nan\n", "both finite"),
        ("r.csv", "column,lo,hi\na,0,1\na,0,2\n", "'a' occurs twice"),
        ("r.json", '{"a": [0, 1], "a": [0, 2]}', "'a' occurs twice"),
        ("r.json", '{"a": [0]}', "is not"),
        ("r.json", "3", "neither an object nor a list"),
        ("r.json", "[" * 100_000, "is no file of ranges"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_ranges(tmp_path / name)
    with pytest.raises(DataError, match="cannot read"):
        read_ranges(tmp_path / "none.csv")


def test_a_file_with_a_line_for_each_column_names_them() -> None:
    ranges = [ColumnRange("alcohol", 11, 15), ColumnRange("ash", 1, 3), ColumnRange("years", 0, 120)]
    assert column_names(ranges, GRAPH) == ("alcohol", "ash", "years")
    assert column_names([*ranges, ColumnRange("ash", 0, 9)], GRAPH) == ("alcohol", "ash", "years")
    assert column_names(ranges[:2], GRAPH) == ()
    assert column_names([*ranges[:2], ColumnRange("2", 0, 1)], GRAPH) == ()


def test_columns_by_number_name_and_input() -> None:
    ends = unknown()
    ranges = [ColumnRange("0", 0, 1), ColumnRange("ash", 1, 3), ColumnRange("age", 0, 120), ColumnRange("0", 0, 2)]
    assert apply_ranges(ranges, ("alcohol", "ash", "years"), GRAPH, ends) == {"x", "age"}
    assert [end.tolist() for end in ends["x"]] == [[[0, 1]], [[2, 3]]]
    assert [end.tolist() for end in ends["age"]] == [[[0]], [[120]]]


@pytest.mark.parametrize(
    ("column", "message"),
    [("acid", "no column 'acid'"), ("3", "no column '3'"), ("-1", "no column '-1'"), ("0", "1 of 3 columns have no")],
)
def test_unknown_and_missing_columns(column: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        apply_ranges([ColumnRange(column, 0, 1)], (), GRAPH, unknown())
