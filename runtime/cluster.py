"""Work on a Dask cluster: the tasks of a job go to the workers of a scheduler (`pip install 'ml2sc[cluster]'`).

Every worker must have this very ml2sc: it computes what is compared with `==`. A scheduler can have anything run here
and on its workers, so it must be one's own.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import resources
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any

from ml2sc.errors import InternalError, Ml2scError, ToolchainError

from .workers import AHEAD, LIVES, Job, Result, Task

if TYPE_CHECKING:
    from distributed import Client, Future

_CONNECT_SECONDS = 10
"""A scheduler that does not answer for so long is gone."""


class Cluster:
    """Does tasks on the workers of a Dask scheduler.

    Args:
        scheduler: Its address ("tcp://host:8786").
    """

    count = 2  # at least: what is done elsewhere is never done in this process

    def __init__(self, scheduler: str) -> None:
        self._scheduler = scheduler

    def run(self, job: Job[Task, Result], tasks: Iterable[Task]) -> Iterator[Result]:
        payload = pickle.dumps(job)
        token = hashlib.sha256(payload).hexdigest()
        with self._client() as client:
            from distributed import as_completed

            self._require_same_version(client)
            shipped = client.scatter(payload, broadcast=True, hash=False)
            ahead = iter(tasks)

            def submit(count: int) -> list[Future]:
                chosen = islice(ahead, count)
                return [
                    client.submit(_work, build(), token, shipped, task, pure=False, retries=LIVES) for task in chosen
                ]

            room = AHEAD * max(len(client.scheduler_info(n_workers=-1)["workers"]), 1)
            running = as_completed(submit(room), loop=client.loop, with_results=True, raise_errors=False)
            try:
                for future, outcome in running:
                    _require_done(future, outcome)
                    running.update(submit(1))
                    yield outcome
            except (OSError, TimeoutError, CancelledError) as error:
                raise ToolchainError(
                    f"the Dask cluster at {self._scheduler} is lost: {str(error) or type(error).__name__}",
                    hint="does its scheduler run still?",
                ) from error
            finally:
                if client.status == "running":
                    client.cancel([*running.futures])
                    client.run(_close, token, on_error="ignore")

    @contextmanager
    def _client(self) -> Iterator[Client]:
        try:
            from distributed import Client
        except ImportError as error:
            raise ToolchainError("a cluster needs dask.distributed", hint="pip install 'ml2sc[cluster]'") from error
        try:
            client = Client(self._scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ToolchainError(
                f"no Dask scheduler answers at {self._scheduler}: {error}",
                hint="'dask scheduler' starts one, 'dask worker ADDRESS --nthreads 1' a worker",
            ) from error
        logger = logging.getLogger("distributed")  # tells of every lost connection, with its traceback; so do we, once
        before = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            with client:
                yield client
        finally:
            logger.setLevel(before)

    def _require_same_version(self, client: Client) -> None:
        """Refuse workers that have another ml2sc, or none.

        Raises:
            ToolchainError: there are such, or none at all.
        """

        def theirs() -> str:  # inside, so that it is sent as code: they may have no ml2sc to find it in
            try:
                from ml2sc.runtime.cluster import build
            except ImportError as error:
                return f"none that can be used ({error})"
            return build()

        found: dict[str, str] = client.run(theirs, on_error="return")
        if not found:
            raise ToolchainError(
                f"the Dask scheduler at {self._scheduler} has no workers", hint="start some: 'dask worker ADDRESS'"
            )
        others = [f"  worker {address} has {what}" for address, what in found.items() if what != build()]
        if others:
            raise ToolchainError(
                f"{len(others)} of {len(found)} workers have another ml2sc than {build()}\n" + "\n".join(others),
                hint="install the same on all of them, and start them again",
            )


@cache
def build() -> str:
    """Return which ml2sc this is: its version, and a hash of its modules."""
    hashes = hashlib.sha256()
    for package in ("", ".frontend", ".ir", ".ir.ops", ".passes", ".passes.lower", ".backends", ".runtime"):
        for file in sorted(resources.files(f"ml2sc{package}").iterdir(), key=lambda file: file.name):
            if file.name.endswith(".py"):
                hashes.update(hashlib.sha256(file.read_bytes()).digest())
    return f"{version('ml2sc')} ({hashes.hexdigest()[:12]})"


def _require_done(future: Future, outcome: Any) -> None:
    """Raise what a task ended with: its own error, if that is one of ours.

    Raises:
        CancelledError: nobody knows of it any more.
        ToolchainError: its workers died, or failed in another way.
    """
    if future.status in {"cancelled", "lost"}:
        raise CancelledError(f"its work is {future.status}")
    if future.status == "finished":
        return
    error: Exception = outcome[1]
    if isinstance(error, Ml2scError | InternalError):
        raise error
    if type(error).__name__ == "KilledWorker":
        raise ToolchainError(
            f"workers died {LIVES} times at the same work", hint="is their memory too small? See the workers' logs"
        )
    raise ToolchainError(f"a worker failed: {type(error).__name__}: {error}")


# -- in the worker -----------------------------------------------------------------------------------------------------

_lock = threading.Lock()  # a worker with several threads has one job, one task at a time
_opened: dict[str, tuple[Callable[[Any], Any], ExitStack]] = {}


def _work(wanted: str, token: str, payload: bytes, task: Any) -> Any:
    """Do a task; the first of a job opens it, and closes what an earlier one left open."""
    if wanted != build():
        raise ToolchainError(f"a worker has another ml2sc than {wanted}: {build()}")
    with _lock:
        if token not in _opened:
            for other in list(_opened):
                _opened.pop(other)[1].close()
            stack = ExitStack()
            job: Job[Any, Any] = pickle.loads(payload)
            _opened[token] = stack.enter_context(job.open()), stack
        return _opened[token][0](task)


def _close(token: str) -> None:
    with _lock:
        if token in _opened:
            _opened.pop(token)[1].close()
