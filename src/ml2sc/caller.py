"""What a caller of a contract needs, and nothing else: `interface.json`, and `vectors.json` to try a packer with.

Both follow from the model and its options alone, so that a folder can be proved to hold the right ones. The samples of
`vectors.json` are made up, therefore: nobody's data are in them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ml2sc.ir import wad
from ml2sc.ir.graph import Graph
from ml2sc.ir.program import to_signed
from ml2sc.ir.types import Array
from ml2sc.packing import INTERFACE, Packer

if TYPE_CHECKING:
    from ml2sc.backends.base import Artifact

VECTORS = "vectors.json"
FORMAT = 1
"""Version of both files."""

SAMPLES = 10
_DIGITS = 6
"""Of a made-up real: enough for roundings to be tried, and short."""

_INPUT = ("name", "shape", "kind", "format", "scale", "zero_point", "interval", "range", "offset", "columns")


def interface_of(artifact: Artifact) -> dict[str, Any]:
    """Return what `interface.json` says: ABI, packing, shapes, names of columns and classes, the model's hash."""
    manifest = artifact.manifest
    inputs = [_picked(entry, _INPUT) for entry in manifest["inputs"]]
    packing = {"element_bytes": manifest["element_bytes"], "inputs": inputs, **_picked(manifest, ("code",))}
    outputs = [_picked(entry, ("name", "shape")) for entry in manifest["outputs"]]
    classes = list(manifest["options"]["class_names"] or manifest.get("classes") or ())
    return {
        "interface": FORMAT,
        "name": artifact.name,
        "model_hash": manifest["model_hash"],
        "updatable": artifact.updatable,
        "abi": list(artifact.abi),
        "packing": {**packing, "bytes": Packer({**packing, "outputs": outputs}).length},
        "outputs": outputs,
        "decision": {"classes": classes} if manifest["decision"] else None,
    }


def _picked(entry: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: list(entry[key]) if isinstance(entry[key], tuple) else entry[key] for key in keys if key in entry}


def vectors_of(artifact: Artifact) -> dict[str, Any]:
    """Return what `vectors.json` says: samples, and what the contract answers to them by the interpreter.

    Given as WAD or packed, a sample's integers are the same: so are the answers.
    """
    graph = artifact.graph
    assert graph is not None
    takes_wad = any(entry.get("name") == "predict" for entry in artifact.abi)
    return {
        "vectors": FORMAT,
        "name": artifact.name,
        "model_hash": artifact.manifest["model_hash"],
        "samples": [_vector(graph, inputs, takes_wad=takes_wad) for inputs in _made_up(graph)],
    }


def _vector(graph: Graph, inputs: Mapping[str, Array], *, takes_wad: bool) -> dict[str, Any]:
    q = wad.quantize_inputs(graph, inputs)
    flat = [v for name in graph.inputs for v in inputs[name].ravel().tolist()]
    answer = wad.run_graph(graph, q)
    return {
        "x": flat,
        **({"wad": [str(v) for v in wad.to_wad(flat)]} if takes_wad else {}),
        "packed": f"0x{wad.pack(graph, q).hex()}",
        "outputs": [str(v) for v in answer.outputs],
        "decision": None if answer.decision is None else str(to_signed(answer.decision)),
    }


def _made_up(graph: Graph) -> Iterator[dict[str, Array]]:
    """Yield inputs in the declared ranges: both ends first, then any."""
    draw = random.Random(0)
    for number in range(SAMPLES):
        inputs = {}
        for name in graph.inputs:
            lo, hi = _ends(graph, name)
            parts = [float(number == 1) if number < 2 else draw.random() for _ in range(graph.tensor(name).size)]
            values = lo + (hi - lo) * np.array(parts).reshape(lo.shape)
            short = [float(f"{v:.{_DIGITS}g}") for v in values.ravel().tolist()]
            inputs[name] = np.clip(np.array(short).reshape(lo.shape), lo, hi)
        yield _settled(graph, inputs)


def _ends(graph: Graph, name: str) -> tuple[Array, Array]:
    """Return between what an input's elements are made up: its range, or what lies around the edges of trees."""
    if name not in graph.ladders:
        return graph.range_of(name)
    edges = [[edge for edge in own if math.isfinite(edge)] or [0.0] for own in graph.ladders[name].edges]
    shape = graph.tensor(name).shape
    lo, hi = (np.array(ends).reshape(shape) for ends in ([min(e) - 1 for e in edges], [max(e) + 1 for e in edges]))
    return lo, hi


def _settled(graph: Graph, inputs: dict[str, Array]) -> dict[str, Array]:
    """Return inputs whose integers are the same whether they are given as WAD or packed.

    WAD values are reals rounded, and are brought to integers by other arithmetic: a real in the middle between two
    steps may go either way. It is moved to the step.
    """
    packed = wad.quantize_inputs(graph, inputs)
    flat = [v for name in graph.inputs for v in inputs[name].ravel().tolist()]
    given = wad.inputs_from_wad(graph, wad.to_wad(flat))
    if all(np.array_equal(packed[name], given[name]) for name in graph.inputs):
        return inputs
    settled = {}
    for name in graph.inputs:
        format_, scaling = graph.tensor(name).format, graph.scalings.get(name)
        if name in graph.ladders:
            on_step = _ends(graph, name)[1]  # above all edges
        else:
            steps = format_.dequantize(packed[name])
            on_step = steps if scaling is None else scaling.restored(steps)
        settled[name] = np.where(packed[name] == given[name], inputs[name], on_step)
    return settled


__all__ = ["INTERFACE", "VECTORS", "interface_of", "vectors_of"]
