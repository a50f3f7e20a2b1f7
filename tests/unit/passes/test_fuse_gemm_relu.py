from __future__ import annotations

from collections.abc import Callable

import pytest

from ml2sc.ir.graph import Graph
from ml2sc.passes.fuse_gemm_relu import FuseGemmRelu

HEAD = """
graph "m"
input %x: float[1,2]
const %W: float[2,2] = [1.0, 2.0, 3.0, 4.0]
const %b: float[2] = [1.0, -1.0]
"""


def test_fuses_with_attributes_and_origins(rewrite: Callable[..., Graph]) -> None:
    rewrite(
        FuseGemmRelu(),
        HEAD
        + """
%h: float[1,2] = Gemm(%x, %W, %b) {alpha=0.5, transB=1} @fc1 from ("/fc1", "/bn")
%r: float[1,2] = Relu(%h) @relu from ("/relu")
%y: float[1,2] = Gemm(%r, %W) @fc2 from ("/fc2/Gemm")
output %y
""",
        HEAD
        + """
%r: float[1,2] = FusedGemm(%x, %W, %b) {alpha=0.5, transB=1, activation="Relu"} @fc1 from ("/fc1", "/bn", "/relu")
%y: float[1,2] = Gemm(%r, %W) @fc2 from ("/fc2/Gemm")
output %y
""",
    )


@pytest.mark.parametrize(
    "text",
    [
        "%h: float[1,2] = Gemm(%x, %W, %b) @g\n%y: float[1,2] = Relu(%h) @relu\noutput %y, %h",
        "%h: float[1,2] = Gemm(%x, %W) @g\n%r: float[1,2] = Relu(%h) @relu\n%y: float[1,2] = Add(%r, %h) @a\noutput %y",
        "%h: float[1,2] = Gemm(%x, %W, %b) @g\n%y: float[1,2] = Sigmoid(%h) @s\noutput %y",
    ],
)
def test_leaves(rewrite: Callable[..., Graph], text: str) -> None:
    rewrite(FuseGemmRelu(), HEAD + text)
