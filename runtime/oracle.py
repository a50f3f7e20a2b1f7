"""What a contract must answer: the graph interpreter's integers, which the Program interpreter must give, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ml2sc.backends.base import Artifact, costs_of
from ml2sc.errors import ArtifactError, InternalError, Ml2scError
from ml2sc.ir.analysis import evaluate_together, saturated_samples
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.forks import FORKS
from ml2sc.ir.gas import Shares, estimate
from ml2sc.ir.interpret import Interpreter, Profile, Profiler, ProgramError
from ml2sc.ir.program import MASK
from ml2sc.ir.types import Array, DType
from ml2sc.ir.wad import (
    Outcome,
    inputs_from_wad,
    outcomes,
    pack,
    quantize_inputs,
    quantize_samples,
    run_graph,
    to_wad,
)
from ml2sc.passes.lower import lower

from .float_model import FloatAnswer, decided

_FLOAT64_ROUNDING = 2.0**-44
"""Rounding of the float64 evaluation itself, in units of its greatest intermediate value: room for 256 roundings."""


class Revert(NamedTuple):
    """The contract must revert, or did: the error and its arguments as words."""

    error: str
    arguments: tuple[int, ...]


Answer = tuple[int, ...] | int | Revert


class Expected(NamedTuple):
    """What one sample must give.

    Attributes:
        packed: The packed input.
        outcome: Its outputs and decision.
        wads: The WAD input; empty where the WAD road is not taken.
        wad_outcome: Its outputs and decision, or the revert.
        disagreement: How the two interpreters differ, if they do.
        saturated: Whether a value is clamped to its format on either road.
        moved: Whether rounding it to WAD took an element of the sample to the other side of what trees compare it with:
            then `predict` answers for another sample.
    """

    packed: bytes
    outcome: Outcome
    wads: list[int]
    wad_outcome: Outcome | Revert
    disagreement: str | None
    saturated: bool
    moved: bool = False


class Oracle:
    """Knows the right answers: the graph interpreter, checked against the Program interpreter.

    Args:
        artifact: A compiled artifact.
    """

    def __init__(self, artifact: Artifact) -> None:
        if artifact.graph is None or artifact.program is None or artifact.reference is None:
            raise ArtifactError(f"{artifact.name} has no graph to check against", hint="load it with ml2sc.load_folder")
        self.artifact = artifact
        self.graph, self.program, self.reference = artifact.graph, artifact.program, artifact.reference
        self.interpreter = Interpreter(artifact.program)
        self.strict = bool(artifact.manifest.get("options", {}).get("strict_input", False))
        self.error_bound = float(artifact.manifest["error_bound"])
        self.unsaturated_bound = float(artifact.manifest["error_bound_unsaturated"])
        self.ranges = {name: self.graph.range_of(name) for name in self.graph.inputs}
        self.model_hash = artifact.model_hash
        tensors = self.reference.tensors.values()
        constants = {t.name: t.data for t in tensors if t.data is not None and t.type is DType.FLOAT}
        self._constants, self._largest = constants.keys(), max(map(_magnitude, constants.values()), default=0.0)
        self._float_outputs = [n for n in self.reference.outputs if self.reference.tensor(n).type is not DType.INT64]

    def expect(
        self, samples: Sequence[Mapping[str, Array]], profiler: Profiler, *, with_wad: int
    ) -> Iterator[Expected]:
        """Yield what each of some samples must give on the packed road, and on the WAD road if it is taken.

        Args:
            samples: The samples; layers are computed for all of them at once.
            profiler: Runs the Program, and counts the branches it takes.
            with_wad: So many of them, the first ones, take the WAD road, unless an element is missing (NaN).
        """
        if not samples:
            return
        quantized = quantize_samples(self.graph, samples)
        found = evaluate_together(self.graph, quantized)
        clamps = saturated_samples(self.graph, found)
        every = zip(samples, quantized, outcomes(self.graph, found), clamps, strict=True)
        for index, (x, q, outcome, clamped) in enumerate(every):
            packed = pack(self.graph, q)
            disagreement = _differs("the Program interpreter", profiler.answer(packed), outcome)
            expected = Expected(packed, outcome, [], outcome, disagreement, bool(clamped))
            known = index < with_wad and not any(np.isnan(values).any() for values in x.values())
            yield self._with_wad(x, expected) if known else expected

    def _with_wad(self, x: Mapping[str, Array], expected: Expected) -> Expected:
        disagreement, packed = expected.disagreement, expected.packed
        wads = to_wad([v for name in self.graph.inputs for v in x[name].ravel().tolist()])
        wad_packed, wad_outcome, wad_saturates = self._expect_wad(wads, packed, expected.outcome)
        if disagreement is None:
            answer = self._quantize(wads)
            if answer != wad_packed:
                disagreement = f"the Program interpreter's input: expected {_show(wad_packed)}, got {_show(answer)}"
            elif isinstance(wad_outcome, Outcome) and isinstance(answer, bytes) and answer != packed:
                disagreement = _differs("the Program interpreter (WAD)", self.interpreter.run(answer), wad_outcome)
        saturates = expected.saturated or wad_saturates
        moved = bool(self.graph.ladders) and wad_packed != packed
        return Expected(packed, expected.outcome, wads, wad_outcome, disagreement, saturates, moved)

    def _run(self, q: Mapping[str, Array]) -> tuple[Outcome, bool]:
        """Return the graph interpreter's answer, and whether a value was clamped on the way."""
        found = evaluate_together(self.graph, [q])
        return outcomes(self.graph, found)[0], bool(saturated_samples(self.graph, found)[0])

    def predicted_gas(self, profile: Profile) -> int | None:
        """Return the mean gas stated for the inputs counted; None for a target that is no contract."""
        manifest = self.artifact.manifest
        if "gas" not in manifest:
            return None
        # the chains there are to check on have the prices of prague (osaka changes none)
        settings = manifest.get("toolchain", {}).get("settings", {})
        costs = costs_of(self.artifact.target, self.program, settings, self.artifact.form, self.artifact.calls)
        return estimate(costs, FORKS["prague"], Shares(profile)).total

    def _expect_wad(
        self, wads: Sequence[int], packed: bytes, outcome: Outcome
    ) -> tuple[bytes | Revert, Outcome | Revert, bool]:
        if self.strict:
            for index, (value, (lo, hi)) in enumerate(zip(wads, self.program.input.wad_range, strict=True)):
                if not lo <= value <= hi:
                    revert = Revert("InputOutOfRange", (index, value & MASK))
                    return revert, revert, False
        q = inputs_from_wad(self.graph, wads)
        again = pack(self.graph, q)
        return (again, outcome, False) if again == packed else (again, *self._run(q))

    def _quantize(self, wads: Sequence[int]) -> bytes | Revert:
        try:
            return self.interpreter.quantize(wads)
        except ProgramError as error:
            return Revert(error.error, tuple(error.args[1:]))

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
        computed = values.keys() - self._constants
        found = (_magnitude(values[n]) for n in computed if self.reference.tensor(n).type is DType.FLOAT)
        largest = max(self._largest, *found)
        flat = [values[name].ravel() for name in self._float_outputs]
        return np.concatenate([np.zeros(0), *flat]), largest * _FLOAT64_ROUNDING

    def float64_answer(self, x: Mapping[str, Array]) -> FloatAnswer:
        """Return the model's decision in float64, where there is no onnxruntime to ask."""
        values, label = evaluate_float(self.reference, x), self.graph.decision
        if label is not None and label in values:
            return FloatAnswer(np.zeros(0), int(values[label].ravel()[0]))
        scores = np.concatenate([np.zeros(0), *(values[name].ravel() for name in self._float_outputs)])
        return FloatAnswer(np.zeros(0), None if label is None else decided(scores))

    def outside(self, x: Mapping[str, Array]) -> dict[str, Array]:
        """Return which values of a sample lie outside their declared range, by input; nothing where none does."""
        beyond = {name: (v < self.ranges[name][0]) | (v > self.ranges[name][1]) for name, v in x.items()}
        return {name: found for name, found in beyond.items() if found.any()}


def _magnitude(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0))


def _differs(who: str, got: Outcome, expected: Outcome) -> str | None:
    return None if got == expected else f"{who}: {_first_difference(expected, got)}"


def _first_difference(expected: Outcome, got: Outcome) -> str:
    for index, (want, have) in enumerate(zip(expected.outputs, got.outputs, strict=False)):
        if want != have:
            return f"output {index}: expected {want}, got {have} (WAD)"
    if len(expected.outputs) != len(got.outputs):
        return f"expected {len(expected.outputs)} outputs, got {len(got.outputs)}"
    return f"decision: expected {expected.decision}, got {got.decision}"


def show_difference(want: Answer | None, got: Answer) -> str:
    """Say what was expected and what came: of outputs, the first that differs."""
    values = [answer for answer in (want, got) if isinstance(answer, tuple) and not isinstance(answer, Revert)]
    if len(values) < 2:
        return f"expected {_show(want)}, got {_show(got)}"
    return _first_difference(Outcome(values[0], None), Outcome(values[1], None))


def _show(answer: object) -> str:
    if isinstance(answer, Revert):
        return f"revert {answer.error}{answer.arguments}"
    return f"0x{answer.hex()}" if isinstance(answer, bytes) else str(answer)
