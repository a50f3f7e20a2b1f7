"""Line plots as SVG, the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

_STYLE = {"svg.hashsalt": "ml2sc", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
_MARKERS = "o^sD"


@dataclass(frozen=True)
class Series:
    """Points and the polynomial through them.

    Attributes:
        label: Its name.
        points: (x, gas), as measured.
        coefficients: Of the polynomial, the constant first.
    """

    label: str
    points: Sequence[tuple[float, float]]
    coefficients: Sequence[float]


def plot(path: Path, x_label: str, panels: Sequence[tuple[str, Sequence[Series]]], xs: Sequence[float]) -> None:
    """Write panels side by side, gas on a logarithmic axis; a series without points is a dashed line.

    Args:
        path: The SVG file.
        x_label: What grows.
        panels: Title and series of each.
        xs: Where the points are; lines are drawn between the first and the last.
    """
    line = np.linspace(min(xs), max(xs), 100)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        for axes, (title, series) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            for index, one in enumerate(series):
                gas = np.polynomial.polynomial.polyval(line, one.coefficients)
                style = "-" if one.points else "--"
                label = None if one.points else one.label
                axes.plot(line, np.where(gas > 0, gas, np.nan), style, color=f"C{index}", linewidth=1, label=label)
                if one.points:
                    x, y = zip(*one.points, strict=True)
                    axes.plot(x, y, _MARKERS[index], color=f"C{index}", markersize=4, label=one.label)
            axes.set(title=title, xlabel=x_label, ylabel="gas", yscale="log")
            axes.grid(visible=True, which="major", linewidth=0.4)
        axes.legend()
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
