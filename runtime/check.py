"""The check: contract == Program interpreter == graph interpreter in every integer; the float model within its bound.

Two roads into the contract are tried: packed integers (`predictPacked`, `classifyPacked`) on every sample, and WAD
(`predict`, `classify`) on every sample of a small model or the first few of a large one. The samples are cut into
parts, which workers take; the report is the same whoever they are.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace

import numpy as np

from ml2sc.backends.base import BACKENDS, Artifact, Toolchain
from ml2sc.errors import DataError, PoorResultWarning, UsageError, warn
from ml2sc.frontend.data import Samples, as_samples, by_column, samples_from_arrays
from ml2sc.frontend.truth import Truth
from ml2sc.ir.graph import Graph
from ml2sc.ir.types import Array
from ml2sc.passes.prescribed import is_whole
from ml2sc.progress import bar

from .bytecode import compare_bytecode
from .examine import Examination, Found, Part
from .oracle import Oracle
from .report import Called, Distances, GasSpread, Outside, Report, Unsaturated
from .tally import Tally
from .toolchain import Toolchain as LocalCompilers
from .workers import Workers, local_workers, require_workers

PART = 100
"""Samples that a worker takes at a time."""

_PARTS_A_PROCESS = 3  # a process that is started for less takes longer to start than to work
_RANDOM_SAMPLES = 100

Progress = Callable[[int, int], None]


def check(
    artifact: Artifact,
    samples: Samples | str | os.PathLike[str] | Array | Mapping[str, Array] | None = None,
    *,
    chain: str = "embedded",
    address: str | None = None,
    toolchain: Toolchain | None = None,
    progress: Progress | None = None,
    limit: int | None = None,
    workers: Workers | int = 1,
    seed: int | None = None,
) -> Report:
    """Run a contract on samples and compare it with the interpreters, the float model and onnxruntime.

    On the embedded chain revm does the bulk where it is installed, and py-evm, the reference, repeats some samples.

    Args:
        artifact: What `ml2sc.compile` (or `build`, or `load_folder`) returned.
        samples: A file, arrays, a DataFrame (taken by name where the columns have names), or None for made-up inputs.
        chain: As `open_chain` takes it: "embedded", "anvil", a node's URL.
        address: Where the contract is on that chain: it is then proved to be this artifact's. Needed with a URL; on the
            chains that are there to be tried out it is deployed.
        toolchain: Compiles the artifact if it is not compiled; and again, to compare, if its bytecode was read from a
            folder (by default with a compiler that is on this machine; where there is none, the report says so).
        progress: Called with the number of samples done, and of all; None: what takes long is shown on a terminal or in
            a notebook.
        limit: Try only so many samples.
        workers: How many processes do it, as far as the samples are enough for so many; or who does. Several have an
            embedded chain each.
        seed: Of the made-up inputs; None: another one each time, which the report names.

    Raises:
        UsageError: the artifact is no contract.
        DataError: the samples do not fit the model, or a label is none of its classes.
        ArtifactError: the artifact is incomplete, or nothing is at the address.
        CheckError: the contract at the address is another one, or a folder's bytecode is not its source's.
        ToolchainError: a compiler, the chain or onnxruntime is missing or failed.
        ContractLimitError: the contract does not fit the chain.
    """
    if address is None and "://" in chain:
        raise UsageError(
            "a check spends nothing: it does not deploy to a node",
            hint="ml2sc-deploy does; then give the contract's --address",
        )
    if address is not None and "://" not in chain:
        raise UsageError(f"the chain {chain!r} starts empty: nothing is at {address}", hint="give a node's URL")
    if seed is not None and (samples is not None or seed < 0):
        raise UsageError(
            "samples that are given have no seed" if samples is not None else f"a seed is 0 or more, not {seed}"
        )
    if not artifact.on_chain:
        raise UsageError(
            f"{artifact.name} was compiled for {artifact.target!r}, which makes no contract: "
            "there is nothing to deploy",
            hint="compile it for another target to check it on a chain",
        )
    if (workers if isinstance(workers, int) else workers.count) > 1 and chain != "embedded":
        raise UsageError(
            f"the chain {chain!r} is asked by one process", hint="leave the workers out, or check on the embedded chain"
        )
    if artifact.bytecode is None and toolchain is not None:
        artifact = replace(artifact, bytecode=BACKENDS.get(artifact.target).compile(artifact, toolchain))
    oracle = Oracle(artifact)
    whole = [name for name in oracle.reference.inputs if is_whole(oracle.reference, name)]
    if samples is None:
        seed = secrets.randbits(32) if seed is None else seed
        data = random_samples(oracle.graph, seed=seed, whole=whole)
    else:
        data = as_samples(samples, oracle.graph, artifact.columns)
    total = len(data) if limit is None else min(limit, len(data))
    if total < 1:
        raise DataError("there are no samples to check")
    if isinstance(workers, int):
        workers = local_workers(min(require_workers(workers), total // (PART * _PARTS_A_PROCESS)))
    truth = Truth.of(data, oracle.graph)
    data = replace(data, labels=None)
    bytecode = None
    if artifact.bytecode is not None:
        compilers = toolchain or LocalCompilers(downloads=False)
        bytecode = compare_bytecode(artifact, compilers, needed=toolchain is not None)
    tally, first = Tally(), None
    with bar(f"checking {artifact.name}", "sample", total) as shown:
        for found in workers.run(Examination(artifact, chain, address), _parts(data, truth, total)):
            tally.merge(found.tally)
            first = found if first is None or found.first < first.first else first
            (progress or shown.to)(tally.samples, total)
    assert first is not None
    report = replace(_report(oracle, tally, first), seed=seed, bytecode=bytecode)
    if report.random:
        return replace(report, agreement_lower_bound=None)
    if report.kept.poor:
        warn(f"{report.name} keeps its model poorly: {report.kept.figures}", PoorResultWarning)
    return report


def _parts(data: Samples, truth: Truth, total: int) -> Iterator[Part]:
    for first in range(0, total, PART):
        last = min(first + PART, total)
        yield Part(first, data.part(first, last), truth.part(first, last))


def _report(oracle: Oracle, tally: Tally, first: Found) -> Report:
    artifact, setting = oracle.artifact, first.setting
    return Report(
        name=artifact.name,
        target=artifact.target,
        precision=str(artifact.manifest.get("precision", "")),
        chain=setting.chain,
        samples=tally.samples,
        wad_samples=tally.wad_samples,
        outside_range=tally.outside,
        bit_exact_samples=tally.samples - tally.inexact.count,
        decision_agreement=tally.agreement.share,
        agreement_lower_bound=tally.agreement.lower_bound,
        differing_samples=tally.differing.count,
        differing=tuple(about for _, about in tally.differing.in_order),
        failing=tuple(sample for sample, _ in tally.inexact.in_order),
        accuracy=tally.accuracy.share,
        max_abs_error=tally.errors.largest,
        mean_abs_error=tally.errors.mean,
        error_percentiles=tally.errors.percentiles,
        error_bound=oracle.error_bound,
        unsaturated=Unsaturated(tally.unsaturated, oracle.unsaturated_bound, tally.unsaturated_errors.largest),
        within_bound=tally.within_bound,
        onnxruntime=Distances(
            tally.runtime_errors.largest,
            tally.runtime_errors.mean,
            tally.runtime_accuracy.share if setting.missing is None else None,
        ),
        onnxruntime_missing=setting.missing,
        outside=Outside(tally.outside_agreement.share, tally.outside_errors.largest, by_column(tally.outside_values)),
        r2=tally.fit.r2,
        label_r2=tally.label_fit.r2,
        model_label_r2=tally.model_label_fit.r2,
        called=_called(tally),
        transactions=None if setting.deployment is None else 1 + len(artifact.data) + len(artifact.parts),
        gas=GasSpread(tally.gas.least, tally.gas.total / tally.gas.count, tally.gas.most),
        gas_deploy=None if setting.deployment is None else setting.deployment.gas_deploy,
        gas_weights=None if setting.deployment is None else setting.deployment.gas_weights,
        gas_predicted=oracle.predicted_gas(tally.profile),
        code_bytes=setting.code_bytes
        + sum(map(len, artifact.codes))
        + (sum(len(chunk) + 1 for chunk in artifact.data) if artifact.updatable else 0),
        first_difference=next((about for _, about in tally.inexact.in_order), None),
        proof=setting.proof,
    )


def _called(tally: Tally) -> Called | None:
    count = tally.cold.count
    return Called(count, tally.cold.total / count, tally.warm.total / count) if count else None


def random_samples(graph: Graph, count: int = _RANDOM_SAMPLES, seed: int = 0, whole: Container[str] = ()) -> Samples:
    """Return inputs drawn evenly from the declared range of each, the first two its lower and upper end.

    What trees read is drawn from the edges they compare it with, and the floats next to those; some of it is missing.

    Args:
        graph: A graph with declared ranges.
        count: How many samples.
        seed: Of the random generator.
        whole: Inputs that take whole numbers only.
    """
    random = np.random.default_rng(seed)
    inputs = {}
    for name in graph.inputs:
        if name in graph.ladders:
            inputs[name] = graph.ladders[name].samples(random, count).reshape(count, *graph.tensor(name).shape)
            continue
        lo, hi = graph.range_of(name)
        drawn = random.uniform(lo, hi, (count, *graph.tensor(name).shape))
        drawn[0], drawn[1:2] = lo, hi
        if name in whole:
            drawn = np.rint(drawn)
        # as a file would hold them: float32
        inputs[name] = np.clip(drawn.astype(np.float32).astype(np.float64), lo, hi)
    return samples_from_arrays(inputs, graph)
