"""The check: contract == Program interpreter == graph interpreter in every integer; the float model within its bound.

Two roads into the contract are tried: packed integers (`predictPacked`, `classifyPacked`) on every sample, and WAD
(`predict`, `classify`) on every sample of a small model or the first few of a large one.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ml2sc.backends.base import BACKENDS, Artifact, Toolchain, costs_of
from ml2sc.errors import ArtifactError, DataError, InternalError, Ml2scError, ToolchainError, UsageError
from ml2sc.frontend.data import Samples, as_samples, samples_from_arrays
from ml2sc.ir.analysis import evaluate_exact, saturated
from ml2sc.ir.confidence import lower_confidence
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.forks import FORKS
from ml2sc.ir.gas import Shares, estimate
from ml2sc.ir.graph import Graph
from ml2sc.ir.interpret import Interpreter, Profiler, ProgramError
from ml2sc.ir.program import MASK, to_signed
from ml2sc.ir.types import Array, DType
from ml2sc.ir.wad import WAD, Outcome, inputs_from_wad, pack, quantize_inputs, run_graph, to_wad
from ml2sc.ir.wad import outcome as outcome_of
from ml2sc.passes.lower import lower

from .chain import Chain, open_chain, revm_is_installed
from .contract import Contract, ContractError
from .deploy import Deployment, deploy
from .prove import Proof, prove
from .report import Differing, Distances, GasSpread, Outside, Report, Unsaturated

_RANDOM_SAMPLES = 100
_LARGE_INPUT = 200  # elements; WAD calls of a larger model cost so much that only some samples make them
_WAD_SAMPLES = 25
_REFERENCE_SAMPLES = 10  # how many py-evm repeats of what revm answered

_PERCENTILES = (50, 90, 99)
"""Of the errors: which percentiles are reported."""

_FLOAT64_ROUNDING = 2.0**-44
"""Rounding of the float64 evaluation itself, in units of its greatest intermediate value: room for 256 roundings."""


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
) -> Report:
    """Run a contract on samples and compare it with the interpreters, the float model and onnxruntime.

    On the embedded chain revm does the bulk where it is installed, and py-evm, the reference, repeats some samples.

    Args:
        artifact: What `ml2sc.compile` (or `build`, or `load_folder`) returned.
        samples: A file, arrays, or None for made-up inputs.
        chain: As `open_chain` takes it: "embedded", "anvil", a node's URL.
        address: Where the contract is on that chain: it is then proved to be this artifact's. Needed with a URL; on the
            chains that are there to be tried out it is deployed.
        toolchain: Compiles the artifact if it is not compiled.
        progress: Called with the number of samples done, and of all.
        limit: Try only so many samples.

    Raises:
        UsageError: the artifact is no contract.
        DataError: the samples do not fit the model.
        ArtifactError: the artifact is incomplete, or nothing is at the address.
        CheckError: the contract at the address is another one.
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
    if not artifact.on_chain:
        raise UsageError(
            f"{artifact.name} was compiled for {artifact.target!r}, which makes no contract: "
            "there is nothing to deploy",
            hint="compile it for another target to check it on a chain",
        )
    oracle = _Oracle(artifact)
    data = random_samples(oracle.graph) if samples is None else as_samples(samples, oracle.graph)
    total = len(data) if limit is None else min(limit, len(data))
    if total < 1:
        raise DataError("there are no samples to check")
    tally = _Tally(oracle, total, data.labels)
    with ExitStack() as stack:
        runtime = stack.enter_context(_onnxruntime(artifact))
        places = [stack.enter_context(_place(artifact, chain, address, toolchain))]
        if chain == "embedded" and revm_is_installed():
            places.append(stack.enter_context(_place(artifact, "py-evm", None, toolchain)))
        if places[0].contract.model_hash() != oracle.model_hash:
            raise ArtifactError(
                f"the contract at {places[0].contract.address} was compiled from another model",
                hint="its modelHash() is not the hash of this folder's model",
            )
        contracts = [place.contract for place in places]
        for index in range(total):
            asked = contracts if index < _REFERENCE_SAMPLES else contracts[:1]
            tally.add(index, data[index], asked, runtime)
            if progress is not None:
                progress(index + 1, total)
        return tally.report(places, random=samples is None)


