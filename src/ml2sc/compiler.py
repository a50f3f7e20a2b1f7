"""The road from a model to a contract.

    torch.nn.Module ─export▶ model.onnx ─frontend▶ Graph ─passes▶ Graph ─lower▶ Program ─backend▶ Artifact

Its stages are functions of their own, each with a record that it gives and the next one takes: `lift` → `quantize` →
`lower` → `emit`. `compile` goes through all of them but runs no solc; `build` has the artifact's source compiled.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx

from ml2sc.backends import BACKENDS, Artifact, EmitOptions, Toolchain
from ml2sc.backends.base import CONTRACT, costs_of, forms_of, generators_of, with_notes
from ml2sc.backends.interface import weights_hash
from ml2sc.backends.summary import verdict_of
from ml2sc.calibration import Calibrated, Formats, choose_formats
from ml2sc.chain_file import chain_profile
from ml2sc.errors import (
    CheckError,
    InternalError,
    PoorResultWarning,
    RangeError,
    RangeWarning,
    ToolchainError,
    UnknownNameError,
    UnsupportedModelError,
    UsageError,
    warn,
)
from ml2sc.fidelity import accuracy_on, assess
from ml2sc.fitting import fitted, too_large
from ml2sc.forecast import as_facts, forecast
from ml2sc.frontend.data import Samples, as_samples, by_column, columns_text, numbered
from ml2sc.frontend.model_file import OnnxModel, contract_name, load_onnx
from ml2sc.frontend.names import check_names
from ml2sc.frontend.onnx_import import import_graph
from ml2sc.frontend.ranges import ColumnRange, apply_ranges, column_names
from ml2sc.frontend.sklearn_export import export_sklearn, is_estimator
from ml2sc.frontend.treelite_import import class_names_of, import_estimator, library_of
from ml2sc.ir import model_hash, wad
from ml2sc.ir.analysis import LINEAR
from ml2sc.ir.batch import Batch
from ml2sc.ir.chains import ChainProfile, rules_of
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.forks import FORKS, Fork
from ml2sc.ir.gas import Shares, estimate
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.interpret import Profile, profile
from ml2sc.ir.limits import shown
from ml2sc.ir.program import MODEL_HASH, Choice, Program, Segment, Storage
from ml2sc.ir.program_verify import verify_program
from ml2sc.ir.shapes import infer_shapes, remove_constant_nodes
from ml2sc.ir.thermometer import RankCode, graph_code
from ml2sc.ir.trial import products
from ml2sc.ir.types import Array, DType, FixedPoint, Scaling
from ml2sc.passes import LEVELS, DumpIr, Instrument, Pass, parse_pipeline, run_pipeline
from ml2sc.passes.bind_trees import bind_trees
from ml2sc.passes.choose_scales import constant_elements, element_ranges
from ml2sc.passes.derive_decision import keep_scores
from ml2sc.passes.lower import PRAGUE, Activity, PlanOptions
from ml2sc.passes.lower import lower as lower_graph
from ml2sc.passes.measure import spread_out
from ml2sc.passes.precision import AUTO, Binary, parse_precision
from ml2sc.passes.prescribed import input_range, is_prequantized
from ml2sc.passes.prove_ranges import ProveRanges
from ml2sc.passes.quantize import Quantize
from ml2sc.passes.samples import Sample
from ml2sc.passes.scale_inputs import ScaleInputs
from ml2sc.passes.search_formats import MARGIN, Candidate
from ml2sc.passes.tune import Goal
from ml2sc.passes.updatable import Deployed, ReserveRanges
from ml2sc.progress import bar
from ml2sc.reach import require_memory, require_reach
from ml2sc.remedy import Remedies
from ml2sc.runtime.workers import require_workers
from ml2sc.smallness import coarse, largest_output, lost, relative_bound
from ml2sc.threads import one_thread

log = logging.getLogger(__name__)

ANY_FLOAT = (-float(np.finfo(np.float32).max), float(np.finfo(np.float32).max))
"""Range of an input that only trees read: they take any number for what it is."""
ASSUMED_RANGE = (-65_536.0, 65_536.0)
"""Range of an input that nobody declares."""

PROFILED_SAMPLES = 64
"""Samples of the calibration data that the gas prediction looks at."""
_LEAST_PROFILED = 8
"""It looks at so many of them where each takes long."""
_PROFILED_WORK = 1 << 27
"""Products by weights, of all of them together, that are not long yet."""

MOST_CALLS = 10**15
"""Inferences, or updates, that a deployment's cost is spread over."""
MOST_HEADROOM = 64
LONGEST_TIMELOCK = 10 * 366 * 24 * 3600
"""Seconds."""
PLANNED_SAMPLES = 32
"""Samples that the planner looks at for zeros."""
_ON_REQUEST = ("chain_profile", "erc165", "erc7201", "packed_only")
"""Options that a manifest holds only where they are used."""
FORMS = (CONTRACT, "abstract", "library")
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


