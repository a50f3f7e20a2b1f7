"""Python programs that start at once: a process that has imported what they use forks for each of them.

To import ml2sc and what it needs takes a second or more, and the tests start dozens of programs. What a program finds
is what it would find in a process of its own: its arguments, folder, environment and `PYTHONPATH`; no plugin is looked
for before. Where the start itself is what is tested, start a process.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

IMPORTED = ("ml2sc.compiler", "ml2sc.folder", "ml2sc.runtime.check", "ml2sc.runtime.float_model", "pytest", "web3")
DASK = ("dask.__main__", "distributed.cli.dask_worker", "ml2sc.runtime.check", "ml2sc.runtime.cluster")
"""What commands of ml2sc and scripts import, and what workers of a cluster do."""


class Started:
    """A program that runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def kill(self) -> None:
        """End it, as the kernel does where memory is short; it may have ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)


def start(*arguments: object, cwd: Path, imported: tuple[str, ...]) -> Started:
    """Start `python -m MODULE …` as `python` does, and let it run; what it prints is lost. It finds tests' modules.

    Args:
        *arguments: Python's arguments.
        cwd: The folder it runs in.
        imported: What it is going to import.
    """
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return Started(_ask(_server(imported), arguments, cwd, env, (os.devnull, os.devnull), wait=False))


def python(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE …`, `python -c CODE …` or `python FILE …` to its end.

    Args:
        *arguments: Python's arguments.
        cwd: The folder it runs in.
        env: Its environment; None: this process's.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = str(Path(folder, "out")), str(Path(folder, "err"))
        status = _ask(_server(IMPORTED), arguments, cwd, os.environ if env is None else env, streams, wait=True)
        out, err = (Path(stream).read_text() for stream in streams)
    return subprocess.CompletedProcess([sys.executable, *map(str, arguments)], status, out, err)


def _ask(
    server: subprocess.Popen[str],
    arguments: Sequence[object],
    cwd: Path,
    env: Mapping[str, str],
    streams: tuple[str, str],
    *,
    wait: bool,
) -> int:
    """Have a program run, and return its exit status, or its number if it is not waited for."""
    assert server.stdin is not None
    assert server.stdout is not None
    argv = list(map(str, arguments))
    request = {"argv": argv, "cwd": str(cwd), "env": dict(env), "streams": streams, "wait": wait}
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


@cache
def _server(imported: tuple[str, ...]) -> subprocess.Popen[str]:
    """Start the process that forks; it ends when its pipe is closed, however this one ends."""
    command = [sys.executable, "-P", __file__, *imported]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.communicate)
    return server


def _next_program() -> list[str] | None:
    """Fork for each request; return a program's arguments in its process, None once there are no more requests."""
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        child = os.fork()
        if not child:
            _settle(request)
            return list(request["argv"])
        answer = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if request["wait"] else child
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    return None


def _settle(request: Mapping[str, Any]) -> None:
    """Take a request's place: its folder, environment, streams and path."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for number, name in enumerate((os.devnull, *request["streams"])):
        opened = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    path = os.environ.get("PYTHONPATH", "")
    sys.path[:0] = [request["cwd"], *filter(None, path.split(os.pathsep))]


def _run(arguments: list[str]) -> None:
    kind, *rest = arguments
    if kind == "-c":
        code, *given = rest
        sys.argv = ["-c", *given]
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(kind).absolute().parent)
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.freeze()
    if (program := _next_program()) is not None:
        _run(program)
