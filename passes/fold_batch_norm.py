"""Pass `fold_batch_norm`: no BatchNormalization is left.

With f = scale / sqrt(var + epsilon) and o = bias − mean·f, a BatchNormalization is x·f + o by channel (axis 1).

1. After a Gemm: f scales the columns of W and C, o is added to C.
2. Before a Gemm: f scales the rows of W, o·W is added to C.
3. The tensor between the two must have no other use. If the Gemm has a single row, operators that only reshape
   (Flatten) may lie between.
4. Likewise beside a Conv: after it f scales the output channels, before it the input channels; there o must be 0 where
   the convolution has padding, which is 0 whatever o is.
5. Anywhere else it becomes `Add(Mul(x, f), o)`.
6. Constants that other nodes use too are not overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ml2sc.errors import NonFiniteError
from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.types import Array, DType

from .convs import fold_maps
from .gemm import affine_of
from .manager import Pass, register_pass


@register_pass
@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Folds BatchNormalization into neighbouring layers, or into Mul and Add."""

    name: ClassVar[str] = "fold_batch_norm"
    after: ClassVar[tuple[str, ...]] = ("fold_constants", "matmul_add_to_gemm")

    def run(self, graph: Graph) -> bool:
        """Rewrite `graph` and return whether anything changed.

        Raises:
            NonFiniteError: a variance is negative, or a factor overflows.
        """
        changed = fold_maps(graph, {"BatchNormalization"})
        left = [node for node in graph if node.op_type == "BatchNormalization"]
        for node in left:
            _split(graph, node)
        if left:
            graph.prune()
        return changed or bool(left)


def _split(graph: Graph, node: Node) -> None:
    found = affine_of(graph, node)
    if found is None:
        raise NonFiniteError(
            "a BatchNormalization has a factor that is NaN or infinite",
            node=str(node),
            hint="its variances must not be negative, nor 0 where epsilon is 0",
        )
    x, affine = found
    output = graph.tensor(node.output)
    graph.remove(node)
    scaled = graph.add_tensor(Tensor(graph.fresh(f"{output.name}.scaled"), output.shape, DType.FLOAT)).name
    factor, offset = (
        _constant(graph, f"{node.name}.{kind}", a) for kind, a in (("factor", affine.factor), ("offset", affine.offset))
    )
    graph.add("Mul", (x, factor), (scaled,), name=node.name, origin=node.origin)
    attrs = {"slack": affine.slack} if affine.slack else {}
    graph.add("Add", (scaled, offset), (output.name,), attrs, name=f"{node.name}.shift", origin=node.origin)


def _constant(graph: Graph, name: str, array: Array) -> str:
    return graph.add_tensor(Tensor(graph.fresh(name), array.shape, DType.FLOAT, array)).name
