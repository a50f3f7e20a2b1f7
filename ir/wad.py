"""The contract's outer numbers: WAD = real · 10^18, and packed bytes. One definition for the interpreters and the code.

What `predict` takes and returns is WAD; inside are the integers q of the graph's inputs and outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ml2sc.errors import RangeError

from .analysis import evaluate_exact
from .graph import Graph, Tensor
from .program import MASK, rational_multiplier
from .types import Array, FixedPoint, Interval, integer_array, round_half_up

WAD = 10**18
_WORD_BITS = 255
_MULTIPLIER_BITS = 120
_INT64_BYTES = 8


@dataclass(frozen=True, slots=True)
class Rescale:
    """y = floor((x·multiplier + 2^(shift−1)) / 2^shift), x first clamped to [lo, hi]; nothing leaves a 256-bit word.

    Attributes:
        multiplier: See above.
        shift: See above.
        lo: Least x that is not clamped.
        hi: Greatest x that is not clamped.
    """

    multiplier: int
    shift: int
    lo: int
    hi: int

    def apply(self, x: int) -> int:
        """Return y for x."""
        x = min(max(x, self.lo), self.hi)
        return (x * self.multiplier + ((1 << self.shift) >> 1)) >> self.shift


def input_rescale(tensor: Tensor) -> Rescale:
    """Return what turns a WAD input into q − zero_point, saturating at the proved interval.

    Raises:
        RangeError: its WAD values do not fit a word.
    """
    format_, interval = _proved(tensor)
    ratio = 1 / (format_.scale * WAD)
    lo, hi = (round_half_up(Fraction(q - format_.zero_point) / ratio) for q in (interval.lo, interval.hi))
    return _rescale(tensor, ratio, lo, hi)


def output_rescale(tensor: Tensor) -> Rescale:
    """Return what turns q − zero_point of an output into WAD.

    Raises:
        RangeError: its WAD values do not fit a word.
    """
    format_, interval = _proved(tensor)
    zero = format_.zero_point
    return _rescale(tensor, format_.scale * WAD, interval.lo - zero, interval.hi - zero)


def _rescale(tensor: Tensor, ratio: Fraction, lo: int, hi: int) -> Rescale:
    magnitude = max(abs(lo), abs(hi), 1)
    bits = max(_WORD_BITS - 2 - magnitude.bit_length(), 16)
    multiplier, shift = rational_multiplier(ratio, min(bits, _MULTIPLIER_BITS))
    rescale = Rescale(multiplier, min(shift, _WORD_BITS), lo, hi)
    if magnitude * multiplier + ((1 << rescale.shift) >> 1) >> _WORD_BITS:
        raise RangeError(
            f"{tensor.name!r} as WAD (real · 10^18) cannot be computed in 2^{_WORD_BITS}: "
            f"|q| can be 2^{magnitude.bit_length()}",
            tensor=f"%{tensor.name}",
            hint="narrow the input range (--input-range), or choose a narrower --precision",
        )
    return rescale


def rescale_error(rescale: Rescale, ratio: Fraction) -> Fraction:
    """Return a bound on |y − x·ratio| over all x that are not clamped."""
    wrong = abs(Fraction(rescale.multiplier, 1 << rescale.shift) - ratio)
    rounding = Fraction(1, 2) if rescale.shift else Fraction(0)
    return wrong * max(abs(rescale.lo), abs(rescale.hi)) + rounding


def output_error_bound(graph: Graph, *, saturates: bool = True) -> float:
    """Return the stated bound: |what `predict` returns / 10^18 − the model in real arithmetic| on every output.

    For all inputs of the declared range, whether given as WAD (rounded from the real) or packed.

    Args:
        graph: A quantised graph whose ranges are proved.
        saturates: False: for those of the inputs on which nothing saturates.

    Raises:
        RangeError: an output's WAD values do not fit a word, or no bound can be proved.
    """
    bound, errors = 0.0, graph.errors if saturates else graph.unsaturated_errors
    for name in graph.outputs:
        tensor = graph.tensor(name)
        wad = rescale_error(output_rescale(tensor), tensor.format.scale * WAD)
        bound = max(bound, errors[name] + float((wad + 1) / WAD))
        if not math.isfinite(bound):
            maker = graph.producer(name)
            raise RangeError(
                "no error bound can be proved for an output: it is infinite in float64",
                node=None if maker is None else str(maker),
                tensor=f"%{name}",
                hint="narrow the input range (--input-range)",
            )
    return bound


def element_width(graph: Graph) -> int:
    """Return the bytes of one element of the packed input: those of the widest input format."""
    return max(-(-graph.tensor(name).format.bits // 8) for name in graph.inputs)


def quantize_inputs(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the integers q nearest to real inputs (float64, any shape of the right size), saturated."""
    return quantize_samples(graph, [inputs])[0]


