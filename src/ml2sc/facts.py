"""What a contract's comments and the manifest say of a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from ml2sc.backends import Artifact
from ml2sc.backends.interface import weights_hash
from ml2sc.errors import UsageError
from ml2sc.frontend.model_file import OnnxModel
from ml2sc.ir import model_hash, wad
from ml2sc.ir.chains import ChainProfile
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.limits import shown
from ml2sc.ir.program import Program, calls_of
from ml2sc.ir.thermometer import RankCode, graph_code
from ml2sc.ir.types import DType, FixedPoint
from ml2sc.options import Options
from ml2sc.passes.updatable import Deployed

_ON_REQUEST = ("chain_profile", "erc165", "erc7201", "packed_only")
"""Options that a manifest holds only where they are used."""


def description(graph: Graph, columns: Sequence[str], classes: Sequence[str]) -> str:
    """Return what the contract says of its inputs and outputs, the names of columns and decisions if they have some."""
    inputs = ", ".join(f"{shown(n)!r} {list(graph.tensor(n).shape)}" for n in graph.inputs)
    outputs = ", ".join(f"{shown(n)!r} {list(graph.tensor(n).shape)}" for n in graph.outputs)
    named = "".join(
        f" {what}: {', '.join(f'{number} {shown(name)}' for number, name in enumerate(names))}."
        for what, names in (("Columns", columns), ("Decisions", classes))
        if names
    )
    return f"Inference of an ONNX model: inputs {inputs}; outputs {outputs}.{named}"


def check_classes(reference: Graph, graph: Graph, names: Sequence[str]) -> None:
    """Refuse names of classes where there are none, or others than the model decides between.

    Raises:
        UsageError: there are more or fewer.
    """
    if not names:
        return
    if graph.decision is None:
        raise UsageError("the model makes no decision: there are no classes to name", hint="leave --labels out")
    if graph.decision in reference.tensors and reference.tensor(graph.decision).type is not DType.BOOL:
        return  # labels of the model's own, which need not be 0, 1, …
    scores = sum(graph.tensor(n).size for n in graph.outputs)
    count = max(scores, 2)
    if len(names) != count:
        raise UsageError(f"{len(names)} names for the {count} decisions of the model", hint="a name each, in order")


_SHOWN_CLASSES = 32
"""Class names that a contract's comment lists; the manifest has all."""


def decision_text(reference: Graph, graph: Graph) -> str:
    """Return what `classify` returns, for its comment."""
    if reference.class_names and graph.decision in reference.tensors:
        # they stand in comments, where @ begins a tag
        texts = [ascii(shown(name)).replace("@", "(at)") for name in reference.class_names[:_SHOWN_CLASSES]]
        names = [f"{number} {text}" for number, text in enumerate(texts)]
        more = len(reference.class_names) - len(names)
        return f"the number of the class: {', '.join(names)}{f', and {more} more' if more else ''}"
    if graph.decision is None or graph.decision in reference.tensors:
        is_bool = graph.decision is not None and reference.tensor(graph.decision).type is DType.BOOL
        return "1 for true, 0 for false" if is_bool else "the model's label, a negative one in two's complement"
    if sum(graph.tensor(n).size for n in graph.outputs) == 1:
        return "1 if the output is at least 0.5, else 0"
    return "the index of the greatest output, the first of equal ones"


