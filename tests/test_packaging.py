"""A sub-package that pyproject.toml forgets vanishes from the wheel, while an editable install still finds it."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_packages_listed_are_the_packages_there_are() -> None:
    found = {
        ".".join([name, *init.parent.relative_to(ROOT / folder).parts])
        for name, folder in SETUPTOOLS["package-dir"].items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert sorted(SETUPTOOLS["packages"]) == sorted(found)


def test_every_file_that_is_not_python_is_package_data() -> None:
    ignored = {".py", ".pyc", ".md"}
    folders = {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()}
    data = {
        path
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in _folder(package, folders).glob(pattern)
    }
    there = {
        path
        for folder in folders.values()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in ignored and not any(p.endswith(".egg-info") for p in path.parts)
    }
    assert data == there


def _folder(package: str, folders: dict[str, Path]) -> Path:
    """Return where a package's files lie: the longest mapped prefix, then sub-folders."""
    prefix = max((name for name in folders if f"{package}.".startswith(f"{name}.")), key=len)
    return folders[prefix].joinpath(*package.removeprefix(prefix).strip(".").split("."))