def random_samples(graph: Graph, count: int = _RANDOM_SAMPLES, seed: int = 0) -> Samples:
    """Return inputs drawn evenly from the declared range of each, the first two its lower and upper end.

    Args:
        graph: A graph with declared ranges.
        count: How many samples.
        seed: Of the random generator.
    """
    random = np.random.default_rng(seed)
    inputs = {}
    for name in graph.inputs:
        lo, hi = graph.input_ranges[name]
        drawn = random.uniform(lo, hi, (count, *graph.tensor(name).shape))
        drawn[0], drawn[1:2] = lo, hi
        # as a file would hold them: float32
        inputs[name] = np.clip(drawn.astype(np.float32).astype(np.float64), lo, hi)
    return samples_from_arrays(inputs, graph)


# -- what is right -----------------------------------------------------------------------------------------------------


class _Revert(NamedTuple):
    """The contract must revert, or did: the error and its arguments as words."""

    error: str
    arguments: tuple[int, ...]


Answer = tuple[int, ...] | int | _Revert


class _Expected(NamedTuple):
    """What one sample must give.

    Attributes:
        packed: The packed input.
        outcome: Its outputs and decision.
        wads: The WAD input.
        wad_outcome: Its outputs and decision, or the revert.
        disagreement: How the two interpreters differ, if they do.
        saturated: Whether a value is clamped to its format on either road.
    """

    packed: bytes
    outcome: Outcome
    wads: list[int]
    wad_outcome: Outcome | _Revert
    disagreement: str | None
    saturated: bool


