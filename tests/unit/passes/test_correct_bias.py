"""IR text before and after, and what a correction does to the integers' mean error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest

from ml2sc.errors import UsageError
from ml2sc.ir import wad
from ml2sc.ir.analysis import evaluate_exact, evaluate_nodes, prove_intervals
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.printer import print_graph
from ml2sc.ir.types import Array
from ml2sc.passes.correct_bias import CorrectBias
from ml2sc.passes.precision import Integer
from ml2sc.passes.quantize import quantize

# of two bits: the weights become 1, 0 and 0
BEFORE = """
graph "one"
input %x: float[1,3]
range %x [0.0, 1.0]
const %W: float[3,1] = [1.0, 0.25, 0.25]

%y: float[1,1] = MatMul(%x, %W) @fc

output %y
"""
SAMPLES = [{"x": np.array([[1.0, a, 1.0]])} for a in np.linspace(0, 1, 17).tolist()]


def mean_error(graph: Graph) -> float:
    quantized = quantize(graph, Integer(2, 8))
    prove_intervals(quantized)
    errors = []
    for sample in SAMPLES:
        q = evaluate_exact(quantized, wad.quantize_inputs(quantized, sample))["y"]
        errors.append(quantized.tensor("y").format.dequantize(q) - evaluate_float(graph, sample)["y"])
    return abs(float(np.mean(errors)))


def test_the_mean_error_goes_into_the_bias() -> None:
    graph = parse_graph(BEFORE)
    plain = mean_error(graph)
    assert CorrectBias("w2a8", SAMPLES).run(graph)
    assert print_graph(graph).strip() == BEFORE.replace("@fc", "{correction=[0.375]} @fc").strip()
    assert plain == pytest.approx(0.375)
    assert mean_error(graph) < 0.003


def test_the_bound_counts_a_correction() -> None:
    graph = parse_graph(BEFORE)
    CorrectBias("w2a8", SAMPLES).run(graph)
    quantized = quantize(graph, Integer(2, 8))
    for corner in np.ndindex(2, 2, 2):
        sample = {"x": np.array([corner], dtype=float)}
        q = evaluate_exact(quantized, wad.quantize_inputs(quantized, sample))["y"]
        error = quantized.tensor("y").format.dequantize(q) - evaluate_float(graph, sample)["y"]
        assert float(np.abs(error).max()) <= quantized.errors["y"]
    assert quantized.errors["y"] == pytest.approx(0.375, abs=0.01)


def test_later_layers_know_of_earlier_corrections() -> None:
    text = BEFORE.replace("%y: float[1,1] = MatMul", "%h: float[1,1] = MatMul")
    text = text.replace("const %W", "const %V: float[1,1] = [1.0]\nconst %W")
    graph = parse_graph(text.replace("\noutput", "%y: float[1,1] = MatMul(%h, %V) @last\n\noutput"))
    assert CorrectBias("w2a8", SAMPLES).run(graph)
    correction = graph.node("last").attrs.get("correction", (0.0,))
    assert isinstance(correction, tuple)
    assert abs(float(str(correction[0]))) < 0.01, "the first layer's correction leaves nothing to correct"


def test_nothing_to_correct() -> None:
    graph = parse_graph(BEFORE)
    assert not CorrectBias("w2a8", SAMPLES[:15]).run(graph), "too few samples"
    with pytest.raises(UsageError, match="needs a precision"):
        CorrectBias("auto", SAMPLES).run(graph)


def test_means_that_are_known_are_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    means: dict[str, Array] = {}
    first, second = parse_graph(BEFORE), parse_graph(BEFORE)
    CorrectBias("w2a8", SAMPLES, means).run(first)
    np.testing.assert_allclose(means["x"], [[1.0, 0.5, 1.0]])
    monkeypatch.delattr("ml2sc.passes.correct_bias.real_values")
    CorrectBias("w2a8", SAMPLES, means).run(second)
    assert print_graph(second) == print_graph(first)


def test_corrections_that_are_known_are_not_measured_again() -> None:
    first, second = parse_graph(BEFORE), parse_graph(BEFORE)
    once = CorrectBias("w2a8", SAMPLES)
    assert once.run(first)
    assert CorrectBias("w2a8", (), corrections=once.corrections).run(second) is False, "too few samples to know better"
    assert CorrectBias("w2a8", SAMPLES, corrections=once.corrections).run(second)
    assert print_graph(second) == print_graph(first)


def test_each_layer_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many layers there are: work grows with their number, not with its square."""
    evaluated: Counter[str] = Counter()

    def counted(graph: Graph, nodes: Iterable[Node], found: dict[str, Array]) -> None:
        these = list(nodes)
        evaluated.update(node.name for node in these)
        evaluate_nodes(graph, these, found)

    monkeypatch.setattr("ml2sc.ir.batch.evaluate_nodes", counted)
    steps = [f"%h{i + 1}: float[1,1] = MatMul(%h{i}, %V) @fc{i + 1}" for i in range(5)]
    text = BEFORE.replace("%y: float[1,1] = MatMul", "%h0: float[1,1] = MatMul")
    text = text.replace("const %W", "const %V: float[1,1] = [1.0]\nconst %W")
    graph = parse_graph(text.replace("\noutput %y", "\n".join([*steps, "", "output %h5"])))
    assert CorrectBias("w2a8", SAMPLES).run(graph)
    assert {f"fc{i + 1}" for i in range(4)} < evaluated.keys()
    assert set(evaluated.values()) == {1}
