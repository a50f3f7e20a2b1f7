from __future__ import annotations

import pytest

from ml2sc.errors import UsageError
from ml2sc.passes.precision import Binary, Integer, parse_precision


@pytest.mark.parametrize(
    ("text", "precision", "shown"),
    [
        ("int8", Integer(8, 8), "int8"),
        ("w8a8", Integer(8, 8), "int8"),
        ("w2a32", Integer(2, 32), "w2a32"),
        ("q31.32", Binary(31, 32), "q31.32"),
        ("q0.1", Binary(0, 1), "q0.1"),
        ("q127.0", Binary(127, 0), "q127.0"),
    ],
)
def test_forms(text: str, precision: object, shown: str) -> None:
    assert parse_precision(text) == precision
    assert str(parse_precision(text)) == shown


def test_auto_is_not_a_format() -> None:
    assert parse_precision("auto") is None
    assert Binary(31, 32).bits == 64


@pytest.mark.parametrize(
    "text", ["w1a8", "w8a33", "q0.0", "q64.64", "int4", "8", "", "w8", "q3", "q-1.4", "W8A8", "int8 "]
)
def test_what_is_none_of_them(text: str) -> None:
    with pytest.raises(UsageError, match="precision"):
        parse_precision(text)
