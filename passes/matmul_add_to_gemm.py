"""Pass `matmul_add_to_gemm`: a product by constant weights and the sum that follows become one Gemm.

1. `MatMul(x, W)` of a matrix x, or several, and a constant matrix W becomes `Gemm(x, W)`. A MatMul of a vector stays.
2. `Add(Gemm(x, W, C), c)`, the operands in either order, becomes `Gemm(x, W, C + c)` for constant c; likewise
   `Sub(Gemm(x, W, C), c)` and `Sub(c, Gemm(x, W, C))`. The Gemm's output must have no other use, C must be constant,
   and c must not widen the result.
3. Constants that other nodes use too are not overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ml2sc.ir.graph import Graph, Node

from .gemm import fold_affine
from .manager import Pass, register_pass


@register_pass
@dataclass(frozen=True)
class MatmulAddToGemm(Pass):
    """Merges MatMul and Add into Gemm."""

    name: ClassVar[str] = "matmul_add_to_gemm"
    after: ClassVar[tuple[str, ...]] = ("fold_constants",)

    def run(self, graph: Graph) -> bool:
        products = [node for node in graph if _is_layer(graph, node)]
        for node in products:
            graph.replace_node(node, op_type="Gemm")
        return fold_affine(graph, {"Add", "Sub"}, backwards=False) or bool(products)


def _is_layer(graph: Graph, node: Node) -> bool:
    if node.op_type != "MatMul":
        return False
    x, weights = (graph.tensor(name) for name in node.inputs)
    return weights.is_constant and not x.is_constant and len(weights.shape) == 2 <= len(x.shape)
