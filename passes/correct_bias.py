"""Pass `correct_bias`: what roundings add to a layer's output on average is taken off its bias.

1. The mean of a layer's sum, over the samples, is W·mean(x) + C in the model and Ŵ·mean(x̂) + Ĉ in integers. Their
   difference, by output, becomes the layer's attribute `correction`; quantising adds it to C before rounding.
2. Layers are corrected in the order in which they are computed, each knowing the corrections before it.
3. The model stays what it is: the stated error bound counts a correction as an error of the bias.
4. Layers whose bias differs from row to row are left alone, and all of them where there are fewer than 16 samples: the
   mean of so few is theirs, not that of the inputs to come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ml2sc.errors import UsageError
from ml2sc.ir.analysis import real_bounds
from ml2sc.ir.batch import Batch
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.ops.base import op_of
from ml2sc.ir.ops.integers import sum_of
from ml2sc.ir.ops.linear import LinearOp
from ml2sc.ir.types import Array

from .formats import layers_of
from .manager import Pass, register_pass
from .precision import parse_precision
from .quantize import quantize
from .readings import steady
from .samples import real_values

_FEWEST = 16


@register_pass
@dataclass(frozen=True)
class CorrectBias(Pass):
    """Corrects biases for the mean error of weights and activations.

    Attributes:
        precision: The precision the graph will be quantised to.
        samples: For each sample the graph inputs' arrays, in their shapes.
        means: By what a layer reads, its mean over the samples in the model; filled by `run` if it is empty.
        corrections: By layer what is added to its bias; filled by `run` if it is empty, else taken as it is.
    """

    name: ClassVar[str] = "correct_bias"
    after: ClassVar[tuple[str, ...]] = ("calibrate", "clip_ranges", "equalize")
    precision: str = "int8"
    samples: Sequence[Mapping[str, Array]] = field(default=(), repr=False)
    means: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)
    corrections: dict[str, tuple[float, ...]] = field(default_factory=dict, repr=False, compare=False)

    def run(self, graph: Graph) -> bool:
        precision = parse_precision(self.precision)
        if precision is None:
            raise UsageError("the correct_bias pass needs a precision, not 'auto'")
        if len(self.samples) < _FEWEST:
            return False
        if self.corrections:
            for name, known in self.corrections.items():
                _correct(graph, name, known)
            return True
        bounds, batch = real_bounds(graph), Batch(self.samples)
        if not self.means:
            reals = [values for reals in real_values(graph, self.samples) for values in reals]
            read = {node.inputs[0] for node in layers_of(graph)}
            self.means.update((name, np.mean([real[name] for real in reals], axis=0)) for name in read)
        for name in [node.name for node in layers_of(graph)]:
            quantized = quantize(graph, precision, bounds, tentative=True)
            correction = _correction(graph.node(name), quantized, batch, self.means)
            if correction is not None and any(correction):
                self.corrections[name] = correction
                _correct(graph, name, correction)
        return bool(self.corrections)


def _correct(graph: Graph, name: str, correction: tuple[float, ...]) -> None:
    node = graph.node(name)
    graph.replace_node(node, attrs={**node.attrs, "correction": correction})


def _correction(node: Node, quantized: Graph, batch: Batch, means: Mapping[str, Array]) -> tuple[float, ...] | None:
    """Return the mean of the model's sums less that of the integers', by output; None where it is not defined."""
    layer = quantized.node(node.name) if quantized.has_node(node.name) else None
    op = None if layer is None else op_of(layer)
    if layer is None or not isinstance(op, LinearOp):
        return None
    x, w = (quantized.tensor(name) for name in layer.inputs[:2])
    exact = means[node.inputs[0]]
    assert w.data is not None and w.real is not None
    if exact.shape != x.shape:
        return None
    values = batch.values(quantized, [x.name])[x.name]
    zero, scale = x.format.zero_point, float(x.format.scale) / len(values)
    rounded = sum_of(values, -zero).astype(object).sum(axis=0).astype(np.float64) * scale
    difference = op.product(layer, exact, w.real) - op.product(layer, rounded, op.weights(layer, w))
    if len(layer.inputs) > 2:
        c = quantized.tensor(layer.inputs[2])
        assert c.data is not None and c.real is not None
        if c.data.ndim > 1:
            return None
        # what an earlier correction has put there is part of the integers
        difference = difference + op.addend(c.real - op.bias(layer, c), difference.ndim)
    by_output = np.moveaxis(difference, op.channel_axis, -1)
    return tuple(steady(v) for v in by_output.reshape(-1, by_output.shape[-1]).mean(axis=0).tolist())
