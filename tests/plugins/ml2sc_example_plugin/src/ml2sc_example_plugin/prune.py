"""Pass `prune`: small weights become 0.

1. A constant weight of a Gemm or MatMul becomes 0 if its magnitude is below `threshold` times the layer's largest.
2. Biases stay as they are, and so does a layer whose two operands are constant, or neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ml2sc.errors import UsageError
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.passes import Pass


@dataclass(frozen=True)
class Prune(Pass):
    """Magnitude pruning.

    Attributes:
        threshold: Share of a layer's largest weight, 0 to 1, below which a weight is dropped.
    """

    name: ClassVar[str] = "prune"
    changes_model: ClassVar[bool] = True
    threshold: float = 0.05

    def run(self, graph: Graph) -> bool:
        if not 0.0 <= self.threshold <= 1.0:
            raise UsageError(f"pass 'prune': threshold={self.threshold} is not between 0 and 1")
        changed = False
        for node in graph:
            weights = [graph.tensor(name) for name in node.inputs[:2] if graph.tensor(name).is_constant]
            if node.op_type not in {"Gemm", "MatMul"} or len(weights) != 1:
                continue
            (old,) = weights
            assert old.data is not None
            kept = np.abs(old.data) >= self.threshold * np.abs(old.data).max(initial=0.0)
            if kept.all():
                continue
            # a tensor of its own: others may use the old one, and its array is the model's
            new = graph.add_tensor(
                Tensor(graph.fresh(f"{old.name}.pruned"), old.shape, old.type, np.where(kept, old.data, 0.0))
            )
            graph.replace_node(node, inputs=tuple(new.name if name == old.name else name for name in node.inputs))
            changed = True
        if changed:
            graph.prune()
        return changed
