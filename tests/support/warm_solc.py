"""A toolchain that keeps npm's solc running: a new process takes longer to start than a small contract to compile."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

import ml2sc
from ml2sc.errors import ToolchainError
from ml2sc.runtime.toolchain import _Solc

_SERVER = """
const solc = require(process.env.ML2SC_SOLC_NPM);
require("readline").createInterface({ input: process.stdin }).on("line", (line) => console.log(solc.compile(line)));
"""


class WarmToolchain(ml2sc.Toolchain):
    """Answers as `ml2sc.Toolchain` does. A solc that is no npm package starts fast, and is started each time."""

    _node: subprocess.Popen[str] | None = None

    def _ask_solc(self, solc: _Solc, question: str) -> Mapping[str, Any]:
        if solc.how != "npm":
            return super()._ask_solc(solc, question)
        if self._node is None:
            command = [solc.command[0], "-e", _SERVER]
            pipe, environment = subprocess.PIPE, {**os.environ, **solc.environment}
            self._node = subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8", env=environment)
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.write(question + "\n")
        self._node.stdin.flush()
        answer = self._node.stdout.readline()
        if not answer:
            raise ToolchainError(f"solc ended with {self._node.wait()}")
        output: Mapping[str, Any] = json.loads(answer)
        return output

    def close(self) -> None:
        """End solc."""
        if self._node is not None:
            self._node.communicate()
            self._node = None
