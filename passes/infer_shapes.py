"""Pass `infer_shapes`: find shape and type of every tensor again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ml2sc.ir import shapes
from ml2sc.ir.graph import Graph

from .manager import Pass, register_pass


@register_pass
@dataclass(frozen=True)
class InferShapes(Pass):
    """Recomputes what the importer found; for passes and plugins that add nodes without it."""

    name: ClassVar[str] = "infer_shapes"

    def run(self, graph: Graph) -> bool:
        return shapes.infer_shapes(graph)
