"""The Solidity backend. Copy this folder to add a backend."""

from .backend import SolidityBackend

__all__ = ["SolidityBackend"]
