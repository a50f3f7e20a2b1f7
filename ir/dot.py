"""The Graph as a graphviz drawing."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .graph import Graph, Node, Tensor
from .printer import attributes_text, tensor_name, type_text


def to_dot(graph: Graph) -> str:
    """Return the graph in graphviz's language: operators as boxes, shapes and types on the edges.

    Constants are listed in the box of the operator that uses them; ovals are the graph's inputs, outputs and decision.
    """
    return "\n".join([f"digraph {_quote(graph.name)} {{", *(f"  {line}" for line in _lines(graph)), "}"]) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    yield "rankdir=TB;"
    yield 'node [shape=box, fontname="monospace", fontsize=10];'
    yield 'edge [fontname="monospace", fontsize=9];'
    for name in graph.inputs:
        yield f"{_quote(f'input {name}')} [shape=oval, label={_quote(f'input {tensor_name(name)}')}];"
    for node in graph:
        yield f"{_quote(f'node {node.name}')} [label={_quote(_label(graph, node))}];"
        for name in filter(None, node.inputs):
            if not graph.tensor(name).is_constant:
                yield _edge(graph, graph.tensor(name), f"node {node.name}")
    results = [("output", name) for name in graph.outputs]
    if graph.decision is not None:
        results.append(("decision", graph.decision))
    for role, name in results:
        yield f"{_quote(f'{role} {name}')} [shape=oval, label={_quote(f'{role} {tensor_name(name)}')}];"
        yield _edge(graph, graph.tensor(name), f"{role} {name}")


def _label(graph: Graph, node: Node) -> str:
    lines = [f"{node.op_type} @{node.name}"]
    if node.attrs:
        lines.append(attributes_text(node))
    for name in dict.fromkeys(filter(None, node.inputs)):
        tensor = graph.tensor(name)
        if tensor.is_constant:
            lines.append(f"{tensor_name(name)}: {type_text(tensor.type, tensor.shape)}")
    return "\n".join(lines)


def _edge(graph: Graph, tensor: Tensor, target: str) -> str:
    producer = graph.producer(tensor.name)
    source = f"input {tensor.name}" if producer is None else f"node {producer.name}"
    proved = f"\n{tensor.interval}" if tensor.interval is not None else ""
    label = f"{tensor_name(tensor.name)}\n{type_text(tensor.type, tensor.shape)}{proved}"
    return f"{_quote(source)} -> {_quote(target)} [label={_quote(label)}];"


def _quote(text: str) -> str:
    # graphviz reads \n and \" inside quotes, as JSON writes them; other characters stay as they are
    return json.dumps(text, ensure_ascii=False)
