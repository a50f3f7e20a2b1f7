"""The road from a model to a contract.

    torch.nn.Module ─export▶ model.onnx ─frontend▶ Graph ─passes▶ Graph ─lower▶ Program ─backend▶ Artifact

Its stages are functions of their own, each with a record that it gives and the next one takes: `lift` → `quantize` →
`lower` → `emit`. `compile` goes through all of them but runs no solc; `build` has the artifact's source compiled.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ml2sc.backends import BACKENDS, Artifact, EmitOptions, Toolchain
from ml2sc.backends.base import costs_of, generators_of, with_notes
from ml2sc.backends.summary import verdict_of
from ml2sc.calibration import Calibrated, Formats, choose_formats
from ml2sc.chain_file import chain_profile
from ml2sc.errors import (
    CheckError,
    InternalError,
    PoorResultWarning,
    ToolchainError,
    UnsupportedModelError,
    UsageError,
    warn,
)
from ml2sc.facts import check_classes, decision_text, description, manifest_of
from ml2sc.fidelity import accuracy_on, assess
from ml2sc.fitting import fitted, largest_code, too_large
from ml2sc.forecast import as_facts, target_costs
from ml2sc.frontend.data import Samples, as_samples
from ml2sc.frontend.model_file import OnnxModel, load_onnx
from ml2sc.frontend.names import contract_name
from ml2sc.frontend.onnx_import import import_graph
from ml2sc.frontend.sklearn_export import export_sklearn, is_estimator
from ml2sc.frontend.treelite_import import class_names_of, import_estimator, library_of
from ml2sc.ir import wad
from ml2sc.ir.analysis import LINEAR
from ml2sc.ir.batch import Batch
from ml2sc.ir.chains import rules_of
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.forks import Fork
from ml2sc.ir.gas import Shares, estimate
from ml2sc.ir.graph import Graph
from ml2sc.ir.interpret import Profile, profile
from ml2sc.ir.limits import shown
from ml2sc.ir.program import MODEL_HASH, Choice, Program, Segment, Storage
from ml2sc.ir.program_verify import verify_program
from ml2sc.ir.shapes import infer_shapes, remove_constant_nodes
from ml2sc.ir.trial import products
from ml2sc.ir.types import Array, FixedPoint, Scaling
from ml2sc.options import Options
from ml2sc.passes import LEVELS, DumpIr, Instrument, Pass, parse_pipeline, run_pipeline
from ml2sc.passes.bind_trees import bind_trees
from ml2sc.passes.derive_decision import keep_scores
from ml2sc.passes.lower import PRAGUE, Activity, PlanOptions
from ml2sc.passes.lower import lower as lower_graph
from ml2sc.passes.measure import spread_out
from ml2sc.passes.precision import AUTO, Binary, parse_precision
from ml2sc.passes.prescribed import is_prequantized
from ml2sc.passes.prove_ranges import ProveRanges
from ml2sc.passes.quantize import Quantize
from ml2sc.passes.samples import Sample
from ml2sc.passes.scale_inputs import ScaleInputs
from ml2sc.passes.search_formats import MARGIN, Candidate
from ml2sc.passes.tune import Goal
from ml2sc.passes.updatable import Deployed, ReserveRanges
from ml2sc.progress import bar
from ml2sc.ranges import check_ranges, columns_of, declare_ranges, recorded_range
from ml2sc.reach import require_memory, require_reach
from ml2sc.remedy import Remedies
from ml2sc.runtime.exported import compare_export
from ml2sc.runtime.workers import require_workers
from ml2sc.smallness import coarse, largest_output, lost, relative_bound
from ml2sc.threads import one_thread

log = logging.getLogger(__name__)


PROFILED_SAMPLES = 64
"""Samples of the calibration data that the gas prediction looks at."""
_LEAST_PROFILED = 8
"""It looks at so many of them where each takes long."""
_PROFILED_WORK = 1 << 27
"""Products by weights, of all of them together, that are not long yet."""

PLANNED_SAMPLES = 32
"""Samples that the planner looks at for zeros."""
_STEPS = 4
"""What `compile` tells of its progress: steps that take long."""
_PRICED_SAMPLES = 8
"""The same for the many formats that `auto` compares."""
_PRICED_TARGET = "solidity"
"""Whose gas `auto` compares formats by, for any target: all of them compute the same integers."""

HOPELESS = 2
"""Code estimated at so many times the limit is not compiled: solc would take minutes, and estimates are 0.9 to 1.35
times the truth."""
OVER = 1.5
"""Code estimated at so many times the limit is over it where a compiler breaks off."""


def compile(  # noqa: A001  the library's verb
    model: Any,
    target: str | None = None,
    precision: str | None = None,
    calibration: Any = None,
    *,
    options: Options | None = None,
    example_input: Any = None,
    calibrated: Calibrated | None = None,
    activity: Mapping[str, str] | None = None,
    choices: Mapping[str, str] | None = None,
    deployed: Deployed | None = None,
    dump_ir: str | os.PathLike[str] | None = None,
    explain: Callable[[str], None] | None = None,
    progress: Callable[[int], None] | None = None,
    runners_up: Callable[[Sequence[Candidate]], None] | None = None,
    workers: int = 1,
    **more: Any,
) -> Artifact:
    """Compile a model to a contract's source.

    Args:
        model: Path of an ONNX file, an `onnx.ModelProto`, a fitted estimator of scikit-learn, XGBoost or LightGBM, a
            `torch.nn.Module` (then with `example_input`), or what `ml2sc.frontend.model_file` read.
        target: Backend; overrides `options`.
        precision: Number format; overrides `options`.
        calibration: Typical inputs: path of an .npz, arrays of shape (samples, …), a DataFrame, or `Samples`. Columns
            of a DataFrame or of a Parquet file are taken by name where the model has names for its own.
        options: The options; further keyword arguments override single ones.
        example_input: Input for exporting a torch module, of shape (1, …).
        calibrated: What an earlier calibration found, instead of `calibration`.
        activity: How often the inputs of layers were not zero then: `live` of each layer in the manifest's plan.
        choices: How to compute sections and nodes, by their names: some or all of `choices` in the manifest of another
            artifact of the model. What they do not name costs as little as can be.
        deployed: The updatable contract, of the same options, that the weights are for; None for a new one.
        dump_ir: Folder for the graph's text form after each pass, and the Program's.
        explain: Receives what was tried and done, line by line.
        progress: Called after every format that `auto` tried, with their number; None: what takes long is shown on a
            terminal or in a notebook.
        runners_up: Receives the formats `auto` chose between, measured on all samples, its choice among them.
        workers: How many processes look at many samples, and for `auto`'s formats where that takes long; what comes out
            does not depend on it.
        **more: Fields of `Options`, overriding `options`.

    Returns:
        The artifact, with its Program and graphs but without bytecode.

    Raises:
        Ml2scError: the model, the data or an option is not one that can be compiled.
        CheckError: fewer decisions are kept on the calibration data than `min_agreement`.
    """
    require_workers(workers)
    with bar("compiling", "step", _STEPS) as following:
        lifted = lift(
            model,
            target,
            precision,
            calibration,
            options=options,
            example_input=example_input,
            calibrated=calibrated,
            dump_ir=dump_ir,
            explain=explain,
            step=following.step,
            **more,
        )
        quantized = quantize(
            lifted,
            deployed=deployed,
            progress=progress or (lambda count: following.say(f"choosing formats: {count} tried")),
            runners_up=runners_up,
            workers=workers,
        )
        return emit(lower(quantized, activity=activity, choices=choices))


# -- the stages --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Telling:
    """Who is told what is done on the road.

    Attributes:
        say: Receives what was tried and done, line by line.
        step: Receives the name of what is begun, where that takes long.
        instruments: Look at the graph after each pass.
        dump: The one of them that writes it down, and then the Program.
    """

    say: Callable[[str], None]
    step: Callable[[str], None]
    instruments: tuple[Instrument, ...] = ()
    dump: DumpIr | None = None


@dataclass(frozen=True)
class Lifted:
    """A model as a graph, its inputs' ranges known: what `lift` gives and `quantize` takes.

    Attributes:
        options: The options.
        source: The model as it was read.
        reference: What the contract's answers are measured by: the model, or what passes that change it have left.
        graph: The same after all passes: float (quantised where the pipeline quantises by itself).
        samples: The calibration data, numbered by the graph's inputs, if there are any.
        declared: Ranges of single elements, by input.
        columns: Least and greatest values in the data of inputs without a declared range.
        calibrated: What an earlier calibration found.
        quantizer: What has quantised the graph, if its pipeline did.
        steps: How many passes ran.
        telling: Who is told of what comes.
    """

    options: Options
    source: OnnxModel
    reference: Graph
    graph: Graph
    samples: Samples | None
    declared: Mapping[str, Scaling]
    columns: Mapping[str, tuple[Array, Array]]
    calibrated: Calibrated | None
    quantizer: Quantize | None
    steps: int
    telling: Telling


@dataclass(frozen=True)
class Quantized:
    """A graph of integers whose intervals are proved for all inputs: what `quantize` gives and `lower` takes.

    Attributes:
        lifted: What it was made of.
        graph: The quantised graph.
        before: The float graph, as it was quantised.
        reference: The model, with the outputs that are left.
        precision: The number formats, as text.
        formats: How they were chosen; None if the pipeline quantised.
        calibrated: What calibration found.
        remedies: What may help if the answers are not the model's.
    """

    lifted: Lifted
    graph: Graph
    before: Graph
    reference: Graph
    precision: str
    formats: Formats | None
    calibrated: Calibrated | None
    remedies: Remedies | None


@dataclass(frozen=True)
class Lowered:
    """A verified Program: what `lower` gives and `emit` takes.

    Attributes:
        quantized: What it was made of.
        program: The Program, as the target is to print it.
    """

    quantized: Quantized
    program: Program


def lift(
    model: Any,
    target: str | None = None,
    precision: str | None = None,
    calibration: Any = None,
    *,
    options: Options | None = None,
    example_input: Any = None,
    calibrated: Calibrated | None = None,
    dump_ir: str | os.PathLike[str] | None = None,
    explain: Callable[[str], None] | None = None,
    step: Callable[[str], None] | None = None,
    **more: Any,
) -> Lifted:
    """Read a model, give its inputs ranges, and run the passes on its float graph: the first stage of `compile`.

    Args:
        model: As `compile` takes it; so are the others.
        target: Backend; overrides `options`.
        precision: Number format; overrides `options`.
        calibration: Typical inputs.
        options: The options; further keyword arguments override single ones.
        example_input: Input for exporting a torch module, of shape (1, …).
        calibrated: What an earlier calibration found, instead of `calibration`.
        dump_ir: Folder for the graph's text form after each pass, of this stage and those after it.
        explain: Receives what was tried and done, line by line, in this stage and those after it.
        step: Receives the name of each stage as it begins.
        **more: Fields of `Options`, overriding `options`.

    Raises:
        Ml2scError: the model, the data or an option is not one that can be compiled.
    """
    chosen = {k: v for k, v in {"target": target, "precision": precision, **more}.items() if v is not None}
    options = dataclasses.replace(options or Options(), **chosen)
    if isinstance(options.chain_profile, str):
        options = dataclasses.replace(options, chain_profile=chain_profile(options.chain_profile))
    options.check()
    if calibration is None and (options.min_agreement is not None or options.margin is not None):
        raise UsageError(
            "decisions to be kept, and gas to be spent on them, mean nothing without calibration data",
            hint="add --calibrate data.npz, or leave --min-agreement and --margin out",
        )
    step = step or _quiet
    step("reading the model")
    if not options.column_names and is_estimator(model):
        options = dataclasses.replace(options, column_names=tuple(map(str, getattr(model, "feature_names_in_", ()))))
    if not options.class_names and library_of(model) is not None:
        options = dataclasses.replace(options, class_names=class_names_of(model))
    source = _load(model, example_input)
    reference = _imported(source, options)
    names = columns_of(reference, options, None)
    samples = None if calibration is None else as_samples(calibration, reference, names)
    declared, columns = declare_ranges(reference, options, samples)
    check_ranges(reference, declared, samples)

    graph = reference.copy()
    front = _front(options)
    snapshot = _Snapshot(sum(p.changes_model for p in front))
    dump = None if dump_ir is None else DumpIr(Path(dump_ir))
    instruments: list[Instrument] = [_Explain(explain, reference)] if explain else []
    instruments += [] if dump is None else [dump]
    run_pipeline(graph, front, [snapshot, *instruments])
    require_reach(graph, options.rules)
    quantizer = next((p for p in front if isinstance(p, Quantize)), None)
    if quantizer is not None and not any(isinstance(p, ProveRanges) for p in front):
        raise UsageError(
            "the passes quantise, but do not prove that the sums fit",
            hint="add 'prove_ranges' at the end, or leave 'quantize' out: then both are done as --precision says",
        )
    if is_estimator(model) and quantizer is None and not any(p.changes_model for p in front):
        said = compare_export(model, graph, samples, _declared(reference, options, declared))
        (explain or _quiet)(said)
    return Lifted(
        options,
        source,
        snapshot.graph,
        graph,
        samples,
        declared,
        columns,
        calibrated,
        quantizer,
        len(front),
        Telling(explain or _quiet, step, tuple(instruments), dump),
    )


@one_thread
def quantize(
    lifted: Lifted,
    *,
    deployed: Deployed | None = None,
    progress: Callable[[int], None] | None = None,
    runners_up: Callable[[Sequence[Candidate]], None] | None = None,
    workers: int = 1,
) -> Quantized:
    """Choose number formats, make all tensors integers and prove their intervals: the second stage of `compile`.

    Args:
        lifted: What `lift` returned; it stays as it is.
        deployed: The updatable contract, of the same options, that the weights are for; None for a new one.
        progress: Called after every format that `auto` tried, with their number.
        runners_up: Receives the formats `auto` chose between, measured on all samples, its choice among them.
        workers: How many processes look at many samples.

    Raises:
        Ml2scError: the data do not do, or a sum fits no word.
    """
    require_workers(workers)
    options, samples, telling = lifted.options, lifted.samples, lifted.telling
    graph, reference, declared = lifted.graph.copy(), lifted.reference.copy(), lifted.declared
    calibrated = lifted.calibrated
    if calibrated is not None:
        binary = isinstance(parse_precision(options.precision), Binary)
        calibrated.apply(graph, [] if binary or not declared else [ScaleInputs(declared)])
        declared = {}
    telling.step("choosing formats")
    if options.updatable:
        _require_updatable(graph, lifted.quantizer)
    formats, remedies, before, quantizer = None, None, graph, lifted.quantizer
    if quantizer is None:
        priced = _predicted(_planning(options), options, samples)
        choose = partial(
            choose_formats,
            samples=samples,
            gas=priced,
            say=telling.say,
            progress=progress or _quiet,
            declared=declared,
            columns=lifted.columns,
            margin=MARGIN if options.margin is None else options.margin,
            plain=options.updatable,
        )
        if not (options.precision == AUTO or is_prequantized(graph)):
            remedies = Remedies(
                graph.copy(),
                reference,
                samples,
                options.precision,
                choose,
                priced,
                options.min_agreement,
                options.tolerance,
                ranged=bool(options.input_ranges),
            )
        formats = choose(
            graph,
            options.precision,
            goal=Goal(1.0 if options.min_agreement is None else options.min_agreement, options.tolerance),
            detailed=runners_up is not None,
            accuracy=partial(accuracy_on, samples),
            workers=workers,
        )
        shown = [_Renumbered(i, lifted.steps) for i in telling.instruments]
        run_pipeline(graph, formats.passes, shown)
        if samples is not None:
            calibrated = Calibrated.of(graph, formats.passes)
        if runners_up is not None:
            runners_up(formats.candidates)
        before = graph.copy()
        kept = None if deployed is None else deployed.formats
        headroom = options.headroom if options.updatable else 0
        quantizer = Quantize(formats.precision, kept, headroom, replaceable=options.updatable)
        replaced = ReserveRanges(options.headroom, deployed, takes_wad=not options.packed_only)
        prove = replaced if options.updatable else ProveRanges()
        shown = [_Renumbered(i, lifted.steps + len(formats.passes)) for i in telling.instruments]
        run_pipeline(graph, [quantizer, prove], shown)
    if not graph.outputs:
        raise UnsupportedModelError("the model has no output but a label", hint="export its scores as an output, too")
    reference.outputs = list(graph.outputs)
    return Quantized(lifted, graph, before, reference, quantizer.precision, formats, calibrated, remedies)


@one_thread
def lower(
    quantized: Quantized,
    *,
    activity: Mapping[str, str] | None = None,
    choices: Mapping[str, str] | None = None,
) -> Lowered:
    """Plan the contract, and verify what comes of it: the third stage of `compile`.

    Args:
        quantized: What `quantize` returned.
        activity: How often the inputs of layers were not zero: `live` of each layer in another artifact's plan.
        choices: How to compute sections and nodes, by their names.

    Raises:
        Ml2scError: the target cannot express the model, or no contract holds it.
    """
    lifted, graph = quantized.lifted, quantized.graph
    options, samples, telling = lifted.options, lifted.samples, lifted.telling
    require_memory(graph, options.rules)
    plan = _planning(options, activity)
    if samples is not None:
        plan = dataclasses.replace(plan, observed=_layer_inputs(graph, spread_out(samples, PLANNED_SAMPLES)))
    telling.step("planning the contract")
    generators = generators_of(options.target, options.form)
    program = lower_graph(graph, dataclasses.replace(plan, generators=generators, choices=choices or {}))
    for name, choice in program.choices.items():
        for text in _told(name, choice):
            telling.say(text)
    if options.updatable:
        stated = Segment((int.from_bytes(lifted.source.hash, "big"),), Storage.DATA, 1)
        program = dataclasses.replace(program, segments={MODEL_HASH: stated, **program.segments})
    program = fitted(
        program,
        options.target,
        options.rules,
        plan.byte_price,
        form=options.form,
        divides=options.has_constructor,
    )
    for doubt in verify_program(program, graph):
        telling.say(f"not proved: {doubt}")
    if telling.dump is not None:
        telling.dump.lowered(program)
    missing = BACKENDS.get(options.target).unsupported(program)
    if missing:
        raise UnsupportedModelError(f"target {options.target!r} cannot express this model: {'; '.join(missing)}")
    return Lowered(quantized, program)


@one_thread
def emit(lowered: Lowered) -> Artifact:
    """Print the contract's source, and compare the integers' answers with the model's: the fourth stage of `compile`.

    No compiler runs: that is what `build` is for.

    Args:
        lowered: What `lower` returned.

    Raises:
        CheckError: the answers are not the model's as far as was asked for.
    """
    quantized, program = lowered.quantized, lowered.program
    lifted, graph, reference = quantized.lifted, quantized.graph, quantized.reference
    options, source, samples, telling = lifted.options, lifted.source, lifted.samples, lifted.telling
    name = contract_name(source.name) if options.name is None else options.name
    check_classes(reference, graph, options.class_names)
    columns = columns_of(reference, options, samples)
    artifact = BACKENDS.get(options.target).emit(
        program,
        EmitOptions(
            name=name,
            fork=options.fork,
            model_hash=source.hash,
            description=description(graph, columns, options.class_names),
            precision=quantized.precision,
            strict_input=options.strict_input,
            decision=decision_text(reference, graph),
            timelock=options.timelock,
            erc165=options.erc165,
            erc7201=options.erc7201,
            form=options.form,
            calls=_planning(options).calls,
        ),
    )
    recorded = dataclasses.replace(
        options,
        name=name,
        input_ranges=tuple(recorded_range(reference, graph, n) for n in reference.inputs),
        column_ranges=(),
        column_names=columns,
        passes=_as_text(options.passes),
        min_agreement=None,
        margin=None,
        tolerance=None,
    )
    classes = options.class_names or reference.class_names
    manifest = manifest_of(artifact, graph, program, recorded, quantized.precision, source, classes)
    largest = largest_output(reference, graph)
    manifest["error_bound_relative"] = relative_bound(manifest["error_bound_unsaturated"], largest)
    if samples is None and quantized.calibrated is None:
        _warn_of_smallness(graph, manifest["error_bound"], largest, options)
    manifest["calibrated"] = (quantized.calibrated or Calibrated()).to_json()
    telling.step("comparing answers")
    if quantized.formats is not None and samples is not None:
        manifest["calibration"] = assess(
            reference,
            quantized.before,
            graph,
            samples,
            quantized.formats.methods(),
            None if is_prequantized(quantized.before) else parse_precision(quantized.precision),
            chosen=options.precision == AUTO,
        )
    artifact = dataclasses.replace(
        artifact,
        manifest=manifest,
        model=source.data,
        external=source.external,
        program=program,
        graph=graph,
        reference=reference,
        profile=_profiled(graph, program, samples),
    )
    _judge(artifact, options, str if quantized.remedies is None else quantized.remedies.text)
    return _with_forecast(artifact)


def _imported(source: OnnxModel, options: Options) -> Graph:
    """Return a model's float graph, its shapes inferred.

    Raises:
        UnsupportedModelError: its weights are to be replaced, and it has none.
    """
    graph = import_graph(source, labels=options.labels)
    infer_shapes(graph, fold=True)
    remove_constant_nodes(graph)
    graph.prune()
    keep_scores(graph)
    bind_trees(graph)
    return graph


def _declared(graph: Graph, options: Options, columns: Mapping[str, Scaling]) -> Scaling | None:
    """Return the range of the only input, by element, if it is declared."""
    (name,) = graph.inputs
    if name in columns or not options.input_ranges:
        return columns.get(name)
    lo, hi = (np.full(graph.tensor(name).shape, end) for end in graph.input_ranges[name])
    return Scaling(lo, hi)


def _planning(options: Options, activity: Mapping[str, str] | None = None) -> PlanOptions:
    """Return what the planner is told."""
    return PlanOptions(
        weights=options.weights if options.has_constructor else "code",
        optimize=options.optimize,
        expected_calls=options.expected_calls,
        expected_updates=options.expected_updates,
        strict_input=options.strict_input,
        packed_only=options.packed_only,
        code_limit=options.rules.code_limit,
        rules=PRAGUE if options.chain_profile is None else options.rules,
        divides=options.has_constructor and bool(getattr(BACKENDS.get(options.target), "divides", False)),
        updatable=options.updatable,
        activity={name: Activity.read(text) for name, text in (activity or {}).items()},
    )


def _judge(artifact: Artifact, options: Options, tried: Callable[[], str]) -> None:
    """Say whether the calibration data's answers are the model's.

    Args:
        artifact: The artifact.
        options: What is asked for.
        tried: Tries what may help, and says what came of it; empty where formats are not to be chosen.

    Raises:
        CheckError: fewer of them are than was asked for, or they are farther from it.
    """
    found, asked = artifact.manifest.get("calibration"), options.tolerance
    error, what = artifact.manifest["error_bound"], "is proved to be off by at most"
    if found is not None:
        error, what = found["max_abs_error"], "is off on the calibration data by up to"
    if options.precision != AUTO and asked is not None and error > asked:
        raise CheckError(
            f"{options.precision} {what} {error:.3g}, and the tolerance is {asked:g}",
            hint=tried() or None,
        )
    verdict = verdict_of(artifact.manifest)
    if verdict is None:
        return
    advice = artifact.manifest["calibration"]["advice"]
    least = options.min_agreement
    if least is not None and not verdict.enough(least):
        raise CheckError(
            f"{artifact.name} in {artifact.manifest['precision']} does not keep its model: on the calibration data "
            f"{verdict.figures}, and at least {least:g} is asked for",
            hint="; ".join(filter(None, [tried(), advice, "--min-agreement takes less"])),
        )
    if advice is not None or (verdict.poor and options.precision != AUTO):
        figures = f": on the calibration data {verdict.figures}" if verdict.figures else ""
        auto = "" if options.precision == AUTO else "; without --precision auto looks for the cheapest that keeps it"
        warn(
            f"{artifact.name} keeps its model poorly{figures}{f'; {advice}' if advice else ''}{auto}", PoorResultWarning
        )


def build(artifact: Artifact, toolchain: Toolchain) -> Artifact:
    """Have an artifact's source compiled.

    Args:
        artifact: What `compile` returned.
        toolchain: `ml2sc.runtime.toolchain.Toolchain()`.

    Returns:
        The artifact with its bytecode; the compiler's version is in its manifest. Source that is no contract has none.

    Raises:
        ToolchainError: there is no compiler, or it fails.
        ContractLimitError: the contract is larger than the chain allows.
    """
    if not artifact.on_chain:
        return artifact
    fork = rules_of(artifact.manifest["options"])
    estimated = largest_code(target_costs(artifact))
    about = f"the contract would have about {estimated:,}"
    if estimated > HOPELESS * fork.code_limit:
        raise too_large(artifact, about, fork)
    try:
        with bar(f"{artifact.target} compiler at {artifact.source_name}"):
            bytecode = BACKENDS.get(artifact.target).compile(artifact, toolchain)
    except ToolchainError as error:
        if estimated > OVER * fork.code_limit:  # compilers break off with errors of their own
            raise too_large(artifact, f"{error.message}\n{about}", fork) from error
        raise
    for number, code in enumerate((bytecode.runtime, *(part.runtime for part in bytecode.parts))):
        if len(code) > fork.code_limit:
            which = f"code contract {number}" if number else "the contract"
            raise too_large(artifact, f"{which} has {len(code):,}", fork)
    if _signatures(bytecode.abi) != _signatures(artifact.abi):
        raise InternalError(f"{bytecode.compiler} reports another ABI than the backend")
    toolchain_facts: dict[str, Any] = {
        "compiler": bytecode.compiler,
        "found": bytecode.how,
        "settings": dict(bytecode.settings),
    }
    if bytecode.edits:
        toolchain_facts["edits"] = dict(bytecode.edits)
    if bytecode.parts:
        toolchain_facts["parts"] = [{"settings": dict(p.settings), "edits": dict(p.edits)} for p in bytecode.parts]
    manifest = {
        **artifact.manifest,
        "code_bytes": len(bytecode.runtime),
        "toolchain": toolchain_facts,
    }
    if bytecode.parts:
        manifest["code_contracts"] = [{"bytes": len(part.runtime)} for part in bytecode.parts]
    compiled = with_notes(artifact, bytecode)
    parts = tuple(map(with_notes, artifact.parts, bytecode.parts))
    built = dataclasses.replace(compiled, bytecode=bytecode, manifest=manifest, parts=parts)
    return _with_forecast(built)


def _with_forecast(artifact: Artifact) -> Artifact:
    """Add what it will cost to an artifact's manifest."""
    if not artifact.on_chain:
        return artifact
    return dataclasses.replace(artifact, manifest={**artifact.manifest, **as_facts(artifact, artifact.profile)})


