"""Packed inputs from the outside: reals to the bytes a contract takes, and its answers back to reals.

All that is needed is `interface.json`, or `manifest.json`, and numpy: no model, no compiler, no chain. The format is in
docs/packing.md; `kits/templates/packing.ts.j2` does the same in TypeScript and JavaScript, byte for byte.

How the elements of an input become bytes is its *kind*: a class in `KINDS`, made from the input's entry. Where all
inputs together are one code, its kind is in `CODES`. A further kind is one more class there, and one more entry in the
template.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from ml2sc.errors import ArtifactError, DataError, UnknownNameError, UsageError
from ml2sc.files import read_file
from ml2sc.foreign import parse_json, shown
from ml2sc.ir.types import Array, FixedPoint, big_endian, round_half_up

if TYPE_CHECKING:
    from ml2sc.backends.base import Artifact

INTERFACE = "interface.json"
WAD = 10**18

Source: TypeAlias = "Artifact | Mapping[str, Any] | str | Path"
"""What says how a contract's inputs are packed: an artifact, its manifest or interface (read, or a path of one, or of
the folder they are in)."""

_RATIONAL = re.compile(r"(-?[0-9]{1,1500})(?:/(0*[1-9][0-9]{0,1500}))?")
_FORMAT = re.compile(r"(u?)int([1-9][0-9]{0,2})")
_INTEGER = re.compile(r"-?[0-9]{1,100}")
_MOST_ELEMENTS = 1 << 24
_MOST_BYTES = 1 << 28
_WIDEST = 32
_OTHER = "it was edited, or made by another version of ml2sc; compile the model again"


class Kind(Protocol):
    """How the elements of an input become bytes."""

    length: int
    """Bytes of it."""

    def pack(self, x: Array) -> bytes:
        """Return the bytes of an input's elements (float64, one axis, finite)."""

    def unpack(self, data: bytes) -> list[float]:
        """Return the reals that `length` bytes stand for, each correctly rounded."""


class Integers:
    """Integers q, big-endian, in two's complement where they are signed: real = scale·(q − zero point) + offset.

    q is the integer nearest to (real − offset)/scale, ties up, plus the zero point, and no less and no greater than its
    interval's ends. It is computed exactly.

    Args:
        entry: The input's entry: `format`, `scale` (of all elements or of each), `zero_point`, `interval`, and with
            scales by element `offset`.
        size: Elements.
        width: Bytes of one.
    """

    def __init__(self, entry: Mapping[str, Any], size: int, width: int) -> None:
        match = _FORMAT.fullmatch(_text(entry, "format"))
        if match is None or not 1 <= int(match[2]) <= 8 * width:
            raise ValueError(f"its format {entry['format']!r:.50} is none that fits {width} bytes")
        zero_point = entry.get("zero_point", 0)
        if isinstance(zero_point, bool) or not isinstance(zero_point, int):
            raise ValueError("its zero_point is no integer")  # noqa: TRY004
        self.length, self._width = size * width, width
        self._format = FixedPoint(int(match[2]), not match[1], Fraction(1), zero_point)
        scales = entry.get("scale")
        given = [scales] if isinstance(scales, str) else scales
        if not isinstance(given, list) or len(given) != (1 if isinstance(scales, str) else size):
            raise ValueError(f"its scale is neither a text nor a list of {size}")
        self._scales = [_rational(scale) for scale in given] * (size if isinstance(scales, str) else 1)
        self._steps = np.array([_as_float(scale) for scale in self._scales])
        self._offsets = np.array(_reals(entry.get("offset"), size))
        ends = entry.get("interval")
        if not isinstance(ends, list) or len(ends) != 2 or not all(_is_integer(end) for end in ends):
            raise ValueError("its interval is no pair of integers as texts")
        self._lo, self._hi = map(int, ends)
        if not self._format.qmin <= self._lo <= self._hi <= self._format.qmax:
            raise ValueError("its interval leaves its format")

    def pack(self, x: Array) -> bytes:
        """Return q of each element; see `Kind`."""
        with np.errstate(over="ignore", invalid="ignore"):
            steps = (x - self._offsets) / self._steps
        q = self._format.nearest(steps, lambda i: (Fraction(float(x[i])) - self._offset(i)) / self._scales[i])
        clamped = [min(max(int(v), self._lo), self._hi) for v in q]
        return big_endian(np.array(clamped, dtype=object), self._width, signed=self._format.signed)

    def unpack(self, data: bytes) -> list[float]:
        """Return the real of each q; see `Kind`."""
        parts = (data[at : at + self._width] for at in range(0, len(data), self._width))
        integers = (int.from_bytes(part, "big", signed=self._format.signed) for part in parts)
        zero = self._format.zero_point
        return [float((q - zero) * self._scales[i] + self._offset(i)) for i, q in enumerate(integers)]

    def _offset(self, index: int) -> Fraction:
        return Fraction(float(self._offsets[index]))