def quantize_samples(graph: Graph, samples: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """Return what `quantize_inputs` does for each of some samples."""
    result: list[dict[str, Array]] = [{} for _ in samples]
    for name in graph.inputs:
        format_, interval = _proved(graph.tensor(name))
        real = np.array([np.ravel(inputs[name]) for inputs in samples], dtype=np.float64)
        q = format_.quantize(real).reshape(len(samples), *graph.tensor(name).shape)
        if q.dtype == np.int64 and interval.signed_bits < 63:
            q = np.clip(q, interval.lo, interval.hi)
        else:
            clamped = [min(max(int(v), interval.lo), interval.hi) for v in q.ravel()]
            q = integer_array(clamped, q.shape)
        for sample, values in zip(result, q, strict=True):
            sample[name] = values
    return result


def pack(graph: Graph, inputs: Mapping[str, Array]) -> bytes:
    """Return the packed input: every q big-endian in `element_width` bytes, signed formats in two's complement."""
    width = element_width(graph)
    return b"".join(
        _big_endian(inputs[name].ravel(), width, signed=graph.tensor(name).format.signed) for name in graph.inputs
    )


def _big_endian(values: Array, width: int, *, signed: bool) -> bytes:
    """Return integers as so many bytes each.

    Raises:
        OverflowError: one does not fit.
    """
    if width >= _INT64_BYTES or not values.size:
        return b"".join(int(v).to_bytes(width, "big", signed=signed) for v in values)
    narrow, end = values.astype(np.int64), 1 << (8 * width - signed)
    if narrow.min() < (-end if signed else 0) or narrow.max() >= end:
        raise OverflowError(f"a value does not fit {width} bytes")
    return bytes(narrow.astype(">i8").view(np.uint8).reshape(-1, _INT64_BYTES)[:, -width:].tobytes())


def to_wad(inputs: Sequence[float]) -> list[int]:
    """Return reals as WAD, rounded to the nearest."""
    return [round_half_up(Fraction(v) * WAD) for v in inputs]


def inputs_from_wad(graph: Graph, wads: Sequence[int]) -> dict[str, Array]:
    """Return the integers q that `predict` makes of WAD inputs."""
    result, position = {}, 0
    for name in graph.inputs:
        tensor = graph.tensor(name)
        format_, interval = _proved(tensor)
        rescale = input_rescale(tensor)
        values = wads[position : position + tensor.size]
        q = [min(max(rescale.apply(v) + format_.zero_point, interval.lo), interval.hi) for v in values]
        result[name] = integer_array(q, tensor.shape)
        position += tensor.size
    return result


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a contract answers: `predict`'s WAD values, and `classify`'s decision if there is one.

    A decision is a word: a negative class label is its two's complement.
    """

    outputs: tuple[int, ...]
    decision: int | None


def run_graph(graph: Graph, inputs: Mapping[str, Array]) -> Outcome:
    """Run the graph interpreter on integers q and return what the contract must answer."""
    return outcome(graph, evaluate_exact(graph, inputs))


def outcome(graph: Graph, values: Mapping[str, Array]) -> Outcome:
    """Return what the contract must answer where the graph interpreter found these integers."""
    outputs: list[int] = []
    for name in graph.outputs:
        rescale, zero = output_rescale(graph.tensor(name)), graph.tensor(name).format.zero_point
        outputs += [rescale.apply(int(v) - zero) for v in values[name].ravel()]
    decision = None if graph.decision is None else int(values[graph.decision].ravel()[0]) & MASK
    return Outcome(tuple(outputs), decision)


def _proved(tensor: Tensor) -> tuple[FixedPoint, Interval]:
    assert tensor.interval is not None
    return tensor.format, tensor.interval
