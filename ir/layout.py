"""Layouts: where the elements of a tensor lie in words of lanes, and what moving a tensor means for that.

A layout says of every dimension how many words and how many lanes an element is from its neighbour. A dimension may be
taken apart into axes: the columns of an image, say, into even and odd ones in different words, and of each so many to a
word. A stride of a convolution is then a gap, and a transposition, a slice or a reshaping another layout of the same
words: nothing moves. Where there is no such layout the movement has to be done, or is a gather.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from .types import Array


@dataclass(frozen=True, slots=True)
class Axis:
    """A part of a dimension whose places are equally far apart.

    Attributes:
        dim: The dimension.
        extent: Number of places.
        step: Elements of the dimension from one to the next.
        words: Words from one to the next.
        lanes: Lanes from one to the next.
    """

    dim: int
    extent: int
    step: int
    words: int = 0
    lanes: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a tensor's elements are: lane t of a word starts at bit t · pitch, and holds u = q − offset >= 0.

    Attributes:
        shape: The tensor's.
        axes: Of every dimension, whose index is the sum of its axes' digits, each times its step. An axis whose step is
            s has as many places as the next larger step has of s.
        pitch: Bits from lane to lane; 256 for one lane a word.
        bits: Width of u.
        offset: What u = 0 stands for.
        word, lane: Where the element with all digits 0 is.
        mirrored: By dimension, whether digits count from its end.
        rim: By dimension, how many places before its first and after its last element, in the order of its digits, hold
            what stands for zero: in lanes and words that the axes reach going on as they do.
    """

    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    pitch: int = 256
    bits: int = 256
    offset: int = 0
    word: int = 0
    lane: int = 0
    mirrored: tuple[bool, ...] = ()
    rim: tuple[tuple[int, int], ...] = ()

    @classmethod
    def row_major(cls, shape: Sequence[int]) -> Layout:
        """Return the layout with a word an element, the last dimension the innermost."""
        steps = [prod(shape[dim + 1 :]) for dim in range(len(shape))]
        axes = tuple(Axis(dim, size, 1, words=step) for dim, (size, step) in enumerate(zip(shape, steps, strict=True)))
        return cls(tuple(shape), axes)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    def of(self, dim: int) -> list[Axis]:
        """Return the axes of a dimension, the one with the smallest step first."""
        return sorted((a for a in self.axes if a.dim == dim), key=lambda a: a.step)

    def is_mirrored(self, dim: int) -> bool:
        """Return whether the digits of a dimension count from its end."""
        return bool(self.mirrored) and self.mirrored[dim]

    def place(self, index: Sequence[int]) -> tuple[int, int]:
        """Return word and lane of an element; of one outside the shape, those where the axes go on to."""
        word, lane = self.word, self.lane
        for dim, i in enumerate(index):
            rest = self.shape[dim] - 1 - i if self.is_mirrored(dim) else i
            for axis in reversed(self.of(dim)):
                digit, rest = divmod(rest, axis.step)
                word, lane = word + digit * axis.words, lane + digit * axis.lanes
        return word, lane

    def places(self) -> tuple[Array, Array]:
        """Return words and lanes of all elements (int64, row-major, one axis each)."""
        words, lanes = (np.full(self.shape, start, dtype=np.int64) for start in (self.word, self.lane))
        for dim, size in enumerate(self.shape):
            rest = np.arange(size)[::-1] if self.is_mirrored(dim) else np.arange(size)
            along = [1] * len(self.shape)
            along[dim] = size
            for axis in reversed(self.of(dim)):
                digit, rest = np.divmod(rest, axis.step)
                words = words + (digit * axis.words).reshape(along)
                lanes = lanes + (digit * axis.lanes).reshape(along)
        return words.ravel(), lanes.ravel()

    # -- movements -------------------------------------------------------------------------------------------------

    def transposed(self, order: Sequence[int]) -> Layout:
        """Return the layout of the tensor with its dimensions in another order (numpy's `transpose`)."""
        new = {old: dim for dim, old in enumerate(order)}
        return replace(
            self,
            shape=tuple(self.shape[d] for d in order),
            axes=tuple(replace(a, dim=new[a.dim]) for a in self.axes),
            mirrored=tuple(self.mirrored[d] for d in order) if self.mirrored else (),
            rim=tuple(self.rim[d] for d in order) if self.rim else (),
        )

    def sliced(self, dim: int, start: int, stop: int, step: int = 1) -> Layout | None:
        """Return the layout of elements start, start + step, … below stop of a dimension; None if no axes do it."""
        length = -(-(stop - start) // step)
        first = self.shape[dim] - 1 - start - (length - 1) * step if self.is_mirrored(dim) else start
        word, lane, axes = self.word, self.lane, self.of(dim)
        found: list[Axis] = []
        varies = length > 1
        for axis in axes:
            outermost = axis is axes[-1]
            reach = axis.step * axis.extent
            digit = first // axis.step if outermost else first // axis.step % axis.extent
            word, lane = word + digit * axis.words, lane + digit * axis.lanes
            if not varies or (step % reach == 0 and not outermost):
                continue
            last = outermost or step * (length - 1) + first % reach < reach  # no axis further out varies
            times = max(step // axis.step, 1)
            aligned = step % axis.step == 0 or (axis.step % step == 0 and first % axis.step < step)
            wraps = axis.extent % times == 0 and digit < times  # digits start again where they started
            if not aligned or not (last or wraps):
                return None
            extent = -(-length * step // (axis.step * times)) if last else axis.extent // times
            found.append(Axis(dim, extent, max(axis.step // step, 1), axis.words * times, axis.lanes * times))
            varies = not last
        shape = (*self.shape[:dim], length, *self.shape[dim + 1 :])
        # what lies beside what is left is no rim: other elements, or nothing
        rim = (*self.rim[:dim], (0, 0), *self.rim[dim + 1 :]) if self.rim else ()
        kept = tuple(a for a in self.axes if a.dim != dim)
        return replace(self, shape=shape, axes=(*kept, *found), word=word, lane=lane, rim=rim)

    def strided(self, dim: int, step: int) -> Layout | None:
        """Return the layout of every `step`th element of a dimension, from its first on; None if no axes do it."""
        return self.sliced(dim, 0, self.shape[dim], step)

    def reshaped(self, shape: Sequence[int]) -> Layout | None:
        """Return the layout of the same elements, row-major, in another shape; None if no axes describe it."""
        found: list[Axis] = []
        mirrored, rim = [False] * len(shape), [(0, 0)] * len(shape)
        for old, new in _matched(self.shape, shape):
            if len(old) == len(new) == 1:
                found += [replace(a, dim=new[0]) for a in self.of(old[0])]
                mirrored[new[0]] = self.is_mirrored(old[0])
                rim[new[0]] = self.rim[old[0]] if self.rim else (0, 0)
                continue
            if any(self.is_mirrored(dim) and self.shape[dim] > 1 for dim in old):
                return None
            inner = {dim: prod(self.shape[d] for d in old if d > dim) for dim in old}
            axes = [
                replace(a, step=a.step * inner[dim], extent=min(a.extent, -(-self.shape[dim] // a.step)))
                for dim in old
                for a in self.of(dim)
                if a.step < self.shape[dim]
            ]
            split = _split(axes, [(dim, shape[dim]) for dim in reversed(new)])
            if split is None:
                return None
            found += split
        layout = replace(self, shape=tuple(shape), axes=tuple(found))
        return replace(
            layout,
            mirrored=tuple(mirrored) if any(mirrored) else (),
            rim=tuple(rim) if any(r != (0, 0) for r in rim) else (),
        )


def _matched(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Return which dimensions of two shapes of the same size hold the same elements: the smallest groups, in order."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        left, right = [i] if i < len(old) else [], [j] if j < len(new) else []
        i, j = i + len(left), j + len(right)
        while (a := prod(old[d] for d in left)) != (b := prod(new[d] for d in right)):
            if a < b:
                left.append(i)
                i += 1
            else:
                right.append(j)
                j += 1
        groups.append((left, right))
    return groups


def _split(axes: Sequence[Axis], dims: Sequence[tuple[int, int]]) -> list[Axis] | None:
    """Deal the axes of one dimension out to several that it is taken apart into, the innermost first."""
    found: list[Axis] = []
    waiting = sorted(axes, key=lambda a: a.step)
    inner = 1
    for dim, size in dims:
        outer = inner * size
        later = []
        for axis in waiting:
            if axis.step >= outer:
                later.append(axis)
                continue
            if axis.step % inner:
                return None
            reach = axis.step * axis.extent
            if reach > outer:
                if outer % axis.step:
                    return None
                times = outer // axis.step
                rest = -(-axis.extent // times)
                later.append(Axis(axis.dim, rest, outer, axis.words * times, axis.lanes * times))
                axis = replace(axis, extent=times)
            found.append(Axis(dim, axis.extent, axis.step // inner, axis.words, axis.lanes))
        waiting, inner = later, outer
    # an axis that is left has places that no element of the dimension is at
    return found
