"""The library that trained a model, asked too: exporters to ONNX make mistakes, and onnxruntime repeats them.

What the library predicts comes in a file: inputs `x` as for samples, `y` its labels (of a model that decides) or
values, and, if wanted, `scores`: what the model's outputs should be. The contract's answers are those of its Program,
which the check has found to be the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml2sc.backends.base import Artifact
from ml2sc.errors import DataError
from ml2sc.frontend.data import load_samples
from ml2sc.frontend.truth import Truth
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.program import to_signed
from ml2sc.ir.types import Array
from ml2sc.ir.wad import WAD, pack, quantize_samples

from .oracle import Oracle

_TOGETHER = 200
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Original:
    """How a model's answers compare with those of the library that it is from.

    Attributes:
        samples: How many were compared.
        equal: Decisions that are the library's; None where it gives none, or the model does not decide.
        differing: Numbers of the samples whose decision is another.
        distances: The greatest distance of an output from the library's value, by sample; None where it gives none.
    """

    samples: int
    equal: int | None
    differing: tuple[int, ...]
    distances: Array | None

    @property
    def agreement(self) -> float:
        """Share of the decisions that are the library's; 1 where there are none to compare."""
        return 1.0 if self.equal is None else self.equal / self.samples

    @property
    def distance(self) -> float | None:
        """The greatest distance of an output from the library's value; None where it gives none."""
        return None if self.distances is None else float(self.distances.max())

    def text(self) -> str:
        """Say it in a line."""
        parts = []
        if self.equal is not None:
            first = ", ".join(map(str, self.differing[:_SHOWN]))
            others = f", others first at samples {first}" if self.differing else ""
            parts.append(f"{self.equal:,} of {self.samples:,} decisions are its own{others}")
        if self.distance is not None:
            parts.append(f"outputs are within {self.distance:.3g} of its values")
        return f"the original library: {'; '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "samples": self.samples,
            "equal": self.equal,
            "differing": list(self.differing[:_SHOWN]),
            "max_distance": self.distance,
        }


def compared(outputs: Array, decisions: Sequence[int | None], labels: Array | None, values: Array | None) -> Original:
    """Compare a model's answers with a library's.

    Args:
        outputs: The model's, a row a sample.
        decisions: The model's.
        labels: The library's decisions, if it gives some.
        values: What the library says the outputs should be, a row a sample, if it does.
    """
    differing: tuple[int, ...] = ()
    if labels is not None:
        pairs = enumerate(zip(decisions, labels.tolist(), strict=True))
        differing = tuple(index for index, (own, label) in pairs if own is not None and own != label)
    distances = None
    if values is not None and values.size:
        with np.errstate(invalid="ignore"):  # the same infinity is at no distance
            distances = np.where(outputs == values, 0.0, np.abs(outputs - values)).max(axis=1)
    equal = None if labels is None else len(decisions) - len(differing)
    return Original(len(decisions), equal, differing, distances)


def compare_original(artifact: Artifact, path: str | os.PathLike[str]) -> Original:
    """Compare a contract's answers with a library's predictions.

    Args:
        artifact: The artifact.
        path: An .npz file with `x` and `y`, and maybe `scores`.

    Raises:
        DataError: the file cannot be read, does not fit the model, or holds nothing to compare.
    """
    oracle = Oracle(artifact)
    samples = load_samples(path, oracle.graph, artifact.columns)
    truth, scores = Truth.of(samples, oracle.graph), _scores(path, len(samples), oracle)
    if truth.labels is None and truth.targets is None and scores is None:
        raise DataError(
            f"{path} holds no predictions of the model",
            hint="y: the library's labels, or one row of values a sample; scores: what the outputs should be",
        )
    interpreter = Interpreter(oracle.program)
    outputs, decisions = np.zeros((len(samples), oracle.program.outputs)), []
    for first in range(0, len(samples), _TOGETHER):
        part = samples[first : first + _TOGETHER]
        for index, q in enumerate(quantize_samples(oracle.graph, part), start=first):
            outcome = interpreter.run(pack(oracle.graph, q))
            outputs[index] = [value / WAD for value in outcome.outputs]
            decisions.append(None if outcome.decision is None else to_signed(outcome.decision))
    if scores is None and truth.targets is not None:
        scores = np.array([truth.target(index) for index in range(len(samples))])
    return compared(outputs, decisions, truth.labels, scores)


def _scores(path: str | os.PathLike[str], count: int, oracle: Oracle) -> Array | None:
    """Return the library's scores, a row a sample."""
    if not str(path).endswith(".npz"):
        return None
    with np.load(path, allow_pickle=False) as file:
        if "scores" not in file:
            return None
        scores = np.asarray(file["scores"])
    outputs = oracle.program.outputs
    if scores.dtype.kind not in "fiu" or scores.size != count * outputs:
        raise DataError(
            f"{path}, key 'scores': {scores.dtype} of shape {scores.shape!s:.100}; expected numbers of shape "
            f"({count}, {outputs})"
        )
    return scores.astype(np.float64).reshape(count, outputs)
