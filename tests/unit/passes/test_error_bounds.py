"""The two stated bounds, on graphs small enough to know what they must be."""

from __future__ import annotations

import numpy as np
import pytest

from ml2sc.ir import wad
from ml2sc.ir.analysis import evaluate_exact, prove_intervals, saturated
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.passes.precision import Binary, Integer
from ml2sc.passes.quantize import quantize


def quantized(observed: str, precision: Integer | None = None) -> Graph:
    """Return 8·x → Relu → y = 8·x, as integers; x in [0, 1]."""
    graph = parse_graph(
        'graph "two"\ninput %x: float[1,1]\nrange %x [0.0, 1.0]\nconst %W: float[1,1] = [8.0]\n'
        "const %V: float[1,1] = [1.0]\n"
        "%h: float[1,1] = MatMul(%x, %W) @fc1\n%r: float[1,1] = Relu(%h) @relu\n"
        f"%y: float[1,1] = MatMul(%r, %V) @fc2\noutput %y\n{observed}"
    )
    result = quantize(graph, precision or Integer(8, 8))
    prove_intervals(result)
    return result


def test_saturation_counts_in_the_one_bound_only() -> None:
    graph = quantized("observed %h [0.0, 4.0]\nobserved %r [0.0, 4.0]\n")
    all_inputs, unsaturated = (wad.output_error_bound(graph, saturates=s) for s in (True, False))
    assert all_inputs == pytest.approx(4.0, abs=0.1)  # x = 1 gives 8 and is clamped to 4
    assert unsaturated < 0.05


def test_nothing_saturates_without_observations() -> None:
    graph = quantized("")
    assert wad.output_error_bound(graph) == wad.output_error_bound(graph, saturates=False)


@pytest.mark.parametrize(("x", "clamped"), [(0.0, 0), (0.49, 0), (0.6, 1), (1.0, 1)])
def test_saturated_values_are_counted(x: float, clamped: int) -> None:
    graph = quantized("observed %h [0.0, 4.0]\nobserved %r [0.0, 4.0]\n")
    values = evaluate_exact(graph, wad.quantize_inputs(graph, {"x": np.array([[x]])}))
    assert sum(saturated(graph, values).values()) == clamped


def test_roundings_of_weights_have_signs() -> None:
    """0.45 becomes 0, and 0.55 becomes 1: inputs of one sign cannot make both count in full."""
    graph = parse_graph(
        'graph "one"\ninput %x: float[1,3]\nrange %x [0.0, 1.0]\nconst %W: float[3,1] = [1.0, 0.45, 0.55]\n'
        "%y: float[1,1] = MatMul(%x, %W) @fc\noutput %y\n"
    )
    assert quantize(graph, Integer(2, 16)).errors["y"] == pytest.approx(0.45, abs=1e-3)


@pytest.mark.parametrize(("lo", "jump"), [(-1.0, 1.0), (0.25, 0.0), (-3.0, 1.0)])
def test_a_step_is_off_by_its_jump_where_it_can_jump(lo: float, jump: float) -> None:
    graph = parse_graph(
        f'graph "step"\ninput %x: float[1,2]\nrange %x [{lo}, 2.0]\nconst %zero: float[] = [0.0]\n'
        "%g: bool[1,2] = GreaterOrEqual(%x, %zero) @g\n%r: float[1,2] = Cast(%g) {to=1} @c\n"
        "const %W: float[2,1] = [3.0, -5.0]\n%y: float[1,1] = MatMul(%r, %W) @fc\noutput %y\n"
    )
    result = quantize(graph, Binary(4, 20))
    prove_intervals(result)
    assert result.errors["r"] == jump
    assert wad.output_error_bound(result) == pytest.approx(8 * jump, abs=1e-6)


def test_an_index_that_counts_as_a_number() -> None:
    graph = parse_graph(
        'graph "index"\ninput %x: float[1,3]\nrange %x [-1.0, 1.0]\nconst %t: int64[3] = [7, -1, 3]\n'
        "%i: int64[1] = ArgMax(%x) {axis=1, keepdims=0} @a\n%l: int64[1] = TableLookup(%t, %i) @t\n"
        "%n: float[1] = Cast(%l) {to=1} @c\n%m: float[1] = Cast(%i) {to=1} @d\n"
        "%y: float[1] = Add(%n, %m) @s\noutput %y\n"
    )
    result = quantize(graph, Binary(4, 20))
    prove_intervals(result)
    assert (result.errors["m"], result.errors["n"], result.errors["y"]) == (2.0, 8.0, 10.0)


def test_bounds_have_the_shape_of_a_product_by_a_vector() -> None:
    graph = parse_graph(
        'graph "vector"\ninput %x: float[3,1]\nrange %x [0.0, 1.0]\nconst %v: float[1] = [2.0]\n'
        "%h: float[3] = MatMul(%x, %v) @fc1\n%s: float[3] = Sub(%h, %h) @s\nconst %w: float[3] = [1.0, 2.0, 3.0]\n"
        "%y: float[] = MatMul(%s, %w) @fc2\noutput %y\n"
    )
    result = quantize(graph, Integer(4, 4))
    prove_intervals(result)
    assert 0 < wad.output_error_bound(result, saturates=False) <= wad.output_error_bound(result)


@pytest.mark.parametrize(("lo", "bound"), [(1.0, 0.01), (0.25, 2.0)])
def test_a_norm_that_the_model_keeps_above_something(lo: float, bound: float) -> None:
    """From [1, 1] on norms are above 1; one of 0.25·√4 is not, and the integers are divided by it all the same."""
    graph = parse_graph(
        f'graph "norm"\ninput %x: float[1,4]\nrange %x [{lo}, 2.0]\n'
        '%y: float[1,4] = Normalizer(%x) {norm="L2", kept=1.0} @n\noutput %y\n'
    )
    result = quantize(graph, Integer(12, 12))
    assert result.errors["y"] <= bound
    x = np.full((1, 4), lo)
    found = evaluate_exact(result, wad.quantize_inputs(result, {"x": x}))["y"].astype(float)
    error = np.abs(found * float(result.tensor("y").format.scale) - evaluate_float(graph, {"x": x})["y"])
    assert 0.1 * (lo < 1) <= error.max() <= result.errors["y"]


def test_the_error_of_what_is_between_two_ends_is_no_more_than_what_is_between_them() -> None:
    graph = parse_graph(
        'graph "clip"\ninput %x: float[1,1]\nrange %x [0.0, 1.0]\nconst %W: float[1,1] = [1000.0]\n'
        "const %lo: float[] = [-1.0]\nconst %hi: float[] = [2.0]\n"
        "%h: float[1,1] = MatMul(%x, %W) @fc\n%y: float[1,1] = Clip(%h, %lo, %hi) @clip\noutput %y\n"
    )
    result = quantize(graph, Integer(16, 2))
    assert result.errors["h"] > 100
    assert result.errors["y"] == pytest.approx(3.0, abs=0.02)
