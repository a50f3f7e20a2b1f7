"""The journal of a plan's transactions: what was signed, under which nonce, and what became of it.

A transaction is written down, signed, before it is sent. Whoever finds the journal after a crash can therefore send
the very same bytes again, which is harmless: a chain takes each nonce once. The file is replaced atomically and flushed
to the disk, so it is always the journal of some moment; a lock keeps a second run out.

Who hands over a folder may have put a journal there. No symbolic link is followed, every field has a type, and nothing
that it says is done counts before the chain has shown it (`transactions.examine`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from eth_utils.address import to_checksum_address
from filelock import FileLock, Timeout

from ml2sc.errors import JournalError, OutputError
from ml2sc.files import inside, read_file, write_file
from ml2sc.foreign import described, parse_json, shown
from ml2sc.jsontext import json_text

T = TypeVar("T")

DEPLOYMENT = "deployment.json"
"""Name of the journal in a folder whose contract is on a chain, before there were those of several chains."""

DEPLOYMENTS = "deployments"
"""Folder of the journals of several chains, each called after the chain's id."""

_VERSION = 1
_MOST_BYTES = 1 << 26


@dataclass
class Attempt:
    """One signed transaction. Attempts of an entry share its nonce: at most one of them can ever be mined.

    Attributes:
        hash: The transaction's hash.
        raw: Its signed bytes, in hexadecimal.
        max_fee: The most it pays a unit of gas, in wei.
        tip: What it offers above the base fee, in wei.
    """

    hash: str
    raw: str
    max_fee: int
    tip: int


@dataclass
class Entry:
    """What is known of one step.

    Attributes:
        nonce: The account's nonce its attempts use; None if nothing had to be sent.
        block: The chain's last block when it was signed.
        attempts: What was signed, the newest last.
        address: The contract it creates; None if it creates none.
        mined: The hash of the transaction that did it; None until then.
        done: Whether the step is done.
        gas_used: Gas it took.
        fee: What it cost, in wei.
    """

    nonce: int | None = None
    block: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    address: str | None = None
    mined: str | None = None
    done: bool = False
    gas_used: int = 0
    fee: int = 0


