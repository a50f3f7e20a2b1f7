"""What `--precision auto` means: the cheapest format that is good enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count

from ml2sc.errors import Ml2scError, RangeError
from ml2sc.ir import wad
from ml2sc.ir.analysis import evaluate_exact, prove_intervals, real_bounds
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.ops.base import Bounds
from ml2sc.ir.types import Array

from .precision import WIDEST, Binary, Integer, Precision
from .quantize import quantize

TARGET_ERROR = 1e-6
"""Stated bound that `auto` without data must reach on every output."""

CANDIDATES = (Integer(8, 8), Integer(8, 16), Integer(16, 16))
"""What `auto` with data tries, cheapest first, before a binary format."""

_MOST_FRACTION_BITS = 96
_FIRST_GUESS = 24
_PATIENCE = 6
"""Fraction bits after which the bound must have shrunk; the rounding of one bias may stay the same for some of them."""

Say = Callable[[str], None]


def choose_binary(graph: Graph, say: Say) -> Binary:
    """Return the narrowest binary format whose stated error bound is at most 1e-6 on every output.

    The integer bits hold every tensor for every input of the declared range, so nothing saturates. The bound about
    halves with each fraction bit, so a guess is corrected and then walked to the narrowest.

    Args:
        graph: A float graph with declared input ranges.
        say: Receives what is tried.

    Raises:
        RangeError: no format reaches the bound.
    """
    bounds = real_bounds(graph)
    integer_bits = _integer_bits(graph, bounds)

    reached = math.inf

    def bound(fraction_bits: int) -> float:
        nonlocal reached
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
        reached = min(reached, value)
        return value

    guess = _FIRST_GUESS
    first = bound(guess)
    if math.isfinite(first) and first > TARGET_ERROR:
        guess = min(guess + math.ceil(math.log2(first / TARGET_ERROR)), _MOST_FRACTION_BITS)
    elif math.isfinite(first):
        guess = max(guess - math.floor(math.log2(TARGET_ERROR / max(first, 1e-18))), 1)
    good, seen = None, [math.inf] * _PATIENCE
    for fraction_bits in range(guess, _MOST_FRACTION_BITS + 1):
        value = bound(fraction_bits)
        if value <= TARGET_ERROR:
            good = fraction_bits
            break
        if 0.99 * seen[-_PATIENCE] < value < math.inf:
            break  # what is left does not come from the steps' size
        seen.append(value)
    if good is None:
        raise RangeError(
            f"no binary format has an error bound of {TARGET_ERROR:g} for this input range; the best is {reached:.3g}",
            hint="narrow the range with --input-range, give typical inputs with --calibrate, or name a --precision",
        )
    narrower = next(f for f in count(good - 1, -1) if f < 1 or bound(f) > TARGET_ERROR)
    return Binary(integer_bits, narrower + 1)


def _integer_bits(graph: Graph, bounds: Mapping[str, Bounds]) -> int:
    """Return the bits before the point that hold every float tensor, with room for rounding.

    An output that only a decision is made of stays as wide as its accumulators: it needs no format.
    """
    top = 1.0
    for name, bound in bounds.items():
        goes_on = any(use.node.op_type not in {"ArgMax", "GreaterOrEqual"} for use in graph.uses(name))
        if graph.tensor(name).size and (name not in graph.outputs or goes_on):
            top = max(top, float(abs(bound.lo).max()), float(abs(bound.hi).max()))
    return max(math.frexp(top * (1 + 2.0**-16))[1], 1)


def choose_with_data(graph: Graph, samples: Sequence[Mapping[str, Array]], say: Say) -> Precision:
    """Return the first of int8, w8a16, w16a16 and the binary format that keeps every decision on the samples.

    A model that makes no decision gets the binary format.

    Args:
        graph: A calibrated float graph.
        samples: The calibration samples' inputs.
        say: Receives what is tried.
    """
    if graph.decision is not None:
        wanted = [int(evaluate_float(graph, sample)[graph.decision].ravel()[0]) for sample in samples]
        bounds = real_bounds(graph)
        for candidate in CANDIDATES:
            try:
                quantized = quantize(graph, candidate, bounds)
                prove_intervals(quantized)
                wad.output_error_bound(quantized)
            except Ml2scError as error:
                say(f"{candidate}: {error.message}")
                continue
            kept = _agreement(quantized, samples, wanted)
            say(f"{candidate}: {kept} of the first {min(kept + 1, len(wanted))} calibration decisions kept")
            if kept == len(wanted):
                return candidate
    return choose_binary(graph, say)


def _agreement(quantized: Graph, samples: Sequence[Mapping[str, Array]], wanted: Iterable[int]) -> int:
    """Return how many decisions are kept before the first that is not."""
    assert quantized.decision is not None
    kept = 0
    for sample, decision in zip(samples, wanted, strict=True):
        values = evaluate_exact(quantized, wad.quantize_inputs(quantized, sample))
        if int(values[quantized.decision].ravel()[0]) != decision:
            break
        kept += 1
    return kept
