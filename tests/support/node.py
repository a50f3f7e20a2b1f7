"""Node, and packages of npm's, where they are to be had."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from ml2sc.runtime.compiler_cache import user_cache

PACKAGES = {
    "@foundry-rs/forge-linux-amd64": "1.7.1",
    "solc": "0.8.37",
    "typescript": "7.0.2",
    "viem": "2.57.20",
}


def node() -> str:
    """Return the path of Node, or skip the test."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("there is no Node.js")
    return found


@functools.cache
def packages() -> Path | None:
    """Return the node_modules that holds `PACKAGES`, which npm installs once into our cache; None without npm."""
    npm, place = shutil.which("npm"), user_cache() / "npm-tests"
    if npm is None:
        return None
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / ".lock"):
        wanted = " ".join(f"{name}@{version}" for name, version in PACKAGES.items())
        done = place / ".installed"
        if not done.is_file() or done.read_text() != wanted:
            options = ["--no-audit", "--no-fund", "--loglevel=error"]
            command = [npm, "install", "--prefix", str(place), *options, *wanted.split()]
            if subprocess.run(command, check=False, capture_output=True).returncode:
                return None
            done.write_text(wanted)
    return place / "node_modules"


def node_modules() -> Path:
    """Return the folder of the packages, or skip the test."""
    found = packages()
    if found is None:
        pytest.skip("npm is missing, or cannot install packages")
    return found
