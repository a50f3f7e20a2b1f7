from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest

from ml2sc import registry
from ml2sc.errors import PluginError, UnknownNameError
from ml2sc.registry import Registry


class Distribution:
    """What an entry point says of its package."""

    def __init__(self, name: str) -> None:
        self.name = name


def entry_point(name: str, value: str, plugin: str) -> EntryPoint:
    point = EntryPoint(name, value, "things")
    vars(point)["dist"] = Distribution(plugin)
    return point


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Install the plugins `one` and `two`; return the module their things are in."""
    module = ModuleType("some_plugin")
    for name in ("ours", "green", "blue"):
        setattr(module, name, f"{name} of a plugin")
    points = [
        entry_point("ours", "some_plugin:ours", "one"),
        entry_point("green", "some_plugin:green", "one"),
        entry_point("blue", "some_plugin:blue", "one"),
        entry_point("blue", "some_plugin:blue", "two"),
        entry_point("missing", "some_plugin:nothing", "two"),
        entry_point("crash", "no_such_module_anywhere:x", "two"),
    ]
    monkeypatch.setitem(sys.modules, "some_plugin", module)
    monkeypatch.setattr(registry, "_entry_points", lambda group: registry._by_name(points))
    return module


class Thing:
    """An object that a table may hold."""


@pytest.fixture
def things(installed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Registry[Any]:
    table: Registry[Any] = Registry("thing", "things")
    monkeypatch.setattr(Thing, "__module__", "ml2sc.things")
    table.register("ours")(Thing())
    table.register("plain")(Thing())
    return table


def test_names_are_known_without_loading_anything(things: Registry[Any], installed: ModuleType) -> None:
    del installed.green
    assert things.names() == ["blue", "crash", "green", "missing", "ours", "plain"]
    assert all(name in things for name in things.names())
    assert "red" not in things
    assert (things.owner("plain"), things.owner("green"), things.owner("blue")) == ("ml2sc", "one", "one, two")
    assert things.owner("ours") == "ml2sc, one"
    with pytest.raises(UnknownNameError):
        things.owner("red")


def test_a_plugin_is_loaded_when_it_is_asked_for(things: Registry[Any], installed: ModuleType) -> None:
    assert things.get("green") == "green of a plugin"
    installed.green = "changed"
    assert things.get("green") == "green of a plugin"
    assert things.owner("green") == "one"


def test_an_unknown_name_is_offered_plugins_too(things: Registry[Any]) -> None:
    with pytest.raises(UnknownNameError, match="unknown thing 'gren'") as error:
        things.get("gren")
    assert error.value.hint == "did you mean 'green'?"


@pytest.mark.parametrize(("name", "who"), [("ours", "by ml2sc and by one"), ("blue", "by one and by two")])
def test_a_clash_names_both(things: Registry[Any], name: str, who: str) -> None:
    with pytest.raises(PluginError, match=f"thing '{name}' is defined twice: {who}"):
        things.get(name)
    assert isinstance(things.get("plain"), Thing)


@pytest.mark.parametrize(("name", "why"), [("missing", "AttributeError"), ("crash", "ModuleNotFoundError")])
def test_a_plugin_that_fails_to_load(things: Registry[Any], name: str, why: str) -> None:
    with pytest.raises(PluginError, match=f"thing '{name}' of plugin two fails to load: {why}") as error:
        things.get(name)
    assert error.value.hint is not None
    assert "in the group 'things'" in error.value.hint


def test_what_a_plugin_names_is_looked_at(installed: ModuleType) -> None:
    def adapt(name: str, item: str) -> str:
        if name == "green":
            raise TypeError("green is no colour")
        return item.upper()

    table: Registry[str] = Registry("thing", "things", adapt)
    with pytest.raises(PluginError, match=r"of plugin one fails to load: TypeError.'green is no colour'"):
        table.get("green")
    assert table.get("ours") == "OURS OF A PLUGIN"


def test_a_plugin_may_use_the_decorator_as_well(things: Registry[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    filed = Thing()

    def load(self: EntryPoint) -> Any:
        things.register("green")(filed)  # as importing its module does
        return Thing

    monkeypatch.setattr(EntryPoint, "load", load)
    assert things.get("green") is filed
    assert things.owner("green") == "one"


def test_registering_twice(things: Registry[Any]) -> None:
    item = things.get("plain")
    assert things.register("plain")(item) is item
    with pytest.raises(PluginError, match="thing 'plain' is defined twice: by ml2sc and by ml2sc"):
        things.register("plain")(Thing())
