"""The committed models, compiled: a model's formats are looked for once in a process, whatever is made of it then."""

from __future__ import annotations

import copy
import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import ml2sc
from ml2sc.backends.base import Artifact
from ml2sc.compiler import Quantized

EXAMPLES = Path(__file__).parents[2] / "examples"


def own(artifact: Artifact) -> Artifact:
    """Return an artifact whose manifest and graphs may be changed."""
    assert artifact.graph is not None
    assert artifact.reference is not None
    graphs = {"graph": artifact.graph.copy(), "reference": artifact.reference.copy()}
    return dataclasses.replace(artifact, manifest=copy.deepcopy(artifact.manifest), **graphs)


@cache
def quantized(name: str, precision: str = "int8", *, updatable: bool = False) -> Quantized:
    """Return an example whose formats are chosen from its calibration data."""
    folder = EXAMPLES / name
    model, data = folder / f"{name}.onnx", folder / "calibration.npz"
    return ml2sc.quantize(ml2sc.lift(model, precision=precision, calibration=data, updatable=updatable))


def compiled(
    name: str, target: str = "solidity", precision: str = "int8", *, updatable: bool = False, **more: Any
) -> Artifact:
    """Return what `ml2sc.compile` makes of an example and its calibration data.

    Args:
        name: The example.
        target: The backend.
        precision: The number format, or `auto`.
        updatable: Whether its weights can be replaced.
        **more: Options that have no say in the formats: a form, where weights are.
    """
    return own(_compiled(name, target, precision, updatable, tuple(more.items())))


@cache
def _compiled(name: str, target: str, precision: str, updatable: bool, more: tuple[tuple[str, Any], ...]) -> Artifact:
    known = quantized(name, precision, updatable=updatable)
    options = dataclasses.replace(known.lifted.options, target=target, **dict(more))
    aimed = dataclasses.replace(known, lifted=dataclasses.replace(known.lifted, options=options))
    return ml2sc.emit(ml2sc.lower(aimed))
