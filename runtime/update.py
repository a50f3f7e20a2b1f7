"""New weights for an updatable contract: the calls that stage and activate them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eth_abi.abi import encode

from ml2sc.backends.base import Artifact
from ml2sc.backends.interface import weights_hash

from .contract import encode_call


def owner_argument(owner: str) -> bytes:
    """Return the constructor's argument of an updatable contract."""
    return encode(["address"], [owner])


def update_calls(artifact: Artifact, *, at_once: bool = True) -> Iterator[tuple[str, bytes]]:
    """Yield what replaces the weights: names of steps ("stage 0", …, "activate") and their calldata, in order.

    Args:
        artifact: The new weights.
        at_once: Stage the last chunk and activate in one transaction; not where a timelock lies between the two.
    """
    expected = weights_hash(artifact.data)
    last = len(artifact.data) - 1
    for index, chunk in enumerate(artifact.data):
        if index == last and at_once:
            yield ACTIVATE, _call(artifact, "stageAndActivate", index, chunk, expected)
        else:
            yield stage_step(index), _call(artifact, "stage", index, chunk)
    if not at_once:
        yield ACTIVATE, _call(artifact, "activate", expected)


ACTIVATE = "activate"
"""Name of the step that puts new weights in use."""


def stage_step(index: int) -> str:
    """Return the name of the step that stages a chunk."""
    return f"stage {index}"


def _call(artifact: Artifact, function: str, *args: Any) -> bytes:
    return encode_call(artifact.abi, function, *args)
