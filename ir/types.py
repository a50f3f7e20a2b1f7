"""Number formats of tensors and the integer intervals proved for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""Float tensors are float64 arrays; integer ones int64 or object arrays of Python ints."""


class DType(Enum):
    """Element type of a tensor that is not fixed-point (ONNX's names, lower case)."""

    FLOAT = "float"
    INT64 = "int64"
    BOOL = "bool"


NUMPY_TYPES = {DType.FLOAT: np.float64, DType.INT64: np.int64, DType.BOOL: np.bool_}
"""Element types of the arrays that hold constants of each."""

_TINY = Fraction(1, 1 << 1000)
"""Scales below it, or above its reciprocal, are no float64 that can be relied on."""
_INT64_BYTES = 8
_SMALL_BITS = 40
_SMALL = 2.0**_SMALL_BITS
_DOUBLE = 53
"""Digits of a float64."""
_FAR = 800
"""Scales within 2^-800 and 2^800, times what float64 holds exactly, stay far from where float64 ends."""
_CLEAR = 2.0**-10
"""Quotients below 2^40 are off by less than 2^-11: division, scale and sum (and a range's width and end, where they
differ by element) each round by 2^-53 of them."""


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Integers q that stand for real = scale · (q − zero_point).

    Attributes:
        bits: Width of q, 1 to 256.
        signed: Two's complement if true.
        scale: Exact size of one step (the step of a quantised float is a dyadic rational).
        zero_point: The q that stands for 0.
    """

    bits: int
    signed: bool
    scale: Fraction
    zero_point: int = 0

    @property
    def qmin(self) -> int:
        """Smallest integer of the format."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def qmax(self) -> int:
        """Largest integer of the format."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def quantize(self, real: Array) -> Array:
        """Return the integers nearest to `real` (float64, any shape), ties up, saturated to the format.

        Exact: floats are quotients rounded down only where they are far enough from a whole number and small enough
        that float64 cannot be wrong about it; else, and for formats wider than that, the rational values are computed.
        """
        flat = np.asarray(real, dtype=np.float64).ravel()
        with np.errstate(over="ignore", invalid="ignore"):
            estimate = flat / float(self.scale) if _TINY < self.scale < 1 / _TINY else flat * np.nan
        return self.nearest(estimate, lambda i: Fraction(float(flat[i])) / self.scale).reshape(np.shape(real))

    def nearest(self, estimate: Array, exact: Callable[[int], Fraction]) -> Array:
        """Return the integers nearest to numbers of steps from 0, ties up, saturated to the format: exactly.

        Args:
            estimate: The steps (float64, one axis), each off by a few roundings at most.
            exact: Gives one of them exactly, by its index.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            moved = estimate + 0.5
            down = np.floor(moved)
            clear = (np.abs(moved) < _SMALL) & (np.minimum(moved - down, down + 1 - moved) > _CLEAR)
        if self.bits > _SMALL_BITS or not clear.any():
            return integer_array([self._saturated(exact(i)) for i in range(estimate.size)], estimate.shape)
        q = np.clip(np.where(clear, down, 0).astype(np.int64) + self.zero_point, self.qmin, self.qmax)
        for index in np.flatnonzero(~clear).tolist():
            q[index] = self._saturated(exact(index))
        return q

    def quantize_one(self, real: Fraction) -> int:
        """Return the integer nearest to `real`, ties up, saturated to the format."""
        return self._saturated(real / self.scale)

    def _saturated(self, steps: Fraction) -> int:
        return min(max(round_half_up(steps) + self.zero_point, self.qmin), self.qmax)

    def dequantize(self, q: Array) -> Array:
        """Return the reals that `q` stands for, each correctly rounded to float64."""
        num, den = self.scale.numerator, self.scale.denominator
        integers = np.asarray(q)
        if integers.dtype == object:
            with suppress(OverflowError):
                integers = integers.astype(np.int64)
        if num == 1 and den & (den - 1) == 0 and den < 1 << 900 and _fits_double(integers, self.zero_point):
            exact: Array = np.ldexp((integers - self.zero_point).astype(np.float64), 1 - den.bit_length())
            return exact
        if _fits_double(integers, self.zero_point, num) and den < 1 << 900 and int(float(den)) == den:
            quotients: Array = ((integers - self.zero_point) * num).astype(np.float64) / float(den)
            return quotients  # of two exact numbers
        if not _fits_double(integers, self.zero_point) or abs(num.bit_length() - den.bit_length()) > _FAR:
            flat = [(int(v) - self.zero_point) * num / den for v in integers.ravel()]
            return np.array(flat, dtype=np.float64).reshape(np.shape(q))
        steps = (integers - self.zero_point).ravel()
        reals, sure = _products(steps.astype(np.float64), self.scale)
        for index in np.flatnonzero(~sure).tolist():
            reals[index] = int(steps[index]) * num / den
        return reals.reshape(np.shape(q))

    def __str__(self) -> str:
        zero = f"+{self.zero_point}" if self.zero_point else ""
        return f"{'s' if self.signed else 'u'}{self.bits}*{self.scale}{zero}"