def _layer_inputs(graph: Graph, samples: Sequence[Sample]) -> dict[str, Array]:
    """Return the integers that layers read for samples, by tensor: (samples, elements)."""
    read = {node.inputs[0] for node in graph if node.op_type in {"Conv", "FusedGemm", "Gemm"}}
    found = Batch(samples).values(graph, read)
    return {name: values.reshape(len(samples), -1) for name, values in found.items()}


def _profiled(graph: Graph, program: Program, samples: Sequence[Sample] | None) -> Profile | None:
    """Count the branches that samples take; without any, those of inputs made up around the edges of trees."""
    if samples is not None:
        affordable = max(_PROFILED_WORK // products(graph), _LEAST_PROFILED)
        return _profile(graph, program, spread_out(samples, min(affordable, PROFILED_SAMPLES)))
    if not graph.ladders:
        return None
    random = np.random.default_rng(0)
    columns = {name: ladder.samples(random, PROFILED_SAMPLES) for name, ladder in graph.ladders.items()}
    made_up = [
        {name: rows[number].reshape(graph.tensor(name).shape) for name, rows in columns.items()}
        for number in range(PROFILED_SAMPLES)
    ]
    return dataclasses.replace(_profile(graph, program, made_up), assumed=True)


def _profile(graph: Graph, program: Program, samples: Sequence[Sample]) -> Profile:
    """Count the branches that samples take."""
    return profile(program, (wad.pack(graph, wad.quantize_inputs(graph, sample)) for sample in samples))


def _signatures(abi: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, tuple[str, ...], tuple[str, ...]]]:
    return sorted(
        (
            e["type"],
            e.get("name", ""),
            tuple(i["type"] for i in e.get("inputs", ())),
            tuple(o["type"] for o in e.get("outputs", ())),
        )
        for e in abi
    )


