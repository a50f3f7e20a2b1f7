"""Programs and processes that we start end with us, however we end."""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None  # before any fork: loading takes locks


def die_with_parent() -> Callable[[], None] | None:
    """Return the `preexec_fn` of a child that the kernel kills when we end, even by SIGKILL.

    Only Linux can. Elsewhere it is None, and a child ends with a parent that is interrupted, not with a killed one.
    """
    libc, parent = _LIBC, os.getpid()
    if libc is None:
        return None

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # we have ended in between
            os._exit(1)

    return prepare


def end_with_parent(close: Callable[[], object] | None = None) -> None:
    """End this process of `multiprocessing` soon after its parent has gone, even by SIGKILL; on every system.

    It would wait for work forever: the other workers keep its queue open. The main thread may be at work meanwhile.

    Args:
        close: What is to be put in order before.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        try:
            if close is not None:
                close()
        finally:
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
