"""`ml2sc-kit`: projects around a compiled contract, from its folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ml2sc.errors import UsageError
from ml2sc.jsontext import json_text

from .common import make_parser, run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run(_parser(), _run, argv)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("ml2sc-kit", "Write projects around a compiled contract into DIR/kits, one for each tool.")
    add = parser.add_argument
    add("directory", metavar="DIR", help="a folder that ml2sc-compile wrote")
    add(
        "--kit",
        action="append",
        default=[],
        metavar="NAME",
        help="foundry, hardhat, python, ts, or an adapter: erc7007, erc7992, erc8004; several are allowed",
    )
    add("--json", action="store_true", help="print the folders as JSON")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from ml2sc.folder import load_folder
    from ml2sc.kits import KITS, write_kits
    from ml2sc.runtime.journal import noted_addresses

    if not arguments.kit:
        raise UsageError("no kit is named", hint=f"--kit {' or --kit '.join(sorted(KITS))}")
    artifact = load_folder(arguments.directory)
    addresses = noted_addresses(Path(arguments.directory))
    folders = [str(path) for path in write_kits(arguments.kit, artifact, arguments.directory, addresses)]
    print(json_text({"name": artifact.name, "kits": folders}) if arguments.json else "\n".join(folders))


if __name__ == "__main__":
    sys.exit(main())
