"""Compile ONNX models into smart contracts that run inference on the EVM in exact integer arithmetic.

    artifact = ml2sc.compile("digits.onnx", precision="int8", calibration="calibration.npz")
    artifact = ml2sc.build(artifact, Toolchain())
    report = ml2sc.check(artifact, "samples.npz")

`compile` is `emit(lower(quantize(lift(...))))`: stop where you like.

Names are imported when they are first used: `import ml2sc` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors
    from .backends.base import Artifact
    from .compiler import build, compile, emit, lift, lower, quantize  # noqa: A004
    from .errors import Ml2scWarning
    from .folder import load_folder, write_folder
    from .frontend.sklearn_export import export_sklearn
    from .frontend.torch_export import export_torch
    from .options import Options
    from .packing import Packer, pack, unpack
    from .runtime.check import check
    from .runtime.report import Report
    from .runtime.toolchain import Toolchain
    from .updating import update

_HOMES = {
    "Artifact": "ml2sc.backends.base",
    "Ml2scWarning": "ml2sc.errors",
    "Options": "ml2sc.options",
    "Packer": "ml2sc.packing",
    "Report": "ml2sc.runtime.report",
    "Toolchain": "ml2sc.runtime.toolchain",
    "build": "ml2sc.compiler",
    "check": "ml2sc.runtime.check",
    "compile": "ml2sc.compiler",
    "emit": "ml2sc.compiler",
    "export_sklearn": "ml2sc.frontend.sklearn_export",
    "export_torch": "ml2sc.frontend.torch_export",
    "lift": "ml2sc.compiler",
    "load_folder": "ml2sc.folder",
    "lower": "ml2sc.compiler",
    "pack": "ml2sc.packing",
    "quantize": "ml2sc.compiler",
    "unpack": "ml2sc.packing",
    "update": "ml2sc.updating",
    "write_folder": "ml2sc.folder",
}

__all__ = [
    "Artifact",
    "Ml2scWarning",
    "Options",
    "Packer",
    "Report",
    "Toolchain",
    "__version__",
    "build",
    "check",
    "compile",
    "emit",
    "errors",
    "export_sklearn",
    "export_torch",
    "lift",
    "load_folder",
    "lower",
    "pack",
    "quantize",
    "unpack",
    "update",
    "write_folder",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ml2sc")
    if name == "errors":
        return importlib.import_module("ml2sc.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