def _fits_double(integers: Array, zero_point: int, factor: int = 1) -> bool:
    """Return whether float64 holds every integer, less the zero point and times a positive factor, exactly."""
    if integers.dtype != np.int64 or abs(zero_point) >= 1 << 52 or not integers.size:
        return False
    magnitude = max(int(integers.max()), -int(integers.min()), 1)  # a factor must fit even where it meets zeros only
    return (magnitude + abs(zero_point)) * factor < 1 << _DOUBLE


def _products(x: Array, factor: Fraction) -> tuple[Array, Array]:
    """Return whole float64 numbers times a positive factor, and where the result is sure to be correctly rounded.

    The factor is the sum of two float64 numbers, but for 2^−106 of it. What the product with the first lacks is found
    exactly (Dekker); it is only near the middle between two float64 numbers that the rest's own rounding, and what the
    two lack, may matter.
    """
    high = float(factor)
    low = float(factor - Fraction(high))
    product = x * high
    (x1, x2), (h1, h2) = _halves(x), _halves(np.float64(high))
    rest = ((x1 * h1 - product) + x1 * h2 + x2 * h1) + x2 * h2 + x * low
    rounded = product + rest
    away, gap = np.abs((product - rounded) + rest), np.spacing(np.abs(rounded))
    # below a power of two the next number is half as far
    sure = np.minimum(np.abs(away - gap / 2), np.abs(away - gap / 4)) > gap * 2.0**-30
    return rounded, sure | (x == 0)


def _halves(x: Array | np.float64) -> tuple[Any, Any]:
    """Return two numbers of half as many digits, whose sum each is."""
    spread = x * (2.0**27 + 1)
    upper = spread - (spread - x)
    return upper, x - upper


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """What an input's elements stand for where each has a range of its own: real = lo + width·u.

    The graph computes with u, which goes from 0 to 1 over an element's range.

    Attributes:
        lo: Least real of each element's range (float64, in the tensor's shape).
        hi: Greatest.
    """

    lo: Array
    hi: Array

    @property
    def width(self) -> Array:
        """The distance of the two, rounded to float64: by definition what u is multiplied by."""
        return np.asarray(self.hi - self.lo)

    def normalized(self, real: Array) -> Array:
        """Return u of reals, in float64."""
        return np.asarray((real - self.lo) / self.width)

    def restored(self, u: Array) -> Array:
        """Return the reals that u stands for, in float64."""
        return np.asarray(self.lo + self.width * u)

    def quantize(self, format_: FixedPoint, real: Array) -> Array:
        """Return the integers of u's format nearest to reals, ties up, saturated: exactly.

        Args:
            format_: The format of u.
            real: Float64, (samples, …): the tensor's shape after the first axis.
        """
        lo, width = (np.broadcast_to(a, real.shape).ravel() for a in (self.lo, self.width))
        flat = np.asarray(real, dtype=np.float64).ravel()
        with np.errstate(over="ignore", invalid="ignore"):
            estimate = (flat - lo) / width / float(format_.scale)

        def exact(i: int) -> Fraction:
            return (Fraction(float(flat[i])) - Fraction(float(lo[i]))) / Fraction(float(width[i])) / format_.scale

        return format_.nearest(estimate, exact).reshape(real.shape)


