"""The functions of one variable that we know: activations, exponentials, logarithms, roots, reciprocals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from ml2sc.errors import UnsupportedModelError

from .. import fixmath
from ..graph import AttrValue, Node, Tensor
from ..program import word_multiplier
from ..series import ONE, Series, erf, exp, log, sqrt, two_over_root_pi
from ..smooth import Line
from ..types import Array, FixedPoint, round_half_up
from .base import Arrays, Bounds, ErrorContext, Inputs, attr_float, attr_int, register_op
from .functions import (
    FLOAT_SLACK,
    LEAST_BITS,
    SPARE_BITS,
    UP,
    WORD_BITS,
    RealFunction,
    SmoothFunction,
    table_of,
    too_wide,
)
from .operands import value_at
from .quantizer import Quantizer


@register_op
class Sigmoid(SmoothFunction):
    """1 / (1 + exp(−X)).

    Wide, it is `fixmath.sigmoid` of (x − z)·multiplier / 2^shift, which is x in 96 fraction bits.
    """

    op_type = "Sigmoid"
    right = Line(0.0, 1.0)
    mirror = -1

    def real(self, node: Node, x: Any) -> Any:
        return 1 / (1 + exp(-x))

    def quantize_wide(self, node: Node, q: Quantizer) -> None:
        x = q.raw(node.inputs[0])
        attrs = fixmath.input_attrs(x.format.scale, q.saturating_bits(x))
        self.emit_wide(node, q, x, fixmath.OUTPUT_BITS, attrs)

    def exact_wide(self, node: Node) -> Callable[[int], int]:
        scale = fixmath.InputScale.of(node)
        return lambda u: fixmath.sigmoid(scale, u)

    def interval_exact(
        self, node: Node, inputs: Inputs, bounds: Sequence[Bounds | None], outputs: Sequence[Tensor]
    ) -> list[Bounds]:
        y = super().interval_exact(node, inputs, bounds, outputs)[0]
        if table_of(node) is not None:
            return [y]
        return [Bounds(np.maximum(y.lo, 0), np.minimum(y.hi, fixmath.OUTPUT_ONE))]

    def error_wide(self, node: Node, x: FixedPoint) -> float:
        return fixmath.SIGMOID_ERROR + fixmath.InputScale.of(node).error(x.scale)


@register_op
class Tanh(SmoothFunction):
    """(exp(X) − exp(−X)) / (exp(X) + exp(−X))."""

    op_type = "Tanh"
    left = Line(0.0, -1.0)
    right = Line(0.0, 1.0)
    mirror = -1

    def real(self, node: Node, x: Any) -> Any:
        return 2 / (1 + exp(-2 * x)) - 1


@register_op
class Erf(SmoothFunction):
    """2/√π · ∫ exp(−t²) dt from 0 to X."""

    op_type = "Erf"
    left = Line(0.0, -1.0)
    right = Line(0.0, 1.0)
    mirror = -1

    def real(self, node: Node, x: Any) -> Any:
        return erf(x)


@register_op
class Softplus(SmoothFunction):
    """ln(1 + exp(X)).

    A `threshold` is PyTorch's: from there on it takes X itself, which the integer form does not.
    """

    op_type = "Softplus"
    mirror = 1

    def real(self, node: Node, x: Any) -> Any:
        return log(1 + exp(x))

    def evaluate(self, node: Node, inputs: Arrays) -> list[Array]:
        y, x = super().evaluate(node, inputs)[0], value_at(inputs, 0)
        return [np.where(x > attr_float(node, "threshold", math.inf), x, y)]

    def settings(self, node: Node) -> dict[str, AttrValue]:
        return {"threshold": node.attrs["threshold"]} if "threshold" in node.attrs else {}

    def error(self, node: Node, inputs: Inputs, context: ErrorContext) -> list[Array]:
        """Beyond the threshold t the function is X to within ln(1 + e^-t) < e^-t < 2^(-1.44·t)."""
        beyond = 2.0 ** (-1.44 * attr_float(node, "threshold", math.inf))
        return [error + beyond for error in super().error(node, inputs, context)]


@register_op
class Swish(SmoothFunction):
    """X / (1 + exp(−X)), which is PyTorch's SiLU."""

    op_type = "Swish"
    mirror = 1

    def real(self, node: Node, x: Any) -> Any:
        return x / (1 + exp(-x))

    def turn(self, node: Node) -> tuple[float, float]:
        return -1.2784645427610738, -0.2784645427611


