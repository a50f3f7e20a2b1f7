"""Tree ensembles: what a node of operator `TreeEnsemble` says, checked, and ready to be walked.

A node of a tree counts how many of its edges, ascending numbers, are less than the feature, and goes on to one child if
that is odd, to another if it is even. One edge t is x > t; two next to each other are x = v. So every comparison that
ONNX knows, and every set of categories, is one form.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import TypeVar

import numpy as np

from ml2sc.errors import UnsupportedModelError

from .graph import AttrValue, Node
from .types import Array

T = TypeVar("T")

MOST_NESTED = 12_000
"""Comparisons that are written out one by one: with more an ensemble would take ten contracts, 50 M gas."""
MOST_NODES = 200_000
"""Nodes and leaves of an ensemble: a contract of so many is far beyond what any chain takes."""


@dataclass(frozen=True, slots=True)
class Fork:
    """An inner node of a tree.

    Attributes:
        feature: Which element of the input it looks at.
        edges: Ascending reals (`Ensemble` of a float graph), or their ranks.
        up: Whether a feature that is missing (NaN) counts as greater than every edge, else as less.
        odd: Where it goes on if the number of edges below the feature is odd: a node's number.
        even: Where else.
    """

    feature: int
    edges: tuple[float, ...]
    up: bool
    odd: int
    even: int

    @classmethod
    def routed(cls, feature: int, edges: tuple[float, ...], odd: int, even: int, *, odd_if_missing: bool) -> Fork:
        """Return a fork that sends a missing feature where it belongs: as one greater than all edges, or less."""
        if len(edges) % 2 == 0 and odd_if_missing:
            edges = (*edges, math.inf)  # which only a missing one exceeds
        return cls(feature, edges, odd_if_missing or len(edges) % 2 == 0, odd, even)

    def imputed(self, value: float) -> Fork:
        """Return the same where a missing feature is taken for a value."""
        edges = tuple(edge for edge in self.edges if edge < math.inf)
        odd = sum(edge < value for edge in edges) % 2 == 1
        return Fork.routed(self.feature, edges, self.odd, self.even, odd_if_missing=odd)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf: what it adds to targets.

    Attributes:
        values: By target, without those it says nothing of.
    """

    values: Mapping[int, float]


TreeNode = Fork | Leaf

_KEPT = 64
"""Nodes whose attributes are remembered as read."""


