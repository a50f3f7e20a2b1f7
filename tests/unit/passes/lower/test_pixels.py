"""Images and maps that are brought into lanes: of bytes in NHWC, and from other lanes."""

from __future__ import annotations

import numpy as np
import pytest

from ml2sc.passes.lower.kernels.pixels import Order
from ml2sc.passes.precision import Integer

from .conftest import Agree, Quantised
from .test_on_maps import constant, network


@pytest.mark.parametrize(
    ("channels", "height", "width", "stride", "by_words"),
    [
        (3, 5, 7, 1, True),
        (1, 4, 6, 1, True),
        (1, 1, 9, 1, True),  # no row follows
        (3, 3, 19, 1, True),  # a row is longer than 32 bytes
        (2, 6, 9, 2, True),
        (11, 3, 5, 1, False),  # a word's pixels lie in more than 32 bytes
    ],
)
def test_images_in_nhwc(
    channels: int, height: int, width: int, stride: int, by_words: bool, quantised: Quantised, agree: Agree
) -> None:
    rows, columns = (-(-side // stride) for side in (height, width))
    text = (
        f'graph "m"\ninput %x: float[1,{height},{width},{channels}]\nrange %x [0.0, 1.0]\n'
        f"%t: float[1,{channels},{height},{width}] = Transpose(%x) {{perm=[0,3,1,2]}} @t\n"
        + constant("k", 4, channels, 3, 3)
        + f"%c: float[1,4,{rows},{columns}] = Conv(%t, %k) {{pads=[1,1,1,1], strides=[{stride},{stride}]}} @c\n"
        + f"%r: float[1,4,{rows},{columns}] = Relu(%c) @r\n"
        + f"%m: float[1,4,1,1] = AveragePool(%r) {{kernel_shape=[{rows},{columns}]}} @m\n"
        + "%y: float[1,4] = Flatten(%m) {axis=1} @y\noutput %y"
    )
    program = agree(quantised(text, Integer(8, 8)))
    assert by_words != any(name.endswith("_values") for name in program.buffers)


@pytest.mark.parametrize(
    ("channels", "height", "width", "attributes", "shape"),
    [
        (4, 5, 7, "kernel_shape=[3,3], pads=[1,1,1,1]", (4, 4, 3, 3)),
        (2, 4, 18, "kernel_shape=[1,1]", (3, 2, 1, 1)),  # several words a row
        (1, 5, 6, "kernel_shape=[3,3], pads=[1,1,1,1]", (2, 1, 3, 3)),  # no channel follows
        (3, 6, 8, "kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]", (2, 3, 3, 3)),  # every other pixel of a row
    ],
)
def test_maps_are_brought_from_other_lanes(
    channels: int,
    height: int,
    width: int,
    attributes: str,
    shape: tuple[int, ...],
    quantised: Quantised,
    agree: Agree,
) -> None:
    stride = 2 if "strides" in attributes else 1
    size = f"{shape[0]},{-(-height // stride)},{-(-width // stride)}"
    before, _ = network(channels, height, width, "Relu").split("%n: ")
    text = before + constant("q", *shape) + f"%y: float[1,{size}] = Conv(%p, %q) {{{attributes}}} @y\noutput %y"
    program = agree(quantised(text, Integer(8, 8)))
    assert not [s.name for s in program.layers if s.name.startswith("unpack_p")]


@pytest.mark.parametrize(("height", "width"), [(3, 4), (2, 9), (1, 17)])
def test_maps_that_are_enlarged_stay_in_lanes(height: int, width: int, quantised: Quantised, agree: Agree) -> None:
    rows, columns = ([entry for entry in range(size) for _ in range(2)] for size in (height, width))
    before, _ = network(2, height, width, "Relu").split("%n: ")
    text = (
        before
        + f"const %i: int64[{2 * height}] = {rows}\nconst %j: int64[{2 * width}] = {columns}\n"
        + f"%u: float[1,2,{2 * height},{width}] = Gather(%p, %i) {{axis=2}} @u\n"
        + f"%v: float[1,2,{2 * height},{2 * width}] = Gather(%u, %j) {{axis=3}} @v\n"
        + constant("q", 3, 2, 3, 3)
        + f"%y: float[1,3,{2 * height},{2 * width}] = Conv(%v, %q) {{pads=[1,1,1,1]}} @y\noutput %y"
    )
    program = agree(quantised(text, Integer(8, 8)))
    assert not [s.name for s in program.layers if s.name.startswith("unpack_p")]


@pytest.mark.parametrize(
    ("height", "width", "attributes", "size"),
    [
        (6, 6, "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]", (3, 3)),
        (5, 7, "kernel_shape=[3,3], pads=[1,1,1,1]", (5, 7)),
        (7, 20, "kernel_shape=[3,2], strides=[2,1]", (3, 19)),  # several words a row
        (8, 32, "kernel_shape=[3,3], strides=[2,2], pads=[0,0,1,1]", (4, 16)),
        (4, 9, "kernel_shape=[1,5], strides=[1,3], dilations=[1,2]", (4, 1)),
    ],
)
def test_pools_whose_windows_overlap(
    height: int, width: int, attributes: str, size: tuple[int, int], quantised: Quantised, agree: Agree
) -> None:
    pooled = f"{size[0]},{size[1]}"
    text = (
        f'graph "m"\ninput %x: float[1,2,{height},{width}]\nrange %x [-1.0, 1.0]\n'
        + constant("k", 3, 2, 3, 3)
        + f"%c: float[1,3,{height},{width}] = Conv(%x, %k) {{pads=[1,1,1,1]}} @c\n"
        + f"%r: float[1,3,{height},{width}] = Relu(%c) @r\n"
        + f"%p: float[1,3,{pooled}] = MaxPool(%r) {{{attributes}}} @p\n"
        + constant("q", 2, 3, 1, 1)
        + f"%y: float[1,2,{pooled}] = Conv(%p, %q) @y\noutput %y"
    )
    program = agree(quantised(text, Integer(8, 8)))
    assert any("greatest of windows" in choice.way for choice in program.choices.values())


def test_a_long_chain_is_cut_where_its_lanes_may_be_narrower(quantised: Quantised, agree: Agree) -> None:
    text = 'graph "m"\ninput %x0: float[1,3,4,6]\nrange %x0 [-1.0, 1.0]\n'
    for number in range(16):
        kernel = 1 if number % 4 else 3
        pads = ", ".join([str(kernel // 2)] * 4)
        text += (
            constant(f"k{number}", 3, 3, kernel, kernel)
            + f"%c{number}: float[1,3,4,6] = Conv(%x{number}, %k{number}) {{pads=[{pads}]}} @c{number}\n"
            + f"%x{number + 1}: float[1,3,4,6] = Relu(%c{number}) @r{number}\n"
        )
    program = agree(quantised(text + "output %x16", Integer(8, 8)))
    heads = [name for name, choice in program.choices.items() if name.startswith("@") and choice.way.startswith("rows")]
    assert 4 <= len(heads) < 16


def test_an_order_is_that_of_all_elements() -> None:
    places = 7 + np.arange(3)[:, None, None] + 15 * np.arange(4)[:, None] + 3 * np.arange(5)
    assert Order.of(places) == Order(7, 1, 15, 3)
    assert Order.of(places[:1, :1, :1]) == Order(7, 0, 0, 0)
    places[1, 2, 3] += 1
    assert Order.of(places) is None
