"""How good a quantised model is on its calibration data: as a whole, and layer by layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ml2sc.errors import DataError, Ml2scError, Ml2scWarning, warn
from ml2sc.frontend.data import Samples, by_column
from ml2sc.frontend.truth import Truth
from ml2sc.ir import wad
from ml2sc.ir.analysis import prove_intervals, saturated_samples
from ml2sc.ir.batch import Batch
from ml2sc.ir.confidence import lower_confidence
from ml2sc.ir.evaluate import Each, evaluate_floats, one_of
from ml2sc.ir.fit import Fit
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.ops.base import OPS, Bounds, op_of
from ml2sc.ir.ops.linear import LinearOp
from ml2sc.ir.program import MASK, to_signed
from ml2sc.ir.types import Array, DType
from ml2sc.passes.measure import Answer, Measured, answers, measure, spread_out
from ml2sc.passes.precision import WIDEST, Binary, Integer, Layered, Precision
from ml2sc.passes.quantize import quantize
from ml2sc.passes.samples import Sample, run_together
from ml2sc.verdict import POOR

MOST = 1000
"""Samples that the report looks at, evenly from all of them."""
PERCENTILES = (50, 90, 99)

_POOR_RATIO = 20.0
"""Signal-to-noise ratio of an output, in decibels, below which a result is called poor."""
_COARSE = 4
"""Steps of its scale that an element of an input must at least go through for the scale to suit it."""
_UNLIKE = 16
"""How many times larger than that another element's are where elements are of different size."""


@dataclass
class _Power:
    """Sums of squares of one tensor's values over the samples.

    Attributes:
        signal: Of the model's values.
        noise: Of their difference from what the integers stand for.
        added: Of what the operator itself adds to that: the difference from the same operator on the rounded inputs.
        count: Values.
        clamped: Values that saturated.
    """

    signal: float = 0.0
    noise: float = 0.0
    added: float = 0.0
    count: int = 0
    clamped: int = 0

    @property
    def ratio(self) -> float | None:
        """Signal-to-noise ratio in decibels; None where there is no noise, or no signal."""
        return 10 * math.log10(self.signal / self.noise) if self.signal and self.noise else None


@dataclass
class _Tally:
    errors: list[Array] = field(default_factory=list)
    differing: list[dict[str, int]] = field(default_factory=list)
    saturated: int = 0
    tensors: dict[str, _Power] = field(default_factory=dict)
    inputs: dict[str, Bounds] = field(default_factory=dict)
    right: int = 0
    model_right: int = 0
    fit: Fit = field(default_factory=Fit)
    label_fit: Fit = field(default_factory=Fit)
    model_label_fit: Fit = field(default_factory=Fit)
    columns: dict[str, Array] = field(default_factory=dict)

    def judge(self, outcome: wad.Outcome, outputs: Array, label: int | None, truth: Truth, index: int) -> None:
        """Compare a sample's answers with the model's, and both with the truth.

        Args:
            outcome: The contract's.
            outputs: The model's outputs.
            label: The model's decision as a word.
            truth: The right answers.
            index: The sample's number.
        """
        if truth.labels is not None and outcome.decision is not None and label is not None:
            self.right += to_signed(outcome.decision) == truth.labels[index]
            self.model_right += to_signed(label) == truth.labels[index]
        target = truth.target(index)
        if outcome.decision is None or target:
            estimates, theirs = outcome.outputs, wad.to_wad(outputs.tolist())
            self.fit.add(estimates, theirs)
            if target:
                wanted = wad.to_wad(target)
                self.label_fit.add(estimates, wanted)
                self.model_label_fit.add(theirs, wanted)

    def outside(self, quantized: Graph, sample: Sample) -> dict[str, int]:
        """Count a sample's values outside their ranges, and note in which elements they are."""
        found = {}
        for name, x in sample.items():
            lo, hi = quantized.range_of(name)
            beyond = (x < lo) | (x > hi)
            if beyond.any():
                found[name] = int(beyond.sum())
                self.columns[name] = self.columns.get(name, np.zeros(x.shape, dtype=np.int64)) + beyond
        return found

    def widen(self, sample: Sample) -> None:
        """Note the least and the greatest value of every element of the inputs."""
        for name, x in sample.items():
            lo, hi = self.inputs.get(name, (x, x))
            self.inputs[name] = Bounds(np.minimum(lo, x), np.maximum(hi, x))


