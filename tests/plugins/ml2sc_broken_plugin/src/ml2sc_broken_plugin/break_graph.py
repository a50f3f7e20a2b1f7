"""A pass that leaves a graph that means nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ml2sc.ir.graph import Graph
from ml2sc.passes import Pass


@dataclass(frozen=True)
class BreakGraph(Pass):
    """Gives the first operator's output another shape."""

    name: ClassVar[str] = "break_graph"

    def run(self, graph: Graph) -> bool:
        graph.tensor(next(iter(graph)).output).shape = (7, 7, 7)
        return True
