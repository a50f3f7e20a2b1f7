from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.program import InputFormat, Load, Program, Section, Store, const
from ml2sc.passes.lower.values import Laned, Packed, Scalars, Source, Value, runs

EMPTY = Section("none", "", ())


def read(source: Packed, position: int, packed: bytes) -> int:
    body = (Store("wad", const(0), source.read(const(position))),)
    program = Program(
        InputFormat(len(packed), 1, False, ()), 1, {"wad": 1}, {}, EMPTY, (Section("s", "", body),), EMPTY, False
    )
    return Interpreter(program).run(packed).outputs[0]


@pytest.mark.parametrize("width", [1, 2, 16, 32])
@pytest.mark.parametrize("signed", [False, True])
def test_packed(width: int, signed: bool) -> None:
    if width == 32 and not signed:
        return
    values = [0, 1, (1 << (8 * width - 1)) - 1, -1 if signed else (1 << 8 * width) - 1]
    packed = b"\xff" + b"".join(v.to_bytes(width, "big", signed=signed) for v in values)
    source = Packed(1, width, signed, len(values))
    assert [read(source, i, packed) for i in range(len(values))] == values


def test_laned() -> None:
    laned = Laned("b", lanes=3, stride=80, bits=8, offset=-3, count=7)
    assert laned.words == 3
    word = sum(v << (80 * j) for j, v in enumerate((5, 255, 7))) + (0xABCDEF << 40)  # something above lane 0's bits
    body = (
        Store("b", const(0), const(word)),
        *(Store("wad", const(j), laned.lane(Load("b", const(0)), j)) for j in range(3)),
    )
    program = Program(
        InputFormat(0, 1, False, ()), 3, {"wad": 3, "b": 1}, {}, EMPTY, (Section("s", "", body),), EMPTY, False
    )
    assert Interpreter(program).run(b"").outputs == (5, 255, 7)


def test_direct() -> None:
    source = Scalars("b", 4)
    value = Value.of(source)
    assert value.size == 4
    assert value.direct() is source
    assert value.take(np.array([0, 1, 2])).direct() is None
    assert value.take(np.array([1, 0, 2, 3])).direct() is None
    assert Value((source, Scalars("c", 4)), np.array([0, 0, 1, 1]), np.arange(4)).direct() is None


def test_joined_values_share_sources() -> None:
    a, b = Scalars("a", 3), Scalars("b", 2)
    sources, which, where = Value.joined([Value.of(a), Value.of(b), Value.of(a).take(np.array([2, 0]))])
    assert sources == (a, b)
    assert which.tolist() == [0, 0, 0, 1, 1, 0, 0]
    assert where.tolist() == [0, 1, 2, 0, 1, 2, 0]


SOURCES: list[Source] = [Scalars("a", 9), Packed(0, 1, False, 9)]


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=60),
    st.integers(1, 9),
)
def test_runs_cover_everything_once(elements: list[tuple[int, int, int]], longest: int) -> None:
    one = Value(tuple(SOURCES), np.array([e[0] for e in elements]), np.array([e[1] for e in elements]))
    two = Value((SOURCES[0],), np.zeros(len(elements), dtype=int), np.array([e[2] for e in elements]))
    covered = []
    for run in runs([one, two], longest):
        assert run.count <= longest
        assert all(step >= 0 for step in run.steps)
        for i in range(run.count):
            element = run.first + i
            covered.append(element)
            for value, start, step, source in zip((one, two), run.starts, run.steps, run.sources, strict=True):
                assert (value.which[element], value.where[element]) == (source, start + i * step)
    assert covered == list(range(len(elements)))


def test_an_ordered_value_is_one_run() -> None:
    assert [r.count for r in runs([Value.of(Scalars("a", 1000))], 512)] == [512, 488]
    (run,) = runs([Value.of(Scalars("a", 100)).take(np.arange(5, 95, 3))], 512)
    assert (run.starts, run.steps, run.count) == ((5,), (3,), 30)