class _Oracle:
    """Knows the right answers: the graph interpreter, checked against the Program interpreter.

    Args:
        artifact: A compiled artifact.
    """

    def __init__(self, artifact: Artifact) -> None:
        from eth_utils.crypto import keccak

        if artifact.graph is None or artifact.program is None or artifact.reference is None:
            raise ArtifactError(f"{artifact.name} has no graph to check against", hint="load it with ml2sc.load_folder")
        self.artifact = artifact
        self.graph, self.program, self.reference = artifact.graph, artifact.program, artifact.reference
        self.interpreter = Interpreter(artifact.program)
        self.profiler = Profiler(artifact.program)
        self.strict = bool(artifact.manifest.get("options", {}).get("strict_input", False))
        self.error_bound = float(artifact.manifest["error_bound"])
        self.unsaturated_bound = float(artifact.manifest["error_bound_unsaturated"])
        self.model_hash = keccak(b"".join([artifact.model, *artifact.external.values()]))
        self._float_outputs = [n for n in self.reference.outputs if self.reference.tensor(n).type is not DType.INT64]

    def expect(self, x: Mapping[str, Array]) -> _Expected:
        """Return what a sample must give, on both roads."""
        q = quantize_inputs(self.graph, x)
        packed, (outcome, saturates) = pack(self.graph, q), self._run(q)
        disagreement = self._differs("the Program interpreter", packed, outcome)
        wads = to_wad([v for name in self.graph.inputs for v in x[name].ravel().tolist()])
        wad_packed, wad_outcome, wad_saturates = self._expect_wad(wads, packed, outcome)
        if disagreement is None:
            answer = self._quantize(wads)
            if answer != wad_packed:
                disagreement = f"the Program interpreter's input: expected {_show(wad_packed)}, got {_show(answer)}"
            elif isinstance(wad_outcome, Outcome) and isinstance(answer, bytes) and answer != packed:
                disagreement = self._differs("the Program interpreter (WAD)", answer, wad_outcome)
        return _Expected(packed, outcome, wads, wad_outcome, disagreement, saturates or wad_saturates)

    def _run(self, q: Mapping[str, Array]) -> tuple[Outcome, bool]:
        """Return the graph interpreter's answer, and whether a value was clamped on the way."""
        values = evaluate_exact(self.graph, q)
        return outcome_of(self.graph, values), bool(saturated(self.graph, values))

    def predicted_gas(self) -> int | None:
        """Return the mean gas stated for the inputs seen; None for a target that is no contract."""
        manifest = self.artifact.manifest
        if "gas" not in manifest:
            return None
        # the chains there are to check on have the prices of prague (osaka changes none)
        settings = manifest.get("toolchain", {}).get("settings", {})
        costs = costs_of(self.artifact.target, self.program, settings)
        return estimate(costs, FORKS["prague"], Shares(self.profiler.profile)).total

    def _expect_wad(
        self, wads: Sequence[int], packed: bytes, outcome: Outcome
    ) -> tuple[bytes | _Revert, Outcome | _Revert, bool]:
        if self.strict:
            for index, (value, (lo, hi)) in enumerate(zip(wads, self.program.input.wad_range, strict=True)):
                if not lo <= value <= hi:
                    revert = _Revert("InputOutOfRange", (index, value & MASK))
                    return revert, revert, False
        q = inputs_from_wad(self.graph, wads)
        again = pack(self.graph, q)
        return (again, outcome, False) if again == packed else (again, *self._run(q))

    def _quantize(self, wads: Sequence[int]) -> bytes | _Revert:
        try:
            return self.interpreter.quantize(wads)
        except ProgramError as error:
            return _Revert(error.error, tuple(error.args[1:]))

    def _differs(self, who: str, packed: bytes, expected: Outcome) -> str | None:
        got = self.interpreter.run(packed)
        return None if got == expected else f"{who}: {_first_difference(expected, got)}"

    def wrong_layer(self, x: Mapping[str, Array]) -> str:
        """Say which node's Program is the first to differ from the graph: each node is made an output in its turn."""
        q = quantize_inputs(self.graph, x)
        for node in self.graph:
            part = self.graph.copy()
            part.outputs, part.decision = [name for name in node.outputs if name], None
            part.prune()
            try:
                got = Interpreter(lower(part)).run(pack(part, q))
            except (Ml2scError, InternalError) as error:
                return f"node {node} cannot be run alone: {error}"
            if got != run_graph(part, q):
                return f"the first node that differs is {node}"
        return "every node by itself gives the right integers"

    def exact_outputs(self, x: Mapping[str, Array]) -> tuple[Array, float]:
        """Return the model's float outputs in float64, flattened, and a bound on the evaluation's own rounding."""
        values = evaluate_float(self.reference, x)
        largest = max(
            float(np.abs(v).max(initial=0.0))
            for name, v in values.items()
            if self.reference.tensor(name).type is DType.FLOAT
        )
        flat = [values[name].ravel() for name in self._float_outputs]
        return np.concatenate([np.zeros(0), *flat]), largest * _FLOAT64_ROUNDING

    def is_outside(self, x: Mapping[str, Array]) -> bool:
        """Whether a sample has a value outside its declared range."""
        ranges = self.graph.input_ranges
        return any(bool(((v < ranges[name][0]) | (v > ranges[name][1])).any()) for name, v in x.items())


def _first_difference(expected: Outcome, got: Outcome) -> str:
    for index, (want, have) in enumerate(zip(expected.outputs, got.outputs, strict=False)):
        if want != have:
            return f"output {index}: expected {want}, got {have} (WAD)"
    if len(expected.outputs) != len(got.outputs):
        return f"expected {len(expected.outputs)} outputs, got {len(got.outputs)}"
    return f"decision: expected {expected.decision}, got {got.decision}"


# -- who answers -------------------------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """A contract on a chain: with its deployment, or the proof of what was there already."""

    chain: Chain
    contract: Contract
    deployment: Deployment | None
    proof: Proof | None = None


