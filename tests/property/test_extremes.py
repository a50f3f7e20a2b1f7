"""No value in range reverts, whatever the function: very large, very small, next to 0, at the ends and beyond them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import heavy
from support.checking import check_bounds, check_interpreters
from support.contracts import check_contract, deployed, packed_and_wads

import ml2sc
from ml2sc.backends import Artifact

FAR = (-1e9, 1e9)
FUNCTIONS: dict[str, tuple[str, tuple[float, float]]] = {
    **{
        name: (f"s = {name}(x)", FAR)
        for name in (
            *("Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "Mish", "Gelu", "Elu", "Selu", "Softsign", "HardSigmoid"),
            *("HardSwish", "LeakyRelu", "Abs", "Neg", "Softmax", "LogSoftmax"),
        )
    },
    "Gelu, tanh": ('s = Gelu<approximate = "tanh">(x)', FAR),
    "Celu": ("s = Celu<alpha = 2.0>(x)", FAR),
    "PRelu": ("s = PRelu(x, half)", FAR),
    "ThresholdedRelu": ("s = ThresholdedRelu<alpha = 0.0>(x)", FAR),
    "Swish": ("a = Sigmoid(x) s = Mul(x, a)", FAR),
    "Max": ("s = Max(x, half)", FAR),
    "Min": ("s = Min(x, half)", FAR),
    "Exp": ("s = Exp(x)", (-1e9, 20.0)),
    "Log": ("s = Log(x)", (1e-3, 1e9)),
    "Sqrt": ("s = Sqrt(x)", (0.0, 1e9)),
    "Reciprocal": ("s = Reciprocal(x)", (1e-2, 1e9)),
    "Pow": ("s = Pow(x, two)", (-1e9, 1e9)),
    "Mul": ("a = Tanh(x) s = Mul(a, x)", FAR),
}
BEYOND = [[-(2**255), 2**255 - 1], [0, -1]]


@lru_cache(1)
def compiled(name: str, precision: str, *, middle: bool, target: str = "solidity") -> Artifact:
    body, ends = FUNCTIONS[name]
    tail, output = ("y = Gemm(s, v)", "y") if middle else ("", "s")
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20]> t (float[1,2] x) => (float[1,2] {output}) '
        "<float half = {0.5}, float two = {2}, float[2,2] v = {0.5, -1, 0.25, 1}> "
        f"{{ {body} {tail} }}"
    )
    return ml2sc.compile(proto, target=target, precision=precision, input_ranges=(ends,))


def values(ends: tuple[float, float]) -> st.SearchStrategy[float]:
    lo, hi = ends
    near = [v for v in (lo, hi, lo / 2, hi / 2, 0.0, -1e-9, 1e-9, -20.0, 20.0, -1.0, 1.0) if lo <= v <= hi]
    small = st.floats(max(lo, -50.0), min(hi, 50.0))
    return st.one_of(st.sampled_from(near), st.floats(lo, hi), small)


@pytest.mark.parametrize(
    ("name", "precision", "middle"),
    heavy.unless(
        lambda case: case[2] == list(FUNCTIONS).index(case[0]) % 2,
        [(name, *place) for name in FUNCTIONS for place in (("q40.40", False), ("w8a16", True))],
    ),
)
@settings(max_examples=3, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_value_fails(name: str, precision: str, middle: bool, data: st.DataObject) -> None:
    pairs = st.lists(st.tuples(*[values(FUNCTIONS[name][1])] * 2), min_size=3, max_size=3)
    samples = [{"x": np.array([pair])} for pair in data.draw(pairs)]
    artifact = compiled(name, precision, middle=middle)
    check_interpreters(artifact, samples, BEYOND)
    check_bounds(artifact, 2, samples)


@pytest.mark.parametrize(
    ("name", "target"), [("Exp", "solidity"), ("Softplus", "vyper"), ("Mul", "solidity"), ("LogSoftmax", "vyper")]
)
def test_no_value_reverts(name: str, target: str, toolchain: ml2sc.Toolchain) -> None:
    artifact = compiled(name, "q40.40", middle=False, target=target)
    lo, hi = FUNCTIONS[name][1]
    points = [{"x": np.array([pair])} for pair in ((lo, hi), (hi, lo), (-1e-9, 1e-9), (lo, -40.0), (0.0, lo / 3))]
    packed, wads = packed_and_wads(artifact, points)
    check_contract(deployed(artifact, toolchain), artifact, packed, [*wads, *BEYOND])
    if name == "Exp":
        assert deployed(artifact, toolchain).predict([-(10**27), 0]) == [0, 10**18]
