"""What a compiled model will cost, and where it fits: stated before anything is deployed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import shake_256
from typing import Any, NamedTuple

from ml2sc.backends import Artifact
from ml2sc.backends.base import costs_of
from ml2sc.backends.interface import proxy_calldata
from ml2sc.ir import gas
from ml2sc.ir.chains import ChainProfile, rules_of
from ml2sc.ir.data_fee import compressed_size
from ml2sc.ir.forks import CHANGED_SLOT, FORKS, INITCODE_WORD, NEW_SLOT, Fork
from ml2sc.ir.interpret import Profile
from ml2sc.ir.program import Program

_ADDRESS = bytes(12) + b"\xff" * 20
"""An address as a constructor's argument; it may have a zero byte now and then, at 12 gas less."""
_PROXY = 81
"""The CREATE2 proxy's own instructions."""
_HASH_WORD = 6
_INIT_BYTES = 11
"""Init code of a chunk's contract, besides the chunk."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a contract will cost under one fork.

    Attributes:
        fork: The fork.
        inference: A call of `classifyPacked` (`predictPacked`) in a transaction, on average; where the gas is charged
            that it may use, the most.
        worst: The most such a call can cost: every branch taken, no byte of calldata zero, the tolerance added.
        called: What a contract pays that makes such a call, on average: first in a transaction, and again.
        layers: The average, by layer.
        deploy: The transaction that creates the contract.
        weights: The transactions that create its data contracts (and put the first weights in use), together.
        largest: The most a creating transaction takes of what the fork lets a transaction use.
        code_bytes: Bytes of the contract's code, or of the largest of its code contracts'.
        init_bytes: Bytes of its init code with the constructor's arguments.
        compiled: Whether the code is known; else its size is estimated from the Program.
        memory: Bytes of memory that an inference takes.
    """

    fork: Fork
    inference: int
    worst: int
    called: tuple[int, int]
    layers: Mapping[str, int]
    deploy: int
    weights: int
    largest: int
    code_bytes: int
    init_bytes: int
    compiled: bool
    memory: int = 0

    def obstacles(self) -> list[str]:
        """Return why the contract cannot be deployed; empty if it can."""
        fork = self.fork
        found = []
        if self.code_bytes > fork.code_limit:
            found.append(f"{self.code_bytes:,} bytes of code, and a contract may have {fork.code_limit:,}")
        if self.init_bytes > fork.initcode_limit:
            found.append(f"{self.init_bytes:,} bytes of init code, and there may be {fork.initcode_limit:,}")
        if self.largest > fork.transaction_gas:
            found.append(f"its creation takes {self.largest:,} gas, and a transaction may use {fork.transaction_gas:,}")
        if fork.memory_limit and self.memory > fork.memory_limit:
            found.append(f"{self.memory:,} bytes of memory, and a transaction may use {fork.memory_limit:,}")
        return found

    @property
    def verdict(self) -> str:
        """`transaction`, `eth_call` or `no`: how the contract can be used."""
        if self.obstacles() or self.worst > self.fork.call_gas:
            return "no"
        return "transaction" if self.worst <= self.fork.transaction_gas else "eth_call"

    def remedies(self, options: Mapping[str, Any], precision: str, *, in_code: bool) -> list[str]:
        """Return the options of `ml2sc-compile` that may make it fit, the gentlest first; none of them is tried.

        Args:
            options: Those it was compiled with.
            precision: The number format.
            in_code: Whether some table of weights lives in the code.
        """
        if self.verdict == "transaction":
            return []
        found = []
        if self.obstacles() and in_code and options.get("weights") != "data":
            found.append("--weights data (tables of weights leave the code)")
        if precision.startswith("q"):
            found.append("--precision int8 --calibrate DATA.npz (up to four times as many weights a word)")
        elif precision in {"int8", "w8a8"}:
            found.append("--precision w4a8 (more weights a word)")
        if self.obstacles() and options.get("optimize") != "deploy" and options.get("expected_calls") != 1:
            fewer = "--expected-calls 1" if options.get("expected_calls") else "--optimize deploy"
            found.append(f"{fewer} (smaller code, dearer calls)")
        return found or ["a smaller model"]


def forecast(artifact: Artifact, fork: Fork, profile: Profile | None = None) -> Forecast:
    """Predict what an artifact costs under a fork.

    Args:
        artifact: With its Program; where it has bytecode, that is what is priced for deployment.
        fork: The fork.
        profile: How often branches are taken; None: half of the times.
    """
    (found,) = forecasts(artifact, {"": fork}, profile).values()
    return found


def forecasts(artifact: Artifact, forks: Mapping[str, Fork], profile: Profile | None) -> dict[str, Forecast]:
    """Predict what an artifact costs under several forks."""
    walked = _walked(artifact, profile)
    return {name: _forecast(artifact, fork, walked.costs, walked.mean, walked.worst) for name, fork in forks.items()}


