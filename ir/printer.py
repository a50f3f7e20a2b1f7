"""The Graph's text form, which `parser.py` reads back.

One line a tensor or node; what a long constant holds comes last, so that the operators can be read at a glance::

    graph "tiny"
    input %x: float[1,2]
    range %x [0.0, 1.0]
    const %W: float[2,3]
    const %b: float[3] = [0.5, 0.0, -1.0]

    %h: float[1,3] = Gemm(%x, %W, %b) {alpha=1.0} @fc1 from ("/fc1/Gemm")
    %y: float[1,3] = Relu(%h) @relu from ("/Relu")

    output %y
    observed %y [0.0, 2.5]

    data %W = [
      1.0, 2.0, …
    ]

A name that is not plain is a JSON string (`%"my tensor"`); an optional tensor left out is `_`; a fixed-point tensor
shows its format and its proved interval (`%h: s16*1/1024+3[1,3] in [-300, 300]`). An input whose elements have ranges
of their own shows their ends (`lows %x = [...]`, `highs %x = [...]`); its format is that of u, 0 to 1.
Floats are written so that they read
back exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import numpy as np

from .graph import AttrValue, Graph, Node, Tensor
from .types import Array, DType, TensorType

PLAIN = re.compile(r"[A-Za-z0-9_./-]+", re.ASCII)
"""Names of tensors and nodes that need no quotes."""

WORD = re.compile(r"(?!(?:inf|nan|_)\Z)[A-Za-z_]\w*", re.ASCII)
"""Operators and attributes that need no quotes."""

INLINE = 8
"""Constants of at most so many elements are written where they are declared."""

WIDTH = 118


def print_graph(graph: Graph) -> str:
    """Return the whole graph as text; the same graph always gives the same text."""
    sections = [_declarations(graph), (_node(graph, node) for node in graph), _results(graph)]
    texts = ["\n".join(lines) for lines in (*sections, _data(graph))]
    return "\n\n".join(text for text in texts if text) + "\n"


def tensor_name(name: str) -> str:
    """Return a tensor's name as the text form writes it: `%x`, `%"odd name"`, or `_` for none."""
    return "_" if not name else f"%{name}" if PLAIN.fullmatch(name) else f"%{json.dumps(name)}"


def type_text(type_: TensorType, shape: tuple[int, ...]) -> str:
    """Return type and shape as the text form writes them: `float[1,32]`, `s16*1/1024[1,32]`."""
    base = type_.value if isinstance(type_, DType) else str(type_)
    return f"{base}[{','.join(map(str, shape))}]"


def attribute_text(value: AttrValue) -> str:
    """Return an attribute's value as the text form writes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(attribute_text(v) for v in value)}]"
    if isinstance(value, str):
        return json.dumps(value)
    return repr(float(value)) if isinstance(value, float) else str(int(value))


def attributes_text(node: Node) -> str:
    """Return the attributes of a node as the text form writes them, without braces."""
    return ", ".join(f"{_word(key)}={attribute_text(value)}" for key, value in node.attrs.items())


def _word(text: str) -> str:
    return text if WORD.fullmatch(text) else json.dumps(text)


def _declarations(graph: Graph) -> Iterator[str]:
    yield f"graph {json.dumps(graph.name)}"
    for name in graph.inputs:
        yield f"input {_tensor(graph.tensor(name))}"
    for name, (lo, hi) in graph.input_ranges.items():
        yield f"range {tensor_name(name)} [{lo!r}, {hi!r}]"
    for tensor in graph.tensors.values():
        if tensor.name not in graph.inputs and graph.producer(tensor.name) is None:
            value = (
                f" = [{', '.join(_elements(tensor.data))}]" if tensor.data is not None and tensor.size <= INLINE else ""
            )
            yield f"{'const' if tensor.is_constant else 'tensor'} {_tensor(tensor)}{value}"


def _tensor(tensor: Tensor) -> str:
    proved = f" in {tensor.interval}" if tensor.interval is not None else ""
    return f"{tensor_name(tensor.name)}: {type_text(tensor.type, tensor.shape)}{proved}"


def _node(graph: Graph, node: Node) -> str:
    outputs = ", ".join(_tensor(graph.tensor(name)) if name else "_" for name in node.outputs)
    text = f"{outputs} = {_word(node.op_type)}({', '.join(map(tensor_name, node.inputs))})"
    if node.attrs:
        text += f" {{{attributes_text(node)}}}"
    text += f" @{node.name}" if PLAIN.fullmatch(node.name) else f" @{json.dumps(node.name)}"
    if node.origin:
        text += f" from ({', '.join(json.dumps(name) for name in node.origin)})"
    return text


def _results(graph: Graph) -> Iterator[str]:
    if graph.outputs:
        yield f"output {', '.join(map(tensor_name, graph.outputs))}"
    if graph.decision is not None:
        yield f"decision {tensor_name(graph.decision)}"
    for name, (lo, hi) in graph.observed.items():
        yield f"observed {tensor_name(name)} [{lo!r}, {hi!r}]"


def _data(graph: Graph) -> Iterator[str]:
    for tensor in graph.tensors.values():
        shown = tensor.size <= INLINE and tensor.name not in graph.inputs and graph.producer(tensor.name) is None
        if tensor.data is not None and not shown:
            yield from _block("data", tensor.name, tensor.data)
        if tensor.real is not None:
            yield from _block("real", tensor.name, tensor.real)
        if tensor.name in graph.scalings:
            yield from _block("lows", tensor.name, graph.scalings[tensor.name].lo)
            yield from _block("highs", tensor.name, graph.scalings[tensor.name].hi)


def _block(keyword: str, name: str, array: Array) -> Iterator[str]:
    """Write a flat, row-major list over lines of at most WIDTH characters."""
    yield f"{keyword} {tensor_name(name)} = ["
    line = " "
    for element in _elements(array):
        if len(line) + len(element) + 2 > WIDTH and line != " ":
            yield line
            line = " "
        line += f" {element},"
    if line != " ":
        yield line.removesuffix(",")
    yield "]"


def _elements(array: Array) -> list[str]:
    values = np.asarray(array).ravel().tolist()
    return [repr(v) if isinstance(v, float) else str(int(v)) for v in values]