InputRange: TypeAlias = tuple[float, float] | tuple[tuple[float, float], ...]
"""The range of all elements of an input, or of each."""


def _pairs(range_: InputRange) -> Sequence[Sequence[float]]:
    return range_ if range_ and isinstance(range_[0], Sequence) else [range_]  # type: ignore[list-item]


@dataclass(frozen=True)
class Options:
    """Everything, besides model and calibration data, that decides what comes out.

    Attributes:
        target: Name of the backend.
        precision: `int8`, `wNaM`, one `wNaM` for each layer (`w7a8/w8a7`), `qI.F` or `auto`.
        min_agreement: Share of the calibration data's decisions that must be kept (where the model makes none, of its
            outputs' variance: R²). None: every decision with `auto`; of other formats nothing is asked, only warned.
        margin: Share of the gas that `auto`, with data, spends on smaller errors than the data ask for; None: 0.03.
        tolerance: Error that `auto` stays within, and any other precision must: on the calibration data, without them
            proved for every input.
        input_ranges: (lo, hi) of the real values of each input, or a (lo, hi) for each of its elements; empty: from the
            calibration data, else ±65,536.
        column_ranges: Ranges of single columns, instead of those: of the others the calibration data say them.
        column_names: Names of the elements of all inputs, in order; empty: those of the calibration data or, if there
            is a range for each column, of the ranges.
        weights: Where tables of weights live: `auto`, `code` or `data`.
        optimize: `inference`, `balanced` or `deploy`.
        expected_calls: Inferences over which the deployment is spread; None: as `optimize` assumes.
        expected_updates: With `updatable`, how often the weights are replaced meanwhile, for the planner; None: once in
            100 inferences.
        fork: EVM version.
        chain_profile: The chain it is for, by name, as a file or a `ChainProfile`: its prices and limits count then.
            None: Ethereum's in that EVM version.
        level: 0, 1 or 2: which passes run on the float graph.
        passes: These instead: a pipeline as text, in which `O2` stands for that level's passes, or the passes
            themselves. Passes that change the model (`Pass.changes_model`) come first.
        name: Name of the contract; None: from the model's file, or the module's class.
        strict_input: Revert on an input out of range instead of saturating.
        packed_only: The contract takes packed inputs only: it has neither `predict` nor `classify`, and less code.
        labels: Whose label is the model's, of a classifier whose label contradicts its own scores: `onnxruntime` or
            `scores`.
        updatable: The contract's owner may replace the weights by those of another model of the same architecture.
        headroom: With `updatable`, bits by which weights, and the sums they make, may be wider than this model's later.
        timelock: With `updatable`, seconds that lie at least between the staging of weights and their activation.
        erc165: The contract says which functions it has (`supportsInterface`).
        erc7201: With `updatable`, in Solidity: its state begins at the slot that ERC-7201 gives `ml2sc.NAME`.
        form: `contract`; or `abstract` or `library`, for internal functions within somebody else's contract.
    """

    target: str = "solidity"
    precision: str = AUTO
    min_agreement: float | None = None
    margin: float | None = None
    tolerance: float | None = None
    input_ranges: tuple[InputRange, ...] = ()
    column_ranges: tuple[ColumnRange, ...] = ()
    column_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    weights: str = "auto"
    optimize: str = "inference"
    expected_calls: int | None = None
    expected_updates: int | None = None
    fork: str = "prague"
    chain_profile: ChainProfile | str | None = None
    level: int = 2
    passes: str | tuple[Pass, ...] | None = None
    name: str | None = None
    strict_input: bool = False
    packed_only: bool = False
    labels: str = "onnxruntime"
    updatable: bool = False
    headroom: int = 1
    timelock: int = 0
    erc165: bool = False
    erc7201: bool = False
    form: str = CONTRACT

    @property
    def rules(self) -> Fork:
        """What is charged and allowed where the contract is to be."""
        return self.chain_profile if isinstance(self.chain_profile, ChainProfile) else FORKS[self.fork]

    def check(self) -> None:
        """Check every option before anything is done.

        Raises:
            UsageError: one of them means nothing.
        """
        BACKENDS.get(self.target)
        parse_precision(self.precision)
        for what, value, known in (
            ("weights", self.weights, ("auto", "code", "data")),
            ("optimize", self.optimize, ("inference", "balanced", "deploy")),
            ("fork", self.fork, FORKS),
            ("labels", self.labels, ("onnxruntime", "scores")),
            ("level", self.level, tuple(range(len(LEVELS)))),
            ("form", self.form, FORMS),
        ):
            if value not in known:
                raise UnknownNameError(what, str(value), map(str, known))
        profile = self.chain_profile
        if isinstance(profile, ChainProfile) and [*FORKS].index(self.fork) > [*FORKS].index(profile.evm):
            raise UsageError(
                f"{profile.name} knows the EVM up to {profile.evm}, not {self.fork}", hint="leave --fork out"
            )
        if self.min_agreement is not None and not 0 < self.min_agreement <= 1:
            raise UsageError(f"a share of {self.min_agreement:g} of the decisions is none: above 0, at most 1")
        if self.tolerance is not None and not 0 < self.tolerance < math.inf:
            raise UsageError(f"a tolerance of {self.tolerance:g} is none: a number above 0")
        if self.margin is not None and not 0 <= self.margin <= 1:
            raise UsageError(f"a margin of {self.margin:g} is none: a share of the gas, 0 to 1")
        if self.margin is not None and self.precision != AUTO:
            raise UsageError(
                f"precision {self.precision} is fixed: there is no choice to spend gas on",
                hint="leave --precision out, or --margin",
            )
        for ends in (pair for range_ in self.input_ranges for pair in _pairs(range_)):
            if len(ends) != 2 or not float("-inf") < ends[0] < ends[1] < float("inf"):
                shown = ",".join(f"{end:g}" for end in ends)
                raise UsageError(f"the input range {shown} is not a range: LO must be below HI, both finite")
        for range_ in self.column_ranges:
            range_.check()
        check_names(self.class_names, "class")
        if self.expected_calls is not None and not 1 <= self.expected_calls <= MOST_CALLS:
            raise UsageError(f"{self.expected_calls!s:.30} expected calls: a model is called 1 to {MOST_CALLS:,} times")
        if self.expected_updates is not None and not 0 <= self.expected_updates <= MOST_CALLS:
            raise UsageError(
                f"{self.expected_updates!s:.30} expected updates: weights are replaced 0 to {MOST_CALLS:,} times"
            )
        if self.updatable and self.weights == "code":
            raise UsageError("weights in the code cannot be updated", hint="leave --weights code or --updatable out")
        if self.erc7201 and not self.updatable:
            raise UsageError("a contract of fixed weights has no state", hint="leave --erc7201 out, or add --updatable")
        if self.erc7201 and self.target != "solidity":
            raise UsageError(
                f"in {self.target} a contract cannot say where its state begins",
                hint="leave --erc7201 out, or --target",
            )
        self._check_form()
        if not 0 <= self.headroom <= MOST_HEADROOM:
            raise UsageError(f"a headroom of {self.headroom!s:.30} bits: it is 0 to {MOST_HEADROOM}")
        if not 0 <= self.timelock <= LONGEST_TIMELOCK:
            raise UsageError(f"a timelock of {self.timelock!s:.30} s: it is 0 to {LONGEST_TIMELOCK:,} (ten years)")

    @property
    def has_constructor(self) -> bool:
        """Whether what comes out can have a constructor and a state."""
        return forms_of(self.target)[self.form]

    def _check_form(self) -> None:
        """Check that the target knows the form, and that the form can have what is asked for.

        Raises:
            UsageError: it does not, or cannot.
        """
        known = forms_of(self.target)
        if self.form not in known:
            raise UsageError(
                f"target {self.target!r} makes no {self.form} of a model", hint=f"its forms are {', '.join(known)}"
            )
        if self.form != CONTRACT and (self.erc165 or self.erc7201):
            raise UsageError(
                f"form {self.form} leaves to the contract around it what it says of itself, and where its state is",
                hint="leave --erc165 and --erc7201 out, or --form",
            )
        if self.has_constructor:
            return
        others = " or ".join(name for name, constructed in known.items() if constructed)
        if self.updatable:
            raise UsageError(
                f"form {self.form} has no state, and weights that can be replaced need one", hint=f"--form {others}"
            )
        if self.weights == "data":
            raise UsageError(
                f"form {self.form} has no constructor, which looks for the data contracts",
                hint=f"--form {others}, or leave --weights data out: the weights are in the code then",
            )


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
        calibration: Typical inputs: path of an .npz, arrays of shape (samples, …), or `Samples`.
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
    samples = None if calibration is None else as_samples(calibration, reference)
    declared, columns = _declare_ranges(reference, options, samples)
    _check_ranges(reference, declared, samples)

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
        prove = ReserveRanges(options.headroom, deployed) if options.updatable else ProveRanges()
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
    name = contract_name(options.name or source.name)
    _check_classes(reference, graph, options.class_names)
    columns_of = _column_names(reference, options, samples)
    artifact = BACKENDS.get(options.target).emit(
        program,
        EmitOptions(
            name=name,
            fork=options.fork,
            model_hash=source.hash,
            description=_description(graph, columns_of, options.class_names),
            precision=quantized.precision,
            strict_input=options.strict_input,
            decision=_decision(reference, graph),
            timelock=options.timelock,
            erc165=options.erc165,
            erc7201=options.erc7201,
            form=options.form,
        ),
    )
    recorded = dataclasses.replace(
        options,
        name=name,
        input_ranges=tuple(_recorded_range(reference, graph, n) for n in reference.inputs),
        column_ranges=(),
        column_names=columns_of,
        passes=_as_text(options.passes),
        min_agreement=None,
        margin=None,
        tolerance=None,
    )
    classes = options.class_names or reference.class_names
    manifest = _manifest(artifact, graph, program, recorded, quantized.precision, source, classes)
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
    if graph.ladders and options.updatable and not options.packed_only:
        raise UsageError(
            "predict and classify hold the edges of trees in the code: trees are updated where inputs come packed",
            hint="add --packed-only; ml2sc.pack and the other packers make the packed input, of each update's folder",
        )
    return graph


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
    estimated = forecast(artifact, fork).code_bytes
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