def assess(
    reference: Graph,
    source: Graph,
    quantized: Graph,
    samples: Sequence[Sample],
    methods: Mapping[str, str],
    precision: Precision | None,
    *,
    chosen: bool = False,
) -> dict[str, Any]:
    """Return the manifest's entry `calibration`.

    Args:
        reference: The model.
        source: The float graph that was quantised; it makes the model's decision.
        quantized: What became of it.
        samples: All calibration samples.
        methods: By which method ranges of tensors were chosen.
        precision: What it was quantised to; None: the model's own formats, which nobody can change.
        chosen: Whether it was chosen for what it reaches on these samples: then it needs no advice.
    """
    looked_at = spread_out(range(len(samples)), MOST)
    tally, truth = _Tally(), _truth(samples, quantized)
    wanted = answers(reference, (samples[i] for i in looked_at), quantized.outputs)
    compared = _compared(source, quantized, samples, looked_at, tally.tensors)
    for index, answer, (outcome, clamped, decision) in zip(looked_at, wanted, compared, strict=True):
        label = None if decision is None else int(decision.ravel()[0]) & MASK
        tally.errors.append(np.abs(np.array(outcome.outputs, dtype=np.float64) / wad.WAD - answer.outputs))
        tally.saturated += bool(clamped)
        tally.widen(samples[index])
        tally.judge(outcome, answer.outputs, label, truth, index)
        if outcome.decision is not None and label is not None and outcome.decision != label:
            found = {"contract": to_signed(outcome.decision), "model": to_signed(label)}
            tally.differing.append({"sample": index, **found})
        for name, count in (clamped | tally.outside(quantized, samples[index])).items():
            if name in tally.tensors:
                tally.tensors[name].clamped += count
    total, kept = len(looked_at), len(looked_at) - len(tally.differing)
    every = np.concatenate(tally.errors)
    layers = list(_layers(quantized, tally.tensors, methods))
    decides = quantized.decision is not None
    advice = None
    poor = (decides and kept < POOR * total) or _worst_ratio(layers, quantized.outputs) < _POOR_RATIO
    if poor and not chosen:
        advice = _advice(quantized, layers, tally.inputs, precision, _remedy(source, quantized, samples, precision))
    return {
        "samples": len(samples),
        "assessed": total,
        "max_abs_error": float(every.max(initial=0.0)),
        "mean_abs_error": float(every.mean()) if every.size else 0.0,
        "error_percentiles": {str(p): float(np.percentile(every, p, method="higher")) for p in PERCENTILES}
        if every.size
        else {},
        "saturated_samples": tally.saturated,
        "outside": by_column(tally.columns),
        "decision_agreement": kept / total if decides else None,
        "agreement_lower_bound": lower_confidence(kept, total) if decides else None,
        "differing": tally.differing,
        "accuracy": None if truth.labels is None else tally.right / total,
        "model_accuracy": None if truth.labels is None else tally.model_right / total,
        "r2": tally.fit.r2,
        "label_r2": tally.label_fit.r2,
        "model_label_r2": tally.model_label_fit.r2,
        "layers": layers,
        "advice": advice,
    }


