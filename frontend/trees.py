"""Tree ensembles of ONNX: TreeEnsembleClassifier, TreeEnsembleRegressor (ai.onnx.ml 1 and 3) and TreeEnsemble (5).

What the operators leave open is as onnxruntime does it: which label two scores make, what a missing feature (NaN) is,
which post-transforms are ignored. Where onnxruntime's answer is nonsense the model is refused.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ml2sc.errors import ModelFormatError, PoorResultWarning, warn
from ml2sc.ir.ops.trees import EXCEEDS
from ml2sc.ir.thermometer import TREES
from ml2sc.ir.trees import MOST_NODES, Ensemble, Fork, Leaf, TreeNode

from .emitter import Emitter, OnnxNode
from .labels import ONE_CLASS, Labels, emit_label, labels_of

_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
"""By the numbers that operator set 5 gives them; the older sets have names, and a leaf is one, too."""
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_POSTS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


_NAN_HINT = "no number is compared with NaN: train the model again, or export it again"


@dataclass(frozen=True)
class _Branch:
    """A comparison of ONNX, with the numbers of its nodes' children."""

    feature: int
    mode: str
    values: tuple[float, ...]
    tracks_true: bool
    yes: int
    no: int


@dataclass(frozen=True)
class _Read:
    """An operator's trees as ONNX says them.

    Attributes:
        nodes: Branches, and leaves with the values that they add to targets.
        roots: Each tree's first node.
        targets: Number of targets.
        aggregate: One of `_AGGREGATES`.
        base: Base values as given: maybe none.
        post: One of `_POSTS`.
        kind: float32 or float64: what is compared.
    """

    nodes: Sequence[_Branch | Leaf]
    roots: tuple[int, ...]
    targets: int
    aggregate: str
    base: tuple[float, ...]
    post: str
    kind: type[np.floating[Any]]


# -- reading ---------------------------------------------------------------------------------------------------------


def _column(node: OnnxNode, name: str, *, required: bool = True) -> list[Any]:
    """Return a list that is an attribute, or a tensor that is one under the name it has then."""
    value = node.attrs.get(f"{name}_as_tensor", node.attrs.get(name))
    if value is None:
        if required:
            node.fail(f"attribute {name} is missing")
        return []
    if isinstance(value, onnx.TensorProto):
        try:
            value = numpy_helper.to_array(value).ravel().tolist()
        except (ValueError, TypeError) as error:
            raise ModelFormatError(f"attribute {name} cannot be read: {error}", node=str(node)) from error
    if not isinstance(value, list):
        node.fail(f"attribute {name} is no list")
    return value


