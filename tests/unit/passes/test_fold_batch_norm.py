from __future__ import annotations

from collections.abc import Callable

import pytest

from ml2sc.errors import NonFiniteError
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.passes.fold_batch_norm import FoldBatchNorm

# factor = scale / sqrt(var + epsilon) = [1, 3], offset = bias - mean * factor = [-2, 1]
HEAD = """
graph "m"
input %x: float[1,2]
const %W: float[2,2] = [1.0, 2.0, 3.0, 4.0]
const %b: float[2] = [1.0, -1.0]
const %scale: float[2] = [2.0, 3.0]
const %bias: float[2] = [0.0, 1.0]
const %mean: float[2] = [2.0, 0.0]
const %var: float[2] = [3.0, 0.0]
"""
NORM = 'BatchNormalization(%{}, %scale, %bias, %mean, %var) {{epsilon=1.0}} @bn from ("bn")'


def test_after_a_gemm(rewrite: Callable[..., Graph]) -> None:
    rewrite(
        FoldBatchNorm(),
        HEAD + f'%h: float[1,2] = Gemm(%x, %W, %b) @gemm from ("fc")\n%y: float[1,2] = {NORM.format("h")}\noutput %y',
        """
graph "m"
input %x: float[1,2]
const %W: float[2,2] = [1.0, 6.0, 3.0, 12.0]
const %b: float[2] = [-1.0, -2.0]
%y: float[1,2] = Gemm(%x, %W, %b) @gemm from ("fc", "bn")
output %y
""",
    )


def test_before_a_gemm(rewrite: Callable[..., Graph]) -> None:
    rewrite(
        FoldBatchNorm(),
        HEAD
        + f"""
%r: float[1,2] = Relu(%x) @relu
%n: float[1,2] = {NORM.format("r")}
%y: float[1,2] = Gemm(%n, %W, %b) @gemm from ("fc")
output %y
""",
        """
graph "m"
input %x: float[1,2]
const %W: float[2,2] = [1.0, 2.0, 9.0, 12.0]
const %b: float[2] = [2.0, -1.0]
%r: float[1,2] = Relu(%x) @relu
%y: float[1,2] = Gemm(%r, %W, %b) @gemm from ("bn", "fc")
output %y
""",
    )


def test_by_channel_through_flatten(rewrite: Callable[..., Graph]) -> None:
    rewrite(
        FoldBatchNorm(),
        HEAD.replace("float[1,2]", "float[1,2,1,2]").replace("%W: float[2,2]", "%W: float[4,1]")
        + f"""
%n: float[1,2,1,2] = {NORM.format("x")}
%flat: float[1,4] = Flatten(%n) @flat
%y: float[1,1] = Gemm(%flat, %W) @gemm from ("fc")
output %y
""",
        """
graph "m"
input %x: float[1,2,1,2]
const %W: float[4,1] = [1.0, 2.0, 9.0, 12.0]
const %gemm.bias: float[1] = [1.0]
%flat: float[1,4] = Flatten(%x) @flat
%y: float[1,1] = Gemm(%flat, %W, %gemm.bias) @gemm from ("bn", "fc")
output %y
""",
    )


@pytest.mark.parametrize("tail", ["output %y", "%z: float[1,2] = Gemm(%y, %W) @g\noutput %z, %y"])
def test_elsewhere_it_becomes_mul_and_add(rewrite: Callable[..., Graph], tail: str) -> None:
    weights = "const %W: float[2,2] = [1.0, 2.0, 3.0, 4.0]\n" if "Gemm" in tail else ""
    rewrite(
        FoldBatchNorm(),
        HEAD + f"%y: float[1,2] = {NORM.format('x')}\n{tail}",
        f"""
graph "m"
input %x: float[1,2]
{weights}const %bn.factor: float[2] = [1.0, 3.0]
const %bn.offset: float[2] = [-2.0, 1.0]
%y.scaled: float[1,2] = Mul(%x, %bn.factor) @bn from ("bn")
%y: float[1,2] = Add(%y.scaled, %bn.offset) @bn.shift from ("bn")
{tail}
""",
    )


def test_negative_variance() -> None:
    graph = parse_graph(HEAD.replace("[3.0, 0.0]", "[3.0, -2.0]") + f"%y: float[1,2] = {NORM.format('x')}\noutput %y")
    with pytest.raises(NonFiniteError, match=r"'bn' \(BatchNormalization\)"):
        FoldBatchNorm().run(graph)
