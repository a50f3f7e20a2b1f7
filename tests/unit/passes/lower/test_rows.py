"""Convolutions by rows: random chains, in every layout that fits, against sums written out.

`ML2SC_FUZZ=2000 python -m pytest tests/unit/passes/lower/test_rows.py` tries more.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support import heavy

from ml2sc.ir.flatten import flattened
from ml2sc.ir.gas import Costs, section_bytes
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.program import (
    InputFormat,
    Load,
    LoadInput,
    Program,
    Section,
    Statement,
    Store,
    StoreInput,
    Var,
    WadInput,
    add,
    and_,
    const,
    loop,
    shr,
)
from ml2sc.ir.program_verify import unproved
from ml2sc.ir.types import Interval
from ml2sc.passes.lower.epilogue import ChannelScaling, Epilogue, Scaling
from ml2sc.passes.lower.kernels.blank import Blank, BlankRows, share_of
from ml2sc.passes.lower.kernels.choice import Link, choices
from ml2sc.passes.lower.kernels.conv import Convolution, RowsOfTaps
from ml2sc.passes.lower.kernels.held import Held, HeldRows
from ml2sc.passes.lower.kernels.literal import LiteralRows, in_loops, ways_in_loops
from ml2sc.passes.lower.kernels.looped import LoopedRows, Workspace
from ml2sc.passes.lower.kernels.maps import Maps
from ml2sc.passes.lower.kernels.pixels import Gathered, Pixels
from ml2sc.passes.lower.kernels.rows import _leaves_room
from ml2sc.passes.lower.options import PlanOptions
from ml2sc.passes.lower.values import Laned, Packed, Scalars

Array = npt.NDArray[Any]

FUZZ = os.environ.get("ML2SC_FUZZ")
CASES = int(FUZZ or "12")


NOTHING = Interval(0, 0)


def epilogue(shift: int, lo: int, hi: int, accumulator: Interval = NOTHING) -> Epilogue:
    return Epilogue(None, (), shift, 0, Interval(lo, hi), accumulator)  # type: ignore[arg-type]  # no one asks for it


def program_of(length: int, steps: Sequence[Sequence[Statement]], maps: Sequence[Maps]) -> Program:
    """Return a program that does some steps on maps, and gives every element of the last."""
    value = maps[-1].value()
    source = value.sources[0]
    assert isinstance(source, Laned)
    body = []
    for element, place in enumerate(value.where.tolist()):
        word, lane = divmod(place, source.lanes)
        u = and_(shr(source.stride * lane, Load(source.buffer, const(word))), const((1 << source.bits) - 1))
        body.append(Store("wad", const(element), add(u, const(source.offset))))
    quantize = loop("i", length, [StoreInput(Var("i"), 1, WadInput(Var("i")))])
    return Program(
        InputFormat(length, 1, False, ((0, 255),) * length),
        len(body),
        {**{m.buffer: m.size for m in maps}, "wad": len(body)},
        {},
        Section("quantize", "", (quantize,)),
        tuple(Section(f"step{i}", "", flattened(step)) for i, step in enumerate(steps)),
        Section("dequantize", "", tuple(body)),
        has_decision=False,
    )


def computed(x: Array, conv: Convolution) -> Array:
    """Return what a convolution and its pool give, sum by sum: (channels, height, width)."""
    top, left = conv.pads
    reach = [(size - 1) * d for size, d in zip(conv.weights.shape[2:], conv.dilations, strict=True)]
    wide = np.zeros((len(x), conv.height + 2 * top + reach[0] + 9, conv.width + 2 * left + reach[1] + 9), dtype=object)
    wide[:, top : top + conv.height, left : left + conv.width] = x
    sums = np.zeros((conv.outputs, conv.out_height, conv.out_width), dtype=object)
    for o, y, column in np.ndindex(sums.shape):
        first, second = y * conv.strides[0], column * conv.strides[1]
        window = wide[
            list(conv.inputs_of(o)),
            first : first + reach[0] + 1 : conv.dilations[0],
            second : second + reach[1] + 1 : conv.dilations[1],
        ]
        sums[o, y, column] = int((window * conv.weights[o]).sum()) + int(conv.bias[o])
    high, wide_by = conv.pool
    rows, columns = conv.out_height // high, conv.out_width // wide_by
    tiles = sums[:, : rows * high, : columns * wide_by].reshape(conv.outputs, rows, high, columns, wide_by)
    e, greatest = conv.epilogue, tiles.max(axis=(2, 4))
    scaled = (greatest + ((1 << e.shift) >> 1)) >> e.shift
    result: Array = np.clip(scaled, e.interval.lo, e.interval.hi)
    if e.scaling is not None:
        factors = np.array([conv.scaled(o) for o in range(conv.outputs)], dtype=object).reshape(-1, 2, 1, 1)
        u = (result - e.interval.lo) * factors[:, 0] + factors[:, 1] >> e.scaling.shift
        lo, hi = e.scaling.interval.lo, e.scaling.interval.hi
        result = np.minimum(u, hi - lo) + lo
    return result


def scaled_epilogue(rng: np.random.Generator, outputs: int, lo: int, hi: int) -> Epilogue:
    """Return one whose results are multiplied: by one factor, or by a channel's own."""
    shift = int(rng.integers(4, 22))
    if rng.random() < 0.5:
        factors = rng.integers(1, (1 << shift) + 1, outputs).tolist()
        rests = rng.integers(0, 1 << shift, outputs).tolist()
        scaling = ChannelScaling(tuple(factors), tuple(rests), shift, Interval(lo, hi), clamps=True)
        return Epilogue(None, (), 0, 0, Interval(0, 1 << 20), NOTHING, scaling, (0,) * outputs)  # type: ignore[arg-type]
    factor = int(rng.integers(1, (1 << shift) + 1))
    offset = ((1 << shift) >> 1) - (lo << shift)
    least = -(offset // factor)
    rest = least * factor + offset
    top = (((hi - lo + 1) << shift) - 1 - rest) // factor
    one = Scaling(factor, shift, rest, Interval(lo, hi), top)
    return Epilogue(None, (), 0, 0, Interval(least, least + top), NOTHING, one)  # type: ignore[arg-type]


def random_convolution(rng: np.random.Generator, inputs: int, height: int, width: int) -> Convolution | None:
    groups = inputs if rng.random() < 0.25 else 1
    outputs = groups * int(rng.integers(1, 4 if groups == 1 else 3))
    kernel = tuple(int(v) for v in (rng.integers(1, 4), rng.integers(1, 6)))
    strides, dilations = (tuple(int(v) for v in rng.integers(1, 3, size=2)) for _ in range(2))
    pads, ends = (tuple(int(v) for v in rng.integers(0, 3, size=2)) for _ in range(2))
    sizes = [
        (size + a + b - (k - 1) * d - 1) // s + 1
        for size, a, b, k, d, s in zip((height, width), pads, ends, kernel, dilations, strides, strict=True)
    ]
    if min(sizes) < 1:
        return None
    pool = tuple(int(rng.integers(1, min(size, 3) + 1)) if rng.random() < 0.5 else 1 for size in sizes)
    lo = int(rng.choice([0, 0, -10, -128]))
    hi = max(lo + int(rng.choice([15, 63, 100, 255])), 0)
    return Convolution(
        rng.integers(-20, 21, (outputs, inputs // groups, *kernel)),
        np.array(rng.integers(-200, 200, outputs).tolist(), dtype=object),
        (strides[0], strides[1]),
        (dilations[0], dilations[1]),
        (pads[0], pads[1]),
        groups,
        height,
        width,
        sizes[0],
        sizes[1],
        scaled_epilogue(rng, outputs, lo, hi) if rng.random() < 0.25 else epilogue(int(rng.integers(0, 6)), lo, hi),
        (pool[0], pool[1]),
        zero=-lo,
    )


def random_chain(rng: np.random.Generator) -> list[Convolution]:
    chain: list[Convolution] = []
    inputs, height, width = (int(rng.integers(1, high)) for high in (4, 9, 34))
    while len(chain) < 1 + rng.integers(0, 3):
        conv = random_convolution(rng, inputs, height, width)
        if conv is None:
            break
        chain.append(conv)
        inputs, height, width = conv.outputs, conv.out_height // conv.pool[0], conv.out_width // conv.pool[1]
    return chain


def looped_at_random(
    rng: np.random.Generator, conv: Convolution, source: Maps, target: Maps, suffix: str
) -> LoopedRows:
    """Return one of the ways to do a convolution in a loop over its output channels."""
    ways = list(ways_in_loops(conv, source, target))
    names = Workspace(*(f"{name}{suffix}" for name in ("records", "record", "taps", "window", "sums")))
    way = ways[int(rng.integers(len(ways)))]
    return in_loops(conv, source, target, way, names, in_data=bool(rng.random() < 0.5))


def with_records(program: Program, ways: Sequence[LoopedRows]) -> Program:
    buffers, segments = dict(program.buffers), dict(program.segments)
    for way in ways:
        buffers |= way.buffers()
        segments[way.names.segment] = way.segment()
    return dataclasses.replace(program, buffers=buffers, segments=segments)


def blank(conv: Convolution, source: Maps, target: Maps, sums: str) -> RowsOfTaps:
    return BlankRows(conv, source, target, Blank(1, window=False, dense=False), sums)


def with_sums(program: Program, written: Sequence[RowsOfTaps]) -> Program:
    return dataclasses.replace(
        program, buffers={**program.buffers, **{k: v for rows in written for k, v in rows.buffers().items()}}
    )


@pytest.mark.parametrize("seed", range(CASES) if FUZZ else heavy.but_each(4, range(CASES), 2))
def test_chains_in_every_layout(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain: list[Convolution] = []
    while not chain:
        chain = random_chain(rng)
    first = chain[0]
    shape = (first.weights.shape[1] * first.groups, first.height, first.width)
    lo, hi = (0, 255) if rng.random() < 0.5 else sorted(rng.integers(0, 256, size=2).tolist())
    signed = bool(rng.random() < 0.3)
    lo, hi = (min(lo - 128, 0), max(hi - 128, 0)) if signed else (0, hi)
    raw = rng.integers(0, 256, size=int(np.prod(shape)))
    raw[: int(rng.integers(0, raw.size))] *= int(rng.integers(2))  # a margin
    given = np.where(raw > 127, raw - 256, raw) if signed else raw
    expected = np.clip(given, lo, hi).reshape(shape)
    for conv in chain:
        expected = computed(expected, conv)
    packed = Packed(0, 1, signed, raw.size)
    by = 128 if signed else 0
    clamped = None
    if signed or (lo, hi) != (0, 255):
        clamped = epilogue(0, lo + by, hi + by, Interval(0, 255))
    tried = 0  # some layouts are for one kernel alone, and it may have no room
    for choice in choices([Link(conv, k) for k, conv in enumerate(chain)], hi - lo, lo, -lo):
        maps = [dataclasses.replace(m, buffer=f"maps{i}") for i, m in enumerate(choice.maps)]
        steps = list(zip(chain, maps, maps[1:], strict=False))
        assert all(RowsOfTaps.fits(*step) for step in steps)
        if not Pixels.fits(packed, maps[0], clamped):
            continue
        pixels, looped, programs = Pixels(packed, maps[0], clamped).emit(), list[LoopedRows](), list[Program]()
        if all(any(ways_in_loops(*step)) for step in steps):
            looped = [looped_at_random(rng, *step, f"{i}") for i, step in enumerate(steps)]
            bodies = [pixels, *(way.emit() for way in looped)]
            programs.append(with_records(program_of(raw.size, bodies, maps), looped))
        for made in (RowsOfTaps, blank):
            written = [made(*step, sums=f"sums{i}") for i, step in enumerate(steps)]
            if not all(rows.possible for rows in written):
                continue
            literals = [rows.emit() for rows in written]
            programs.append(with_sums(program_of(raw.size, [pixels, *literals], maps), written))
            if clamped is None and made is RowsOfTaps:  # the same of values that are a word each
                each = loop("i", raw.size, [Store("each", Var("i"), shr(248, LoadInput(Var("i"))))])
                gathered = Gathered(Scalars("each", raw.size), maps[0]).emit()
                program = with_sums(program_of(raw.size, [[each], gathered, *literals], maps), written)
                programs.append(dataclasses.replace(program, buffers={**program.buffers, "each": raw.size}))
        tried += len(programs)
        for program in programs:
            unproved(program)
            found = np.array(Interpreter(program).predict(bytes(raw.tolist()))).reshape(expected.shape)
            np.testing.assert_array_equal(found, expected, err_msg=f"{choice}: {[way.loops for way in looped]}")
    assert tried


def test_how_often_words_of_pixels_are_not_zero() -> None:
    """A pixel is met by the bands whose kernels come to it, and by the words that have it, or it beside them."""
    conv = Convolution(
        np.ones((1, 1, 3, 3), dtype=int),
        np.zeros(1, dtype=object),
        *[(1, 1)] * 3,
        1,
        8,
        16,
        8,
        16,
        epilogue(0, 0, 255),
        (2, 2),
    )
    source = Maps("maps", 1, 8, 16, 21, 1, 8, 2, 1, 1, 1)
    live = np.zeros((2, 1, 8, 16), dtype=bool)
    live[0, 0, 2, 15] = True  # of the second and the first two bands; the first word
    live[0, 0, 7, 8] = True  # of the last band; the first word, and beside the second
    assert share_of(conv, source, live) == round((2 + 1 + 1) / (2 * 4 * 2), 3)


@pytest.mark.parametrize(
    ("kernel", "alike"), heavy.unless(lambda case: (case[0] == 1) == case[1], itertools.product((1, 3), (False, True)))
)
def test_loops_put_rows_of_narrow_maps_into_one_word(kernel: int, alike: bool) -> None:
    """Every way to loop over output channels gives the same, those that fold rows among them."""
    rng = np.random.default_rng(kernel)
    height, width, pad = 7, 4, kernel // 2
    weights = rng.integers(-9, 10, (3, 2, kernel, kernel))
    conv = Convolution(
        np.repeat(weights[:1], 3, axis=0) if alike else weights,
        np.array([3] * 3 if alike else [3, -40, 500], dtype=object),
        *[(1, 1)] * 2,
        (pad, pad),
        1,
        height,
        width,
        height,
        width,
        epilogue(3, 0, 255),
    )
    sums = np.ones((1, 3, 3, 3), dtype=int)  # reads what lies beside the rows, too
    after = Convolution(
        sums, np.zeros(1, dtype=object), *[(1, 1)] * 3, 1, height, width, height, width, epilogue(2, 0, 1000)
    )
    image = rng.integers(0, 256, 2 * height * width)
    expected = computed(computed(image.reshape(2, height, width), conv), after)
    folds = set()
    for choice in choices([Link(conv, 0), Link(after, 1)], 255, 0, 0):
        maps = [dataclasses.replace(m, buffer=f"maps{i}") for i, m in enumerate(choice.maps)]
        each = loop("i", image.size, [Store("each", Var("i"), shr(248, LoadInput(Var("i"))))])
        gathered = Gathered(Scalars("each", image.size), maps[0]).emit()
        last = RowsOfTaps(after, *maps[1:]).emit()
        for loops in LoopedRows.ways(conv, *maps[:2]):
            way = LoopedRows(conv, *maps[:2], loops)
            program = with_records(program_of(image.size, [[each], gathered, way.emit(), last], maps), [way])
            program = dataclasses.replace(program, buffers={**program.buffers, "each": image.size})
            unproved(program)
            found = Interpreter(program).predict(bytes(image.tolist()))
            assert found == tuple(expected.ravel().tolist()), loops
            folds.add(loops.fold)
    assert max(folds) > 1


@pytest.mark.parametrize("seed", range(CASES // 3))
def test_taps_or_pixels_are_held_in_every_way(seed: int) -> None:
    """Fewer products than rows times taps, bands of all sizes, lanes closed up, folds, sections: all give the same."""
    rng = np.random.default_rng(1_000 + seed)
    conv = None
    while conv is None or (seed % 2 and conv.gap != 2):  # the lanes of two words become one's
        inputs, height, width = (int(rng.integers(1, high)) for high in (4, 9, 20))
        conv = random_convolution(rng, inputs, height, width)
    image = rng.integers(0, 256, inputs * height * width)
    expected = computed(image.reshape(inputs, height, width), conv)
    each = loop("i", image.size, [Store("each", Var("i"), shr(248, LoadInput(Var("i"))))])
    for choice in choices([Link(conv, 0)], 255, 0, 0):
        maps = [dataclasses.replace(m, buffer=f"maps{i}") for i, m in enumerate(choice.maps)]
        gathered = Gathered(Scalars("each", image.size), maps[0]).emit()
        ways = list(HeldRows.ways(conv, *maps))
        tried: list[Held] = [ways[way] for way in rng.permutation(len(ways))[:2]]
        literals = [dataclasses.replace(way, parts=min(conv.outputs, 2)) for way in LiteralRows.ways(conv, *maps)]
        for loops in [*tried, *(literals[way] for way in rng.permutation(len(literals))[:2])]:
            rows = in_loops(conv, *maps, loops, in_data=bool(rng.random() < 0.5))
            pieces = [body for _, body in rows.pieces()]
            program = with_records(program_of(image.size, [[each], gathered, *pieces], maps), [rows])
            program = dataclasses.replace(program, buffers={**program.buffers, "each": image.size})
            unproved(program)
            found = Interpreter(program).predict(bytes(image.tolist()))
            assert found == tuple(expected.ravel().tolist()), f"{choice}: {loops}"


def test_the_end_of_a_row_is_where_a_pool_drops_columns() -> None:
    """Lanes count from the end: of an odd number of columns the pool leaves out the last, not the first."""
    conv = Convolution(
        np.ones((1, 1, 1, 1), dtype=int),
        np.zeros(1, dtype=object),
        *[(1, 1)] * 2,
        (0, 0),
        1,
        1,
        5,
        1,
        5,
        epilogue(0, 0, 255),
        (1, 2),
    )
    image = [1, 9, 3, 4, 200]
    for choice in choices([Link(conv, 0)], 255, 0, 0):
        maps = [dataclasses.replace(m, buffer=f"maps{i}") for i, m in enumerate(choice.maps)]
        packed = Packed(0, 1, False, len(image))
        steps = [Pixels(packed, maps[0], None).emit(), RowsOfTaps(conv, maps[0], maps[1]).emit()]
        assert Interpreter(program_of(len(image), steps, maps)).predict(bytes(image)) == (9, 4)


@pytest.mark.parametrize("words", [1, 2, 3, 4])
def test_lanes_without_a_pixel_hold_what_stands_for_zero(words: int) -> None:
    """Also those of a word that begins behind the end of the row: the pixels before it are no more."""
    maps = Maps("x", 1, 1, 5, 20, useful=3, words=words, before=2, after=1, top=255, zero=7)
    for j in range(words):
        pixels = {lane: 3 * j + lane - 2 for lane in range(6)}
        assert maps.filled(0, j) == [lane for lane, pixel in pixels.items() if not 0 <= pixel < 5]


def test_layouts_are_what_maps_say() -> None:
    """The same places, said of the tensor's axes and of its rows."""
    maps = Maps("x", 3, 5, 23, 20, phases=2, useful=6, words=2, before=1, after=2, rim=1, top=255)
    for channel, row, column in np.ndindex(3, 5, 23):
        lanes, phase = divmod(22 - column, 2)
        j, lane = divmod(lanes, 6)
        assert maps.layout.place((channel, row, column)) == (maps.word(channel, row, phase, j), lane + 1)
    words, _ = maps.layout.places()
    assert words.max() < maps.size


class Dearer(Costs):
    """A compiler that makes twice as much of a section."""

    sizes = dataclasses.replace(Costs.sizes, section=2 * Costs.sizes.section + 1_000)


def test_sections_of_a_convolution_leave_room_for_another() -> None:
    """Each may have three fifths of a contract, as every one of the target's compilers translates it."""
    small, large = (
        Section(name, "", tuple(Store("out", const(i), const(i << 100)) for i in range(count)))
        for name, count in (("small", 1), ("large", 40))
    )
    empty = Section("none", "", ())
    program = Program(InputFormat(8, 1, False, ()), 1, {"out": 40, "wad": 1}, {}, empty, (small, large), empty, False)

    def leaves_room(limit: int, *compilers: type[Costs]) -> bool:
        return _leaves_room(program, PlanOptions(generators=compilers, code_limit=limit))

    for compilers in ((Costs,), (Dearer,), (Costs, Dearer), (Dearer, Costs)):
        most = max(max(section_bytes(program, one.sizes).values()) for one in compilers)
        assert leaves_room(most * 5 // 3 + 1, *compilers)
        assert not leaves_room(most * 5 // 3 - 1, *compilers)
