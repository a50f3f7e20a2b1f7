"""How a check grows with workers and samples: MNIST in int8, on samples made from its examples.

One and two workers are measured; more than this machine has cores are simulated, by workers that sleep for as long as
a part takes. Alone: python -m benchmarks.scale [MOST_SAMPLES]
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import ml2sc
from ml2sc.backends import Artifact
from ml2sc.runtime.check import PART
from ml2sc.runtime.children import end_with_parent
from ml2sc.runtime.examine import Found, Part
from ml2sc.runtime.tally import Tally
from ml2sc.runtime.workers import Job, Workers, local_workers

from .compile_time import peak_megabytes
from .text import table

FOLDER = Path(__file__).parent.parent / "examples" / "mnist"
MEASURED = (1, 2)
SIMULATED = (1, 2, 4, 8)
SAMPLES = 2_000
"""Samples of the runs whose speed is compared."""
PARTS = 40
"""Parts for each simulated worker."""
MOST = 100_000
"""Samples of the largest run, unless another number is given."""
_BLOCK = 10_000


@dataclass
class Worker:
    """What came from one process.

    Attributes:
        first: When its first result came, and its seconds of the processor until then.
        last: The same of its last one.
        parts: How many came.
        megabytes: The most memory it had.
    """

    first: tuple[float, float]
    last: tuple[float, float]
    parts: int
    megabytes: float


@dataclass
class Watched:
    """Workers, and what they need.

    Attributes:
        workers: Who works.
        started: When.
        by_process: What came from each process.
        found: The first result.
    """

    workers: Workers
    started: float = field(default_factory=time.perf_counter)
    by_process: dict[int, Worker] = field(default_factory=dict)
    found: Any = None

    @property
    def count(self) -> int:
        """How many are at work at a time."""
        return self.workers.count

    def run(self, job: Job[Any, Any], tasks: Iterable[Any]) -> Iterator[Any]:
        """Yield the tasks' results."""
        self.started = time.perf_counter()
        for result, process, cpu, megabytes in self.workers.run(_Watching(job), tasks):
            now = time.perf_counter() - self.started, cpu
            one = self.by_process.setdefault(process, Worker(now, now, 0, megabytes))
            one.last, one.parts, one.megabytes = now, one.parts + 1, megabytes
            self.found = self.found or result
            yield result

    def steady(self) -> tuple[float, float]:
        """Return samples a second, and seconds of the processor a sample: each worker's from its first result on."""
        rate = cpu = samples = 0.0
        for one in self.by_process.values():
            done = PART * (one.parts - 1)
            if done:
                rate += done / (one.last[0] - one.first[0])
                cpu, samples = cpu + one.last[1] - one.first[1], samples + done
        return rate, cpu / max(samples, 1)

    @property
    def first(self) -> float:
        """Seconds until each worker had done its first part."""
        return max(one.first[0] for one in self.by_process.values())


@dataclass(frozen=True)
class _Watching:
    """A job whose results come with process, CPU seconds and peak memory."""

    job: Job[Any, Any]

    @contextmanager
    def open(self) -> Iterator[Callable[[Any], tuple[Any, int, float, float]]]:
        with self.job.open() as work:
            begin = time.process_time()
            yield lambda task: (work(task), os.getpid(), time.process_time() - begin, peak_megabytes())


@dataclass(frozen=True)
class Sleeping:
    """A check's work, pretended: a worker sleeps for as long as a part would take, and returns what another found.

    Attributes:
        found: What it returns.
        pace: Seconds a sample.
    """

    found: Found
    pace: float

    @contextmanager
    def open(self) -> Iterator[Callable[[Part], Found]]:
        """Yield what pretends to examine a part."""

        def examine(part: Part) -> Found:
            time.sleep(self.pace * PART)
            return self.found._replace(first=part.first)

        yield examine


@dataclass(frozen=True)
class Run:
    """A check that was measured, or a simulated one.

    Attributes:
        workers: How many worked.
        samples: How many samples they took.
        seconds: On the clock, from the workers' start to the last result.
        first: Of them, until each worker had done its first part: processes start.
        rate: Samples a second, of each worker from its first part on.
        cpu: The workers' seconds of the processor, a sample, likewise.
        megabytes: The most memory of the process that collects, and of each worker.
        found: What was found on the first part.
    """

    workers: int
    samples: int
    seconds: float
    first: float
    rate: float
    cpu: float
    megabytes: tuple[float, float]
    found: Found


