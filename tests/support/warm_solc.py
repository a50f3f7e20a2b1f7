"""A toolchain that keeps npm's solc running: a new process takes longer to start than a small contract to compile."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

import ml2sc
from ml2sc.backends.base import CompilerRun
from ml2sc.errors import ToolchainError

_SERVER = """
const solc = require(process.env.ML2SC_SOLC_NPM);
require("readline").createInterface({ input: process.stdin }).on("line", (line) => console.log(solc.compile(line)));
"""


class WarmToolchain(ml2sc.Toolchain):
    """Answers as `ml2sc.Toolchain` does. A solc that is no npm package starts fast, and is started each time."""

    def __init__(self) -> None:
        super().__init__()
        self._run: CompilerRun | None = None
        self._node: subprocess.Popen[str] | None = None

    def solc(self, standard_input: Mapping[str, Any]) -> CompilerRun:
        if self._node is None or self._run is None:
            self._run = super().solc(standard_input)
            if self._run.how == "npm":
                self._node = self._start()
            return self._run
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.write(json.dumps(standard_input) + "\n")
        self._node.stdin.flush()
        answer = self._node.stdout.readline()
        if not answer:
            raise ToolchainError(f"solc ended with {self._node.wait()}")
        return self._run._replace(output=json.loads(answer))

    def _start(self) -> subprocess.Popen[str]:
        assert self._found is not None
        command = [self._found.command[0], "-e", _SERVER]
        pipe, environment = subprocess.PIPE, {**os.environ, **self._found.environment}
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8", env=environment)

    def close(self) -> None:
        """End solc."""
        if self._node is not None:
            self._node.communicate()
            self._node = None
