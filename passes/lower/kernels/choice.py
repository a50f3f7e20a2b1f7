"""Which layouts the feature maps of a chain of convolutions get: every one that fits, for the prices to decide."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from .conv import Convolution
from .maps import WORD, Maps

_BYTE = 8


@dataclass(frozen=True, slots=True)
class Link:
    """A convolution among others; tensors are numbered: 0 is what the first reads, k + 1 what the k-th gives.

    Attributes:
        conv: The convolution.
        reads: The tensor that it reads.
        adds: The tensor that is added to its sums, if there is one.
    """

    conv: Convolution
    reads: int
    adds: int | None = None


class Gap(Enum):
    """How every second lane, say, of a convolution's sums is left out."""

    PHASES = ""
    """None is: the pixels of each phase are in words of their own."""
    LEFT = "gap"
    """The others stay where they are."""
    CLOSED = "closed up"
    """The others are closed up, those of two words in one."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The layouts of a network: those of its input and of what each convolution gives, without their buffers' names.

    Attributes:
        maps: One more than there are convolutions.
        gaps: By convolution, how its pool, or its stride, is done.
    """

    maps: tuple[Maps, ...]
    gaps: tuple[Gap, ...]

    def __str__(self) -> str:
        first = self.maps[0]
        how = [gap.value for gap in self.gaps]
        return f"{first.pitch} bits, {first.phases} phases of {first.words} words" + "".join(f", {h}" for h in how if h)


def choices(links: Sequence[Link], top: int, offset: int, zero: int) -> Iterator[Choice]:
    """Iterate over the layouts that convolutions, which read each other's results, can have.

    Args:
        links: The convolutions, each after those that it reads.
        top: Greatest u of the input.
        offset: What its u = 0 stands for.
        zero: The u that stands for zero.
    """
    for gaps in itertools.product(*(_gaps(link.conv) for link in links)):
        found = _laid_out(links, gaps, (top, offset, zero))
        if found is not None:
            yield Choice(found, gaps)


def _gaps(conv: Convolution) -> tuple[Gap, ...]:
    if conv.gap == 1:
        return (Gap.PHASES,)
    return (Gap.PHASES, Gap.LEFT, Gap.CLOSED) if conv.gap == _PAIR else (Gap.PHASES, Gap.LEFT)


_PAIR = 2
"""Words whose lanes are closed up into one."""


