"""The contract's outer numbers: WAD = real · 10^18, and packed bytes. One definition for the interpreters and the code.

What `predict` takes and returns is WAD; inside are the integers q of the graph's inputs and outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from ml2sc.errors import RangeError

from .analysis import evaluate_together
from .graph import Graph, Tensor
from .program import MASK, rational_multiplier
from .thermometer import graph_code, packed
from .types import Array, FixedPoint, Interval, Scaling, big_endian, integer_array, round_half_up

WAD = 10**18
_WORD_BITS = 255
_MULTIPLIER_BITS = 120


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
        return self.apply_all((x,))[0]

    def apply_all(self, xs: Iterable[int]) -> list[int]:
        """Return y for each x."""
        lo, hi, multiplier, shift, half = self.lo, self.hi, self.multiplier, self.shift, (1 << self.shift) >> 1
        return [(min(max(x, lo), hi) * multiplier + half) >> shift for x in xs]


@dataclass(frozen=True, slots=True)
class ElementRescale:
    """q = floor((x·multipliers[i] + addends[i]) / 2^shift), clamped to [0, top]: WAD to integers, by element.

    x is first clamped to ±(limit − 1); nothing leaves a 256-bit word. A multiplier and, above it, its addend are
    a field of a word.

    Attributes:
        multipliers: Positive, below 2^bits.
        addends: Signed.
        shift: See above.
        bits: See above.
        per_word: Fields of a word, 1 or 2: each has that share of its 256 bits.
        limit: A power of two.
        top: Greatest q.
    """

    multipliers: tuple[int, ...]
    addends: tuple[int, ...]
    shift: int
    bits: int
    per_word: int
    limit: int
    top: int

    def apply(self, index: int, x: int) -> int:
        """Return q for x."""
        x = min(max(x, 1 - self.limit), self.limit - 1)
        return min(max((x * self.multipliers[index] + self.addends[index]) >> self.shift, 0), self.top)

    def words(self, first: int, count: int) -> list[int]:
        """Return the words that hold the fields of some elements, the first element's at bit 0 of the first word."""
        size = 256 // self.per_word
        pairs = zip(self.multipliers[first : first + count], self.addends[first : first + count], strict=True)
        fields = [(a << self.bits | m) & ((1 << size) - 1) for m, a in pairs]
        return [
            sum(field << size * place for place, field in enumerate(fields[at : at + self.per_word]))
            for at in range(0, len(fields), self.per_word)
        ]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The least and the greatest x of each element for which q is not clamped."""
        end = ((self.top + 1) << self.shift) - 1
        return [(-(a // m), (end - a) // m) for m, a in zip(self.multipliers, self.addends, strict=True)]


def element_rescale(tensor: Tensor, scaling: Scaling) -> ElementRescale:
    """Return what turns WAD inputs into q where each element has a range of its own.

    Raises:
        RangeError: the ranges are too narrow, too far from 0, or differ too much.
    """
    return _element_rescale(tensor.name, tensor.format, scaling)


@lru_cache(maxsize=64)
def _element_rescale(name: str, format_: FixedPoint, scaling: Scaling) -> ElementRescale:
    lows, widths = scaling.lo.ravel().tolist(), scaling.width.ravel().tolist()
    for index, width in enumerate(widths):
        if width * WAD < 1:
            raise RangeError(
                f"element {index} of {name!r} goes from {lows[index]:g} by {width:g} only: that is below 1e-18, "
                "the step of its WAD values",
                tensor=f"%{name}",
                hint="widen its range (--input-range COLUMN=LO,HI), or scale the inputs before the call",
            )
    ratios = [1 / (Fraction(width) * format_.scale * WAD) for width in widths]
    ends = [round_half_up(Fraction(lo) * WAD) for lo in lows]
    farthest = max(abs(end) + round_half_up(Fraction(w) * WAD) for end, w in zip(ends, widths, strict=True)) + 1

    def rescale(shift: int, per_word: int) -> ElementRescale | None:
        """Return the numbers for a shift; None if fields or products have no room for them."""
        multipliers = tuple(round_half_up(ratio * (1 << shift)) for ratio in ratios)
        addends = tuple(((1 << shift) >> 1) - end * m for end, m in zip(ends, multipliers, strict=True))
        bits = max(multipliers).bit_length()
        wide = Interval(min(addends), max(addends)).signed_bits
        limit = 1 << max(_WORD_BITS - 1 - bits, 0)
        room = bits + wide <= 256 // per_word and max(wide, shift + format_.bits) < _WORD_BITS and farthest < limit
        return ElementRescale(multipliers, addends, shift, bits, per_word, limit, format_.qmax) if room else None

    # the least shift with which the roundings of the multipliers do not matter
    least = max(((format_.qmax << _SPARE_BITS) / min(ratios)).__ceil__().bit_length(), 1)
    found = None
    for per_word in (2, 1):
        # a few more bits where there is room for them
        shifts = range(min(least + _MORE_BITS, _WORD_BITS), least - 1, -1)
        found = next((r for shift in shifts if (r := rescale(shift, per_word)) is not None), None)
        if found is not None:
            return found
    widest, narrowest = widths.index(max(widths)), widths.index(min(widths))
    raise RangeError(
        f"the ranges of the elements of {name!r} differ too much, or are too narrow or too far from 0, for WAD values "
        f"(real · 10^18) to be computed in a word: element {narrowest} goes from {lows[narrowest]:g} to "
        f"{lows[narrowest] + widths[narrowest]:g}, element {widest} from {lows[widest]:g} to "
        f"{lows[widest] + widths[widest]:g}",
        tensor=f"%{name}",
        hint="widen the narrowest (--input-range FILE), or scale the inputs before the call",
    )


_MORE_BITS = 16
_SPARE_BITS = 12
"""Bits of a multiplier beyond those of q: its rounding moves q by less than 2^-12."""


def element_errors(tensor: Tensor, scaling: Scaling) -> Array:
    """Return a bound on |q·scale − u|, by element, for reals in range, given as they are or as WAD."""
    return np.array(_element_errors(tensor.name, tensor.format, scaling)).reshape(tensor.shape)


@lru_cache(maxsize=64)
def _element_errors(name: str, format_: FixedPoint, scaling: Scaling) -> list[float]:
    rescale, scale = _element_rescale(name, format_, scaling), format_.scale
    errors = []
    widths = [Fraction(width) for width in scaling.width.ravel().tolist()]
    for multiplier, width, lo in zip(rescale.multipliers, widths, scaling.lo.ravel().tolist(), strict=True):
        ratio = 1 / (width * scale * WAD)
        wrong = abs(Fraction(multiplier, 1 << rescale.shift) - ratio) * (width * WAD + 2)
        # the real as WAD, and its range's end, are rounded; u of that end is 1 but for the rounding of the width
        errors.append(float((Fraction(1, 2) + wrong + ratio) * scale) + 2.0**-52 * (1 + abs(lo) / float(width)))
    return errors


def input_rescale(tensor: Tensor) -> Rescale:
    """Return what turns a WAD input into q − zero_point, saturating at the proved interval.

    Raises:
        RangeError: its WAD values do not fit a word.
    """
    format_, interval = _proved(tensor)
    ratio = 1 / (format_.scale * WAD)
    lo, hi = (round_half_up(Fraction(q - format_.zero_point) / ratio) for q in (interval.lo, interval.hi))
    return _rescale(tensor.name, ratio, lo, hi)


def output_rescale(tensor: Tensor) -> Rescale:
    """Return what turns q − zero_point of an output into WAD.

    Raises:
        RangeError: its WAD values do not fit a word.
    """
    format_, interval = _proved(tensor)
    zero = format_.zero_point
    return _rescale(tensor.name, format_.scale * WAD, interval.lo - zero, interval.hi - zero)


@lru_cache(maxsize=64)
def _rescale(name: str, ratio: Fraction, lo: int, hi: int) -> Rescale:
    magnitude = max(abs(lo), abs(hi), 1)
    bits = max(_WORD_BITS - 2 - magnitude.bit_length(), 16)
    multiplier, shift = rational_multiplier(ratio, min(bits, _MULTIPLIER_BITS))
    rescale = Rescale(multiplier, min(shift, _WORD_BITS), lo, hi)
    if magnitude * multiplier + ((1 << rescale.shift) >> 1) >> _WORD_BITS:
        raise RangeError(
            f"{name!r} as WAD (real · 10^18) cannot be computed in 2^{_WORD_BITS}: "
            f"|q| can be 2^{magnitude.bit_length()}",
            tensor=f"%{name}",
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
        shape = len(samples), *graph.tensor(name).shape
        real = np.array([np.ravel(inputs[name]) for inputs in samples], dtype=np.float64).reshape(shape)
        if name in graph.ladders:
            ranks = graph.ladders[name].ranks(real.reshape(len(samples), -1)).reshape(shape)
            for sample, values in zip(result, ranks, strict=True):
                sample[name] = values
            continue
        scaling = graph.scalings.get(name)
        q = format_.quantize(real) if scaling is None else scaling.quantize(format_, real)
        if q.dtype == np.int64 and interval.signed_bits < 63:
            q = np.clip(q, interval.lo, interval.hi)
        else:
            clamped = [min(max(int(v), interval.lo), interval.hi) for v in q.ravel()]
            q = integer_array(clamped, q.shape)
        for sample, values in zip(result, q, strict=True):
            sample[name] = values
    return result


def pack(graph: Graph, inputs: Mapping[str, Array]) -> bytes:
    """Return the packed input: every q big-endian in `element_width` bytes, signed formats in two's complement.

    What only trees read is a thermometer code instead (`ml2sc.ir.thermometer`).
    """
    code = graph_code(graph)
    if code is not None:
        return packed(graph, code, inputs)
    width = element_width(graph)
    return b"".join(
        big_endian(inputs[name].ravel(), width, signed=graph.tensor(name).format.signed) for name in graph.inputs
    )


def to_wad(inputs: Sequence[float]) -> list[int]:
    """Return reals as WAD, rounded to the nearest."""
    return [round_half_up(Fraction(v) * WAD) for v in inputs]


def inputs_from_wad(graph: Graph, wads: Sequence[int]) -> dict[str, Array]:
    """Return the integers q that `predict` makes of WAD inputs."""
    result, position = {}, 0
    for name in graph.inputs:
        tensor = graph.tensor(name)
        format_, interval = _proved(tensor)
        values = wads[position : position + tensor.size]
        if name in graph.ladders:
            edges = graph.ladders[name].wads()
            q = [sum(v > edge for edge in own) for v, own in zip(values, edges, strict=True)]
        elif name in graph.scalings:
            by_element = element_rescale(tensor, graph.scalings[name])
            q = [by_element.apply(i, v) for i, v in enumerate(values)]
        else:
            rescale = input_rescale(tensor)
            zero, lo, hi = format_.zero_point, interval.lo, interval.hi
            q = [min(max(v + zero, lo), hi) for v in rescale.apply_all(values)]
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
    return run_samples(graph, [inputs])[0]


def run_samples(graph: Graph, samples: Sequence[Mapping[str, Array]]) -> list[Outcome]:
    """Return what `run_graph` does for each of some samples, one at least: nodes are computed for all together."""
    return outcomes(graph, evaluate_together(graph, samples))


def answering(graph: Graph) -> list[str]:
    """Return the tensors that an outcome is made of."""
    return [*graph.outputs, *([] if graph.decision is None else [graph.decision])]


def outcome(graph: Graph, values: Mapping[str, Array]) -> Outcome:
    """Return what the contract must answer where the graph interpreter found these integers."""
    return outcomes(graph, {name: values[name][None] for name in answering(graph)})[0]


def outcomes(graph: Graph, found: Mapping[str, Array]) -> list[Outcome]:
    """Return what the contract must answer to each of some samples, which are the first axis of these integers."""
    count = len(next(iter(found.values())))

    def each(name: str) -> list[list[int]]:
        constant = graph.tensor(name).data
        values = found[name].reshape(count, -1) if constant is None else np.stack([constant.ravel()] * count)
        integers: list[list[int]] = values.tolist()
        return integers

    outputs = list[list[int]]([] for _ in range(count))
    for name in graph.outputs:
        rescale, zero = output_rescale(graph.tensor(name)), graph.tensor(name).format.zero_point
        for own, values in zip(outputs, each(name), strict=True):
            own += rescale.apply_all(v - zero for v in values)
    decisions: list[int | None] = [None] * count
    if graph.decision is not None:
        decisions = [int(values[0]) & MASK for values in each(graph.decision)]
    return [Outcome(tuple(own), decision) for own, decision in zip(outputs, decisions, strict=True)]


def _proved(tensor: Tensor) -> tuple[FixedPoint, Interval]:
    assert tensor.interval is not None
    return tensor.format, tensor.interval
