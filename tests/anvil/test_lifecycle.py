"""examples/lifecycle.sh: a contract from its deployment to the end of all updates, by the commands that users type."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SAMPLES = 25


@pytest.mark.anvil
@pytest.mark.heavy
def test_lifecycle(examples: Path, tmp_path: Path) -> None:
    with np.load(examples / "mnist" / "samples.npz") as archive:
        np.savez(tmp_path / "few.npz", x=archive["x"][:SAMPLES], y=archive["y"][:SAMPLES])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", str(examples / "lifecycle.sh"), str(tmp_path / "few.npz")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = [line for line in done.stdout.splitlines() if line.startswith("  exact ") and "bit for bit" in line]
    assert len(checks) == 4
    assert all(f"yes: {SAMPLES} of {SAMPLES} bit for bit" in line for line in checks)
    states = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("  weights   ")]
    versions = [state.split(",")[0].strip() for state in states if state.startswith("version")]
    assert list(dict.fromkeys(versions)) == ["version 1", "version 2"]
    assert states[-1].endswith("frozen for ever")
    models = [line.split()[2:] for line in done.stderr.splitlines() if line.startswith("  model hash")]
    assert len(models) == 1
    assert models[0][0] != models[0][1], "the other seed is another model"
    assert "the contract is frozen" in done.stdout
