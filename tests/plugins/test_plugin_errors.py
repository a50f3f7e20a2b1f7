"""A plugin's mistakes: each is told with the plugin's name, and only where its thing is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import BROKEN, CLASHING, EXAMPLE, Result, With


@pytest.fixture
def model(examples: Path) -> Path:
    return examples / "digits" / "digits.onnx"


def refused(result: Result) -> str:
    """Return what a command that was refused for a plugin's mistake said."""
    assert (result.status, result.out) == (2, "")
    lines = [line for line in result.err.splitlines() if not line.startswith(("note: ", "warning: "))]
    assert lines[0].startswith("error[ML142]: ")
    return "\n".join(lines)


def test_two_plugins_with_one_name(plugins: With, model: Path) -> None:
    text = refused(plugins(EXAMPLE, CLASHING).compile(model, "--target", "python", "--passes", "prune,O2"))
    assert "pass 'prune' is defined twice: by ml2sc-" in text
    assert "ml2sc-example-plugin" in text
    assert "ml2sc-clashing-plugin" in text
    assert "uninstall one of them" in text


def test_a_plugin_with_a_name_of_ours(plugins: With, model: Path) -> None:
    text = refused(plugins(CLASHING).compile(model, "--target", "solidity"))
    assert "target 'solidity' is defined twice: by ml2sc and by ml2sc-clashing-plugin" in text


def test_a_plugin_that_fails_to_import(plugins: With, model: Path, tmp_path: Path) -> None:
    environment = plugins(BROKEN, EXAMPLE)
    text = refused(environment.compile(model, "--target", "broken"))
    assert "target 'broken' of plugin ml2sc-broken-plugin fails to load: ModuleNotFoundError" in text
    assert "a_module_that_nobody_has" in text
    assert "'ml2sc_broken_plugin.fails_to_import:Backend' in the group 'ml2sc.backends'" in text
    # it bothers nobody who asks for something else, nor who asks what there is
    assert environment.compile(model, "--input-range", "0,1", "--target", "python").status == 0
    assert "Hardmax  (by ml2sc-broken-plugin)" in environment.compile("--explain").out.splitlines()
    unknown = environment.compile(model, "--target", "brokn")
    assert "did you mean 'broken'?" in unknown.err


def test_a_plugin_that_provides_something_else(plugins: With) -> None:
    script = "from ml2sc.ir.ops import OPS; OPS.get('Hardmax')"
    text = plugins(BROKEN).script(script).err.splitlines()
    assert any("operator 'Hardmax' of plugin ml2sc-broken-plugin fails to load: TypeError" in line for line in text)


def test_a_pass_that_breaks_the_graph(plugins: With, model: Path) -> None:
    text = refused(plugins(BROKEN).compile(model, "--passes", "infer_shapes,break_graph"))
    assert "pass break_graph of ml2sc-broken-plugin (step 2) failed: node 'node_linear' (Gemm): output" in text
    assert "before it ran: infer_shapes" in text
    assert "hint: this is a bug in ml2sc-broken-plugin, not in ml2sc" in text
