"""calibrate: the range each tensor really takes, over samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.types import Array, DType

from .manager import Pass, register_pass


@register_pass
@dataclass(frozen=True)
class Calibrate(Pass):
    """Record the least and greatest real value of every float tensor over the samples.

    Attributes:
        samples: For each sample the graph inputs' arrays, in their shapes.
    """

    name: ClassVar[str] = "calibrate"
    after: ClassVar[tuple[str, ...]] = ("infer_shapes", "fold_constants", "fuse_gemm_relu")
    samples: Iterable[Mapping[str, Array]] = field(default=(), repr=False)

    def run(self, graph: Graph) -> bool:
        observed: dict[str, tuple[float, float]] = {}
        for sample in self.samples:
            for name, value in evaluate_float(graph, dict(sample)).items():
                tensor = graph.tensor(name)
                if tensor.type is DType.FLOAT and not tensor.is_constant and value.size:
                    lo, hi = float(value.min()), float(value.max())
                    old = observed.get(name, (lo, hi))
                    observed[name] = min(lo, old[0]), max(hi, old[1])
        graph.observed = observed
        return bool(observed)
