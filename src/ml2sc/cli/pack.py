"""`ml2sc-pack`: reals to the bytes that a contract takes, and its answers back to reals."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml2sc.errors import DataError, UsageError
from ml2sc.foreign import shown
from ml2sc.jsontext import json_text

from .common import make_parser, run

if TYPE_CHECKING:
    from ml2sc.packing import Packer

_MOST_BYTES = 1 << 28


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run(_parser(), _run, argv, takes_value=("--x", "--unpack"))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "ml2sc-pack", "Pack reals for a contract's predictPacked and classifyPacked, or turn its answers into reals."
    )
    add = parser.add_argument
    add("source", metavar="DIR", help="a folder that ml2sc-compile wrote, its interface.json, or its manifest.json")
    add(
        "--x",
        metavar="VALUES",
        help="the reals of all inputs in their order: 1.5,-2,...; or a file: .json (a list, or an object by input's "
        "name), or samples as for ml2sc-check (.npz, .npy, .parquet), one line each",
    )
    add("--wad", action="store_true", help="print what predict and classify take instead: real * 10^18")
    add("--unpack", metavar="ANSWER", help="a packed input (0x...), or predict's integers (1,2,...): print the reals")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from ml2sc.packing import Packer

    if (arguments.x is None) == (arguments.unpack is None):
        raise UsageError("either --x or --unpack is needed", hint="ml2sc-pack DIR --x 1.5,2,-3")
    if arguments.wad and arguments.x is None:
        raise UsageError("--wad goes with --x")
    packer = Packer(arguments.source)
    if arguments.unpack is not None:
        print(json_text({name: values.tolist() for name, values in packer.unpack(_answer(arguments.unpack)).items()}))
        return
    for sample in _samples(arguments.x, packer):
        print(",".join(map(str, packer.to_wad(sample))) if arguments.wad else f"0x{packer.pack(sample).hex()}")


def _answer(text: str) -> bytes | list[int]:
    try:
        return bytes.fromhex(text[2:]) if text.startswith("0x") else [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--unpack {shown(text, 80)!r} is neither hexadecimal nor integers", hint="0x00ff..., or 1,-2"
        ) from None


def _samples(text: str, packer: Packer) -> Iterator[Any]:
    """Yield the samples that --x gives."""
    suffix = Path(text).suffix.lower()
    if suffix == ".json":
        yield _json(Path(text))
    elif suffix in {".npy", ".npz", ".parquet"}:
        yield from _arrays(Path(text), packer)
    else:
        try:
            yield [float(part) for part in text.split(",")]
        except ValueError:
            raise UsageError(
                f"--x {shown(text, 80)!r} is neither numbers nor a .json, .npz, .npy or .parquet file",
                hint="for instance --x 1.5,-2",
            ) from None


def _json(path: Path) -> Any:
    from ml2sc.files import read_file
    from ml2sc.foreign import parse_json

    try:
        return parse_json(read_file(path, _MOST_BYTES, follow=True))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _arrays(path: Path, packer: Packer) -> Iterator[Any]:
    """Yield the samples of a file's arrays: `x`, `x1`, …, or by the inputs' names."""
    from ml2sc.frontend.table import open_table

    try:
        table = open_table(path, packer.inputs[0].columns)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    rows = {}
    for position, entry in enumerate(packer.inputs):
        key = entry.name if entry.name in table else f"x{position or ''}"
        if key not in table:
            raise DataError(f"{path} lacks the key {key!r}", hint=f"the inputs are {', '.join(packer.names)}")
        if table[key].ndim == 0:
            raise DataError(f"{path}, key {key!r}: one number, not samples", hint="an array of shape (samples, ...)")
        rows[entry.name] = table[key]
    counts = {len(array) for array in rows.values()}
    if len(counts) > 1:
        raise DataError(f"{path} has different numbers of samples: {', '.join(map(str, sorted(counts)))}")
    for row in range(counts.pop()):
        yield {name: array[row : row + 1] for name, array in rows.items()}


if __name__ == "__main__":
    sys.exit(main())
