"""What the Solidity backend does when solc's own limits are met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from onnx import TensorProto, helper

import ml2sc
from ml2sc.backends import BACKENDS, Artifact
from ml2sc.backends.base import CompilerRun
from ml2sc.backends.solidity.backend import DETAILS, FEWER_VARIABLES
from ml2sc.errors import ToolchainError


class Compiler:
    """Stands in for the toolchain: a solc for which all code is too deep, or all but what is less optimised."""

    def __init__(self, *, always: bool) -> None:
        self.always = always

    def solc(self, standard_input: Mapping[str, Any]) -> CompilerRun:
        steps = standard_input["settings"]["optimizer"]["details"].get("yulDetails", {}).get("optimizerSteps")
        if self.always or steps != FEWER_VARIABLES:
            message = "Cannot swap Variable a with Variable b: too deep in the stack by 1 slots"
            return CompilerRun({"errors": [{"severity": "error", "message": message}]}, "solc 0.8.37", "npm")
        code = {"object": "00"}
        contract = {"abi": [], "evm": {"bytecode": code, "deployedBytecode": code}}
        return CompilerRun({"contracts": {"Tiny.sol": {"Tiny": contract}}}, "solc 0.8.37", "npm")

    def vyper(self, standard_input: Mapping[str, Any]) -> CompilerRun:
        raise NotImplementedError


@pytest.fixture
def artifact() -> Artifact:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "tiny", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return ml2sc.compile(model, name="Tiny", input_ranges=((-1.0, 1.0),))


def test_too_deep_for_the_stack(artifact: Artifact) -> None:
    bytecode = BACKENDS.get("solidity").compile(artifact, Compiler(always=False))
    optimizer = bytecode.settings["optimizer"]
    assert optimizer["details"] == {**DETAILS, "yul": True, "yulDetails": {"optimizerSteps": FEWER_VARIABLES}}
    assert {**optimizer, "details": DETAILS} == artifact.compiler_input["settings"]["optimizer"]


def test_always_too_deep(artifact: Artifact) -> None:
    with pytest.raises(ToolchainError, match="too deep in the stack"):
        BACKENDS.get("solidity").compile(artifact, Compiler(always=True))
