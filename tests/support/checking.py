"""What must hold of a compiled model, whatever the model: checks that random and fixed models share."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support import heavy

import ml2sc
from ml2sc.backends.base import Artifact
from ml2sc.ir import wad
from ml2sc.ir.analysis import evaluate_exact, real_bounds, saturated
from ml2sc.ir.batch import Batch
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.interpret import Interpreter, ProgramError
from ml2sc.ir.program import MASK
from ml2sc.ir.types import DType, FixedPoint
from ml2sc.passes import LEVELS, run_pipeline
from ml2sc.passes.scale_inputs import ScaleInputs

Array = npt.NDArray[Any]

ROUNDING = 2.0**-44
"""Rounding of the float64 evaluation itself, in units of its greatest intermediate value."""


def compiled(model: Any, calibration: Any = None, **options: Any) -> Artifact:
    """Compile; of one contract in four (all in `make test-all`) check that it can be lowered a second time.

    With the choices that were noted it is the same Program.
    """
    quantized = ml2sc.quantize(ml2sc.lift(model, calibration=calibration, **options))
    lowered = ml2sc.lower(quantized)
    artifact = ml2sc.emit(lowered)
    if heavy.EVERYTHING or zlib.crc32(artifact.source.encode()) % 4 == 0:
        again = ml2sc.lower(quantized, choices=artifact.manifest["choices"]).program
        assert {n: c.way for n, c in again.choices.items()} == artifact.manifest["choices"]
        assert dataclasses.replace(again, choices=lowered.program.choices) == lowered.program  # but for what ways cost
    return artifact


def float_graph(artifact: Artifact, level: int) -> Graph:
    """Return the float graph that was quantised."""
    assert artifact.reference is not None
    assert artifact.graph is not None
    graph = artifact.reference.copy()
    run_pipeline(graph, [*LEVELS[level], ScaleInputs(artifact.graph.scalings)])
    return graph


def check_interpreters(
    artifact: Artifact, samples: Sequence[Mapping[str, Array]], wads: Sequence[Sequence[int]]
) -> None:
    """The Program gives the graph's integers, packed and from WAD; every integer lies in its proved interval."""
    graph, program = artifact.graph, artifact.program
    assert graph is not None
    assert program is not None
    interpreter = Interpreter(program)
    strict = bool(artifact.manifest["options"]["strict_input"])
    for sample in samples:
        q = wad.quantize_inputs(graph, sample)
        found = evaluate_exact(graph, q)
        for name, values in found.items():
            interval = graph.tensor(name).interval
            if interval is not None:
                assert all(int(v) in interval for v in values.ravel()), f"%{name} leaves {interval}"
        assert interpreter.run(wad.pack(graph, q)) == wad.outcome(graph, found)
    flat = [[v for name in graph.inputs for v in sample[name].ravel().tolist()] for sample in samples]
    for values in [*(wad.to_wad(f) for f in flat), *wads]:
        refused = next(
            (
                i
                for i, (v, (lo, hi)) in enumerate(zip(values, program.input.wad_range, strict=True))
                if not lo <= v <= hi
            ),
            None,
        )
        if strict and refused is not None:
            with pytest.raises(ProgramError) as caught:
                interpreter.quantize(values)
            assert caught.value.args == ("InputOutOfRange", refused, values[refused] & MASK)
            continue
        packed = interpreter.quantize(values)
        q = wad.inputs_from_wad(graph, values)
        assert packed == wad.pack(graph, q)
        assert interpreter.run(packed) == wad.run_graph(graph, q)


def check_bounds(artifact: Artifact, level: int, samples: Sequence[Mapping[str, Array]]) -> None:
    """Reals lie in their bounds, and every integer within the stated error of its real, packed and from WAD.

    Samples beyond ranges that the data gave are brought into them: rare values are left outside.
    """
    samples = [_inside(artifact, sample) for sample in samples]
    graph, source = artifact.graph, float_graph(artifact, level)
    assert graph is not None
    assert artifact.reference is not None
    stated, unsaturated = (wad.output_error_bound(graph, saturates=s) for s in (True, False))
    assert stated == artifact.manifest["error_bound"]
    assert unsaturated == artifact.manifest["error_bound_unsaturated"]
    assert unsaturated <= stated * (1 + 1e-9)
    models, sources = ([evaluate_float(side, sample) for sample in samples] for side in (artifact.reference, source))
    for float_side, found in ((artifact.reference, models), (source, sources)):
        bounds = real_bounds(float_side)
        for values in found:
            room = _room(float_side, values)
            for name, value in values.items():
                assert np.all(value >= bounds[name].lo - room), f"%{name} is below its real bound"
                assert np.all(value <= bounds[name].hi + room), f"%{name} is above its real bound"
    for sample, model, reals in zip(samples, models, sources, strict=True):
        room = max(_room(source, reals), _room(artifact.reference, model))
        packed = wad.quantize_inputs(graph, sample)
        given = wad.to_wad([v for name in graph.inputs for v in sample[name].ravel().tolist()])
        for q in (packed, wad.inputs_from_wad(graph, given)):
            integers = evaluate_exact(graph, q)
            clamped = bool(saturated(graph, integers))
            _check_errors(graph, integers, reals, room, graph.errors)
            if not clamped:
                _check_errors(graph, integers, reals, room, graph.unsaturated_errors)
            _check_outputs(artifact, model, wad.outcome(graph, integers).outputs, clamped=clamped)