@contextmanager
def _place(artifact: Artifact, spec: str, address: str | None, toolchain: Toolchain | None) -> Iterator[_Place]:
    fork = str(artifact.manifest.get("options", {}).get("fork", "prague"))
    with open_chain(spec, fork) as chain:
        if artifact.bytecode is None:
            if toolchain is None:
                raise ArtifactError(f"{artifact.name} is not compiled", hint="ml2sc.build(artifact, toolchain) does it")
            artifact = replace(artifact, bytecode=BACKENDS.get(artifact.target).compile(artifact, toolchain))
        if address is not None:
            contract = Contract(chain, address, artifact.abi)
            yield _Place(chain, contract, None, prove(artifact, chain, address))
            return
        deployment = deploy(artifact, chain)
        yield _Place(chain, Contract(chain, deployment.address, artifact.abi), deployment)


def _ask(contract: Contract, function: str, argument: Any) -> Answer:
    """Return a contract's answer; a revert with an error of its ABI is one too."""
    try:
        answer = contract.call(function, argument)
    except ContractError as error:
        return _Revert(error.name, tuple(v & MASK if isinstance(v, int) else 0 for v in error.arguments.values()))
    return int(answer) if isinstance(answer, int) else tuple(answer)


class _FloatAnswer(NamedTuple):
    """onnxruntime's float outputs, flattened, and its decision if the model makes one."""

    outputs: Array
    decision: int | None


_FloatModel = Callable[[Mapping[str, Array]], _FloatAnswer]


