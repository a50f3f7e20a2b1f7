"""Moving the bits of words to other places: terms that shift and mask, and a Benes network that permutes a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_WORD = 256
_MASK = (1 << _WORD) - 1

Place = tuple[int, int]
"""Number of a word, and of a bit in it."""


class Term(NamedTuple):
    """Bits of a source word that go the same way.

    Attributes:
        word: Number of the source word.
        shift: By how much they move to the left; negative: to the right.
        mask: Where they then are.
    """

    word: int
    shift: int
    mask: int


def gathered(wanted: Mapping[int, Place]) -> tuple[list[Term], dict[int, int]]:
    """Return terms that together bring every wanted bit somewhere into one word, and where.

    Terms are chosen one after the other, each the one that brings the most bits to places that are free. A bit that is
    wanted several times is brought as often.

    Args:
        wanted: By name of a bit: where it is.

    Returns:
        The terms, and the place of each bit by its name.
    """
    waiting: dict[Place, list[int]] = {}
    for name, place in wanted.items():
        waiting.setdefault(place, []).append(name)
    free, terms, found = _MASK, list[Term](), dict[int, int]()
    while waiting:
        sources: dict[int, int] = {}
        for word, bit in waiting:
            sources[word] = sources.get(word, 0) | 1 << bit
        best = Term(0, 0, 0)
        for word, bits in sorted(sources.items()):
            counts = np.correlate(_apart(free), _apart(bits), "full")  # by shift, from 1 - _WORD on
            in_place = counts[_WORD - 1] == counts.max()
            shift = 0 if in_place else int(counts.argmax()) + 1 - _WORD
            moved = (bits << shift if shift >= 0 else bits >> -shift) & free
            count, most = moved.bit_count(), best.mask.bit_count()
            if count > most or (count == most and in_place):
                best = Term(word, shift, moved)
        terms.append(best)
        free &= ~best.mask
        for place in list(waiting):
            word, bit = place
            target = bit + best.shift
            if word == best.word and 0 <= target < _WORD and best.mask >> target & 1:
                found[waiting[place].pop()] = target
                if not waiting[place]:
                    del waiting[place]
    return terms, found


def brought(wanted: Mapping[int, Place]) -> list[Term]:
    """Return terms that bring every bit to its very place, by name: of each way that bits go one."""
    masks: dict[tuple[int, int], int] = {}
    for place, (word, bit) in wanted.items():
        way = word, place - bit
        masks[way] = masks.get(way, 0) | 1 << place
    return [Term(word, shift, mask) for (word, shift), mask in masks.items()]


def _apart(word: int) -> NDArray[np.float32]:
    """Return the bits of a word, the lowest first: as floats, which count them exactly and are correlated fast."""
    return np.unpackbits(np.frombuffer(word.to_bytes(_WORD // 8), np.uint8))[::-1].astype(np.float32)


def completed(part: Mapping[int, int]) -> list[int]:
    """Return a permutation of a word's bits (by place: which one comes there) that does what a part of one says."""
    free = set(range(_WORD)) - set(part.values())
    permutation = [part.get(place, -1) for place in range(_WORD)]
    for place, source in enumerate(permutation):
        if source < 0 and place in free:
            permutation[place] = place
            free.discard(place)
    rest = iter(sorted(free))
    return [next(rest) if source < 0 else source for source in permutation]


class Stage(NamedTuple):
    """Pairs of bits, `distance` apart, that are exchanged.

    Attributes:
        distance: How far apart.
        mask: The lower bit of each pair.
    """

    distance: int
    mask: int


def routed(permutation: Sequence[int]) -> list[Stage]:
    """Return the stages of a Benes network that permute a word, without those that exchange nothing.

    Args:
        permutation: By place: which bit comes there.
    """
    depth = 2 * (len(permutation).bit_length() - 1) - 1
    masks, distances = [0] * depth, [0] * depth
    todo = [(list(permutation), 0, 0, depth - 1)]
    while todo:
        own, base, first, last = todo.pop()
        half = len(own) // 2
        distances[first] = distances[last] = half
        if len(own) == 2:
            masks[first] |= (1 << base) if own[0] == 1 else 0
            continue
        upper = _halves(own)
        low, high = [0] * half, [0] * half
        for i in range(half):
            if upper[i]:
                masks[first] |= 1 << (base + i)
            pair = own[i], own[i + half]
            if upper[pair[0]]:
                masks[last] |= 1 << (base + i)
                pair = pair[::-1]
            low[i], high[i] = pair[0] % half, pair[1] % half
        todo += [(low, base, first + 1, last - 1), (high, base + half, first + 1, last - 1)]
    return [Stage(distance, mask) for distance, mask in zip(distances, masks, strict=True) if mask]


def _halves(permutation: Sequence[int]) -> list[bool]:
    """Return, by bit, whether it goes through the network's upper half (the looping algorithm)."""
    size = len(permutation)
    half = size // 2
    goal = [0] * size
    for place, source in enumerate(permutation):
        goal[source] = place
    upper: list[bool | None] = [None] * size
    for start in range(size):
        bit, side = start, start >= half  # straight on, where nothing speaks against it
        while upper[bit] is None:
            upper[bit] = side
            partner = permutation[(goal[bit] + half) % size]  # comes out beside it, so it takes the other way
            upper[partner] = not side
            bit = (partner + half) % size  # goes in beside that one
    return [bool(side) for side in upper]


def applied(stages: Sequence[Stage], word: int) -> int:
    """Return a word after all stages."""
    for distance, mask in stages:
        moved = (word ^ (word >> distance)) & mask
        word ^= moved ^ (moved << distance)
    return word
