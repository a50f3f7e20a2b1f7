"""The estimator that an export was made of, asked too: exporters misread some, and nobody would know.

What is compared is the float graph that becomes the contract, in float64: float32 on the way would only hide mistakes.
Whichever method of the estimator gives as many values as the export may be what was exported: the nearest is taken.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml2sc.errors import DataError, FewSamplesWarning, PoorResultWarning, UnsupportedModelError, warn
from ml2sc.frontend.data import Samples
from ml2sc.frontend.treelite_import import library_of
from ml2sc.ir.graph import Graph
from ml2sc.ir.ops.base import attr_int
from ml2sc.ir.program import to_signed
from ml2sc.ir.types import Array, Scaling
from ml2sc.passes.measure import answer_of, stride
from ml2sc.passes.samples import real_values

from .original import compared

log = logging.getLogger(__name__)

MOST = 1000
"""Calibration samples that an estimator is asked about, evenly from all of them."""
_OF_CLASSES = {"predict_proba": 5e-3, "decision_function": 1e-4}
BOUNDS = {**_OF_CLASSES, "predict": 1e-4, "transform": 1e-4}
"""How far the values of each method may be off, in units of the greatest: an export's weights are float32, and support
vectors stop looking for probabilities within half a percent."""
_ASIDE = 2.0**-20
"""By how much of a column's greatest value a step may lie beside a row: a few roundings to float32."""
_TIED = 2.0**-16
"""By which share of the greater one distances may differ that count as equal: they are differences of float32."""
_MADE_UP = 64
_SCALES = (1.0, 0.1, 10.0)
"""Of made-up rows where no range is declared."""
_SHOWN = 6
"""Numbers of a row that a message shows."""
_LONGEST = 300
_MISREAD = (
    "the contract would compute the export: do without the step that is misread; or compile an ONNX file of the "
    "estimator (skl2onnx.to_onnx), which is taken as it is"
)
_MISREAD_TREES = (
    "the contract would compute the trees as they are saved: train without the setting that is not in them; or compile "
    "the file of the model's save_model, or onnxmltools' ONNX file of it, which are taken as they are"
)


@dataclass(frozen=True)
class Comparison:
    """How an export's answers compare with its estimator's.

    Attributes:
        rows: How many rows were compared.
        difference: The first difference in words, if there is one.
        grave: Whether it is one of labels, or of what outputs stand for by themselves. Scores that labels are rightly
            chosen by are in units of their own.
        refusal: What the estimator said instead of an answer, if it did.
        tied: How many rows were answered otherwise where neighbours are equally far: each may choose some of them.
    """

    rows: int = 0
    difference: str | None = None
    grave: bool = True
    refusal: str | None = None
    tied: int = 0


def compare_export(model: Any, graph: Graph, samples: Samples | None, declared: Scaling | None) -> str:
    """Hold an export against its estimator: on calibration samples or, if there are none, on rows that are made up.

    Args:
        model: The fitted estimator.
        graph: The float graph that was made of it; it has one input.
        samples: The calibration samples.
        declared: Where made-up rows may be, if anybody says.

    Returns:
        What was compared, in a line.

    Raises:
        UnsupportedModelError: it answers otherwise to a calibration sample. To a made-up row, which may be like none
            that the contract will be given, that is a warning; so it is where only scores are others, not labels.
        DataError: it answers NaN or infinity to a calibration sample.
    """
    steps = [type(step).__name__ for _, step in getattr(model, "steps", ()) if not isinstance(step, str)]
    export = f"the export of this {type(model).__name__}{' of ' if steps else ''}{', '.join(steps)}"
    asked, library = _Asked(model, graph), library_of(model)
    found: list[Comparison] = []
    if samples is None:
        for rows in _made_up(graph, declared):
            with contextlib.suppress(DataError):  # nothing is to be learnt from rows that lead to infinity
                found.append(asked.compare(rows, [f"the made-up row {_text(row)}" for row in rows]))
    else:
        numbers = range(0, len(samples), stride(samples, MOST))
        rows = np.array([np.concatenate([v.ravel() for v in samples[i].values()]) for i in numbers])
        found.append(asked.compare(rows, [f"sample {number}" for number in numbers]))
    count = sum(part.rows for part in found)
    if not count:
        reason = "no method of it gives as many values" if found else "it computes NaN or infinity for made-up rows"
        reason = next((part.refusal for part in found if part.refusal), reason)
        text = f"{export} could not be compared with it: {reason}"
        if samples is not None:
            warn(text, FewSamplesWarning)
        return text
    worst = next((part for part in found if part.difference is not None), None)
    if worst is not None:
        text = f"{export} answers otherwise than it does: {worst.difference}"
        if samples is not None and worst.grave:
            raise UnsupportedModelError(text, hint=_MISREAD if library in {None, "scikit-learn"} else _MISREAD_TREES)
        warn(text, PoorResultWarning)
    said = "they agree" if worst is None else worst.difference
    if tied := sum(part.tied for part in found):
        said = f"{said}, but for {tied:,} rows with equally far neighbours, of which each takes others"
    return f"{export} was compared with it on {count:,} rows: {said}"


