"""How a pass is tested: text before, text after, and the same numbers from both."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable

import numpy as np
import pytest

from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.printer import print_graph
from ml2sc.ir.verify import verify
from ml2sc.passes.manager import Pass

Rewrite = Callable[..., Graph]


def _rewrite(pass_: Pass, before: str, after: str | None = None) -> Graph:
    """Run a pass over `before` and return the graph.

    Args:
        pass_: The pass.
        before: A float graph as text.
        after: What it must become; None if nothing may change.
    """
    graph = parse_graph(textwrap.dedent(before))
    verify(graph)
    unchanged = print_graph(graph)
    rng = np.random.default_rng(7)
    samples = [{n: rng.normal(size=graph.tensor(n).shape) * 3 for n in graph.inputs} for _ in range(5)]
    wanted, outputs = [evaluate_float(graph, sample) for sample in samples], list(graph.outputs)

    changed = pass_.run(graph)

    verify(graph)
    found = _without_slack(print_graph(graph))
    assert found == (unchanged if after is None else print_graph(parse_graph(textwrap.dedent(after))))
    assert changed == (found != unchanged)
    for sample, values in zip(samples, wanted, strict=True):
        got = evaluate_float(graph, sample)
        for name in outputs:
            np.testing.assert_allclose(got[name], values[name], rtol=1e-9, atol=1e-12)
    assert not pass_.run(graph), "a second run must find nothing to do"
    return graph


@pytest.fixture
def rewrite() -> Rewrite:
    """Return a function that runs a pass and checks its text, its numbers and what it says it did."""
    return _rewrite


def _without_slack(text: str) -> str:
    """Return IR text without the bounds of folding's rounding, which tests of their own look at."""
    return re.sub(r" \{slack=[^,}]+\}|, slack=[^,}]+|slack=[^,}]+, ", "", text)