def _fitting(node: OnnxNode, columns: Mapping[str, Sequence[Any]]) -> int:
    """Return how long all columns are.

    Raises:
        UnsupportedModelError: one is longer than another.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        node.fail(f"attributes that describe the same nodes differ in length: {told}")
    count = next(iter(lengths.values()))
    if count > MOST_NODES:
        node.fail(
            f"the ensemble has {count:,} nodes; {MOST_NODES:,} is the most that is read",
            "train fewer trees, or shallower ones",
        )
    return count


def _numbered(node: OnnxNode, prefix: str, targets: int) -> _Read:
    """Read the older operators: nodes are named by tree and node ids.

    Args:
        node: The ONNX node.
        prefix: `class` or `target`: how leaves' values are called.
        targets: Number of targets.
    """
    keys = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    columns = {f"nodes_{key}": _column(node, f"nodes_{key}") for key in keys}
    count = _fitting(node, columns)
    trees, ids, features, modes, values, yes, no = columns.values()
    missing = _column(node, "nodes_missing_value_tracks_true", required=False) or [0] * count
    if len(missing) != count:
        node.fail(f"nodes_missing_value_tracks_true has {len(missing):,} entries for {count:,} nodes")
    numbers = {pair: number for number, pair in enumerate(zip(trees, ids, strict=True))}
    if len(numbers) < count:
        node.fail("two nodes of a tree have the same id")
    leaves: dict[int, dict[int, float]] = {}
    weighed = {f"{prefix}_{key}": _column(node, f"{prefix}_{key}") for key in ("treeids", "nodeids", "ids", "weights")}
    _fitting(node, weighed)
    for tree, id_, target, weight in zip(*weighed.values(), strict=True):
        number = numbers.get((tree, id_))
        if number is None or modes[number] != "LEAF":
            node.fail(f"{prefix}_nodeids names node {id_} of tree {tree}, which is no leaf")
        own = leaves.setdefault(number, {})
        if target in own:
            node.fail(f"leaf {id_} of tree {tree} has two weights for {prefix} {target}")
        if not math.isfinite(weight):
            node.fail(f"a weight of leaf {id_} of tree {tree} is {weight}")
        own[int(target)] = float(weight)

    def child(number: int, id_: int) -> int:
        found = numbers.get((trees[number], id_))
        if found is None:
            node.fail(f"node {ids[number]} of tree {trees[number]} leads to node {id_}, which there is not")
        return found

    nodes: list[_Branch | Leaf] = []
    for number in range(count):
        if modes[number] == "LEAF":
            nodes.append(Leaf(leaves.get(number, {})))
            continue
        if modes[number] not in _MODES[:-1]:
            node.fail(f"mode {modes[number]!s:.30} of node {ids[number]} of tree {trees[number]} is unknown")
        ways = child(number, yes[number]), child(number, no[number])
        value = (float(values[number]),)
        if math.isnan(value[0]):
            node.fail(f"the threshold of node {ids[number]} of tree {trees[number]} is NaN", _NAN_HINT)
        nodes.append(_Branch(int(features[number]), modes[number], value, bool(missing[number]), *ways))
    roots: dict[Any, int] = {}
    for number, tree in enumerate(trees):
        roots.setdefault(tree, number)
    doubles = any(
        isinstance(node.attrs.get(f"{key}_as_tensor"), onnx.TensorProto)
        and node.attrs[f"{key}_as_tensor"].data_type == TensorProto.DOUBLE
        for key in ("nodes_values", f"{prefix}_weights")
    )
    return _Read(
        nodes,
        tuple(roots.values()),
        targets,
        str(node.attrs.get("aggregate_function", "SUM")),
        tuple(map(float, _column(node, "base_values", required=False))),
        str(node.attrs.get("post_transform", "NONE")),
        np.float64 if doubles else np.float32,
    )


def _listed(node: OnnxNode) -> _Read:
    """Read operator TreeEnsemble: nodes and leaves are two lists."""
    keys = ("featureids", "splits", "modes", "truenodeids", "trueleafs", "falsenodeids", "falseleafs")
    columns = {f"nodes_{key}": _column(node, f"nodes_{key}") for key in keys}
    count = _fitting(node, columns)
    features, splits, modes, yes, yes_leaf, no, no_leaf = columns.values()
    leaf_columns = {key: _column(node, key) for key in ("leaf_targetids", "leaf_weights")}
    leaves = _fitting(node, leaf_columns)
    missing = _column(node, "nodes_missing_value_tracks_true", required=False) or [0] * count
    if len(missing) != count:
        node.fail(f"nodes_missing_value_tracks_true has {len(missing):,} entries for {count:,} nodes")
    members = iter(_member_sets(node))

    def child(id_: int, leaf: int) -> int:
        if not 0 <= id_ < (leaves if leaf else count):
            node.fail(f"a node leads to {'leaf' if leaf else 'node'} {id_}, which there is not")
        return int(id_) + (count if leaf else 0)

    nodes: list[_Branch | Leaf] = []
    for number in range(count):
        mode = int(modes[number])
        if not 0 <= mode < len(_MODES):
            node.fail(f"mode {mode} of node {number} is unknown")
        values: tuple[float, ...] = (float(splits[number]),)
        if _MODES[mode] == "BRANCH_MEMBER":
            found = next(members, None)
            if found is None:
                node.fail(f"there is no set in membership_values for node {number}")
            values = found
        elif math.isnan(values[0]):
            node.fail(f"the threshold of node {number} is NaN", _NAN_HINT)
        ways = child(yes[number], yes_leaf[number]), child(no[number], no_leaf[number])
        nodes.append(_Branch(int(features[number]), _MODES[mode], values, bool(missing[number]), *ways))
    targets = int(node.attrs.get("n_targets", 0))
    for target, weight in zip(*leaf_columns.values(), strict=True):
        if not math.isfinite(weight):
            node.fail(f"a leaf's weight is {weight}")
        nodes.append(Leaf({int(target): float(weight)}))
    roots = tuple(map(int, _column(node, "tree_roots")))
    if not all(0 <= root < count for root in roots):
        node.fail("tree_roots names a node that there is not")
    splits_kind = (
        node.attrs["nodes_splits"].data_type if isinstance(node.attrs["nodes_splits"], onnx.TensorProto) else 0
    )
    aggregate, post = (int(node.attrs.get(key, default)) for key, default in _DEFAULTS)
    if not 0 <= aggregate < len(_AGGREGATES) or not 0 <= post < len(_POSTS):
        node.fail(f"aggregate_function {aggregate} or post_transform {post} is unknown")
    kind = np.float64 if splits_kind == TensorProto.DOUBLE else np.float32
    return _Read(nodes, roots, targets, _AGGREGATES[aggregate], (), _POSTS[post], kind)


_DEFAULTS = (("aggregate_function", 1), ("post_transform", 0))


def _member_sets(node: OnnxNode) -> list[tuple[float, ...]]:
    """Return the sets of membership_values, each of which ends with a NaN."""
    sets: list[tuple[float, ...]] = []
    own: list[float] = []
    for value in _column(node, "membership_values", required=False):
        if math.isnan(value):
            sets.append(tuple(own))
            own = []
        else:
            own.append(float(value))
    return [*sets, tuple(own)] if own else sets


# -- comparisons as edges --------------------------------------------------------------------------------------------


def _before(value: float, kind: type[np.floating[Any]]) -> float:
    return float(np.nextafter(kind(value), kind(-np.inf)))


def _edges(branch: _Branch, kind: type[np.floating[Any]]) -> tuple[tuple[float, ...], bool]:
    """Return the edges of a comparison, and whether it holds where an odd number of them is below.

    No feature is infinite: what compares with infinity has no edge.
    """
    values = [float(kind(value)) + 0.0 for value in branch.values]
    finite = sorted({value for value in values if math.isfinite(value)})
    if branch.mode in _ORDERED:
        before, above = _ORDERED[branch.mode]
        if not finite:
            return (), (values[0] > 0) == above
        return ((_before(finite[0], kind) if before else finite[0]),), above
    edges: set[float] = set()
    for member in finite:
        edges ^= {_before(member, kind), member}
    return tuple(sorted(edges)), branch.mode != "BRANCH_NEQ"


_ORDERED = {
    "BRANCH_LEQ": (False, False),
    "BRANCH_LT": (True, False),
    "BRANCH_GTE": (True, True),
    "BRANCH_GT": (False, True),
}
"""Whether the edge is the float before the threshold, and whether the comparison holds above it."""


def _fork(branch: _Branch, kind: type[np.floating[Any]]) -> Fork:
    edges, holds_if_odd = _edges(branch, kind)
    yes_if_missing = branch.tracks_true or branch.mode == "BRANCH_NEQ"
    odd, even = (branch.yes, branch.no) if holds_if_odd else (branch.no, branch.yes)
    return Fork.routed(branch.feature, edges, odd, even, odd_if_missing=yes_if_missing == holds_if_odd)


def _canonical(node: OnnxNode, read: _Read, features: int, kind: type[np.floating[Any]]) -> Ensemble:
    """Return the ensemble in the graph's form: checked, chains of categories folded, equal subtrees one."""
    if not read.roots:
        node.fail("the ensemble has no tree")
    nodes = tuple(_fork(n, kind) if isinstance(n, _Branch) else n for n in read.nodes)
    raw = Ensemble(features, read.targets, nodes, read.roots, (0.0,) * read.targets)
    raw.check(str(node))
    averaged = read.aggregate == "AVERAGE"
    folded = _Folding(raw).run()
    if averaged:
        count = len(read.roots)
        folded = folded.with_values(lambda value: value / count, folded.base)
    expanded = sum(1 for root in folded.roots for _ in zip(folded.walk(root), range(MOST_NODES), strict=False))
    if expanded >= MOST_NODES:
        node.fail(f"written out, its shared subtrees are more than {MOST_NODES:,} nodes")
    return dataclasses.replace(folded, aggregate="SUM" if averaged else read.aggregate, double=kind is np.float64)


