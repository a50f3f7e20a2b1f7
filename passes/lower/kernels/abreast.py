"""Convolutions of one tap whose output channels are lanes: rows of pixels times a matrix, as in a dense layer.

A word of weights holds those of several output channels for one input, and a pixel's value is multiplied by it; the
sums of some such words are held in variables while the inputs go by, and an input that is 0 is skipped. Where a row has
fewer pixels than a word has lanes that takes fewer products than words of pixels do. The weights of a run of inputs are
copied to known places, and all pixels go by; until the next run their sums lie in memory. Pixels are taken out of their
lanes one by one, and the results of a row, which then lie with the channels in lanes, are brought back into lanes by
pixel: those of several pixels share the lanes of a word first, so that they are taken out together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ml2sc.ir.program import (
    CONTRACT_WORDS,
    MASK,
    Assign,
    Block,
    CopySegment,
    Expr,
    For,
    If,
    Induction,
    Lanes,
    LaterWords,
    Let,
    Load,
    Note,
    OpCode,
    Segment,
    Statement,
    Storage,
    Store,
    Var,
    add,
    and_,
    binary,
    const,
    div,
    mul,
    or_,
    shl,
    shr,
)
from ml2sc.ir.types import as_python_ints

from ..epilogue import ChannelScaling
from ..lane_steps import Ending, spread
from ..nests import over
from ..options import DENSE, Activity
from .conv import Convolution
from .looped import IN_CODE, LoopedRows, Loops, Workspace
from .maps import WORD, Maps

_down = binary(OpCode.SHR)
"""Of a number of bits that is no constant, and a word."""
_mod = binary(OpCode.MOD)
_MOST_SUMS = 12
"""Words of sums that are held, at most: with what is above and below them on a stack, all are in reach."""
_PAIR = 2
"""Pixels whose results share lanes."""
_INPUTS = (16, 32)
"""Inputs whose products are written out, besides as many as a data contract holds the weights of."""
_TAKEN, _TESTED, _TERM, _KEPT, _ROUND, _PIXEL, _ENDING = 24, 22, 25, 20, 50, 60, 120
_MERGED, _BACK = 33, 17
_TAKEN_BYTES, _TERM_BYTES, _ENDING_BYTES, _BACK_BYTES, _REST_BYTES = 24, 13, 130, 12, 900
"""Gas and bytes of code, about: see `AbreastRows.about`."""


@dataclass(frozen=True, slots=True)
class Abreast(Loops):
    """How the loops lie.

    Attributes:
        sums: Words of sums that are held.
        inputs: Inputs whose products are written out: a run.
        share: How often a pixel's value is not 0.
    """

    sums: int = 1
    inputs: int = 1
    share: float = 1.0

    def __str__(self) -> str:
        return f"output channels in lanes, {self.sums} words held, {self.inputs} inputs written out"

    @property
    def live(self) -> Activity:
        return Activity(self.share, DENSE.parts, DENSE.word)


class AbreastRows(LoopedRows):
    """Emits a convolution of one tap with its output channels in lanes.

    Args:
        conv: The convolution.
        source: Where its input is.
        target: Where its result goes.
        loops: How the loops lie.
        names: Of what they need.
        in_data: Whether weights are in data contracts; None: if there are many.
    """

    loops: Abreast

    def __init__(
        self,
        conv: Convolution,
        source: Maps,
        target: Maps,
        loops: Abreast,
        names: Workspace | None = None,
        *,
        in_data: bool | None = None,
    ) -> None:
        super().__init__(conv, source, target, loops, names, in_data=in_data)
        self.fields = 1
        self.pitch = _pitch(conv, source)
        self.lanes = min(WORD // self.pitch, conv.outputs)
        self._blocks = -(-conv.outputs // (self.lanes * loops.sums))
        self._all = self._blocks * loops.sums
        """Words of sums of a pixel."""
        self._runs = self.channels // loops.inputs
        self.size = self._blocks * self._runs * self._run_words
        self.in_data = self.size > min(IN_CODE, self._run_words) if in_data is None else in_data
        self.storage = Storage.DATA if self.in_data else Storage.CODE
        self._columns = source.phases * source.count(0)
        """Places of a row of results: those of a phase that has a pixel less than the first are not read."""
        count = source.count(0)
        self._chunk = count if count <= source.useful else math.gcd(source.useful, count)
        """Pixels of a word that go by in a loop, so that no more than there are do."""

    @classmethod
    def ways(cls, conv: Convolution, source: Maps, target: Maps) -> Iterator[Abreast]:
        """Iterate over the ways in which the loops can lie."""
        if not _is_product(conv):
            return
        words = -(-conv.outputs // min(WORD // _pitch(conv, source), conv.outputs))
        for sums in sorted({-(-words // blocks) for blocks in range(1, words + 1)}):
            run = _run(conv.weights.shape[1], sums) if sums <= _MOST_SUMS else 0
            for inputs in sorted({n for n in (*_INPUTS, run) if 0 < n <= run and conv.weights.shape[1] % n == 0}):
                yield Abreast(1, False, False, sums=sums, inputs=inputs)

    @property
    def possible(self) -> bool:
        """Whether weights that are in the code are read at once."""
        return _is_product(self.conv) and (self.in_data or self._blocks * self._runs == 1)

    @property
    def _run_words(self) -> int:
        """Words of weights of a run of inputs, after what the sums start with."""
        return (1 + self.loops.inputs) * self.loops.sums

    def about(self) -> tuple[float, int, int]:
        loops, source, target = self.loops, self.source, self.target
        pixels = target.height * self._columns
        each = _TAKEN + _TESTED + loops.share * loops.sums * _TERM
        kept = self._runs * (_PIXEL + loops.sums * _KEPT) if self._runs > 1 else 0
        gas = pixels * self._blocks * (_PIXEL + self.channels * each + loops.sums * _ENDING + kept)
        words = target.height * source.phases * source.words * self._all
        gas += words * _ROUND + pixels * self._all * _MERGED + pixels * self.conv.outputs * _BACK
        code = loops.inputs * (_TAKEN_BYTES + loops.sums * _TERM_BYTES) + loops.sums * _ENDING_BYTES + _REST_BYTES
        back = source.phases * source.words * self.lanes * (source.useful // self._merged + 2) * _BACK_BYTES
        return gas, code + back, 32 * self.size if self.in_data else 0

    # -- what there is -----------------------------------------------------------------------------------------------

    def segment(self) -> Segment:
        words = LaterWords(self.size, self.records)
        if not self.in_data:
            return Segment(words)
        return Segment(words, Storage.DATA, CONTRACT_WORDS // self._run_words * self._run_words)

    def records(self) -> tuple[int, ...]:
        """Return the words of weights: by block of sums, by run of inputs, what the sums start with before them."""
        conv, sums = self.conv, self.loops.sums
        places = np.array([1 << self.pitch * lane for lane in range(self.lanes)], dtype=object)
        weights = np.zeros((self._all * self.lanes, self.channels), dtype=object)
        weights[: conv.outputs] = as_python_ints(conv.weights.reshape(conv.outputs, -1))
        words = weights.reshape(self._all, self.lanes, -1).swapaxes(1, 2) @ places
        words = words.reshape(self._blocks, sums, self._runs, self.loops.inputs).transpose(0, 2, 3, 1)
        # lanes without a channel stay within the bounds of one
        channels = [*range(conv.outputs), *[0] * (len(weights) - conv.outputs)]
        starts = np.array([self.lane_start(channel) for channel in channels], dtype=object)
        firsts = (starts.reshape(-1, self.lanes) @ places).reshape(self._blocks, 1, 1, sums)
        heads = np.broadcast_to(firsts, (self._blocks, self._runs, 1, sums))
        return tuple(int(word) & MASK for word in np.concatenate([heads, words], axis=2).ravel())

    def buffers(self) -> dict[str, int]:
        sums = self.target.height * self._columns * self._all
        found = {self.names.taps: self._run_words, self.names.sums: sums}
        return found if self._runs == 1 else {**found, self.names.partial: sums}

    def holds(self) -> dict[str, Lanes]:
        return {self.names.sums: Lanes(self.lanes, self.pitch, 0, self.target.top)}

    def claim(self) -> str:
        acc = self.ended.accumulator
        return (
            f"Proved for all inputs: {acc.lo} <= sum <= {acc.hi}: {self.lanes} output channels, in lanes of "
            f"{self.pitch} bits, a word."
        )

    # -- code --------------------------------------------------------------------------------------------------------

    def emit(self) -> list[Statement]:
        body: list[Statement] = [Note(f"{self.claim()} Loops: {self.loops}."), *self.target.rim_rows()]
        if not self.in_data:
            body.append(CopySegment(self.names.segment, const(0), self.size, self.names.taps))
        blocks = [("b", self._blocks, {"w": self._runs * self._run_words, "m": self.loops.sums})]
        body += over(blocks, {"w": const(0), "m": const(0)}, self._block)
        return [*body, *self._brought_back(), *self.target.joined()]

    def _block(self, at: dict[str, Expr]) -> list[Statement]:
        """Return the statements for some words of sums of all pixels."""
        names, sums = self.names, self.loops.sums
        if self._runs == 1:
            copies = [CopySegment(names.segment, at["w"], self._run_words, names.taps)] if self.in_data else []
            return [*copies, *self._every_pixel(at, const(self.source.word(0, 0)), self._whole)]

        def started(place: dict[str, Expr]) -> list[Statement]:
            words = (Load(names.taps, const(a)) for a in range(sums))
            return [Store(names.partial, add(place["m"], const(a)), word) for a, word in enumerate(words)]

        def run(place: dict[str, Expr]) -> list[Statement]:
            copy = CopySegment(names.segment, place["w"], self._run_words, names.taps)
            return [copy, *self._every_pixel(at, place["p"], self._more)]

        every = [("e", self.target.height * self._columns, {"m": self._all})]
        step = {"w": self._run_words, "p": self.loops.inputs * self.source.channel_words}
        return [
            CopySegment(names.segment, at["w"], sums, names.taps),
            *over(every, {"m": at["m"]}, started),
            *over([("i", self._runs, step)], {"w": at["w"], "p": const(self.source.word(0, 0))}, run),
            *over(
                every,
                {"m": at["m"]},
                lambda place: [*self._accumulators(names.partial, place["m"]), *self._ended(place)],
            ),
        ]

    def _every_pixel(
        self, at: dict[str, Expr], first: Expr, body: Callable[[dict[str, Expr]], list[Statement]]
    ) -> list[Statement]:
        """Return loops over all pixels.

        Args:
            at: Where the block's sums are.
            first: The first word of pixels of the run's first channel.
            body: What is done for a pixel.
        """
        source, phases = self.source, self.source.phases
        rows = ("y", self.target.height, {"p": self.conv.strides[0] * source.row_words, "m": self._columns * self._all})
        of_phases = ("f", phases, {"p": source.words, "m": self._all})
        chunks = ("g", source.count(0) // self._chunk, {"g": 1, "m": phases * self._chunk * self._all})
        starts = {"p": first, "m": at["m"], "g": const(0)}
        return over([rows, of_phases, chunks], starts, lambda place: self._pixels(place, body))

    def _pixels(self, at: dict[str, Expr], body: Callable[[dict[str, Expr]], list[Statement]]) -> list[Statement]:
        """Return a loop over some pixels of a word."""
        source, step = self.source, self.source.phases * self._all
        per = source.useful // self._chunk if self._chunk < source.count(0) else 1
        first, moves = const(source.before * source.pitch), [Induction("m_t", at["m"], step)]
        place = {"s": Var("s_t"), "m": Var("m_t"), "p": add(at["p"], at["g"])}
        if per == 1:
            loops = (Induction("s_t", first, source.pitch), *moves)
        else:  # a loop counts from a constant on
            lanes = add(mul(_mod(at["g"], const(per)), const(self._chunk * source.pitch)), first)
            word = Induction("p_t", add(at["p"], div(at["g"], const(per))), 0)
            loops = (Induction("t", const(0), 1), Induction("s_t", lanes, source.pitch), *moves, word)
            place["p"] = Var("p_t")
        return [For(loops, self._chunk, tuple(body(place)))]

    def _whole(self, at: dict[str, Expr]) -> list[Statement]:
        """Return the statements for some words of sums of a pixel whose inputs are one run."""
        return [*self._accumulators(self.names.taps, const(0)), *self._products(at), *self._ended(at)]

    def _more(self, at: dict[str, Expr]) -> list[Statement]:
        """Return the statements that add a run's products to some words of sums of a pixel."""
        partial, sums = self.names.partial, range(self.loops.sums)
        kept = [Store(partial, add(at["m"], const(a)), Var(f"acc{a}")) for a in sums]
        return [*self._accumulators(partial, at["m"]), *self._products(at), *kept]

    def _accumulators(self, buffer: str, at: Expr) -> list[Statement]:
        """Return the statements that bring some words of sums into variables."""
        return [Let(f"acc{a}", Load(buffer, add(at, const(a)))) for a in range(self.loops.sums)]

    def _ended(self, at: dict[str, Expr]) -> list[Statement]:
        """Return the statements that end some words of sums of a pixel."""
        ending = Ending(
            self.ended, self.pitch, range(self.lanes), factors=self.factors(*self.literal_factors(0)), clears=True
        )
        body: list[Statement] = []
        for a in range(self.loops.sums):
            steps, word = ending.word(f"acc{a}")
            body.append(Block((*steps, Store(self.names.sums, add(at["m"], const(a)), word))))
        return body

    def _products(self, at: dict[str, Expr]) -> list[Statement]:
        """Return the statements that add the products of a run of inputs of a pixel."""
        body: list[Statement] = []
        mask = const((1 << self.source.top.bit_length()) - 1)
        for number in range(self.loops.inputs):
            word = Load(self.source.buffer, add(at["p"], const(number * self.source.channel_words)))
            products = tuple(
                Assign(f"acc{a}", add(mul(Var("x"), self._weights(number, a)), Var(f"acc{a}")))
                for a in range(self.loops.sums)
            )
            x = Let("x", and_(_down(at["s"], word), mask))
            body.append(Block((x, If(Var("x"), products, share=self.loops.share))))
        return body

    def _weights(self, number: int, a: int) -> Expr:
        return Load(self.names.taps, const((1 + number) * self.loops.sums + a))

    # -- back into lanes by pixel ------------------------------------------------------------------------------------

    @property
    def _result_bits(self) -> int:
        return max(self.target.top.bit_length(), 1)

    @cached_property
    def _merged(self) -> int:
        """Pixels whose results share the lanes of a word."""
        return _PAIR if min(self.pitch, self.target.pitch) >= _PAIR * self._result_bits else 1

    def _brought_back(self) -> list[Statement]:
        """Return the statements that bring the results into lanes by pixel."""
        target, every = self.target, self.conv.outputs // self.lanes
        row = ("y", target.height, {"m": self._columns * self._all, "o": target.row_words})
        whole = ("a", every, {"m": 1, "o": self.lanes * target.channel_words})
        rest = self.conv.outputs - every * self.lanes

        def back(at: dict[str, Expr], channels: int) -> list[Statement]:
            words = [(phase, j) for phase in range(target.phases) for j in range(target.words)]
            return [Block(tuple(self._word_back(at, channels, *word))) for word in words]

        def rows(at: dict[str, Expr]) -> list[Statement]:
            body = over([whole], at, lambda place: back(place, self.lanes))
            if rest:
                place = {
                    "m": add(at["m"], const(every)),
                    "o": add(at["o"], const(every * self.lanes * target.channel_words)),
                }
                body += back(place, rest)
            return body

        return over([row], {"m": const(0), "o": const(target.word(0, 0))}, rows)

    def _word_back(self, at: dict[str, Expr], channels: int, phase: int, j: int) -> list[Statement]:
        """Return the statements for a word of pixels of each channel of a word."""
        target, bits, merged = self.target, self._result_bits, self._merged
        valid = target.valid(phase, j)
        columns = [phase + target.phases * (j * target.useful + n) for n in range(len(valid))]
        names: list[str] = []
        body: list[Statement] = []
        for first in range(0, len(columns), merged):
            word: Expr | None = None
            for number, column in enumerate(columns[first : first + merged]):
                one = shl(number * bits, Load(self.names.sums, add(at["m"], const(column * self._all))))
                word = one if word is None else or_(one, word)
            assert word is not None
            names.append(f"u{len(names)}")
            body.append(Let(names[-1], word))
        rim = const(spread(target.zero, target.pitch, target.filled(phase, j) if target.words == 1 else []))
        place, together = add(at["o"], const(phase * target.words + j)), self._taken_together(channels, len(valid))
        return [*body, *(Block(tuple(self._channels_back(names, lanes, valid, rim, place))) for lanes in together)]

    def _taken_together(self, channels: int, pixels: int) -> Iterator[range]:
        """Iterate over the lanes of a word, as many at once as leave room for all pixels of each between them."""
        span = (pixels - 1) * self.target.pitch + self._result_bits
        apart = -(-span // self.pitch)
        most = 1 + (WORD - span) // (apart * self.pitch)
        for base in range(0, channels, most * apart):
            end = min(base + most * apart, channels)
            yield from (range(lane, end, apart) for lane in range(base, min(base + apart, end)))

    def _channels_back(
        self, names: Sequence[str], lanes: range, valid: Sequence[int], rim: Expr, place: Expr
    ) -> list[Statement]:
        """Return the statements that store a word of pixels of some channels.

        Args:
            names: Variables with the results of several pixels in each lane.
            lanes: The channels'.
            valid: Lanes of the target's that the pixels go to.
            rim: What the other lanes hold.
            place: Where the word of the first lane's channel goes.
        """
        target, bits, pitch, apart = self.target, self._result_bits, self.target.pitch, lanes.step * self.pitch

        def everywhere(mask: int) -> Expr:
            return const(spread(mask, apart, range(len(lanes))))

        together: Expr = const(0)
        for number, name in enumerate(names):
            first = number * self._merged
            own = len(valid[first : first + self._merged]) * bits
            one = and_(shr(self.pitch * lanes.start, Var(name)), everywhere((1 << own) - 1))
            together = or_(shl(pitch * first, one), together)
        body: list[Statement] = [Let("all", together)]
        if self._merged > 1 and len(valid) > 1:
            even, odd = (spread((1 << bits) - 1, pitch, range(n, len(valid), _PAIR)) for n in range(_PAIR))
            moved = and_(shl(pitch - bits, Var("all")), everywhere(odd))
            body.append(Assign("all", or_(moved, and_(Var("all"), everywhere(even)))))
        every = const(spread((1 << bits) - 1, pitch, valid))
        for number, lane in enumerate(lanes):
            up = pitch * valid[0] - number * apart
            word = shl(up, Var("all")) if up > 0 else shr(-up, Var("all"))
            word = and_(word, every) if len(lanes) > 1 else word
            body.append(Store(target.buffer, add(place, const(lane * target.channel_words)), add(word, rim)))
        return body


def _is_product(conv: Convolution) -> bool:
    """Return whether each pixel of the result is one pixel times a matrix, and ends as all channels do."""
    return (
        conv.weights.shape[2:] == (1, 1)
        and conv.groups == 1
        and conv.pool == (1, 1)
        and conv.pads == (0, 0)
        and conv.strides[1] == 1
        and conv.out_width == conv.width
        and (conv.out_height - 1) * conv.strides[0] < conv.height
        and conv.beside is None
        and not isinstance(conv.epilogue.scaling, ChannelScaling)
    )


def _pitch(conv: Convolution, source: Maps) -> int:
    """Return the bits of a lane of sums."""
    return conv.lane_bits(source.top, source.zero)


def _run(channels: int, sums: int) -> int:
    """Return of how many inputs a data contract holds the weights, so many words each, and what the sums start with."""
    most = CONTRACT_WORDS // sums - 1
    return max(n for n in range(1, channels + 1) if channels % n == 0 and n <= most)
