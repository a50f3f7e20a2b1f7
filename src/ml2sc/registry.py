"""Named things that users and plugins can add: operators, passes, backends.

Ours register with a decorator where they are defined; others' packages name theirs in an entry-point group, which is
read when a name is asked for that we do not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from ml2sc.errors import PluginError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """A table from name to object, filled by a decorator and by entry points.

    Args:
        kind: What the table holds, for messages ("operator", "pass", "backend").
        group: The entry-point group that plugins use.
        adapt: Makes an object of the table of a name and what that plugin's entry point stands for; raises TypeError or
            ValueError if it is not one.
    """

    def __init__(self, kind: str, group: str, adapt: Callable[[str, Any], T] | None = None) -> None:
        self.kind = kind
        self.group = group
        self._adapt = adapt
        self._items: dict[str, T] = {}
        self._owners: dict[str, str] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its object under `name`.

        Raises:
            PluginError: the name is taken.
        """

        def add(item: T) -> T:
            owner = package_of(item)
            if name in self._items and self._items[name] is not item:
                raise self._clash(name, [self._owners[name], owner])
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
        claimants = [*(["ml2sc"] if name in self._items else []), *(_distribution(p) for p in plugins)]
        if len(claimants) > 1:
            raise self._clash(name, claimants)
        try:
            item = plugins[0].load()
            # its module may have filed it already, with the decorator
            if name not in self._items:
                self._items[name] = item if self._adapt is None else self._adapt(name, item)
        except Exception as error:  # a plugin may fail in any way; all of them are reported alike
            raise PluginError(
                f"{self.kind} {name!r} of plugin {claimants[0]} fails to load: {error!r}",
                hint=f"its entry point is {plugins[0].value!r} in the group {self.group!r}",
            ) from error
        self._owners[name] = claimants[0]
        return self._items[name]

    def owner(self, name: str) -> str:
        """Return who provides `name`: "ml2sc", or the names of the plugins that do; nothing is loaded.

        Raises:
            UnknownNameError: nobody does.
        """
        if name not in self:
            raise UnknownNameError(self.kind, name, self.names())
        found = [self._owners[name]] if name in self._items else []
        return ", ".join(dict.fromkeys([*found, *(_distribution(p) for p in self._plugins(name))]))

    def __contains__(self, name: str) -> bool:
        return name in self._items or bool(self._plugins(name))

    def names(self) -> list[str]:
        """Return every name that can be asked for, sorted."""
        return sorted({*self._items, *_entry_points(self.group)})

    def items(self) -> Iterator[tuple[str, T]]:
        """Iterate over all (name, object) pairs, sorted by name."""
        return ((name, self.get(name)) for name in self.names())

    def _clash(self, name: str, owners: list[str]) -> PluginError:
        return PluginError(
            f"{self.kind} {name!r} is defined twice: by {' and by '.join(owners)}",
            hint="uninstall one of them, or rename it",
        )

    def _plugins(self, name: str) -> list[EntryPoint]:
        return _entry_points(self.group).get(name, [])


@cache
def _entry_points(group: str) -> dict[str, list[EntryPoint]]:
    """Return a group's entry points by name; reading them takes milliseconds, and they are asked for once a node."""
    return _by_name(entry_points(group=group))


def _by_name(points: Iterable[EntryPoint]) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in points:
        found.setdefault(point.name, []).append(point)
    return found


def package_of(item: object) -> str:
    """Return the name of the package that defines a class, a function or an object's class."""
    return str(item.__module__).partition(".")[0]


def _distribution(plugin: EntryPoint) -> str:
    return plugin.dist.name if plugin.dist is not None else plugin.value