class _Folding:
    """Makes equal subtrees one, and chains of comparisons with categories sets of them."""

    def __init__(self, raw: Ensemble) -> None:
        self._raw = raw
        self._nodes: list[TreeNode] = []
        self._known: dict[Any, int] = {}
        self._new: dict[int, int] = {}

    def run(self) -> Ensemble:
        """Return the folded ensemble."""
        for root in self._raw.roots:
            for number in reversed(self._raw.sorted(root)):
                if number not in self._new:
                    self._new[number] = self._folded(self._raw.nodes[number])
        kept = {number: None for root in self._raw.roots for number in self._reached(self._new[root])}
        place = {number: position for position, number in enumerate(kept)}
        nodes = tuple(
            dataclasses.replace(n, odd=place[n.odd], even=place[n.even]) if isinstance(n, Fork) else n
            for n in (self._nodes[number] for number in kept)
        )
        roots = tuple(place[self._new[root]] for root in self._raw.roots)
        return dataclasses.replace(self._raw, nodes=_sided(nodes), roots=roots)

    def _reached(self, root: int) -> list[int]:
        return dataclasses.replace(self._raw, nodes=tuple(self._nodes)).reached(root)

    def _folded(self, node: TreeNode) -> int:
        if isinstance(node, Leaf):
            return self._one(("leaf", *sorted(node.values.items())), node)
        odd, even = self._new[node.odd], self._new[node.even]
        if odd == even:
            return odd
        fork = dataclasses.replace(node, odd=odd, even=even)
        after = self._nodes[even]
        chained = isinstance(after, Fork) and after.feature == fork.feature and after.odd == odd
        if chained and isinstance(after, Fork) and min(len(fork.edges), len(after.edges)) > 1:
            missing = _missing_is_odd(fork) or _missing_is_odd(after)
            edges = _union(fork.edges, after.edges)
            fork = Fork.routed(fork.feature, edges, odd, after.even, odd_if_missing=missing)
        return self._one((fork.feature, fork.edges, fork.up, fork.odd, fork.even), fork)

    def _one(self, key: Any, node: TreeNode) -> int:
        if key not in self._known:
            self._known[key] = len(self._nodes)
            self._nodes.append(node)
        return self._known[key]


