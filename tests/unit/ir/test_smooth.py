"""Polynomials of the activations: no further from mpmath's values than the error that they state, and not much less."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from support import heavy

from ml2sc.ir.graph import Node
from ml2sc.ir.ops import OPS
from ml2sc.ir.ops.functions import SmoothFunction
from ml2sc.ir.smooth import Curve, Polynomials, approximate, slope

Real = Callable[[Any], Any]

FUNCTIONS: dict[str, tuple[str, dict[str, Any], Real]] = {
    "Sigmoid": ("Sigmoid", {}, lambda x: 1 / (1 + mpmath.exp(-x))),
    "Tanh": ("Tanh", {}, mpmath.tanh),
    "Erf": ("Erf", {}, mpmath.erf),
    "Softplus": ("Softplus", {}, lambda x: mpmath.log1p(mpmath.exp(x))),
    "Swish": ("Swish", {}, lambda x: x / (1 + mpmath.exp(-x))),
    "Mish": ("Mish", {}, lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x)))),
    "Gelu": ("Gelu", {}, lambda x: x * mpmath.ncdf(x)),
    "Gelu, tanh": (
        "Gelu",
        {"approximate": "tanh"},
        lambda x: x * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf(0.044715) * x**3))) / 2,
    ),
    "Elu": ("Elu", {"alpha": 0.5}, lambda x: x if x >= 0 else mpmath.expm1(x) / 2),
    "Elu, negative": ("Elu", {"alpha": -0.5}, lambda x: x if x >= 0 else -mpmath.expm1(x) / 2),
    "Selu": (
        "Selu",
        {},
        lambda x: (x if x >= 0 else 1.67326319217681884765625 * mpmath.expm1(x)) * 1.05070102214813232421875,
    ),
}
RANGES = ((-1024, 1024), (-3, 5), (2, 3), (-9, -7), (200, 300), (-300, -200))


def op_and_node(name: str) -> tuple[SmoothFunction, Node]:
    op_type, attrs, _ = FUNCTIONS[name]
    op = OPS.get(op_type)
    assert isinstance(op, SmoothFunction)
    return op, Node("n", op_type, ("x",), ("y",), attrs)


def value(p: Polynomials, curve: Curve, w: int) -> Any:
    """Return what the polynomials make of w, as a real."""
    line = curve.line(-1 if w < 0 else 1)
    x = mpmath.mpf(w) / (1 << p.bits)
    return x * line.slope + line.offset + mpmath.mpf(p.distance(w)) / (1 << p.bits)


def points(p: Polynomials, lo: int, hi: int) -> list[int]:
    """Return places to look at: both ends, 0, borders of segments, and random ones where the function bends."""
    rng = random.Random(lo * 1000 + hi)
    borders = [p.first + (i << p.segment_bits) + d for i in range(len(p.rows) + 1) for d in (-1, 0, 1)]
    bend = [int(rng.uniform(max(lo, -12), max(min(hi, 12), max(lo, -12))) * 2**p.bits) for _ in range(40)]
    found = [lo << p.bits, hi << p.bits, 0, -1, 1, *rng.sample(borders, min(len(borders), 40)), *bend]
    return [w for w in found if lo << p.bits <= w <= hi << p.bits]


@pytest.mark.parametrize("name", heavy.but_each(4, FUNCTIONS))
def test_error_is_as_stated(name: str) -> None:
    (op, node), real = op_and_node(name), FUNCTIONS[name][2]
    curve = op.curve(node)
    with mpmath.workprec(400):
        for (lo, hi), bits in itertools.chain(itertools.product(RANGES, (32,)), ((RANGES[0], 12), (RANGES[1], 60))):
            p = approximate(curve, Fraction(lo), Fraction(hi), bits, 32)
            found = max(abs(value(p, curve, w) - real(mpmath.mpf(w) / (1 << p.bits))) for w in points(p, lo, hi))
            assert found <= p.error, f"{lo} … {hi} at {bits} bits: {float(found)} > {p.error}"
            assert p.error < 2.0**-bits


@pytest.mark.parametrize("name", heavy.but_each(2, FUNCTIONS, 1))
def test_slope_turn_and_float64(name: str) -> None:
    (op, node), real = op_and_node(name), FUNCTIONS[name][2]
    curve = op.curve(node)
    for lo, hi in RANGES:
        xs = [lo + (hi - lo) * k / 64 for k in range(65)] + [k / 8 for k in range(-80, 81) if lo <= k / 8 <= hi]
        steepest = max(abs(float(mpmath.diff(real, mpmath.mpf(x), direction=-1))) for x in xs)
        bound = slope(curve, Fraction(lo), Fraction(hi))
        assert steepest <= bound * (1 + 1e-9)
        assert bound <= steepest * 1.3 + 1e-3
        floats = op.evaluate(node, [np.array(xs)])[0]
        assert all(abs(f - real(mpmath.mpf(x))) <= 1e-14 * (1 + abs(x)) for f, x in zip(floats, xs, strict=True))
    turn = op.turn(node)
    if turn is not None:
        at = mpmath.findroot(lambda x: mpmath.diff(real, x), turn[0]) if turn[0] else mpmath.mpf(0)
        assert abs(at - turn[0]) < 1e-6
        assert turn[1] <= real(at) <= turn[1] + 1e-6


def test_mirrored_halves_are_shared() -> None:
    tanh, mish = (op_and_node(name)[0].curve(op_and_node(name)[1]) for name in ("Tanh", "Mish"))
    p = approximate(tanh, Fraction(-1024), Fraction(1024), 32, 32)
    assert p.first == 0
    assert [p.distance(-w) for w in (1, 12345, 1 << 40)] == [-p.distance(w) for w in (1, 12345, 1 << 40)]
    assert approximate(mish, Fraction(-1024), Fraction(1024), 32, 32).first < 0


def test_many_values_get_shorter_polynomials() -> None:
    op, node = op_and_node("Gelu")
    few, many = (approximate(op.curve(node), Fraction(-8), Fraction(8), 32, n) for n in (1, 5000))
    assert len(many.rows[0]) < len(few.rows[0])
    assert len(many.rows) > len(few.rows)
