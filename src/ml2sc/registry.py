"""Named things that users and plugins can add: operators, passes, backends.

Ours register with a decorator where they are defined; others' packages name theirs in an entry-point group, which is
read when a name is asked for that we do not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Generic, TypeVar

from ml2sc.errors import PluginError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """A table from name to object, filled by a decorator and by entry points.

    Args:
        kind: What the table holds, for messages ("operator", "pass", "backend").
        group: The entry-point group that plugins use.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._items: dict[str, T] = {}
        self._owners: dict[str, str] = {}

    def register(self, name: str, owner: str = "ml2sc") -> Callable[[T], T]:
        """Return a decorator that files its object under `name`.

        Raises:
            PluginError: the name is taken.
        """

        def add(item: T) -> T:
            if name in self._items and self._items[name] is not item:
                raise PluginError(
                    f"{self.kind} {name!r} is defined twice: by {self._owners[name]} and by {owner}",
                    hint="uninstall one of them, or rename it",
                )
            self._items[name] = item
            self._owners[name] = owner
            return item

        return add

    def get(self, name: str) -> T:
        """Return the object called `name`, loading a plugin if need be.

        Raises:
            UnknownNameError: nobody provides it.
            PluginError: two plugins provide it, or its plugin fails to load.
        """
        plugins = self._plugins(name)
        if name in self._items and not (plugins and self._owners[name] == "ml2sc"):
            return self._items[name]
        if not plugins:
            raise UnknownNameError(self.kind, name, self.names())
        claimants = [*(["ml2sc"] if name in self._items else []), *(_owner(p) for p in plugins)]
        if len(claimants) > 1:
            raise PluginError(
                f"{self.kind} {name!r} is defined twice: by {' and by '.join(claimants)}",
                hint="uninstall one of them, or rename it",
            )
        try:
            item = plugins[0].load()
        except Exception as error:  # a plugin may fail in any way; all of them are reported alike
            raise PluginError(f"{self.kind} {name!r} of plugin {claimants[0]} fails to load: {error!r}") from error
        return self.register(name, claimants[0])(item)

    def __contains__(self, name: str) -> bool:
        return name in self._items or bool(self._plugins(name))

    def names(self) -> list[str]:
        """Return every name that can be asked for, sorted."""
        return sorted({*self._items, *(p.name for p in _entry_points(self.group))})

    def items(self) -> Iterator[tuple[str, T]]:
        """Iterate over all (name, object) pairs, sorted by name."""
        return ((name, self.get(name)) for name in self.names())

    def _plugins(self, name: str) -> list[EntryPoint]:
        return list(_entry_points(self.group).select(name=name))


@cache
def _entry_points(group: str) -> EntryPoints:
    """Return a group's entry points; reading them takes milliseconds, and names are asked for once a node."""
    return entry_points(group=group)


def _owner(plugin: EntryPoint) -> str:
    return plugin.dist.name if plugin.dist is not None else plugin.value