def accuracy_on(samples: Sequence[Sample] | None, quantized: Graph) -> float | None:
    """Return the share of a quantised graph's decisions that are the labels, on the samples that `assess` looks at.

    Args:
        samples: All calibration samples; None: there are none.
        quantized: The graph.
    """
    truth = Truth() if samples is None else _truth(samples, quantized, silent=True)
    if samples is None or truth.labels is None:
        return None
    chosen = spread_out(range(len(samples)), MOST)
    answers = (answer for found in _integers(quantized, samples, chosen) for answer in wad.outcomes(quantized, found))
    right = (to_signed(a.decision or 0) == truth.labels[i] for i, a in zip(chosen, answers, strict=True))
    return sum(map(bool, right)) / len(chosen)


def _integers(quantized: Graph, samples: Sequence[Sample], chosen: Sequence[int]) -> Iterator[dict[str, Array]]:
    """Iterate over the integers of all tensors for some samples, some of them at a time: they are the first axis."""
    names = [*quantized.inputs, *(name for node in quantized for name in node.outputs if name)]
    together = run_together(quantized)
    for first in range(0, len(chosen), together):
        yield Batch([samples[index] for index in chosen[first : first + together]]).values(quantized, names)


def _truth(samples: Sequence[Sample], quantized: Graph, *, silent: bool = False) -> Truth:
    """Return the samples' labels; those that cannot be the model's are left out with a warning."""
    try:
        return Truth.of(samples, quantized) if isinstance(samples, Samples) else Truth()
    except DataError as error:
        if not silent:
            warn(f"no accuracy is stated: {error.message} ({error.hint})", Ml2scWarning)
        return Truth()


def _compared(
    source: Graph, quantized: Graph, samples: Sequence[Sample], chosen: Sequence[int], powers: dict[str, _Power]
) -> Iterator[tuple[wad.Outcome, dict[str, int], Array | None]]:
    """Add up how far the integers of some samples are from the model, and iterate over the samples.

    Yields:
        What the contract answers, how many values each Requantize clamped, and the model's decision.
    """
    numbers = iter(chosen)
    for found in _integers(quantized, samples, chosen):
        answers = wad.outcomes(quantized, found)
        reals = evaluate_floats(source, [samples[index] for index in itertools.islice(numbers, len(answers))])
        _add(powers, source, quantized, found, reals)
        for index, (answer, clamped) in enumerate(zip(answers, saturated_samples(quantized, found), strict=True)):
            yield answer, clamped, None if source.decision is None else one_of(reals[source.decision], index)


def _add(
    powers: dict[str, _Power], source: Graph, quantized: Graph, found: Mapping[str, Array], reals: Mapping[str, Each]
) -> None:
    """Add some samples.

    Args:
        powers: The sums by tensor.
        source: The float graph.
        quantized: The quantised one.
        found: Its integers: the samples are the first axis.
        reals: What the float graph computes for the same samples.
    """
    known = dict[str, Array]()

    def real(name: str) -> Array:
        """Return the reals that a tensor's integers stand for."""
        if name not in known:
            known[name] = np.asarray(quantized.tensor(name).format.dequantize(found[name]), order="C")
        return known[name]

    for name, integers in found.items():
        node = quantized.producer(name)
        meant = node.inputs[0] if node is not None and node.op_type == "Requantize" else name
        exact = reals.get(meant)
        if exact is None or one_of(exact, 0).shape != integers.shape[1:]:
            continue
        if source.tensor(meant).type is not DType.FLOAT:
            continue
        power, error = powers.setdefault(name, _Power()), _differences(real(name), exact)
        alone = error if node is None else _alone(quantized, node, real)
        for signal, noise, added in zip(_squares(exact), _squares(error), _squares(alone), strict=True):
            power.signal += signal
            power.noise += noise
            power.added += added
        power.count += integers.size


def _differences(values: Array, others: Each) -> Each:
    if isinstance(others, list):
        return [value - other for value, other in zip(values, others, strict=True)]
    return np.asarray(values - others)


