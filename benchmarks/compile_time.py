"""How long compiling takes (without solc), and how much memory: the examples, and networks of up to a million weights.

Each is compiled in a process of its own. Alone: python -m benchmarks.compile_time
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .networks import CALIBRATION, EXAMPLES, Network, RandomMlp, macs, title
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


def compile_once(network: Network, kind: str) -> Timing:
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
    """Compile everything, one after the other."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as pool:
        for network in (*EXAMPLES, *RANDOM):
            for kind in KINDS:
                yield network, kind, pool.submit(compile_once, network, kind).result()


def report() -> str:
    """Return the page."""
    return page(list(timings()))


def page(found: Sequence[tuple[Network, str, Timing]]) -> str:
    """Return the page for these timings."""
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
"""


if __name__ == "__main__":
    print(report(), end="")
