"""A program that answers questions one after the other and is kept running between them."""

from __future__ import annotations

import os
import subprocess
import tempfile
import weakref
from collections.abc import Mapping
from typing import IO

from .children import die_with_parent


class StoppedError(Exception):
    """The program ended without an answer; says how and, at the end, what it wrote to stderr."""

    def __init__(self, code: int, stderr: str) -> None:
        self.code, self.stderr = code, stderr
        super().__init__(f"ended with {code}: {stderr[-500:]}")


class Resident:
    """A program that loads for long and answers fast.

    Questions and answers are UTF-8, each after a line with its length in bytes. The program may end while nobody asks
    (one that idles should); it is started again then, and likewise in a process forked from ours.

    Args:
        command: The program and its arguments.
        environment: What it finds in its environment besides ours.
    """

    def __init__(self, command: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._command, self._environment = command, dict(environment)
        self._running: _Running | None = None

    def ask(self, question: str) -> str:
        """Return the program's answer.

        Raises:
            StoppedError: it ended instead, and did so again when started anew.
            OSError: it cannot be started.
        """
        if self._running is not None and self._running.usable:
            try:
                return self._running.ask(question)
            except StoppedError:
                pass  # it idled for long, or earlier questions left it little memory
        self._running = _Running(self._command, self._environment)
        return self._running.ask(question)


class _Running:
    """One process. Whatever ends a question but its answer ends the process: the next would get this one's answer."""

    def __init__(self, command: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, **environment},
            preexec_fn=die_with_parent(),
        )
        self._pid = os.getpid()
        self._end = weakref.finalize(self, _end, self._process, self._stderr, self._pid)

    @property
    def usable(self) -> bool:
        """Whether it has answered so far, and to this process of ours: a fork shares the pipes."""
        return self._end.alive and self._pid == os.getpid()

    def ask(self, question: str) -> str:
        try:
            return self._ask(question)
        except BaseException:
            self._end()
            raise

    def _ask(self, question: str) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        asked = question.encode()
        try:
            stdin.write(b"%d\n" % len(asked) + asked)
            stdin.flush()
            length = stdout.readline()
            if length.endswith(b"\n") and length[:-1].isdigit():
                answer = stdout.read(int(length))
                if len(answer) == int(length):
                    return answer.decode()
        except BrokenPipeError:
            length = b""
        if length:  # not what was agreed: it would not end by itself
            self._process.kill()
        code = self._process.wait()
        self._stderr.seek(0)
        raise StoppedError(code, self._stderr.read().decode(errors="replace"))


def _end(process: subprocess.Popen[bytes], stderr: IO[bytes], pid: int) -> None:
    if pid == os.getpid():
        process.kill()
        process.communicate()
    stderr.close()
