"""Forecasts of each chain's profile against an EVM with its rules; larger code: what changes, and that it is right.

py-evm's prices can be changed: cold accounts, memory, the deposit and what creating costs are then the chain's. What a
transaction pays before anything runs (its base, calldata) is added by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth import constants
from eth.vm import computation
from eth.vm.forks.berlin import constants as berlin
from eth.vm.forks.berlin.logic import _mark_storage_warm
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.logic.storage import NetSStoreGasSchedule, net_sstore
from eth.vm.opcode import as_opcode
from support import heavy
from support.contracts import check_contract, packed_and_wads
from support.examples import compiled
from support.networks import dense

import ml2sc
from ml2sc.backends.base import Artifact, costs_of
from ml2sc.forecast import forecast
from ml2sc.ir.chains import PROFILES, ChainProfile
from ml2sc.ir.forks import FORKS, WARM
from ml2sc.ir.gas import Execution, Shares
from ml2sc.ir.interpret import Interpreter, profile
from ml2sc.ir.program_parser import parse_program
from ml2sc.ir.program_printer import print_program
from ml2sc.passes.lower import PlanOptions
from ml2sc.runtime.chain import CREATE2_PROXY, EmbeddedChain, RevmChain, intrinsic_gas, limits_of, revm_is_installed
from ml2sc.runtime.contract import Contract, encode_call
from ml2sc.runtime.deploy import constructor_arguments, deploy, holder
from ml2sc.runtime.update import update_calls

WITHIN = 0.02
PRAGUE = FORKS["prague"]


@pytest.fixture(scope="module")
def usual(toolchain: ml2sc.Toolchain, examples: Path) -> tuple[Artifact, list[bytes]]:
    """Return a model with a data contract, compiled for no chain in particular, and packed inputs."""
    artifact = ml2sc.build(compiled("digits", weights="data"), toolchain)
    return artifact, [ml2sc.pack(artifact, row) for row in np.load(examples / "digits" / "calibration.npz")["x"][:3]]


@contextmanager
def ruled(rules: ChainProfile) -> Iterator[EmbeddedChain]:
    """Open py-evm with a chain's prices and limits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(berlin, "COLD_ACCOUNT_ACCESS_COST", rules.cold_account)
        patch.setattr(berlin, "COLD_SLOAD_COST", rules.cold_slot)
        patch.setattr(constants, "GAS_CODEDEPOSIT", rules.deposit)
        patch.setattr(constants, "GAS_CREATE", rules.creation + rules.creation_state)
        patch.setattr(computation, "memory_gas_cost", lambda size: rules.memory(-(-size // 32)))
        patch.setitem(PragueComputation.opcodes, SLOAD, as_opcode(_read_slot(rules), "SLOAD", 0))
        patch.setitem(PragueComputation.opcodes, SSTORE, as_opcode(_write_slot(rules), "SSTORE", 0))
        yield EmbeddedChain(
            1 << 36, ChainProfile.of({**rules.to_json(), "transaction_gas": 10**11, "block_gas": 10**11})
        )


SLOAD, SSTORE = 0x54, 0x55


def _read_slot(rules: ChainProfile) -> Callable[[Any], None]:
    """Return SLOAD where slots next to each other get warm together."""

    def read(run: Any) -> None:
        slot = run.stack_pop1_int()
        first = _mark_storage_warm(run, slot - slot % rules.page_slots)
        run.consume_gas(rules.cold_slot if first else WARM, "SLOAD")
        run.stack_push_int(run.state.get_storage(run.msg.storage_address, slot))

    return read


def _write_slot(rules: ChainProfile) -> Callable[[Any], None]:
    """Return SSTORE at a chain's prices; of slots that get warm together only the first that is written pays."""
    written: set[tuple[Any, bytes, int]] = set()

    def write(run: Any) -> None:
        slot, value = run.stack_pop_ints(2)
        run.stack_push_int(value)
        run.stack_push_int(slot)
        page = slot - slot % rules.page_slots
        place = (run.transaction_context, run.msg.storage_address, page)
        changed = WARM if rules.page_slots > 1 and place in written else rules.written_slot
        written.add(place)
        net_sstore(NetSStoreGasSchedule(WARM, changed + rules.new_slot_state, changed, 0), run)
        if _mark_storage_warm(run, page):
            run.consume_gas(rules.cold_slot, "SSTORE")

    return write


def paid(rules: ChainProfile, used: int, data: bytes, *, called: bool) -> float:
    """Return what a transaction costs on a chain, given what one of Prague's base and its instructions' prices did."""
    floor = intrinsic_gas(data, create=not called)[1]
    assert used > floor
    creation = 0 if called else rules.creation + rules.creation_state - 32_000
    zeros = data.count(0)
    least = rules.base + rules.floor_zero * zeros + rules.floor_byte * (len(data) - zeros)
    before = rules.intrinsic(data, called=called) - PRAGUE.intrinsic(data, called=called)
    return max(used + creation + before, least + (rules.recipient if called else 0))


@pytest.mark.parametrize("name", PROFILES)
def test_forecasts(usual: tuple[Artifact, list[bytes]], name: str) -> None:
    artifact, packed = usual
    rules = PROFILES[name]
    assert artifact.program is not None
    assert artifact.bytecode is not None
    counted = profile(artifact.program, packed)
    stated = forecast(artifact, rules, counted)
    with ruled(rules) as chain:
        calls = [holder(index, code) for index, code in enumerate(artifact.codes)]
        weights = sum(
            paid(rules, chain.transact(CREATE2_PROXY, call.data).gas_used, call.data, called=True) for call in calls
        )
        init = artifact.bytecode.creation + constructor_arguments(artifact, CREATE2_PROXY, chain.account)
        created = chain.deploy(init)
        deployed = paid(rules, created.gas_used, init, called=False)
        asked = [encode_call(artifact.abi, "classifyPacked", x) for x in packed]
        receipts = [paid(rules, chain.gas(created.address, data), data, called=True) for data in asked]
    assert stated.weights == pytest.approx(weights, rel=WITHIN)
    assert stated.deploy == pytest.approx(deployed, rel=WITHIN)
    costs = costs_of(artifact.target, artifact.program, artifact.bytecode.settings)
    mean = Execution.of(costs, Shares(counted)).transaction(rules).total
    assert mean == pytest.approx(sum(receipts) / len(receipts), rel=WITHIN)
    assert stated.worst >= max(receipts)
    assert stated.inference == (stated.worst if rules.charges_limit else mean)
    assert stated.verdict == "transaction"


@pytest.fixture(scope="module")
def owned(toolchain: ml2sc.Toolchain) -> Artifact:
    """Return an updatable model with two chunks of weights, compiled for no chain in particular."""
    options: dict[str, Any] = {"precision": "int8", "input_ranges": ((0.0, 1.0),), "updatable": True}
    return ml2sc.build(ml2sc.compile(dense(90, 320, 3), **options), toolchain)


@pytest.mark.parametrize("name", heavy.but_each(2, ["base", "glamsterdam", "megaeth", "monad"]))
def test_forecasts_of_updatable_contracts(owned: Artifact, name: str) -> None:
    """The contract, its first weights put in use, an inference. Refunds, which are not forecast, are none."""
    rules, artifact = PROFILES[name], owned
    assert artifact.program is not None
    assert artifact.bytecode is not None
    assert len(artifact.data) > 1
    packed = [np.random.default_rng(seed).bytes(90) for seed in range(2)]
    stated = forecast(artifact, rules, profile(artifact.program, packed))
    with ruled(rules) as chain:
        init = artifact.bytecode.creation + constructor_arguments(artifact, CREATE2_PROXY, chain.account)
        created = chain.deploy(init)
        calls = [data for _, data in update_calls(artifact)]
        weights = [chain.transact(created.address, data).gas_used for data in calls]
        asked = [encode_call(artifact.abi, "predictPacked", x) for x in packed]
        used = [paid(rules, chain.gas(created.address, data), data, called=True) for data in asked]
        contract, interpreter = Contract(chain, created.address, artifact.abi), Interpreter(artifact.program)
        for x in packed:
            assert tuple(contract.call("predictPacked", x)) == tuple(interpreter.run(x).outputs)
    assert stated.deploy == pytest.approx(paid(rules, created.gas_used, init, called=False), rel=WITHIN)
    spent = sum(paid(rules, gas, data, called=True) for gas, data in zip(weights, calls, strict=True))
    assert stated.weights == pytest.approx(spent, rel=WITHIN)
    assert stated.worst >= max(used)
    assert rules.charges_limit or stated.inference == pytest.approx(sum(used) / len(used), rel=WITHIN)


def test_what_a_chain_does_not_charge_is_not_saved() -> None:
    """Where the limit is charged, the plan has the least worst case: nothing that is skipped makes it cheaper."""
    x = np.maximum(np.random.default_rng(1).normal(size=(8, 90)), 0)
    options: dict[str, Any] = {"calibration": {"x": x}, "precision": "int8", "weights": "data"}
    base, monad = (ml2sc.compile(dense(90, 50, 3), **options, chain_profile=name) for name in ("base", "monad"))
    assert monad.manifest["gas"]["predicted"] == monad.manifest["gas"]["worst"]
    assert monad.manifest["gas"]["worst"] <= forecast(base, PROFILES["monad"], base.profile).inference
    assert {layer["live"] for layer in monad.manifest["plan"] if "live" in layer} == {"1.0 1.0 1.0 1.0"}


@pytest.mark.parametrize("target", ["solidity", pytest.param("vyper", marks=pytest.mark.heavy)])
def test_one_large_data_contract(target: str, toolchain: ml2sc.Toolchain) -> None:
    """What is several data contracts on Ethereum is one on Monad, whose init code says its size in three bytes."""
    widths = (600, 36, 3)
    x = np.maximum(np.random.default_rng(1).normal(size=(5, widths[0])), 0)
    options: dict[str, Any] = {"precision": "int8", "weights": "data", "calibration": {"x": x[2:]}, "target": target}
    one = ml2sc.build(ml2sc.compile(dense(*widths), **options, chain_profile="monad"), toolchain)
    assert [len(data) > 65_535 for data in one.data] == [True], "three or more elsewhere, of 24,544 bytes"
    assert one.program is not None
    assert parse_program(print_program(one.program)) == one.program
    packed, wads = packed_and_wads(one, [{"x": row[None]} for row in x[:2]])
    chains: list[Callable[..., Any]] = [EmbeddedChain, *([RevmChain] if revm_is_installed() else [])]
    for make in chains:
        chain = make(limits=limits_of(one))
        contract = Contract(chain, deploy(one, chain).address, one.abi)
        check_contract(contract, one, packed, wads)


def test_updatable_data_contracts_say_their_size_in_two_bytes() -> None:
    rules = PROFILES["megaeth"]
    assert PlanOptions(rules=rules).contract_words == 16_383
    assert PlanOptions(rules=rules, updatable=True).contract_words == 2_047
    assert PlanOptions(updatable=True).contract_words == 767
