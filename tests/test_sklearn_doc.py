"""docs/scikit-learn.md: which estimators compile, what they cost and how well they agree; this test writes the table.

`ML2SC_SWEEP=1 pytest tests/test_sklearn_doc.py --update-golden` makes all of it anew (some ten minutes); the test run
looks at a few rows.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("skl2onnx")
import numpy as np
import skl2onnx
import sklearn
from support.estimators import CASES, Case

import ml2sc
from ml2sc.errors import Ml2scError
from ml2sc.frontend.sklearn_export import export_sklearn

pytestmark = [
    pytest.mark.filterwarnings("ignore:::sklearn", "ignore:::skl2onnx", "ignore::ml2sc.errors.Ml2scWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]
PAGE = Path(__file__).parents[1] / "docs" / "scikit-learn.md"
SWEEP = bool(os.environ.get("ML2SC_SWEEP"))
SAMPLE = ["GaussianNB", "KNNImputer", "ColumnTransformer"]
"""Rows that every test run makes again."""
BEGIN, END = "<!-- made by tests/test_sklearn_doc.py -->\n", "<!-- end -->\n"
VERSIONS = f"scikit-learn {sklearn.__version__}, skl2onnx {skl2onnx.__version__}"
HEAD = "| estimator | operators | int8: agreement, gas | auto: format, agreement, gas |\n|---|---|---|---|\n"
_MESSAGE = 150
_SAMPLES = 40


def row(name: str, case: Case, *, auto: bool) -> str:
    """Return a line of the table.

    Args:
        name: The estimator.
        case: How to make it.
        auto: Whether `auto` is tried, too.
    """
    operators, cells = "", []
    try:
        proto = export_sklearn(case.fitted)
        counted = sorted(Counter(node.op_type for node in proto.graph.node).items())
        operators = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in counted)
        for precision in ("int8", "auto") if auto else ("int8",):
            facts = dict(ml2sc.compile(proto, precision=precision, calibration=_data(case)).manifest)
            cells.append(f"{_agreement(facts['calibration'])}, {facts['gas']['predicted']:,}")
            if precision == "auto":
                cells[-1] = f"{facts['precision']}, {cells[-1]}"
    except Ml2scError as error:
        lines = str(error).splitlines()
        detail = next((line.strip() for line in lines[1:] if line.startswith("  node '")), "")
        text = f"{lines[0].partition(': ')[2]}{': ' if detail else ''}{detail}".replace("|", "\\|")
        cells.append(f"refused: {text if len(text) < _MESSAGE else f'{text[:_MESSAGE]}…'}")
    first, second = (*cells, "")[:2]
    return f"| {name} | {operators} | {first} | {second} |\n"


def _data(case: Case) -> dict[str, Any]:
    """Return the samples that a contract can be given."""
    return {"x": case.x[~np.isnan(case.x).any(axis=1)][:_SAMPLES]}


def _agreement(facts: Any) -> str:
    if facts["decision_agreement"] is not None:
        return f"{facts['decision_agreement']:.1%}"
    return "all are one" if facts["r2"] is None else f"R² {facts['r2']:.5f}"


def table() -> str:
    """Return what stands in the page between the marks."""
    text = PAGE.read_text(encoding="utf-8")
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


def test_every_estimator_has_a_line() -> None:
    names = [line.split(" | ")[0].removeprefix("| ") for line in table().splitlines() if line.startswith("| ")]
    assert names[1:] == list(CASES)


@pytest.mark.skipif(VERSIONS not in PAGE.read_text(encoding="utf-8"), reason="the table is other versions'")
@pytest.mark.parametrize("name", list(CASES) if SWEEP else SAMPLE)
def test_a_line_says_what_comes_out(name: str, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        pytest.skip("the whole table is made anew")
    line = next(line for line in table().splitlines(keepends=True) if line.startswith(f"| {name} |"))
    made = row(name, CASES[name], auto=not line.endswith("|  |\n"))
    assert made == line, "read the change, then ML2SC_SWEEP=1 pytest --update-golden"


@pytest.mark.skipif(not SWEEP, reason="takes minutes")
def test_the_table_is_made(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        write("".join(row(name, case, auto=True) for name, case in CASES.items()))


def write(rows: str) -> None:
    """Put lines into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    PAGE.write_text(f"{before}{BEGIN}Made with {VERSIONS}.\n\n{HEAD}{rows}{after}", encoding="utf-8")
