"""The main job on committed models: compile, deploy on an embedded EVM, check against onnxruntime, count the gas.

Run it with `make demo`. PyTorch trained the models (see examples/digits/train.py); none is needed here.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import ml2sc
from ml2sc.cli.check import main as check_command
from ml2sc.cli.compile import main as compile_command

HERE = Path(__file__).parent

ML2SC_INFERENCE = 731_391
"""Gas of one inference of the paper's 30-4-4-1 network in ML2SC's own contract, measured on the same kind of EVM."""

ML2SC_DEPLOYMENT = 6_390_000
"""Gas of deploying that contract and uploading its weights (13 transactions), measured likewise."""


def run(name: str, folder: Path) -> dict[str, Any]:
    """Compile and check one example as a user would, and return the report."""
    example, out = HERE / name, folder / name
    calibration, samples = example / "calibration.npz", example / "samples.npz"
    compile_arguments = [
        f"{example / name}.onnx",
        "--precision",
        "int8",
        "--calibrate",
        str(calibration),
        "-o",
        str(out),
    ]
    shown = " ".join(a.replace(f"{HERE.parent}/", "").replace(f"{folder}/", "out/") for a in compile_arguments)
    print(f"\n$ ml2sc-compile {shown}", flush=True)
    if status := compile_command(compile_arguments):
        sys.exit(status)
    check_arguments = [str(out), "--samples", str(samples)]
    shown = " ".join(a.replace(f"{HERE.parent}/", "").replace(f"{folder}/", "out/") for a in check_arguments)
    print(f"\n$ ml2sc-check {shown}", flush=True)
    if status := check_command(check_arguments):
        sys.exit(status)
    return ml2sc.check(ml2sc.load_folder(out), samples, limit=100).to_json()


def main() -> None:
    """Run the demonstration."""
    with tempfile.TemporaryDirectory() as temporary:
        print("A digits classifier (64-32-10, trained in PyTorch) becomes a Solidity contract:")
        run("digits", Path(temporary))
        print("\nThe network of the ML2SC paper (30-4-4-1):")
        report = run("breast_cancer", Path(temporary))
    gas = report["gas"]
    inference, deployment = gas["inference"]["mean"], gas["deploy"] + gas["weights"]
    print("\nGas for the paper's network      ML2SC's contract      this one   ratio")
    for what, theirs, ours in (
        ("one inference", ML2SC_INFERENCE, inference),
        ("deployment with weights", ML2SC_DEPLOYMENT, deployment),
    ):
        print(f"  {what:<28} {theirs:18,} {ours:13,.0f} {theirs / ours:6.1f}x")
    print("Every answer above was equal, bit for bit, in two interpreters and in the contract on the EVM.")


if __name__ == "__main__":
    main()