def _declare_ranges(
    graph: Graph, options: Options, samples: Samples | None
) -> tuple[dict[str, Scaling], dict[str, tuple[Array, Array]]]:
    """Give every input a range: declared, else that of the calibration data, else the assumed one, with a note.

    Returns:
        The ranges of single elements, by input: those declared; and what data say of inputs without a declared range.
    """
    ranges, names = options.input_ranges, graph.inputs
    if graph.ladders:
        graph.input_ranges = dict.fromkeys(names, ANY_FLOAT)
        return {}, {}
    if ranges and len(ranges) != len(names):
        raise UsageError(
            f"{len(ranges)} input ranges for {len(names)} inputs", hint="--input-range LO,HI once for each input"
        )
    declared: dict[str, Scaling] = {}
    columns: dict[str, tuple[Array, Array]] = {}
    if options.column_ranges:
        declared = _declared_columns(graph, options, samples)
        for name, scaling in declared.items():
            graph.input_ranges[name] = float(scaling.lo.min()), float(scaling.hi.max())
    if ranges:
        for name, range_ in zip(names, ranges, strict=True):
            if name in declared:
                continue
            ends = _ends(graph, name, range_)
            graph.input_ranges[name] = float(ends.lo.min()), float(ends.hi.max())
            if isinstance(range_[0], Sequence):
                declared[name] = ends
        return declared, columns
    for name in names:
        if name in declared:
            continue
        if (own := input_range(graph, name)) is not None:
            log.info("the range of input %r is that of its own quantisation: %g to %g", name, *own)
            data = own if samples is None else samples.ranges[name]
            graph.input_ranges[name] = min(own[0], data[0]), max(own[1], data[1])
            continue
        if samples is None:
            warn(
                f"no input range is declared for {name!r}: taken as ±65,536 (narrow it with --input-range, or give "
                "calibration data)",
                RangeWarning,
            )
            graph.input_ranges[name] = ASSUMED_RANGE
            continue
        lo, hi = samples.ranges[name]
        graph.input_ranges[name] = (lo, hi) if lo < hi else (min(lo, 0.0), max(hi, 0.0) or 1.0)
        if lo == hi:
            log.info(
                "input %r is always %g in the calibration data, which says nothing of its range: taken as %g to %g",
                name,
                lo,
                *graph.input_ranges[name],
            )
        columns[name] = samples.columns[name]
        constant = np.flatnonzero(constant_elements(*columns[name]))
        if 0 < constant.size < graph.tensor(name).size:
            log.info(
                "%d of %d columns of input %r are the same in every sample, which says nothing of their range: %s",
                constant.size,
                graph.tensor(name).size,
                name,
                numbered(constant.tolist(), samples.names_of(name)),
            )
        if lo < hi:
            log.info("the range of input %r is that of the calibration data: %g to %g", name, lo, hi)
    return declared, columns


