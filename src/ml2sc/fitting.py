"""How a program is made to fit its contract, or several; why one is too large, and what would make it fit.

A remedy is tried, by the estimate, before it is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml2sc.backends import BACKENDS, Artifact
from ml2sc.backends.base import CONTRACT, costs_of, forms_of
from ml2sc.errors import ContractLimitError, Ml2scError
from ml2sc.ir.chains import rules_of
from ml2sc.ir.divide import Room, apart, spread
from ml2sc.ir.forks import Fork
from ml2sc.ir.gas import Costs, Execution, Shares, code_bytes, part_bytes, section_bytes
from ml2sc.ir.graph import Graph
from ml2sc.ir.outline import Alike, outlined, worthwhile
from ml2sc.ir.program import Program, calls_of
from ml2sc.passes import LEVELS, run_pipeline
from ml2sc.passes.lower import CODE_MARGIN, PRAGUE, Activity, PlanOptions, lower
from ml2sc.passes.prescribed import is_prequantized
from ml2sc.passes.prove_ranges import ProveRanges
from ml2sc.passes.quantize import Quantize

_SURE = 0.9
"""Code estimated at so much of what a contract may have is not cut: no estimate is below that share of the truth."""
_LAYERS = 5
"""Layers that are named, the largest first."""
_NARROWER = ("int8", "w4a8", "w4a4", "w2a2")
"""Formats that are tried, the widest first: those before the one in use are no narrower."""


def fitted(
    program: Program, target: str, fork: Fork, byte_price: float, *, form: str = CONTRACT, divides: bool = True
) -> Program:
    """Return a program with the procedures and in the contracts that it is compiled with.

    Args:
        program: As it was lowered.
        target: Name of the backend; it says whether it knows procedures and code contracts.
        fork: The fork it is for.
        byte_price: Gas of an inference that is worth a byte of code.
        form: What the backend makes of it.
        divides: Whether that has a constructor, which looks for code contracts.
    """
    backend, room = BACKENDS.get(target), round(CODE_MARGIN * fork.code_limit)

    def measure(candidate: Program) -> tuple[float, int]:
        costs = costs_of(target, candidate, {}, form)
        return Execution.of(costs, Shares()).gas, code_bytes(costs.program, costs.sizes)

    whole, groups = program, list[Alike]()
    if getattr(backend, "procedures", False):
        groups = worthwhile(program, measure, room, byte_price)
        program = outlined(program, groups)
    costs = costs_of(target, program, {}, form)
    size = code_bytes(costs.program, costs.sizes)
    if not divides or not getattr(backend, "divides", False) or size <= _SURE * fork.code_limit:
        return program
    best, least = program, math.inf
    for number in range(len(groups), -1, -1):
        before = math.inf
        for candidate in _elsewhere(outlined(whole, groups[:number]), groups[:number]):
            cut = _cut(candidate, target, room, form)
            if cut is None:
                continue
            costs = costs_of(target, cut, {}, form)
            size = code_bytes(costs.program, costs.sizes) + sum(part_bytes(p.program, p.sizes) for p in costs.parts)
            total = Execution.of(costs, Shares()).gas + byte_price * size
            if total < least:
                best, least = cut, total
            if total > before:  # what is elsewhere next saves less
                break
            before = total
    return best


def _elsewhere(program: Program, groups: Sequence[Alike]) -> Iterator[Program]:
    """Yield a program with none of its procedures, and then more and more of them, as code contracts.

    A procedure that is none is in each contract that calls it, and leaves less room there; else it is there once, and a
    call takes more.

    Args:
        program: The program.
        groups: What its procedures were made of, those that save most bytes first.
    """
    bodies = {section.name: section.body for section in program.layers}
    names = [call.procedure for group in groups for call in calls_of(bodies[group.members[0]])]
    for number in range(len(names) + 1):
        yield apart(program, names[:number])


def _cut(program: Program, target: str, room: int, form: str) -> Program | None:
    """Return a program cut into contracts of at most so many bytes; None if it cannot be."""
    costs = costs_of(target, program, {}, form)
    if any(part_bytes(part.program, part.sizes) > room for part in costs.parts):
        return None
    frame = costs.sizes.frame + (costs.sizes.updates if program.updatable else 0)
    rooms = Room(room - frame, room - costs.sizes.part, costs.sizes.stub)
    return spread(program, section_bytes(costs.program, costs.sizes), rooms)


def largest_code(costs: Costs) -> int:
    """Return the estimated bytes of the largest of a program's contracts."""
    parts = (part_bytes(part.program, part.sizes) for part in costs.parts)
    return max([code_bytes(costs.program, costs.sizes), *parts])


def too_large(artifact: Artifact, has: str, fork: Fork) -> ContractLimitError:
    """Return the error of a contract that does not fit.

    Args:
        artifact: What `compile` returned.
        has: How large it is: "the contract would have about 70,000".
        fork: The fork it is for.
    """
    accepts = f"{has} bytes of code; a chain accepts {fork.code_limit:,} (EIP-170)"
    lines = [accepts, *_layers(artifact), *_uncut(artifact, fork)]
    tried: list[str] = []
    for options, size in _remedies(artifact):
        if size <= fork.code_limit:
            return ContractLimitError("\n".join(lines), hint=f"{options} would make it about {size:,} bytes")
        tried.append(f"{options} (about {size:,} bytes)")
    if not tried:
        return ContractLimitError("\n".join(lines), hint="compile a smaller model")
    return ContractLimitError(
        "\n".join(lines), hint=f"none of what was tried makes it fit: {', '.join(tried)}; compile a smaller model"
    )