def _told(name: str, choice: Choice) -> Iterator[str]:
    """Yield what was chosen for a section or a node, and what would have cost more, a line each."""
    if choice.price is None:
        yield f"{name}: {choice.way} (as asked for)"
        return
    yield f"{name}: {choice.way} ({choice.price:,.0f} gas an inference with its share of the deployment)"
    for way, price in choice.others:
        yield f"  instead of {way} ({price:,.0f} gas)"


def _quiet(text: object) -> None:
    log.debug("%s", text)


def _front(options: Options) -> Sequence[Pass]:
    """Return the passes that run on the float graph."""
    if options.passes is None:
        return LEVELS[options.level]
    if isinstance(options.passes, str):
        return parse_pipeline(options.passes, {f"O{level}": passes for level, passes in enumerate(LEVELS)})
    return options.passes


def _as_text(passes: str | tuple[Pass, ...] | None) -> str | None:
    return passes if passes is None or isinstance(passes, str) else ",".join(map(str, passes))


@dataclass
class _Snapshot:
    """Keeps the graph as it is after step `step`: what it computes then is the model."""

    step: int
    graph: Graph = field(default_factory=Graph)

    def after_pass(self, step: int, pass_: Pass | None, graph: Graph, seconds: float) -> None:
        if step == self.step:
            self.graph = graph.copy()


