"""Programs that we start end with us, however we end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
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
