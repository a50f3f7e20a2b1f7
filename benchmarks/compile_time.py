"""How long compiling takes (without solc), and how much memory: the examples, and random networks.

Each is compiled in a process of its own. Alone: python -m benchmarks.compile_time
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ml2sc.runtime.children import end_with_parent

from .networks import CALIBRATION, EXAMPLES, Calibrated, Network, RandomMlp, RandomResnet, macs, title
from .text import table

KINDS = {"int8": ("int8", True), "auto, range": ("auto", False), "auto, data": ("auto", True)}
"""What is compiled: the precision, and whether the calibration data is given or only its range."""
RANDOM = (
    RandomMlp((256, 64, 10), 0.5),
    RandomMlp((784, 100, 10), 0.5),
    RandomMlp((1024, 256, 10), 0.5),
    RandomMlp((1024, 512, 128, 10), 0.5),
    RandomMlp((2048, 460, 128, 10), 0.5),
)
SERIES = {
    "rows of the maps": tuple(RandomResnet(1, 8, (rows, 8)) for rows in (8, 16, 32, 64)),
    "channels": tuple(RandomResnet(1, channels, (8, 8)) for channels in (8, 16, 32, 64)),
    "blocks": tuple(RandomResnet(blocks, 8, (8, 8)) for blocks in (1, 2, 4, 8)),
}
"""Convolutional networks of which one thing grows, compiled as int8 with data."""
SECONDS, MEGABYTES = 60, 2_000
"""What a million weights may take."""


@dataclass(frozen=True)
class Timing:
    """What a compilation took.

    Attributes:
        seconds: On the clock.
        cpu_seconds: Of the processor, which other programs disturb less.
        megabytes: The most memory its process had.
    """

    seconds: float
    cpu_seconds: float
    megabytes: float


def compile_once(network: Calibrated, kind: str) -> Timing:
    """Compile a network for Solidity, from the ONNX model to source text and prediction."""
    import ml2sc

    model, calibration = network.model(), network.calibration()
    precision, with_data = KINDS[kind]
    clock, cpu = time.perf_counter(), time.process_time()
    if not with_data:
        x = calibration["x"]
        ml2sc.compile(model, "solidity", precision, name="Network", input_ranges=((float(x.min()), float(x.max())),))
    else:
        ml2sc.compile(model, "solidity", precision, calibration, name="Network")
    return Timing(time.perf_counter() - clock, time.process_time() - cpu, peak_megabytes())


def peak_megabytes() -> float:
    """Return this process's peak memory; Linux's rusage would count what its parent had when it started it."""
    status = Path("/proc/self/status")
    if status.is_file() and (match := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(match.group(1)) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def timings() -> Iterator[tuple[Network, str, Timing]]:
    """Compile the examples and the perceptrons, one after the other."""
    for network in (*EXAMPLES, *RANDOM):
        for kind in KINDS:
            yield network, kind, _alone(network, kind)


def convolutional() -> dict[RandomResnet, Timing]:
    """Compile each convolutional network once."""
    return {network: _alone(network, "int8") for network in dict.fromkeys(itertools.chain(*SERIES.values()))}


def _alone(network: Calibrated, kind: str) -> Timing:
    """Compile a network in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        return pool.submit(compile_once, network, kind).result()


def report() -> str:
    """Return the page."""
    return page(list(timings()), convolutional())


def growth(found: Mapping[RandomResnet, Timing]) -> Iterator[list[str]]:
    """Iterate over the rows of the table of convolutional networks."""
    for what, networks in SERIES.items():
        first = networks[0]
        for network in networks:
            height, width = network.size
            timing = found[network]
            yield [
                what,
                f"{network.blocks} × {network.channels} × {height}×{width}",
                f"{network.products:,}",
                f"{network.weights:,}",
                f"{timing.cpu_seconds:.2f}",
                f"{network.products / first.products:.1f}",
                f"{timing.cpu_seconds / found[first].cpu_seconds:.1f}",
                f"{timing.megabytes:,.0f}",
            ]


def page(found: Sequence[tuple[Network, str, Timing]], resnets: Mapping[RandomResnet, Timing]) -> str:
    """Return the page.

    Args:
        found: What the examples and the perceptrons took.
        resnets: What the convolutional networks took.
    """
    rows = [
        [title(n), f"{macs(n):,}", kind, f"{t.seconds:.2f}", f"{t.cpu_seconds:.2f}", f"{t.megabytes:,.0f}"]
        for n, kind, t in found
    ]
    lines = []
    for kind in KINDS:
        points = [(macs(n), t.cpu_seconds) for n, k, t in found if k == kind and isinstance(n, RandomMlp)]
        weights, seconds = np.array(points).T
        start, each = np.polynomial.polynomial.polyfit(weights / 1e6, seconds, 1)
        correlation = np.corrcoef(weights, seconds)[0, 1]
        lines.append(f"- {kind}: {start:.2f} + {each:.1f} · million weights, R² = {correlation**2:.3f}")
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"""# Times

Written by `make bench`, on {machine}. What depends on the machine is here and nowhere else.

From the ONNX model to Solidity source and predicted gas, without solc, each in a process of its own: `int8` and `auto`
with calibration data (of a random network: {CALIBRATION} samples), and `auto` with their range alone. With data `auto`
searches formats, and takes as long as it finds some to try. A million weights are to take less than {SECONDS} s and
{MEGABYTES:,} MB.

{table(["network", "weights", "compiled as", "seconds", "CPU seconds", "peak MB"], rows)}

CPU seconds of the random networks, fitted by least squares:

{chr(10).join(lines)}

## Convolutional networks

A Conv 3×3, blocks of two of them with a connection around, Relu behind each, the mean of each channel and a layer;
random weights, int8. Of each series one thing grows; × says how much more than its first network has.

{table([*_GROWTH, "× products", "× CPU seconds", "peak MB"], growth(resnets))}
"""


_GROWTH = ("what grows", "blocks × channels × maps", "products", "weights", "CPU seconds")


if __name__ == "__main__":
    print(report(), end="")