def write_samples(path: Path, count: int) -> None:
    """Write so many images made from the examples: one of them each, its strokes a little darker or lighter."""
    with np.load(FOLDER / "samples.npz") as archive:
        images = archive["x"]
    out = np.lib.format.open_memmap(path, "w+", np.float16, (count, images.shape[1]))
    for first in range(0, count, _BLOCK):
        rng = np.random.default_rng(first)
        rows = images[rng.integers(len(images), size=min(_BLOCK, count - first))]
        noise = rng.normal(scale=0.02, size=rows.shape) * (rows > 0)
        out[first : first + len(rows)] = np.clip(rows + noise, 0, 1)
    out.flush()


def measure(artifact: Artifact, samples: Path, workers: int, limit: int | None = None) -> Run:
    """Check a contract on a file of samples."""
    watched = Watched(local_workers(workers))
    report = ml2sc.check(artifact, samples, workers=watched, limit=limit)
    seconds = time.perf_counter() - watched.started
    assert report.bit_exact, report.failure
    most = peak_megabytes(), max(one.megabytes for one in watched.by_process.values())
    return Run(workers, report.samples, seconds, watched.first, *watched.steady(), most, watched.found)


def simulate(like: Run, workers: int) -> Run:
    """Have workers sleep for as long as one took, and collect what they return as a check does."""
    watched, tally = Watched(local_workers(workers)), Tally()
    parts = (Part(PART * number, ()) for number in range(PARTS * workers))  # type: ignore[arg-type]
    for found in watched.run(Sleeping(like.found, like.cpu), parts):
        tally.merge(found.tally)
    seconds = time.perf_counter() - watched.started
    rate, _ = watched.steady()
    return replace(like, workers=workers, samples=tally.samples, seconds=seconds, first=watched.first, rate=rate)


def runs(most: int) -> tuple[list[Run], list[Run], list[Run]]:
    """Return the runs measured, those simulated, and those of more and more samples: each in a process of its own."""
    data = FOLDER / "calibration.npz"
    compiled = ml2sc.compile(FOLDER / "mnist.onnx", precision="int8", calibration=data)
    artifact = ml2sc.build(compiled, ml2sc.Toolchain())
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, spawn, end_with_parent, max_tasks_per_child=1) as pool,
    ):
        path = Path(folder, "samples.npy")
        write_samples(path, most)
        measured = [pool.submit(measure, artifact, path, count, SAMPLES).result() for count in MEASURED]
        simulated = [pool.submit(simulate, measured[0], count).result() for count in SIMULATED]
        sizes = sorted({most // 100, most // 10, most})
        grown = [pool.submit(measure, artifact, path, MEASURED[-1], size).result() for size in sizes]
    return measured, simulated, grown


def report(most: int = MOST) -> str:
    """Return the page."""
    before = os.getloadavg()[0]
    found = runs(most)
    return page(*found, f"{before:.1f} when it began, {os.getloadavg()[0]:.1f} at its end")


def page(measured: Sequence[Run], simulated: Sequence[Run], grown: Sequence[Run], load: str) -> str:
    """Return the page for these runs."""
    head = ["workers", "samples", "at work after", "seconds", "samples/s", "of linear", "CPU ms a sample"]

    def rows(some: Sequence[Run]) -> Iterator[list[str]]:
        for run in some:
            linear = run.rate / (run.workers * some[0].rate / some[0].workers)
            yield [
                *(str(run.workers), f"{run.samples:,}", f"{run.first:.1f} s", f"{run.seconds:.1f}", f"{run.rate:,.0f}"),
                *(f"{linear:.0%}", f"{1000 * run.cpu:.2f}"),
            ]

    memory = [[f"{run.samples:,}", f"{run.seconds:,.0f}", *(f"{mb:,.0f}" for mb in run.megabytes)] for run in grown]
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"""# Scale

Written by `make bench`, on {machine}. Like times.md it depends on the machine, and on what else runs there: the load
average was {load}.

`ml2sc.check` of MNIST in int8 (784-32-10, Solidity): graph interpreter, Program interpreter, contract on revm, float64
model and onnxruntime on every sample. Samples are made from those of examples/mnist, in an .npy file that the workers
read. A worker's rate counts from its first part on; until then it starts and puts the contract on a chain of its own.

Measured:

{table(head, rows(measured))}

Simulated: workers that sleep for as long as one part took above ({1000 * measured[0].cpu:.2f} ms a sample), with this
machine's {os.cpu_count()} cores for starting, pickling and adding up. What is lost is what it costs to share the work.

{table(head[:-1], (row[:-1] for row in rows(simulated)))}

Memory, with {grown[-1].workers} workers. A worker's does not grow with the samples. The collecting process keeps
the first million distances of each kind for exact percentiles, 8 MB each, and of more only counts.

{table(["samples", "seconds", "collecting process, peak MB", "each worker, peak MB"], memory)}
"""


if __name__ == "__main__":
    print(report(*map(int, sys.argv[1:])), end="")
