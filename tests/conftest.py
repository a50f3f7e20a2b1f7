"""Markers, and files that hold exact expected output."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

# Before numpy is there: a worker has one core, and threads that share small products wait for each other, and burn it.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from ml2sc.runtime.toolchain import Toolchain

# What is ours is imported where it is used: xdist's own process reads this file before it starts its workers.

ROOT = Path(__file__).parent.parent

# Vyper's trees are large and have no cycles worth looking for so often: a fifth of its time.
gc.set_threshold(50_000, 50, 100)

# How long one example takes says nothing on a busy machine.
settings.register_profile("ml2sc", deadline=None, print_blob=True, max_examples=25)
settings.register_profile("all", settings.get_profile("ml2sc"), max_examples=150)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the tests marked heavy, too (make test-all)")
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden/ with what is emitted now")
    parser.addoption(
        "--update-gas", action="store_true", help="rewrite tests/gas/snapshot.json with what is measured now"
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("all" if config.getoption("--all") else "ml2sc")
    if config.getoption("--all"):
        os.environ["ML2SC_ALL"] = "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--all"):
        config.hook.pytest_deselected(items=[item for item in items if "heavy" in item.keywords])
        items[:] = [item for item in items if "heavy" not in item.keywords]
    # one half of them is a worker's: only one of two gets to know PyTorch's exporters, which takes seconds
    torch = {item.path for item in items if "torch" in item.keywords}
    items.sort(key=lambda item: item.path not in torch)
    wanted = {marker for item in items for marker in ("torch", "anvil", "slither") if marker in item.keywords}
    missing = {
        "torch": None if importlib.util.find_spec("torch") else "PyTorch is not installed",
        "anvil": _no_anvil() if "anvil" in wanted else None,
        "slither": None if shutil.which(os.environ.get("SLITHER", "slither")) else "slither is not on the PATH",
    }
    for item in items:
        for marker, reason in missing.items():
            if reason is not None and marker in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "torch" in item.keywords and importlib.util.find_spec("torch"):
        _keep_torchs_registry()


@cache
def _keep_torchs_registry() -> None:
    """Have torch list its operators once: its exporter does it anew for each model, which is a third of an export."""
    with contextlib.suppress(ImportError, AttributeError):
        registry = importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
        registry.from_torchlib = staticmethod(cache(registry.from_torchlib))


def _no_anvil() -> str | None:
    """Return why there is no anvil; where npm is, the first run installs it."""
    from ml2sc.errors import ToolchainError
    from ml2sc.runtime.toolchain import find_anvil

    try:
        find_anvil()
    except ToolchainError as error:
        return error.message
    return None


class Golden(Protocol):
    """Compares text with a file of tests/golden/, or writes the file under --update-golden."""

    def __call__(self, name: str, text: str) -> None: ...


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Return `golden(name, text)`: fails unless tests/golden/NAME holds exactly `text`."""
    update = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        path = ROOT / "tests" / "golden" / name
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        assert path.is_file(), f"tests/golden/{name} is missing: run pytest --update-golden"
        assert text == path.read_bytes().decode(), f"tests/golden/{name} differs: read the change, then --update-golden"

    return compare


@pytest.fixture(scope="session", autouse=True)
def few_on_the_reference() -> Iterator[None]:
    """Let py-evm repeat two samples of each check, not ten: it takes half of a check."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ml2sc.runtime.examine._REFERENCE_SAMPLES", 2)
        yield


@pytest.fixture(scope="session", autouse=True)
def folders_remembered() -> Iterator[None]:
    """Compile a folder's model once in a session: commands read the same folder several times in one test."""
    from support.remembered import remembered

    import ml2sc.folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ml2sc.folder._recompiled", remembered(ml2sc.folder._recompiled))
        yield


@pytest.fixture(scope="session")
def examples() -> Path:
    """Return the folder of the committed models and samples."""
    return ROOT / "examples"


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    """Return the compilers of this machine; finding solc takes a moment: once."""
    from ml2sc.runtime.toolchain import Toolchain

    return Toolchain()
