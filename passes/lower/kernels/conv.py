"""Convolutions as rows of taps times rows of pixels.

Lanes of a product are coefficients of a product of polynomials: with pixels of a row in lanes, and the taps of a row of
the kernel in lanes the other way round, one MUL gives every pixel's sum over those taps. Products of all channels and
kernel rows are added as words. Lanes at the ends, which lack a pixel, are not kept; lanes may borrow from each other on
the way, for all is linear mod 2^256, and only final sums must fit. A stride, or a pool behind it, takes the pixels in
phases (see `maps`), and so costs no lane.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ml2sc.ir.program import (
    Apply,
    Assign,
    Block,
    Expr,
    Induction,
    Let,
    Load,
    Note,
    OpCode,
    Statement,
    Storage,
    Store,
    Var,
    add,
    and_,
    binary,
    const,
    loop,
    mul,
    or_,
    shl,
    shr,
    sub,
)
from ml2sc.ir.types import Array, Interval

from ..epilogue import ChannelScaling, Epilogue
from ..lane_steps import Ending, Factors, greater, spread
from .maps import Maps

HELD = 12
"""Words of pixels that are held in variables for all output channels."""
PAIR = 2
"""Words whose lanes are closed up into one."""
_xor = binary(OpCode.XOR)

_PRODUCT, _ENDING, _COMPARED = 16, 130, 60
_PRODUCT_BYTES, _ENDING_BYTES, _COMPARED_BYTES = 6, 110, 30
"""Gas and bytes of code of a product by a literal, about, but for the literal."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Maps that are added to the sums: multiplier · (u − zero), u from 0 to `top`.

    Attributes:
        multiplier: Brings them to the scale of the sums.
        top: The greatest u.
        zero: The u that stands for zero.
        maps: Where they are, once that is known: in as many words, and between as many rows, as the result.
    """

    multiplier: int
    top: int
    zero: int
    maps: Maps | None = None

    @property
    def start(self) -> int:
        """What is added to every sum, u being multiplied."""
        return -self.multiplier * self.zero


@dataclass(frozen=True, eq=False)
class Convolution:
    """The numbers of a convolution, what ends its sums, and the pool behind it.

    Attributes:
        weights: Integers, (outputs, inputs of a group, kernel height, kernel width).
        bias: By output channel.
        strides, dilations, pads: By axis (rows, columns); pads are those before the first row and column.
        groups: Groups of channels.
        height, width: Of the input.
        out_height, out_width: Of the result, before the pool.
        epilogue: What happens to the sums.
        pool: Rows and columns of which a maximum is taken, without overlap.
        zero: The u of the result that stands for zero.
        beside: What is added to the sums.
        largest: Whether a result is the greatest of the pixels that have taps, and not the sum of products.
    """

    weights: Array
    bias: Array
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int]
    groups: int
    height: int
    width: int
    out_height: int
    out_width: int
    epilogue: Epilogue
    pool: tuple[int, int] = (1, 1)
    zero: int = 0
    beside: Beside | None = None
    largest: bool = False

    @property
    def outputs(self) -> int:
        """Output channels."""
        return len(self.weights)

    @property
    def macs(self) -> int:
        """Products, those with padding counted."""
        return int(self.weights.size) * self.out_height * self.out_width

    def inputs_of(self, output: int) -> range:
        """Return the input channels of an output channel."""
        each = self.weights.shape[1]
        first = output // (self.outputs // self.groups) * each
        return range(first, first + each)

    @cached_property
    def begin(self) -> int:
        """Padding before the first pixel as lanes count: from the end of the row."""
        reach = (int(self.weights.shape[3]) - 1) * self.dilations[1]
        used = self.out_width // self.pool[1] * self.pool[1]
        return self.strides[1] * (used - 1) + reach + 1 - self.width - self.pads[1]

    def steps(self, gap: int) -> tuple[int, int]:
        """Return the strides of columns that are done by phases, of the kernel and of the pool: a gap does the others.

        Args:
            gap: How many lanes of sums there are to one of results: a pool's columns, or the stride where there is no
                pool.
        """
        if gap == 1:
            return self.strides[1], self.pool[1]
        return (self.strides[1], 1) if self.pool[1] > 1 else (1, 1)

    @property
    def gap(self) -> int:
        """How many lanes of sums there are to one of results, where not phases but lanes are left out."""
        return self.pool[1] if self.pool[1] > 1 else self.strides[1]

    def taps(self, phase: int, phases: int, stride: int) -> Iterator[tuple[int, int, int]]:
        """Iterate over (tap, phase of the input, lanes to the input's pixel) of the sums' phase, of so many.

        Args:
            phase: Of the sums.
            phases: Of the sums; the input has as many times the stride.
            stride: Of columns, as far as it is done by phases.
        """
        width = self.weights.shape[3]
        for tap in range(width):
            at = stride * phase - self.begin + tap * self.dilations[1]
            lanes, of = divmod(at, stride * phases)
            yield width - 1 - tap, of, lanes

    def reach(self, phases: int, stride: int) -> tuple[int, int]:
        """Return how many lanes the nearest and the farthest pixel of a sum are from it, over all phases."""
        lanes = [lane for phase in range(phases) for _, _, lane in self.taps(phase, phases, stride)]
        return min(lanes), max(lanes)

    @cached_property
    def _bounds(self) -> dict[tuple[int, int], Interval]:
        """What `bounds` returned: it is asked for of every way to do it."""
        return {}

    def bounds(self, top: int, zero: int) -> Interval:
        """Return an interval of all sums of products of pixels u in [0, top] and taps, whichever taps lack a pixel.

        The bias is in it, what `zero`, the u that stands for 0, brings in, and what is added, or not.
        """
        if (top, zero) not in self._bounds:
            self._bounds[top, zero] = self._bounded(top, zero)
        return self._bounds[top, zero]

    def _bounded(self, top: int, zero: int) -> Interval:
        falls, rises = self._sums
        start = self.bias - zero * (falls + rises)
        lo, hi = int((start + top * falls).min()), int((start + top * rises).max())
        if self.beside is not None:
            most = self.beside.multiplier * self.beside.top
            lo, hi = lo + self.beside.start + min(most, 0), hi + self.beside.start + max(most, 0)
        return Interval(lo, hi)

    def highest(self, top: int, zero: int) -> list[int]:
        """Return, by output channel, what no sum is above, the bias in it but nothing that is added."""
        falls, rises = self._sums
        return [int(v) for v in self.bias - zero * (falls + rises) + top * rises]

    def taps_sum(self, output: int) -> int:
        """Return the sum of a channel's taps: how much a sum rises if all pixels rise by 1."""
        falls, rises = self._sums
        return int(falls[output] + rises[output])

    @cached_property
    def _sums(self) -> tuple[Array, Array]:
        """The sums of each output channel's negative taps, and of the others, as Python ints.

        The greatest of pixels is one of them, as if there were just that tap.
        """
        if self.largest:
            return np.zeros(self.outputs, dtype=object), np.ones(self.outputs, dtype=object)
        flat = self.weights.reshape(self.outputs, -1).astype(object)
        return np.minimum(flat, 0).sum(axis=1), np.maximum(flat, 0).sum(axis=1)

    @cached_property
    def extremes(self) -> tuple[int, int]:
        """The least and the greatest weight."""
        return int(self.weights.min()), int(self.weights.max())

    @cached_property
    def alike(self) -> bool:
        """Whether all output channels do the same."""
        same = not (self.weights != self.weights[:1]).any() and not (self.bias != self.bias[:1]).any()
        return same and not isinstance(self.epilogue.scaling, ChannelScaling)

    def factors(self, top: int, zero: int) -> Factors | None:
        """Return what results are multiplied by in the end, but for what is a channel's own."""
        scaling = self.epilogue.scaling
        if scaling is None:
            return None
        ended = self.ended(top, zero)
        highest = [min(max(high + ended.constant, 0), ended.top) for high in self.highest(top, zero)]
        products = [
            high * multiplier + rest
            for high, (multiplier, rest) in zip(highest, map(self.scaled, range(self.outputs)), strict=True)
        ]
        bits = max(max(products).bit_length(), 1)
        result = self.result
        return Factors(const(0), const(0), scaling.shift, bits, max(products) >> scaling.shift, result.hi - result.lo)

    def scaled(self, output: int) -> tuple[int, int]:
        """Return what the results of a channel are multiplied by, and what is added then."""
        scaling = self.epilogue.scaling
        if isinstance(scaling, ChannelScaling):
            return scaling.multipliers[output], scaling.rests[output]
        assert scaling is not None
        return scaling.multiplier, scaling.rest

    @property
    def result(self) -> Interval:
        """The interval of the results."""
        return (self.epilogue.scaling or self.epilogue).interval

    def ended(self, top: int, zero: int) -> Epilogue:
        """Return the epilogue of sums in these bounds."""
        return dataclasses.replace(self.epilogue, accumulator=self.bounds(top, zero))

    def lane_bits(self, top: int, zero: int) -> int:
        """Return the bits a lane must have."""
        bounds, ended = self.bounds(top, zero), self.ended(top, zero)
        pooled = (bounds.hi - bounds.lo).bit_length() + 1 if self.pool != (1, 1) or self.largest else 0
        factors = self.factors(top, zero)
        return max(ended.proved_bits, pooled, ended.top.bit_length(), 0 if factors is None else factors.bits)

    @property
    def rows_before(self) -> int:
        """Rows of zeros that are read before the first of the input."""
        return max(self.pads[0], 0)

    @property
    def rows_after(self) -> int:
        """Likewise after the last."""
        last = (
            (self.out_height - 1) * self.strides[0]
            + (int(self.weights.shape[2]) - 1) * self.dilations[0]
            - self.pads[0]
        )
        return max(last - self.height + 1, 0)


def closed_up(conv: Convolution, source: Maps, target: Maps) -> int:
    """Return of how many words the lanes make one of the target's: 1 where no lane is left out, or a gap remains."""
    stride, columns = conv.steps(1)
    by_phases = source.phases == stride * columns * target.phases
    return 1 if by_phases or target.pitch != source.pitch else conv.gap


class RowsOfTaps:
    """Emits a convolution.

    Args:
        conv: The convolution.
        source: Where its input is.
        target: Where its result goes. Its pitch is the source's, or wider by the pool's columns (or the stride): then
            the maximum is taken of neighbouring lanes, and the lanes between results are lost. Where neither that nor
            the source's phases do the stride, the lanes between are closed up (`close`).
        sums: The buffer of sums that wait for those which they are closed up with.
    """

    storage: Storage | None = None
    """Where words of taps are; None: they are literals."""
    size = 0
    """How many of those are no literals."""
    fields = 1
    """How many taps lie in a lane of such a word."""

    def __init__(self, conv: Convolution, source: Maps, target: Maps, sums: str = "sums") -> None:
        self.conv, self.source, self.target, self._sums = conv, source, target, sums
        self.gap, self.close = target.pitch // source.pitch, closed_up(conv, source, target)
        """Lanes of sums to one of results; and words of sums that make one of results."""
        self.stride, self.columns = conv.steps(max(self.gap, self.close))
        self.phases = target.phases * self.columns
        """Of the sums."""
        self.ended = conv.ended(source.top, source.zero)
        self.farthest = conv.reach(self.phases, self.stride)[1]
        self.every = range(source.lanes)
        """Lanes that hold sums."""
        self.lanes, self.pitch = source.lanes, source.pitch
        """Of a word of sums."""

    @staticmethod
    def fits(conv: Convolution, source: Maps, target: Maps) -> bool:
        """Return whether the maps have what the convolution reads, and room for its sums."""
        gap, close = target.pitch // source.pitch, closed_up(conv, source, target)
        if gap not in {1, conv.gap}:
            return False
        stride, columns = conv.steps(max(gap, close))
        phases = target.phases * columns
        if source.phases != stride * phases or target.pitch != gap * source.pitch:
            return False
        nearest, farthest = conv.reach(phases, stride)
        return (
            conv.lane_bits(source.top, source.zero) <= source.pitch
            and source.before >= -nearest
            and source.after >= farthest
            and source.before + source.useful + source.after <= source.lanes
            and source.before + source.useful + farthest <= source.lanes
            and (source.words == 1 or max(source.before, source.after) <= source.useful)
            and source.rim >= max(conv.rows_before, conv.rows_after)
            and source.useful == target.useful * gap
            and (gap == 1 or target.phases == 1)
            and target.before + target.useful + target.after <= target.lanes
            and (target.words <= source.words or close > 1)
        )

    @property
    def possible(self) -> bool:
        """Whether words of results are closed up of as many words of sums each, if they are, and nothing is added."""
        words, parts = self.target.words, self.close
        return parts == 1 or (self.conv.beside is None and (words == 1 or self.source.words == parts * words))

    @property
    def together(self) -> int:
        """Words of sums that make one of results."""
        return min(self.close, self.source.words)

    def buffers(self) -> dict[str, int]:
        """Return the words of each buffer that it needs besides the maps."""
        waiting = self.conv.outputs * self.target.phases
        return {self._sums: waiting} if self.together > 1 else {}

    def about(self) -> tuple[float, int, int]:
        """Return roughly what an inference costs, bytes of code, and of data: to find what is worth walking."""
        conv, target = self.conv, self.target
        phases = [{of for _, of, _ in conv.taps(phase, self.phases, self.stride)} for phase in range(self.phases)]
        products = int(conv.weights[..., 0].size) * conv.pool[0] * sum(map(len, phases)) * self.together
        literal = int(conv.weights.shape[3]) * self.source.pitch // 8
        results, compared = conv.outputs * target.phases, self.together * len(self.parts(0)) - 1
        compared += 4 * (self.close > 1)
        gas = products * _PRODUCT + results * (_ENDING + compared * _COMPARED)
        code = products * (literal + _PRODUCT_BYTES) + results * (_ENDING_BYTES + compared * _COMPARED_BYTES)
        return target.height * target.words * gas, code, 0

    def claim(self) -> str:
        """Return what is proved, in words."""
        acc = self.ended.accumulator
        low, high = acc.lo + self.ended.constant, acc.hi + self.ended.constant
        return (
            f"Proved for all inputs: {acc.lo} <= sum <= {acc.hi}, also of sums that lack pixels; with what is added "
            f"{low} <= sum <= {high}: {self.source.lanes} lanes of {self.source.pitch} bits a word. A product of words "
            f"is {self.conv.weights.shape[3]} taps of {self.source.useful} pixels."
        )

    def emit(self) -> list[Statement]:
        """Return the statements."""
        conv, source, target = self.conv, self.source, self.target
        body: list[Statement] = [Note(self.claim()), *target.rim_rows()]
        rows = target.height
        step = conv.strides[0] * conv.pool[0] * source.row_words
        start = source.word(0, -conv.pads[0])
        assert start >= 0
        inner = self._row()
        if source.words == 1 or (self.close > 1 and target.words == 1):
            also = [Induction("o", const(target.word(0, 0)), target.row_words)]
            return [*body, loop("p", rows, inner, start=start, step=step, also=also)]
        along = [Induction("p", Var("row"), self.close), Induction("o", Var("result"), 1)]
        words = loop("j", target.words, inner, also=along)
        also = [Induction("result", const(target.word(0, 0)), target.row_words)]
        return [*body, loop("row", rows, [words], start=start, step=step, also=also), *target.joined()]

    def pieces(self) -> Iterator[tuple[range, list[Statement]]]:
        """Iterate over what is a section each: its output channels, and its statements."""
        yield range(self.conv.outputs), self.emit()

    # -- one word of every channel and phase -------------------------------------------------------------------------

    def _row(self) -> list[Statement]:
        body: list[Statement] = []
        for group, number in itertools.product(range(self.conv.groups), range(self.together)):
            each = self.conv.outputs // self.conv.groups
            outputs = range(group * each, (group + 1) * each)
            names = self._held(outputs)
            inside: list[Statement] = [Let(name, self._load(*key, number)) for key, name in names.items()]
            if names:  # within reach, above the words that are held
                inside.append(Let("at", Var("o")))
            every = itertools.product(outputs, range(self.target.phases))
            inside += [Block(tuple(self._result(output, phase, names, number))) for output, phase in every]
            body += [Block(tuple(inside))] if self.conv.groups * self.together > 1 else inside
        return body

    def _held(self, outputs: range) -> dict[tuple[int, int, int], str]:
        """Return names for the words of pixels that these channels read most often; the others are read where used."""
        uses = Counter(key for o in outputs for terms in self._all_terms(o) for key, _ in terms)
        most = [key for key, number in uses.most_common(HELD) if number > 1]
        return {key: f"x{number}" for number, key in enumerate(sorted(most))}

    def _load(self, channel: int, row: int, phase: int, number: int) -> Expr:
        source = self.source
        offset = source.word(channel, row, phase, number) - source.word(0, 0)
        return Load(source.buffer, add(Var("p"), const(offset)))

    def _all_terms(self, output: int) -> Iterator[list[tuple[tuple[int, int, int], int]]]:
        for row, phase in itertools.product(range(self.conv.pool[0]), range(self.phases)):
            yield list(self._terms(output, row, phase))

    def _terms(self, output: int, row: int, phase: int) -> Iterator[tuple[tuple[int, int, int], int]]:
        """Iterate over the products of one sum: which word of pixels, and the word of taps."""
        conv, pitch = self.conv, self.source.pitch
        for i, channel in enumerate(conv.inputs_of(output)):
            for ky in range(conv.weights.shape[2]):
                words: dict[int, int] = {}
                for tap, of, lanes in conv.taps(phase, self.phases, self.stride):
                    weight = int(conv.weights[output, i, ky, tap])
                    words[of] = words.get(of, 0) + (weight << pitch * (self.farthest - lanes))
                for of, word in words.items():
                    if word:
                        yield (channel, conv.strides[0] * row + ky * conv.dilations[0], of), word

    def _sum(
        self, output: int, row: int, phase: int, names: dict[tuple[int, int, int], str], start: int, number: int
    ) -> Expr:
        """Return start + the products of a sum, those by negative words of taps apart: literals are shorter so.

        Operands are computed from the right: of each product the pixels first, so that the fewest words lie above those
        that are held.
        """
        rises: Expr = const(start)
        falls: Expr | None = None
        for key, taps in self._terms(output, row, phase):
            pixels = Var(names[key]) if key in names else self._load(*key, number)
            product = Apply(OpCode.MUL, (const(abs(taps)), pixels))
            if taps > 0:
                rises = add(product, rises)
            else:
                falls = product if falls is None else add(product, falls)
        return rises if falls is None else sub(rises, falls)

    def _result(self, output: int, phase: int, names: dict[tuple[int, int, int], str], number: int) -> list[Statement]:
        """Return the statements for one word of results: sums, their maximum, and what ends them.

        Of the words of sums that are closed up (`number`), those before the last wait for it.
        """
        target = self.target
        at = add(Var("at" if names else "o"), const(target.word(output, 0, phase) - target.word(0, 0)))
        factors = self.factors(*self.literal_factors(output))
        if self.close == 1:
            return self.ended_word(phase, *self._sums_of(output, phase, names, number), at, factors)
        own, waiting = self.summed_up(output, phase, names, number), const(output * target.phases + phase)
        if number + 1 < self.together:
            return [*own, Store(self._sums, waiting, Var("v"))]
        before: list[Expr] = [Load(self._sums, waiting)] if number else []
        return [*own, *self.closed_word(phase, [*before, Var("v")], at, factors)]

    def _sums_of(
        self, output: int, phase: int, names: dict[tuple[int, int, int], str], number: int
    ) -> tuple[list[Expr], Expr]:
        """Return the sums of which a word is the maximum, and what they start with; one alone has that in it."""
        start, parts = self.start(output), self.parts(phase)
        first = 0 if len(parts) > 1 else start
        return [self._sum(output, *part, names, 0 if at else first, number) for at, part in enumerate(parts)], const(
            start
        )

    def summed_up(
        self, output: int, phase: int, names: dict[tuple[int, int, int], str], number: int
    ) -> list[Statement]:
        """Return the statements that declare `v`: the sums of a channel, or their maximum, and what they start with."""
        return self.summed("v", *self._sums_of(output, phase, names, number))

    def literal_factors(self, output: int) -> tuple[Expr, Expr]:
        """Return the literals that the results of a channel are multiplied by, and that are added then."""
        if self.conv.epilogue.scaling is None:
            return const(0), const(0)
        multiplier, rest = self.conv.scaled(output)
        return const(multiplier), const(rest)

    def factors(self, multiplier: Expr, rest: Expr) -> Factors | None:
        """Return what results are multiplied by in the end, and what is added then."""
        common = self._factors
        return None if common is None else dataclasses.replace(common, multiplier=multiplier, rest=rest)

    @cached_property
    def _factors(self) -> Factors | None:
        return self.conv.factors(self.source.top, self.source.zero)

    def start(self, output: int) -> int:
        """Return what the sums of a channel start with, in every lane."""
        return spread(self.lane_start(output), self.source.pitch, self.every)

    def lane_start(self, output: int) -> int:
        """Return what a lane of a channel's sums starts with: its bias, and what its epilogue adds."""
        bias = int(self.conv.bias[output]) - self.source.zero * self.conv.taps_sum(output)
        bias += 0 if self.conv.beside is None else self.conv.beside.start
        return bias + self.ended.constant + self.ending(0).half

    def parts(self, phase: int) -> list[tuple[int, int]]:
        """Return (row, phase) of the sums of which a word of results, of a phase, is the maximum."""
        every = itertools.product(range(self.conv.pool[0]), range(self.columns))
        return [(row, phase * self.columns + column) for row, column in every]

    def ended_word(
        self, phase: int, sums: Sequence[Expr], start: Expr, place: Expr, factors: Factors | None
    ) -> list[Statement]:
        """Return the statements that store a word of results.

        Args:
            phase: Of the results.
            sums: Those of which it is the maximum; one alone has `start` in it.
            start: What the sums start with.
            place: The word of the target's buffer.
            factors: What they are multiplied by in the end.
        """
        body = self.summed("v", sums, start)
        beside = self.conv.beside
        if beside is not None:
            added, factor = self.added(phase, place), const(abs(beside.multiplier))
            body.append(Assign("v", (add if beside.multiplier > 0 else sub)(Var("v"), mul(added, factor))))
        body += self.compared("v")
        statements, word = dataclasses.replace(self.ending(phase), factors=factors).word("v")
        return [*body, *statements, *self.stored(phase, place, word)]

    def summed(self, name: str, sums: Sequence[Expr], start: Expr) -> list[Statement]:
        """Return the statements that declare a variable: the maximum of sums, and `start`, which one alone has."""
        body: list[Statement] = [Let(name, sums[0])]
        body += [greater(name, each, self.source.pitch, self.every) for each in sums[1:]]
        if len(sums) > 1 and start != const(0):
            body.append(Assign(name, add(Var(name), start)))
        return body

    def compared(self, name: str) -> list[Statement]:
        """Return the statements that take the maximum of neighbouring lanes, where a pool has them side by side.

        The lanes of the variable are not negative any more, so that a shift borrows nothing.
        """
        beside = self.conv.pool[1] if max(self.gap, self.close) > 1 else 1
        body: list[Statement] = [Let("each", Var(name))] if beside > 2 else []
        each, pitch = Var("each" if beside > 2 else name), self.source.pitch
        return body + [greater(name, shr(pitch * step, each), pitch, self.every) for step in range(1, beside)]

    def closed_word(self, phase: int, words: Sequence[Expr], place: Expr, factors: Factors | None) -> list[Statement]:
        """Return the statements that store a word of results of which the lanes of two words of sums are closed up.

        Args:
            phase: Of the results.
            words: Of sums, none of their lanes negative; each is in a variable, or in memory.
            place: The word of the target's buffer.
            factors: What they are multiplied by in the end.
        """
        base, pitch, useful = self.source.before + self.farthest, self.source.pitch, self.source.useful
        lanes = range(base, base + useful)
        body: list[Statement] = [Let("kept", self._dealt(words, 0))]
        if self.conv.pool[1] > 1:
            body.append(greater("kept", self._dealt(words, 1), pitch, lanes))
        plain, half, first = self.ending(phase), useful // PAIR, self.target.before
        ended = [first + PAIR * (n % half) + n // half for n in (lane - first for lane in plain.lanes)]
        statements, word = dataclasses.replace(plain, lanes=ended, rim=(), factors=factors).word("kept")
        body += [*statements, *self.in_order("closed", word, first)]
        rim = const(spread(self.target.zero, self.target.pitch, plain.rim))
        return [*body, Store(self.target.buffer, place, add(Var("closed"), rim))]

    def _dealt(self, words: Sequence[Expr], beside: int) -> Expr:
        """Return every second lane of each of two words, by turns, from the lane `beside` the first on."""
        base, pitch = self.source.before + self.farthest, self.source.pitch
        lanes = const(spread((1 << pitch) - 1, pitch, self.pairs(base)))
        total: Expr | None = None
        for number, word in enumerate(words):
            up = pitch * (number - beside)
            mask = const(lanes.value << pitch * number)
            moved = and_(shl(up, word) if up >= 0 else shr(-up, word), mask)
            total = moved if total is None else or_(total, moved)
        return const(0) if total is None else total

    def pairs(self, base: int) -> list[int]:
        """Return every second lane of those that have pixels of their own, which begin at one."""
        return [base + lane for lane in range(0, self.source.useful, PAIR)]

    def in_order(self, name: str, word: Expr, base: int) -> list[Statement]:
        """Return the statements that declare a word whose lanes, two words' by turns, come one after the other.

        The lowest bit of a lane's number becomes its highest, by exchanges of neighbouring bits. Other lanes hold 0.
        """
        pitch, useful = self.source.pitch, self.source.useful
        body: list[Statement] = [Let(name, word)]
        for bit in range(useful.bit_length() - 2):
            up = [base + n for n in range(useful) if n >> bit & 1 and not n >> bit + 1 & 1]
            distance, mask = pitch << bit, const(spread((1 << pitch) - 1, pitch, up))
            moving = and_(_xor(shr(distance, Var(name)), Var(name)), mask)
            body.append(Assign(name, _xor(mul(moving, const(1 + (1 << distance))), Var(name))))
        return body

    def added(self, phase: int, place: Expr) -> Expr:
        """Return what is added to the sums of a word of results, in their lanes.

        Args:
            phase: Of the results.
            place: The word of the target's buffer.
        """
        return self.beside_word(place, self.up)

    @property
    def up(self) -> int:
        """How many bits the lanes of sums are above those of what is added to them."""
        assert self.conv.beside is not None and self.conv.beside.maps is not None
        return self.source.pitch * (self.source.before + self.farthest - self.gap * self.conv.beside.maps.before)

    def beside_word(self, place: Expr, up: int, mask: int | None = None) -> Expr:
        """Return the word of what is added that lies as a word of results does, so many bits up."""
        assert self.conv.beside is not None and self.conv.beside.maps is not None
        maps = self.conv.beside.maps
        word: Expr = Load(maps.buffer, add(place, const(maps.word(0, 0) - self.target.word(0, 0))))
        word = word if mask is None else and_(word, const(mask))
        return shl(up, word) if up >= 0 else shr(-up, word)

    def stored(self, phase: int, place: Expr, word: Expr) -> list[Statement]:
        """Return the statements that store a word of results, its lanes where the ending leaves them."""
        return [Store(self.target.buffer, place, word)]

    def ending(self, phase: int) -> Ending:
        """Return what ends the sums of a phase: of all lanes those that the result keeps."""
        source, target, gap = self.source, self.target, self.gap
        if target.words == 1:
            valid, filled = target.valid(phase, 0), target.filled(phase, 0)
        else:  # the last word of a row has its own ends, which `joined` sees to
            valid, filled = [target.before + i for i in range(target.useful)], []
        down = source.before + self.farthest - gap * target.before
        return Ending(self.ended, source.pitch, [gap * t for t in valid], target.zero, [gap * t for t in filled], down)
