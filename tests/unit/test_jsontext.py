from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from ml2sc.jsontext import json_text


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, np.float64(math.inf)])
def test_no_number_that_json_lacks(number: float) -> None:
    found = {"a": number, "b": [1.5, (number,)], "c": {"d": {"e": [number]}}}
    assert json.loads(json_text(found)) == {"a": None, "b": [1.5, [None]], "c": {"d": {"e": [None]}}}


def test_everything_else_is_what_it_was() -> None:
    value: dict[str, Any] = {"z": [1, True, None, "é", -0.25, 2**300], "a": {}}
    assert json.loads(json_text(value)) == value
    assert json_text(value, sort_keys=True).index('"a"') < json_text(value, sort_keys=True).index('"z"')
    assert json_text({"a": 1}, indent=1) == '{\n "a": 1\n}'


def test_what_is_no_json() -> None:
    with pytest.raises(TypeError):
        json_text({"a": object()})
