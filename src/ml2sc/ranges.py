"""The ranges of a model's inputs: declared, those of the data, or assumed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from ml2sc.errors import RangeError, RangeWarning, UsageError, warn
from ml2sc.frontend.data import Samples, by_column, columns_text, numbered
from ml2sc.frontend.ranges import apply_ranges, column_names
from ml2sc.ir import wad
from ml2sc.ir.graph import Graph
from ml2sc.ir.types import Array, Scaling
from ml2sc.options import InputRange, Options
from ml2sc.passes.choose_scales import constant_elements, element_ranges
from ml2sc.passes.prescribed import input_range

log = logging.getLogger(__name__)

ANY_FLOAT = (-float(np.finfo(np.float32).max), float(np.finfo(np.float32).max))
"""Range of an input that only trees read: they take any number for what it is."""
ASSUMED_RANGE = (-65_536.0, 65_536.0)
"""Range of an input that nobody declares."""


def declare_ranges(
    graph: Graph, options: Options, samples: Samples | None
) -> tuple[dict[str, Scaling], dict[str, tuple[Array, Array]]]:
    """Give every input a range: declared, else that of the calibration data, else the assumed one, with a note.

    Returns:
        The ranges of single elements, by input: those declared; and what data say of inputs without a declared range.
    """
    ranges, names = options.input_ranges, graph.inputs
    if graph.ladders:
        graph.input_ranges = dict.fromkeys(names, ANY_FLOAT)
        return {}, {}
    if ranges and len(ranges) != len(names):
        raise UsageError(
            f"{len(ranges)} input ranges for {len(names)} inputs", hint="--input-range LO,HI once for each input"
        )
    declared: dict[str, Scaling] = {}
    columns: dict[str, tuple[Array, Array]] = {}
    if options.column_ranges:
        declared = _declared_columns(graph, options, samples)
        for name, scaling in declared.items():
            graph.input_ranges[name] = float(scaling.lo.min()), float(scaling.hi.max())
    if ranges:
        for name, range_ in zip(names, ranges, strict=True):
            if name in declared:
                continue
            ends = _ends(graph, name, range_)
            graph.input_ranges[name] = float(ends.lo.min()), float(ends.hi.max())
            if isinstance(range_[0], Sequence):
                declared[name] = ends
        return declared, columns
    for name in names:
        if name in declared:
            continue
        if (own := input_range(graph, name)) is not None:
            log.info("the range of input %r is that of its own quantisation: %g to %g", name, *own)
            data = own if samples is None else samples.ranges[name]
            graph.input_ranges[name] = min(own[0], data[0]), max(own[1], data[1])
            continue
        if samples is None:
            warn(
                f"no input range is declared for {name!r}: taken as ±65,536 (narrow it with --input-range, or give "
                "calibration data)",
                RangeWarning,
            )
            graph.input_ranges[name] = ASSUMED_RANGE
            continue
        lo, hi = samples.ranges[name]
        graph.input_ranges[name] = (lo, hi) if lo < hi else (min(lo, 0.0), max(hi, 0.0) or 1.0)
        if lo == hi:
            log.info(
                "input %r is always %g in the calibration data, which says nothing of its range: taken as %g to %g",
                name,
                lo,
                *graph.input_ranges[name],
            )
        columns[name] = samples.columns[name]
        constant = np.flatnonzero(constant_elements(*columns[name]))
        if 0 < constant.size < graph.tensor(name).size:
            log.info(
                "%d of %d columns of input %r are the same in every sample, which says nothing of their range: %s",
                constant.size,
                graph.tensor(name).size,
                name,
                numbered(constant.tolist(), samples.names_of(name)),
            )
        if lo < hi:
            log.info("the range of input %r is that of the calibration data: %g to %g", name, lo, hi)
    return declared, columns


def _declared_columns(graph: Graph, options: Options, samples: Samples | None) -> dict[str, Scaling]:
    """Return the ranges of the elements of those inputs of which a column is declared; the data say the others."""
    ends: dict[str, tuple[Array, Array]] = {}
    for position, name in enumerate(graph.inputs):
        shape = graph.tensor(name).shape
        known = Scaling(np.full(shape, np.nan), np.full(shape, np.nan))
        if options.input_ranges:
            known = _ends(graph, name, options.input_ranges[position])
        elif samples is not None:
            known = element_ranges(*samples.columns[name])
        ends[name] = known.lo.copy(), known.hi.copy()
    names = columns_of(graph, options, samples)
    return {name: Scaling(*ends[name]) for name in sorted(apply_ranges(options.column_ranges, names, graph, ends))}


def columns_of(graph: Graph, options: Options, samples: Samples | None) -> tuple[str, ...]:
    """Return the names of the elements of all inputs; nothing where they have none."""
    count = sum(graph.tensor(name).size for name in graph.inputs)
    if options.column_names and len(options.column_names) != count:
        raise UsageError(f"{len(options.column_names)} names for {count} columns")
    given = options.column_names or (samples.names if samples is not None else ())
    return given or column_names(options.column_ranges, graph)


def _ends(graph: Graph, name: str, range_: InputRange) -> Scaling:
    """Return the ends of a declared range, by element.

    Raises:
        UsageError: it has another number of elements than the input.
    """
    tensor = graph.tensor(name)
    pairs = np.array(range_, dtype=np.float64).reshape(-1, 2)
    if isinstance(range_[0], Sequence) and len(pairs) != tensor.size:
        raise UsageError(f"{len(pairs)} ranges for the {tensor.size} elements of input {name!r}")
    lo, hi = (np.broadcast_to(pairs[:, end], tensor.size).reshape(tensor.shape) for end in range(2))
    return Scaling(lo, hi)


def recorded_range(reference: Graph, graph: Graph, name: str) -> InputRange:
    """Return what must be declared for the same formats to come out again."""
    if name not in graph.scalings:
        return reference.input_ranges[name]
    scaling = graph.scalings[name]
    return tuple(zip(scaling.lo.ravel().tolist(), scaling.hi.ravel().tolist(), strict=True))


def check_ranges(graph: Graph, declared: Mapping[str, Scaling], samples: Samples | None) -> None:
    """Refuse ranges that `predict` cannot take, and warn of samples outside of theirs.

    Raises:
        RangeError: all inputs would be 0 as WAD.
    """
    names = graph.inputs
    if graph.ladders:
        return
    for name in names:
        lo, hi = graph.input_ranges[name]
        if max(abs(lo), abs(hi)) < 1 / wad.WAD:
            raise RangeError(
                f"the range of input {name!r}, {lo:g} to {hi:g}, is below 1e-18, the step of its WAD values",
                tensor=f"%{name}",
                hint="give the model larger inputs: multiply by a constant in its first operator",
            )
    if samples is None:
        return
    outside, columns = samples.outside(
        {
            name: (declared[name].lo, declared[name].hi) if name in declared else graph.input_ranges[name]
            for name in names
        }
    )
    if outside.size:
        where = f"; values outside: {columns_text(by_column(columns))}" if declared else ""
        warn(
            f"{len(outside)} of {len(samples)} calibration samples lie outside the declared input range, "
            f"the first is number {outside[0]}: inputs saturate there{where}",
            RangeWarning,
        )
