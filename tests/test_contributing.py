"""CONTRIBUTING.md lists the tests that `make test` leaves out."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent


def _marked(path: Path) -> set[str]:
    """Return the tests and fixtures of a file that are marked heavy, wholly or in part."""
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    name = path.relative_to(TESTS).as_posix()
    return {f"{name}: {f.name}" for f in functions if any("heavy" in ast.unparse(d) for d in f.decorator_list)}


def test_what_is_left_out_is_listed() -> None:
    text = (TESTS.parent / "CONTRIBUTING.md").read_text()
    listed = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    files = [*TESTS.rglob("test_*.py"), *TESTS.rglob("conftest.py")]
    marked = {test for path in files for test in _marked(path)}
    assert marked == listed