TensorType = DType | FixedPoint


@dataclass(frozen=True, slots=True)
class Interval:
    """All integers from lo to hi, both included."""

    lo: int
    hi: int

    def __post_init__(self) -> None:
        if self.lo > self.hi:
            raise ValueError(f"empty interval [{self.lo}, {self.hi}]")

    @property
    def magnitude(self) -> int:
        """The largest absolute value in it."""
        return max(abs(self.lo), abs(self.hi))

    @property
    def signed_bits(self) -> int:
        """Width of the narrowest two's complement number that holds all of it."""
        return (
            max(
                (self.lo if self.lo >= 0 else ~self.lo).bit_length(),
                (self.hi if self.hi >= 0 else ~self.hi).bit_length(),
            )
            + 1
        )

    def __contains__(self, value: int) -> bool:
        return self.lo <= value <= self.hi

    def __str__(self) -> str:
        return f"[{self.lo}, {self.hi}]"


@dataclass(frozen=True, slots=True)
class TreeRoom:
    """How many trees the tables of an ensemble hold, and how large ones.

    Attributes:
        own: By target, how many trees that add to it alone.
        joint: How many trees that add to several.
        forks: Forks of a tree, each of one edge.
        depth: Forks on the longest way through a tree.
    """

    own: tuple[int, ...]
    joint: int
    forks: int
    depth: int


@dataclass(frozen=True, slots=True)
class Reserve:
    """What the code of a linear layer, or of trees, has room for, whatever its weights will be.

    Attributes:
        accumulator: Interval that every sum, with its bias, must lie in.
        weight_bits: Width of its widest weight, with the sign; of trees, of what a leaf says beyond the least of its
            tree, without one.
        trees: Of trees: how many, and how large.
    """

    accumulator: Interval
    weight_bits: int
    trees: TreeRoom | None = None


def round_half_up(value: Fraction) -> int:
    """Return floor(value + 1/2)."""
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def integer_array(values: list[int], shape: tuple[int, ...]) -> Array:
    """Return Python ints as an int64 array, or as an object array where one of them needs more than 63 bits."""
    narrow = all(-(1 << 62) < v < (1 << 62) for v in values)
    out = np.empty(len(values), dtype=np.int64 if narrow else object)
    out[:] = values
    return out.reshape(shape)


def big_endian(values: Array, width: int, *, signed: bool) -> bytes:
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


def integers(data: bytes, width: int, *, signed: bool) -> Array:
    """Return the integers of so many bytes each that `big_endian` made: int64 if they are narrow, else Python ints."""
    if width >= _INT64_BYTES:
        cuts = range(0, len(data), width)
        return np.array([int.from_bytes(data[at : at + width], "big", signed=signed) for at in cuts], dtype=object)
    padded = np.zeros((len(data) // width, _INT64_BYTES), np.uint8)
    padded[:, :width] = np.frombuffer(data, np.uint8).reshape(-1, width)  # at the top: brought down with the sign
    words = padded.view(">i8" if signed else ">u8").astype(np.int64 if signed else np.uint64).ravel()
    return (words >> words.dtype.type(8 * (_INT64_BYTES - width))).astype(np.int64)


def as_python_ints(q: Array) -> Array:
    """Return an object array of Python ints: arithmetic on it can't overflow."""
    return np.asarray(q).astype(object)
