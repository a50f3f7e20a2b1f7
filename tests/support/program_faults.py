"""Seeded faults in Programs: one thing is changed that makes them wrong, as a mistake in a lowering would."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ml2sc.ir.divide import INPUT
from ml2sc.ir.program import (
    MASK,
    OUTPUTS,
    Apply,
    Block,
    Const,
    CopySegment,
    Expr,
    For,
    If,
    Load,
    LoadInput,
    OpCode,
    Program,
    Section,
    Statement,
    Store,
    StoreInput,
    WadInput,
    add,
)

Change = Callable[[], object]


@dataclass(frozen=True)
class Fault:
    """A wrong program.

    Attributes:
        kind: What was done.
        where: To what.
        program: The result.
    """

    kind: str
    where: str
    program: Program


def faults(program: Program, rng: random.Random) -> Iterator[Fault]:
    """Draw faults of all kinds in turn, without end."""
    kinds = {"index": _is_index, "count": _is_loop, "mask": _is_mask, "narrow": _has_lanes}
    places = {kind: [*_places(program, fits)] for kind, fits in kinds.items()}
    while True:
        for kind, found in places.items():
            if found:
                section, path = rng.choice(found)
                yield Fault(kind, section, _changed(program, section, path, _CHANGES[kind]))
        used = [name for name, words in program.buffers.items() if words]
        name = rng.choice(used)
        yield Fault("buffer", name, replace(program, buffers={**program.buffers, name: program.buffers[name] - 1}))


def astray(program: Program) -> Iterator[Fault]:
    """Yield the faults of loops with a variable that points elsewhere than it is used."""
    for section, path in _places(program, lambda item: isinstance(item, For) and any(i.into for i in item.inductions)):
        yield Fault("pointer", section, _changed(program, section, path, _elsewhere))


def _elsewhere(item: object) -> object:
    assert isinstance(item, For)
    number = next(n for n, i in enumerate(item.inductions) if i.into)
    own = item.inductions[number]
    other = replace(own, into=OUTPUTS if own.into == INPUT else INPUT)
    return replace(item, inductions=(*item.inductions[:number], other, *item.inductions[number + 1 :]))


def _is_index(item: object) -> bool:
    return isinstance(item, Load | LoadInput | WadInput | Store | StoreInput | CopySegment)


def _is_loop(item: object) -> bool:
    return isinstance(item, For)


def _is_mask(item: object) -> bool:
    return isinstance(item, Apply) and item.op is OpCode.AND and isinstance(item.args[1], Const)


def _has_lanes(item: object) -> bool:
    return _is_mask(item) and _narrower(item.args[1].value) not in (0, item.args[1].value)  # type: ignore[attr-defined]


def _narrower(mask: int) -> int:
    """Return a mask of several lanes with the top bit of each cleared; 0 if there is but one."""
    tops = mask & ~(mask >> 1)
    return mask & ~tops if tops & (tops - 1) else 0


def _further(item: object) -> object:
    name = next(n for n in ("index", "offset") if hasattr(item, n))
    return replace(item, **{name: add(getattr(item, name), Const(1))})  # type: ignore[type-var]


_CHANGES: dict[str, Callable[[object], object]] = {
    "index": _further,
    "count": lambda item: replace(item, count=item.count + 1),  # type: ignore[attr-defined,type-var]
    "mask": lambda item: item.args[0],  # type: ignore[attr-defined]
    "narrow": lambda item: replace(  # type: ignore[type-var]
        item,
        args=(item.args[0], Const(_narrower(item.args[1].value) & MASK)),  # type: ignore[attr-defined]
    ),
}

_Path = tuple[tuple[str, int], ...]


def _places(program: Program, fits: Callable[[object], bool]) -> Iterator[tuple[str, _Path]]:
    for section in program.sections():
        left: list[tuple[object, _Path]] = [(s, (("body", i),)) for i, s in enumerate(section.body)]
        while left:
            item, path = left.pop()
            if fits(item):
                yield section.name, path
            left += [(part, (*path, step)) for step, part in _parts(item)]


def _parts(item: object) -> Iterator[tuple[tuple[str, int], object]]:
    for name in ("index", "offset", "value", "condition"):
        if isinstance(part := getattr(item, name, None), Expr):
            yield (name, -1), part
    for name in ("body", "args"):
        if isinstance(item, Apply | For | If | Block):
            yield from (((name, i), part) for i, part in enumerate(getattr(item, name, ())))


def _changed(program: Program, name: str, path: _Path, change: Callable[[object], object]) -> Program:
    def of(section: Section) -> Section:
        return section if section.name != name else _set(section, path, change)  # type: ignore[return-value]

    return dataclasses.replace(
        program,
        quantize=of(program.quantize),
        layers=tuple(map(of, program.layers)),
        dequantize=of(program.dequantize),
    )


def _set(item: object, path: _Path, change: Callable[[object], object]) -> object:
    if not path:
        return change(item)
    (name, number), *rest = path
    if number < 0:
        return replace(item, **{name: _set(getattr(item, name), tuple(rest), change)})  # type: ignore[type-var]
    parts: list[Statement | Expr] = list(getattr(item, name))
    parts[number] = _set(parts[number], tuple(rest), change)  # type: ignore[assignment]
    return replace(item, **{name: tuple(parts)})  # type: ignore[type-var]
