"""Models whose numbers are small beside a format's steps or the error bound: what is said of them.

The stated bound is absolute. A model whose outputs are smaller than it may be answered by zeros, and within the bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ml2sc.errors import RangeError
from ml2sc.ir.analysis import real_bounds
from ml2sc.ir.graph import Graph, Tensor

_FACTORS = {"Conv": (1,), "Gemm": (1,), "FusedGemm": (1,), "Mul": (0, 1)}
"""By operator: the inputs whose constants, all 0, would leave nothing of the others."""
_COARSE = 0.01
"""Share of the largest output from which on a bound that nobody asked for is called coarse."""


def largest_output(reference: Graph, graph: Graph) -> float | None:
    """Return the largest absolute value of an output: in the calibration data, else for any input; None if unknown.

    Args:
        reference: The model in floats, its input ranges declared.
        graph: What became of it, with the ranges observed.
    """
    try:
        bounds = None if all(name in graph.observed for name in reference.outputs) else real_bounds(reference)
    except RangeError:  # passes may have written the model so that it can be bounded
        return None
    ends = [
        graph.observed[name] if bounds is None else (bounds[name].lo.min(), bounds[name].hi.max())
        for name in reference.outputs
    ]
    return max((max(abs(float(lo)), abs(float(hi))) for lo, hi in ends), default=None)


def relative_bound(bound: float, largest: float | None) -> float | None:
    """Return an error bound as a share of the largest output; None if that is 0 or unknown."""
    share = bound / largest if largest else math.inf
    return share if math.isfinite(share) else None


def lost(graph: Graph) -> Iterator[str]:
    """Yield what a quantised graph's formats make 0 as a whole: inputs, and constants that others are multiplied by."""
    for name in graph.inputs:
        tensor, (lo, hi) = graph.tensor(name), graph.input_ranges[name]
        interval = tensor.interval
        if interval is not None and interval.lo == interval.hi:
            yield f"input {name!r}, {lo:g} to {hi:g}, has no value but 0 in {_format(tensor)}"
    for node in graph:
        for slot in _FACTORS.get(node.op_type, ()):
            tensor = graph.tensor(node.inputs[slot])
            if tensor.data is not None and tensor.real is not None and np.any(tensor.real) and not np.any(tensor.data):
                top = float(np.abs(tensor.real).max())
                yield f"the constants of {node}, up to {top:.3g}, are all 0 in {_format(tensor)}"


def coarse(bound: float, largest: float | None, *, asked: bool) -> str | None:
    """Return what to say of a bound that is large beside the outputs; None if it is not.

    Args:
        bound: The error bound.
        largest: The largest output, if it is known.
        asked: Whether the format or the bound was asked for: then only a bound above all outputs is worth a word.
    """
    share = relative_bound(bound, largest)
    if share is None or largest is None or share < (1.0 if asked else _COARSE):
        return None
    zeros = "; an answer of zeros is within it" if share >= 1 else ""
    return f"the error bound, {bound:.3g}, is {share:.2g} times the largest output, {largest:.3g}{zeros}"


def _format(tensor: Tensor) -> str:
    return f"steps of {float(tensor.format.scale):.3g}"
