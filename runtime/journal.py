"""The journal of a plan's transactions: what was signed, under which nonce, and what became of it.

A transaction is written down, signed, before it is sent. Whoever finds the journal after a crash can therefore send
the very same bytes again, which is harmless: a chain takes each nonce once. The file is replaced atomically and flushed
to the disk, so it is always the journal of some moment; a lock keeps a second run out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ml2sc.errors import JournalError, OutputError
from ml2sc.jsontext import json_text

DEPLOYMENT = "deployment.json"
"""Name of the journal in a folder whose contract is on a chain."""

_VERSION = 1


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
    """

    path: Path
    plan: str
    chain_id: int
    genesis: str
    sender: str
    entries: dict[str, Entry] = field(default_factory=dict)
    past: list[tuple[str, Entry]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)

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
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(f"{json_text(content, indent=1)}\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
            _flush_folder(self.path.parent)
        except OSError as error:
            raise OutputError(f"cannot write the journal {self.path}: {error.strerror or error}") from error

    def move(self, path: Path) -> None:
        """Keep it elsewhere from now on."""
        old, self.path = self.path, path
        self.save()
        old.unlink(missing_ok=True)

    def give_up(self, name: str) -> None:
        """Note that a step's transaction came to nothing: the step has to be done anew."""
        self.past.append((name, self.entries.pop(name)))
        self.save()


def _flush_folder(folder: Path) -> None:
    """Make a rename last: on POSIX systems that needs the folder flushed too."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_journal(path: Path) -> Journal | None:
    """Return a journal, or None if there is no file.

    Raises:
        JournalError: the file is no journal.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != _VERSION:
            raise JournalError(f"{path} is of version {content['version']!r}, not {_VERSION}")
        return Journal(
            path,
            str(content["plan"]),
            int(content["chain_id"]),
            str(content["genesis"]),
            str(content["sender"]),
            {str(name): _entry(entry) for name, entry in content["entries"].items()},
            [(str(name), _entry(entry)) for name, entry in content["past"]],
            dict(content["result"]),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalError(f"cannot read the journal {path}: {error.strerror or error}") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise JournalError(
            f"{path} is no journal of ml2sc: {error!r}", hint="name another file with --journal FILE"
        ) from error


def noted_address(folder: Path) -> str | None:
    """Return the address that a deployment or an update noted in a folder, if one did.

    Raises:
        JournalError: the file is no journal.
    """
    journal = read_journal(folder / DEPLOYMENT)
    return None if journal is None else journal.result.get("address")


def _entry(content: Mapping[str, Any]) -> Entry:
    return Entry(**{**content, "attempts": [Attempt(**attempt) for attempt in content["attempts"]]})


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
        raise JournalError(f"the journal {journal.path} is of another plan: {journal.plan}, not {plan}", hint=hint)
