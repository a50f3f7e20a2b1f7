"""The graph interpreter on many samples at once, and again and again: of one graph after the other only what is new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from . import wad
from .analysis import evaluate_nodes
from .graph import Graph, Node, Tensor
from .types import Array

_KEPT_BYTES = 1 << 29
"""So much of what was found is kept for the next graph."""


class Batch:
    """Samples on which quantised graphs are evaluated that have much in common, as those of two ranges of a tensor.

    What a node gives is kept for the next graph: there it is computed again only where the node, or what it reads, is
    another.

    Args:
        samples: For each sample the real inputs' arrays, in their shapes.

    Attributes:
        evaluated: How many nodes were evaluated so far.
    """

    def __init__(self, samples: Sequence[Mapping[str, Array]]) -> None:
        self._samples = samples
        self._graph = Graph("")
        self._kept: dict[str, Array] = {}
        self.evaluated = 0

    def values(self, graph: Graph, names: Iterable[str]) -> dict[str, Array]:
        """Return the integers of some tensors, in int64 or as Python ints, the samples being the first axis.

        Args:
            graph: A quantised graph; nothing may change in it afterwards.
            names: The tensors, none of them constant.
        """
        wanted = list(names)
        self._forget(graph)
        found = dict(self._kept)
        needed = self._needed(graph, wanted)
        missing = [name for name in graph.inputs if name in needed and name not in found]
        if missing:
            quantized = wad.quantize_samples(graph, self._samples)
            found.update((name, np.stack([sample[name] for sample in quantized])) for name in missing)
        nodes = [node for node in graph if needed.intersection(node.outputs)]
        self._evaluate(graph, nodes, found, wanted)
        return {name: found[name] for name in wanted}

    def _forget(self, graph: Graph) -> None:
        """Drop what a graph does not have in common with the one before."""
        shared = _Shared(self._graph, graph)
        self._kept = {name: values for name, values in self._kept.items() if name in shared.names}
        self._graph = graph

    def _needed(self, graph: Graph, wanted: Iterable[str]) -> set[str]:
        """Return the tensors that must be computed for others: as far back as nothing is kept."""
        needed: set[str] = set()
        rest = [name for name in wanted if name not in self._kept]
        while rest:
            name = rest.pop()
            if name in needed or name in self._kept or graph.tensor(name).is_constant:
                continue
            needed.add(name)
            node = graph.producer(name)
            rest += [] if node is None else filter(None, node.inputs)
        return needed

    def _evaluate(self, graph: Graph, nodes: Sequence[Node], found: dict[str, Array], wanted: Sequence[str]) -> None:
        """Add what nodes give to what is found; keep as much of it as there is room for."""
        uses = Counter(name for node in nodes for name in set(node.inputs))
        uses.update(wanted)
        for node in nodes:
            evaluate_nodes(graph, [node], found)
            uses.subtract(set(node.inputs))
            self._keep(found)
            for name in found.keys() - self._kept.keys():
                if not uses[name]:
                    del found[name]
        self.evaluated += len(nodes)

    def _keep(self, found: Mapping[str, Array]) -> None:
        room = _KEPT_BYTES - sum(values.nbytes for values in self._kept.values())
        for name in found.keys() - self._kept.keys():
            if found[name].nbytes <= room:
                self._kept[name] = found[name]
                room -= found[name].nbytes


class _Shared:
    """What two quantised graphs have in common.

    Args:
        old: The one.
        new: The other.
    """

    def __init__(self, old: Graph, new: Graph) -> None:
        self._old, self._new = old, new

    @cached_property
    def names(self) -> set[str]:
        """The tensors that are the same in both, for any inputs."""
        old, new = self._old, self._new
        same = {name for name in new.inputs if name in old.inputs and self._alike(name) and self._read_alike(name)}
        constants = (t.name for t in new.tensors.values() if t.is_constant)
        same.update(name for name in constants if name in old.tensors and self._alike(name))
        for node in new:
            before = old.node(node.name) if old.has_node(node.name) else None
            if before is not None and _does_the_same(before, node) and same.issuperset(filter(None, node.inputs)):
                outputs = [name for name in node.outputs if name]
                same.update(outputs if all(map(self._alike, outputs)) else ())
        return same

    def _alike(self, name: str) -> bool:
        a, b = self._old.tensor(name), self._new.tensor(name)
        return (a.shape, a.type, a.interval) == (b.shape, b.type, b.interval) and _same_data(a, b)

    def _read_alike(self, name: str) -> bool:
        """Whether an input's reals become the same integers."""
        old, new = self._old, self._new
        return old.scalings.get(name) is new.scalings.get(name) and old.ladders.get(name) is new.ladders.get(name)


def _same_data(a: Tensor, b: Tensor) -> bool:
    if a.data is None or b.data is None:
        return a.data is b.data
    return a.data is b.data or np.array_equal(a.data, b.data)


def _does_the_same(a: Node, b: Node) -> bool:
    return (a.op_type, a.inputs, a.outputs, a.attrs) == (b.op_type, b.inputs, b.outputs, b.attrs)