def _once(read: Callable[[Node], T]) -> Callable[[Node], T]:
    """Return a function that reads a node's attributes, and knows what it read lately."""
    # by the identity of the attributes, which are kept, so that it stays theirs
    known: dict[int, tuple[Mapping[str, AttrValue], T]] = {}

    @wraps(read)
    def remembered(node: Node) -> T:
        found = known.get(id(node.attrs))
        if found is None or found[0] is not node.attrs:
            if len(known) >= _KEPT:
                known.clear()
            found = known[id(node.attrs)] = node.attrs, read(node)
        return found[1]

    return remembered


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Trees and what becomes of their leaves.

    Attributes:
        features: Elements of the input.
        targets: Sums it makes.
        nodes: Forks and leaves of all trees.
        roots: The number of each tree's first node.
        base: What is added to each target's sum (or least, or greatest).
        aggregate: `SUM`, `MIN` or `MAX` of the trees' leaves.
        double: Whether features are compared as float64, else as float32.
    """

    features: int
    targets: int
    nodes: tuple[TreeNode, ...]
    roots: tuple[int, ...]
    base: tuple[float, ...]
    aggregate: str = "SUM"
    double: bool = False

    def check(self, where: str) -> None:
        """Check that its trees are trees (or share nodes), and all of them reached.

        Args:
            where: The ONNX node, for messages.

        Raises:
            UnsupportedModelError: a cycle, an unreachable node, a feature, child or target that there is not.
        """
        count = len(self.nodes)
        if count > MOST_NODES:
            raise UnsupportedModelError(
                f"the ensemble has {count:,} nodes; {MOST_NODES:,} is the most that is read",
                node=where,
                hint="train fewer trees, or shallower ones: each node costs some 3 bytes of a contract at least",
            )
        for number, node in enumerate(self.nodes):
            if isinstance(node, Leaf):
                if any(not 0 <= target < self.targets for target in node.values):
                    raise UnsupportedModelError(f"leaf {number} adds to a target beyond {self.targets}", node=where)
                continue
            if not 0 <= node.feature < self.features:
                raise UnsupportedModelError(
                    f"node {number} looks at feature {node.feature}, and the input has {self.features}", node=where
                )
            if not (0 <= node.odd < count and 0 <= node.even < count):
                raise UnsupportedModelError(f"node {number} has a child that there is not", node=where)
        reached = self._reached(where)
        if len(reached) < count:
            missing = next(number for number in range(count) if number not in reached)
            raise UnsupportedModelError(
                f"node {missing} of the ensemble belongs to no tree: nothing leads to it", node=where
            )

    def _reached(self, where: str) -> set[int]:
        """Return the nodes that some root leads to; depth first, to find cycles."""
        done: set[int] = set()
        open_: set[int] = set()
        stack = [(root, False) for root in reversed(self.roots)]
        while stack:
            number, leaving = stack.pop()
            if leaving:
                open_.discard(number)
                done.add(number)
                continue
            if number in open_:
                raise UnsupportedModelError(f"the trees have a cycle through node {number}", node=where)
            if number in done:
                continue
            node = self.nodes[number]
            if isinstance(node, Leaf):
                done.add(number)
                continue
            open_.add(number)
            stack += [(number, True), (node.odd, False), (node.even, False)]
        return done

    # -- as attributes of a node ------------------------------------------------------------------------------------

    def attributes(self) -> dict[str, AttrValue]:
        """Return what a node's attributes say of it."""
        forks = [node if isinstance(node, Fork) else None for node in self.nodes]
        leaves = [node.values if isinstance(node, Leaf) else {} for node in self.nodes]
        return {
            "aggregate": self.aggregate,
            "base": tuple(self.base),
            "double": int(self.double),
            "edge_counts": tuple(0 if f is None else len(f.edges) for f in forks),
            "edges": tuple(edge for f in forks if f is not None for edge in f.edges),
            "even": tuple(-1 if f is None else f.even for f in forks),
            "feature": tuple(-1 if f is None else f.feature for f in forks),
            "features": self.features,
            "leaf_counts": tuple(map(len, leaves)),
            "leaf_targets": tuple(target for values in leaves for target in values),
            "leaf_values": tuple(value for values in leaves for value in values.values()),
            "odd": tuple(-1 if f is None else f.odd for f in forks),
            "roots": tuple(self.roots),
            "targets": self.targets,
            "up": tuple(0 if f is None else int(f.up) for f in forks),
        }

    @staticmethod
    @_once
    def of(node: Node) -> Ensemble:
        """Read a node's attributes.

        Raises:
            UnsupportedModelError: they say none.
        """
        try:
            found = Ensemble._read(node.attrs)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UnsupportedModelError(f"its attributes say no trees: {error}", node=str(node)) from error
        found.check(str(node))
        return found

    @staticmethod
    @_once
    def ranked(node: Node) -> tuple[Ensemble, tuple[int, ...]]:
        """Read the attributes of a quantised node: its edges are ranks; with them the rank of a missing feature."""
        ensemble, ranks = Ensemble.of(node), iter(map(int, _numbers(node.attrs, "ranks")))
        nodes = tuple(
            dataclasses.replace(n, edges=tuple(next(ranks) for _ in n.edges)) if isinstance(n, Fork) else n
            for n in ensemble.nodes
        )
        return dataclasses.replace(ensemble, nodes=nodes), tuple(map(int, _numbers(node.attrs, "tops")))

    @classmethod
    def _read(cls, attrs: Mapping[str, AttrValue]) -> Ensemble:
        columns = [_numbers(attrs, key) for key in ("feature", "odd", "even", "up", "edge_counts", "leaf_counts")]
        edges, targets, values = (iter(_numbers(attrs, k)) for k in ("edges", "leaf_targets", "leaf_values"))
        nodes: list[TreeNode] = []
        for feature, odd, even, up, edge_count, leaf_count in zip(*columns, strict=True):
            own = tuple(next(edges) for _ in range(int(edge_count)))
            leaf = {int(next(targets)): next(values) for _ in range(int(leaf_count))}
            nodes.append(Leaf(leaf) if feature < 0 else Fork(int(feature), own, bool(up), int(odd), int(even)))
        return cls(
            int(_number(attrs, "features")),
            int(_number(attrs, "targets")),
            tuple(nodes),
            tuple(map(int, _numbers(attrs, "roots"))),
            tuple(_numbers(attrs, "base")),
            str(attrs["aggregate"]),
            bool(_number(attrs, "double")),
        )

    # -- reading ----------------------------------------------------------------------------------------------------

    def walk(self, root: int) -> Iterator[tuple[int, int]]:
        """Iterate over the nodes of a tree with their depths, parents first; a shared node once for each way to it."""
        stack = [(root, 0)]
        while stack:
            number, depth = stack.pop()
            yield number, depth
            node = self.nodes[number]
            if isinstance(node, Fork):
                stack += [(node.odd, depth + 1), (node.even, depth + 1)]

    def comparisons(self, root: int) -> int:
        """Return the forks of a tree, a shared one once for each way to it."""
        return sum(isinstance(self.nodes[number], Fork) for number, _ in self.walk(root))

    def spans(self, root: int) -> list[tuple[float, float]]:
        """Return the least and the greatest that a tree's leaves say of each target (0 where one says nothing)."""
        leaves = [self.nodes[number] for number in self.reached(root)]
        values = [[leaf.values.get(t, 0) for leaf in leaves if isinstance(leaf, Leaf)] for t in range(self.targets)]
        return [(min(own), max(own)) for own in values]

    def reached(self, root: int) -> list[int]:
        """Return the nodes of a tree, each once, in the order in which they are met."""
        seen: dict[int, None] = {}
        stack = [root]
        while stack:
            number = stack.pop()
            if number in seen:
                continue
            seen[number] = None
            node = self.nodes[number]
            if isinstance(node, Fork):
                stack += [node.odd, node.even]
        return list(seen)

    def bounds(self) -> list[tuple[float, float]]:
        """Return the least and the greatest that each target can become."""
        spans = [self.spans(root) for root in self.roots]
        found = []
        for target, base in enumerate(self.base):
            lows, highs = ([span[target][end] for span in spans] for end in range(2))
            combine = _COMBINE[self.aggregate]
            found.append((combine(lows) + base, combine(highs) + base))
        return found

    def depth(self, root: int) -> int:
        """Return the forks on the longest way through a tree."""
        depths: dict[int, int] = {}
        for number in reversed(self.sorted(root)):
            node = self.nodes[number]
            depths[number] = 1 + max(depths[node.odd], depths[node.even]) if isinstance(node, Fork) else 0
        return depths[root]

    def edge_depth(self, root: int) -> int:
        """Return the most edges that are asked of on a way through a tree, one at least of each fork."""
        depths: dict[int, int] = {}
        for number in reversed(self.sorted(root)):
            node = self.nodes[number]
            own = max(len(node.edges), 1) if isinstance(node, Fork) else 0
            depths[number] = own + max(depths[node.odd], depths[node.even]) if isinstance(node, Fork) else 0
        return depths[root]

    def sorted(self, root: int) -> list[int]:
        """Return a tree's nodes, parents before children."""
        order: list[int] = []
        done: set[int] = set()
        stack = [(root, False)]
        while stack:
            number, leaving = stack.pop()
            if leaving:
                order.append(number)
            elif number not in done:
                done.add(number)
                node = self.nodes[number]
                stack.append((number, True))
                stack += [(child, False) for child in ((node.odd, node.even) if isinstance(node, Fork) else ())]
        return order[::-1]

    def evaluate(self, x: Array, missing: Array) -> Array:
        """Return the targets for one sample.

        Args:
            x: The features, one-dimensional: reals or ranks, as the edges.
            missing: Which of them are missing.

        Returns:
            float64 of shape (targets,), or Python ints where leaves are.
        """
        table = self._table
        at = np.array(self.roots)
        while True:
            inner = table.feature[at] >= 0
            if not inner.any():
                break
            here = at[inner]
            feature = table.feature[here]
            above = (x[feature][:, None] > table.edges[here]).sum(axis=1)
            above = np.where(missing[feature], np.where(table.up[here], table.counts[here], 0), above)
            at[inner] = np.where(above % 2 == 1, table.odd[here], table.even[here])
        leaves = [self.nodes[int(number)] for number in at]
        found = []
        for target, base in enumerate(self.base):
            values = [leaf.values.get(target, 0) for leaf in leaves if isinstance(leaf, Leaf)]
            found.append(_COMBINE[self.aggregate](values) + base)
        return np.array(found, dtype=object)

    @cached_property
    def _table(self) -> _Table:
        forks = [node if isinstance(node, Fork) else None for node in self.nodes]
        width = max((len(f.edges) for f in forks if f is not None), default=1)
        edges = np.full((len(forks), width), np.inf)
        for row, fork in zip(edges, forks, strict=True):
            if fork is not None:
                row[: len(fork.edges)] = fork.edges
        return _Table(
            np.array([-1 if f is None else f.feature for f in forks]),
            edges,
            np.array([0 if f is None else len(f.edges) for f in forks]),
            np.array([False if f is None else f.up for f in forks]),
            np.array([0 if f is None else f.odd for f in forks]),
            np.array([0 if f is None else f.even for f in forks]),
        )

    def with_values(self, change: Callable[[float], float], base: Sequence[float]) -> Ensemble:
        """Return the same with other leaves and another base.

        Args:
            change: What becomes of a leaf's value.
            base: The new base.
        """
        nodes = tuple(
            Leaf({t: change(v) for t, v in node.values.items()}) if isinstance(node, Leaf) else node
            for node in self.nodes
        )
        return dataclasses.replace(self, nodes=nodes, base=tuple(base))

    def with_features(self, new: Sequence[int], features: int) -> Ensemble:
        """Return the same looking at other elements of an input of another size."""
        nodes = tuple(
            dataclasses.replace(node, feature=new[node.feature]) if isinstance(node, Fork) else node
            for node in self.nodes
        )
        return dataclasses.replace(self, nodes=nodes, features=features)

    def imputed(self, values: Mapping[int, float]) -> Ensemble:
        """Return the same where some features, if they are missing, are taken for a value each."""
        nodes = tuple(
            node.imputed(values[node.feature]) if isinstance(node, Fork) and node.feature in values else node
            for node in self.nodes
        )
        return dataclasses.replace(self, nodes=nodes)

    def of_whole(self, features: Container[int]) -> Ensemble:
        """Return the same where some features are whole numbers, of others the whole part (towards 0)."""
        nodes = tuple(
            dataclasses.replace(node, edges=self._of_whole(node.edges))
            if isinstance(node, Fork) and node.feature in features
            else node
            for node in self.nodes
        )
        return dataclasses.replace(self, nodes=nodes)

    def _of_whole(self, edges: Sequence[float]) -> tuple[float, ...]:
        """Return edges that a number exceeds where its whole part exceeds the given ones; of two equal ones neither."""
        kind = np.float64 if self.double else np.float32
        found: list[float] = []
        for edge in edges:
            new = edge
            if abs(edge) < 1 << np.finfo(kind).nmant:  # beyond it all numbers are whole
                least = math.floor(edge) + 1
                new = float(np.nextafter(kind(least), kind(-np.inf))) if least > 0 else float(least - 1)
            if found[-1:] == [new]:
                found.pop()
            else:
                found.append(new)
        return tuple(found)


_COMBINE: Mapping[str, Callable[[Sequence[float]], float]] = {"SUM": sum, "MIN": min, "MAX": max}
"""By aggregate."""


@dataclass(frozen=True, eq=False)
class _Table:
    """An ensemble's nodes as columns."""

    feature: Array
    edges: Array
    counts: Array
    up: Array
    odd: Array
    even: Array


def _numbers(attrs: Mapping[str, AttrValue], key: str) -> tuple[float, ...]:
    value = attrs[key]
    if not isinstance(value, tuple) or any(isinstance(v, str) for v in value):
        raise TypeError(f"{key} is no list of numbers")
    return value  # type: ignore[return-value]


def _number(attrs: Mapping[str, AttrValue], key: str) -> float:
    value = attrs[key]
    if not isinstance(value, int | float):
        raise TypeError(f"{key} is no number")
    return value
