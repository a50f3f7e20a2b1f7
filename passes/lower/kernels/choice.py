"""Which layouts the feature maps of a chain of convolutions get: every one that fits, for the prices to decide."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .conv import Convolution
from .maps import WORD, Maps

_BYTE = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """The layouts of a chain: those of its input and of what each convolution gives, without their buffers' names.

    Attributes:
        maps: One more than there are convolutions.
        gaps: By convolution, whether its pool takes the maximum of neighbouring lanes, and leaves gaps.
    """

    maps: tuple[Maps, ...]
    gaps: tuple[bool, ...]

    def __str__(self) -> str:
        first = self.maps[0]
        how = ["gap" if gap else "" for gap in self.gaps]
        return f"{first.pitch} bits, {first.phases} phases of {first.words} words" + "".join(f", {h}" for h in how if h)


def choices(chain: Sequence[Convolution], top: int, offset: int, zero: int) -> Iterator[Choice]:
    """Iterate over the layouts that a chain of convolutions, each reading the one before, can have.

    Args:
        chain: The convolutions.
        top: Greatest u of the input.
        offset: What its u = 0 stands for.
        zero: The u that stands for zero.
    """
    for gaps in itertools.product(*((False, True) if conv.pool[1] > 1 else (False,) for conv in chain)):
        found = _laid_out(chain, gaps, (top, offset, zero))
        if found is not None:
            yield Choice(found, gaps)


def _laid_out(
    chain: Sequence[Convolution], gaps: Sequence[bool], given: tuple[int, int, int]
) -> tuple[Maps, ...] | None:
    phases = [1]
    for conv, gap in zip(reversed(chain), reversed(gaps), strict=True):
        if gap and phases[0] > 1:
            return None
        phases.insert(0, phases[0] * conv.strides[1] * (1 if gap else conv.pool[1]))
    apart = [1]
    for conv, gap in zip(chain, gaps, strict=True):
        apart.append(apart[-1] * (conv.pool[1] if gap else 1))
    held = [given]
    for conv in chain:
        interval = conv.epilogue.interval
        held.append((interval.hi - interval.lo, interval.lo, conv.zero))
    reach = [conv.reach(phases[k] // conv.strides[1]) for k, conv in enumerate(chain)]
    before = [*(max(-nearest, 0) for nearest, _ in reach), 0]
    after = [*(max(farthest, 0) for _, farthest in reach), 0]
    bits = [conv.lane_bits(held[k][0], held[k][2]) for k, conv in enumerate(chain)]
    bits.append(max(held[-1][0].bit_length(), 1))
    pitch = max(-(-need // by) for need, by in zip(bits, apart, strict=True))
    if _BYTE * phases[0] >= pitch and WORD // (_BYTE * phases[0]) == WORD // pitch:
        pitch = _BYTE * phases[0]  # bytes of the packed input lie in it as they are
    shapes = [(conv.weights.shape[1] * conv.groups, conv.height, conv.width) for conv in chain]
    last = chain[-1]
    shapes.append((last.outputs, last.out_height // last.pool[0], last.out_width // last.pool[1]))
    counts = [-(-shape[2] // by) for shape, by in zip(shapes, phases, strict=True)]
    room = [(WORD // (pitch * by) - low - high) * by for by, low, high in zip(apart, before, after, strict=True)]
    useful = min(room) // apart[-1] * apart[-1]
    if useful < 1:
        return None
    longest = max(count * by for count, by in zip(counts, apart, strict=True))
    words = -(-longest // useful)
    # words of equal lengths, none so short that the pixels beside it lie in two others
    widest = max(max(low, high) * by for low, high, by in zip(before, after, apart, strict=True))
    needed = max(-(-longest // words), widest if words > 1 else 1)
    if needed > useful:
        return None
    useful = -(-needed // apart[-1]) * apart[-1]
    rims = [*(max(conv.rows_before, conv.rows_after) for conv in chain), 0]
    maps: list[Maps] = []
    for k in reversed(range(len(shapes))):
        each = useful // apart[k]
        # a word of results is computed of the word of pixels with the same number
        own = max(-(-counts[k] // each), maps[0].words if maps else 1)
        sides = (before[k], after[k], rims[k])
        maps.insert(0, Maps("", *shapes[k], pitch * apart[k], phases[k], each, own, *sides, *held[k]))
    return tuple(maps)