class _Explain:
    """Says what each pass made of the graph, and how far it moved the model's answer to one input."""

    def __init__(self, say: Callable[[str], None], reference: Graph) -> None:
        self.say = say
        self.inputs = {n: np.linspace(*reference.input_ranges[n], reference.tensor(n).size) for n in reference.inputs}
        self.wanted = evaluate_float(reference, self._shaped(reference))

    def _shaped(self, graph: Graph) -> dict[str, Array]:
        return {name: values.reshape(graph.tensor(name).shape) for name, values in self.inputs.items()}

    def after_pass(self, step: int, pass_: Pass | None, graph: Graph, seconds: float) -> None:
        operators = ", ".join(node.op_type for node in graph)
        self.say(f"{step:03d} {pass_ or 'import'}: {operators} ({1000 * seconds:.0f} ms){self._moved(graph)}")

    def _moved(self, graph: Graph) -> str:
        if any(isinstance(graph.tensor(name).type, FixedPoint) for name in graph.inputs):
            return ""
        values = evaluate_float(graph, self._shaped(graph))
        known = [name for name in graph.outputs if name in self.wanted]
        moved = max((float(np.abs(values[name] - self.wanted[name]).max()) for name in known), default=0.0)
        return f"; moves the outputs by {moved:.2g}" if moved else ""