def _laid_out(links: Sequence[Link], gaps: Sequence[Gap], given: tuple[int, int, int]) -> tuple[Maps, ...] | None:
    tensors = range(len(links) + 1)
    steps = [link.conv.steps(1 if gap is Gap.PHASES else link.conv.gap) for link, gap in zip(links, gaps, strict=True)]
    phases, apart = _phases(links, gaps, steps), _apart(links, gaps)
    if phases is None or apart is None:
        return None
    held = [given]
    before, after, rims = ([0] * len(tensors) for _ in range(3))
    bits = [0] * len(tensors)
    for k, link in enumerate(links):
        conv, x = link.conv, link.reads
        interval = conv.result
        held.append((interval.hi - interval.lo, interval.lo, conv.zero))
        nearest, farthest = conv.reach(phases[x] // steps[k][0], steps[k][0])
        before[x], after[x] = max(before[x], -nearest), max(after[x], farthest)
        rims[x] = max(rims[x], conv.rows_before, conv.rows_after)
        bits[x] = max(bits[x], conv.lane_bits(held[x][0], held[x][2]))
    bits = [max(need, top.bit_length(), 1) for need, (top, _, _) in zip(bits, held, strict=True)]
    pitch = max(-(-need // by) for need, by in zip(bits, apart, strict=True))
    if _BYTE * phases[0] >= pitch and WORD // (_BYTE * phases[0]) == WORD // pitch:
        pitch = _BYTE * phases[0]  # bytes of the packed input lie in it as they are
    first = links[0].conv
    shapes = [(first.weights.shape[1] * first.groups, first.height, first.width)]
    for link in links:
        conv = link.conv
        shapes.append((conv.outputs, conv.out_height // conv.pool[0], conv.out_width // conv.pool[1]))
    counts = [-(-shape[2] // by) for shape, by in zip(shapes, phases, strict=True)]
    room = [(WORD // (pitch * by) - low - high) * by for by, low, high in zip(apart, before, after, strict=True)]
    useful = min(room) // max(apart) * max(apart)
    if useful < 1:
        return None
    if Gap.CLOSED in gaps:
        useful = 1 << useful.bit_length() - 1
    longest = max(count * by for count, by in zip(counts, apart, strict=True))
    words = -(-longest // useful)
    # words of equal lengths, none so short that the pixels beside it lie in two others
    widest = max(max(low, high) * by for low, high, by in zip(before, after, apart, strict=True))
    needed = max(-(-longest // words), widest if words > 1 else 1)
    if needed > useful:
        return None
    useful = -(-needed // max(apart)) * max(apart)
    if Gap.CLOSED in gaps:  # by exchanges: lanes are numbered by bits, the lowest of which becomes the highest
        if max(apart) > 1 or useful < _PAIR:
            return None
        useful = 1 << (useful - 1).bit_length()
    own = [-(-count // (useful // by)) for count, by in zip(counts, apart, strict=True)]
    for link, gap, count in zip(links, gaps, counts[1:], strict=True):
        if gap is Gap.CLOSED:
            own[link.reads] = max(own[link.reads], _PAIR * (count - 1) // useful + 1)
    _settle(links, gaps, own, rims)
    return tuple(
        Maps(
            "",
            *shapes[t],
            pitch * apart[t],
            phases[t],
            useful // apart[t],
            own[t],
            before[t],
            after[t],
            rims[t],
            *held[t],
        )
        for t in tensors
    )


def _phases(links: Sequence[Link], gaps: Sequence[Gap], steps: Sequence[tuple[int, int]]) -> list[int] | None:
    """Return in how many phases each tensor is; None if two that read it, or are added, ask for different ones."""
    found: list[int | None] = [None] * (len(links) + 1)
    for k in reversed(range(len(links))):
        own = found[k + 1] or 1
        if gaps[k] is not Gap.PHASES and own > 1:
            return None
        wanted = [(links[k].reads, own * steps[k][0] * steps[k][1])]
        wanted += [] if links[k].adds is None else [(links[k].adds, own)]  # type: ignore[list-item]
        for tensor, phases in wanted:
            if found[tensor] not in {None, phases}:
                return None
            found[tensor] = phases
    return [phases or 1 for phases in found]


def _apart(links: Sequence[Link], gaps: Sequence[Gap]) -> list[int] | None:
    """Return how many lanes of the input's each tensor's pixels are apart; None if those that are added differ."""
    found = [1]
    for link, gap in zip(links, gaps, strict=True):
        found.append(found[link.reads] * (link.conv.gap if gap is Gap.LEFT else 1))
        if link.adds is not None and found[link.adds] != found[-1]:
            return None
    return found


def _settle(links: Sequence[Link], gaps: Sequence[Gap], words: list[int], rims: list[int]) -> None:
    """Give what is added the words and the rim of what it is added to.

    A word of results is computed of the word of pixels with the same number, where lanes are not closed up.
    """
    while True:
        before = [*words], [*rims]
        for k, (link, gap) in enumerate(zip(links, gaps, strict=True)):
            if gap is not Gap.CLOSED:
                words[link.reads] = max(words[link.reads], words[k + 1])
            if link.adds is not None:
                words[link.adds] = words[k + 1] = max(words[link.adds], words[k + 1])
                rims[link.adds] = rims[k + 1] = max(rims[link.adds], rims[k + 1])
        if before == (words, rims):
            return
