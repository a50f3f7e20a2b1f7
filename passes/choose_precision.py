"""What `--precision auto` means without calibration data: the narrowest binary format that is proved good enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import count

from ml2sc.errors import Ml2scError, RangeError
from ml2sc.ir import wad
from ml2sc.ir.analysis import prove_intervals, real_bounds
from ml2sc.ir.graph import Graph
from ml2sc.ir.ops.base import Bounds, op_of
from ml2sc.ir.types import DType

from .precision import WIDEST, Binary
from .quantize import quantize

TARGET_ERROR = 1e-6
"""Stated bound that `auto` without data must reach on every output."""

_MOST_FRACTION_BITS = 96
_FIRST_GUESS = 24
_PATIENCE = 6
"""Fraction bits after which the bound must have shrunk; the rounding of one bias may stay the same for some of them."""

Say = Callable[[str], None]
Gas = Callable[[Graph], int]
"""Predicts the gas of an inference from a quantised graph."""


def choose_binary(graph: Graph, say: Say, target: float = TARGET_ERROR, gas: Gas | None = None) -> Binary:
    """Return the narrowest binary format whose stated error bound is small enough on every output.

    The integer bits hold every tensor for every input of the declared range, so nothing saturates. The bound about
    halves with each fraction bit, so a guess is corrected and then walked to the narrowest.

    Args:
        graph: A float graph with declared input ranges.
        say: Receives what is tried.
        target: What the bound must be at most.
        gas: Says what the best format would cost, where none reaches the bound.

    Raises:
        RangeError: no format reaches the bound.
    """
    bounds = real_bounds(graph)
    integer_bits = bits_needed(graph, bounds)

    best: tuple[float, Binary, Graph] | None = None

    def bound(fraction_bits: int) -> float:
        nonlocal best
        format_ = Binary(integer_bits, fraction_bits)
        if format_.bits > WIDEST:
            return math.inf
        try:
            quantized = quantize(graph, format_, bounds)
            prove_intervals(quantized)
            value = wad.output_error_bound(quantized)
        except RangeError:
            return math.inf
        say(f"{format_}: error bound {value:.3g}")
        if best is None or value < best[0]:
            best = value, format_, quantized
        return value

    guess = _FIRST_GUESS
    first = bound(guess)
    if math.isfinite(first) and first > target:
        guess = min(guess + math.ceil(math.log2(first / target)), _MOST_FRACTION_BITS)
    elif math.isfinite(first):
        guess = max(guess - math.floor(math.log2(target / max(first, 1e-18))), 1)
    good, seen = None, [math.inf] * _PATIENCE
    for fraction_bits in range(guess, _MOST_FRACTION_BITS + 1):
        value = bound(fraction_bits)
        if value <= target:
            good = fraction_bits
            break
        if 0.99 * seen[-_PATIENCE] < value < math.inf:
            break  # what is left does not come from the steps' size
        seen.append(value)
    if good is None:
        raise _refusal(graph, bounds, target, "none can be proved" if best is None else _priced(*best, gas))
    narrower = next(f for f in count(good - 1, -1) if f < 1 or bound(f) > target)
    return Binary(integer_bits, narrower + 1)


def _priced(bound: float, binary: Binary, quantized: Graph, gas: Gas | None) -> str:
    try:
        cost = "" if gas is None else f", at {gas(quantized):,} gas an inference"
    except Ml2scError:  # it cannot be compiled, either
        cost = ""
    return f"the best is {bound:.3g}, of {binary}{cost}"


def _refusal(graph: Graph, bounds: Mapping[str, Bounds], target: float, best: str) -> RangeError:
    """Say why no format reaches the bound."""
    computed = graph.copy()  # a jump of the decision alone moves no output
    computed.decision = None
    computed.prune()
    jumps = [(op_of(node).jump(node, [bounds.get(name) for name in node.inputs]), node) for node in computed]
    jump, node = max(jumps, key=lambda found: found[0], default=(0.0, None))
    if not jump:
        return RangeError(
            f"no binary format has an error bound of {target:g} for this input range; {best}",
            hint="narrow the range with --input-range, give typical inputs with --calibrate, or name a --tolerance or "
            "a --precision",
        )
    return RangeError(
        f"no format has an error bound of {target:g}: the result jumps by {jump:g} at one value of this node's "
        f"input, and rounding may put an input on the other side; {best}",
        node=str(node),
        hint="judge formats by typical inputs (--calibrate DATA.npz, with --tolerance if the model makes no decision), "
        "or name a --precision, whose bound counts the jump",
    )


def bits_needed(graph: Graph, bounds: Mapping[str, Bounds]) -> int:
    """Return the bits before the point that hold every tensor of reals, with room for rounding.

    Shapes, indices and labels are whole numbers, which no format rounds or clamps: only what a label is cast to counts.
    An output that only a decision is made of stays as wide as its accumulators: it needs no format.
    """
    top = 1.0
    for name, bound in bounds.items():
        goes_on = any(use.node.op_type not in {"ArgMax", "GreaterOrEqual"} for use in graph.uses(name))
        tensor = graph.tensor(name)
        if tensor.type is DType.FLOAT and tensor.size and (name not in graph.outputs or goes_on):
            top = max(top, float(abs(bound.lo).max()), float(abs(bound.hi).max()))
    return max(math.frexp(top * (1 + 2.0**-16))[1], 1)
