"""What the examples cost, to the unit of gas: receipts on the embedded chain, compared with snapshot.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ml2sc
from ml2sc.backends.base import Artifact
from ml2sc.compiler import build
from ml2sc.errors import ToolchainError
from ml2sc.ir import wad
from ml2sc.runtime.chain import open_chain
from ml2sc.runtime.contract import Contract
from ml2sc.runtime.deploy import deploy
from ml2sc.runtime.toolchain import Toolchain

SNAPSHOT = Path(__file__).parent / "snapshot.json"
SAMPLES = 100
"""Samples of each example that are run, from the first on."""

CASES = [(example, precision) for example in ("breast_cancer", "digits", "mnist") for precision in ("int8", "auto")]


def compiled(folder: Path, precision: str) -> Artifact:
    """Return the example compiled: `int8` with its calibration data, `auto` without any."""
    calibration = folder / "calibration.npz" if precision == "int8" else None
    try:
        return build(
            ml2sc.compile(folder / f"{folder.name}.onnx", precision=precision, calibration=calibration), Toolchain()
        )
    except ToolchainError as error:
        pytest.skip(str(error))


def head(artifact: Artifact) -> dict[str, Any]:
    """Return what a figure depends on besides our code."""
    settings = artifact.compiler_input["settings"]
    return {
        "compiler": artifact.manifest["toolchain"]["compiler"].split("+")[0],
        "settings": {key: settings[key] for key in ("evmVersion", "optimizer", "viaIR")},
        "rules": "prague",
        "samples": SAMPLES,
    }


def measured(artifact: Artifact, folder: Path) -> dict[str, int]:
    graph = artifact.graph
    assert graph is not None
    with np.load(folder / "samples.npz") as archive:
        samples = archive["x"][:SAMPLES]
    (name,) = graph.inputs
    with open_chain("embedded") as chain:
        deployment = deploy(artifact, chain)
        contract = Contract(chain, deployment.address, artifact.abi)
        gas = [contract.gas_packed(wad.pack(graph, wad.quantize_inputs(graph, {name: sample}))) for sample in samples]
        first = wad.to_wad(np.asarray(samples[0], dtype=np.float64).ravel().tolist())
        return {
            "deploy": deployment.gas_deploy,
            "weights": deployment.gas_weights,
            "classifyPacked mean": round(sum(gas) / len(gas)),
            "classifyPacked max": max(gas),
            "predict of the first": contract.gas("predict", first),
        }


@pytest.mark.parametrize(("example", "precision"), CASES)
def test_gas(example: str, precision: str, examples: Path, request: pytest.FixtureRequest) -> None:
    artifact = compiled(examples / example, precision)
    key = f"{example} {precision}"
    snapshot = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.is_file() else {}
    if request.config.getoption("--update-gas"):
        entries = snapshot.get("gas", {}) if snapshot.get("head") == head(artifact) else {}
        entries[key] = measured(artifact, examples / example)
        ordered = {f"{e} {p}": entries[f"{e} {p}"] for e, p in CASES if f"{e} {p}" in entries}
        SNAPSHOT.write_text(json.dumps({"head": head(artifact), "gas": ordered}, indent=2) + "\n")
        return
    want = snapshot["head"]
    if head(artifact)["compiler"] != want["compiler"]:
        pytest.skip(f"the snapshot is {want['compiler']}'s, and here is {head(artifact)['compiler']}")
    assert head(artifact) == want, "measured in another way: run pytest --update-gas"
    old, new = snapshot["gas"][key], measured(artifact, examples / example)
    changes = [f"{what}: {old.get(what)} -> {gas} ({gas - old.get(what, 0):+d})" for what, gas in new.items()]
    grown = any(gas > old.get(what, 0) for what, gas in new.items())
    verdict = "gas has GROWN: mend it, or say why and run" if grown else "gas has fallen: well done, now run"
    assert new == old, f"{key}: {verdict} 'pytest --update-gas'\n" + "\n".join(changes)


@pytest.mark.parametrize(("example", "limit"), [("mnist", 160_000), ("breast_cancer", 40_000)])
def test_promised_figures(example: str, limit: int) -> None:
    """The figures the project promises, whatever the snapshot says."""
    assert json.loads(SNAPSHOT.read_text())["gas"][f"{example} int8"]["classifyPacked mean"] <= limit
