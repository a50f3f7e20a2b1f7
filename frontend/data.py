"""Calibration and sample files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from ml2sc.errors import DataError
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.types import Array
from ml2sc.ir.wad import WAD

_MOST = 2.0**255 / WAD
"""Where the reals end that an `int256` of WAD can be."""

_HINT = "an .npz file with x (and x1, x2, … or the inputs' own names) of shape (samples, …), and optionally labels y"


@dataclass(frozen=True)
class Samples:
    """Inputs for a model.

    Attributes:
        inputs: By input tensor: float64 of shape (samples, *shape without the batch dimension).
        labels: The right answers, of shape (samples, …), if known.
        count: Number of samples.
        shapes: The tensor shape of each input, batch dimension included.
    """

    inputs: dict[str, Array]
    labels: Array | None
    count: int
    shapes: dict[str, tuple[int, ...]]

    def sample(self, index: int) -> dict[str, Array]:
        """Return sample `index`: every input in its tensor's shape."""
        return {name: array[index].reshape(self.shapes[name]) for name, array in self.inputs.items()}


def load_samples(path: str | os.PathLike[str], graph: Graph) -> Samples:
    """Read a file of samples.

    Args:
        path: An .npz file.
        graph: The model they are for.

    Raises:
        DataError: the file cannot be read or does not fit the model's inputs.
    """
    source = str(path)
    try:
        with Path(path).open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise DataError(f"{source} is not an .npz file", hint=_HINT)
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {key: _read(archive, key, source) for key in archive.files}
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise DataError(f"{source} is not a readable .npz file: {error}", hint=_HINT) from error
    return samples_from_arrays(arrays, graph, source)


def samples_from_arrays(arrays: Array | Mapping[str, Array], graph: Graph, source: str = "the samples") -> Samples:
    """Check arrays against the model's inputs.

    Args:
        arrays: By key, as in the file; a lone array is `x`.
        graph: The model they are for.
        source: What to call them in messages.

    Raises:
        DataError: they do not fit.
    """
    table = (
        {key: np.asarray(a) for key, a in arrays.items()} if isinstance(arrays, Mapping) else {"x": np.asarray(arrays)}
    )
    inputs: dict[str, Array] = {}
    counts: dict[str, int] = {}
    for position, name in enumerate(graph.inputs):
        short = f"x{position}" if position else "x"
        key = name if name in table else short
        if key not in table:
            wanted = f"{short!r}" if name == short else f"{name!r} or {short!r}"
            found = ", ".join(map(repr, table)) or "nothing"
            raise DataError(
                f"{source} lacks the key {wanted}; it holds {found}", tensor=_text(graph.tensor(name)), hint=_HINT
            )
        inputs[name] = _fit(table[key], graph.tensor(name), f"{source}, key {key!r}")
        counts[key] = len(inputs[name])
    if len(set(counts.values())) > 1:
        raise DataError(f"{source} has different numbers of samples: {counts}")
    count = next(iter(counts.values()), 0)
    labels = table.get("y") if "y" not in graph.inputs else None
    if labels is not None:
        where = f"{source}, key 'y'"
        if labels.ndim == 0 or len(labels) != count:
            raise DataError(f"{where}: shape {list(labels.shape)}, but there are {count} samples")
        _numbers(labels, where)
    return Samples(inputs, labels, count, {name: graph.tensor(name).shape for name in graph.inputs})


def _read(archive: np.lib.npyio.NpzFile, key: str, source: str) -> Array:
    try:
        return np.asarray(archive[key])
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{source}, key {key!r} cannot be read: {error}", hint="store plain numeric arrays, no objects"
        ) from error


def _fit(array: Array, tensor: Tensor, where: str) -> Array:
    """Return an array in float64, one sample a row, each in the tensor's shape without the batch dimension."""
    _numbers(array, where)
    shape = tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape
    fits = array.ndim > 0 and (array.shape[1:] in (shape, tensor.shape, (tensor.size,)))
    if not fits:
        _misfit(array, tensor, where, shape)
    if len(array) == 0:
        raise DataError(f"{where}: it holds no samples", tensor=_text(tensor), hint=_HINT)
    samples = array.astype(np.float64).reshape(len(array), *shape)
    if not np.isfinite(samples).all():
        first = int(np.argwhere(~np.isfinite(samples))[0][0])
        raise DataError(f"{where}: sample {first} holds NaN or infinite values", tensor=_text(tensor))
    if np.abs(samples).max(initial=0.0) >= _MOST:
        first = int(np.argwhere(np.abs(samples) >= _MOST)[0][0])
        raise DataError(
            f"{where}: sample {first} holds values that no contract's input can: it ends at {_MOST:.2g}",
            tensor=_text(tensor),
        )
    return samples


def _numbers(array: Array, where: str) -> None:
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{where}: its elements are {array.dtype}, not numbers", hint="store plain numeric arrays, no objects"
        )


def _misfit(array: Array, tensor: Tensor, where: str, shape: tuple[int, ...]) -> NoReturn:
    wanted = f"(samples, {', '.join(map(str, shape))})" if shape else "(samples,)"
    raise DataError(f"{where}: shape {array.shape}, expected {wanted}", tensor=_text(tensor), hint=_HINT)


def _text(tensor: Tensor) -> str:
    return f"%{tensor.name}: float{list(tensor.shape)}".replace(" ", "").replace(":", ": ")
