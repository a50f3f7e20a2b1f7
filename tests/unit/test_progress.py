"""Bars: on a terminal, for what takes long, also while nothing is heard of it; nowhere else."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import onnx
import pytest
from support.terminal import Screen, terminal

import ml2sc
from ml2sc import progress
from ml2sc.backends import BACKENDS

MODEL = (
    '<ir_version: 9, opset_import: ["" : 18]> net (float[1,3] x) => (float[1,2] y) '
    "<float[3,2] w = {1, -1, 0.5, 2, -0.75, 1}> { y = MatMul(x, w) }"
)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.05)
    monkeypatch.setattr(progress, "TICK", 0.05)


@pytest.mark.usefixtures("fast")
def test_a_bar_has_a_total(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as screen, progress.bar("checking Net", "sample", 8) as bar:
        screen.wait_for("checking Net:")
        for done in range(1, 5):
            bar.to(done)
            screen.wait_for(f"{done}/8")
        screen.wait_for("50%")
        bar.say("half of it")
        screen.wait_for("half of it")


@pytest.mark.usefixtures("fast")
def test_time_is_shown_while_nothing_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as screen, progress.bar("solc at Net.sol"):
        screen.wait_for("solc at Net.sol: 00:0")
        screen.wait_for("solc at Net.sol: 00:0[1-9]")


def test_what_is_short_stays_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as screen, progress.bar("short", "sample", 2) as bar:
        bar.to(2)
    assert screen.text.strip() == ""


@pytest.mark.usefixtures("fast")
def test_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("long", "sample", 2) as bar:
        time.sleep(0.2)
        bar.to(1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("fast")
def test_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as screen, progress.silence(), progress.bar("long"):
        time.sleep(0.2)
    assert screen.text.strip() == ""
    with terminal(monkeypatch) as screen, progress.bar("long"):
        screen.wait_for("long")


@pytest.mark.usefixtures("fast")
def test_what_fails_takes_its_bar_along(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(screen: Screen) -> None:
        with progress.bar("long"):
            screen.wait_for("long")
            raise KeyError

    before = threading.active_count()
    with terminal(monkeypatch) as screen, pytest.raises(KeyError):
        fail(screen)
    assert threading.active_count() == before


@pytest.mark.usefixtures("fast")
def test_the_library_shows_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formats that are tried, and a compiler that is at work."""
    backend = BACKENDS.get("solidity")
    x = np.random.default_rng(0).uniform(-1, 1, (200, 3))
    with terminal(monkeypatch) as screen:

        def slow(*_: Any) -> Any:
            screen.wait_for("solidity compiler at Net.sol: 00:0")
            raise ml2sc.errors.ToolchainError("no more")

        monkeypatch.setattr(backend, "compile", slow)
        artifact = ml2sc.compile(onnx.parser.parse_model(MODEL), calibration=x)
        with pytest.raises(ml2sc.errors.ToolchainError):
            ml2sc.build(artifact, ml2sc.Toolchain())
    assert "compiling:" in screen.text
    assert "/4" in screen.text
