"""What rows take for an image: a sequence is one of a single row, and what is reshaped is another image."""

from __future__ import annotations

import pytest
from support import heavy

from ml2sc.ir.program import Program
from ml2sc.passes.precision import Integer

from .conftest import Agree, Quantised
from .test_on_maps import constant


def kernels(program: Program) -> list[str]:
    """Return the kernels of a program's layers."""
    return [str(section.facts["kernel"]) for section in program.layers if "kernel" in section.facts]


def network(steps: str, *shape: int) -> str:
    """Return a graph from an input of a shape to an output y, which the steps make."""
    sizes = ", ".join(map(str, shape))
    return f'graph "m"\ninput %x: float[{sizes}]\nrange %x [-1.0, 1.0]\n' + steps + "output %y"


def two_layers(*, sequence: bool) -> str:
    """Return two convolutions with a pool between and a mean, of 32 steps or of an image of one row."""
    row, none = ("", "") if sequence else ("1,", "0,")
    first, second = constant("k", 4, 2, 1, 5), constant("l", 3, 4, 1, 3)
    if sequence:
        first, second = first.replace("4, 2, 1, 5", "4, 2, 5"), second.replace("3, 4, 1, 3", "3, 4, 3")
    return network(
        first
        + f"%c: float[1,4,{row}32] = Conv(%x, %k) {{pads=[{none}2,{none}2]}} @c\n"
        + f"%r: float[1,4,{row}32] = Relu(%c) @r\n"
        + f"%p: float[1,4,{row}16] = MaxPool(%r) {{kernel_shape=[{row}2], strides=[{row}2]}} @p\n"
        + second
        + f"%d: float[1,3,{row}14] = Conv(%p, %l) @d\n"
        + f"%n: float[1,3,{row}7] = AveragePool(%d) {{kernel_shape=[{row}2], strides=[{row}2]}} @n\n"
        + "%y: float[1,21] = Flatten(%n) {axis=1} @y\n",
        *((1, 2, 32) if sequence else (1, 2, 1, 32)),
    )


def test_a_sequence_is_an_image_of_one_row(quantised: Quantised, agree: Agree) -> None:
    sequence, image = (agree(quantised(two_layers(sequence=kind), Integer(8, 8))) for kind in (True, False))
    assert kernels(sequence) == kernels(image) == ["rows", "rows", "rows"]
    assert [s.body for s in sequence.layers] == [s.body for s in image.layers]


@pytest.mark.parametrize("shape", ["1,2,16,8", "1,4,4,16", "1,2,8,16"])
def test_a_pool_takes_windows_of_its_own_image(shape: str, quantised: Quantised, agree: Agree) -> None:
    _, channels, height, width = map(int, shape.split(","))
    pooled = f"1,{channels},{height // 2},{width // 2}"
    text = network(
        constant("k", 4, 1, 3, 3)
        + "%c: float[1,4,8,8] = Conv(%x, %k) {pads=[1,1,1,1]} @c\n"
        + f"const %z: int64[4] = [{shape}]\n%s: float[{shape}] = Reshape(%c, %z) @s\n"
        + f"%y: float[{pooled}] = MaxPool(%s) {{kernel_shape=[2,2], strides=[2,2]}} @y\n",
        1,
        1,
        8,
        8,
    )
    agree(quantised(text, Integer(8, 8)))


def test_a_sum_is_of_two_images_of_one_shape(quantised: Quantised, agree: Agree) -> None:
    text = network(
        constant("k", 2, 1, 3, 3)
        + "%a: float[1,2,8,16] = Conv(%x, %k) {pads=[1,1,0,1], strides=[2,1]} @a\n"
        + "const %z: int64[4] = [1, 4, 8, 8]\n%s: float[1,4,8,8] = Reshape(%a, %z) @s\n"
        + constant("l", 4, 1, 3, 3)
        + "%b: float[1,4,8,8] = Conv(%x, %l) {pads=[1,1,0,0], strides=[2,2]} @b\n"
        + "%y: float[1,4,8,8] = Add(%b, %s) @y\n",
        1,
        1,
        16,
        16,
    )
    agree(quantised(text, Integer(8, 8)))


def block(order: str) -> str:
    """Return a convolution of two others' results, joined in an order, one of which reads the other's."""
    return network(
        constant("k", 4, 1, 3, 3)
        + "%a: float[1,4,7,9] = Conv(%x, %k) {pads=[1,1,1,1]} @a\n%r: float[1,4,7,9] = Relu(%a) @r\n"
        + constant("l", 2, 4, 3, 3)
        + "%b: float[1,2,7,9] = Conv(%r, %l) {pads=[1,1,1,1]} @b\n%s: float[1,2,7,9] = Relu(%b) @s\n"
        + f"%j: float[1,6,7,9] = Concat({order}) {{axis=1}} @j\n"
        + constant("m", 3, 6, 3, 3)
        + "%y: float[1,3,7,9] = Conv(%j, %m) {pads=[1,1,1,1]} @y\n",
        1,
        1,
        7,
        9,
    )


@pytest.mark.parametrize(
    ("order", "precision"), heavy.in_turns(2, ["%r, %s", "%s, %r"], [Integer(8, 8), Integer(4, 6)])
)
def test_joined_images_stay_in_lanes(order: str, precision: Integer, quantised: Quantised, agree: Agree) -> None:
    program = agree(quantised(block(order), precision))
    assert kernels(program) == ["rows", "rows", "rows"]
    assert not any(section.name.startswith("unpack_b") for section in program.sections())


@pytest.mark.parametrize("groups", [2, 3])
def test_shuffled_channels_stay_in_lanes(groups: int, quantised: Quantised, agree: Agree) -> None:
    each = 6 // groups
    text = network(
        constant("k", 6, 1, 3, 3)
        + "%a: float[1,6,7,9] = Conv(%x, %k) {pads=[1,1,1,1]} @a\n%r: float[1,6,7,9] = Relu(%a) @r\n"
        + f"const %z: int64[5] = [1, {groups}, {each}, 7, 9]\nconst %w: int64[4] = [1, 6, 7, 9]\n"
        + f"%s: float[1,{groups},{each},7,9] = Reshape(%r, %z) @s\n"
        + f"%t: float[1,{each},{groups},7,9] = Transpose(%s) {{perm=[0,2,1,3,4]}} @t\n"
        + "%u: float[1,6,7,9] = Reshape(%t, %w) @u\n"
        + constant("m", 3, 6, 3, 3)
        + "%y: float[1,3,7,9] = Conv(%u, %m) {pads=[1,1,1,1]} @y\n",
        1,
        1,
        7,
        9,
    )
    program = agree(quantised(text, Integer(8, 8)))
    assert kernels(program) == ["rows", "rows"]
    assert not any(section.name.startswith("unpack_a") for section in program.sections())
