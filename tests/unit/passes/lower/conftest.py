"""Quantised graphs lowered and run by the Program interpreter."""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from support import heavy

from ml2sc.ir import wad
from ml2sc.ir.analysis import prove_intervals
from ml2sc.ir.graph import Graph
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.program import Program
from ml2sc.ir.program_printer import print_program
from ml2sc.ir.program_verify import verify_program
from ml2sc.ir.types import Array
from ml2sc.ir.verify import verify
from ml2sc.passes.lower import PlanOptions, lower
from ml2sc.passes.precision import Precision
from ml2sc.passes.quantize import quantize

Agree = Callable[..., Program]
Quantised = Callable[[str, Precision], Graph]


def random_inputs(graph: Graph, count: int, seed: int) -> list[dict[str, Array]]:
    """Return integers q of the inputs: the ends of their intervals, and any between."""
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(count):
        sample = {}
        for name in graph.inputs:
            tensor = graph.tensor(name)
            assert tensor.interval is not None
            lo, hi = tensor.interval.lo, tensor.interval.hi
            draws = [lo + int(u * (1 << 62)) * (hi - lo) // (1 << 62) for u in rng.random(tensor.size)]
            ends = [(lo, hi)[int(e)] for e in rng.integers(0, 2, tensor.size)]
            zeros = min(max(tensor.format.zero_point, lo), hi)
            pick = rng.integers(0, 3, tensor.size) if i > 3 else np.full(tensor.size, i % 3)
            sample[name] = np.array(
                [(d, e, zeros)[p] for d, e, p in zip(draws, ends, pick, strict=True)], dtype=object
            ).reshape(tensor.shape)
        samples.append(sample)
    return samples


def _agree(
    graph: Graph,
    options: PlanOptions | None = None,
    *,
    samples: Sequence[Mapping[str, Array]] | None = None,
    seed: int = 0,
) -> Program:
    verify(graph)
    program = lower(graph, options)
    if heavy.EVERYTHING or zlib.crc32(print_program(program).encode()) % 3 == 0:
        verify_program(program, graph)  # it takes longer than all the rest
    interpreter = Interpreter(program)
    for q in samples or random_inputs(graph, 12, seed):
        assert interpreter.run(wad.pack(graph, q)) == wad.run_graph(graph, q)
    return program


@pytest.fixture
def agree() -> Agree:
    """Return a function that lowers a quantised graph and demands the graph interpreter's integers of the Program."""
    return _agree


@pytest.fixture
def quantised() -> Quantised:
    """Return a function that reads a float graph and quantises it."""

    def read(text: str, precision: Precision) -> Graph:
        graph = quantize(parse_graph(textwrap.dedent(text)), precision)
        prove_intervals(graph)
        return graph

    return read