def _squares(each: Each) -> list[float]:
    """Return the sum of squares of each sample's values, added in the order in which they lie in memory."""
    if isinstance(each, list) or not each.flags.c_contiguous:
        return [float((one * one).sum()) for one in each]
    rows = each.reshape(len(each), -1)
    sums: list[float] = (rows * rows).sum(axis=1).tolist()
    return sums


def _alone(quantized: Graph, node: Node, real: Callable[[str], Array]) -> Array:
    """Return what a layer or a Requantize adds to the error by itself, by sample; zeros for other operators."""
    result = real(node.output)
    if node.op_type == "Requantize":
        return np.asarray(result - real(node.inputs[0]))
    op = op_of(node)
    if not isinstance(op, LinearOp):
        return np.zeros(result.shape)
    weights, *bias = (quantized.tensor(name).real for name in node.inputs[1:])
    assert weights is not None
    x = real(node.inputs[0])
    rows = x[:, None] if x.ndim == 2 else x  # of vectors side by side numpy adds the products up in another order
    return np.asarray(result - op.apply(node, rows, weights, bias[0] if bias else None).reshape(result.shape))


def _layers(quantized: Graph, powers: Mapping[str, _Power], methods: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for name, power in powers.items():
        tensor, node = quantized.tensor(name), quantized.producer(name)
        meant = node.inputs[0] if node is not None and node.op_type == "Requantize" else name
        yield {
            "tensor": name,
            "operator": "input" if node is None else node.op_type,
            "origin": list(node.origin) if node is not None else [],
            "format": f"{'int' if tensor.format.signed else 'uint'}{tensor.format.bits}",
            "scale": float(tensor.format.scale),
            "range": "by element" if name in quantized.scalings else methods.get(meant),
            "values": power.count,
            "saturated": power.clamped,
            "error": math.sqrt(power.noise / power.count) if power.count else 0.0,
            "added": math.sqrt(power.added / power.count) if power.count else 0.0,
            "signal_to_noise": power.ratio,
        }


def _worst_ratio(layers: Sequence[Mapping[str, Any]], outputs: Sequence[str]) -> float:
    ratios = [layer["signal_to_noise"] for layer in layers if layer["tensor"] in outputs]
    return min((r for r in ratios if r is not None), default=math.inf)


class _Remedy(NamedTuple):
    """A precision that gives better answers, and whether it is more bits of weights, of activations or of both."""

    text: str
    weights: bool
    activations: bool


def _remedy(source: Graph, quantized: Graph, samples: Sequence[Sample], precision: Precision | None) -> _Remedy | None:
    """Try wider formats on some of the samples, until decisions are kept; the first that does as well as the widest."""
    if precision is None:
        return None
    graph, probe = source.copy(), spread_out(samples)
    for node in list(graph):  # what was corrected were the roundings of another format
        graph.replace_node(node, attrs={k: v for k, v in node.attrs.items() if k != "correction"})
    asked = list(zip(probe, answers(graph, probe), strict=True))
    present, tried = measure(quantized, asked), list[tuple[Precision, Measured]]()
    narrow = wide = precision.widest if isinstance(precision, Layered) else precision
    while not tried or tried[-1][1].kept < POOR * len(asked):
        wider = [p for p in _wider(wide) if p != wide]
        if not wider:
            break
        wide = wider[-1]
        tried = [(p, found) for p in wider if (found := _tried(graph, p, asked)) is not None]
    if not tried:
        return None
    lost, square = tried[-1][1].badness
    # twice the widest's error is about as well
    best, found = next(t for t in tried if t[1].badness[0] <= lost and t[1].square <= 4 * square)
    if found.badness[0] >= present.badness[0] and 4 * found.square > present.square:
        return None
    gain = f"errors up to {found.largest:.3g}, here {present.largest:.3g}"
    if quantized.decision is not None:
        gain = f"{found.kept} of {found.samples} decisions kept, here {present.kept}; {gain}"
    text = f"try --precision {best} (on some of the samples {gain})"
    if isinstance(best, Integer) and isinstance(narrow, Integer):
        return _Remedy(text, best.weight_bits > narrow.weight_bits, best.activation_bits > narrow.activation_bits)
    return _Remedy(text, weights=True, activations=True)


def _tried(graph: Graph, precision: Precision, asked: Sequence[tuple[Sample, Answer]]) -> Measured | None:
    try:
        quantized = quantize(graph, precision)
        prove_intervals(quantized)
        wad.output_error_bound(quantized)
    except Ml2scError:
        return None
    return measure(quantized, asked)


def _wider(precision: Integer | Binary) -> list[Integer] | list[Binary]:
    """Return formats of more bits, the widest last."""
    if isinstance(precision, Binary):
        return [Binary(precision.integer_bits, min(precision.fraction_bits + 8, WIDEST - 1 - precision.integer_bits))]
    weights, activations = (min(max(2 * b, 8), 32) for b in (precision.weight_bits, precision.activation_bits))
    return [
        Integer(weights, precision.activation_bits),
        Integer(precision.weight_bits, activations),
        Integer(weights, activations),
    ]


def _advice(
    quantized: Graph,
    layers: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, Bounds],
    precision: Precision | None,
    remedy: _Remedy | None,
) -> str | None:
    """Say where a poor result comes from, and what to try."""
    for name, spread in inputs.items():
        lo, hi = quantized.range_of(name)
        half = float(quantized.tensor(name).format.scale) / 2  # less beyond the range is rounded away
        if name not in quantized.scalings and ((spread.lo < lo - half) | (spread.hi > hi + half)).any():
            values = f"{float(spread.lo.min()):g} to {float(spread.hi.max()):g}"
            return f"input {name!r} goes from {values} in the samples: declare that range (--input-range)"
    tries = [] if remedy is None else [remedy.text]
    if remedy is None or remedy.activations:
        for name, spread in inputs.items():
            step = float(quantized.tensor(name).format.scale)
            cause = None if name in quantized.scalings else _unlike(name, spread, step)
            if cause is not None:
                tries = ["scale the inputs alike before the call", *tries]
                return f"{cause}: {', or '.join(tries)}"
    # errors are compared with the values they are added to
    shares = [
        (layer["added"] / layer["error"] * 10 ** (-(layer["signal_to_noise"] or math.inf) / 20), layer)
        for layer in layers
        if layer["error"] and (remedy is None or (remedy.weights if _is_linear(layer) else remedy.activations))
    ]
    if not shares:
        return remedy and remedy.text
    _, layer = max(shares, key=lambda entry: entry[0])
    where = f"{layer['tensor']!r}" + (f" ({', '.join(layer['origin'])})" if layer["origin"] else "")
    if layer["saturated"] > layer["values"] / 100:
        what = "more bits before the point" if isinstance(precision, Binary) else "calibration with more samples"
        return f"{where} saturates on {layer['saturated']:,} of {layer['values']:,} values: it needs {what}"
    what = f"the rounded weights of {where} add" if _is_linear(layer) else f"rounding {where} to {layer['format']} adds"
    return f"{what} most of the error" + "".join(f": {text}" for text in tries)


def _is_linear(layer: Mapping[str, Any]) -> bool:
    return layer["operator"] in OPS and OPS.get(layer["operator"]).linear


def _unlike(name: str, spread: Bounds, step: float) -> str | None:
    """Say so where an input's elements are of so different size that its scale is too coarse for many of them."""
    width = spread.hi - spread.lo
    coarse = int(((width > 0) & (width < _COARSE * step)).sum())
    if 4 * coarse < width.size or width.max() < _UNLIKE * _COARSE * step:
        return None
    few = f"{coarse} of {width.size} elements of input {name!r}"
    return f"{few} move by less than {_COARSE} steps of its scale, {step:.3g}"
