"""Convolutions of one tap with their output channels in lanes: random ones, in every way, against sums written out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support import heavy

from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.program import Lanes, LoadInput, Store, Var, loop, shr
from ml2sc.ir.program_verify import unproved
from ml2sc.passes.lower.kernels.abreast import Abreast, AbreastRows
from ml2sc.passes.lower.kernels.choice import Link, choices
from ml2sc.passes.lower.kernels.conv import Convolution, RowsOfTaps
from ml2sc.passes.lower.kernels.literal import ways_in_loops
from ml2sc.passes.lower.kernels.pixels import Gathered
from ml2sc.passes.lower.values import Scalars

from .test_rows import CASES, FUZZ, computed, epilogue, program_of, scaled_epilogue, with_records, with_sums


def product(rng: np.random.Generator, inputs: int, outputs: int, height: int, width: int) -> Convolution:
    """Return a convolution of one tap, some of whose rows may be left out."""
    stride, lo = int(rng.integers(1, 3)), int(rng.choice([0, 0, -10, -128]))
    hi = max(lo + int(rng.choice([15, 63, 100, 255])), 0)
    scaled = rng.random() < 0.5
    ended = scaled_epilogue(rng, outputs, lo, hi) if scaled else epilogue(int(rng.integers(0, 6)), lo, hi)
    return Convolution(
        rng.integers(-128, 128, (outputs, inputs, 1, 1)),
        np.array(rng.integers(-2000, 2000, outputs).tolist(), dtype=object),
        (stride, 1),
        *[(1, 1), (0, 0)],
        1,
        height,
        width,
        (height - 1) // stride + 1,
        width,
        ended,
        zero=-lo,
    )


@pytest.mark.parametrize("seed", range(CASES) if FUZZ else heavy.but_each(4, range(CASES), 2))
def test_products_in_every_way(seed: int) -> None:
    """What reads the results reads their neighbours, too: rims, phases, gaps and words are right."""
    rng = np.random.default_rng(seed)
    inputs, outputs, height, width = (int(rng.integers(1, most)) for most in (20, 30, 8, 34))
    inputs = inputs if seed % 3 else 32  # more than a run
    conv = product(rng, inputs, outputs, height, width)
    stride, rows = int(rng.integers(1, 3)), conv.out_height
    after = Convolution(
        rng.integers(-9, 10, (outputs, 1, 3, 3)),
        np.zeros(outputs, dtype=object),
        *[(1, stride), (1, 1), (1, 1)],
        outputs,
        rows,
        width,
        rows,
        (width - 1) // stride + 1,
        epilogue(3, 0, 255),
    )
    image = rng.integers(0, 256, inputs * height * width) * rng.integers(0, 2, inputs * height * width)
    expected = computed(computed(image.reshape(inputs, height, width), conv), after)
    each = loop("i", image.size, [Store("each", Var("i"), shr(248, LoadInput(Var("i"))))])
    tried = 0
    for choice in choices([Link(conv, 0), Link(after, 1)], 255, 0, 0):
        maps = [dataclasses.replace(m, buffer=f"maps{i}") for i, m in enumerate(choice.maps)]
        gathered = Gathered(Scalars("each", image.size), maps[0]).emit()
        last = RowsOfTaps(after, *maps[1:], sums="others")
        ways = [way for way in ways_in_loops(conv, *maps[:2]) if isinstance(way, Abreast)]
        for loops in ways if last.possible else []:
            way = AbreastRows(conv, *maps[:2], loops)
            bodies = [[each], gathered, way.emit(), last.emit()]
            program = with_sums(with_records(program_of(image.size, bodies, maps), [way]), [last])
            holds = {m.buffer: m.holds for m in maps[:2]} | way.holds() | {"each": Lanes(1, 256, 0, 255)}
            buffers = {**program.buffers, "each": image.size}
            program = dataclasses.replace(program, buffers=buffers, holds=holds)
            doubts = [doubt for doubt in map(str, unproved(program)) if "section step2" in doubt]
            # what words have of their neighbours, and sums that wait in memory, are not followed
            assert not doubts or maps[1].words > 1 or "partial" in way.buffers(), loops
            found = Interpreter(program).predict(bytes(image.tolist()))
            assert found == tuple(expected.ravel().tolist()), loops
            tried += 1
    channels_alike = conv.epilogue.scaling is None or hasattr(conv.epilogue.scaling, "multiplier")
    assert tried or not channels_alike or not last.possible


def test_weights_of_several_contracts_and_blocks() -> None:
    """More words of sums than are held go by in blocks; inputs whose weights one contract does not hold, in runs."""
    rng = np.random.default_rng(5)
    conv = dataclasses.replace(product(rng, 160, 150, 2, 3), strides=(1, 1), out_height=2, epilogue=epilogue(9, 0, 255))
    image = rng.integers(0, 256, 160 * 6) * rng.integers(0, 2, 160 * 6)
    expected = computed(image.reshape(160, 2, 3), dataclasses.replace(conv, zero=0))
    conv = dataclasses.replace(conv, zero=0)
    each = loop("i", image.size, [Store("each", Var("i"), shr(248, LoadInput(Var("i"))))])
    maps = [
        dataclasses.replace(m, buffer=f"maps{i}") for i, m in enumerate(next(choices([Link(conv, 0)], 255, 0, 0)).maps)
    ]
    gathered = Gathered(Scalars("each", image.size), maps[0]).emit()
    seen = set()
    for loops in AbreastRows.ways(conv, *maps):
        way = AbreastRows(conv, *maps, loops)
        program = with_records(program_of(image.size, [[each], gathered, way.emit()], maps), [way])
        program = dataclasses.replace(program, buffers={**program.buffers, "each": image.size})
        if loops.sums < 5:
            continue
        assert Interpreter(program).predict(bytes(image.tolist())) == tuple(expected.ravel().tolist()), loops
        seen.add((way.segment().contracts > 1, "partial" in way.buffers()))
    assert (True, True) in seen


@pytest.mark.parametrize(
    "changed",
    [
        {"weights": np.ones((4, 3, 1, 3), dtype=int)},
        {"groups": 2, "weights": np.ones((4, 3, 1, 1), dtype=int)},
        {"pool": (1, 2)},
        {"strides": (1, 2), "out_width": 3},
        {"epilogue": scaled_epilogue(np.random.default_rng(3), 4, 0, 255)},
    ],
)
def test_what_it_does_not_do(changed: dict[str, object]) -> None:
    conv = product(np.random.default_rng(0), 6, 4, 4, 6)
    conv = dataclasses.replace(conv, strides=(1, 1), out_height=4, zero=0, epilogue=epilogue(3, 0, 255))
    maps = next(choices([Link(conv, 0)], 255, 0, 0)).maps
    assert list(AbreastRows.ways(conv, *maps))
    assert not list(AbreastRows.ways(dataclasses.replace(conv, **changed), *maps))
