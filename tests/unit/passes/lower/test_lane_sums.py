"""Means over whole channels of what lies in lanes: words are added, and nothing is unpacked."""

from __future__ import annotations

import numpy as np
import pytest

from ml2sc.passes.lower.lane_sums import LaneSums
from ml2sc.passes.lower.values import Laned, Value
from ml2sc.passes.precision import Integer

from .conftest import Agree, Quantised


def network(channels: int, height: int, width: int, activation: str) -> str:
    """Return a convolution, the mean of each of its channels, and a layer behind them."""
    rng = np.random.default_rng(channels * height + width)

    def const(name: str, *shape: int) -> str:
        sizes, values = ", ".join(map(str, shape)), rng.normal(size=int(np.prod(shape))).round(4).tolist()
        return f"const %{name}: float[{sizes}] = [{', '.join(map(repr, values))}]\n"

    shape = f"float[1,{channels},{height},{width}]"
    return (
        f'graph "m"\ninput %x: float[1,2,{height},{width}]\nrange %x [-1.0, 1.0]\n'
        + const("k", channels, 2, 3, 3)
        + f"%c: {shape} = Conv(%x, %k) {{pads=[1,1,1,1]}} @c\n"
        + f"%r: {shape} = {activation}(%c) @r\n"
        + f"%m: float[1,{channels},1,1] = AveragePool(%r) {{kernel_shape=[{height},{width}]}} @m\n"
        + f"%f: float[1,{channels}] = Flatten(%m) {{axis=1}} @f\n"
        + const("w", channels, 3)
        + "%y: float[1,3] = Gemm(%f, %w) @y\noutput %y"
    )


@pytest.mark.parametrize("activation", ["Relu", "Tanh"])
@pytest.mark.parametrize(("channels", "height", "width"), [(5, 4, 6), (3, 5, 17), (1, 3, 3)])
def test_nothing_is_unpacked(
    channels: int, height: int, width: int, activation: str, quantised: Quantised, agree: Agree
) -> None:
    program = agree(quantised(network(channels, height, width, activation), Integer(8, 8)))
    assert not [s.name for s in program.layers if s.name.startswith("unpack_c")]


def lanes(count: int, stride: int = 16, bits: int = 8) -> Laned:
    return Laned("buffer", 256 // stride, stride, bits, -3, count)


def test_channels_that_lie_alike_are_found() -> None:
    value = Value.of(lanes(96)).take(np.array([*range(10), *range(32, 42), *range(64, 74)]))
    found = LaneSums.of(value, 3)
    assert found is not None
    assert (found.first, found.step, dict(found.words)) == (0, 2, {0: tuple(range(10))})


@pytest.mark.parametrize(
    ("places", "channels", "stride"),
    [
        ([0, 1, 17, 18], 2, 16),  # other lanes
        ([0, 1, 16, 17, 48, 49], 3, 16),  # at no equal distances
        ([32, 33, 0, 1], 2, 16),  # backwards
        ([0, 0, 16, 16], 2, 16),  # one element twice
        (list(range(32)), 1, 8),  # sums have no room
    ],
)
def test_others_are_not(places: list[int], channels: int, stride: int) -> None:
    assert LaneSums.of(Value.of(lanes(96, stride)).take(np.array(places)), channels) is None
