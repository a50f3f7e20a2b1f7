"""docs/operators.md says what is supported; it is written by this test, and an operator that is half there fails it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml2sc.frontend.onnx_import import supported_operators
from ml2sc.ir.ops import OPS, OpDef
from ml2sc.ir.ops.folding import FoldingOp
from ml2sc.passes.lower import LOWERINGS
from ml2sc.passes.lower.kernels import KERNELS

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"

BECOMES = {
    "BatchNormalization": "Gemm",
    "Div": "Mul",
    "MatMul": "Gemm",
    "ScaledConv": "Conv",
    "ScaledGemm": "Gemm",
    "Sub": "Add",
}
"""Operators that are gone once a graph is quantised, and what stands for them then."""

HEAD = """# Operators

What ml2sc knows, written by `pytest tests/unit/test_operators_doc.py --update-golden`. An operator *computes* if it may
depend on the model's input; it *moves* elements if it does no more than say where they go, which costs no gas; and it
*folds* if it is supported on constants only. `ml2sc-compile --explain` lists the same with what plugins add;
[add-an-operator.md](add-an-operator.md) shows how to add one.

| operator | | lowered by | what it is |
|---|---|---|---|
"""

RULES_HEAD = """
Written out in these when a model is read:

"""

OWN_HEAD = """
Operators of ml2sc's own, which passes make and no file names:

| operator | | lowered by | what it is |
|---|---|---|---|
"""


def ours() -> dict[str, OpDef]:
    return {name: OPS.get(name) for name in OPS.names() if OPS.owner(name) == "ml2sc"}


def has_integer_form(op: OpDef) -> bool:
    return type(op).evaluate_exact is not OpDef.evaluate_exact


def kernels_of(name: str) -> list[str]:
    return [k for k, kernel in KERNELS.items() if name in kernel.operators and KERNELS.owner(k) == "ml2sc"]


def lowered_by(name: str) -> str:
    if name in LOWERINGS:
        return f"`{LOWERINGS.get(name).__name__}`"
    return ", ".join(f"kernel `{kernel}`" for kernel in kernels_of(name))


def row(name: str, op: OpDef) -> str:
    if isinstance(op, FoldingOp):
        kind, lowered = "folds", ""
    else:
        kind = "moves" if op.moves else "computes"
        lowered = f"as {BECOMES[name]}" if name in BECOMES else lowered_by(name)
    summary = (type(op).__doc__ or "").strip().splitlines()[0].replace("|", "\\|")
    return f"| {name} | {kind} | {lowered} | {summary} |\n"


def page() -> str:
    operators = ours()
    known = {name: op for name, op in operators.items() if op.onnx}
    rules = [name for name in supported_operators() if name not in OPS]
    text = HEAD + "".join(row(name, op) for name, op in known.items())
    text += RULES_HEAD + "".join(f"- {name}\n" for name in rules)
    return text + OWN_HEAD + "".join(row(name, op) for name, op in operators.items() if not op.onnx)


@pytest.mark.parametrize("name", [name for name, op in ours().items() if has_integer_form(op)])
def test_what_has_an_integer_form_has_a_lowering(name: str) -> None:
    known = name in LOWERINGS or name in BECOMES or kernels_of(name)
    assert known, f"{name} has no lowering: see docs/add-an-operator.md"


def test_every_lowering_is_of_an_operator() -> None:
    assert set(LOWERINGS.names()) <= set(OPS.names())


@pytest.mark.parametrize(("name", "other"), BECOMES.items())
def test_what_stands_for_others_has_a_lowering(name: str, other: str) -> None:
    assert name not in LOWERINGS
    assert not kernels_of(name)
    assert other in LOWERINGS or kernels_of(other)


@pytest.mark.parametrize("name", ours())
def test_every_operator_says_what_it_is(name: str) -> None:
    assert (type(ours()[name]).__doc__ or "").strip()


def test_the_page_is_up_to_date(request: pytest.FixtureRequest) -> None:
    text = page()
    if request.config.getoption("--update-golden"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text, "read the change, then run pytest --update-golden"
