"""Target languages: each prints a Program."""

from . import solidity, vyper
from .base import (
    BACKENDS,
    Artifact,
    Backend,
    Bytecode,
    CompilerRun,
    EmitOptions,
    Toolchain,
    as_compiled,
    with_edits,
    with_settings,
)

__all__ = [
    "BACKENDS",
    "Artifact",
    "Backend",
    "Bytecode",
    "CompilerRun",
    "EmitOptions",
    "Toolchain",
    "as_compiled",
    "solidity",
    "vyper",
    "with_edits",
    "with_settings",
]
