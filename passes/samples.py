"""What the float model computes for the samples that formats are chosen on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ml2sc.errors import DataError
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.types import Array


def real_values(graph: Graph, sample: Mapping[str, Array]) -> dict[str, Array]:
    """Run a float graph on a sample, which must be one that fixed-point numbers can follow.

    Args:
        graph: A graph that is not quantised.
        sample: Real values of every input, each in its tensor's shape.

    Returns:
        Every tensor of the graph by name, constants included.

    Raises:
        DataError: the model itself breaks down on the sample: a node gives NaN or infinity.
    """
    with np.errstate(all="ignore"):  # said below, with the node's name
        values = evaluate_float(graph, dict(sample))
    for node in graph:
        for name in filter(None, node.outputs):
            wrong = ~np.isfinite(values[name])
            if wrong.any():
                given = "; ".join(f"{i} = {np.array2string(np.ravel(sample[i]), threshold=12)}" for i in graph.inputs)
                raise DataError(
                    f"the model computes {values[name][wrong][0]} for a sample: {given:.300}",
                    node=str(node),
                    tensor=f"%{name}: {wrong.size:,} elements, {np.count_nonzero(wrong):,} of them not finite",
                    hint="leave such samples out, or keep what the operator reads in its domain (Clip before it)",
                )
    return values