@dataclass
class _Renumbered:
    """Lets an instrument count the steps of a second pipeline on from the first's."""

    instrument: Instrument
    before: int

    def after_pass(self, step: int, pass_: Pass | None, graph: Graph, seconds: float) -> None:
        if pass_ is not None:
            self.instrument.after_pass(self.before + step, pass_, graph, seconds)


def _load(model: Any, example_input: Any) -> OnnxModel:
    """Read or export a model; a module's contract is named after its class.

    Raises:
        UsageError: it is nothing of what a model may be.
    """
    if isinstance(model, OnnxModel):
        return model
    if isinstance(model, str | os.PathLike | onnx.ModelProto):
        return load_onnx(model)
    if library_of(model) is not None:
        return dataclasses.replace(load_onnx(import_estimator(model)), name=contract_name(type(model).__name__))
    if is_estimator(model):
        return load_onnx(export_sklearn(model))
    if not hasattr(model, "state_dict"):
        hint = "give the module that they are the weights of" if isinstance(model, Mapping) else None
        kinds = (
            "the path of an ONNX file, an onnx.ModelProto, a fitted estimator of scikit-learn, XGBoost or LightGBM, or "
            "a torch.nn.Module"
        )
        raise UsageError(f"a model is {kinds}, not a {type(model).__name__}", hint=hint)
    from ml2sc.frontend.torch_export import export_torch

    if example_input is None:
        raise UsageError("a torch module needs an example_input to be exported")
    exported = load_onnx(export_torch(model, example_input))
    return dataclasses.replace(exported, name=contract_name(type(model).__name__))


