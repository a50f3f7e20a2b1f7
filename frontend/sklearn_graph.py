"""What skl2onnx writes otherwise than scikit-learn computes it, put right in the exported graph."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper


def interpolate(graph: onnx.GraphProto) -> None:
    """Let isotonic calibrations interpolate between their thresholds, as scikit-learn does.

    skl2onnx answers with y of the nearest: ArrayFeatureExtractor(y, ArgMin(Abs(Sub(score, x)))). Here each step between
    two thresholds adds its share of its height: y[0] + Σ (y[k+1] − y[k])·clip((score − x[k])/(x[k+1] − x[k]), 0, 1).
    """
    makers = {name: node for node in graph.node for name in node.output}
    constants = {value.name: value for value in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        found = node.op_type == "ArrayFeatureExtractor" and _above(makers, node.input[1], ("ArgMin", "Abs", "Sub"))
        if not found or not {node.input[0], found.input[1]} <= constants.keys():
            nodes.append(node)
            continue
        (y, _), (score, x), (answer,) = node.input, found.input, node.output
        ends, heights = (numpy_helper.to_array(constants[name]).astype(np.float64) for name in (x, y))
        ends, heights = np.append(ends, ends[-1] + 1), np.append(heights, heights[-1])  # there may be one only
        rises = np.flatnonzero(np.diff(heights))  # what does not rise adds nothing
        rises = rises if rises.size else np.array([len(heights) - 2])
        widths = np.maximum(np.diff(ends), np.spacing(1 + np.abs(ends[1:]).astype(np.float32)))[rises]
        for name, values in (
            ("start", ends[rises]),
            ("slope", 1 / widths),
            ("least", np.zeros(())),
            ("most", np.ones(())),
            ("height", np.diff(heights)[rises, None]),
            ("base", heights[:1]),
        ):
            graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), f"{answer}_{name}"))
        for kind, taken, given in (
            ("Sub", (score, f"{answer}_start"), f"{answer}_distance"),
            ("Mul", (f"{answer}_distance", f"{answer}_slope"), f"{answer}_ratio"),
            ("Clip", (f"{answer}_ratio", f"{answer}_least", f"{answer}_most"), f"{answer}_share"),
            ("MatMul", (f"{answer}_share", f"{answer}_height"), f"{answer}_rise"),
            ("Add", (f"{answer}_rise", f"{answer}_base"), answer),
        ):
            nodes.append(helper.make_node(kind, taken, [given], name=given))
    _replace(graph, nodes)


def decide_by_scores(graph: onnx.GraphProto) -> None:
    """Let an SGDClassifier of several classes decide by its scores, as scikit-learn does.

    skl2onnx decides by what becomes of them, where several may be the greatest: 1 at a score of 1 and above
    (modified_huber), or what no float tells from 1 (log_loss).
    """
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        for kinds in _OF_SCORES if node.op_type == "ArgMax" else ():
            if (found := _above(makers, node.input[0], kinds)) is not None:
                node.input[0] = found.input[0]


_OF_SCORES = (("Div", "Add", "Div", "Add", "Clip"), ("Div", "Add", "Reciprocal", "Add", "Exp", "Mul"))
"""What skl2onnx makes probabilities of an SGDClassifier's scores with, the last operator first."""


def _above(makers: Mapping[str, onnx.NodeProto], name: str, kinds: Iterable[str]) -> onnx.NodeProto | None:
    """Return the last of nodes of these kinds that a tensor comes from, each by the first input of the one before."""
    node = None
    for kind in kinds:
        node = makers.get(name)
        if node is None or node.op_type != kind:
            return None
        name = node.input[0]
    return node


def _replace(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Give a graph other nodes, but for those that nobody reads."""
    read, kept = {value.name for value in graph.output}, []
    for node in reversed(nodes):
        if read.intersection(node.output):
            read.update(node.input)
            kept.append(copy.deepcopy(node))
    constants = [copy.deepcopy(value) for value in graph.initializer if value.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)


def renumber(graph: onnx.GraphProto) -> None:
    """Number the names of a graph's nodes and tensors anew, as they come, those of its subgraphs included.

    skl2onnx counts some in all conversions of a process, and puts addresses of objects into others. Names without a
    number stay, and so do those of inputs and outputs.
    """
    names: dict[str, str] = {value.name: value.name for value in (*graph.input, *graph.output)}
    taken = set(names)

    def named(name: str) -> str:
        if name not in names:
            stem = _NUMBER.sub("", name)
            candidates = (f"{stem}{number}" for number in itertools.count(1))
            names[name] = next(new for new in candidates if new not in taken) if stem != name else name
            taken.add(names[name])
        return names[name]

    def visit(part: onnx.GraphProto) -> None:
        for node in part.node:
            if node.name:
                node.name = named(node.name)
            node.input[:] = map(named, node.input)
            node.output[:] = map(named, node.output)
            for attribute in node.attribute:
                for inner in (*attribute.graphs, *((attribute.g,) if attribute.HasField("g") else ())):
                    visit(inner)
        for value in (*part.input, *part.output, *part.initializer, *part.value_info):
            value.name = named(value.name)

    visit(graph)


_NUMBER = re.compile(r"\d+")
