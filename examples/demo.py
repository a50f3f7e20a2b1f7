"""The main job on committed models: compile, deploy on an embedded EVM, check against onnxruntime, count the gas.

Run it with `make demo`. PyTorch trained the models (see examples/digits/train.py); none is needed here.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
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

BY_HAND = (10_370_000, None)
"""Gas of one inference of the convolutional network in OnChainHRDigitPredict, written by hand, as it is published; of
its deployment nothing is."""

TARGETS = ("solidity", "vyper")


def shown(arguments: list[str], folder: Path) -> str:
    """Return a command's arguments as a user would type them at the top of the repository."""
    return " ".join(a.replace(f"{HERE.parent}/", "").replace(f"{folder}/", "out/") for a in arguments)


def run(name: str, target: str, folder: Path, precision: str = "int8") -> dict[str, Any]:
    """Compile and check one example as a user would, and return the report."""
    example, out, samples = HERE / name, folder / target / name, HERE / name / "samples.npz"
    options = ["--target", target, "--precision", precision, "--calibrate", str(example / "calibration.npz")]
    arguments = [str(example / f"{name}.onnx"), *options, "-o", str(out)]
    print(f"\n$ ml2sc-compile {shown(arguments, folder)}", flush=True)
    if status := compile_command(arguments):
        sys.exit(status)
    arguments = [str(out), "--samples", str(samples)]
    print(f"\n$ ml2sc-check {shown(arguments, folder)}", flush=True)
    if status := check_command(arguments):
        sys.exit(status)
    return ml2sc.check(ml2sc.load_folder(out), samples, limit=100).to_json()


def compare(
    title: str, reports: dict[str, dict[str, Any]], whose: str = "", theirs: Sequence[int | None] = (None, None)
) -> None:
    """Print the gas of the targets side by side, and of another's contract where it is known."""
    columns = [f"{target:>12}" for target in reports] + ([f"{whose:>12}"] if whose else [])
    print(f"\n{title:<40}{''.join(columns)}")
    for row, (what, gas_of) in enumerate(
        (
            ("one inference", lambda gas: gas["inference"]["mean"]),
            ("deployment with weights", lambda gas: gas["deploy"] + gas["weights"]),
        )
    ):
        ours = [gas_of(report["gas"]) for report in reports.values()]
        other = theirs[row]
        figures = ours if other is None else [*ours, other]
        ratio = "" if other is None else f"  {other / ours[0]:.1f} times ours"
        print(f"  {what:<38}{''.join(f'{f:12,.0f}' for f in figures)}{ratio}")


def main() -> None:
    """Run the demonstration."""
    with tempfile.TemporaryDirectory() as temporary:
        print("A digits classifier (64-32-10, trained in PyTorch) becomes a Solidity and a Vyper contract:")
        digits = {target: run("digits", target, Path(temporary)) for target in TARGETS}
        print("\nThe network of the ML2SC paper (30-4-4-1):")
        paper = {target: run("breast_cancer", target, Path(temporary)) for target in TARGETS}
        print("\nA convolutional network on MNIST's images (55,860 multiply-accumulates):")
        images = {"solidity": run("mnist_cnn", "solidity", Path(temporary), "w5a8/w6a6/w8a8")}
    compare("Gas, digits 64-32-10, 100 samples", digits)
    compare("Gas, the paper's 30-4-4-1, 100 samples", paper, "ML2SC", (ML2SC_INFERENCE, ML2SC_DEPLOYMENT))
    compare("Gas, convolutions on MNIST, 100 samples", images, "by hand", BY_HAND)
    print("\nEvery answer above was equal, bit for bit, in two interpreters and in the contracts on the EVM.")


if __name__ == "__main__":
    main()
