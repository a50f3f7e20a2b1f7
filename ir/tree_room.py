"""Trees that are replaced by others later: how large the tables are that hold any of them, and whether others fit.

Where a node leads, what it compares and what leaves say are data; how many tables there are, how large they are, and
the widths of their fields are code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from ml2sc.errors import SAME_ARCHITECTURE, RangeError, UnsupportedModelError

from .graph import Graph, Node
from .thermometer import Room, tree_nodes
from .trees import Ensemble, Fork
from .types import FixedPoint, Interval, Reserve, TreeRoom

_TOGETHER = 4
"""Levels that a table of deep trees is walked at a time: their depth is a multiple of it."""


@dataclass(frozen=True)
class _Size:
    """What a tree takes.

    Attributes:
        number: Its number in the ensemble.
        forks: Its forks, one for each edge.
        depth: Those on the longest way.
        targets: What it adds to; nothing where all its leaves say the same.
        widest: The greatest distance of two leaves.
    """

    number: int
    forks: int
    depth: int
    targets: tuple[int, ...]
    widest: int


def _sizes(ensemble: Ensemble) -> Iterator[_Size]:
    for number, root in enumerate(ensemble.roots):
        spans = [int(hi) - int(lo) for lo, hi in ensemble.spans(root)]
        own = [len(node.edges) or 1 for at in ensemble.reached(root) if isinstance(node := ensemble.nodes[at], Fork)]
        targets = tuple(target for target, span in enumerate(spans) if span)
        yield _Size(number, sum(own), ensemble.edge_depth(root), targets, max(spans))


def reserve_trees(node: Node, sums: Interval, headroom: int) -> Reserve:
    """Return room for an ensemble of integers, and for others like it.

    Args:
        node: A quantised node.
        sums: What its sums can be.
        headroom: Bits by which leaves, sums and the size of trees may be greater later.

    Raises:
        UnsupportedModelError: its trees are not added up.
    """
    ensemble = Ensemble.of(node)
    if ensemble.aggregate != "SUM":
        raise UnsupportedModelError(
            "trees are replaced where they are added up, and of these the least or the greatest counts",
            node=str(node),
            hint="leave --updatable out, and deploy anew",
        )
    sizes = [size for size in _sizes(ensemble) if size.targets]
    widest = max((size.widest for size in sizes), default=1)
    limit = sums.magnitude << headroom
    return Reserve(Interval(-limit, limit), widest.bit_length() + headroom, _tree_room(ensemble, sizes, headroom))


def _tree_room(ensemble: Ensemble, sizes: Sequence[_Size], headroom: int) -> TreeRoom:
    """Return the tables for trees of some sizes, and for others like them."""
    depth = _roomy([size.depth for size in sizes], headroom)
    depth = depth if depth <= _TOGETHER else -(-depth // _TOGETHER) * _TOGETHER
    most, full = max((size.forks for size in sizes), default=1), (1 << depth) - 1
    forks = full if full <= most << headroom else _roomy([size.forks for size in sizes], headroom)
    own = tuple(sum(size.targets == (target,) for size in sizes) for target in range(ensemble.targets))
    return TreeRoom(own, len(sizes) - sum(own), forks, depth)


def _roomy(values: Sequence[int], headroom: int) -> int:
    """Return how large trees may be: as the greatest, if every other is (training has a limit then), else larger."""
    most = max(values, default=1)
    return most if 2 * values.count(most) >= len(values) else most << headroom


def require_trees(node: Node, reserved: Reserve) -> None:
    """Check that trees fit the tables of a contract that exists.

    Raises:
        RangeError: they do not: the text says which, and by how much.
    """
    ensemble, room = Ensemble.of(node), reserved.trees
    if room is None or len(room.own) != ensemble.targets or ensemble.aggregate != "SUM":
        raise RangeError("the deployed contract has other trees there", node=str(node), hint=SAME_ARCHITECTURE)
    sizes = [size for size in _sizes(ensemble) if size.targets]
    for size in sizes:
        for what, found, most in (
            ("comparisons", size.forks, room.forks),
            ("levels", size.depth, room.depth),
            ("bits for what a leaf says, at the deployed scale", size.widest.bit_length(), reserved.weight_bits),
        ):
            if found > most:
                raise RangeError(
                    f"tree {size.number} needs {found:,} {what}, and the contract has {most:,}",
                    node=str(node),
                    hint=_SMALLER,
                )
    own, joint = tables(room, [size.targets for size in sizes])
    if sum(map(len, own)) + len(joint) < len(sizes):
        most = sum(room.own) + room.joint
        several = f", {' + '.join(map(str, (*room.own, room.joint)))} of them by what they add to" if most else ""
        raise RangeError(
            f"it has {len(sizes):,} trees of more than a leaf, and the contract has {most:,} tables{several}",
            node=str(node),
            hint=_SMALLER,
        )


def tables(room: TreeRoom, targets: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]]:
    """Return which trees go to which tables; one for which there is none is left out.

    Args:
        room: The tables.
        targets: What each tree adds to.

    Returns:
        By target the trees in the tables of those that add to it alone, and those in the tables of all others.
    """
    own: list[list[int]] = [[] for _ in room.own]
    joint: list[int] = []
    for tree, added in enumerate(targets):
        if len(added) == 1 and len(own[added[0]]) < room.own[added[0]]:
            own[added[0]].append(tree)
        elif added and len(joint) < room.joint:
            joint.append(tree)
    return own, joint


_SMALLER = "train with the limits of the model that was compiled, or deploy a new contract"


def reserve_ranks(graph: Graph, headroom: int, deployed: Room | None = None, *, takes_wad: bool = True) -> None:
    """Give every element of inputs that trees read a rank, whose width stays.

    Args:
        graph: A quantised graph.
        headroom: Bits by which there may be more edges later.
        deployed: What a contract that exists has.
        takes_wad: Whether one that does not is to make ranks of WAD values, too.

    Raises:
        RangeError: trees ask what the deployed contract's ranks do not say.
    """
    if not graph.ladders:
        return
    room = deployed or _room(graph, headroom, takes_wad=takes_wad)
    _require_edges(graph, room)
    for name, ladder in graph.ladders.items():
        for index, edges in enumerate(ladder.edges):
            if len(edges) > room.most:
                raise RangeError(
                    f"feature {index} is compared with {len(edges):,} numbers, and the contract's ranks hold "
                    f"{room.most:,}",
                    tensor=f"%{name}",
                    hint="train with fewer bins (max_bin, border_count), or deploy a new contract",
                )
            for side, known, text in ((ladder.up, room.up, "great"), (ladder.down, room.down, "small")):
                if side[index] and not known:
                    raise RangeError(
                        f"trees take feature {index} for {text} where it is missing, as no tree did that was compiled",
                        tensor=f"%{name}",
                        hint="deploy a new contract",
                    )
        graph.ladders[name] = replace(ladder, ranked=True, room=room)
        graph.set_type(name, FixedPoint(8 * room.width, False, Fraction(1)), Interval(0, room.most + 1))


def _require_edges(graph: Graph, room: Room) -> None:
    """Check that there is room for all edges where WAD values are compared with them, and that they are of its type."""
    if not room.edges:
        return
    count, double = _edges(graph), any(ladder.double for ladder in graph.ladders.values())
    if count > room.edges:
        raise RangeError(
            f"trees compare with {count:,} numbers, and the contract has room for {room.edges:,} in predict and "
            "classify",
            hint=_SMALLER,
        )
    if double != room.double:
        kinds = [f"float{64 if kind else 32}" for kind in (double, room.double)]
        raise RangeError(f"trees compare {kinds[0]}, and the contract {kinds[1]}", hint=SAME_ARCHITECTURE)


def _edges(graph: Graph) -> int:
    return sum(len(edges) for ladder in graph.ladders.values() for edges in ladder.edges)


def _room(graph: Graph, headroom: int, *, takes_wad: bool) -> Room:
    most = max(ladder.top for ladder in graph.ladders.values())
    ensembles = [ensemble for ensemble, _ in tree_nodes(graph)]
    forks = [node for ensemble in ensembles for node in ensemble.nodes if isinstance(node, Fork)]
    up, down = any(fork.up for fork in forks), any(not fork.up for fork in forks)
    width = max(-(-((most + 1) << headroom).bit_length() // 8), 1)
    if not takes_wad:
        return Room(width, up, down)
    rooms = [_tree_room(e, [size for size in _sizes(e) if size.targets], headroom) for e in ensembles]
    asked = sum((sum(room.own) + room.joint) * room.forks for room in rooms)
    double = any(ladder.double for ladder in graph.ladders.values())
    return Room(width, up, down, max(min(_edges(graph) << headroom, asked), _edges(graph), 1), double)
