"""Inputs whose elements have ranges of their own: both targets, strict or not, several inputs, updates, packers."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from support import heavy
from support.checking import check_bounds, check_interpreters, compiled
from support.contracts import check_contract, deployed, packed_and_wads

import ml2sc
from ml2sc.ir import wad
from ml2sc.ir.types import round_half_up

BODIES = {
    "a layer": ("float[1,5] x", "h = Gemm(x, w, b)"),
    "two inputs, one after the other": ("float[1,2] x, float[1,3] z", "c = Concat<axis=1>(x, z) h = Gemm(c, w, b)"),
    "pieces": ("float[1,5] x", "p, q = Split<axis=1>(x, sizes) c = Concat<axis=1>(q, p) h = MatMul(c, w)"),
}


def model(body: str) -> onnx.ModelProto:
    inputs, lines = BODIES[body]
    rng = np.random.default_rng(1)
    weights = ", ".join(f"{v:.4f}" for v in rng.normal(size=20))
    return onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18]> t ({inputs}) => (float[1,3] y) <float[5,4] w = {{{weights}}}, '
        f"float[4] b = {{0.5, -1, 0, 2}}, float[4,3] v = {{{weights[: weights.index(',', 60)]}"
        f"{', 1' * (12 - weights[: weights.index(',', 60)].count(',') - 1)}}}, int64[2] sizes = {{2, 3}}> "
        f"{{ {lines} r = Relu(h) y = MatMul(r, v) }}"
    )


def drawn(seed: int, sizes: list[int]) -> tuple[tuple[Any, ...], list[dict[str, Any]]]:
    """Return ranges of elements from a thousandth to ten thousand wide, and samples in them."""
    rng = np.random.default_rng(seed)
    names, ranges, samples = ["x", "z"], [], [dict[str, Any]() for _ in range(4)]
    for name, size in zip(names, sizes, strict=False):
        lo = np.round(rng.normal(size=size) * 10.0 ** rng.integers(-3, 4, size), 4)
        hi = lo + 10.0 ** rng.integers(-3, 5, size)
        ranges.append(tuple(zip(lo.tolist(), hi.tolist(), strict=True)))
        for kind, sample in enumerate(samples):
            share = np.array([0.0, 1.0])[kind] if kind < 2 else rng.random(size)
            sample[name] = np.clip(lo + share * (hi - lo), lo, hi).reshape(1, size)
    return tuple(ranges), samples


@pytest.mark.parametrize(
    ("body", "precision", "strict"), heavy.in_turns(2, BODIES, ["int8", "w6a5", "w8a16"], [False, True])
)
def test_integers_bounds_and_packers(body: str, precision: str, strict: bool) -> None:
    sizes = [2, 3] if "z" in BODIES[body][0] else [5]
    ranges, samples = drawn(len(precision), sizes)
    artifact = compiled(model(body), precision=precision, input_ranges=ranges, strict_input=strict)
    graph = artifact.graph
    assert graph is not None
    assert set(graph.scalings) == set(samples[0])
    extremes = [[2**255 - 1] * 5, [-(2**255)] * 5, [0, 1, -1, 10**18, -(10**30)]]
    check_interpreters(artifact, samples, extremes)
    check_bounds(artifact, 2, samples)
    inputs = json.loads(json.dumps(artifact.manifest["inputs"]))
    for sample in samples:
        assert packed_by_hand(inputs, sample) == wad.pack(graph, wad.quantize_inputs(graph, sample))


def packed_by_hand(inputs: list[dict[str, Any]], sample: dict[str, Any]) -> bytes:
    """Pack as a caller would who has nothing but the manifest."""
    found = b""
    for entry in inputs:
        bits = int(entry["format"].removeprefix("uint"))
        for scale, offset, real in zip(entry["scale"], entry["offset"], sample[entry["name"]].ravel(), strict=True):
            q = round_half_up((Fraction(float(real)) - Fraction(offset)) / Fraction(scale))
            found += min(max(q, 0), (1 << bits) - 1).to_bytes(-(-bits // 8), "big")
    return found


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("solidity", {"precision": "int8", "strict_input": True}),
        ("vyper", {"precision": "int8"}),
        ("vyper", {"precision": "w8a16", "weights": "data", "strict_input": True}),
        ("solidity", {"precision": "int8", "updatable": True}),
    ],
)
def test_contracts(target: str, options: dict[str, Any], toolchain: ml2sc.Toolchain) -> None:
    ranges, samples = drawn(3, [2, 3])
    body = "two inputs, one after the other"
    artifact = ml2sc.build(ml2sc.compile(model(body), target=target, input_ranges=ranges, **options), toolchain)
    packed, wads = packed_and_wads(artifact, samples)
    extremes = [[2**255 - 1] * 5, [-(2**255)] * 5]
    check_contract(deployed(artifact, toolchain), artifact, packed, [*wads, *extremes])
    if artifact.updatable:
        again = ml2sc.update(artifact, model(body))
        assert (again.source, again.data) == (artifact.source, artifact.data)
        assert again.manifest["inputs"] == artifact.manifest["inputs"]
