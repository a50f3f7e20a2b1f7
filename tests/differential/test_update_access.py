"""Who may call what of an updatable contract: every function that writes, by every role, before and after freezing."""

from __future__ import annotations

from typing import Any

import pytest
from support.contracts import answer
from support.updates import built, network, new_chain, put, samples, send

import ml2sc
from ml2sc.backends import Artifact
from ml2sc.backends.interface import weights_hash
from ml2sc.ir import wad
from ml2sc.ir.interpret import Interpreter
from ml2sc.runtime.chain import CREATE2_PROXY, Reverted
from ml2sc.runtime.contract import Contract, ContractError, decode_revert
from ml2sc.runtime.deploy import constructor_arguments
from ml2sc.runtime.update import update_calls

OWNER, HEIR, STRANGER = ("0x" + digit * 40 for digit in "123")
ROLES = {"owner": OWNER, "heir": HEIR, "stranger": STRANGER}
FUNCTIONS = ["stage", "activate", "stageAndActivate", "rollback", "freeze", "transferOwnership", "acceptOwnership"]
DELAY = 100


@pytest.fixture(scope="module", params=["solidity", "vyper"])
def versions(request: pytest.FixtureRequest, toolchain: ml2sc.Toolchain) -> tuple[Artifact, Artifact]:
    """Return a small contract with a timelock, and other weights for it."""
    widths = (3, 2)
    first = built(
        network(1, widths), toolchain, {"x": samples(1, widths)}, precision="int8", target=request.param, timelock=DELAY
    )
    return first, ml2sc.update(first, network(2, widths, size=0.9))


@pytest.fixture
def contract(versions: tuple[Artifact, Artifact]) -> Contract:
    """Return the contract with version 2 in use, version 1 to go back to, weights staged in time, and an heir."""
    chain = new_chain()
    chain.account = OWNER
    contract = put(versions[0], chain)
    for artifact in (versions[1], versions[0]):
        send(contract, "stage", 0, artifact.data[0])
        chain.time += DELAY
        if artifact is versions[1]:
            send(contract, "activate", weights_hash(artifact.data))
    send(contract, "transferOwnership", HEIR)
    return contract


def arguments(function: str, artifact: Artifact) -> list[Any]:
    """Return arguments with which the owner's call goes through."""
    expected = weights_hash(artifact.data)
    return {
        "stage": [0, artifact.data[0]],
        "activate": [expected],
        "stageAndActivate": [0, artifact.data[0], expected],
        "transferOwnership": [STRANGER],
    }.get(function, [])


def refusal(contract: Contract, function: str, args: list[Any], sender: str) -> str:
    """Return the error a call reverts with; empty if it goes through."""
    try:
        send(contract, function, *args, sender=sender)
    except ContractError as error:
        return error.name
    return ""


def state(contract: Contract) -> list[Any]:
    """Return all that the contract's views say."""
    views = ["owner", "pendingOwner", "frozen", "version", "previousVersion", "readyAt", "weightsHash", "modelHash"]
    chunks = [contract.call(f"{which}Chunk", 0) for which in ("active", "previous", "staged")]
    return [*map(contract.call, views), *chunks]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_role(function: str, role: str, contract: Contract, versions: tuple[Artifact, Artifact]) -> None:
    """The owner may do everything but accept; the heir may accept; nobody else may do anything. Frozen: nobody."""
    args, before = arguments(function, versions[0]), state(contract)
    allowed = role == ("heir" if function == "acceptOwnership" else "owner")
    if not allowed:
        assert refusal(contract, function, args, ROLES[role]) == "Unauthorized"
        assert state(contract) == before
    elif function == "stageAndActivate":  # its own staging starts the clock again
        assert refusal(contract, function, args, ROLES[role]) == "TooEarly"
        assert state(contract) == before
    else:
        assert refusal(contract, function, args, ROLES[role]) == ""
        assert state(contract) != before


@pytest.mark.parametrize("function", FUNCTIONS)
def test_frozen(function: str, contract: Contract, versions: tuple[Artifact, Artifact]) -> None:
    send(contract, "freeze")
    before = state(contract)
    sender = HEIR if function == "acceptOwnership" else OWNER
    assert refusal(contract, function, arguments(function, versions[0]), sender) == "ContractFrozen"
    assert state(contract) == before


def test_before_the_first_weights(versions: tuple[Artifact, Artifact]) -> None:
    """Nothing is answered, nothing can be frozen; the first weights need no notice; nobody is no owner."""
    artifact, graph = versions[0], versions[0].graph
    assert artifact.bytecode is not None
    assert graph is not None
    chain = new_chain()
    address = chain.deploy(
        artifact.bytecode.creation + constructor_arguments(artifact, CREATE2_PROXY, chain.account)
    ).address
    contract = Contract(chain, address, artifact.abi)
    x = wad.pack(graph, wad.quantize_inputs(graph, {"x": samples(3, (3, 2))[:1]}))
    for call in (contract.classify_packed, contract.predict_packed):
        assert answer(call, x) == ("NotActive",)
    for call in (contract.classify, contract.predict):
        assert answer(call, [0, 0, 0]) == ("NotActive",)
    assert refusal(contract, "freeze", [], chain.account) == "NotActive"
    assert refusal(contract, "rollback", [], chain.account) == "NoPreviousVersion"
    assert refusal(contract, "activate", [bytes(32)], chain.account) == "ChunkMissing"
    assert contract.model_hash() == contract.call("weightsHash") == bytes(32)
    assert contract.call("readyAt") == 0
    ((_, calldata),) = update_calls(artifact)
    chain.transact(address, calldata)
    assert artifact.program is not None
    assert answer(contract.predict_packed, x) == Interpreter(artifact.program).run(x).outputs
    assert f"0x{contract.model_hash().hex()}" == artifact.manifest["model_hash"]
    with pytest.raises(Reverted) as caught:
        chain.deploy(artifact.bytecode.creation + bytes(32))
    assert isinstance(error := decode_revert(caught.value, artifact.abi), ContractError)
    assert error.name == "OwnerIsZero"