def _missing_is_odd(fork: Fork) -> bool:
    return fork.up and len(fork.edges) % 2 == 1


def _union(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
    """Return the edges of what lies behind an odd number of edges of one list, or of the other."""
    found: list[float] = []
    inside = [False, False]
    for edge in sorted({e for e in (*first, *second) if e < math.inf}):
        before = any(inside)
        inside = [now ^ (edge in own) for now, own in zip(inside, (first, second), strict=True)]
        if any(inside) != before:
            found.append(edge)
    return tuple(found)


def _sided(nodes: Sequence[TreeNode]) -> tuple[TreeNode, ...]:
    """Let forks that send a missing feature the same way on either side take the side of the feature's others."""
    decided: dict[int, set[bool]] = {}
    for node in nodes:
        if isinstance(node, Fork) and len(node.edges) % 2:
            decided.setdefault(node.feature, set()).add(node.up)
    return tuple(
        dataclasses.replace(node, up=False)
        if isinstance(node, Fork) and len(node.edges) % 2 == 0 and decided.get(node.feature) == {False}
        else node
        for node in nodes
    )


# -- the operators ---------------------------------------------------------------------------------------------------


def _trees(emitter: Emitter, node: OnnxNode, read: _Read, base: Sequence[float]) -> str:
    """Emit the ensemble and return its targets: what leaves and base values add up to.

    Args:
        emitter: The graph.
        node: The ONNX node.
        read: Its trees.
        base: A base value for each target.
    """
    shape = emitter.tensor(node.inputs[0]).shape
    features = shape[-1] if shape else 0
    if math.prod(shape) != features:
        node.fail(f"its input has shape {list(shape)}: one row of features is supported")
    kind = np.float64 if emitter.is_double(node.inputs[0]) else np.float32
    if read.targets < 1:
        node.fail("the ensemble has no target")
    ensemble = _canonical(node, read, features, kind)
    if ensemble.aggregate != "SUM":
        lacking = any(isinstance(n, Leaf) and len(n.values) < read.targets for n in ensemble.nodes)
        if lacking:
            node.fail(f"{ensemble.aggregate} of trees, a leaf of which says nothing of a target, is not supported")
    ensemble = dataclasses.replace(ensemble, base=tuple(map(float, base)))
    return emitter.emit(TREES, [node.inputs[0]], None, ensemble.attributes())


def _based(node: OnnxNode, read: _Read) -> tuple[float, ...]:
    """Return a base value for each target."""
    if not read.base:
        return (0.0,) * read.targets
    if len(read.base) != read.targets:
        node.fail(f"{len(read.base)} base values for {read.targets} targets")
    if not all(map(math.isfinite, read.base)):
        node.fail("a base value is not finite")
    return read.base


def _post(emitter: Emitter, node: OnnxNode, read: _Read, scores: str, output: str) -> None:
    """Emit what is made of several scores."""
    if read.post in {"PROBIT", "SOFTMAX_ZERO"}:
        node.fail(f"{node.op_type} with post_transform {read.post} is not supported", "NONE, LOGISTIC and SOFTMAX are")
    if read.post not in _POSTS:
        node.fail(f"post_transform {read.post!s:.30} is unknown")
    op_type = {"SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid"}.get(read.post, "Identity")
    emitter.emit(op_type, [scores], [output], {"axis": -1} if op_type == "Softmax" else None)


def tree_regressor(emitter: Emitter, node: OnnxNode) -> None:
    """Import TreeEnsembleRegressor, or TreeEnsemble."""
    older = node.op_type == "TreeEnsembleRegressor"
    read = _numbered(node, "target", int(node.attrs.get("n_targets", 1))) if older else _listed(node)
    if read.aggregate not in _AGGREGATES:
        node.fail(f"aggregate_function {read.aggregate!s:.30} is unknown")
    scores = _trees(emitter, node, read, _based(node, read))
    if read.targets == 1 and read.post in {"LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"}:
        # as onnxruntime does: what is written there has no effect on one target
        warn(
            f"{node}: onnxruntime ignores post_transform {read.post} of one target, and so does the contract: "
            "its output is the sum itself",
            PoorResultWarning,
        )
        emitter.emit("Identity", [scores], [node.outputs[0]])
        return
    _post(emitter, node, read, scores, node.outputs[0])


def tree_classifier(emitter: Emitter, node: OnnxNode) -> None:
    """Import TreeEnsembleClassifier: label and scores."""
    labels = labels_of(node.attrs.get("classlabels_strings", []), node.attrs.get("classlabels_int64s", []))
    if len(labels) < 2:
        node.fail(f"a classifier with {len(labels)} class labels is not supported", ONE_CLASS)
    read = _numbered(node, "class", len(labels))
    ids = sorted({target for n in read.nodes if isinstance(n, Leaf) for target in n.values})
    if len(labels) == 2 and len(ids) < 2:
        _one_score(emitter, node, read, labels, ids)
    elif len(labels) == 2:
        _two_scores(emitter, node, read, labels)
    else:
        _scores(emitter, node, read, labels)


def _one_score(emitter: Emitter, node: OnnxNode, read: _Read, labels: Labels, ids: Sequence[int]) -> None:
    """Two classes that one score decides between.

    It must be greater than 1/2 for the second class if no weight is negative, else than 0; whatever is made of it.
    """
    if ids != [0]:
        node.fail("of two classes only the second has weights", "onnxruntime's answers to that contradict each other")
    if len(read.base) > 1:
        node.fail("two base values for one score", "onnxruntime's answers to that contradict each other")
    positive = all(v >= 0 for n in read.nodes if isinstance(n, Leaf) for v in n.values.values())
    single = dataclasses.replace(read, targets=1)
    score = _trees(emitter, node, single, read.base or (0.0,))
    logistic = read.post == "LOGISTIC"
    threshold = 0.5 if positive else 0.0
    if logistic and positive:
        threshold = _chosen(emitter, node, 0.5, 0.0, "a probability of 1/2")
    _label(emitter, node, [score], labels, {"threshold": threshold})
    if read.post == "PROBIT":
        node.fail("TreeEnsembleClassifier with post_transform PROBIT is not supported", "onnxruntime answers NaN")
    output = node.outputs[1] if len(node.outputs) > 1 else ""
    if not output:
        return
    if logistic or positive:
        _complemented(emitter, emitter.emit("Sigmoid", [score]) if logistic else score, output)
    else:
        emitter.emit("Mul", [score, _signs(emitter)], [output])


def _signs(emitter: Emitter) -> str:
    return emitter.constant(np.array([-1.0, 1.0]), "signs")


def _complemented(emitter: Emitter, second: str, output: str) -> None:
    """Emit what two classes get, 1 − p and p: of a logistic function that is computed once, as 1 − f(s) is f(−s)."""
    first = emitter.emit("Sub", [emitter.constant(np.array([[1.0]]), "one"), second])
    emitter.emit("Concat", [first, second], [output], {"axis": -1})


def _two_scores(emitter: Emitter, node: OnnxNode, read: _Read, labels: Labels) -> None:
    """Two classes with a score each: the second is chosen whenever its score is positive."""
    if read.base:
        node.fail("base values for two classes with scores of their own", "add them to the leaves of a tree")
    _require_all(node, read)
    if all(n.values[0] == -n.values[1] for n in read.nodes if isinstance(n, Leaf) and len(n.values) == len(labels)):
        _mirrored(emitter, node, read, labels)
        return
    scores = _trees(emitter, node, read, (0.0,) * 2)
    by_scores = _chosen(emitter, node, False, True, "which score is greater")
    if by_scores:
        _greatest(emitter, node, scores, labels)
    else:
        second = emitter.emit("Gather", [scores, emitter.constant([1], "second")], None, {"axis": -1})
        _label(emitter, node, [second], labels, {"threshold": 0.0})
    if len(node.outputs) > 1 and node.outputs[1]:
        _post(emitter, node, read, scores, node.outputs[1])


def _mirrored(emitter: Emitter, node: OnnxNode, read: _Read, labels: Labels) -> None:
    """Two classes whose scores are −s and s, as CatBoost writes them: one sum is enough."""
    nodes = [Leaf({0: n.values[1]} if 1 in n.values else {}) if isinstance(n, Leaf) else n for n in read.nodes]
    score = _trees(emitter, node, dataclasses.replace(read, nodes=nodes, targets=1), (0.0,))
    _label(emitter, node, [score], labels, {"threshold": 0.0})
    if len(node.outputs) > 1 and node.outputs[1]:
        if read.post == "LOGISTIC":
            _complemented(emitter, emitter.emit("Sigmoid", [score]), node.outputs[1])
        else:
            _post(emitter, node, read, emitter.emit("Mul", [score, _signs(emitter)]), node.outputs[1])


def _scores(emitter: Emitter, node: OnnxNode, read: _Read, labels: Labels) -> None:
    """Several classes: the first of the greatest scores."""
    if not read.base:
        _require_all(node, read)
    scores = _trees(emitter, node, read, _based(node, read))
    _greatest(emitter, node, scores, labels)
    if len(node.outputs) > 1 and node.outputs[1]:
        _post(emitter, node, read, scores, node.outputs[1])


def _require_all(node: OnnxNode, read: _Read) -> None:
    """Refuse classes that get no score for some inputs: onnxruntime leaves them out of its choice.

    Raises:
        UnsupportedModelError: there is one.
    """
    always: set[int] = set()
    for root in read.roots:
        own: set[int] | None = None
        stack, seen = [root], set()
        while stack:
            number = stack.pop()
            if number in seen:
                continue
            seen.add(number)
            found = read.nodes[number]
            if isinstance(found, Leaf):
                own = set(found.values) if own is None else own & set(found.values)
            else:
                stack += [found.yes, found.no]
        always |= own or set()
    lacking = sorted(set(range(read.targets)) - always)
    if lacking:
        node.fail(
            f"class {lacking[0]} has no weight in some leaf of each tree, and onnxruntime leaves it out there",
            "give every leaf a weight for every class, 0 where it has none",
        )


def _greatest(emitter: Emitter, node: OnnxNode, scores: str, labels: Labels) -> None:
    if node.outputs[0]:
        emit_label(emitter, "ArgMax", [scores], labels, node.outputs[0], {"axis": 1, "keepdims": 0})


def _label(emitter: Emitter, node: OnnxNode, inputs: Sequence[str], labels: Labels, attrs: Mapping[str, float]) -> None:
    if node.outputs[0]:
        flat = emitter.emit("Reshape", [*inputs, emitter.constant([1], "shape")])
        emit_label(emitter, EXCEEDS, [flat], labels, node.outputs[0], attrs)


def _chosen(emitter: Emitter, node: OnnxNode, by_runtime: Any, by_scores: Any, what: str) -> Any:
    """Return one of two rules for a label, where onnxruntime's and that of its own scores differ."""
    if emitter.labels == "scores":
        return by_scores
    warn(
        f"{node}: onnxruntime's label is not always what its own scores say ({what}); the contract's is "
        "onnxruntime's (--labels scores takes what the scores say)",
        PoorResultWarning,
    )
    return by_runtime


TREE_RULES: Mapping[str, Callable[[Emitter, OnnxNode], None]] = {
    "TreeEnsemble": tree_regressor,
    "TreeEnsembleClassifier": tree_classifier,
    "TreeEnsembleRegressor": tree_regressor,
}
"""By operator of ai.onnx.ml."""
