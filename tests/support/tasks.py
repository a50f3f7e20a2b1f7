"""Work for worker processes, which import this module and no more: they start in an instant."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ml2sc.errors import DataError


@dataclass(frozen=True)
class Square:
    """Squares numbers; what `trouble` is for makes it."""

    folder: Path
    trouble: str = ""

    @contextmanager
    def open(self) -> Iterator[Callable[[int], int]]:
        (self.folder / f"opened by {os.getpid()}").touch()
        yield self._square
        (self.folder / f"closed by {os.getpid()}").touch()

    def _square(self, number: int) -> int:
        if number == 5:
            if self.trouble == "dies once" and not (self.folder / "died").exists():
                (self.folder / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if self.trouble == "dies always":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.trouble == "refuses":
                raise DataError("five is no number", tensor="%x", hint="four is")
            if self.trouble == "reverts":
                from ml2sc.runtime.contract import ContractError

                raise ContractError("InputLength", {"expected": 4, "actual": 5}, b"\1")
        return number * number
