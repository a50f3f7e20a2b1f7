"""Boosted trees of the sizes that GL1F, the other tree system on the EVM, has published figures of: an inference's gas.

GL1F interprets complete trees by one contract for all models; here each model is a contract. What is compared is gas in
the call: of a transaction without its 21,000 and its calldata. Alone: python -m benchmarks.trees
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

import ml2sc
from ml2sc.errors import CheckError

from .jobs import TARGETS
from .measure import calldata_gas
from .text import gas, table

FEATURES, EDGES = 30, 32
"""Features of the made-up models, and thresholds of each that trees choose among: as many bins as boosting makes."""
SAMPLES = 100
TIMES = 30
"""How many times less gas in the call is asked for."""
OUTSIDE = 1_146_414 - 1_105_184
"""Gas of GL1F's transaction outside of the call, measured for 50 trees of depth 6; for the others it is taken to be the
same."""


@dataclass(frozen=True)
class Shape:
    """Complete trees.

    Attributes:
        trees: How many.
        depth: Of each.
        published: Gas of a transaction that asks GL1F for them.
    """

    trees: int
    depth: int
    published: int

    def __str__(self) -> str:
        """Return it as it is called in the table."""
        return f"{self.trees} × depth {self.depth}"

    @property
    def theirs(self) -> int:
        """GL1F's gas in the call."""
        return self.published - OUTSIDE


SHAPES = (
    Shape(20, 3, 286_247),
    Shape(50, 4, 810_777),
    Shape(100, 4, 1_576_945),
    Shape(200, 4, 3_121_210),
    Shape(50, 6, 1_146_414),
)


@dataclass(frozen=True)
class Result:
    """What a contract costs.

    Attributes:
        shape: What it computes.
        target: Name of the backend.
        kernel: How.
        inference: Gas of a transaction that asks for a decision, mean over the samples.
        calldata: What of that its calldata takes.
        deploy: Gas of the contract, and of what it reads.
    """

    shape: Shape
    target: str
    kernel: str
    inference: float
    calldata: float
    deploy: int

    @property
    def called(self) -> float:
        """Gas in the call."""
        return self.inference - 21_000 - self.calldata

    @property
    def times(self) -> float:
        """How many times more GL1F takes in the call."""
        return self.shape.theirs / self.called


def model(shape: Shape) -> onnx.ModelProto:
    """Return a model of complete trees with made-up thresholds and leaves: a sum, of which the sign is the decision."""
    random = np.random.default_rng(shape.trees * 10 + shape.depth)
    known = np.sort(random.normal(size=(FEATURES, EDGES)), axis=1).astype(np.float32)
    inner, count = (1 << shape.depth) - 1, (2 << shape.depth) - 1
    trees, nodes = np.repeat(np.arange(shape.trees), count), np.tile(np.arange(count), shape.trees)
    forks = nodes < inner
    features = np.where(forks, random.integers(FEATURES, size=len(nodes)), 0)
    values = np.where(forks, known[features, random.integers(EDGES, size=len(nodes))], 0)
    leaves = np.flatnonzero(~forks)
    columns: dict[str, Any] = {
        "nodes_treeids": trees.tolist(),
        "nodes_nodeids": nodes.tolist(),
        "nodes_featureids": features.tolist(),
        "nodes_modes": ["BRANCH_LEQ" if fork else "LEAF" for fork in forks],
        "nodes_values": values.tolist(),
        "nodes_truenodeids": np.where(forks, 2 * nodes + 1, 0).tolist(),
        "nodes_falsenodeids": np.where(forks, 2 * nodes + 2, 0).tolist(),
        "class_treeids": trees[leaves].tolist(),
        "class_nodeids": nodes[leaves].tolist(),
        "class_ids": [0] * len(leaves),
        "class_weights": random.normal(size=len(leaves)).astype(np.float32).tolist(),
        "classlabels_int64s": [0, 1],
    }
    node = helper.make_node("TreeEnsembleClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", **columns)
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, FEATURES])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [1]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2]),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def result(shape: Shape, target: str) -> Result:
    """Compile, deploy and ask a model.

    Raises:
        CheckError: the contract is not bit-exact.
        ToolchainError: a compiler or chain is missing or failed.
    """
    artifact = ml2sc.build(ml2sc.compile(model(shape), target=target, name="Trees"), ml2sc.Toolchain())
    samples = {"x": np.random.default_rng(1).normal(size=(SAMPLES, 1, FEATURES)).astype(np.float32)}
    report = ml2sc.check(artifact, samples)
    if not report.ok:
        raise CheckError(f"{shape}, {target}: {report.failure}")
    assert report.gas_deploy is not None
    assert report.gas_weights is not None
    kernel = next(layer["kernel"] for layer in artifact.manifest["plan"] if "kernel" in layer)
    calldata = calldata_gas(artifact, samples["x"])
    return Result(shape, target, kernel, report.gas.mean, calldata, report.gas_deploy + report.gas_weights)


def unmet(results: Sequence[Result]) -> list[str]:
    """Return the demands that are not met, in words."""
    return [f"{r.shape}, {r.target}: {r.times:.1f} times" for r in results if r.times < TIMES]


def report(results: Sequence[Result] | None = None) -> str:
    """Return the page.

    Args:
        results: What was measured; None: it is measured now.
    """
    results = results or [result(shape, target) for shape in SHAPES for target in TARGETS]
    head = ["trees", "GL1F, transaction", "in the call", "target", "kernel", "transaction", "in the call", "times less"]
    rows = [
        [
            str(r.shape),
            gas(r.shape.published),
            gas(r.shape.theirs),
            r.target,
            r.kernel,
            gas(r.inference),
            gas(r.called),
            f"{r.times:.0f}",
            gas(r.deploy),
        ]
        for r in results
    ]
    verdict = "".join(f"\n- Not met: {line}." for line in unmet(results)) or "\n- It is met everywhere."
    return f"""# Trees, beside GL1F

Written by `make bench`. Complete trees on {FEATURES} features, made up: each comparison is with one of {EDGES}
thresholds of its feature. GL1F's gas of a transaction is what its authors publish; in the call it takes {OUTSIDE:,}
less (measured for 50 × depth 6, where the call alone was 1,105,184). Ours are means over {SAMPLES} inputs, every answer
bit-exact; to deploy, a contract for each model, is what GL1F's interpreter saves.

Asked for is {TIMES} times less in the call.
{verdict}

{table([*head, "to deploy"], rows)}
"""


if __name__ == "__main__":
    sys.stdout.write(report())
