"""Projects around a compiled contract, for the tools that its users have."""

from . import adapters, foundry, hardhat, python, typescript
from .base import KITS, require_kits, write_kits

__all__ = ["KITS", "adapters", "foundry", "hardhat", "python", "require_kits", "typescript", "write_kits"]
