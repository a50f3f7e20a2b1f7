"""Whatever bytes come as a model: they compile, or end in an error that is the user's to mend.

`ML2SC_FUZZ=5000 python -m pytest tests/property/test_mutated_models.py` tries more than the few hundred of every run,
`ML2SC_FUZZ=250:5000` those from number 250 on. A mutation's number is its seed.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from pathlib import Path

import onnx
import pytest
from support.model_mutations import mutated
from support.random_models import Case, Limits, seeded_case

import ml2sc
from ml2sc.errors import Ml2scError

SEEDS = range(*map(int, os.environ.get("ML2SC_FUZZ", "150").split(":")))
MODELS = 40
"""Random models that are mutated by turns."""
GROUP = 50
"""Mutations a test: what becomes of single ones says little, all kinds of outcome have to come up."""
MOST_TEXT = 20_000
"""Characters of an error, though names in the models are longer."""


@cache
def case(number: int) -> Case:
    return seeded_case(number, Limits(widest=20))


def outcome(seed: int, path: Path) -> str:
    """Compile a mutated model; return the code of its error, or "compiled"."""
    model = case(seed % MODELS)
    path.write_bytes(mutated(model.model, seed))
    options = {**model.options, "target": ("solidity", "vyper")[seed % 2], "precision": "int8"}
    options = {k: v for k, v in options.items() if k not in {"min_agreement", "tolerance"}}
    try:
        artifact = ml2sc.compile(path, **options)
    except Ml2scError as error:
        return error.code if len(str(error)) < MOST_TEXT else "a text that is too long"
    assert artifact.source
    return "compiled"


@pytest.mark.parametrize("seeds", [range(s, min(s + GROUP, SEEDS.stop)) for s in SEEDS[::GROUP]], ids=str)
def test_mutated_models(seeds: range, tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    for seed in seeds:
        try:
            counts[outcome(seed, tmp_path / "model.onnx")] += 1
        except Exception as error:
            raise AssertionError(f"mutation {seed} ends in {type(error).__name__}: {error}") from error
    assert len(counts) > 1


def test_mutations_are_many() -> None:
    """The changes make other models, most of which are still messages of protobuf."""
    made = {mutated(case(0).model, seed) for seed in range(200)}
    assert len(made) > 150
    readable = 0
    for data in made:
        try:
            onnx.ModelProto().ParseFromString(data)
        except Exception:  # noqa: BLE001  # whatever a damaged message is for protobuf
            continue
        readable += 1
    assert readable > len(made) // 2