def _declared_columns(graph: Graph, options: Options, samples: Samples | None) -> dict[str, Scaling]:
    """Return the ranges of the elements of those inputs of which a column is declared; the data say the others."""
    ends: dict[str, tuple[Array, Array]] = {}
    for position, name in enumerate(graph.inputs):
        shape = graph.tensor(name).shape
        known = Scaling(np.full(shape, np.nan), np.full(shape, np.nan))
        if options.input_ranges:
            known = _ends(graph, name, options.input_ranges[position])
        elif samples is not None:
            known = element_ranges(*samples.columns[name])
        ends[name] = known.lo.copy(), known.hi.copy()
    names = _column_names(graph, options, samples)
    return {name: Scaling(*ends[name]) for name in sorted(apply_ranges(options.column_ranges, names, graph, ends))}


def _column_names(graph: Graph, options: Options, samples: Samples | None) -> tuple[str, ...]:
    """Return the names of the elements of all inputs; nothing where they have none."""
    count = sum(graph.tensor(name).size for name in graph.inputs)
    if options.column_names and len(options.column_names) != count:
        raise UsageError(f"{len(options.column_names)} names for {count} columns")
    given = options.column_names or (samples.names if samples is not None else ())
    return given or column_names(options.column_ranges, graph)


def _ends(graph: Graph, name: str, range_: InputRange) -> Scaling:
    """Return the ends of a declared range, by element.

    Raises:
        UsageError: it has another number of elements than the input.
    """
    tensor = graph.tensor(name)
    pairs = np.array(range_, dtype=np.float64).reshape(-1, 2)
    if isinstance(range_[0], Sequence) and len(pairs) != tensor.size:
        raise UsageError(f"{len(pairs)} ranges for the {tensor.size} elements of input {name!r}")
    lo, hi = (np.broadcast_to(pairs[:, end], tensor.size).reshape(tensor.shape) for end in range(2))
    return Scaling(lo, hi)


