"""How good a quantised model is on its calibration data: as a whole, and layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ml2sc.ir import wad
from ml2sc.ir.analysis import evaluate_exact, saturated
from ml2sc.ir.confidence import lower_confidence
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.program import MASK, to_signed
from ml2sc.ir.types import Array, DType
from ml2sc.passes.measure import Sample, answers, spread_out

MOST = 1000
"""Samples that the report looks at, evenly from all of them."""
PERCENTILES = (50, 90, 99)

_POOR_AGREEMENT = 0.99
_POOR_RATIO = 20.0
"""Signal-to-noise ratio of an output, in decibels, below which a result is called poor."""


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


def assess(
    reference: Graph, source: Graph, quantized: Graph, samples: Sequence[Sample], methods: Mapping[str, str]
) -> dict[str, Any]:
    """Return the manifest's entry `calibration`.

    Args:
        reference: The model.
        source: The float graph that was quantised; it makes the model's decision.
        quantized: What became of it.
        samples: All calibration samples.
        methods: By which method ranges of tensors were chosen.
    """
    chosen = spread_out(range(len(samples)), MOST)
    tally = _Tally()
    wanted = answers(reference, (samples[i] for i in chosen), quantized.outputs)
    for index, answer in zip(chosen, wanted, strict=True):
        reals = evaluate_float(source, dict(samples[index]))
        label = None if source.decision is None else int(reals[source.decision].ravel()[0]) & MASK
        values = evaluate_exact(quantized, wad.quantize_inputs(quantized, samples[index]))
        outcome, clamped = wad.outcome(quantized, values), saturated(quantized, values)
        tally.errors.append(np.abs(np.array(outcome.outputs, dtype=np.float64) / wad.WAD - answer.outputs))
        tally.saturated += bool(clamped)
        if outcome.decision is not None and label is not None and outcome.decision != label:
            found = {"contract": to_signed(outcome.decision), "model": to_signed(label)}
            tally.differing.append({"sample": index, **found})
        _add(tally.tensors, source, quantized, values, reals, clamped)
    total, kept = len(chosen), len(chosen) - len(tally.differing)
    every = np.concatenate(tally.errors)
    layers = list(_layers(quantized, tally.tensors, methods))
    decides = quantized.decision is not None
    return {
        "samples": len(samples),
        "assessed": total,
        "max_abs_error": float(every.max(initial=0.0)),
        "mean_abs_error": float(every.mean()) if every.size else 0.0,
        "error_percentiles": {str(p): float(np.percentile(every, p, method="higher")) for p in PERCENTILES}
        if every.size
        else {},
        "saturated_samples": tally.saturated,
        "decision_agreement": kept / total if decides else None,
        "agreement_lower_bound": lower_confidence(kept, total) if decides else None,
        "differing": tally.differing,
        "layers": layers,
        "advice": _advice(layers, kept / total if decides else 1.0, quantized.outputs),
    }


def _add(
    powers: dict[str, _Power],
    source: Graph,
    quantized: Graph,
    values: Mapping[str, Array],
    reals: Mapping[str, Array],
    clamped: Mapping[str, int],
) -> None:
    """Add one sample."""
    rounded: dict[str, Array] = {}

    def stands_for(name: str) -> Array:
        if name not in rounded:
            rounded[name] = quantized.tensor(name).format.dequantize(values[name])
        return rounded[name]

    for name in [*quantized.inputs, *(o for node in quantized for o in node.outputs if o)]:
        node = quantized.producer(name)
        meant = node.inputs[0] if node is not None and node.op_type == "Requantize" else name
        exact = reals.get(meant)
        if exact is None or exact.shape != values[name].shape or source.tensor(meant).type is not DType.FLOAT:
            continue
        power, error = powers.setdefault(name, _Power()), stands_for(name) - exact
        alone = error if node is None else _alone(quantized, node, stands_for)
        power.signal += float((exact * exact).sum())
        power.noise += float((error * error).sum())
        power.added += float((alone * alone).sum())
        power.count += exact.size
        power.clamped += clamped.get(name, 0)


def _alone(quantized: Graph, node: Node, stands_for: Any) -> Array:
    """Return what a layer or a Requantize adds to the error by itself; zeros for other operators."""
    result: Array = stands_for(node.output)
    if node.op_type == "Requantize":
        return np.asarray(result - stands_for(node.inputs[0]))
    if node.op_type not in {"Gemm", "FusedGemm"}:
        return np.zeros(result.shape)
    constants = [quantized.tensor(name).real for name in node.inputs[1:]]
    assert constants[0] is not None
    sums = stands_for(node.inputs[0]) @ constants[0] + (constants[1] if len(constants) > 1 else 0.0)
    return np.asarray(result - (np.maximum(sums, 0) if node.attrs.get("activation") == "Relu" else sums))


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
            "range": methods.get(meant),
            "values": power.count,
            "saturated": power.clamped,
            "error": math.sqrt(power.noise / power.count) if power.count else 0.0,
            "added": math.sqrt(power.added / power.count) if power.count else 0.0,
            "signal_to_noise": power.ratio,
        }


def _advice(layers: Sequence[Mapping[str, Any]], agreement: float, outputs: Sequence[str]) -> str | None:
    """Say which layer makes a poor result poor, and what to try; None where it is not poor."""
    ratios = [layer["signal_to_noise"] for layer in layers if layer["tensor"] in outputs]
    worst = min((r for r in ratios if r is not None), default=math.inf)
    if agreement >= _POOR_AGREEMENT and worst >= _POOR_RATIO:
        return None
    # errors are compared with the values they are added to
    shares = [
        (layer["added"] / layer["error"] * 10 ** (-(layer["signal_to_noise"] or math.inf) / 20), layer)
        for layer in layers
        if layer["error"]
    ]
    if not shares:
        return None
    _, layer = max(shares, key=lambda entry: entry[0])
    where = f"{layer['tensor']!r}" + (f" ({', '.join(layer['origin'])})" if layer["origin"] else "")
    if layer["saturated"] > layer["values"] / 100:
        return f"{where} saturates on {layer['saturated']:,} of {layer['values']:,} values: calibrate with more samples"
    if layer["operator"] in {"Gemm", "FusedGemm"}:
        return f"the rounded weights of {where} add most of the error: give weights more bits (--precision w16a8)"
    return (
        f"rounding {where} to {layer['format']} adds most of the error: give activations more bits (--precision w8a16)"
    )
