from __future__ import annotations

import numpy as np

from ml2sc.ir.parser import parse_graph
from ml2sc.passes.calibrate import Calibrate

TEXT = """
graph "m"
input %x: float[1,2]
const %W: float[2,1] = [1.0, -2.0]
%h: float[1,1] = Gemm(%x, %W) @fc
%y: float[1,1] = Relu(%h) @relu
%d: int64[] = ArgMax(%x) {axis=1, keepdims=0} @argmax
output %y, %d
"""


def test_records_least_and_greatest_value() -> None:
    graph = parse_graph(TEXT)
    samples = [{"x": np.array([[a, b]])} for a, b in ((1.0, 2.0), (-5.0, 0.0), (4.0, 0.5))]
    assert Calibrate(samples).run(graph)
    assert graph.observed == {"x": (-5.0, 4.0), "h": (-5.0, 3.0), "y": (0.0, 3.0)}


def test_nothing_to_observe() -> None:
    graph = parse_graph(TEXT)
    assert not Calibrate().run(graph)
    assert graph.observed == {}
