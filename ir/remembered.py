"""Remembers what was found out of code: programs that differ in a section share the others, and are asked the same.

Statements nest, and are dear to compare: what is asked of is known by being the very same object, not by what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from .program import Statement

T = TypeVar("T")
Body = tuple[Statement, ...]

_MOST = 256
"""What is remembered of one kind: the sections of a large program."""


class Memory(Generic[T]):
    """What was found out of the objects that were asked for last, none of which anybody changes.

    Args:
        most: Answers that are remembered.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._found: dict[Hashable, tuple[Any, T]] = {}  # the object is kept, so that no other gets its identity

    def of(self, asked: object, more: Hashable, find: Callable[[], T]) -> T:
        """Return what is found out, or was.

        Args:
            asked: The object.
            more: What the answer depends on besides.
            find: Finds it out.
        """
        key = id(asked), more
        if key not in self._found:
            found = find()
            if len(self._found) >= self._most:
                del self._found[next(iter(self._found))]
            self._found[key] = asked, found
        return self._found[key][1]


def remembered(find: Callable[[Body], T]) -> Callable[[Body], T]:
    """Decorate a function of a section's statements alone: nobody may change what it returns."""
    memory = Memory[T]()

    def asked(body: Body) -> T:
        return memory.of(body, None, lambda: find(body))

    asked.__doc__ = find.__doc__
    return asked
