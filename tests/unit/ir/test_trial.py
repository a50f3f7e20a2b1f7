"""Programs that are run beside their graphs, and what the verifier makes of it."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import ml2sc
from ml2sc.errors import VerifyError
from ml2sc.ir.graph import Graph
from ml2sc.ir.program import Program
from ml2sc.ir.program_parser import parse_program
from ml2sc.ir.program_printer import print_program
from ml2sc.ir.program_verify import unproved, verify_program
from ml2sc.ir.trial import FEW, MOST, difference, inputs_tried


@cache
def _lowered(options: tuple[tuple[str, object], ...]) -> tuple[Program, Graph]:
    rng = np.random.default_rng(2)
    weights = numpy_helper.from_array(rng.normal(size=(5, 4)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], name="fc")],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [weights],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    given = {"precision": "int8", "input_ranges": ((-1.0, 1.0),), **dict(options)}
    artifact = ml2sc.compile(model, **given)  # type: ignore[arg-type]
    assert artifact.program is not None
    assert artifact.graph is not None
    return artifact.program, artifact.graph


def lowered(**options: object) -> tuple[Program, Graph]:
    return _lowered(tuple(options.items()))


def changed(program: Program, old: str, new: str) -> Program:
    text = print_program(program)
    assert old in text
    return parse_program(text.replace(old, new, 1))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strict_input": True},
        {"strict_input": True, "precision": "w8a6"},
        {"precision": "q20.30"},
        {"packed_only": True},
    ],
)
def test_what_is_lowered_is_right(options: dict[str, object]) -> None:
    program, graph = lowered(**options)
    assert difference(program, graph, MOST) is None
    assert verify_program(program, graph) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "store label[0] = x0",
            "store label[0] = sub(3, x0)",
            r"the program answers .*, and the graph .*packed input [0f]",
        ),
        ("if gt(v3, best)", "if gt(v2, best)", "program answers"),
        ("byte(3, word)", "byte(4, word)", "program answers"),
        (
            "store fc_out[0]",
            "if gt(word, 1) { fail Odd() } store fc_out[0]",
            r"the program refuses the packed input [0-9a-f]{10}:",
        ),
        ("mul(u, 0x92", "mul(u, 0x93", r"the program packs [0-9a-f]{10} for .* should"),
        ("pack i width", "if gt(u, 7) { fail Odd() } pack i width", "the program refuses the argument"),
        ("store wad[o] = sar(72", "store wad[o] = sar(73", "program answers"),
    ],
)
def test_programs_that_differ(old: str, new: str, message: str) -> None:
    program, graph = lowered()
    found = difference(changed(program, old, new), graph, MOST)
    assert found is not None
    assert re.search(message, found)


def test_each_element_out_of_range_is_refused_by_a_strict_program() -> None:
    """A test whose mask lacks a bit of one lane: what it lets through is answered as the nearest in range would be."""
    program, graph = lowered(strict_input=True, precision="w8a6")
    mask = re.findall(r"if and\(or\(.*, (0x[0-9a-f]+)\) {", print_program(program))[0]
    lane = 16 * 14 + 8  # of the fourth element
    assert int(mask, 16) >> lane & 1
    found = difference(changed(program, f", {mask})", f", {int(mask, 16) ^ 1 << lane:#x})"), graph, FEW)
    assert found is not None
    assert re.search(
        r"the program answers .* to the packed input [0-9a-f]*, one element of which is out of range", found
    )


def test_what_is_not_proved_is_tried() -> None:
    program, graph = lowered()
    doubtful = changed(program, "in [0, 59670]", "in [0, 59669]")  # its answers are right
    (doubt,) = unproved(doubtful)
    with pytest.raises(VerifyError, match="what is stored can be 0 to 59670, and fc_out holds 0 to 59669"):
        raise doubt
    with pytest.raises(VerifyError, match="what is stored"):
        verify_program(doubtful)
    (told,) = verify_program(doubtful, graph)
    assert told.startswith("section fc: store fc_out")
    assert told.endswith("(48 inputs gave the graph's integers)")
    with pytest.raises(VerifyError, match=r"what is stored .*; the program answers"):
        verify_program(changed(doubtful, "byte(3, word)", "byte(4, word)"), graph)


def test_what_is_proved_is_tried_on_few_inputs() -> None:
    program, graph = lowered()
    wrong = changed(program, "if gt(v3, best)", "if gt(v2, best)")
    assert unproved(wrong) == []
    with pytest.raises(VerifyError, match="program answers"):
        verify_program(wrong, graph)
    assert inputs_tried(graph, proved=True) == FEW


def test_large_models_are_tried_on_fewer() -> None:
    graph = lowered()[1].copy()
    weights = graph.tensor(next(iter(graph)).inputs[1])
    weights.data, weights.shape = np.zeros((1 << 18, 4), dtype=np.int64), (1 << 18, 4)
    assert inputs_tried(graph, proved=True) < FEW
    assert FEW < inputs_tried(graph, proved=False) < MOST
