"""A plugin's kernel is chosen where it is cheaper, computes the same, and is refused where it lies."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from .conftest import EXAMPLE, Environment, With

SETUP = """
import dataclasses, json, random, sys
import ml2sc
from ml2sc.errors import PluginError
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.wad import run_graph, quantize_inputs, inputs_from_wad, pack
from ml2sc_example_plugin.byte_sum import ByteSum

def compiled(**more):
    return ml2sc.compile(sys.argv[1], precision="int8", input_ranges=((0.0, 1.0),), **more)
"""
CHOSEN = """
told, answers = [], []
kernel, plain = compiled(explain=told.append), compiled(choices={"@mean": "as it stands"})
for seed in range(20):
    packed = bytes(random.Random(seed).choices(range(256), k=100)) if seed else bytes([255]) * 100
    answers.append([Interpreter(a.program).run(packed).outputs for a in (kernel, plain)])
owners = {section.maker for section in kernel.program.layers}
print(json.dumps([kernel.manifest["choices"], told[-2:], answers, sorted(owners)]))
"""
LIES = """
way, value = ByteSum.gives.fget, ByteSum.emit
lies = {
    "bits": lambda self: {n: dataclasses.replace(l, bits=self.bits - 1) for n, l in way(self).items()},
    "word": lambda self: {n: dataclasses.replace(l, word=1) for n, l in way(self).items()},
    "lanes": lambda self: {n: dataclasses.replace(l, pitch=32) for n, l in way(self).items()},
    "size": lambda self: {n: type(l).row_major((2,)) for n, l in way(self).items()},
    "nothing": lambda self: {},
}
told = {}
for name, gives in lies.items():
    ByteSum.gives = property(gives)
    try:
        compiled()
    except PluginError as error:
        told[name] = [error.code, str(error)]
ByteSum.gives = property(way)
absent = dataclasses.replace(compiled().graph.producer("y"), name="else")
for name, covers in {"none": lambda self: (), "absent": lambda self: (self.node, absent)}.items():
    ByteSum.covers = property(covers)
    try:
        compiled()
    except PluginError as error:
        told[name] = [error.code, str(error)]
print(json.dumps(told))
"""


@pytest.fixture
def environment(plugins: With) -> Environment:
    return plugins(EXAMPLE)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Write x[1, 100] → ReduceMean → y[1, 1]."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, size]) for n, size in (("x", 100), ("y", 1))]
    graph = helper.make_graph([helper.make_node("ReduceMean", ["x"], ["y"], name="mean")], "g", values[:1], values[1:])
    path = tmp_path / "mean.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_kernel(environment: Environment, model: Path) -> None:
    result = environment.script(SETUP + CHOSEN, model)
    assert result.status == 0, result.err
    choices, told, answers, owners = json.loads(result.out)
    assert choices["@mean"] == "byte_sum 0"
    assert "byte_sum 0" in told[0]
    assert "instead of as it stands" in told[1]
    assert all(ours == plain for ours, plain in answers)
    assert len({str(ours) for ours, _ in answers}) > 10
    assert owners == ["ml2sc-example-plugin"]


def test_kernel_that_lies_about_its_layouts(environment: Environment, model: Path) -> None:
    result = environment.script(SETUP + LIES, model)
    assert result.status == 0, result.err
    told = json.loads(result.out)
    assert {code for code, _ in told.values()} == {"ML142"}
    lies = {name: text for name, (_, text) in told.items()}
    # the verifier proves what is in a lane: 4 * 32 * 255 is more than 14 bits and a sign
    assert "the lowering of ml2sc-example-plugin made a program that is wrong: section mean: store" in lies["bits"]
    assert "what is stored can be 0 to 32640, and mean_out holds -16384 to 16383" in lies["bits"]
    for name, reason in (
        ("word", "element 0 of 'y' is said to be in lane 0 of word 1, and is in lane 0 of word 0"),
        ("lanes", "lanes of 'y' are said to be 32 bits apart"),
        ("size", "'y' has 1 elements, its layout 2, and 1 are given"),
        ("nothing", "it says that it gives nothing, and gives y"),
    ):
        assert f"the kernel 'byte_sum' of ml2sc-example-plugin lies about its layouts: {reason}" in lies[name]
    for name, reason in (
        ("none", "it was asked for 'mean' (ReduceMean), and its way covers nothing"),
        ("absent", "its way covers 'else' (ReduceMean) from 'mean', which is not there to be computed"),
    ):
        assert f"the kernel 'byte_sum' of ml2sc-example-plugin lies about what it covers: {reason}" in lies[name]
