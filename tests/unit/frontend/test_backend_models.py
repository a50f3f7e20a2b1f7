"""ONNX's own backend tests through the compiler: each is compiled, or refused by one of our errors.

Those that come as files are tried in every run; `ML2SC_FUZZ=1 pytest tests/unit/frontend/test_backend_models.py` tries
the nearly two thousand of single operators, too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx.backend.test.loader import load_model_tests
from support import heavy

import ml2sc
from ml2sc.errors import Ml2scError

ALL = "ML2SC_FUZZ" in os.environ
KINDS = ["simple", "pytorch-operator", "pytorch-converted", *(["node"] if ALL else [])]
SLOW = "test_MaxPool1d_stride_padding_dilation"
"""Its input has 220,000 elements; the others are a tenth as large, or refused."""
CASES = [case for kind in KINDS for case in load_model_tests(kind=kind)]


def proto_of(case: Any) -> onnx.ModelProto:
    return case.model if case.model is not None else onnx.load(Path(case.model_dir, "model.onnx"))


@pytest.mark.parametrize("precision", ["int8", "auto"] if ALL else ["int8"])
@pytest.mark.parametrize(
    "case", heavy.unless(lambda case: ALL or case.name != SLOW, CASES), ids=lambda case: str(case.name)
)
def test_compiled_or_refused(case: Any, precision: str) -> None:
    refusal = None
    try:
        artifact = ml2sc.compile(proto_of(case), precision=precision)
        assert artifact.program is not None
    except Ml2scError as error:
        refusal = error
    assert refusal is None or (refusal.message and refusal.exit_code == 1)


def test_they_are_there() -> None:
    assert len(CASES) > 100
