"""Who does the work that can be cut into parts: this process, some on this machine, or a Dask cluster.

A job is opened once by each worker, which then takes one task after the other. Results come in any order. A worker that
dies costs the tasks it was at: others take them over.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import islice
from typing import Any, Protocol, TypeVar

from ml2sc.errors import ToolchainError, UsageError

from .children import end_with_parent

Task = TypeVar("Task")
Result = TypeVar("Result")
Task_contra = TypeVar("Task_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)

MEMORY = 1 << 30
"""Bytes that a worker process may take: so many of them are started as the free memory holds."""

AHEAD = 2
"""Tasks that wait for each worker."""

LIVES = 3
"""How often a task's worker may die: then the task is the cause."""


class Job(Protocol[Task_contra, Result_co]):
    """Work that can be pickled, the same for every task."""

    def open(self) -> AbstractContextManager[Callable[[Task_contra], Result_co]]:
        """Get ready, and yield what does a task."""


class Workers(Protocol):
    """Does the tasks of a job.

    Attributes:
        count: How many are at work at a time.
    """

    @property
    def count(self) -> int: ...

    def run(self, job: Job[Task, Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield the tasks' results, in any order; `tasks` is not read far ahead.

        Raises:
            ToolchainError: workers die, or cannot be reached.
        """


class ThisProcess:
    """Does one task after the other, here."""

    count = 1

    def run(self, job: Job[Task, Result], tasks: Iterable[Task]) -> Iterator[Result]:
        with job.open() as work:
            for task in tasks:
                yield work(task)


class Processes:
    """Does tasks in processes of their own.

    Args:
        count: How many processes.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def run(self, job: Job[Task, Result], tasks: Iterable[Task]) -> Iterator[Result]:
        ahead, again = iter(tasks), deque[tuple[Task, int]]()
        payload = pickle.dumps(job)
        while True:
            running: dict[Future[Result], tuple[Task, int]] = {}
            fresh = deque[tuple[Task, int]]()
            try:
                with _pool(self.count, payload) as pool:
                    while True:
                        room = AHEAD * self.count - len(running)
                        fresh.extend(again.popleft() for _ in range(min(room, len(again))))
                        fresh.extend((task, 0) for task in islice(ahead, room - len(fresh)))
                        while fresh:  # a pool that breaks meanwhile takes no more of them
                            running[pool.submit(_work, fresh[0][0])] = fresh[0]
                            fresh.popleft()
                        if not running:
                            return
                        for future in wait(running, return_when=FIRST_COMPLETED).done:
                            result: Result = future.result()
                            del running[future]
                            yield result
            except BrokenProcessPool as error:
                again.extend((task, deaths + 1) for task, deaths in running.values())
                again.extend(fresh)
                if any(deaths >= LIVES for _, deaths in again):
                    raise ToolchainError(
                        f"worker processes died {LIVES} times at the same work",
                        hint="is the memory too small for so many? Try --workers 1",
                    ) from error


def default_workers() -> int:
    """Return how many worker processes suit this machine: one a core, as far as the free memory goes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return cores
    return max(1, min(cores, free // MEMORY))


def require_workers(count: int) -> int:
    """Return the number of processes that somebody asks for.

    Raises:
        UsageError: fewer than one.
    """
    if count < 1:
        raise UsageError(f"{count} workers: one or more")
    return count


def local_workers(count: int) -> Workers:
    """Return workers on this machine: processes, or this one if one is enough."""
    return Processes(count) if count > 1 else ThisProcess()


@contextmanager
def _pool(count: int, payload: bytes) -> Iterator[ProcessPoolExecutor]:
    # Not forked: the EVM and onnxruntime have threads, which a forked process lacks.
    context, before = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, context, _start, (payload,))
    try:
        yield pool
    except BaseException:  # Ctrl-C above all: nobody waits for what is under way
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        raise
    pool.shutdown()


# -- in the worker process ---------------------------------------------------------------------------------------------

_payload = b""
_opened = ExitStack()
_work_of_job: Callable[[Any], Any] | None = None


def _start(payload: bytes) -> None:
    global _payload
    _payload = payload
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started us ends us,
    end_with_parent(_opened.close)  # or is killed


def _work(task: Any) -> Any:
    """Do a task; the first one opens the job, so that what goes wrong then is reported as any task's error."""
    global _work_of_job
    if _work_of_job is None:
        job: Job[Any, Any] = pickle.loads(_payload)
        _work_of_job = _opened.enter_context(job.open())
        multiprocessing.util.Finalize(None, _opened.close, exitpriority=10)
    return _work_of_job(task)


__all__ = ["Job", "Processes", "ThisProcess", "Workers", "default_workers", "local_workers", "require_workers"]
