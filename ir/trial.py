"""Runs a Program beside its Graph: on few inputs always, on more where the verifier finds no proof, and decides there.

Inputs are the ends of what each element can be, what is beyond them, and numbers drawn between; the same ones for the
same graph. A program may refuse (revert) what is out of range; whatever it answers must be what the graph answers. One
that refuses must refuse whichever element is out of range, and whatever it is: these are tried one at a time.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod

import numpy as np

from ml2sc.errors import InternalError

from .graph import Graph, Node
from .interpret import Interpreter, ProgramError
from .program import OUT_OF_RANGE, Fail, Program, walk
from .thermometer import graph_code
from .types import Array, Interval, integer_array, integers
from .wad import Outcome, element_width, inputs_from_wad, pack, quantize_inputs, run_samples

MOST = 48
"""Inputs that are tried where a proof is missing."""
_LEAST = 8
FEW = 4
"""Inputs that are tried where none is."""
_WORK = 1 << 21
"""Products by weights, of all inputs together."""
_TOGETHER = 12
"""Inputs that the graph interpreter is run on at once."""


def inputs_tried(graph: Graph, *, proved: bool) -> int:
    """Return on how many inputs a program is run beside its graph: on fewer where each takes long."""
    affordable = _WORK // products(graph)
    return min(affordable, FEW) if proved else min(max(affordable, _LEAST), MOST)


def products(graph: Graph) -> int:
    """Return, at most, how many products by weights a run of a graph sums up; at least 1."""
    return max(sum(map(partial(_products, graph), graph)), 1)


def _products(graph: Graph, node: Node) -> int:
    shapes = [graph.tensor(name).shape for name in node.inputs if name and graph.tensor(name).data is not None]
    matrices = [shape for shape in shapes if len(shape) > 1 and min(shape) > 0]
    return max((prod(s) // min(s[0], s[-1]) for s in matrices), default=1) * graph.tensor(node.output).size


def difference(program: Program, graph: Graph, number: int) -> str | None:
    """Return where a program does not do what its graph does; None: nowhere, as far as was tried.

    Args:
        program: The program; its indices are verified.
        graph: The quantised graph that it was lowered from.
        number: On how many inputs to run it.
    """
    interpreter = Interpreter(program)
    try:
        tried = _packed(graph, program.input.length, number)
        while some := list(itertools.islice(tried, _TOGETHER)):
            rights = run_samples(graph, [inputs for _, inputs, _ in some])
            for (packed, _, inside), right in zip(some, rights, strict=True):
                if text := _differs(interpreter, packed, right, inside=inside):
                    return text
        for packed in _beyond(graph) if _refuses(program) else ():
            if text := _answered(interpreter, packed):
                return text
        for wads in _wads(program.input.wad_range, number // 2) if program.input.takes_wad else ():
            if text := _quantized(interpreter, graph, wads):
                return text
    except InternalError as error:
        return str(error.args[0])
    return None


def _differs(interpreter: Interpreter, packed: bytes, right: Outcome, *, inside: bool) -> str | None:
    try:
        answer = interpreter.run(packed)
    except ProgramError as error:
        return f"the program refuses the packed input {packed.hex()}: {error!r}" if inside else None
    if answer == right:
        return None
    return f"the program answers {answer}, and the graph {right}, to the packed input {packed.hex()}"


def _refuses(program: Program) -> bool:
    """Return whether a program refuses packed elements out of range; else it takes the nearest in range."""
    every = (statement for section in program.layers for statement in walk(section.body))
    return any(isinstance(statement, Fail) and statement.error == OUT_OF_RANGE for statement in every)


def _answered(interpreter: Interpreter, packed: bytes) -> str | None:
    try:
        answer = interpreter.run(packed)
    except ProgramError:
        return None
    return f"the program answers {answer} to the packed input {packed.hex()}, one element of which is out of range"


def _quantized(interpreter: Interpreter, graph: Graph, wads: Sequence[int]) -> str | None:
    right = pack(graph, inputs_from_wad(graph, wads))
    try:
        packed = interpreter.quantize(wads)
    except ProgramError as error:
        inside = all(lo <= v <= hi for v, (lo, hi) in zip(wads, interpreter.program.input.wad_range, strict=True))
        return f"the program refuses the argument {list(wads)}: {error!r}" if inside else None
    return None if packed == right else f"the program packs {packed.hex()} for {list(wads)}, and should {right.hex()}"


# -- inputs ----------------------------------------------------------------------------------------------------------


def _packed(graph: Graph, length: int, number: int) -> Iterator[tuple[bytes, dict[str, Array], bool]]:
    """Yield packed inputs, what they stand for once it is in range, and whether it was."""
    if graph_code(graph) is not None:  # other bits are no codes of anything
        draws = np.random.default_rng(0)
        columns = {name: ladder.samples(draws, number) for name, ladder in graph.ladders.items()}
        for i in range(number):
            reals = {name: rows[i].reshape(graph.tensor(name).shape) for name, rows in columns.items()}
            q = quantize_inputs(graph, reals)
            yield pack(graph, q), q, True
        return
    rng = random.Random(0)
    for i in range(number):
        turn = i // 4
        match i % 4:
            case 0 if turn < len(_BYTES):
                raw = bytes([_BYTES[turn]]) * length
            case 0:
                raw = bytes(rng.choices(_BYTES, k=length))
            case 1:
                raw = rng.randbytes(length)
            case 2:
                raw = pack(graph, _drawn(graph, lambda interval, _: rng.randint(interval.lo, interval.hi)))
            case _:
                raw = pack(graph, _drawn(graph, partial(_end, rng, turn)))
        yield raw, *_unpacked(graph, raw)


_BYTES = (0, 255, 127, 128)
_EACH = 32
"""Elements at either end of an input that are tried one at a time: as many as a word has at most. What is between runs
through the same code."""


def _beyond(graph: Graph) -> Iterator[bytes]:
    """Yield packed inputs of which one element is out of range: by one, as far as can be, or by a single bit."""
    width, at = element_width(graph), 0
    base = pack(graph, _drawn(graph, lambda interval, zero: zero))
    for name in graph.inputs:
        tensor = graph.tensor(name)
        assert tensor.interval is not None
        outside = _outside(tensor.interval, 8 * width, signed=tensor.format.signed)
        for number in range(tensor.size):
            if _EACH <= number < tensor.size - _EACH:
                continue
            first = at + width * number
            for value in outside:
                element = value.to_bytes(width, "big", signed=tensor.format.signed)
                yield base[:first] + element + base[first + width :]
        at += width * tensor.size


def _outside(interval: Interval, bits: int, *, signed: bool) -> list[int]:
    """Return integers of so many bits that are not in an interval, also such as differ from its end in a bit."""
    lowest = -(1 << (bits - 1)) if signed else 0
    highest = lowest + (1 << bits) - 1
    one_more = ((interval.hi - lowest | 1 << bit) + lowest for bit in range(bits))
    found = {interval.lo - 1, interval.hi + 1, lowest, highest, *one_more}
    return sorted(v for v in found if lowest <= v <= highest and v not in interval)


def _drawn(graph: Graph, draw: Callable[[Interval, int], int]) -> dict[str, Array]:
    """Return an integer for each element, drawn by its interval and its zero."""
    found = {}
    for name in graph.inputs:
        tensor = graph.tensor(name)
        assert tensor.interval is not None
        interval, zero = tensor.interval, _clamped(tensor.format.zero_point, tensor.interval)
        found[name] = integer_array([draw(interval, zero) for _ in range(tensor.size)], tensor.shape)
    return found


def _clamped(value: int, interval: Interval) -> int:
    return min(max(value, interval.lo), interval.hi)


def _end(rng: random.Random, turn: int, interval: Interval, zero: int) -> int:
    """Return an end of an interval, or the zero: in the first turns the same for all elements."""
    ends = (interval.lo, interval.hi, zero)
    return ends[turn] if turn < len(ends) else rng.choice(ends)


def _unpacked(graph: Graph, packed: bytes) -> tuple[dict[str, Array], bool]:
    width, at = element_width(graph), 0
    found, inside = {}, True
    for name in graph.inputs:
        tensor = graph.tensor(name)
        interval = tensor.interval
        assert interval is not None
        raw = integers(packed[at : at + width * tensor.size], width, signed=tensor.format.signed)
        values = np.minimum(np.maximum(raw, interval.lo), interval.hi)
        inside = inside and bool((raw == values).all())
        found[name] = values.reshape(tensor.shape)
        at += width * tensor.size
    return found, inside


def _wads(ranges: Sequence[tuple[int, int]], number: int) -> Iterator[list[int]]:
    """Yield arguments: at the ends, beyond them, between."""
    rng = random.Random(1)
    for i in range(number):
        if i < 2:
            yield [ends[i] for ends in ranges]
        elif i % 3 == 0:
            yield [rng.choice((2 * lo - hi - 1, 2 * hi - lo + 1, lo, hi)) for lo, hi in ranges]
        else:
            yield [rng.randint(lo, hi) for lo, hi in ranges]