def _made_up(graph: Graph, declared: Scaling | None) -> Iterator[Array]:
    """Iterate over rows to compare on: about the edges of trees, within the range declared, or of several scales."""
    random = np.random.default_rng(0)
    (name,) = graph.inputs
    shape = (_MADE_UP, graph.tensor(name).size)
    if name in graph.ladders:
        rows = graph.ladders[name].samples(random, _MADE_UP)
        yield np.where(np.isnan(rows), 0.0, rows)  # most estimators refuse a row that lacks an element
    elif declared is not None:
        yield random.uniform(declared.lo.ravel(), declared.hi.ravel(), shape)
    else:
        yield from (random.normal(0, scale, shape) for scale in _SCALES)


@dataclass(frozen=True)
class _Told:
    """What an estimator answers to rows.

    Attributes:
        labels: The decisions that the contract should make; None if it gives none.
        values: By method, and in which way: what the outputs should be, a row each.
        scores: By method: the score of each class, by its decision.
    """

    labels: Array | None
    values: Mapping[tuple[str, int], Array]
    scores: Mapping[str, Mapping[int, Array]]

    def ties(self, row: int, decision: int) -> bool:
        """Whether all its scores leave open if a row's decision is the label or another one."""
        if self.labels is None or not self.scores:
            return False
        label = int(self.labels[row])
        for method, scores in self.scores.items():
            if decision not in scores or label not in scores:
                return False
            greatest = max(float(np.abs(column).max()) for column in scores.values())
            if not scores[label][row] - scores[decision][row] <= _OF_CLASSES[method] * greatest:
                return False
        return True


