from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import ml2sc
from ml2sc.cli import compile as compile_command
from ml2sc.errors import RangeError
from ml2sc.ir.parser import parse_graph
from ml2sc.passes.manager import run_pipeline
from ml2sc.passes.prove_ranges import ProveRanges
from ml2sc.passes.quantize import Quantize

TEXT = """
graph "m"
input %x: float[1,2]
range %x [-1.0, 1.0]
const %W: float[2,1] = [1.0, -0.5]
%y: float[1,1] = Gemm(%x, %W) @fc from ("/fc/Gemm")
output %y
"""


def huge(weight: float) -> onnx.ModelProto:
    weights = np.full((3, 2), weight, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], name="/fc/Gemm")],
        "huge",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_types_become_as_narrow_as_the_proof() -> None:
    graph = parse_graph(TEXT)
    run_pipeline(graph, [Quantize("int8"), ProveRanges()])
    y = graph.tensor("y")
    # x − 128 in [-128, 127], weights 127 and −64 (−63.5 rounded up is −63)
    assert str(y.interval) == f"[{-128 * 127 - 127 * 63}, {127 * 127 + 128 * 63}]"
    assert y.format.bits == 16
    assert not ProveRanges().run(graph)


@pytest.mark.parametrize(
    ("weight", "precision", "range_", "match"),
    [
        (1e37, "q100.27", (-1e30, 1e30), r"\|y\| can reach 2\^\d+, and the EVM computes with 2\^255"),
        (1e38, "q60.67", (-1e18, 1e18), r"\|y\| can reach 2\^\d+, and the EVM computes with 2\^255"),
        (1e30, "int8", (-1e38, 1e38), r"'y' as WAD \(real · 10\^18\) cannot be computed in 2\^255"),
        (1e30, "auto", (-1e30, 1e30), "no binary format has an error bound of 1e-06"),
    ],
)
def test_what_cannot_be_proved(weight: float, precision: str, range_: tuple[float, float], match: str) -> None:
    with pytest.raises(RangeError, match=match) as caught:
        ml2sc.compile(huge(weight), precision=precision, input_ranges=(range_,))
    assert caught.value.hint is not None
    assert "--input-range" in caught.value.hint


def test_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(huge(1e37), tmp_path / "huge.onnx")
    arguments = [tmp_path / "huge.onnx", "--precision", "q100.27", "--input-range=-1e30,1e30", "-o", tmp_path / "out"]
    assert compile_command.main([str(a) for a in arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "error[ML120]" in err
    assert "'/fc/Gemm' (Gemm)" in err
    assert "2^255" in err
    assert [p.name for p in tmp_path.iterdir()] == ["huge.onnx"]
