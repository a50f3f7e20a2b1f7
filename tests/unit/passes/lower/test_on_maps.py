"""Maps times a value for each channel, and what ends sums: of words of lanes, nothing is unpacked."""

from __future__ import annotations

import numpy as np
import pytest
from support import heavy

from ml2sc.passes.precision import Integer

from .conftest import Agree, Quantised


def constant(name: str, *shape: int) -> str:
    """Return random weights."""
    values = np.random.default_rng(shape).normal(size=int(np.prod(shape))).round(4).tolist()
    return f"const %{name}: float[{', '.join(map(str, shape))}] = [{', '.join(map(repr, values))}]\n"


def network(channels: int, height: int, width: int, activation: str, *, factor_first: bool = False) -> str:
    """Return a convolution, each of whose channels is multiplied by a function of its mean, and means."""
    shape, one = f"float[1,{channels},{height},{width}]", f"float[1,{channels},1,1]"
    operands = "%s, %r" if factor_first else "%r, %s"
    return (
        f'graph "m"\ninput %x: float[1,2,{height},{width}]\nrange %x [-1.0, 1.0]\n'
        + constant("k", channels, 2, 3, 3)
        + f"%c: {shape} = Conv(%x, %k) {{pads=[1,1,1,1]}} @c\n"
        + f"%r: {shape} = {activation}(%c) @r\n"
        + f"%m: {one} = AveragePool(%r) {{kernel_shape=[{height},{width}]}} @m\n"
        + constant("w", channels, channels, 1, 1)
        + f"%e: {one} = Conv(%m, %w) @e\n"
        + f"%s: {one} = Sigmoid(%e) @s\n"
        + f"%p: {shape} = Mul({operands}) @p\n"
        + f"%n: {one} = AveragePool(%p) {{kernel_shape=[{height},{width}]}} @n\n"
        + f"%y: float[1,{channels}] = Flatten(%n) {{axis=1}} @y\noutput %y"
    )


@pytest.mark.parametrize(
    ("shape", "factor_first"),
    heavy.in_turns(
        2,
        [
            (5, 4, 6, "Relu", Integer(8, 8)),  # several words a product: it has 34 bits
            (3, 5, 17, "Relu", Integer(8, 8)),  # a loop over words
            (2, 3, 3, "Tanh", Integer(8, 8)),  # lanes of signed values, of values that are not in lanes before
            (2, 3, 3, "Relu", Integer(4, 6)),
        ],
        [False, True],
    ),
    ids=str,
)
def test_words_are_multiplied_as_they_are(
    shape: tuple[int, int, int, str, Integer], factor_first: bool, quantised: Quantised, agree: Agree
) -> None:
    *sizes, activation, precision = shape
    text = network(*sizes, activation, factor_first=factor_first)
    program = agree(quantised(text, precision))
    names = [section.name for section in program.layers]
    assert next(s for s in program.layers if s.name == "p").facts["lanes"] > 1
    assert not [name for name in names if name.startswith(("unpack_p", "unpack_r"))]


def test_what_is_no_factor_a_channel_is_multiplied_element_by_element(quantised: Quantised, agree: Agree) -> None:
    """A value a column, as many as there are channels."""
    text = network(4, 4, 4, "Relu")
    columns = text.replace("%p: ", "%t: float[1,1,1,4] = Reshape(%s, %d) @t\n%p: ").replace(
        "Mul(%r, %s)", "Mul(%r, %t)"
    )
    program = agree(quantised(columns.replace("%t:", "const %d: int64[4] = [1, 1, 1, 4]\n%t:"), Integer(8, 8)))
    assert next(s for s in program.layers if s.name == "p").facts["lanes"] == 1
