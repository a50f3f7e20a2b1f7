"""Vyper next to Solidity: the examples, their gas, and what only Vyper records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.examples import compiled
from support.networks import dense

import ml2sc

TARGETS = ("solidity", "vyper")


@pytest.mark.parametrize(
    ("name", "limit"),
    [("breast_cancer", 1.5), pytest.param("mnist", 2.5, marks=pytest.mark.heavy)],
)
def test_auto_with_data(examples: Path, toolchain: ml2sc.Toolchain, name: str, limit: float) -> None:
    """Bit-exact, and gas not far above Solidity's; of int8, and of auto without data, tests/gas says so."""
    folder, gas = examples / name, {}
    with np.load(folder / "samples.npz") as archive:
        samples = archive["x"][:5]
    for target in TARGETS:
        artifact = ml2sc.build(compiled(name, target, "auto"), toolchain)
        report = ml2sc.check(artifact, samples, toolchain=toolchain)
        assert report.bit_exact, report.failure
        assert report.within_bound, report.failure
        gas[target] = report.gas.mean
    assert gas["vyper"] <= limit * gas["solidity"]


@pytest.mark.heavy
@pytest.mark.parametrize("sizes", [(64,) * 4, (*(64,) * 5, 1), (64,) * 7], ids=["three", "five", "six"])
def test_wide_layers_with_all_kinds_of_activations(sizes: tuple[int, ...], toolchain: ml2sc.Toolchain) -> None:
    """Venom compiles them, and they cost at most 1.6 times what they do in Solidity."""
    model, gas = dense(*sizes, activation=("Tanh", "Sigmoid", "Softplus")), {}
    samples = np.random.default_rng(1).random(size=(3, sizes[0]))
    samples[0, ::2] = 0.0
    for target in TARGETS:
        built = ml2sc.build(ml2sc.compile(model, target, "auto", input_ranges=((0.0, 1.0),)), toolchain)
        report = ml2sc.check(built, samples, toolchain=toolchain)
        assert report.bit_exact, report.failure
        assert report.within_bound, report.failure
        gas[target] = report.gas.mean
    assert built.manifest["toolchain"]["settings"] == {"experimentalCodegen": True}
    assert gas["vyper"] <= 1.6 * gas["solidity"]


def test_folder_records_the_code_generator(toolchain: ml2sc.Toolchain, tmp_path: Path) -> None:
    built = ml2sc.build(compiled("breast_cancer", "vyper"), toolchain)
    assert built.manifest["toolchain"]["settings"] == {"experimentalCodegen": True}
    assert built.compiler_input["settings"]["experimentalCodegen"] is True
    ml2sc.write_folder(built, tmp_path / "out")
    loaded = ml2sc.load_folder(tmp_path / "out")
    assert loaded.source == built.source
    assert loaded.bytecode is not None
    assert built.bytecode is not None
    assert loaded.bytecode.creation == built.bytecode.creation
    run = toolchain.vyper(built.compiler_input)
    contract = run.output["contracts"][built.source_name][built.name]
    assert contract["evm"]["bytecode"]["object"].removeprefix("0x") == built.bytecode.creation.hex()
