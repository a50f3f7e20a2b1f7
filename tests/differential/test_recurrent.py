"""Recurrent layers on both targets: contract == interpreter, within the bound."""

from __future__ import annotations

import numpy as np
import pytest
from support import heavy
from support.checking import check_bounds, check_interpreters, check_outputs, compiled
from support.contracts import check_contract, deployed, packed_and_wads
from support.recurrent import GATES, STEPS, layer

import ml2sc

MODELS = {op_type: layer(op_type, states=op_type == "LSTM") for op_type in GATES}


def samples() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    rows = [rng.uniform(-2, 2, (STEPS, 1, 3)).astype(np.float32).astype(np.float64) for _ in range(3)]
    return [{"x": row} for row in (*rows, np.full((STEPS, 1, 3), 2.0), np.full((STEPS, 1, 3), -2.0))]


@pytest.mark.parametrize(
    ("name", "precision"),
    heavy.but_each(3, [("RNN", "q8.20"), ("GRU", "w12a12"), ("LSTM", "q8.20")]),
)
def test_without_a_chain(name: str, precision: str) -> None:
    artifact = compiled(MODELS[name], precision=precision, input_ranges=((-2.0, 2.0),))
    check_interpreters(artifact, samples(), [])
    check_bounds(artifact, 2, samples())


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *((name, "solidity") for name in MODELS),
        ("RNN", "vyper"),
        *(pytest.param(name, "vyper", marks=pytest.mark.heavy) for name in ("GRU", "LSTM")),
    ],
)
def test_on_the_evm(name: str, target: str, toolchain: ml2sc.Toolchain) -> None:
    artifact = compiled(MODELS[name], precision="int8", target=target, input_ranges=((-2.0, 2.0),), optimize="deploy")
    packed, wads = packed_and_wads(artifact, samples())
    contract = deployed(artifact, toolchain)
    check_contract(contract, artifact, packed, wads)
    for sample, values in zip(samples(), wads, strict=True):
        check_outputs(artifact, sample, contract.predict(values))
