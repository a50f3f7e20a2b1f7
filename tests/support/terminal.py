"""A person at a terminal: what they answer, and what they see."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class Screen:
    """What a terminal shows."""

    def __init__(self) -> None:
        self.text = ""

    def follow(self, master: int) -> None:
        """Read until the last who writes has gone."""
        while True:
            try:
                data = os.read(master, 4096)
            except OSError:  # Linux's way to say so
                return
            if not data:
                return
            self.text += data.decode()

    def wait_for(self, pattern: str, seconds: float = 60.0) -> None:
        """Wait until the terminal has shown a text."""
        until = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < until, f"after {seconds} s there is no {pattern!r} in {self.text!r}"
            time.sleep(0.01)


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, answer: str = "") -> Iterator[Screen]:
    """Make stdin and stderr a terminal, at which somebody has typed `answer`. The screen is whole after the block."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))  # rows and columns
    screen = Screen()
    reader = threading.Thread(target=screen.follow, args=(master,))
    reader.start()
    try:
        with (
            os.fdopen(slave, "r", closefd=False) as stdin,
            os.fdopen(os.dup(slave), "w", buffering=1) as stderr,
            monkeypatch.context() as patch,
        ):
            patch.setattr(sys, "stdin", stdin)
            patch.setattr(sys, "stderr", stderr)
            os.write(master, f"{answer}\n".encode())
            yield screen
    finally:
        os.close(slave)
        reader.join()
        os.close(master)
