"""Random calls to an updatable contract against a model of its states: who may do what, when, and what it answers then.

`ML2SC_UPDATE_CALLS=10000` makes so many on each target.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import pytest
from eth_utils.crypto import keccak
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from support.contracts import answer
from support.updates import built, network, new_chain, put, samples, send

import ml2sc
import ml2sc.compiler  # what it imports must keep the true limit of a data contract
from ml2sc.backends import Artifact
from ml2sc.backends.interface import weights_hash
from ml2sc.ir import program as program_module
from ml2sc.ir import wad
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.program import Program, Segment, Storage
from ml2sc.runtime.contract import ContractError

CALLS = int(os.environ.get("ML2SC_UPDATE_CALLS", "240"))
STEPS = 40
DELAY = 1000
NOBODY = "0x" + "00" * 20
ACCOUNTS = ["0x" + digit * 40 for digit in "123"]
"""The first owner and two others."""

account = st.sampled_from([0, 0, 0, 1, 2])
seed = st.integers(0, 2)
index = st.sampled_from([0, 1, 0, 1, 0, 1, 2, 2**256 - 1])


@pytest.fixture(scope="module", params=["solidity", "vyper"])
def versions(request: pytest.FixtureRequest, toolchain: ml2sc.Toolchain) -> list[Artifact]:
    """Return three sets of weights for one contract, whose weights are cut into two chunks of few bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program_module, "CONTRACT_WORDS", 8)
        data = {"x": samples(1)}
        first = built(network(0), toolchain, data, precision="int8", target=request.param, timelock=DELAY)
        found = [first, *(ml2sc.update(first, network(seed)) for seed in (1, 2))]
    assert [len(artifact.data) for artifact in found] == [2, 2, 2]
    return found


def with_data(program: Program, chunks: tuple[bytes, ...]) -> Program:
    """Return a program that reads other chunks."""
    segments: dict[str, Segment] = {}
    for name, segment in program.segments.items():
        if segment.storage is Storage.DATA:
            place = program.places[name]
            held = chunks[place.first][32 * place.word : 32 * (place.word + len(segment.words))]
            words = tuple(int.from_bytes(held[i : i + 32], "big") for i in range(0, len(held), 32))
            segment = dataclasses.replace(segment, words=words)
        segments[name] = segment
    return dataclasses.replace(program, segments=segments)