def _require_updatable(graph: Graph, quantize: Quantize | None) -> None:
    """Refuse what has parts in the code that an update would have to change; warn of what must stay as it is.

    Raises:
        UnsupportedModelError: the model prescribes its own formats, or all its weights are in the code.
        UsageError: the pipeline quantises by itself.
    """
    if is_prequantized(graph):
        raise UnsupportedModelError(
            "a model that comes quantised has its scales in the code: its weights cannot be updated",
            hint="compile the float model, or leave --updatable out",
        )
    if quantize is not None:
        raise UsageError("--updatable quantises in a way of its own", hint="leave 'quantize' out of --passes")
    fixed = [node.name for node in graph if node.op_type == "Conv"]
    if not fixed:
        return
    if not any(node.op_type in LINEAR for node in graph):
        raise UnsupportedModelError(
            "nothing of it could be updated: the weights of convolutions are in the code",
            node=fixed[0],
            hint="leave --updatable out, and deploy anew",
        )
    warn(
        f"only the weights of dense layers can be updated: those of convolutions ({', '.join(map(shown, fixed)):.200}) "
        "are in the code, and an update must have the same ones",
        PoorResultWarning,
    )


@dataclass(frozen=True)
class _Predicted:
    """Predicts the gas of an inference from a quantised graph.

    Attributes:
        plan: What the contract is planned with.
        rules: The prices that count.
        samples: Calibration samples, if there are any: those to plan with, those to count branches on.
    """

    plan: PlanOptions
    rules: Fork
    samples: tuple[Sequence[Mapping[str, Array]], Sequence[Mapping[str, Array]]] | None

    def __call__(self, graph: Graph) -> int:
        observed = {} if self.samples is None else _layer_inputs(graph, self.samples[0])
        program = lower_graph(graph, dataclasses.replace(self.plan, updatable=False, observed=observed))
        counted = None if self.samples is None else _profile(graph, program, self.samples[1])
        shares = Shares(counted, worst=self.rules.charges_limit)
        return estimate(costs_of(_PRICED_TARGET, program, {}), self.rules, shares).total


def _predicted(plan: PlanOptions, options: Options, samples: Samples | None) -> _Predicted:
    some = None
    if samples is not None:
        some = spread_out(samples, PLANNED_SAMPLES), spread_out(samples, _PRICED_SAMPLES)
    return _Predicted(plan, options.rules, some)


def _warn_of_smallness(graph: Graph, bound: float, largest: float | None, options: Options) -> None:
    """Warn of numbers that the formats make 0, and of a bound that is large beside the outputs."""
    remedy = "ask for less with --tolerance" if options.precision == AUTO else "name a finer --precision"
    asked = options.precision != AUTO or options.tolerance is not None
    for text in (*lost(graph), coarse(bound, largest, asked=asked)):
        if text is not None:
            warn(f"{text}: {remedy}", PoorResultWarning)


__all__ = [
    "Lifted",
    "Lowered",
    "Quantized",
    "Telling",
    "build",
    "compile",
    "emit",
    "lift",
    "lower",
    "quantize",
]
