"""Gas of a multiply-accumulate by precision and target: the slope between two fan-ins of a dense layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from .goals import Goal, goal_table
from .jobs import TARGETS, Job
from .measure import Figures, Ours
from .networks import RandomMlp
from .text import MISSING, refusals, table

TITLE = "Gas a multiply-accumulate"

PRECISIONS = ("w4a4", "int8", "w8a16", "q31.32")
BEST: dict[str, tuple[str, tuple[float, ...]]] = {
    "int8": ("111 (MNISTPacked, by hand)", (3.0, 8.0)),
    "w4a4": (MISSING, (2.0,)),
    "q31.32": (MISSING, (32.0,)),
}
"""The best known gas a multiply-accumulate, and what ours should be at most: Solidity, Vyper."""
FAN_INS = (256, 512)
UNITS = 32
ZEROS = (0.0, 0.8)


def network(fan_in: int, zeros: float) -> RandomMlp:
    """Return a network whose first layer has this fan-in."""
    return RandomMlp((fan_in, UNITS, 10), zeros)


def jobs() -> list[Job]:
    """Return what is measured."""
    return [
        Ours(network(fan_in, zeros), target, precision)
        for fan_in in FAN_INS
        for zeros in ZEROS
        for target in TARGETS
        for precision in PRECISIONS
    ]


def slope(figures: Mapping[Job, Figures], target: str, precision: str, zeros: float, *, calldata: bool) -> float | None:
    """Return gas a multiply-accumulate; None if one of the two contracts does not fit.

    Args:
        figures: What was measured.
        target: Name of the backend.
        precision: Number format.
        zeros: Share of the inputs that are 0.
        calldata: Whether the input's bytes count.
    """
    few, many = (figures[Ours(network(fan_in, zeros), target, precision)] for fan_in in FAN_INS)
    if few.refused or many.refused:
        return None
    more = many.inference - few.inference - (0 if calldata else many.calldata - few.calldata)
    return more / ((FAN_INS[1] - FAN_INS[0]) * UNITS)


def goals(figures: Mapping[Job, Figures]) -> Iterator[Goal]:
    """Iterate over what there is to beat."""
    for precision, (best, limits) in BEST.items():
        yield Goal(
            f"dense {precision}, no input 0",
            best,
            {target: slope(figures, target, precision, 0.0, calldata=False) for target in TARGETS},
            dict(zip(TARGETS, limits, strict=False)),
        )


def report(figures: Mapping[Job, Figures], folder: Path) -> str:
    """Return the page."""
    rows = []
    for precision in PRECISIONS:
        row = [precision]
        for target in TARGETS:
            lanes = [figures[Ours(network(fan_in, 0.0), target, precision)].lanes[:1] for fan_in in FAN_INS]
            row += [" and ".join(str(n) for n in sorted({*lanes[0], *lanes[1]}, reverse=True)) or MISSING]
            row += [
                _two_places(slope(figures, target, precision, zeros, calldata=calldata))
                for zeros in ZEROS
                for calldata in (True, False)
            ]
        rows.append(row)
    columns = ["lanes", "dense", "without calldata", "80 % zeros", "without calldata"]
    head = ["precision", *(f"{target.capitalize()}: {column}" for target in TARGETS for column in columns)]
    a, b = FAN_INS
    return f"""{goal_table(goals(figures))}

Without calldata; 2,700–4,700 gas are what ML2SC takes. All formats:

{table(head, rows)}

Random networks K-{UNITS}-10 with normal weights, K = {a} and {b}: the difference of their inferences, whole
transactions, by {b - a} · {UNITS}. Dense: no input is 0. 80 % zeros: each input is 0 with that probability. Each is
compiled with calibration data of its own kind. The second figure of each pair leaves out the calldata of the inputs,
which {UNITS} multiply-accumulates share.

{refusals(_named(figures))}"""


def _two_places(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def _named(figures: Mapping[Job, Figures]) -> Iterator[tuple[str, Figures]]:
    for job in jobs():
        yield str(job), figures[job]
