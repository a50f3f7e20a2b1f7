"""Chains a contract can be tried on: in this process (py-evm, revm), or a node spoken to over JSON-RPC.

The embedded chains follow Prague's rules and the limits of a public chain: EIP-170 and EIP-3860 on code, EIP-7825 on a
transaction's gas (live since Osaka; py-evm and pyrevm do not know it). As most of those, they have the CREATE2 proxy.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

from ml2sc.errors import (
    ContractLimitError,
    InternalError,
    Ml2scError,
    ToolchainError,
)
from ml2sc.ir.chains import ChainProfile
from ml2sc.ir.forks import FORKS, Fork

if TYPE_CHECKING:
    from eth.abc import SignedTransactionAPI
    from eth.vm.forks.prague import PragueVM
    from pyrevm import EVM, AccountInfo

    from ml2sc.backends.base import Artifact

logger = logging.getLogger(__name__)

LIMITS = FORKS["osaka"]
"""Limits of a public chain, unless an artifact is for another one."""

TX_GAS_LIMIT = LIMITS.transaction_gas
"""EIP-7825: gas one transaction may use."""

CREATE2_PROXY = "0x4e59b44847b379578588920cA78FbF26c0B4956C"
"""The deterministic-deployment proxy, at the same address on every chain that has it: calldata is salt ++ init code."""

PROXY_CODE = bytes.fromhex(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b"
    "8082525050506014600cf3"
)
"""Its runtime code (https://github.com/Arachnid/deterministic-deployment-proxy)."""

CALL_GAS = LIMITS.call_gas
"""Gas that public RPC nodes allow an eth_call."""

_SENDER = "0x" + "11" * 20
_GENESIS_TIME = 1_767_225_600  # 2026-01-01
_SCRATCH = "0x" + "22" * 20
_BLOCK_GAS_LIMIT = 1 << 40
_REVM_PADDING = 33  # so that a PUSH32 at the very end needs no bounds check
_NO_CODE_HASH = keccak(b"")
_SHOWN_BYTES = 256  # of what a revert returned

_SMALLER = "use '--weights data' (it moves the weights into contracts of their own) or a narrower '--precision'"


class Reverted(Ml2scError):  # noqa: N818 (the EVM's word for it)
    """The contract refused a call.

    Args:
        data: What it returned: the ABI-encoded error, or nothing.
        reason: What else is known.
    """

    code = "ML151"

    def __init__(self, data: bytes, reason: str = "") -> None:
        said = data.hex() if len(data) <= _SHOWN_BYTES else f"{data[:_SHOWN_BYTES].hex()}… ({len(data):,} bytes)"
        super().__init__(f"the contract reverted with 0x{said}{reason and f' ({reason})'}")
        self.data = data


@dataclass(frozen=True)
class DeployReceipt:
    """A contract was created.

    Attributes:
        address: Where it is, checksummed.
        gas_used: Gas of the whole transaction.
        code_size: Bytes of its runtime code.
    """

    address: str
    gas_used: int
    code_size: int


@dataclass(frozen=True)
class TxReceipt:
    """A transaction went through.

    Attributes:
        gas_used: Gas of the whole transaction: 21,000, calldata and execution, less refunds.
    """

    gas_used: int


class Chain(Protocol):
    """What deploying and checking need of a chain.

    Attributes:
        name: What it is, for reports.
    """

    name: str

    @property
    def account(self) -> str:
        """The account that `deploy` and `transact` send from."""

    def deploy(self, init_code: bytes) -> DeployReceipt:
        """Create a contract.

        Args:
            init_code: Creation code and constructor arguments.

        Raises:
            ContractLimitError: code, init code or gas exceed what a public chain allows.
            Reverted: the constructor reverted.
        """

    def call(self, address: str, calldata: bytes) -> bytes:
        """Call a view function (eth_call) and return what it returns.

        Raises:
            ContractLimitError: it needs more gas than the call allowance.
            Reverted: the contract reverted.
        """

    def run(self, code: bytes) -> bytes:
        """Run code that is nowhere deployed (an eth_call without an address) and return what it returns.

        Raises:
            ContractLimitError: it needs more gas than the call allowance, or is too long.
            Reverted: it reverted.
        """

    def gas(self, address: str, calldata: bytes) -> int:
        """Return the gas of a transaction that makes this call (its receipt's `gasUsed`); the state does not change.

        A figure above `TX_GAS_LIMIT` says that only eth_call can make this call.

        Raises:
            ContractLimitError: it needs more gas than the call allowance.
            Reverted: the contract reverted.
        """

    def transact(self, address: str, calldata: bytes) -> TxReceipt:
        """Send a transaction.

        Raises:
            ContractLimitError: it needs more gas than a transaction may use.
            Reverted: the contract reverted.
        """

    def code(self, address: str) -> bytes:
        """Return the runtime code at an address; empty if there is none."""

    def next_time(self) -> int:
        """Return the time that the next transaction may have, in seconds since 1970."""


def intrinsic_gas(data: bytes, *, create: bool) -> tuple[int, int]:
    """Return a transaction's intrinsic gas and the floor its calldata sets (EIP-7623), both with the 21,000.

    Args:
        data: Calldata or init code.
        create: True for a transaction that creates a contract.
    """
    zeros = data.count(0)
    tokens = zeros + 4 * (len(data) - zeros)
    creation = 32_000 + 2 * -(-len(data) // 32) if create else 0
    return 21_000 + 4 * tokens + creation, 21_000 + 10 * tokens


class _Outcome(NamedTuple):
    """How an execution ended; `failure` is "" for success, "revert", "out of gas", or what else stopped it."""

    failure: str
    output: bytes
    gas_used: int
    created: str


class _LocalChain(ABC):
    """A chain in this process: what py-evm and revm have in common.

    Args:
        call_gas: Gas allowance of `call` and `gas`.
        limits: What a chain allows.

    Attributes:
        account: Who sends transactions; may be set.
        time: The block's timestamp, in seconds since 1970; may be set.
    """

    name: str

    def __init__(self, call_gas: int = CALL_GAS, limits: Fork = LIMITS) -> None:
        self.call_gas, self.limits = call_gas, limits
        self.account = _SENDER
        self.time = _GENESIS_TIME
        self._asked: tuple[tuple[Any, ...], _Outcome] | None = None  # the last call that changed nothing

    @abstractmethod
    def code(self, address: str) -> bytes:
        """Return the runtime code at an address; empty if there is none."""

    def next_time(self) -> int:
        return self.time

    @abstractmethod
    def _run(self, to: str | None, data: bytes, gas: int, *, commit: bool, code: bytes | None = None) -> _Outcome:
        """Execute a transaction.

        Args:
            to: The contract, or None to create one.
            data: Calldata or init code.
            gas: The transaction's gas limit; at least the intrinsic gas and the floor.
            commit: Keep what it changed.
            code: Pretend that the contract has this code (only without `commit`).
        """

    def deploy(self, init_code: bytes) -> DeployReceipt:
        if len(init_code) > self.limits.initcode_limit:
            raise ContractLimitError(
                f"the init code is {len(init_code):,} bytes; a chain allows {self.limits.initcode_limit:,} (EIP-3860)",
                hint=_SMALLER,
            )
        outcome = self._execute(None, init_code, self.limits.transaction_gas, commit=True)
        if not outcome.failure:
            return DeployReceipt(outcome.created, outcome.gas_used, len(outcome.output))
        if outcome.failure != "revert":
            # Run as a contract's code, init code returns the code it would deploy, however long that is.
            size = len(self._run(_SCRATCH, b"", self.call_gas, commit=False, code=init_code).output)
            if size > self.limits.code_limit:
                raise ContractLimitError(
                    f"the code is {size:,} bytes; a chain allows {self.limits.code_limit:,} (EIP-170)",
                    hint=_SMALLER,
                )
        raise self._failed(outcome, None, init_code, self.limits.transaction_gas)

    def call(self, address: str, calldata: bytes) -> bytes:
        return self._ask(address, calldata).output

    def run(self, code: bytes) -> bytes:
        most = self.limits.initcode_limit
        if len(code) > most:
            raise ContractLimitError(f"{len(code):,} bytes of code are too many to run: {most:,} may be")
        return self._ask(None, code).output

    def gas(self, address: str, calldata: bytes) -> int:
        return self._ask(address, calldata).gas_used

    def transact(self, address: str, calldata: bytes) -> TxReceipt:
        most = self.limits.transaction_gas
        outcome = self._execute(address, calldata, most, commit=True)
        if outcome.failure:
            raise self._failed(outcome, address, calldata, most)
        return TxReceipt(outcome.gas_used)

    def _ask(self, address: str | None, calldata: bytes) -> _Outcome:
        question = address, calldata, self.account, self.time, self.call_gas
        if self._asked is None or self._asked[0] != question:  # who asks for the gas of a call has just made it
            self._asked = question, self._execute(address, calldata, self.call_gas, commit=False)
        outcome = self._asked[1]
        if outcome.failure:
            raise self._failed(outcome, address, calldata, self.call_gas)
        return outcome

    def _execute(self, to: str | None, data: bytes, gas: int, *, commit: bool) -> _Outcome:
        if gas < max(intrinsic_gas(data, create=to is None)):
            return _Outcome("out of gas", b"", gas, "")
        if commit:
            self._asked = None
        return self._run(to, data, gas, commit=commit)

    def _failed(self, outcome: _Outcome, to: str | None, data: bytes, gas: int) -> Ml2scError:
        # a code contract that runs out has used all but a 64th (EIP-150), and who called it reverts without a word
        inside = outcome.failure == "revert" and not outcome.output and outcome.gas_used >= gas - gas // 64
        if outcome.failure == "revert" and not inside:
            return Reverted(outcome.output)
        if outcome.failure not in {"out of gas", "revert"}:
            return Reverted(outcome.output, outcome.failure)
        if gas >= self.call_gas:
            message = f"the call needs more than {gas:,} gas, which is what public nodes allow an eth_call"
            return ContractLimitError(message, hint="use a narrower precision or a smaller model")
        # Only to say how much it would have needed.
        retry = self._execute(to, data, self.call_gas, commit=False)
        needed = f"more than {self.call_gas:,}" if retry.failure else f"{retry.gas_used:,}"
        what = "deploying" if to is None else "the transaction"
        return ContractLimitError(
            f"{what} needs {needed} gas; a transaction may use {gas:,} (EIP-7825)",
            hint=_SMALLER if to is None else "call it as a view function (eth_call), or use a narrower precision",
        )


def _limited(vm: type[PragueVM], limits: Fork) -> type[PragueVM]:
    """Return py-evm's machine with other limits of code; its own are EIP-170's."""
    from eth.exceptions import OutOfGas

    def refused_beyond(most: int, size: int) -> None:
        if size > most:
            raise OutOfGas(f"{size:,} bytes of code, more than {most:,}")

    rules: dict[str, Any] = {
        "validate_contract_code": classmethod(lambda _, code: refused_beyond(limits.code_limit, len(code))),
        "validate_create_message": classmethod(lambda _, m: refused_beyond(limits.initcode_limit, len(m.code))),
    }
    state: Any = vm._state_class
    computation = type("Computation", (state.computation_class,), rules)
    changed = type("State", (state,), {"computation_class": computation})
    return type("VM", (vm,), {"_state_class": changed})


class EmbeddedChain(_LocalChain):
    """py-evm: the reference. Slow, but it is everywhere and its gas is the specification's.

    Args:
        call_gas: Gas allowance of `call` and `gas`.
    """

    def __init__(self, call_gas: int = CALL_GAS, limits: Fork = LIMITS) -> None:
        super().__init__(call_gas, limits)
        from eth.chains.base import MiningChain
        from eth.db.atomic import AtomicDB
        from eth.vm.forks.prague import PragueVM

        self.name = "py-evm, prague"
        chain = MiningChain.configure(vm_configuration=((0, _limited(PragueVM, limits)),), chain_id=1)
        genesis: dict[str, Any] = {"difficulty": 0, "gas_limit": _BLOCK_GAS_LIMIT, "base_fee_per_gas": 0}
        # One block that is never closed: nothing here depends on blocks, and closing one costs more than a call.
        self._vm = cast("PragueVM", chain.from_genesis(AtomicDB(), genesis).get_vm())
        proxy = to_canonical_address(CREATE2_PROXY)
        self._vm.state.set_nonce(proxy, 1)
        self._vm.state.set_code(proxy, PROXY_CODE)

    def code(self, address: str) -> bytes:
        return bytes(self._vm.state.get_code(to_canonical_address(address)))

    def _run(self, to: str | None, data: bytes, gas: int, *, commit: bool, code: bytes | None = None) -> _Outcome:
        from eth.constants import CREATE_CONTRACT_ADDRESS
        from eth.exceptions import OutOfGas, Revert
        from eth.vm.spoof import SpoofTransaction

        state, sender = self._vm.state, to_canonical_address(self.account)
        state.execution_context._timestamp = self.time  # type: ignore[attr-defined]
        state.lock_changes()  # a transaction starts: all is cold again, and SSTORE's original values are these
        snapshot = state.snapshot()
        if code is not None:
            state.set_code(to_canonical_address(_SCRATCH), code)
        unsigned = self._vm.create_unsigned_transaction(
            nonce=state.get_nonce(sender),
            gas_price=0,
            gas=gas,
            to=CREATE_CONTRACT_ADDRESS if to is None else to_canonical_address(to),
            value=0,
            data=data,
        )
        # Not signed: signing would take longer than most calls.
        transaction = cast("SignedTransactionAPI", SpoofTransaction(unsigned, from_=sender))
        computation = state.apply_transaction(transaction)
        gas_used = self._vm.finalize_gas_used(transaction, computation)
        if commit:
            state.commit(snapshot)
        else:
            state.revert(snapshot)
        failure = ""
        if computation.is_error:
            kinds = {Revert: "revert", OutOfGas: "out of gas"}
            failure = kinds.get(type(computation.error), str(computation.error) or type(computation.error).__name__)
        created = to_checksum_address(computation.msg.storage_address) if to is None else ""
        return _Outcome(failure, bytes(computation.output), gas_used, created)


class RevmChain(_LocalChain):
    """revm: the same answers and the same gas as `EmbeddedChain`, about a hundred times faster.

    An instance of pyrevm's EVM is one endless transaction, in which whatever was touched stays warm, unless it is
    undone. So each transaction gets a new one, filled with what earlier ones left behind; calls share one, and are
    undone.

    Args:
        call_gas: Gas allowance of `call` and `gas`.
    """

    def __init__(self, call_gas: int = CALL_GAS, limits: Fork = LIMITS) -> None:
        super().__init__(call_gas, limits)
        if not revm_is_installed():
            raise ToolchainError("pyrevm is not installed", hint="pip install 'ml2sc[fast]'")
        self.name = "revm, prague"
        self._nonces: dict[str, int] = {CREATE2_PROXY: 1}
        self._codes: dict[str, bytes] = {CREATE2_PROXY: PROXY_CODE}
        self._storage: dict[tuple[str, int], int] = {}
        self._idle: tuple[int, EVM] | None = None  # filled, for calls at this time that leave nothing behind

    def code(self, address: str) -> bytes:
        return self._codes.get(to_checksum_address(address), b"")

    def _fresh(self) -> EVM:
        from pyrevm import EVM, AccountInfo, BlockEnv, CfgEnv, Env

        # Cancun is the newest fork pyrevm knows by name; for contracts Prague adds only the calldata floor.
        settings = Env(cfg=CfgEnv(limit_contract_code_size=self.limits.code_limit))
        evm = EVM(env=settings, gas_limit=_BLOCK_GAS_LIMIT, spec_id="Cancun")
        evm.set_block_env(BlockEnv(timestamp=self.time))
        for address, nonce in self._nonces.items():
            evm.insert_account_info(address, AccountInfo(nonce=nonce, code=self._codes.get(address)))
        for (address, slot), value in self._storage.items():
            # an account's second slot would be warm: pyrevm loads the account; that, the revert undoes
            checkpoint = evm.snapshot()
            evm.insert_account_storage(address, slot, value)
            evm.revert(checkpoint)
        return evm

    def _run(self, to: str | None, data: bytes, gas: int, *, commit: bool, code: bytes | None = None) -> _Outcome:
        if commit or code is not None or to is None:
            self._idle = None
            return self._run_in(self._fresh(), to, data, gas, commit=commit, code=code)
        if self._idle is None or self._idle[0] != self.time:
            self._idle = self.time, self._fresh()
        evm = self._idle[1]
        checkpoint = evm.snapshot()
        try:
            return self._run_in(evm, to, data, gas)
        finally:
            evm.revert(checkpoint)  # what the call touched is cold again

    def _run_in(
        self, evm: EVM, to: str | None, data: bytes, gas: int, *, commit: bool = False, code: bytes | None = None
    ) -> _Outcome:
        from pyrevm import AccountInfo

        if code is not None:
            evm.insert_account_info(_SCRATCH, AccountInfo(code=code))
        output, created, failure = b"", "", ""
        try:
            if to is None:
                created = to_checksum_address(evm.deploy(self.account, data, gas=gas))
            else:
                output = evm.message_call(self.account, to, data, gas=gas)
        except RuntimeError as error:  # a revert or a halt: pyrevm puts the return data into the text
            failure, output = _revm_failure(str(error))
        result = evm.result
        if result is None:
            raise InternalError(f"pyrevm refused a transaction: {failure}")
        if created:
            output = _unpadded(evm.basic(created))
        if commit:
            sender = to_checksum_address(self.account)
            used = self._nonces.get(sender, 0)
            self._keep(evm)
            self._nonces[sender] = used + 1  # pyrevm counts those that create something only
        return _Outcome(failure, output, max(result.gas_used, intrinsic_gas(data, create=to is None)[1]), created)

    def _keep(self, evm: EVM) -> None:
        """Take over what a transaction left: accounts, and the slots its journal says it wrote."""
        for address, slot in re.findall(r"StorageChange \{ address: (0x\w+), key: (\w+)", evm.journal_str):
            number = int(slot, 0)
            self._storage[to_checksum_address(address), number] = evm.storage(address, number)
        for address, account in evm.journal_state.items():
            self._nonces[address] = account.nonce
            if address not in self._codes and (code := _unpadded(account)):
                self._codes[address] = code


def _unpadded(account: AccountInfo) -> bytes:
    """Return an account's code without the zeros that revm's analysis appends."""
    code, code_hash = bytes(account.code or b""), bytes(account.code_hash or b"")
    if code_hash == _NO_CODE_HASH:
        return b""
    for length in (len(code) - _REVM_PADDING, len(code)):
        if keccak(code[: max(length, 0)]) == code_hash:
            return code[:length]
    raise InternalError(f"pyrevm holds {len(code)} bytes of code that do not have the code's hash")


def revm_is_installed() -> bool:
    """Return whether `RevmChain` can be used."""
    return importlib.util.find_spec("pyrevm") is not None


def _revm_failure(text: str) -> tuple[str, bytes]:
    if match := re.fullmatch(r"Revert \{ .*output: 0x([0-9a-f]*) \}", text):
        return "revert", bytes.fromhex(match.group(1))
    reason = re.search(r"reason: (\w+)", text)
    name = reason.group(1) if reason else text
    return ("out of gas" if name == "OutOfGas" else name), b""


def limits_of(artifact: Artifact) -> Fork:
    """Return what the chain allows that an artifact is for."""
    profile = artifact.manifest.get("options", {}).get("chain_profile")
    return LIMITS if profile is None else ChainProfile.of(profile)


def local_chain(limits: Fork = LIMITS) -> RevmChain | EmbeddedChain:
    """Return a chain in this process: revm where it is installed."""
    return RevmChain(limits=limits) if revm_is_installed() else EmbeddedChain(limits=limits)
