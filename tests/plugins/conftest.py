"""Plugin packages, installed where only the processes that ask for them find them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from support import forking

HERE = Path(__file__).parent
EXAMPLE, CLASHING, BROKEN = "ml2sc_example_plugin", "ml2sc_clashing_plugin", "ml2sc_broken_plugin"

Install = Callable[[str], Path]


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Return a function that installs a package of this folder, once, into a folder of its own."""
    installed: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in installed:
            folder = tmp_path_factory.mktemp(name)
            # a copy: building writes beside the sources
            source = shutil.copytree(
                HERE / name, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
            )
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
            subprocess.run(
                [*pip, "--no-deps", "--no-build-isolation", "--target", folder / "site", source],
                check=True,
                env=os.environ | {"PYTHONWARNINGS": "ignore"},
            )
            installed[name] = folder / "site"
        return installed[name]

    return run


class Result(NamedTuple):
    """How a process ended: exit status, stdout, stderr."""

    status: int
    out: str
    err: str


class Environment:
    """Runs processes, in a folder of their own, in which some plugins are installed.

    Args:
        site: Where the plugins are installed.
        folder: Where processes run.
    """

    def __init__(self, site: list[Path], folder: Path) -> None:
        self.folder = folder
        path = [*map(str, site), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._variables = os.environ | {"PYTHONPATH": os.pathsep.join(path)}

    def python(self, *arguments: object) -> Result:
        """Run Python."""
        done = forking.python(*arguments, cwd=self.folder, env=self._variables)
        return Result(done.returncode, done.stdout, done.stderr)

    def started(self, *arguments: object) -> Result:
        """Run Python in a process that shares nothing with any other."""
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self.folder, env=self._variables
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def compile(self, *arguments: object) -> Result:
        """Run ml2sc-compile."""
        return self.python("-m", "ml2sc.cli.compile", *arguments)

    def check(self, *arguments: object) -> Result:
        """Run ml2sc-check."""
        return self.python("-m", "ml2sc.cli.check", *arguments)

    def script(self, text: str, *arguments: object) -> Result:
        """Run a Python script."""
        return self.python("-c", text, *arguments)


With = Callable[..., Environment]


@pytest.fixture
def plugins(install: Install, tmp_path: Path) -> With:
    """Return a function that takes the names of packages and returns an environment that has them."""
    return lambda *names: Environment([install(name) for name in names], tmp_path)
