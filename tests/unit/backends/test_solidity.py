"""What the Solidity backend does when solc's own limits are met."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from onnx import TensorProto, helper

import ml2sc
from ml2sc.backends import BACKENDS, Artifact
from ml2sc.backends.base import CompilerRun, EmitOptions
from ml2sc.backends.solidity.backend import DETAILS, FEWER_VARIABLES
from ml2sc.backends.solidity.gas import SolidityCosts
from ml2sc.backends.solidity.memory import PASSED, memory_map
from ml2sc.errors import ToolchainError
from ml2sc.ir.divide import INPUT, divided
from ml2sc.ir.program import Call
from ml2sc.ir.program_parser import parse_program


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


DIVIDED = """\
program
input 8 elements of 1 bytes unsigned
wad [0, 10] times 8
outputs 1
buffer left words 3
buffer right words 2
buffer sum words 4
buffer wad words 1

quantize q "to integers" predict {
  for i = 0 step 1 times 8 {
    pack i width 1 = wad(i)
  }
}

layer first "one is taken, two are given" predict contract 1 {
  for i = 0 step 1 times 3 {
    store left[i] = byte(0, input(i))
  }
  for j = 0 step 1 times 2 {
    store right[j] = byte(3, input(j))
  }
}

layer second "two are taken, one is given" predict contract 2 {
  for i = 0 step 1 times 2 {
    store sum[i] = add(left[i], right[i])
  }
  store sum[2] = left[2]
  store sum[3] = 1
}

layer third "one is taken, one is given" predict contract 3 {
  store wad[0] = add(add(sum[0], sum[1]), add(sum[2], sum[3]))
}

dequantize d "to WAD" predict {
  store wad[0] = mul(wad[0], 2)
}
"""


@pytest.mark.parametrize(
    ("number", "taken", "given"),
    [(1, (INPUT,), ("left", "right")), (2, ("left", "right"), ("sum",)), (3, ("sum",), ("wad",))],
)
def test_one_buffer_is_passed_from_its_place(number: int, taken: tuple[str, ...], given: tuple[str, ...]) -> None:
    """What is several is gathered for the call, or dealt out after it; what is one is neither."""
    program = parse_program(DIVIDED)
    main = divided(program).main
    memory, sizes = memory_map(main), {INPUT: 2, **main.buffers}
    source = BACKENDS.get("solidity").emit(program, EmitOptions("Net", "prague", bytes(32))).source
    (body,) = re.findall(rf"address code = _CODE{number};(.*?)\n        }}\n", source, re.DOTALL)
    (call,) = re.findall(r"staticcall\(gas\(\), code, (.*), (\d+), (.*), (\d+)\)\) {", body)
    ends = [memory.place(names[0] if len(names) == 1 else PASSED) for names in (taken, given)]
    words = [sum(sizes[name] for name in names) for names in (taken, given)]
    assert call == (ends[0], str(32 * words[0]), ends[1], str(32 * words[1]))
    copies = [f"{memory.place(name)}" for names in (taken, given) if len(names) > 1 for name in names]
    assert body.count("mcopy(") == len(copies)
    assert all(copy in body for copy in copies)
    costs = SolidityCosts(main)
    (procedure,) = (p for p in main.procedures.values() if p.contract == number)
    # CALLDATACOPY in the code contract; an MCOPY for each that is gathered or dealt out
    copied = [sizes[name] for name in taken] + [sizes[n] for names in (taken, given) if len(names) > 1 for n in names]
    call_gas = costs.procedure(Call(procedure.name, (), procedure.takes, procedure.gives))
    assert call_gas == sum(12 + 3 * size for size in copied) + 7 * 3