@dataclass
class Journal:
    """The transactions of one plan on one chain from one account.

    Attributes:
        path: Where it is kept.
        plan: What is being done; another plan does not go on with this journal.
        chain_id: The chain's number.
        genesis: The hash of its block 0.
        sender: The account that pays.
        entries: By the name of the step.
        past: Steps' earlier entries, which came to nothing: reverted, or replaced by another transaction.
        result: What the plan's owner notes at its end.
        sent: How many transactions this run has sent; it is not kept.
    """

    path: Path
    plan: str
    chain_id: int
    genesis: str
    sender: str
    entries: dict[str, Entry] = field(default_factory=dict)
    past: list[tuple[str, Entry]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    sent: int = 0

    def save(self) -> None:
        """Write it, atomically and to the disk.

        Raises:
            OutputError: it cannot be written. Nothing must be sent then.
        """
        content = {
            "version": _VERSION,
            "plan": self.plan,
            "chain_id": self.chain_id,
            "genesis": self.genesis,
            "sender": self.sender,
            "entries": {name: asdict(entry) for name, entry in self.entries.items()},
            "past": [[name, asdict(entry)] for name, entry in self.past],
            "result": self.result,
        }
        try:
            write_file(self.path, f"{json_text(content, indent=1)}\n".encode(), mode=0o600)
        except OSError as error:
            raise OutputError(f"cannot write the journal {self.path}: {error.strerror or error}") from error

    def move(self, path: Path) -> None:
        """Keep it elsewhere from now on.

        Raises:
            OutputError: it cannot be written there.
        """
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {path.parent}: {error.strerror or error}") from error
        old, self.path = self.path, path
        self.save()
        old.unlink(missing_ok=True)

    def give_up(self, name: str) -> None:
        """Note that a step's transaction came to nothing: the step has to be done anew."""
        self.past.append((name, self.entries.pop(name)))
        self.save()


_ELSEWHERE = "name another file with --journal FILE"


def read_journal(path: Path) -> Journal | None:
    """Return a journal, or None if there is no file.

    Raises:
        JournalError: the file is no journal, or a link to one.
    """
    try:
        fields = _Fields(parse_json(read_file(path, _MOST_BYTES)), "the journal")
        version = fields.take("version", _whole)
        if version != _VERSION:
            raise JournalError(f"{path} is of version {version}, not {_VERSION}")
        journal = Journal(
            path,
            fields.take("plan", _text),
            fields.take("chain_id", _whole),
            fields.take("genesis", _hash),
            fields.take("sender", _address),
            fields.take(
                "entries", lambda entries: {_text(name): _entry(held) for name, held in _object(entries).items()}
            ),
            fields.take("past", _past),
            fields.take("result", _result),
        )
        fields.require_empty()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalError(f"cannot read the journal {path}: {error.strerror or error}", hint=_ELSEWHERE) from error
    except (ValueError, _FieldError) as error:
        raise JournalError(f"{path} is no journal of ml2sc: {error}", hint=_ELSEWHERE) from error
    return journal


@dataclass(frozen=True)
class Note:
    """Where a deployment or an update says it has put a contract. Who made the folder wrote it: it may be another's.

    Attributes:
        path: The journal that says so.
        address: The contract, checksummed.
        chain_id: The number of the chain it is on.
        genesis: The hash of that chain's block 0.
        sender: The account that is said to have put it there.
    """

    path: Path
    address: str
    chain_id: int
    genesis: str
    sender: str


def journal_path(folder: Path, chain_id: int) -> Path:
    """Return where the journal of a deployment on a chain is kept: `deployments/ID.json` in the artifact's folder.

    A folder that an earlier version wrote has `deployment.json`: it is gone on with where it is of that chain.

    Raises:
        JournalError: a link is in the way, or that file is no journal.
    """
    older = read_journal(folder / DEPLOYMENT)
    if older is not None and older.chain_id == chain_id:
        return older.path
    return _inside(folder, f"{chain_id}.json")


def _inside(folder: Path, name: str) -> Path:
    try:
        return inside(folder, f"{DEPLOYMENTS}/{name}")
    except OSError as error:
        raise JournalError(
            f"cannot keep a journal in {folder / DEPLOYMENTS}: {error.strerror or error}", hint=_ELSEWHERE
        ) from error


def noted_address(folder: Path, chain_id: int) -> Note | None:
    """Return what a deployment or an update noted in a folder, if one did: on that chain, else on any.

    Raises:
        JournalError: the file is no journal.
    """
    notes = [note for path in (_inside(folder, f"{chain_id}.json"), *_journals(folder)) if (note := _note(path))]
    return next((note for note in notes if note.chain_id == chain_id), notes[0] if notes else None)


def noted_addresses(folder: Path) -> dict[int, str]:
    """Return the contracts that deployments noted in a folder, by chain id: as whoever made the folder says.

    Raises:
        JournalError: a file is no journal.
    """
    notes = [_note(path) for path in _journals(folder)]
    return {note.chain_id: note.address for note in notes if note is not None}


def _journals(folder: Path) -> list[Path]:
    """Return the journals in a folder, the older version's first."""
    names = sorted(path.name for path in (folder / DEPLOYMENTS).glob("*.json"))
    return [folder / DEPLOYMENT, *(_inside(folder, name) for name in names)]


def _note(path: Path) -> Note | None:
    journal = read_journal(path)
    if journal is None or "address" not in journal.result:
        return None
    try:
        address = _address(journal.result["address"])
    except _FieldError as error:
        raise JournalError(
            f"{path} is no journal of ml2sc: {error}", hint="name the contract with --address"
        ) from error
    return Note(path, address, journal.chain_id, journal.genesis, journal.sender)


class _FieldError(Exception):
    """A value in a journal is not of its type."""


class _Fields:
    """The members of a JSON object, each taken out once."""

    def __init__(self, value: object, what: str) -> None:
        self._left, self._what = dict(_object(value)), what

    def take(self, name: str, parse: Callable[[object], T]) -> T:
        if name not in self._left:
            raise _FieldError(f"{self._what} lacks {name!r}")
        try:
            return parse(self._left.pop(name))
        except _FieldError as error:
            raise _FieldError(f"{name}: {error}") from None

    def require_empty(self) -> None:
        if self._left:
            raise _FieldError(f"{self._what} has {described(next(iter(self._left)))}, which means nothing")


def _entry(value: object) -> Entry:
    fields = _Fields(value, "an entry")
    entry = Entry(
        fields.take("nonce", _optional(_nonce)),
        fields.take("block", _whole),
        fields.take("attempts", lambda attempts: [_attempt(attempt) for attempt in _list(attempts)]),
        fields.take("address", _optional(_address)),
        fields.take("mined", _optional(_hash)),
        fields.take("done", _flag),
        fields.take("gas_used", _whole),
        fields.take("fee", _whole),
    )
    fields.require_empty()
    return entry


def _attempt(value: object) -> Attempt:
    fields = _Fields(value, "an attempt")
    attempt = Attempt(
        fields.take("hash", _hash),
        fields.take("raw", _matching(r"0x(?:[0-9a-f]{2})+", "bytes in hexadecimal")),
        fields.take("max_fee", _whole),
        fields.take("tip", _whole),
    )
    fields.require_empty()
    return attempt


def _matching(pattern: str, what: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise _FieldError(f"{described(value)} is no {what}")
        return value

    return parse


_text = _matching(r"[^\ud800-\udfff]*", "text")
_hash = _matching(r"0x[0-9a-f]{64}", "hash")
_hex_address = _matching(r"0x[0-9a-fA-F]{40}", "address")


def _address(value: object) -> str:
    return to_checksum_address(_hex_address(value))


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 256:
        raise _FieldError(f"{described(value)} is no whole number of at most 256 bits")
    return value


def _nonce(value: object) -> int:
    if _whole(value) >= (1 << 64) - 1:
        raise _FieldError(f"{described(value)} is no nonce")
    return _whole(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _FieldError(f"{described(value)} is neither true nor false")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise _FieldError(f"{described(value)} is no list")
    return value


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _FieldError(f"{described(value)} is no object")
    return value


def _result(value: object) -> dict[str, Any]:
    return {
        _text(name): item if item is None or type(item) in (bool, int) else _text(item)
        for name, item in _object(value).items()
    }


def _past(value: object) -> list[tuple[str, Entry]]:
    pairs = [_list(pair) for pair in _list(value)]
    if any(len(pair) != 2 for pair in pairs):
        raise _FieldError("not pairs of a name and an entry")
    return [(_text(name), _entry(entry)) for name, entry in pairs]


def _optional(parse: Callable[[object], T]) -> Callable[[object], T | None]:
    return lambda value: None if value is None else parse(value)


@contextmanager
def open_journal(path: Path, *, plan: str, chain_id: int, genesis: str, sender: str) -> Iterator[Journal]:
    """Open a journal, or begin one, and keep other runs out of it until the end of the block.

    Args:
        path: The file.
        plan: What is to be done, as `Journal`.
        chain_id: The chain's number.
        genesis: The hash of its block 0.
        sender: The account that pays.

    Raises:
        JournalError: it is in use, damaged, or of another plan, chain or account.
        OutputError: it cannot be written.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise JournalError(f"another run is at work with the journal {path}", hint="wait for its end") from error
    except OSError as error:
        raise OutputError(f"cannot write beside {path}: {error.strerror or error}") from error
    try:
        journal = read_journal(path)
        if journal is None:
            journal = Journal(path, plan, chain_id, genesis, sender)
        else:
            require_same(journal, plan=plan, chain_id=chain_id, genesis=genesis, sender=sender)
        yield journal
    finally:
        lock.release()


def require_same(journal: Journal, *, plan: str, chain_id: int, genesis: str, sender: str) -> None:
    """Refuse a journal that is not of this plan, chain and account.

    Raises:
        JournalError: it is not.
    """
    hint = "name another file with --journal FILE to begin anew"
    if journal.chain_id != chain_id:
        raise JournalError(
            f"the journal {journal.path} is of chain {journal.chain_id}; the node is on chain {chain_id}",
            hint=f"is the node's URL right? If so, {hint}",
        )
    if journal.genesis != genesis:
        raise JournalError(
            f"the journal {journal.path} is of another chain {chain_id}: block 0 was {journal.genesis}, the node's is "
            f"{genesis}",
            hint=f"a development node begins a new chain at each start; {hint}",
        )
    if journal.sender != sender:
        raise JournalError(f"the journal {journal.path} is of account {journal.sender}, not {sender}", hint=hint)
    if journal.plan != plan:
        raise JournalError(
            f"the journal {journal.path} is of another plan: {shown(journal.plan)}, not {plan}", hint=hint
        )
