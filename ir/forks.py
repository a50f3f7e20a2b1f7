"""Prices and limits that differ from one EVM version to the next; everything else of the price list is the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

TRANSACTION = 21_000
CREATION = 32_000
"""More for a transaction that creates a contract."""
INITCODE_WORD = 2
"""A word of init code (EIP-3860)."""
CALLDATA_BYTE, CALLDATA_ZERO = 16, 4
COLD_ACCOUNT = 2_600
COLD_SLOT, WARM = 2_100, 100
"""First reading of a slot in a transaction, and any further one, of an account, too."""
NEW_SLOT, CHANGED_SLOT = 20_000, 2_900
"""SSTORE to a slot that has been read already."""

BLOCK_GAS = 60_000_000
"""Gas of a block on Ethereum."""
ETH_CALL_GAS = 50_000_000
"""What public nodes let an `eth_call` use (geth's default)."""


@dataclass(frozen=True, slots=True)
class Fork:
    """An EVM version.

    What is priced as state (EIP-8037) has a meter of its own: it is paid, and does not count against what a
    transaction may use.

    Attributes:
        name: Its name.
        code_limit: Bytes of code a contract may have (EIP-170).
        initcode_limit: Bytes of init code (EIP-3860).
        deposit: Gas of a byte of code.
        floor_byte: The least gas of a byte of calldata that is not zero, should the execution cost little (EIP-7623).
        floor_zero: The same of a zero byte.
        transaction_gas: Gas a transaction may use (EIP-7825); before that, a block's.
        block_gas: Gas of a block.
        call_gas: Gas that public nodes let an `eth_call` use.
        charges_limit: Whether the gas that a transaction may use is charged, and not what it uses.
        calldata_byte: Gas of a byte of calldata that is not zero.
        calldata_zero: Of a zero byte.
        deposit_state: Of `deposit`, what is priced as state.
        state_apart: Whether state has a meter of its own: the deposit and what is `…_state` here.
        base: Gas of any transaction.
        recipient: More for one that calls somebody.
        creation: More for creating a contract, by a transaction or by CREATE2.
        creation_state: More for it as state.
        cold_account: First reading of an account in a transaction.
        cold_slot: First reading of a slot.
        page_slots: Slots next to each other of which the first that is read or written warms all.
        memory_words: Words of memory that cost one gas, however many there are; 0: as in Ethereum, 3 a word and more.
        memory_limit: Bytes of memory that a transaction may use; 0: as many as it pays for.
        written_slot: Writing a slot that has been read already.
        new_slot_state: More, as state, where that was zero.
    """

    name: str
    code_limit: int = 24_576
    initcode_limit: int = 49_152
    deposit: int = 200
    floor_byte: int = 40
    floor_zero: int = 10
    transaction_gas: int = BLOCK_GAS
    block_gas: int = BLOCK_GAS
    call_gas: int = ETH_CALL_GAS
    charges_limit: bool = False
    calldata_byte: int = CALLDATA_BYTE
    calldata_zero: int = CALLDATA_ZERO
    deposit_state: int = 0
    state_apart: bool = False
    base: int = TRANSACTION
    recipient: int = 0
    creation: int = CREATION
    creation_state: int = 0
    cold_account: int = COLD_ACCOUNT
    cold_slot: int = COLD_SLOT
    page_slots: int = 1
    memory_words: int = 0
    memory_limit: int = 0
    written_slot: int = CHANGED_SLOT
    new_slot_state: int = NEW_SLOT - CHANGED_SLOT

    def transaction(self, zeros: float, others: float, execution: float) -> float:
        """Return the gas of a transaction that calls, and whose calldata has so many zero and other bytes."""
        return self.recipient + self._sent(zeros, others, execution)

    def _sent(self, zeros: float, others: float, execution: float) -> float:
        calldata = self.calldata_zero * zeros + self.calldata_byte * others
        return self.base + max(calldata + execution, self.floor_zero * zeros + self.floor_byte * others)

    def intrinsic(self, data: bytes, *, called: bool) -> int:
        """Return the gas of a transaction with such calldata or init code, before anything runs or is created."""
        zeros = data.count(0)
        calldata = self.calldata_zero * zeros + self.calldata_byte * (len(data) - zeros)
        return self.base + calldata + (self.recipient if called else 0)

    def created(self, code_bytes: int) -> int:
        """Return the gas of a new contract with so much code, apart from its init code."""
        return self.creation + self.creation_state + self.deposit * code_bytes

    def creating(self, init: bytes, code_bytes: int, execution: float = 0) -> int:
        """Return the gas of a transaction that creates a contract.

        Args:
            init: Init code with the constructor's arguments.
            code_bytes: Bytes of the contract's code.
            execution: Gas of running the init code.
        """
        words = -(-len(init) // 32)
        spent = INITCODE_WORD * words + execution + self.created(code_bytes)
        return round(self._sent(init.count(0), len(init) - init.count(0), spent))

    def dearer(
        self,
        *,
        cold_accounts: float = 0,
        cold_slots: float = 0,
        new_slots: float = 0,
        written_slots: float = 0,
        memory: Iterable[int] = (),
    ) -> float:
        """Return what accounts, slots and memory cost more than in Prague, whose prices `ml2sc.ir.gas` has.

        Args:
            cold_accounts: Accounts that are read for the first time.
            cold_slots: Slots of one contract that are, next to each other.
            new_slots: Slots written that were zero.
            written_slots: Slots written that were not.
            memory: Words of memory of each contract that is called.
        """
        written = self.written_slot - CHANGED_SLOT
        new = written + self.new_slot_state - (NEW_SLOT - CHANGED_SLOT)
        gas = cold_accounts * (self.cold_account - COLD_ACCOUNT) + new_slots * new + written_slots * written
        cold, again = self._first(cold_slots)
        gas += cold * (self.cold_slot - COLD_SLOT) - again * (COLD_SLOT - WARM)
        _, again = self._first(new_slots + written_slots)
        gas -= again * (self.written_slot - WARM)
        return gas + sum(self.memory(words) - memory_gas(words) for words in memory)

    def _first(self, slots: float) -> tuple[float, float]:
        """Return of how many slots, next to each other, the first reading or writing is paid, and of how many not."""
        first = slots if self.page_slots == 1 else min(slots, 1)
        return first, slots - first

    def memory(self, words: int) -> int:
        """Return the gas of so many words of memory."""
        return words // self.memory_words if self.memory_words else memory_gas(words)

    def state(self, contracts: int = 0, code_bytes: int = 0, new_slots: int = 0) -> int:
        """Return what of a transaction's gas does not count against its limit."""
        if not self.state_apart:
            return 0
        return contracts * self.creation_state + code_bytes * self.deposit_state + new_slots * self.new_slot_state

    @property
    def data_words(self) -> int:
        """Words that one data contract may hold: its code fits, and so does the transaction that creates it."""
        room = self.transaction_gas - self.base - self.recipient - self.creation - _CREATING
        byte = self.deposit - (self.deposit_state if self.state_apart else 0) + self.calldata_byte
        return min(self.code_limit - 1, room // (byte + 1)) // 32

    @property
    def contract_price(self) -> int:
        """Gas of a transaction that creates a contract, apart from its calldata and what each byte of code costs."""
        return self.base + self.recipient + self.creation + self.creation_state + _CREATING

    @property
    def byte_price(self) -> int:
        """Gas of a byte of code: deposited, and in calldata."""
        return self.deposit + self.calldata_byte


_CREATING = 1_000
"""What else creating a contract takes, roughly."""


def memory_gas(words: int) -> int:
    """Return the gas of memory of so many words (Yellow Paper, appendix H)."""
    return 3 * words + words * words // 512


GLAMSTERDAM = Fork(
    "glamsterdam",
    code_limit=65_536,  # EIP-7954
    initcode_limit=131_072,
    deposit=1_530,  # EIP-8037
    deposit_state=1_530,
    floor_byte=64,  # EIP-7976
    floor_zero=64,
    transaction_gas=1 << 24,  # EIP-7825
    state_apart=True,  # EIP-8037
    base=12_000,  # EIP-2780
    recipient=3_000,
    creation=12_000,  # EIP-8037
    creation_state=183_600,
    cold_account=3_000,  # EIP-8038
    written_slot=10_000,
    new_slot_state=97_920,  # EIP-8037
)
"""As EIP-7773 lists it; no date is set, and figures may change."""

FORKS = {fork.name: fork for fork in (Fork("prague"), Fork("osaka", transaction_gas=1 << 24), GLAMSTERDAM)}
"""All forks by name, oldest first."""