@contextmanager
def _onnxruntime(artifact: Artifact) -> Iterator[_FloatModel]:
    """Yield a function that runs the ONNX file on one sample.

    Raises:
        ToolchainError: onnxruntime is not installed, or cannot load the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {"model.onnx": artifact.model, **artifact.external}.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        session = _session(Path(folder, "model.onnx"))
        types = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
        inputs = [(meta.name, types.get(meta.type, np.float32)) for meta in session.get_inputs()]
        has_decision = artifact.graph is not None and artifact.graph.decision is not None

        def evaluate(x: Mapping[str, Array]) -> _FloatAnswer:
            feed = {name: array.astype(kind) for (name, kind), array in zip(inputs, x.values(), strict=True)}
            try:
                answers = session.run(None, feed)
            except Exception as error:  # likewise
                raise ToolchainError(f"onnxruntime cannot run the model: {error}") from error
            return _float_answer(answers, has_decision=has_decision)

        yield evaluate


def _session(path: Path) -> Any:
    """Return onnxruntime's session for a model, on the CPU.

    Where processors lack VNNI, onnxruntime sums 8-bit products in 16-bit integers that saturate, unless it is asked for
    exact sums; some quantised operators it can run only without.

    Raises:
        ToolchainError: onnxruntime is not installed, or cannot load the model.
    """
    try:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel
    except ImportError as error:
        raise ToolchainError("checking needs onnxruntime", hint="pip install onnxruntime") from error

    def load(exact: str) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.x64quantprecision", exact)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    try:
        try:
            return load("1")
        except NoKernel:
            return load("0")
    except Exception as error:  # its classes of errors have no common base
        raise ToolchainError(
            f"onnxruntime {onnxruntime.__version__} cannot load the model: {error}",
            hint="pip install --upgrade onnxruntime",
        ) from error


def _float_answer(answers: Sequence[Any], *, has_decision: bool) -> _FloatAnswer:
    scores: list[Array] = [np.zeros(0)]
    label: int | None = None
    for answer in answers:
        # ZipMap: a list with one table, class to probability
        array = np.array(list(answer[0].values())) if isinstance(answer, list) else np.asarray(answer)
        if array.dtype.kind in "iu" and array.size == 1:
            label = int(array.ravel()[0])
        else:
            scores.append(array.astype(np.float64).ravel())
    outputs = np.concatenate(scores)
    if label is None and has_decision:
        label = int(outputs.argmax()) if outputs.size > 1 else int(outputs[0] >= 0.5)
    return _FloatAnswer(outputs, label)


# -- comparing ---------------------------------------------------------------------------------------------------------


@dataclass
class _Errors:
    """Gathers absolute differences, in 8 bytes each: percentiles need all of them."""

    found: array[float] = field(default_factory=lambda: array("d"))

    def add(self, differences: Array) -> None:
        self.found.frombytes(differences.tobytes())

    @property
    def largest(self) -> float | None:
        return max(self.found, default=None)

    @property
    def mean(self) -> float | None:
        return float(np.mean(self.found)) if self.found else None

    @property
    def percentiles(self) -> dict[int, float]:
        if not self.found:
            return {}
        # a value that occurred, so that no difference between two of them is invented
        return {p: float(np.percentile(self.found, p, method="higher")) for p in _PERCENTILES}


@dataclass
class _Share:
    """Counts how often something is so."""

    so: int = 0
    count: int = 0

    def add(self, value: bool) -> None:
        self.so += value
        self.count += 1

    @property
    def share(self) -> float | None:
        return self.so / self.count if self.count else None

    @property
    def lower_bound(self) -> float | None:
        return lower_confidence(self.so, self.count) if self.count else None


@dataclass
class _Tally:
    """Compares sample by sample and adds up what the report says."""

    oracle: _Oracle
    total: int
    labels: Array | None
    exact: int = 0
    outside_count: int = 0
    within_bound: bool = True
    difference: str | None = None
    gas: array[int] = field(default_factory=lambda: array("Q"))
    errors: _Errors = field(default_factory=_Errors)
    runtime_errors: _Errors = field(default_factory=_Errors)
    unsaturated_count: int = 0
    unsaturated_errors: _Errors = field(default_factory=_Errors)
    outside_errors: _Errors = field(default_factory=_Errors)
    agreement: _Share = field(default_factory=_Share)
    outside_agreement: _Share = field(default_factory=_Share)
    accuracy: _Share = field(default_factory=_Share)
    runtime_accuracy: _Share = field(default_factory=_Share)
    differing: list[Differing] = field(default_factory=list)

    def __post_init__(self) -> None:
        large = self.oracle.program.input.count > _LARGE_INPUT
        self.wad_samples = min(self.total, _WAD_SAMPLES) if large else self.total

    def add(self, index: int, x: Mapping[str, Array], contracts: Sequence[Contract], runtime: _FloatModel) -> None:
        """Try one sample on every contract; the first one's gas and answers count, others must equal them."""
        expected = self.oracle.expect(x)
        self.oracle.profiler.run(expected.packed)
        difference, answers = expected.disagreement, []
        for position, contract in enumerate(contracts):
            found, given = self._compare(contract, expected, with_wad=index < self.wad_samples)
            gas = contract.gas_packed(expected.packed)
            if position == 0:
                self.gas.append(gas)
                answers = given
            elif gas != self.gas[-1]:
                found = found or f"gas: {self.gas[-1]:,} on the first chain, {gas:,} on {contract.chain.name}"
            difference = difference or found
        if difference is None:
            self.exact += 1
        elif self.difference is None:
            layer = "" if expected.disagreement is None else f"; {self.oracle.wrong_layer(x)}"
            self.difference = f"sample {index}, {difference}{layer}"
        self._measure(index, x, expected, answers, runtime(x))

    def _compare(self, contract: Contract, expected: _Expected, *, with_wad: bool) -> tuple[str | None, list[Array]]:
        """Return the first difference between a contract and what is expected, and its outputs as reals."""
        questions: list[tuple[str, Any, Outcome | _Revert]] = [
            ("predictPacked", expected.packed, expected.outcome),
            ("classifyPacked", expected.packed, expected.outcome),
        ]
        if with_wad:
            questions += [(name, expected.wads, expected.wad_outcome) for name in ("predict", "classify")]
        difference, outputs = None, []
        for function, argument, right in questions:
            if not contract.has(function):
                continue
            predicts = function.startswith("predict")
            want: Answer | None = right if isinstance(right, _Revert) else right.outputs if predicts else right.decision
            got = _ask(contract, function, argument)
            if predicts and isinstance(got, tuple) and not isinstance(got, _Revert):
                outputs.append(np.array([v / WAD for v in got]))
            if got != want:
                difference = difference or f"{function} on {contract.chain.name}: {_show_difference(want, got)}"
        return difference, outputs

    def _measure(
        self, index: int, x: Mapping[str, Array], expected: _Expected, outputs: Sequence[Array], runtime: _FloatAnswer
    ) -> None:
        """Add a sample's distances to the float models."""
        exact, rounding = self.oracle.exact_outputs(x)
        outside, decision = self.oracle.is_outside(x), expected.outcome.decision
        bound = self.oracle.error_bound if expected.saturated else self.oracle.unsaturated_bound
        self.unsaturated_count += not (outside or expected.saturated)
        self.outside_count += outside
        for real in outputs:
            # a model that gives nothing but a label has no scores in onnxruntime
            theirs = runtime.outputs if runtime.outputs.size else exact
            if real.shape != exact.shape or real.shape != theirs.shape:
                sizes = f"{len(real)} outputs, the model has {len(exact)}, onnxruntime {len(runtime.outputs)}"
                raise InternalError(sizes)
            distances = np.abs(real - exact)
            if outside:
                self.outside_errors.add(distances)
                continue
            self.errors.add(distances)
            if runtime.outputs.size:
                self.runtime_errors.add(np.abs(real - runtime.outputs))
            if not expected.saturated:
                self.unsaturated_errors.add(distances)
            self.within_bound &= bool((distances <= bound + rounding).all())
        if decision is None:
            return
        same = to_signed(decision) == runtime.decision
        (self.outside_agreement if outside else self.agreement).add(same)
        if not same and runtime.decision is not None:
            self.differing.append(Differing(index, to_signed(decision), runtime.decision, outside))
        if self.labels is not None:
            self.accuracy.add(to_signed(decision) == self.labels[index])
            self.runtime_accuracy.add(runtime.decision == self.labels[index])

    def report(self, places: Sequence[_Place], *, random: bool) -> Report:
        """Return what was found."""
        artifact, place = self.oracle.artifact, places[0]
        code = place.chain.code(place.contract.address)
        deployment = place.deployment
        return Report(
            name=artifact.name,
            target=artifact.target,
            precision=str(artifact.manifest.get("precision", "")),
            chain=" and ".join(p.chain.name for p in places),
            samples=self.total,
            random=random,
            wad_samples=self.wad_samples,
            outside_range=self.outside_count,
            bit_exact_samples=self.exact,
            decision_agreement=self.agreement.share,
            agreement_lower_bound=self.agreement.lower_bound,
            differing=tuple(self.differing),
            accuracy=self.accuracy.share,
            max_abs_error=self.errors.largest,
            mean_abs_error=self.errors.mean,
            error_percentiles=self.errors.percentiles,
            error_bound=self.oracle.error_bound,
            unsaturated=Unsaturated(
                self.unsaturated_count, self.oracle.unsaturated_bound, self.unsaturated_errors.largest
            ),
            within_bound=self.within_bound,
            onnxruntime=Distances(self.runtime_errors.largest, self.runtime_errors.mean, self.runtime_accuracy.share),
            outside=Outside(self.outside_agreement.share, self.outside_errors.largest),
            gas=GasSpread(min(self.gas), sum(self.gas) / len(self.gas), max(self.gas)),
            gas_deploy=None if deployment is None else deployment.gas_deploy,
            gas_weights=None if deployment is None else deployment.gas_weights,
            gas_predicted=self.oracle.predicted_gas(),
            code_bytes=len(code) + sum(len(data) + 1 for data in artifact.data),
            first_difference=self.difference,
            proof=place.proof,
        )


def _show_difference(want: Answer | None, got: Answer) -> str:
    values = [answer for answer in (want, got) if isinstance(answer, tuple) and not isinstance(answer, _Revert)]
    if len(values) < 2:
        return f"expected {_show(want)}, got {_show(got)}"
    return _first_difference(Outcome(values[0], None), Outcome(values[1], None))


def _show(answer: object) -> str:
    if isinstance(answer, _Revert):
        return f"revert {answer.error}{answer.arguments}"
    return f"0x{answer.hex()}" if isinstance(answer, bytes) else str(answer)
