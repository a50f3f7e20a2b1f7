from __future__ import annotations

from typing import Any

import onnx
import pytest

import ml2sc


def compiled(scale: float, **options: Any) -> dict[str, Any]:
    """Compile y = x · W, W about as large as `scale`; return the manifest."""
    weights = ",".join(f"{v * scale:g}" for v in (1, -2, 3, 0.5, 0.25, -1))
    text = (
        '<ir_version: 9, opset_import: ["" : 18]> m (float[1,2] x) => (float[1,3] y) '
        f"<float[2,3] W = {{{weights}}}> {{ y = MatMul(x, W) }}"
    )
    chosen = {"input_ranges": ((-1.0, 1.0),), **options}
    return dict(ml2sc.compile(onnx.parser.parse_model(text), **chosen).manifest)


def text(recwarn: pytest.WarningsRecorder) -> str:
    return "\n".join(str(warning.message) for warning in recwarn)


def test_the_bound_is_stated_as_a_share_of_the_largest_output(recwarn: pytest.WarningsRecorder) -> None:
    found = compiled(1.0)
    assert found["error_bound_relative"] == pytest.approx(found["error_bound"] / 4.0, rel=1e-6)
    assert not recwarn.list


def test_outputs_below_the_bound_that_nobody_asked_for(recwarn: pytest.WarningsRecorder) -> None:
    assert compiled(1e-8)["error_bound_relative"] >= 1
    assert "zeros is within it: ask for less with --tolerance" in text(recwarn)
    assert "the constants of 'matmul_0' (Gemm), up to 3e-08, are all 0" in text(recwarn)
    recwarn.clear()
    assert compiled(1e-8, tolerance=1e-11)["error_bound_relative"] < 1e-3
    assert not recwarn.list


def test_outputs_that_are_small_beside_the_bound(recwarn: pytest.WarningsRecorder) -> None:
    """From a hundredth of them on, where nobody asked for the bound; from all of them on where somebody did."""
    share = compiled(1e-5)["error_bound_relative"]
    assert 0.01 < share < 1
    assert "times the largest output" in text(recwarn)
    recwarn.clear()
    assert compiled(1e-5, tolerance=1e-6)["error_bound_relative"] == share
    assert not recwarn.list


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input_ranges": ((-1e-9, 1e-9),)}, "input 'x', -1e-09 to 1e-09, has no value but 0 in steps of 1.53e-05"),
        ({}, "the constants of 'matmul_0' (Gemm), up to 3e-06, are all 0 in steps of 1.53e-05"),
    ],
)
def test_what_a_format_makes_zero(recwarn: pytest.WarningsRecorder, options: dict[str, Any], said: str) -> None:
    compiled(1.0 if options else 1e-6, precision="q8.16", **options)
    assert f"{said}: name a finer --precision" in text(recwarn)


def test_int8_has_steps_of_its_own_for_small_weights(recwarn: pytest.WarningsRecorder) -> None:
    assert compiled(1e-8, precision="int8")["error_bound_relative"] < 0.05
    assert not recwarn.list
