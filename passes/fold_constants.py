"""Pass `fold_constants`: what does not depend on the model's input becomes a constant.

1. A node whose outputs are all known at compile time is removed; its outputs stay as constants.
2. Nodes and tensors that no output needs are removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ml2sc.ir import shapes
from ml2sc.ir.graph import Graph

from .manager import Pass, register_pass


@register_pass
@dataclass(frozen=True)
class FoldConstants(Pass):
    """Removes nodes with constant outputs."""

    name: ClassVar[str] = "fold_constants"
    after: ClassVar[tuple[str, ...]] = ("infer_shapes",)

    def run(self, graph: Graph) -> bool:
        return shapes.infer_shapes(graph, fold=True)
