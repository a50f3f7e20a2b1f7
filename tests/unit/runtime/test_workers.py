"""Workers: whoever does the tasks, each is done once; what dies is replaced; what fails is reported."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.tasks import Square

from ml2sc.errors import DataError, ToolchainError, UsageError
from ml2sc.runtime.contract import ContractError
from ml2sc.runtime.workers import (
    AHEAD,
    Processes,
    ThisProcess,
    Workers,
    default_workers,
    local_workers,
    require_workers,
)


@pytest.mark.parametrize("workers", [ThisProcess(), Processes(2)], ids=["here", "two"])
def test_every_task_is_done_once(workers: Workers, tmp_path: Path) -> None:
    assert sorted(workers.run(Square(tmp_path), range(30))) == [n * n for n in range(30)]
    marks = {path.name for path in tmp_path.iterdir()}
    assert 1 <= sum(name.startswith("opened") for name in marks) <= workers.count
    assert {name.removeprefix("closed") for name in marks if name.startswith("closed")} == {
        name.removeprefix("opened") for name in marks if name.startswith("opened")
    }
    assert not multiprocessing.active_children()


def test_tasks_are_not_read_far_ahead(tmp_path: Path) -> None:
    read: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(50):
            read.append(number)
            yield number

    results = Processes(2).run(Square(tmp_path), tasks())
    next(results)
    assert len(read) <= AHEAD * 2 + 2
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(read) < 20


def test_a_dead_worker_costs_what_it_was_at(tmp_path: Path) -> None:
    results = list(Processes(2).run(Square(tmp_path, "dies once"), range(20)))
    assert (tmp_path / "died").exists()
    assert sorted(results) == [n * n for n in range(20)]


@pytest.mark.parametrize("taken", range(4))
def test_a_worker_dies_while_tasks_are_handed_out(taken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the broken pool did not take any more is done by the next one."""
    submit, calls = ProcessPoolExecutor.submit, iter(range(1_000))

    def broken_once(pool: ProcessPoolExecutor, *work: Any) -> Any:
        if next(calls) == taken:
            raise BrokenProcessPool
        return submit(pool, *work)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", broken_once)
    assert sorted(Processes(2).run(Square(tmp_path), range(12))) == [n * n for n in range(12)]


def test_work_that_kills_its_workers_ends(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="worker processes died 3 times") as caught:
        list(Processes(2).run(Square(tmp_path, "dies always"), range(8)))
    assert "--workers 1" in str(caught.value)


def test_errors_come_back_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(Processes(2).run(Square(tmp_path, "refuses"), range(8)))
    assert (caught.value.message, caught.value.tensor, caught.value.hint) == ("five is no number", "%x", "four is")
    with pytest.raises(ContractError) as reverted:
        list(Processes(2).run(Square(tmp_path, "reverts"), range(8)))
    assert (reverted.value.name, reverted.value.arguments) == ("InputLength", {"expected": 4, "actual": 5})
    assert reverted.value.data == b"\1"


_SLOW = """
import os, signal, sys, time
from contextlib import contextmanager
from dataclasses import dataclass
from ml2sc.runtime.workers import Processes

@dataclass
class Slow:
    @contextmanager
    def open(self):
        yield self.work
        os.write(1, b"closed\\n")

    def work(self, number):
        os.write(1, b"at work\\n")  # print may write the end of the line by itself
        time.sleep(600)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script ignores it in its background
    try:
        list(Processes(2).run(Slow(), range(9)))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def is_empty(group: int) -> bool:
    """Return whether the processes of a group have ended, some seconds later at most."""
    for _ in range(300):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def start_slow_work(folder: Path) -> subprocess.Popen[str]:
    """Start ten minutes of work of two workers, in a group of processes of its own; both are at it."""
    script = folder / "slow.py"
    script.write_text(textwrap.dedent(_SLOW))
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, start_new_session=True, text=True)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["at work\n"] * 2
    return process


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    process = start_slow_work(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=120) == 130  # ten minutes of work are left
    assert is_empty(process.pid)  # no worker is left


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_a_killed_parent_leaves_no_worker(tmp_path: Path) -> None:
    process = start_slow_work(tmp_path)
    try:
        process.kill()
        # To its end: all of them hold the pipe, the resource tracker too, and one that nobody reaped has closed it.
        rest, _ = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert rest == "closed\n" * 2


def test_as_many_as_the_machine_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    memory = {"SC_AVPHYS_PAGES": 3 << 18, "SC_PAGE_SIZE": 1 << 12}
    monkeypatch.setattr(os, "sysconf", memory.__getitem__)
    assert default_workers() == 3
    memory["SC_AVPHYS_PAGES"] = 1
    assert default_workers() == 1
    memory["SC_AVPHYS_PAGES"] = 1 << 40
    assert default_workers() == 64
    assert isinstance(local_workers(1), ThisProcess)
    assert local_workers(3).count == 3


@pytest.mark.parametrize("count", [0, -1])
def test_no_workers_do_nothing(count: int) -> None:
    with pytest.raises(UsageError, match=f"{count} workers: one or more"):
        require_workers(count)
