"""Gas of a parameter on the chain, deployment and all, by the planner's objective."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .goals import Goal, goal_table
from .jobs import TARGETS, Job
from .measure import Figures, Ours
from .networks import EXAMPLES, MNIST, Network, RandomMlp, parameters, title
from .text import MISSING, cell, refusals, table

TITLE = "Gas a parameter"

OBJECTIVES = ("inference", "deploy")
SMALL, LARGE = RandomMlp((512, 128, 10), 0.5), RandomMlp((1024, 128, 10), 0.5)
"""Between them, one parameter more is measured, with `--optimize deploy`."""


def jobs() -> list[Job]:
    """Return what is measured."""
    trained = [Ours(n, target, optimize=o) for n in EXAMPLES for target in TARGETS for o in OBJECTIVES]
    return [*trained, *(Ours(n, target, optimize="deploy") for n in (SMALL, LARGE) for target in TARGETS)]


def all_in(figures: Mapping[Job, Figures], network: Network, target: str, objective: str) -> float | None:
    """Return the gas of deployment and weights by parameter; None if the contract does not fit."""
    found = figures[Ours(network, target, optimize=objective)]
    return None if found.refused else found.all_in / parameters(network)


def slope(figures: Mapping[Job, Figures], target: str) -> float | None:
    """Return the gas of one parameter more, between the two random networks; None if one does not fit."""
    few, many = (figures[Ours(network, target, optimize="deploy")] for network in (SMALL, LARGE))
    if few.refused or many.refused:
        return None
    return (many.all_in - few.all_in) / (parameters(LARGE) - parameters(SMALL))


def report(figures: Mapping[Job, Figures], folder: Path) -> str:
    """Return the page."""
    rows = []
    for network in EXAMPLES:
        for target in TARGETS:
            row = [title(network), target, f"{parameters(network):,}"]
            for objective in OBJECTIVES:
                found = figures[Ours(network, target, optimize=objective)]
                row += [_whole(all_in(figures, network, target, objective)), cell(found, found.inference)]
            rows.append(row)
    head = ["network", "target", "parameters"]
    for objective in OBJECTIVES:
        head += [f"{objective}: gas a parameter", "an inference"]
    slopes = ", ".join(f"{_whole(slope(figures, target))} ({target.capitalize()})" for target in TARGETS)
    named = ((str(job), figures[job]) for job in jobs())
    goal = Goal(
        f"{title(MNIST)}, int8, deploy",
        "929 (MNISTPacked) to 25,000 (ML2SC)",
        {target: all_in(figures, MNIST, target, "deploy") for target in TARGETS},
        dict.fromkeys(TARGETS, 260.0),
    )
    return f"""{goal_table([goal])}

int8, by `--optimize`: deployment and weights by parameter, and the mean of an inference.

{table(head, rows)}

One parameter more with `--optimize deploy`, between the random networks {title(SMALL)} and {title(LARGE)}: {slopes}.

{refusals(named)}"""


def _whole(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.0f}"
