"""Pass `fuse_gemm_relu`: a Gemm and the Relu after it become one operator.

1. `Relu(Gemm(x, W, C))` becomes `FusedGemm(x, W, C) {activation="Relu"}` with the Gemm's attributes.
2. The Gemm's output must have no other use, and must not be an output of the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ml2sc.ir.graph import Graph

from .manager import Pass, register_pass


@register_pass
@dataclass(frozen=True)
class FuseGemmRelu(Pass):
    """Fuses Gemm and Relu."""

    name: ClassVar[str] = "fuse_gemm_relu"
    after: ClassVar[tuple[str, ...]] = ("matmul_add_to_gemm", "fold_batch_norm", "fold_scaling")

    def run(self, graph: Graph) -> bool:
        changed = False
        for gemm in [node for node in graph if node.op_type == "Gemm"]:
            relu = graph.only_use(gemm.output)
            if relu is None or relu.op_type != "Relu":
                continue
            graph.remove(relu)
            graph.replace_node(
                graph.node(gemm.name),
                op_type="FusedGemm",
                outputs=relu.outputs,
                attrs={**gemm.attrs, "activation": "Relu"},
                origin=(*gemm.origin, *relu.origin),
            )
            changed = True
        if changed:
            graph.prune()
        return changed