class Updates(RuleBasedStateMachine):
    """Does each call on the contract and on the model, and compares."""

    versions: list[Artifact]

    @initialize()
    def deploy(self) -> None:
        artifact = self.versions[0]
        self.chain = new_chain()
        self.chain.account = ACCOUNTS[0]
        self.contract = put(artifact, self.chain)
        self.x = wad.pack(artifact.graph, wad.quantize_inputs(artifact.graph, {"x": samples(3)[0].reshape(1, -1)}))
        self.owner, self.pending, self.frozen = ACCOUNTS[0], NOBODY, False
        self.version, self.previous_version, self.latest = 1, 0, 1
        self.active: tuple[bytes, ...] = artifact.data
        self.previous: tuple[bytes, ...] = ()
        self.staged: dict[int, bytes] = {}
        self.staged_at = self.chain.time

    def attempt(self, sender: int, refusal: tuple[Any, ...] | None, function: str, *args: Any) -> bool:
        """Send a call; it must be refused so, or else go through. Returns whether it did."""
        who = ACCOUNTS[sender]
        if refusal is None and function != "acceptOwnership":
            refusal = ("Unauthorized", who) if who != self.owner else ("ContractFrozen",) if self.frozen else None
        if refusal is None:
            send(self.contract, function, *args, sender=who)
            return True
        with pytest.raises(ContractError) as caught:
            send(self.contract, function, *args, sender=who)
        assert (caught.value.name, *caught.value.arguments.values()) == refusal, function
        return False

    def may(self, sender: int, refusal: Callable[[], tuple[Any, ...] | None]) -> tuple[Any, ...] | None:
        """Return how an owner's call is refused, apart from who sends it; that is looked at first."""
        return refusal() if ACCOUNTS[sender] == self.owner and not self.frozen else None

    def stage_refusal(self, number: int, data: bytes) -> tuple[Any, ...] | None:
        if number > 1:
            return ("ChunkIndex", number)
        length = len(self.active[number])
        return ("ChunkLength", length, len(data)) if len(data) != length else None

    def activate_refusal(self, staged: dict[int, bytes], expected: bytes, at: int) -> tuple[Any, ...] | None:
        missing = next((i for i in range(2) if i not in staged), None)
        if missing is not None:
            return ("ChunkMissing", missing)
        there = weights_hash((staged[0], staged[1]))
        if there != expected:
            return ("WeightsHashMismatch", there, expected)
        return ("TooEarly", at + DELAY) if self.chain.time < at + DELAY else None

    def activated(self) -> None:
        self.previous, self.previous_version = self.active, self.version
        self.active, self.staged = (self.staged[0], self.staged[1]), {}
        self.latest += 1
        self.version = self.latest

    def expected(self, staged: dict[int, bytes], right: bool) -> bytes:
        return weights_hash(tuple(staged.get(i, b"") for i in range(2))) if right else keccak(b"another")

    @rule(sender=account, number=index, version=seed, cut=st.sampled_from([0, 0, 0, 0, 1, -1, -1000]))
    def stage(self, sender: int, number: int, version: int, cut: int) -> None:
        data = self.versions[version].data[number % 2]
        data = data[:cut] if cut < 0 else data + bytes(cut)
        refusal = self.may(sender, lambda: self.stage_refusal(number, data))
        if self.attempt(sender, refusal, "stage", number, data):
            self.staged[number], self.staged_at = data, self.chain.time

    @rule(version=seed)
    def stage_all(self, version: int) -> None:
        """What an update does; alone, both chunks are seldom there in time."""
        for number in (1, 0):
            self.stage(0 if ACCOUNTS[0] == self.owner else 1, number, version, 0)

    @rule(sender=account, right=st.sampled_from([True, True, True, False]))
    def activate(self, sender: int, right: bool) -> None:
        given = self.expected(self.staged, right)
        refusal = self.may(sender, lambda: self.activate_refusal(self.staged, given, self.staged_at))
        if self.attempt(sender, refusal, "activate", given):
            self.activated()

    @rule(sender=account, number=index, version=seed, right=st.booleans())
    def stage_and_activate(self, sender: int, number: int, version: int, right: bool) -> None:
        """With a timelock it never goes through after the first time, and must leave nothing behind."""
        data = self.versions[version].data[number % 2]
        staged = self.staged | {number: data}
        given = self.expected(staged, right)
        refusal = self.may(
            sender,
            lambda: self.stage_refusal(number, data) or self.activate_refusal(staged, given, self.chain.time),
        )
        assert not self.attempt(sender, refusal, "stageAndActivate", number, data, given)

    @rule(sender=account)
    def rollback(self, sender: int) -> None:
        refusal = self.may(sender, lambda: None if self.previous_version else ("NoPreviousVersion",))
        if self.attempt(sender, refusal, "rollback"):
            self.active, self.previous = self.previous, ()
            self.version, self.previous_version = self.previous_version, 0

    @rule(sender=account, sure=st.integers(0, 9))
    def freeze(self, sender: int, sure: int) -> None:
        if sure == 0 and self.attempt(sender, None, "freeze"):
            self.frozen = True

    @rule(sender=account, heir=st.sampled_from([NOBODY, *ACCOUNTS]))
    def transfer(self, sender: int, heir: str) -> None:
        if self.attempt(sender, None, "transferOwnership", heir):
            self.pending = heir

    @rule(sender=account)
    def accept(self, sender: int) -> None:
        who = ACCOUNTS[sender]
        refusal = ("Unauthorized", who) if who != self.pending else ("ContractFrozen",) if self.frozen else None
        if self.attempt(sender, refusal, "acceptOwnership"):
            self.owner, self.pending = who, NOBODY

    @rule(seconds=st.sampled_from([1, DELAY - 1, DELAY, DELAY]))
    def wait(self, seconds: int) -> None:
        self.chain.time += seconds

    @invariant()
    def says_what_the_model_says(self) -> None:
        """Every view, the chunks' bytes, and an inference with the weights in use."""
        ask, code = self.contract.call, self.contract.chain.code
        assert ask("owner").lower() == self.owner
        assert ask("pendingOwner").lower() == self.pending
        assert ask("frozen") == self.frozen
        assert (ask("version"), ask("previousVersion")) == (self.version, self.previous_version)
        assert (ask("timelock"), ask("readyAt")) == (DELAY, self.staged_at + DELAY)
        assert ask("weightsHash") == weights_hash(self.active)
        held = dict(enumerate(self.previous))
        for number in range(2):
            for function, chunks in {
                "active": dict(enumerate(self.active)),
                "previous": held,
                "staged": self.staged,
            }.items():
                address = ask(f"{function}Chunk", number)
                there = code(address) if int(address, 16) else b""
                assert there == (b"\x00" + chunks[number] if number in chunks else b"")
        program = self.versions[0].program
        assert program is not None
        assert (
            answer(self.contract.predict_packed, self.x)
            == Interpreter(with_data(program, self.active)).run(self.x).outputs
        )


def test_states(versions: list[Artifact]) -> None:
    machine = type("Machine", (Updates,), {"versions": versions})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=-(-CALLS // STEPS),
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
