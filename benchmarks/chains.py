"""How a chain's rules change a contract: MNIST, its weights in data contracts, planned for each profile.

    python -m benchmarks.chains

Nothing is compiled to bytecode: the figures are forecasts.
"""

from __future__ import annotations

from pathlib import Path

import ml2sc
from ml2sc.sheet import table

EXAMPLE = Path(__file__).parent.parent / "examples" / "mnist"
PROFILES = (None, "base", "monad", "glamsterdam", "megaeth")


def rows() -> list[list[object]]:
    """Return for each profile: data contracts, their bytes, gas of an inference, at most, and called the first time."""
    found: list[list[object]] = []
    for name in PROFILES:
        artifact = ml2sc.compile(
            EXAMPLE / "mnist.onnx",
            calibration=EXAMPLE / "calibration.npz",
            precision="int8",
            weights="data",
            chain_profile=name,
        )
        gas = artifact.manifest["gas"]
        size = sum(map(len, artifact.data))
        found.append([name or "none", len(artifact.data), size, gas["predicted"], gas["worst"], gas["called"]["cold"]])
    return found


if __name__ == "__main__":
    header = ["profile", "data contracts", "bytes", "an inference", "at most", "called, cold"]
    print("\n".join(table(header, rows())))
