"""What the examples cost, to the unit of gas: receipts of an embedded chain, compared with snapshot.json.

From the same contracts: how far predictions are off, and what Vyper costs more. py-evm and revm charge the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import examples
from support.prediction import TOLERANCE, stated
from support.snapshot import SNAPSHOT

import ml2sc
from ml2sc.backends.base import Artifact
from ml2sc.compiler import build
from ml2sc.errors import ToolchainError
from ml2sc.forecast import forecast
from ml2sc.ir import wad
from ml2sc.ir.forks import FORKS
from ml2sc.ir.interpret import Interpreter
from ml2sc.runtime.chain import revm_is_installed
from ml2sc.runtime.contract import Contract
from ml2sc.runtime.deploy import deploy
from ml2sc.runtime.opening import open_chain
from ml2sc.runtime.toolchain import Toolchain
from ml2sc.runtime.update import update_calls

DEPLOYMENT = 0.005
CODE = (0.9, 1.35)
"""What the code's size is estimated at before it is compiled, in terms of what it is then. More than 1.03 only where
Vyper's other generator, which is not the one estimated, comes out smaller."""
SAMPLES = 100
"""Samples of each example that are run, from the first on."""

CASES = [
    (example, target, precision)
    for example in ("breast_cancer", "digits", "mnist", "mnist20")
    for target in ("solidity", "vyper")
    for precision in ("int8", "auto")
]
CASES += [
    ("breast_cancer", "solidity", "int8 updatable"),
    ("breast_cancer", "vyper", "int8 updatable"),
    ("digits", "solidity", "int8 updatable"),
    ("mnist", "solidity", "int8 updatable"),
    ("mnist_cnn", "solidity", "w5a8/w6a6/w8a8"),
    ("mnist_cnn", "vyper", "w5a8/w6a6/w8a8"),
    ("lenet5", "solidity", "int8"),
    ("lenet5", "vyper", "int8"),
    ("resnet8", "solidity", "int8"),
    ("resnet8", "vyper", "int8"),
]


LONG = {
    *((example, target, "auto") for example in ("mnist", "mnist20") for target in ("solidity", "vyper")),
    *(("mnist20", target, "int8") for target in ("solidity", "vyper")),
    ("mnist", "vyper", "int8"),
    *(("digits", target, "auto") for target in ("solidity", "vyper")),
    *((example, "solidity", "int8 updatable") for example in ("digits", "mnist")),
    ("mnist_cnn", "vyper", "w5a8/w6a6/w8a8"),
    *((example, target, "int8") for example in ("lenet5", "resnet8") for target in ("solidity", "vyper")),
}


def compiled(folder: Path, target: str, precision: str) -> Artifact:
    """Return the example compiled: `auto` without data, all else with its calibration data, perhaps updatable."""
    precision, _, updatable = precision.partition(" ")
    try:
        if precision == "auto":
            artifact = ml2sc.compile(folder / f"{folder.name}.onnx", target, precision)
        else:
            artifact = examples.compiled(folder.name, target, precision, updatable=bool(updatable))
        built = build(artifact, Toolchain())
    except ToolchainError as error:
        pytest.skip(str(error))
    assert built.bytecode is not None
    largest = max(len(code.runtime) for code in (built.bytecode, *built.bytecode.parts))
    ratio = forecast(artifact, FORKS["prague"]).code_bytes / largest
    assert CODE[0] <= ratio <= CODE[1], ratio
    return built


def head(artifact: Artifact) -> dict[str, Any]:
    """Return what a figure depends on besides our code."""
    settings = dict(artifact.compiler_input["settings"])
    if "optimizer" in settings:  # without its steps, which are chosen for each contract
        details = settings["optimizer"]["details"].items()
        settings["optimizer"] = {**settings["optimizer"], "details": {k: v for k, v in details if isinstance(v, bool)}}
        settings["optimizer"]["details"].pop("yul", None)
    return {
        "compiler": artifact.manifest["toolchain"]["compiler"].split("+")[0],
        "settings": {key: settings[key] for key in ("evmVersion", "optimizer", "optimize", "viaIR") if key in settings},
        "rules": "prague",
        "samples": SAMPLES,
    }


STATED_SAMPLES = 5
"""Samples for which a prediction of their own is made."""


def check_prediction(artifact: Artifact, packed: list[bytes], measured: dict[str, int], gas: list[int]) -> None:
    """What is stated before the call is near the receipt; what is stated as the most is never exceeded."""
    facts, limit = artifact.manifest["gas"], TOLERANCE[artifact.target]
    mean = sum(gas[:STATED_SAMPLES]) / STATED_SAMPLES
    assert stated(artifact, packed[:STATED_SAMPLES]) == pytest.approx(mean, rel=limit)
    if facts["inputs"] == "calibration data":
        assert facts["predicted"] == pytest.approx(measured["classifyPacked mean"], rel=limit)
    assert facts["worst"] >= measured["classifyPacked max"]
    assert facts["deploy"] == pytest.approx(measured["deploy"], rel=DEPLOYMENT)
    # creating data contracts is known to the unit; staging chunks takes the contract's own code
    assert facts["weights"] == pytest.approx(measured["weights"], rel=DEPLOYMENT if artifact.updatable else 0)


