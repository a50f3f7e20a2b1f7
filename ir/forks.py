"""Prices and limits that differ from one EVM version to the next; everything else of the price list is the same."""

from __future__ import annotations

from dataclasses import dataclass

TRANSACTION = 21_000
CREATION = 32_000
"""More for a transaction that creates a contract."""
INITCODE_WORD = 2
"""A word of init code (EIP-3860)."""
CALLDATA_BYTE, CALLDATA_ZERO = 16, 4

BLOCK_GAS = 60_000_000
"""Gas of a block on Ethereum."""
ETH_CALL_GAS = 50_000_000
"""What public nodes let an `eth_call` use (geth's default)."""


@dataclass(frozen=True, slots=True)
class Fork:
    """An EVM version.

    Attributes:
        name: Its name.
        code_limit: Bytes of code a contract may have (EIP-170).
        initcode_limit: Bytes of init code (EIP-3860).
        deposit: Gas of a byte of code.
        floor_byte: The least gas of a byte of calldata that is not zero, should the execution cost little (EIP-7623).
        floor_zero: The same of a zero byte.
        transaction_gas: Gas a transaction may use (EIP-7825); before that, a block's.
        deposit_counts: Whether the deposit counts against that (not where state has a meter of its own: EIP-8037).
    """

    name: str
    code_limit: int = 24_576
    initcode_limit: int = 49_152
    deposit: int = 200
    floor_byte: int = 40
    floor_zero: int = 10
    transaction_gas: int = BLOCK_GAS
    deposit_counts: bool = True

    def transaction(self, zeros: float, others: float, execution: float) -> float:
        """Return the gas of a transaction whose calldata has so many zero and other bytes."""
        calldata = CALLDATA_ZERO * zeros + CALLDATA_BYTE * others
        return TRANSACTION + max(calldata + execution, self.floor_zero * zeros + self.floor_byte * others)

    def creation(self, init: bytes, code_bytes: int, execution: float = 0) -> int:
        """Return the gas of a transaction that creates a contract.

        Args:
            init: Init code with the constructor's arguments.
            code_bytes: Bytes of the contract's code.
            execution: Gas of running the init code.
        """
        words = -(-len(init) // 32)
        spent = CREATION + INITCODE_WORD * words + execution + self.deposit * code_bytes
        return round(self.transaction(init.count(0), len(init) - init.count(0), spent))


FORKS = {
    fork.name: fork
    for fork in (
        Fork("prague"),
        Fork("osaka", transaction_gas=1 << 24),
        # as scheduled: EIP-7907 (code), EIP-8037 (deposit), EIP-7976 (calldata)
        Fork("glamsterdam", 65_536, 131_072, 1_530, 64, 64, 1 << 24, deposit_counts=False),
    )
}
"""All forks by name, oldest first."""
