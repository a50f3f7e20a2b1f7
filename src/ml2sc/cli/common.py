"""What the commands have in common: options, exit codes, where text goes."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from ml2sc.errors import InternalError, JournalError, Ml2scError, Ml2scWarning, UnknownNameError, UsageError
from ml2sc.foreign import Secrets
from ml2sc.money import Prices
from ml2sc.progress import silence
from ml2sc.sheet import Sheet

if TYPE_CHECKING:
    from ml2sc.runtime.rpc import Rpc

PROFILE_HELP = (
    "the chain it is for: ethereum, glamsterdam, base, op, bnb, arbitrum, monad, megaeth, or FILE.toml: its limits and "
    "prices (docs/chains.md)"
)
INTERRUPTED = 130
BROKEN_PIPE = 141
logger = logging.getLogger(__name__)

_BUG = InternalError.exit_code

_BOLD, _RED, _YELLOW, _CYAN = "1", "31", "33", "36"

_EPILOG = (
    "exit status: 0 ok, 1 the model or the input, 2 usage, 3 a tool is missing or failed, 4 a check failed, "
    "70 a bug in ml2sc, 130 interrupted"
)


def make_parser(program: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the options every command has: `-v`, `-q`, `--version`."""
    parser = argparse.ArgumentParser(prog=program, description=description, epilog=_EPILOG, allow_abbrev=False)
    parser.add_argument("-v", "--verbose", action="store_true", help="show debugging notes, and tracebacks of errors")
    parser.add_argument("-q", "--quiet", action="store_true", help="show warnings and errors only")
    parser.add_argument("--version", action=_Version)
    return parser


class _Version(argparse.Action):
    """Prints the version, looked up only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from ml2sc import __version__

        print(f"{parser.prog} {__version__}")
        parser.exit()


def run(
    parser: argparse.ArgumentParser,
    command: Callable[[argparse.Namespace], None],
    argv: Sequence[str] | None,
    takes_value: Iterable[str] = (),
) -> int:
    """Parse the command line, run the command, and say what went wrong on stderr.

    Args:
        parser: The command's parser.
        command: What to do with its arguments.
        argv: The arguments; `sys.argv`'s by default.
        takes_value: Options whose value may begin with a minus sign.

    Returns:
        The exit status.
    """
    gc.set_threshold(50_000, 50, 100)  # the trees of a compilation are large and live to its end
    arguments = list(sys.argv[1:] if argv is None else argv)
    with _guarded(arguments):
        return _run(parser, command, _join_values(arguments, set(takes_value)))


def _run(parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], None], argv: Sequence[str]) -> int:
    verbose = False
    try:
        arguments = parser.parse_args(argv)
        verbose = arguments.verbose
        quiet = silence() if arguments.quiet else nullcontext()
        with quiet, _notes_on_stderr(verbose=verbose, quiet=arguments.quiet):
            command(arguments)
        sys.stdout.flush()
    except SystemExit as done:  # argparse ends this way
        return done.code if isinstance(done.code, int) else 0
    except BrokenPipeError:
        # Whoever read our output has had enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (Ml2scError, InternalError) as error:
        _report(str(error), verbose)
        return error.exit_code
    except Exception as error:  # noqa: BLE001  # anything else is a bug of ours, and told as one
        _report(str(InternalError(f"{type(error).__name__}: {error}")), verbose)
        return _BUG
    return 0


class _Guarded:
    """A stream that shows no secret, and every character in some form: all output of a command goes through one."""

    def __init__(self, stream: TextIO, secrets: Secrets) -> None:
        self._stream, self._secrets = stream, secrets

    def write(self, text: str) -> int:
        safe = self._secrets.redact(text)
        try:
            self._stream.write(safe)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            self._stream.write(safe.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_secrets = Secrets()


def hide(text: str) -> None:
    """Never show a text, wherever it would stand, until the command ends."""
    _secrets.add(text.strip().removeprefix("0x"))


@contextmanager
def _guarded(arguments: Sequence[str]) -> Iterator[None]:
    """Let no secret of the command line out: a key typed in the wrong place, the access key of a URL."""
    streams = sys.stdout, sys.stderr
    _secrets.forget()
    _secrets.add_arguments(arguments)
    sys.stdout, sys.stderr = (cast("TextIO", _Guarded(stream, _secrets)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def _join_values(argv: Sequence[str], options: set[str]) -> list[str]:
    """Write `--option -1,1` as `--option=-1,1`: argparse would take the value for an option."""
    joined: list[str] = []
    for position, argument in enumerate(argv):
        if argument == "--":
            return [*joined, *argv[position:]]
        if joined and joined[-1] in options:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _report(text: str, verbose: bool) -> None:
    if verbose:
        traceback.print_exc()
    kind, colon, rest = text.partition(":")
    print(styled(kind, sys.stderr, _BOLD, _RED) + colon + rest, file=sys.stderr)


class _Notes(logging.Formatter):
    """Log records as lines for people: `note: …`, `warning: …`."""

    def format(self, record: logging.LogRecord) -> str:
        kind, colour = {logging.DEBUG: ("debug", _CYAN), logging.INFO: ("note", _CYAN)}.get(
            record.levelno, ("warning", _YELLOW)
        )
        return f"{styled(kind, sys.stderr, colour)}: {super().format(record)}"


def _as_note(show: Callable[..., None]) -> Callable[..., None]:
    """Return what shows our own warnings as notes, and has others shown as before."""

    def showwarning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, Ml2scWarning):
            logging.getLogger("ml2sc").warning("%s", message)
        else:
            show(message, category, *where, **more)

    return showwarning


@contextmanager
def _notes_on_stderr(*, verbose: bool, quiet: bool) -> Iterator[None]:
    logger, handler = logging.getLogger("ml2sc"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Notes())
    level = logger.level
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", Ml2scWarning)
            warnings.showwarning = _as_note(warnings.showwarning)
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def styled(text: str, stream: TextIO, *codes: str) -> str:
    """Return `text` in bold or a colour where `stream` is a terminal and NO_COLOR is not set."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m"