class _Walked(NamedTuple):
    """What an inference does, on average and at worst, and what that was found of."""

    program: Program
    of: tuple[str, str, int, dict[str, Any], Profile | None]
    costs: gas.Costs
    mean: gas.Execution
    worst: gas.Execution


_LAST: list[_Walked] = []
"""The one asked for last: what is compiled is asked for again, mostly with the same settings."""


def _walked(artifact: Artifact, profile: Profile | None) -> _Walked:
    program, settings = artifact.program, {} if artifact.bytecode is None else dict(artifact.bytecode.settings)
    assert program is not None
    of = artifact.target, artifact.form, artifact.calls, settings, profile
    for last in _LAST:
        if last.program is program and last.of == of:
            return last
    costs = target_costs(artifact)
    mean = gas.Execution.of(costs, gas.Shares(profile))
    worst = gas.Execution.of(costs, gas.Shares(worst=True))
    found = _Walked(program, copy.deepcopy(of), costs, mean, worst)  # counts can grow
    _LAST[:] = [found]
    return found


def _forecast(artifact: Artifact, fork: Fork, costs: gas.Costs, mean: gas.Execution, worst: gas.Execution) -> Forecast:
    charged = worst if fork.charges_limit else mean
    bytecode, average = artifact.bytecode, charged.transaction(fork)
    if bytecode is None:
        parts = [b"\xff" * gas.part_bytes(part.program, part.sizes) for part in costs.parts]
        holders = [*(() if artifact.updatable else (b"\x00" + data for data in artifact.data)), *parts]
    else:
        parts, holders = [part.runtime for part in bytecode.parts], list(artifact.codes)
    arguments = _ADDRESS * (bool(artifact.updatable) + bool(holders))
    if bytecode is None:
        size = gas.code_bytes(costs.program, costs.sizes)
        # code has few zero bytes
        init = b"\xff" * size + arguments
    else:
        size, init = len(bytecode.runtime), bytecode.creation + arguments
    words = -(-size // gas.WORD)
    execution: float = costs.constructor + fork.memory(words) + gas.COPY_WORD * words
    execution += costs.constructor_account * len(holders) + fork.dearer(cold_accounts=len(holders))
    if artifact.updatable:
        execution += costs.constructor_owner + fork.dearer(cold_slots=1, new_slots=1)
    deploy = fork.creating(init, size, execution)
    data = [_holder(index, code, fork) for index, code in enumerate(holders)]
    sizes = [size, *map(len, holders)]
    if artifact.updatable:
        data += _first_weights(artifact, fork, costs)
        sizes += [len(chunk) + 1 for chunk in artifact.data]
    counted = [total - fork.state(1, bytes_) for total, bytes_ in zip([deploy, *data], sizes, strict=True)]
    return Forecast(
        fork=fork,
        inference=average.total,
        worst=max(worst.transaction(fork).total, average.total),
        called=charged.called(fork),
        layers=average.layers,
        deploy=deploy,
        weights=sum(data),
        largest=max(counted),
        memory=gas.WORD * sum(worst.memory),
        code_bytes=max([size, *map(len, parts)]),
        init_bytes=len(init),
        compiled=bytecode is not None,
    )


def target_costs(artifact: Artifact) -> gas.Costs:
    """Return what the target's compiler makes of an artifact's Program, the settings it chose taken into account."""
    assert artifact.program is not None
    settings = {} if artifact.bytecode is None else artifact.bytecode.settings
    return costs_of(artifact.target, artifact.program, settings, artifact.form, artifact.calls)


def _holder(index: int, code: bytes, fork: Fork) -> int:
    """Return the gas of creating a data or code contract by CREATE2."""
    calldata, size = proxy_calldata(index, code), len(code)
    words, init_words = -(-size // gas.WORD), -(-(len(calldata) - gas.WORD) // gas.WORD)
    # see data_contract_init: five instructions, CODECOPY, RETURN
    execution = 3 * gas.PUSH + 2 * gas.PUSH_ZERO + 3 + gas.COPY_WORD * words + fork.memory(words)
    # the proxy copies the init code and creates by CREATE2, which hashes it
    execution += _PROXY + gas.COPY_WORD * init_words + fork.memory(init_words)
    execution += (INITCODE_WORD + _HASH_WORD) * init_words + fork.created(size)
    zeros = calldata.count(0)
    return round(fork.transaction(zeros, len(calldata) - zeros, execution))


def _first_weights(artifact: Artifact, fork: Fork, costs: gas.Costs) -> list[int]:
    """Return the gas of the transactions that stage and activate an updatable contract's first weights."""
    found, longest = [], max(map(len, artifact.data))
    for index, calldata in enumerate(_update_calldata(artifact)):
        length = len(artifact.data[index])
        execution = costs.staging(length, longest) + fork.created(length + 1)
        execution += INITCODE_WORD * -(-(length + _INIT_BYTES) // gas.WORD)
        # the slot with the time is written first, and then again
        execution += NEW_SLOT if index == 0 else CHANGED_SLOT
        # what `Costs` has of slots in these figures: `stage_frame` a new one, activation one, and two for each chunk
        # staged before
        new, written, slots = (2, 0, 3) if index == 0 else (1, 1, 3)
        if index == len(artifact.data) - 1:
            execution += costs.first_activation + costs.another_chunk * index + (CHANGED_SLOT if index else 0)
            new, written = new + 1 + 2 * index, written + (1 if index else 0) + index
            slots += 3 + 5 * index
        execution += fork.dearer(cold_slots=slots, new_slots=new, written_slots=written)
        zeros = calldata.count(0)
        found.append(round(fork.transaction(zeros, len(calldata) - zeros, execution)))
    return found


def _update_calldata(artifact: Artifact) -> list[bytes]:
    """Return what an updatable contract is sent to replace its weights, transaction by transaction."""
    from ml2sc.runtime.update import update_calls  # few contracts have these, and it takes all that talks to nodes

    return [calldata for _, calldata in update_calls(artifact)]


def as_facts(artifact: Artifact, profile: Profile | None) -> dict[str, Any]:
    """Return the manifest's entries `gas` and `verdict`: of the fork and of all others, or of the chain alone.

    Args:
        artifact: With its manifest's `options` and `precision`.
        profile: Counts over the calibration data, if there is any.
    """
    manifest = artifact.manifest
    options, precision = manifest["options"], str(manifest["precision"])
    assert artifact.program is not None
    in_code, rules = _in_code(artifact.program), rules_of(options)
    found = forecasts(artifact, FORKS if options.get("chain_profile") is None else {rules.name: rules}, profile)
    chosen = found[rules.name]
    verdicts = {
        name: {
            "fits": stated.verdict,
            "deploy": stated.deploy,
            "weights": stated.weights,
            "inference": stated.inference,
            "worst": stated.worst,
            "obstacles": stated.obstacles(),
            "remedies": stated.remedies(options, precision, in_code=in_code),
        }
        for name, stated in found.items()
    }
    facts: dict[str, Any] = {
        "predicted": chosen.inference,
        "worst": chosen.worst,
        "called": {"cold": chosen.called[0], "warm": chosen.called[1]},
        "deploy": chosen.deploy,
        "weights": chosen.weights,
        "transactions": 1 + len(artifact.data) + len(artifact.parts),
        "inputs": "assumed" if profile is None or profile.assumed else "calibration data",
        "code": "compiled" if chosen.compiled else "estimated",
    }
    if isinstance(rules, ChainProfile) and rules.prices_data:
        facts["posted"] = _posted(artifact, rules)
    plan = [{**layer, "gas": chosen.layers.get(layer["layer"], 0)} for layer in manifest["plan"]]
    return {"gas": facts, "verdict": verdicts, "plan": plan}


def _posted(artifact: Artifact, rules: ChainProfile) -> dict[str, Any]:
    """Return the compressed sizes of transactions, of which the chain below asks a fee: of an inference, the most."""
    assert artifact.program is not None
    abi_word, length = 32, artifact.program.input.length
    # what does not get shorter; a selector, where the input begins, its length, and the input, filled up
    noise = shake_256(b"packed").digest(length) + bytes(-length % abi_word)
    asked = b"\xff" * 4 + abi_word.to_bytes(abi_word) + length.to_bytes(abi_word) + noise
    found: dict[str, Any] = {"inference": _compressed(rules, asked, called=True)}
    if artifact.bytecode is not None:
        holders = list(artifact.codes)
        data = [proxy_calldata(index, code) for index, code in enumerate(holders)]
        data += _update_calldata(artifact) if artifact.updatable else []
        init = artifact.bytecode.creation + _ADDRESS * (bool(artifact.updatable) + bool(holders))
        sizes = [_compressed(rules, init, called=False), *(_compressed(rules, sent, called=True) for sent in data)]
        found["deploy"] = sizes
    return found


def _compressed(rules: ChainProfile, data: bytes, *, called: bool) -> int:
    """Return how short a signed transaction gets, whose other fields are like most others'."""
    from ml2sc.runtime.signed import unsigned  # likewise

    fees, gas, to = 10**9, 10**6, "0x" + shake_256(b"to").hexdigest(20)
    chain_id = next(iter(rules.chain_ids), 1)
    transaction = unsigned(chain_id, 1_000, fees, fees, gas, to if called else None, data)
    return compressed_size(transaction + shake_256(b"signature").digest(_SIGNATURE))


_SIGNATURE = 67
"""Bytes of a signature in a transaction: two numbers of 32 with a length before each, and a bit."""


def _in_code(program: Program) -> bool:
    return any(not segment.contracts for segment in program.segments.values())
