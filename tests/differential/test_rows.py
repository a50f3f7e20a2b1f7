"""Convolutional networks whose rows are in lanes: contract == interpreter, and the gas is what was stated.

`ML2SC_FUZZ=100 python -m pytest tests/differential/test_rows.py` tries more random ones.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from support.checking import check_interpreters, compiled
from support.contracts import check_contract, deployed, packed_and_wads
from support.prediction import check_stated
from support.small_cnns import digits_like, products, random_cnn

import ml2sc

NETWORKS: dict[str, tuple[dict[str, Any], str]] = {
    "a word a row, pools in columns and in lanes": ({"size": 12, "channels": (1, 2, 3)}, "int8"),
    "words with their neighbours' pixels": ({"size": 17, "channels": (1, 2, 1), "pool": False}, "int8"),
}


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *((name, "solidity") for name in NETWORKS),
        *(pytest.param(name, "vyper", marks=pytest.mark.heavy) for name in NETWORKS),
    ],
)
def test_networks(name: str, target: str, toolchain: ml2sc.Toolchain) -> None:
    shape, precision = NETWORKS[name]
    model = digits_like(**shape, outputs=3)
    side, channels = shape["size"], shape["channels"][0]
    images = np.random.default_rng(3).random(size=(6, channels, side, side))
    artifact = compiled(model, {"x": images}, target=target, precision=precision)
    samples = [{"x": image[None]} for image in images[:2]]
    packed, wads = packed_and_wads(artifact, samples)
    check_interpreters(artifact, samples, wads[:1])
    assert artifact.program is not None
    rows = [s for s in artifact.program.layers if s.facts.get("kernel") == "rows"]
    assert len(rows) == len(shape["channels"]) - 1
    built = ml2sc.build(artifact, toolchain)
    contract = deployed(built, toolchain)
    check_contract(contract, built, packed, wads[:1])
    for x in packed:
        check_stated(contract, built, x)


@pytest.mark.parametrize("target", ["solidity", pytest.param("vyper", marks=pytest.mark.heavy)])
def test_output_channels_in_lanes(target: str, toolchain: ml2sc.Toolchain) -> None:
    rng = np.random.default_rng(0)
    images = rng.random((6, 12, 3, 3)) * (rng.random((6, 12, 3, 3)) < 0.5)
    way = "output channels in lanes, 10 words held, 16 inputs written out"  # two runs
    artifact = ml2sc.compile(
        products((12, 32, 130), 3), target, "int8", {"x": images}, choices={"pointwise1": way}, optimize="deploy"
    )
    samples = [{"x": image[None]} for image in images[:2]]
    packed, wads = packed_and_wads(artifact, samples)
    check_interpreters(artifact, samples, wads[:1])
    built = ml2sc.build(artifact, toolchain)
    contract = deployed(built, toolchain)
    check_contract(contract, built, packed, wads[:1])
    for x in packed:
        check_stated(contract, built, x)


CASES = int(os.environ.get("ML2SC_FUZZ", "1"))


@pytest.mark.parametrize("target", ["solidity", pytest.param("vyper", marks=pytest.mark.heavy)])
@pytest.mark.parametrize("seed", range(CASES))
def test_random_networks_with_their_taps_in_data(seed: int, target: str, toolchain: ml2sc.Toolchain) -> None:
    model = random_cnn(seed)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    images = np.random.default_rng(seed).random(size=(6, *shape[1:]))
    artifact = ml2sc.compile(model, calibration={"x": images}, target=target, precision="int8", weights="data")
    samples = [{"x": image[None]} for image in images[:2]]
    packed, wads = packed_and_wads(artifact, samples)
    check_interpreters(artifact, samples, wads[:1])
    assert artifact.program is not None
    loops = [s for s in artifact.program.layers if s.facts.get("kernel") == "rows"]
    assert loops
    assert all(section.facts["storage"] == "data" for section in loops)
    built = ml2sc.build(artifact, toolchain)
    contract = deployed(built, toolchain)
    check_contract(contract, built, packed, wads[:1])
    for x in packed:
        check_stated(contract, built, x)
