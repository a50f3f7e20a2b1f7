"""A Dask cluster of this machine: the same report as from one process; workers and schedulers that fail."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from support import forking
from support.forking import Started

import ml2sc
from ml2sc.backends.base import Toolchain
from ml2sc.errors import DataError, ToolchainError
from ml2sc.runtime.check import check
from ml2sc.runtime.cluster import Cluster
from ml2sc.runtime.workers import Processes

distributed = pytest.importorskip("distributed")

Spawn = Callable[..., Started]

IMPORTED = (
    *("dask.__main__", "distributed.cli.dask_worker", "ml2sc.runtime.check", "ml2sc.runtime.cluster", "pytest"),
    *("eth.chains.base", "eth.vm.forks.prague", "onnxruntime", "pyrevm"),
)
"""What workers import, these tests included, and what a check imports when it begins."""


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Return a function that starts `dask worker …`; what it started ends with the test."""
    started: list[Started] = []

    def start(*arguments: object) -> Started:
        started.append(forking.start("-m", "dask", "worker", *arguments, imported=IMPORTED))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def scheduler() -> Iterator[str]:
    """The address of a scheduler in this process: a start of one takes seconds."""
    with distributed.LocalCluster(
        n_workers=0, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def scheduler_process() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A scheduler on a free port."""
    command = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    yield next(line.split()[-1] for line in process.stderr if "Scheduler at:" in line), process
    process.kill()
    process.communicate()


def start_workers(spawn: Spawn, address: str, count: int, *more: object, before: int = 0) -> list[Started]:
    """Start workers and wait until the scheduler knows them, and as many as it knew before."""
    started = [spawn(address, "--no-nanny", "--nthreads", 1, "--no-dashboard", *more) for _ in range(count)]
    with distributed.Client(address, set_as_default=False) as client:
        client.wait_for_workers(before + count, timeout=60)
    return started


@dataclass(frozen=True)
class Slow:
    """Notes who does a task, and takes a while."""

    folder: Path

    @contextmanager
    def open(self) -> Iterator[Callable[[int], int]]:
        yield self._do

    def _do(self, number: int) -> int:
        (self.folder / f"{number} {os.getpid()}").touch()
        if number == 13:
            raise DataError("thirteen is no number", hint="twelve is")
        time.sleep(0.1)
        return number


MODEL = (
    '<ir_version: 9, opset_import: ["" : 18]> net (float[1,3] x) => (float[1,3] y, int64[1] label) '
    "<float[3,3] w = {1, -1, 0.5, 2, -0.75, 1, 0.3, 0.6, -1.5}> "
    "{ y = MatMul(x, w) label = ArgMax<axis = 1, keepdims = 0>(y) }"
)


def test_the_report_is_that_of_one_process(scheduler: str, spawn: Spawn, toolchain: Toolchain, tmp_path: Path) -> None:
    start_workers(spawn, scheduler, 2)
    arrays = {"x": np.random.default_rng(0).uniform(-1, 1, (250, 3))}  # three parts
    artifact = ml2sc.compile(onnx.parser.parse_model(MODEL), precision="w4a4", calibration=arrays)
    artifact = ml2sc.build(artifact, toolchain)
    path = tmp_path / "samples.npz"
    np.savez(path, **arrays)
    report = check(artifact, path)
    places = [sample["sample"] for sample in report.to_json()["differing"]]
    assert min(places) < 100 < max(places) - 100  # some decisions of the first part and of the last are not the model's
    alone = json.dumps(report.to_json())
    assert json.dumps(check(artifact, path, workers=Cluster(scheduler)).to_json()) == alone
    assert json.dumps(check(artifact, arrays, workers=Cluster(scheduler)).to_json()) == alone
    assert json.dumps(check(artifact, path, workers=Processes(2)).to_json()) == alone
    assert not multiprocessing.active_children()


def test_a_dead_worker_costs_its_tasks(scheduler: str, spawn: Spawn, tmp_path: Path) -> None:
    first, _ = start_workers(spawn, scheduler, 2)
    results = Cluster(scheduler).run(Slow(tmp_path), range(100, 130))
    done = [next(results) for _ in range(3)]
    first.kill()
    assert sorted([*done, *results]) == list(range(100, 130))


def test_a_tasks_error_is_the_users_to_read(scheduler: str, spawn: Spawn, tmp_path: Path) -> None:
    start_workers(spawn, scheduler, 1)
    with pytest.raises(DataError, match="thirteen is no number") as caught:
        list(Cluster(scheduler).run(Slow(tmp_path), range(10, 20)))
    assert caught.value.hint == "twelve is"


def test_a_scheduler_that_goes(
    scheduler_process: tuple[str, subprocess.Popen[str]], spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml2sc.runtime.cluster._CONNECT_SECONDS", 5)
    address, process = scheduler_process
    start_workers(spawn, address, 1)
    results = Cluster(address).run(Slow(tmp_path), range(100, 200))
    next(results)
    process.send_signal(signal.SIGKILL)
    with pytest.raises(ToolchainError, match=f"the Dask cluster at {address} is lost"):
        list(results)


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml2sc.runtime.cluster._CONNECT_SECONDS", 1)
    with pytest.raises(ToolchainError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9") as caught:
        list(Cluster("tcp://127.0.0.1:9").run(Slow(Path()), range(3)))
    assert caught.value.exit_code == 3
    with pytest.raises(ToolchainError, match="no Dask scheduler answers at nonsense"):
        list(Cluster("nonsense://").run(Slow(Path()), range(3)))


def test_no_workers(scheduler: str) -> None:
    with pytest.raises(ToolchainError, match="has no workers"):
        list(Cluster(scheduler).run(Slow(Path()), range(3)))


def test_a_worker_with_another_ml2sc_is_named(scheduler: str, spawn: Spawn, tmp_path: Path) -> None:
    start_workers(spawn, scheduler, 1)
    other = tmp_path / "other.py"
    other.write_text("import ml2sc.runtime.cluster as cluster\ncluster.build = lambda: '0.0.9 (an older one)'\n")
    start_workers(spawn, scheduler, 1, "--name", "old", "--preload", other, before=1)
    with pytest.raises(ToolchainError) as caught:
        list(Cluster(scheduler).run(Slow(tmp_path), range(3)))
    text = str(caught.value)
    assert "1 of 2 workers have another ml2sc than 0.1.0" in text
    assert "has 0.0.9 (an older one)" in text


def test_no_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ToolchainError, match=r"a cluster needs dask\.distributed"):
        list(Cluster("tcp://127.0.0.1:9").run(Slow(Path()), range(3)))
