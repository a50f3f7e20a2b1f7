"""Bars on a terminal or in a notebook for what takes long; what is short, or read by nobody, stays silent."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

DELAY = 2.0
"""Seconds after which a bar appears."""
TICK = 0.5
"""Seconds after which it is drawn again, whether or not something was done: a compiler says nothing meanwhile."""

_TIMED = "{desc}: {elapsed}{postfix}"
_silent: ContextVar[bool] = ContextVar("silent", default=False)


class Bar:
    """How far something is; whoever does it sets that, and a thread shows it.

    Args:
        what: What is being done.
        unit: What is counted.
        total: How much there is to do; None: nobody knows.
    """

    def __init__(self, what: str, unit: str = "", total: int | None = None) -> None:
        self._what, self._unit, self._total = what, unit, total
        self._done, self._text = 0, ""

    def to(self, done: int, total: int | None = None) -> None:
        """Say how much is done, and of how much."""
        self._done, self._total = done, total if total is not None else self._total

    def step(self, text: str) -> None:
        """Say what comes next: one more of the total is done, unless it is the first."""
        self._done += bool(self._text)
        self._text = text

    def say(self, text: str) -> None:
        """Say something more about it."""
        self._text = text

    def _follow(self, make: Any, stop: threading.Event, began: float) -> None:
        """Draw until the end, from the moment on at which it has taken long."""
        if stop.wait(DELAY):
            return
        timed = {"bar_format": _TIMED} if self._total is None else {}
        with make(desc=self._what, unit=self._unit, total=self._total, leave=False, **timed) as shown:
            shown.start_t = began
            while True:
                shown.total, shown.n = self._total, self._done
                shown.set_postfix_str(self._text, refresh=False)
                shown.refresh()
                if stop.wait(TICK):
                    return


@contextmanager
def bar(what: str, unit: str = "", total: int | None = None) -> Iterator[Bar]:
    """Show how far the block is, where somebody watches: on stderr if it is a terminal, or in a notebook.

    Args:
        what: What it does.
        unit: What is counted.
        total: How much there is to do; None: nobody knows, and time is shown.
    """
    made = Bar(what, unit, total)
    make = None if _silent.get() else _drawn()
    if make is None:
        yield made
        return
    stop = threading.Event()
    thread = threading.Thread(target=made._follow, args=(make, stop, time.time()), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()


@contextmanager
def silence() -> Iterator[None]:
    """Show no bars in the block."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def _drawn() -> Any:
    """Return what draws a bar; None where nobody would see it."""
    from tqdm.auto import tqdm

    notebook = any(base.__name__ == "tqdm_notebook" for base in tqdm.__mro__)
    return tqdm if notebook or sys.stderr.isatty() else None
