"""Pass `fold_scaling`: constant factors and offsets beside a layer go into its weights.

1. Mul, Div, Add, Sub, Neg by constants after a Gemm: `(x·W + C)·f + o` becomes `x·(W·diag(f)) + (C·f + o)`.
2. The same before a Gemm: `(x·f + o)·W + C` becomes `x·(diag(f)·W) + (o·W + C)`.
3. The tensor between the two must have no other use, and f must be the same for all rows. If the Gemm has a single row,
   operators that only reshape may lie between.
4. Beside a Conv the same, where f and o do not differ within a channel. Where there is padding, an o before it stays:
   x·f + o becomes (x + o/f)·f, of which f goes into the weights.
5. Whole chains are folded. A division by 0 or a product that is not finite is left as it is.
6. Constants that other nodes use too are not overwritten.
7. After a layer whose weights came quantised: f, if it is positive, goes into its scales, o into its bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ml2sc.ir.graph import Graph

from .convs import fold_maps
from .manager import Pass, register_pass


@register_pass
@dataclass(frozen=True)
class FoldScaling(Pass):
    """Folds constant scaling and shifting into neighbouring layers."""

    name: ClassVar[str] = "fold_scaling"
    after: ClassVar[tuple[str, ...]] = ("fold_constants", "matmul_add_to_gemm", "fold_batch_norm")

    def run(self, graph: Graph) -> bool:
        return fold_maps(graph, {"Add", "Sub", "Mul", "Div", "Neg"})
