"""The library example, run as its docstring says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ml2sc.errors import ToolchainError
from ml2sc.runtime.toolchain import Toolchain


@pytest.mark.slow
@pytest.mark.heavy
def test_custom_pass(examples: Path) -> None:
    try:
        Toolchain().solc({"language": "Solidity", "sources": {"T.sol": {"content": "contract T {}"}}})
    except ToolchainError as error:
        pytest.skip(str(error))
    command = [sys.executable, str(examples / "custom_pass.py"), "0", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=examples.parent)
    assert done.returncode == 0, done.stderr
    header, *rows, verdict = done.stdout.splitlines()
    assert header.startswith("threshold  zeros    target")
    assert verdict.startswith("Every answer was bit-exact")
    unpruned, pruned = (
        next(r.split() for r in rows if r.split()[0] == t and r.split()[2] == "solidity") for t in ("0", "0.1")
    )
    shares = [float(row[1].rstrip("%")) for row in (unpruned, pruned)]
    assert shares[1] > shares[0] + 10
    accuracies = [float(row[5].rstrip("%")) for row in (unpruned, pruned)]
    assert accuracies[0] > 96
    assert accuracies[1] > 90
