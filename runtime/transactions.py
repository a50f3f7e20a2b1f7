"""Plans of transactions: what they would cost, and doing them so that a crash at any moment does no harm.

A `Plan` is a list of `Step`s, each one transaction; a step may need the addresses of contracts that earlier ones
create. `quote` says what a plan costs; `execute` signs, journals, sends and awaits. What it relies on:

1. A nonce is used once. All attempts of a step share a nonce until it is proved, by the mined transaction that took it,
   that none of them can be mined. So a step is never done twice.
2. What is sent is in the journal before (see `journal`). So nothing is lost but what was never sent.
3. What the chain says wins: each run first asks what became of every transaction in the journal.
4. Neither the journal nor the node is believed. A journal's transaction counts if the account signed it and it does
   what the plan says (`examine`). What a node supplies and gets signed has a bound: fees (`current_fees`), gas, and
   how often a step is begun anew.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import rlp
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

from ml2sc.errors import ContractLimitError, FundsError, InternalError, JournalError, NodeError, TransactionError
from ml2sc.foreign import shown
from ml2sc.ir.forks import Fork

from .answers import Receipt, SentTransaction, amount
from .chain import CREATE2_PROXY, LIMITS, Reverted
from .contract import decode_revert
from .data_fee import asks_for_data, data_fee
from .journal import Attempt, Entry, Journal
from .node import to_hex
from .rpc import Rpc
from .signed import SignedTransaction, read_signed, unsigned
from .signer import Signer

logger = logging.getLogger(__name__)

GWEI = 10**9

MOST_FEE = 500 * GWEI
"""The most offered for a unit of gas, in wei, unless the user says otherwise."""

MOST_TIP = 30 * GWEI
"""The most that is offered on a node's word alone above the base fee, or as the gas price where there is no base fee,
in wei a unit: all of it is paid, whatever the block needs."""

_DEFAULT_TIP = GWEI  # wei a gas, where a node does not know what others pay
_LEAST_GAS = 21_000  # of any transaction
_MOST_ANEW = 3  # times that a step is begun anew in a run because its nonce went to another transaction
_SOON = 0.02  # seconds to the second question for a receipt: a development chain has it at once, a public one later
_SURE_AFTER = 3.0  # seconds after which a nonce that is used, without a receipt of ours, is looked into

Addresses = Mapping[str, str]
"""Contracts that steps created, by the steps' names."""


@dataclass(frozen=True)
class Call:
    """What a transaction does.

    Attributes:
        to: Whom it calls; None to create a contract.
        data: Calldata or init code.
        creates: The contract a called factory creates; where that has code already, nothing is sent.
    """

    to: str | None
    data: bytes
    creates: str | None = None


@dataclass(frozen=True)
class Step:
    """One transaction to be.

    Attributes:
        name: Its name, unique in the plan: what the journal calls it.
        build: Makes it, from the addresses of the steps it comes after.
        after: Steps that must be mined before; they stand earlier in the plan.
        gas: What it will use, from the addresses, where the node cannot be asked because earlier steps must be done
            first; by default the node is asked. When it is sent, the node is always asked.
        code_bytes: Bytes of the code it creates; 0 if none.
        is_done: Asked before anything is signed: whether the chain is as if the step had been done.
    """

    name: str
    build: Callable[[Addresses], Call]
    after: tuple[str, ...] = ()
    gas: Callable[[Addresses], int] | None = None
    code_bytes: int = 0
    is_done: Callable[[Addresses], bool] | None = None


@dataclass(frozen=True)
class Plan:
    """Transactions to be done, all of one account.

    Attributes:
        identity: What it is, so that a journal is never gone on with by another plan: "deploy Digits 0x…".
        steps: In an order in which each comes after those it needs.
        abi: ABI entries of the errors its transactions may revert with.
        limits: What the chain allows, and whether it charges what a transaction may use.
    """

    identity: str
    steps: tuple[Step, ...]
    abi: Sequence[Mapping[str, Any]] = ()
    limits: Fork = LIMITS

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for step in self.steps:
            if step.name in seen or not seen.issuperset(step.after):
                raise InternalError(f"step {step.name!r} of plan {self.identity!r} is out of order or double")
            seen.add(step.name)


def create_address(sender: str, nonce: int) -> str:
    """Return the address of a contract that a transaction creates: keccak256(rlp([sender, nonce]))[12:]."""
    return to_checksum_address(keccak(rlp.encode([to_canonical_address(sender), nonce]))[12:])


