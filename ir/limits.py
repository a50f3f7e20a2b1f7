"""How large a model may be. The limits stand here, and are checked before what they bound is allocated.

They are far above what any chain takes, and low enough that a model made to hurt ends with an error, not with the
machine's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ml2sc.errors import UnsupportedModelError

ELEMENTS = 1 << 24
"""Of one tensor: 128 MiB as float64."""
TOTAL_ELEMENTS = 1 << 26
"""Of all tensors of a model together, constants and what is computed."""
RANK = 32
"""Dimensions of a tensor: what NumPy takes in all its versions."""
NODES = 10_000
"""Operators of a model, its functions written out."""
EXTERNAL_BYTES = 1 << 30
"""That a model's tensors claim of its external data files together, each as often as it is claimed."""
SHOWN = 100
"""Characters of a name from a model that are shown in comments and messages."""

_HINT = "a contract holds some millions of weights: compile a part of the model, or a smaller one"


def check_shape(shape: Sequence[int], *, node: str | None = None, tensor: str | None = None) -> None:
    """Refuse a tensor of too many dimensions or elements.

    Args:
        shape: Its dimensions.
        node: What makes it, for the error.
        tensor: What it is, for the error.

    Raises:
        UnsupportedModelError: it has more of them than the limits say.
    """
    if len(shape) > RANK:
        text = f"a tensor of {len(shape)} dimensions: there may be {RANK}"
        raise UnsupportedModelError(text, node=node, tensor=tensor, hint="reshape it")
    check_elements(prod(shape), node=node, tensor=tensor)


def check_elements(count: float, *, node: str | None = None, tensor: str | None = None) -> None:
    """Refuse a tensor of so many elements.

    Raises:
        UnsupportedModelError: they are more than `ELEMENTS`.
    """
    if not count <= ELEMENTS:
        text = f"a tensor of {_figure(count)} elements: there may be {ELEMENTS:,}"
        raise UnsupportedModelError(text, node=node, tensor=tensor, hint=_HINT)


def check_total(count: int, *, node: str | None = None) -> None:
    """Refuse a model whose tensors have so many elements together.

    Raises:
        UnsupportedModelError: they are more than `TOTAL_ELEMENTS`.
    """
    if count > TOTAL_ELEMENTS:
        text = f"the model's tensors have {_figure(count)} elements up to here: there may be {TOTAL_ELEMENTS:,}"
        raise UnsupportedModelError(text, node=node, hint=_HINT)


def shown(name: str) -> str:
    """Return a name as it stands in comments and messages: cut where it is long."""
    return name if len(name) <= SHOWN else f"{name[: SHOWN - 3]}..."


def _figure(count: float) -> str:
    return "more than 2^64" if count > 1 << 64 else f"{count:,.0f}"
