"""Exit statuses of what is nobody's mistake, the split of stdout and stderr, and what a start imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ml2sc.cli.common import styled

from .conftest import MakeModel, Run

HEAVY = {"onnx", "onnxruntime", "torch", "web3", "networkx", "numpy", "eth", "eth_abi", "solcx", "jinja2"}


@pytest.mark.parametrize("module", ["compile", "check"])
def test_help_imports_nothing_heavy(module: str) -> None:
    code = (
        f"import sys; from ml2sc.cli.{module} import main; status = main(['--help']); "
        f"sys.exit(status or ','.join(sorted({HEAVY!r} & set(sys.modules))) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: ml2sc-{module}")
    assert "exit status: 0 ok" in done.stdout


def test_version(compile_model: Run) -> None:
    result = compile_model("--version")
    assert result.status == 0
    assert result.out.startswith("ml2sc-compile ")


def test_explain_lists_the_operators(compile_model: Run) -> None:
    result = compile_model("--explain")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert {"Gemm", "Relu", "Softmax", "ai.onnx.ml.LinearClassifier"} <= set(lines)
    assert "Range  (only where it folds to a constant)" in lines


def test_our_bug(compile_model: Run, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("ml2sc.compiler.compile", fail)
    result = compile_model(make_model())
    assert (result.status, result.out) == (70, "")
    assert result.err.splitlines() == [
        "internal error: KeyError: 'oops'",
        "  this is a bug in ml2sc: please report it with the model",
    ]
    result = compile_model(make_model(), "-v")
    assert result.status == 70
    assert "Traceback" in result.err


def test_interrupted(compile_model: Run, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ml2sc.compiler.compile", interrupt)
    assert compile_model(make_model()) == (130, "", "interrupted\n")


def test_reader_that_leaves() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ml2sc.cli.compile", "--explain"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


class Terminal:
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    assert styled("error", terminal, "31") == "\x1b[31merror\x1b[0m"  # type: ignore[arg-type]
    monkeypatch.setenv("NO_COLOR", "1")
    assert styled("error", terminal, "31") == "error"  # type: ignore[arg-type]
    monkeypatch.delenv("NO_COLOR")
    with Path("/dev/null").open("w") as file:
        assert styled("error", file, "31") == "error"