def manifest_of(
    artifact: Artifact,
    graph: Graph,
    program: Program,
    options: Options,
    precision: str,
    source: OnnxModel,
    classes: Sequence[str],
) -> dict[str, Any]:
    """Return the manifest, without what is found out by running the contract.

    Args:
        artifact: The contract, printed.
        graph: The quantised graph.
        program: What is printed.
        options: As they are recorded.
        precision: The number formats, as text.
        source: The model as it was read.
        classes: Names of the decisions, if there are any.
    """
    recorded = dataclasses.asdict(options) | {"precision": precision}
    if isinstance(options.chain_profile, ChainProfile):
        recorded["chain_profile"] = options.chain_profile.to_json()
    for name in _ON_REQUEST:  # a manifest says no more than it did before there were these
        if not recorded[name]:
            del recorded[name]
    return {
        "name": artifact.name,
        "target": artifact.target,
        "precision": precision,
        "options": recorded,
        "model_hash": f"0x{source.hash.hex()}",
        "model_hash_version": model_hash.VERSION,
        "element_bytes": program.input.width,
        "input_elements": program.input.count,
        "inputs": list(_inputs_facts(graph, options.column_names)),
        "outputs": [_tensor_facts(graph.tensor(n)) for n in graph.outputs],
        "decision": program.has_decision,
        **({"classes": list(classes)} if classes else {}),
        "error_bound": wad.output_error_bound(graph),
        "error_bound_unsaturated": wad.output_error_bound(graph, saturates=False),
        "tensors": [
            _tensor_facts(t) | {"error_bound": _finite(graph.errors[t.name])}
            for t in graph.tensors.values()
            if isinstance(t.type, FixedPoint) and t.data is None
        ],
        "plan": list(_plan(program)),
        "choices": {name: choice.way for name, choice in program.choices.items()},
        "data_contracts": [{"bytes": len(d)} for d in artifact.data],
        "toolchain": {},
        **(_update_facts(artifact, graph) if options.updatable else {}),
        **_code_facts(graph),
    }


def _code_facts(graph: Graph) -> dict[str, Any]:
    """Return what packers must know of a thermometer code; a null edge is one that only a missing element exceeds."""
    code = graph_code(graph)
    if code is None:
        return {}
    edges = [own for name in graph.inputs for own in graph.ladders[name].edges]
    kind = "float64" if any(ladder.double for ladder in graph.ladders.values()) else "float32"
    if isinstance(code, RankCode):
        ranks = [
            {"element": element, "byte": code.width * place, "edges": [_finite(edge) for edge in edges[element]]}
            for place, element in enumerate(code.elements)
        ]
        return {"code": {"bytes": code.length, "float": kind, "rank_bytes": code.width, "ranks": ranks}}
    fields = [
        {
            "element": field.element,
            "word": field.word,
            "bit": field.bit,
            "missing": int(field.up),
            "edges": [_finite(edges[field.element][rank]) for rank in field.ranks],
        }
        for field in code.fields
    ]
    return {"code": {"bytes": code.length, "float": kind, "fields": fields}}


def _update_facts(artifact: Artifact, graph: Graph) -> dict[str, Any]:
    return {"weights_hash": f"0x{weights_hash(artifact.data).hex()}", "deployed": Deployed.of(graph).to_json()}


def _finite(bound: float) -> float | None:
    """Return a bound, or None for decisions: they have no distance."""
    return bound if math.isfinite(bound) else None


def _inputs_facts(graph: Graph, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    first = 0
    for name in graph.inputs:
        last = first + graph.tensor(name).size
        yield _input_facts(graph, name) | ({"columns": list(names[first:last])} if names else {})
        first = last


def _input_facts(graph: Graph, name: str) -> dict[str, Any]:
    """Return what a packer must know: real = scale·(q − zero_point), or scale·q + offset by element."""
    tensor, facts = graph.tensor(name), _tensor_facts(graph.tensor(name))
    if name not in graph.scalings:
        return facts | {"range": list(graph.input_ranges[name])}
    scaling = graph.scalings[name]
    widths, lows = scaling.width.ravel().tolist(), scaling.lo.ravel().tolist()
    return facts | {
        "scale": [str(Fraction(width) * tensor.format.scale) for width in widths],
        "offset": lows,
        "range": [list(pair) for pair in zip(lows, scaling.hi.ravel().tolist(), strict=True)],
    }


def _tensor_facts(tensor: Tensor) -> dict[str, Any]:
    format_ = tensor.format
    interval = tensor.interval
    assert interval is not None
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "format": f"{'int' if format_.signed else 'uint'}{format_.bits}",
        "scale": str(format_.scale),
        "zero_point": format_.zero_point,
        "interval": [str(interval.lo), str(interval.hi)],
    }


def _plan(program: Program) -> Iterator[dict[str, Any]]:
    for section in program.layers:
        elsewhere = [program.procedures[call.procedure].contract for call in calls_of(section.body)]
        contract = section.contract or max(elsewhere, default=0)
        if section.facts:
            yield {
                "layer": section.name,
                "title": section.title,
                **section.facts,
                **({"contract": f"code {contract}"} if contract else {}),
            }
