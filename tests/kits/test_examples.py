"""The examples, from the command line to each kit, and there the tool's own commands, untouched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.node import node, node_modules

from ml2sc.cli import compile  # noqa: A004

from .conftest import Forge
from .test_hardhat import run as hardhat


def passes(command: list[str], place: Path) -> None:
    done = subprocess.run(command, cwd=place, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.heavy
@pytest.mark.parametrize(
    ("example", "options"),
    [
        ("digits", ()),
        ("digits", ("--target", "vyper")),
        ("digits", ("--form", "abstract")),
        ("mnist", ("--weights", "data")),
        ("breast_cancer", ("--updatable",)),
    ],
)
def test_every_kit_of_an_example(
    example: str, options: tuple[str, ...], examples: Path, forge: Forge, tmp_path: Path
) -> None:
    folder, out = examples / example, tmp_path / "out"
    kits = ["foundry", "python", "ts", *([] if "vyper" in options else ["hardhat"])]
    data = ["--calibrate", folder / "calibration.npz", "--precision", "int8", "-o", out]
    asked = [folder / f"{example}.onnx", *data, *options, *(f"--kit={kit}" for kit in kits)]
    assert compile.main([str(argument) for argument in asked]) == 0
    done = forge(out / "kits" / "foundry", "snapshot", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    if "hardhat" in kits:
        done = hardhat(out / "kits" / "hardhat", "test")
        assert done.returncode == 0, done.stdout + done.stderr
    project = out / "kits" / "ts"
    (project / "node_modules").symlink_to(node_modules())
    passes([node(), "node_modules/typescript/bin/tsc", "--noEmit"], project)
    passes([node(), "--test"], project)
    passes([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], out / "kits" / "python")
