"""New weights for an updatable contract: another model of the same architecture, quantised and proved for its code."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from ml2sc.backends import Artifact, as_compiled
from ml2sc.compiler import compile as compile_model
from ml2sc.errors import SAME_ARCHITECTURE, ArtifactError, UsageError
from ml2sc.frontend.data import Samples, load_samples
from ml2sc.frontend.truth import Truth
from ml2sc.ir import wad
from ml2sc.ir.analysis import REPLACEABLE
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.program import to_signed
from ml2sc.manifest import Manifest

_BOUNDS = frozenset({"from_real", "to_real", "moved", "own_error"})
"""Attributes that only say what was proved."""


def update(artifact: Artifact, model: Any, *, example_input: Any = None) -> Artifact:
    """Compile a model to new weights for an updatable contract.

    Formats, shifts and lanes are the contract's: the weights are quantised for them, and every bound is proved anew.

    Args:
        artifact: The contract as it was compiled, with any weights.
        model: As for `ml2sc.compile`.
        example_input: Likewise.

    Returns:
        An artifact of the same source and bytecode with the new model, weights, error bound and predictions.

    Raises:
        UsageError: the contract is not updatable.
        RangeError: the weights do not fit the contract's lanes.
        ArtifactError: the model would need other code.
        Ml2scError: it cannot be compiled.
    """
    if not artifact.updatable:
        raise UsageError(
            f"the weights of {artifact.name} are fixed", hint="compile it with --updatable and deploy it again"
        )
    manifest, old = artifact.manifest, artifact.graph
    assert old is not None
    recorded = Manifest.of(manifest)
    recipe = recorded.recipe()
    try:
        new = compile_model(model, **recipe, example_input=example_input)
    except UsageError:  # another architecture has other choices: what is different is said below
        new = compile_model(model, **recipe | {"choices": {}}, example_input=example_input)
    new = as_compiled(new, recorded.toolchain.settings, recorded.toolchain.edits)
    assert new.graph is not None
    difference = next(_differences(old, new.graph), None)
    if difference is None and new.source != artifact.source:
        difference = next(_explained(old, new.graph), "the contract's source would be another one")
    if difference is not None:
        raise ArtifactError(f"the deployed code does not compute this model: {difference}", hint=SAME_ARCHITECTURE)
    facts = {key: manifest[key] for key in ("toolchain", "code_bytes") if key in manifest}
    return dataclasses.replace(
        new,
        bytecode=artifact.bytecode,
        manifest={**new.manifest, **facts},
    )


def _differences(old: Graph, new: Graph) -> Iterator[str]:
    """Yield what the code, which does not change, would have to compute differently."""
    nodes = list(zip(old, new, strict=False))
    for was, is_ in nodes:
        before, after = _shown(old, was), _shown(new, is_)
        if before != after:
            yield f"{after} instead of {before}"
        if was.op_type in REPLACEABLE:
            continue
        for name, other in zip(was.inputs, is_.inputs, strict=False):
            if name and not _same(old.tensor(name).data, new.tensor(other).data):
                yield f"the constant %{other} of {is_} is another one, and it is in the code"
    if len(list(old)) != len(list(new)):
        yield f"{len(list(new))} operators instead of {len(list(old))}"


def _explained(old: Graph, new: Graph) -> Iterator[str]:
    """Yield why nodes that are alike have other code: what they compute with follows from the weights before them."""
    for was, is_ in zip(old, new, strict=True):
        for key, value in was.attrs.items():
            if was.op_type not in REPLACEABLE and key not in _BOUNDS and is_.attrs.get(key) != value:
                yield f"the {key} of {is_} would be another one, and it is in the code"


def _shown(graph: Graph, node: Node) -> str:
    shapes = ", ".join(str(list(graph.tensor(name).shape)) for name in (*node.inputs[:2], *node.outputs) if name)
    return f"{node.op_type} '{node.name}' of shapes {shapes}"


def _same(a: Any, b: Any) -> bool:
    return (a is None) == (b is None) and (a is None or np.array_equal(a, b))


def compare(old: Artifact, new: Artifact, samples: str | os.PathLike[str]) -> dict[str, Any]:
    """Return how two sets of weights answer some samples, by the Program interpreter: exactly as the contract will.

    Args:
        old: The contract with its old weights.
        new: With its new ones.
        samples: An .npz file, labels `y` in it or not.

    Returns:
        "accuracy" of both where there are labels; "decisions_changed": how many of how many; nothing where the model
        makes no decisions.

    Raises:
        DataError: the file does not fit the model, or a label is none of its classes.
    """
    assert new.graph is not None
    data = load_samples(samples, new.graph, new.columns)
    before, after = (_decisions(artifact, data) for artifact in (old, new))
    if not data or before[0] is None:
        return {}
    found: dict[str, Any] = {}
    labels = Truth.of(data, new.graph).labels
    if labels is not None:
        found["accuracy"] = [
            sum(d == y for d, y in zip(decisions, labels.tolist(), strict=True)) / len(data)
            for decisions in (before, after)
        ]
    changed = sum(a != b for a, b in zip(before, after, strict=True))
    return {**found, "decisions_changed": {"changed": changed, "samples": len(data)}}


def _decisions(artifact: Artifact, data: Samples) -> list[int | None]:
    graph, program = artifact.graph, artifact.program
    assert graph is not None
    assert program is not None
    interpreter = Interpreter(program)
    packed = (wad.pack(graph, wad.quantize_inputs(graph, sample)) for sample in data)
    decisions = (interpreter.run(x).decision for x in packed)
    return [None if decision is None else to_signed(decision) for decision in decisions]