KINDS: dict[str, Callable[[Mapping[str, Any], int, int], Kind]] = {"integers": Integers}
"""The kinds of packed inputs by the name that an input's entry has under `kind`; without one it is `integers`."""


class _Questions:
    """What the codes of trees have in common: which edges an element exceeds, in the model's own float type."""

    def __init__(self, code: Mapping[str, Any], size: int) -> None:
        self.length = _whole(code, "bytes", _MOST_BYTES)
        self._size = size
        if code.get("float") not in {"float32", "float64"}:
            raise ValueError("float of its code is neither float32 nor float64")
        self._double = code["float"] == "float64"

    def compared(self, x: Array) -> list[float]:
        """Return elements as they are compared."""
        with np.errstate(over="ignore"):
            return list((x if self._double else x.astype(np.float32).astype(np.float64)).tolist())

    def element(self, entry: Mapping[str, Any]) -> int:
        """Return which element an entry is about."""
        return _whole(entry, "element", self._size - 1)

    def unpack(self, data: bytes) -> list[float]:
        """Refuse: a code does not say what the reals were.

        Raises:
            DataError: always.
        """
        raise DataError("the packed input of trees says which thresholds are exceeded, not what the values were")


class Thermometer(_Questions):
    """Words of fields, a bit for each edge: the lowest are set, as many as the element exceeds (docs/trees.md)."""

    def __init__(self, code: Mapping[str, Any], size: int) -> None:
        super().__init__(code, size)
        words = max(-(-self.length // _WIDEST), 1)
        self._fields = [
            (
                self.element(entry),
                _whole(entry, "word", words - 1),
                _whole(entry, "bit", 8 * _WIDEST - 1),
                _whole(entry, "missing", 1),
                _edges(entry),
            )
            for entry in _objects(code, "fields")
        ]
        for _, word, bit, _, edges in self._fields:
            if bit + len(edges) > 8 * min(_WIDEST, self.length - _WIDEST * word):
                raise ValueError("a field of its code leaves its word")

    def pack(self, x: Array) -> bytes:
        """Return the words; the last one as long as is left."""
        values, words = self.compared(x), [0] * -(-self.length // _WIDEST)
        for element, word, bit, missing, edges in self._fields:
            value = values[element]
            count = missing * len(edges) if math.isnan(value) else sum(value > edge for edge in edges)
            words[word] |= ((1 << count) - 1) << bit
        sizes = (min(_WIDEST, self.length - _WIDEST * number) for number in range(len(words)))
        return b"".join(word.to_bytes(size, "big") for word, size in zip(words, sizes, strict=True))


class Ranks(_Questions):
    """How many edges each element exceeds, big-endian; one more than there are if it is missing (docs/trees.md)."""

    def __init__(self, code: Mapping[str, Any], size: int) -> None:
        super().__init__(code, size)
        self._width = _whole(code, "rank_bytes", _WIDEST)
        last = self.length - self._width
        self._ranks = [(self.element(e), _whole(e, "byte", last), _edges(e)) for e in _objects(code, "ranks")]
        if any(len(edges) + 1 >= 1 << 8 * self._width for _, _, edges in self._ranks):
            raise ValueError(f"a rank of its code does not fit {self._width} bytes")

    def pack(self, x: Array) -> bytes:
        """Return the ranks, each in its place."""
        values, result = self.compared(x), bytearray(self.length)
        for element, place, edges in self._ranks:
            value = values[element]
            rank = len(edges) + 1 if math.isnan(value) else sum(value > edge for edge in edges)
            result[place : place + self._width] = rank.to_bytes(self._width, "big")
        return bytes(result)


CODES: dict[str, Callable[[Mapping[str, Any], int], Kind]] = {"fields": Thermometer, "ranks": Ranks}
"""Kinds of a packed input that is one code of all inputs, by the key of its parts in the entry `code`."""


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class _Input(_Tensor):
    kind: Kind | None
    """None: it is a part of a code."""
    columns: tuple[str, ...] = ()
    """Names of its elements; empty if they have none."""


class Packer:
    """What `pack` and `unpack` do, for many inputs of one contract.

    Args:
        source: What says how inputs are packed.

    Raises:
        ArtifactError: it does not: the text says where.
    """

    def __init__(self, source: Source) -> None:
        entries, where = _entries(source)
        packing = entries.get("packing", entries)
        try:
            code = packing.get("code") if isinstance(packing, Mapping) else None
            self.inputs = tuple(_inputs(packing, coded=code is not None))
            self._code = None if code is None else _coded(code, self.size)
            self.outputs = tuple(_Tensor(*_named(entry)) for entry in _objects(entries, "outputs"))
            self.takes_wad = _takes_wad(entries)
        except (ValueError, UnknownNameError) as error:
            raise ArtifactError(f"{where} does not say how its inputs are packed: {error}", hint=_OTHER) from error

    @property
    def length(self) -> int:
        """Bytes of a packed input."""
        return sum(kind.length for kind in self._kinds)

    @property
    def _kinds(self) -> list[Kind]:
        own = [entry.kind for entry in self.inputs if entry.kind is not None]
        return own if self._code is None else [self._code]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs, in their order."""
        return tuple(entry.name for entry in self.inputs)

    @property
    def size(self) -> int:
        """Elements of all inputs."""
        return sum(entry.size for entry in self.inputs)

    def pack(self, x: Any) -> bytes:
        """Return the packed input for reals; see `pack`."""
        elements = self._elements(x, missing=self._code is not None)
        if self._code is not None:
            return self._code.pack(np.concatenate(elements))
        return b"".join(kind.pack(values) for kind, values in zip(self._kinds, elements, strict=True))

    def unpack(self, answer: bytes | Sequence[int]) -> dict[str, Array]:
        """Return the reals of a packed input, or of what `predict` returned; see `unpack`."""
        if isinstance(answer, bytes | bytearray | memoryview):
            return self._inputs_of(bytes(answer))
        wads = [int(v) for v in answer]
        if len(wads) != sum(entry.size for entry in self.outputs):
            raise DataError(f"{len(wads)} outputs for {sum(entry.size for entry in self.outputs)}")
        return _shaped(self.outputs, [v / WAD for v in wads])

    def to_wad(self, x: Any) -> list[int]:
        """Return reals as `predict` takes them: real · 10^18, rounded to the nearest.

        Raises:
            UsageError: the contract has no `predict`.
            DataError: x does not fit the inputs.
        """
        if not self.takes_wad:
            raise UsageError(
                "the contract takes packed inputs only: it was compiled with --packed-only",
                hint="pack the inputs for predictPacked and classifyPacked: predict and classify are left out",
            )
        return [round_half_up(Fraction(v) * WAD) for values in self._elements(x) for v in values.tolist()]

    def _inputs_of(self, data: bytes) -> dict[str, Array]:
        if len(data) != self.length:
            raise DataError(f"a packed input of {len(data):,} bytes: it has {self.length:,}")
        reals: list[float] = []
        position = 0
        for kind in self._kinds:
            reals += kind.unpack(data[position : position + kind.length])
            position += kind.length
        return _shaped(self.inputs, reals)

    def _elements(self, x: Any, *, missing: bool = False) -> list[Array]:
        """Return the elements of each input (float64, one axis); NaN only where elements may be missing."""
        if isinstance(x, Mapping):
            absent = [entry.name for entry in self.inputs if entry.name not in x]
            foreign = [str(name) for name in x if name not in {entry.name for entry in self.inputs}]
            if absent or foreign:
                wrong = f"no input {absent[0]!r}" if absent else f"an input {shown(foreign[0], 80)!r} too many"
                raise DataError(wrong, hint=f"the inputs are {', '.join(self.names)}")
            return [_checked(x[entry.name], entry.name, entry.size, missing) for entry in self.inputs]
        several = len(self.inputs) > 1 and isinstance(x, list | tuple) and len(x) == len(self.inputs)
        if several and [np.size(part) for part in x] == [entry.size for entry in self.inputs]:
            return [_checked(part, entry.name, entry.size, missing) for part, entry in zip(x, self.inputs, strict=True)]
        flat = _checked(x, ", ".join(self.names), self.size, missing)
        ends = np.cumsum([entry.size for entry in self.inputs])[:-1]
        return list(np.split(flat, ends))


def pack(source: Source, x: Any) -> bytes:
    """Return the packed input of a contract, what `predictPacked` and `classifyPacked` take, for reals.

    Args:
        source: The artifact, or its manifest or `interface.json`: read, or the path of one or of the folder.
        x: The reals: an array of all elements of all inputs in their order (of any shape), a sequence of one array for
            each input, or a mapping from the inputs' names.

    Raises:
        ArtifactError: the source does not say how.
        DataError: x does not fit the inputs, or holds what is no finite number.
    """
    return Packer(source).pack(x)


def unpack(source: Source, answer: bytes | Sequence[int]) -> dict[str, Array]:
    """Return the reals that a packed input (bytes) or `predict`'s answer (integers, WAD) stand for.

    Args:
        source: As for `pack`.
        answer: What `pack` gave, or what the contract returned.

    Returns:
        By the input's or output's name, in its shape (float64, each correctly rounded).

    Raises:
        ArtifactError: the source does not say how.
        DataError: the answer has another length.
    """
    return Packer(source).unpack(answer)


def _takes_wad(entries: Mapping[str, Any]) -> bool:
    """Return whether a contract has `predict`, by the ABI of its interface or the options of its manifest."""
    if "abi" in entries:
        return any(entry.get("name") == "predict" for entry in _objects(entries, "abi"))
    options = entries.get("options")
    return not (isinstance(options, Mapping) and options.get("packed_only") is True)


def _entries(source: Source) -> tuple[Mapping[str, Any], str]:
    """Return the entries of an interface or a manifest, and what to call it in messages."""
    if isinstance(source, Mapping):
        return source, "the manifest"
    if not isinstance(source, str | Path):
        return json.loads(json.dumps(dict(source.manifest))), f"the artifact {source.name}"
    path = Path(source)
    path = path / INTERFACE if path.is_dir() else path
    try:
        entries = parse_json(read_file(path, _MOST_BYTES, follow=True))
    except OSError as error:
        raise ArtifactError(
            f"cannot read {path}: {error.strerror or error}", hint="ml2sc-compile MODEL.onnx -o DIR writes one"
        ) from error
    except ValueError as error:
        raise ArtifactError(f"{path} cannot be read: {error}", hint=_OTHER) from error
    if not isinstance(entries, dict):
        raise ArtifactError(f"{path} is no object", hint=_OTHER)
    return entries, str(path)


def _coded(code: Any, size: int) -> Kind:
    """Read the entry `code`.

    Raises:
        ValueError: it means nothing, or its kind is not known.
    """
    kind = next((make for key, make in CODES.items() if isinstance(code, Mapping) and code.get(key) is not None), None)
    if kind is None:
        raise ValueError(f"its code has none of {', '.join(CODES)}")
    return kind(code, size)


def _inputs(packing: Any, *, coded: bool) -> list[_Input]:
    """Read the entries of a manifest or of an interface's `packing`.

    Raises:
        ValueError: one means nothing.
        UnknownNameError: a kind is not known.
    """
    width = packing.get("element_bytes") if isinstance(packing, Mapping) else None
    if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= _WIDEST:
        raise ValueError(f"element_bytes is not 1 to {_WIDEST}")
    found = []
    for entry in _objects(packing, "inputs"):
        name, shape = _named(entry)
        if coded:
            found.append(_Input(name, shape, None, _columns(entry, name, math.prod(shape))))
            continue
        kind = entry.get("kind", "integers")
        if kind not in KINDS:
            raise UnknownNameError("kind of packed input", f"{kind!s:.50}", KINDS)
        try:
            size = math.prod(shape)
            found.append(_Input(name, shape, KINDS[kind](entry, size, width), _columns(entry, name, size)))
        except ValueError as error:
            raise ValueError(f"input {shown(name, 80)!r}: {error}") from error
    if not found:
        raise ValueError("there are no inputs")
    return found


def _columns(entry: Mapping[str, Any], name: str, size: int) -> tuple[str, ...]:
    columns = entry.get("columns") or ()
    if not isinstance(columns, list | tuple) or not all(isinstance(column, str) for column in columns):
        raise ValueError(f"the columns of {shown(name, 80)!r} have no names")
    if columns and len(columns) != size:
        raise ValueError(f"{len(columns)} names for the {size} columns of {shown(name, 80)!r}")
    return tuple(columns)


def _objects(entries: Any, key: str) -> list[Mapping[str, Any]]:
    found = entries.get(key) if isinstance(entries, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(entry, Mapping) for entry in found):
        raise ValueError(f"{key} is no list of objects")
    return found


def _named(entry: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    name, shape = _text(entry, "name"), entry.get("shape")
    whole = isinstance(shape, list) and all(isinstance(n, int) and 0 <= n <= _MOST_ELEMENTS for n in shape)
    if not whole or math.prod(shape) > _MOST_ELEMENTS:  # type: ignore[arg-type]
        raise ValueError(f"the shape of {shown(name, 80)!r} is none")
    return name, tuple(shape)  # type: ignore[arg-type]


def _whole(entry: Mapping[str, Any], key: str, most: int) -> int:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{key} of its code is not 0 to {most}")
    return value


def _edges(entry: Mapping[str, Any]) -> list[float]:
    """Return the edges of a field; nothing but a missing element exceeds one that is null."""
    edges = entry.get("edges")
    known = isinstance(edges, list) and all(
        isinstance(e, int | float | None) and not isinstance(e, bool) for e in edges
    )
    if not known:
        raise ValueError("edges of its code are no list of numbers")
    return [math.inf if edge is None else float(edge) for edge in edges or ()]


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise ValueError(f"its {key} is no text")  # noqa: TRY004
    return value


def _rational(text: Any) -> Fraction:
    match = _RATIONAL.fullmatch(text) if isinstance(text, str) else None
    value = Fraction(int(match[1]), int(match[2] or 1)) if match is not None else Fraction(0)
    if value <= 0:
        raise ValueError(f"its scale {text!r:.50} is no number above 0")
    return value


def _reals(values: Any, size: int) -> list[float]:
    if values is None:
        return [0.0] * size
    real = isinstance(values, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if not real or len(values) != size or not all(abs(v) < math.inf for v in values):
        raise ValueError(f"its offset is no list of {size} numbers")
    return [float(v) for v in values]


def _is_integer(text: Any) -> bool:
    return isinstance(text, str) and _INTEGER.fullmatch(text) is not None


_TINY = Fraction(1, 1 << 1000)


def _as_float(scale: Fraction) -> float:
    """Return a scale in float64; none where that is not to be relied on: then only the rational is used."""
    return float(scale) if _TINY < scale < 1 / _TINY else math.nan


def _checked(x: Any, name: str, size: int, missing: bool) -> Array:
    """Return elements as float64 on one axis.

    Raises:
        DataError: they are no numbers, not so many, or one is not finite.
    """
    try:
        values = np.asarray(x, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise DataError(f"the values of {shown(name, 80)} are no numbers", hint="an array of reals") from error
    if values.size != size:
        raise DataError(f"{values.size:,} values for the {size:,} elements of {shown(name, 80)}")
    wrong = np.flatnonzero(np.isinf(values) | (np.isnan(values) & (not missing)))
    if wrong.size:
        raise DataError(f"element {wrong[0]} of {shown(name, 80)} is {values[wrong[0]]}, no finite number")
    return values


def _shaped(entries: Sequence[_Tensor], values: Sequence[float]) -> dict[str, Array]:
    result, position = {}, 0
    for entry in entries:
        result[entry.name] = np.array(values[position : position + entry.size], dtype=np.float64).reshape(entry.shape)
        position += entry.size
    return result
