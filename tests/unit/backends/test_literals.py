"""Literals that solc computes: the same as solc's own optimiser writes."""

from __future__ import annotations

import random
import re

import pytest

import ml2sc
from ml2sc.backends.solidity.backend import OPTIMIZER
from ml2sc.backends.solidity.literals import Literals
from ml2sc.ir.program import MASK, Apply, Block, Const, For, Induction, Let, OpCode, Statement, Var

OPERATION = 3
LONG = (1 << 255) + (1 << 127)
MASKS = [0xFF << 248, (1 << 128) - 1, (1 << 128) + 1, 1 << 127, LONG, MASK - (1 << 40), 1 << 16, 65_535]


def optimised(values: list[int], runs: int, toolchain: ml2sc.Toolchain) -> list[str]:
    """Return what solc's Yul optimiser makes of literals."""
    lines = " ".join(f"sstore({number + 1}, {value})" for number, value in enumerate(values))
    source = f"pragma solidity ^0.8.24; contract A {{ function f() external {{ assembly {{ {lines} }} }} }}"
    asked = {
        "language": "Solidity",
        "sources": {"A.sol": {"content": source}},
        "settings": {
            "viaIR": True,
            "optimizer": {**OPTIMIZER, "runs": runs},
            "outputSelection": {"A.sol": {"A": ["irOptimized"]}},
        },
    }
    code = toolchain.solc(asked).output["contracts"]["A.sol"]["A"]["irOptimized"]
    return re.findall(r"sstore\(.*?, (.*)\)", re.sub(r"/\*.*?\*/|///.*", "", code))


@pytest.mark.parametrize("runs", [100, 316, 1_000_000])
def test_as_solc_computes_them(runs: int, toolchain: ml2sc.Toolchain) -> None:
    rng = random.Random(runs)
    lanes = [sum(rng.getrandbits(8) << 32 * i for i in range(rng.randint(2, 8))) for _ in range(10)]
    sparse = [rng.getrandbits(16) << rng.randrange(240) for _ in range(10)]
    values = [*MASKS, *lanes, *sparse, *(MASK - v for v in sparse)]
    literals = Literals(runs)
    for value, written in zip(values, optimised(values, runs, toolchain), strict=True):
        operations = len(re.findall(r"\b(?:shl|add|sub|not)\(", written))
        numbers = len(re.findall(r"\b(?:0x[0-9a-f]+|\d+)\b", written))
        zeros = len(re.findall(r"\b0x00\b|\b0\b", written))
        assert literals.gas(value) == OPERATION * (operations + numbers) - zeros, written


def masked(name: str, value: int = LONG, op: OpCode = OpCode.AND) -> Statement:
    return Let(name, Apply(op, (Var("x"), Const(value))))


def test_what_comes_again_in_straight_code_takes_more() -> None:
    """A copy more is kept of it, and brought up for the last use: no more than computing it each time takes.

    What comes once is computed in about every other piece of code.
    """
    few = Literals(100)
    kept, computed = 3 * OPERATION, 2 * (few.gas(LONG) - OPERATION)
    assert kept < computed
    assert few.more([masked("a")]) == (few.gas(LONG) - OPERATION) // 2
    assert few.more([masked("a"), Block((masked("b"),))]) == kept
    assert few.more([masked("a", 1 << 127), masked("b", 1 << 127)]) == min(kept, 2 * (few.gas(1 << 127) - OPERATION))
    assert Literals(1_000_000).more([masked("a"), masked("b")]) == 0
    # what is shifted by is short
    assert few.more([masked("a", 1 << 127, OpCode.MUL), masked("b", 1 << 127, OpCode.MUL)]) == 0
    loop = For((Induction("i", Const(0), 1),), 3, (masked("b"), masked("c")))
    assert few.more([masked("a"), loop, masked("d")]) == 2 * few.more([masked("a")])
