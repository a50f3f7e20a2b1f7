"""Faults that are put into the Programs of random models are refused; the Programs themselves are not: they compile.

A fault that changes no answer is none: what the Program interpreter says on many inputs, extreme ones among them,
decides. `ML2SC_FUZZ=500 python -m pytest --log-cli-level=info tests/property/test_program_faults.py` tries that many,
and at least 60: a narrowed mask that changes an answer is rare, and fewer do not meet one.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
from collections import Counter

from support.program_faults import astray, faults
from support.random_models import Limits, seeded_case

import ml2sc
from ml2sc.errors import InternalError, Ml2scError, PluginError, VerifyError
from ml2sc.ir.graph import Graph
from ml2sc.ir.interpret import Interpreter, ProgramError
from ml2sc.ir.pointers import pointed_program
from ml2sc.ir.program import Program
from ml2sc.ir.program_verify import verify_program

log = logging.getLogger(__name__)

FAULTS = max(60, int(os.environ.get("ML2SC_FUZZ", "0")))
MODELS = ("int8", "w4a4", "w3a5", "w8a4")
PER_MODEL = 20


def accepts(program: Program, graph: Graph) -> bool:
    try:
        verify_program(program, graph)
    except (VerifyError, PluginError):
        return False
    return True


def answers(program: Program, seed: int) -> list[object]:
    """Return what a program answers to random and extreme inputs, or how it fails."""
    rng, length = random.Random(seed), program.input.length
    inputs = [bytes([v]) * length for v in (0, 255, 127, 128)]
    inputs += [rng.randbytes(length) for _ in range(30)]
    inputs += [bytes(rng.choice((0, 255, 127, 128)) for _ in range(length)) for _ in range(30)]
    wads = [[rng.choice(ends) for ends in program.input.wad_range] for _ in range(8)]
    try:
        interpreter = Interpreter(program)
        return [*(_answer(interpreter, x) for x in inputs), *(_quantized(interpreter, w) for w in wads)]
    except InternalError as error:
        return [str(error)]


def _answer(interpreter: Interpreter, packed: bytes) -> object:
    try:
        return interpreter.run(packed)
    except ProgramError as error:
        return repr(error)


def _quantized(interpreter: Interpreter, wads: list[int]) -> object:
    try:
        return interpreter.quantize(wads)
    except ProgramError as error:
        return repr(error)


def test_faults_are_refused() -> None:
    tried, refused = Counter[str](), Counter[str]()
    for seed in itertools.count():
        if tried.total() >= FAULTS:
            break
        case = seeded_case(seed, Limits(wild=False, precisions=MODELS))
        try:
            artifact = ml2sc.compile(case.model, calibration=case.calibration, **case.options)
        except Ml2scError:
            continue
        program, graph = artifact.program, artifact.graph
        assert program is not None
        assert graph is not None
        right = answers(program, seed)
        for fault in itertools.islice(faults(program, random.Random(seed)), PER_MODEL):
            if answers(fault.program, seed) == right:
                continue
            tried[fault.kind] += 1
            if accepts(fault.program, graph):
                log.info("seed %d: %s in %s is accepted", seed, fault.kind, fault.where)
            else:
                refused[fault.kind] += 1
        for fault in astray(
            pointed_program(program)
        ):  # no answer of the interpreter's depends on it, a contract's does
            tried[fault.kind] += 1
            refused[fault.kind] += not accepts(fault.program, graph)
    log.info("%s", {kind: f"{refused[kind]} of {count}" for kind, count in tried.items()})
    assert set(tried) == {"index", "count", "mask", "narrow", "buffer", "pointer"}
    assert refused["pointer"] == tried["pointer"]
    for kind in ("count", "narrow", "buffer"):
        assert refused[kind] >= 0.98 * tried[kind]
    assert refused.total() >= 0.98 * tried.total()