def _layers(artifact: Artifact) -> list[str]:
    """Return the largest layers, a line each."""
    assert artifact.program is not None
    costs = costs_of(artifact.target, artifact.program, {}, artifact.form)
    sizes = section_bytes(costs.program, costs.sizes)
    titles = {section.name: section.title for section in costs.program.routines()}
    largest = sorted(sizes.items(), key=lambda item: -item[1])
    lines = [f"  {name} ({titles[name]}): about {size:,} bytes" for name, size in largest[:_LAYERS]]
    rest = [size for _, size in largest[_LAYERS:]]
    return [*lines, f"  {len(rest)} more: about {sum(rest):,} bytes"] if rest else lines


def _uncut(artifact: Artifact, fork: Fork) -> list[str]:
    """Return what cannot be cut into code contracts: layers that alone are more than one holds."""
    assert artifact.program is not None
    costs = costs_of(artifact.target, artifact.program, {}, artifact.form)
    sizes = section_bytes(costs.program, costs.sizes)
    room = fork.code_limit - costs.sizes.part
    over = {name: max(100 * room // size, 1) for name, size in sizes.items() if size > room}
    return [f"  {name} alone is more than a contract holds: {part} % of it would fit" for name, part in over.items()]


def _remedies(artifact: Artifact) -> Iterator[tuple[str, int]]:
    """Yield options of `ml2sc-compile` with the bytes of code that they give, the gentlest first."""
    options, precision = artifact.manifest["options"], str(artifact.manifest["precision"])
    graph = artifact.graph
    assert graph is not None
    changes: dict[str, dict[str, Any]] = {}
    constructed = forms_of(artifact.target)[artifact.form]
    if options["weights"] != "data" and constructed and _has_tables(artifact):
        changes["--weights data"] = {"weights": "data"}
    if options["optimize"] != "deploy" or options["expected_calls"] not in {None, 1}:
        smaller = {"optimize": "deploy", "expected_calls": None}
        changes["--optimize deploy"] = smaller
        if "--weights data" in changes:
            changes["--weights data --optimize deploy"] = {"weights": "data", **smaller}
    for text, change in changes.items():
        if (size := _size(artifact, graph, options | change)) is not None:
            yield text, size
    last = next(reversed(changes.items()), ("", {}))
    for narrower in _narrower(precision) if _may_be_quantised(artifact) else ():
        other = _quantised(artifact, narrower)
        if other is not None and (size := _size(artifact, other, options | last[1])) is not None:
            yield f"--precision {narrower} {last[0]}".strip(), size


def _has_tables(artifact: Artifact) -> bool:
    """Return whether weights are in the code: as tables, or as literals."""
    return any("bytes" in layer and layer["storage"] != "data" for layer in artifact.manifest["plan"])


def _may_be_quantised(artifact: Artifact) -> bool:
    """Return whether the model can be had in another format by what is known here."""
    options, reference = artifact.manifest["options"], artifact.reference
    plain = options["passes"] is None and not options["updatable"]
    return plain and reference is not None and not is_prequantized(reference)


def _narrower(precision: str) -> tuple[str, ...]:
    known = {"w8a8": "int8"}.get(precision, precision)
    return _NARROWER[_NARROWER.index(known) + 1 :] if known in _NARROWER else _NARROWER


def _quantised(artifact: Artifact, precision: str) -> Graph | None:
    """Return the model in another format; None where its sums do not fit."""
    assert artifact.reference is not None
    graph = artifact.reference.copy()
    try:
        run_pipeline(graph, [*LEVELS[artifact.manifest["options"]["level"]], Quantize(precision), ProveRanges()])
    except Ml2scError:
        return None
    return graph


def _size(artifact: Artifact, graph: Graph, options: Mapping[str, Any]) -> int | None:
    """Return the bytes of code of a quantised graph under options; None if it cannot be lowered so."""
    layers, rules = artifact.manifest["plan"], rules_of(options)
    constructed = forms_of(artifact.target)[artifact.form]
    plan = PlanOptions(
        weights=options["weights"] if constructed else "code",
        optimize=options["optimize"],
        expected_calls=options["expected_calls"],
        expected_updates=options["expected_updates"],
        strict_input=options["strict_input"],
        packed_only=options.get("packed_only", False),
        code_limit=rules.code_limit,
        rules=PRAGUE if options.get("chain_profile") is None else rules,
        divides=constructed and bool(getattr(BACKENDS.get(artifact.target), "divides", False)),
        updatable=options["updatable"],
        activity={layer["layer"]: Activity.read(layer["live"]) for layer in layers if "live" in layer},
    )
    try:
        program = lower(graph, plan)
    except Ml2scError:
        return None
    program = fitted(program, artifact.target, rules, plan.byte_price, form=artifact.form, divides=constructed)
    return largest_code(costs_of(artifact.target, program, {}, artifact.form))
