"""What a kernel says of its layouts, held against what its lowering gives.

That elements are where they are said to be is seen here. What lies in those words is for the verifier to prove: the
buffers are said to hold it (`Program.holds`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ml2sc.errors import InternalError, PluginError
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.layout import Layout
from ml2sc.ir.program import OURS, Lanes
from ml2sc.ir.types import Array

from ..context import Lowering
from ..values import Laned, Packed, Scalars, Source, Value

_WORD = 256


def check_covers(kernel: str, owner: str, node: Node, covers: Sequence[Node], free: Sequence[Node]) -> None:
    """Check that a way computes the node that it was asked for, and none that is computed elsewhere.

    Args:
        kernel: Its name.
        owner: Who provides it.
        node: The node.
        covers: What it says.
        free: The nodes that are not computed yet.

    Raises:
        PluginError: it does not.
    """
    what = "what it covers"
    if all(covered.name != node.name for covered in covers):
        said = ", ".join(map(str, covers)) or "nothing"
        raise _refused(kernel, owner, f"it was asked for {node}, and its way covers {said}", what)
    names = {other.name for other in free}
    for covered in covers:
        if covered.name not in names:
            raise _refused(kernel, owner, f"its way covers {covered}, which is not there to be computed", what)


def check_reads(kernel: str, owner: str, reads: Mapping[str, Layout], graph: Graph, inputs: Sequence[str]) -> None:
    """Check that a way reads nothing but tensors that there are before it.

    Args:
        kernel: Its name.
        owner: Who provides it.
        reads: What it says.
        graph: The graph.
        inputs: The tensors that the nodes it covers read.

    Raises:
        PluginError: it does.
    """
    for name, layout in reads.items():
        if name not in inputs:
            raise _refused(kernel, owner, f"it reads {name!r}, which no node that it covers does")
        if layout.size != graph.tensor(name).size:
            size = graph.tensor(name).size
            raise _refused(kernel, owner, f"it reads {layout.size} elements of {name!r}, which has {size}")


def settle(context: Lowering, kernel: str, owner: str, gives: Mapping[str, Layout], made: Mapping[str, Value]) -> None:
    """Check that results are where a way says, and have the verifier prove that they hold no more than it says.

    Args:
        context: The lowering, in which they are.
        kernel: Its name.
        owner: Who provides it.
        gives: What it says.
        made: Where its lowering says they are.

    Raises:
        PluginError: they are elsewhere.
    """
    if gives.keys() != made.keys():
        said, found = (", ".join(sorted(names)) or "nothing" for names in (gives, made))
        raise _refused(kernel, owner, f"it says that it gives {said}, and gives {found}")
    for name, layout in gives.items():
        value, size = made[name], context.graph.tensor(name).size
        if not size == layout.size == value.size:
            raise _refused(
                kernel, owner, f"{name!r} has {size} elements, its layout {layout.size}, and {value.size} are given"
            )
        _place(context, kernel, owner, name, layout, value)


def _place(context: Lowering, kernel: str, owner: str, name: str, layout: Layout, value: Value) -> None:
    source = value.sources[value.which[0]]
    if np.any(value.which != value.which[0]) or isinstance(source, Packed):
        raise _refused(kernel, owner, f"{name!r} is in several places, and its layout says that it is in one")
    about = _about(source)
    if about != (layout.pitch, layout.bits if isinstance(source, Laned) else about[1], layout.offset):
        raise _refused(
            kernel,
            owner,
            f"lanes of {name!r} are said to be {layout.pitch} bits apart, {layout.bits} of them wide, from "
            f"{layout.offset} on; they are {about[0]} bits apart, {about[1]} wide, from {about[2]} on",
        )
    said, found = np.stack(layout.places()), np.stack(_places(source, value))
    for element in np.flatnonzero((said != found).any(axis=0))[:1]:
        raise _refused(
            kernel,
            owner,
            f"element {element} of {name!r} is said to be in lane {said[1, element]} of word {said[0, element]}, and "
            f"is in lane {found[1, element]} of word {found[0, element]}",
        )
    if layout.bits < _WORD:
        context.holds.setdefault(source.buffer, _lanes(source, layout))


def _about(source: Laned | Scalars) -> tuple[int, int, int]:
    """Return pitch, width and offset of a source's lanes."""
    if isinstance(source, Laned):
        return source.stride, source.bits, source.offset
    return _WORD, _WORD, source.offset


def _places(source: Laned | Scalars, value: Value) -> tuple[Array, Array]:
    """Return words and lanes of a value's elements."""
    if isinstance(source, Scalars):
        return value.where, np.zeros_like(value.where)
    words, numbers = np.divmod(value.where, source.lanes)
    return words, source.lanes - 1 - numbers if source.from_top else numbers


def _lanes(source: Source, layout: Layout) -> Lanes:
    """Return what the words of a result hold if each lane has no more bits than its layout says."""
    if isinstance(source, Laned):
        return Lanes(source.lanes, source.stride, 0, (1 << layout.bits) - 1)
    half = 1 << (layout.bits - 1)
    return Lanes(1, _WORD, -half, half - 1)


def _refused(kernel: str, owner: str, reason: str, what: str = "its layouts") -> InternalError | PluginError:
    if owner == OURS:
        return InternalError(f"kernel {kernel}: {reason}")
    return PluginError(
        f"the kernel {kernel!r} of {owner} lies about {what}: {reason}",
        hint=f"this is a bug in {owner}, not in ml2sc",
    )
