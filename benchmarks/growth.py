"""The experiment of the ML2SC paper: gas against hidden units, layers and inputs, measured, fitted and plotted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .jobs import TARGETS, Job
from .measure import Figures, Ours
from .networks import RandomMlp, macs, parameters
from .paper_way import PaperWay
from .plots import Series, plot
from .text import cell, refusals, table

TITLE = "Growth: the paper's experiment"

PAPER_UPLOAD = (181_855.0, 815_149.0, 22_502.0)
PAPER_INFERENCE = (80_700.0, 66_500.0, 2_586.0)
"""The paper's formulas for 30 inputs and two hidden layers of n units: a + b·n + c·n². Upload is of the weights."""

PAPER_WAY_MACS = 8_000
"""The paper's way is measured up to so many multiply-accumulates: it takes a minute of py-evm then."""


@dataclass(frozen=True)
class Axis:
    """One quantity that grows while the others stand still.

    Attributes:
        name: What grows.
        file: Name of the plot.
        values: Its values.
        network: The network at a value.
        degree: Of the polynomial that is fitted: units meet units, so their products count.
    """

    name: str
    file: str
    values: tuple[int, ...]
    network: Callable[[int], RandomMlp]
    degree: int


AXES = (
    Axis("hidden units", "units.svg", (4, 8, 16, 32, 64), lambda n: RandomMlp((30, n, n, 1)), 2),
    Axis("hidden layers", "layers.svg", (1, 2, 3, 4), lambda n: RandomMlp((30, *[16] * n, 1)), 1),
    Axis("inputs", "inputs.svg", (30, 100, 300, 900), lambda n: RandomMlp((n, 16, 16, 1)), 1),
)
SAID = {
    "hidden units": "30 inputs, two hidden layers of n units",
    "hidden layers": "30 inputs, n hidden layers of 16 units",
    "inputs": "n inputs, two hidden layers of 16 units",
}

SYSTEMS: tuple[tuple[str, Callable[[RandomMlp], Job]], ...] = (
    *((target.capitalize(), lambda network, target=target: Ours(network, target)) for target in TARGETS),
    ("the paper's way", PaperWay),
)
MEASURES: tuple[tuple[str, Callable[[Figures], float]], ...] = (
    ("inference", lambda found: found.inference),
    ("deployment and weights", lambda found: found.all_in),
)


def networks() -> list[RandomMlp]:
    """Return the networks of all axes, each once."""
    return list(dict.fromkeys(axis.network(value) for axis in AXES for value in axis.values))


def jobs() -> list[Job]:
    """Return what is measured."""
    ours = [Ours(network, target) for network in networks() for target in TARGETS]
    return [*ours, *(PaperWay(network) for network in networks() if macs(network) <= PAPER_WAY_MACS)]


def report(figures: Mapping[Job, Figures], folder: Path) -> str:
    """Write the plots and return the page."""
    parts = [_axis(axis, figures, folder) for axis in AXES]
    named = ((str(job), figures[job]) for job in jobs())
    return f"""Random networks with ReLU and one Sigmoid output, int8, inputs normal within ±3 (the paper's features are
standardised), calibrated with inputs of the same kind. The paper's way (as in [results.md](results.md)) is measured up
to {PAPER_WAY_MACS:,} multiply-accumulates.

{"".join(parts)}## Linear in weights and multiply-accumulates

Least squares over all {len(networks())} networks above:

{_linear(figures)}
{refusals(named)}"""


def _axis(axis: Axis, figures: Mapping[Job, Figures], folder: Path) -> str:
    rows, fits, panels = [], [], []
    for value in axis.values:
        network = axis.network(value)
        found = [figures.get(job(network)) for _, job in SYSTEMS]
        rows.append(
            [f"{value}", f"{macs(network):,}", f"{parameters(network):,}"]
            + ["" if f is None else cell(f, measure(f)) for _, measure in MEASURES for f in found]
        )
    head = [f"{axis.name}, n", "MACs", "parameters"]
    head += [f"{system}: {what}" for what, _ in MEASURES for system, _ in SYSTEMS]
    papers = {"inference": PAPER_INFERENCE, "deployment and weights": PAPER_UPLOAD}
    for what, measure in MEASURES:
        series = []
        for system, job in SYSTEMS:
            points = _points(axis, figures, job, measure)
            fitted = fit_polynomial([x for x, _ in points], [y for _, y in points], axis.degree)
            fits.append([f"{system}: {what}", formula(fitted)])
            series.append(Series(system, points, fitted))
        if axis.name == "hidden units":
            fits.append([f"the paper's formula: {'weights' if what != 'inference' else what}", formula(papers[what])])
            series.append(Series("the paper's formula", (), papers[what]))
        panels.append((what, series))
    plot(folder / axis.file, axis.name, panels, axis.values)
    return f"""## {axis.name.capitalize()}: {SAID[axis.name]}

![gas against {axis.name}]({axis.file})

{table(head, rows)}

Fitted:

{table(["gas", "formula"], fits)}

"""


def _points(
    axis: Axis, figures: Mapping[Job, Figures], job: Callable[[RandomMlp], Job], measure: Callable[[Figures], float]
) -> tuple[tuple[int, float], ...]:
    found = ((value, figures.get(job(axis.network(value)))) for value in axis.values)
    return tuple((value, measure(f)) for value, f in found if f is not None and not f.refused)


def fit_polynomial(x: Sequence[float], y: Sequence[float], degree: int) -> tuple[float, ...]:
    """Return the coefficients of the least-squares polynomial, the constant first."""
    powers = np.vander(np.asarray(x, dtype=np.float64), min(degree, len(x) - 1) + 1, increasing=True)
    return tuple(float(c) for c in np.linalg.lstsq(powers, np.asarray(y, dtype=np.float64))[0])


def formula(coefficients: Sequence[float], variables: Sequence[str] = ("n", "n²")) -> str:
    """Return a polynomial in words, its coefficients to four digits or the unit of gas."""
    text = _number(coefficients[0])
    for coefficient, variable in zip(coefficients[1:], variables, strict=False):
        text += f" {'−' if coefficient < 0 else '+'} {_number(abs(coefficient))}·{variable}"
    return text


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def _linear(figures: Mapping[Job, Figures]) -> str:
    rows = []
    terms: dict[str, tuple[tuple[str, ...], Callable[[RandomMlp], tuple[float, ...]]]] = {
        "inference": (("MACs", "units", "inputs"), lambda n: (1, macs(n), sum(n.widths[1:]), n.widths[0])),
        "deployment and weights": (("parameters", "units"), lambda n: (1, parameters(n), sum(n.widths[1:]))),
    }
    for what, measure in MEASURES:
        variables, row_of = terms[what]
        for system, job in SYSTEMS:
            found = [(n, figures.get(job(n))) for n in networks()]
            kept = [(n, f) for n, f in found if f is not None and not f.refused]
            matrix = np.array([row_of(n) for n, _ in kept], dtype=np.float64)
            wanted = np.array([measure(f) for _, f in kept], dtype=np.float64)
            coefficients = np.linalg.lstsq(matrix, wanted)[0]
            off = np.abs(matrix @ coefficients / wanted - 1).max()
            rows.append([f"{system}: {what}", formula(coefficients.tolist(), variables), f"{off:.0%}"])
    return table(["gas", "formula", "furthest point off by"], rows) + "\n"
