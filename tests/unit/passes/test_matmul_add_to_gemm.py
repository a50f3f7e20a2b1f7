from __future__ import annotations

from collections.abc import Callable

import pytest

from ml2sc.ir.graph import Graph
from ml2sc.passes.matmul_add_to_gemm import MatmulAddToGemm

GEMM = "const %wide: float[2,3] = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]\n%h: float[1,3] = Gemm(%x, %W) @g\n"
VECTOR = "const %s: int64[1] = [2]\n%r: float[2] = Reshape(%x, %s) @r\n"
COLUMN = "const %s: int64[2] = [2, 1]\n%r: float[2,1] = Reshape(%x, %s) @r\nconst %V: float[1,2] = [1.0, 2.0]\n"
HEAD = """
graph "m"
input %x: float[1,2]
const %W: float[2,3] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
const %c: float[3] = [0.5, 0.0, -1.0]
"""


def test_matmul_becomes_gemm_and_takes_the_add(rewrite: Callable[..., Graph]) -> None:
    rewrite(
        MatmulAddToGemm(),
        HEAD
        + """
%h: float[1,3] = MatMul(%x, %W) @matmul from ("/fc/MatMul")
%y: float[1,3] = Add(%c, %h) @add from ("/fc/Add")
output %y
""",
        """
graph "m"
input %x: float[1,2]
const %W: float[2,3] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
const %matmul.bias: float[3] = [0.5, 0.0, -1.0]
%y: float[1,3] = Gemm(%x, %W, %matmul.bias) @matmul from ("/fc/MatMul", "/fc/Add")
output %y
""",
    )


@pytest.mark.parametrize(
    ("op", "weights", "bias"),
    [
        ("Add(%h, %c)", "[2.0, 8.0, 4.0, 10.0, 6.0, 12.0]", "[3.5, 3.0, 2.0]"),
        ("Sub(%h, %c)", "[2.0, 8.0, 4.0, 10.0, 6.0, 12.0]", "[2.5, 3.0, 4.0]"),
        ("Sub(%c, %h)", "[-2.0, -8.0, -4.0, -10.0, -6.0, -12.0]", "[-2.5, -3.0, -4.0]"),
    ],
)
def test_sum_goes_into_c_with_alpha_beta_and_trans_b_applied(
    rewrite: Callable[..., Graph], op: str, weights: str, bias: str
) -> None:
    graph = rewrite(
        MatmulAddToGemm(),
        f"""
graph "m"
input %x: float[1,2]
const %V: float[3,2] = [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]
const %d: float[1,1] = [6.0]
const %c: float[3] = [0.5, 0.0, -1.0]
%h: float[1,3] = Gemm(%x, %V, %d) {{alpha=2.0, beta=0.5, transB=1}} @gemm
%y: float[1,3] = {op} @op
output %y
""",
        f"""
graph "m"
input %x: float[1,2]
const %V: float[2,3] = {_columns(weights)}
const %d: float[3] = {bias}
%y: float[1,3] = Gemm(%x, %V, %d) @gemm
output %y
""",
    )
    assert len(graph) == 1


def _columns(rows: str) -> str:
    """Write a list of 3 × 2 elements as its transpose."""
    v = rows.strip("[]").split(", ")
    return f"[{', '.join([v[0], v[2], v[4], v[1], v[3], v[5]])}]"


def test_shared_weights_are_not_overwritten(rewrite: Callable[..., Graph]) -> None:
    graph = rewrite(
        MatmulAddToGemm(),
        """
graph "m"
input %x: float[1,2]
const %W: float[2,2] = [1.0, 2.0, 3.0, 4.0]
const %d: float[2] = [1.0, 1.0]
const %c: float[2] = [5.0, 7.0]
%h: float[1,2] = Gemm(%x, %W, %d) @g1
%z: float[1,2] = Add(%h, %c) @add
%y: float[1,2] = Gemm(%z, %W, %d) @g2
output %y
""",
        """
graph "m"
input %x: float[1,2]
const %W: float[2,2] = [1.0, 2.0, 3.0, 4.0]
const %d: float[2] = [1.0, 1.0]
const %d.1: float[2] = [6.0, 8.0]
%z: float[1,2] = Gemm(%x, %W, %d.1) @g1
%y: float[1,2] = Gemm(%z, %W, %d) @g2
output %y
""",
    )
    assert graph.tensor("d").data.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"{GEMM}%y: float[1,3] = Add(%h, %c) @a\noutput %y, %h", id="output"),
        pytest.param(
            f"{GEMM}%z: float[1,3] = Add(%h, %c) @a\n%y: float[1,3] = Mul(%z, %h) @m\noutput %y", id="two uses"
        ),
        pytest.param(f"{GEMM}%y: float[1,3] = Add(%h, %h) @a\noutput %y", id="not constant"),
        pytest.param(f"{GEMM}%y: float[2,3] = Add(%h, %wide) @a\noutput %y", id="widens the result"),
        pytest.param(f"{VECTOR}%y: float[3] = MatMul(%r, %W) @m\noutput %y", id="vector"),
        pytest.param(f"{COLUMN}%y: float[1,1] = MatMul(%V, %r) @m\noutput %y", id="constant on the left"),
    ],
)
def test_leaves(rewrite: Callable[..., Graph], text: str) -> None:
    rewrite(MatmulAddToGemm(), HEAD + text)


@pytest.mark.parametrize(
    ("shape", "bias"),
    [
        ("[3]", "[3] = [0.5, 0.0, -1.0]"),
        ("[1,1,3]", "[3] = [0.5, 0.0, -1.0]"),
        ("[2,3]", "[2,3] = [0.5, 0.0, -1.0, 1.0, 2.0, 3.0]"),
    ],
)
def test_a_sequence_of_rows_is_a_layer(rewrite: Callable[..., Graph], shape: str, bias: str) -> None:
    numbers = bias.partition("= ")[2]
    rewrite(
        MatmulAddToGemm(),
        f"""
graph "m"
input %x: float[1,2,1]
const %W: float[1,3] = [1.0, 2.0, 3.0]
const %c: float{shape} = {numbers}
%h: float[1,2,3] = MatMul(%x, %W) @m
%y: float[1,2,3] = Add(%h, %c) @add
output %y
""",
        f"""
graph "m"
input %x: float[1,2,1]
const %W: float[1,3] = [1.0, 2.0, 3.0]
const %m.bias: float{bias}
%y: float[1,2,3] = Gemm(%x, %W, %m.bias) @m
output %y
""",
    )


def test_a_bias_may_differ_between_rows(rewrite: Callable[..., Graph]) -> None:
    rewrite(
        MatmulAddToGemm(),
        """
graph "m"
input %x: float[2,1]
const %W: float[1,2] = [1.0, 2.0]
const %c: float[2,2] = [1.0, 2.0, 3.0, 4.0]
%h: float[2,2] = MatMul(%x, %W) @m
%y: float[2,2] = Add(%h, %c) @add
output %y
""",
        """
graph "m"
input %x: float[2,1]
const %W: float[1,2] = [1.0, 2.0]
const %m.bias: float[2,2] = [1.0, 2.0, 3.0, 4.0]
%y: float[2,2] = Gemm(%x, %W, %m.bias) @m
output %y
""",
    )
