"""slither finds nothing above informational in emitted contracts, but for what docs/security.md explains.

slither pins old versions of what ml2sc uses, so `make slither` gives it an environment of its own. Other runs of
the tests leave these out, unless SLITHER names one.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import ml2sc
from ml2sc.backends.base import with_settings

pytestmark = pytest.mark.slither

EXPLAINED = {
    "data contracts": {"missing-zero-check"},
    "updatable": {"incorrect-equality", "missing-zero-check", "timestamp"},
}
"""By kind of contract, the detectors whose findings docs/security.md gives reasons for."""

SOLC = """#!/bin/sh
case "$*" in *--version*) echo "Version: {version}" ;; *) cat >/dev/null; cat '{output}' ;; esac
"""
"""Stands in for solc, which takes seconds to start: it repeats what solc has answered to this very input."""


def breast_cancer(examples: Path) -> dict[str, Any]:
    folder = examples / "breast_cancer"
    return {"model": folder / "breast_cancer.onnx", "calibration": folder / "calibration.npz"}


def network(text: str, inputs: int, hidden: int) -> onnx.ModelProto:
    """Return a two-layer classifier; `text` is what follows its scores s."""
    rng = np.random.default_rng(0)
    first, second = (
        f"float[{k},{n}] {name} = {{{', '.join(f'{v:.3f}' for v in rng.normal(size=k * n))}}}"
        for name, k, n in (("v", inputs, hidden), ("w", hidden, 3))
    )
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]> tiny (float[1,{inputs}] x) => (float[1,3] y) <{first}, {second}>
        {{ a = MatMul(x, v) h = Relu(a) s = MatMul(h, w) {text} }}"""
    )


KINDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "int8": lambda examples: {**breast_cancer(examples), "precision": "int8"},
    "auto": breast_cancer,
    "strict and wide": lambda _: {
        "model": network("y = Softmax<axis = 1>(s)", 5, 4),
        "precision": "q31.32",
        "strict_input": True,
        "input_ranges": ((-1.0, 1.0),),
    },
    "data contracts": lambda _: {
        "model": network("y = Tanh(s)", 40, 70),
        "precision": "int8",
        "weights": "data",
        "input_ranges": ((0.0, 1.0),),
    },
    "updatable": lambda _: {
        "model": network("y = Relu(s)", 5, 4),
        "precision": "int8",
        "updatable": True,
        "input_ranges": ((0.0, 1.0),),
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_findings(kind: str, examples: Path, tmp_path: Path, toolchain: ml2sc.Toolchain) -> None:
    artifact = ml2sc.compile(name="Model", **KINDS[kind](examples))
    assert bool(artifact.data) == (kind in ("data contracts", "updatable"))
    everything = {"outputSelection": {"*": {"*": ["*"], "": ["ast"]}}}  # slither wants more than a contract needs
    standard_input = with_settings(artifact.compiler_input, everything)
    compiled = toolchain.solc(standard_input)
    assert "errors" not in compiled.output  # nor warnings
    (tmp_path / "Model.standard.json").write_text(json.dumps(standard_input))
    (tmp_path / "output.json").write_text(json.dumps(compiled.output))
    (tmp_path / artifact.source_name).write_text(artifact.source)
    solc = tmp_path / "solc"
    solc.write_text(SOLC.format(version=compiled.compiler.split()[1], output=tmp_path / "output.json"))
    solc.chmod(0o755)
    slither = [os.environ.get("SLITHER", "slither"), "Model.standard.json", "--solc", str(solc)]
    options = ["--compile-force-framework", "Solc-json", "--json", "-"]
    done = subprocess.run([*slither, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert result["success"], result["error"]
    found = result["results"]["detectors"]
    assert any(finding["check"] == "assembly" for finding in found)  # it has seen the contract
    findings = [
        (finding["check"], finding["description"])
        for finding in found
        if finding["impact"] in ("High", "Medium", "Low")
    ]
    assert {check for check, _ in findings} == EXPLAINED.get(kind, set()), findings
