"""The check's work on a run of samples, in whichever process: contracts, interpreters and float models are asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ml2sc.backends.base import Artifact
from ml2sc.errors import ArtifactError, InternalError
from ml2sc.frontend.data import Samples
from ml2sc.frontend.truth import Truth
from ml2sc.ir.interpret import Profiler
from ml2sc.ir.program import MASK, to_signed
from ml2sc.ir.types import Array
from ml2sc.ir.wad import WAD, Outcome, to_wad
from ml2sc.threads import one_thread

from .chain import Chain, limits_of, revm_is_installed
from .contract import Contract, ContractError
from .deploy import Deployment, deploy
from .float_model import FloatModel, open_onnxruntime
from .opening import open_chain
from .oracle import Answer, Expected, Oracle, Revert, show_difference
from .prove import Proof, prove
from .report import Differing
from .tally import Spread, Tally

_LARGE_INPUT = 200  # elements; WAD calls of a larger model cost so much that only some samples make them
_WAD_SAMPLES = 25
_TOGETHER = 20  # samples whose layers are computed at once
_REFERENCE_SAMPLES = 10  # how many py-evm repeats of what revm answered
_CALLED_SAMPLES = 25  # how many are asked by a contract, too


class Part(NamedTuple):
    """A run of samples.

    Attributes:
        first: The number of its first sample among all.
        samples: They themselves.
        truth: The right answers to them.
    """

    first: int
    samples: Samples
    truth: Truth = Truth()


class Setting(NamedTuple):
    """Where the contract is, and how it came there.

    Attributes:
        chain: The chains' names.
        code_bytes: Bytes of the contract's code.
        deployment: What deploying took; None if it was there already.
        proof: What was compared then.
        missing: Why onnxruntime cannot run the model; None if it can.
    """

    chain: str
    code_bytes: int
    deployment: Deployment | None
    proof: Proof | None
    missing: str | None


class Found(NamedTuple):
    """What was found on a part.

    Attributes:
        first: The part's number of its first sample.
        tally: Everything counted and measured.
        setting: Where.
    """

    first: int
    tally: Tally
    setting: Setting


@dataclass(frozen=True)
class Examination:
    """A check's work, the same for every part of the samples.

    Attributes:
        artifact: A compiled artifact.
        chain: As `open_chain` takes it.
        address: Where the contract is on that chain; None: it is deployed.
    """

    artifact: Artifact
    chain: str
    address: str | None = None

    @contextmanager
    def open(self) -> Iterator[Callable[[Part], Found]]:
        """Put the contract on a chain of this process's own, and yield what examines a part.

        Raises:
            ArtifactError: the artifact is incomplete, or nothing is at the address.
            CheckError: the contract at the address is another one.
            ToolchainError: the chain or onnxruntime is missing or failed.
            ContractLimitError: the contract does not fit the chain.
        """
        oracle = Oracle(self.artifact)
        with open_onnxruntime(self.artifact) as found, _place(self.artifact, self.chain, self.address) as place:
            if place.contract.model_hash() != oracle.model_hash:
                raise ArtifactError(
                    f"the contract at {place.contract.address} was compiled from another model",
                    hint="its modelHash() is not the hash of this folder's model",
                )

            runtime, missing = (oracle.float64_answer, found) if isinstance(found, str) else (found, None)
            profiler = Profiler(oracle.program)

            def examine(part: Part) -> Found:
                places = [place]
                if part.first >= _REFERENCE_SAMPLES or self.chain != "embedded" or not revm_is_installed():
                    return _examine(oracle, runtime, profiler, places, part, missing)
                with _place(self.artifact, "py-evm", None) as reference:
                    return _examine(oracle, runtime, profiler, [*places, reference], part, missing)

            yield examine


class _Place(NamedTuple):
    """A contract on a chain: with its deployment, or the proof of what was there already."""

    chain: Chain
    contract: Contract
    deployment: Deployment | None
    proof: Proof | None = None


@contextmanager
def _place(artifact: Artifact, spec: str, address: str | None) -> Iterator[_Place]:
    fork = str(artifact.manifest.get("options", {}).get("fork", "prague"))
    with open_chain(spec, fork, limits_of(artifact)) as chain:
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
        return Revert(error.name, tuple(v & MASK if isinstance(v, int) else 0 for v in error.arguments.values()))
    return int(answer) if isinstance(answer, int) else tuple(answer)


@one_thread
def _examine(
    oracle: Oracle,
    runtime: FloatModel,
    profiler: Profiler,
    places: Sequence[_Place],
    part: Part,
    missing: str | None,
) -> Found:
    work = _Comparison(oracle, runtime, profiler, [place.contract for place in places])
    for first in range(0, len(part.samples), _TOGETHER):
        last = first + _TOGETHER
        work.add(part.first + first, part.samples.part(first, last), part.truth.part(first, last))
    place = places[0]
    chain, code = " and ".join(p.chain.name for p in places), place.chain.code(place.contract.address)
    setting = Setting(chain, len(code), place.deployment, place.proof, missing)
    return Found(part.first, work.finish(), setting)


class _Comparison:
    """Compares sample by sample.

    Args:
        oracle: Knows the right answers.
        runtime: onnxruntime, or who decides in its place.
        profiler: Runs the Program; what it counted before is gone.
        contracts: The first one's gas and answers count, others must equal them on the first samples.
    """

    def __init__(self, oracle: Oracle, runtime: FloatModel, profiler: Profiler, contracts: Sequence[Contract]) -> None:
        self.oracle, self.runtime, self.contracts, self.profiler = oracle, runtime, contracts, profiler
        profiler.take()  # what a part that failed has counted
        self.large = oracle.program.input.count > _LARGE_INPUT
        self.tally = Tally()
        self._distances: defaultdict[str, list[Array]] = defaultdict(list)

    def finish(self) -> Tally:
        """Return what was found."""
        for name, distances in self._distances.items():  # added up together: that costs little more than one of them
            spread: Spread = getattr(self.tally, name)
            spread.add(np.concatenate(distances))
        self.tally.profile.merge(self.profiler.take())
        return self.tally

    def add(self, first: int, samples: Samples, truth: Truth) -> None:
        """Try some samples on every contract.

        Args:
            first: Number of the first one among all.
            samples: They themselves, as many as are computed together.
            truth: The right answers to them.
        """
        inputs = list(samples)
        with_wad = min(max(_WAD_SAMPLES - first, 0), len(inputs)) if self.large else len(inputs)
        with_wad = with_wad if self.oracle.program.input.takes_wad else 0
        self.tally.samples += len(inputs)
        expected = self.oracle.expect(inputs, self.profiler, with_wad=with_wad)
        for offset, (x, right) in enumerate(zip(inputs, expected, strict=True)):
            self.tally.wad_samples += bool(right.wads)
            self._add(first + offset, x, right, truth.part(offset, offset + 1), with_wad=bool(right.wads))

    def _add(self, index: int, x: Mapping[str, Array], expected: Expected, truth: Truth, *, with_wad: bool) -> None:
        difference, answers, gas_there = expected.disagreement, [], 0
        for position, contract in enumerate(self.contracts if index < _REFERENCE_SAMPLES else self.contracts[:1]):
            found, given = self._compare(contract, expected, with_wad=with_wad)
            gas = contract.gas_packed(expected.packed)
            if position == 0:
                self.tally.gas.add(gas)
                self._call(index, contract, expected.packed)
                answers, gas_there = given, gas
            elif gas != gas_there:
                found = found or f"gas: {gas_there:,} on the first chain, {gas:,} on {contract.chain.name}"
            difference = difference or found
        if difference is not None:
            first = not self.tally.inexact.count and expected.disagreement is not None
            layer = f"; {self.oracle.wrong_layer(x)}" if first else ""
            self.tally.inexact.add(index, f"sample {index}, {difference}{layer}")
        self._measure(index, x, expected, answers, truth)

    def _call(self, index: int, contract: Contract, packed: bytes) -> None:
        """Measure what a contract pays that calls this one, on the first samples."""
        called = contract.called_packed(packed) if index < _CALLED_SAMPLES else None
        if called is not None:
            self.tally.cold.add(called.cold)
            self.tally.warm.add(called.warm)

    def _compare(self, contract: Contract, expected: Expected, *, with_wad: bool) -> tuple[str | None, list[Array]]:
        """Return the first difference between a contract and what is expected, and its outputs as reals."""
        questions: list[tuple[str, Any, Outcome | Revert]] = [
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
            want: Answer | None = right if isinstance(right, Revert) else right.outputs if predicts else right.decision
            got = _ask(contract, function, argument)
            other = expected.moved and function == "predict"
            if predicts and isinstance(got, tuple) and not isinstance(got, Revert) and not other:
                outputs.append(np.array([v / WAD for v in got]))
            if got != want:
                difference = difference or f"{function} on {contract.chain.name}: {show_difference(want, got)}"
        return difference, outputs

    def _measure(
        self, index: int, x: Mapping[str, Array], expected: Expected, outputs: Sequence[Array], truth: Truth
    ) -> None:
        """Add a sample's distances to the float models."""
        tally, runtime = self.tally, self.runtime(x)
        exact, rounding = self.oracle.exact_outputs(x)
        beyond, decision = self.oracle.outside(x), expected.outcome.decision
        outside = bool(beyond)
        tally.count_outside(beyond)
        bound = self.oracle.error_bound if expected.saturated else self.oracle.unsaturated_bound
        tally.unsaturated += not (outside or expected.saturated)
        tally.outside += outside
        for real in outputs:
            # a model that gives nothing but a label has no scores in onnxruntime
            theirs = runtime.outputs if runtime.outputs.size else exact
            if real.shape != exact.shape or real.shape != theirs.shape:
                sizes = f"{len(real)} outputs, the model has {len(exact)}, onnxruntime {len(runtime.outputs)}"
                raise InternalError(sizes)
            distances = np.abs(real - exact)
            if outside:
                self._distances["outside_errors"].append(distances)
                continue
            self._distances["errors"].append(distances)
            if runtime.outputs.size:
                self._distances["runtime_errors"].append(np.abs(real - runtime.outputs))
            if not expected.saturated:
                self._distances["unsaturated_errors"].append(distances)
            tally.within_bound &= bool((distances <= bound + rounding).all())
        self._estimate(expected.outcome, exact, truth.target(0), outside=outside)
        if decision is None:
            return
        same = to_signed(decision) == runtime.decision
        (tally.outside_agreement if outside else tally.agreement).add(same)
        if not same and runtime.decision is not None:
            tally.differing.add(index, Differing(index, to_signed(decision), runtime.decision, outside))
        label = truth.label(0)
        if label is not None:
            tally.accuracy.add(bool(to_signed(decision) == label))
            tally.runtime_accuracy.add(bool(runtime.decision == label))

    def _estimate(self, outcome: Outcome, exact: Array, target: Sequence[float], *, outside: bool) -> None:
        """Add a sample to what is known of outputs that are estimates."""
        if outcome.decision is not None and not target:
            return
        estimates, theirs = outcome.outputs, to_wad(exact.tolist())
        if not outside:
            self.tally.fit.add(estimates, theirs)
        if target:
            wanted = to_wad(target)
            self.tally.label_fit.add(estimates, wanted)
            self.tally.model_label_fit.add(theirs, wanted)