def _recorded_range(reference: Graph, graph: Graph, name: str) -> InputRange:
    """Return what must be declared for the same formats to come out again."""
    if name not in graph.scalings:
        return reference.input_ranges[name]
    scaling = graph.scalings[name]
    return tuple(zip(scaling.lo.ravel().tolist(), scaling.hi.ravel().tolist(), strict=True))


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


def _check_ranges(graph: Graph, declared: Mapping[str, Scaling], samples: Samples | None) -> None:
    """Refuse ranges that `predict` cannot take, and warn of samples outside of theirs.

    Raises:
        RangeError: all inputs would be 0 as WAD.
    """
    names = graph.inputs
    if graph.ladders:
        return
    for name in names:
        lo, hi = graph.input_ranges[name]
        if max(abs(lo), abs(hi)) < 1 / wad.WAD:
            raise RangeError(
                f"the range of input {name!r}, {lo:g} to {hi:g}, is below 1e-18, the step of its WAD values",
                tensor=f"%{name}",
                hint="give the model larger inputs: multiply by a constant in its first operator",
            )
    if samples is None:
        return
    outside, columns = samples.outside(
        {
            name: (declared[name].lo, declared[name].hi) if name in declared else graph.input_ranges[name]
            for name in names
        }
    )
    if outside.size:
        where = f"; values outside: {columns_text(by_column(columns))}" if declared else ""
        warn(
            f"{len(outside)} of {len(samples)} calibration samples lie outside the declared input range, "
            f"the first is number {outside[0]}: inputs saturate there{where}",
            RangeWarning,
        )


