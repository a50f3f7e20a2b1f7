"""slither finds nothing above informational in emitted contracts, but for what docs/security.md explains.

slither pins old versions of what ml2sc uses: install it in an environment of its own, and name it in SLITHER.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ml2sc
from ml2sc.backends.base import with_settings

pytestmark = pytest.mark.slither

EXPLAINED: set[str] = set()
"""Detectors whose findings docs/security.md gives reasons for."""

SOLC = """#!{python}
import json, sys
from ml2sc.runtime.toolchain import Toolchain
run = Toolchain().solc(json.loads(sys.stdin.read()) if "--version" not in sys.argv else
                       {{"language": "Solidity", "sources": {{"T.sol": {{"content": "contract T {{}}"}}}}}})
print(f"Version: {{run.compiler.split()[1]}}" if "--version" in sys.argv else json.dumps(run.output))
"""

KINDS: dict[str, dict[str, Any]] = {
    "int8": {"precision": "int8"},
    "auto": {},
    "strict": {"precision": "int8", "strict_input": True},
    "data contracts": {"precision": "int8", "weights": "data"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_findings(kind: str, examples: Path, tmp_path: Path) -> None:
    name = "digits" if kind == "data contracts" else "breast_cancer"
    calibration = examples / name / "calibration.npz"
    artifact = ml2sc.compile(examples / name / f"{name}.onnx", name="Model", calibration=calibration, **KINDS[kind])
    everything = {"outputSelection": {"*": {"*": ["*"], "": ["ast"]}}}  # slither wants more than a contract needs
    (tmp_path / "Model.standard.json").write_text(json.dumps(with_settings(artifact.compiler_input, everything)))
    (tmp_path / artifact.source_name).write_text(artifact.source)
    (tmp_path / "solc").write_text(SOLC.format(python=sys.executable))
    (tmp_path / "solc").chmod(0o755)
    slither = [os.environ.get("SLITHER", "slither"), "Model.standard.json", "--solc", str(tmp_path / "solc")]
    options = ["--compile-force-framework", "Solc-json", "--json", "-"]
    done = subprocess.run([*slither, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert result["success"], result["error"]
    found = result["results"]["detectors"]
    assert any(finding["check"] == "assembly" for finding in found)  # it has seen the contract
    findings = [
        finding["description"]
        for finding in found
        if finding["impact"] in ("High", "Medium", "Low") and finding["check"] not in EXPLAINED
    ]
    assert findings == []