def create2(salt: bytes, init_code: bytes, factory: str = CREATE2_PROXY) -> Call:
    """Return the call that creates a contract at an address that depends on salt and init code only (EIP-1014).

    Its `msg.sender` is the proxy, not the account that pays.

    Args:
        salt: 32 bytes.
        init_code: Creation code and constructor arguments.
        factory: The proxy, or another contract of its code.
    """
    preimage = b"\xff" + to_canonical_address(factory) + salt + keccak(init_code)
    return Call(factory, salt + init_code, to_checksum_address(keccak(preimage)[12:]))


# -- what it costs -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fees:
    """What gas costs now, in wei a unit.

    Attributes:
        base: The next block's base fee; on a chain without EIP-1559 the gas price that the node names.
        tip: What is offered above it.
        most: The most to be paid.
        limit: What `most` may become when a transaction is replaced by one that pays more.
        tip_limit: And the tip.
        legacy: Whether the chain has no EIP-1559: transactions are legacy ones, and pay `base`.
        note: What the user is told about it; empty for nothing.
    """

    base: int
    tip: int
    most: int
    limit: int
    tip_limit: int
    legacy: bool = False
    note: str = ""

    @property
    def price(self) -> int:
        """What a unit of gas costs at this base fee."""
        return self.base + self.tip


@dataclass(frozen=True)
class FeeOptions:
    """What the user wants of fees.

    Attributes:
        max_fee: The most to pay a unit of gas, in wei; by default twice the base fee, plus the tip, but at most
            `MOST_FEE` and a tip the user chose (and `MOST_TIP` as a legacy transaction's gas price).
        tip: What to offer above the base fee; by default what the node suggests, but at most `MOST_TIP`.
    """

    max_fee: int | None = None
    tip: int | None = None


def current_fees(rpc: Rpc, options: FeeOptions = FeeOptions()) -> Fees:
    """Return what gas costs now. A node cannot make anyone offer more than the options, or their defaults, allow.

    Raises:
        NodeError: the node cannot be reached.
        TransactionError: gas costs more than the user wants to pay.
    """
    base = rpc.block().base_fee
    if base is None:
        return _legacy_fees(rpc, options)
    tip, note = (options.tip, "") if options.tip is not None else _suggested_tip(rpc)
    limit = MOST_FEE + (options.tip or 0) if options.max_fee is None else options.max_fee
    if base > limit:
        raise _too_dear("the base fee is", base, limit)
    tip = min(tip, limit - base)
    # Twice the base fee is what six full blocks in a row would make of it.
    most = min(2 * base + tip, limit) if options.max_fee is None else limit
    return Fees(base, tip, most, limit, max(MOST_TIP, options.tip or 0), note=note)


def _suggested_tip(rpc: Rpc) -> tuple[int, str]:
    try:
        tip = rpc.ask(amount, "eth_maxPriorityFeePerGas")
    except NodeError as error:
        if not error.reason:
            raise
        tip = _DEFAULT_TIP
    if tip <= MOST_TIP:
        return tip, ""
    note = f"the node suggests a tip of {gwei(tip)}; {gwei(MOST_TIP)} is offered, which --tip changes"
    return MOST_TIP, note


def _legacy_fees(rpc: Rpc, options: FeeOptions) -> Fees:
    price = rpc.ask(amount, "eth_gasPrice")
    limit = MOST_TIP if options.max_fee is None else options.max_fee
    if price > limit:
        raise _too_dear("the chain has no base fee, and the node asks a gas price of", price, limit)
    note = "" if options.tip is None else "the chain has no base fee, to which --tip could be added"
    return Fees(price, 0, price, limit, limit, legacy=True, note=note)


def _too_dear(what: str, price: int, limit: int) -> TransactionError:
    return TransactionError(
        f"{what} {price:,} wei a gas, more than the {limit:,} that may be paid",
        hint="wait, or allow more with --max-fee",
    )


def gwei(wei: int) -> str:
    """Return a price of gas in gwei."""
    return f"{wei / GWEI:,.9g} gwei"