def measured(artifact: Artifact, folder: Path) -> dict[str, int]:
    """Return the figures of the snapshot; the prediction is checked against the same receipts."""
    graph = artifact.graph
    assert graph is not None
    assert artifact.program is not None
    with np.load(folder / "samples.npz") as archive:
        samples = archive["x"][:SAMPLES]
    (name,) = graph.inputs
    with open_chain("revm" if revm_is_installed() else "embedded") as chain:
        deployment = deploy(artifact, chain)
        contract = Contract(chain, deployment.address, artifact.abi)
        packed = [wad.pack(graph, wad.quantize_inputs(graph, {name: sample})) for sample in samples]
        gas = [contract.gas_packed(x) for x in packed]
        interpreter = Interpreter(artifact.program)
        for x in packed[:STATED_SAMPLES]:
            outcome = interpreter.run(x)
            assert (contract.predict_packed(x), contract.classify_packed(x)) == (
                list(outcome.outputs),
                outcome.decision,
            )
        first = wad.to_wad(np.asarray(samples[0], dtype=np.float64).ravel().tolist())
        figures = {
            "deploy": deployment.gas_deploy,
            "weights": deployment.gas_weights,
            "classifyPacked mean": round(sum(gas) / len(gas)),
            "classifyPacked max": max(gas),
            "predict of the first": contract.gas("predict", first),
        }
        if artifact.updatable:
            # the first one fills the slots of the weights to go back to, at 17,100 gas more each
            for name in ("first update", "update"):
                used = [chain.transact(deployment.address, data).gas_used for _, data in update_calls(artifact)]
                figures[name] = sum(used)
    check_prediction(artifact, packed, figures, gas)
    return figures


@pytest.mark.parametrize(("example", "limit"), [("breast_cancer", 1.5), ("digits", 1.5), ("mnist", 2.5)])
def test_vyper_is_not_much_dearer(example: str, limit: float) -> None:
    gas = json.loads(SNAPSHOT.read_text())["gas"]
    of = {target: gas[f"{example} {target} int8"]["classifyPacked mean"] for target in ("solidity", "vyper")}
    assert of["vyper"] <= limit * of["solidity"]


@pytest.mark.parametrize(
    ("example", "target", "precision"),
    [pytest.param(*case, marks=pytest.mark.heavy) if case in LONG else case for case in CASES],
)
def test_gas(example: str, target: str, precision: str, examples: Path, request: pytest.FixtureRequest) -> None:
    artifact = compiled(examples / example, target, precision)
    key = f"{example} {target} {precision}"
    snapshot = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.is_file() else {"heads": {}, "gas": {}}
    if request.config.getoption("--update-gas"):
        entries = {**snapshot["gas"], key: measured(artifact, examples / example)}
        ordered = {key: entries[key] for key in map(" ".join, CASES) if key in entries}
        heads = {**snapshot["heads"], target: head(artifact)}
        SNAPSHOT.write_text(json.dumps({**snapshot, "heads": heads, "gas": ordered}, indent=2) + "\n")
        return
    want = snapshot["heads"][target]
    if head(artifact)["compiler"] != want["compiler"]:
        pytest.skip(f"the snapshot is {want['compiler']}'s, and here is {head(artifact)['compiler']}")
    assert head(artifact) == want, "measured in another way: run pytest --update-gas"
    old, new = snapshot["gas"][key], measured(artifact, examples / example)
    changes = [f"{what}: {old.get(what)} -> {gas} ({gas - old.get(what, 0):+d})" for what, gas in new.items()]
    grown = any(gas > old.get(what, 0) for what, gas in new.items())
    verdict = "gas has GROWN: mend it, or say why and run" if grown else "gas has fallen: well done, now run"
    assert new == old, f"{key}: {verdict} 'pytest --update-gas'\n" + "\n".join(changes)


def inference(example: str, target: str) -> int:
    figures: dict[str, int] = json.loads(SNAPSHOT.read_text())["gas"][f"{example} {target} int8"]
    return figures["classifyPacked mean"]


@pytest.mark.parametrize(("example", "limit"), [("mnist", 160_000), ("breast_cancer", 40_000)])
def test_promised_figures(example: str, limit: int) -> None:
    """The figures the project promises, whatever the snapshot says."""
    assert inference(example, "solidity") <= limit


@pytest.mark.parametrize(("example", "ratio"), [("mnist", 2.5), ("breast_cancer", 1.5), ("digits", 1.5)])
def test_vyper_is_close_behind(example: str, ratio: float) -> None:
    """The ratios the project promises."""
    assert inference(example, "vyper") <= ratio * inference(example, "solidity")
