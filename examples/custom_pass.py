"""A pass of your own, from the library: what magnitude pruning does to a contract's gas and to its accuracy.

    python examples/custom_pass.py [THRESHOLD ...]

The pass sets small weights to zero before the model is quantised. docs/add-a-pass.md shows how to make it a package,
for `ml2sc-compile --passes`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

import ml2sc
from ml2sc.backends import BACKENDS
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.passes import LEVELS, Pass

DIGITS = Path(__file__).parent / "digits"
THRESHOLDS = (0.0, 0.02, 0.05, 0.1)
TARGETS = tuple(name for name in ("solidity", "vyper") if name in BACKENDS)


@dataclass(frozen=True)
class MagnitudePruning(Pass):
    """Sets to zero what is small in the weights of linear layers.

    Attributes:
        threshold: Largest magnitude that is dropped.
    """

    name: ClassVar[str] = "magnitude_pruning"
    changes_model: ClassVar[bool] = True  # on purpose: the error bound is about the pruned model
    threshold: float = 0.0

    def run(self, graph: Graph) -> bool:
        """Prune every layer; return whether a weight was dropped."""
        dropped = 0
        for node in graph:
            if node.op_type not in {"Gemm", "MatMul"}:
                continue
            weights = graph.tensor(node.inputs[1])
            if weights.data is None:
                continue
            kept = np.where(np.abs(weights.data) > self.threshold, weights.data, 0.0)
            dropped += int(np.count_nonzero(weights.data) - np.count_nonzero(kept))
            # arrays are shared with the model as it was read: the layer gets a tensor of its own
            pruned = graph.add_tensor(Tensor(graph.fresh(f"{weights.name}.pruned"), kept.shape, weights.type, kept))
            graph.replace_node(node, inputs=(node.inputs[0], pruned.name, *node.inputs[2:]))
        graph.prune()
        return dropped > 0


def zeros(artifact: ml2sc.Artifact) -> float:
    """Return the share of zeros among the weights of a compiled model's linear layers."""
    assert artifact.graph is not None
    matrices = [t.data for t in artifact.graph.tensors.values() if t.data is not None and t.data.ndim == 2]
    return sum(int((m == 0).sum()) for m in matrices) / sum(m.size for m in matrices)


def main(thresholds: tuple[float, ...] = THRESHOLDS) -> None:
    """Compile and check the digits model for every threshold and target, and print a table."""
    toolchain = ml2sc.Toolchain()
    print("threshold  zeros    target    gas/inference  deployment  accuracy  as unpruned")
    for threshold in thresholds:
        for target in TARGETS:
            artifact = ml2sc.compile(
                DIGITS / "digits.onnx",
                target,
                precision="int8",
                calibration=DIGITS / "calibration.npz",
                passes=(MagnitudePruning(threshold), *LEVELS[2]),
            )
            report = ml2sc.check(ml2sc.build(artifact, toolchain), DIGITS / "samples.npz")
            if not report.ok:
                sys.exit(report.failure)
            deployment = (report.gas_deploy or 0) + (report.gas_weights or 0)
            print(
                f"{threshold:9g}  {zeros(artifact):6.1%}  {target:<8}  {report.gas.mean:13,.0f}  {deployment:10,}"
                f"  {report.accuracy or 0:8.2%}  {report.decision_agreement or 0:11.2%}"
            )
    print("Every answer was bit-exact, and within the error bound stated for the pruned model.")


if __name__ == "__main__":
    main(tuple(map(float, sys.argv[1:])) or THRESHOLDS)