def outcomes(graph: Graph, samples: Sequence[Mapping[str, Array]]) -> list[wad.Outcome]:
    """Return what the graph interpreter answers to many samples, all of them computed together."""
    found = Batch(samples).values(graph, [*graph.outputs, *([] if graph.decision is None else [graph.decision])])
    return [wad.outcome(graph, {name: v[at] for name, v in found.items()}) for at in range(len(samples))]


def _inside(artifact: Artifact, sample: Mapping[str, Array]) -> dict[str, Array]:
    assert artifact.graph is not None
    scalings = artifact.graph.scalings
    return {n: np.clip(x, scalings[n].lo, scalings[n].hi) if n in scalings else x for n, x in sample.items()}


def check_outputs(
    artifact: Artifact, sample: Mapping[str, Array], outputs: Sequence[int], *, clamped: bool = True
) -> None:
    """What `predict` returns is within the stated bound of the model in float64; of two bounds if nothing saturates."""
    assert artifact.reference is not None
    _check_outputs(artifact, evaluate_float(artifact.reference, sample), outputs, clamped=clamped)


def _check_outputs(artifact: Artifact, values: Mapping[str, Array], outputs: Sequence[int], *, clamped: bool) -> None:
    assert artifact.reference is not None
    room = _room(artifact.reference, values)
    floats = [n for n in artifact.reference.outputs if artifact.reference.tensor(n).type is not DType.INT64]
    wanted = np.concatenate([np.zeros(0), *(values[n].ravel() for n in floats)])
    got = np.array([v / 10**18 for v in outputs])
    assert got.shape == wanted.shape
    worst = float(np.abs(got - wanted).max(initial=0.0))
    bound = artifact.manifest["error_bound" if clamped else "error_bound_unsaturated"]
    assert worst <= bound + room, f"off by {worst}, float64 rounding {room}"


def _check_errors(
    graph: Graph,
    integers: Mapping[str, Array],
    reals: Mapping[str, Array],
    room: float,
    errors: Mapping[str, float],
) -> None:
    for name, q in integers.items():
        tensor = graph.tensor(name)
        producer = graph.producer(name)
        base = producer.inputs[0] if producer is not None and producer.op_type == "Requantize" else name
        if base not in reals or tensor.data is not None or not isinstance(tensor.type, FixedPoint):
            continue
        if reals[base].shape != tensor.shape:
            continue
        worst = float(np.abs(tensor.format.dequantize(q) - reals[base]).max(initial=0.0))
        limit = errors[name] * (1 + 1e-9) + room
        assert worst <= limit, f"%{name} is off by {worst}, stated {errors[name]}, float64 rounding {room}"


def _room(graph: Graph, values: Mapping[str, Array]) -> float:
    sizes = [float(np.abs(v).max(initial=0.0)) for n, v in values.items() if graph.tensor(n).type is DType.FLOAT]
    return max(sizes, default=0.0) * ROUNDING


def margin(graph: Graph, sample: Mapping[str, Array]) -> float:
    """Return how far the real scores are from another decision; infinite where no decision is made."""
    values = evaluate_float(graph, sample)
    name = graph.decision
    while name is not None:
        node = graph.producer(name)
        if node is None:
            return np.inf
        if node.op_type == "ArgMax":
            scores = np.sort(values[node.inputs[0]].ravel())
            return float(scores[-1] - scores[-2]) if scores.size > 1 else np.inf
        if node.op_type == "GreaterOrEqual":
            return float(np.abs(values[node.inputs[0]]).min())
        name = next(i for i in node.inputs if not graph.tensor(i).is_constant)
    return np.inf
