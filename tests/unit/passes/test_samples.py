from __future__ import annotations

import numpy as np
import pytest

from ml2sc.errors import DataError
from ml2sc.ir.parser import parse_graph
from ml2sc.passes.calibrate import Calibrate
from ml2sc.passes.measure import answers

GRAPH = parse_graph("""
graph "m"
input %x: float[1,2]
%y: float[1,2] = Log(%x) @log
output %y
""")


@pytest.mark.parametrize(("value", "found"), [(0.0, "-inf"), (-3.0, "nan")])
@pytest.mark.parametrize("calibrate", [True, False])
def test_a_sample_that_the_model_breaks_down_on_is_named(calibrate: bool, value: float, found: str) -> None:
    samples = [{"x": np.array([[1.0, 2.0]])}, {"x": np.array([[5.0, value]])}]
    with pytest.raises(DataError, match=f"computes {found} for a sample: x = .*5") as caught:
        Calibrate(samples).run(GRAPH) if calibrate else answers(GRAPH, samples)
    assert "log" in str(caught.value.node)
    assert "%y: 2 elements, 1 of them" in str(caught.value.tensor)
