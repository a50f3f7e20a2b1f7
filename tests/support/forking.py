"""Python programs that start at once: a process that has imported what they use forks for each of them.

To import ml2sc and what it needs takes a second or more, and the tests start dozens of programs. What a program finds
is what it would find in a process of its own: its arguments, folder, environment and `PYTHONPATH`; no plugin is looked
for before. It finds the tests' modules, too. Where the start itself is what is tested, start a process.
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
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

IMPORTED = ("ml2sc.compiler", "ml2sc.folder", "ml2sc.runtime.check", "ml2sc.runtime.float_model", "pytest", "web3")
"""What commands of ml2sc import, and scripts that read contracts."""


class Started:
    """A program that was started.

    Args:
        server: The process that has forked for it.
        pid: Its number.
    """

    def __init__(self, server: subprocess.Popen[str], pid: int) -> None:
        self._server, self.pid = server, pid

    def kill(self) -> None:
        """End it, as the kernel does where memory is short; it may have ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end and return its exit status, −N after a signal N."""
        return _asked(self._server, {"awaited": self.pid})


def start(
    *arguments: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    imported: tuple[str, ...] = IMPORTED,
    streams: Iterable[Path | str] = (os.devnull, os.devnull),
) -> Started:
    """Start `python -m MODULE …`, `python -c CODE …` or `python FILE …`.

    Args:
        *arguments: Python's arguments.
        cwd: The folder it runs in; None: this process's.
        env: Its environment; None: this process's.
        imported: Modules that it is going to import.
        streams: Files for what it writes to stdout and stderr.
    """
    server, environment = _server(imported), dict(os.environ if env is None else env)
    request = {"argv": list(map(str, arguments)), "cwd": str(cwd or Path.cwd()), "env": environment}
    return Started(server, _asked(server, {**request, "streams": list(map(str, streams))}))


def python(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a Python program to its end; the arguments are those of `start`."""
    with tempfile.TemporaryDirectory() as folder:
        streams = Path(folder, "out"), Path(folder, "err")
        status = start(*arguments, cwd=cwd, env=env, streams=streams).wait()
        out, err = (stream.read_text() for stream in streams)
    return subprocess.CompletedProcess([sys.executable, *map(str, arguments)], status, out, err)


@cache
def _server(imported: tuple[str, ...]) -> subprocess.Popen[str]:
    """Start the process that forks; it ends when its pipe is closed, however this one ends."""
    command = [sys.executable, "-P", __file__, *imported]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.communicate)
    return server


def _asked(server: subprocess.Popen[str], request: Mapping[str, Any]) -> int:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


# -- in the process that forks -----------------------------------------------------------------------------------------


def _next_program() -> list[str] | None:
    """Fork as asked for; return a program's arguments in its process, None once nothing is asked for any more."""
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        if "awaited" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["awaited"], 0)[1])
        elif not (answer := os.fork()):
            _settle(request)
            return list(request["argv"])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    return None


def _settle(request: Mapping[str, Any]) -> None:
    """Take a program's place: its folder, environment, streams and path."""
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
    sys.path.append(str(Path(__file__).parents[1]))
    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.freeze()
    if (program := _next_program()) is not None:
        _run(program)