@dataclass(frozen=True)
class Line:
    """One transaction of a quote.

    Attributes:
        name: Its step.
        to: Whom it calls, or None to create.
        creates: The contract it creates, if its nonce is the one foreseen.
        data_bytes: Bytes of its calldata or init code.
        code_bytes: Bytes of the code it creates.
        gas: Gas it uses.
        fee: What it costs at the current base fee, in wei, `data_fee` included.
        state: "to send", "sent" (in the journal, not mined) or "done".
        problem: Which limit it breaks; empty if none.
        data_fee: What its bytes cost besides, on the chain below, in wei.
    """

    name: str
    to: str | None
    creates: str | None
    data_bytes: int
    code_bytes: int
    gas: int
    fee: int
    state: str
    problem: str
    data_fee: int = 0


@dataclass(frozen=True)
class Quote:
    """What a plan costs.

    Attributes:
        lines: Its transactions.
        fees: What gas costs.
        balance: What the account has, in wei.
        block_gas: Gas a block of the chain may use.
    """

    lines: tuple[Line, ...]
    fees: Fees
    balance: int
    block_gas: int

    @property
    def gas(self) -> int:
        """Gas of what is yet to be mined."""
        return sum(line.gas for line in self.lines if line.state != "done")

    @property
    def fee(self) -> int:
        """What that costs at the current base fee, in wei."""
        return sum(line.fee for line in self.lines if line.state != "done")

    @property
    def data_fee(self) -> int:
        """What of it the chain below asks, in wei."""
        return sum(line.data_fee for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        """Return the quote as JSON values; amounts in wei."""
        return {
            "transactions": [vars(line) for line in self.lines],
            "gas": self.gas,
            "fee": self.fee,
            "data_fee": self.data_fee,
            "base_fee": self.fees.base,
            "tip": self.fees.tip,
            "max_fee": self.fees.most,
            "legacy": self.fees.legacy,
            "balance": self.balance,
            "block_gas": self.block_gas,
        }

    def require_possible(self) -> None:
        """Refuse a plan that cannot be carried out.

        Raises:
            ContractLimitError: a transaction breaks a limit of the chain.
            FundsError: the account cannot pay.
        """
        problems = [f"{line.name}: {line.problem}" for line in self.lines if line.problem]
        if problems:
            raise ContractLimitError("the chain would refuse this\n  " + "\n  ".join(problems))
        if self.balance < self.fee:
            raise FundsError(
                f"the account has {ether(self.balance)} and this costs {ether(self.fee)}",
                hint=f"send it {ether(self.fee - self.balance)} or more",
            )


def ether(wei: int) -> str:
    """Return an amount in ether, exactly."""
    whole, fraction = divmod(wei, 10**18)
    return f"{whole:,}.{fraction:018d}".rstrip("0").rstrip(".") + " ETH"


def quote(plan: Plan, rpc: Rpc, sender: str, journal: Journal | None = None, fees: FeeOptions = FeeOptions()) -> Quote:
    """Return what a plan costs from here on. Nothing is signed or sent.

    Args:
        plan: What is to be done.
        rpc: The node.
        sender: The account that pays.
        journal: What has been done of it.
        fees: The user's wishes.

    Raises:
        NodeError: the node cannot be reached.
        Reverted: a transaction would revert, or was not foreseen with gas.
    """
    prices = current_fees(rpc, fees)
    block_gas = rpc.block().gas_limit
    entries = {} if journal is None else journal.entries
    nonce = _next_nonce(rpc, sender, entries.values())
    asks = asks_for_data(rpc, plan.limits)
    addresses: dict[str, str] = {}
    lines = []
    for step in plan.steps:
        call, entry = step.build(addresses), entries.get(step.name)
        creates = _creates(sender, nonce, call)
        if entry is not None:
            creates, state = entry.address, "done" if entry.done else "sent"
        elif _is_done(step, call, addresses, rpc):
            state = "done"
        else:
            state, nonce = "to send", nonce + 1
        if creates is not None:
            addresses[step.name] = creates
        if state == "done":
            gas = 0 if entry is None else entry.gas_used
        else:
            gas = _estimate(rpc, sender, call, plan.abi) if step.gas is None else step.gas(addresses)
        problem = "" if state == "done" else _problem(call, gas, step.code_bytes, block_gas, plan.limits)
        data = 0
        if asks and state != "done":
            taken = nonce if entry is None or entry.nonce is None else entry.nonce
            data = data_fee(rpc, unsigned(rpc.chain_id, taken, prices.tip, prices.most, gas, call.to, call.data))
        fee = gas * prices.price + data
        lines.append(Line(step.name, call.to, creates, len(call.data), step.code_bytes, gas, fee, state, problem, data))
    return Quote(tuple(lines), prices, rpc.balance(sender), block_gas)


def _problem(call: Call, gas: int, code_bytes: int, block_gas: int, allowed: Fork) -> str:
    init_bytes = len(call.data) if call.to is None else len(call.data) - 32 if call.creates else 0
    limits = [
        (_counted(gas, code_bytes, allowed), allowed.transaction_gas, "gas; a transaction may use {:,} (EIP-7825)"),
        (gas, block_gas, "gas; a block of this chain may use {:,}"),
        (init_bytes, allowed.initcode_limit, "bytes of init code; a chain allows {:,} (EIP-3860)"),
        (code_bytes, allowed.code_limit, "bytes of code; a chain allows {:,} (EIP-170)"),
    ]
    return "; ".join(f"{value:,} {text.format(limit)}" for value, limit, text in limits if value > limit)


def _counted(gas: int, code_bytes: int, allowed: Fork) -> int:
    """Return what of a transaction's gas counts against its limit."""
    return gas - allowed.state(1 if code_bytes else 0, code_bytes)


def _is_done(step: Step, call: Call, addresses: Addresses, rpc: Rpc) -> bool:
    if call.creates is not None and rpc.code(call.creates):
        return True
    return step.is_done is not None and step.is_done(addresses)


def _estimate(rpc: Rpc, sender: str, call: Call, abi: Sequence[Mapping[str, Any]]) -> int:
    try:
        gas = rpc.estimate({"from": sender, **_fields(call)})
    except Reverted as error:
        raise decode_revert(error, abi) from error
    except NodeError as error:
        if "insufficient funds" in error.reason.lower():
            raise FundsError(f"the account {sender} cannot pay: {error.reason}") from error
        raise
    if gas < _LEAST_GAS:
        raise NodeError(f"the node at {rpc.host} estimates {gas:,} gas; no transaction takes less than {_LEAST_GAS:,}")
    return gas


def _fields(call: Call) -> dict[str, str]:
    return {"data": to_hex(call.data), **({} if call.to is None else {"to": call.to})}


def _next_nonce(rpc: Rpc, sender: str, entries: Iterable[Entry]) -> int:
    """Return a nonce that neither the node nor the journal has given to anything."""
    ours = [entry.nonce + 1 for entry in entries if entry.nonce is not None]
    return max([rpc.nonce(sender, "pending"), *ours])


# -- what a journal is worth -------------------------------------------------------------------------------------------


def examine(plan: Plan, rpc: Rpc, sender: str, journal: Journal) -> None:
    """Find out which steps of a journal are done: whoever handed over the folder may have written it.

    Each transaction in it must be signed by the account, for this chain, and do what the plan says. A step is done if
    the chain shows such a transaction, gone through, with what it created; or if nothing had to be sent, and still has
    not.
    Steps that are not done are marked so, in memory.

    Args:
        plan: What is to be done.
        rpc: The node.
        sender: The account that pays.
        journal: What is said to be done of it.

    Raises:
        JournalError: it holds something else than this account's transactions of this plan.
        NodeError: the node cannot be reached.
    """
    for name, held in journal.entries.items():
        _require_ours(journal, name, held)
    next_nonce = rpc.nonce(sender)
    addresses: dict[str, str] = {}
    never_sent: list[Step] = []
    for step in plan.steps:
        entry = journal.entries.get(step.name)
        if entry is None:
            continue
        call = _built(step, addresses, journal)
        if entry.nonce is None:
            _require_needless(journal, step, call, entry)
            never_sent.append(step)
        else:
            _require_does(journal, step, call, entry)
            if entry.done and (entry.nonce >= next_nonce or not _is_shown(call, entry, rpc, journal)):
                logger.warning("%s: the chain does not show that it is done (any more)", step.name)
                entry.done, entry.mined, entry.gas_used, entry.fee = False, None, 0, 0
        if entry.address is not None:
            addresses[step.name] = entry.address
    for step in never_sent:
        # What was staged is gone when it is in use: the step after it tells.
        after = [other.name for other in plan.steps if step.name in other.after and other.name in journal.entries]
        if not any(journal.entries[name].done for name in after) and not _is_done(
            step, step.build(addresses), addresses, rpc
        ):
            logger.warning("%s: the chain has taken it back; it is done again", step.name)
            del journal.entries[step.name]


def _built(step: Step, addresses: Addresses, journal: Journal) -> Call:
    try:
        return step.build(addresses)
    except KeyError as error:
        raise _planted(journal, f"{step.name} comes before what it needs") from error


def _planted(journal: Journal, text: str) -> JournalError:
    return JournalError(
        f"the journal {journal.path} is not this account's of this plan: {text}",
        hint="who made it? name another file with --journal FILE to begin anew",
    )


def _require_ours(journal: Journal, name: str, entry: Entry) -> None:
    """Refuse transactions that the account has not signed for this chain."""
    if (entry.nonce is None) != (not entry.attempts):
        raise _planted(journal, f"{shown(name)} has a nonce and no transaction, or the other way round")
    for attempt in entry.attempts:
        try:
            signed = read_signed(bytes.fromhex(attempt.raw[2:]))
        except ValueError as error:
            raise _planted(journal, f"{shown(name)} holds {error}") from error
        said = (journal.sender, journal.chain_id, entry.nonce, attempt.hash, attempt.max_fee, attempt.tip)
        if said != (signed.sender, signed.chain_id, signed.nonce, signed.hash, signed.max_fee, signed.tip):
            raise _planted(journal, f"{shown(name)} holds a transaction of {signed.sender} that is not what it says")


def _require_does(journal: Journal, step: Step, call: Call, entry: Entry) -> None:
    """Refuse transactions that do not do what the plan says."""
    assert entry.nonce is not None
    creates = _creates(journal.sender, entry.nonce, call)
    if entry.address != creates:
        raise _planted(journal, f"{step.name} creates {creates}, not {entry.address}")
    for attempt in entry.attempts:
        signed = read_signed(bytes.fromhex(attempt.raw[2:]))
        if signed.value or not _does(signed, call):
            raise _planted(journal, f"{step.name} holds transaction {signed.hash}, which does something else")


def _require_needless(journal: Journal, step: Step, call: Call, entry: Entry) -> None:
    """Refuse a step that is said to be done with nothing sent, where something must always be sent."""
    never = call.creates is None and step.is_done is None
    if never or not entry.done or entry.address != call.creates:
        raise _planted(journal, f"it says that {step.name} is done, and names no transaction that did it")


def _creates(sender: str, nonce: int, call: Call) -> str | None:
    """Return the address of the contract that a transaction creates, if it creates one."""
    return call.creates or (create_address(sender, nonce) if call.to is None else None)


def _is_shown(call: Call, entry: Entry, rpc: Rpc, journal: Journal) -> bool:
    """Whether the chain shows the transaction that an entry names, gone through, and what it created.

    Nodes drop old receipts: where there is none, the transaction in its block is enough.

    Raises:
        JournalError: that transaction is another's, or does something else.
    """
    found = None if entry.mined is None else rpc.transaction(entry.mined)
    if found is None or found.block is None:
        return False
    if (found.sender, found.nonce) != (journal.sender, entry.nonce) or not _does(found, call):
        raise _planted(journal, f"transaction {found.hash} is of {found.sender}, or does something else")
    receipt = rpc.receipt(found.hash)
    if receipt is not None:
        entry.gas_used, entry.fee = receipt.gas_used, receipt.fee
    return (receipt is None or receipt.succeeded) and (entry.address is None or bool(rpc.code(entry.address)))


def _does(transaction: SentTransaction | SignedTransaction, call: Call) -> bool:
    to = None if call.to is None else to_checksum_address(call.to)
    return (transaction.to, transaction.data) == (to, call.data)


# -- doing it ----------------------------------------------------------------------------------------------------------

Progress = Callable[[int, int, str], None]
"""Called with the number of steps done, of all, and what is being waited for."""


@dataclass
class _Run:
    """Carries a plan out."""

    plan: Plan
    rpc: Rpc
    signer: Signer
    journal: Journal
    fees: FeeOptions
    wait: float
    poll: float
    progress: Progress
    warned: set[str] = field(default_factory=set)
    begun_anew: Counter[str] = field(default_factory=Counter)
    sent: set[str] = field(default_factory=set)

    @property
    def addresses(self) -> dict[str, str]:
        return {name: entry.address for name, entry in self.journal.entries.items() if entry.address is not None}

    def run(self) -> None:
        examine(self.plan, self.rpc, self.signer.address, self.journal)
        self._recover()
        while waiting := [step for step in self.plan.steps if not self._is_finished(step.name)]:
            for step in waiting:
                if step.name not in self.journal.entries and all(self._is_finished(name) for name in step.after):
                    self._launch(step)
            flying = [step for step in waiting if step.name in self.journal.entries]
            for step in sorted(flying, key=lambda step: self.journal.entries[step.name].nonce or 0):
                if not self._is_finished(step.name):
                    self._settle(step)

    def _is_finished(self, name: str) -> bool:
        entry = self.journal.entries.get(name)
        return entry is not None and entry.done

    def _recover(self) -> None:
        """Ask the chain what became of what the journal holds; send again what no one knows any more."""
        next_nonce = self.rpc.nonce(self.signer.address)
        for name, entry in list(self.journal.entries.items()):
            if entry.done and self._was_taken_back(entry, next_nonce):
                logger.warning("%s: the chain has taken it back; it is done again", name)
                if entry.nonce is None:
                    del self.journal.entries[name]
                entry.done, entry.mined, entry.gas_used, entry.fee = False, None, 0, 0
                self.journal.save()
        for step in self.plan.steps:
            held = self.journal.entries.get(step.name)
            if held is None or held.done or held.nonce is None or held.nonce < next_nonce:
                continue
            prices = current_fees(self.rpc, self.fees)
            if held.attempts[-1].max_fee < prices.base:
                logger.warning("%s: the base fee has risen above what was offered; offering more", step.name)
                self._sign(step, step.build(self.addresses), held)
            self._broadcast(step.name, held.attempts[-1])

    def _was_taken_back(self, entry: Entry, next_nonce: int) -> bool:
        """Whether a step's block is no longer the chain's: its nonce is free, or what it created is not there.

        Receipts do not tell: nodes drop old ones.
        """
        if entry.nonce is not None and entry.nonce >= next_nonce:
            return True
        return entry.address is not None and not self.rpc.code(entry.address)

    def _launch(self, step: Step) -> None:
        """Sign a step's transaction, write it down, send it."""
        call = step.build(self.addresses)
        if _is_done(step, call, self.addresses, self.rpc):
            self.journal.entries[step.name] = Entry(address=call.creates, done=True)
            self.journal.save()
            self._report(step.name)
            return
        nonce = _next_nonce(self.rpc, self.signer.address, self.journal.entries.values())
        address = _creates(self.signer.address, nonce, call)
        entry = Entry(nonce=nonce, block=self.rpc.block_number(), address=address)
        self._sign(step, call, entry)
        self._broadcast(step.name, entry.attempts[-1])

    def _sign(self, step: Step, call: Call, entry: Entry) -> None:
        """Add an attempt to a journal's entry: afterwards it is on the disk, and nobody else has it."""
        prices = current_fees(self.rpc, self.fees)
        self._warn(prices.note)
        tip, most = (prices.most if prices.legacy else prices.tip), prices.most
        if entry.attempts:  # nodes take a second transaction of a nonce if it pays a tenth more, on both counts
            last = entry.attempts[-1]
            tip, most = max(tip, last.tip + last.tip // 8 + 1), max(most, last.max_fee + last.max_fee // 8 + 1)
            if most > prices.limit or tip > prices.tip_limit:
                raise TransactionError(
                    f"{step.name}: to replace what was sent takes an offer of {most:,} wei a gas, more than the "
                    f"{prices.limit:,} that may be paid, or a tip of {tip:,}, more than {prices.tip_limit:,}",
                    hint="wait until the base fee falls, or allow more with --max-fee and --tip",
                )
        gas = self._allowed(step, _estimate(self.rpc, self.signer.address, call, self.plan.abi))
        balance = self.rpc.balance(self.signer.address)
        if balance < gas * most:
            raise FundsError(
                f"the account {self.signer.address} has {ether(balance)}; "
                f"{step.name} may cost up to {ether(gas * most)}",
                hint="send it more, or lower --max-fee, and run again: what is done is done",
            )
        tip = min(tip, most)
        offer = {"gasPrice": most} if prices.legacy else {"maxFeePerGas": most, "maxPriorityFeePerGas": tip}
        fixed = {"chainId": self.journal.chain_id, "nonce": entry.nonce, "gas": gas, "value": 0}
        raw = self.signer.sign({**fixed, **offer, **_fields(call)})
        attempt = Attempt(to_hex(keccak(raw)), to_hex(raw), most, tip)
        self._require_signed(attempt, entry, call, gas)
        entry.attempts.append(attempt)
        self.journal.entries[step.name] = entry
        self.journal.save()

    def _allowed(self, step: Step, gas: int) -> int:
        """Return the gas that a transaction may use, given what it is estimated to use."""
        limits = self.plan.limits
        limit = limits.transaction_gas + gas - _counted(gas, step.code_bytes, limits)
        if gas > limit:
            raise ContractLimitError(f"{step.name} needs {gas:,} gas; a transaction may use {limit:,} (EIP-7825)")
        # Blocks between the estimate and the transaction may change a little. Gas that is not used costs nothing, but
        # on chains that charge the limit.
        return min(gas + gas // (100 if limits.charges_limit else 20), limit)

    def _require_signed(self, attempt: Attempt, entry: Entry, call: Call, gas: int) -> None:
        """Refuse what a node has signed if it is not what it was asked to sign.

        Raises:
            NodeError: it is not.
        """
        try:
            signed = read_signed(bytes.fromhex(attempt.raw[2:]))
        except ValueError as error:
            raise NodeError(f"what the signer of {self.signer.address} returned is {error}") from error
        wanted = (self.signer.address, self.journal.chain_id, entry.nonce, 0, gas, attempt.max_fee, attempt.tip)
        fields = (signed.sender, signed.chain_id, signed.nonce, signed.value, signed.gas, signed.max_fee, signed.tip)
        if fields != wanted or not _does(signed, call):
            raise NodeError(f"the signer of {self.signer.address} signed another transaction than it was given")

    def _broadcast(self, name: str, attempt: Attempt) -> None:
        """Send a signed transaction; sending it again does nothing."""
        try:
            self.rpc.send_raw(attempt.raw)
            self.sent.add(attempt.hash)
            self.journal.sent = len(self.sent)
        except NodeError as error:
            reason = error.reason.lower()
            if not reason:
                raise
            if self.rpc.transaction(attempt.hash) is not None:
                return
            if "insufficient funds" in reason:
                raise FundsError(f"the account {self.signer.address} cannot pay for {name}: {error.reason}") from error
            # A nonce that is used, or that another transaction waits for: `_settle` finds out which.
            if not any(words in reason for words in ("nonce", "underpriced", "known", "already")):
                raise
            self._warn(f"{name}: the node does not take the transaction: {error.reason}")

    def _settle(self, step: Step) -> None:
        """Wait until a step's transaction is mined, and write down how it went.

        Afterwards the step is done, or without an entry because its nonce went to a foreign transaction.
        """
        entry = self.journal.entries[step.name]
        begun = used_since = time.monotonic()
        while True:
            self._report(step.name)
            for attempt in entry.attempts:
                receipt = self.rpc.receipt(attempt.hash)
                if receipt is not None and receipt.block is not None:
                    self._conclude(step, entry, receipt)
                    return
            now = time.monotonic()
            next_nonce = self.rpc.nonce(self.signer.address)
            if next_nonce <= (entry.nonce or 0):
                used_since = now
                mined = [held.nonce for held in self.journal.entries.values() if held.done and held.nonce is not None]
                if max(mined, default=-1) >= next_nonce:
                    self._recover()  # this step cannot be mined before those that the chain has taken back
                self._keep_alive(step.name, entry)
            elif now - used_since >= min(_SURE_AFTER, self.wait):
                if self._resolve_replacement(step, entry):
                    return
                used_since = now
            if now - begun > self.wait:
                raise TransactionError(
                    f"{step.name}: transaction {entry.attempts[-1].hash} (nonce {entry.nonce}) was not mined within "
                    f"{self.wait:.0f} s; the account's next nonce is {next_nonce}",
                    hint="run again: it goes on with this very transaction, and offers more if the base fee has risen",
                )
            time.sleep(min(self.poll, max(now - begun, _SOON)))

    def _keep_alive(self, name: str, entry: Entry) -> None:
        """Send a transaction again that the node has forgotten."""
        if self.rpc.transaction(entry.attempts[-1].hash) is None:
            self._warn(f"{name}: the node does not know transaction {entry.attempts[-1].hash}: sending the same again")
            self._broadcast(name, entry.attempts[-1])

    def _conclude(self, step: Step, entry: Entry, receipt: Receipt) -> None:
        creates = entry.address is not None and step.build(self.addresses).to is None
        if receipt.succeeded and creates and receipt.created != entry.address:
            raise NodeError(f"{step.name}: the node says {receipt.hash} created {receipt.created}, not {entry.address}")
        entry.gas_used, entry.mined = receipt.gas_used, receipt.hash
        entry.fee = receipt.fee
        if not receipt.succeeded:
            error = self._why(step, receipt)
            self.journal.give_up(step.name)
            raise error
        entry.done = True
        self.journal.save()
        self._report(step.name)

    def _why(self, step: Step, receipt: Receipt) -> Exception:
        """Ask what a failed transaction reverted with: it is called again, on the state before its block."""
        call = step.build(self.addresses)
        what = f"{step.name}: transaction {receipt.hash} failed, {receipt.gas_used:,} gas used"
        try:
            before = max(0, (receipt.block or 0) - 1)
            self.rpc.call({"from": self.signer.address, **_fields(call)}, before)
        except Reverted as error:
            decoded = decode_revert(error, self.plan.abi)
            return Reverted(decoded.data, f"{what}; {decoded.message}")
        except (NodeError, ContractLimitError) as error:
            return Reverted(b"", f"{what}; {error.message}")
        return Reverted(b"", f"{what}, out of gas or for a reason that has passed")

    def _resolve_replacement(self, step: Step, entry: Entry) -> bool:
        """Find who used the nonce. Returns whether the step is settled: done by a twin of ours, or to be done anew.

        Raises:
            TransactionError: the node does not show who did, or it has happened too often.
        """
        other = self._transaction_of(entry)
        if any(other.hash == attempt.hash for attempt in entry.attempts):
            return False  # ours; its receipt is on its way
        receipt = self.rpc.receipt(other.hash) if _does(other, step.build(self.addresses)) else None
        if receipt is not None:
            logger.info("%s: a wallet replaced the transaction by %s, which does the same", step.name, other.hash)
            self._conclude(step, entry, receipt)
            return True
        logger.warning(
            "%s: its nonce %d was used by transaction %s; the step is done anew", step.name, entry.nonce, other.hash
        )
        self.journal.give_up(step.name)
        self.begun_anew[step.name] += 1
        if self.begun_anew[step.name] > _MOST_ANEW:
            raise TransactionError(
                f"{step.name}: other transactions took its nonce {_MOST_ANEW + 1} times",
                hint=f"does another program pay from {self.signer.address}? Does the node tell the truth?",
            )
        return True

    def _transaction_of(self, entry: Entry) -> SentTransaction:
        """Return the mined transaction that used an entry's nonce."""
        sender, nonce = self.signer.address, entry.nonce or 0
        low, high = entry.block, self.rpc.block_number()
        # The first block after which the account's next nonce is above this one: by halving, it never falls.
        while low < high:
            middle = (low + high) // 2
            if self.rpc.nonce(sender, middle) > nonce:
                high = middle
            else:
                low = middle + 1
        for transaction in self.rpc.block_transactions(low):
            if (transaction.sender, transaction.nonce) == (sender, nonce):
                return transaction
        raise TransactionError(
            f"nonce {nonce} of {sender} is used, but the node does not show by which transaction",
            hint="ask a node that keeps its history",
        )

    def _report(self, name: str) -> None:
        self.progress(sum(self._is_finished(step.name) for step in self.plan.steps), len(self.plan.steps), name)

    def _warn(self, text: str) -> None:
        if text and text not in self.warned:
            self.warned.add(text)
            logger.warning("%s", text)


def execute(
    plan: Plan,
    rpc: Rpc,
    signer: Signer,
    journal: Journal,
    *,
    fees: FeeOptions = FeeOptions(),
    wait: float = 600.0,
    poll: float = 1.0,
    progress: Progress = lambda done, total, name: None,
) -> dict[str, str]:
    """Carry a plan out, or go on with it.

    Args:
        plan: What is to be done.
        rpc: The node.
        signer: The account that pays.
        journal: The plan's, open; from `open_journal`.
        fees: The user's wishes.
        wait: Seconds to wait for each transaction.
        poll: Seconds between questions, at most: the first ones come sooner.
        progress: Told how far it is.

    Returns:
        The contracts created, by the names of the steps.

    Raises:
        TransactionError: a transaction is not mined in time; run again to go on.
        NodeError: the node cannot be reached, or refuses a transaction; likewise.
        FundsError: the account cannot pay; likewise.
        Reverted: a transaction would revert (nothing was sent), or did.
        ContractLimitError: one needs more gas than a transaction may use.
    """
    run = _Run(plan, rpc, signer, journal, fees, wait, poll, progress)
    run.run()
    return run.addresses