class _Asked:
    """An estimator that is asked, and what was made of it.

    Args:
        model: The estimator.
        graph: What was made of it.
    """

    def __init__(self, model: Any, graph: Graph) -> None:
        self._model, self._graph = model, graph
        classes = getattr(model, "classes_", None)
        self._classes: list[Any] = classes.tolist() if isinstance(classes, np.ndarray) and classes.ndim == 1 else []
        named = bool(graph.class_names) or library_of(model) is not None
        named = named or not all(isinstance(label, int | float) for label in self._classes)
        self._decisions = list(range(len(self._classes))) if named else [int(label) for label in self._classes]
        self._refusal: str | None = None

    def compare(self, rows: Array, names: Sequence[str]) -> Comparison:
        """Compare what both answer to rows.

        Args:
            rows: Of shape (rows, features).
            names: What a message calls each of them.

        Raises:
            DataError: the export answers NaN or infinity.
        """
        (name,) = self._graph.inputs
        shape = self._graph.tensor(name).shape
        answers, ties = [], np.zeros(len(rows), dtype=bool)
        samples = ({name: row.reshape(shape)} for row in rows)
        every = (values for reals in real_values(self._graph, samples) for values in reals)
        for number, computed in enumerate(every):
            answers.append(answer_of(self._graph, computed))
            ties[number] = _tied(self._graph, computed)
        outputs = np.array([own.outputs for own in answers])
        decisions = [None if own.decision is None else to_signed(own.decision) for own in answers]
        told = self._told(rows, outputs.shape[1])
        if told.labels is None and not told.values:
            return Comparison(refusal=self._refusal)
        way = next((one for one in told.values if self._fits(outputs, one, told.values[one])), None)
        way = way or next(iter(told.values), None)
        values = None if way is None else told.values[way]
        found = compared(outputs, decisions, told.labels, values)
        bound = 0.0 if way is None or values is None else BOUNDS[way[0]] * _greatest(values)
        far = found.distances is not None and not (found.distances <= bound).all()
        if not found.differing and not far:
            return Comparison(len(rows))
        asides = [told, *(self._told(rows + aside, outputs.shape[1]) for aside in self._asides(rows))]
        parts = []
        strange = np.zeros(len(rows), dtype=bool)
        strange[[row for row in found.differing if not self._excused(asides, row, decisions[row])]] = True
        wrong = np.flatnonzero(strange & ~ties).tolist()
        if wrong and told.labels is not None:
            row = wrong[0]
            parts.append(
                f"{len(wrong)} of {len(rows)} labels are others: of {names[row]} it is "
                f"{self._called(int(told.labels[row]))}, and {self._called(decisions[row])} by the export"
            )
        if far and way is not None and values is not None and found.distances is not None:
            near = np.array([aside.values[way] for aside in asides if way in aside.values])
            within = (outputs >= near.min(axis=0) - bound) & (outputs <= near.max(axis=0) + bound)
            outside = ~within.all(axis=1)
            strange |= outside
            distances = np.where(outside & ~ties, np.nan_to_num(found.distances, nan=np.inf), 0.0)
            row = int(distances.argmax())
            if distances[row]:
                parts.append(
                    f"{way[0]} is off by up to {distances[row]:.3g} ({bound:.2g} is allowed): of {names[row]} it is "
                    f"{_text(values[row])}, and {_text(outputs[row])} by the export"
                )
        scored = told.labels is not None and way is not None and way[0] == "decision_function"
        tied = int(np.count_nonzero(strange & ties))
        return Comparison(len(rows), "; ".join(parts) or None, bool(wrong) or not scored, tied=tied)

    @staticmethod
    def _fits(outputs: Array, way: tuple[str, int], values: Array) -> bool:
        distance = compared(outputs, [None] * len(outputs), None, values).distance
        return distance is not None and distance <= BOUNDS[way[0]] * _greatest(values)

    def _asides(self, rows: Array) -> tuple[Array, ...]:
        """Return how far steps may lie beside rows, by column: where whole numbers are, or only trees look, nowhere."""
        if self._graph.ladders:
            return ()
        aside = np.where((rows == np.rint(rows)).all(axis=0), 0.0, _ASIDE * np.abs(rows).max(axis=0))
        return aside, -aside

    def _excused(self, asides: Sequence[_Told], row: int, decision: int | None) -> bool:
        """Whether the estimator leaves open that a row's decision is another: beside the row, or by its scores."""
        if any(aside.labels is not None and aside.labels[row] == decision for aside in asides):
            return True
        return decision is not None and asides[0].ties(row, decision)

    def _called(self, decision: int | None) -> str:
        """Return a decision as the estimator calls it."""
        if decision is None or decision not in self._decisions:
            return str(decision)
        return repr(self._classes[self._decisions.index(decision)])

    def _told(self, rows: Array, width: int) -> _Told:
        """Return what the estimator answers to rows; an export gives `width` values."""
        values: dict[tuple[str, int], Array] = {}
        scores: dict[str, dict[int, Array]] = {}
        for method in _OF_CLASSES if self._classes else BOUNDS:
            found = self._ask(method, rows)
            if found is None or found.dtype.kind not in "fiu":
                continue
            columns = found.reshape(len(rows), -1).astype(np.float64)
            values.update(((method, way), fitting) for way, fitting in enumerate(_as_wide(columns, width)))
            for fitting in _as_wide(columns, len(self._classes))[:1] if method in _OF_CLASSES else ():
                scores[method] = dict(zip(self._decisions, fitting.T, strict=True))
        return _Told(self._labels(rows), values, scores)

    def _labels(self, rows: Array) -> Array | None:
        found = None if self._graph.decision is None else self._ask("predict", rows)
        if found is None or found.size != len(rows):
            return None
        labels = found.ravel().tolist()
        if self._classes:
            known = dict(zip(self._classes, self._decisions, strict=True))
            return np.array([known[label] if label in known else _strange(label) for label in labels])
        return None if found.dtype.kind == "f" else np.array(labels, dtype=np.int64)

    def _ask(self, method: str, rows: Array) -> Array | None:
        """Return a method's answer; None where there is no such method, or it refuses the rows."""
        if not hasattr(self._model, method):
            return None
        for kind in (np.float64, np.float32):  # some take the type alone that they were fitted on
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = getattr(self._model, method)(self._table(rows.astype(kind)))
                    found = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
            except Exception as error:  # whatever an estimator raises
                log.debug("%s of the estimator", method, exc_info=error)
                text = " ".join(str(error).split())
                self._refusal = f"its {method} says: {text[:_LONGEST]}"
                continue
            return found if len(found) == len(rows) else None
        return None

    def _table(self, rows: Array) -> Any:
        """Return rows as the estimator knows them: one fitted on a DataFrame knows columns by their names."""
        names = getattr(self._model, "feature_names_in_", None)
        if names is None:
            return rows
        import pandas as pd

        return pd.DataFrame(rows, columns=names)


def _tied(graph: Graph, values: Mapping[str, Array]) -> bool:
    """Whether a graph, given all that it computes for a row, takes some of equally far neighbours and leaves others.

    Which ones it takes nobody says: scikit-learn those that its search comes upon first.
    """
    for node in graph:
        taken = attr_int(node, "k", 1) if node.op_type == "TopIndices" else 0
        ordered = np.sort(values[node.inputs[0]].ravel())[::-1] if taken else np.zeros(0)
        if taken < len(ordered) and ordered[taken - 1] - ordered[taken] <= _TIED * abs(ordered[taken]):
            return True
    return False


def _strange(label: Any) -> int:
    """Return the decision for a label that is none of the classes: neighbours may have one for rows far from all."""
    return int(label) if isinstance(label, int | float) else -1


def _as_wide(values: Array, width: int) -> Sequence[Array]:
    """Return values in so many columns, in each way that exports have of it; nothing if they do not fit.

    Those of two classes may be one; the two that become of a score have either sign (of support vectors the other).
    """
    if values.shape[1] == width:
        return [values]
    if (values.shape[1], width) == (2, 1):
        return [values[:, 1:]]
    if (values.shape[1], width) == (1, 2):
        return [np.c_[-values, values], np.c_[values, -values]]
    return []


def _greatest(values: Array) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def _text(row: Array) -> str:
    shown = ", ".join(f"{value:.6g}" for value in row[:_SHOWN].tolist())
    return f"[{shown}{', …' if len(row) > _SHOWN else ''}]"
