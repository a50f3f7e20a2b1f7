"""How far each tensor of a quantised graph can be from the float tensor it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ml2sc.ir.graph import Graph, Node, Tensor
from ml2sc.ir.ops.base import Bounds, ErrorContext, op_of
from ml2sc.ir.ops.linear import LinearOp
from ml2sc.ir.types import Array, DType


class ErrorAnalysis:
    """Bounds of the real value and of the error of every tensor, by element, kept while the graph is built.

    They hold for every input of the declared range; or for those of them on which no Requantize clamps: then what a
    Requantize makes is in its format's range, so that the reals behind it are known better, too.

    Args:
        target: The quantised graph under construction.
        bounds: Bounds of the float graph's tensors.
        saturates: False: for the inputs on which nothing is clamped.

    Attributes:
        real: Bounds of the exact real value, by tensor of the target.
        error: Bound on the error, by tensor of the target.
    """

    def __init__(self, target: Graph, bounds: Mapping[str, Bounds], *, saturates: bool) -> None:
        self.target = target
        self.bounds = bounds
        self.saturates = saturates
        self.real: dict[str, Bounds] = {}
        self.error: dict[str, Array] = {}
        self._rounded: dict[str, Array] = {}  # by tensor rounded early: its distance from the model's rounded values

    def add_input(self, name: str, error: Array, rounded: Array | None) -> None:
        """Note an input.

        Args:
            name: The input.
            error: Bound on its error.
            rounded: Where the model itself rounds it so: bound on its distance from the model's rounded value.
        """
        self.real[name], self.error[name] = self.bounds[name], error
        if rounded is not None:
            self._rounded[name] = rounded

    def add(self, node: Node, stands_for: Sequence[str | None]) -> None:
        """Bound the outputs of a new node.

        Args:
            node: A node of the target.
            stands_for: The float tensor that each output stands for, where there is one.
        """
        inputs = self.target.input_tensors(node)
        op = op_of(node)
        reals = [self._real_of(t) if t else None for t in inputs]
        errors = [None if t is None else t.data if t.type is DType.INT64 else self._error_of(t) for t in inputs]
        outputs = [self.target.tensor(o) for o in node.outputs if o]
        results = op.error(node, inputs, ErrorContext(errors, reals, outputs, self.saturates))
        for slot, (tensor, error) in enumerate(zip(outputs, results, strict=True)):
            self.error[tensor.name] = error
            source = stands_for[slot] if slot < len(stands_for) else None
            if source is not None and (self.saturates or not (op.moves or isinstance(op, LinearOp))):
                self.real[tensor.name] = self.bounds[source]
            elif op.moves or node.op_type == "Requantize":
                self.real[tensor.name] = op.interval(node, reals)[slot]
            else:
                self.real[tensor.name] = self._linear_real(node)
            if node.op_type == "Requantize" and not self.saturates:
                self.real[tensor.name] = _within(self.real[tensor.name], tensor, error)

    def rounded_early(self, x: Tensor, name: str) -> None:
        """Say that x stands for a float tensor, but is rounded already as the FakeQuantize after that one says."""
        lo, hi = span_of(self.bounds[name])
        ends = x.format.qmin - x.format.zero_point, x.format.qmax - x.format.zero_point
        cut = max(lo * -1 + float(ends[0] * x.format.scale), hi - float(ends[1] * x.format.scale), 0.0)
        self._rounded[x.name] = self.error[x.name]
        self.error[x.name] = self.error[x.name] + (float(x.format.scale) / 2 + cut)

    def read_otherwise(self, x: Tensor, y: Tensor, name: str, factor: float, missed: float) -> None:
        """Say that y is x in another format: x times a factor and moved, which the format misses by so much."""
        self.error[y.name] = self.error[x.name] * factor * (1 + 2.0**-48) + missed
        self.real[y.name] = self.bounds[name]

    def keep(self, x: Tensor, y: Tensor) -> None:
        """Say that y is x, rounded already, under another name."""
        self.error[y.name] = np.broadcast_to(self._rounding_of(x.name), y.shape)

    def greatest(self) -> dict[str, float]:
        """Return the greatest error of each tensor's elements."""
        return {name: float(error.max(initial=0.0)) for name, error in self.error.items()}

    def _rounding_of(self, name: str) -> Array:
        """Bound how far a tensor rounded early can be from the model's rounded values."""
        maker = self.target.producer(name)
        if name in self._rounded or maker is None:
            return self._rounded.get(name, self.error[name])
        if not (op_of(maker).moves or maker.op_type in {"Relu", "Clip"}):
            return self.error[name]
        bounds = [
            self._rounding_of(t.name) for t in self.target.input_tensors(maker) if t is not None and t.data is None
        ]
        if maker.op_type in {"Relu", "Clip", "Identity"}:
            return bounds[0]
        return np.asarray(max(float(bound.max(initial=0.0)) for bound in bounds))

    def _linear_real(self, node: Node) -> Bounds:
        x, w, *c = (self.target.tensor(name) for name in node.inputs)
        op = op_of(node)
        assert w.real is not None and isinstance(op, LinearOp)
        shape = self.target.tensor(node.output).shape
        return op.real_interval(node, self.real[x.name], w.real, c[0].real if c else None, shape)

    def _real_of(self, tensor: Tensor) -> Bounds:
        if tensor.type is DType.INT64:
            assert tensor.data is not None
            return Bounds(tensor.data, tensor.data)
        if tensor.data is not None:
            assert tensor.real is not None
            return Bounds(tensor.real, tensor.real)
        return self.real[tensor.name]

    def _error_of(self, tensor: Tensor) -> Array:
        if tensor.data is None:
            return self.error[tensor.name]
        assert tensor.real is not None
        error: Array = np.abs(tensor.format.dequantize(tensor.data) - tensor.real)
        return error


def span_of(bounds: Bounds) -> tuple[float, float]:
    """Return the least and the greatest real value of a tensor, 0 among them."""
    return float(bounds.lo.min(initial=0.0)), float(bounds.hi.max(initial=0.0))


def _within(real: Bounds, tensor: Tensor, error: Array) -> Bounds:
    """Return what is left of a tensor's reals where its integers were not clamped."""
    format_ = tensor.format
    bottom, top = (float((q - format_.zero_point) * format_.scale) for q in (format_.qmin, format_.qmax))
    # a real that rounds to an end of the range, its float64 computed a little off, is not left out
    slack = error * (1 + 2.0**-40)
    return Bounds(np.clip(real.lo, bottom - slack, top + slack), np.clip(real.hi, bottom - slack, top + slack))
