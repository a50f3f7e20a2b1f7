"""Tree ensembles, and the decision that one score makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ml2sc.errors import UnsupportedModelError

from ..graph import Node, Tensor
from ..thermometer import TREES, as_float32
from ..trees import Ensemble, Leaf
from ..types import Array, DType, integer_array, round_half_up
from .base import Arrays, Bounds, ErrorContext, Inputs, OpDef, Signature, attr_float, attr_int, register_op
from .operands import bounds_at, tensor_at, value_at
from .quantizer import Quantizer

EXCEEDS = "Exceeds"
"""The operator that decides by one score."""

_MOST_INPUTS = 64
_GRID_BITS = 20
"""Leaves that are multiples of one number, so many bits of it at most, are kept as they are: a forest's votes."""


@register_op
class TreeEnsemble(OpDef):
    """What the leaves say that the trees lead to: added up (or the least, or the greatest of it), and a base value.

    Its attributes are an `ml2sc.ir.trees.Ensemble`. In a quantised graph its inputs are ranks.
    """

    op_type = TREES
    max_inputs = _MOST_INPUTS
    onnx = False

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        ensemble = Ensemble.of(node)
        found = sum(tensor.size for tensor in inputs if tensor is not None)
        if found != ensemble.features:
            raise UnsupportedModelError(f"trees for {ensemble.features} features are given {found}", node=str(node))
        return [Signature((1, ensemble.targets), DType.FLOAT)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        ensemble = Ensemble.of(node)
        x = np.concatenate(
            [np.asarray(value_at(inputs, slot), dtype=np.float64).ravel() for slot in range(len(inputs))]
        )
        x = x if ensemble.double else as_float32(x)
        return [ensemble.evaluate(x, np.isnan(x)).astype(np.float64).reshape(1, -1)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        lows, highs = zip(*Ensemble.of(node).bounds(), strict=True)
        # a sum in another order may be off by a few roundings
        slack = np.array([2.0**-40 * max(abs(lo), abs(hi)) for lo, hi in zip(lows, highs, strict=True)])
        return [Bounds((np.array(lows) - slack).reshape(1, -1), (np.array(highs) + slack).reshape(1, -1))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        ensemble = Ensemble.of(node)
        ladders = [q.ladder(name) for name in node.inputs]
        if any(ladder is None for ladder in ladders):
            raise UnsupportedModelError(
                "trees are supported whose features are the model's inputs, which nothing but trees reads",
                node=str(node),
                hint="leave scaling out (trees need none), or give the trees an input of their own",
            )
        edges = [own for ladder in ladders if ladder is not None for own in ladder.edges]
        ranks = [{edge: rank for rank, edge in enumerate(own)} for own in edges]
        scale = q.leaf_scale(_spread(ensemble), _grid(ensemble), node.output)
        rounded = ensemble.with_values(
            lambda value: round_half_up(Fraction(value) / scale),
            [round_half_up(Fraction(value) / scale) for value in ensemble.base],
        )
        forks = [fork for fork in ensemble.nodes if not isinstance(fork, Leaf)]
        attrs = rounded.attributes() | {
            "ranks": tuple(ranks[fork.feature][edge] for fork in forks for edge in fork.edges),
            "real_base": tuple(ensemble.base),
            "real_values": tuple(v for leaf in ensemble.nodes if isinstance(leaf, Leaf) for v in leaf.values.values()),
            "tops": tuple(len(own) + 1 for own in edges),
        }
        inputs = [q.raw(name).name for name in node.inputs]
        q.emit(node, TREES, inputs, scale, output=node.output, attrs=attrs)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        ensemble, tops = Ensemble.ranked(node)
        ranks = np.concatenate([value_at(values, slot).ravel().astype(np.int64) for slot in range(len(values))])
        return [ensemble.evaluate(ranks, ranks == np.array(tops)).reshape(outputs[0].shape)]

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        lows, highs = zip(*Ensemble.of(node).bounds(), strict=True)
        shape = outputs[0].shape
        return [Bounds(integer_array(list(map(int, lows)), shape), integer_array(list(map(int, highs)), shape))]

    def jump(self, node: Node, inputs: Sequence[Bounds | None]) -> float:
        """Ranks are exact: no input moves a little."""
        return 0.0

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """The comparisons are exact; each tree may add what its worst leaf was rounded by."""
        ensemble, scale = Ensemble.of(node), context.outputs[0].format.scale
        reals = _reals(node)
        total = [abs(b * scale - Fraction(r)) for b, r in zip(ensemble.base, _floats(node, "real_base"), strict=True)]
        for target in range(ensemble.targets):
            worst = [
                max(
                    (
                        abs(leaf.values[target] * scale - Fraction(reals[number][target]))
                        for number in ensemble.reached(root)
                        if isinstance(leaf := ensemble.nodes[number], Leaf) and target in leaf.values
                    ),
                    default=Fraction(0),
                )
                for root in ensemble.roots
            ]
            total[target] += sum(worst) if ensemble.aggregate == "SUM" else max(worst)
        return [np.array([float(t) * (1 + 2.0**-50) for t in total]).reshape(context.outputs[0].shape)]


def _floats(node: Node, key: str) -> tuple[float, ...]:
    value = node.attrs[key]
    assert isinstance(value, tuple)
    return tuple(map(float, value))


def _reals(node: Node) -> dict[int, dict[int, float]]:
    """Return what leaves were before they were rounded, by node and target."""
    values = iter(_floats(node, "real_values"))
    return {
        number: {target: next(values) for target in leaf.values}
        for number, leaf in enumerate(Ensemble.of(node).nodes)
        if isinstance(leaf, Leaf)
    }


def _spread(ensemble: Ensemble) -> float:
    """Return the greatest distance of two leaves of a tree (or, where all are alike, their magnitude)."""
    spans = [span for root in ensemble.roots for span in ensemble.spans(root)]
    spread = max(hi - lo for lo, hi in spans)
    return spread or max(max(abs(lo), abs(hi)) for lo, hi in spans) or 1.0


def _grid(ensemble: Ensemble) -> Fraction | None:
    """Return a number that all leaves and base values are multiples of, if it is not small beside them."""
    step = Fraction(0)
    values = {v for leaf in ensemble.nodes if isinstance(leaf, Leaf) for v in leaf.values.values()}
    values.update(ensemble.base)
    for value in values:
        exact = Fraction(value)
        step = Fraction(
            math.gcd(step.numerator * exact.denominator, exact.numerator * step.denominator),
            step.denominator * exact.denominator,
        )
        if step and abs(exact) / step >= 1 << _GRID_BITS:
            return None
    largest = max((abs(Fraction(value)) for value in values), default=Fraction(0))
    return (
        step if step and largest / step < 1 << _GRID_BITS and Fraction(_spread(ensemble)) / step < _MOST_STEPS else None
    )


_MOST_STEPS = (1 << 16) - 1


@register_op
class Exceeds(OpDef):
    """1 if a score is greater than a constant threshold, else 0: a decision between two classes."""

    op_type = EXCEEDS
    onnx = False

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        if not math.isfinite(attr_float(node, "threshold", 0.0)):
            raise UnsupportedModelError("a threshold is not finite", node=str(node))

    def infer(self, node: Node, inputs: Inputs) -> list[Signature]:
        return [Signature(tensor_at(inputs, 0).shape, DType.INT64)]

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        return [np.asarray(value_at(inputs, 0) > attr_float(node, "threshold", 0.0)).astype(np.int64)]

    def interval(self, node: Node, inputs: Sequence[Bounds | None]) -> list[Bounds]:
        shape = bounds_at(inputs, 0).lo.shape
        return [Bounds(np.zeros(shape), np.ones(shape))]

    def quantize(self, node: Node, q: Quantizer) -> None:
        x, threshold = q.raw(node.inputs[0]), attr_float(node, "threshold", 0.0)
        cut = math.floor(Fraction(threshold) / x.format.scale) + x.format.zero_point
        attrs = {"threshold": threshold, "cut": cut}
        q.emit(node, EXCEEDS, [x.name], Fraction(1), output=node.output, attrs=attrs)

    def evaluate_exact(self, node: Node, inputs: Inputs, values: Arrays, outputs: Sequence[Tensor]) -> list[Array]:
        return [np.asarray(value_at(values, 0) > attr_int(node, "cut", 0)).astype(int).astype(object)]

    def jump(self, node: Node, inputs: Sequence[Bounds | None]) -> float:
        x, threshold = bounds_at(inputs, 0), attr_float(node, "threshold", 0.0)
        return float(((x.lo <= threshold) & (x.hi > threshold)).any())

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """Near the threshold the other class may come out."""
        x, error, threshold = context.real[0], context.errors[0], attr_float(node, "threshold", 0.0)
        assert x is not None
        assert error is not None
        near = (x.lo - error <= threshold) & (x.hi + error > threshold)
        return [np.where(near, 1.0, 0.0).reshape(context.outputs[0].shape)]
