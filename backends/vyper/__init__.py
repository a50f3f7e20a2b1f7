"""The Vyper backend."""

from .backend import VyperBackend

__all__ = ["VyperBackend"]
