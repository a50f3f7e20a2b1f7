"""solc for other tools: npm's package, what it answered before being taken from our cache of compilers' outputs.

`python cached_solc.py FOLDER_OF_THE_PACKAGE NODE VERSION …solc's own arguments`
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from ml2sc.runtime.compiler_cache import Compiler, CompilerCache


def main(package: str, node: str, version: str, *arguments: str) -> None:
    if "--version" in arguments:
        sys.stdout.write(f"solc, the solidity compiler commandline interface\nVersion: {version}\n")
        return
    question = sys.stdin.read()

    def ask() -> Mapping[str, Any]:
        script = resources.files("ml2sc.runtime").joinpath("solc_node.js")
        env = {**os.environ, "ML2SC_SOLC_NPM": package}
        done = subprocess.run(
            [node, str(script), "--standard-json"], input=question, check=True, capture_output=True, text=True, env=env
        )
        answer: Mapping[str, Any] = json.loads(done.stdout)
        return answer

    compiler = Compiler("solc", version, Path(package, "soljson.js"))
    sys.stdout.write(json.dumps(CompilerCache.default().answer(compiler, question, ask)))


if __name__ == "__main__":
    main(*sys.argv[1:])
