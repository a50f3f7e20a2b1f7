"""prove_ranges: the interval of every integer, for all inputs of the declared range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ml2sc.ir.analysis import prove_intervals
from ml2sc.ir.graph import Graph

from .manager import Pass, register_pass


@register_pass
@dataclass(frozen=True)
class ProveRanges(Pass):
    """Prove the interval of every tensor from the actual weights.

    1. Sums are bounded by their terms' bounds with their signs (interval arithmetic; for a layer the L1 norm).
    2. An accumulator's type becomes the narrowest that holds its interval; lane widths follow from it.
    3. A value that can leave a 256-bit word is a RangeError that names the node and the bound.
    """

    name: ClassVar[str] = "prove_ranges"
    after: ClassVar[tuple[str, ...]] = ("quantize",)

    def run(self, graph: Graph) -> bool:
        return prove_intervals(graph)