def _warn_of_smallness(graph: Graph, bound: float, largest: float | None, options: Options) -> None:
    """Warn of numbers that the formats make 0, and of a bound that is large beside the outputs."""
    remedy = "ask for less with --tolerance" if options.precision == AUTO else "name a finer --precision"
    asked = options.precision != AUTO or options.tolerance is not None
    for text in (*lost(graph), coarse(bound, largest, asked=asked)):
        if text is not None:
            warn(f"{text}: {remedy}", PoorResultWarning)


# -- what the contract and the manifest say ----------------------------------------------------------------------------


def _description(graph: Graph, columns: Sequence[str], classes: Sequence[str]) -> str:
    inputs = ", ".join(f"{shown(n)!r} {list(graph.tensor(n).shape)}" for n in graph.inputs)
    outputs = ", ".join(f"{shown(n)!r} {list(graph.tensor(n).shape)}" for n in graph.outputs)
    named = "".join(
        f" {what}: {', '.join(f'{number} {shown(name)}' for number, name in enumerate(names))}."
        for what, names in (("Columns", columns), ("Decisions", classes))
        if names
    )
    return f"Inference of an ONNX model: inputs {inputs}; outputs {outputs}.{named}"


def _check_classes(reference: Graph, graph: Graph, names: Sequence[str]) -> None:
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


def _decision(reference: Graph, graph: Graph) -> str:
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


def _manifest(
    artifact: Artifact,
    graph: Graph,
    program: Program,
    options: Options,
    precision: str,
    source: OnnxModel,
    classes: Sequence[str],
) -> dict[str, Any]:
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
        if section.facts:
            yield {
                "layer": section.name,
                "title": section.title,
                **section.facts,
                **({"contract": f"code {section.contract}"} if section.contract else {}),
            }


__all__ = [
    "InputRange",
    "Lifted",
    "Lowered",
    "Options",
    "Quantized",
    "Telling",
    "build",
    "compile",
    "emit",
    "lift",
    "lower",
    "quantize",
]
