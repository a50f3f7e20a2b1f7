"""The library that trained a model, asked too: exporters to ONNX make mistakes, and onnxruntime repeats them.

What the library predicts comes in a file: inputs `x` as for samples, `y` its labels (of a model that decides) or
values, and, if wanted, `scores`: what the model's outputs should be. The contract's answers are those of its Program,
which the check has found to be the same.
"""

from __future__ import annotations

import os
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


@dataclass(frozen=True)
class Original:
    """How a contract's answers compare with those of the library that the model is from.

    Attributes:
        samples: How many were compared.
        equal: Decisions that are the library's; None where it gives none, or the contract does not decide.
        differing: Numbers of the first samples whose decision is another.
        distance: The greatest distance of an output from the library's value; None where it gives none.
    """

    samples: int
    equal: int | None
    differing: tuple[int, ...]
    distance: float | None

    @property
    def agreement(self) -> float:
        """Share of the decisions that are the library's; 1 where there are none to compare."""
        return 1.0 if self.equal is None else self.equal / self.samples

    def text(self) -> str:
        """Say it in a line."""
        parts = []
        if self.equal is not None:
            others = f", others first at samples {', '.join(map(str, self.differing))}" if self.differing else ""
            parts.append(f"{self.equal:,} of {self.samples:,} decisions are its own{others}")
        if self.distance is not None:
            parts.append(f"outputs are within {self.distance:.3g} of its values")
        return f"the original library: {'; '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "samples": self.samples,
            "equal": self.equal,
            "differing": list(self.differing),
            "max_distance": self.distance,
        }


def compare_original(artifact: Artifact, path: str | os.PathLike[str]) -> Original:
    """Compare a contract's answers with a library's predictions.

    Args:
        artifact: The artifact.
        path: An .npz file with `x` and `y`, and maybe `scores`.

    Raises:
        DataError: the file cannot be read, does not fit the model, or holds nothing to compare.
    """
    oracle = Oracle(artifact)
    samples = load_samples(path, oracle.graph)
    truth, scores = Truth.of(samples, oracle.graph), _scores(path, len(samples), oracle)
    if truth.labels is None and truth.targets is None and scores is None:
        raise DataError(
            f"{path} holds no predictions of the model",
            hint="y: the library's labels, or one row of values a sample; scores: what the outputs should be",
        )
    interpreter = Interpreter(oracle.program)
    differing: list[int] = []
    distances = [0.0]
    for first in range(0, len(samples), _TOGETHER):
        part = samples[first : first + _TOGETHER]
        for offset, q in enumerate(quantize_samples(oracle.graph, part)):
            outcome, index = interpreter.run(pack(oracle.graph, q)), first + offset
            label = truth.label(index)
            if label is not None and outcome.decision is not None and to_signed(outcome.decision) != label:
                differing.append(index)
            wanted = truth.target(index) if scores is None else scores[index].tolist()
            if wanted:
                distances += [abs(value / WAD - w) for value, w in zip(outcome.outputs, wanted, strict=True)]
    equal = None if truth.labels is None else len(samples) - len(differing)
    distance = None if len(distances) == 1 else max(distances)
    return Original(len(samples), equal, tuple(differing[:_SHOWN]), distance)


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
