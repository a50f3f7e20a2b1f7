"""`ml2sc-verify`: has an explorer verify a deployed contract's source."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ml2sc.errors import UsageError
from ml2sc.foreign import looks_secret
from ml2sc.jsontext import json_text

from .common import checked_address, hide, make_parser, one_of, run
from .comparing import SOLC_HELP, compare_folder

if TYPE_CHECKING:
    from ml2sc.backends.base import Artifact

KEY_VARIABLE = "ML2SC_EXPLORER_KEY"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run(_parser(), _run, argv)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "ml2sc-verify",
        "Compile a folder's source again, compare, and have an explorer verify the deployed contract. An API key comes "
        f"from the environment variable {KEY_VARIABLE}, never from the command line.",
    )
    add = parser.add_argument
    add("directory", metavar="DIR", help="a folder that ml2sc-compile wrote")
    add("--chain", type=int, metavar="ID", required=True, help="the chain's number")
    add("--address", metavar="0x...", help="the contract (default: where DIR/deployments says it is on that chain)")
    add("--explorer", default="sourcify", metavar="NAME", help="sourcify (default), etherscan or blockscout")
    add("--url", metavar="URL", help="of the explorer, where it is another one than everybody's")
    add("--print", action="store_true", help="show the fields of an explorer's form; submit nothing")
    add("--constructor-args", metavar="HEX", help="the constructor's arguments, if not those of ml2sc-deploy")
    add("--wait", type=float, default=120.0, metavar="SECONDS", help="how long to wait for the explorer (120)")
    add("--solc", metavar="PATH", help=SOLC_HELP)
    add("--json", action="store_true", help="print the result as JSON")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from ml2sc.folder import load_folder
    from ml2sc.runtime.explorers import ADDRESSES, EXPLORERS, Submission, verify

    one_of("explorer", arguments.explorer, sorted(EXPLORERS))
    key = os.environ.get(KEY_VARIABLE, "").strip()
    hide(key)
    artifact = load_folder(arguments.directory)
    if not artifact.on_chain:
        raise UsageError(f"{artifact.name} was compiled for {artifact.target!r}, which makes no contract")
    bytecode = compare_folder(artifact, arguments)
    address, sender = _place(arguments)
    submission = Submission.of(artifact, arguments.chain, address, _arguments(artifact, arguments, sender))
    fields = {**submission.fields(), "bytecode": bytecode.summary}
    source = str(Path(arguments.directory, f"{artifact.name}.standard.json"))
    if arguments.print:
        shown = {**fields, "standard JSON input": source}
        print(
            json_text(shown) if arguments.json else "\n".join(f"  {name:<22} {value}" for name, value in shown.items())
        )
        return
    url = arguments.url if arguments.url is not None else ADDRESSES[arguments.explorer]
    said = verify(EXPLORERS[arguments.explorer](url, key), submission, arguments.wait)
    result = {"name": artifact.name, "address": address, "explorer": arguments.explorer, "verified": True, "said": said}
    print(
        json_text(result)
        if arguments.json
        else f"{artifact.name} at {address} is verified by {arguments.explorer}: {said}"
    )


def _place(arguments: argparse.Namespace) -> tuple[str, str | None]:
    """Return where the contract is, and who is said to have put it there.

    Raises:
        UsageError: nobody says where.
    """
    from ml2sc.runtime.journal import noted_address

    note = noted_address(Path(arguments.directory), arguments.chain)
    noted = note if note is not None and note.chain_id == arguments.chain else None
    if arguments.address is not None:
        address = checked_address(arguments.address)
        return address, noted.sender if noted is not None and noted.address == address else None
    if noted is None:
        raise UsageError(
            f"nothing in {arguments.directory} says where the contract is on chain {arguments.chain}",
            hint="give its --address",
        )
    return noted.address, noted.sender


def _arguments(artifact: Artifact, arguments: argparse.Namespace, sender: str | None) -> bytes:
    """Return the constructor's arguments.

    Raises:
        UsageError: they are not known, or no hexadecimal.
    """
    from ml2sc.runtime.chain import CREATE2_PROXY
    from ml2sc.runtime.deploy import constructor_arguments

    given = arguments.constructor_args
    if given is not None:
        try:
            return bytes.fromhex(given.removeprefix("0x"))
        except ValueError:
            shown = "it" if looks_secret(given) else repr(given)
            raise UsageError(f"--constructor-args: {shown} is no hexadecimal") from None
    if artifact.updatable and sender is None:
        raise UsageError(
            f"who created {artifact.name}, and was its first owner, is not known",
            hint="give --constructor-args: that account's address in 32 bytes",
        )
    return constructor_arguments(artifact, CREATE2_PROXY, sender)


if __name__ == "__main__":
    sys.exit(main())