@register_op
class Mish(SmoothFunction):
    """X · tanh(ln(1 + exp(X)))."""

    op_type = "Mish"

    def real(self, node: Node, x: Any) -> Any:
        e = exp(x)
        return x * (1 - 2 / (e * (e + 2) + 2))  # tanh(ln(1 + e)) = ((1 + e)² − 1) / ((1 + e)² + 1)

    def turn(self, node: Node) -> tuple[float, float]:
        return -1.1924312145154243, -0.3088434130173


_ERF_SCALE = Fraction(math.isqrt(ONE * ONE // 2), ONE)  # 1/√2
_TANH_SCALE = Fraction(two_over_root_pi(), ONE) * _ERF_SCALE  # √(2/π)


@register_op
class Gelu(SmoothFunction):
    """X · (1 + erf(X / √2)) / 2, or with approximate="tanh" X · (1 + tanh(√(2/π) · (X + 0.044715 · X³))) / 2.

    Attributes `scale` and `cubic` are a file's own 1/√2 or √(2/π), and 0.044715, where it wrote Gelu out.
    """

    op_type = "Gelu"
    mirror = 1
    parameters: ClassVar[Mapping[str, AttrValue]] = {"approximate": "none", "scale": 0.0, "cubic": 0.044715}

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        if node.attrs.get("approximate", "none") not in ("none", "tanh"):
            raise UnsupportedModelError(
                f"Gelu with approximate={node.attrs['approximate']!r}",
                node=str(node),
                hint="'none' and 'tanh' are supported",
            )

    def real(self, node: Node, x: Any) -> Any:
        tanh = node.attrs.get("approximate", "none") == "tanh"
        exact = _TANH_SCALE if tanh else _ERF_SCALE
        scale = attr_float(node, "scale", 0.0) or (exact if isinstance(x, Series) else float(exact))
        if tanh:
            cubic = attr_float(node, "cubic", 0.044715)
            return x / (1 + exp(-2 * scale * (x + cubic * x * x * x)))
        return x * (erf(x * scale) + 1) / 2

    def turn(self, node: Node) -> tuple[float, float]:
        # true of all scales within 1e-6 of the exact ones
        if node.attrs.get("approximate", "none") == "tanh":
            return -0.7524614220710162, -0.1700412
        return -0.7517916243494656, -0.1699715


@register_op
class Elu(SmoothFunction):
    """X where X >= 0, else alpha · (exp(X) − 1)."""

    op_type = "Elu"
    exact_right = True
    parameters: ClassVar[Mapping[str, AttrValue]] = {"alpha": 1.0}

    def lines(self, node: Node) -> tuple[Line, Line]:
        return Line(0.0, -attr_float(node, "alpha", 1.0)), self.right

    def real(self, node: Node, x: Any) -> Any:
        return attr_float(node, "alpha", 1.0) * (exp(x) - 1)

    def turn(self, node: Node) -> tuple[float, float] | None:
        return (0.0, 0.0) if attr_float(node, "alpha", 1.0) < 0 else None


@register_op
class Selu(SmoothFunction):
    """gamma · X where X >= 0, else gamma · alpha · (exp(X) − 1)."""

    op_type = "Selu"
    exact_right = True
    parameters: ClassVar[Mapping[str, AttrValue]] = {
        "alpha": 1.67326319217681884765625,
        "gamma": 1.05070102214813232421875,
    }

    def verify(self, node: Node, inputs: Inputs) -> None:
        super().verify(node, inputs)
        if min(float(v) for v in self.settings(node).values() if not isinstance(v, tuple)) < 0:
            raise UnsupportedModelError("Selu with a negative alpha or gamma is not supported", node=str(node))

    def _factors(self, node: Node) -> tuple[float, float]:
        alpha, gamma = (attr_float(node, key, float(str(default))) for key, default in self.parameters.items())
        return alpha, gamma

    def lines(self, node: Node) -> tuple[Line, Line]:
        alpha, gamma = self._factors(node)
        return Line(0.0, -alpha * gamma), Line(gamma, 0.0)

    def real(self, node: Node, x: Any) -> Any:
        alpha, gamma = self._factors(node)
        return alpha * gamma * (exp(x) - 1)


# -- functions with an integer form of their own -----------------------------------------------------------------------


def _steps(bound: Fraction, scale: Fraction) -> int:
    """Return the least integer u with u·scale >= bound."""
    return math.ceil(bound / scale)


@register_op
class Exp(RealFunction):
    """e^X.

    Wide: e^x = 2^k · exp(−t) with t = k·ln 2 − x >= 0, exp(−t) by `fixmath.exp_neg`; below exp(−64) · 2^k it is that.
    """

    op_type = "Exp"
    needs = "values of at most 100"

    def real(self, node: Node, x: Any) -> Any:
        return exp(x)

    def domain(self, lo: float, hi: float) -> bool:
        return hi <= 100

    def widen(self, node: Node, y: Bounds) -> Bounds:
        return Bounds(y.lo * (1 - FLOAT_SLACK), y.hi * (1 + FLOAT_SLACK))

    def spread(self, node: Node, lo: float, hi: float, distance: Array) -> Array:
        bound: Array = np.minimum(distance, 1.0) * float(self.value(node, Fraction(hi)))
        return bound

    def quantize_wide(self, node: Node, q: Quantizer) -> None:
        x, (lo, hi) = q.raw(node.inputs[0]), q.extent(node.inputs[0])
        scale = x.format.scale
        greatest = math.floor(hi / scale)
        ln2 = Fraction(fixmath.LN2, fixmath.ONE)
        exponent = greatest * scale // ln2 + 1
        least = max(_steps(lo, scale), math.floor((exponent * ln2 - fixmath.LIMIT) / scale))
        least = min(least, greatest)  # what is clamped to exp(−LIMIT) is off by less than 2^-92
        largest = max(abs(least), abs(greatest))
        found = word_multiplier(scale * fixmath.ONE, 112, largest.bit_length())
        if found is None:
            raise too_wide(node)
        bits = min(max(q.precise_bits, LEAST_BITS) + SPARE_BITS, fixmath.BITS - exponent)
        missed = abs(Fraction(found[0], fixmath.ONE << found[1]) - scale) * largest
        inner = Fraction(fixmath.EXP_ERROR) + missed + Fraction(1 + abs(exponent), fixmath.ONE) + Fraction(1, 1 << 92)
        attrs: dict[str, AttrValue] = {
            "least": least,
            "greatest": greatest,
            "multiplier": found[0],
            "shift": found[1],
            "start": int(exponent) * fixmath.LN2,
            "drop": fixmath.BITS - bits - int(exponent),
            "moved": float(scale),
            "own_error": float(inner * Fraction(2) ** exponent + Fraction(2) ** -bits) * UP,
        }
        self.emit_wide(node, q, x, int(bits), attrs)

    def exact_wide(self, node: Node) -> Callable[[int], int]:
        least, greatest, multiplier, shift, start, drop = (
            attr_int(node, key, 0) for key in ("least", "greatest", "multiplier", "shift", "start", "drop")
        )

        def function(u: int) -> int:
            w = (min(max(u, least), greatest) * multiplier + ((1 << shift) >> 1)) >> shift
            return fixmath.exp_neg(min(max(start - w, 0), fixmath.LIMIT << fixmath.BITS)) >> drop

        return function

    def error_wide(self, node: Node, x: FixedPoint) -> float:
        return attr_float(node, "own_error", 0.0)


@register_op
class Log(RealFunction):
    """ln X.

    Wide: v = x · 2^up in 96 fraction bits, `fixmath.ln` of it, less up · ln 2 (`offset`).
    """

    op_type = "Log"
    needs = "values above 0"

    def real(self, node: Node, x: Any) -> Any:
        return log(x)

    def domain(self, lo: float, hi: float) -> bool:
        return lo > 0

    def spread(self, node: Node, lo: float, hi: float, distance: Array) -> Array:
        bound: Array = distance / lo
        return bound

    def quantize_wide(self, node: Node, q: Quantizer) -> None:
        x, (lo, _) = q.raw(node.inputs[0]), q.extent(node.inputs[0])
        least = _steps(lo, x.format.scale)
        low = least * x.format.scale
        up = 0
        while low * Fraction(2) ** up < 1:
            up += 1
        while low * Fraction(2) ** up >= 2:
            up -= 1
        bits = q.bits(x)
        target = x.format.scale * Fraction(2) ** (fixmath.BITS + up)
        found = word_multiplier(target, 112, bits)
        if found is None:
            raise too_wide(node)
        wrong = abs(Fraction(found[0], 1 << found[1]) / target - 1)
        own = Fraction(fixmath.LN_ERROR) + Fraction(1, fixmath.OUTPUT_ONE) + wrong + Fraction(512, fixmath.ONE)
        largest = Fraction(1 << bits) * x.format.scale * Fraction(2) ** up
        attrs: dict[str, AttrValue] = {
            "least": least,
            "multiplier": found[0],
            "shift": found[1],
            "offset": up * fixmath.LN2,
            "halvings": max(math.ceil(largest).bit_length(), 1),
            "moved": float(low - lo),
            "own_error": float(own) * UP,
        }
        self.emit_wide(node, q, x, fixmath.OUTPUT_BITS, attrs)

    def exact_wide(self, node: Node) -> Callable[[int], int]:
        least, multiplier, shift, offset = (attr_int(node, k, 0) for k in ("least", "multiplier", "shift", "offset"))

        def function(u: int) -> int:
            v = (max(u, least) * multiplier + ((1 << shift) >> 1)) >> shift
            return (fixmath.ln(v) - offset) >> (fixmath.BITS - fixmath.OUTPUT_BITS)

        return function

    def error_wide(self, node: Node, x: FixedPoint) -> float:
        return attr_float(node, "own_error", 0.0)


@register_op
class Sqrt(RealFunction):
    """√X.

    Wide: floor(√v) with v = x · 2^(2·bits), which is exact to a step of 2^-bits.
    """

    op_type = "Sqrt"
    needs = "values of at least 0"

    def real(self, node: Node, x: Any) -> Any:
        return sqrt(x)

    def domain(self, lo: float, hi: float) -> bool:
        return lo >= 0

    def widen(self, node: Node, y: Bounds) -> Bounds:
        return Bounds(y.lo * (1 - FLOAT_SLACK), y.hi * (1 + FLOAT_SLACK))

    def spread(self, node: Node, lo: float, hi: float, distance: Array) -> Array:
        """√a − √b = (a − b) / (√a + √b), and at most √(a − b)."""
        bound: Array = np.sqrt(distance)
        return np.minimum(bound, distance / (2 * math.sqrt(lo))) if lo > 0 else bound

    def quantize_wide(self, node: Node, q: Quantizer) -> None:
        bits = max(q.precise_bits, LEAST_BITS) + SPARE_BITS
        x, (lo, hi) = q.operand(node.inputs[0], 2 * bits), q.extent(node.inputs[0])
        target = x.format.scale * (1 << 2 * bits)
        found = word_multiplier(target, 112, q.bits(x))
        if found is None:
            raise too_wide(node)
        wrong = abs(Fraction(found[0], 1 << found[1]) / target - 1)
        least = _steps(lo, x.format.scale)
        attrs: dict[str, AttrValue] = {
            "least": least,
            "multiplier": found[0],
            "shift": found[1],
            "radicand_bits": (math.ceil(Fraction(1 << q.bits(x)) * target) + 1).bit_length(),
            "moved": float(least * x.format.scale - lo),
            # the root's floor, v's rounding (√(v + ½) − √v < 1), the multiplier
            "own_error": (2.0 * 2.0**-bits + float(wrong) * math.sqrt(float(hi) + 1)) * UP,
        }
        self.emit_wide(node, q, x, bits, attrs)

    def exact_wide(self, node: Node) -> Callable[[int], int]:
        least, multiplier, shift = (attr_int(node, key, 0) for key in ("least", "multiplier", "shift"))
        return lambda u: math.isqrt((max(u, least) * multiplier + ((1 << shift) >> 1)) >> shift)

    def error_wide(self, node: Node, x: FixedPoint) -> float:
        return attr_float(node, "own_error", 0.0)


@register_op
class Reciprocal(RealFunction):
    """1 / X.

    Wide: (2^bits / scale) / (x − z), towards 0.
    """

    op_type = "Reciprocal"
    needs = "values that are all above or all below 0"

    def real(self, node: Node, x: Any) -> Any:
        return 1 / x

    def domain(self, lo: float, hi: float) -> bool:
        return lo > 0 or hi < 0

    def widen(self, node: Node, y: Bounds) -> Bounds:
        slack = np.maximum(np.abs(y.lo), np.abs(y.hi)) * FLOAT_SLACK
        lo, hi = (v * (1 - FLOAT_SLACK) for v in y)
        return Bounds(np.where(y.lo > 0, lo, y.lo - slack), np.where(y.hi < 0, hi, y.hi + slack))

    def spread(self, node: Node, lo: float, hi: float, distance: Array) -> Array:
        nearest = lo if lo > 0 else -hi
        bound: Array = distance / (nearest * nearest)
        return bound

    def quantize_wide(self, node: Node, q: Quantizer) -> None:
        bits = max(q.precise_bits, LEAST_BITS) + SPARE_BITS
        x, (lo, hi) = q.operand(node.inputs[0], bits), q.extent(node.inputs[0])
        if (numerator := round_half_up((1 << bits) / x.format.scale)).bit_length() > WORD_BITS:
            x = q.activation(node.inputs[0])
            numerator = round_half_up((1 << bits) / x.format.scale)
        if numerator.bit_length() > WORD_BITS:
            raise too_wide(node)
        nearest = _steps(lo if lo > 0 else -hi, x.format.scale)
        end = "least" if lo > 0 else "greatest"
        attrs: dict[str, AttrValue] = {
            end: nearest if lo > 0 else -nearest,
            "numerator": numerator,
            "moved": float(nearest * x.format.scale - (lo if lo > 0 else -hi)),
            "own_error": 1.5 * 2.0**-bits,
        }
        self.emit_wide(node, q, x, bits, attrs)

    def exact_wide(self, node: Node) -> Callable[[int], int]:
        numerator = attr_int(node, "numerator", 0)
        if "least" in node.attrs:
            least = attr_int(node, "least", 0)
            return lambda u: numerator // max(u, least)
        greatest = attr_int(node, "greatest", 0)
        return lambda u: -(numerator // -min(u, greatest))

    def error_wide(self, node: Node, x: FixedPoint) -> float:
        return attr_float(node, "own_error", 0.0)


@register_op
class Softsign(RealFunction):
    """X / (1 + |X|).

    Wide: ((x − z)·2^(grain + bits)) / (|x − z|·2^grain + one), towards 0, with `one` standing for 1 in the same steps.
    """

    op_type = "Softsign"

    def real(self, node: Node, x: Any) -> Any:
        return x / (1 + abs(x))

    def value(self, node: Node, x: Fraction) -> Fraction:
        return x / (1 + abs(x))

    def widen(self, node: Node, y: Bounds) -> Bounds:
        wide = super().widen(node, y)
        return Bounds(np.maximum(wide.lo, -1.0), np.minimum(wide.hi, 1.0))

    def spread(self, node: Node, lo: float, hi: float, distance: Array) -> Array:
        return np.minimum(distance, 2.0)

    def quantize_wide(self, node: Node, q: Quantizer) -> None:
        bits, grain = max(q.precise_bits, LEAST_BITS) + SPARE_BITS, max(q.precise_bits, LEAST_BITS)
        x = q.operand(node.inputs[0], bits + grain)
        one = round_half_up((1 << grain) / x.format.scale)
        if max(q.bits(x) + grain + bits, one.bit_length()) > WORD_BITS:
            raise too_wide(node)
        # d/done of a/(a + one) is at most 1/(4·one)
        own = Fraction(1, 1 << bits) + abs(Fraction(one) * x.format.scale / (1 << grain) - 1) / 2
        attrs: dict[str, AttrValue] = {"grain": grain, "bits": bits, "one": one, "own_error": float(own) * UP}
        self.emit_wide(node, q, x, bits, attrs)

    def exact_wide(self, node: Node) -> Callable[[int], int]:
        grain, bits, one = (attr_int(node, key, 0) for key in ("grain", "bits", "one"))

        def function(u: int) -> int:
            y = (abs(u) << grain + bits) // ((abs(u) << grain) + one)
            return y if u >= 0 else -y

        return function

    def error_wide(self, node: Node, x: FixedPoint) -> float:
        return attr_float(node, "own_error", 0.0)
