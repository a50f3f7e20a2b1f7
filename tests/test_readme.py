"""README.md: what its commands print is what they print; `--update-golden` writes it anew."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ml2sc.cli import check, compile  # noqa: A004
from ml2sc.errors import ToolchainError
from ml2sc.runtime.chain import revm_is_installed
from ml2sc.runtime.toolchain import Toolchain

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SNAPSHOT = json.loads((ROOT / "tests" / "gas" / "snapshot.json").read_text(encoding="utf-8"))
COMMANDS = {"ml2sc-compile": compile.main, "ml2sc-check": check.main}
OF_THIS_MACHINE = ("  compiled by", "  bytecode", "  chain")
"""Facts that say how tools were found."""


class Shown(NamedTuple):
    """A block of commands with what they print: its text, and the part of it that each command prints."""

    text: str
    outputs: list[tuple[list[str], str]]


def blocks(text: str) -> Iterator[Shown]:
    for block in re.findall(r"^```\n(\$ ml2sc.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
        yield Shown(block, [(shlex.split(c), o.rstrip("\n")) for c, o in zip(parts[::2], parts[1::2], strict=True)])


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command, and return what it prints without what is this machine's."""
    capsys.readouterr()
    name, *rest = arguments
    assert COMMANDS[name](rest) == 0, capsys.readouterr().err
    return "\n".join(line for line in capsys.readouterr().out.splitlines() if not line.startswith(OF_THIS_MACHINE))


@pytest.mark.slow
def test_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], request: Any
) -> None:
    solc = SNAPSHOT["heads"]["solidity"]["compiler"]
    try:
        found = Toolchain().solc({"language": "Solidity", "sources": {"T.sol": {"content": "contract T {}"}}}).compiler
    except ToolchainError as error:
        pytest.skip(str(error))
    if found.split("+")[0] != solc or not revm_is_installed():
        pytest.skip(f"the README's figures are {solc}'s, on revm")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    text = README.read_text(encoding="utf-8")
    shown = list(blocks(text))
    assert sum(len(block.outputs) for block in shown) >= 4
    for block in shown:
        again = "".join(
            f"$ {shlex.join(command)}\n{printed(command, capsys)}\n{'' if last else chr(10)}"
            for last, command in ((command is block.outputs[-1][0], command) for command, _ in block.outputs)
        )
        if request.config.getoption("--update-golden"):
            README.write_text(README.read_text(encoding="utf-8").replace(block.text, again), encoding="utf-8")
        else:
            assert again == block.text


def test_what_it_costs() -> None:
    """The table's figures are those of the gas snapshot, which is measured."""
    text = README.read_text(encoding="utf-8")
    rows = re.findall(r"^\| .*? \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| .*\|$", text, re.MULTILINE)
    columns = ("solidity int8", "vyper int8", "solidity auto")
    wanted = [
        tuple(f"{SNAPSHOT['gas'][f'{example} {column}']['classifyPacked mean']:,}" for column in columns)
        for example in ("breast_cancer", "digits", "mnist20", "mnist")
    ]
    assert rows == wanted
    (cnn,) = re.findall(r"^\| MNIST, two convolutions .*? `(.*?)` \| ([\d,]+) \| ([\d,]+) \|", text, re.MULTILINE)
    measured = [SNAPSHOT["gas"][f"mnist_cnn {target} {cnn[0]}"] for target in ("solidity", "vyper")]
    assert cnn[1:] == tuple(f"{figures['classifyPacked mean']:,}" for figures in measured)
    (lenet,) = re.findall(r"^\| LeNet-5 .*? \| ([\d,]+) \| ([\d,]+) \|", text, re.MULTILINE)
    measured = [SNAPSHOT["gas"][f"lenet5 {target} int8"] for target in ("solidity", "vyper")]
    assert lenet == tuple(f"{figures['classifyPacked mean']:,}" for figures in measured)