def heading(text: str, stream: TextIO) -> str:
    """Return `text` in bold where `stream` is a terminal."""
    return styled(text, stream, _BOLD)


def one_of(kind: str, value: str, known: Sequence[str]) -> str:
    """Return `value` if it is one of `known`.

    Raises:
        UnknownNameError: it is not; the message offers the nearest.
    """
    if value not in known:
        raise UnknownNameError(kind, value, known)
    return value


def process_count(arguments: argparse.Namespace) -> int:
    """Return how many processes `--workers` asks for; left out, as many as suit this machine.

    Raises:
        UsageError: fewer than one.
    """
    from ml2sc.runtime.workers import default_workers, require_workers

    return default_workers() if arguments.workers is None else require_workers(arguments.workers)


def checked_address(text: str) -> str:
    """Return an address with its checksum.

    Raises:
        UsageError: it is none, or its checksum is wrong.
    """
    from eth_utils.address import is_address, to_checksum_address

    if not is_address(text):
        raise UsageError(f"{text!r} is no address, or its checksum is wrong", hint="0x and 40 hexadecimal digits")
    return to_checksum_address(text)


def noted(directory: str, rpc: Rpc) -> str | None:
    """Return the contract that a deployment or an update noted in a folder, and say who is said to have put it there.

    Raises:
        JournalError: the note is none, or of another chain.
    """
    from ml2sc.runtime.journal import noted_address, noted_addresses

    if not noted_addresses(Path(directory)):
        return None
    note = noted_address(Path(directory), rpc.chain_id)
    if note is None:
        return None
    path = note.path
    if (note.chain_id, note.genesis) != (rpc.chain_id, rpc.genesis):
        raise JournalError(
            f"{path} is of another chain ({note.chain_id}) than the node's ({rpc.chain_id})",
            hint="give the contract's --address",
        )
    logger.info(
        "the contract is %s, put there by %s: so says %s, which whoever made the folder wrote; --address names another",
        note.address,
        note.sender,
        path,
    )
    return note.address


def add_prices(parser: argparse.ArgumentParser) -> None:
    """Add the options that turn gas into money."""
    parser.add_argument("--gas-price", type=float, metavar="GWEI", help="say what gas costs in ether at this price")
    parser.add_argument("--eth-price", type=float, metavar="USD", help="with --gas-price: and in dollars")


def prices_of(arguments: argparse.Namespace) -> Prices:
    """Return what those options say.

    Raises:
        UsageError: a price is none.
    """
    return Prices(arguments.gas_price, arguments.eth_price)


def print_sheet(sheet: Sheet, *, ok: bool = True) -> None:
    """Print a result on stdout.

    Args:
        sheet: The result.
        ok: Whether it is one that is good.
    """
    colours = (_BOLD,) if ok else (_BOLD, _RED)
    status = f": {styled(sheet.status, sys.stdout, *colours)}" if sheet.status else ""
    print("\n".join([heading(sheet.title, sys.stdout) + status, *sheet.lines()]))
